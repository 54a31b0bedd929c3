// One WHIP session: from the POST to the DELETE. What to do when it ends is its owner's business.

import {
  adviceOf,
  configuration,
  deleteSession,
  patchIce,
  postOffer,
  standing,
  withCaptureTime,
  withCredentialsOf,
  withStereo,
} from "./endpoint.js";

/** The most that sound may take, in bit/s. */
const AUDIO_BITRATE = 96_000;
/** What video starts with at most, in bit/s: browsers begin at 300 kbit/s and look poor for the first seconds. */
const START_BITRATE_MAX = 1_000_000;
/** An answer that takes longer comes from nobody. */
const ANSWER_MAX_MS = 5000;
/** An answer to a restart of ICE, which a server has at once, comes by then or not at all. */
const RESTART_MAX_MS = 2000;
/** A session whose ICE or DTLS is not through by then does not get through. */
const CONNECT_MAX_MS = 10_000;
/** What a server takes beside picture and sound at once, in bytes. */
const TEXT_BYTES_MAX = 4096;
/**
 * The sizes of a simulcast picture, smallest first, as browsers want them: parts of its sides, and of its bitrate.
 * A layer that is worth having has about a quarter of the one above.
 */
const LAYERS = [
  { rid: "l", scale: 4, share: 1 / 14 },
  { rid: "m", scale: 2, share: 1 / 4 },
  { rid: "h", scale: 1, share: 1 },
];
/** The video codecs there are, the most widely played first. */
const CODECS = ["h264", "vp8", "vp9", "av1", "h265"];
/** What "auto" chooses from: every browser decodes these. */
const COMMON_CODECS = ["h264", "vp8"];
/** What an encoder must be able to do to be listed. */
const PICTURE = { width: 1280, height: 720, bitrate: 2_500_000, framerate: 30 };

/** The names of the video codecs that this browser has an encoder for, as `open` takes them. */
export async function sendableCodecs() {
  const encoders = await Promise.all(CODECS.map(hasEncoder));
  return CODECS.filter((_, index) => encoders[index]);
}

/** A browser may list codecs that it only packetises; where it can be asked for the encoder, its answer counts. */
async function hasEncoder(codec) {
  const [first] = formatsOf(codec);
  if (!first) return false;
  const contentType = [first.mimeType, first.sdpFmtpLine].filter(Boolean).join(";");
  try {
    const video = { ...PICTURE, contentType };
    return (await navigator.mediaCapabilities.encodingInfo({ type: "webrtc", video })).supported;
  } catch {
    // Firefox does not answer for every codec.
    return true;
  }
}

export class WhipSession {
  #resource = null;
  #peer = new RTCPeerConnection(configuration());
  #channel = null;
  #isClosed = false;
  #wasConnected = false;
  #deadline = null;

  /**
   * `onState` is called with "connected", "disconnected" (may come back, or be brought back by restartIce), and, one of
   * them and once, "unreachable" (it never connected) or "ended"; never after close().
   */
  constructor(onState) {
    this.onState = onState;
    this.#peer.addEventListener("connectionstatechange", () => this.#handleState(this.#peer.connectionState));
  }

  /**
   * Publishes the tracks of `stream`. `codec` is "auto" or one of sendableCodecs, `bitrate` the most that the picture
   * may take, in bit/s, `isLayered` whether it is sent in several sizes, of which each viewer gets one, `hasChannel` whether
   * there is a way for captions beside it.
   * Rejects as postOffer does, or if the answer cannot be used.
   */
  async open(url, token, stream, { codec, bitrate, isLayered, hasChannel }) {
    const peer = this.#peer;
    for (const track of stream.getTracks()) {
      const isVideo = track.kind === "video";
      const transceiver = peer.addTransceiver(track, {
        direction: "sendonly",
        streams: [stream],
        sendEncodings: isVideo ? encodings(track, bitrate, isLayered) : [{ maxBitrate: AUDIO_BITRATE }],
      });
      withCaptureTime(transceiver);
      if (isVideo) preferCodec(transceiver, codec);
    }
    if (hasChannel) this.#channel = peer.createDataChannel("cues");
    const { type, sdp } = await peer.createOffer();
    await peer.setLocalDescription({ type, sdp: withStereo(sdp) });
    // Our candidates are not waited for: the server learns them from the checks that reach it.
    const resource = await postOffer(url, peer.localDescription.sdp, token, AbortSignal.timeout(ANSWER_MAX_MS));
    if (this.#isClosed) {
      deleteSession(resource);
      return;
    }
    this.#resource = resource;
    const answer = withStartBitrate(withStereo(resource.answer), Math.min(START_BITRATE_MAX, bitrate / 2));
    await peer.setRemoteDescription({ type: "answer", sdp: answer });
    if (!this.#isClosed && !this.#wasConnected) {
      this.#deadline = setTimeout(() => this.#end("unreachable"), CONNECT_MAX_MS);
    }
    const transport = peer.getSenders()[0]?.transport;
    transport?.addEventListener("statechange", () => {
      if (transport.state === "closed" || transport.state === "failed") this.#end("ended");
    });
  }

  /**
   * Looks for a new way to the server within the session, over whatever network there is by now. Resolves to the status of
   * the server's answer, 200 if it goes along; 0 if there was none. Never rejects.
   */
  async restartIce() {
    const peer = this.#peer;
    try {
      const offer = await peer.createOffer({ iceRestart: true });
      const signal = AbortSignal.timeout(RESTART_MAX_MS);
      const { status, answer } = await patchIce(this.#resource, offer.sdp, signal);
      if (status === 200) {
        const sdp = withCredentialsOf(answer, peer.currentRemoteDescription.sdp);
        // Not before: what the server does not know of leaves the way that there is as it is.
        await peer.setLocalDescription(offer);
        await peer.setRemoteDescription({ type: "answer", sdp });
      }
      return status;
    } catch {
      // Closed meanwhile, or nobody answered, or not with what was asked for.
      return 0;
    }
  }

  /** Whether media can flow now. */
  get isConnected() {
    return this.#peer.connectionState === "connected";
  }

  /** Sends a text beside picture and sound; false if it cannot go now. */
  say(text) {
    // A server that began anew goes on with the media, but hears no channel of before: what was sent stays here then.
    const isReady = this.#channel?.readyState === "open" && this.#channel.bufferedAmount === 0;
    if (!isReady || new TextEncoder().encode(text).length > TEXT_BYTES_MAX) return false;
    this.#channel.send(text);
    return true;
  }

  /** Changes the most that the picture may take, in bit/s, while live. */
  async setBitrate(bitrate) {
    const sender = this.#peer.getSenders().find((sender) => sender.track?.kind === "video");
    const parameters = sender?.getParameters();
    if (!parameters?.encodings?.length) return;
    for (const encoding of parameters.encodings) encoding.maxBitrate = share(encoding.rid, bitrate);
    await sender.setParameters(parameters);
  }

  /** The statistics of both tracks, by kind; what the server reports stands under `remote`. */
  async stats() {
    const found = { video: null, audio: null, codecs: {}, remote: {}, roundTripMs: null };
    if (this.#isClosed) return found;
    const report = await this.#peer.getStats();
    for (const entry of report.values()) {
      if (entry.type === "outbound-rtp") {
        found[entry.kind] = largest(found[entry.kind], entry);
        found.codecs[entry.kind] = report.get(entry.codecId)?.mimeType.split("/")[1] ?? null;
      } else if (entry.type === "remote-inbound-rtp") {
        found.remote[entry.kind] = entry;
      } else if (entry.type === "candidate-pair" && entry.nominated && entry.currentRoundTripTime !== undefined) {
        found.roundTripMs = entry.currentRoundTripTime * 1000;
      }
    }
    return found;
  }

  /**
   * Bytes that came from the server until now. While we send, it answers several times a second with what it received:
   * a number that stands still is a server that is gone, long before ICE says so.
   */
  async heard() {
    if (this.#isClosed) return 0;
    const report = await this.#peer.getStats();
    const pairs = [...report.values()].filter(({ type }) => type === "candidate-pair");
    return pairs.reduce((sum, { bytesReceived = 0 }) => sum + bytesReceived, 0);
  }

  /** Where the session is, as the server named it; null before the answer. */
  get location() {
    return this.#resource?.location ?? null;
  }

  /** How it stands with the server, which has `patience` ms to say so: "known", "unknown" or "silent". */
  standing(patience, asking) {
    return this.#resource ? standing(this.#resource, patience, asking) : Promise.resolve("unknown");
  }

  /** What the server finds that could be better, the gravest first; null if it does not say. */
  advice() {
    return this.#resource ? adviceOf(this.#resource) : Promise.resolve(null);
  }

  /** Ends the session here and on the server. */
  close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#deadline);
    this.#peer.close();
    if (this.#resource) deleteSession(this.#resource);
  }

  #handleState(state) {
    if (this.#isClosed) return;
    if (state === "connected") {
      clearTimeout(this.#deadline);
      this.#wasConnected = true;
      this.onState("connected");
    } else if (this.#wasConnected && (state === "disconnected" || state === "failed")) {
      // ICE that has failed can be begun anew, and some find back by themselves. Of DTLS its transport tells.
      this.onState("disconnected");
    } else if (state === "failed") {
      this.#end("unreachable");
    } else if (state === "closed") {
      this.#end("ended");
    }
  }

  #end(state) {
    if (this.#isClosed) return;
    clearTimeout(this.#deadline);
    const { onState } = this;
    this.onState = () => {};
    onState(state);
  }
}

/** What is sent of a picture that may take `bitrate`. */
function encodings(track, bitrate, isLayered) {
  const count = isLayered ? layersOf(track.getSettings().height ?? Infinity) : 1;
  if (count === 1) return [{ maxBitrate: bitrate }];
  return LAYERS.slice(-count).map(({ rid, scale }) => ({
    rid,
    scaleResolutionDownBy: scale,
    maxBitrate: share(rid, bitrate),
  }));
}

/** How many sizes browsers send of a picture: of a small one not all, and left to themselves they drop the largest. */
function layersOf(height) {
  if (height >= 540) return 3;
  return height >= 270 ? 2 : 1;
}

/** The part of a picture's bitrate that is one layer's; all of it without layers. */
function share(rid, bitrate) {
  const layer = LAYERS.find((layer) => layer.rid === rid);
  return Math.round(bitrate * (layer?.share ?? 1));
}

/** Of the layers of a picture, the one that says most about it. */
function largest(one, other) {
  return (one?.frameWidth ?? 0) > (other.frameWidth ?? 0) ? one : other;
}

/** Offers the wanted codec alone; by itself, or where this browser cannot send it, what every viewer decodes. */
function preferCodec(transceiver, codec) {
  const chosen = formatsOf(codec);
  const wanted = chosen.length > 0 ? chosen : COMMON_CODECS.flatMap(formatsOf);
  if (wanted.length > 0) transceiver.setCodecPreferences?.([...wanted, ...formatsOf("rtx")]);
}

/** The formats of a codec that this browser sends, the most widely played first. */
function formatsOf(codec) {
  const all = globalThis.RTCRtpSender?.getCapabilities?.("video")?.codecs ?? [];
  const formats = all.filter(({ mimeType }) => mimeType.toLowerCase() === `video/${codec}`);
  // Constrained baseline in whole packets (mode 1) plays everywhere; elsewhere profile 0 does, which is the default.
  const isCommon = ({ sdpFmtpLine = "" }) =>
    codec === "h264"
      ? sdpFmtpLine.includes("42e01f") && sdpFmtpLine.includes("packetization-mode=1")
      : !/profile(-id)?=[1-9]/.test(sdpFmtpLine);
  return formats.sort((a, b) => Number(isCommon(b)) - Number(isCommon(a)));
}

/** Tells Chromium with how much to begin; other browsers skip the word. */
function withStartBitrate(sdp, bitrate) {
  const video = sdp.indexOf("\r\nm=video");
  if (video < 0) return sdp;
  const word = `;x-google-start-bitrate=${Math.round(bitrate / 1000)}`;
  const media = sdp.slice(video).replace(/a=fmtp:\d+ (?!apt=)[^\r\n]*/g, (line) => line + word);
  return sdp.slice(0, video) + media;
}
