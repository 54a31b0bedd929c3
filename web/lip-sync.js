// Keeps picture and sound together. Browsers let them part by 30 ms before they do anything about it, to which cameras and encoders
// add theirs: the picture is held back by as much as its sound is late.

/** So many looks are taken together; the player looks four times a second. */
const LOOKS = 12;
/** What a browser settles by itself in its first seconds is its business. */
const SETTLING_MS = 8000;
/** Sound that is later than its picture by more than this, in ms, is made as late as that. */
const LATE_MAX_MS = 15;
const LATE_WANTED_MS = 5;
/** The most that a picture is held back, in ms, and what is not worth it. */
const TARGET_MAX_MS = 150;
const TARGET_MIN_MS = 10;

export class LipSync {
  #began = null;
  #looks = [];
  #before = null;
  /** What was last asked for. */
  #target = 0;

  /**
   * Takes statistics of WhepSession.stats at `now`, as of performance.now(). How long pictures are to be held back from now on,
   * in ms, 0 for no longer than they are anyway; null if nothing changes.
   */
  note({ video, soundLateMs }, now) {
    this.#began ??= now;
    if (soundLateMs === null || now - this.#began < SETTLING_MS) return null;
    this.#looks.push(soundLateMs);
    if (this.#looks.length < LOOKS) return null;
    const late = this.#looks.reduce((sum, look) => sum + look, 0) / LOOKS;
    this.#looks = [];
    const buffered = this.#buffered(video);
    const change = late - LATE_WANTED_MS;
    const isSmall = Math.abs(change) < LATE_MAX_MS - LATE_WANTED_MS;
    // A picture that is late by itself is the browser's business.
    if (isSmall || !Number.isFinite(buffered) || (change < 0 && this.#target === 0)) return null;
    // Browsers count decoding and drawing in, and what is asked for below that has no effect: then it takes another step.
    const wanted = Math.round(Math.min(TARGET_MAX_MS, (this.#target || buffered) + change));
    const target = wanted < TARGET_MIN_MS ? 0 : wanted;
    if (target === this.#target) return null;
    this.#target = target;
    return target;
  }

  /** Nobody hears the sound now, so the picture waits for nothing; the answer is as of note(). */
  release() {
    this.#looks = [];
    if (this.#target === 0) return null;
    this.#target = 0;
    return 0;
  }

  /** How long pictures waited in their buffer since the last time, in ms; no number where that is not known. */
  #buffered({ jitterBufferDelay, jitterBufferEmittedCount }) {
    const [delay, count] = this.#before ?? [];
    this.#before = [jitterBufferDelay, jitterBufferEmittedCount];
    return ((jitterBufferDelay - delay) / (jitterBufferEmittedCount - count)) * 1000;
  }
}
