// Keeps picture and sound together. Browsers let them part by 30 ms and more before they do anything about it, to which cameras
// and encoders add theirs: whichever is early is held back by as much as the other is late, on top of what it waits anyway.

/** So many looks are taken together; the player looks four times a second. */
const LOOKS = 12;
/** What a browser settles by itself in its first seconds, and after it was told of another buffer, is its business. */
const SETTLING_MS = 8000;
/** A difference above this, in ms, is made good. To what a browser tells comes what nobody tells: the publisher's own part, 30 ms
 * with some codecs. */
const DIFFERENCE_MAX_MS = 10;
/** The most that either is held back on top of what it waits by itself, in ms, and what is not worth it. */
const HELD_MAX_MS = 150;
const HELD_MIN_MS = 10;
/**
 * What waits by itself for so much longer than it was told to does so because of its network. That may become better, and browsers
 * delay the other to what is held: so what is asked for then holds for a time only.
 */
const OWN_MAX_MS = 100;
const OWN_AGE_MAX_MS = 60_000;
/** Sound waits now for less and now for more than it was asked to, by up to this, in ms. */
const SOUND_SLACK_MS = 25;

export class LipSync {
  #began = null;
  /** The buffer that the browser was told of. */
  #bufferMs = null;
  #looks = [];
  #picture = new Hold(0);
  #sound = new Hold(SOUND_SLACK_MS);

  /**
   * Takes statistics of WhepSession.stats at `now`, as of performance.now(), of a browser that was told to hold media back for
   * `bufferMs`. How long pictures (`video`) and sound (`audio`) are to be held back from now on, in ms, 0 for no longer than they
   * are anyway; null if nothing changes.
   */
  note({ video, audio, soundLateMs }, now, bufferMs) {
    if (bufferMs !== this.#bufferMs) return this.#begin(now, bufferMs);
    if ([this.#picture, this.#sound].some((hold) => hold.isOld(now, bufferMs))) return this.release();
    if (soundLateMs === null || now - this.#began < SETTLING_MS) return null;
    this.#looks.push(soundLateMs);
    if (this.#looks.length < LOOKS) return null;
    const late = this.#looks.reduce((sum, look) => sum + look, 0) / LOOKS;
    this.#looks = [];
    this.#picture.look(video);
    this.#sound.look(audio);
    if (Math.abs(late) < DIFFERENCE_MAX_MS) return null;
    // Whoever is held too long is let go before the other one is held.
    const [early, other] = late > 0 ? [this.#picture, this.#sound] : [this.#sound, this.#picture];
    const hasChanged = other.target > 0 ? other.change(-Math.abs(late), now) : early.change(Math.abs(late), now);
    return hasChanged ? this.#targets() : null;
  }

  /** Nobody hears the sound now, so nothing waits for anything; the answer is as of note(). */
  release() {
    this.#looks = [];
    const holds = [this.#picture, this.#sound];
    if (holds.every(({ target }) => target === 0)) return null;
    for (const hold of holds) hold.target = 0;
    return this.#targets();
  }

  #begin(now, bufferMs) {
    this.#began = now;
    this.#bufferMs = bufferMs;
    for (const hold of [this.#picture, this.#sound]) hold.forget();
    return this.release();
  }

  #targets() {
    return { video: this.#picture.target, audio: this.#sound.target };
  }
}

/** How long one of the two is held back. */
class Hold {
  /** What was last asked for; 0 for nothing. */
  target = 0;
  #slack;
  #before = null;
  /** How long it waited lately; no number where that is not known. */
  #waits = NaN;
  /** How long it waits by itself, as it was last seen, and when that was. */
  #own = 0;
  #ownAt = null;

  constructor(slack) {
    this.#slack = slack;
  }

  /** Takes statistics of its stream. */
  look({ jitterBufferDelay, jitterBufferEmittedCount } = {}) {
    const [delay, count] = this.#before ?? [];
    this.#before = [jitterBufferDelay, jitterBufferEmittedCount];
    this.#waits = ((jitterBufferDelay - delay) / (jitterBufferEmittedCount - count)) * 1000;
  }

  /** Forgets what was seen. */
  forget() {
    this.#before = null;
  }

  /** Asks for `more` than it waits; whether that changes the target. */
  change(more, now) {
    if (!Number.isFinite(this.#waits)) return false;
    // What is asked for has no effect on what waits for longer by itself.
    const isHeld = this.target > 0 && this.#waits <= this.target + this.#slack;
    if (!isHeld) [this.#own, this.#ownAt] = [this.#waits, now];
    // Browsers count decoding and drawing in, and what is asked for below that has no effect: then it takes another step.
    const wanted = Math.round(Math.min(this.#own + HELD_MAX_MS, (isHeld ? this.target : this.#waits) + more));
    const target = wanted < this.#own + HELD_MIN_MS ? 0 : wanted;
    if (target === this.target) return false;
    this.target = target;
    return true;
  }

  /** Whether what is asked for is for a network that may have become better since. */
  isOld(now, bufferMs) {
    return this.target > 0 && this.#own > bufferMs + OWN_MAX_MS && now - this.#ownAt > OWN_AGE_MAX_MS;
  }
}
