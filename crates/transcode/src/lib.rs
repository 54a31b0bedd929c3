//! Sound as encoders send it, into Opus as browsers take it.
//!
//! [`Audio`] does it for one track. AAC-LC and MP3 are decoded, brought to 48 kHz and to the publisher's clock, and
//! encoded in frames of 20 ms; Opus goes through as it is, with timestamps of a steady clock. The clock counts samples
//! and follows the time stamps of the publisher: small deviations are made up for by playing a little slower or faster,
//! so sound and picture do not drift apart however long a broadcast lasts; larger ones are filled with silence, cut, or
//! left as a gap in the timestamps. Memory is bounded: at most half a second of sound is held.
//!
//! HE-AAC is refused where the encoder announces it; where it does not, its lower half is decoded, as any AAC-LC decoder
//! does. Why these codecs and no others: `docs/decisions/016-sound-of-rtmp.md`.
#![forbid(unsafe_code)]

mod aac;
mod audio;
mod decode;
mod mp3;
mod opus;
mod resample;
mod retime;

pub use aac::AacError;
pub use audio::{Audio, ConfigError, Packet, PacketError, Source, Stats};
pub use opus::OpusError;

/// Samples in a second of what goes out, and ticks of its RTP clock (RFC 7587, section 4.1).
pub const SAMPLE_RATE: u32 = 48_000;
/// Largest packet, in bytes: what goes into one datagram of the tree.
pub const PACKET_BYTES_MAX: usize = 1200;

/// Samples of an outgoing frame: 20 ms.
const FRAME_SAMPLES: usize = 960;
/// One sample of both channels, left first.
type Sample = [f32; 2];
