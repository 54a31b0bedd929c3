// Keeps one broadcast on air: opens WHIP sessions, keeps to each for as long as its server may have it, and then makes
// another, until it is stopped.

import { Refused, isReachable, postCue, withoutServer } from "./endpoint.js";
import { obstacle, refusal } from "./refusals.js";
import { WhipSession } from "./whip.js";
import { english } from "./words.js";

/** From one attempt to reconnect to the next, from beginning to beginning; the last one repeats. */
const PAUSES_MS = [500, 1000, 2000, 3000, 5000];
/** The least between the end of one and the next. */
const PAUSE_MIN_MS = 500;
const RETRY_AFTER_MAX_MS = 10_000;
/** How often it is looked whether anything comes from the server, and after how many times it is asked over HTTP. */
const LISTEN_INTERVAL_MS = 500;
const SILENT_LOOKS_MAX = 3;
/** A server ends the session of a publisher from whom nothing has come for so long (CONSENT_TIMEOUT in crate ingest). */
const LIFE_MAX_MS = 30_000;
/**
 * How long the server may take to say how a session stands, from question to question. The later ones are patient: the
 * system repeats what is lost of a question, while each new one takes another connection, of which there are only a few.
 */
const PATIENCES_MS = [1000, 1500, 2000, 3000, 5000];
const ASK_PAUSE_MS = 250;
/** A server that is silent for so long after the one that sent us there has answered is lost: our own network is there. */
const LOST_AFTER_MS = 700;
/** Once the server answers, ICE finds back by itself within this time, if its way still is one. */
const CONSENT_MAX_MS = 250;
/** While ICE has not noticed anything, reports that were late come within this time. */
const REPORTS_MAX_MS = 1000;
/** A new way is connected by then after the server agreed to it, or is none. */
const WAY_MAX_MS = 12000;
/** Browsers speak of one change of their network several times: a new way that was just agreed to is left alone for so long. */
const WAY_MIN_MS = 2000;
/** After a new way that the server did not agree to for now. */
const WAY_PAUSE_MS = 1000;
/** After so many new ways in vain there will be none within this session, though its server answers. */
const WAYS_MAX = 3;

export class Publisher extends EventTarget {
  #url;
  #words;
  #session = null;
  /** False once a server has refused it. */
  #hasChannel = true;
  #settings = null;
  #attempt = 0;
  /** When the latest attempt began, as performance.now(). */
  #attemptedAt = -Infinity;
  #timer = null;
  /** Whether the next attempt may come before its time. */
  #canHurry = false;
  #listener = null;
  /** How often in a row nothing had come from the server, and when something had, as performance.now(). */
  #silentLooks = 0;
  #heardAt = -Infinity;
  /** The session that is being mended. */
  #mended = null;
  /** How often it was to hurry, and when a server last agreed to a new way, as performance.now(). */
  #hurries = 0;
  #agreedAt = -Infinity;
  /** Ends what is waited for while it is. */
  #wake = () => {};
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

  /** To be called when the network may be back, or is another one: what would wait is done at once. */
  hurry() {
    this.#silentLooks = Math.max(this.#silentLooks, SILENT_LOOKS_MAX - 1);
    if (performance.now() - this.#agreedAt > WAY_MIN_MS) {
      this.#hurries += 1;
      this.#wake();
    }
    if (!this.#canHurry) return;
    clearTimeout(this.#timer);
    this.#connect();
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

  /** What WhipSession.advice gives, or null. Not asked for while it is asked whether the session is still there. */
  advice() {
    const isMended = this.#session !== null && this.#mended === this.#session;
    return (isMended ? null : this.#session?.advice()) ?? Promise.resolve(null);
  }

  /**
   * Sends a caption or other timed data, as docs/captions.md has them, while live; resolves to whether it has gone: over
   * the data channel, or where there is none, over HTTP.
   */
  async sendCue(cue) {
    if (this.state !== "live") return false;
    const text = JSON.stringify(cue);
    return this.#session.say(text) || postCue(this.#url, this.#settings.token, text);
  }

  async #connect() {
    this.#attemptedAt = performance.now();
    this.#canHurry = false;
    if (!globalThis.RTCPeerConnection) return this.#end("refused", this.#words.text("no_webrtc"));
    const { stream, token } = this.#settings;
    let session = null;
    this.#session = null;
    try {
      session = new WhipSession((state) => session === this.#session && this.#handleState(session, state));
      this.#session = session;
      this.#listen(session);
      const settings = { ...this.#settings, hasChannel: this.#hasChannel };
      await session.open(withoutServer(this.#lost, this.#url), token, stream, settings);
    } catch (error) {
      session?.close();
      if (session !== this.#session) return;
      // A server of an earlier version takes nothing but picture and sound.
      const mayBeChannel = this.#hasChannel && error instanceof Refused && error.status === 422;
      if (mayBeChannel) this.#hasChannel = false;
      if (mayBeChannel) this.#connect();
      else this.#handleRefusal(error);
    }
  }

  /** Looks whether a session is heard; one that is silent is mended long before ICE says so. */
  #listen(session) {
    let heard = 0;
    this.#silentLooks = 0;
    clearInterval(this.#listener);
    this.#listener = setInterval(async () => {
      const before = heard;
      heard = await session.heard();
      if (session !== this.#session) return;
      if (heard !== before && heard > 0) {
        this.#silentLooks = 0;
        this.#heardAt = performance.now();
        if (this.#isWell(session)) this.#wake();
      } else if (session.isConnected && heard > 0) {
        // Of a browser that counts nothing, silence says nothing.
        this.#silentLooks += 1;
      }
      if (this.#silentLooks >= SILENT_LOOKS_MAX) this.#mend(session);
    }, LISTEN_INTERVAL_MS);
  }

  #isWell(session) {
    return session.isConnected && this.#silentLooks < SILENT_LOOKS_MAX;
  }

  #handleState(session, state) {
    if (state === "connected") {
      this.#silentLooks = 0;
      this.#heardAt = performance.now();
      this.#goLive();
      this.#wake();
    } else if (state === "disconnected") {
      this.#setState("reconnecting", this.#words.text("stumbled"));
      this.#mend(session);
    } else {
      this.#reconnect({ reason: state === "unreachable" ? "because_no_way" : null });
    }
  }

  #goLive() {
    this.#attempt = 0;
    this.#lost = null;
    this.liveSince ??= Date.now();
    this.#setState("live", this.#words.text("live"));
  }

  /**
   * Keeps to a session that stumbles: what viewers see goes on then, while a session of its own would begin anew for them.
   * Only where there is nothing left to keep, another one is made, and at once.
   */
  async #mend(session) {
    if (this.#mended === session) return;
    this.#mended = session;
    const isMended = await this.#isMended(session);
    if (this.#mended === session) this.#mended = null;
    if (session !== this.#session) return;
    if (isMended) this.#goLive();
    else this.#reconnect({ pause: 0 });
  }

  /**
   * Whether a session has become well: by itself, because its way is there again, or by a new way. A new way is asked for
   * only when the server has just answered: if it agrees to one and nobody hears it, the old way is no more.
   */
  async #isMended(session) {
    const isNeeded = () => session === this.#session && !this.#isWell(session);
    let ways = 0;
    for (let question = 0; isNeeded(); question += 1) {
      const standing = await this.#ask(session, PATIENCES_MS[Math.min(question, PATIENCES_MS.length - 1)]);
      if (standing === "known") {
        await this.#rest(session, session.isConnected ? REPORTS_MAX_MS : CONSENT_MAX_MS);
        if (!isNeeded()) break;
        this.#setState("reconnecting", this.#words.text("stumbled"));
        const hurries = this.#hurries;
        if (ways === WAYS_MAX || !(await this.#findWay(session))) return !isNeeded();
        // One that was cut short, because the network is another one, was not in vain.
        if (hurries === this.#hurries) ways += 1;
      } else if (isNeeded()) {
        this.#setState("reconnecting", this.#words.text("stumbled"));
        if (standing === "lost") this.#lost = session.location;
        // It is over there by now, whoever answers next.
        const isOver = performance.now() - this.#heardAt > LIFE_MAX_MS;
        if (standing !== "silent" || isOver) return false;
        await this.#rest(session, ASK_PAUSE_MS);
      }
    }
    return true;
  }

  /**
   * How a session stands, as of WhipSession.standing; "lost" if its server is silent while the one that sent us there is
   * not. Where nobody answers, our own network may be what is gone.
   */
  async #ask(session, patience) {
    let answeredAt = Infinity;
    if (this.#isSentOn(session)) {
      isReachable(this.#url).then((isReached) => {
        if (isReached) answeredAt = performance.now();
      });
    }
    const asking = new AbortController();
    const silence = this.#woken().then(() => "silent");
    const standing = await Promise.race([session.standing(patience, asking), silence]);
    // Nobody waits for what is asked no more: its connection is free for the next question.
    asking.abort();
    return standing === "silent" && performance.now() - answeredAt > LOST_AFTER_MS ? "lost" : standing;
  }

  /** Whether a session is not where it was asked for. */
  #isSentOn(session) {
    return new URL(session.location).host !== new URL(this.#url, document.baseURI).host;
  }

  /** Looks for a new way and waits until it is one. False if the server will have none. */
  async #findWay(session) {
    const status = await session.restartIce();
    const isForNow = status === 0 || status === 429 || status >= 500;
    if (status !== 200 && !isForNow) return false;
    if (status === 200) this.#agreedAt = performance.now();
    await this.#rest(session, isForNow ? WAY_PAUSE_MS : WAY_MAX_MS);
    return true;
  }

  /** Waits until a session is well, or until there is no reason to wait any more: `max` ms at most. */
  async #rest(session, max) {
    if (session !== this.#session || this.#isWell(session)) return;
    await Promise.race([this.#woken(), new Promise((resolve) => setTimeout(resolve, max))]);
  }

  #woken() {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #handleRefusal(error) {
    const status = error instanceof Refused ? error.status : null;
    if (status === 401 || status === 403) {
      this.#end("key", this.#words.text("publish_key_needed"));
    } else if (status !== null && status >= 400 && status < 500 && status !== 409 && status !== 429) {
      this.#end("refused", refusal(error, this.#words));
    } else {
      const pause = error.retryAfter ? Math.min(error.retryAfter * 1000, RETRY_AFTER_MAX_MS) : null;
      this.#reconnect({ reason: obstacle(error), pause });
    }
  }

  #end(state, message) {
    clearInterval(this.#listener);
    this.#leave();
    this.#settings = null;
    this.liveSince = null;
    this.#setState(state, message);
  }

  /** Whoever still mends the session sees that it is over. */
  #leave() {
    this.#session = null;
    this.#canHurry = false;
    this.#wake();
  }

  /**
   * Makes another session, in `pause` ms, or, by default, some time after the attempt before; `reason` is a key of words.
   */
  #reconnect({ reason = null, pause = null }) {
    clearTimeout(this.#timer);
    this.#session?.close();
    this.#leave();
    this.#attempt += 1;
    this.#setState("reconnecting", this.#words.reconnecting(this.#attempt, reason && this.#words.text(reason)));
    const usual = PAUSES_MS[Math.min(this.#attempt, PAUSES_MS.length) - 1];
    const rest = Math.max(PAUSE_MIN_MS, usual - (performance.now() - this.#attemptedAt));
    // What a server asks for holds, whatever the network does.
    this.#canHurry = pause === null;
    this.#timer = setTimeout(() => this.#connect(), pause ?? rest);
  }

  #setState(state, message) {
    if (this.state === state && this.message === message) return;
    this.state = state;
    this.message = message;
    this.dispatchEvent(new Event("change"));
  }
}
