// Keeps one broadcast on air: opens WHIP sessions and reconnects by itself until it is stopped.

import { Refused } from "./endpoint.js";
import { WhipSession } from "./whip.js";
import * as words from "./words.js";

/** Pauses before the attempts to reconnect; the last one repeats. */
const PAUSES_MS = [500, 1000, 2000, 3000, 5000];
/** A connection that only stumbled may take this long to come back. */
const DISCONNECTED_MAX_MS = 3000;

export class Publisher extends EventTarget {
  #url;
  #session = null;
  #settings = null;
  #attempt = 0;
  #timer = null;

  /** "idle", "connecting", "live", "reconnecting", "key" or "refused". */
  state = "idle";
  /** The state in words. */
  message = "Not live";
  /** When it went live, as Date.now(); null while it is not. */
  liveSince = null;

  /** `url` is the WHIP endpoint. */
  constructor(url) {
    super();
    this.#url = url;
  }

  /** `settings`: `{ stream, token, codec, bitrate }`. */
  start(settings) {
    this.stop();
    this.#settings = settings;
    this.#attempt = 0;
    this.#setState("connecting", "Connecting");
    this.#connect();
  }

  /** Ends the session, also on the server; works while the page goes away. */
  stop() {
    clearTimeout(this.#timer);
    this.#session?.close();
    this.#session = null;
    this.#settings = null;
    this.liveSince = null;
    this.#setState("idle", "Not live");
  }

  /** The most that video may take, in bit/s; holds from now on. */
  setBitrate(bitrate) {
    if (!this.#settings) return;
    this.#settings.bitrate = bitrate;
    this.#session?.setBitrate(bitrate);
  }

  /** What WhipSession.stats gives, or null. */
  stats() {
    return this.#session?.stats() ?? null;
  }

  async #connect() {
    const session = new WhipSession((state) => session === this.#session && this.#handleState(state));
    this.#session = session;
    const { stream, token } = this.#settings;
    try {
      await session.open(this.#url, token, stream, this.#settings);
    } catch (error) {
      session.close();
      if (session === this.#session) this.#handleRefusal(error);
    }
  }

  #handleState(state) {
    clearTimeout(this.#timer);
    if (state === "connected") {
      this.#attempt = 0;
      this.liveSince ??= Date.now();
      this.#setState("live", "Live");
    } else if (state === "disconnected") {
      this.#setState("reconnecting", "Connection lost; waiting for it to come back");
      this.#timer = setTimeout(() => this.#reconnect(), DISCONNECTED_MAX_MS);
    } else {
      this.#reconnect();
    }
  }

  #handleRefusal(error) {
    const status = error instanceof Refused ? error.status : null;
    if (status === 401 || status === 403) {
      this.#end("key", "The server wants a valid key for publishing.");
    } else if (status !== null && status >= 400 && status < 500 && status !== 409 && status !== 429) {
      this.#end("refused", `The server refused: ${error.message}`);
    } else {
      this.#reconnect(error.retryAfter);
    }
  }

  #end(state, message) {
    this.#session = null;
    this.#settings = null;
    this.liveSince = null;
    this.#setState(state, message);
  }

  #reconnect(retryAfter = null) {
    this.#session?.close();
    this.#attempt += 1;
    const text = words.reconnecting(this.#attempt);
    this.#setState("reconnecting", text[0].toUpperCase() + text.slice(1));
    const pause = PAUSES_MS[Math.min(this.#attempt, PAUSES_MS.length) - 1];
    this.#timer = setTimeout(() => this.#connect(), retryAfter ? Math.min(retryAfter * 1000, 10_000) : pause);
  }

  #setState(state, message) {
    if (this.state === state && this.message === message) return;
    this.state = state;
    this.message = message;
    this.dispatchEvent(new Event("change"));
  }
}
