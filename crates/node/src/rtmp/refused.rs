//! What the owner of an encoder is advised whose media is not taken.

use doctor::Code;
use packetize::PictureError;
use rtmp::flv::TagError;
use transcode::{AacError, ConfigError, OpusError};

/// For what crates `packetize` and `transcode` do not take.
pub(super) fn of_media(error: &anyhow::Error) -> Code {
    match error.downcast_ref::<PictureError>() {
        Some(PictureError::HasBFrames) => return Code::BFrames,
        Some(PictureError::NoParameterSets) => return Code::ParameterSets,
        _ => {}
    }
    let aac = match error.downcast_ref::<ConfigError>() {
        Some(ConfigError::Aac(aac)) => aac,
        Some(ConfigError::Opus(OpusError::Channels { .. })) => return Code::AudioChannels,
        _ => return Code::MediaUnreadable,
    };
    match aac {
        AacError::Channels { .. } => Code::AudioChannels,
        AacError::HighEfficiency | AacError::Profile { .. } | AacError::ShortFrames => Code::AacProfile,
        _ => Code::MediaUnreadable,
    }
}

/// For what crate `rtmp` does not take. `None` if the connection has ended for something else than its media.
pub(super) fn of_connection(error: &anyhow::Error) -> Option<Code> {
    let rtmp::Error::Tag(tag) = error.downcast_ref::<rtmp::Error>()? else { return None };
    Some(match tag {
        TagError::SoundFormat { .. } | TagError::VideoCodec { .. } | TagError::FourCc { .. } => {
            Code::CodecRefused
        }
        _ => Code::MediaUnreadable,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use ingest::Identity;
    use model::{Codec, MediaTime, NtpTime};
    use rtmp::flv::{AudioBody, AudioCodec, FourCc, VideoBody};

    use super::*;
    use crate::rtmp::media::Media;

    const WALLCLOCK: NtpTime = NtpTime::from_bits(0);

    fn media() -> Media {
        Media::new(Identity([7; 64]))
    }

    fn of_sound(codec: AudioCodec, body: AudioBody) -> Code {
        let time = MediaTime::from_millis(0);
        let taken = media().audio(Instant::now(), WALLCLOCK, (time, codec), body);
        of_media(&taken.expect_err("it is not taken"))
    }

    fn of_configuration(codec: AudioCodec, config: &[u8]) -> Code {
        of_sound(codec, AudioBody::Config(Bytes::copy_from_slice(config)))
    }

    fn of_picture(body: VideoBody) -> Code {
        let time = MediaTime::from_millis(0);
        let taken = media().video(Instant::now(), WALLCLOCK, (time, Codec::H264), body);
        of_media(&taken.expect_err("it is not taken"))
    }

    #[test]
    fn sound_that_is_not_taken_has_the_advice_that_helps() {
        use AudioCodec::{Aac, Opus};
        // 5.1 as OBS and ffmpeg send it, and an arrangement of its own.
        assert_eq!(of_configuration(Aac, &[0x11, 0xb0]), Code::AudioChannels);
        assert_eq!(of_configuration(Aac, &[0x11, 0x80]), Code::AudioChannels);
        let six = b"OpusHead\x01\x06\0\0\0\0\0\0\0\0\x01";
        assert_eq!(of_configuration(Opus, six), Code::AudioChannels);
        // HE-AAC, announced first and announced behind; AAC Main; frames of 960 samples.
        for config in [&[0x2b, 0x92][..], &[0x13, 0x10, 0x56, 0xe5, 0x98], &[0x09, 0x90], &[0x11, 0x94]] {
            assert_eq!(of_configuration(Aac, config), Code::AacProfile, "{config:x?}");
        }
        assert_eq!(of_configuration(Aac, &[0x11]), Code::MediaUnreadable);
        assert_eq!(of_sound(Aac, AudioBody::Frame(Bytes::from_static(&[7]))), Code::MediaUnreadable);
    }

    #[test]
    fn a_picture_that_is_not_taken_has_the_advice_that_helps() {
        assert_eq!(of_media(&PictureError::HasBFrames.into()), Code::BFrames);
        assert_eq!(of_media(&PictureError::NoParameterSets.into()), Code::ParameterSets);
        assert_eq!(of_picture(VideoBody::Config(Bytes::from_static(&[1]))), Code::MediaUnreadable);
        let data = Bytes::from_static(&[0, 0, 0, 1, 0x65]);
        let frame = VideoBody::Frame { composition_millis: 0, is_keyframe: true, data };
        assert_eq!(of_picture(frame), Code::MediaUnreadable);
    }

    #[test]
    fn only_for_its_media_an_encoder_is_advised_where_the_connection_ends() {
        let advice = |error: rtmp::Error| of_connection(&error.into());
        for tag in [
            TagError::SoundFormat { format: 11 },
            TagError::VideoCodec { codec: 2 },
            TagError::FourCc { four_cc: FourCc(*b"ac-3") },
        ] {
            assert_eq!(advice(tag.into()), Some(Code::CodecRefused), "{tag}");
        }
        assert_eq!(advice(TagError::Truncated.into()), Some(Code::MediaUnreadable));
        assert_eq!(advice(rtmp::Error::Silent), None);
        assert_eq!(of_connection(&std::io::Error::other("reset").into()), None);
    }
}
