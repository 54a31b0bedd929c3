// Publishes over WHIP as OBS does, with the WebRTC that OBS has: libdatachannel.
//
// As OBS: the offer goes out without candidates; one payload type for each track, no RTX; 201 is the only answer taken;
// NACKs are answered, keyframe requests are not; pictures are paced; a DELETE says goodbye.
//
//     node obs.mjs [--version VERSION] URL VIDEO AUDIO [TOKEN]
//     node obs.mjs --layers URL VIDEO[,VIDEO...] AUDIO [TOKEN]
//
// It says in lines what becomes of it.
//
// VIDEO: H264 pictures, 30 in a second; AUDIO: Opus packets of 20 ms; in both files each with its length in four bytes,
// highest first, before it. They are played over and over until standard input ends.
//
// With --layers as OBS 32.1 and later, best layer first: every packet names its layer (0, 1, ...), the offer names the
// layers where there is more than one, and then no SSRC. The library's packetizer cannot say all that, so a picture
// consists of RTP payloads, again with their lengths, and the headers are written here. Sender reports speak of the best
// layer alone, as OBS's one reporter does. NACKs are not answered: OBS answers those for the best layer.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";

// The library lies where this runs, not beside this file.
const rtc = createRequire(`${process.cwd()}/`)("node-datachannel");

const FRAME_RATE = 30;
const AUDIO_PAYLOAD_TYPE = 111;
const VIDEO_PAYLOAD_TYPE = 96;
const NACK_PACKETS = 4000;
/** Ten times the bitrate of the recording, sent in steps of 5 ms. */
const PACE_BPS = 15_000_000;
const PACE_INTERVAL_MS = 5;
const STEP_MS = 2;
/** Ids of the header extensions that say what a packet is of (RFC 8852). */
const MID_EXTENSION = 1;
const RID_EXTENSION = 2;
const VIDEO_MID = "1";
/** From 1900, where NTP begins, to 1970. */
const NTP_OFFSET_SECONDS = 2_208_988_800;

const options = { layers: { type: "boolean" }, version: { type: "string", default: "32.1.0" } };
const { values, positionals } = parseArgs({ options, allowPositionals: true });
const [url, videos, audio, token] = positionals;
const credentials = {
  "User-Agent": `Mozilla/5.0 (OBS-Studio/${values.version}; Linux x86_64; en-US)`,
  ...(token ? { Authorization: `Bearer ${token}` } : {}),
};

function samples(file) {
  const found = [];
  for (let at = 0; at < file.length; ) {
    const length = file.readUInt32BE(at);
    found.push(file.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return found;
}

/** A track and the clock of its packets. */
function addTrack(peer, media, ssrc, payloadType, clockRate, makePacketizer, extra) {
  media.addSSRC(ssrc, "obs", "stream", `${media.mid()}-track`);
  const track = peer.addTrack(media);
  const config = new rtc.RtpPacketizationConfig(ssrc, "obs", payloadType, clockRate);
  const packetizer = makePacketizer(config);
  packetizer.addToChain(new rtc.RtcpSrReporter(config));
  packetizer.addToChain(new rtc.RtcpNackResponder(NACK_PACKETS));
  for (const handler of extra) packetizer.addToChain(handler);
  track.setMediaHandler(packetizer);
  return { track, config };
}

/** Sends samples when they are due. */
function play({ track, config }, all, intervalMs, clockRate) {
  const start = performance.now();
  const first = config.timestamp;
  let next = 0;
  setInterval(() => {
    while (performance.now() - start >= next * intervalMs) {
      config.timestamp = (first + Math.round((next * intervalMs * clockRate) / 1000)) % 2 ** 32;
      if (track.isOpen()) track.sendMessageBinary(all[next % all.length]);
      next += 1;
    }
  }, STEP_MS);
}

/** Adds the track of the picture in so many layers. */
function addLayers(peer, media, ssrc, count) {
  media.addSSRC(ssrc, "obs", "stream", `${media.mid()}-track`);
  media.parseSdpLine(`a=extmap:${MID_EXTENSION} urn:ietf:params:rtp-hdrext:sdes:mid`);
  media.parseSdpLine(`a=extmap:${RID_EXTENSION} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`);
  if (count > 1) {
    const rids = Array.from({ length: count }, (_, layer) => `${layer}`);
    for (const rid of rids) media.parseSdpLine(`a=rid:${rid} send`);
    media.parseSdpLine(`a=simulcast:send ${rids.join(";")}`);
  }
  const track = peer.addTrack(media);
  track.setMediaHandler(new rtc.PacingHandler(PACE_BPS, PACE_INTERVAL_MS));
  return track;
}

/** What OBS's build of the library says of layers: where they have names, SSRCs of the picture are left out. */
function withoutSsrcs(offer) {
  const picture = offer.indexOf("m=video");
  const isLayered = offer.includes("a=simulcast:");
  return isLayered ? offer.slice(0, picture) + offer.slice(picture).replace(/a=ssrc:[^\r\n]*\r\n/g, "") : offer;
}

/** An RTP packet with MID and RID in one word of one-byte header extensions (RFC 8285, section 4.2). */
function rtpPacket({ ssrc, layer, sequence, timestamp, marker }, payload) {
  const header = Buffer.alloc(20);
  header[0] = 0x90;
  header[1] = (marker ? 0x80 : 0) | VIDEO_PAYLOAD_TYPE;
  header.writeUInt16BE(sequence & 0xffff, 2);
  header.writeUInt32BE(timestamp, 4);
  header.writeUInt32BE(ssrc, 8);
  header.writeUInt32BE(0xbede0001, 12);
  header[16] = MID_EXTENSION << 4;
  header.write(VIDEO_MID, 17);
  header[18] = RID_EXTENSION << 4;
  header.write(`${layer}`, 19);
  return Buffer.concat([header, payload]);
}

/** A sender report (RFC 3550, section 6.4.1) without report blocks. */
function senderReport(ssrc, timestamp, { packets, bytes }) {
  const report = Buffer.alloc(28);
  const seconds = Date.now() / 1000 + NTP_OFFSET_SECONDS;
  report.writeUInt32BE(0x80c80006, 0);
  report.writeUInt32BE(ssrc, 4);
  report.writeUInt32BE(Math.floor(seconds), 8);
  report.writeUInt32BE(Math.floor((seconds % 1) * 2 ** 32), 12);
  report.writeUInt32BE(timestamp, 16);
  report.writeUInt32BE(packets, 20);
  report.writeUInt32BE(bytes, 24);
  return report;
}

/** Sends the pictures of all layers when they are due. */
function playLayers(track, layers, firstSsrc) {
  const start = performance.now();
  const sent = layers.map(() => ({ packets: 0, bytes: 0 }));
  let next = 0;
  const send = (packet) => track.isOpen() && track.sendMessageBinary(packet);
  setInterval(() => {
    while (performance.now() - start >= (next * 1000) / FRAME_RATE) {
      const timestamp = ((next * 90_000) / FRAME_RATE) % 2 ** 32;
      for (const [layer, pictures] of layers.entries()) {
        const payloads = pictures[next % pictures.length];
        for (const [index, payload] of payloads.entries()) {
          const marker = index + 1 === payloads.length;
          const head = { ssrc: firstSsrc + layer, layer, sequence: sent[layer].packets, timestamp, marker };
          send(rtpPacket(head, payload));
          sent[layer].packets += 1;
          sent[layer].bytes += payload.length;
        }
      }
      if (next % FRAME_RATE === 0) send(senderReport(firstSsrc, timestamp, sent[0]));
      next += 1;
    }
  }, STEP_MS);
}

async function post(offer) {
  const headers = { "Content-Type": "application/sdp", ...credentials };
  const response = await fetch(url, { method: "POST", headers, body: offer });
  const answer = await response.text();
  if (response.status !== 201) throw new Error(`the server answered ${response.status}: ${answer}`);
  const location = response.headers.get("Location");
  if (!location) throw new Error("the answer names no session");
  console.log(`link ${response.headers.get("Link") ?? ""}`);
  console.log(`setup ${/a=setup:(\w+)/.exec(answer)?.[1]}`);
  return { answer, session: new URL(location, url).href };
}

const peer = new rtc.PeerConnection("obs", { iceServers: [] });
const pictures = videos.split(",").map((path) => samples(readFileSync(path)));
const sounds = samples(readFileSync(audio));
const opus = new rtc.Audio("0", "SendOnly");
opus.addOpusCodec(AUDIO_PAYLOAD_TYPE);
const h264 = new rtc.Video(VIDEO_MID, "SendOnly");
h264.addH264Codec(VIDEO_PAYLOAD_TYPE, "profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1");
const ssrc = Math.floor(Math.random() * 2 ** 31) + 1;
const audioTrack = addTrack(peer, opus, ssrc, AUDIO_PAYLOAD_TYPE, 48_000, (config) => new rtc.RtpPacketizer(config), []);
const addPicture = () =>
  addTrack(
    peer,
    h264,
    ssrc + 1,
    VIDEO_PAYLOAD_TYPE,
    90_000,
    (config) => new rtc.H264RtpPacketizer("StartSequence", config),
    [new rtc.PacingHandler(PACE_BPS, PACE_INTERVAL_MS)],
  );
const videoTrack = values.layers ? addLayers(peer, h264, ssrc + 1, pictures.length) : addPicture();
const layers = values.layers ? pictures.map((layer) => layer.map(samples)) : [];

let isPlaying = false;
peer.onStateChange((state) => {
  console.log(`state ${state}`);
  if (state === "connected" && !isPlaying) {
    isPlaying = true;
    console.log(`began ${Date.now()}`);
    if (values.layers) playLayers(videoTrack, layers, ssrc + 1);
    else play(videoTrack, pictures[0], 1000 / FRAME_RATE, 90_000);
    play(audioTrack, sounds, 20, 48_000);
  }
});
const offered = new Promise((resolve) => peer.onLocalDescription((sdp, type) => type === "offer" && resolve(sdp)));
peer.setLocalDescription("offer");
const offer = withoutSsrcs(await offered);
console.log(`candidates ${offer.split("a=candidate").length - 1}`);
const picture = offer.slice(offer.indexOf("m=video"));
console.log(`layers ${/a=simulcast:send ([^\r\n]*)/.exec(picture)?.[1] ?? "none"}, ssrcs ${picture.includes("a=ssrc:")}`);
const { answer, session } = await post(offer);
peer.setRemoteDescription(answer, "answer");

process.stdin.resume();
process.stdin.on("end", async () => {
  peer.close();
  const { status } = await fetch(session, { method: "DELETE", headers: credentials });
  console.log(`deleted ${status}`);
  process.exit(0);
});
