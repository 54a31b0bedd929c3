//! Viewers.

use std::fmt::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{BroadcastId, Kind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::collect::{Distribution, Labels, Name, counter, gauge, histogram, plain};
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
    /// Viewers that get sound alone, because their connections carry no picture.
    viewers_sound_only,
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
    /// Transport-wide feedback taken.
    transport_feedback,
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
    /// Switches to a better layer of a picture,
    layer_switches_up,
    /// to a worse one,
    layer_switches_down,
    /// to the one that was chosen for the viewer,
    layer_switches_pinned,
    /// to another one because the publisher sends the one before no more,
    layer_switches_inactive,
    /// to a worse one because the shard cannot keep up,
    layer_switches_overload,
    /// and to none, because the connection carries sound alone.
    layer_switches_sound_only,
    /// Bytes of repeats by which it is found out whether a better layer would fit.
    probe_bytes,
    /// Such probes begun.
    probes,
    /// Such probes that the connection did not carry.
    probes_failed,
}

/// What one shard counts, written by its thread alone.
#[derive(Debug)]
pub struct ShardCounters {
    cells: Cells,
    drops: Box<[AtomicU64]>,
    latency: Counted,
    /// Sound, then picture.
    loss: [Counted; 2],
    jitter: [Counted; 2],
    round_trip: Counted,
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
        self.latency.store(counts, sum.as_secs_f64());
    }

    /// Stores what viewers have reported of their losses, counted likewise by [`LOSS_RATIOS`].
    pub fn publish_loss(&self, kind: Kind, counts: impl IntoIterator<Item = u64>, sum: f64) {
        self.loss[kind as usize].store(counts, sum);
    }

    /// Stores what viewers have reported of jitter, counted likewise by [`JITTER_SECONDS`].
    pub fn publish_jitter(&self, kind: Kind, counts: impl IntoIterator<Item = u64>, sum: Duration) {
        self.jitter[kind as usize].store(counts, sum.as_secs_f64());
    }

    /// Stores the round trips to viewers, counted likewise by [`ROUND_TRIP_SECONDS`].
    pub fn publish_round_trip(&self, counts: impl IntoIterator<Item = u64>, sum: Duration) {
        self.round_trip.store(counts, sum.as_secs_f64());
    }
}

/// A histogram that one thread stores.
#[derive(Debug)]
struct Counted {
    counts: Box<[AtomicU64]>,
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl Counted {
    fn new(bounds: &[f64]) -> Self {
        Self { counts: cells(bounds.len() + 1), sum: AtomicU64::new(0.0_f64.to_bits()) }
    }

    fn store(&self, counts: impl IntoIterator<Item = u64>, sum: f64) {
        store_all(&self.counts, counts);
        self.sum.store(sum.to_bits(), Ordering::Relaxed);
    }

    /// That of all shards together.
    fn add_up<'a>(bounds: &[f64], parts: impl Iterator<Item = &'a Self>) -> Distribution {
        let (mut counts, mut sum) = (vec![0; bounds.len() + 1], 0.0);
        for part in parts {
            let read = part.counts.iter().map(|count| count.load(Ordering::Relaxed));
            counts.iter_mut().zip(read).for_each(|(count, more)| *count += more);
            sum += f64::from_bits(part.sum.load(Ordering::Relaxed));
        }
        Distribution::new(bounds.iter().copied(), counts, sum)
    }
}

fn cells(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
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

/// Upper bounds of what viewers report of their losses: powers of two of the 256ths that reports count in.
pub const LOSS_RATIOS: [f64; 9] =
    [0.0, 0.003_906_25, 0.007_812_5, 0.015_625, 0.031_25, 0.062_5, 0.125, 0.25, 0.5];

/// Upper bounds of the jitter that viewers report, in seconds: a few frames of sound are heard in any case.
pub const JITTER_SECONDS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5];

/// Upper bounds of round trips to viewers, in seconds: a LAN, a continent, the world, a link that is overfilled.
pub const ROUND_TRIP_SECONDS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0];

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
    event_streams: Gauge,
    sent_away: Counter,
    event_readers_stuck: Counter,
    cues_told: Counter,
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
            event_streams: Gauge::default(),
            sent_away: Counter::default(),
            event_readers_stuck: Counter::default(),
            cues_told: Counter::default(),
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
        own.register(
            "event_streams",
            "Event streams of viewers' sessions, read or not",
            metrics.event_streams.clone(),
        );
        own.register(
            "viewers_sent_away",
            "Times that a viewer's player was told to go to another node",
            metrics.sent_away.clone(),
        );
        own.register(
            "event_readers_stuck",
            "Event streams that ended because nobody took what they had to tell",
            metrics.event_readers_stuck.clone(),
        );
        own.register(
            "cues_told",
            "Captions and other timed data that event streams have told, each reader counted",
            metrics.cues_told.clone(),
        );
        own.register_collector(Box::new(ShardCollector(metrics.shards.clone())));
        metrics
    }

    /// Counters of one more shard.
    #[must_use]
    pub fn shard(&self) -> Arc<ShardCounters> {
        let counters = Arc::new(ShardCounters {
            cells: Cells::default(),
            drops: cells(self.shards.drop_reasons.len()),
            latency: Counted::new(&LATENCY_SECONDS),
            loss: [(); 2].map(|()| Counted::new(&LOSS_RATIOS)),
            jitter: [(); 2].map(|()| Counted::new(&JITTER_SECONDS)),
            round_trip: Counted::new(&ROUND_TRIP_SECONDS),
            load: AtomicU64::new(0.0_f64.to_bits()),
        });
        self.shards.counters.lock().unwrap_or_else(PoisonError::into_inner).push(counters.clone());
        counters
    }

    /// Shows how many WHEP sessions exist.
    pub fn sessions(&self, count: usize) {
        self.sessions.set(count as i64);
    }

    /// Shows how many event streams exist.
    pub fn event_streams(&self, count: usize) {
        self.event_streams.set(count as i64);
    }

    /// Counts a viewer that was told to go elsewhere.
    pub fn sent_away(&self) {
        self.sent_away.inc();
    }

    /// Counts event streams whose readers took nothing.
    pub fn event_readers_stuck(&self, count: usize) {
        self.event_readers_stuck.inc_by(count as u64);
    }

    /// Counts captions and other timed data that readers took.
    pub fn cues_told(&self, count: u64) {
        self.cues_told.inc_by(count);
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
        let sound_only = "Viewers that get sound alone: their connections carry no picture";
        for (name, help, value) in [
            ("viewers_waiting", "Viewers that wait for a keyframe", sum.viewers_waiting),
            ("viewers_replaying", "Viewers that catch up from cached media", sum.viewers_replaying),
            ("viewers_sound_only", sound_only, sum.viewers_sound_only),
        ] {
            gauge(e, Name(name, help), plain(value as f64))?;
        }
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
            (
                "viewer_transport_feedback",
                "Feedback of viewers on when packets arrived",
                sum.transport_feedback,
            ),
            ("viewer_nacked_packets", "RTP packets that viewers asked for again", sum.nacked_packets),
            (
                "viewer_keyframe_requests",
                "Keyframe requests (PLI, FIR) of viewers",
                sum.keyframe_requests_received,
            ),
            ("shard_keyframe_requests", "Keyframes that shards asked the tree for", sum.keyframe_requests),
            ("replays", "Viewers caught up from cached media", sum.replays),
            ("viewer_restarts", "Viewers started anew from a cached keyframe", sum.restarts),
            ("viewer_probes", "Probes begun, to see whether a connection carries a better layer", sum.probes),
            ("viewer_probes_failed", "Probes that the connection did not carry", sum.probes_failed),
            ("viewer_probe_bytes", "Bytes of RTP packets repeated for probes, UDP payload", sum.probe_bytes),
        ] {
            counter(e, Name(name, help), plain(value))?;
        }
        let switches = [
            ("up", sum.layer_switches_up),
            ("down", sum.layer_switches_down),
            ("pinned", sum.layer_switches_pinned),
            ("inactive", sum.layer_switches_inactive),
            ("overload", sum.layer_switches_overload),
            ("sound_only", sum.layer_switches_sound_only),
        ];
        let switches = switches.map(|(reason, count)| (Labels(vec![("reason", reason)]), count));
        counter(
            e,
            Name("viewer_layer_switches", "Viewers that got another layer of the picture, or none"),
            switches,
        )?;
        let dropped = |index: usize| -> u64 {
            shards.iter().map(|shard| shard.drops[index].load(Ordering::Relaxed)).sum()
        };
        let reasons = self.0.drop_reasons.iter().enumerate();
        let drops = reasons.map(|(index, reason)| (Labels(vec![("reason", *reason)]), dropped(index)));
        counter(e, Name("egress_drops", "What shards did not send or not take"), drops)?;
        let plainly = |distribution| [(Labels(Vec::new()), distribution)];
        let latency = Counted::add_up(&LATENCY_SECONDS, shards.iter().map(|shard| &shard.latency));
        let help = "From capture to sending, for each video frame and live viewer";
        histogram(e, Name("end_to_end_latency_seconds", help), plainly(latency))?;
        let kinds = [Kind::Audio, Kind::Video];
        let of_kinds = |bounds: &[f64], counted: fn(&ShardCounters, Kind) -> &Counted| {
            kinds.map(|kind| {
                let parts = shards.iter().map(|shard| counted(shard, kind));
                (Labels(vec![("kind", kind.as_str())]), Counted::add_up(bounds, parts))
            })
        };
        let loss = of_kinds(&LOSS_RATIOS, |shard, kind| &shard.loss[kind as usize]);
        let help = "Part of the packets that a viewer's receiver report says were lost since the one before";
        histogram(e, Name("viewer_loss_ratio", help), loss)?;
        let jitter = of_kinds(&JITTER_SECONDS, |shard, kind| &shard.jitter[kind as usize]);
        let help = "Interarrival jitter that a viewer's receiver report tells";
        histogram(e, Name("viewer_jitter_seconds", help), jitter)?;
        let round_trip = Counted::add_up(&ROUND_TRIP_SECONDS, shards.iter().map(|shard| &shard.round_trip));
        let help = "Round trip to a viewer, each time its receiver report answers a sender report";
        histogram(e, Name("viewer_round_trip_seconds", help), plainly(round_trip))
    }
}
