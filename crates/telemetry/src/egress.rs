//! Viewers.

use std::fmt::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::BroadcastId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::collect::{Labels, Name, counter, gauge, plain};
use crate::labels::{HandshakeFailure, JoinResult, Label, OfBroadcast, counters};
use crate::own_names;

/// Buckets of joins and first frames: 20 ms is a handshake on a LAN, 300 ms the aim for a first frame, 8 s what a deaf
/// encoder with OBS's default keyframe interval costs elsewhere, 15 s the deadline of a session that never connects.
pub(crate) const JOIN_SECONDS: [f64; 12] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0];

/// Declares the plain totals of a shard: a snapshot that the shard fills in, and the atomics it is stored into.
macro_rules! totals {
    ($($(#[$doc:meta])* $field:ident),+ $(,)?) => {
        /// What one shard tells of itself; totals since it began, but for the `viewers_*` of this moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct ShardTotals { $($(#[$doc])* pub $field: u64),+ }

        #[derive(Debug, Default)]
        struct Cells { $($field: AtomicU64),+ }

        impl Cells {
            fn store(&self, totals: &ShardTotals) {
                $(self.$field.store(totals.$field, Ordering::Relaxed);)+
            }
            fn add_to(&self, sum: &mut ShardTotals) {
                $(sum.$field += self.$field.load(Ordering::Relaxed);)+
            }
        }
    };
}

totals! {
    /// Viewers that wait for a keyframe.
    viewers_waiting,
    /// Viewers that catch up from cached media.
    viewers_replaying,
    /// Sound packets sent.
    audio_packets,
    /// Their bytes.
    audio_bytes,
    /// Picture packets sent, replays included, repeats not.
    video_packets,
    /// Their bytes.
    video_bytes,
    /// The part of the picture bytes that went into replays.
    replay_bytes,
    /// Packets sent again because a viewer asked.
    rtx_packets,
    /// Their bytes.
    rtx_bytes,
    /// SRTCP packets sent.
    rtcp_packets_sent,
    /// SRTCP packets taken.
    rtcp_packets_received,
    /// Sequence numbers that viewers asked for again.
    nacked_packets,
    /// PLI and FIR of viewers.
    keyframe_requests_received,
    /// Keyframes that the shard asked the tree for.
    keyframe_requests,
    /// Replays begun.
    replays,
    /// Restarts of a viewer from a cached keyframe.
    restarts,
}

/// What one shard counts, written by its thread alone.
#[derive(Debug)]
pub struct ShardCounters {
    cells: Cells,
    drops: Box<[AtomicU64]>,
    latency: Box<[AtomicU64]>,
    latency_micros: AtomicU64,
    /// Bits of an `f64`.
    load: AtomicU64,
}

impl ShardCounters {
    /// Stores the part of the latest second in which the shard was busy, from 0 to 1.
    pub fn publish_load(&self, share: f64) {
        self.load.store(share.to_bits(), Ordering::Relaxed);
    }

    /// Stores the shard's totals.
    pub fn publish(&self, totals: &ShardTotals) {
        self.cells.store(totals);
    }

    /// Stores how often something was dropped so far, for each reason in the order in which the reasons were declared.
    pub fn publish_drops(&self, totals: impl IntoIterator<Item = u64>) {
        store_all(&self.drops, totals);
    }

    /// Stores the latency samples so far: for each bound how many were at most as long but longer than the bound
    /// before, then how many were longer than all, and their sum.
    pub fn publish_latency(&self, counts: impl IntoIterator<Item = u64>, sum: Duration) {
        store_all(&self.latency, counts);
        self.latency_micros.store(sum.as_micros() as u64, Ordering::Relaxed);
    }
}

fn store_all(cells: &[AtomicU64], values: impl IntoIterator<Item = u64>) {
    for (cell, value) in cells.iter().zip(values) {
        cell.store(value, Ordering::Relaxed);
    }
}

/// All shards of the process, as the collector reads them.
#[derive(Debug)]
struct Shards {
    counters: Mutex<Vec<Arc<ShardCounters>>>,
    drop_reasons: Box<[&'static str]>,
}

/// Upper bounds of the latency histogram, in seconds: dense around what a LAN, a continent and the promise of 500 ms
/// give. The fan-out core's buckets, which `ShardCounters::publish_latency` takes.
pub const LATENCY_SECONDS: [f64; 12] = [0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0];

/// Handles of the viewers' metrics.
#[derive(Debug)]
pub struct Metrics {
    sessions: Gauge,
    mountpoints: Gauge,
    viewers: Family<OfBroadcast, Gauge>,
    joins: Family<Label<JoinResult>, Counter>,
    connect_seconds: Histogram,
    first_frame_seconds: Histogram,
    handshake_failures: Family<Label<HandshakeFailure>, Counter>,
    handshakes: Gauge,
    shards: Arc<Shards>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry, drop_reasons: &[&'static str]) -> Self {
        let metrics = Self {
            sessions: Gauge::default(),
            mountpoints: Gauge::default(),
            viewers: Family::default(),
            joins: counters(),
            connect_seconds: Histogram::new(JOIN_SECONDS),
            first_frame_seconds: Histogram::new(JOIN_SECONDS),
            handshake_failures: counters(),
            handshakes: Gauge::default(),
            shards: Arc::new(Shards { counters: Mutex::default(), drop_reasons: drop_reasons.into() }),
        };
        let own = own_names(registry);
        own.register("whep_sessions", "WHEP sessions that exist, connected or not", metrics.sessions.clone());
        own.register(
            "mountpoints",
            "Broadcasts that this node offers to viewers",
            metrics.mountpoints.clone(),
        );
        own.register("viewers", "Viewers with ICE and DTLS connected", metrics.viewers.clone());
        own.register("joins", "Viewers that came, by how it ended", metrics.joins.clone());
        own.register(
            "join_connect_seconds",
            "From a viewer's POST to media being able to flow",
            metrics.connect_seconds.clone(),
        );
        own.register(
            "time_to_first_frame_seconds",
            "From a viewer's POST to its first whole keyframe being sent",
            metrics.first_frame_seconds.clone(),
        );
        own.register(
            "handshake_failures",
            "Sessions that were answered and did not come to keys, by reason",
            metrics.handshake_failures.clone(),
        );
        own.register(
            "handshakes_held",
            "Sessions that handshake workers hold: those that are connecting, and the DTLS of those that are connected",
            metrics.handshakes.clone(),
        );
        own.register_collector(Box::new(ShardCollector(metrics.shards.clone())));
        metrics
    }

    /// Counters of one more shard.
    #[must_use]
    pub fn shard(&self) -> Arc<ShardCounters> {
        let cells = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let counters = Arc::new(ShardCounters {
            cells: Cells::default(),
            drops: cells(self.shards.drop_reasons.len()),
            latency: cells(LATENCY_SECONDS.len() + 1),
            latency_micros: AtomicU64::new(0),
            load: AtomicU64::new(0.0_f64.to_bits()),
        });
        self.shards.counters.lock().unwrap_or_else(PoisonError::into_inner).push(counters.clone());
        counters
    }

    /// Shows how many WHEP sessions exist.
    pub fn sessions(&self, count: usize) {
        self.sessions.set(count as i64);
    }

    /// Shows how many broadcasts are offered.
    pub fn mountpoints(&self, count: usize) {
        self.mountpoints.set(count as i64);
    }

    /// Shows how many viewers a broadcast has here.
    pub fn viewers(&self, broadcast: &BroadcastId, count: u64) {
        self.viewers.get_or_create(&OfBroadcast(broadcast.clone())).set(count as i64);
    }

    /// Counts how a viewer's POST ended.
    pub fn join(&self, result: JoinResult) {
        self.joins.get_or_create(&Label(result)).inc();
    }

    /// Counts a viewer that is connected, `after` its POST.
    pub fn connected(&self, after: Duration) {
        self.join(JoinResult::Connected);
        self.connect_seconds.observe(after.as_secs_f64());
    }

    /// Counts a viewer's first whole keyframe, `after` its POST.
    pub fn first_frame(&self, after: Duration) {
        self.first_frame_seconds.observe(after.as_secs_f64());
    }

    /// Counts a viewer whose handshake failed.
    pub fn handshake_failed(&self, reason: HandshakeFailure) {
        self.join(JoinResult::NotConnected);
        self.handshake_failures.get_or_create(&Label(reason)).inc();
    }

    /// Where a handshake worker counts the sessions that it holds.
    #[must_use]
    pub fn handshakes(&self) -> Gauge {
        self.handshakes.clone()
    }

    pub(crate) fn remove_broadcast(&self, broadcast: &BroadcastId) {
        self.viewers.remove(&OfBroadcast(broadcast.clone()));
    }
}

#[derive(Debug)]
struct ShardCollector(Arc<Shards>);

fn of_kind(audio: u64, video: u64) -> [(Labels<'static>, u64); 2] {
    [(Labels(vec![("kind", "audio")]), audio), (Labels(vec![("kind", "video")]), video)]
}

impl Collector for ShardCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let shards = self.0.counters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut sum = ShardTotals::default();
        shards.iter().for_each(|shard| shard.cells.add_to(&mut sum));
        let e = &mut encoder;
        let numbers: Vec<String> = (0..shards.len()).map(|number| number.to_string()).collect();
        let loads = shards.iter().zip(&numbers).map(|(shard, number)| {
            (Labels(vec![("shard", number)]), f64::from_bits(shard.load.load(Ordering::Relaxed)))
        });
        let help = "Part of the latest second in which a shard was busy, from 0 to 1; 1 also if it could not send all";
        gauge(e, Name("egress_shard_load", help), loads)?;
        gauge(
            e,
            Name("viewers_waiting", "Viewers that wait for a keyframe"),
            plain(sum.viewers_waiting as f64),
        )?;
        gauge(
            e,
            Name("viewers_replaying", "Viewers that catch up from cached media"),
            plain(sum.viewers_replaying as f64),
        )?;
        let packets = Name("viewer_rtp_packets", "RTP packets sent to viewers, repeats not counted");
        counter(e, packets, of_kind(sum.audio_packets, sum.video_packets))?;
        let bytes = Name("viewer_rtp_bytes", "Bytes of RTP packets sent to viewers, UDP payload");
        counter(e, bytes, of_kind(sum.audio_bytes, sum.video_bytes))?;
        for (name, help, value) in [
            ("viewer_replay_bytes", "The part of the picture bytes that caught viewers up", sum.replay_bytes),
            ("viewer_rtx_packets", "RTP packets sent again because a viewer asked", sum.rtx_packets),
            ("viewer_rtx_bytes", "Bytes of RTP packets sent again, UDP payload", sum.rtx_bytes),
            ("viewer_rtcp_packets_sent", "SRTCP packets sent to viewers", sum.rtcp_packets_sent),
            ("viewer_rtcp_packets_received", "SRTCP packets taken from viewers", sum.rtcp_packets_received),
            ("viewer_nacked_packets", "RTP packets that viewers asked for again", sum.nacked_packets),
            (
                "viewer_keyframe_requests",
                "Keyframe requests (PLI, FIR) of viewers",
                sum.keyframe_requests_received,
            ),
            ("shard_keyframe_requests", "Keyframes that shards asked the tree for", sum.keyframe_requests),
            ("replays", "Viewers caught up from cached media", sum.replays),
            ("viewer_restarts", "Viewers started anew from a cached keyframe", sum.restarts),
        ] {
            counter(e, Name(name, help), plain(value))?;
        }
        let read = |cells: fn(&ShardCounters) -> &[AtomicU64], index: usize| -> u64 {
            shards.iter().map(|shard| cells(shard)[index].load(Ordering::Relaxed)).sum()
        };
        let drops =
            self.0.drop_reasons.iter().enumerate().map(|(index, reason)| {
                (Labels(vec![("reason", *reason)]), read(|shard| &shard.drops, index))
            });
        counter(e, Name("egress_drops", "What shards did not send or not take"), drops)?;
        let micros: u64 = shards.iter().map(|shard| shard.latency_micros.load(Ordering::Relaxed)).sum();
        let buckets: Vec<(f64, u64)> = LATENCY_SECONDS
            .into_iter()
            .chain([f64::INFINITY])
            .enumerate()
            .map(|(index, bound)| (bound, read(|shard| &shard.latency, index)))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let help = "From capture to sending, for each video frame and live viewer";
        e.encode_descriptor("end_to_end_latency_seconds", help, None, MetricType::Histogram)?
            .encode_histogram::<Labels<'_>>(micros as f64 / 1e6, count, &buckets, None)
    }
}
