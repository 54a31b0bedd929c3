//! What a shard counted since it began.

use std::time::Duration;

use model::Kind;

/// Datagrams and their bytes, UDP payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Traffic {
    /// One more datagram of so many bytes.
    pub const fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// Why something was not sent or not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// A tree packet of an RTP stream that no known broadcast has.
    UnknownStream,
    /// A tree packet that the ring had already.
    Duplicate,
    /// A tree packet that came after its place in the ring was given up.
    TooLate,
    /// A tree packet that waited too long for a shard that cannot keep up: kept, and sent to who asks for it only.
    Behind,
    /// A viewer's packet from before the point where it began.
    BeforeStart,
    /// A packet asked for again that is in no ring any more, or was never sent.
    NackUnknown,
    /// A packet asked for again by a viewer that had spent its budget for repeats.
    NackBudget,
    /// A packet asked for again that is from before the keyframe with which the picture has begun anew.
    NackOutdated,
    /// A packet asked for again before its repeat can have come.
    NackEarly,
    /// SRTCP that does not authenticate.
    RtcpAuthentication,
    /// SRTCP that was seen before.
    RtcpReplay,
    /// RTCP whose content is broken.
    RtcpMalformed,
}

impl DropReason {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 12] = [
        Self::UnknownStream,
        Self::Duplicate,
        Self::TooLate,
        Self::Behind,
        Self::BeforeStart,
        Self::NackUnknown,
        Self::NackBudget,
        Self::NackOutdated,
        Self::NackEarly,
        Self::RtcpAuthentication,
        Self::RtcpReplay,
        Self::RtcpMalformed,
    ];

    /// The value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownStream => "unknown_stream",
            Self::Duplicate => "duplicate",
            Self::TooLate => "too_late",
            Self::Behind => "behind",
            Self::BeforeStart => "before_start",
            Self::NackUnknown => "nack_unknown",
            Self::NackBudget => "nack_budget",
            Self::NackOutdated => "nack_outdated",
            Self::NackEarly => "nack_early",
            Self::RtcpAuthentication => "rtcp_authentication",
            Self::RtcpReplay => "rtcp_replay",
            Self::RtcpMalformed => "rtcp_malformed",
        }
    }
}

/// Why a viewer got another layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerSwitch {
    /// Its connection carries a better one.
    Up,
    /// Its connection does not carry the one it had.
    Down,
    /// It was chosen for it.
    Pinned,
    /// The publisher sends the one it had no more.
    Inactive,
    /// The shard cannot keep up with the one it had.
    Overload,
    /// Its connection carries none: it gets sound alone for a while.
    SoundOnly,
}

impl LayerSwitch {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 6] =
        [Self::Up, Self::Down, Self::Pinned, Self::Inactive, Self::Overload, Self::SoundOnly];

    /// The value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Pinned => "pinned",
            Self::Inactive => "inactive",
            Self::Overload => "overload",
            Self::SoundOnly => "sound_only",
        }
    }
}

/// Upper bounds of the latency buckets, in milliseconds: dense around what a LAN, a continent and the 500 ms promise
/// give. One more bucket holds the rest.
pub const LATENCY_BOUNDS_MS: [u64; 12] = [5, 10, 20, 35, 50, 75, 100, 150, 200, 300, 500, 1000];

/// Time from capture to sending, once for each video frame and live viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// Samples at most as long as each of [`LATENCY_BOUNDS_MS`] but longer than the one before, and those above all.
    pub counts: [u64; LATENCY_BOUNDS_MS.len() + 1],
    /// All of them added up.
    pub sum: Duration,
}

impl Latency {
    /// So many viewers get a frame after this time.
    pub fn record(&mut self, latency: Duration, viewers: u32) {
        self.counts[bucket(&LATENCY_BOUNDS_MS, latency)] += u64::from(viewers);
        self.sum += latency * viewers;
    }
}

/// Upper bounds of the buckets of loss, in 256ths, which reports count in.
pub const LOSS_BOUNDS_256: [u8; 9] = [0, 1, 2, 4, 8, 16, 32, 64, 128];
/// Upper bounds of the buckets of jitter, in milliseconds.
pub const JITTER_BOUNDS_MS: [u64; 10] = [1, 2, 5, 10, 20, 30, 50, 100, 200, 500];
/// Upper bounds of the buckets of round trips, in milliseconds.
pub const ROUND_TRIP_BOUNDS_MS: [u64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 1000];

/// What viewers report of one kind of media, each report block once (RFC 3550, section 6.4.1). As in [`Latency`] the
/// counts are of the values up to each bound but above the one before, then of those above all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reports {
    /// Share of packets lost since the report before, by [`LOSS_BOUNDS_256`].
    pub loss: [u64; LOSS_BOUNDS_256.len() + 1],
    /// All shares added up, in 256ths.
    pub loss_sum_256: u64,
    /// Interarrival jitter, by [`JITTER_BOUNDS_MS`].
    pub jitter: [u64; JITTER_BOUNDS_MS.len() + 1],
    /// All of them added up.
    pub jitter_sum: Duration,
    /// Round trips, of reports that answer one of ours, by [`ROUND_TRIP_BOUNDS_MS`].
    pub round_trip: [u64; ROUND_TRIP_BOUNDS_MS.len() + 1],
    /// All of them added up.
    pub round_trip_sum: Duration,
}

impl Reports {
    pub(crate) fn record(&mut self, fraction_lost: u8, jitter: Duration, round_trip: Option<Duration>) {
        self.loss[LOSS_BOUNDS_256.partition_point(|bound| *bound < fraction_lost)] += 1;
        self.loss_sum_256 += u64::from(fraction_lost);
        self.jitter[bucket(&JITTER_BOUNDS_MS, jitter)] += 1;
        self.jitter_sum += jitter;
        if let Some(round_trip) = round_trip {
            self.round_trip[bucket(&ROUND_TRIP_BOUNDS_MS, round_trip)] += 1;
            self.round_trip_sum += round_trip;
        }
    }
}

/// The first bucket whose bound is not below the time.
fn bucket(bounds_ms: &[u64], time: Duration) -> usize {
    bounds_ms.partition_point(|bound| Duration::from_millis(*bound) < time)
}

/// Counters since the shard began; `viewers*` are of this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Viewers of the shard.
    pub viewers: u64,
    /// Of them, those that wait for a keyframe.
    pub viewers_waiting: u64,
    /// Of them, those that are still catching up.
    pub viewers_replaying: u64,
    /// Viewers that get sound alone, because their connections carry no picture.
    pub viewers_sound_only: u64,
    /// Sound sent.
    pub audio: Traffic,
    /// Picture sent, replays included, repeats not.
    pub video: Traffic,
    /// The part of `video` that was sent in replays.
    pub replay: Traffic,
    /// Packets sent again because a viewer asked.
    pub rtx: Traffic,
    /// Packets repeated unasked, to see whether a better layer would fit.
    pub probe: Traffic,
    /// Such probes begun.
    pub probes: u64,
    /// Probes ended because the connection did not carry them.
    pub probes_failed: u64,
    /// SRTCP sent.
    pub rtcp: Traffic,
    /// SRTCP taken.
    pub rtcp_received: u64,
    /// Transport-wide feedback taken: of viewers that tell when packets arrive.
    pub transport_feedback: u64,
    /// Sequence numbers that viewers asked for again.
    pub nacked: u64,
    /// PLI and FIR that viewers sent.
    pub keyframe_requests_received: u64,
    /// Keyframes that the shard asked for.
    pub keyframe_requests: u64,
    /// Replays begun, restarts included.
    pub replays: u64,
    /// Restarts from a cached keyframe because a viewer's decoder asked.
    pub restarts: u64,
    /// From capture to sending.
    pub latency: Latency,
    /// What viewers report of their sound.
    pub audio_reports: Reports,
    /// What they report of their picture.
    pub video_reports: Reports,
    pub(crate) layer_switches: [u64; LayerSwitch::ALL.len()],
    pub(crate) drops: [u64; DropReason::ALL.len()],
}

impl Stats {
    /// How many were dropped for this reason.
    #[must_use]
    pub const fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// How often a viewer got another layer for this reason.
    #[must_use]
    pub const fn layer_switches(&self, reason: LayerSwitch) -> u64 {
        self.layer_switches[reason as usize]
    }

    pub(crate) const fn layer_switched(&mut self, reason: LayerSwitch) {
        self.layer_switches[reason as usize] += 1;
    }

    pub(crate) const fn drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    pub(crate) const fn reports(&mut self, kind: Kind) -> &mut Reports {
        match kind {
            Kind::Audio => &mut self.audio_reports,
            Kind::Video => &mut self.video_reports,
        }
    }

    pub(crate) const fn media(&mut self, kind: Kind) -> &mut Traffic {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_label() {
        let mut stats = Stats::default();
        for (count, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, count);
            (0..=count).for_each(|_| stats.drop(reason));
        }
        let counts = DropReason::ALL.map(|reason| stats.drops(reason));
        assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let labels: std::collections::BTreeSet<_> = DropReason::ALL.map(DropReason::as_str).into();
        assert_eq!(labels.len(), DropReason::ALL.len());
    }

    #[test]
    fn every_kind_of_switch_has_its_own_counter_and_label() {
        let mut stats = Stats::default();
        for (count, reason) in LayerSwitch::ALL.into_iter().enumerate() {
            (0..=count).for_each(|_| stats.layer_switched(reason));
        }
        assert_eq!(LayerSwitch::ALL.map(|reason| stats.layer_switches(reason)), [1, 2, 3, 4, 5, 6]);
        let labels: std::collections::BTreeSet<_> = LayerSwitch::ALL.map(LayerSwitch::as_str).into();
        assert_eq!(labels.len(), LayerSwitch::ALL.len());
    }

    #[test]
    fn a_latency_falls_into_the_bucket_that_holds_it() {
        let mut latency = Latency::default();
        latency.record(Duration::from_millis(5), 2);
        latency.record(Duration::from_millis(6), 1);
        latency.record(Duration::from_secs(3), 1);
        assert_eq!((latency.counts[0], latency.counts[1], latency.counts[12]), (2, 1, 1));
        assert_eq!(latency.sum, Duration::from_millis(3016));
    }
}
