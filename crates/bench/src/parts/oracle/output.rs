//! Where the oracle puts what is published.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use str0m::rtp::RtpPacket;

use crate::parts::mix::Recorder;

/// Payload types of the RTP that other servers are fed with.
pub const AUDIO_PAYLOAD_TYPE: u8 = 111;
/// The same for video.
pub const VIDEO_PAYLOAD_TYPE: u8 = 96;
/// Video goes to this much above the port of audio.
pub const VIDEO_PORT_OFFSET: u16 = 2;
/// RTP header without extensions (RFC 3550, section 5.1).
const HEADER_BYTES: usize = 12;

/// What becomes of the publisher's packets.
pub enum Output {
    /// Its own viewers get them.
    Viewers,
    /// They go out as plain RTP.
    Rtp { socket: UdpSocket, audio: SocketAddr, video: SocketAddr },
    /// Their mix is taken down.
    Mix { recorder: Recorder, file: PathBuf, length: Duration, begun: Instant, is_over: bool },
}

impl Output {
    pub fn rtp(audio: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0").context("bind the socket of plain RTP")?;
        let video = SocketAddr::new(audio.ip(), audio.port() + VIDEO_PORT_OFFSET);
        Ok(Self::Rtp { socket, audio, video })
    }

    pub fn mix(file: PathBuf, length: Duration, hold: Option<Duration>) -> Self {
        let recorder = Recorder::holding(hold);
        Self::Mix { recorder, file, length, begun: Instant::now(), is_over: false }
    }

    /// Whether its work is done.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Mix { is_over: true, .. })
    }

    pub fn take(&mut self, packet: &RtpPacket, is_audio: bool) -> anyhow::Result<()> {
        match self {
            Self::Viewers => {}
            Self::Rtp { socket, audio, video } => {
                let to = if is_audio { audio } else { video };
                // A server that has gone away is noticed by whoever measures it.
                let _ = socket.send_to(&plain(packet, is_audio), *to);
            }
            Self::Mix { recorder, file, length, begun, is_over } => {
                let at = packet.timestamp.saturating_duration_since(*begun).as_micros() as u64;
                let bytes = (HEADER_BYTES + packet.payload.len()) as u16;
                recorder.take(at, is_audio, packet.header.timestamp, bytes);
                if let Some(mix) = recorder.finished(*length) {
                    std::fs::write(&*file, serde_json::to_vec(&mix)?)
                        .with_context(|| format!("write {}", file.display()))?;
                    *is_over = true;
                }
            }
        }
        Ok(())
    }
}

/// The packet as it was before SRTP, without extensions (RFC 3550, section 5.1).
fn plain(packet: &RtpPacket, is_audio: bool) -> Vec<u8> {
    let payload_type = if is_audio { AUDIO_PAYLOAD_TYPE } else { VIDEO_PAYLOAD_TYPE };
    let mut bytes = Vec::with_capacity(HEADER_BYTES + packet.payload.len());
    bytes.extend([0x80, u8::from(packet.header.marker) << 7 | payload_type]);
    bytes.extend(packet.header.sequence_number.to_be_bytes());
    bytes.extend(packet.header.timestamp.to_be_bytes());
    bytes.extend((*packet.header.ssrc).to_be_bytes());
    bytes.extend(&*packet.payload);
    bytes
}
