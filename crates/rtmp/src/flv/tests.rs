//! Tags as encoders write them.

use proptest::prelude::*;

use super::*;

fn read_video(bytes: &[u8]) -> Result<Option<VideoTag>, TagError> {
    video(Bytes::copy_from_slice(bytes))
}

fn read_audio(bytes: &[u8]) -> Result<Option<AudioTag>, TagError> {
    audio(Bytes::copy_from_slice(bytes))
}

fn tag(codec: Codec, offset_nanos: u32, body: VideoBody) -> Result<Option<VideoTag>, TagError> {
    Ok(Some(VideoTag { codec, offset_nanos, body }))
}

fn frame(composition_millis: i32, is_keyframe: bool, data: &'static [u8]) -> VideoBody {
    VideoBody::Frame { composition_millis, is_keyframe, data: Bytes::from_static(data) }
}

#[test]
fn h264_comes_in_tags_of_the_old_form() {
    let config = VideoBody::Config(Bytes::from_static(&[1, 0x64]));
    assert_eq!(read_video(&[0x17, 0, 0, 0, 0, 1, 0x64]), tag(Codec::H264, 0, config));
    let shown_earlier = frame(-2, false, &[9]);
    assert_eq!(read_video(&[0x27, 1, 0xff, 0xff, 0xfe, 9]), tag(Codec::H264, 0, shown_earlier));
    assert_eq!(read_video(&[0x17, 2, 0, 0, 0]), tag(Codec::H264, 0, VideoBody::End));
    assert_eq!(read_video(&[0x57, 0]), Ok(None), "a command");
    assert_eq!(read_video(&[0x22, 0]), Err(TagError::VideoCodec { codec: 2 }));
    assert_eq!(read_video(&[0x17, 1, 0]), Err(TagError::Truncated));
    assert_eq!(read_video(&[]), Ok(None));
}

#[test]
fn newer_codecs_come_with_their_code() {
    let hevc = [&[0x91][..], b"hvc1", &[0, 0, 40, 7]].concat();
    assert_eq!(read_video(&hevc), tag(Codec::H265, 0, frame(40, true, &[7])));
    let hevc = [&[0xa3][..], b"hvc1", &[7]].concat();
    assert_eq!(read_video(&hevc), tag(Codec::H265, 0, frame(0, false, &[7])));
    let av1 = [&[0xa1][..], b"av01", &[7]].concat();
    assert_eq!(read_video(&av1), tag(Codec::Av1, 0, frame(0, false, &[7])), "without composition time");
    let vp9 = [&[0x90][..], b"vp09", &[1]].concat();
    assert_eq!(read_video(&vp9), tag(Codec::Vp9, 0, VideoBody::Config(Bytes::from_static(&[1]))));
    let metadata = [&[0x94][..], b"hvc1", &[2, 0, 0]].concat();
    assert_eq!(read_video(&metadata), Ok(None));
    let theirs = [&[0x90][..], b"vvc1"].concat();
    assert_eq!(read_video(&theirs), Err(TagError::FourCc { four_cc: FourCc(*b"vvc1") }));
    assert!(
        TagError::FourCc { four_cc: FourCc([0, 1, b'a', 0xff]) }.to_string().contains(r"'\x00\x01a\xff'")
    );
}

#[test]
fn a_configuration_that_is_not_known_yet_is_none() {
    // As ffmpeg begins with a stream that carries it in its packets.
    assert_eq!(read_audio(&[0xaf, 0]), Ok(None));
    assert_eq!(read_video(&[0x17, 0, 0, 0, 0]), Ok(None));
    assert_eq!(read_audio(&[&[0x90][..], b"mp4a"].concat()), Ok(None));
    assert_eq!(read_video(&[&[0x90][..], b"hvc1"].concat()), Ok(None));
}

#[test]
fn modifiers_add_nanoseconds() {
    // Two modifiers: 3 bytes of nanoseconds, then one of an unknown kind with 16 bits of length.
    let nanos =
        [&[0xa7, 2, 0x01, 0x86, 0xa0, 0x07][..], &[0xff, 1, 0], &[0; 257], &[0x13], b"av01", &[7]].concat();
    assert_eq!(read_video(&nanos), tag(Codec::Av1, 100_000, frame(0, false, &[7])));
    let endless = [&[0xa7][..], &[0, 0, 0x17].repeat(20)].concat();
    assert_eq!(read_video(&endless), Err(TagError::TooManyModifiers));
}

#[test]
fn of_several_tracks_the_first_is_taken() {
    let one = [&[0xa6, 0x03][..], b"avc1", &[0, 7]].concat();
    assert_eq!(read_video(&one), tag(Codec::H264, 0, frame(0, false, &[7])));
    let other = [&[0xa6, 0x03][..], b"avc1", &[1, 7]].concat();
    assert_eq!(read_video(&other), Ok(None));
    let many = [&[0xa6, 0x13][..], b"avc1", &[2, 0, 0, 1, 9, 0, 0, 0, 2, 7, 8]].concat();
    assert_eq!(read_video(&many), tag(Codec::H264, 0, frame(0, false, &[7, 8])));
    let codecs = [&[0x95, 0x21][..], b"ac-3", &[1, 0, 0, 1, 9], b"Opus", &[0, 0, 0, 1, 7]].concat();
    let opus = AudioTag {
        codec: AudioCodec::Opus,
        offset_nanos: 0,
        body: AudioBody::Frame(Bytes::from_static(&[7])),
    };
    assert_eq!(read_audio(&codecs), Ok(Some(opus)));
    let short = [&[0xa6, 0x13][..], b"avc1", &[0, 0, 0, 9, 9]].concat();
    assert_eq!(read_video(&short), Err(TagError::Truncated));
}

#[test]
fn sound_comes_as_aac_mp3_or_opus() {
    let tag = |codec, body| Ok(Some(AudioTag { codec, offset_nanos: 0, body }));
    let config = AudioBody::Config(Bytes::from_static(&[0x11, 0x90]));
    assert_eq!(read_audio(&[0xaf, 0, 0x11, 0x90]), tag(AudioCodec::Aac, config.clone()));
    assert_eq!(read_audio(&[0xaf, 1, 7]), tag(AudioCodec::Aac, AudioBody::Frame(Bytes::from_static(&[7]))));
    assert_eq!(read_audio(&[0x2f, 7]), tag(AudioCodec::Mp3, AudioBody::Frame(Bytes::from_static(&[7]))));
    assert_eq!(read_audio(&[&[0x90][..], b"mp4a", &[0x11, 0x90]].concat()), tag(AudioCodec::Aac, config));
    assert_eq!(read_audio(&[&[0x92][..], b"Opus"].concat()), tag(AudioCodec::Opus, AudioBody::End));
    assert_eq!(read_audio(&[&[0x94][..], b"Opus", &[1, 2]].concat()), Ok(None), "a description of channels");
    assert_eq!(read_audio(&[0xb2, 7]), Err(TagError::SoundFormat { format: 11 }));
    assert_eq!(read_audio(&[0xaf]), Err(TagError::Truncated));
    assert_eq!(read_audio(&[]), Ok(None));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![Just(0x97u8), 0u8..8, any::<u8>()], 0..60)) {
        let _ = read_audio(&bytes);
        let _ = read_video(&bytes);
    }
}
