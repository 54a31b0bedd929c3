// Publishes over WHIP as OBS does, with the WebRTC that OBS has: libdatachannel.
//
// As OBS: the offer goes out without candidates; one payload type for each track, no RTX; 201 is the only answer taken;
// NACKs are answered, keyframe requests are not; pictures are paced; a DELETE says goodbye.
//
//     node obs.mjs URL VIDEO AUDIO [TOKEN]
//
// It says in lines what becomes of it.
//
// VIDEO: H264 pictures, 30 in a second; AUDIO: Opus packets of 20 ms; in both files each with its length in four bytes,
// highest first, before it. They are played over and over until standard input ends.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

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

const [url, video, audio, token] = process.argv.slice(2);
const authorization = token ? { Authorization: `Bearer ${token}` } : {};

function samples(path) {
  const file = readFileSync(path);
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

async function post(offer) {
  const headers = { "Content-Type": "application/sdp", ...authorization };
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
const [pictures, sounds] = [samples(video), samples(audio)];
const opus = new rtc.Audio("0", "SendOnly");
opus.addOpusCodec(AUDIO_PAYLOAD_TYPE);
const h264 = new rtc.Video("1", "SendOnly");
h264.addH264Codec(VIDEO_PAYLOAD_TYPE, "profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1");
const ssrc = Math.floor(Math.random() * 2 ** 31) + 1;
const audioTrack = addTrack(peer, opus, ssrc, AUDIO_PAYLOAD_TYPE, 48_000, (config) => new rtc.RtpPacketizer(config), []);
const videoTrack = addTrack(
  peer,
  h264,
  ssrc + 1,
  VIDEO_PAYLOAD_TYPE,
  90_000,
  (config) => new rtc.H264RtpPacketizer("StartSequence", config),
  [new rtc.PacingHandler(PACE_BPS, PACE_INTERVAL_MS)],
);

let isPlaying = false;
peer.onStateChange((state) => {
  console.log(`state ${state}`);
  if (state === "connected" && !isPlaying) {
    isPlaying = true;
    console.log(`began ${Date.now()}`);
    play(videoTrack, pictures, 1000 / FRAME_RATE, 90_000);
    play(audioTrack, sounds, 20, 48_000);
  }
});
const offered = new Promise((resolve) => peer.onLocalDescription((sdp, type) => type === "offer" && resolve(sdp)));
peer.setLocalDescription("offer");
const offer = await offered;
console.log(`candidates ${offer.split("a=candidate").length - 1}`);
const { answer, session } = await post(offer);
peer.setRemoteDescription(answer, "answer");

process.stdin.resume();
process.stdin.on("end", async () => {
  peer.close();
  const { status } = await fetch(session, { method: "DELETE", headers: authorization });
  console.log(`deleted ${status}`);
  process.exit(0);
});
