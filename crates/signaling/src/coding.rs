//! What a track is coded with, as its format parameters say it: what a decoder of one can play of another, and plain
//! words for it.

use std::fmt;

use model::Codec;

/// A codec with the profile and level that format parameters name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coding {
    codec: Codec,
    profile: Option<Profile>,
    level: Option<Level>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    H264(H264Profile),
    /// `profile-id` of H265 and VP9, `profile` of AV1.
    Number(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    major: u8,
    minor: u8,
}

impl Coding {
    /// Reads format parameters; what they do not name is not known.
    #[must_use]
    pub fn of(codec: Codec, fmtp: &str) -> Self {
        let number = |name: &str| parameter(fmtp, name)?.parse::<u8>().ok();
        let (profile, level) = match codec {
            Codec::Opus | Codec::Vp8 => (None, None),
            Codec::H264 => {
                let id = parameter(fmtp, "profile-level-id");
                let level = id.and_then(|id| u32::from_str_radix(id, 16).ok()).map(|id| id as u8);
                (id.map(|_| Profile::H264(H264Profile::of(fmtp))), level.map(|level| Level::new(level, 10)))
            }
            // RFC 7798, section 7.1: thirty times the level.
            Codec::H265 => (
                number("profile-id").map(Profile::Number),
                number("level-id").map(|id| Level::new(id / 3, 10)),
            ),
            Codec::Vp9 => (number("profile-id").map(Profile::Number), None),
            // Annex A.3 of the AV1 specification: four levels share a number, which begins at 2.
            Codec::Av1 => {
                let level = number("level-idx").filter(|index| *index < 24);
                let level = level.map(|index| Level { major: 2 + index / 4, minor: index % 4 });
                (number("profile").map(Profile::Number), level)
            }
        };
        Self { codec, profile, level }
    }

    /// The codec alone.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// The profile in the words of its standard, if it is known.
    #[must_use]
    pub fn profile_name(&self) -> Option<String> {
        Some(match (self.codec, self.profile?) {
            (_, Profile::H264(profile)) => profile.name().to_owned(),
            (Codec::H265, Profile::Number(1)) | (Codec::Av1, Profile::Number(0)) => "Main".to_owned(),
            (Codec::H265, Profile::Number(2)) => "Main 10".to_owned(),
            (Codec::H265, Profile::Number(3)) => "Main Still Picture".to_owned(),
            (Codec::H265, Profile::Number(4)) => "Range Extensions".to_owned(),
            (Codec::Av1, Profile::Number(1)) => "High".to_owned(),
            (Codec::Av1, Profile::Number(2)) => "Professional".to_owned(),
            (_, Profile::Number(number)) => format!("profile {number}"),
        })
    }

    /// Whether who offers to decode `offered` plays this.
    ///
    /// Players do more than they offer: Chromium and Firefox offer H264 at level 3.1 and play 4K, and whoever has H264 at
    /// all decodes every profile with 4:2:0 in 8 bits, so that what OBS sends as High after having offered Constrained
    /// Baseline plays everywhere. No level, no tier and none of those profiles is a reason to refuse. More colour or more
    /// bits are: a decoder that was not made for them shows nothing. Who names no profile has not said that he cannot,
    /// though the payload formats have a default for him: GStreamer names none and plays them all.
    #[must_use]
    pub fn is_played_by(&self, offered: &Self) -> bool {
        if self.codec != offered.codec {
            return false;
        }
        if offered.profile.is_none() {
            return true;
        }
        match self.codec {
            Codec::Opus | Codec::Vp8 => true,
            Codec::H264 => offered.h264().plays(self.h264()),
            Codec::H265 => match (self.number(1), offered.number(1)) {
                // A still picture is one of Main. Range Extensions contain all before them.
                (1 | 3, _) | (2, 4) => true,
                (wanted, offered) => wanted == offered,
            },
            // The lower bit is more colour than 4:2:0, the higher one more than 8 bits.
            Codec::Vp9 => self.number(0) & !offered.number(0) == 0,
            Codec::Av1 => self.number(0) <= offered.number(0),
        }
    }

    const fn h264(&self) -> H264Profile {
        match self.profile {
            Some(Profile::H264(profile)) => profile,
            Some(Profile::Number(_)) | None => H264Profile::ConstrainedBaseline,
        }
    }

    fn number(&self, default: u8) -> u8 {
        match self.profile {
            Some(Profile::Number(number)) => number,
            Some(Profile::H264(_)) | None => default,
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(plain_name(self.codec))?;
        match (self.profile_name(), self.level) {
            (Some(profile), Some(level)) => write!(f, " ({profile}, level {level})"),
            (Some(profile), None) => write!(f, " ({profile})"),
            (None, Some(level)) => write!(f, " (level {level})"),
            (None, None) => Ok(()),
        }
    }
}

impl Level {
    const fn new(level: u8, scale: u8) -> Self {
        Self { major: level / scale, minor: level % scale }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.minor {
            0 => write!(f, "{}", self.major),
            minor => write!(f, "{}.{minor}", self.major),
        }
    }
}

/// What people call a codec.
#[must_use]
pub const fn plain_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "Opus",
        Codec::H264 => "H.264",
        Codec::H265 => "H.265",
        Codec::Vp8 => "VP8",
        Codec::Vp9 => "VP9",
        Codec::Av1 => "AV1",
    }
}

/// The value of a format parameter; names are compared without regard to case.
pub(crate) fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// H264 profiles by what a decoder of them can do; later ones do more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    /// The last one with 4:2:0 in 8 bits.
    High,
    /// 10 bits.
    High10,
    /// 4:2:2.
    High422,
    /// 4:4:4; contains all before (ITU-T H.264, section A.2.7).
    High444,
    /// What is not known.
    Other,
}

impl H264Profile {
    /// From `profile-level-id` (RFC 6184, section 8.1); constrained baseline where it is missing.
    pub(crate) fn of(fmtp: &str) -> Self {
        let Some(id) = parameter(fmtp, "profile-level-id") else { return Self::ConstrainedBaseline };
        let Ok(id) = u32::from_str_radix(id, 16) else { return Self::Other };
        let (profile_idc, constraints) = (id >> 16, (id >> 8) & 0xff);
        match profile_idc {
            0x58 if constraints & 0xc0 == 0xc0 => Self::ConstrainedBaseline,
            0x58 if constraints & 0x80 != 0 => Self::Baseline,
            0x42 if constraints & 0x40 != 0 => Self::ConstrainedBaseline,
            0x42 => Self::Baseline,
            0x4d if constraints & 0x80 != 0 => Self::ConstrainedBaseline,
            0x4d => Self::Main,
            0x64 if constraints & 0x0c == 0x0c => Self::ConstrainedHigh,
            0x64 => Self::High,
            0x6e => Self::High10,
            0x7a => Self::High422,
            // CAVLC 4:4:4 Intra is a part of it.
            0xf4 | 0x2c => Self::High444,
            _ => Self::Other,
        }
    }

    /// Whether every browser decodes it, as far as an offer tells. What it does not tell the stream does: ffmpeg 8 writes
    /// seven digits for a stream in Constrained Baseline that it copies.
    pub(crate) const fn may_be_common(self) -> bool {
        !matches!(self, Self::High10 | Self::High422 | Self::High444)
    }

    /// Whether a decoder of this profile plays a stream of another.
    fn plays(self, stream: Self) -> bool {
        match stream {
            Self::High10 | Self::High422 | Self::High444 => self != Self::Other && self >= stream,
            // Of what is not known nothing is refused.
            Self::ConstrainedBaseline
            | Self::Baseline
            | Self::Main
            | Self::ConstrainedHigh
            | Self::High
            | Self::Other => true,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::ConstrainedBaseline => "Constrained Baseline",
            Self::Baseline => "Baseline",
            Self::Main => "Main",
            Self::ConstrainedHigh => "Constrained High",
            Self::High => "High",
            Self::High10 => "High 10",
            Self::High422 => "High 4:2:2",
            Self::High444 => "High 4:4:4",
            Self::Other => "unknown profile",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plays(codec: Codec, stream: &str, offered: &str) -> bool {
        Coding::of(codec, stream).is_played_by(&Coding::of(codec, offered))
    }

    #[test]
    fn h264_is_refused_only_where_it_has_more_colour_or_more_bits() {
        let id = |id: &str| format!("packetization-mode=1;profile-level-id={id}");
        // OBS and Firefox: Constrained Baseline is offered, and High at any level is played.
        for stream in ["42e01f", "42001f", "4d0028", "640c2a", "640033", "58a01f", "560028"] {
            for offered in ["42e01f", "42c01f", "42001e", "4d001f", "640c1f", "f4001f"] {
                assert!(plays(Codec::H264, &id(stream), &id(offered)), "{stream} by {offered}");
            }
        }
        assert!(plays(Codec::H264, &id("f4001f"), "packetization-mode=1"), "no profile is named");
        for (stream, offered, expected) in [
            ("f4001f", "64001f", false),
            ("f4001f", "f4001f", true),
            ("2c001f", "f4001f", true),
            ("7a001f", "f4001f", true),
            ("7a001f", "6e001f", false),
            ("6e0033", "640033", false),
            ("6e0033", "7a001f", true),
            ("6e0033", "42e01f", false),
        ] {
            assert_eq!(plays(Codec::H264, &id(stream), &id(offered)), expected, "{stream} by {offered}");
        }
        assert!(
            plays(Codec::H264, "", &id("nonsense")) && !plays(Codec::H264, &id("f4001f"), &id("nonsense"))
        );
    }

    #[test]
    fn ten_bits_and_full_colour_need_a_decoder_that_says_so_and_levels_do_not() {
        for (codec, stream, offered, expected) in [
            (
                Codec::H265,
                "profile-id=1;level-id=186;tier-flag=1",
                "profile-id=1;level-id=93;tier-flag=0",
                true,
            ),
            (Codec::H265, "profile-id=2", "profile-id=1", false),
            (Codec::H265, "profile-id=2", "level-id=93", true),
            (Codec::H265, "profile-id=2;level-id=153", "profile-id=2;level-id=93", true),
            (Codec::H265, "profile-id=2", "profile-id=4", true),
            (Codec::H265, "profile-id=4", "profile-id=2", false),
            (Codec::H265, "", "profile-id=2", true),
            (Codec::Vp9, "profile-id=0", "", true),
            (Codec::Vp9, "", "profile-id=2", true),
            (Codec::Vp9, "profile-id=2", "profile-id=0", false),
            (Codec::Vp9, "profile-id=2", "max-fs=12288", true),
            (Codec::Vp9, "profile-id=2", "profile-id=1", false),
            (Codec::Vp9, "profile-id=1", "profile-id=3", true),
            (Codec::Vp9, "profile-id=3", "profile-id=2", false),
            (Codec::Av1, "profile=0;level-idx=19;tier=1", "level-idx=5;profile=0;tier=0", true),
            (Codec::Av1, "profile=1", "profile=0", false),
            (Codec::Av1, "profile=0", "profile=1", true),
            (Codec::Vp8, "", "max-fs=12288;max-fr=60", true),
        ] {
            assert_eq!(plays(codec, stream, offered), expected, "{codec} {stream:?} by {offered:?}");
        }
        assert!(!Coding::of(Codec::Vp8, "").is_played_by(&Coding::of(Codec::Vp9, "")));
    }

    #[test]
    fn a_coding_is_said_in_plain_words() {
        for (codec, fmtp, words) in [
            (Codec::H264, "profile-level-id=64002a", "H.264 (High, level 4.2)"),
            (
                Codec::H264,
                "packetization-mode=1;profile-level-id=42e028",
                "H.264 (Constrained Baseline, level 4)",
            ),
            (Codec::H264, "packetization-mode=1", "H.264"),
            (Codec::H265, "profile-id=2;tier-flag=0;level-id=153", "H.265 (Main 10, level 5.1)"),
            (Codec::H265, "level-id=93", "H.265 (level 3.1)"),
            (Codec::Vp9, "profile-id=2", "VP9 (profile 2)"),
            (Codec::Av1, "level-idx=5;profile=0;tier=0", "AV1 (Main, level 3.1)"),
            (Codec::Av1, "level-idx=31;profile=1", "AV1 (High)"),
            (Codec::Opus, "stereo=1", "Opus"),
        ] {
            assert_eq!(Coding::of(codec, fmtp).to_string(), words);
        }
    }

    #[test]
    fn parameters_are_found_whatever_their_case_and_spacing() {
        assert_eq!(parameter("minptime=10; UseInbandFec=1", "useinbandfec"), Some("1"));
        assert_eq!(parameter("apt = 96", "apt"), Some("96"));
        assert_eq!(parameter("0-15", "apt"), None);
    }
}
