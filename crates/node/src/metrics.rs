//! From the threads' plain numbers to the metrics of this process.

mod flow;
mod shard;
mod socket;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use egress::DropReason as EgressDrop;
use ice_dtls::FailureReason;
use ingest::Drops;
use link::exchange::{self, DropReason as LinkDrop};
use model::{BroadcastId, BroadcastState, NodeId};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use store::{Store, StoreState};
use telemetry::link::{BroadcastTotals, ParentTotals, RtpTotals, Snapshot};
use telemetry::publishers::Published;
use telemetry::{
    DropCounters, DropReasons, Endpoint, Exposition, HandshakeFailure, Identity, JoinResult, NodeDrop,
    Telemetry,
};
use tokio::sync::watch;

pub use shard::ShardCounters;
use socket::{Segmentation, SocketCounters};

use crate::advice::Patient;
use crate::directory::Entry;
use crate::http::{App, SHARDS_BUSY};
use crate::shard_load::{LoadMeter, ShardLoad};
use crate::tls::Tls;
use crate::tree::PublisherStats;

/// Reasons of [`ingest::Drops`], in the order of [`injection_drops`].
const INJECTION_DROPS: [&str; 8] = [
    "malformed",
    "unknown_source",
    "payload_type",
    "unauthentic",
    "late",
    "too_large",
    "not_published",
    "channel_rate",
];

/// All metrics of this node.
pub struct Metrics {
    telemetry: Telemetry,
    sampler: Mutex<telemetry::process::Sampler>,
    began: Instant,
    /// The tree thread's.
    pub tree: Arc<TreeCounters>,
}

impl Metrics {
    /// Declares them; counters exist at 0 from now on.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let telemetry = Telemetry::new(
            identity,
            DropReasons {
                egress: &EgressDrop::ALL.map(EgressDrop::as_str),
                link: &LinkDrop::ALL.map(LinkDrop::as_str),
                injection: &INJECTION_DROPS,
            },
        );
        let tree = Arc::new(TreeCounters {
            socket: SocketCounters::new(&telemetry),
            quic_queue_full: telemetry.node.drops(NodeDrop::LinkQueueFull),
            link_drops: telemetry.link.drops(),
            injection_drops: telemetry.injection.drops(),
            segmentation: Mutex::new([(); 2].map(|()| Segmentation::new(&telemetry))),
            snapshot: Mutex::default(),
            published: telemetry.injection.published(),
            cues: telemetry.injection.cues(),
            waits: telemetry.injection.waits(),
            channel_queue_full: telemetry.node.drops(NodeDrop::ChannelQueueFull),
            patients: watch::channel(Vec::new()).0,
            parents: Mutex::default(),
            flows: Mutex::default(),
        });
        Self { telemetry, sampler: Mutex::default(), began: Instant::now(), tree }
    }

    /// Counters of one more shard, which tells its load to `load`.
    #[must_use]
    pub fn shard(&self, load: Arc<ShardLoad>) -> ShardCounters {
        ShardCounters {
            cells: self.telemetry.egress.shard(),
            meter: LoadMeter::new(load),
            socket: SocketCounters::new(&self.telemetry),
            segmentation: Segmentation::new(&self.telemetry),
            handshake_queue_full: self.telemetry.node.drops(NodeDrop::HandshakeQueueFull),
            published_at: None,
        }
    }

    /// Counts tree packets that found the queue to a shard full.
    #[must_use]
    pub fn media_queue_full(&self) -> Counter {
        self.telemetry.node.drops(NodeDrop::MediaQueueFull)
    }

    /// Counts peers whose handshakes for a link channel found no room.
    #[must_use]
    pub fn link_handshakes_full(&self) -> Counter {
        self.telemetry.node.drops(NodeDrop::LinkHandshakesFull)
    }

    /// Counts the deaths of this node's earlier processes.
    pub fn crashed(&self, times: u64) {
        self.telemetry.node.crashed(times);
    }

    /// Shows when the certificate of the public listener expires, if there is one.
    pub fn certificate(&self, tls: Option<&Tls>) {
        if let Some(expires) = tls.and_then(|tls| tls.expires) {
            self.telemetry.node.certificate_expires(expires);
        }
    }

    /// Counts connections of the public HTTP listener.
    #[must_use]
    pub fn connections(&self) -> telemetry::node::ConnectionCounters {
        self.telemetry.node.connections()
    }

    /// Counts connections of those who send media over TCP.
    #[must_use]
    pub fn media_connections(&self) -> telemetry::node::ConnectionCounters {
        self.telemetry.node.media_connections()
    }

    /// Counts connections over RTMP, and what becomes of their media.
    #[must_use]
    pub const fn rtmp(&self) -> &telemetry::rtmp::Metrics {
        &self.telemetry.rtmp
    }

    /// Counts what becomes of spans.
    #[must_use]
    pub fn traces(&self) -> telemetry::traces::Metrics {
        self.telemetry.traces.clone()
    }

    /// Counts a publisher that came otherwise than over HTTP and was not taken.
    pub fn publisher_refused(&self, result: JoinResult) {
        self.telemetry.injection.publish(result);
    }

    /// Counts who was not let in, and events for the operator's server.
    #[must_use]
    pub fn access(&self) -> telemetry::access::Metrics {
        self.telemetry.access.clone()
    }

    /// Where players' reports are counted.
    #[must_use]
    pub const fn player(&self) -> &telemetry::player::Metrics {
        &self.telemetry.player
    }

    /// Where the controller of this process counts.
    #[must_use]
    pub fn controller(&self) -> telemetry::controller::Metrics {
        self.telemetry.controller.clone()
    }

    /// Where a handshake worker counts the sessions that it holds.
    #[must_use]
    pub fn handshakes(&self) -> Gauge {
        self.telemetry.egress.handshakes()
    }

    /// Counts session records, whoever keeps them.
    #[must_use]
    pub fn records(&self) -> telemetry::node::RecordCounters {
        self.telemetry.node.records()
    }

    /// Bytes and datagrams that the media sockets have sent.
    #[must_use]
    pub fn sent(&self) -> (u64, u64) {
        self.telemetry.node.network().sent_until_now()
    }

    /// Shows how far the slot has come that this node belongs to, if it belongs to one.
    pub fn slot(&self, state: Option<telemetry::controller::SlotState>) {
        self.telemetry.node.slot(state);
    }

    /// The text for Prometheus; `app` is asked for what is counted there.
    pub fn encode(&self, app: &App, exposition: Exposition) -> String {
        let now = Instant::now();
        let (usage, holdings) = {
            let mut sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
            (sampler.sample(now), sampler.holdings())
        };
        self.telemetry.node.usage(&usage);
        self.telemetry.node.holdings(&holdings);
        self.telemetry.node.uptime(now.saturating_duration_since(self.began));
        let (publishers, viewers) = app.sessions.counts();
        self.telemetry.injection.sessions(publishers);
        self.telemetry.egress.sessions(viewers);
        let streams = app.sessions.viewers().iter().map(|viewer| viewer.events.count()).sum();
        self.telemetry.egress.event_streams(streams);
        let slots = app.shards.iter().map(|shard| shard.slots).sum::<u64>();
        let (used, slots) =
            if slots > 0 { (app.occupied(), slots) } else { (publishers as u64, app.publishers_max) };
        self.telemetry.node.port_pool(used, slots);
        let entries = app.directory.list();
        self.telemetry.egress.mountpoints(if app.shards.is_empty() { 0 } else { entries.len() });
        let is_live = |entry: &&Entry| entry.broadcast.state == BroadcastState::Live;
        let live = entries.iter().filter(is_live).count();
        self.telemetry.node.broadcasts(live, entries.len() - live);
        for entry in &entries {
            self.telemetry.egress.viewers(&entry.broadcast.id, entry.viewers);
        }
        self.telemetry.node.pipelines(self.pipelines(now, app, &entries));
        self.telemetry.link.publish(self.tree.snapshot());
        if let Some(control) = &app.control {
            self.telemetry.store.publish(store_snapshot(control.registry.store().as_ref()));
        }
        self.telemetry.encode_as(exposition)
    }

    /// Each broadcast that is known or watched here, and whether its media flows. Who watches one that is not known, or
    /// not any more, sees nothing.
    fn pipelines(&self, now: Instant, app: &App, entries: &[Entry]) -> BTreeMap<BroadcastId, bool> {
        let watched = app.directory.viewers().into_iter().map(|(id, _)| (id, false));
        let flows = self.tree.flows.lock().unwrap_or_else(PoisonError::into_inner);
        let known = entries.iter().map(|Entry { broadcast, .. }| {
            let is_live = broadcast.state == BroadcastState::Live;
            (broadcast.id.clone(), is_live && flows.is_up(now, &broadcast.id))
        });
        // Of both, what is known counts.
        watched.chain(known).collect()
    }

    /// Ends the series of a broadcast; `is_published` if somebody has come since to publish it, and has not begun.
    pub fn broadcast_retired(&self, broadcast: &BroadcastId, is_published: bool) {
        self.telemetry.remove_broadcast(broadcast, is_published);
    }

    /// Counts a WHIP request and, if it was an offer that was not taken, why.
    pub fn whip_answered(&self, is_post: bool, status: u16) {
        self.telemetry.node.request(Endpoint::Whip, status);
        if is_post && let Some(result) = refusal(status) {
            self.telemetry.injection.publish(result);
        }
    }

    /// Counts a WHEP request and, if it was an offer that was not taken, why: by its status, and the code of its
    /// problem.
    pub fn whep_answered(&self, is_post: bool, status: u16, problem: Option<&str>) {
        self.telemetry.node.request(Endpoint::Whep, status);
        let result =
            if problem == Some(SHARDS_BUSY) { Some(JoinResult::Overloaded) } else { refusal(status) };
        if is_post && let Some(result) = result {
            self.telemetry.egress.join(result);
        }
    }

    /// Counts a publisher that is connected.
    pub fn publisher_connected(&self, after: Duration) {
        self.telemetry.injection.connected(after);
    }

    /// Counts a publisher that was answered and never connected.
    pub fn publisher_not_connected(&self) {
        self.telemetry.injection.publish(JoinResult::NotConnected);
    }

    /// Shows what publishers are advised.
    pub fn advised(&self, advised: Vec<telemetry::advice::Advised>) {
        self.telemetry.injection.advice().set(advised);
    }

    /// Counts a publisher that replaced another one.
    pub fn publisher_took_over(&self) {
        self.telemetry.injection.take_over();
    }

    /// Counts a viewer that is connected.
    pub fn viewer_connected(&self, after: Duration) {
        self.telemetry.egress.connected(after);
    }

    /// Counts a viewer that was told to go elsewhere.
    pub fn viewer_sent_away(&self) {
        self.telemetry.egress.sent_away();
    }

    /// Counts event streams that ended because their readers took nothing.
    pub fn event_readers_stuck(&self, count: usize) {
        self.telemetry.egress.event_readers_stuck(count);
    }

    /// Counts captions and other timed data that readers of event streams took.
    pub fn cues_told(&self, count: u64) {
        self.telemetry.egress.cues_told(count);
    }

    /// Counts a viewer's first keyframe.
    pub fn first_frame(&self, after: Duration) {
        self.telemetry.egress.first_frame(after);
    }

    /// Counts a viewer that was answered and never connected; `None` if it deleted its session.
    pub fn viewer_not_connected(&self, reason: Option<&FailureReason>) {
        match reason {
            Some(reason) => self.telemetry.egress.handshake_failed(handshake_failure(reason)),
            None => self.telemetry.egress.join(JoinResult::Deleted),
        }
    }
}

fn store_snapshot(store: &dyn Store) -> telemetry::store::Snapshot {
    let stats = store.stats();
    telemetry::store::Snapshot {
        is_up: store.state() == StoreState::Up,
        operations: stats.operations,
        failures: stats.failures,
        outages: stats.outages,
        resolutions: stats.resolutions,
        malformed: stats.malformed,
        watch_overflows: stats.watch_overflows,
        operation_seconds: telemetry::Distribution::new(
            store::LATENCY_BOUNDS.map(|bound| bound.as_secs_f64()),
            stats.latency_counts,
            stats.latency_sum.as_secs_f64(),
        ),
    }
}

const fn refusal(status: u16) -> Option<JoinResult> {
    match status {
        200..=399 => None,
        429 | 503 => Some(JoinResult::Full),
        _ => Some(JoinResult::Refused),
    }
}

const fn handshake_failure(reason: &FailureReason) -> HandshakeFailure {
    match reason {
        FailureReason::NoCheck => HandshakeFailure::NoCheck,
        FailureReason::NoAnswer => HandshakeFailure::NoAnswer,
        FailureReason::DtlsTimedOut => HandshakeFailure::DtlsTimedOut,
        FailureReason::FingerprintMismatch => HandshakeFailure::FingerprintMismatch,
        FailureReason::UnsupportedCertificate => HandshakeFailure::UnsupportedCertificate,
        FailureReason::NoSrtpProfile => HandshakeFailure::NoSrtpProfile,
        FailureReason::PeerAlert { .. } => HandshakeFailure::PeerAlert,
        _ => HandshakeFailure::Protocol,
    }
}

/// Counters of the tree thread.
pub struct TreeCounters {
    /// Captions and other timed data.
    pub cues: telemetry::injection::Cues,
    /// Publishers that wait for a place.
    pub waits: telemetry::injection::Waits,
    /// Messages that found the queue of a link channel full.
    pub channel_queue_full: Counter,
    socket: SocketCounters,
    quic_queue_full: Counter,
    link_drops: Arc<DropCounters>,
    injection_drops: Arc<DropCounters>,
    segmentation: Mutex<[Segmentation; 2]>,
    snapshot: Mutex<Snapshot>,
    published: Arc<Published>,
    patients: watch::Sender<Vec<Patient>>,
    parents: Mutex<Vec<exchange::ParentStats>>,
    flows: Mutex<flow::Flows>,
}

impl TreeCounters {
    /// A datagram came from somebody who has no session.
    pub fn stranger(&self) {
        self.socket.stranger.inc();
    }

    /// QUIC's queue was full.
    pub fn quic_queue_full(&self) {
        self.quic_queue_full.inc();
    }

    /// Bytes came.
    pub fn received(&self, bytes: usize) {
        self.socket.network.received(bytes as u64);
    }

    /// A queue was flushed.
    pub fn flushed(&self, flushed: &udp_batch::Flushed) {
        self.socket.flushed(flushed);
    }

    /// Looks after the sockets of publishers and links, as far as there are any.
    pub fn observe(&self, sockets: [Option<&udp_batch::Socket>; 2]) {
        let mut segmentation = self.segmentation.lock().unwrap_or_else(PoisonError::into_inner);
        for (segmentation, socket) in segmentation.iter_mut().zip(sockets) {
            if let Some(socket) = socket {
                segmentation.observe(socket);
            }
        }
    }

    /// Copies the cores' numbers.
    pub fn publish(&self, now: Instant, links: &exchange::Stats, publishers: PublisherStats) {
        self.link_drops.publish(LinkDrop::ALL.map(|reason| links.drops.get(reason)));
        self.injection_drops.publish(injection_drops(&publishers.drops));
        self.published.set(publishers.broadcasts);
        self.flows.lock().unwrap_or_else(PoisonError::into_inner).observe(now, &links.broadcasts);
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot(links);
        *self.parents.lock().unwrap_or_else(PoisonError::into_inner) =
            links.parents.values().cloned().collect();
    }

    /// Shows every publisher, for whoever examines them.
    pub fn show(&self, patients: Vec<Patient>) {
        self.patients.send_replace(patients);
    }

    /// What is shown, about once a second.
    #[must_use]
    pub fn patients(&self) -> watch::Receiver<Vec<Patient>> {
        self.patients.subscribe()
    }

    /// What is known of the parents.
    #[must_use]
    pub fn parents(&self) -> Vec<exchange::ParentStats> {
        self.parents.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many children are connected.
    #[must_use]
    pub fn children(&self) -> u64 {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).children
    }

    /// To how many children broadcasts are forwarded, each broadcast counted by itself; as of about a second ago.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        self.snapshot().broadcasts.iter().map(|broadcast| broadcast.destinations).sum()
    }

    fn snapshot(&self) -> Snapshot {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const fn injection_drops(drops: &Drops) -> [u64; INJECTION_DROPS.len()] {
    let Drops {
        malformed,
        unknown_source,
        payload_type,
        unauthentic,
        late,
        too_large,
        not_published,
        channel_rate,
    } = *drops;
    [malformed, unknown_source, payload_type, unauthentic, late, too_large, not_published, channel_rate]
}

fn snapshot(links: &exchange::Stats) -> Snapshot {
    let broadcast = |(id, stats): (&BroadcastId, &exchange::BroadcastStats)| BroadcastTotals {
        id: id.clone(),
        destinations: stats.destinations as u64,
        parents: stats.parents as u64,
        streams: stats.streams as u64,
        audio: rtp_totals(&stats.audio),
        video: rtp_totals(&stats.video),
    };
    Snapshot {
        broadcasts: links.broadcasts.iter().map(broadcast).collect(),
        parents_alive: links.parents.values().filter(|parent| parent.is_alive).count() as u64,
        children: links.children.len() as u64,
        parents: links.parents.values().filter_map(parent_totals).collect(),
        parent_round_trip: links.parents.values().filter_map(|parent| parent.round_trip).max(),
        child_round_trip: links.children.values().filter_map(|child| child.round_trip).max(),
    }
}

fn parent_totals(parent: &exchange::ParentStats) -> Option<(NodeId, ParentTotals)> {
    let totals = ParentTotals {
        is_alive: parent.is_alive,
        broadcasts: parent.joined as u64,
        round_trip: parent.round_trip,
        packets: parent.packets_received,
        duplicates: parent.duplicates,
        recovered: parent.recovered,
        nacked: parent.nacked,
    };
    Some((parent.node.clone()?, totals))
}

const fn rtp_totals(stats: &exchange::StreamStats) -> RtpTotals {
    RtpTotals {
        packets_in: stats.packets_received,
        bytes_in: stats.bytes_received,
        packets_out: stats.packets_sent,
        bytes_out: stats.bytes_sent,
        duplicates: stats.duplicates,
        lost: stats.lost,
        recovered: stats.recovered,
        nacked_out: stats.nacked,
        nacked_in: stats.nacks_received,
        resent: stats.resent,
        keyframe_requests_in: stats.keyframe_requests_received,
        keyframe_requests_out: stats.keyframe_requests_forwarded,
        ring_packets: stats.ring_packets as u64,
        ring_bytes: stats.ring_bytes as u64,
        ring_since: stats.ring_since,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_buckets_of_core_and_metrics_are_the_same() {
        let core = egress::LATENCY_BOUNDS_MS.map(|millis| millis as f64 / 1000.0);
        assert_eq!(core, telemetry::egress::LATENCY_SECONDS);
        let loss = egress::LOSS_BOUNDS_256.map(|share| f64::from(share) / 256.0);
        assert_eq!(loss, telemetry::egress::LOSS_RATIOS);
        let jitter = egress::JITTER_BOUNDS_MS.map(|millis| millis as f64 / 1000.0);
        assert_eq!(jitter, telemetry::egress::JITTER_SECONDS);
        let round_trip = egress::ROUND_TRIP_BOUNDS_MS.map(|millis| millis as f64 / 1000.0);
        assert_eq!(round_trip, telemetry::egress::ROUND_TRIP_SECONDS);
    }
}
