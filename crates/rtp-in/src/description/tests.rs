//! Descriptions as encoders write them.

use proptest::prelude::*;

use super::*;

/// `-sdp_file` of ffmpeg 5.1 with two outputs.
const FFMPEG: &str = include_str!("../../../../fuzz/corpus/rtp_in/ffmpeg-h264-opus.sdp");
/// The same with one output, a group of multicast and `-flags +global_header`.
const FFMPEG_MULTICAST: &str = include_str!("../../../../fuzz/corpus/rtp_in/ffmpeg-multicast.sdp");

fn described(media: &str) -> Result<Description, DescriptionError> {
    Description::parse(&format!("v=0\no=- 0 0 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.9\nt=0 0\n{media}"))
}

fn error(media: &str) -> String {
    described(media).expect_err("refused").to_string()
}

#[test]
fn what_ffmpeg_writes_is_read() {
    for text in [FFMPEG.to_owned(), format!("SDP:\n{FFMPEG}\n")] {
        let tracks = Description::parse(&text).expect("read").tracks;
        let [video, audio] = &tracks[..] else { panic!("{tracks:?}") };
        assert_eq!((video.codec, video.payload_type, video.port), (Codec::H264, 96, 5004));
        assert_eq!((video.control_port, video.address), (Some(5005), Some([127, 0, 0, 1].into())));
        assert_eq!((audio.codec, audio.payload_type, audio.port), (Codec::Opus, 97, 5006));
        assert!(video.sources.admit([203, 0, 113, 1].into()));
    }
    let track = &Description::parse(FFMPEG_MULTICAST).expect("read").tracks[0];
    assert_eq!(track.address, Some([239, 1, 2, 3].into()));
    assert_eq!(track.profile_level_id, Some([0x64, 0, 0x1e]));
    let types: Vec<u8> = track.parameter_sets.iter().map(|set| set[0] & 0x1f).collect();
    assert_eq!(types, [7, 8]);
}

#[test]
fn who_may_send_and_where_rtcp_comes_is_read() {
    let media = "m=video 5004 RTP/AVP 96\nc=IN IP4 232.1.2.3/127\na=rtpmap:96 VP8/90000\na=rtcp:6000\n\
                 a=source-filter: incl IN IP4 232.1.2.3 192.0.2.7 192.0.2.8\n\
                 a=source-filter: incl IN IP4 232.9.9.9 198.51.100.1\n\
                 m=audio 5006 RTP/AVPF 97\na=rtpmap:97 OPUS/48000/2\na=rtcp-mux\n\
                 a=source-filter: excl IN * * 192.0.2.66\n";
    let tracks = described(media).expect("read").tracks;
    assert_eq!(tracks[0].control_port, Some(6000));
    assert_eq!(tracks[0].sources.included, [[192, 0, 2, 7], [192, 0, 2, 8]].map(IpAddr::from));
    assert!(!tracks[0].sources.admit([192, 0, 2, 9].into()));
    assert_eq!((tracks[1].control_port, tracks[1].address), (None, Some([192, 0, 2, 9].into())));
    assert!(
        !tracks[1].sources.admit([192, 0, 2, 66].into()) && tracks[1].sources.admit([192, 0, 2, 9].into())
    );
    assert!(
        error("m=audio 1 RTP/AVP 97\na=rtpmap:97 opus/48000/2\na=source-filter:incl IN IP4 * gear.example\n")
            .contains("with addresses")
    );
}

#[test]
fn what_cannot_be_received_is_refused_by_name() {
    for (media, words) in [
        ("m=audio 5006 RTP/AVP 97\na=rtpmap:97 MPEG4-GENERIC/48000/2\n", "MPEG4-GENERIC"),
        ("m=video 5004 RTP/AVP 33\n", "MP2T"),
        ("m=audio 5004 RTP/AVP 0 97\na=rtpmap:97 L24/48000/2\n", "PCMU, L24"),
        ("m=video 5004 RTP/AVP 96\na=rtpmap:96 opus/48000/2\n", "opus"),
        ("m=audio 5004 RTP/AVP 96\na=rtpmap:96 opus/16000/2\n", "16000"),
        ("m=video 5004 RTP/SAVP 96\na=rtpmap:96 H264/90000\n", "RTP/SAVP"),
        ("m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=2\n", "interleaved"),
        ("m=video 5004 RTP/AVP 96\na=rtpmap:96 H265/90000\na=fmtp:96 sprop-max-don-diff=2\n", "interleaved"),
        ("m=application 5004 RTP/AVP 96\nm=video 0 RTP/AVP 96\n", "neither"),
    ] {
        assert!(error(media).contains(words), "{media}: {}", error(media));
    }
    let vp8 = |port: u16| format!("m=video {port} RTP/AVP 96\na=rtpmap:96 VP8/90000\n");
    let opus = |port: u16| format!("m=audio {port} RTP/AVP 97\na=rtpmap:97 opus/48000/2\n");
    assert!(error(&format!("{}{}", vp8(5004), vp8(5006))).contains("two video sections"));
    assert!(error(&format!("{}{}", vp8(5004), opus(5004))).contains("port 5004"));
    let neighbours = described(&format!("{}{}", vp8(5004), opus(5005))).expect("read");
    assert_eq!(neighbours.tracks[0].control_port, None, "the sound comes there");
    assert!(matches!(Description::parse("a file"), Err(DescriptionError::Parse(_))));
}

#[test]
fn a_description_that_is_cut_somewhere_is_read_or_refused() {
    for text in [FFMPEG, FFMPEG_MULTICAST] {
        for (end, _) in text.char_indices() {
            if let Ok(description) = Description::parse(&text[..end]) {
                assert!((1..=2).contains(&description.tracks.len()));
            }
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(media in "\\PC{0,200}", attributes in prop::collection::vec("[a-z-]{1,15}[:=]\\PC{0,40}", 0..6)) {
        let attributes: String = attributes.iter().map(|attribute| format!("a={attribute}\n")).collect();
        let _ = Description::parse(&media);
        let _ = described(&format!("m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n{attributes}"));
    }
}
