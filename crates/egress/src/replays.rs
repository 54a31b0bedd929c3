//! Who is catching up, and what they may take: one budget for the whole shard, so that joins never hurt those inside.
//!
//! Whoever has no keyframe yet comes first, then whoever came first: under a rush of joins some get through to live,
//! where they cost no budget any more, while the others show the keyframe. A live keyframe ends all replays at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::{Bitrate, Kind};

use crate::broadcast::Fan;
use crate::budget::Budget;
use crate::layers;
use crate::pace::{self, Paced};
use crate::part::Fit;
use crate::replay;
use crate::send::{SendBatch, Sending};
use crate::shard::Config;
use crate::ticks::want_keyframe;
use crate::track::{Holding, Phase, Place};
use crate::viewer::Viewer;

/// Replays go on in steps of this length: an eighth of a frame at 30 frames per second.
pub const STEP: Duration = Duration::from_millis(4);
/// What the budget can save up: a few steps, because the thread may be late.
const SAVED: Duration = Duration::from_millis(20);

/// The replays of a shard.
pub struct Replays {
    /// Slots of viewers; some may be done.
    queue: VecDeque<usize>,
    budget: Budget,
    rate: Bitrate,
    bytes_max: u64,
}

/// What became of a replay in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing more is due, or there is no budget.
    Idle,
    /// It needs no more turns.
    Done,
}

impl Replays {
    pub fn new(rate: Bitrate) -> Self {
        let bytes_max = rate.bytes_in(SAVED).max(1);
        Self { queue: VecDeque::new(), budget: Budget::new(bytes_max), rate, bytes_max }
    }

    /// When the next step is due, if anybody is catching up.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        (!self.queue.is_empty())
            .then(|| now + self.budget.wait(self.rate).clamp(STEP, Duration::from_secs(1)))
    }

    pub fn remove(&mut self, slot: usize) {
        self.queue.retain(|queued| *queued != slot);
    }

    pub fn push(&mut self, slot: usize, viewer: &mut Viewer) {
        if let Some(track) = &mut viewer.video
            && matches!(track.phase, Phase::Replaying(_))
            && !std::mem::replace(&mut track.is_queued, true)
        {
            self.queue.push_back(slot);
        }
    }

    /// Sends what is due, as far as the budget goes.
    pub fn turn<B: SendBatch>(
        &mut self,
        config: &Config,
        fans: &mut [Option<Fan>],
        viewers: &mut [Option<Viewer>],
        paced: &mut Paced,
        sending: &mut Sending<'_, B>,
    ) {
        self.budget.refill(sending.now, self.rate, self.bytes_max);
        for wants_keyframe in [true, false] {
            let mut index = 0;
            while index < self.queue.len() && self.budget.has_any() {
                let viewer = viewers.get_mut(self.queue[index]).and_then(Option::as_mut);
                let Some(viewer) = viewer.filter(|viewer| viewer.is_consenting) else {
                    self.queue.remove(index);
                    continue;
                };
                let fan = fans.get_mut(viewer.fan).and_then(Option::as_mut);
                let is_done = match fan {
                    Some(_) if wants_keyframe && has_whole_keyframe(viewer) => false,
                    Some(fan) => step(config, viewer, fan, &mut self.budget, sending) == Step::Done,
                    None => true,
                };
                if !is_done {
                    index += 1;
                    continue;
                }
                paced.push(self.queue[index], viewer);
                self.queue.remove(index);
                if let Some(track) = &mut viewer.video {
                    track.is_queued = false;
                }
            }
        }
    }
}

fn has_whole_keyframe(viewer: &Viewer) -> bool {
    let phase = viewer.video.as_ref().map(|track| track.phase);
    !matches!(phase, Some(Phase::Replaying(replay)) if !replay.has_keyframe)
}

/// How a viewer starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the keyframe that just came, together with everybody else.
    Live,
    /// From the cache, within the budget.
    Cached,
}

/// Starts a viewer's picture from the newest keyframe of its source. Returns whether there is one.
pub fn start<B: SendBatch>(
    config: &Config,
    viewer: &mut Viewer,
    fan: &mut Fan,
    how: Start,
    sending: &mut Sending<'_, B>,
) -> bool {
    let Viewer { video: Some(track), estimate, pace, is_dirty, .. } = viewer else { return false };
    let Some(source) = track.source else { return false };
    let Some(stream) = fan.stream_mut(source.ssrc) else { return false };
    let rate = stream.rate(sending.now);
    let scale = |backlog| replay::scale(backlog, config.replay_factor, *estimate, rate);
    if !track.start_video(sending.now, source, stream, how, scale) {
        return false;
    }
    *is_dirty = true;
    pace.iter_mut().for_each(|pace| pace.forget());
    track.forget_old(|ssrc| fan.stream(ssrc)?.ring.oldest());
    match track.phase {
        Phase::Replaying(_) => sending.stats.replays += 1,
        Phase::Idle | Phase::Waiting | Phase::Live => send_the_rest(viewer, fan, sending),
    }
    true
}

/// Starts a picture that waits, or lets it go on where another process left it; asks for a keyframe where none is cached.
pub fn start_or_ask<B: SendBatch>(
    config: &Config,
    viewer: &mut Viewer,
    fan: &mut Fan,
    sending: &mut Sending<'_, B>,
) {
    let waiting = viewer.video.as_ref().filter(|track| matches!(track.phase, Phase::Waiting));
    let waiting = waiting.filter(|track| track.holding != Holding::Held);
    let Some((source, holding)) = waiting.and_then(|track| track.source.zip(Some(track.holding))) else {
        return;
    };
    layers::need(fan, source.ssrc, sending);
    if holding == Holding::Returning {
        return want_keyframe(config, fan, source.ssrc, sending);
    }
    if fan.stream(source.ssrc).is_some_and(|stream| fan.is_behind(sending.now, stream)) {
        // What comes is of the past: once it is up with the others, the picture starts with all of it.
        return;
    }
    if let (Some(track), Some(stream)) = (&mut viewer.video, fan.stream(source.ssrc))
        && track.resume_replay(sending.now, stream)
    {
        return;
    }
    if !start(config, viewer, fan, Start::Cached, sending) {
        want_keyframe(config, fan, source.ssrc, sending);
    }
}

/// Sends a viewer that has just gone live what is in the ring from its current segment's first packet on, as far as its pace
/// lets it.
pub fn send_the_rest<B: SendBatch>(viewer: &mut Viewer, fan: &Fan, sending: &mut Sending<'_, B>) {
    let current = viewer.video.as_ref().and_then(|track| track.mapping.current().copied());
    let Some(segment) = current else { return };
    let Some(stream) = fan.stream(segment.source) else { return };
    if let Some(track) = &mut viewer.video {
        track.rest = Some((segment.first_out, sending.now));
    }
    if let Some(pace) = &mut viewer.pace {
        // What waited was of what came before.
        pace.forget();
        if pace.is_in_use() {
            pace.begin(segment.source_base);
            return pace::step(viewer, fan, sending);
        }
    }
    for (_, packet) in stream.ring.range(segment.source_base..) {
        let place = packet.and_then(|packet| viewer.video.as_ref()?.place(packet).zip(Some(packet)));
        if let Some((place, packet)) = place {
            viewer.send_from_ring(sending, Kind::Video, &place, packet);
        }
    }
}

/// One viewer's turn.
fn step<B: SendBatch>(
    config: &Config,
    viewer: &mut Viewer,
    fan: &mut Fan,
    budget: &mut Budget,
    sending: &mut Sending<'_, B>,
) -> Step {
    loop {
        let Some(track) = &mut viewer.video else { return Step::Done };
        let can_go_live = matches!(track.phase, Phase::Replaying(replay) if track.can_go_live(&replay));
        let (Phase::Replaying(replay), Some(source)) = (&mut track.phase, track.source) else {
            return Step::Done;
        };
        let Some(stream) = fan.stream(source.ssrc) else { return Step::Done };
        let keyframe = stream.ring.newest_keyframe();
        if stream.ring.oldest().is_none_or(|oldest| oldest > replay.next) {
            // The ring has overtaken it.
            if keyframe.is_none() || !start(config, viewer, fan, Start::Cached, sending) {
                if let Some(track) = &mut viewer.video {
                    track.phase = Phase::Waiting;
                }
                return Step::Done;
            }
            continue;
        }
        let Some(segment) = track.mapping.current().copied() else { return Step::Done };
        let next =
            stream.ring.range(replay.next..).filter_map(|(_, packet)| packet).find_map(
                |packet| match segment.fit(packet.seq_no, packet.svc) {
                    Fit::LeftOut => None,
                    fit @ (Fit::At(_) | Fit::Outside) => Some((packet, fit)),
                },
            );
        let Some((packet, fit)) = next else {
            // The next frame ends the replay, when it comes; the rest of this one has to come first.
            return if replay.is_frame_end { Step::Done } else { Step::Idle };
        };
        let Fit::At(seq_no) = fit else {
            // From here on others are counted: it begins again, with the whole.
            track.phase = Phase::Waiting;
            return Step::Done;
        };
        if packet.timestamp != replay.timestamp {
            replay.has_keyframe = true;
            if keyframe.is_some_and(|keyframe| keyframe > packet.seq_no) {
                // A newer keyframe makes the frames before it needless.
                start(config, viewer, fan, Start::Cached, sending);
                continue;
            }
            // What is missing before this packet may be the rest of the frame before, which keeps its own timestamp.
            let is_frame_out = replay.is_frame_end || segment.is_next((replay.next, replay.counted), packet);
            let newest = stream.newest.filter(|newest| is_frame_out && newest.timestamp == packet.timestamp);
            if let Some(newest) = newest.filter(|_| can_go_live) {
                let replay = *replay;
                track.go_live(&replay, packet, newest.at);
                viewer.is_dirty = true;
                send_the_rest(viewer, fan, sending);
                return Step::Done;
            }
            let timestamp = segment.timestamp(packet.timestamp);
            if !replay.is_due(sending.now, timestamp, source.clock_rate) {
                return Step::Idle;
            }
        }
        if !budget.has_any() {
            return Step::Idle;
        }
        let place = Place { seq_no, segment };
        let sent = viewer.send_from_ring(sending, Kind::Video, &place, packet);
        budget.spend(sent);
        sending.stats.replay.add(sent);
        if let Some(track) = &mut viewer.video
            && let Phase::Replaying(replay) = &mut track.phase
        {
            replay.sent(sending.now, packet, &place.segment);
        }
    }
}
