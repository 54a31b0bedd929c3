// Captions and other timed data: what comes is read, waits until the picture of its time is on screen, and is told once.

/** Nothing waits longer, whatever clocks say. */
const WAIT_MAX_MS = 10_000;
/** So many may wait. */
const WAITING_MAX = 256;
/** Two sessions that overlap bring the same: so many of the latest are known again. */
const KNOWN_MAX = 64;
const TEXT_LENGTH_MAX = 4096;
const DURATION_MAX = 60;

/**
 * A cue as pages are told it, or null for what is none: `{ kind: "caption", time, text, language, duration }` or
 * `{ kind: "metadata", time, data }`. `time` is when it was captured, in ms since 1970 by the clock of the broadcaster's
 * node, `duration` is in seconds; what was not said is null.
 */
export function cueOf(said) {
  if (said === null || typeof said !== "object") return null;
  const { kind, text, data } = said;
  const time = Number.isFinite(said.time) ? said.time : null;
  if (kind === "caption" && typeof text === "string") {
    const language = typeof said.language === "string" ? said.language : null;
    const duration = said.duration > 0 ? Math.min(said.duration, DURATION_MAX) : null;
    return { kind, time, text: text.slice(0, TEXT_LENGTH_MAX), language, duration };
  }
  return kind === "metadata" && data !== undefined ? { kind, time, data } : null;
}

export class Cues {
  #tell;
  /** As they came: `{ cue, timer }`. */
  #waiting = [];
  #known = [];

  /** `tell(cue)` is called with each cue when its time has come. */
  constructor(tell) {
    this.#tell = tell;
  }

  /**
   * Takes what a server said. `behindMs` is the time from capture to screen by the clocks of both ends, which need not agree;
   * null tells at once.
   */
  add(said, behindMs) {
    const cue = cueOf(said);
    if (cue === null || this.#waiting.length >= WAITING_MAX || this.#isKnown(cue)) return;
    const isTimed = cue.time !== null && behindMs !== null;
    const wait = isTimed ? cue.time + behindMs - Date.now() : 0;
    const timer = setTimeout(() => this.#tellUpTo(timer), Math.min(Math.max(wait, 0), WAIT_MAX_MS));
    this.#waiting.push({ cue, timer });
  }

  /** Forgets what waits. */
  clear() {
    for (const { timer } of this.#waiting.splice(0)) clearTimeout(timer);
  }

  /** Those that came before it go first, though they were to wait longer: the picture has caught up since. */
  #tellUpTo(last) {
    const due = this.#waiting.splice(0, this.#waiting.findIndex(({ timer }) => timer === last) + 1);
    for (const { timer } of due) clearTimeout(timer);
    for (const { cue } of due) this.#tell(cue);
  }

  #isKnown(cue) {
    if (cue.time === null) return false;
    const key = JSON.stringify(cue);
    if (this.#known.includes(key)) return true;
    this.#known.push(key);
    if (this.#known.length > KNOWN_MAX) this.#known.shift();
    return false;
  }
}
