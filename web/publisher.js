// Keeps one broadcast on air: opens WHIP sessions and reconnects by itself until it is stopped.

import { Refused, isReachable, postCue, withoutServer } from "./endpoint.js";
import { WhipSession } from "./whip.js";
import { english } from "./words.js";

/** Pauses before the attempts to reconnect; the last one repeats. */
const PAUSES_MS = [500, 1000, 2000, 3000, 5000];
/**
 * A connection that only stumbled may take this long to come back over the way that it has, and over a new one since the
 * server knows of it.
 */
const DISCONNECTED_MAX_MS = 3000;
/** Without any network it is tried to find a new way for so long: then the server has given the session up, too. */
const MENDING_MAX_MS = 25_000;
const MENDING_PAUSE_MS = 500;
/** How often it is looked whether anything comes from the server, and after how many times it is asked over HTTP. */
const LISTEN_INTERVAL_MS = 500;
const SILENT_LOOKS_MAX = 3;

export class Publisher extends EventTarget {
  #url;
  #words;
  #session = null;
  /** False once a server has refused it. */
  #hasChannel = true;
  #settings = null;
  #attempt = 0;
  #timer = null;
  #listener = null;
  /** The session for which a new way is looked for. */
  #mended = null;
  /** The session's URL at a server that does not answer; null while one does. */
  #lost = null;

  /** "idle", "connecting", "live", "reconnecting", "key" or "refused". */
  state = "idle";
  /** The state in words. */
  message;
  /** When it went live, as Date.now(); null while it is not. */
  liveSince = null;

  /** `url` is the WHIP endpoint; messages are said in `words`. */
  constructor(url, words = english) {
    super();
    this.#url = url;
    this.#words = words;
    this.message = words.text("not_live");
  }

  /** `settings`: `{ stream, token }` and what WhipSession.open wants to know of the picture. */
  start(settings) {
    this.stop();
    this.#settings = settings;
    this.#attempt = 0;
    this.#lost = null;
    this.#setState("connecting", this.#words.text("connecting"));
    this.#connect();
  }

  /** Ends the session, also on the server; works while the page goes away. */
  stop() {
    clearTimeout(this.#timer);
    this.#session?.close();
    this.#end("idle", this.#words.text("not_live"));
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

  /** What WhipSession.advice gives, or null. */
  advice() {
    return this.#session?.advice() ?? Promise.resolve(null);
  }

  /**
   * Sends a caption or other timed data, as docs/embedding.md has them, while live; resolves to whether it has gone: over
   * the data channel, or where there is none, over HTTP.
   */
  async sendCue(cue) {
    if (this.state !== "live") return false;
    const text = JSON.stringify(cue);
    return this.#session.say(text) || postCue(this.#url, this.#settings.token, text);
  }

  async #connect() {
    const session = new WhipSession((state) => session === this.#session && this.#handleState(state));
    this.#session = session;
    clearInterval(this.#listener);
    this.#listener = setInterval(this.#listen(session), LISTEN_INTERVAL_MS);
    const { stream, token } = this.#settings;
    try {
      const settings = { ...this.#settings, hasChannel: this.#hasChannel };
      await session.open(withoutServer(this.#lost, this.#url), token, stream, settings);
    } catch (error) {
      session.close();
      if (session !== this.#session) return;
      // A server of an earlier version takes nothing but picture and sound.
      const mayBeChannel = this.#hasChannel && error instanceof Refused && error.status === 422;
      if (mayBeChannel) this.#hasChannel = false;
      if (mayBeChannel) this.#connect();
      else this.#handleRefusal(error);
    }
  }

  /**
   * Looks whether a session is heard; leaves it if it is silent and the server does not know it any more, or does not
   * answer while the one that sent us there does. Where nobody answers, our own network may be what is gone.
   */
  #listen(session) {
    let heard = 0;
    let silentLooks = 0;
    let isAsking = false;
    return async () => {
      if (session !== this.#session) return;
      const before = heard;
      heard = await session.heard();
      silentLooks = heard > before || this.state !== "live" ? 0 : silentLooks + 1;
      if (silentLooks < SILENT_LOOKS_MAX || isAsking) return;
      isAsking = true;
      const standing = await session.standing();
      const isLost = standing === "silent" && this.#isSentOn(session) && (await isReachable(this.#url));
      isAsking = false;
      const isStillSilent = (await session.heard()) <= before;
      if (session !== this.#session || !isStillSilent || standing === "known") return;
      if (isLost) this.#lost = session.location;
      // ICE may have noticed meanwhile: then a new way to the server is looked for.
      else if (this.state !== "live") return;
      this.#reconnect();
    };
  }

  /** Whether a session is not where it was asked for. */
  #isSentOn(session) {
    return new URL(session.location).host !== new URL(this.#url, document.baseURI).host;
  }

  #handleState(state) {
    clearTimeout(this.#timer);
    if (state === "connected") {
      this.#attempt = 0;
      this.#lost = null;
      this.liveSince ??= Date.now();
      this.#setState("live", this.#words.text("live"));
    } else if (state === "disconnected") {
      this.#setState("reconnecting", this.#words.text("stumbled"));
      this.#mend(this.#session);
    } else {
      this.#reconnect();
    }
  }

  /**
   * Looks for a new way within the session: what viewers see goes on then, while a session of its own would begin anew for
   * them. Gives the session up when the server does not know it, or answers but not for the session, or when a new way is
   * of no use either.
   */
  async #mend(session) {
    if (this.#mended === session) return;
    this.#mended = session;
    const isFound = await this.#findWay(session, () => session === this.#session && !session.isConnected);
    this.#mended = null;
    if (session !== this.#session || session.isConnected) return;
    if (isFound) this.#timer = setTimeout(() => this.#reconnect(), DISCONNECTED_MAX_MS);
    else this.#reconnect();
  }

  /** Whether the server has agreed to a new way, while one is needed. */
  async #findWay(session, isNeeded) {
    const until = performance.now() + MENDING_MAX_MS;
    let wasReached = false;
    while (isNeeded()) {
      const status = await session.restartIce();
      if (status !== 0 || performance.now() > until) return status === 200;
      const isReached = isNeeded() && (await isReachable(this.#url));
      // Twice: the network may have come back between the two questions.
      if (isReached && wasReached) return false;
      wasReached = isReached;
      await new Promise((resolve) => setTimeout(resolve, MENDING_PAUSE_MS));
    }
    return false;
  }

  #handleRefusal(error) {
    const status = error instanceof Refused ? error.status : null;
    if (status === 401 || status === 403) {
      this.#end("key", this.#words.text("publish_key_needed"));
    } else if (status !== null && status >= 400 && status < 500 && status !== 409 && status !== 429) {
      this.#end("refused", this.#words.text("refused", { reason: error.message }));
    } else {
      this.#reconnect(error.retryAfter);
    }
  }

  #end(state, message) {
    clearInterval(this.#listener);
    this.#session = null;
    this.#settings = null;
    this.liveSince = null;
    this.#setState(state, message);
  }

  #reconnect(retryAfter = null) {
    clearTimeout(this.#timer);
    this.#session?.close();
    // Whoever still looks for a way for it sees that it is over.
    this.#session = null;
    this.#attempt += 1;
    this.#setState("reconnecting", this.#words.reconnecting(this.#attempt));
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
