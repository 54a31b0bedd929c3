//! Chunks as the specification has them, and as encoders have them.

use proptest::prelude::*;

use super::message_type::{AUDIO, COMMAND, VIDEO};
use super::*;

fn read(reader: &mut Reader, bytes: &[u8]) -> Vec<Message> {
    let mut unread = BytesMut::from(bytes);
    let messages = std::iter::from_fn(|| reader.poll(&mut unread).expect("well formed")).collect();
    assert!(unread.is_empty(), "{unread:?}");
    messages
}

fn refusal(bytes: &[u8]) -> ChunkError {
    let mut unread = BytesMut::from(bytes);
    let mut reader = Reader::default();
    loop {
        match reader.poll(&mut unread) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("nothing was refused"),
            Err(error) => return error,
        }
    }
}

fn message(timestamp: u32, message_type: u8, payload: &[u8]) -> Message {
    Message { timestamp, message_type, stream_id: 1, payload: Bytes::copy_from_slice(payload) }
}

#[test]
fn headers_of_every_type_as_in_the_examples_of_the_specification() {
    // Section 5.3.2.1: audio on chunk stream 3, of 32 bytes each, 20 ms apart.
    let sound = [7; 32];
    let mut bytes = vec![0x03, 0, 3, 0xe8, 0, 0, 32, 8, 0x39, 0x30, 0, 0];
    bytes.extend(sound);
    bytes.extend([0x83, 0, 0, 20]);
    bytes.extend(sound);
    for _ in 0..2 {
        bytes.push(0xc3);
        bytes.extend(sound);
    }
    let messages = read(&mut Reader::default(), &bytes);
    let times: Vec<u32> = messages.iter().map(|message| message.timestamp).collect();
    assert_eq!(times, [1000, 1020, 1040, 1060]);
    assert!(messages.iter().all(|message| message.stream_id == 12_345 && message.payload[..] == sound));
}

#[test]
fn chunk_streams_interleave() {
    let (video, audio) = (vec![1; 300], vec![2; 10]);
    let mut bytes = vec![0x06, 0, 0, 40, 0, 1, 44, 9, 1, 0, 0, 0];
    bytes.extend(&video[..128]);
    bytes.extend([0x04, 0, 0, 41, 0, 0, 10, 8, 1, 0, 0, 0]);
    bytes.extend(&audio);
    bytes.push(0xc6);
    bytes.extend(&video[..128]);
    bytes.push(0xc6);
    bytes.extend(&video[..44]);
    let messages = read(&mut Reader::default(), &bytes);
    assert_eq!(messages, [message(41, AUDIO, &audio), message(40, VIDEO, &video)]);
}

#[test]
fn an_extended_time_is_read_whether_or_not_it_is_repeated() {
    let payload: Vec<u8> = (0..200).collect();
    for is_repeated in [true, false] {
        let mut bytes = vec![0x06, 0xff, 0xff, 0xff, 0, 0, 200, 9, 1, 0, 0, 0, 0x12, 0x34, 0x56, 0x78];
        bytes.extend(&payload[..128]);
        bytes.push(0xc6);
        if is_repeated {
            bytes.extend([0x12, 0x34, 0x56, 0x78]);
        }
        bytes.extend(&payload[128..]);
        assert_eq!(read(&mut Reader::default(), &bytes), [message(0x1234_5678, VIDEO, &payload)]);
    }
}

#[test]
fn an_aborted_message_is_forgotten() {
    let mut reader = Reader::default();
    let mut bytes = vec![0x06, 0, 0, 40, 0, 1, 44, 9, 1, 0, 0, 0];
    bytes.extend([1; 128]);
    assert_eq!(read(&mut reader, &bytes), []);
    reader.abort(6);
    let next = [0x06, 0, 0, 41, 0, 0, 1, 9, 1, 0, 0, 0, 5];
    assert_eq!(read(&mut reader, &next), [message(41, VIDEO, &[5])]);
    assert_eq!(reader.unfinished_bytes, 0);
}

#[test]
fn a_first_header_of_type_1_is_taken_and_of_type_2_is_not() {
    let ping = [0x42, 0, 0, 0, 0, 0, 6, 4, 0, 7, 0, 0, 0, 0];
    assert_eq!(read(&mut Reader::default(), &ping).len(), 1);
    assert_eq!(refusal(&[0x85, 0, 0, 0]), ChunkError::NothingToRepeat { chunk_stream: 5, format: 2 });
}

#[test]
fn what_is_too_large_is_refused_by_its_header() {
    let command = [0x03, 0, 0, 0, 1, 0, 1, 20, 0, 0, 0, 0];
    let too_long = ChunkError::TooLong { message_type: COMMAND, length: 65_537, allowed: OTHER_BYTES_MAX };
    assert_eq!(refusal(&command), too_long);
    let mut bytes = Vec::new();
    for chunk_stream in 0..=CHUNK_STREAMS_MAX as u8 {
        bytes.extend([0, chunk_stream, 0, 0, 0, 0, 0, 0, 9, 1, 0, 0, 0]);
    }
    assert_eq!(refusal(&bytes), ChunkError::TooManyStreams);
    let interrupted = [&[0x06, 0, 0, 0, 0, 1, 44, 9, 1, 0, 0, 0][..], &[0; 128], &[0x06; 12]].concat();
    assert_eq!(refusal(&interrupted), ChunkError::Interrupted { chunk_stream: 6 });
}

#[test]
fn unfinished_messages_have_one_limit_together() {
    for (expects_media, allowed, piece) in
        [(true, UNFINISHED_BYTES_MAX, 7 << 20), (false, UNFINISHED_BYTES_BEFORE_MEDIA, 70 << 10)]
    {
        let mut reader = Reader::default();
        if expects_media {
            reader.expect_media();
        }
        reader.set_chunk_bytes(piece).expect("a size");
        let mut unread = BytesMut::new();
        let mut poll = |chunk_stream| {
            unread.extend_from_slice(&[chunk_stream, 0, 0, 0, 0x7f, 0xff, 0xff, 9, 1, 0, 0, 0]);
            unread.extend_from_slice(&vec![0; piece as usize]);
            reader.poll(&mut unread)
        };
        assert_eq!(poll(10), Ok(None));
        assert_eq!(poll(11), Err(ChunkError::TooMuchUnfinished { allowed }));
    }
    let mut reader = Reader::default();
    assert_eq!(reader.set_chunk_bytes(0), Err(ChunkError::ChunkSize { size: 0 }));
    assert_eq!(reader.set_chunk_bytes(1 << 31), Err(ChunkError::ChunkSize { size: 1 << 31 }));
}

/// A peer that uses every type of header wherever it may.
#[derive(Default)]
struct Peer {
    before: BTreeMap<u32, (Message, u32)>,
}

impl Peer {
    fn header(&mut self, chunk_stream: u32, message: &Message, wants: u8) -> Vec<u8> {
        let before = self.before.get(&chunk_stream);
        let time = before.map(|(before, _)| message.timestamp.wrapping_sub(before.timestamp));
        let format = before.map_or(0, |(before, field)| {
            let same_stream = before.stream_id == message.stream_id;
            let same_content = before.message_type == message.message_type
                && before.payload.len() == message.payload.len()
                && same_stream;
            let same_time = same_content && time == Some(*field);
            wants.min(if same_time { 3 } else { u8::from(same_stream) + u8::from(same_content) })
        });
        let field = match format {
            0 => message.timestamp,
            3 => before.map_or(0, |(_, field)| *field),
            _ => time.unwrap_or(0),
        };
        let mut out = basic(format, chunk_stream);
        if format < 3 {
            out.extend(&field.min(EXTENDED).to_be_bytes()[1..]);
        }
        if format < 2 {
            out.extend(&(message.payload.len() as u32).to_be_bytes()[1..]);
            out.push(message.message_type);
        }
        if format == 0 {
            out.extend(message.stream_id.to_le_bytes());
        }
        if field >= EXTENDED {
            out.extend(field.to_be_bytes());
        }
        self.before.insert(chunk_stream, (message.clone(), field));
        out
    }
}

fn basic(format: u8, chunk_stream: u32) -> Vec<u8> {
    let format = format << 6;
    match chunk_stream {
        2..64 => vec![format | chunk_stream as u8],
        64..320 => vec![format, (chunk_stream - 64) as u8],
        _ => vec![format | 1, (chunk_stream - 64) as u8, ((chunk_stream - 64) >> 8) as u8],
    }
}

prop_compose! {
    fn any_message()(
        timestamp in prop_oneof![0u32..100, (EXTENDED - 2)..(EXTENDED + 2), any::<u32>()],
        message_type in prop_oneof![Just(AUDIO), Just(VIDEO), Just(COMMAND)],
        stream_id in 0u32..3,
        payload in prop::collection::vec(any::<u8>(), 0..400),
    ) -> Message {
        Message { timestamp, message_type, stream_id, payload: payload.into() }
    }
}

proptest! {
    #[test]
    fn messages_of_interleaved_chunk_streams_come_back_however_they_are_cut(
        messages in prop::collection::vec((any_message(), 2u32..700, 0u8..4), 1..20),
        chunk_bytes in 1usize..200,
        cuts in prop::collection::vec(1usize..50, 1..40),
        turns in prop::collection::vec(any::<prop::sample::Index>(), 1..100),
    ) {
        // Messages of one chunk stream in their order, those of others anywhere between.
        let mut queues: BTreeMap<u32, Vec<(Message, u8)>> = BTreeMap::new();
        for (message, chunk_stream, wants) in messages {
            queues.entry(2 + chunk_stream % 5 * 160).or_default().push((message, wants));
        }
        let (mut peer, mut bytes, mut sent) = (Peer::default(), Vec::new(), Vec::new());
        let mut under_way: BTreeMap<u32, (Message, usize)> = BTreeMap::new();
        let mut turns = turns.iter().cycle();
        while !queues.is_empty() {
            let choices: Vec<u32> = queues.keys().copied().collect();
            let chunk_stream = choices[turns.next().expect("a cycle").index(choices.len())];
            let queue = queues.get_mut(&chunk_stream).expect("chosen");
            let (message, done) = match under_way.remove(&chunk_stream) {
                Some(state) => {
                    bytes.extend(basic(3, chunk_stream));
                    let field = peer.before[&chunk_stream].1;
                    if field >= EXTENDED {
                        bytes.extend(field.to_be_bytes());
                    }
                    state
                }
                None => {
                    let (message, wants) = queue[0].clone();
                    bytes.extend(peer.header(chunk_stream, &message, wants));
                    (message, 0)
                }
            };
            let end = message.payload.len().min(done + chunk_bytes);
            bytes.extend(&message.payload[done..end]);
            if end == message.payload.len() {
                sent.push(message);
                queue.remove(0);
            } else {
                under_way.insert(chunk_stream, (message, end));
            }
            queues.retain(|_, queue| !queue.is_empty());
        }
        let mut reader = Reader::default();
        reader.set_chunk_bytes(chunk_bytes as u32).expect("a size");
        let (mut unread, mut received, mut rest) = (BytesMut::new(), Vec::new(), &bytes[..]);
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            unread.extend_from_slice(now);
            while let Some(message) = reader.poll(&mut unread).expect("well formed") {
                received.push(message);
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(received, sent);
        prop_assert!(unread.is_empty());
        prop_assert_eq!(reader.unfinished_bytes, 0);
    }

    #[test]
    fn what_is_written_is_read(message in any_message(), chunk_bytes in 1usize..300, chunk_stream in 2u8..64) {
        let mut bytes = Vec::new();
        write(&mut bytes, chunk_bytes, chunk_stream, &message);
        let mut reader = Reader::default();
        reader.set_chunk_bytes(chunk_bytes as u32).expect("a size");
        prop_assert_eq!(read(&mut reader, &bytes), [message]);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![0u8..8, any::<u8>()], 0..600)) {
        let (mut reader, mut unread) = (Reader::default(), BytesMut::from(&bytes[..]));
        while let Ok(Some(_)) = reader.poll(&mut unread) {}
    }
}
