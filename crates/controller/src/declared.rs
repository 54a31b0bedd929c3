//! Broadcasts that an operator has made ahead of their first publisher, as every node knows them: viewers of one may
//! come and wait, and its key, or a right of the configuration, is what lets publish it.

use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt as _, stream};
use model::{BroadcastId, TreeId};
use registry::{DeclaredRecord, Registry, RegistryError, Versioned};
use store::{Expect, SealError, Sealer, WatchEvent, Write};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::observer::Kept;

/// Random bytes of a key that nobody chose.
const KEY_BYTES: usize = 24;
/// A key that keeps nobody out is none, and OBS and URLs have to take it.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 16..=128;

/// Writes under way at once.
const WRITES_MAX: usize = 32;

/// What a token is to the key of a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// It is the key.
    Yes,
    /// It is not, or there is none.
    No,
    /// The broadcast has no key.
    Unkeyed,
    /// The store has not told yet which broadcasts have one.
    Unknown,
}

/// Why a broadcast was not made or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeclareError {
    /// The key would not do.
    #[error(
        "a publish key has {} to {} characters out of A-Z, a-z, 0-9, `-`, `.`, `_` and `~`",
        KEY_LENGTH.start(),
        KEY_LENGTH.end()
    )]
    Key,
    /// The key cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// All of them.
pub struct Declared {
    registry: Registry,
    sealer: Sealer,
    known: RwLock<Kept<BroadcastId, DeclaredBroadcast>>,
    /// Whether the store has told of them.
    is_told: watch::Sender<bool>,
}

/// One of them.
#[derive(Clone)]
pub struct DeclaredBroadcast {
    /// The tree that carries it.
    pub tree: TreeId,
    /// Seconds since 1970.
    pub created: u64,
    /// `None` if it was sealed with another cluster key: then it opens nothing.
    key: Option<Zeroizing<String>>,
    /// As it stands in the store.
    record: DeclaredRecord,
}

impl fmt::Debug for DeclaredBroadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tree, created, key: _, record: _ } = self;
        f.debug_struct("DeclaredBroadcast")
            .field("tree", tree)
            .field("created", created)
            .finish_non_exhaustive()
    }
}

impl Declared {
    /// Of an installation; keys are sealed with its cluster key.
    #[must_use]
    pub fn new(registry: Registry, sealer: Sealer) -> Self {
        Self { registry, sealer, known: RwLock::default(), is_told: watch::channel(false).0 }
    }

    /// Follows the store for ever. What it told last counts on while it is away, and when it has lost everything: then a
    /// controller, who `restores`, tells it again.
    pub async fn follow(&self, restores: bool) {
        let mut watch = self.registry.watch::<DeclaredRecord>();
        while let Some(event) = watch.next().await {
            let is_all = matches!(event, WatchEvent::Snapshot(_));
            self.changed(event);
            if restores && is_all {
                self.restore().await;
            }
        }
    }

    async fn restore(&self) {
        let lost = self.read().lost();
        let put = |lost: DeclaredBroadcast| async move {
            let outcome = self.registry.put(&lost.record, Write::if_absent().durable()).await;
            (lost.record.broadcast, outcome)
        };
        let mut writes = stream::iter(lost).map(put).buffer_unordered(WRITES_MAX);
        while let Some((broadcast, outcome)) = writes.next().await {
            match outcome {
                Ok(_) => tracing::warn!(%broadcast, "the store had lost a broadcast's key and got it again"),
                Err(error) if error.is_conflict() => {}
                Err(error) => tracing::warn!(%broadcast, %error, "the store has lost a broadcast's key"),
            }
        }
    }

    /// What the store told an earlier process of this node. It counts until the store tells; whether any other broadcast
    /// has a key is not known before.
    pub fn remember(&self, records: impl IntoIterator<Item = DeclaredRecord>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if !*self.is_told.borrow() {
            for record in records {
                known.remember(record.broadcast.clone(), self.opened(record));
            }
        }
    }

    fn opened(&self, record: DeclaredRecord) -> DeclaredBroadcast {
        let key = record.publish_key(&self.sealer).inspect_err(|error| {
            let broadcast = record.broadcast.as_str();
            tracing::warn!(broadcast, %error, "the publish key of a broadcast cannot be opened");
        });
        DeclaredBroadcast { tree: record.tree.clone(), created: record.created, key: key.ok(), record }
    }

    fn changed(&self, event: WatchEvent) {
        let keep = |found: Versioned<DeclaredRecord>| self.opened(found.record);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.changed(event, |id| BroadcastId::new(id).ok(), keep);
        self.is_told.send_replace(true);
    }

    /// Waits until the store has told which they are.
    pub async fn told(&self) {
        let _ = self.is_told.subscribe().wait_for(|is_told| *is_told).await;
    }

    /// Tells each time that the store has told of them.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.is_told.subscribe()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: &BroadcastId) -> Option<DeclaredBroadcast> {
        self.read().get(id).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> Vec<(BroadcastId, DeclaredBroadcast)> {
        self.read().iter().map(|(id, declared)| (id.clone(), declared.clone())).collect()
    }

    /// All of them as they stand in the store.
    #[must_use]
    pub fn records(&self) -> Vec<DeclaredRecord> {
        self.read().values().map(|declared| declared.record.clone()).collect()
    }

    /// Whether `token` is the publish key of this broadcast. Takes the same time for every wrong key.
    #[must_use]
    pub fn opens(&self, id: &BroadcastId, token: Option<&str>) -> Opens {
        match self.read().get(id) {
            None if !*self.is_told.borrow() => Opens::Unknown,
            None => Opens::Unkeyed,
            Some(DeclaredBroadcast { key: Some(key), .. })
                if token.is_some_and(|token| is_same(key, token)) =>
            {
                Opens::Yes
            }
            Some(_) => Opens::No,
        }
    }

    /// Makes a broadcast with this key, or with one drawn at random. Gives the key.
    ///
    /// # Errors
    /// [`DeclareError`]; a conflict if there is one of this name.
    pub async fn declare(
        &self,
        id: BroadcastId,
        tree: TreeId,
        key: Option<String>,
    ) -> Result<Zeroizing<String>, DeclareError> {
        let key = key_or_random(key)?;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let record = DeclaredRecord::new(id, tree, created, (&key, &self.sealer))?;
        self.registry.put(&record, Write::if_absent().durable()).await?;
        Ok(key)
    }

    /// The key of a broadcast, read from the store; `None` if there is no such broadcast.
    ///
    /// # Errors
    /// [`DeclareError`].
    pub async fn key(&self, id: &BroadcastId) -> Result<Option<Zeroizing<String>>, DeclareError> {
        let found = self.registry.get::<DeclaredRecord>(id.as_str()).await?;
        found.map(|found| Ok(found.record.publish_key(&self.sealer)?)).transpose()
    }

    /// Gives a broadcast another key. The publisher who is there stays; the old key opens nothing any more. `None` if
    /// there is no such broadcast.
    ///
    /// # Errors
    /// [`DeclareError`].
    pub async fn change_key(
        &self,
        id: &BroadcastId,
        key: Option<String>,
    ) -> Result<Option<Zeroizing<String>>, DeclareError> {
        let key = key_or_random(key)?;
        let Some(found) = self.registry.get::<DeclaredRecord>(id.as_str()).await? else { return Ok(None) };
        let DeclaredRecord { broadcast, tree, created, .. } = found.record;
        let record = DeclaredRecord::new(broadcast, tree, created, (&key, &self.sealer))?;
        self.registry.put(&record, Write::expecting(Expect::Version(found.version)).durable()).await?;
        Ok(Some(key))
    }

    /// Deletes a broadcast, so that it is one like any other. False if there was none.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn delete(&self, id: &BroadcastId) -> Result<bool, RegistryError> {
        self.registry.delete::<DeclaredRecord>(id.as_str(), Expect::Any).await
    }

    fn read(&self) -> RwLockReadGuard<'_, Kept<BroadcastId, DeclaredBroadcast>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same(key: &str, token: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(key.as_bytes(), token.as_bytes()).is_ok()
}

fn key_or_random(key: Option<String>) -> Result<Zeroizing<String>, DeclareError> {
    let Some(key) = key.map(Zeroizing::new) else {
        let mut random = Zeroizing::new([0; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut random[..]).map_err(|_| SealError::Random)?;
        return Ok(Zeroizing::new(random.iter().map(|byte| format!("{byte:02x}")).collect()));
    };
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if KEY_LENGTH.contains(&key.len()) && key.bytes().all(is_good) { Ok(key) } else { Err(DeclareError::Key) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn id(name: &str) -> BroadcastId {
        BroadcastId::new(name).expect("id")
    }

    fn tree() -> TreeId {
        TreeId::new("main").expect("id")
    }

    /// An installation with an empty store, followed until it has told.
    async fn declared(registry: &Registry, cluster_key: &[u8]) -> Arc<Declared> {
        let declared = Arc::new(Declared::new(registry.clone(), Sealer::new(cluster_key)));
        assert_eq!(declared.opens(&id("friday"), Some("any")), Opens::Unknown, "nobody has told yet");
        let following = declared.clone();
        tokio::spawn(async move { following.follow(true).await });
        declared.told().await;
        assert_eq!(declared.opens(&id("nothing"), None), Opens::Unkeyed);
        declared
    }

    async fn until(is_so: impl Fn() -> bool) {
        for _ in 0..100_000 {
            if is_so() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("it never becomes so");
    }

    fn registry() -> Registry {
        Registry::new(store::open("embedded", &store::Options::default()).expect("a store"))
    }

    #[tokio::test]
    async fn a_key_opens_its_broadcast_until_it_is_changed() {
        let registry = registry();
        let (here, there) = (declared(&registry, b"cluster").await, declared(&registry, b"cluster").await);
        let key = here.declare(id("friday"), tree(), None).await.expect("made");
        until(|| there.opens(&id("friday"), Some(&key)) == Opens::Yes).await;
        assert_eq!(there.opens(&id("friday"), Some("another-key-of-16")), Opens::No);
        assert_eq!(there.opens(&id("friday"), None), Opens::No);
        assert_eq!(there.opens(&id("monday"), Some(&key)), Opens::Unkeyed);
        let again = here.declare(id("friday"), tree(), None).await;
        assert!(matches!(again, Err(DeclareError::Registry(error)) if error.is_conflict()));

        let changed = here.change_key(&id("friday"), None).await.expect("changed").expect("there");
        assert_ne!(key, changed);
        until(|| there.opens(&id("friday"), Some(&changed)) == Opens::Yes).await;
        assert_eq!(there.opens(&id("friday"), Some(&key)), Opens::No);
        assert_eq!(there.key(&id("friday")).await.expect("read"), Some(changed));

        assert!(here.delete(&id("friday")).await.expect("deleted"));
        until(|| there.opens(&id("friday"), None) == Opens::Unkeyed).await;
        assert!(!here.delete(&id("friday")).await.expect("was deleted"));
        assert!(here.change_key(&id("friday"), None).await.expect("looked for").is_none());
    }

    #[tokio::test]
    async fn a_key_of_another_cluster_opens_nothing() {
        let registry = registry();
        let (ours, theirs) = (declared(&registry, b"ours").await, declared(&registry, b"theirs").await);
        let key = ours.declare(id("friday"), tree(), None).await.expect("made");
        until(|| theirs.get(&id("friday")).is_some()).await;
        assert_eq!(theirs.opens(&id("friday"), Some(&key)), Opens::No);
        assert!(!format!("{:?}", ours.list()).contains(key.as_str()));
    }

    #[tokio::test]
    async fn what_an_earlier_process_knew_counts_until_the_store_tells() {
        let registry = registry();
        let first = declared(&registry, b"cluster").await;
        let (kept, gone) = (
            first.declare(id("friday"), tree(), None).await.expect("made"),
            first.declare(id("monday"), tree(), None).await.expect("made"),
        );
        until(|| first.list().len() == 2).await;
        let next = Arc::new(Declared::new(registry.clone(), Sealer::new(b"cluster")));
        next.remember(first.records());
        assert_eq!(next.opens(&id("friday"), Some(&kept)), Opens::Yes);
        assert_eq!(next.opens(&id("friday"), Some("another-key-of-16")), Opens::No);
        assert_eq!(next.opens(&id("sunday"), None), Opens::Unknown, "it may have been given a key since");
        assert!(first.delete(&id("monday")).await.expect("deleted"));
        let following = next.clone();
        tokio::spawn(async move { following.follow(true).await });
        next.told().await;
        assert_eq!(next.opens(&id("friday"), Some(&kept)), Opens::Yes);
        assert_eq!(next.opens(&id("monday"), Some(&gone)), Opens::Unkeyed, "deleted meanwhile");
        next.remember(first.records());
        assert_eq!(next.opens(&id("sunday"), None), Opens::Unkeyed, "the store has told");
    }

    #[test]
    fn keys_that_keep_nobody_out_or_fit_no_form_are_refused() {
        for bad in ["", "fifteen-letters", "a key with spaces", "sixteen-lettersß", &"x".repeat(129)] {
            assert!(matches!(key_or_random(Some(bad.into())), Err(DeclareError::Key)), "{bad}");
        }
        let chosen = key_or_random(Some("Friday_night-2026.~".into())).expect("good");
        assert_eq!(chosen.as_str(), "Friday_night-2026.~");
        let random = || key_or_random(None).expect("drawn");
        assert!(random().len() == 2 * KEY_BYTES && random() != random());
    }
}
