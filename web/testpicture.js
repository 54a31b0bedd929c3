// The test picture: a clock for people and for machines, and a tone with a pip at every full second.

import * as timecode from "./timecode.js";

const WIDTH = 640;
const HEIGHT = 360;
const FRAMES_PER_SECOND = 30;
/** So many pictures tell how the clocks of sound and picture stand to each other. */
const LOOKS = 60;

/** A stream of test picture and tone under `title`. `stop` ends it for good. */
export function open(title) {
  const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
  const context = canvas.getContext("2d", { alpha: false });
  const sound = tone();
  const paintNow = () => {
    const now = Date.now();
    paint(context, title, now);
    sound.follow(now);
  };
  paintNow();
  const stream = canvas.captureStream(FRAMES_PER_SECOND);
  const ticker = new Worker("/assets/ticker.js");
  ticker.onmessage = paintNow;
  ticker.postMessage(1000 / FRAMES_PER_SECOND);
  stream.addTrack(sound.track);
  return {
    stream,
    stop() {
      ticker.terminate();
      sound.stop();
      for (const track of stream.getTracks()) track.stop();
    },
  };
}

function paint(context, title, now) {
  const time = new Date(now);
  const turn = (now % 4000) / 4000;
  context.fillStyle = "#1b2a3a";
  context.fillRect(0, 0, WIDTH, HEIGHT);
  // Seven quiet bars, so that colours can be judged.
  ["#c9d1d9", "#c7b45b", "#5bb0b5", "#63a862", "#a36aa3", "#b85a52", "#4f6fb0"].forEach((colour, index) => {
    context.fillStyle = colour;
    context.fillRect((index * WIDTH) / 7, 250, WIDTH / 7 + 1, 46);
  });
  // A ball that goes to and fro in four seconds: where it jumps, pictures are missing.
  context.fillStyle = "#e7edf2";
  context.beginPath();
  context.arc(40 + (WIDTH - 80) * (0.5 - 0.5 * Math.cos(2 * Math.PI * turn)), 326, 14, 0, 2 * Math.PI);
  context.fill();
  context.textAlign = "center";
  context.font = "600 64px ui-monospace, 'DejaVu Sans Mono', monospace";
  context.fillText(`${time.toLocaleTimeString("en-GB")}.${String(now % 1000).padStart(3, "0")}`, WIDTH / 2, 150);
  context.font = "24px system-ui, sans-serif";
  context.fillStyle = "#a9b8c6";
  context.fillText(title, WIDTH / 2, 205, WIDTH - 40);
  timecode.draw(context, now);
}

/** A soft tone on the left, its fifth on the right, and a pip at every full second. */
function tone() {
  const audio = new AudioContext();
  const output = audio.createMediaStreamDestination();
  output.channelCount = 2;
  const merger = audio.createChannelMerger(2);
  merger.connect(output);
  const voice = (frequency, volume, channels) => {
    const oscillator = new OscillatorNode(audio, { frequency });
    const gain = new GainNode(audio, { gain: volume });
    oscillator.connect(gain);
    for (const channel of channels) gain.connect(merger, 0, channel);
    oscillator.start();
    return gain.gain;
  };
  voice(220, 0.06, [0]);
  voice(330, 0.06, [1]);
  const pip = voice(880, 0, [0, 1]);
  /** When the graph began, by each of the latest pictures, in ms since 1970. */
  const beginnings = [];
  let announced = null;
  audio.resume();
  return {
    track: output.stream.getAudioTracks()[0],
    /** To be called with each picture: has a pip at the next full second. */
    follow(now) {
      beginnings.push(now - audio.currentTime * 1000);
      if (beginnings.length > LOOKS) beginnings.shift();
      const second = Math.floor(now / 1000) + 1;
      if (second === announced) return;
      announced = second;
      // The clock of the graph goes on by a block at a time, and a single look may be anywhere in one.
      const began = [...beginnings].sort((one, other) => one - other)[Math.floor(beginnings.length / 2)];
      const at = Math.max(0, (second * 1000 - began) / 1000);
      pip.setTargetAtTime(0.2, at, 0.005);
      pip.setTargetAtTime(0, at + 0.08, 0.02);
    },
    stop() {
      audio.close();
    },
  };
}
