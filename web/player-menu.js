// The settings of a player, in a dialog: they stand above everything, hold the focus, and close with Escape.

import { element, setAttribute, setHidden, setText, translate } from "./dom.js";
import { shownLayer } from "./player-figures.js";
import { KEYS } from "./player-keys.js";
import { iconButton } from "./player-view.js";

/** Between the dialog and the edges of what it stands on. */
const MARGIN = 8;
const BAR_HEIGHT = 56;

export class PlayerMenu {
  #words = null;
  #layers = element("div", { class: "mt-choices" });
  #quality = element("fieldset", { id: "quality", hidden: "" }, element("legend", { "data-word": "quality" }), this.#layers);
  #audioOnly = check("audio-only", "sound_only");
  #statistics = check("statistics", "statistics", "I");
  #latency = element(
    "fieldset",
    { id: "latency" },
    element("legend", { "data-word": "delay" }),
    element("div", { class: "mt-choices" }, radio("latency", "lowest", "delay_lowest"), radio("latency", "smooth", "delay_smooth")),
    element("p", { class: "mt-hint", "data-word": "delay_hint" }),
  );
  #volume = element("input", { id: "volume", type: "range", min: "0", max: "1", step: "0.05" });
  #floating = element("button", { id: "floating", type: "button", "aria-keyshortcuts": "P", "data-word": "picture_in_picture" });
  #embed = element("button", { id: "embed", type: "button", "data-word": "embed" });
  #embedCode = element("textarea", { id: "embed-code", rows: "3", readonly: "", hidden: "", "data-name": "embed_code" });
  #copied = element("p", { class: "mt-hint", role: "status" });
  #keys = element("details", { id: "keys" }, element("summary", { "data-word": "keys" }), keyList());
  #title = element("h2", { id: "menu-title", "data-word": "settings" });

  /** The element. */
  dialog;

  /**
   * `change(name, value)` is called with "layer" (null: automatic), "isAudioOnly", "latency", "volume", "statistics"
   * and "floating" when the user wants that.
   */
  constructor(change) {
    const close = iconButton("close", "close", "close");
    const head = element("div", { class: "mt-menu-head" }, this.#title, close);
    const volume = element("div", { class: "mt-field" }, element("label", { for: "volume", "data-word": "volume" }), this.#volume);
    const buttons = element("div", { class: "mt-buttons" }, this.#floating, this.#embed);
    const checks = element("div", { class: "mt-choices mt-checks" }, this.#audioOnly, this.#statistics);
    this.dialog = element(
      "dialog",
      { id: "menu", class: "mt-menu", "aria-labelledby": "menu-title" },
      head,
      this.#quality,
      checks,
      this.#latency,
      volume,
      buttons,
      this.#embedCode,
      this.#copied,
      this.#keys,
    );
    close.addEventListener("click", () => this.close());
    this.dialog.addEventListener("click", (event) => this.#isAround(event) && this.close());
    const ofLayer = ({ target }) => change("layer", target.value === "" ? null : target.value);
    this.#layers.addEventListener("change", ofLayer);
    this.#audioOnly.addEventListener("change", ({ target }) => change("isAudioOnly", target.checked));
    this.#statistics.addEventListener("change", ({ target }) => change("statistics", target.checked));
    this.#latency.addEventListener("change", ({ target }) => change("latency", target.value));
    this.#volume.addEventListener("input", () => change("volume", this.#volume.valueAsNumber));
    this.#floating.addEventListener("click", () => change("floating"));
    this.#embed.addEventListener("click", () => this.#copy());
  }

  /** Opens beside the edges of `anchor`; with `isHelp` to show the keys. */
  open(anchor, isHelp) {
    if (isHelp) this.#keys.open = true;
    if (!this.dialog.open) this.dialog.showModal();
    this.place(anchor);
    if (isHelp) this.#keys.firstElementChild.focus();
  }

  close() {
    this.dialog.close();
  }

  /** Whether a click was beside the dialog: it takes those too. */
  #isAround({ target, clientX, clientY }) {
    const { left, right, top, bottom } = this.dialog.getBoundingClientRect();
    return target === this.dialog && (clientX < left || clientX > right || clientY < top || clientY > bottom);
  }

  /** Stands above the bar of the player, at the right, if there is room; its style says where it stands if not. */
  place(anchor) {
    const { right, bottom } = anchor.getBoundingClientRect();
    const { innerWidth: width, innerHeight: height } = window;
    const { style, offsetWidth, offsetHeight } = this.dialog;
    const within = (wanted, size, room) => Math.max(MARGIN, Math.min(wanted, room - size - MARGIN));
    style.setProperty("--right", `${within(width - right + MARGIN, offsetWidth, width)}px`);
    style.setProperty("--bottom", `${within(height - bottom + BAR_HEIGHT + MARGIN, offsetHeight, height)}px`);
  }

  /** `height` is that of the picture on screen; `embedCode` is null where there is none to give. */
  show(player, { words, height, hasStatistics, embedCode }) {
    if (this.#words !== words) this.#translate(words);
    this.#showLayers(player, height);
    this.#audioOnly.firstElementChild.checked = player.isAudioOnly;
    this.#statistics.firstElementChild.checked = hasStatistics;
    setHidden(this.#latency, !player.hasLatency);
    for (const input of this.#latency.querySelectorAll("input")) input.checked = input.value === player.latency;
    if (this.#volume.valueAsNumber !== player.volume) this.#volume.value = player.volume;
    setHidden(this.#floating, !document.pictureInPictureEnabled || player.isAudioOnly);
    setHidden(this.#embed, embedCode === null);
    if (this.#embedCode.value !== (embedCode ?? "")) this.#embedCode.value = embedCode ?? "";
  }

  #translate(words) {
    this.#words = words;
    translate(this.dialog, words);
    // Made anew with the next look.
    this.#layers.replaceChildren();
  }

  /** One layer is no choice. */
  #showLayers(player, height) {
    const { layers, layer: chosen } = player;
    setHidden(this.#quality, layers.length < 2 || player.isAudioOnly);
    const shown = chosen === null ? shownLayer(height, layers) : null;
    const wanted = [
      ["", this.#words.text("automatic") + (shown ? ` (${this.#words.layer(shown)})` : "")],
      ...layers.map((layer) => [layer.name, this.#nameOf(layer)]),
    ];
    const list = this.#layers;
    if (list.children.length !== wanted.length || wanted.some(([name], at) => list.children[at].firstElementChild.value !== name)) {
      list.replaceChildren(...wanted.map(([name]) => radio("layer", name)));
    }
    wanted.forEach(([name, text], index) => {
      const [input, label] = list.children[index].children;
      input.checked = name === (chosen ?? "");
      setText(label, text);
    });
  }

  #nameOf(layer) {
    const name = this.#words.layer(layer);
    return layer.isActive ? name : this.#words.text("layer_away", { layer: name });
  }

  async #copy() {
    const field = this.#embedCode;
    setHidden(field, false);
    try {
      await navigator.clipboard.writeText(field.value);
      setText(this.#copied, this.#words.text("embed_copied"));
    } catch {
      // Without HTTPS, or in a frame that may not, there is no clipboard: what is selected can be copied by hand.
      field.select();
      setText(this.#copied, this.#words.text("embed_by_hand"));
    }
  }
}

function radio(name, value, word) {
  const text = element("span", word ? { "data-word": word } : {});
  return element("label", {}, element("input", { type: "radio", name: `mt-${name}`, value }), text);
}

function check(id, word, shortcut) {
  const input = element("input", { id, type: "checkbox" });
  setAttribute(input, "aria-keyshortcuts", shortcut ?? null);
  return element("label", {}, input, element("span", { "data-word": word }));
}

function keyList() {
  const rows = KEYS.map(({ caps, says }) => {
    const names = caps.map((cap) => (cap.startsWith("key_") ? element("kbd", { "data-word": cap }) : element("kbd", {}, cap)));
    return element("div", {}, element("dt", {}, ...names), element("dd", { "data-word": says }));
  });
  return element("dl", {}, ...rows);
}
