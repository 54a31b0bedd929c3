// What a publisher can send: camera, screen, test picture. Each is a stream with a `stop` of its own.

import * as testpicture from "./testpicture.js";

const PICTURE = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 60 } };

/** The browser does not give it to this page; `key` says why in words. */
class Unavailable extends Error {
  constructor(key) {
    super(key);
    this.key = key;
  }
}

/** Opens a source; `devices` are the ids of the chosen camera and microphone. Rejects if the user or system says no. */
export async function open(kind, title, devices) {
  if (kind === "clock") return testpicture.open(title);
  const stream = kind === "screen" ? await openScreen(devices) : await openCamera(devices);
  const picture = stream.getVideoTracks()[0];
  if (picture) picture.contentHint = kind === "screen" ? "detail" : "motion";
  return {
    stream,
    stop() {
      for (const track of stream.getTracks()) track.stop();
    },
  };
}

/** Cameras and microphones; labels are empty until the user has allowed one. */
export async function list() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return {
    cameras: devices.filter(({ kind }) => kind === "videoinput"),
    microphones: devices.filter(({ kind }) => kind === "audioinput"),
  };
}

/** What went wrong, in words for the user. */
export function reason(error, words) {
  if (error instanceof Unavailable) return words.text(error.key);
  switch (error.name) {
    case "NotAllowedError":
      return words.text("not_allowed");
    case "NotFoundError":
    case "OverconstrainedError":
      return words.text("not_found");
    case "NotReadableError":
      return words.text("in_use");
    default:
      return error.message || words.text("cannot_open");
  }
}

function openCamera({ camera, microphone }) {
  if (!navigator.mediaDevices) throw new Unavailable("https_only");
  return navigator.mediaDevices.getUserMedia({
    video: camera === "none" ? false : { ...PICTURE, ...(camera ? { deviceId: { exact: camera } } : {}) },
    audio: sound(microphone),
  });
}

/** The screen with its own sound where the browser gives that, else with the microphone's. */
async function openScreen({ microphone }) {
  if (!navigator.mediaDevices?.getDisplayMedia) {
    throw new Unavailable("no_screen");
  }
  const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 30 } }, audio: true });
  if (stream.getAudioTracks().length === 0 && microphone !== "none") {
    try {
      const voice = await navigator.mediaDevices.getUserMedia({ audio: sound(microphone) });
      for (const track of voice.getTracks()) stream.addTrack(track);
    } catch {
      // A screen without sound is still worth sending.
    }
  }
  return stream;
}

function sound(microphone) {
  if (microphone === "none") return false;
  return { channelCount: { ideal: 2 }, ...(microphone ? { deviceId: { exact: microphone } } : {}) };
}
