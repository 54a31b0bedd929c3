// Keeps one broadcast on screen: opens WHEP sessions, replaces those that fail, waits for the broadcaster.
//
// A replacement is opened beside the old session and takes its place with its first picture, so that nothing goes
// dark in between; the old one is closed after that.

import { Refused } from "./endpoint.js";
import { WhepSession } from "./whep.js";
import * as words from "./words.js";

/** Pauses before the attempts to reconnect; the last one repeats. */
const PAUSES_MS = [0, 500, 1000, 2000, 3000, 5000];
/** How often a broadcast that is not there is asked for again, unless the server says otherwise. */
const WAITING_PAUSE_MS = 2000;
const PAUSE_MAX_MS = 10_000;
/** How often it is checked whether media still flows. */
const CHECK_INTERVAL_MS = 500;
/** Without new media for so long, the broadcaster is away. */
const SILENCE_MAX_MS = 2500;

export class Player extends EventTarget {
  #stage;
  #url;
  #token = null;
  #active = null;
  #next = null;
  #attempt = 0;
  #retryTimer = null;
  #checkTimer = null;
  #isMuted = true;
  #isPaused = false;

  /** "idle", "connecting", "live", "waiting", "reconnecting", "key" or "refused". */
  state = "idle";
  /** The state in words. */
  message = "";

  /** Video elements are put into `stage`; `url` is the WHEP endpoint. */
  constructor(stage, url) {
    super();
    this.#stage = stage;
    this.#url = url;
  }

  start(token) {
    this.stop();
    this.#token = token;
    this.#attempt = 0;
    this.#setState("connecting", "Connecting");
    this.#checkTimer = setInterval(() => this.#check(), CHECK_INTERVAL_MS);
    this.#connect();
  }

  /** Ends every session, also on the server; works while the page goes away. */
  stop() {
    clearInterval(this.#checkTimer);
    clearTimeout(this.#retryTimer);
    this.#drop(this.#next);
    this.#drop(this.#active);
    this.#setState("idle", "Stopped");
  }

  get isMuted() {
    return this.#isMuted;
  }

  set isMuted(isMuted) {
    this.#isMuted = isMuted;
    for (const entry of [this.#active, this.#next]) if (entry) entry.video.muted = isMuted;
    this.#announce();
  }

  get isPaused() {
    return this.#isPaused;
  }

  /** A live picture does not wait: it goes on where the broadcast is by then. */
  set isPaused(isPaused) {
    this.#isPaused = isPaused;
    for (const entry of [this.#active, this.#next]) if (entry) this.#play(entry);
    this.#announce();
  }

  /** The element on screen, or null. */
  get video() {
    return this.#active?.video ?? null;
  }

  /** What WhepSession.stats gives for the session on screen, with `firstFrameMs` and `delayMs`; null without one. */
  async stats() {
    const entry = this.#active ?? this.#next;
    if (!entry) return null;
    const stats = await entry.session.stats();
    return { ...stats, firstFrameMs: entry.session.firstFrameMs, delayMs: delayOf(entry, stats) };
  }

  async #connect() {
    if (this.#next) return;
    const video = Object.assign(document.createElement("video"), {
      autoplay: true,
      playsInline: true,
      muted: this.#isMuted,
    });
    video.setAttribute("aria-label", "Live picture");
    const entry = { video, session: null, isConnected: false, progress: -1, progressAt: 0, capture: null };
    entry.session = new WhepSession((state) => this.#handleState(entry, state));
    this.#next = entry;
    try {
      await entry.session.open(this.#url, this.#token);
    } catch (error) {
      if (this.#next === entry) {
        this.#drop(entry);
        this.#handleRefusal(error);
      }
      return;
    }
    if (this.#next !== entry) return;
    video.srcObject = entry.session.stream;
    // Below what is shown until its first picture is there.
    this.#stage.prepend(video);
    this.#play(entry);
    if (video.requestVideoFrameCallback) this.#followFrames(entry);
    else video.addEventListener("loadeddata", () => this.#handleFirstFrame(entry), { once: true });
  }

  #play(entry) {
    if (this.#isPaused) {
      entry.video.pause();
      return;
    }
    entry.video.play().catch((error) => {
      if (error.name !== "NotAllowedError" || entry.video.muted) return;
      // Sound needs a click on this page first.
      this.isMuted = true;
      entry.video.play().catch(() => {});
    });
  }

  #followFrames(entry) {
    const handleFrame = (_now, { captureTime, expectedDisplayTime }) => {
      if (entry !== this.#active && entry !== this.#next) return;
      if (captureTime !== undefined) entry.capture = expectedDisplayTime - captureTime;
      if (entry.session.firstFrameMs === null) this.#handleFirstFrame(entry);
      entry.video.requestVideoFrameCallback(handleFrame);
    };
    entry.video.requestVideoFrameCallback(handleFrame);
  }

  #handleFirstFrame(entry) {
    entry.session.markFirstFrame();
    if (entry === this.#next) this.#promote(entry);
  }

  #promote(entry) {
    const old = this.#active;
    this.#active = entry;
    this.#next = null;
    this.#attempt = 0;
    this.#stage.prepend(entry.video);
    this.#drop(old);
    this.#setState("live", "Live");
  }

  #handleState(entry, state) {
    if (state === "connected") {
      entry.isConnected = true;
      entry.progressAt = performance.now();
      // It came back by itself: what was to replace it is not needed.
      if (entry === this.#active) {
        this.#drop(this.#next);
        clearTimeout(this.#retryTimer);
        this.#attempt = 0;
        this.#setState("live", "Live");
      }
      return;
    }
    if (state === "disconnected") {
      entry.isConnected = false;
      if (entry === this.#active) this.#reconnect();
      return;
    }
    const wasConnected = entry.isConnected;
    entry.isConnected = false;
    if (entry === this.#active) {
      this.#reconnect();
    } else if (entry === this.#next) {
      this.#drop(entry);
      this.#reconnect(wasConnected ? null : "the server answers, but no media arrives (is UDP blocked?)");
    }
  }

  #handleRefusal(error) {
    const status = error instanceof Refused ? error.status : null;
    const pause = Math.min(error.retryAfter ? error.retryAfter * 1000 : WAITING_PAUSE_MS, PAUSE_MAX_MS);
    if (status === 401 || status === 403) {
      this.#setState("key", "A key is needed to watch");
    } else if (status === 409) {
      this.#wait("Waiting for the broadcaster", pause);
    } else if (status === 404) {
      this.#wait("Waiting: there is no broadcast of this name yet", pause);
    } else if (status !== null && status >= 400 && status < 500 && status !== 429) {
      this.#setState("refused", `The server refused: ${error.message}`);
      this.#retryIn(PAUSE_MAX_MS);
    } else {
      this.#reconnect(status === 503 || status === 429 ? "the server is busy" : null);
    }
  }

  #wait(message, pause) {
    this.#attempt = 0;
    this.#setState("waiting", message);
    this.#retryIn(pause);
  }

  #reconnect(reason = null) {
    if (this.#next) return;
    this.#attempt += 1;
    const text = words.reconnecting(this.#attempt);
    this.#setState("reconnecting", (reason ? `${reason}; ${text}` : text).replace(/^./, (first) => first.toUpperCase()));
    this.#retryIn(PAUSES_MS[Math.min(this.#attempt, PAUSES_MS.length) - 1]);
  }

  #retryIn(pause) {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#connect(), pause);
  }

  /** Whether media still flows; sound alone counts where there is no picture at all. */
  async #check() {
    const entry = this.#active?.isConnected ? this.#active : this.#next;
    if (!entry?.isConnected) return;
    const { video, audio } = await entry.session.stats();
    const frames = video?.framesDecoded ?? 0;
    const progress = frames > 0 ? frames : (audio?.packetsReceived ?? 0);
    const now = performance.now();
    if (progress > 0 && progress !== entry.progress) {
      entry.progress = progress;
      entry.progressAt = now;
    }
    if (!entry.isConnected || (entry !== this.#active && entry !== this.#next)) return;
    if (now - entry.progressAt > SILENCE_MAX_MS) {
      this.#setState("waiting", "Waiting for the broadcaster");
    } else if (entry === this.#active) {
      if (this.state === "waiting") this.#setState("live", "Live");
    } else if (frames === 0 && progress > 0 && now - entry.session.started > SILENCE_MAX_MS) {
      this.#promote(entry);
    }
  }

  #drop(entry) {
    if (!entry) return;
    entry.session.close();
    entry.video.remove();
    entry.video.srcObject = null;
    if (this.#active === entry) this.#active = null;
    if (this.#next === entry) this.#next = null;
  }

  #setState(state, message) {
    if (this.state === state && this.message === message) return;
    this.state = state;
    this.message = message;
    this.#announce();
  }

  #announce() {
    this.dispatchEvent(new Event("change"));
  }
}

/** Milliseconds from capture to screen as far as this browser can tell, or null. */
function delayOf(entry, { video, audio }) {
  const isPlausible = (delay) => Number.isFinite(delay) && delay >= 0 && delay < 30_000;
  if (isPlausible(entry.capture)) return entry.capture;
  const playout = (video ?? audio)?.estimatedPlayoutTimestamp;
  // Both are times of the wallclock; the older standard counts from 1900.
  const since1900 = 2_208_988_800_000;
  const delays = [Date.now() - playout, Date.now() - (playout - since1900)];
  return delays.find(isPlausible) ?? null;
}
