// What a page shows, against the clock of this machine: when pictures with a time code come on screen.

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
  freezes: 0,
  frozenMs: 0,

  /** Begins to look at the element that `current` gives; another one may take its place later. */
  async begin(current) {
    const { read } = await import("/assets/timecode.js");
    let followed = null;
    const follow = () => {
      const video = current();
      if (!video?.srcObject || video === followed) return;
      followed = video;
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

  /** What was seen since the last time. */
  take() {
    const { codes, freezes, frozenMs } = this;
    Object.assign(this, { codes: [], freezes: 0, frozenMs: 0 });
    return { codes, freezes, frozenMs };
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
