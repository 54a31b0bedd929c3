//! What a controller and the nodes say to each other about the store: paths, headers, lines of a watch.
//!
//! | Request | Answer |
//! |---|---|
//! | `GET /api/v1/store` | 204 if the store behind answers, else 503 |
//! | `GET /api/v1/store/COLLECTION` | lines: a snapshot |
//! | `GET /api/v1/store/COLLECTION?watch=true`, `.../ID?watch=true` | lines without end |
//! | `GET /api/v1/store/COLLECTION/ID` | the value, version as `ETag`; 404 |
//! | `PUT .../ID` with `If-Match: "VERSION"` or `If-None-Match: *` | 204 and `ETag`; 412 with what is there; 413; 507 |
//! | `DELETE .../ID`, likewise | 204; 404; 412 |
//!
//! A line is a JSON text and a newline: `{"snapshot":N}` and N puts, `{"put":{...}}`, `{"gone":"ID"}`, `"alive"`.
//! Every answer carries [`MARK`], so that another server's 404 is not taken for "no such record".

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Collection, Key, Record, VALUE_BYTES_MAX};

/// The path under which the store stands.
pub const ROOT: &str = "/api/v1/store";
/// Present in each answer of a store.
pub const MARK: &str = "media-tree-store";
/// Lease of a write, in milliseconds.
pub const LEASE: &str = "media-tree-lease";
/// Present in a write that is to wait for a replica, and in the answer to one that no replica confirmed.
pub const DURABLE: &str = "media-tree-durable";
/// How often a watch says that it is alive.
pub const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// The longest line: a value in base64, a version, two names.
const LINE_BYTES_MAX: usize = VALUE_BYTES_MAX / 3 * 4 + 512;

/// One line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// So many puts follow; they are all there is.
    Snapshot(usize),
    /// A record.
    Put(Entry),
    /// The record of this id is gone.
    Gone(String),
    /// Nothing has happened.
    Alive,
}

/// A record in a line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    id: String,
    version: String,
    /// In base64.
    value: String,
}

impl From<&Record> for Entry {
    fn from(record: &Record) -> Self {
        Self {
            id: record.key.id.to_string(),
            version: record.version.to_string(),
            value: STANDARD.encode(&record.value),
        }
    }
}

impl Entry {
    /// The record of `collection`, if this is one.
    pub fn record(&self, collection: Collection) -> Option<Record> {
        Some(Record {
            key: Key::new(collection, &self.id).ok()?,
            value: STANDARD.decode(&self.value).ok()?.into(),
            version: self.version.parse().ok()?,
        })
    }
}

impl Line {
    /// Appends the line to `text`.
    pub fn write(&self, text: &mut Vec<u8>) {
        serde_json::to_writer(&mut *text, self).expect("text and numbers are JSON");
        text.push(b'\n');
    }
}

/// A line is longer than any line of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    waiting: Vec<u8>,
    /// Up to here there is no newline.
    searched: usize,
}

impl Lines {
    /// Takes more bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next line, or `None` if more bytes are needed. A line that says nothing to this version is `Ok(Some(None))`.
    pub fn next(&mut self) -> Result<Option<Option<Line>>, LineTooLong> {
        let Some(length) = self.waiting[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.waiting.len();
            return if self.searched > LINE_BYTES_MAX { Err(LineTooLong) } else { Ok(None) };
        };
        let length = self.searched + length;
        if length > LINE_BYTES_MAX {
            return Err(LineTooLong);
        }
        let line = serde_json::from_slice(&self.waiting[..length]).ok();
        self.waiting.drain(..=length);
        self.searched = 0;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Version;
    use proptest::prelude::*;

    fn record(value: Vec<u8>) -> Record {
        let key = Key::new(Collection::Nodes, "n-1").expect("good");
        Record { key, value: value.into(), version: Version { counter: 3, writer: 4 } }
    }

    #[test]
    fn lines_look_as_documented() {
        let mut text = Vec::new();
        Line::Snapshot(1).write(&mut text);
        Line::Put((&record(b"hi".to_vec())).into()).write(&mut text);
        Line::Gone("n-1".into()).write(&mut text);
        Line::Alive.write(&mut text);
        let expected = "{\"snapshot\":1}\n{\"put\":{\"id\":\"n-1\",\"version\":\"3-0000000000000004\",\"value\":\"aGk=\"}}\n\
                        {\"gone\":\"n-1\"}\n\"alive\"\n";
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        lines.feed(&vec![b' '; LINE_BYTES_MAX]);
        assert_eq!(lines.next(), Ok(None));
        lines.feed(b"  ");
        assert_eq!(lines.next(), Err(LineTooLong));
    }

    #[test]
    fn the_largest_record_fits_a_line() {
        let mut text = Vec::new();
        let largest = record(vec![0; VALUE_BYTES_MAX]);
        Line::Put((&largest).into()).write(&mut text);
        let mut lines = Lines::default();
        lines.feed(&text);
        let Ok(Some(Some(Line::Put(entry)))) = lines.next() else { panic!("not a put") };
        assert_eq!(entry.record(Collection::Nodes), Some(largest));
    }

    proptest! {
        #[test]
        fn lines_come_out_as_they_went_in_however_they_are_cut(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cut in 1usize..50,
        ) {
            let mut text = Vec::new();
            for value in &values {
                Line::Put((&record(value.clone())).into()).write(&mut text);
            }
            let (mut lines, mut out) = (Lines::default(), Vec::new());
            for chunk in text.chunks(cut) {
                lines.feed(chunk);
                while let Some(line) = lines.next().expect("short lines") {
                    out.push(line);
                }
            }
            let expected: Vec<_> = values.into_iter().map(|value| Some(Line::Put((&record(value)).into()))).collect();
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut lines = Lines::default();
            lines.feed(&bytes);
            while let Ok(Some(line)) = lines.next() {
                if let Some(Line::Put(entry)) = line {
                    let _ = entry.record(Collection::Nodes);
                }
            }
        }
    }
}
