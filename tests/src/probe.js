// What a page shows and plays, against the clock of this machine: when pictures with a time code come on screen, and when
// beeps are heard.
//
// A beep is a tone of 880 Hz that begins at every full second of the time code.

/** Of the amplitude that a beep has, and the tones beside it lack once they are filtered. */
const LOUD = 0.08;
/** A beep begins after so much silence. */
const QUIET_MS = 300;
const SOUND_BLOCK = 1024;
/**
 * Blocks of sound, a quarter of a second, of which the quickest tells how long a block takes to come here. Not more: without a
 * sound card the clock of a browser's sound may be some percent slow.
 */
const BLOCKS = 12;
/** As many codes a second tell as much as those of every picture, and cost less. */
const CODE_INTERVAL_MS = 200;
const FOLLOW_INTERVAL_MS = 100;
/** As WebRTC's statistics define a freeze, at 30 pictures a second. */
const PICTURE_MS = 1000 / 30;
const FREEZE_MS = PICTURE_MS + 150;

window.probe = {
  /** Pictures that came on screen. */
  presented: 0,
  /** When the first picture after `arm` came on screen, in ms since 1970. */
  resumedAt: null,
  /** `presented` when `arm` was called; null from the next picture on. */
  armedAt: null,
  codes: [],
  beeps: [],
  freezes: 0,
  frozenMs: 0,

  /** Begins to look at the element that `current` gives; another one may take its place later. */
  async begin(current) {
    const { read } = await import("/assets/timecode.js");
    const audio = new AudioContext();
    await audio.resume();
    const band = new BiquadFilterNode(audio, { type: "bandpass", frequency: 880, Q: 5 });
    const ears = audio.createScriptProcessor(SOUND_BLOCK, 1, 1);
    ears.onaudioprocess = listener(audio.sampleRate);
    band.connect(ears).connect(audio.destination);
    let followed = null;
    let sound = null;
    const follow = () => {
      const video = current();
      if (!video?.srcObject || video === followed) return;
      followed = video;
      sound?.disconnect();
      sound = audio.createMediaStreamSource(video.srcObject);
      sound.connect(band);
      watch(video, () => video === followed, read);
    };
    follow();
    setInterval(follow, FOLLOW_INTERVAL_MS);
  },

  /** The next picture is waited for. */
  arm() {
    this.armedAt = this.presented;
    this.resumedAt = null;
  },

  /** Whether so many pictures came since `arm`. */
  isPlaying(pictures) {
    return this.resumedAt !== null && this.presented >= this.armedAt + pictures;
  },

  /** What was seen and heard since the last time. */
  take() {
    const { codes, beeps, freezes, frozenMs } = this;
    Object.assign(this, { codes: [], beeps: [], freezes: 0, frozenMs: 0 });
    return { codes, beeps, freezes, frozenMs };
  },
};

/** A time of performance.now() in ms since 1970. */
function wall(time) {
  return Date.now() + time - performance.now();
}

function watch(video, isWanted, read) {
  const { probe } = window;
  let last = null;
  let lastCode = -Infinity;
  const look = (now, { expectedDisplayTime }) => {
    if (!isWanted()) return;
    const shown = wall(Number.isFinite(expectedDisplayTime) ? expectedDisplayTime : now);
    probe.presented += 1;
    if (probe.armedAt !== null) probe.resumedAt ??= shown;
    if (last !== null && shown - last > FREEZE_MS) {
      probe.freezes += 1;
      probe.frozenMs += shown - last - PICTURE_MS;
    }
    last = shown;
    if (shown - lastCode >= CODE_INTERVAL_MS) {
      const code = read(video);
      if (code !== null) {
        probe.codes.push([shown, code]);
        lastCode = shown;
      }
    }
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
}

function listener(sampleRate) {
  const ways = [];
  let loudAt = -Infinity;
  return ({ inputBuffer, playbackTime }) => {
    ways.push(performance.now() - playbackTime * 1000);
    if (ways.length > BLOCKS) ways.shift();
    // A block that came later has waited for this thread.
    const end = Math.min(...ways) + playbackTime * 1000;
    inputBuffer.getChannelData(0).forEach((sample, index) => {
      if (Math.abs(sample) < LOUD) return;
      const at = end - ((SOUND_BLOCK - 1 - index) / sampleRate) * 1000;
      if (at - loudAt > QUIET_MS) window.probe.beeps.push(wall(at));
      loudAt = at;
    });
  };
}
