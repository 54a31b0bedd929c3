//! The packet that travels through the tree, in the clear.

use bytes::Bytes;
use model::{NtpTime, SeqNo, Ssrc};

use crate::svc::Svc;

/// One RTP packet with its tree-wide identity, as injection made it. Shared by reference count; nobody
/// changes it after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreePacket {
    /// The RTP stream (a track, or one simulcast layer of it).
    pub ssrc: Ssrc,
    /// Place in the stream. A packet lost before injection leaves its gap.
    pub seq_no: SeqNo,
    /// RTP timestamp as published, in ticks of the codec's clock.
    pub timestamp: u32,
    /// RTP marker: last packet of a video frame, first of an audio talk spurt.
    pub marker: bool,
    /// First packet of a frame that decodes without any other (H264 IDR with its parameter sets, VP8 key frame, ...).
    pub starts_keyframe: bool,
    /// When the sample was captured, in the injection node's wallclock.
    pub capture_time: NtpTime,
    /// Audio level as in RFC 6464 (voice flag and -dBov), if the publisher sends it.
    pub audio_level: Option<u8>,
    /// Rotation as in the `urn:3gpp:video-orientation` byte; zero is upright.
    pub orientation: u8,
    /// Its layer, where the stream has several.
    pub svc: Option<Svc>,
    /// RTP payload, without header, padding or RTX prefix. At most 1200 bytes from a sane publisher, never more
    /// than fits a datagram.
    pub payload: Bytes,
}
