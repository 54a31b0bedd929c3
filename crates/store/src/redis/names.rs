//! What stands in Redis: names of keys and channels, stored values, messages.
//!
//! | Key | Holds |
//! |---|---|
//! | `media-tree:nodes:egress-1` | `COUNTER-WRITER\nVALUE`, with an expiry if there is a lease |
//! | `media-tree:nodes` | the set of ids; one whose lease has ended may still be in it |
//! | `media-tree:nodes!revision` | how many writes the collection has seen |
//! | `media-tree:nodes!era` | random, new whenever the count begins again: Redis was emptied |
//!
//! Changes are published on `media-tree:DB:nodes` and `media-tree:DB:nodes:egress-1`.

use bytes::Bytes;

use crate::{Collection, Key, Record, Version};

/// Names in one database of Redis.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// Channels are not divided by database, so its number is in their names.
    pub database: u16,
}

impl Names {
    pub fn index(self, collection: Collection) -> String {
        format!("media-tree:{collection}")
    }

    /// What stands before the id in the key of a record.
    pub fn before_id(self, collection: Collection) -> String {
        format!("media-tree:{collection}:")
    }

    pub fn record(self, key: &Key) -> String {
        format!("media-tree:{}:{}", key.collection, key.id)
    }

    pub fn revision(self, collection: Collection) -> String {
        format!("media-tree:{collection}!revision")
    }

    pub fn era(self, collection: Collection) -> String {
        format!("media-tree:{collection}!era")
    }

    pub fn channel(self, collection: Collection) -> String {
        format!("media-tree:{}:{collection}", self.database)
    }

    pub fn channel_of(self, key: &Key) -> String {
        format!("media-tree:{}:{}:{}", self.database, key.collection, key.id)
    }
}

/// The record in a stored value.
pub fn record(key: Key, stored: Bytes) -> Option<Record> {
    let (version, value) = stamped(stored)?;
    Some(Record { key, value, version })
}

/// `VERSION\nVALUE`.
fn stamped(stored: Bytes) -> Option<(Version, Bytes)> {
    let (version, rest) = word(stored, b'\n')?;
    Some((version.parse().ok()?, rest))
}

fn word(mut text: Bytes, end: u8) -> Option<(String, Bytes)> {
    // No word of ours is longer than an id.
    let length = text.iter().take(80).position(|byte| *byte == end)?;
    let word = text.split_to(length);
    Some((String::from_utf8(word.to_vec()).ok()?, text.slice(1..)))
}

/// A published change.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub era: String,
    pub key: Key,
    pub version: Version,
    pub change: Change,
}

/// What happened to the record.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    Put { value: Bytes, lease_millis: u64 },
    Gone,
}

/// Reads a message about `collection`.
pub fn message(collection: Collection, payload: Bytes) -> Option<Message> {
    let (kind, rest) = word(payload, b' ')?;
    let (era, rest) = word(rest, b' ')?;
    let (lease, rest) = word(rest, b' ')?;
    let (id, rest) = word(rest, b' ')?;
    let (version, value) = stamped(rest)?;
    let change = match kind.as_str() {
        "put" => Change::Put { value, lease_millis: lease.parse().ok()? },
        "gone" => Change::Gone,
        _ => return None,
    };
    Some(Message { era, key: Key::new(collection, &id).ok()?, version, change })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_what_the_scripts_publish() {
        let put =
            message(Collection::Nodes, "put aa 1500 n-1 7-00000000000000ff\nva lue\n".into()).expect("good");
        assert_eq!((put.era.as_str(), put.key.id.as_str()), ("aa", "n-1"));
        assert_eq!(put.version, Version { counter: 7, writer: 255 });
        assert_eq!(put.change, Change::Put { value: "va lue\n".into(), lease_millis: 1500 });
        let gone = message(Collection::Nodes, "gone aa 0 n-1 8-00000000000000ff\n".into()).expect("good");
        assert_eq!(gone.change, Change::Gone);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let key = Key::new(Collection::Nodes, "n").expect("good");
            let _ = record(key, bytes.clone().into());
            let _ = message(Collection::Nodes, bytes.into());
        }

        #[test]
        fn a_stored_value_is_read_back(counter: u64, writer: u64, value in prop::collection::vec(any::<u8>(), 0..100)) {
            let version = Version { counter, writer };
            let stored = [version.to_string().as_bytes(), b"\n", &value].concat();
            let key = Key::new(Collection::Nodes, "n").expect("good");
            prop_assert_eq!(record(key.clone(), stored.into()), Some(Record { key, value: value.into(), version }));
        }
    }
}
