//! What nodes send each other.

use bytes::Bytes;
use link::wire::frame;
use link::wire::media::{GroupOpener, GroupSealer, Header};
use link::wire::message::Message;
use link::wire::{GroupKey, KEY_BYTES, SALT_BYTES};
use model::KeyGeneration;

/// A message of a link channel is read, written and read again.
pub fn message(bytes: &[u8]) {
    if let Ok(Some(message)) = Message::decode(bytes) {
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        assert_eq!(Message::decode(&encoded), Ok(Some(message)));
    }
}

/// However a byte stream is cut, the same messages come out of it.
pub fn frames(bytes: &[u8]) {
    let whole = framed(std::iter::once(bytes));
    assert_eq!(framed(bytes.chunks(1)), whole);
    assert_eq!(framed(bytes.chunks(7)), whole);
}

/// The messages of a stream that comes in pieces, and whether it broke.
fn framed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let mut reader = frame::Reader::default();
    let mut messages = Vec::new();
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.pop() {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, false)
}

/// A media datagram's header is read before it can be verified; a packet with that header comes through a link.
pub fn media(bytes: &[u8]) {
    let Ok(header) = Header::parse(bytes) else { return };
    let key = GroupKey {
        generation: KeyGeneration { counter: 1, random: 2 },
        key: [3; KEY_BYTES],
        salt: [4; SALT_BYTES],
    };
    let opener = GroupOpener::new(&key);
    let mut opened = Vec::new();
    assert!(opener.open(&header, bytes, &mut opened).is_err(), "nobody sealed it");
    let packet = header.tree_packet(Bytes::copy_from_slice(bytes));
    let Ok(sealed) = GroupSealer::new(&key).seal(&packet) else { return };
    let again = Header::parse(&sealed).expect("what we write, we read");
    assert_eq!(opener.open(&again, &sealed, &mut opened), Ok(()));
    assert_eq!(again.tree_packet(opened.into()), packet);
}
