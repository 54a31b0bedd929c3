//! Encoders that publish over RTMP: their connections, and what becomes of their sound.

use std::fmt::Error;

use model::BroadcastId;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::labels::{Closed, Label, OfBroadcast, closed, counters, write_label};
use crate::node::AdmissionCounters;
use crate::own_names;

closed! {
    /// How a connection ended; each ends in exactly one way.
    RtmpEnd, "reason" {
        /// The encoder closed it.
        Closed = "closed",
        /// It broke on the way.
        Network = "network",
        /// There were as many as there may be.
        Full = "full",
        /// There were as many of this client address as there may be.
        ClientFull = "client_full",
        /// The encoder took too long to begin, to ask for a broadcast, or to take an answer.
        TooSlow = "too_slow",
        /// A publisher sent nothing any more.
        Silent = "silent",
        /// The TLS handshake failed, or there is no certificate for one.
        TlsFailed = "tls_failed",
        /// It had no TLS, came from another machine, and that is not allowed.
        Insecure = "insecure",
        /// It was no RTMP.
        Handshake = "handshake",
        /// The encoder broke a rule of the protocol.
        Protocol = "protocol",
        /// It came without a key that lets it in.
        AccessRefused = "access_refused",
        /// The name was no broadcast's, somebody published it, there were too many, or the node was about to stop.
        NotTaken = "not_taken",
        /// The picture had B-frames.
        BFrames = "b_frames",
        /// Something else about the media could not be taken.
        Media = "media",
        /// The broadcast was ended here, or another publisher took it over.
        EndedHere = "ended_here",
    }
}

closed! {
    /// What became of a frame of sound.
    Fate, "fate" {
        /// Decoded, and coded anew as Opus.
        Recoded = "recoded",
        /// Opus, which went on as it came.
        Passed = "passed",
        /// All of it, or its beginning, had been heard already and was left out.
        Cut = "cut",
        /// It could not be decoded and was left out.
        Damaged = "damaged",
    }
}

closed! {
    /// What became of a gap in the sound.
    Repair, "repair" {
        /// It was short and filled with silence.
        Silence = "silence",
        /// It was long and stayed a gap.
        None = "none",
    }
}

/// A broadcast, and one of the values of a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Of<T>(BroadcastId, T);

impl<T: Closed> EncodeLabelSet for Of<T> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        write_label(encoder, "broadcast", self.0.as_str())?;
        write_label(encoder, T::NAME, self.1.as_str())
    }
}

/// Handles of these metrics. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    connections: Gauge,
    ends: Family<Label<RtmpEnd>, Counter>,
    received_bytes: Counter,
    pending_bytes: Gauge,
    audio_frames: Family<Of<Fate>, Counter>,
    audio_gaps: Family<Of<Repair>, Counter>,
    clock_jumps: Family<OfBroadcast, Counter>,
    late_messages: Family<OfBroadcast, Counter>,
    skipped_messages: Family<OfBroadcast, Counter>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections: Gauge::default(),
            ends: counters(),
            received_bytes: Counter::default(),
            pending_bytes: Gauge::default(),
            audio_frames: Family::default(),
            audio_gaps: Family::default(),
            clock_jumps: Family::default(),
            late_messages: Family::default(),
            skipped_messages: Family::default(),
        };
        let own = own_names(registry);
        own.register("rtmp_connections", "Connections of the RTMP listener", metrics.connections.clone());
        own.register(
            "rtmp_connection_ends",
            "Connections of the RTMP listener that were refused or ended",
            metrics.ends.clone(),
        );
        own.register(
            "rtmp_received_bytes",
            "Bytes received over RTMP, as TLS leaves them",
            metrics.received_bytes.clone(),
        );
        own.register(
            "rtmp_pending_bytes",
            "Bytes of all RTMP connections that wait in memory: messages that are not whole, answers that are not taken",
            metrics.pending_bytes.clone(),
        );
        own.register(
            "rtmp_audio_frames",
            "Frames of sound that came over RTMP",
            metrics.audio_frames.clone(),
        );
        own.register("rtmp_audio_gaps", "Gaps in the sound that came over RTMP", metrics.audio_gaps.clone());
        own.register(
            "rtmp_clock_jumps",
            "Jumps of the clock of an encoder that were taken out",
            metrics.clock_jumps.clone(),
        );
        own.register(
            "rtmp_late_messages",
            "Messages of RTMP that were left out because the encoder's network had held them back",
            metrics.late_messages.clone(),
        );
        own.register(
            "rtmp_skipped_messages",
            "Messages of RTMP that are of no use here",
            metrics.skipped_messages.clone(),
        );
        metrics
    }

    /// Where it is counted who is let in.
    #[must_use]
    pub fn admission(&self) -> AdmissionCounters {
        AdmissionCounters {
            open: self.connections.clone(),
            full: self.ends.get_or_create_owned(&Label(RtmpEnd::Full)),
            client_full: self.ends.get_or_create_owned(&Label(RtmpEnd::ClientFull)),
        }
    }

    /// A connection that was let in has ended.
    pub fn ended(&self, how: RtmpEnd) {
        self.ends.get_or_create(&Label(how)).inc();
    }

    /// Where one connection counts its bytes.
    #[must_use]
    pub fn connection(&self) -> ConnectionBytes {
        ConnectionBytes {
            received_bytes: self.received_bytes.clone(),
            pending_bytes: self.pending_bytes.clone(),
            shown: (0, 0),
        }
    }

    /// Where one publisher of this broadcast counts; the series exist from now on.
    #[must_use]
    pub fn publisher(&self, broadcast: &BroadcastId) -> PublisherCounters {
        let of = || OfBroadcast(broadcast.clone());
        PublisherCounters {
            audio_frames: [Fate::Recoded, Fate::Passed, Fate::Cut, Fate::Damaged]
                .map(|fate| self.audio_frames.get_or_create_owned(&Of(broadcast.clone(), fate))),
            audio_gaps: [Repair::Silence, Repair::None]
                .map(|repair| self.audio_gaps.get_or_create_owned(&Of(broadcast.clone(), repair))),
            clock_jumps: self.clock_jumps.get_or_create_owned(&of()),
            late_messages: self.late_messages.get_or_create_owned(&of()),
            skipped_messages: self.skipped_messages.get_or_create_owned(&of()),
            shown: Totals::default(),
        }
    }

    pub(crate) fn remove_broadcast(&self, broadcast: &BroadcastId) {
        for fate in Fate::ALL {
            self.audio_frames.remove(&Of(broadcast.clone(), *fate));
        }
        for repair in Repair::ALL {
            self.audio_gaps.remove(&Of(broadcast.clone(), *repair));
        }
        self.clock_jumps.remove(&OfBroadcast(broadcast.clone()));
        self.late_messages.remove(&OfBroadcast(broadcast.clone()));
        self.skipped_messages.remove(&OfBroadcast(broadcast.clone()));
    }
}

/// Bytes of one connection. What waits is taken back when it is dropped.
#[derive(Debug)]
pub struct ConnectionBytes {
    received_bytes: Counter,
    pending_bytes: Gauge,
    /// Received, pending.
    shown: (u64, i64),
}

impl ConnectionBytes {
    /// So many have been received until now, and so many wait.
    pub fn show(&mut self, received: u64, pending: usize) {
        let pending = i64::try_from(pending).unwrap_or(i64::MAX);
        self.received_bytes.inc_by(received.saturating_sub(self.shown.0));
        self.pending_bytes.inc_by(pending - self.shown.1);
        self.shown = (received, pending);
    }
}

impl Drop for ConnectionBytes {
    fn drop(&mut self) {
        self.pending_bytes.dec_by(self.shown.1);
    }
}

/// What became of what one publisher sent, until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Frames of sound that were coded anew.
    pub recoded_frames: u64,
    /// Packets of Opus that went on as they came.
    pub passed_frames: u64,
    /// Frames of sound that came twice or too late.
    pub cut_frames: u64,
    /// Frames of sound that could not be decoded.
    pub damaged_frames: u64,
    /// Gaps in the sound that were filled with silence.
    pub filled_gaps: u64,
    /// Gaps in the sound that stayed.
    pub left_gaps: u64,
    /// Jumps of its clock.
    pub clock_jumps: u64,
    /// Messages that its network had held back.
    pub late_messages: u64,
    /// Messages that are of no use here.
    pub skipped_messages: u64,
}

/// Counters of one publisher.
#[derive(Debug)]
pub struct PublisherCounters {
    audio_frames: [Counter; 4],
    audio_gaps: [Counter; 2],
    clock_jumps: Counter,
    late_messages: Counter,
    skipped_messages: Counter,
    shown: Totals,
}

impl PublisherCounters {
    /// Adds what is new since the last time.
    pub fn show(&mut self, totals: Totals) {
        let before = std::mem::replace(&mut self.shown, totals);
        let [recoded, passed, cut, damaged] = &self.audio_frames;
        let [silence, none] = &self.audio_gaps;
        for (counter, now, before) in [
            (recoded, totals.recoded_frames, before.recoded_frames),
            (passed, totals.passed_frames, before.passed_frames),
            (cut, totals.cut_frames, before.cut_frames),
            (damaged, totals.damaged_frames, before.damaged_frames),
            (silence, totals.filled_gaps, before.filled_gaps),
            (none, totals.left_gaps, before.left_gaps),
            (&self.clock_jumps, totals.clock_jumps, before.clock_jumps),
            (&self.late_messages, totals.late_messages, before.late_messages),
            (&self.skipped_messages, totals.skipped_messages, before.skipped_messages),
        ] {
            counter.inc_by(now.saturating_sub(before));
        }
    }
}
