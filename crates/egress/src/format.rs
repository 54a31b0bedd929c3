//! Which of a viewer's payload types suits a source.

use model::Codec;

/// A payload type that the viewer negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// What it is coded with.
    pub codec: Codec,
    /// Format parameters as in `a=fmtp`; empty if there are none.
    pub fmtp: Box<str>,
    /// 0 to 127.
    pub payload_type: u8,
    /// Payload type of its RTX stream, if negotiated.
    pub rtx_payload_type: Option<u8>,
}

/// The format for a source with this codec and these parameters.
///
/// Among several of one codec the same profile is best, then one that does more, then any: a player's decoder mostly does more than its offer says, and no picture at all would be worse.
#[must_use]
pub fn choose<'a>(formats: &'a [Format], codec: Codec, fmtp: &str) -> Option<&'a Format> {
    let wanted = Profile::of(codec, fmtp);
    formats.iter().filter(|format| format.codec == codec).min_by_key(|format| {
        let offered = Profile::of(codec, &format.fmtp);
        (offered.idc != wanted.idc, offered.idc < wanted.idc, offered.constraints != wanted.constraints)
    })
}

/// What tells the formats of one codec apart; a greater number does more.
#[derive(Debug, PartialEq, Eq)]
struct Profile {
    idc: u8,
    constraints: u8,
}

impl Profile {
    /// Where nothing is said, what the codec's payload format says that it means.
    fn of(codec: Codec, fmtp: &str) -> Self {
        let number = |name: &str, default: u8| {
            let idc = parameter(fmtp, name).and_then(|value| value.parse().ok()).unwrap_or(default);
            Self { idc, constraints: 0 }
        };
        match codec {
            Codec::H264 => {
                // RFC 6184, section 8.1; the level does not matter here.
                let id = parameter(fmtp, "profile-level-id").and_then(|id| u32::from_str_radix(id, 16).ok());
                let id = id.unwrap_or(0x0042_e01f);
                Self { idc: (id >> 16) as u8, constraints: (id >> 8) as u8 & 0x4f }
            }
            Codec::H265 => number("profile-id", 1),
            Codec::Vp9 => number("profile-id", 0),
            Codec::Av1 => number("profile", 0),
            Codec::Opus | Codec::Vp8 => Self { idc: 0, constraints: 0 },
        }
    }
}

fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(codec: Codec, payload_type: u8, fmtp: &str) -> Format {
        Format { codec, fmtp: fmtp.into(), payload_type, rtx_payload_type: None }
    }

    #[test]
    fn the_same_profile_is_preferred_and_any_is_better_than_none() {
        let formats = [
            format(Codec::Vp8, 120, ""),
            format(Codec::H264, 103, "profile-level-id=42001f;packetization-mode=1"),
            format(Codec::H264, 107, "level-asymmetry-allowed=1; Profile-Level-Id=42e01f"),
            format(Codec::H264, 116, "profile-level-id=64001f"),
        ];
        let chosen = |codec, fmtp| choose(&formats, codec, fmtp).map(|format| format.payload_type);
        assert_eq!(chosen(Codec::Vp8, ""), Some(120));
        assert_eq!(chosen(Codec::H264, "profile-level-id=42c028"), Some(107));
        assert_eq!(chosen(Codec::H264, "profile-level-id=420028"), Some(103));
        assert_eq!(chosen(Codec::H264, "profile-level-id=4d0028"), Some(116), "high does more than main");
        assert_eq!(chosen(Codec::H264, "profile-level-id=640028"), Some(116));
        assert!(chosen(Codec::H264, "profile-level-id=f40028").is_some());
        assert_eq!(chosen(Codec::H264, ""), Some(107));
        assert_eq!(chosen(Codec::Av1, ""), None);
    }

    #[test]
    fn ten_bits_go_where_ten_bits_were_negotiated() {
        let formats = [
            format(Codec::H265, 49, "level-id=180;profile-id=1;tier-flag=0;tx-mode=SRST"),
            format(Codec::H265, 51, "level-id=180;profile-id=2;tier-flag=0;tx-mode=SRST"),
            format(Codec::Vp9, 98, ""),
            format(Codec::Vp9, 100, "profile-id=2"),
            format(Codec::Av1, 45, "level-idx=5;profile=0;tier=0"),
        ];
        let chosen = |codec, fmtp| choose(&formats, codec, fmtp).map(|format| format.payload_type);
        assert_eq!(chosen(Codec::H265, "profile-id=1;tier-flag=0;level-id=93"), Some(49));
        assert_eq!(chosen(Codec::H265, "profile-id=2;tier-flag=0;level-id=153"), Some(51));
        assert_eq!(chosen(Codec::H265, ""), Some(49));
        assert_eq!(chosen(Codec::Vp9, ""), Some(98));
        assert_eq!(chosen(Codec::Vp9, "profile-id=2"), Some(100));
        assert_eq!(chosen(Codec::Av1, "profile=1"), Some(45));
    }
}
