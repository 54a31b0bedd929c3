//! From the threads' plain numbers to the metrics of this process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use egress::DropReason as EgressDrop;
use ice_dtls::FailureReason;
use link::exchange::{self, DropReason as LinkDrop};
use model::{BroadcastId, BroadcastState, NodeId, Role, TreeId};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use telemetry::egress::ShardTotals;
use telemetry::link::{BroadcastTotals, RtpTotals, Snapshot};
use telemetry::node::NetworkCounters;
use telemetry::{
    DropCounters, DropReasons, Endpoint, HandshakeFailure, Identity, JoinResult, NodeDrop, Telemetry,
};

use crate::http::{App, SHARDS_BUSY};
use crate::shard_load::{LoadMeter, ShardLoad};
use crate::tree::PublisherStats;

/// Reasons of [`ingest::Drops`], in the order of [`injection_drops`].
const INJECTION_DROPS: [&str; 4] = ["malformed", "unknown_source", "payload_type", "unauthentic"];

/// All metrics of this node.
pub struct Metrics {
    telemetry: Telemetry,
    sampler: Mutex<telemetry::process::Sampler>,
    /// The tree thread's.
    pub tree: Arc<TreeCounters>,
}

impl Metrics {
    /// Declares them; counters exist at 0 from now on.
    #[must_use]
    pub fn new(tree: &TreeId, node: &NodeId, role: Role) -> Self {
        let identity = Identity { tree: tree.clone(), node: node.clone(), role };
        let telemetry = Telemetry::new(
            &identity,
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
        });
        Self { telemetry, sampler: Mutex::default(), tree }
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

    /// Counts connections of the public HTTP listener.
    #[must_use]
    pub fn connections(&self) -> telemetry::node::ConnectionCounters {
        self.telemetry.node.connections()
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

    /// The text for Prometheus; `app` is asked for what is counted there.
    pub fn encode(&self, app: &App) -> String {
        let usage = self.sampler.lock().unwrap_or_else(PoisonError::into_inner).sample(Instant::now());
        self.telemetry.node.usage(&usage);
        let (publishers, viewers) = app.sessions.counts();
        self.telemetry.injection.sessions(publishers);
        self.telemetry.egress.sessions(viewers);
        let slots = app.shards.iter().map(|shard| shard.slots).sum::<u64>();
        let (used, slots) =
            if slots > 0 { (app.occupied(), slots) } else { (publishers as u64, app.publishers_max) };
        self.telemetry.node.port_pool(used, slots);
        let entries = app.directory.list();
        self.telemetry.egress.mountpoints(if app.shards.is_empty() { 0 } else { entries.len() });
        for entry in &entries {
            self.telemetry.egress.viewers(&entry.broadcast.id, entry.viewers);
            let is_up = entry.broadcast.state == BroadcastState::Live;
            self.telemetry.node.pipeline(&entry.broadcast.id, is_up);
        }
        self.telemetry.link.publish(self.tree.snapshot());
        self.telemetry.encode()
    }

    /// Ends the series of a broadcast.
    pub fn broadcast_retired(&self, broadcast: &BroadcastId) {
        self.telemetry.remove_broadcast(broadcast);
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

    /// Counts a publisher that replaced another one.
    pub fn publisher_took_over(&self) {
        self.telemetry.injection.take_over();
    }

    /// Counts a viewer that is connected.
    pub fn viewer_connected(&self, after: Duration) {
        self.telemetry.egress.connected(after);
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
        FailureReason::DtlsTimedOut => HandshakeFailure::DtlsTimedOut,
        FailureReason::FingerprintMismatch => HandshakeFailure::FingerprintMismatch,
        FailureReason::UnsupportedCertificate => HandshakeFailure::UnsupportedCertificate,
        FailureReason::NoSrtpProfile => HandshakeFailure::NoSrtpProfile,
        FailureReason::PeerAlert { .. } => HandshakeFailure::PeerAlert,
        _ => HandshakeFailure::Protocol,
    }
}

/// What a thread with a media socket counts.
struct SocketCounters {
    network: Arc<NetworkCounters>,
    stranger: Counter,
    send_buffer_full: Counter,
    send_refused: Counter,
}

impl SocketCounters {
    fn new(telemetry: &Telemetry) -> Self {
        Self {
            network: telemetry.node.network(),
            stranger: telemetry.node.drops(NodeDrop::Stranger),
            send_buffer_full: telemetry.node.drops(NodeDrop::SendBufferFull),
            send_refused: telemetry.node.drops(NodeDrop::SendRefused),
        }
    }

    fn flushed(&self, flushed: &udp_batch::Flushed) {
        self.network.sent(flushed.bytes);
        if flushed.dropped > 0 {
            self.send_buffer_full.inc_by(flushed.dropped);
        }
        if flushed.refused > 0 {
            self.send_refused.inc_by(flushed.refused);
        }
    }
}

/// Whether one media socket sends with UDP segmentation offload.
struct Segmentation {
    /// Sockets that do.
    sockets: Gauge,
    is_active: Option<bool>,
}

impl Segmentation {
    fn new(telemetry: &Telemetry) -> Self {
        Self { sockets: telemetry.node.segmentation(), is_active: None }
    }

    /// Counts the socket among those that do, or no more; says so when it does not.
    fn observe(&mut self, socket: &udp_batch::Socket) {
        let (is_active, was_active) = (socket.gso_active(), self.is_active);
        if was_active == Some(is_active) {
            return;
        }
        self.is_active = Some(is_active);
        if is_active {
            self.sockets.inc();
            return;
        }
        tracing::warn!(
            port = socket.local_addr().port(),
            "this socket sends without UDP segmentation offload, which costs several times the CPU: the kernel, the \
             device or a tunnel on the way does not have it"
        );
        if was_active.is_some() {
            self.sockets.dec();
        }
    }
}

/// How often a shard's numbers are copied for metrics.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);

/// Counters of one shard.
pub struct ShardCounters {
    cells: Arc<telemetry::egress::ShardCounters>,
    meter: LoadMeter,
    socket: SocketCounters,
    segmentation: Segmentation,
    handshake_queue_full: Counter,
    published_at: Option<Instant>,
}

impl ShardCounters {
    /// A datagram came from somebody who has no session.
    pub fn stranger(&self) {
        self.socket.stranger.inc();
    }

    /// The handshake worker's queue was full.
    pub fn handshake_queue_full(&self) {
        self.handshake_queue_full.inc();
    }

    /// Bytes came.
    pub fn received(&self, bytes: usize) {
        self.socket.network.received(bytes as u64);
    }

    /// A queue was flushed.
    pub fn flushed(&mut self, flushed: &udp_batch::Flushed) {
        self.socket.flushed(flushed);
        if flushed.dropped > 0 {
            self.meter.dropped();
        }
    }

    /// The shard had nothing to do for so long.
    pub fn waited(&mut self, time: Duration) {
        self.meter.waited(time);
    }

    /// Looks after the shard's socket.
    pub fn observe(&mut self, socket: &udp_batch::Socket) {
        self.segmentation.observe(socket);
    }

    /// Copies the core's numbers, now and then, and how busy so many viewers keep the shard.
    pub fn publish(&mut self, now: Instant, stats: &egress::Stats, viewers: usize) {
        if let Some(share) = self.meter.publish(now, viewers) {
            self.cells.publish_load(share);
        }
        if self.published_at.is_some_and(|at| now < at + PUBLISH_INTERVAL) {
            return;
        }
        self.published_at = Some(now);
        self.cells.publish(&ShardTotals {
            viewers_waiting: stats.viewers_waiting,
            viewers_replaying: stats.viewers_replaying,
            audio_packets: stats.audio.packets,
            audio_bytes: stats.audio.bytes,
            video_packets: stats.video.packets,
            video_bytes: stats.video.bytes,
            replay_bytes: stats.replay.bytes,
            rtx_packets: stats.rtx.packets,
            rtx_bytes: stats.rtx.bytes,
            rtcp_packets_sent: stats.rtcp.packets,
            rtcp_packets_received: stats.rtcp_received,
            nacked_packets: stats.nacked,
            keyframe_requests_received: stats.keyframe_requests_received,
            keyframe_requests: stats.keyframe_requests,
            replays: stats.replays,
            restarts: stats.restarts,
        });
        self.cells.publish_drops(EgressDrop::ALL.map(|reason| stats.drops(reason)));
        self.cells.publish_latency(stats.latency.counts, stats.latency.sum);
    }
}

/// Counters of the tree thread.
pub struct TreeCounters {
    socket: SocketCounters,
    quic_queue_full: Counter,
    link_drops: Arc<DropCounters>,
    injection_drops: Arc<DropCounters>,
    segmentation: Mutex<[Segmentation; 2]>,
    snapshot: Mutex<Snapshot>,
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
    pub fn publish(&self, links: &exchange::Stats, publishers: &PublisherStats) {
        self.link_drops.publish(LinkDrop::ALL.map(|reason| links.drops.get(reason)));
        self.injection_drops.publish(injection_drops(&publishers.drops));
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot(links);
    }

    fn snapshot(&self) -> Snapshot {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const fn injection_drops(drops: &ingest::Drops) -> [u64; INJECTION_DROPS.len()] {
    [drops.malformed, drops.unknown_source, drops.payload_type, drops.unauthentic]
}

fn snapshot(links: &exchange::Stats) -> Snapshot {
    let broadcast = |(id, stats): (&BroadcastId, &exchange::BroadcastStats)| BroadcastTotals {
        id: id.clone(),
        destinations: stats.destinations as u64,
        parents: stats.parents as u64,
        audio: rtp_totals(&stats.audio),
        video: rtp_totals(&stats.video),
    };
    Snapshot {
        broadcasts: links.broadcasts.iter().map(broadcast).collect(),
        parents_alive: links.parents.values().filter(|parent| parent.is_alive).count() as u64,
        children: links.children.len() as u64,
        parent_round_trip: links.parents.values().filter_map(|parent| parent.round_trip).max(),
        child_round_trip: links.children.values().filter_map(|child| child.round_trip).max(),
    }
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
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_latency_buckets_of_core_and_metrics_are_the_same() {
        let core = egress::LATENCY_BOUNDS_MS.map(|millis| millis as f64 / 1000.0);
        assert_eq!(core, telemetry::egress::LATENCY_SECONDS);
    }
}
