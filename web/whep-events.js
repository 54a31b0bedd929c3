// Server-sent events of a WHEP session (WHEP, "Server Sent Events extension"): which server has them, and listening to
// them for as long as the session lasts. EventSource would do but for the token, which it cannot send.

import { links } from "./endpoint.js";

const EXTENSION = "urn:ietf:params:whep:ext:core:server-sent-events";
/** Pauses before a stream that broke is asked for again; the last one repeats. */
const PAUSES_MS = [500, 1000, 2000, 5000, 10_000];
/** A server that does not answer by then is away. */
const ANSWER_MAX_MS = 5000;
/** Our server sends something every 15 s: a stream that is silent for longer has lost its other end. */
const SILENCE_MAX_MS = 45_000;
/** What a line may have at most. */
const LINE_LENGTH_MAX = 65_536;
/** Types that are asked for only of a server that says it has them: others refuse the whole stream. */
const NAMED_TYPES = ["layers", "cue"];
/** Over HTTP/1.1 a browser opens six connections to a server, for all its pages: this many of them may be streams. */
const STREAMS_MAX = 4;

/** Where `Link` headers say that event streams are made, and the types of event there are (null: not said); or null. */
export function eventsEntry(linkHeader, base) {
  const link = [...links(linkHeader ?? "")].find(({ rel }) => rel === EXTENSION);
  if (!link) return null;
  try {
    // What WHEP does not know, our server names apart.
    const named = [link.events, link["more-events"]].filter(Boolean).join(",");
    const types = link.events === undefined ? null : named.split(",").map((type) => type.trim());
    return { url: new URL(link.target, base).href, types };
  } catch {
    return null;
  }
}

export class SessionEvents {
  #entry;
  #token;
  #types;
  #onEvent;
  #url = null;
  #isClosed = false;
  /** Ends what is being waited for. */
  #interrupt = () => {};

  /**
   * Listens to those of `types` that the server has; `entry` as of eventsEntry. `onEvent(type, data)` is called with
   * parsed data until close().
   */
  constructor(entry, token, types, onEvent) {
    this.#entry = entry.url;
    this.#token = token;
    this.#types = types.filter((type) => entry.types?.includes(type) ?? !NAMED_TYPES.includes(type));
    this.#onEvent = onEvent;
    if (this.#types.length > 0) this.#run();
  }

  /** The streams of a session end with it on the server. */
  close() {
    this.#isClosed = true;
    this.#interrupt();
  }

  async #run() {
    const release = await this.#takeSlot();
    let attempt = 0;
    while (!this.#isClosed) {
      try {
        this.#url ??= await this.#create();
        // The session is no more, or the server wants no listener.
        if (this.#url === null) break;
        await this.#listen(() => {
          attempt = 0;
        });
      } catch {
        // Whoever is away may come back.
      }
      const pause = PAUSES_MS[Math.min(attempt, PAUSES_MS.length - 1)];
      await this.#pause(pause * (0.75 + Math.random() / 2));
      attempt += 1;
    }
    release();
  }

  /** Makes a stream; its URL, or null if there will be none. */
  async #create() {
    const headers = this.#headers({ "Content-Type": "application/json" });
    const body = JSON.stringify(this.#types);
    const response = await this.#patiently((signal) => fetch(this.#entry, { method: "POST", headers, body, signal }));
    const location = response.headers.get("Location");
    if (response.status === 201 && location) return new URL(location, response.url).href;
    if (response.status >= 400 && response.status < 500 && response.status !== 429) return null;
    throw new Error(`the server answered ${response.status}`);
  }

  /** Calls `onBegin` when the stream is there; resolves or rejects when it is over. */
  #listen(onBegin) {
    return this.#patiently(async (signal, waitOn) => {
      const headers = this.#headers({ Accept: "text/event-stream" });
      const response = await fetch(this.#url, { headers, cache: "no-store", signal });
      if (response.status === 404) this.#url = null;
      if (response.status !== 200) return;
      onBegin();
      const parser = new EventParser((type, data) => this.#handle(type, data));
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        waitOn(SILENCE_MAX_MS);
        const { value, done } = await reader.read();
        if (done) return;
        parser.push(value);
      }
    });
  }

  /** Does `work(signal, waitOn)`, which is aborted by close(), or when it takes longer than it said it would wait. */
  async #patiently(work) {
    const stop = new AbortController();
    let timer = null;
    const waitOn = (milliseconds) => {
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), milliseconds);
    };
    this.#interrupt = () => stop.abort();
    if (this.#isClosed) stop.abort();
    waitOn(ANSWER_MAX_MS);
    try {
      return await work(stop.signal, waitOn);
    } finally {
      clearTimeout(timer);
      // Whatever is left of an answer is not waited for.
      stop.abort();
    }
  }

  #handle(type, text) {
    if (this.#isClosed) return;
    let data = {};
    try {
      data = JSON.parse(text) ?? {};
    } catch {
      // The type says what happened, even without its data.
    }
    this.#onEvent(type, data);
  }

  /** Waits for one of the few streams that pages may have; resolves to what gives it back. */
  async #takeSlot() {
    // HTTP/2, which browsers speak over TLS only, has room for all.
    if (new URL(this.#entry).protocol === "https:") return () => {};
    for (let number = 0; !this.#isClosed; number = (number + 1) % STREAMS_MAX) {
      const release = await takeLock(`events ${new URL(this.#entry).origin} ${number}`);
      if (release) return release;
      if (number === STREAMS_MAX - 1) await this.#pause(PAUSES_MS.at(-1));
    }
    return () => {};
  }

  /** Resolves early when closed. */
  #pause(milliseconds) {
    if (this.#isClosed) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#interrupt = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #headers(headers) {
    return this.#token ? { ...headers, Authorization: `Bearer ${this.#token}` } : headers;
  }
}

/** Names that are taken where there are no locks. */
const taken = new Set();

/**
 * Takes a lock that all pages of this origin share, if it is free: what gives it back, or null. Over plain HTTP browsers have
 * none; the players of this page share it then.
 */
async function takeLock(name) {
  if (!navigator.locks) {
    if (taken.has(name)) return null;
    taken.add(name);
    return () => taken.delete(name);
  }
  return new Promise((resolve) => {
    navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      if (!lock) return resolve(null);
      return new Promise((release) => {
        resolve(release);
      });
    });
  });
}

/** Takes a text/event-stream apart, however it is cut into pieces. */
class EventParser {
  #onEvent;
  #rest = "";
  #type = "";
  #data = [];

  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  push(text) {
    // A return at the very end may be the first half of a line end.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    if (this.#rest.length > LINE_LENGTH_MAX) throw new Error("a line without an end");
    for (const line of lines) this.#take(line);
  }

  #take(line) {
    if (line === "") {
      if (this.#data.length > 0) this.#onEvent(this.#type || "message", this.#data.join("\n"));
      this.#type = "";
      this.#data = [];
      return;
    }
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "event") this.#type = value;
    if (name === "data") this.#data.push(value);
  }
}
