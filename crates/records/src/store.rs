//! The store: records by id, in slots of fitting size.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::class::{Class, Side};
use crate::folder::{Folder, OpenError};
use crate::half::{OVERHEAD_BYTES, Opened, Opener, Place, RecordError, RecordId, Sealer};
use crate::key::{SALT_BYTES, SealingKey};

/// The files: name, and bytes of half a slot. A viewer's record fits the first, a publisher's with its SDP one of the
/// later ones.
const CLASSES: [(&str, usize); 4] =
    [("records-1k", 1 << 10), ("records-4k", 4 << 10), ("records-16k", 16 << 10), ("records-64k", 64 << 10)];

/// The longest record.
pub const RECORD_BYTES_MAX: usize = CLASSES[CLASSES.len() - 1].1 - OVERHEAD_BYTES;
/// What the files of one store may take together, in bytes: 100 000 viewers of one shard.
pub const BYTES_MAX: u64 = 256 << 20;

/// Places that one call of [`Store::erase_again`] looks at: its caller may have other things to do.
const ERASED_AT_ONCE: usize = 64;

/// A record as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub id: RecordId,
    /// What was put; wiped when dropped.
    pub bytes: Zeroizing<Vec<u8>>,
    /// When.
    pub written_at: SystemTime,
}

/// Why a record was not written. The version before it stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// Too long for any slot.
    #[error("a record of {bytes} bytes is longer than {RECORD_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The files would outgrow [`BYTES_MAX`].
    #[error("the session records take {BYTES_MAX} bytes already")]
    Full,
    /// The file system refused.
    #[error("cannot write a session record: {0}")]
    Io(#[from] io::Error),
}

/// Where the newest version of a record is.
#[derive(Debug, Clone, Copy)]
struct Held {
    place: Place,
    side: Side,
}

/// What a slot holds.
type Found = Result<(Held, Opened), (Place, RecordError)>;

/// Session records in one directory, with one writer.
#[derive(Debug)]
pub struct Store {
    classes: [Class; CLASSES.len()],
    held: BTreeMap<RecordId, Held>,
    /// Places that are to be erased and could not be: what is there would be found by the next opening.
    unerased: VecDeque<Held>,
    sealer: Sealer,
    buffer: Vec<u8>,
    /// What opening found, until it is asked for.
    found: Vec<Found>,
    _folder: Folder,
}

impl Store {
    /// Opens or makes the store in `directory` (made 0700, its files 0600), and reads what is there.
    ///
    /// # Errors
    /// If the directory cannot be had for this process alone. Records that cannot be read are no error.
    pub fn open(directory: &Path, key: &SealingKey) -> Result<Self, OpenError> {
        let folder = Folder::open(directory)?;
        let io = |source| OpenError::Io { path: directory.into(), source };
        let class = |(name, half_bytes): (&str, usize)| {
            Class::open(folder.file(name)?, half_bytes, BYTES_MAX).map_err(io)
        };
        let [a, b, c, d] = CLASSES;
        let mut classes = [class(a)?, class(b)?, class(c)?, class(d)?];
        let found = scan(&mut classes, key).map_err(io)?;
        let newest = found.iter().flatten().map(|(_, opened)| opened.sequence).max();
        let mut salt = [0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt).map_err(|_| OpenError::NoRandom)?;
        let sealer = Sealer::new(key, salt, newest.map_or(1, |newest| newest.saturating_add(1)));
        let mut store = Self {
            classes,
            held: BTreeMap::new(),
            unerased: VecDeque::new(),
            sealer,
            buffer: Vec::new(),
            found,
            _folder: folder,
        };
        store.hold_found().map_err(io)?;
        Ok(store)
    }

    /// Each record that opening found, once, and each that is refused: foreign, damaged, of another version, or written
    /// more than `age_max` before or after `now`. Refused records are wiped; the others are kept and go on.
    pub fn load_all(&mut self, now: SystemTime, age_max: Duration) -> Vec<Result<Record, RecordError>> {
        let found = std::mem::take(&mut self.found);
        found
            .into_iter()
            .map(|found| match found {
                Ok((_, opened)) => {
                    let age = now.duration_since(opened.written_at).unwrap_or_else(|ahead| ahead.duration());
                    if age > age_max {
                        let _ = self.remove(opened.id);
                        return Err(RecordError::Stale { id: opened.id, age });
                    }
                    let Opened { id, bytes, written_at, .. } = opened;
                    Ok(Record { id, bytes, written_at })
                }
                Err((place, error)) => {
                    // What cannot be wiped is refused again the next time.
                    let _ = self.erase(Held { place, side: Side::First });
                    Err(error)
                }
            })
            .collect()
    }

    /// Writes a record, or its next version. When this returns, the record survives the process.
    ///
    /// # Errors
    /// If it cannot be written; the version before it stays then.
    pub fn put(&mut self, now: SystemTime, id: RecordId, record: &[u8]) -> Result<(), PutError> {
        let fitting = self.classes.iter().position(|class| record.len() <= class.capacity());
        let fitting = fitting.ok_or(PutError::TooLong { bytes: record.len() })?;
        let before = self.held.get(&id).copied();
        let stays = before.filter(|held| usize::from(held.place.class) >= fitting);
        let next = match stays {
            Some(held) => Held { place: held.place, side: held.side.other() },
            None => self.take(fitting)?,
        };
        self.sealer.seal(&mut self.buffer, next.place, id, now, record);
        let class = &mut self.classes[usize::from(next.place.class)];
        if let Err(error) = class.write(next.place.slot, next.side, &self.buffer) {
            if stays.is_none() {
                class.release(next.place.slot);
            }
            return Err(error.into());
        }
        self.held.insert(id, next);
        if let Some(moved) = before.filter(|_| stays.is_none()) {
            self.erase(moved)?;
        }
        Ok(())
    }

    /// Erases a record; does nothing if there is none.
    ///
    /// # Errors
    /// If the file system refuses; the record may then still be found by the next opening, until [`Self::erase_again`]
    /// has succeeded.
    pub fn remove(&mut self, id: RecordId) -> io::Result<()> {
        match self.held.remove(&id) {
            Some(held) => self.erase(held),
            None => Ok(()),
        }
    }

    /// Whether something could not be erased yet.
    #[must_use]
    pub fn has_unerased(&self) -> bool {
        !self.unerased.is_empty()
    }

    /// Tries again to erase what could not be erased; some of it, if it is much.
    ///
    /// # Errors
    /// If the file system refuses still. Then the next call begins with another place.
    pub fn erase_again(&mut self) -> io::Result<()> {
        for _ in 0..self.unerased.len().min(ERASED_AT_ONCE) {
            if let Some(held) = self.unerased.pop_front() {
                self.erase(held)?;
            }
        }
        Ok(())
    }

    /// Puts another file in the place of the one with the smallest slots: one that takes nothing is a broken disk.
    #[cfg(any(test, feature = "faults"))]
    pub const fn swap_file(&mut self, file: &mut std::fs::File) {
        self.classes[0].swap_file(file);
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn take(&mut self, class: usize) -> Result<Held, PutError> {
        let bytes: u64 = self.classes.iter().map(Class::bytes).sum();
        let chosen = &mut self.classes[class];
        if !chosen.has_free() && bytes + chosen.slot_bytes() > BYTES_MAX {
            return Err(PutError::Full);
        }
        let place = Place { class: class as u8, slot: chosen.take() };
        Ok(Held { place, side: Side::First })
    }

    /// Takes in what was found. Of two records of one id (its move to a larger slot was cut off) the newer stays and the
    /// older is wiped: it must not come back when the newer one is removed.
    fn hold_found(&mut self) -> io::Result<()> {
        let mut newest: BTreeMap<RecordId, u64> = BTreeMap::new();
        for (_, opened) in self.found.iter().flatten() {
            let sequence = newest.entry(opened.id).or_insert(opened.sequence);
            *sequence = opened.sequence.max(*sequence);
        }
        for found in std::mem::take(&mut self.found) {
            match found {
                Ok((held, opened)) if newest[&opened.id] != opened.sequence => self.erase(held)?,
                Ok((held, opened)) => {
                    self.held.insert(opened.id, held);
                    self.found.push(Ok((held, opened)));
                }
                Err(refused) => self.found.push(Err(refused)),
            }
        }
        Ok(())
    }

    fn erase(&mut self, held: Held) -> io::Result<()> {
        let erased = self.classes[usize::from(held.place.class)].erase(held.place.slot, held.side);
        if erased.is_err() {
            self.unerased.push_back(held);
        }
        erased
    }
}

/// Reads every slot of every file. Slots in which nothing was written become free.
fn scan(classes: &mut [Class], key: &SealingKey) -> io::Result<Vec<Found>> {
    let mut opener = Opener::new(key);
    let mut buffer = Vec::new();
    let mut found = Vec::new();
    for (number, class) in classes.iter_mut().enumerate() {
        for slot in 0..class.slots() {
            let place = Place { class: number as u8, slot };
            let mut newest: Option<Found> = None;
            for side in [Side::First, Side::Second] {
                class.read(slot, side, &mut buffer)?;
                let Some(opened) = opener.open(&buffer, place) else { continue };
                let opened =
                    opened.map(|opened| (Held { place, side }, opened)).map_err(|error| (place, error));
                newest = Some(match newest {
                    None => opened,
                    Some(before) => better(before, opened),
                });
            }
            match newest {
                Some(newest) => found.push(newest),
                None => class.release(slot),
            }
        }
    }
    Ok(found)
}

/// Of the two halves of a slot, the one that counts: what opens before what does not, then the newer.
fn better(first: Found, second: Found) -> Found {
    match (&first, &second) {
        (Ok((_, a)), Ok((_, b))) if b.sequence > a.sequence => second,
        (Err(_), Ok(_)) => second,
        (Ok(_), Ok(_) | Err(_)) | (Err(_), Err(_)) => first,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::PathBuf;

    use super::*;

    struct Harness {
        folder: tempfile::TempDir,
    }

    impl Harness {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().expect("a folder") }
        }

        fn file(&self) -> PathBuf {
            self.folder.path().join(CLASSES[0].0)
        }

        /// The store, and a file that takes nothing, as on a broken disk.
        fn open(&self) -> (Store, File) {
            let store = Store::open(self.folder.path(), &SealingKey::generate([1; 32])).expect("opened");
            (store, File::open(self.file()).expect("a file to read"))
        }

        fn found(&self) -> Vec<u64> {
            let found = self.open().0.load_all(SystemTime::now(), Duration::MAX);
            found.into_iter().map(|record| record.expect("a record").id.number).collect()
        }
    }

    const fn id(number: u64) -> RecordId {
        RecordId { kind: 1, number }
    }

    fn put(store: &mut Store, number: u64) {
        store.put(SystemTime::now(), id(number), b"something").expect("written");
    }

    #[test]
    fn what_could_not_be_erased_is_erased_later_and_until_then_nobody_gets_its_place() {
        let harness = Harness::new();
        let (mut store, mut broken) = harness.open();
        (1..=3).for_each(|number| put(&mut store, number));
        store.swap_file(&mut broken);
        assert!(store.remove(id(1)).is_err() && store.remove(id(2)).is_err());
        assert!(store.erase_again().is_err() && store.has_unerased());
        store.swap_file(&mut broken);
        put(&mut store, 4);
        store.erase_again().expect("erased");
        assert!(!store.has_unerased());
        put(&mut store, 5);
        drop(store);
        assert_eq!(harness.found(), [5, 3, 4]);
    }

    #[test]
    fn what_is_wiped_is_erased_though_its_file_cannot_be_cut() {
        let harness = Harness::new();
        let (mut store, mut broken) = harness.open();
        put(&mut store, 1);
        let bytes = fs::metadata(harness.file()).expect("a file").len();
        fs::write(harness.file(), vec![0; bytes as usize]).expect("wiped");
        store.swap_file(&mut broken);
        store.remove(id(1)).expect("nothing is left to be wiped");
        assert!(!store.has_unerased());
        store.swap_file(&mut broken);
        (2..=3).for_each(|number| put(&mut store, number));
        drop(store);
        assert_eq!(harness.found(), [2, 3]);
    }
}
