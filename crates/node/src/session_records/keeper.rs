//! One store of session records and its one writer.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use records::{OpenError, RecordId, SealingKey, Store};
use telemetry::node::RecordCounters;

use super::earlier::Earlier;

/// How often a store says that its process is alive. Later the age of a session is counted from there: a viewer's
/// record is not written for every sign of life.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How often failures of one store are logged.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Which session a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Of none: its time of writing says when the process was last alive.
    Alive = 0,
    Publisher = 1,
    Viewer = 2,
}

impl Kind {
    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Alive),
            1 => Some(Self::Publisher),
            2 => Some(Self::Viewer),
            _ => None,
        }
    }
}

const ALIVE: RecordId = RecordId { kind: Kind::Alive as u8, number: 0 };

/// A store as the owner of sessions uses it: what fails is counted and logged, and stops nobody.
pub struct Keeper {
    store: Store,
    counters: RecordCounters,
    /// Sessions that have a record.
    held: usize,
    alive_at: Option<Instant>,
    /// Whether the store holds [`ALIVE`].
    is_alive_held: bool,
    complained_at: Option<Instant>,
}

impl Keeper {
    /// Opens the store in `directory`; what an earlier process left there is added to `earlier` and erased.
    pub fn open(
        directory: &Path,
        key: &SealingKey,
        counters: RecordCounters,
        earlier: &mut Earlier,
    ) -> Result<Self, OpenError> {
        let mut store = Store::open(directory, key)?;
        for found in store.load_all(SystemTime::now(), Duration::MAX) {
            earlier.add(&found);
            if let Ok(record) = found
                && let Err(error) = store.remove(record.id)
            {
                tracing::error!(%error, directory = %directory.display(), "cannot erase an old session record");
            }
        }
        Ok(Self { store, counters, held: 0, alive_at: None, is_alive_held: false, complained_at: None })
    }

    /// Writes the record of a session, or its next version: when this returns true, it survives the process. Otherwise
    /// the session has no record.
    pub fn put(&mut self, now: Instant, kind: Kind, number: u64, bytes: &[u8]) -> bool {
        let id = RecordId { kind: kind as u8, number };
        let result = self.store.put(SystemTime::now(), id, bytes);
        let is_written = result.is_ok();
        match result {
            Ok(()) => self.counters.put(),
            Err(error) => {
                self.counters.put_failed();
                // The version before promises less than is used from now on: who resumed from it would seal two
                // different packets under one key and nonce. Better no record.
                let erased = self.store.remove(id);
                self.complain(now, &error);
                if let Err(error) = erased {
                    tracing::error!(%error, "an outdated session record cannot be erased: clear node.state_dir");
                }
            }
        }
        self.count();
        is_written
    }

    /// Erases the record of a session, if it has one.
    pub fn remove(&mut self, now: Instant, kind: Kind, number: u64) {
        if let Err(error) = self.store.remove(RecordId { kind: kind as u8, number }) {
            self.complain(now, &error);
        }
        self.count();
    }

    /// Writes now and then that the process is alive.
    pub fn keep_alive(&mut self, now: Instant) {
        if self.alive_at.is_some_and(|at| now < at + ALIVE_INTERVAL) {
            return;
        }
        self.alive_at = Some(now);
        match self.store.put(SystemTime::now(), ALIVE, &[]) {
            Ok(()) => self.is_alive_held = true,
            Err(error) => self.complain(now, &error),
        }
    }

    fn count(&mut self) {
        let held = self.store.len() - usize::from(self.is_alive_held);
        self.counters.held(self.held, held);
        self.held = held;
    }

    fn complain(&mut self, now: Instant, error: &dyn std::fmt::Display) {
        if self.complained_at.is_none_or(|at| now >= at + COMPLAINT_INTERVAL) {
            self.complained_at = Some(now);
            tracing::error!(%error, "session records are not written: their sessions end with this process");
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{NodeId, Role, TreeId};
    use telemetry::{DropReasons, Identity, Telemetry};

    use super::*;

    struct Harness {
        folder: tempfile::TempDir,
        telemetry: Telemetry,
        now: Instant,
    }

    impl Harness {
        fn new() -> Self {
            let identity = Identity {
                tree: TreeId::new("t").expect("an id"),
                node: NodeId::new("n").expect("an id"),
                role: Role::Egress,
            };
            let telemetry = Telemetry::new(&identity, DropReasons::default());
            Self { folder: tempfile::tempdir().expect("a folder"), telemetry, now: Instant::now() }
        }

        fn open(&self, key: u8) -> (Keeper, Earlier) {
            let mut earlier = Earlier::default();
            let key = SealingKey::generate([key; 32]);
            let counters = self.telemetry.node.records();
            let keeper = Keeper::open(self.folder.path(), &key, counters, &mut earlier).expect("a store");
            (keeper, earlier)
        }

        /// Held, written, failed.
        fn counts(&self) -> [String; 3] {
            let text = self.telemetry.encode();
            ["media_tree_records{", "media_tree_record_puts_total{", "media_tree_record_put_failures_total{"]
                .map(|name| {
                    let line = text.lines().find(|line| line.starts_with(name)).expect("the metric");
                    line.rsplit(' ').next().unwrap_or_default().to_owned()
                })
        }
    }

    #[test]
    fn a_version_that_cannot_be_written_takes_the_one_before_with_it() {
        let harness = Harness::new();
        let (mut keeper, _) = harness.open(1);
        assert!(keeper.put(harness.now, Kind::Viewer, 1, b"first"));
        assert!(keeper.put(harness.now, Kind::Viewer, 2, b"other"));
        assert_eq!(harness.counts(), ["2", "2", "0"]);
        assert!(!keeper.put(harness.now, Kind::Viewer, 1, &vec![0; records::RECORD_BYTES_MAX + 1]));
        assert_eq!(harness.counts(), ["1", "2", "1"]);
        assert!(keeper.put(harness.now, Kind::Viewer, 1, b"second"), "it is tried again");
        assert_eq!(harness.counts(), ["2", "3", "1"]);
    }

    #[test]
    fn signs_of_life_are_no_sessions() {
        let harness = Harness::new();
        let (mut keeper, _) = harness.open(1);
        keeper.keep_alive(harness.now);
        assert!(keeper.put(harness.now, Kind::Viewer, 1, b"one"));
        keeper.keep_alive(harness.now + ALIVE_INTERVAL);
        keeper.remove(harness.now, Kind::Viewer, 1);
        assert_eq!(harness.counts(), ["0", "1", "0"]);
        drop(keeper);
        assert_eq!(harness.open(1).1.sessions(), (0, 0, 0));
    }

    #[test]
    fn what_an_earlier_process_left_is_found_once() {
        let harness = Harness::new();
        let (mut keeper, _) = harness.open(1);
        assert!(keeper.put(harness.now, Kind::Viewer, 1, b"no record at all"));
        drop(keeper);
        assert_eq!(harness.open(1).1.sessions(), (0, 0, 1), "neither envelope nor core know these bytes");
        assert_eq!(harness.open(1).1, Earlier::default());
    }

    #[test]
    fn records_of_another_key_are_told_apart_and_erased() {
        let harness = Harness::new();
        let (mut keeper, _) = harness.open(1);
        assert!(keeper.put(harness.now, Kind::Viewer, 1, b"sealed with the first key"));
        drop(keeper);
        let (_, earlier) = harness.open(2);
        assert_eq!((earlier.foreign(), earlier.sessions()), (1, (0, 0, 0)));
        assert_eq!(harness.open(1).1, Earlier::default());
    }
}
