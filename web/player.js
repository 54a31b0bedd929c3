// Keeps one broadcast on screen: opens WHEP sessions, replaces those that fail, waits for the broadcaster, goes where
// the server sends it.
//
// A replacement is opened beside the old session and takes its place with its first picture, so that nothing goes
// dark in between; the old one is closed after that. While the old one still plays, the new one takes over only when it
// shows the same moment: it begins a few seconds in the past and catches up.

import { Cues } from "./cues.js";
import { Refused, withoutServer } from "./endpoint.js";
import { isHeld, layersOf } from "./layers.js";
import { LipSync } from "./lip-sync.js";
import { Places } from "./places.js";
import { obstacle, refusal } from "./refusals.js";
import { WhepSession, hasBuffer } from "./whep.js";
import { english } from "./words.js";

/** Pauses before the attempts to reconnect; the last one repeats. */
const PAUSES_MS = [0, 500, 1000, 2000, 3000, 5000];
/** The least of them while the old session still plays: nobody is in a hurry then. */
const MOVE_PAUSE_MS = 1000;
/** How often a broadcast that is not there is asked for again, unless the server says otherwise. */
const WAITING_PAUSE_MS = 2000;
const PAUSE_MAX_MS = 10_000;
/** How often it is checked whether media still flows. */
const CHECK_INTERVAL_MS = 250;
/** Without new media for so long, the broadcaster is away. */
const SILENCE_MAX_MS = 2500;
/**
 * Without a picture for so long, nothing is well; without sound as well, the server is asked whether it is still there, each
 * viewer a little later than another. A host that is lost is so left long before ICE gives up.
 */
const PROBE_AFTER_MS = 600;
const PROBE_SPREAD_MS = 300;
/** Sound that came within this time goes on. */
const SOUND_MAX_MS = 1000;
/** So many pictures that have come in such a time, and not one of them decoded: this browser cannot do it. */
const UNDECODED_PICTURES_MIN = 10;
const UNDECODED_MAX_MS = 4000;
/** A session that is not connected by then never will be. */
const CONNECT_MAX_MS = 8000;
/** A replacement that still has not caught up by then takes over as it is. */
const CATCH_UP_MAX_MS = 8000;
/** In as many checks in a row a replacement must be as fast as the old session to have caught up. */
const CAUGHT_UP_CHECKS = 2;
/** In so many checks in a row an element is paused, or not, before it counts as somebody's wish. */
const STRAY_LOOKS = 2;
/** How long media is held back against jitter, by name. */
const BUFFERS_MS = { lowest: 0, smooth: 500 };
/** What was on its way when the broadcaster went has come by then. */
const LAST_MEDIA_MS = 1000;

export class Player extends EventTarget {
  #stage;
  #places;
  #token = null;
  #active = null;
  #next = null;
  /** Where the server sent us, while we are not there yet. */
  #target = null;
  /** The URL of a session whose server does not answer; null while one does. */
  #lost = null;
  #attempt = 0;
  #retryTimer = null;
  /** Whether the next attempt may come before its time. */
  #canHurry = false;
  #checkTimer = null;
  #isMuted = true;
  #isPaused = false;
  /** Whether it is paused because the browser lets nothing play, not even without sound, before somebody touches it. */
  #isBlocked = false;
  #volume = 1;
  #isAudioOnly = false;
  #hasDataChannel = false;
  #latency = "lowest";
  /** The name of the layer that is wanted; null leaves it to the server. */
  #layer = null;
  /** Whether the broadcaster has been here since it was last said that he is gone. */
  #wasLive = false;
  #cues = new Cues((cue) => this.dispatchEvent(new CustomEvent("cue", { detail: cue })));
  /** The state in the words that are given to it. */
  #say = () => "";

  /**
   * "idle", "connecting", "live", "stalled" (the picture stands still, the sound goes on), "waiting", "reconnecting", "key",
   * "unplayable" (this browser cannot show the picture) or "refused".
   */
  state = "idle";
  /** What its messages are said with. */
  words = english;

  /**
   * Video elements are put into `stage`; `url` is the WHEP endpoint. Events: "change" when anything that can be read
   * here has changed, "ended" when the broadcaster has gone, who may come back, and "cue" with a caption or other timed
   * data as its `detail` (see cueOf) when its time has come.
   */
  constructor(stage, url) {
    super();
    this.#stage = stage;
    this.#places = new Places(new URL(url, location.href).href);
  }

  start(token) {
    this.stop();
    this.#token = token;
    this.#attempt = 0;
    this.#lost = null;
    this.#setState("connecting", (words) => words.text("connecting"));
    this.#checkTimer = setInterval(() => this.#check(), CHECK_INTERVAL_MS);
    addEventListener("online", this.#hurry);
    this.#connect();
  }

  /** For sessions to come: the one that there is goes on with its own. */
  set token(token) {
    this.#token = token;
  }

  /** Ends every session, also on the server; works while the page goes away. */
  stop() {
    removeEventListener("online", this.#hurry);
    clearInterval(this.#checkTimer);
    clearTimeout(this.#retryTimer);
    this.#cues.clear();
    this.#target = null;
    this.#drop(this.#next);
    this.#drop(this.#active);
    this.#wasLive = false;
    this.#setState("idle", (words) => words.text("stopped"));
  }

  /** The state in words. */
  get message() {
    return this.#say(this.words);
  }

  get isMuted() {
    return this.#isMuted;
  }

  set isMuted(isMuted) {
    this.#isMuted = isMuted;
    // Who asks for the sound asks for the picture, too.
    if (this.#isBlocked && !isMuted) this.#isPaused = this.#isBlocked = false;
    const entry = this.#active ?? this.#next;
    if (entry) {
      entry.video.muted = isMuted;
      // A browser that wants a click before there is sound has stopped the picture.
      this.#play(entry);
    }
    this.#announce();
  }

  /** From 0 to 1. */
  get volume() {
    return this.#volume;
  }

  set volume(volume) {
    this.#volume = Math.min(1, Math.max(0, volume));
    for (const entry of this.#entries()) entry.video.volume = this.#volume;
    this.#announce();
  }

  /** "lowest" or "smooth": how long media is held back against jitter. */
  get latency() {
    return this.#latency;
  }

  set latency(latency) {
    this.#latency = Object.hasOwn(BUFFERS_MS, latency) ? latency : "lowest";
    for (const entry of this.#entries()) entry.session.setBuffer(BUFFERS_MS[this.#latency]);
    this.#announce();
  }

  /** Whether the browser can be told how long media is held back. */
  get hasLatency() {
    return hasBuffer();
  }

  /** Without a picture, the connection carries the sound alone. */
  get isAudioOnly() {
    return this.#isAudioOnly;
  }

  set isAudioOnly(isAudioOnly) {
    if (isAudioOnly === this.#isAudioOnly) return;
    this.#isAudioOnly = isAudioOnly;
    // What is asked for is said once in a session: another takes its place.
    if (this.#entries().length > 0) this.#move(this.#active?.place ?? null);
    this.#announce();
  }

  /** Whether servers that tell captions over data channels are heard, too, in sessions to come. */
  get hasDataChannel() {
    return this.#hasDataChannel;
  }

  set hasDataChannel(hasDataChannel) {
    this.#hasDataChannel = hasDataChannel;
  }

  /** What the picture can be chosen from, as of layersOf; empty if there is no choice. */
  get layers() {
    const { session, layers } = this.#active ?? {};
    return session?.hasLayers ? layers : [];
  }

  /** The name of the layer that was chosen; null leaves the choice to the server. */
  get layer() {
    return this.#layer;
  }

  set layer(layer) {
    this.#layer = layer;
    for (const entry of this.#entries()) this.#pin(entry);
    this.#announce();
  }

  get isPaused() {
    return this.#isPaused;
  }

  /** A live picture does not wait: it goes on where the broadcast is by then. */
  set isPaused(isPaused) {
    this.#isPaused = isPaused;
    this.#isBlocked = false;
    for (const entry of this.#entries()) this.#play(entry);
    this.#announce();
  }

  /** The element on screen, or null. */
  get video() {
    return this.#active?.video ?? null;
  }

  /** The host that serves what is on screen, or null. */
  get server() {
    const where = (this.#active ?? this.#next)?.session.location;
    return where ? new URL(where).host : null;
  }

  /** What WhepSession.stats gives for the session on screen; null without one. */
  stats() {
    return (this.#active ?? this.#next)?.session.stats() ?? Promise.resolve(null);
  }

  #entries() {
    return [this.#active, this.#next].filter(Boolean);
  }

  async #connect() {
    if (this.#next) return;
    if (!globalThis.RTCPeerConnection) return this.#setState("refused", (words) => words.text("no_webrtc"));
    const url = this.#places.pick(Math.max(0, this.#attempt - 1), this.#target);
    let entry = null;
    try {
      entry = this.#next = this.#newEntry();
      await entry.session.open(withoutServer(this.#lost, url), this.#token);
    } catch (error) {
      // Without one there are too many connections, or a server has named STUN or TURN servers that are none.
      if (this.#next !== entry) return;
      this.#drop(entry);
      this.#handleRefusal(error, url);
      return;
    }
    if (this.#next !== entry) return;
    entry.place = this.#places.learnFrom(entry.session.location);
    const { video } = entry;
    video.srcObject = entry.session.stream;
    // Below what is shown until its time has come.
    this.#stage.prepend(video);
    this.#play(entry);
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(() => this.#handleFirstFrame(entry));
    else video.addEventListener("loadeddata", () => this.#handleFirstFrame(entry), { once: true });
  }

  #newEntry() {
    const video = Object.assign(document.createElement("video"), {
      autoplay: true,
      playsInline: true,
      // One is heard at a time.
      muted: this.#isMuted || this.#active !== null,
      volume: this.#volume,
    });
    video.setAttribute("aria-label", this.words.text("picture"));
    const entry = {
      video,
      session: null,
      isAudioOnly: this.#isAudioOnly,
      /** What the server said that there is, and which of them was chosen there; undefined if that is not known. */
      layers: [],
      pinned: null,
      /** Whether the server sends no picture for now, because the connection carries sound alone. */
      isHeld: false,
      /** The endpoint behind the one that was asked, if that is another. */
      place: null,
      isConnected: false,
      /** In how many looks in a row the element was paused, or not, against what was wanted. */
      strayLooks: 0,
      // What measure() found.
      behindMs: null,
      progress: 0,
      pace: 0,
      progressAt: 0,
      isFlowing: false,
      sounds: 0,
      soundAt: -Infinity,
      pictures: 0,
      pictureAt: -Infinity,
      undecodedSince: null,
      codec: null,
      isProbed: false,
      lipSync: new LipSync(),
      /** When its first picture was on screen. */
      shownAt: null,
      caughtUpChecks: 0,
      /** When the server said that the broadcaster is gone; null while he is there, as far as is known. */
      inactiveSince: null,
    };
    entry.session = new WhepSession(
      (state) => this.#handleState(entry, state),
      (type, data) => this.#handleEvent(entry, type, data),
      { isAudioOnly: this.#isAudioOnly, bufferMs: BUFFERS_MS[this.#latency], hasDataChannel: this.#hasDataChannel },
    );
    return entry;
  }

  /** `old` is the entry whose sound this one is to go on with, if there is one. */
  #play(entry, old = null) {
    if (this.#isPaused) {
      entry.video.pause();
      return;
    }
    entry.video.play().catch((error) => {
      if (error.name !== "NotAllowedError" || !this.#entries().includes(entry)) return;
      if (old) {
        this.#playIn(old, entry);
      } else if (entry === this.#next && this.#active) {
        // What is on screen goes on; this one is asked again when it takes its place.
      } else if (!entry.video.muted) {
        // Sound needs a click on this page first.
        this.isMuted = true;
      } else {
        // As a phone that saves power has it, or whoever told the browser so: the button says what to do.
        this.#isPaused = this.#isBlocked = true;
        this.#announce();
      }
    });
  }

  /**
   * Plays an entry in the element of the one before it: to WebKit a click that brings sound is for one element, and another
   * that is to have sound without a click stops.
   */
  #playIn(old, entry) {
    [old.video, entry.video] = [entry.video, old.video];
    entry.video.srcObject = entry.session.stream;
    entry.video.muted = this.#isMuted;
    old.video.replaceWith(entry.video);
    old.video.srcObject = null;
    this.#play(entry);
    this.#announce();
  }

  #handleFirstFrame(entry) {
    entry.session.markFirstFrame();
    entry.shownAt = performance.now();
    if (entry === this.#next && !this.#isWell()) this.#promote(entry);
  }

  #promote(entry) {
    const old = this.#active;
    this.#active = entry;
    this.#next = null;
    this.#target = null;
    this.#lost = null;
    this.#attempt = 0;
    clearTimeout(this.#retryTimer);
    if (old) old.video.muted = true;
    entry.video.muted = this.#isMuted;
    // A phone that shows this element alone leaves the full screen when it goes.
    if (old?.video.webkitDisplayingFullscreen) this.#playIn(old, entry);
    else this.#play(entry, old);
    if (old && old.video.getRootNode().pictureInPictureElement === old.video) {
      // The little window goes on with the new picture; it would close with the old one.
      entry.video.requestPictureInPicture().catch(() => {}).finally(() => this.#drop(old));
    } else {
      this.#drop(old);
    }
    this.#setPlaying(entry);
    this.#announce();
  }

  /** Media arrives; whether there is a picture is another question. */
  #setPlaying(entry) {
    if (isUndecodable(entry)) {
      this.#setState("unplayable", (words) => words.text("undecodable", { codec: words.codec(entry.codec) }));
    } else {
      this.#setState("live", (words) => words.text("live"));
    }
  }

  /** Whether the picture on screen moves. */
  #isWell() {
    const active = this.#active;
    return active !== null && active.isConnected && active.progress > 0 && silence(active) < PROBE_AFTER_MS;
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
      this.#reconnect(wasConnected ? null : "because_no_media");
    }
  }

  /** What the server tells by itself; without it, everything is found out a little later. */
  #handleEvent(entry, type, data) {
    if (entry !== this.#active && entry !== this.#next) return;
    if (type === "active") {
      entry.inactiveSince = null;
    } else if (type === "inactive") {
      entry.inactiveSince = performance.now();
      if (entry === this.#active || !this.#active) this.#wait();
    } else if (type === "reconnect") {
      this.#move(endpoint(data.url, entry.session.location));
    } else if (type === "layers") {
      entry.layers = layersOf(data, entry.session.pictureMid);
      entry.isHeld = isHeld(data, entry.session.pictureMid);
      this.#pin(entry);
      this.#announce();
    } else if (type === "cue") {
      this.#cues.add(data, (this.#active ?? entry).behindMs);
    }
  }

  /** Tells the server of a session which layer is wanted, once it has it. */
  async #pin(entry) {
    const wanted = this.#layer;
    const isThere = wanted === null || entry.layers.some(({ name }) => name === wanted);
    if (entry.pinned === wanted || !isThere || !entry.session.hasLayers) return;
    entry.pinned = wanted;
    const status = await entry.session.selectLayer(wanted);
    if (status >= 200 && status < 300) return;
    // What holds there is not known now; it is said again when the server tells of layers the next time.
    entry.pinned = undefined;
    const isRefused = status === 400 || status === 422;
    if (isRefused && wanted !== null && this.#layer === wanted) this.layer = null;
  }

  /** Goes to another endpoint, or, with null, to where we came from; what is on screen stays until then. */
  #move(url) {
    if (url) this.#places.learn(url);
    this.#target = url ?? this.#places.pick(0);
    this.#attempt = 0;
    clearTimeout(this.#retryTimer);
    this.#drop(this.#next);
    this.#connect();
  }

  #handleRefusal(error, url) {
    const status = error instanceof Refused ? error.status : null;
    const pause = Math.min(error.retryAfter ? error.retryAfter * 1000 : 0, PAUSE_MAX_MS);
    const isFinal = status !== null && status >= 400 && status < 500 && status !== 429;
    if (isFinal && !this.#places.isEntry(url)) {
      this.#places.forget(url);
      this.#reconnect();
    } else if (this.#isWell()) {
      this.#reconnect(null, pause);
    } else if (status === 401 || status === 403) {
      this.#setState("key", (words) => words.text("key_needed"));
    } else if (error.problem?.code === "token-malformed") {
      this.#setState("key", (words) => refusal(error, words));
    } else if (status === 409 || status === 404) {
      this.#attempt = 0;
      this.#wait(status === 404 ? "waiting_unknown" : "waiting");
      this.#retryIn(pause || WAITING_PAUSE_MS);
    } else if (isFinal && error.problem?.codec) {
      const { code, codec, profile } = error.problem;
      const needed = (words) => words.codec(codec, code === "no-common-profile" ? profile : null);
      this.#setState("unplayable", (words) => words.text("cannot_play", { codec: needed(words) }));
      // The next to publish may do so in another codec.
      this.#retryIn(PAUSE_MAX_MS);
    } else if (isFinal) {
      this.#setState("refused", (words) => refusal(error, words));
      this.#retryIn(PAUSE_MAX_MS);
    } else {
      this.#reconnect(obstacle(error), pause);
    }
  }

  /** The broadcaster is not there. */
  #wait(key = "waiting") {
    this.#setState("waiting", (words) => words.text(key));
    if (!this.#wasLive) return;
    this.#wasLive = false;
    this.dispatchEvent(new Event("ended"));
  }

  /**
   * Makes another attempt, in `pause` ms at the earliest; `reason` is a key of words. It is said aloud only if the
   * picture stands still.
   */
  #reconnect(reason = null, pause = 0) {
    if (this.#next) return;
    this.#attempt += 1;
    const isWell = this.#isWell();
    if (!isWell) {
      const attempt = this.#attempt;
      this.#setState("reconnecting", (words) => words.reconnecting(attempt, reason && words.text(reason)));
    }
    // What a server asks for holds, whatever the network does.
    this.#canHurry = pause === 0;
    const usual = PAUSES_MS[Math.min(this.#attempt, PAUSES_MS.length) - 1];
    // A crowd that lost its server together does not come back in one moment.
    this.#retryIn(Math.max(pause, isWell ? MOVE_PAUSE_MS : 0, usual) * (1 + Math.random() / 4));
  }

  /** Our own network is back. */
  #hurry = () => {
    if (this.state !== "reconnecting" || !this.#canHurry) return;
    // What was asked over the network of before may never be answered.
    if (this.#next && this.#next.session.location === null) this.#drop(this.#next);
    this.#retryIn(0);
  };

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
    if (active) this.#checkPause(active);
    if (next) this.#checkNext(next, active);
    if (active?.isConnected && isUndecodable(active)) {
      this.#setPlaying(active);
    } else if (active?.isConnected && active.isFlowing && !isLastMedia(active)) {
      if (this.state !== "live") this.#recover();
    } else if (this.#next?.isConnected) {
      const isSilent = silence(this.#next) > SILENCE_MAX_MS && this.#next.undecodedSince === null;
      if (!this.#isWell() && isSilent) this.#wait();
    } else if (active?.isConnected && ["live", "stalled", "unplayable"].includes(this.state)) {
      this.#checkSilent(active);
    }
  }

  /** Others pause, too, and go on: a call that comes in, the keys for media, the buttons of the little window. */
  #checkPause(active) {
    const { paused } = active.video;
    active.strayLooks = paused === this.#isPaused ? 0 : active.strayLooks + 1;
    if (active.strayLooks < STRAY_LOOKS) return;
    this.#isPaused = paused;
    this.#isBlocked = false;
    this.#announce();
  }

  /** Nothing new to be seen has come. */
  #checkSilent(active) {
    const soundless = performance.now() - active.soundAt;
    const hasSound = soundless < SOUND_MAX_MS;
    // Who sends sound is there.
    if (Math.min(soundless, silence(active)) > PROBE_AFTER_MS) this.#probe(active);
    if (silence(active) < SILENCE_MAX_MS) return;
    const why = active.isHeld ? "picture_held" : "picture_stopped";
    if (hasSound) this.#setState("stalled", (words) => words.text(why));
    else this.#wait();
  }

  /** Looks whether the time of a replacement has come. */
  #checkNext(next, active) {
    const now = performance.now();
    if (!next.isConnected) {
      if (now - next.session.started > CONNECT_MAX_MS) this.#handleState(next, "ended");
      return;
    }
    if (isUndecodable(next) && !this.#isWell()) {
      this.#promote(next);
      return;
    }
    if (!next.isFlowing) {
      if (this.#isWell() && silence(next) > CATCH_UP_MAX_MS) this.#handleState(next, "ended");
      return;
    }
    // In the background, on hold, and without any picture, no first picture will be reported.
    const hasNone = next.undecodedSince === null && now - next.session.started > SILENCE_MAX_MS;
    const isUnseen = next.isAudioOnly || document.hidden || this.#isPaused || hasNone;
    if (next.shownAt === null && !isUnseen) return;
    // Picture and sound cannot be compared.
    const isOther = active && next.isAudioOnly !== active.isAudioOnly;
    const isAsFast = next.pace <= active?.pace * 1.25 + 2 && next.pace >= active?.pace / 2 - 1;
    next.caughtUpChecks = isAsFast ? next.caughtUpChecks + 1 : 0;
    const isLate = now - (next.shownAt ?? next.session.started) > CATCH_UP_MAX_MS;
    if (!this.#isWell() || next.caughtUpChecks >= CAUGHT_UP_CHECKS || isOther || isLate) this.#promote(next);
  }

  /** Asks once in a silence whether the server still knows the session. */
  async #probe(entry) {
    if (entry.isProbed) return;
    entry.isProbed = true;
    // Not every viewer of a broadcast that has just ended asks in the same moment.
    await new Promise((resolve) => setTimeout(resolve, Math.random() * PROBE_SPREAD_MS));
    const isSilent = () => entry === this.#active && entry.isProbed && this.state !== "reconnecting";
    if (!isSilent()) return;
    const standing = await entry.session.standing();
    if (standing === "known" || !isSilent()) return;
    if (entry.place) this.#places.lose(entry.place);
    if (standing === "silent") this.#lost = entry.session.location;
    this.#reconnect();
  }

  /** The session on screen plays again by itself: what was to replace it is not needed, unless we are sent away. */
  #recover() {
    if (this.#target === null) {
      clearTimeout(this.#retryTimer);
      this.#drop(this.#next);
      this.#attempt = 0;
    }
    this.#lost = null;
    this.#setState("live", (words) => words.text("live"));
  }

  #drop(entry) {
    if (!entry) return;
    entry.session.close();
    entry.video.remove();
    entry.video.srcObject = null;
    if (this.#active === entry) this.#active = null;
    if (this.#next === entry) this.#next = null;
  }

  #setState(state, say) {
    if (this.state === state && this.message === say(this.words)) return;
    this.state = state;
    this.#say = say;
    if (state === "live") this.#wasLive = true;
    this.#announce();
  }

  #announce() {
    this.dispatchEvent(new Event("change"));
  }
}

/** The absolute URL of an endpoint that a server named, or null. */
function endpoint(url, base) {
  try {
    const { protocol, href } = new URL(url, base);
    return url && /^https?:$/.test(protocol) ? href : null;
  } catch {
    return null;
  }
}

/** Notes whether anything new has been decoded; sound alone counts where there is no picture at all. */
async function measure(entry) {
  const stats = await entry.session.stats();
  const { video, audio, codecs, behindMs } = stats;
  entry.behindMs = behindMs ?? entry.behindMs;
  const now = performance.now();
  // Who does not hear anything has the picture as soon as it comes.
  const held = entry.video.muted ? entry.lipSync.release() : entry.lipSync.note(stats, now, entry.session.bufferMs);
  if (held !== null) entry.session.hold(held);
  const frames = video?.framesDecoded ?? 0;
  const sounds = audio?.packetsReceived ?? 0;
  notePictures(entry, now, video?.framesReceived ?? 0, frames);
  entry.codec = codecs.video ?? entry.codec;
  if (sounds !== entry.sounds) entry.soundAt = now;
  entry.sounds = sounds;
  const progress = frames > 0 ? frames : sounds;
  entry.pace = progress - entry.progress;
  entry.isFlowing = progress !== entry.progress;
  if (!entry.isFlowing) return;
  entry.progress = progress;
  entry.progressAt = now;
  entry.isProbed = false;
}

/** Notes how many whole pictures have come, and since when without any of them having been decoded. */
function notePictures(entry, now, pictures, decoded) {
  if (pictures !== entry.pictures) entry.pictureAt = now;
  entry.pictures = pictures;
  const areComing = pictures > 0 && now - entry.pictureAt < SILENCE_MAX_MS;
  // In the background a browser may spare itself the decoding.
  const isUndecoded = areComing && decoded === 0 && !document.hidden;
  entry.undecodedSince = isUndecoded ? (entry.undecodedSince ?? now) : null;
}

/** Whether pictures come and go on coming, and this browser decodes none of them. */
function isUndecodable({ undecodedSince, pictures, pictureAt }) {
  const now = performance.now();
  const isSteady = pictures >= UNDECODED_PICTURES_MIN && now - pictureAt < SILENCE_MAX_MS;
  return undecodedSince !== null && isSteady && now - undecodedSince > UNDECODED_MAX_MS;
}

/** Milliseconds since anything new was decoded. */
function silence(entry) {
  return performance.now() - entry.progressAt;
}

/** Whether what flows may be what was on its way when the broadcaster went. */
function isLastMedia({ inactiveSince, progressAt }) {
  return inactiveSince !== null && progressAt - inactiveSince < LAST_MEDIA_MS;
}
