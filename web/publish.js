// The page of the browser publisher: source, devices, level, buttons and words around a Publisher.

import { showAdvice } from "./advice.js";
import { setAttribute, setText, translate } from "./dom.js";
import { EncoderPanel } from "./encoder-panel.js";
import { givenKey, remember, remembered } from "./page.js";
import { Publisher } from "./publisher.js";
import * as sources from "./sources.js";
import { sendableCodecs } from "./whip.js";
import { wordsFor } from "./words.js";

const FACTS_INTERVAL_MS = 1000;
/** How often the server is asked what could be better. */
const ADVICE_INTERVAL_MS = 3000;

const at = (id) => document.getElementById(id);
const form = at("form");
const parameters = new URLSearchParams(location.search);
const words = wordsFor(parameters.get("lang"));
const broadcast = decodeURIComponent(location.pathname.split("/").pop());
const path = encodeURIComponent(broadcast);
const publisher = new Publisher(`/whip/${path}`, words);
const encoderPanel = new EncoderPanel(broadcast, words);
const keyName = `media-tree key ${broadcast}`;

let source = null;
/** Counts attempts to open a source: an answer that comes for an earlier one is not wanted any more. */
let opening = 0;
let levelMeter = null;
let isWanted = false;

translate(document.body, words);
for (const option of document.querySelectorAll("[data-quality]")) {
  setText(option, `${words.text(option.dataset.quality)}, ${words.bitrate(Number(option.value))}`);
}
document.documentElement.lang = words.language;
at("name").textContent = broadcast;
at("notice").textContent = words.text("no_picture");
document.title = `${words.text("publish")} ${broadcast} – Media-Tree`;
at("link").value = `${location.origin}/watch/${path}`;
at("key").value = givenKey() ?? remembered(keyName) ?? "";
encoderPanel.setKey(at("key").value);
const wantedSource = form.querySelector(`[name="source"][value="${CSS.escape(parameters.get("source") ?? "")}"]`);
if (wantedSource) wantedSource.checked = true;

if (parameters.get("layers") === "3") at("layers").value = "3";

const typedKey = () => at("key").value.trim();
const chosenSource = () => form.elements.source.value;

function showChoices() {
  at("devices").hidden = chosenSource() !== "camera";
  at("sound").hidden = chosenSource() === "clock";
}

async function showDevices() {
  const { cameras, microphones } = await sources.list();
  fill(at("camera"), cameras, words.text("camera"), words.text("no_camera"));
  fill(at("microphone"), microphones, words.text("microphone"), words.text("no_sound"));
}

/** Only what this browser has an encoder for; its choice of what every viewer decodes stands first. */
async function showCodecs() {
  const options = (await sendableCodecs()).map((codec) => new Option(codec.toUpperCase(), codec));
  at("codec").append(...options);
  const wanted = parameters.get("codec");
  if (options.some(({ value }) => value === wanted)) at("codec").value = wanted;
}

function fill(select, devices, word, none) {
  const chosen = select.value;
  const options = devices.map(({ deviceId, label }, index) => new Option(label || `${word} ${index + 1}`, deviceId));
  if (options.length === 0) options.push(new Option(words.text("device_default"), ""));
  select.replaceChildren(...options, new Option(none, "none"));
  if ([...select.options].some(({ value }) => value === chosen)) select.value = chosen;
}

async function openSource() {
  closeSource();
  const kind = chosenSource();
  say(kind === "clock" ? "" : words.text("asking"));
  const turn = ++opening;
  const opened = await sources.open(kind, broadcast, { camera: at("camera").value, microphone: at("microphone").value });
  // Stopped, or begun anew, while the browser asked for leave.
  if (turn !== opening) {
    opened.stop();
    return null;
  }
  source = opened;
  at("preview").srcObject = opened.stream;
  for (const track of opened.stream.getTracks()) {
    track.addEventListener("ended", () => opened === source && handleEnd(kind, track));
  }
  meterLevel(opened.stream);
  say("");
  showDevices().then(() => opened === source && showOpened(opened.stream));
  return opened.stream;
}

/** The browser may have opened another device than the first one, as its user told it. */
function showOpened(stream) {
  for (const [select, [track]] of [[at("camera"), stream.getVideoTracks()], [at("microphone"), stream.getAudioTracks()]]) {
    const id = track?.getSettings().deviceId;
    if ([...select.options].some(({ value }) => value === id)) select.value = id;
  }
}

/** A device is gone, and the other one goes on; or the user has ended it, as with the browser's own "stop sharing". */
function handleEnd(kind, track) {
  const isOver = kind === "screen" && track.kind === "video";
  const goesOn = source.stream.getTracks().some(({ readyState }) => readyState === "live");
  if (isOver || !goesOn) stop();
  if (!isOver) fail(words.text(track.kind === "video" ? "camera_gone" : "microphone_gone"));
}

function closeSource() {
  opening += 1;
  source?.stop();
  source = null;
  at("preview").srcObject = null;
  levelMeter?.close();
  levelMeter = null;
  at("level").value = 0;
}

function meterLevel(stream) {
  if (stream.getAudioTracks().length === 0) return;
  const audio = new AudioContext();
  const analyser = new AnalyserNode(audio, { fftSize: 1024 });
  audio.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    // -60 dB is the left end, 0 dB the right one.
    at("level").value = Math.max(0, 1 + (10 * Math.log10(power + 1e-9)) / 60);
  }, 100);
  levelMeter = {
    close() {
      clearInterval(timer);
      audio.close();
    },
  };
}

async function start() {
  fail("");
  isWanted = true;
  showState();
  try {
    const stream = source?.stream ?? (await openSource());
    if (stream === null) return;
    if (stream.getTracks().length === 0) throw new Error(words.text("no_tracks"));
    const token = typedKey() || null;
    const picture = {
      codec: at("codec").value,
      bitrate: Number(at("bitrate").value),
      isLayered: at("layers").value === "3",
    };
    publisher.start({ stream, token, ...picture });
  } catch (error) {
    isWanted = false;
    closeSource();
    say(words.text("no_picture"));
    fail(sources.reason(error, words));
    showState();
  }
}

function stop() {
  isWanted = false;
  publisher.stop();
  closeSource();
  say(words.text("no_picture"));
  showState();
}

/** A refusal ends what was wanted; everything else is only shown. */
function handleChange() {
  const { state, message } = publisher;
  if (state === "key" || state === "refused") {
    isWanted = false;
    fail(message);
  }
  if (state === "live") remember(keyName, typedKey());
  showState();
  if (state === "key") at("key").focus();
}

function showState() {
  const { state, message } = publisher;
  encoderPanel.setPaused(isWanted);
  const isUnderWay = state === "connecting" || state === "live" || state === "reconnecting";
  const badge = at("badge");
  const text = isUnderWay ? message : words.text(isWanted ? "starting" : "not_live");
  if (badge.textContent !== text) badge.textContent = text;
  badge.classList.toggle("live", state === "live");
  at("caption-form").hidden = state !== "live";
  at("start").hidden = isWanted;
  at("stop").hidden = !isWanted;
  for (const field of [...form.elements.source, at("camera"), at("microphone"), at("codec"), at("layers"), at("key")]) {
    field.disabled = isWanted;
  }
  if (state !== "live") at("facts").textContent = "";
  if (!isUnderWay) showOwnAdvice([]);
}

/** What is said stays while a session is made anew: why the one before could not connect is of use. */
async function askForAdvice() {
  const advice = await publisher.advice();
  if (advice && isWanted) showOwnAdvice(advice);
}

function showOwnAdvice(advice) {
  showAdvice(at("advice-list"), advice, words);
  at("advice").hidden = advice.length === 0;
}

let last = null;

async function showFacts() {
  const stats = await publisher.stats();
  if (!stats || publisher.state !== "live") return;
  const { video, audio, codecs, remote, roundTripMs } = stats;
  const bytes = (video?.bytesSent ?? 0) + (audio?.bytesSent ?? 0);
  const now = performance.now();
  const rate = last && bytes >= last.bytes ? ((bytes - last.bytes) * 8000) / (now - last.now) : Number.NaN;
  last = { bytes, now };
  const lost = remote.video?.fractionLost ?? remote.audio?.fractionLost ?? 0;
  const facts = [
    words.text("fact_since", { duration: words.duration((Date.now() - publisher.liveSince) / 1000) }),
    words.bitrate(rate),
    video?.frameWidth ? `${video.frameWidth} × ${video.frameHeight}` : "",
    words.codecs(codecs.video, codecs.audio),
    lost > 0.005 ? words.text("fact_lost", { share: words.percent(lost) }) : "",
    roundTripMs === null ? "" : words.text("fact_round_trip", { delay: words.delay(roundTripMs) }),
  ];
  at("facts").textContent = facts.filter(Boolean).join(" · ");
}

function say(text) {
  at("notice").textContent = text;
  at("notice").hidden = text === "";
}

function fail(text) {
  at("error").textContent = text;
  at("error").hidden = text === "";
}

function labelOf(id) {
  return document.querySelector(`label[for="${id}"]`).textContent;
}

/** What could not be sent stands there again. */
async function sendCaption() {
  const field = at("caption");
  const text = field.value;
  field.value = "";
  const isSent = await publisher.sendCue({ kind: "caption", text });
  if (!isSent && field.value === "") field.value = text;
}

async function copy(field) {
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    // Without HTTPS there is no clipboard: what is selected can be copied by hand.
    field.select();
    at("copied").textContent = words.text("embed_by_hand");
    return;
  }
  at("copied").textContent = words.text("copied_what", { what: labelOf(field.id) });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
at("stop").addEventListener("click", stop);
at("caption-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sendCaption();
});
at("source").addEventListener("change", () => {
  closeSource();
  say(words.text("no_picture"));
  showChoices();
});
for (const id of ["camera", "microphone"]) at(id).addEventListener("change", closeSource);
at("bitrate").addEventListener("change", () => publisher.setBitrate(Number(at("bitrate").value)));
at("key").addEventListener("input", () => encoderPanel.setKey(typedKey()));
for (const button of document.querySelectorAll("[data-copy]")) {
  setAttribute(button, "aria-label", words.text("copy_what", { what: labelOf(button.dataset.copy) }));
  button.addEventListener("click", () => copy(at(button.dataset.copy)));
}
publisher.addEventListener("change", handleChange);
navigator.mediaDevices?.addEventListener("devicechange", showDevices);
addEventListener("pagehide", () => publisher.stop());
addEventListener("online", () => publisher.hurry());
navigator.connection?.addEventListener("change", () => publisher.hurry());
setInterval(showFacts, FACTS_INTERVAL_MS);
setInterval(askForAdvice, ADVICE_INTERVAL_MS);

showChoices();
showState();
showDevices();
await showCodecs();

/** What tests and curious people read. */
window.mediaTree = {
  get state() {
    return publisher.state;
  },
  sendCue(cue) {
    return publisher.sendCue(cue);
  },
  async stats() {
    const stats = await publisher.stats();
    return {
      framesEncoded: stats?.video?.framesEncoded ?? 0,
      frameWidth: stats?.video?.frameWidth ?? null,
      frameHeight: stats?.video?.frameHeight ?? null,
      videoCodec: stats?.codecs.video ?? null,
      audioCodec: stats?.codecs.audio ?? null,
      bytesSent: (stats?.video?.bytesSent ?? 0) + (stats?.audio?.bytesSent ?? 0),
      // Why a browser sends less than it may: "none", "cpu", "bandwidth" or "other".
      limitedBy: stats?.video?.qualityLimitationReason ?? null,
      pliCount: stats?.video?.pliCount ?? 0,
      nackCount: stats?.video?.nackCount ?? 0,
    };
  },
};

