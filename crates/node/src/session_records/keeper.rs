//! One store of session records and its one writer.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use records::{OpenError, Record, RecordId, SealingKey, Store};
use telemetry::RecordRefusal;
use telemetry::node::RecordCounters;
use zeroize::Zeroizing;

use super::earlier::{Earlier, SILENCE_MAX, reason, silence};

/// How often a store says that its process is alive: the age of its sessions is counted from there.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How often failures of one store are logged.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Which session a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Of none: its time of writing says when the process was last alive, its content which UDP port it had.
    Alive = 0,
    Publisher = 1,
    Viewer = 2,
    /// Of none: what the process knew that is no session.
    Memory = 3,
}

impl Kind {
    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Alive),
            1 => Some(Self::Publisher),
            2 => Some(Self::Viewer),
            3 => Some(Self::Memory),
            _ => None,
        }
    }

    const fn is_session(self) -> bool {
        matches!(self, Self::Publisher | Self::Viewer)
    }
}

const ALIVE: RecordId = RecordId { kind: Kind::Alive as u8, number: 0 };

/// A record of an earlier process that may be resumed from. The keeper holds it until it is removed.
pub struct Found {
    pub kind: Kind,
    pub number: u64,
    pub bytes: Zeroizing<Vec<u8>>,
}

/// A store as the owner of sessions uses it: what fails is counted and logged, and stops nobody.
pub struct Keeper {
    store: Store,
    counters: RecordCounters,
    /// Of the socket that the sessions run over.
    port: u16,
    /// Sessions that have a record.
    held: usize,
    /// Records of the store that are no session's.
    others: usize,
    alive_at: Option<Instant>,
    complained_at: Option<Instant>,
    /// It was said that something cannot be erased.
    has_outdated: bool,
}

impl Keeper {
    /// Opens the store in `directory`, whose sessions run over the socket at `port`. Gives what an earlier process left
    /// there that can be resumed from; the rest is told to `earlier`, counted and erased.
    pub fn open(
        directory: &Path,
        key: &SealingKey,
        port: u16,
        (counters, earlier): (&RecordCounters, &mut Earlier),
    ) -> Result<(Self, Vec<Found>), OpenError> {
        let mut store = Store::open(directory, key)?;
        let (counters, now) = (counters.clone(), SystemTime::now());
        let found = store.load_all(now, Duration::MAX);
        let is_given_up = earlier.is_given_up;
        let mut here = Earlier { silence: silence(&found, now), is_given_up, ..Earlier::default() };
        let alive = found.iter().flatten().find(|record| record.id == ALIVE);
        let old_port = alive.and_then(|record| Some(u16::from_le_bytes(*record.bytes.first_chunk()?)));
        let is_moved = old_port.is_some_and(|old| old != port);
        let mut keeper = Self {
            store,
            counters,
            port,
            held: 0,
            others: 0,
            alive_at: None,
            complained_at: None,
            has_outdated: false,
        };
        let mut good = Vec::new();
        for found in found {
            let (id, judged) = match found {
                Ok(record) => (Some(record.id), judge(record, &here, is_moved)),
                // Its slot is wiped already.
                Err(error) => (None, Err((reason(&error), error.to_string()))),
            };
            match judged {
                Ok(found) => {
                    here.publishers += usize::from(found.kind == Kind::Publisher);
                    here.viewers += usize::from(found.kind == Kind::Viewer);
                    keeper.others += usize::from(!found.kind.is_session());
                    good.push(found);
                }
                Err((reason, why)) => {
                    keeper.counters.refused(reason);
                    here.refuse(reason, &why);
                    id.into_iter().for_each(|id| keeper.erase(id));
                }
            }
        }
        keeper.count();
        earlier.add(&here);
        Ok((keeper, good))
    }

    /// Erases the record of an earlier session that is not resumed, and says why.
    pub fn refuse(&mut self, (kind, number): (Kind, u64), reason: RecordRefusal, error: &dyn Display) {
        tracing::warn!(?kind, number, ?reason, %error, "session of an earlier process is not resumed");
        self.counters.refused(reason);
        self.erase(RecordId { kind: kind as u8, number });
        self.count();
    }

    /// Erases what an earlier process left in a store that nobody owns any more.
    pub fn disown(&mut self, kind: Kind, number: u64) {
        if kind.is_session() {
            self.refuse(
                (kind, number),
                RecordRefusal::Moved,
                &"this node has no longer the socket it runs over",
            );
        } else {
            self.erase(RecordId { kind: kind as u8, number });
        }
    }

    /// A session of an earlier process goes on.
    pub fn resumed(&self) {
        self.counters.resumed();
    }

    /// Nobody goes on with this store: what could not be erased is tried once more, and never again.
    pub fn give_up(mut self) {
        let erased = self.store.erase_again();
        self.note_erased(erased);
        if self.store.has_unerased() {
            tracing::error!(
                "records that nobody owns are not erased, and are not tried again: clear node.state_dir"
            );
        }
    }

    fn erase(&mut self, id: RecordId) {
        let erased = self.store.remove(id);
        self.note_erased(erased);
    }

    /// Says once that something could not be erased, and when all of that is.
    fn note_erased(&mut self, erased: io::Result<()>) {
        let reason = erased.err().map(|error| error.to_string());
        let had_outdated = std::mem::replace(&mut self.has_outdated, self.store.has_unerased());
        match (had_outdated, self.has_outdated) {
            (false, true) => tracing::error!(
                reason = reason.as_deref(),
                "an outdated session record cannot be erased, which is tried again: if that is not said to be \
                 over, clear node.state_dir before the node starts again"
            ),
            (true, false) => tracing::info!("the session records that could not be erased are erased"),
            (false, false) | (true, true) => {}
        }
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
                self.note_erased(erased);
            }
        }
        self.count();
        is_written
    }

    /// Erases the record of a session, if it has one.
    pub fn remove(&mut self, kind: Kind, number: u64) {
        self.erase(RecordId { kind: kind as u8, number });
        self.count();
    }

    /// Writes now and then that the process is alive, and tries again to erase what could not be erased.
    pub fn keep_alive(&mut self, now: Instant) {
        if self.alive_at.is_some_and(|at| now < at + ALIVE_INTERVAL) {
            return;
        }
        self.alive_at = Some(now);
        if self.store.has_unerased() {
            let erased = self.store.erase_again();
            self.note_erased(erased);
        }
        self.remember(now, ALIVE, &self.port.to_le_bytes());
    }

    /// Writes down what is no session.
    pub fn put_memory(&mut self, now: Instant, number: u64, bytes: &[u8]) {
        self.remember(now, RecordId { kind: Kind::Memory as u8, number }, bytes);
    }

    fn remember(&mut self, now: Instant, id: RecordId, bytes: &[u8]) {
        let before = self.store.len();
        if let Err(error) = self.store.put(SystemTime::now(), id, bytes) {
            self.complain(now, &error);
        }
        self.others += self.store.len() - before;
    }

    fn count(&mut self) {
        let held = self.store.len() - self.others;
        self.counters.held(self.held, held);
        self.held = held;
    }

    fn complain(&mut self, now: Instant, error: &dyn Display) {
        if self.complained_at.is_none_or(|at| now >= at + COMPLAINT_INTERVAL) {
            self.complained_at = Some(now);
            tracing::error!(%error, "session records are not written: their sessions end with this process");
        }
    }
}

/// Whether a record can be tried, or why not.
fn judge(record: Record, earlier: &Earlier, is_moved: bool) -> Result<Found, (RecordRefusal, String)> {
    let refused = |reason, why: &str| Err((reason, why.to_owned()));
    match Kind::from_number(record.id.kind) {
        None => refused(RecordRefusal::Unusable, "it is of an unknown kind"),
        Some(kind) if kind.is_session() && earlier.is_given_up => {
            refused(RecordRefusal::GivenUp, "one process after another died that went on with these sessions")
        }
        Some(kind) if kind.is_session() && earlier.silence > SILENCE_MAX => {
            refused(RecordRefusal::Stale, "its process has been silent for too long")
        }
        Some(kind) if kind.is_session() && is_moved => {
            refused(RecordRefusal::Moved, "its socket had another port")
        }
        Some(kind) => Ok(Found { kind, number: record.id.number, bytes: record.bytes }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use model::{NodeId, Role, TreeId};
    use telemetry::{DropReasons, Identity, Telemetry};

    use super::*;

    const PORT: u16 = 50_000;

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

        fn open(&self, key: u8) -> (Keeper, Vec<u64>, Earlier) {
            self.open_at(key, PORT)
        }

        /// The keeper, the sessions found, and the sums.
        fn open_at(&self, key: u8, port: u16) -> (Keeper, Vec<u64>, Earlier) {
            let mut earlier = Earlier::default();
            let key = SealingKey::generate([key; 32]);
            let told = (&self.telemetry.node.records(), &mut earlier);
            let (keeper, found) = Keeper::open(self.folder.path(), &key, port, told).expect("a store");
            let found = found.iter().filter(|found| found.kind.is_session()).map(|found| found.number);
            (keeper, found.collect(), earlier)
        }

        fn refused(&self, reason: &str) -> String {
            let label = format!("reason=\"{reason}\"");
            let text = self.telemetry.encode();
            let mut lines = text.lines().filter(|line| line.starts_with("media_tree_record_refusals_total{"));
            let line = lines.find(|line| line.contains(&label)).expect("the metric");
            line.rsplit(' ').next().unwrap_or_default().to_owned()
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
        let (mut keeper, ..) = harness.open(1);
        assert!(keeper.put(harness.now, Kind::Viewer, 1, b"first"));
        assert!(keeper.put(harness.now, Kind::Viewer, 2, b"other"));
        assert_eq!(harness.counts(), ["2", "2", "0"]);
        assert!(!keeper.put(harness.now, Kind::Viewer, 1, &vec![0; records::RECORD_BYTES_MAX + 1]));
        assert_eq!(harness.counts(), ["1", "2", "1"]);
        assert!(keeper.put(harness.now, Kind::Viewer, 1, b"second"), "it is tried again");
        assert_eq!(harness.counts(), ["2", "3", "1"]);
    }

    #[test]
    fn an_outdated_version_that_cannot_be_erased_is_erased_when_the_disk_works_again() {
        let harness = Harness::new();
        let (mut keeper, ..) = harness.open(1);
        for number in 1..=2 {
            assert!(keeper.put(harness.now, Kind::Viewer, number, b"first"));
        }
        let mut broken = File::open(harness.folder.path().join("records-1k")).expect("a file to read");
        keeper.store.swap_file(&mut broken);
        assert!(!keeper.put(harness.now, Kind::Viewer, 1, b"second"));
        keeper.remove(Kind::Viewer, 2);
        keeper.keep_alive(harness.now);
        assert!(keeper.has_outdated);
        keeper.store.swap_file(&mut broken);
        keeper.keep_alive(harness.now + ALIVE_INTERVAL / 2);
        assert!(keeper.has_outdated, "not all the time");
        keeper.keep_alive(harness.now + ALIVE_INTERVAL);
        assert!(!keeper.has_outdated);
        drop(keeper);
        assert!(harness.open(1).1.is_empty(), "it promised less than was used since");
    }

    #[test]
    fn signs_of_life_are_no_sessions() {
        let harness = Harness::new();
        let (mut keeper, ..) = harness.open(1);
        keeper.keep_alive(harness.now);
        assert!(keeper.put(harness.now, Kind::Viewer, 1, b"one"));
        keeper.keep_alive(harness.now + ALIVE_INTERVAL);
        keeper.remove(Kind::Viewer, 1);
        assert_eq!(harness.counts(), ["0", "1", "0"]);
        keeper.put_memory(harness.now, 0, b"known");
        drop(keeper);
        let (mut keeper, found, earlier) = harness.open(1);
        assert!(found.is_empty() && earlier.publishers + earlier.viewers + earlier.refused == 0);
        keeper.keep_alive(harness.now);
        assert_eq!(harness.counts(), ["0", "1", "0"], "what was there already is no session either");
    }

    #[test]
    fn what_an_earlier_process_left_stays_until_it_is_refused() {
        let harness = Harness::new();
        let (mut keeper, ..) = harness.open(1);
        assert!(keeper.put(harness.now, Kind::Viewer, 1, b"one"));
        assert!(keeper.put(harness.now, Kind::Publisher, 2, b"two"));
        drop(keeper);
        let (mut keeper, found, earlier) = harness.open(1);
        assert_eq!((found, earlier.publishers, earlier.viewers), (vec![1, 2], 1, 1));
        keeper.refuse((Kind::Viewer, 1), RecordRefusal::Unusable, &"no record at all");
        drop(keeper);
        assert_eq!(harness.open(1).1, [2]);
        assert_eq!(harness.refused("unusable"), "1");
    }

    #[test]
    fn records_of_another_key_are_told_apart_and_erased() {
        let harness = Harness::new();
        let (mut keeper, ..) = harness.open(1);
        assert!(keeper.put(harness.now, Kind::Viewer, 1, b"sealed with the first key"));
        drop(keeper);
        let (_, found, earlier) = harness.open(2);
        assert_eq!((found.len(), earlier.refused), (0, 1));
        assert_eq!(harness.refused("foreign"), "1");
        assert_eq!(harness.open(1).1.len(), 0);
    }

    #[test]
    fn sessions_end_with_their_port() {
        let harness = Harness::new();
        let (mut keeper, ..) = harness.open(1);
        keeper.keep_alive(harness.now);
        assert!(keeper.put(harness.now, Kind::Viewer, 1, b"one"));
        drop(keeper);
        let (_, found, earlier) = harness.open_at(1, PORT + 1);
        assert_eq!((found.len(), earlier.refused), (0, 1));
        assert_eq!(harness.refused("moved"), "1");
        assert_eq!(harness.open(1).1.len(), 0, "erased");
    }

    #[test]
    fn sessions_end_when_their_process_was_silent_for_too_long() {
        let harness = Harness::new();
        let key = SealingKey::generate([1; 32]);
        let mut store = Store::open(harness.folder.path(), &key).expect("a store");
        let long_ago = SystemTime::now() - SILENCE_MAX - Duration::from_secs(1);
        store.put(long_ago, RecordId { kind: Kind::Viewer as u8, number: 1 }, b"one").expect("written");
        drop(store);
        let (_, found, earlier) = harness.open(1);
        assert_eq!((found.len(), earlier.refused), (0, 1));
        assert_eq!(harness.refused("stale"), "1");
    }

    #[test]
    fn a_quiet_session_of_a_process_that_was_alive_is_not_stale() {
        let harness = Harness::new();
        let key = SealingKey::generate([1; 32]);
        let mut store = Store::open(harness.folder.path(), &key).expect("a store");
        let long_ago = SystemTime::now() - SILENCE_MAX * 2;
        store.put(long_ago, RecordId { kind: Kind::Viewer as u8, number: 1 }, b"one").expect("written");
        store.put(SystemTime::now(), ALIVE, &PORT.to_le_bytes()).expect("written");
        drop(store);
        assert_eq!(harness.open(1).1, [1]);
    }
}
