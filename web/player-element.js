// <media-tree-player>: a player for any page. docs/embedding.md tells its attributes, properties and events.

import { element, setAttribute, setHidden, setLabel, setText, translate } from "./dom.js";
import { Player } from "./player.js";
import { Figures, rows } from "./player-figures.js";
import { meaning } from "./player-keys.js";
import { PlayerMenu } from "./player-menu.js";
import { ICONS, showFigures, view } from "./player-view.js";
import { wordsFor } from "./words.js";

const FIGURES_INTERVAL_MS = 1000;
/** The bar goes after so long without a touch. */
const REST_AFTER_MS = 3000;
const VOLUME_STEP = 0.1;
/** A caption that does not say how long it lasts. */
const CAPTION_SECONDS = 5;
/** Where it is remembered whether captions are wanted. */
const CAPTIONS_KEY = "media-tree captions";

export class MediaTreePlayer extends HTMLElement {
  static observedAttributes = ["src", "token", "muted", "lang", "audio-only", "latency", "captions", "data-channel"];

  #parts = null;
  #menu = null;
  /** While the element is on a page and has a `src`. */
  #player = null;
  /** Ends what listens beyond this element. */
  #listening = null;
  #token = null;
  #words = wordsFor();
  #figures = new Figures();
  #latest = null;
  #figuresTimer = null;
  #restTimer = null;
  /** What the page has been told. */
  #told = {};
  #wantsCaptions = rememberedCaptions();
  /** Whether the broadcast has any, as far as is known. */
  #hasCaptions = false;
  /** The one that lasts: `{ text, language }`, or null. */
  #caption = null;
  #captionTimer = null;

  // What the page sets and the user changes is kept here for the players to come.
  #settings = { isMuted: false, volume: 1, isAudioOnly: false, latency: "lowest", hasDataChannel: false, layer: null };

  connectedCallback() {
    if (this.#listening) {
      // Moving a video stops it.
      if (this.#player) this.#player.isPaused = this.#player.isPaused;
      return;
    }
    if (!this.#parts) this.#build();
    this.#listen();
    this.#start();
  }

  disconnectedCallback() {
    // Whoever only moves it on the page goes on watching.
    queueMicrotask(() => {
      if (this.isConnected) return;
      this.#listening?.abort();
      this.#listening = null;
      clearInterval(this.#figuresTimer);
      clearTimeout(this.#restTimer);
      clearTimeout(this.#captionTimer);
      this.#end();
    });
  }

  attributeChangedCallback(name, before, value) {
    if (before === value) return;
    if (name === "muted") this.#set("isMuted", value !== null);
    if (name === "audio-only") this.#set("isAudioOnly", value !== null);
    if (name === "captions") this.captions = value !== null;
    if (name === "data-channel") this.#set("hasDataChannel", value !== null);
    if (name === "latency") this.#set("latency", value ?? "lowest");
    if (name === "lang") this.#translate();
    if (name === "token") this.#takeToken(value);
    if (name === "src" && this.#listening) this.#start();
  }

  /** As of Player. */
  get state() {
    return this.#player?.state ?? "idle";
  }

  /** The state in words. */
  get message() {
    return this.#player?.message ?? "";
  }

  /** The host that serves what is on screen, or null. */
  get server() {
    return this.#player?.server ?? null;
  }

  /** The video element on screen, or null; another takes its place when the server moves. */
  get video() {
    return this.#player?.video ?? null;
  }

  get muted() {
    return this.#settings.isMuted;
  }

  set muted(isMuted) {
    this.#set("isMuted", Boolean(isMuted));
  }

  get volume() {
    return this.#settings.volume;
  }

  set volume(volume) {
    if (Number.isFinite(volume)) this.#set("volume", Math.min(1, Math.max(0, volume)));
  }

  get paused() {
    return this.#player?.isPaused ?? false;
  }

  /** What the picture can be chosen from; empty if there is no choice. */
  get layers() {
    return this.#player?.layers ?? [];
  }

  /** The name of the layer that was chosen; null leaves the choice to the server. */
  get layer() {
    return this.#settings.layer;
  }

  set layer(name) {
    this.#set("layer", name === null ? null : String(name));
  }

  /** Whether captions are shown where there are any. */
  get captions() {
    return this.#wantsCaptions;
  }

  set captions(areWanted) {
    this.#wantsCaptions = Boolean(areWanted);
    this.#showCaptions();
  }

  play() {
    if (this.#player) this.#player.isPaused = false;
  }

  pause() {
    if (this.#player) this.#player.isPaused = true;
  }

  /** The statistics of the session on screen as the browser gives them, by kind; null without one. */
  stats() {
    return this.#player?.stats() ?? Promise.resolve(null);
  }

  #build() {
    const parts = (this.#parts = view());
    this.#menu = new PlayerMenu((name, value) => this.#change(name, value));
    parts.player.append(this.#menu.dialog);
    if (this.hasAttribute("no-shadow")) {
      this.append(parts.player);
    } else {
      const href = new URL("player.css", import.meta.url).href;
      const style = element("link", { rel: "stylesheet", href });
      // Nothing is shown that is not in order yet.
      setHidden(parts.player, true);
      for (const done of ["load", "error"]) style.addEventListener(done, () => setHidden(parts.player, false));
      this.attachShadow({ mode: "open" }).append(style, parts.player);
    }
    const { play, mute, soundOn, captions, fullScreen, settings, form, key } = parts;
    play.addEventListener("click", () => this.#act("pause"));
    for (const button of [mute, soundOn]) button.addEventListener("click", () => this.#act("mute"));
    fullScreen.addEventListener("click", () => this.#act("fullScreen"));
    captions.addEventListener("click", () => this.#act("captions"));
    settings.addEventListener("click", () => this.#openMenu(false));
    this.#menu.dialog.addEventListener("close", () => settings.setAttribute("aria-expanded", "false"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#token = key.value;
      this.#player?.start(this.#token);
    });
    parts.player.addEventListener("dblclick", ({ target }) => !target.closest("button, dialog, form") && this.#act("fullScreen"));
    parts.player.addEventListener("pointerdown", (event) => this.#touch(event));
    parts.player.addEventListener("pointermove", ({ pointerType }) => pointerType !== "touch" && this.#wake());
    parts.player.addEventListener("focusin", () => this.#wake());
    this.#translate();
  }

  #listen() {
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    const isOfPage = this.getAttribute("keys") === "page";
    (isOfPage ? document : this).addEventListener("keydown", (event) => this.#press(event), { signal });
    addEventListener("resize", () => this.#menu.place(this.#parts.player), { signal });
    addEventListener("pagehide", () => this.#player?.stop(), { signal });
    addEventListener("pageshow", ({ persisted }) => persisted && this.#player?.start(this.#token), { signal });
    document.addEventListener("fullscreenchange", () => this.#wake(), { signal });
    this.#figuresTimer = setInterval(() => this.#showFigures(), FIGURES_INTERVAL_MS);
  }

  #start() {
    this.#end();
    this.#hasCaptions = false;
    this.#say(null);
    const url = this.#endpoint();
    if (url) {
      const player = (this.#player = new Player(this.#parts.stage, url));
      player.words = this.#words;
      for (const [name, value] of Object.entries(this.#settings)) player[name] = value;
      player.start(this.#token);
      player.addEventListener("change", () => player === this.#player && this.#show());
      player.addEventListener("ended", () => player === this.#player && this.#tell("ended"));
      player.addEventListener("cue", ({ detail }) => player === this.#player && this.#takeCue(detail));
    }
    this.#show();
  }

  /** Who watches goes on watching; whoever was turned away, or has not begun, tries with it. */
  #takeToken(token) {
    this.#token = token;
    if (!this.#listening) return;
    if (["idle", "key", "refused"].includes(this.state)) this.#start();
    else this.#player.token = token;
  }

  #end() {
    const player = this.#player;
    this.#player = null;
    player?.stop();
  }

  /** The URL of `src`, or null. */
  #endpoint() {
    const src = this.getAttribute("src");
    if (!src) return null;
    try {
      return new URL(src, document.baseURI).href;
    } catch {
      return null;
    }
  }

  #set(name, value) {
    this.#settings[name] = value;
    if (this.#player) this.#player[name] = value;
  }

  #translate() {
    this.#words = wordsFor(this.getAttribute("lang"));
    if (!this.#parts) return;
    const { player, stage } = this.#parts;
    player.lang = this.#words.language;
    player.setAttribute("aria-label", this.#words.text("player"));
    for (const video of stage.querySelectorAll("video")) video.setAttribute("aria-label", this.#words.text("picture"));
    translate(player, this.#words);
    if (this.#player) this.#player.words = this.#words;
    this.#show();
  }

  /** What the user has chosen in the menu. */
  #change(name, value) {
    if (name === "statistics") this.#act("statistics");
    else if (name === "floating") this.#act("floating");
    else this.#set(name, value);
  }

  #press(event) {
    const action = this.#player && meaning(event);
    if (!action) return;
    const isInside = event.composedPath().includes(this);
    // Elsewhere on a page the arrows scroll it.
    if (action === "volume" && !isInside && document.documentElement.scrollHeight > innerHeight) return;
    event.preventDefault();
    this.#wake();
    this.#act(action, event.key === "ArrowDown" ? -VOLUME_STEP : VOLUME_STEP);
  }

  #act(action, step = 0) {
    const player = this.#player;
    if (!player) return;
    if (action === "pause") player.isPaused = !player.isPaused;
    if (action === "mute") this.muted = !this.muted;
    if (action === "volume") this.volume = Math.round((this.volume + step) * 100) / 100;
    if (action === "fullScreen") this.#toggleFullScreen();
    if (action === "floating") this.#toggleFloating();
    if (action === "captions") this.#toggleCaptions();
    if (action === "statistics") this.#toggleStatistics();
    if (action === "help") this.#openMenu(true);
  }

  #toggleFullScreen() {
    this.#menu.close();
    if (document.fullscreenElement) document.exitFullscreen();
    else if (this.requestFullscreen) this.requestFullscreen().catch(() => {});
    // iPhones give the whole screen to a video only.
    else this.video?.webkitEnterFullscreen?.();
  }

  #toggleFloating() {
    this.#menu.close();
    const { video } = this;
    if (document.pictureInPictureElement) document.exitPictureInPicture().catch(() => {});
    else if (document.pictureInPictureEnabled) video?.requestPictureInPicture?.().catch(() => {});
  }

  #toggleCaptions() {
    this.captions = !this.captions;
    try {
      localStorage.setItem(CAPTIONS_KEY, this.captions ? "on" : "off");
    } catch {
      // In a frame that may not remember anything, it holds until the page goes.
    }
  }

  #takeCue(cue) {
    if (cue.kind === "caption") {
      this.#hasCaptions = true;
      this.#say(cue.text === "" ? null : cue);
    }
    this.#tell("cue", cue);
  }

  /** This caption lasts from now on; null ends the one that does. */
  #say(caption) {
    clearTimeout(this.#captionTimer);
    this.#caption = caption;
    if (caption) this.#captionTimer = setTimeout(() => this.#say(null), (caption.duration ?? CAPTION_SECONDS) * 1000);
    this.#showCaptions();
  }

  #showCaptions() {
    if (!this.#parts) return;
    const { caption, captions } = this.#parts;
    setHidden(captions, !this.#hasCaptions);
    setAttribute(captions, "aria-pressed", this.#wantsCaptions);
    const shown = this.#wantsCaptions ? this.#caption : null;
    setAttribute(caption, "lang", shown?.language ?? null);
    setText(caption, shown?.text ?? "");
  }

  #toggleStatistics() {
    const { figures } = this.#parts;
    setHidden(figures, !figures.hidden);
    this.#show();
    this.#showFigures();
  }

  #openMenu(isHelp) {
    this.#parts.settings.setAttribute("aria-expanded", "true");
    this.#show();
    this.#menu.open(this.#parts.player, isHelp);
  }

  /** Whether nobody misses the bar. */
  get #mayRest() {
    const { player } = this.#parts;
    return this.state === "live" && !this.paused && !this.#menu.dialog.open && !player.querySelector(":focus-visible");
  }

  #rest() {
    if (this.#mayRest) this.#parts.player.classList.add("mt-resting");
  }

  #wake() {
    this.#parts.player.classList.remove("mt-resting");
    clearTimeout(this.#restTimer);
    this.#restTimer = setTimeout(() => this.#rest(), REST_AFTER_MS);
  }

  /** A finger on the picture brings the bar, and takes it away. */
  #touch({ pointerType, target }) {
    const { player } = this.#parts;
    const isOnPicture = !target.closest("button, .mt-bar, .mt-figures, form, dialog");
    const isResting = player.classList.contains("mt-resting");
    this.#wake();
    if (pointerType === "touch" && isOnPicture && !isResting) this.#rest();
  }

  #show() {
    if (!this.#parts) return;
    const { player, badge, notice, soundOn, form } = this.#parts;
    const { state, message, paused } = this;
    const isLive = state === "live";
    const isAudioOnly = this.#settings.isAudioOnly;
    setText(badge, message);
    player.dataset.state = state;
    const words = isLive && isAudioOnly ? this.#words.text("sound_only") : message;
    setText(notice, state === "connecting" ? `${message} …` : words);
    setHidden(notice, state === "idle" || state === "key" || (isLive && !isAudioOnly));
    setHidden(form, state !== "key");
    const hasSound = isLive || state === "stalled" || (state === "unplayable" && this.video !== null);
    setHidden(soundOn, !(this.#isMuted && hasSound));
    this.#showButtons(paused);
    this.#showMenu();
    if (!isLive || paused) this.#wake();
    this.#report({ state, message, paused });
  }

  /** The browser may have refused to play with sound. */
  get #isMuted() {
    return this.#player?.isMuted ?? this.#settings.isMuted;
  }

  #showButtons(isPaused) {
    const { play, mute } = this.#parts;
    const isMuted = this.#isMuted;
    this.#settings.isMuted = isMuted;
    setIcon(play, isPaused ? "play" : "pause");
    setLabel(play, this.#words.text(isPaused ? "play" : "pause"));
    setIcon(mute, isMuted ? "silent" : "sound");
    setLabel(mute, this.#words.text(isMuted ? "unmute" : "mute"));
  }

  #showMenu() {
    if (!this.#player) return;
    this.#settings.layer = this.#player.layer;
    this.#menu.show(this.#player, {
      words: this.#words,
      height: this.#latest?.height ?? null,
      hasStatistics: !this.#parts.figures.hidden,
      embedCode: this.#embedCode(),
    });
  }

  /** A frame for other pages; null where the endpoint is not one of Media-Tree. */
  #embedCode() {
    const { origin, pathname } = new URL(this.#endpoint());
    const name = /^\/whep\/([^/]+)$/.exec(pathname)?.[1];
    if (!name) return null;
    const style = "width: 100%; aspect-ratio: 16 / 9; border: 0";
    const allow = "autoplay; fullscreen; picture-in-picture; clipboard-write";
    return `<iframe src="${origin}/embed/${name}" allow="${allow}" style="${style}"></iframe>`;
  }

  async #showFigures() {
    const player = this.#player;
    const figures = player && (await this.#figures.take(player));
    if (!figures || player !== this.#player) return;
    const hasNewHeight = figures.height !== this.#latest?.height;
    this.#latest = figures;
    const { delay, figures: list } = this.#parts;
    const isKnown = this.state === "live" && figures.delayMs !== null;
    setText(delay, isKnown ? this.#words.text("behind", { delay: this.#words.delay(figures.delayMs) }) : "");
    if (!list.hidden) showFigures(list, rows(figures, player.layers, this.#words));
    if (hasNewHeight) this.#showMenu();
    this.#tell("stats", figures);
  }

  /** Tells the page what it does not know yet. */
  #report({ state, message, paused }) {
    const told = this.#told;
    const { layers, layer } = this;
    const now = {
      state: `${state} ${message} ${paused}`,
      volumechange: `${this.#isMuted} ${this.volume}`,
      layers: JSON.stringify([layers, layer]),
    };
    this.#told = now;
    if (now.state !== told.state) this.#tell("state", { state, message, paused });
    if (told.volumechange !== undefined && now.volumechange !== told.volumechange) this.#tell("volumechange");
    if (now.layers !== told.layers && (layers.length > 0 || told.layers !== undefined)) this.#tell("layers", { layers, layer });
  }

  #tell(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function rememberedCaptions() {
  try {
    return localStorage.getItem(CAPTIONS_KEY) === "on";
  } catch {
    return false;
  }
}

function setIcon(button, name) {
  const path = button.querySelector("path");
  if (path.getAttribute("d") !== ICONS[name]) path.setAttribute("d", ICONS[name]);
}

if (!customElements.get("media-tree-player")) customElements.define("media-tree-player", MediaTreePlayer);
