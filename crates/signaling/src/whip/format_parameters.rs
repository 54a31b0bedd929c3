//! Format parameters on both sides of the ingest engine.
//!
//! The engine forwards RTP and decodes nothing, yet matches profile, level and tier of an offer with its own
//! list. So it is shown plain parameters that it knows, and the publisher is answered with those it offered:
//! what it may send is what it said.

use model::Codec;

use crate::Payload;
use crate::coding::H264Profile;

/// What the engine is shown of a payload type.
pub(super) fn engine_fmtp(payload: &Payload) -> Option<String> {
    match payload.codec {
        Codec::Opus => Some("minptime=10;useinbandfec=1".to_owned()),
        Codec::H264 => {
            let mode = payload.parameter("packetization-mode").unwrap_or("0");
            let id = match payload.h264_profile() {
                H264Profile::ConstrainedBaseline => "42e01f",
                H264Profile::Baseline => "42001f",
                H264Profile::Main => "4d001f",
                // The engine has no constrained high of its own; it is a part of high.
                H264Profile::ConstrainedHigh
                | H264Profile::High
                | H264Profile::High10
                | H264Profile::High422
                | H264Profile::High444
                | H264Profile::Other => "64001f",
            };
            Some(format!("level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={id}"))
        }
        Codec::H265 => Some("level-id=180;profile-id=1;tier-flag=0".to_owned()),
        Codec::Vp9 => Some("profile-id=0".to_owned()),
        Codec::Vp8 | Codec::Av1 => None,
    }
}

/// What the publisher is answered: of its own parameters those that a receiver declares.
pub(super) fn answer_fmtp(payload: &Payload) -> Option<String> {
    let names: &[&str] = match payload.codec {
        // Stereo is what browsers send only if the answer asks for it (RFC 7587, section 6.1).
        Codec::Opus => return Some("minptime=10;stereo=1;useinbandfec=1".to_owned()),
        Codec::H264 => &["level-asymmetry-allowed", "packetization-mode", "profile-level-id"],
        Codec::H265 => &["level-id", "profile-id", "tier-flag", "tx-mode"],
        Codec::Vp9 => &["profile-id"],
        Codec::Av1 => &["level-idx", "profile", "tier"],
        Codec::Vp8 => &[],
    };
    let echoed: Vec<String> =
        names.iter().filter_map(|name| Some(format!("{name}={}", payload.parameter(name)?))).collect();
    (!echoed.is_empty()).then(|| echoed.join(";"))
}
