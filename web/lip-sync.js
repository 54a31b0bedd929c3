// Keeps picture and sound together. Browsers let them part by 30 ms before they do anything about it, to which cameras and encoders
// add theirs: the picture is held back by as much as its sound is late, on top of what it waits anyway.

/** So many looks are taken together; the player looks four times a second. */
const LOOKS = 12;
/** What a browser settles by itself in its first seconds, and after it was told of another buffer, is its business. */
const SETTLING_MS = 8000;
/** Sound that is later than its picture by more than this, in ms, is brought back to it. To what a browser tells comes what nobody
 * tells: the publisher's own part, 30 ms with some codecs. */
const LATE_MAX_MS = 10;
/** The most that a picture is held back on top of what it waits by itself, in ms, and what is not worth it. */
const HELD_MAX_MS = 150;
const HELD_MIN_MS = 10;
/**
 * A picture that waits by itself for so much longer than it was told to does so because of its network. That may become
 * better, and browsers delay the sound to a picture that is held: so what is asked for then holds for a time only.
 */
const OWN_MAX_MS = 100;
const OWN_AGE_MAX_MS = 60_000;

export class LipSync {
  #began = null;
  /** The buffer that the browser was told of. */
  #bufferMs = null;
  #looks = [];
  #before = null;
  /** What was last asked for; 0 for nothing. */
  #target = 0;
  /** How long pictures wait by themselves, as it was last seen, and when that was. */
  #own = 0;
  #ownAt = null;

  /**
   * Takes statistics of WhepSession.stats at `now`, as of performance.now(), of a browser that was told to hold media back for
   * `bufferMs`. How long pictures are to be held back from now on, in ms, 0 for no longer than they are anyway; null if nothing
   * changes.
   */
  note({ video, soundLateMs }, now, bufferMs) {
    if (bufferMs !== this.#bufferMs) return this.#begin(now, bufferMs);
    if (this.#isOld(now)) return this.release();
    if (soundLateMs === null || now - this.#began < SETTLING_MS) return null;
    this.#looks.push(soundLateMs);
    if (this.#looks.length < LOOKS) return null;
    const late = this.#looks.reduce((sum, look) => sum + look, 0) / LOOKS;
    this.#looks = [];
    const buffered = this.#buffered(video);
    // A picture that is late by itself is the browser's business.
    if (Math.abs(late) < LATE_MAX_MS || !Number.isFinite(buffered) || (late < 0 && this.#target === 0)) return null;
    // What is asked for has no effect on a picture that waits for longer by itself.
    const isHeld = this.#target > 0 && buffered <= this.#target;
    if (!isHeld) [this.#own, this.#ownAt] = [buffered, now];
    // Browsers count decoding and drawing in, and what is asked for below that has no effect: then it takes another step.
    const wanted = Math.round(Math.min(this.#own + HELD_MAX_MS, (isHeld ? this.#target : buffered) + late));
    const target = wanted < this.#own + HELD_MIN_MS ? 0 : wanted;
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

  #begin(now, bufferMs) {
    this.#began = now;
    this.#bufferMs = bufferMs;
    this.#before = null;
    return this.release();
  }

  /** Whether what is asked for is for a network that may have become better since. */
  #isOld(now) {
    const isOfNetwork = this.#own > this.#bufferMs + OWN_MAX_MS;
    return this.#target > 0 && isOfNetwork && now - this.#ownAt > OWN_AGE_MAX_MS;
  }

  /** How long pictures waited in their buffer since the last time, in ms; no number where that is not known. */
  #buffered({ jitterBufferDelay, jitterBufferEmittedCount }) {
    const [delay, count] = this.#before ?? [];
    this.#before = [jitterBufferDelay, jitterBufferEmittedCount];
    return ((jitterBufferDelay - delay) / (jitterBufferEmittedCount - count)) * 1000;
  }
}
