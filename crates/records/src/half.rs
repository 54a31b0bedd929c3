//! One half of a slot: the layout of a sealed record, version 1.
//!
//! ```text
//!  0  magic "MTR"      3
//!  3  version          1
//!  4  kind             1      of the session, the caller's
//!  5  zero             3
//!  8  number           8      of the session, the caller's
//! 16  sequence         8      counter of the writes of the store; the nonce
//! 24  written at       8      milliseconds since 1970
//! 32  length           4      of the record
//! 36  zero             4
//! 40  salt            16      of the opening of the store
//! 56  key check        8      tells a foreign key from damage
//! 64  the record, sealed, and its tag of 16 bytes
//! ```
//! Numbers are little-endian. The whole header is authenticated, and with it the file's class and the slot's index.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead;
use zeroize::Zeroizing;

use crate::key::{CHECK_BYTES, Derived, SALT_BYTES, SealingKey};

/// Bytes before the record.
pub const HEADER_BYTES: usize = 64;
/// Bytes around the record.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + 16;
const MAGIC: [u8; 3] = *b"MTR";
const VERSION: u8 = 1;

/// The name of a record: which kind of session, which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Tells publishers from viewers and whatever else has records; the caller's.
    pub kind: u8,
    /// The session; the caller's.
    pub number: u64,
}

/// Why a record was refused. The others load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It was sealed with another key.
    #[error("the record was sealed with another key")]
    Foreign,
    /// It was torn or changed, and so was the version before it.
    #[error("the record is torn or was changed")]
    Damaged,
    /// It was written by a program that writes records differently.
    #[error("the record has version {version}, not {VERSION}")]
    Version {
        /// Its version.
        version: u8,
    },
    /// The peer has given the session up by now.
    #[error("the record was written {age:?} ago")]
    Stale {
        /// Whose it was.
        id: RecordId,
        /// Time since it was written; also if that lies in the future.
        age: Duration,
    },
}

/// Where a half lies: authenticated with it, so that it opens in its own place only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub class: u8,
    pub slot: u32,
}

/// A record in the clear with what its header says.
#[derive(Debug)]
pub struct Opened {
    pub id: RecordId,
    pub sequence: u64,
    pub written_at: SystemTime,
    pub bytes: Zeroizing<Vec<u8>>,
}

/// Seals what this opening of the store writes.
#[derive(Debug)]
pub struct Sealer {
    salt: [u8; SALT_BYTES],
    derived: Derived,
    /// Of the next write. Every value is used once.
    sequence: u64,
}

impl Sealer {
    /// `salt` is fresh random bytes; `sequence` is above that of every record that is there.
    pub fn new(key: &SealingKey, salt: [u8; SALT_BYTES], sequence: u64) -> Self {
        Self { salt, derived: key.derive(&salt), sequence }
    }

    /// Writes a sealed record into `buffer`.
    pub fn seal(&mut self, buffer: &mut Vec<u8>, place: Place, id: RecordId, now: SystemTime, record: &[u8]) {
        let sequence = self.sequence;
        self.sequence += 1;
        buffer.clear();
        buffer.extend_from_slice(&MAGIC);
        buffer.extend_from_slice(&[VERSION, id.kind, 0, 0, 0]);
        buffer.extend_from_slice(&id.number.to_le_bytes());
        buffer.extend_from_slice(&sequence.to_le_bytes());
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        buffer.extend_from_slice(&(since.as_millis() as u64).to_le_bytes());
        buffer.extend_from_slice(&(record.len() as u64).to_le_bytes());
        buffer.extend_from_slice(&self.salt);
        buffer.extend_from_slice(&self.derived.check);
        debug_assert_eq!(buffer.len(), HEADER_BYTES);
        let context = context(buffer, place);
        buffer.extend_from_slice(record);
        let tag = self
            .derived
            .key
            .seal_in_place_separate_tag(
                nonce(sequence),
                aead::Aad::from(&context),
                &mut buffer[HEADER_BYTES..],
            )
            .expect("AES-GCM seals up to 64 GiB");
        buffer.extend_from_slice(tag.as_ref());
    }
}

/// Opens records of any earlier opening of the store.
#[derive(Debug)]
pub struct Opener<'a> {
    key: &'a SealingKey,
    derived: BTreeMap<[u8; SALT_BYTES], Derived>,
}

impl<'a> Opener<'a> {
    pub const fn new(key: &'a SealingKey) -> Self {
        Self { key, derived: BTreeMap::new() }
    }

    /// What a half holds; `None` if nothing was ever written there or it was erased.
    pub fn open(&mut self, half: &[u8], place: Place) -> Option<Result<Opened, RecordError>> {
        if half.iter().take(HEADER_BYTES).all(|byte| *byte == 0) {
            return None;
        }
        Some(self.open_written(half, place))
    }

    fn open_written(&mut self, half: &[u8], place: Place) -> Result<Opened, RecordError> {
        let (header, sealed) = half.split_at_checked(HEADER_BYTES).ok_or(RecordError::Damaged)?;
        if header[..3] != MAGIC {
            return Err(RecordError::Damaged);
        }
        if header[3] != VERSION {
            return Err(RecordError::Version { version: header[3] });
        }
        let salt: [u8; SALT_BYTES] = field(header, 40);
        let derived = self.derived.entry(salt).or_insert_with(|| self.key.derive(&salt));
        if field::<CHECK_BYTES>(header, 56) != derived.check {
            return Err(RecordError::Foreign);
        }
        let number = |at: usize| u64::from_le_bytes(field(header, at));
        let length = usize::try_from(number(32)).map_err(|_| RecordError::Damaged)?;
        let sealed = length.checked_add(16).and_then(|end| sealed.get(..end)).ok_or(RecordError::Damaged)?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let opened = derived
            .key
            .open_in_place(nonce(number(16)), aead::Aad::from(&context(header, place)), &mut bytes)
            .map_err(|_| RecordError::Damaged)?
            .len();
        bytes.truncate(opened);
        Ok(Opened {
            id: RecordId { kind: header[4], number: number(8) },
            sequence: number(16),
            written_at: UNIX_EPOCH
                .checked_add(Duration::from_millis(number(24)))
                .ok_or(RecordError::Damaged)?,
            bytes,
        })
    }
}

fn field<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&header[at..at + N]);
    field
}

fn nonce(sequence: u64) -> aead::Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&sequence.to_be_bytes());
    aead::Nonce::assume_unique_for_key(nonce)
}

fn context(header: &[u8], place: Place) -> [u8; HEADER_BYTES + 5] {
    let mut context = [0; HEADER_BYTES + 5];
    context[..HEADER_BYTES].copy_from_slice(header);
    context[HEADER_BYTES] = place.class;
    context[HEADER_BYTES + 1..].copy_from_slice(&place.slot.to_le_bytes());
    context
}
