//! Session records: bytes of a file that anybody may have written.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use ::records::{RecordId, SealingKey, Store};
use egress::ViewerRecord;
use ingest::PublisherRecord;
use node::envelope;
use octets::{Reader, Writer};

/// The part of a viewer that its core writes.
pub fn viewer(bytes: &[u8]) {
    let Ok(record) = ViewerRecord::decode(bytes) else { return };
    let written = record.encode();
    let again = ViewerRecord::decode(&written).expect("what we write, we read");
    assert_eq!(again.encode(), written);
}

/// The part of a publisher that its core writes.
pub fn publisher(bytes: &[u8]) {
    let Ok(record) = PublisherRecord::decode(bytes) else { return };
    let written = record.encode();
    assert_eq!(PublisherRecord::decode(&written), Ok(record));
    // Earlier layouts are read, and written in today's.
    if bytes.first() == written.first() {
        assert_eq!(&*written, bytes, "one record has one spelling");
    }
}

/// The whole record, with what the shell adds.
pub fn session(bytes: &[u8]) {
    if let Ok((session, record)) = envelope::Viewer::decode(bytes) {
        let written = session.encode(&record);
        let (again, record) = envelope::Viewer::decode(&written).expect("what we write, we read");
        assert_eq!(again.encode(&record), written);
        assert_eq!(again, session);
    }
    if let Ok((session, record)) = envelope::Publisher::decode(bytes) {
        let written = session.encode(&record);
        let is_of_today = bytes.first() == written.first() && bytes.ends_with(&record.encode());
        assert_eq!(envelope::Publisher::decode(&written), Ok((session, record)));
        if is_of_today {
            assert_eq!(&*written, bytes, "one record has one spelling");
        }
    }
}

/// The file of sealed records: whatever is in it, a store opens and keeps what it is given.
pub fn file(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let (now, day) = (SystemTime::UNIX_EPOCH, Duration::from_secs(86_400));
    let key = SealingKey::generate([6; 32]);
    std::fs::write(folder.path().join("records-1k"), bytes).expect("a file");
    let mut store = Store::open(folder.path(), &key).expect("a store");
    let found = store.load_all(now, day);
    assert!(found.len() <= bytes.len().div_ceil(2048), "a slot holds one record");
    let (kept, id) = (store.len(), RecordId { kind: 255, number: 1 });
    let had_it = found.iter().flatten().any(|record| record.id == id);
    store.put(now, id, b"new").expect("room");
    drop(store);
    let mut store = Store::open(folder.path(), &key).expect("a store");
    let found = store.load_all(now, day);
    assert_eq!(found.len(), kept + usize::from(!had_it), "what was refused is gone, the others stay");
    assert!(found.iter().flatten().any(|record| record.id == id && *record.bytes == *b"new"));
}

/// One thing in the bytes of a record.
#[derive(Debug, PartialEq)]
enum Item {
    Number(u8, u64),
    Bytes(Vec<u8>),
    Text(String),
    Ip(IpAddr),
    Address(SocketAddr),
    List(Vec<u16>),
    Option(Option<u32>),
    Flag(bool),
    Rest(Vec<u8>),
}

impl Item {
    fn read(kind: u8, input: &mut Reader<'_>) -> Option<Self> {
        Some(match kind {
            0 => Self::Number(kind, input.u8()?.into()),
            1 => Self::Number(kind, input.u16()?.into()),
            2 => Self::Number(kind, input.u32()?.into()),
            3 => Self::Number(kind, input.u64()?),
            4 => Self::Bytes(input.bytes(1000)?.to_vec()),
            5 => Self::Text(input.text(1000)?),
            6 => Self::Ip(input.ip()?),
            7 => Self::Address(input.address()?),
            8 => Self::List(input.list(200, Reader::u16)?),
            9 => Self::Option(input.option(Reader::u32)?),
            10 => Self::Flag(input.flag()?),
            _ => Self::Rest(input.rest().to_vec()),
        })
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Self::Number(0, value) => out.u8(*value as u8),
            Self::Number(1, value) => out.u16(*value as u16),
            Self::Number(2, value) => out.u32(*value as u32),
            Self::Number(_, value) => out.u64(*value),
            Self::Bytes(bytes) => out.bytes(bytes),
            Self::Text(text) => out.bytes(text.as_bytes()),
            Self::Ip(ip) => out.ip(*ip),
            Self::Address(address) => out.address(*address),
            Self::List(items) => out.list(items, |out, item| out.u16(*item)),
            Self::Option(value) => out.option(*value, Writer::u32),
            Self::Flag(value) => out.u8((*value).into()),
            Self::Rest(bytes) => out.rest(bytes),
        }
    }
}

/// Kinds of things, each followed by the thing: what is read is written the same way.
pub fn octets(bytes: &[u8]) {
    let mut input = Reader::new(bytes);
    let mut kinds = Vec::new();
    let mut items = Vec::new();
    let mut out = Writer::default();
    while let Some(kind) = input.u8().map(|kind| kind % 12) {
        let Some(item) = Item::read(kind, &mut input) else { break };
        item.write(&mut out);
        kinds.push(kind);
        items.push(item);
    }
    let written = out.finish();
    let mut input = Reader::new(&written);
    let again: Option<Vec<Item>> = kinds.iter().map(|kind| Item::read(*kind, &mut input)).collect();
    assert_eq!(again, Some(items));
    assert!(input.is_empty());
}
