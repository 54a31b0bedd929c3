//! What a shard counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use egress::{DropReason as EgressDrop, LayerSwitch};
use model::Kind;
use prometheus_client::metrics::counter::Counter;
use telemetry::egress::ShardTotals;

use super::{Segmentation, SocketCounters};
use crate::shard_load::LoadMeter;

/// How often a shard's numbers are copied for metrics.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);

/// Counters of one shard.
pub struct ShardCounters {
    pub(super) cells: Arc<telemetry::egress::ShardCounters>,
    pub(super) meter: LoadMeter,
    pub(super) socket: SocketCounters,
    pub(super) segmentation: Segmentation,
    pub(super) handshake_queue_full: Counter,
    pub(super) published_at: Option<Instant>,
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
            viewers_sound_only: stats.viewers_sound_only,
            audio_packets: stats.audio.packets,
            audio_bytes: stats.audio.bytes,
            video_packets: stats.video.packets,
            video_bytes: stats.video.bytes,
            replay_bytes: stats.replay.bytes,
            rtx_packets: stats.rtx.packets,
            rtx_bytes: stats.rtx.bytes,
            rtcp_packets_sent: stats.rtcp.packets,
            rtcp_packets_received: stats.rtcp_received,
            transport_feedback: stats.transport_feedback,
            nacked_packets: stats.nacked,
            keyframe_requests_received: stats.keyframe_requests_received,
            keyframe_requests: stats.keyframe_requests,
            replays: stats.replays,
            restarts: stats.restarts,
            layer_switches_up: stats.layer_switches(LayerSwitch::Up),
            layer_switches_down: stats.layer_switches(LayerSwitch::Down),
            layer_switches_pinned: stats.layer_switches(LayerSwitch::Pinned),
            layer_switches_inactive: stats.layer_switches(LayerSwitch::Inactive),
            layer_switches_overload: stats.layer_switches(LayerSwitch::Overload),
            layer_switches_sound_only: stats.layer_switches(LayerSwitch::SoundOnly),
            probe_bytes: stats.probe.bytes,
            probes: stats.probes,
            probes_failed: stats.probes_failed,
        });
        self.cells.publish_drops(EgressDrop::ALL.map(|reason| stats.drops(reason)));
        self.cells.publish_latency(stats.latency.counts, stats.latency.sum);
        for (kind, reports) in [(Kind::Audio, &stats.audio_reports), (Kind::Video, &stats.video_reports)] {
            self.cells.publish_loss(kind, reports.loss, reports.loss_sum_256 as f64 / 256.0);
            self.cells.publish_jitter(kind, reports.jitter, reports.jitter_sum);
        }
        let [audio, video] = [stats.audio_reports, stats.video_reports];
        let round_trips = audio.round_trip.iter().zip(video.round_trip).map(|(audio, video)| audio + video);
        self.cells.publish_round_trip(round_trips, audio.round_trip_sum + video.round_trip_sum);
    }
}
