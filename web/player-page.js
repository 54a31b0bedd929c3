// What /watch and /embed have in common: a player that gets everything from the URL of its page.

import { givenKey } from "./page.js";
import "./player-element.js";
import * as timecode from "./timecode.js";
import { wordsFor } from "./words.js";

/** Starts the player of a page: `{ broadcast, player, words }`. */
export function startPlayer() {
  const broadcast = decodeURIComponent(location.pathname.split("/").pop());
  const parameters = new URLSearchParams(location.search);
  const words = wordsFor(parameters.get("lang"));
  document.documentElement.lang = words.language;
  document.title = `${broadcast} – Media-Tree`;
  const player = document.querySelector("media-tree-player");
  player.lang = words.language;
  if (parameters.get("muted") === "0") player.removeAttribute("muted");
  if (parameters.get("audio-only") === "1") player.setAttribute("audio-only", "");
  if (parameters.get("latency")) player.setAttribute("latency", parameters.get("latency"));
  const token = givenKey();
  if (token) player.setAttribute("token", token);
  player.setAttribute("src", `/whep/${encodeURIComponent(broadcast)}`);
  expose(player);
  return { broadcast, player, words };
}

/** What tests and curious people read. */
function expose(player) {
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
        soundLateMs: stats?.soundLateMs ?? null,
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
}
