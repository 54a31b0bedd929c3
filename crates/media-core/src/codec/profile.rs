//! Profile and level of H.265, VP9 and AV1, in the words of SDP.

use model::Codec;

use super::{av1, h265, vp9};

/// What a decoder must be made for, as the media says; what H.264 says stands in
/// [`SequenceParameters`](super::h264::SequenceParameters).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// RFC 7798, section 7.1.
    H265 {
        /// 1 Main, 2 Main 10, ...: the least that a decoder of the stream must have.
        profile: u8,
        /// 0 Main, 1 High.
        tier: u8,
        /// Thirty times the level: 93 is level 3.1.
        level: u8,
    },
    /// RFC 9628, section 6.
    Vp9 {
        /// 0 is 4:2:0 in 8 bits.
        profile: u8,
    },
    /// RTP Payload Format For AV1, section 7.2.
    Av1 {
        /// 0 Main, 1 High, 2 Professional.
        profile: u8,
        /// 0 Main, 1 High.
        tier: u8,
        /// Index of the level: 5 is level 3.1.
        level: u8,
    },
}

impl Profile {
    /// What a payload says, if the beginning of a keyframe is in it.
    #[must_use]
    pub fn read(codec: Codec, payload: &[u8]) -> Option<Self> {
        match codec {
            Codec::H265 => h265::profile(payload),
            Codec::Vp9 => vp9::profile(payload),
            Codec::Av1 => av1::profile(payload),
            Codec::Opus | Codec::H264 | Codec::Vp8 => None,
        }
    }

    /// Which codec's it is.
    #[must_use]
    pub const fn codec(self) -> Codec {
        match self {
            Self::H265 { .. } => Codec::H265,
            Self::Vp9 { .. } => Codec::Vp9,
            Self::Av1 { .. } => Codec::Av1,
        }
    }

    /// What the standard of the codec calls it, in lower case with underscores; `other` where it has no name here.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            // ITU-T H.265, annex A.
            Self::H265 { profile, .. } => match profile {
                1 => "main",
                2 => "main_10",
                3 => "main_still_picture",
                4 => "range_extensions",
                5 => "high_throughput",
                9 => "screen_content",
                _ => "other",
            },
            // RFC 9628 and the bitstream specification number them only.
            Self::Vp9 { profile } => match profile {
                0 => "profile_0",
                1 => "profile_1",
                2 => "profile_2",
                3 => "profile_3",
                _ => "other",
            },
            // AV1 bitstream specification, annex A.
            Self::Av1 { profile, .. } => match profile {
                0 => "main",
                1 => "high",
                2 => "professional",
                _ => "other",
            },
        }
    }

    /// Its level as people write it, as `4.1`; `None` where the media does not say (VP9), or says that there is no bound.
    #[must_use]
    pub fn level(self) -> Option<String> {
        match self {
            // Thirty times the level (ITU-T H.265, section 7.4.4); 255 is level 8.5, without bounds.
            Self::H265 { level, .. } => {
                (level != u8::MAX).then(|| format!("{}.{}", level / 30, level % 30 / 3))
            }
            Self::Vp9 { .. } => None,
            // AV1 bitstream specification, annex A.3; 31 means without bounds.
            Self::Av1 { level, .. } => (level < 24).then(|| format!("{}.{}", 2 + level / 4, level % 4)),
        }
    }

    /// Names and values for `a=fmtp`.
    #[must_use]
    pub fn parameters(self) -> Vec<(&'static str, u8)> {
        match self {
            Self::H265 { profile, tier, level } => {
                vec![("profile-id", profile), ("tier-flag", tier), ("level-id", level)]
            }
            Self::Vp9 { profile } => vec![("profile-id", profile)],
            Self::Av1 { profile, tier, level } => {
                vec![("profile", profile), ("level-idx", level), ("tier", tier)]
            }
        }
    }
}
