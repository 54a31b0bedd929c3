// The page of the player: buttons, keys, words and figures around a Player.

import { Player } from "./player.js";
import * as timecode from "./timecode.js";
import * as words from "./words.js";

const FIGURES_INTERVAL_MS = 1000;
const ICON_PLAY = "M7 4l13 8-13 8z";
const ICON_PAUSE = "M6 5h4v14H6zm8 0h4v14h-4z";
const ICON_SOUND = "M4 9v6h4l5 4V5L8 9zm12.5 3a4 4 0 0 0-2-3.5v7a4 4 0 0 0 2-3.5zm-2-8v2.1a6.5 6.5 0 0 1 0 11.8V20a8.5 8.5 0 0 0 0-16z";
const ICON_SILENT = "M4 9v6h4l5 4V5L8 9zm17.4.6L20 8.2l-2.4 2.4-2.4-2.4-1.4 1.4 2.4 2.4-2.4 2.4 1.4 1.4 2.4-2.4 2.4 2.4 1.4-1.4-2.4-2.4z";

const at = (id) => document.getElementById(id);
const broadcast = decodeURIComponent(location.pathname.split("/").pop());
const player = new Player(at("stage"), `/whep/${encodeURIComponent(broadcast)}`);
// A key in the fragment never leaves the browser but as an Authorization header.
let token = new URLSearchParams(location.hash.slice(1)).get("key") || null;

at("name").textContent = broadcast;
document.title = `${broadcast} – Media-Tree`;

function showState() {
  const { state, message } = player;
  const badge = at("badge");
  if (badge.textContent !== message) badge.textContent = message;
  badge.classList.toggle("live", state === "live");
  const notice = at("notice");
  notice.hidden = state === "live" || state === "idle";
  notice.textContent = state === "connecting" ? "Connecting …" : message;
  notice.classList.toggle("alone", player.video === null);
  at("key-form").hidden = state !== "key";
  if (state !== "live") at("delay").textContent = "";
  at("sound-on").hidden = !(player.isMuted && state === "live");
  label("mute", player.isMuted ? "Unmute" : "Mute");
  at("mute-icon").setAttribute("d", player.isMuted ? ICON_SILENT : ICON_SOUND);
  label("play", player.isPaused ? "Play" : "Pause");
  at("play-icon").setAttribute("d", player.isPaused ? ICON_PLAY : ICON_PAUSE);
}

/** The word stands beside the icon where there is room for it, and is read out everywhere. */
function label(id, text) {
  at(`${id}-label`).textContent = text;
  at(id).setAttribute("aria-label", text);
}

function togglePause() {
  player.isPaused = !player.isPaused;
}

function toggleMute() {
  player.isMuted = !player.isMuted;
}

function toggleFigures() {
  const figures = at("figures");
  figures.hidden = !figures.hidden;
  at("info").setAttribute("aria-expanded", String(!figures.hidden));
  showFigures();
}

function toggleFullscreen() {
  const element = at("player");
  if (document.fullscreenElement) document.exitFullscreen();
  else if (element.requestFullscreen) element.requestFullscreen().catch(() => {});
  // iPhones give the whole screen to a video only.
  else player.video?.webkitEnterFullscreen?.();
}

let last = null;

async function showFigures() {
  const stats = await player.stats();
  if (!stats) return;
  const { video, audio, codecs, roundTripMs, firstFrameMs, delayMs } = stats;
  if (player.state === "live") {
    at("delay").textContent = delayMs === null ? "" : `${words.delay(delayMs)} behind the camera`;
  }
  const now = performance.now();
  const current = {
    id: video?.id,
    now,
    bytes: (video?.bytesReceived ?? 0) + (audio?.bytesReceived ?? 0),
    received: (video?.packetsReceived ?? 0) + (audio?.packetsReceived ?? 0),
    lost: (video?.packetsLost ?? 0) + (audio?.packetsLost ?? 0),
    buffered: video?.jitterBufferDelay,
    emitted: video?.jitterBufferEmittedCount,
  };
  const before = last?.id === current.id ? last : null;
  last = current;
  if (at("figures").hidden) return;
  const change = (name) => (before ? current[name] - before[name] : Number.NaN);
  const lost = Math.max(0, change("lost"));
  show([
    ["Behind the camera", delayMs === null ? "not known" : words.delay(delayMs)],
    ["Picture", video?.frameWidth ? `${video.frameWidth} × ${video.frameHeight}` : "–"],
    ["Pictures a second", video?.framesPerSecond ?? "–"],
    ["Codecs", words.codecs(codecs.video, codecs.audio) || "–"],
    ["Bitrate", words.bitrate((change("bytes") * 8000) / change("now"))],
    ["Loss", words.percent(lost / (lost + change("received")))],
    ["Held against jitter", words.delay((change("buffered") / change("emitted")) * 1000)],
    ["Round trip", words.delay(roundTripMs ?? Number.NaN)],
    ["Freezes", video?.freezeCount === undefined ? "–" : `${video.freezeCount} (${words.delay((video.totalFreezesDuration ?? 0) * 1000)})`],
    ["First picture after", words.delay(firstFrameMs ?? Number.NaN)],
    ["Server", player.server ?? "–"],
  ]);
}

function show(figures) {
  const list = at("figures");
  while (list.children.length < figures.length) {
    const group = document.createElement("div");
    group.append(document.createElement("dt"), document.createElement("dd"));
    list.append(group);
  }
  figures.forEach(([name, value], index) => {
    const [term, detail] = list.children[index].children;
    term.textContent = name;
    detail.textContent = value;
  });
}

player.addEventListener("change", showState);
at("play").addEventListener("click", togglePause);
at("mute").addEventListener("click", toggleMute);
at("sound-on").addEventListener("click", toggleMute);
at("info").addEventListener("click", toggleFigures);
at("fullscreen").addEventListener("click", toggleFullscreen);
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("key").value;
  player.start(token);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  // A focused button takes the space bar itself.
  if (event.key === " " && event.target.matches("button, a, summary")) return;
  const action = { " ": togglePause, m: toggleMute, f: toggleFullscreen, i: toggleFigures }[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});
addEventListener("pagehide", () => player.stop());
addEventListener("pageshow", ({ persisted }) => persisted && player.start(token));
setInterval(showFigures, FIGURES_INTERVAL_MS);

/** What tests and curious people read. */
window.mediaTree = {
  get state() {
    return player.state;
  },
  get server() {
    return player.server;
  },
  async stats() {
    const stats = await player.stats();
    const { video, audio } = stats ?? {};
    return {
      framesDecoded: video?.framesDecoded ?? 0,
      framesDropped: video?.framesDropped ?? 0,
      keyFramesDecoded: video?.keyFramesDecoded ?? 0,
      framesPerSecond: video?.framesPerSecond ?? null,
      frameWidth: video?.frameWidth ?? null,
      frameHeight: video?.frameHeight ?? null,
      freezeCount: video?.freezeCount ?? null,
      totalFreezesDuration: video?.totalFreezesDuration ?? null,
      audioEnergy: audio?.totalAudioEnergy ?? 0,
      packetsLost: (video?.packetsLost ?? 0) + (audio?.packetsLost ?? 0),
      packetsReceived: (video?.packetsReceived ?? 0) + (audio?.packetsReceived ?? 0),
      nackCount: video?.nackCount ?? 0,
      pliCount: video?.pliCount ?? 0,
      videoCodec: stats?.codecs.video ?? null,
      audioCodec: stats?.codecs.audio ?? null,
      firstFrameMs: stats?.firstFrameMs ?? null,
      delayMs: stats?.delayMs ?? null,
    };
  },
  /** Reads the clock of a test picture: `{ code, behind }` in ms, or null where none can be read for 2 s. */
  timecode() {
    const { video } = player;
    if (!video?.requestVideoFrameCallback) return Promise.resolve(null);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(null), 2000);
      const look = () => {
        const now = Date.now();
        const code = timecode.read(video);
        if (code === null) {
          video.requestVideoFrameCallback(look);
          return;
        }
        clearTimeout(timer);
        resolve({ code, behind: now - code });
      };
      video.requestVideoFrameCallback(look);
    });
  },
};

showState();
player.start(token);
