//! Sends viewers and publishers to the node that has a place for them.
//!
//! In a controller's process it is fed by the controller. Elsewhere it reads the list of places from the store when
//! somebody asks, at most once a second; with the store away the last list counts on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use model::{BroadcastId, Epoch, NodeId, TreeId};
use registry::{Audience, AudienceRecord, BroadcastRecord, Place, PlacesRecord, RecordedState, Registry};
use store::WatchEvent;
use tokio::sync::watch;
use tree::placement::{Answer, Nowhere, Placement, Request};
use tree::{Assigned, Health, NodeView, Observation};

use crate::declared::Declared;
use crate::{convert, observer};

/// A list that is younger is not read again.
const AGE_MAX: Duration = Duration::from_secs(1);
/// A count of viewers that is younger is not read again.
const AUDIENCE_AGE_MAX: Duration = Duration::from_secs(2);
/// A controller that has not fed its front door for so long does not any more.
const FED_AGE_MAX: Duration = Duration::from_secs(3);

/// Where somebody is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// Served by the node that was asked.
    Here,
    /// To another node.
    To {
        /// Which.
        node: NodeId,
        /// Its scheme, host and port.
        url: String,
    },
    /// Nobody takes it.
    Nowhere(Nowhere),
}

/// Who asks for a place.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// What it wants to watch or publish.
    pub broadcast: &'a BroadcastId,
    /// The node that was asked; `None` for a controller.
    pub here: Option<&'a NodeId>,
    /// Host and port, as in its URL, of a node that does not answer the asker: it is sent there only if nobody else takes
    /// it. A client finds that out before any controller does.
    pub lost: Option<&'a str>,
}

/// Where places are.
pub struct FrontDoor {
    registry: Registry,
    /// The tree that is meant where nothing else is known of a broadcast.
    tree: TreeId,
    region: String,
    /// Second publishers stand by: they go to another node than the first.
    has_backups: bool,
    broadcasts: RwLock<BTreeMap<BroadcastId, BroadcastRecord>>,
    /// Told of each change of `broadcasts`.
    broadcasts_seen: watch::Sender<()>,
    declared: Arc<Declared>,
    places: Mutex<Places>,
    audience: Mutex<AudienceSeen>,
    /// Takes nobody any more, whatever the list says: the node of this process, while it drains.
    closed: Mutex<Option<NodeId>>,
    /// One reads the list, the others wait for it.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Places {
    placement: Placement,
    urls: BTreeMap<NodeId, String>,
    read_at: Option<Instant>,
    fed_at: Option<Instant>,
    is_lost: bool,
}

/// The count of viewers that was seen last.
#[derive(Default)]
struct AudienceSeen {
    viewers: BTreeMap<BroadcastId, u64>,
    /// When it was read, or tried to be.
    read_at: Option<Instant>,
    /// When a controller of this process counted.
    fed_at: Option<Instant>,
}

impl FrontDoor {
    /// For a process in this tree and region.
    #[must_use]
    pub fn new(registry: Registry, tree: TreeId, region: String, declared: Arc<Declared>) -> Self {
        Self {
            registry,
            tree,
            region,
            has_backups: false,
            broadcasts: RwLock::default(),
            broadcasts_seen: watch::channel(()).0,
            declared,
            places: Mutex::default(),
            audience: Mutex::default(),
            closed: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// Whether second publishers stand by. They are sent to another node than the first one's if there is one, so that the
    /// loss of a host takes one of them only.
    #[must_use]
    pub fn with_backups(self, has_backups: bool) -> Self {
        Self { has_backups, ..self }
    }

    /// What [`FrontDoor::with_backups`] said.
    #[must_use]
    pub const fn has_backups(&self) -> bool {
        self.has_backups
    }

    /// What other nodes than `me` publish at present, and in which runs. Those that the list does not have any more are
    /// dead, and publish nothing.
    #[must_use]
    pub fn published_elsewhere(&self, me: &NodeId) -> BTreeMap<BroadcastId, Epoch> {
        let places = self.lock();
        let is_alive = |origin: &NodeId| places.urls.is_empty() || places.urls.contains_key(origin);
        let is_elsewhere = |record: &&BroadcastRecord| {
            record.state == RecordedState::Live && record.origin != *me && is_alive(&record.origin)
        };
        let broadcasts = self.broadcasts.read().unwrap_or_else(PoisonError::into_inner);
        let elsewhere = broadcasts.values().filter(is_elsewhere);
        elsewhere.filter_map(|record| Some((record.broadcast.clone(), record.epoch?.into()))).collect()
    }

    /// Follows the broadcasts of the installation for ever; `changed` is told of each event after it counts.
    pub async fn follow_broadcasts(&self, mut changed: impl FnMut(&Self)) {
        let mut watch = self.registry.watch::<BroadcastRecord>();
        while let Some(event) = watch.next().await {
            self.broadcasts_changed(event);
            changed(self);
        }
    }

    fn broadcasts_changed(&self, event: WatchEvent) {
        let mut broadcasts = self.broadcasts.write().unwrap_or_else(PoisonError::into_inner);
        observer::changed(&mut broadcasts, event, |id| BroadcastId::new(id).ok(), |found| found.record);
        drop(broadcasts);
        self.broadcasts_seen.send_replace(());
    }

    /// The record of a broadcast, if there is one.
    #[must_use]
    pub fn broadcast(&self, id: &BroadcastId) -> Option<BroadcastRecord> {
        self.broadcasts.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Whether the installation has this broadcast, published or made ahead of that.
    #[must_use]
    pub fn knows(&self, id: &BroadcastId) -> bool {
        self.broadcast(id).is_some() || self.declared.get(id).is_some()
    }

    /// Whether the installation has this broadcast, or comes to have it while `patience` lasts: who publishes has an
    /// answer before the store has told everybody.
    pub async fn comes_to_know(&self, id: &BroadcastId, patience: Duration) -> bool {
        let (mut seen, mut declared) = (self.broadcasts_seen.subscribe(), self.declared.changes());
        let known = async {
            while !self.knows(id) {
                // The senders live as long as this.
                tokio::select! {
                    _ = seen.changed() => {}
                    _ = declared.changed() => {}
                }
            }
        };
        tokio::time::timeout(patience, known).await.is_ok()
    }

    /// The broadcasts that were made ahead of their first publisher.
    #[must_use]
    pub const fn declared(&self) -> &Arc<Declared> {
        &self.declared
    }

    /// All broadcasts of the installation that are published, or were.
    #[must_use]
    pub fn broadcasts(&self) -> Vec<BroadcastRecord> {
        self.broadcasts.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The latest publishing run of a broadcast that is known.
    #[must_use]
    pub fn epoch(&self, id: &BroadcastId) -> Option<Epoch> {
        Some(self.broadcast(id)?.epoch?.into())
    }

    /// Where a viewer goes. `draw` gives random numbers.
    pub async fn viewer(&self, asker: Asker<'_>, draw: &mut (dyn FnMut() -> u64 + Send)) -> Sent {
        self.refresh().await;
        self.viewer_at_once(asker, draw)
    }

    /// Where a viewer goes by the list that was read last.
    pub fn viewer_at_once(&self, asker: Asker<'_>, draw: &mut dyn FnMut() -> u64) -> Sent {
        let tree = self.tree_of(asker.broadcast);
        let mut places = self.lock();
        let lost = places.node_at(asker.lost);
        let request = self.request((&tree, lost.as_ref()), asker);
        let answer = places.placement.place_viewer(Instant::now(), &request, draw);
        places.sent(answer)
    }

    /// Where a publisher goes. `draw` gives random numbers.
    pub async fn publisher(&self, asker: Asker<'_>, draw: &mut (dyn FnMut() -> u64 + Send)) -> Sent {
        self.refresh().await;
        let tree = self.tree_of(asker.broadcast);
        let first = self.broadcast(asker.broadcast).filter(|record| record.state == RecordedState::Live);
        let first = first.filter(|_| self.has_backups).map(|record| record.origin);
        let mut places = self.lock();
        let lost = places.node_at(asker.lost).or(first);
        let request = self.request((&tree, lost.as_ref()), asker);
        let answer = places.placement.place_publisher(Instant::now(), &request, draw);
        places.sent(answer)
    }

    /// The node that a broadcast is published to at present, and its scheme, host and port. Promises nobody a place.
    pub async fn origin(&self, id: &BroadcastId) -> Option<(NodeId, String)> {
        let record = self.broadcast(id).filter(|record| record.state == RecordedState::Live)?;
        self.refresh().await;
        let url = self.lock().urls.get(&record.origin).cloned()?;
        Some((record.origin, url))
    }

    /// How many watch a broadcast in the whole installation, as it was counted last: some seconds ago, or, with the
    /// store or the controllers away, longer ago. `None` if nobody was counted.
    #[must_use]
    pub fn audience(&self, id: &BroadcastId) -> Option<u64> {
        self.lock_audience().viewers.get(id).copied()
    }

    /// Reads the count anew if it is more than two seconds old.
    pub async fn refresh_audience(&self) {
        {
            let (now, mut seen) = (Instant::now(), self.lock_audience());
            let is_young = |at: Option<Instant>, age: Duration| at.is_some_and(|at| now < at + age);
            if is_young(seen.read_at, AUDIENCE_AGE_MAX) || is_young(seen.fed_at, FED_AGE_MAX) {
                return;
            }
            seen.read_at = Some(now);
        }
        match self.registry.list::<AudienceRecord>().await {
            Ok(parts) => self.counted(AudienceRecord::whole(parts.into_iter().map(|found| found.record))),
            Err(error) => {
                tracing::debug!(%error, "the count of viewers could not be read; the last one counts on")
            }
        }
    }

    fn counted(&self, audience: impl IntoIterator<Item = Audience>) {
        let viewers = audience.into_iter().map(|count| (count.broadcast, count.viewers)).collect();
        self.lock_audience().viewers = viewers;
    }

    fn lock_audience(&self) -> MutexGuard<'_, AudienceSeen> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request<'a>(
        &'a self,
        (tree, lost): (&'a TreeId, Option<&'a NodeId>),
        asker: Asker<'a>,
    ) -> Request<'a> {
        Request { tree, broadcast: asker.broadcast, region: Some(&self.region), here: asker.here, lost }
    }

    fn tree_of(&self, broadcast: &BroadcastId) -> TreeId {
        let published = self.broadcast(broadcast).map(|record| record.tree);
        let declared = || self.declared.get(broadcast).map(|declared| declared.tree);
        published.or_else(declared).unwrap_or_else(|| self.tree.clone())
    }

    /// From now on nobody is sent to this node, or, with `None`, to anybody that the list has.
    pub fn close(&self, node: Option<NodeId>) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = node;
        // The list is looked at anew for the next one who asks.
        let mut places = self.lock();
        (places.read_at, places.fed_at) = (None, None);
    }

    /// Where clients may be sent, by the list that was read last; without repetition.
    #[must_use]
    pub fn origins(&self) -> BTreeSet<String> {
        self.lock().urls.values().map(|url| url.trim_end_matches('/').to_owned()).collect()
    }

    fn is_closed(&self, node: &NodeId) -> bool {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(node)
    }

    /// A controller of this process has looked at everything.
    pub(crate) fn feed(
        &self,
        observation: &Observation,
        urls: BTreeMap<NodeId, String>,
        audience: Vec<Audience>,
    ) {
        let now = Instant::now();
        self.counted(audience);
        self.lock_audience().fed_at = Some(now);
        let closed = observation.nodes.iter().position(|node| self.is_closed(&node.id));
        let mut places = self.lock();
        match closed {
            None => places.placement.update(now, observation),
            Some(index) => {
                let mut observation = observation.clone();
                observation.nodes[index].health = Health::Draining;
                places.placement.update(now, &observation);
            }
        }
        places.urls = urls;
        places.fed_at = Some(now);
    }

    /// Reads the list anew if it is more than a second old.
    pub async fn refresh(&self) {
        if self.is_fresh() {
            return;
        }
        let _reading = self.reading.lock().await;
        if self.is_fresh() {
            return;
        }
        let read = self.registry.list::<PlacesRecord>().await;
        let now = Instant::now();
        let mut places = self.lock();
        places.read_at = Some(now);
        match read {
            Ok(parts) => {
                if std::mem::take(&mut places.is_lost) {
                    places.placement.store_returned(now);
                }
                let list: Vec<Place> = parts
                    .into_iter()
                    .map(|found| found.record)
                    .filter(|part| part.part.parse::<u32>().is_ok_and(|number| number < part.parts))
                    .flat_map(|part| part.nodes)
                    .collect();
                places.urls =
                    list.iter().filter_map(|place| Some((place.node.clone(), place.url.clone()?))).collect();
                let observation = self.observation(&list);
                places.placement.update(now, &observation);
            }
            Err(error) => {
                tracing::debug!(%error, "the list of places could not be read; the last one counts on");
                places.is_lost = true;
                places.placement.store_lost();
            }
        }
    }

    fn is_fresh(&self) -> bool {
        let (now, places) = (Instant::now(), self.lock());
        let is_young = |at: Option<Instant>, age: Duration| at.is_some_and(|at| now < at + age);
        is_young(places.read_at, AGE_MAX) || is_young(places.fed_at, FED_AGE_MAX)
    }

    fn observation(&self, list: &[Place]) -> Observation {
        Observation {
            is_settled: true,
            trees: Vec::new(),
            nodes: list.iter().filter(|place| !self.is_closed(&place.node)).filter_map(node_view).collect(),
            broadcasts: self.broadcasts().iter().map(convert::broadcast).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// The node whose URL has this host and port.
    fn node_at(&self, authority: Option<&str>) -> Option<NodeId> {
        let authority = authority?;
        let is_there = |url: &String| authority_of(url).is_some_and(|of| of.eq_ignore_ascii_case(authority));
        self.urls.iter().find(|(_, url)| is_there(url)).map(|(node, _)| node.clone())
    }

    fn sent(&self, answer: Answer) -> Sent {
        match answer {
            Answer::Here => Sent::Here,
            Answer::Redirect(node) => match self.urls.get(&node) {
                Some(url) => Sent::To { url: url.clone(), node },
                None => Sent::Nowhere(Nowhere::NotReady),
            },
            Answer::Nowhere(nowhere) => Sent::Nowhere(nowhere),
        }
    }
}

/// Host and port of a URL, without the port that its scheme has anyhow: as browsers write it.
fn authority_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let usual = if scheme == "https" { ":443" } else { ":80" };
    Some(authority.strip_suffix(usual).unwrap_or(authority))
}

fn node_view(place: &Place) -> Option<NodeView> {
    let health = [Health::Ready, Health::Draining, Health::Suspect]
        .into_iter()
        .find(|health| health.as_str() == place.health)?;
    let parents: Vec<NodeId> = place.parents.iter().filter_map(|parent| NodeId::new(parent).ok()).collect();
    Some(NodeView {
        id: place.node.clone(),
        tree: place.tree.clone(),
        role: place.role,
        place: tree::Place { region: place.region.as_str().into(), zone: "".into(), host: "".into() },
        incarnation: tree::Incarnation { counter: place.report.0, random: 0 },
        health,
        capacity: convert::capacity(&place.capacity),
        load: place.load.as_ref().and_then(convert::load),
        assigned: Some(Assigned { parents: parents.clone(), paths: 2 }),
        connected: parents,
    })
}

#[cfg(test)]
mod tests {
    use super::authority_of;

    #[test]
    fn an_authority_is_written_as_browsers_do() {
        let of = |url| authority_of(url).unwrap_or("none");
        assert_eq!(of("http://198.51.100.7:8080"), "198.51.100.7:8080");
        assert_eq!(of("https://out-1.example.net:443/live/"), "out-1.example.net");
        assert_eq!(of("http://[2001:db8::1]:80/"), "[2001:db8::1]");
        assert_eq!(of("https://out-1.example.net:80"), "out-1.example.net:80");
        assert_eq!(of("out-1"), "none");
    }
}
