//! Records of established sessions, so that they can outlive this process.
//!
//! Each thread that owns sessions has a store of its own below `node.state_dir` (`publishers`, `shard-0`, ...), writes
//! the record of a session before the first datagram that depends on it, and erases it with the session. A record that
//! cannot be written stops no media. Sealing and files are the business of crate `records`; what is in a record, of the
//! cores and of [`envelope`].
//!
//! A process that starts takes up what an earlier one left: each owner asks its store once (`take_earlier`), goes on with
//! the sessions whose records are good, and refuses the others one by one, with a line in the log and a counter.

mod earlier;
pub mod envelope;
mod keeper;
mod memory;
mod publishers;
mod rings;
mod viewers;

use std::path::Path;

use anyhow::Context as _;
use records::SealingKey;
use telemetry::node::RecordCounters;

pub use envelope::Resource;
pub use memory::Memory;
pub use publishers::{EarlierPublisher, PublisherRecords};
pub use viewers::ViewerRecords;

use earlier::Earlier;
use keeper::{Found, Keeper};

/// Directory of the tree thread's store.
const PUBLISHERS: &str = "publishers";
/// Directories of the shards' stores, with their index.
const SHARD: &str = "shard-";

/// UDP ports of the sockets whose sessions have records.
#[derive(Debug, Clone, Default)]
pub struct SessionPorts {
    /// Of publishers, on nodes that take them.
    pub ingest: Option<u16>,
    /// Of the shards.
    pub shards: Vec<u16>,
}

/// With what stores are opened.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// What records are sealed with.
    pub key: Option<&'a SealingKey>,
    /// Whether sessions of an earlier process go on. Not where they seem to be what kills the process.
    pub resumes: bool,
}

/// What the owners of sessions write their records to, and find those of an earlier process in.
pub struct SessionRecords {
    /// The tree thread's, on nodes that take publishers.
    pub publishers: Option<PublisherRecords>,
    /// One for each shard, in their order.
    pub shards: Vec<Option<ViewerRecords>>,
    /// Above the id of every session of an earlier process.
    pub next_id: u64,
}

impl SessionRecords {
    /// Opens a store for each owner. Call it when nothing else can keep the node from starting: what cannot be resumed
    /// from is erased.
    ///
    /// # Errors
    /// If a directory cannot be had for this process alone.
    pub fn open(
        config: &config::Node,
        opening: Opening<'_>,
        ports: &SessionPorts,
        counters: &RecordCounters,
    ) -> anyhow::Result<Self> {
        let none = Self { publishers: None, shards: ports.shards.iter().map(|_| None).collect(), next_id: 1 };
        let Some(directory) = &config.state_dir else { return Ok(none) };
        let Some(key) = opening.key else {
            tracing::warn!(
                "no key, no resume: node.state_dir is set and node.state_key_file is not, so sessions end with this \
                 process and no records are written"
            );
            return Ok(none);
        };
        let mut earlier = Earlier { is_given_up: !opening.resumes, ..Earlier::default() };
        let mut open = |name: &str, port: u16| -> anyhow::Result<(Keeper, Vec<Found>)> {
            Keeper::open(&directory.join(name), key, port, (counters, &mut earlier))
                .with_context(|| format!("open the session records of {name}"))
        };
        let publishers = ports.ingest.map(|port| open(PUBLISHERS, port)).transpose()?;
        let shards = ports.shards.iter().enumerate();
        let shards = shards
            .map(|(index, port)| open(&format!("{SHARD}{index}"), *port))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for name in unowned(directory, publishers.is_some(), shards.len())? {
            let (mut keeper, found) = open(&name, 0)?;
            for Found { kind, number, .. } in found {
                keeper.disown(kind, number);
            }
            keeper.give_up();
        }
        earlier.log();
        tracing::info!(directory = %directory.display(), "session records are kept: sessions outlive this process");
        let publishers = publishers
            .map(|(keeper, found)| PublisherRecords::new(&directory.join(PUBLISHERS), keeper, found));
        let shards: Vec<ViewerRecords> =
            shards.into_iter().map(|(keeper, found)| ViewerRecords::new(keeper, found)).collect();
        let highest = publishers.iter().map(PublisherRecords::highest_id);
        let highest = highest.chain(shards.iter().map(ViewerRecords::highest_id)).max().unwrap_or(0);
        Ok(Self { publishers, shards: shards.into_iter().map(Some).collect(), next_id: highest + 1 })
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
    use std::time::Instant;

    use super::keeper::Kind;
    use super::*;

    fn ports(ingest: Option<u16>, shards: &[u16]) -> SessionPorts {
        SessionPorts { ingest, shards: shards.to_vec() }
    }

    const fn opening(key: &SealingKey) -> Opening<'_> {
        Opening { key: Some(key), resumes: true }
    }

    #[test]
    fn stores_that_have_no_owner_any_more_are_emptied() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("state");
        let key = SealingKey::generate([1; 32]);
        let counters = RecordCounters::default();
        let open = |name: &str| {
            let mut earlier = Earlier::default();
            let opened = Keeper::open(&directory.join(name), &key, 9, (&counters, &mut earlier));
            (opened.expect("a store").0, earlier)
        };
        for name in ["publishers", "shard-1", "shard-7"] {
            let (mut keeper, _) = open(name);
            assert!(keeper.put(Instant::now(), Kind::Viewer, 1, b"left behind"));
        }
        std::fs::create_dir(directory.join("shard-of-another")).expect("a folder");

        let config = config::Node { state_dir: Some(directory.clone()), ..config::Node::default() };
        let records =
            SessionRecords::open(&config, opening(&key), &ports(None, &[9]), &counters).expect("stores");
        assert!(records.publishers.is_none() && records.shards.len() == 1);
        for name in ["publishers", "shard-1", "shard-7"] {
            assert_eq!(open(name).1, Earlier::default(), "{name}");
        }
        let is_untouched = |name: &str| !directory.join(name).join("lock").exists();
        assert!(is_untouched("shard-of-another"));
    }

    #[test]
    fn a_directory_in_use_keeps_the_node_from_starting() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = SealingKey::generate([1; 32]);
        let config = config::Node { state_dir: Some(folder.path().join("state")), ..config::Node::default() };
        let counters = RecordCounters::default();
        let open = || SessionRecords::open(&config, opening(&key), &ports(Some(8), &[9]), &counters);
        let running = open().expect("the first process");
        assert!(format!("{:#}", open().err().expect("refused")).contains("in use by another process"));
        drop(running);
        assert!(open().is_ok());
    }
}
