//! One train of tree packets to all viewers: the hot path.

use std::sync::Arc;
use std::time::Instant;

use media_core::TreePacket;
use model::{Kind, NtpTime};

use crate::broadcast::Fan;
use crate::packet;
use crate::replays::{self, Start};
use crate::send::{SendBatch, Sending};
use crate::shard::{Config, Shard};
use crate::stats::{DropReason, Stats};
use crate::track::Phase;
use crate::viewer::{Payload, Viewer};

/// A packet of the train at work.
struct Entry {
    packet: Arc<TreePacket>,
    fan: usize,
    kind: Kind,
    /// Place in the train.
    index: usize,
    is_newest: bool,
    /// Where the padded payload stands, if it needed padding.
    padded: Option<(usize, usize)>,
}

/// The train at work; kept for its memory.
#[derive(Default)]
pub struct Train {
    entries: Vec<Entry>,
    payloads: Vec<u8>,
}

impl Train {
    fn payload<'a>(&'a self, entry: &'a Entry) -> Payload<'a> {
        match entry.padded {
            Some((start, end)) => Payload { bytes: &self.payloads[start..end], is_padded: true },
            None => Payload { bytes: &entry.packet.payload, is_padded: false },
        }
    }
}

impl Shard {
    /// Takes tree packets in the order in which they came and sends them to all viewers that follow them. A packet that
    /// was repaired goes to its own place, late as it is. Then replays go on, with what the budget leaves.
    pub fn fan_out(&mut self, now: Instant, train: &[Arc<TreePacket>], out: &mut impl SendBatch) {
        let mut work = std::mem::take(&mut self.train);
        self.take_in(now, train, &mut work);
        // Trains of segments: what belongs to one viewer goes out together, picture first, whose packets are equally
        // long. Between the two kinds order means nothing.
        work.entries.sort_unstable_by_key(|entry| (entry.fan, entry.kind != Kind::Video, entry.index));
        for group in work.entries.chunk_by(|a, b| a.fan == b.fan) {
            let Some(fan) = self.fans.get_mut(group[0].fan).and_then(Option::as_mut) else { continue };
            let mut sending = Sending {
                now,
                out: &mut *out,
                stats: &mut self.stats,
                events: &mut self.events,
                payload: &mut self.payload,
            };
            let slots = std::mem::take(&mut fan.viewers);
            let mut viewers_live = 0;
            for slot in &slots {
                let Some(viewer) = self.viewers.get_mut(*slot).and_then(Option::as_mut) else { continue };
                if !viewer.is_consenting {
                    continue;
                }
                serve(&self.config, viewer, fan, (&work, group), &mut sending);
                viewers_live += u32::from(viewer.is_live(Kind::Video));
                self.replays.push(*slot, viewer);
            }
            fan.viewers = slots;
            measure_latency(self.wallclock, now, group, viewers_live, &mut self.stats);
        }
        work.entries.clear();
        work.payloads.clear();
        self.train = work;
        self.replay(now, out);
    }

    /// Puts the train into the rings.
    fn take_in(&mut self, now: Instant, train: &[Arc<TreePacket>], work: &mut Train) {
        for (index, packet) in train.iter().enumerate() {
            let fan_index = self.fan_by_ssrc.get(&packet.ssrc).copied();
            let fan = fan_index.and_then(|index| self.fans.get_mut(index)?.as_mut());
            let stream = fan.and_then(|fan| fan.stream_mut(packet.ssrc));
            let (Some(fan), Some(stream)) = (fan_index, stream) else {
                self.stats.drop(DropReason::UnknownStream);
                continue;
            };
            let kind = stream.kind;
            match stream.insert(now, packet) {
                Ok(is_newest) => {
                    let start = work.payloads.len();
                    let padded = (packet::padding(kind, packet) > 0).then(|| {
                        packet::push_padded(&mut work.payloads, kind, packet);
                        (start, work.payloads.len())
                    });
                    work.entries.push(Entry { packet: packet.clone(), fan, kind, index, is_newest, padded });
                }
                Err(reason) => self.stats.drop(reason),
            }
        }
    }
}

/// Sends a viewer its part of the train.
fn serve<B: SendBatch>(
    config: &Config,
    viewer: &mut Viewer,
    fan: &mut Fan,
    (train, entries): (&Train, &[Entry]),
    sending: &mut Sending<'_, B>,
) {
    let starts = viewer.video.as_ref().is_some_and(|track| {
        let is_keyframe = |entry: &Entry| {
            let is_of_source = track.source.is_some_and(|source| source.ssrc == entry.packet.ssrc);
            entry.kind == Kind::Video && entry.packet.starts_keyframe && is_of_source
        };
        match track.phase {
            Phase::Waiting => entries.iter().any(is_keyframe),
            // A live keyframe ends every replay: it comes to all, whatever the budget.
            Phase::Replaying(_) => entries.iter().any(|entry| entry.is_newest && is_keyframe(entry)),
            Phase::Idle | Phase::Live => false,
        }
    });
    // Who starts now gets the whole frame from the ring, with all that this train added to it.
    let has_started = starts && replays::start(config, viewer, fan, Start::Live, sending);
    for entry in entries {
        if entry.kind == Kind::Audio || !has_started {
            forward(viewer, entry, train.payload(entry), sending);
        }
    }
}

/// Sends a viewer one packet, if it follows its stream and has come so far.
fn forward<B: SendBatch>(
    viewer: &mut Viewer,
    entry: &Entry,
    payload: Payload<'_>,
    sending: &mut Sending<'_, B>,
) {
    let packet = &*entry.packet;
    let Viewer { audio, video, is_dirty, .. } = viewer;
    let track = match entry.kind {
        Kind::Audio => audio,
        Kind::Video => video,
    };
    let Some(track) = track else { return };
    let Some(source) = track.source.filter(|source| source.ssrc == packet.ssrc) else { return };
    match track.phase {
        Phase::Waiting if entry.kind == Kind::Audio && entry.is_newest => {
            track.start_audio(sending.now, source, packet);
            *is_dirty = true;
        }
        Phase::Idle | Phase::Waiting => return,
        Phase::Replaying(replay) if packet.seq_no >= replay.next => {
            if track.is_queued || !replay.is_frame_end {
                return;
            }
            track.go_live(&replay, packet, sending.now);
            *is_dirty = true;
        }
        Phase::Replaying(_) | Phase::Live => {}
    }
    let Some(mut place) = track.place(packet) else { return sending.stats.drop(DropReason::BeforeStart) };
    if track.is_step(&place) {
        // The source went on somewhere else: so does the viewer, where its own numbers stand.
        track.phase = Phase::Waiting;
        if entry.kind == Kind::Video {
            return;
        }
        track.start_audio(sending.now, source, packet);
        *is_dirty = true;
        let Some(next) = track.place(packet) else { return };
        place = next;
    }
    if packet.starts_keyframe && entry.kind == Kind::Video {
        track.keyframe_at = Some(sending.now);
        track.restart_at = None;
    }
    viewer.send(sending, entry.kind, &place, packet, payload);
}

/// One sample for each frame that ends in the train and each viewer who is live.
fn measure_latency(
    wallclock: Option<(Instant, NtpTime)>,
    now: Instant,
    entries: &[Entry],
    viewers: u32,
    stats: &mut Stats,
) {
    let Some((at, wallclock)) = wallclock.filter(|_| viewers > 0) else { return };
    let wallclock = wallclock.plus(now.saturating_duration_since(at));
    for entry in entries {
        if entry.kind == Kind::Video && entry.is_newest && entry.packet.marker {
            stats.latency.record(wallclock.saturating_since(entry.packet.capture_time), viewers);
        }
    }
}
