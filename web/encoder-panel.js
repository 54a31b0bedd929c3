// The panel for whoever publishes with an encoder: what to copy into it, and, while it publishes, what could be better.

import { showAdvice } from "./advice.js";
import { adviceAt } from "./endpoint.js";

/** How often the server is asked while the panel is open. It may have to ask another server itself. */
const ADVICE_INTERVAL_MS = 5000;

const at = (id) => document.getElementById(id);

export class EncoderPanel {
  #broadcast;
  #url;
  #words;
  #key = "";
  /** The key that the server has refused: it is shown again when the panel is opened anew. */
  #refused = null;
  #isPaused = false;
  #isAsking = false;

  /** `broadcast` is a name; what is said is said in `words`. */
  constructor(broadcast, words) {
    this.#broadcast = broadcast;
    this.#words = words;
    this.#url = `${location.origin}/whip/${encodeURIComponent(broadcast)}`;
    at("obs-server").value = this.#url;
    this.#showRtmp();
    setInterval(() => this.#ask(), ADVICE_INTERVAL_MS);
    at("encoder").addEventListener("toggle", () => {
      this.#refused = null;
      this.#ask();
    });
  }

  /** The key for publishing, as it stands in the form; empty if there is none. */
  setKey(key) {
    this.#key = key;
    at("obs-token").value = key;
    at("rtmp-key").value = key ? `${this.#broadcast}?key=${encodeURIComponent(key)}` : this.#broadcast;
  }

  /** While this page publishes itself, its own advice stands elsewhere. */
  setPaused(isPaused) {
    if (this.#isPaused === isPaused) return;
    this.#isPaused = isPaused;
    if (isPaused) this.#show("", []);
  }

  /** RTMP knows no redirects: its fields are there where this node takes it from here. */
  async #showRtmp() {
    const response = await fetch("/api/v1/publishing", { cache: "no-store" }).catch(() => null);
    const { rtmp } = response?.ok ? await response.json() : { rtmp: null };
    if (!rtmp) return;
    // Encoders do not agree on the port that rtmps has by itself.
    const port = rtmp.scheme === "rtmp" && rtmp.port === 1935 ? "" : `:${rtmp.port}`;
    at("rtmp-server").value = `${rtmp.scheme}://${location.hostname}${port}/live`;
    at("rtmp").hidden = false;
  }

  /** Without a key it is asked, too: there may be no need for one. */
  async #ask() {
    const key = this.#key;
    if (!at("encoder").open || document.hidden || this.#isPaused || this.#isAsking || this.#refused === key) return;
    this.#isAsking = true;
    const { status, advice, code } = await adviceAt(this.#url, key || null);
    this.#isAsking = false;
    if (this.#isPaused || this.#key !== key) return;
    if (advice) {
      this.#show(advice.length > 0 ? "advice" : "encoder_well", advice);
    } else if (code === "not-published") {
      this.#show("encoder_nobody", []);
    } else if (status === 401 || status === 403) {
      this.#refused = key;
      this.#show(key ? "encoder_refused" : "encoder_key", []);
    } else {
      // Whatever was said before may not be true any more.
      this.#show("encoder_unknown", []);
    }
  }

  #show(word, advice) {
    const text = word && this.#words.text(word);
    if (at("encoder-state").textContent !== text) at("encoder-state").textContent = text;
    showAdvice(at("encoder-advice"), advice, this.#words);
  }
}
