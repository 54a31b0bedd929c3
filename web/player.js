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
/** Before that, the server is asked whether it is still there, each viewer a little later than another. */
const PROBE_AFTER_MS = 1000;
const PROBE_SPREAD_MS = 500;

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

  /** What WhepSession.stats gives for the session on screen; null without one. */
  stats() {
    return (this.#active ?? this.#next)?.session.stats() ?? Promise.resolve(null);
  }

  async #connect() {
    if (this.#next) return;
    const video = Object.assign(document.createElement("video"), {
      autoplay: true,
      playsInline: true,
      muted: this.#isMuted,
    });
    video.setAttribute("aria-label", "Live picture");
    const entry = {
      video,
      session: null,
      isConnected: false,
      // What measure() found.
      progress: 0,
      progressAt: 0,
      isFlowing: false,
      hasPicture: false,
      isProbed: false,
    };
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
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(() => this.#handleFirstFrame(entry));
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
      if (entry === this.#active) this.#recover();
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

  /** Looks whether media still flows, and acts if it does not. */
  async #check() {
    const [active, next] = [this.#active, this.#next];
    await Promise.all([active, next].map((entry) => entry?.isConnected && measure(entry)));
    // Meanwhile everything may have changed; the next look will see it.
    if (active !== this.#active || next !== this.#next) return;
    if (active?.isConnected && active.isFlowing) {
      if (this.state !== "live") this.#recover();
    } else if (next?.isConnected) {
      // In the background, and without any picture, no first picture will be reported.
      const isUnseen = document.hidden || (!next.hasPicture && performance.now() - next.session.started > SILENCE_MAX_MS);
      if (next.isFlowing && isUnseen) this.#promote(next);
      else if (silence(next) > SILENCE_MAX_MS) this.#setState("waiting", "Waiting for the broadcaster");
    } else if (active?.isConnected && this.state === "live") {
      if (silence(active) > PROBE_AFTER_MS) this.#probe(active);
      if (silence(active) > SILENCE_MAX_MS) this.#setState("waiting", "Waiting for the broadcaster");
    }
  }

  /** Asks once in a silence whether the server still knows the session: a dead one is left long before ICE gives up. */
  async #probe(entry) {
    if (entry.isProbed) return;
    entry.isProbed = true;
    // Not every viewer of a broadcast that has just ended asks in the same moment.
    await new Promise((resolve) => setTimeout(resolve, Math.random() * PROBE_SPREAD_MS));
    const isSilent = () => entry === this.#active && entry.isProbed && this.state !== "reconnecting";
    if (isSilent() && !(await entry.session.isKnown()) && isSilent()) this.#reconnect();
  }

  /** The session on screen plays again by itself: what was to replace it is not needed. */
  #recover() {
    clearTimeout(this.#retryTimer);
    this.#drop(this.#next);
    this.#attempt = 0;
    this.#setState("live", "Live");
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

/** Notes whether anything new has been decoded; sound alone counts where there is no picture at all. */
async function measure(entry) {
  const { video, audio } = await entry.session.stats();
  const frames = video?.framesDecoded ?? 0;
  const progress = frames > 0 ? frames : (audio?.packetsReceived ?? 0);
  entry.hasPicture = frames > 0;
  entry.isFlowing = progress !== entry.progress;
  if (!entry.isFlowing) return;
  entry.progress = progress;
  entry.progressAt = performance.now();
  entry.isProbed = false;
}

/** Milliseconds since anything new was decoded. */
function silence(entry) {
  return performance.now() - entry.progressAt;
}
