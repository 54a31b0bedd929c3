//! What ffmpeg sends, byte for byte: the files in `data/` are all that a server got in broadcasts of four pictures and
//! 0.8 s of sound to `rtmp://127.0.0.1:19350/live/show?key=s3cret`.

// Tests begin at any moment and go on from there by themselves.
#![allow(clippy::disallowed_methods)]

use std::time::Instant;

use model::{Bitrate, Codec, Kind, SeqNo};
use packetize::{Picture, Video};
use rtmp::flv::{AudioBody, AudioCodec, VideoBody};
use rtmp::{Connection, Event, Stats};
use transcode::{Audio, Source};

/// ffmpeg 5.1: H.264 and AAC in tags of the old form.
const PLAIN: &[u8] = include_bytes!("data/ffmpeg-h264-aac.rtmp");
/// ffmpeg 9.0: Enhanced RTMP with H.265 and two tracks of Opus.
const ENHANCED: &[u8] = include_bytes!("data/ffmpeg-h265-opus.rtmp");

/// All events of a recording that comes in pieces of this length, and what was counted.
fn play(recording: &[u8], piece: usize) -> (Vec<Event>, Stats) {
    let now = Instant::now();
    let mut connection = Connection::new([1; 32], now);
    let mut events = Vec::new();
    for bytes in recording.chunks(piece) {
        connection.handle_input(now, bytes).expect("ffmpeg keeps the rules");
        while let Some(event) = connection.poll_event() {
            if matches!(event, Event::PublishRequested(_)) {
                connection.accept_publish(now).expect("ffmpeg waits");
            }
            events.push(event);
        }
        connection.output_written(connection.output().len());
    }
    (events, connection.stats())
}

/// Milliseconds of the coded media of one kind.
fn times(events: &[Event], kind: Kind) -> Vec<i64> {
    let time = |event: &Event| match event {
        Event::Video { time, body: VideoBody::Frame { .. }, .. } if kind == Kind::Video => Some(*time),
        Event::Audio { time, body: AudioBody::Frame(_), .. } if kind == Kind::Audio => Some(*time),
        _ => None,
    };
    events.iter().filter_map(time).map(|time| time.as_micros() / 1000).collect()
}

/// RTP payloads of a recording.
fn deliver(recording: &[u8]) -> (Video, Vec<packetize::Packet>, Vec<transcode::Packet>) {
    let mut video = Video::new(1200);
    let mut audio = Audio::new(Bitrate::kbps(128));
    let (mut pictures, mut sound) = (Vec::new(), Vec::new());
    let source = |codec| match codec {
        AudioCodec::Aac => Source::Aac,
        AudioCodec::Mp3 => Source::Mp3,
        AudioCodec::Opus => Source::Opus,
    };
    for event in play(recording, 1460).0 {
        match event {
            Event::Video { codec, body: VideoBody::Config(record), .. } => {
                video.configure(codec, record).expect("a record");
            }
            Event::Video {
                time, body: VideoBody::Frame { composition_millis, is_keyframe, data }, ..
            } => {
                let picture = Picture { decode_time: time, composition_millis, is_keyframe, data };
                pictures.extend(video.picture(picture).expect("no B-frames"));
            }
            Event::Audio { codec, body: AudioBody::Config(config), .. } => {
                audio.configure(source(codec), &config).expect("a configuration");
            }
            Event::Audio { time, codec, body: AudioBody::Frame(data) } => {
                audio.push(source(codec), time, data).expect("a frame");
            }
            Event::PublishRequested(_)
            | Event::Metadata(_)
            | Event::Text { .. }
            | Event::Unpublished
            | Event::Video { body: VideoBody::End, .. }
            | Event::Audio { body: AudioBody::End, .. } => {}
        }
        sound.extend(std::iter::from_fn(|| audio.poll()));
    }
    (video, pictures, sound)
}

/// Timestamps of the keyframes; the tree finds the same ones.
fn keyframes(codec: Codec, packets: &[packetize::Packet]) -> Vec<u32> {
    let mut detector = media_core::codec::KeyframeDetector::new(codec);
    for (index, packet) in packets.iter().enumerate() {
        let found = detector.inspect(SeqNo::new(index as u64), packet.timestamp, &packet.payload);
        assert_eq!(found, packet.starts_keyframe);
    }
    packets.iter().filter(|packet| packet.starts_keyframe).map(|packet| packet.timestamp).collect()
}

#[test]
fn a_whole_broadcast_is_understood() {
    let (events, stats) = play(PLAIN, PLAIN.len());
    let Some(Event::PublishRequested(request)) = events.first() else { panic!("{events:?}") };
    assert_eq!(request.broadcast, "show");
    assert_eq!(request.key.as_ref().map(|key| key.expose()), Some("s3cret"));
    let Some(Event::Metadata(metadata)) = events.get(1) else { panic!("{events:?}") };
    assert_eq!((metadata.width, metadata.frame_rate), (Some(64.0), Some(5.0)));
    assert_eq!(metadata.encoder.as_deref(), Some("Lavf59.27.100"));
    // The first frame of sound only starts the decoder up, so ffmpeg puts the picture after it.
    assert_eq!(times(&events, Kind::Video), [23, 223, 423, 623]);
    let sound = times(&events, Kind::Audio);
    assert_eq!((sound.len(), &sound[..4]), (36, &[0, 23, 46, 69][..]));
    assert_eq!(events.last(), Some(&Event::Unpublished));
    assert_eq!((stats.clock_jumps, stats.skipped_messages), (0, 0));
}

#[test]
fn of_an_enhanced_broadcast_the_first_tracks_are_taken() {
    let (events, stats) = play(ENHANCED, ENHANCED.len());
    assert_eq!(times(&events, Kind::Video), [7, 207, 407, 607]);
    let sound = times(&events, Kind::Audio);
    assert_eq!((sound.len(), &sound[..4]), (41, &[0, 21, 41, 61][..]));
    // The other track of sound, and descriptions.
    assert!(stats.skipped_messages > 40, "{stats:?}");
}

#[test]
fn it_does_not_matter_how_tcp_cuts_it() {
    for recording in [PLAIN, ENHANCED] {
        let whole = play(recording, recording.len());
        for piece in [1, 7, 128, 1460] {
            assert_eq!(play(recording, piece), whole, "pieces of {piece}");
        }
    }
}

#[test]
fn h264_and_aac_become_what_browsers_take() {
    let (video, pictures, sound) = deliver(PLAIN);
    assert_eq!(video.codec(), Some(Codec::H264));
    assert_eq!(keyframes(Codec::H264, &pictures), [2070, 38_070]);
    let sequence = media_core::codec::h264::sequence_parameters(&pictures[0].payload).expect("an SPS");
    assert_eq!((sequence.width, sequence.height), (64, 64));
    assert!((38..=42).contains(&sound.len()), "{}", sound.len());
    assert!(sound.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) == 960));
}

#[test]
fn h265_and_opus_become_what_browsers_take() {
    let (video, pictures, sound) = deliver(ENHANCED);
    assert_eq!(video.codec(), Some(Codec::H265));
    assert_eq!(keyframes(Codec::H265, &pictures), [630, 36_630]);
    assert_eq!(sound.len(), 41);
    assert!(sound.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) == 960));
}
