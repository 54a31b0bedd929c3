// Where the dashboard has its news from: the event stream of the operator API; while there is none, asking again and
// again. EventSource would do but for the token, which it cannot send.

const EVENTS = "/api/v1/events";
const INSTALLATION = "/api/v1/installation";
/** A server that does not answer by then is away. */
const ANSWER_MAX_MS = 5000;
/** The server sends something every second, and every 15 s when it has nothing to say. */
const SILENCE_MAX_MS = 20_000;
/** While there is no stream. */
const POLL_INTERVAL_MS = 2000;
/** So many times it is asked before the stream is tried again. */
const POLLS_A_ROUND = 5;
/** A thousand nodes are far less. */
const LINE_LENGTH_MAX = 64 * 1024 * 1024;

/** The server wants another token, or a token at all. */
class Unauthorized extends Error {
  constructor(words, status) {
    super(words);
    this.status = status;
  }
}
/** There is no operator API at this server. */
class Absent extends Error {}

export class Feed {
  #token;
  #onView;
  #onState;
  #tokenGiven = () => {};
  #abort = new AbortController();

  /**
   * `onView(view)` is called with each state of the installation; `onState(state, words)` with `streaming`, `polling`,
   * `away`, `absent` or `token`; the last one also says whether the server has told more than that it wants a token.
   */
  constructor(token, onView, onState) {
    this.#token = token;
    this.#onView = onView;
    this.#onState = onState;
  }

  /** Goes on until the page ends. */
  async run() {
    for (;;) {
      try {
        await this.#listen();
      } catch (error) {
        if (error instanceof Unauthorized) {
          await this.#waitForToken(error);
          continue;
        }
      }
      await this.#pollForAWhile();
    }
  }

  /** Goes on with another token. */
  useToken(token) {
    this.#token = token;
    this.#tokenGiven();
    this.#abort.abort();
  }

  #waitForToken({ message, status }) {
    const given = new Promise((resolve) => {
      this.#tokenGiven = resolve;
    });
    this.#onState("token", message, status === 403);
    return given;
  }

  /** Listens to the stream until it ends or breaks. */
  async #listen() {
    await this.#patiently(async (signal, waitOn) => {
      const response = await this.#ask(EVENTS, "text/event-stream", signal);
      const lines = new EventLines((type, data) => {
        if (type !== "installation") return;
        this.#onState("streaming");
        this.#onView(JSON.parse(data));
      });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        waitOn(SILENCE_MAX_MS);
        const { value, done } = await reader.read();
        if (done) return;
        lines.push(value);
      }
    });
  }

  async #pollForAWhile() {
    for (let round = 0; round < POLLS_A_ROUND; round += 1) {
      await new Promise((resolve) => {
        setTimeout(resolve, round === 0 ? 0 : POLL_INTERVAL_MS);
      });
      try {
        const view = await this.#patiently(async (signal) => (await this.#ask(INSTALLATION, "application/json", signal)).json());
        this.#onState("polling");
        this.#onView(view);
      } catch (error) {
        if (error instanceof Unauthorized) return;
        this.#onState(error instanceof Absent ? "absent" : "away", error.message);
      }
    }
  }

  async #ask(path, accept, signal) {
    const headers = { Accept: accept };
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
    const response = await fetch(path, { headers, cache: "no-store", signal });
    if (response.ok) return response;
    const words = await reason(response);
    if (response.status === 401 || response.status === 403) throw new Unauthorized(words, response.status);
    if (response.status === 404) throw new Absent(words);
    throw new Error(words);
  }

  /** Does `work(signal, waitOn)`, which is aborted when it takes longer than it said it would wait. */
  async #patiently(work) {
    const stop = new AbortController();
    this.#abort = stop;
    let timer = null;
    const waitOn = (milliseconds) => {
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), milliseconds);
    };
    waitOn(ANSWER_MAX_MS);
    try {
      return await work(stop.signal, waitOn);
    } finally {
      clearTimeout(timer);
      stop.abort();
    }
  }
}

/** What a refusal says of itself (RFC 9457). */
async function reason(response) {
  try {
    const { detail, title } = await response.json();
    return detail ?? title ?? `status ${response.status}`;
  } catch {
    return `status ${response.status}`;
  }
}

/** Takes a text/event-stream apart, however it is cut into pieces; a line may be long and come in many of them. */
export class EventLines {
  #onEvent;
  #pieces = [];
  #length = 0;
  #type = "";
  #data = [];

  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  push(text) {
    let start = 0;
    for (let end = text.indexOf("\n"); end !== -1; end = text.indexOf("\n", start)) {
      this.#pieces.push(text.slice(start, end));
      const line = this.#pieces.join("");
      this.#pieces = [];
      this.#length = 0;
      start = end + 1;
      this.#take(line.endsWith("\r") ? line.slice(0, -1) : line);
    }
    this.#pieces.push(text.slice(start));
    this.#length += text.length - start;
    if (this.#length > LINE_LENGTH_MAX) throw new Error("a line without an end");
  }

  #take(line) {
    if (line === "") {
      if (this.#data.length > 0) this.#onEvent(this.#type || "message", this.#data.join("\n"));
      this.#type = "";
      this.#data = [];
      return;
    }
    const colon = line.indexOf(":");
    const name = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "event") this.#type = value;
    if (name === "data") this.#data.push(value);
  }
}
