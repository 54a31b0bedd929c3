//! What a viewer negotiated: formats, extensions, keys.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use egress::{Extensions, Format, OutTrack, Path, ViewerId, ViewerSetup};
use model::{Bitrate, Codec, Kind, Mid, Ssrc};
use srtp::{MasterKey, Profile};

use crate::network::Conditions;
use crate::random::Random;
use crate::tap::CAPTURE_TIME_ID;

/// Codecs that every viewer knows, and their payload types. AV1 is not among them.
pub const FORMATS: [(Codec, u8); 3] = [(Codec::Opus, 111), (Codec::H264, 96), (Codec::Vp8, 100)];

/// What kind of viewer it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Style {
    /// How its packets are protected.
    pub profile: Profile,
    /// Whether it has an RTX stream; repeats come in the media stream otherwise.
    pub rtx: bool,
    /// What it says that it can take (REMB).
    pub estimate: Option<Bitrate>,
    /// What its datagrams suffer.
    pub conditions: Conditions,
    /// Its numbers begin just below the wrap-around, as if it had watched for long.
    pub is_about_to_wrap: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            profile: Profile::AeadAes128Gcm,
            rtx: true,
            estimate: None,
            conditions: Conditions::PERFECT,
            is_about_to_wrap: false,
        }
    }
}

/// The SSRC of its sound or picture.
pub const fn ssrc(id: ViewerId, kind: Kind) -> Ssrc {
    let stream = match kind {
        Kind::Audio => 1,
        Kind::Video => 2,
    };
    Ssrc::new(id.get() as u32 * 4 + stream)
}

/// The SSRC of its RTX stream.
pub const fn rtx_ssrc(id: ViewerId) -> Ssrc {
    Ssrc::new(id.get() as u32 * 4 + 3)
}

/// Where it is.
pub fn remote(id: ViewerId) -> SocketAddr {
    let [.., a, b, c] = (id.get() as u32).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, a, b, c)), 40_000)
}

/// What its egress must know of it.
pub fn setup(now: Instant, id: ViewerId, style: &Style, random: &mut Random) -> ViewerSetup {
    let mut key = |side: u8| {
        let (mut key, salt) = (random.bytes::<32>(), random.bytes::<14>());
        key[0] = side;
        let (key_len, salt_len) = (style.profile.key_len(), style.profile.salt_len());
        MasterKey::new(style.profile, &key[..key_len], &salt[..salt_len]).expect("lengths of the profile")
    };
    let (send, receive) = (key(1), key(2));
    ViewerSetup {
        id,
        path: Path { local: IpAddr::V4(Ipv4Addr::LOCALHOST), remote: remote(id) },
        send,
        receive,
        audio: Some(track(id, Kind::Audio, style)),
        video: Some(track(id, Kind::Video, style)),
        joined_at: now,
        random: random.bytes(),
        cname: "media-tree".into(),
    }
}

fn track(id: ViewerId, kind: Kind, style: &Style) -> OutTrack {
    let is_video = kind == Kind::Video;
    let formats = FORMATS.iter().filter(|(codec, _)| codec.kind() == kind);
    let formats = formats.map(|(codec, payload_type)| Format {
        codec: *codec,
        fmtp: "".into(),
        payload_type: *payload_type,
        rtx_payload_type: (is_video && style.rtx).then_some(payload_type + 1),
    });
    OutTrack {
        mid: Mid::new(if is_video { "1" } else { "0" }).expect("a good mid"),
        ssrc: ssrc(id, kind),
        rtx_ssrc: (is_video && style.rtx).then(|| rtx_ssrc(id)),
        formats: formats.collect(),
        extensions: Extensions {
            mid: Some(1),
            abs_capture_time: Some(CAPTURE_TIME_ID),
            audio_level: (!is_video).then_some(3),
            video_orientation: is_video.then_some(4),
            transport_sequence: None,
        },
        nack: is_video,
    }
}
