// Tells a session's server how the picture arrives: a few numbers soon, then twice a minute, and at the end. Nothing in
// them says who watches; a server that does not want them loses nothing.

/** Many viewers stay for seconds only. */
const FIRST_MS = 5000;
const INTERVAL_MS = 30_000;
/** Not all viewers who came together report together. */
const SPREAD = 0.2;

export class QualityReports {
  #url;
  #timer = null;
  /** What the report before has told. */
  #told = { at: performance.now(), freezes: 0, frozen: 0, received: 0, lost: 0 };
  #isFirstFrameTold = false;
  #latest = null;

  /** `location` is the session's URL. */
  constructor(location) {
    this.#url = `${location}/beacon`;
    this.#wait(FIRST_MS);
  }

  /** What WhepSession.stats has just given; the next report is made of it. */
  note(stats) {
    this.#latest = stats;
  }

  /** Tells the rest; works while the page goes away. */
  close() {
    clearTimeout(this.#timer);
    this.#send();
  }

  #wait(pause) {
    this.#timer = setTimeout(() => {
      this.#send();
      this.#wait(INTERVAL_MS);
    }, pause * (1 + Math.random() * SPREAD));
  }

  #send() {
    const report = this.#report();
    if (!report) return;
    // As simple a request as there is: no preflight, and nobody reads the answer.
    const options = { method: "POST", mode: "no-cors", credentials: "omit", keepalive: true };
    fetch(this.#url, { ...options, body: JSON.stringify(report) }).catch(() => {});
  }

  /** What is new since the report before, or null if nothing is known. */
  #report() {
    if (!this.#latest) return null;
    const { video, audio, firstFrameMs, delayMs } = this.#latest;
    const now = {
      at: performance.now(),
      freezes: video?.freezeCount ?? 0,
      frozen: (video?.totalFreezesDuration ?? 0) * 1000,
      received: (video?.packetsReceived ?? 0) + (audio?.packetsReceived ?? 0),
      lost: (video?.packetsLost ?? 0) + (audio?.packetsLost ?? 0),
    };
    const before = this.#told;
    // Packets that were lost and then came count backwards.
    const since = (name) => Math.max(0, now[name] - before[name]);
    this.#told = now;
    const report = {
      watchedMs: since("at"),
      freezes: since("freezes"),
      freezeMs: since("frozen"),
      packetsReceived: since("received"),
      packetsLost: since("lost"),
    };
    if (delayMs !== null) report.latencyMs = delayMs;
    if (firstFrameMs !== null && !this.#isFirstFrameTold) {
      report.firstFrameMs = firstFrameMs;
      this.#isFirstFrameTold = true;
    }
    return report;
  }
}
