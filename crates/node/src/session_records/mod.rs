//! Records of established sessions, so that they can outlive this process.
//!
//! Each thread that owns sessions has a store of its own below `node.state_dir` (`publishers`, `shard-0`, ...), writes
//! the record of a session before the first datagram that depends on it, and erases it with the session. A record that
//! cannot be written stops no media. Sealing and files are the business of crate `records`; what is in a record, of the
//! cores and of [`envelope`].
//!
//! Sessions are not resumed yet: what an earlier process left is counted, logged and erased.

mod earlier;
pub mod envelope;
mod keeper;
mod publishers;
mod viewers;

use std::path::Path;

use anyhow::Context as _;
use model::Role;
use records::SealingKey;
use telemetry::node::RecordCounters;

pub use envelope::Resource;
pub use publishers::PublisherRecords;
pub use viewers::ViewerRecords;

use earlier::Earlier;
use keeper::Keeper;

/// Directory of the tree thread's store.
const PUBLISHERS: &str = "publishers";
/// Directories of the shards' stores, with their index.
const SHARD: &str = "shard-";

/// What the owners of sessions write their records to.
pub struct SessionRecords {
    /// The tree thread's, on nodes that take publishers.
    pub publishers: Option<PublisherRecords>,
    /// One for each shard, in their order.
    pub shards: Vec<Option<ViewerRecords>>,
}

impl SessionRecords {
    /// Opens a store for each owner, and says what becomes of the sessions of an earlier process. Call it when nothing
    /// else can keep the node from starting: their records are erased.
    ///
    /// # Errors
    /// If the key cannot be read, or a directory not be had for this process alone.
    pub fn open(
        config: &config::Node,
        role: Role,
        shards: usize,
        counters: &RecordCounters,
    ) -> anyhow::Result<Self> {
        let none = Self { publishers: None, shards: (0..shards).map(|_| None).collect() };
        let Some(directory) = &config.state_dir else { return Ok(none) };
        let Some(key_file) = &config.state_key_file else {
            tracing::warn!(
                "no key, no resume: node.state_dir is set and node.state_key_file is not, so sessions end with this \
                 process and no records are written"
            );
            return Ok(none);
        };
        let key = SealingKey::from_file(key_file)?;
        let mut earlier = Earlier::default();
        let mut open = |name: &str| {
            Keeper::open(&directory.join(name), &key, counters.clone(), &mut earlier)
                .with_context(|| format!("open the session records of {name}"))
        };
        let publishers = role.is_injection().then(|| open(PUBLISHERS)).transpose()?;
        let names = (0..shards).map(|index| format!("{SHARD}{index}"));
        let shards = names.map(|name| open(&name)).collect::<anyhow::Result<Vec<_>>>()?;
        for name in unowned(directory, publishers.is_some(), shards.len())? {
            open(&name)?;
        }
        earlier.log();
        tracing::info!(directory = %directory.display(), "session records are written; resume is not there yet");
        Ok(Self {
            publishers: publishers.map(PublisherRecords::new),
            shards: shards.into_iter().map(ViewerRecords::new).map(Some).collect(),
        })
    }
}

/// Stores of an earlier process that had another role or more shards.
fn unowned(directory: &Path, has_publishers: bool, shards: usize) -> anyhow::Result<Vec<String>> {
    // A node without publishers and viewers has not made it.
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in directory.read_dir().with_context(|| format!("list {}", directory.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let shard = name.strip_prefix(SHARD).and_then(|index| index.parse::<usize>().ok());
        let is_publishers = name == PUBLISHERS && !has_publishers;
        if is_publishers || shard.is_some_and(|index| index >= shards) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::keeper::Kind;
    use super::*;

    #[test]
    fn stores_that_have_no_owner_any_more_are_emptied() {
        let folder = tempfile::tempdir().expect("a folder");
        let key_file = folder.path().join("key");
        std::fs::write(&key_file, "a".repeat(64)).expect("a key");
        let directory = folder.path().join("state");
        let key = SealingKey::from_file(&key_file).expect("a key");
        let counters = RecordCounters::default();
        for name in ["publishers", "shard-1", "shard-7"] {
            let opened = Keeper::open(&directory.join(name), &key, counters.clone(), &mut Earlier::default());
            assert!(opened.expect("a store").put(std::time::Instant::now(), Kind::Viewer, 1, b"left behind"));
        }
        std::fs::create_dir(directory.join("shard-of-another")).expect("a folder");

        let config = config::Node {
            state_dir: Some(directory.clone()),
            state_key_file: Some(key_file),
            ..config::Node::default()
        };
        let records = SessionRecords::open(&config, Role::Egress, 1, &counters).expect("stores");
        assert!(records.publishers.is_none() && records.shards.len() == 1);
        for name in ["publishers", "shard-1", "shard-7"] {
            let mut earlier = Earlier::default();
            Keeper::open(&directory.join(name), &key, counters.clone(), &mut earlier).expect("a store");
            assert_eq!(earlier, Earlier::default(), "{name}");
        }
        let is_untouched = |name: &str| !directory.join(name).join("lock").exists();
        assert!(is_untouched("shard-of-another"));
    }

    #[test]
    fn a_directory_in_use_keeps_the_node_from_starting() {
        let folder = tempfile::tempdir().expect("a folder");
        let key_file = folder.path().join("key");
        std::fs::write(&key_file, "a".repeat(64)).expect("a key");
        let config = config::Node {
            state_dir: Some(folder.path().join("state")),
            state_key_file: Some(key_file),
            ..config::Node::default()
        };
        let open = || SessionRecords::open(&config, Role::All, 1, &RecordCounters::default());
        let running = open().expect("the first process");
        assert!(format!("{:#}", open().err().expect("refused")).contains("in use by another process"));
        drop(running);
        assert!(open().is_ok());
    }
}
