// One WHEP session: from the POST to the DELETE. What to do when it ends is its owner's business.

import { configuration, deleteSession, postOffer, standing, withCaptureTime, withStereo } from "./endpoint.js";
import { layersEntry, selectLayer } from "./layers.js";
import { QualityReports } from "./quality.js";
import { SessionEvents, eventsEntry } from "./whep-events.js";

/** NTP counts from 1900, everybody else from 1970. */
const NTP_TO_UNIX_MS = 2_208_988_800_000;
const DELAY_MAX_MS = 30_000;
/**
 * What Firefox leaves out of what it says of its sound: the way from its mixer to the loudspeaker. That is more with most cards,
 * but browsers delay a sound that is 30 ms before its picture, so nothing is gained by asking for more.
 */
const UNSAID_MS = navigator.userAgent.includes("Firefox/") ? 25 : 0;
/**
 * A server that says nothing of a session for so long is away; one that does all the same keeps its viewer, who plays on as
 * soon as media comes.
 */
const STANDING_MAX_MS = 700;
/** A server that has not answered an offer by then is away; its address may lead nowhere for minutes. */
const ANSWER_MAX_MS = 4000;
/** What is listened to, where the server tells. */
const EVENT_TYPES = ["active", "inactive", "reconnect", "layers", "cue"];
/** A message of a data channel that is longer is none of a broadcast. */
const MESSAGE_LENGTH_MAX = 16_384;
/** Browsers take no more for `jitterBufferTarget`. */
const BUFFER_MAX_MS = 4000;

/** Whether this browser can be told how long media is held back; Safari cannot. */
export function hasBuffer() {
  return "jitterBufferTarget" in (globalThis.RTCRtpReceiver?.prototype ?? {});
}

export class WhepSession {
  #resource = null;
  #peer = new RTCPeerConnection(configuration());
  #isClosed = false;
  #wasConnected = false;
  #events = null;
  #quality = null;
  #firstFrame = null;
  #picture = null;
  #layersUrl = null;
  #bufferMs = 0;
  #held = { video: 0, audio: 0 };

  /** Everything received. */
  stream = new MediaStream();
  /** When the POST began, as performance.now(). */
  started = performance.now();

  /**
   * `onState` is called with "connected", "disconnected" (may come back) and "ended" (will not, at most once), never
   * after close(). `onEvent(type, data)` is called with what the server tells by itself: "active", "inactive" (the
   * broadcaster has come, has gone), "reconnect" (`data.url`, if given, is the endpoint to go to), "layers" (see
   * layersOf) and "cue" (see cueOf). With `isAudioOnly` no picture is asked for; `bufferMs` is as in setBuffer; with
   * `hasDataChannel` servers that tell cues over data channels are heard, too.
   */
  constructor(onState, onEvent, { isAudioOnly = false, bufferMs = 0, hasDataChannel = false } = {}) {
    this.onState = onState;
    this.onEvent = onEvent;
    const peer = this.#peer;
    for (const kind of isAudioOnly ? ["audio"] : ["video", "audio"]) {
      const transceiver = peer.addTransceiver(kind, { direction: "recvonly" });
      withCaptureTime(transceiver);
      if (kind === "video") this.#picture = transceiver;
      this.stream.addTrack(transceiver.receiver.track);
    }
    this.setBuffer(bufferMs);
    if (hasDataChannel) this.#hear(peer.createDataChannel("cues"));
    peer.addEventListener("datachannel", ({ channel }) => this.#hear(channel));
    peer.addEventListener("connectionstatechange", () => this.#handleState(peer.connectionState));
  }

  /** Where the session is, as the server named it; null before the answer. */
  get location() {
    return this.#resource?.location ?? null;
  }

  /** The media id of the picture in the offer; null without one. */
  get pictureMid() {
    return this.#picture?.mid ?? null;
  }

  /** Whether the server lets viewers choose among layers. */
  get hasLayers() {
    return this.#layersUrl !== null && this.pictureMid !== null;
  }

  /** As of setBuffer. */
  get bufferMs() {
    return this.#bufferMs;
  }

  /** How long media is held back against jitter, in ms, if the browser can be told; 0 is as short as it dares. */
  setBuffer(milliseconds) {
    this.#bufferMs = milliseconds;
    if (!hasBuffer()) return;
    for (const receiver of this.#peer.getReceivers()) {
      const least = this.#held[receiver.track.kind];
      receiver.jitterBufferTarget = Math.min(BUFFER_MAX_MS, Math.max(milliseconds, least));
    }
  }

  /** How long pictures (`video`) and sound (`audio`) are held back at least, in ms, so that neither comes before the other. */
  hold(held) {
    this.#held = held;
    this.setBuffer(this.#bufferMs);
  }

  /** Chooses a layer by name, or, with null, leaves the choice to the server: the status of its answer, 0 for none. */
  selectLayer(name) {
    return selectLayer(this.#layersUrl, this.#resource.token, this.pictureMid, name);
  }

  /** Rejects as postOffer does, or if the answer cannot be used. */
  async open(url, token) {
    const peer = this.#peer;
    this.started = performance.now();
    const { type, sdp } = await peer.createOffer();
    await peer.setLocalDescription({ type, sdp: withStereo(sdp) });
    // Our candidates are not waited for: the server learns them from the checks that reach it.
    const resource = await postOffer(url, peer.localDescription.sdp, token, AbortSignal.timeout(ANSWER_MAX_MS));
    if (this.#isClosed) {
      deleteSession(resource);
      return;
    }
    this.#resource = resource;
    this.#layersUrl = layersEntry(resource.link, resource.location);
    await peer.setRemoteDescription({ type: "answer", sdp: resource.answer });
    // A close from the server's side shows here before it shows anywhere else.
    const transport = this.#transport;
    transport?.addEventListener("statechange", () => {
      if (transport.state === "closed" || transport.state === "failed") this.#handleState("closed");
    });
  }

  /** DTLS of all media; none before the answer, or where the browser does not show it. */
  get #transport() {
    return this.#peer.getReceivers()[0]?.transport ?? null;
  }

  /** To be called when the first picture is on screen; `firstFrameMs` of the statistics counts from the POST. */
  markFirstFrame() {
    this.#firstFrame ??= performance.now() - this.started;
  }

  /**
   * The statistics of both tracks, by kind; a field that the browser lacks is undefined. `delayMs` is the time from
   * capture to screen by the clocks of the broadcaster's node and of this machine, or null; `behindMs` is the same even
   * where the clocks disagree, so that it may be anything.
   */
  async stats() {
    const found = { video: null, audio: null, codecs: {}, roundTripMs: null, delayMs: null, behindMs: null, soundLateMs: null };
    found.firstFrameMs = this.#firstFrame;
    if (this.#isClosed) return found;
    const report = await this.#peer.getStats();
    for (const entry of report.values()) {
      if (entry.type === "inbound-rtp") {
        found[entry.kind] = entry;
        found.codecs[entry.kind] = report.get(entry.codecId)?.mimeType.split("/")[1] ?? null;
      } else if (entry.type === "candidate-pair" && entry.nominated && entry.currentRoundTripTime !== undefined) {
        found.roundTripMs = entry.currentRoundTripTime * 1000;
      }
    }
    const delays = this.#delays(found.video ?? found.audio);
    // Clocks that disagree by more than the delay make nonsense of it.
    found.delayMs = delays.find((delay) => delay >= 0 && delay < DELAY_MAX_MS) ?? null;
    found.behindMs = delays.find(Number.isFinite) ?? null;
    // What is shown at one moment, and what is heard, were captured then.
    const late = found.video?.estimatedPlayoutTimestamp - found.audio?.estimatedPlayoutTimestamp;
    found.soundLateMs = Math.abs(late) < DELAY_MAX_MS ? late + UNSAID_MS : null;
    this.#quality?.note(found);
    return found;
  }

  #hear(channel) {
    channel.addEventListener("message", ({ data }) => {
      if (this.#isClosed || typeof data !== "string" || data.length > MESSAGE_LENGTH_MAX) return;
      try {
        this.onEvent("cue", JSON.parse(data));
      } catch {
        // Whatever it is, it is not for us.
      }
    });
  }

  /** The time from capture to screen, found in two ways; what is not known is no number. */
  #delays(inbound) {
    const sources = this.#peer.getReceivers().flatMap((receiver) => receiver.getSynchronizationSources?.() ?? []);
    const source = sources.find(({ captureTimestamp }) => captureTimestamp !== undefined);
    return [
      source && source.timestamp - (source.captureTimestamp - NTP_TO_UNIX_MS),
      Date.now() - (inbound?.estimatedPlayoutTimestamp - NTP_TO_UNIX_MS),
    ];
  }

  /** How it stands with the server: "known", "unknown" or "silent". */
  standing() {
    return this.#resource ? standing(this.#resource, STANDING_MAX_MS) : Promise.resolve("unknown");
  }

  /** Ends the session here and on the server. */
  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#events?.close();
    // Before the session is gone: it is told of the session.
    this.#quality?.close();
    this.#peer.close();
    if (this.#resource) deleteSession(this.#resource);
  }

  #listen() {
    const entry = eventsEntry(this.#resource?.link, this.location);
    if (entry === null) return;
    this.#events ??= new SessionEvents(entry, this.#resource.token, EVENT_TYPES, (type, data) => {
      if (!this.#isClosed) this.onEvent(type, data);
    });
  }

  #handleState(state) {
    if (this.#isClosed) return;
    // Not before: a crowd that comes in has its offers answered first.
    if (state === "connected") {
      this.#wasConnected = true;
      this.#listen();
      if (this.#resource) this.#quality ??= new QualityReports(this.location);
    }
    if (state === "connected" || state === "disconnected") {
      this.onState(state);
    } else if (state === "failed" && this.#wasConnected && this.#transport?.state !== "failed") {
      // ICE that has failed finds back by itself where its way is there again. DTLS does not.
      this.onState("disconnected");
    } else if (state === "failed" || state === "closed") {
      const { onState } = this;
      this.onState = () => {};
      onState("ended");
    }
  }
}
