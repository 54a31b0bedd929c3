//! One file of slots of one size.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::half::OVERHEAD_BYTES;

/// A file whose slots are two halves of `half_bytes` each.
#[derive(Debug)]
pub struct Class {
    file: File,
    half_bytes: usize,
    /// Slots in the file, used or free.
    slots: u32,
    free: BTreeSet<u32>,
}

/// One of the two halves of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    First,
    Second,
}

impl Side {
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

impl Class {
    /// All slots of the file count as used until they are [`Self::release`]d. What is left of a slot at its end counts
    /// as a whole one, so that what was cut off is seen. More than `bytes_max` was never written by us.
    pub fn open(file: File, half_bytes: usize, bytes_max: u64) -> io::Result<Self> {
        let length = file.metadata()?.len().min(bytes_max);
        let slots = u32::try_from(length.div_ceil(2 * half_bytes as u64)).unwrap_or(u32::MAX);
        Ok(Self { file, half_bytes, slots, free: BTreeSet::new() })
    }

    /// The longest record that fits.
    pub const fn capacity(&self) -> usize {
        self.half_bytes - OVERHEAD_BYTES
    }

    /// Bytes of the file.
    pub const fn bytes(&self) -> u64 {
        self.slots as u64 * self.slot_bytes()
    }

    /// Bytes of one slot.
    pub const fn slot_bytes(&self) -> u64 {
        2 * self.half_bytes as u64
    }

    /// The number of slots, used or free.
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Whether a slot can be had without a longer file.
    pub fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Takes a slot: the first free one, else a new one at the end.
    pub fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        })
    }

    /// Makes a slot free in which nothing was ever written, or nothing whole.
    pub fn release(&mut self, slot: u32) {
        self.free.insert(slot);
    }

    /// Wipes a slot, its newest version last, so that a wipe that is cut off brings no older version to light; makes it
    /// free, and gives the end of the file back if nothing is there. On an error the slot stays taken.
    pub fn erase(&mut self, slot: u32, newest: Side) -> io::Result<()> {
        self.wipe(slot, newest.other())?;
        self.wipe(slot, newest)?;
        self.free.insert(slot);
        let before = self.slots;
        while self.slots > 0 && self.free.remove(&(self.slots - 1)) {
            self.slots -= 1;
        }
        if self.slots < before {
            // What cannot be cut off holds zeros. An error would have a slot wiped again that somebody else may have by then.
            let _ = self.file.set_len(self.bytes());
        }
        Ok(())
    }

    /// Writes zeros over what is in one half, and over nothing else: where nothing was written a full disk has no room.
    fn wipe(&self, slot: u32, side: Side) -> io::Result<()> {
        let mut found = Vec::new();
        let end = match self.read(slot, side, &mut found) {
            Ok(()) => found.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1),
            Err(_unreadable) => self.half_bytes,
        };
        if end == 0 { Ok(()) } else { self.write(slot, side, &vec![0; end]) }
    }

    /// Writes one half in one call.
    pub fn write(&self, slot: u32, side: Side, sealed: &[u8]) -> io::Result<()> {
        debug_assert!(sealed.len() <= self.half_bytes);
        self.file.write_all_at(sealed, self.at(slot, side))
    }

    /// Reads one half; shorter at the end of the file.
    pub fn read(&self, slot: u32, side: Side, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        buffer.resize(self.half_bytes, 0);
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], self.at(slot, side) + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        Ok(())
    }

    /// Puts another file in the place of this one's.
    #[cfg(any(test, feature = "faults"))]
    pub const fn swap_file(&mut self, file: &mut File) {
        std::mem::swap(&mut self.file, file);
    }

    const fn at(&self, slot: u32, side: Side) -> u64 {
        let start = slot as u64 * self.slot_bytes();
        match side {
            Side::First => start,
            Side::Second => start + self.half_bytes as u64,
        }
    }
}
