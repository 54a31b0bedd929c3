//! What a payload says about the media in it, by RTP payload format: where keyframes start and what it is really coded for.
//!
//! The SDP of a publisher is a claim; this is the truth. Nothing is decoded beyond headers.

mod av1;
pub(crate) mod bits;
pub mod h264;
mod h265;
mod keyframe;
mod profile;
mod vp8;
mod vp9;

#[cfg(test)]
mod tests;

pub use keyframe::KeyframeDetector;
pub use profile::Profile;

use model::Codec;

/// Whether a packet with this payload can be the first of a keyframe, looking at nothing but the payload.
///
/// H.264 and H.265 keyframes may begin with several such packets (parameter sets, then the picture);
/// [`KeyframeDetector`] tells the first from the others. Never true for audio, whose packets all stand alone.
#[must_use]
pub fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => false,
        Codec::H264 => h264::keyframe_part(payload).is_some(),
        Codec::H265 => h265::keyframe_part(payload).is_some(),
        Codec::Vp8 => vp8::starts_keyframe(payload),
        Codec::Vp9 => vp9::starts_keyframe(payload),
        Codec::Av1 => av1::starts_keyframe(payload),
    }
}

/// Width and height of the picture in pixels, where this payload is the first of a keyframe and says so: of H.264 (where
/// nothing is cut) and VP8.
#[must_use]
pub fn picture_size(codec: Codec, payload: &[u8]) -> Option<(u32, u32)> {
    match codec {
        Codec::H264 => h264::sequence_parameters(payload).map(|sps| (sps.width, sps.height)),
        Codec::Vp8 => vp8::picture_size(payload),
        Codec::Opus | Codec::H265 | Codec::Vp9 | Codec::Av1 => None,
    }
}

/// How a packet takes part in the start of a keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyframePart {
    /// Nothing of the keyframe that a decoder needs comes before it.
    Leading,
    /// It starts a keyframe unless a leading packet of the same picture came before.
    Following,
}
