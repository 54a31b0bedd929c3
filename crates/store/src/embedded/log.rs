//! The file of the embedded store: an append log that is rewritten when most of it is out of date.
//!
//! The file begins with [`MAGIC`]; frames follow: length of the payload (u32), the first eight bytes of its SHA-256, the
//! payload. A crash can leave the last frames half written; they were never acknowledged and are cut off. A frame that
//! is complete but does not match its sum is damage: what follows cannot be trusted, is cut off too, and the whole file
//! is kept beside it as `NAME.damaged`. Rewriting makes a new file, synchronises it, and renames it over the old one.
//!
//! What could not be written, because the disk is full, is written with the next change that can be: where the file ends,
//! which needs the least room, or, if that is not known, in a new file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::{Collection, Key, Record, VALUE_BYTES_MAX, Version};

/// Format and its version.
const MAGIC: &[u8; 8] = b"mtstore1";
const HEAD_BYTES: usize = 12;
/// More than the largest payload: a value, two names, a version.
const PAYLOAD_BYTES_MAX: usize = VALUE_BYTES_MAX + 1024;
/// A smaller file is not worth rewriting.
const REWRITE_BYTES_MIN: u64 = 1024 * 1024;

const KIND_PUT: u8 = 1;
const KIND_GONE: u8 = 2;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refuses.
    #[error("cannot use the store file {}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the store file {} is in use by another process", .path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The file is something else, or of another version of this program.
    #[error("{} is no store file of this version", .path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
}

/// What is written down.
#[derive(Debug, Clone)]
pub enum Change {
    /// A record is new or has changed.
    Put(Record),
    /// A record is gone.
    Gone(Key),
}

/// Names as they stand in the file: collections of other versions of this program are kept too.
type Name = (String, String);

/// The open file.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    /// Holds the lock as long as it is open.
    _lock: File,
    /// The frame of each record that is there.
    live: BTreeMap<Name, Bytes>,
    live_bytes: u64,
    file_bytes: u64,
    /// The newest frame of each record that is not in the file as it should be.
    unsaved: BTreeMap<Name, Bytes>,
    end: End,
}

/// What stands at the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All that was written, on the disk.
    Whole,
    /// Perhaps a part of what was to be written, behind the frames that are whole.
    Ragged,
    /// Frames of which nobody knows whether they are on the disk.
    Unknown,
}

impl Log {
    /// Opens or makes the file, and reads what is there.
    ///
    /// # Errors
    /// If it cannot be read or written, is in use, or is something else.
    pub fn open(path: &Path) -> Result<(Self, Vec<Record>), FileError> {
        let failed = |source| FileError::Io { path: path.into(), source };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let lock = options.open(beside(path, "lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => FileError::InUse { path: path.into() },
            TryLockError::Error(source) => failed(source),
        })?;
        let file = options.open(path).map_err(failed)?;
        let content = std::fs::read(path).map_err(failed)?;
        let is_new = content.len() < MAGIC.len() && MAGIC.starts_with(&content);
        if !is_new && !content.starts_with(MAGIC) {
            return Err(FileError::Foreign { path: path.into() });
        }
        let live = BTreeMap::new();
        let mut log = Self {
            path: path.into(),
            file,
            _lock: lock,
            live,
            live_bytes: 0,
            file_bytes: 0,
            unsaved: BTreeMap::new(),
            end: End::Whole,
        };
        let records = if is_new {
            log.rewrite().map_err(failed)?;
            Vec::new()
        } else {
            log.read(Bytes::from(content)).map_err(failed)?
        };
        Ok((log, records))
    }

    fn read(&mut self, content: Bytes) -> io::Result<Vec<Record>> {
        let total = content.len();
        let mut rest = content.slice(MAGIC.len()..);
        let mut records = BTreeMap::new();
        let end = loop {
            let before = rest.clone();
            match next_frame(&mut rest) {
                Ok(Some(payload)) => {
                    let frame = before.slice(..before.len() - rest.len());
                    let Some((name, entry)) = parse(payload) else { break Some(Cut::Damaged) };
                    self.keep(name.clone(), matches!(entry, Entry::Put { .. }).then_some(frame));
                    match entry {
                        Entry::Put { version, value } => records.insert(name, (version, value)),
                        Entry::Gone => records.remove(&name),
                    };
                }
                Ok(None) => break None,
                Err(cut) => {
                    rest = before;
                    break Some(cut);
                }
            }
        };
        self.file_bytes = (total - rest.len()) as u64;
        if let Some(cut) = end {
            self.cut_off(cut, rest.len())?;
        }
        Ok(records.into_iter().filter_map(|(name, (version, value))| record(&name, version, value)).collect())
    }

    fn cut_off(&mut self, cut: Cut, bytes: usize) -> io::Result<()> {
        let path = self.path.display();
        match cut {
            Cut::Torn => {
                tracing::info!(%path, bytes, "the store file ends with a write that was cut off; dropped")
            }
            Cut::Damaged => {
                let copy = beside(&self.path, "damaged");
                std::fs::copy(&self.path, &copy)?;
                tracing::warn!(%path, bytes, copy = %copy.display(), "the store file is damaged: its end is lost");
            }
        }
        self.rewrite()
    }

    /// Keeps the frame of a record, or forgets the record.
    fn keep(&mut self, name: Name, frame: Option<Bytes>) {
        let added = frame.as_ref().map_or(0, Bytes::len) as u64;
        let old = match frame {
            Some(frame) => self.live.insert(name, frame),
            None => self.live.remove(&name),
        };
        self.live_bytes += added;
        self.live_bytes -= old.map_or(0, |old| old.len()) as u64;
    }

    /// Writes changes, synchronised, and what could not be written before. After an error the outcome is not known until the
    /// next success, which has all.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        for change in changes {
            let (name, frame) = encode(change);
            self.keep(name.clone(), matches!(change, Change::Put(_)).then(|| frame.clone()));
            self.unsaved.insert(name, frame);
        }
        let is_mostly_old = self.file_bytes > REWRITE_BYTES_MIN.max(2 * self.live_bytes);
        match self.end {
            End::Unknown => self.rewrite(),
            End::Whole | End::Ragged if is_mostly_old => match self.rewrite() {
                // There may be no room for a second file.
                Err(_) if self.end != End::Unknown => self.write_unsaved(),
                done => done,
            },
            End::Whole => self.write_unsaved(),
            End::Ragged => self.write_unsaved().or_else(|_| self.rewrite()),
        }
    }

    /// Writes what is unsaved behind the frames that are whole.
    fn write_unsaved(&mut self) -> io::Result<()> {
        if self.end == End::Ragged {
            self.file.set_len(self.file_bytes)?;
        }
        let mut bytes = BytesMut::new();
        self.unsaved.values().for_each(|frame| bytes.put_slice(frame));
        self.end = End::Ragged;
        if let Err(error) = self.file.write_all_at(&bytes, self.file_bytes) {
            // A full disk gets its room back. If not, the next attempt cuts the end off.
            let _ = self.file.set_len(self.file_bytes);
            return Err(error);
        }
        self.end = End::Unknown;
        self.file.sync_data()?;
        self.end = End::Whole;
        self.unsaved.clear();
        self.file_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file anew of what is there.
    fn rewrite(&mut self) -> io::Result<()> {
        let path = beside(&self.path, "new");
        let file = self.write_anew(&path).inspect_err(|_| {
            // A full disk gets its room back.
            let _ = std::fs::remove_file(&path);
        })?;
        std::fs::rename(&path, &self.path)?;
        self.file = file;
        self.file_bytes = MAGIC.len() as u64 + self.live_bytes;
        self.unsaved.clear();
        // The file is on the disk, its name not yet.
        self.end = End::Unknown;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        self.end = End::Whole;
        Ok(())
    }

    fn write_anew(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(true).read(true).write(true).mode(0o600).open(path)?;
        let mut writer = io::BufWriter::new(&mut file);
        writer.write_all(MAGIC)?;
        for frame in self.live.values() {
            writer.write_all(frame)?;
        }
        writer.flush()?;
        drop(writer);
        file.sync_all()?;
        Ok(file)
    }
}

/// `NAME.word` in the folder of `path`.
fn beside(path: &Path, word: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(word);
    name.into()
}

/// Why reading ended before the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Torn,
    Damaged,
}

/// The payload of the next frame; `None` at the end.
fn next_frame(rest: &mut Bytes) -> Result<Option<Bytes>, Cut> {
    if rest.is_empty() {
        return Ok(None);
    }
    if rest.len() < HEAD_BYTES {
        return Err(Cut::Torn);
    }
    let bytes = rest.get_u32() as usize;
    let sum = rest.get_u64();
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(Cut::Damaged);
    }
    if rest.len() < bytes {
        return Err(Cut::Torn);
    }
    let payload = rest.split_to(bytes);
    if sum_of(&payload) == sum { Ok(Some(payload)) } else { Err(Cut::Damaged) }
}

fn sum_of(payload: &[u8]) -> u64 {
    digest(&SHA256, payload).as_ref().get_u64()
}

enum Entry {
    Put { version: Version, value: Bytes },
    Gone,
}

fn encode(change: &Change) -> (Name, Bytes) {
    let mut payload = BytesMut::new();
    let (kind, key) = match change {
        Change::Put(record) => (KIND_PUT, &record.key),
        Change::Gone(key) => (KIND_GONE, key),
    };
    payload.put_u8(kind);
    let name = (key.collection.to_string(), key.id.to_string());
    for text in [&name.0, &name.1] {
        payload.put_u8(u8::try_from(text.len()).expect("names are short"));
        payload.put_slice(text.as_bytes());
    }
    if let Change::Put(record) = change {
        payload.put_u64(record.version.counter);
        payload.put_u64(record.version.writer);
        payload.put_slice(&record.value);
    }
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + payload.len());
    frame.put_u32(u32::try_from(payload.len()).expect("values are bounded"));
    frame.put_u64(sum_of(&payload));
    frame.put_slice(&payload);
    (name, frame.freeze())
}

fn parse(mut payload: Bytes) -> Option<(Name, Entry)> {
    let kind = payload.try_get_u8().ok()?;
    let name = (text(&mut payload)?, text(&mut payload)?);
    let entry = match kind {
        KIND_PUT => {
            let counter = payload.try_get_u64().ok()?;
            let writer = payload.try_get_u64().ok()?;
            Entry::Put { version: Version { counter, writer }, value: payload }
        }
        KIND_GONE => Entry::Gone,
        _ => return None,
    };
    Some((name, entry))
}

fn text(payload: &mut Bytes) -> Option<String> {
    let bytes = usize::from(payload.try_get_u8().ok()?);
    if payload.len() < bytes {
        return None;
    }
    String::from_utf8(payload.split_to(bytes).to_vec()).ok()
}

/// `None` for what this version of the program does not know; it stays in the file.
fn record((collection, id): &Name, version: Version, value: Bytes) -> Option<Record> {
    let collection = collection.parse::<Collection>().ok()?;
    let key = Key::new(collection, id).ok()?;
    Some(Record { key, value, version })
}

#[cfg(test)]
mod tests;
