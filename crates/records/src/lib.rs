//! Sealed session records and the files that hold them. Knows bytes and slots, not what a session does with them.
//!
//! A [`Store`] keeps one record for each session in fixed slots of a few files. They are written with `pwrite` and never
//! synchronised: the page cache outlives the process, which is what records are for; they need not outlive the machine.
//! Put the directory on memory-backed storage (tmpfs), so that keys never reach a disk.
//!
//! **Sealing.** Every opening of a store draws a random salt and derives from it and the [`SealingKey`] a key of its own
//! (HKDF-SHA256); records are sealed with AES-256-GCM under that key, the nonce being a counter of the store's writes.
//! So no key and nonce are used twice, across crashes too (but for a process that is restored twice from one snapshot
//! of its memory). Header, file and slot are authenticated with the record: one that was moved or changed does not open.
//! Whoever can write to the directory can still put back an older version of a record; sealing cannot prevent that.
//!
//! **Tearing.** A slot has two halves that are written in turn. A write that is cut off leaves the version before it
//! intact, and that version is what loads. The caller writes a record *before* it acts on what the record says, so the
//! version before is right.
//!
//! One store has one writer, and a directory one store: shards each open their own, so nobody waits for a lock.
#![forbid(unsafe_code)]

mod class;
mod folder;
mod half;
mod key;
mod store;

pub use folder::OpenError;
pub use half::{RecordError, RecordId};
pub use key::{KeyError, SealingKey};
pub use store::{BYTES_MAX, PutError, RECORD_BYTES_MAX, Record, Store};
