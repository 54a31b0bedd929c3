// The panel for whoever publishes with an encoder: what to copy into it.

const at = (id) => document.getElementById(id);

export class EncoderPanel {
  #broadcast;

  /** `broadcast` is a name. */
  constructor(broadcast) {
    this.#broadcast = broadcast;
    at("obs-server").value = `${location.origin}/whip/${encodeURIComponent(broadcast)}`;
    this.#showRtmp();
  }

  /** The key for publishing, as it stands in the form; empty if there is none. */
  setKey(key) {
    at("obs-token").value = key;
    at("rtmp-key").value = key ? `${this.#broadcast}?key=${encodeURIComponent(key)}` : this.#broadcast;
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
}
