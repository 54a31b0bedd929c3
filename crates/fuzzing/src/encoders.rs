//! RTMP and the coded media that comes over it.

use std::time::Instant;

use bytes::Bytes;
use model::{Bitrate, Codec, MediaTime};
use packetize::{Picture, Video};
use rtmp::amf0::{self, Value};
use rtmp::chunk::{self, CHUNK_BYTES_DEFAULT, Message, message_type};
use rtmp::{Connection, Event};
use transcode::{Audio, Source};

/// A connection: its first byte says in which pieces it comes, the second whether from its beginning or as the media
/// of a broadcast. However it is cut, the same comes out.
pub fn connection(bytes: &[u8]) {
    let [piece, from, rest @ ..] = bytes else { return };
    let input = if from & 1 == 0 { rest.to_vec() } else { [publishing(), rest.to_vec()].concat() };
    let now = Instant::now();
    let whole = play(now, &input, input.len().max(1));
    let pieces = play(now, &input, usize::from(*piece) + 1);
    assert_eq!(whole, pieces);
}

/// All events, and what ended the connection.
fn play(now: Instant, input: &[u8], piece: usize) -> (Vec<Event>, Option<String>) {
    let mut connection = Connection::new([1; 32], now);
    let mut events = Vec::new();
    for bytes in input.chunks(piece) {
        let mut result = connection.handle_input(now, bytes);
        while let Some(event) = connection.poll_event() {
            if let Event::PublishRequested(_) = event {
                result = result.and(connection.accept_publish(now));
            }
            events.push(event);
        }
        // Half a window of answers, and the end of them.
        assert!(connection.output().len() <= 128 << 10);
        connection.output_written(connection.output().len());
        if let Err(error) = result {
            assert!(connection.is_closing());
            return (events, Some(error.to_string()));
        }
    }
    (events, None)
}

/// What an encoder sends until it publishes.
fn publishing() -> Vec<u8> {
    let mut out = [&[3][..], &[0; 1536], &[0; 1536]].concat();
    let application = Value::object([("app", Value::text("live"))]);
    command(&mut out, 0, &[Value::text("connect"), Value::Number(1.0), application]);
    command(&mut out, 0, &[Value::text("createStream"), Value::Number(2.0), Value::Null]);
    command(&mut out, 1, &[Value::text("publish"), Value::Number(3.0), Value::Null, Value::text("show")]);
    out
}

fn command(out: &mut Vec<u8>, stream_id: u32, values: &[Value]) {
    let mut payload = Vec::new();
    for value in values {
        amf0::write(&mut payload, value);
    }
    let message =
        Message { timestamp: 0, message_type: message_type::COMMAND, stream_id, payload: payload.into() };
    chunk::write(out, CHUNK_BYTES_DEFAULT, 3, &message);
}

/// Pictures: the first byte says in which codec, the second how long the configuration record is; then pictures with
/// 16 bits of length, 8 of time and 8 of composition before each.
pub fn pictures(bytes: &[u8]) {
    let [codec, record, rest @ ..] = bytes else { return };
    let codec = [Codec::H264, Codec::H265, Codec::Av1, Codec::Vp9][usize::from(codec & 3)];
    let Some((record, mut rest)) = rest.split_at_checked(usize::from(*record)) else { return };
    let mut video = Video::new(200);
    let _ = video.configure(codec, Bytes::copy_from_slice(record));
    let (mut millis, mut shown) = (0, None);
    while let Some(([high, low, step, composition], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (data, after) = after.split_at(length);
        rest = after;
        millis += i64::from(*step as i8);
        let picture = Picture {
            decode_time: MediaTime::from_millis(millis),
            composition_millis: i32::from(*composition as i8),
            is_keyframe: composition & 1 == 0,
            data: Bytes::copy_from_slice(data),
        };
        let packets = video.picture(picture).unwrap_or_default();
        let Some(last) = packets.last() else { continue };
        assert!(shown.is_none_or(|shown| (last.timestamp.wrapping_sub(shown) as i32) > 0), "time goes on");
        shown = Some(last.timestamp);
        for (index, packet) in packets.iter().enumerate() {
            assert!((1..=200).contains(&packet.payload.len()));
            assert_eq!(packet.marker, index + 1 == packets.len());
            assert!(index == 0 || !packet.starts_keyframe);
        }
    }
}

/// Sound: the first byte says in what, the second how long the configuration is; then frames with 16 bits of length
/// and 8 of time before each.
pub fn sound(bytes: &[u8]) {
    let [source, config, rest @ ..] = bytes else { return };
    let source = [Source::Aac, Source::Mp3, Source::Opus][usize::from(source % 3)];
    let Some((config, mut rest)) = rest.split_at_checked(usize::from(*config)) else { return };
    let mut audio = Audio::new(Bitrate::kbps(128));
    let _ = audio.configure(source, config);
    let (mut millis, mut heard) = (0, i64::MIN);
    // Coding takes its time.
    for _ in 0..16 {
        let Some(([high, low, step], after)) = rest.split_first_chunk::<3>() else { return };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (data, after) = after.split_at(length);
        rest = after;
        millis += i64::from(*step as i8) * 4;
        let _ = audio.push(source, MediaTime::from_millis(millis), Bytes::copy_from_slice(data));
        while let Some(packet) = audio.poll() {
            assert!(packet.payload.len() <= transcode::PACKET_BYTES_MAX);
            assert!(packet.time.as_micros() > heard, "packets do not overlap");
            heard = packet.time.as_micros();
        }
    }
}
