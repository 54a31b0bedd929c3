//! The codecs of an offer, between our words and str0m's.

use model::Codec;
use str0m::RtcConfig;
use str0m::format::{Codec as WireCodec, PayloadParams};
use str0m::media::{Mid, Pt};
use str0m::rtp::{Extension, ExtensionMap};
use str0m::{Rtc, format::CodecConfig};

/// H264 as OBS and every browser can send it: constrained baseline 3.1, packetization mode 1.
const H264_CONSTRAINED_BASELINE_3_1: u32 = 0x42_e01f;

/// Which payload types an offer lists for H264.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum H264Offer {
    /// One, as OBS does.
    One,
    /// Every profile and packetization mode, as Chromium does.
    All,
}

/// A peer's configuration with these codecs and the header extensions of a browser.
pub(crate) fn configuration(codecs: &[Codec], h264: H264Offer, rtx: bool) -> RtcConfig {
    let mut config = RtcConfig::new().clear_codecs().set_rtp_mode(true);
    let list = config.codec_config();
    for codec in codecs {
        match codec {
            Codec::Opus => list.enable_opus(true, false),
            Codec::Vp8 => list.enable_vp8(true),
            Codec::Vp9 => list.enable_vp9(true),
            Codec::Av1 => list.enable_av1(true),
            Codec::H265 => list.enable_h265(true),
            Codec::H264 => match h264 {
                H264Offer::All => list.enable_h264(true),
                H264Offer::One => list.add_h264(
                    Pt::new_with_value(96),
                    Some(Pt::new_with_value(97)),
                    true,
                    H264_CONSTRAINED_BASELINE_3_1,
                ),
            },
        }
    }
    if !rtx {
        let without: Vec<PayloadParams> =
            list.params().iter().map(|params| PayloadParams::new(params.pt(), None, params.spec())).collect();
        *list = CodecConfig::new_from_payload_params(without);
    }
    let mut extensions = ExtensionMap::standard();
    extensions.set(5, Extension::AbsoluteCaptureTime);
    config.set_extension_map(extensions)
}

/// Our word for it; `None` for codecs that the tree does not carry.
pub(crate) fn from_wire(codec: WireCodec) -> Option<Codec> {
    match codec {
        WireCodec::Opus => Some(Codec::Opus),
        WireCodec::H264 => Some(Codec::H264),
        WireCodec::H265 => Some(Codec::H265),
        WireCodec::Vp8 => Some(Codec::Vp8),
        WireCodec::Vp9 => Some(Codec::Vp9),
        WireCodec::Av1 => Some(Codec::Av1),
        _ => None,
    }
}

/// The payload type that both sides agreed on for sending `codec` on `mid`.
pub(crate) fn agreed_payload_type(rtc: &Rtc, mid: Mid, codec: Codec) -> Option<Pt> {
    let remote = rtc.media(mid)?.remote_pts();
    let is_it = |params: &&PayloadParams| {
        remote.contains(&params.pt()) && from_wire(params.spec().codec) == Some(codec)
    };
    rtc.codec_config().params().iter().find(is_it).map(PayloadParams::pt)
}

/// The codec of a received main payload type.
pub(crate) fn codec_of(rtc: &Rtc, payload_type: Pt) -> Option<Codec> {
    let params = rtc.codec_config().params().iter().find(|params| params.pt() == payload_type)?;
    from_wire(params.spec().codec)
}

/// Whether this payload type is one of retransmissions (RFC 4588).
pub(crate) fn is_rtx(rtc: &Rtc, payload_type: u8) -> bool {
    rtc.codec_config()
        .params()
        .iter()
        .any(|params| params.resend().is_some_and(|resend| *resend == payload_type))
}
