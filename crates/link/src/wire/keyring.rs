//! The key generations of one broadcast that a node can open: the current one and the one before.

use model::Epoch;

use super::GroupKey;
use super::media::{GroupOpener, Header, OpenError};
use super::message::KEYS_MAX;

#[derive(Debug)]
struct Entry {
    epoch: Option<Epoch>,
    key: GroupKey,
    opener: GroupOpener,
}

impl Entry {
    fn rank(&self) -> (Option<Epoch>, model::KeyGeneration) {
        (self.epoch, self.key.generation)
    }
}

/// Newest first. A key of a later epoch is newer, then one of a later generation.
#[derive(Debug, Default)]
pub struct Keyring {
    entries: Vec<Entry>,
}

impl Keyring {
    /// Takes a key; the oldest gives way. Returns whether a key that was not held before is held now.
    pub fn install(&mut self, epoch: Option<Epoch>, key: &GroupKey) -> bool {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == *key) {
            entry.epoch = entry.epoch.max(epoch);
            self.sort();
            return false;
        }
        let entry = Entry { epoch, key: key.clone(), opener: GroupOpener::new(key) };
        self.entries.push(entry);
        self.sort();
        self.entries.truncate(KEYS_MAX);
        self.entries.iter().any(|entry| entry.key == *key)
    }

    fn sort(&mut self) {
        self.entries.sort_by_key(|entry| std::cmp::Reverse(entry.rank()));
    }

    /// No key yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The keys, newest first.
    pub fn keys(&self) -> impl Iterator<Item = &GroupKey> {
        self.entries.iter().map(|entry| &entry.key)
    }

    /// Verifies a packet under whichever key its header names; see [`GroupOpener::open`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, header: &Header, datagram: &[u8], payload: &mut Vec<u8>) -> Result<(), OpenError> {
        let mut outcome = Err(OpenError::UnknownGeneration);
        for entry in &self.entries {
            match entry.opener.open(header, datagram, payload) {
                Ok(()) => return Ok(()),
                Err(OpenError::UnknownGeneration) => {}
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }
}
