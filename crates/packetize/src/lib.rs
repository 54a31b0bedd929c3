//! Coded pictures, as containers carry them, into RTP payloads, as browsers take them.
//!
//! [`Video`] does it for one track: it reads the codec's configuration record, puts parameter sets before every
//! keyframe, cuts pictures into payloads of a given size, gives RTP timestamps, and finds out whether pictures come in
//! another order than they are shown, which WebRTC has no place for.
//!
//! [`Received`] does the same for payloads that come from an RTP sender: those that are too large are cut anew, and
//! keyframes get the parameter sets that the sender told elsewhere.
//!
//! Payload formats: RFC 6184 (H.264), RFC 7798 (H.265), RFC 7741 (VP8), RFC 9628 (VP9), "RTP Payload Format For AV1" 1.0. Sequence
//! numbers, SSRCs, headers and their extensions are left to others, and so is what container the pictures came in.
#![forbid(unsafe_code)]

mod av1;
mod nal;
mod received;
mod record;
mod video;
mod vp8;
mod vp9;

pub use received::{Payload, PayloadError, Received};
pub use record::RecordError;
pub use video::{Packet, Picture, PictureError, Video};

/// The smallest payload limit that makes sense: no header of a payload format comes near it.
pub const PAYLOAD_BYTES_MIN: usize = 64;
