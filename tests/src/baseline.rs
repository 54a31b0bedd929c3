//! The direct baseline: two peers in one browser page, without any server between them.
//!
//! What freezes here freezes because of the machine, not because of the tree.

use std::time::Duration;

use anyhow::Context as _;

use crate::browser::Browser;

/// Two connected peers: a moving picture and a tone from one to the other. Answers with what arrived.
const LOOPBACK: &str = r#"
(async ({ codec, milliseconds }) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
  const context = canvas.getContext("2d");
  const timer = setInterval(() => {
    const now = performance.now();
    context.fillStyle = `hsl(${(now / 50) % 360} 50% 40%)`;
    context.fillRect(0, 0, 640, 360);
    context.fillStyle = "white";
    context.font = "60px monospace";
    context.fillText(now.toFixed(0), 40 + 200 * Math.sin(now / 700) + 100, 200);
  }, 1000 / 30);
  const audio = new AudioContext();
  const tone = new OscillatorNode(audio, { frequency: 330 });
  const sound = audio.createMediaStreamDestination();
  tone.connect(new GainNode(audio, { gain: 0.2 })).connect(sound);
  tone.start();
  const from = new RTCPeerConnection();
  const to = new RTCPeerConnection();
  from.onicecandidate = ({ candidate }) => candidate && to.addIceCandidate(candidate);
  to.onicecandidate = ({ candidate }) => candidate && from.addIceCandidate(candidate);
  const stream = new MediaStream();
  // Not muted: what nobody hears has no energy.
  const video = Object.assign(document.createElement("video"), { autoplay: true, srcObject: stream });
  document.body.append(video);
  to.ontrack = ({ track }) => stream.addTrack(track);
  const sent = from.addTransceiver(canvas.captureStream(30).getVideoTracks()[0], { direction: "sendonly" });
  from.addTransceiver(sound.stream.getAudioTracks()[0], { direction: "sendonly" });
  const isWanted = ({ mimeType }) => mimeType.toLowerCase() === `video/${codec}`;
  sent.setCodecPreferences(RTCRtpReceiver.getCapabilities("video").codecs.filter(isWanted));
  await from.setLocalDescription();
  await to.setRemoteDescription(from.localDescription);
  await to.setLocalDescription();
  await from.setRemoteDescription(to.localDescription);
  for (const receiver of to.getReceivers()) if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  const report = [...(await to.getStats()).values()].filter(({ type }) => type === "inbound-rtp");
  const { framesDecoded, freezeCount, totalFreezesDuration } = report.find(({ kind }) => kind === "video") ?? {};
  const { totalAudioEnergy } = report.find(({ kind }) => kind === "audio") ?? {};
  clearInterval(timer);
  from.close();
  to.close();
  await audio.close();
  video.remove();
  return { framesDecoded, freezeCount, totalFreezesDuration, totalAudioEnergy };
})
"#;

/// What a viewer without a server between it and the publisher saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Baseline {
    /// Pictures decoded.
    pub frames_decoded: u64,
    /// Freezes, as the browser counts them; 0 where it does not.
    pub freeze_count: u64,
    /// How long they took together.
    pub freezes: Duration,
    /// Sound energy received, as `totalAudioEnergy` of WebRTC's statistics.
    pub audio_energy: f64,
}

/// Plays from peer to peer within one page of `browser` for `length`; `codec` as in MIME types ("h264", "av1").
///
/// # Errors
/// If the browser lacks the codec or the peers do not connect.
pub async fn loopback(browser: &Browser, codec: &str, length: Duration) -> anyhow::Result<Baseline> {
    let page = browser.open("about:blank").await?;
    let arguments = serde_json::json!({ "codec": codec, "milliseconds": length.as_millis() as u64 });
    let seen = page.evaluate(&format!("{LOOPBACK}({arguments})")).await?;
    page.close().await?;
    let frames_decoded = seen["framesDecoded"].as_u64().context("no picture was received")?;
    Ok(Baseline {
        frames_decoded,
        freeze_count: seen["freezeCount"].as_u64().unwrap_or(0),
        freezes: Duration::from_secs_f64(seen["totalFreezesDuration"].as_f64().unwrap_or(0.0)),
        audio_energy: seen["totalAudioEnergy"].as_f64().unwrap_or(0.0),
    })
}
