//! What the store told this node last, for a process that begins while the store is away: its parents, and the
//! broadcasts that operators have made, with their keys.
//!
//! It lies in sealed records (crate `records`) in the node's state directory. A record that is torn, was changed, was
//! sealed with another key, or is of another node, tree or store, is passed over and erased. What the store says
//! counts from the moment it says it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::Config;
use controller::Declared;
use model::{BroadcastId, NodeId, Role, TreeId};
use octets::{Reader, Writer};
use records::{OpenError, PutError, RecordId, SealingKey, Store};
use registry::{Assignment, DeclaredRecord, Stored};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// Layout of the bytes.
const VERSION: u8 = 1;
/// The only one of its kind.
const ASSIGNMENT: RecordId = RecordId { kind: 1, number: 0 };
/// Records of broadcasts that operators have made, each with a number of its own.
const DECLARED: u8 = 2;
/// Broadcasts that are kept; each takes 2 kB.
const DECLARED_MAX: usize = 4096;
/// Ids are shorter.
const NAME_BYTES_MAX: usize = 64;
/// How often failures are logged.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is tried to write what could not be written, and to erase what could not be erased.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// The records and their one writer.
pub struct Kept {
    store: Store,
    whose: Whose,
    assignment: Option<Assignment>,
    declared: BTreeMap<BroadcastId, (u64, DeclaredRecord)>,
    /// Above the number of every broadcast's record.
    next: u64,
    complained_at: Option<Instant>,
    /// Whether everything that was told is written down, and nothing else.
    is_whole: bool,
}

/// For whom something is kept, and from whom it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Whose {
    node: NodeId,
    tree: TreeId,
    /// Tells one store from another, and its address to nobody.
    store: [u8; 16],
}

impl Whose {
    fn new(config: &Config, key: &SealingKey, node: &NodeId) -> Self {
        let store = config.control.store.as_ref().map_or("", |url| url.expose());
        let store = key.secret(format!("media-tree kept of the store: {store}").as_bytes());
        Self { node: node.clone(), tree: config.node.tree_id.clone(), store }
    }

    fn encode<T: Stored>(&self, record: &T) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.bytes(self.node.as_str().as_bytes());
        out.bytes(self.tree.as_str().as_bytes());
        out.bytes(&self.store);
        out.rest(&registry::encode(record));
        out.finish()
    }

    /// The record in these bytes, or why it is not for us.
    fn decode<T: Stored>(&self, bytes: &[u8]) -> Result<T, String> {
        let mut input = Reader::new(bytes);
        match input.u8() {
            Some(VERSION) => {}
            version => return Err(format!("its layout is {version:?}, not {VERSION}")),
        }
        let mut whose = || {
            let node = NodeId::new(&input.text(NAME_BYTES_MAX)?).ok()?;
            let tree = TreeId::new(&input.text(NAME_BYTES_MAX)?).ok()?;
            Some(Self { node, tree, store: input.bytes(16)?.try_into().ok()? })
        };
        if whose().as_ref() != Some(self) {
            return Err("it is of another node, tree or store".into());
        }
        registry::decode(input.rest()).map_err(|error| error.to_string())
    }
}

impl Kept {
    /// Opens what is kept for this node; `None` without a state directory and a key, or if they cannot be used, which
    /// keeps no node from its work. Call it when no earlier process of this node uses it any more.
    pub fn open(role: Role, config: &Config, key: Option<&SealingKey>, node: &NodeId) -> Option<Self> {
        let (directory, key) = (config.node.state_dir.as_ref()?, key?);
        let whose = Whose::new(config, key, node);
        // Nodes of several roles may share a state directory.
        let directory = directory.join(format!("control-{role}"));
        match Self::open_in(&directory, key, whose) {
            Ok(kept) => {
                let (parents, broadcasts) =
                    (kept.assignment.as_ref().map_or(0, |it| it.parents.len()), kept.declared.len());
                if kept.assignment.is_some() || broadcasts > 0 {
                    tracing::info!(parents, broadcasts, "what the store told last is known");
                }
                Some(kept)
            }
            Err(error) => {
                tracing::warn!(%error, "parents are not kept: should this node begin anew without the store, it has none");
                None
            }
        }
    }

    fn open_in(directory: &Path, key: &SealingKey, whose: Whose) -> Result<Self, OpenError> {
        let mut store = Store::open(directory, key)?;
        let found = store.load_all(SystemTime::now(), Duration::MAX);
        let mut kept = Self {
            store,
            whose,
            assignment: None,
            declared: BTreeMap::new(),
            next: 0,
            complained_at: None,
            is_whole: true,
        };
        for found in found {
            match found {
                Ok(found) => {
                    if let Err(why) = kept.take_in(found.id, &found.bytes) {
                        tracing::warn!(why, "what the store told an earlier process is not gone by");
                        kept.erase(found.id);
                    }
                }
                // It is wiped, or will be.
                Err(error) => tracing::warn!(%error, "what the store told an earlier process is lost"),
            }
        }
        kept.is_whole = !kept.store.has_unerased();
        Ok(kept)
    }

    fn take_in(&mut self, id: RecordId, bytes: &[u8]) -> Result<(), String> {
        if id == ASSIGNMENT {
            let assignment: Assignment = self.whose.decode(bytes)?;
            if assignment.node != self.whose.node {
                return Err("it is another node's assignment".into());
            }
            self.assignment = Some(assignment);
        } else if id.kind == DECLARED {
            let record: DeclaredRecord = self.whose.decode(bytes)?;
            self.next = self.next.max(id.number.saturating_add(1));
            self.declared.insert(record.broadcast.clone(), (id.number, record));
        } else {
            return Err("it is of an unknown kind".into());
        }
        Ok(())
    }

    /// What this node was told last to do.
    #[must_use]
    pub const fn assignment(&self) -> Option<&Assignment> {
        self.assignment.as_ref()
    }

    /// The broadcasts that operators had made.
    pub fn declared(&self) -> impl Iterator<Item = DeclaredRecord> {
        self.declared.values().map(|(_, record)| record.clone())
    }

    /// Goes on writing down what the store tells; `declared` once it has told. What could not be written or erased is tried
    /// again.
    pub async fn follow(mut self, mut told: watch::Receiver<Option<Assignment>>, declared: Arc<Declared>) {
        let mut changes = declared.changes();
        // It may have told already.
        changes.mark_changed();
        loop {
            tokio::select! {
                changed = told.changed() => if changed.is_err() { return },
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY_INTERVAL), if !self.is_whole => {}
            }
            let assignment = told.borrow_and_update().clone();
            let records = changes.borrow_and_update().then(|| declared.records());
            let written = tokio::task::spawn_blocking(move || {
                self.write_down(assignment, records);
                self
            });
            let Ok(kept) = written.await else { return };
            self = kept;
        }
    }

    fn write_down(&mut self, assignment: Option<Assignment>, declared: Option<Vec<DeclaredRecord>>) {
        let was_whole = std::mem::replace(&mut self.is_whole, true);
        assignment.into_iter().for_each(|assignment| self.keep_assignment(assignment));
        declared.into_iter().for_each(|records| self.keep_declared(records));
        let erased = self.store.erase_again();
        self.note_erased(erased);
        self.is_whole &= !self.store.has_unerased();
        if !was_whole && self.is_whole && self.complained_at.take().is_some() {
            tracing::info!("what the store tells is kept whole again");
        }
    }

    fn keep_assignment(&mut self, assignment: Assignment) {
        if self.assignment.as_ref() != Some(&assignment) {
            let bytes = self.whose.encode(&assignment);
            if self.put(ASSIGNMENT, &bytes) {
                self.assignment = Some(assignment);
            }
        }
    }

    fn keep_declared(&mut self, records: Vec<DeclaredRecord>) {
        let names: BTreeSet<&BroadcastId> = records.iter().map(|record| &record.broadcast).collect();
        let gone: Vec<(BroadcastId, u64)> = self
            .declared
            .iter()
            .filter(|(id, _)| !names.contains(id))
            .map(|(id, (number, _))| (id.clone(), *number))
            .collect();
        for (id, number) in gone {
            self.erase(RecordId { kind: DECLARED, number });
            self.declared.remove(&id);
        }
        for record in records {
            let known = self.declared.get(&record.broadcast);
            if known.is_some_and(|(_, known)| *known == record) {
                continue;
            }
            let number = known.map(|(number, _)| *number);
            if number.is_none() && self.declared.len() >= DECLARED_MAX {
                self.complain(&"there are more broadcasts than are kept");
                return;
            }
            let number = number.unwrap_or(self.next);
            let id = RecordId { kind: DECLARED, number };
            let bytes = self.whose.encode(&record);
            if self.put(id, &bytes) {
                self.next = self.next.max(number.saturating_add(1));
                self.declared.insert(record.broadcast.clone(), (number, record));
            } else {
                // A key that was changed must not come back.
                self.erase(id);
                self.declared.remove(&record.broadcast);
            }
        }
    }

    fn put(&mut self, id: RecordId, bytes: &[u8]) -> bool {
        let put: Result<(), PutError> = self.store.put(SystemTime::now(), id, bytes);
        self.is_whole &= put.is_ok();
        put.inspect_err(|error| self.complain(error)).is_ok()
    }

    fn erase(&mut self, id: RecordId) {
        let erased = self.store.remove(id);
        self.note_erased(erased);
    }

    fn note_erased(&mut self, erased: io::Result<()>) {
        if let Err(error) = erased {
            self.is_whole = false;
            self.complain(&error);
        }
    }

    fn complain(&mut self, error: &dyn std::fmt::Display) {
        let now = Instant::now();
        if self.complained_at.is_none_or(|at| now >= at + COMPLAINT_INTERVAL) {
            self.complained_at = Some(now);
            tracing::error!(%error, "what the store tells is not kept whole for a restart without the store");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

    use registry::AssignedParent;

    use super::*;

    struct Harness {
        folder: tempfile::TempDir,
        config: Config,
    }

    impl Harness {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let mut config = Config::default();
            config.node.state_dir = Some(folder.path().join("state"));
            config.control.store = "redis://10.0.0.1".parse().ok();
            Self { folder, config }
        }

        fn open_as(&self, config: &Config, key: u8, node: &str) -> Kept {
            let (key, node) = (SealingKey::generate([key; 32]), NodeId::new(node).expect("an id"));
            Kept::open(Role::Egress, config, Some(&key), &node).expect("a place for it")
        }

        fn open(&self) -> Kept {
            self.open_as(&self.config, 1, "out")
        }
    }

    fn assignment(parent: &str) -> Assignment {
        let id = |name| NodeId::new(name).expect("an id");
        let parents =
            vec![AssignedParent { node: id(parent), link: "10.0.0.7:51000".into(), links: Vec::new() }];
        Assignment { node: id("out"), parents, paths: 2, term: 7, drain: None }
    }

    fn declared(name: &str, created: u64) -> DeclaredRecord {
        let broadcast = BroadcastId::new(name).expect("an id");
        let sealer = store::Sealer::new(b"cluster");
        let tree = TreeId::new("main").expect("an id");
        DeclaredRecord::new(broadcast, tree, created, ("a-publish-key-of-tests", &sealer)).expect("sealed")
    }

    #[test]
    fn what_was_told_last_is_known_to_the_next_process() {
        let harness = Harness::new();
        let mut kept = harness.open();
        assert!(kept.assignment().is_none() && kept.declared().next().is_none());
        kept.keep_assignment(assignment("relay-1"));
        kept.keep_assignment(assignment("relay-2"));
        kept.keep_declared(vec![declared("friday", 1), declared("monday", 1)]);
        kept.keep_declared(vec![declared("friday", 2), declared("sunday", 1)]);
        let before: Vec<DeclaredRecord> = kept.declared().collect();
        drop(kept);
        let kept = harness.open();
        assert_eq!(kept.assignment(), Some(&assignment("relay-2")));
        assert_eq!(kept.declared().collect::<Vec<_>>(), before);
        let names: Vec<(String, u64)> =
            before.iter().map(|it| (it.broadcast.to_string(), it.created)).collect();
        assert_eq!(names, [("friday".into(), 2), ("sunday".into(), 1)]);
    }

    #[test]
    fn what_is_of_another_key_node_tree_or_store_is_not_gone_by_and_does_not_come_back() {
        let mut elsewhere = Harness::new().config;
        elsewhere.node.tree_id = TreeId::new("other").expect("an id");
        let mut another = Harness::new().config;
        another.control.store = "redis://10.0.0.2".parse().ok();
        let same = |harness: &Harness| harness.config.clone();
        type Other<'a> = &'a dyn Fn(&Harness) -> (Config, u8, &'static str);
        let others: [Other<'_>; 4] = [
            &|harness| (same(harness), 2, "out"),
            &|harness| (same(harness), 1, "out-2"),
            &|harness| {
                let tree_id = elsewhere.node.tree_id.clone();
                let node = config::Node { tree_id, ..harness.config.node.clone() };
                (Config { node, ..same(harness) }, 1, "out")
            },
            &|harness| (Config { control: another.control.clone(), ..same(harness) }, 1, "out"),
        ];
        for other in others {
            let harness = Harness::new();
            let mut kept = harness.open();
            kept.keep_assignment(assignment("relay-1"));
            kept.keep_declared(vec![declared("friday", 1)]);
            drop(kept);
            let (config, key, node) = other(&harness);
            let foreign = harness.open_as(&config, key, node);
            assert!(foreign.assignment().is_none() && foreign.declared().next().is_none());
            drop(foreign);
            assert!(harness.open().assignment().is_none(), "erased");
        }
    }

    #[test]
    fn a_torn_or_changed_record_gives_way_to_the_one_before() {
        let harness = Harness::new();
        let mut kept = harness.open();
        kept.keep_assignment(assignment("relay-1"));
        kept.keep_assignment(assignment("relay-2"));
        drop(kept);
        let path = harness.folder.path().join("state/control-egress/records-1k");
        // The second version lies in the second half of the slot.
        let flip = |at: u64| {
            let mut file =
                std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("the records");
            let mut byte = [0];
            file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut byte)).expect("a byte");
            byte[0] ^= 1;
            file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&byte)).expect("changed");
        };
        flip(1024 + 70);
        assert_eq!(harness.open().assignment(), Some(&assignment("relay-1")));
        flip(70);
        assert!(harness.open().assignment().is_none());
    }

    #[test]
    fn without_a_key_or_a_directory_of_its_own_nothing_is_kept() {
        let harness = Harness::new();
        let node = NodeId::new("out").expect("an id");
        assert!(Kept::open(Role::Egress, &harness.config, None, &node).is_none());
        let _running = harness.open();
        let key = SealingKey::generate([1; 32]);
        assert!(Kept::open(Role::Egress, &harness.config, Some(&key), &node).is_none(), "in use");
        assert!(Kept::open(Role::Relay, &harness.config, Some(&key), &node).is_some(), "another role");
    }
}
