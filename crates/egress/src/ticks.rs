//! What a shard does because time passes: starts, reports, consent, replays, housekeeping.

use std::time::{Duration, Instant};

use model::{BroadcastState, Ssrc};

use crate::broadcast::Fan;
use crate::feedback::Rules;
use crate::layers;
use crate::record::RecordChange;
use crate::replays::{self, Start};
use crate::report;
use crate::send::{SendBatch, Sending};
use crate::shard::{Config, Event, Shard};
use crate::track::{Holding, Phase, Track};
use crate::viewer::Viewer;

/// Rings are emptied of what is too old, and viewers counted, this often.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

impl Shard {
    /// When [`Shard::fan_out_due`] and [`Shard::handle_timeout`] want to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [
            self.train_at(),
            self.timers.next(),
            self.replay_at,
            self.paced_at,
            self.layers_at,
            self.housekeeping_at,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Does what is due. May be called at any time.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl SendBatch) {
        if self.layers_at.is_some_and(|at| at <= now) {
            self.watch_layers(now);
        }
        while let Some(slot) = self.timers.pop(now) {
            self.tick(now, slot, out);
        }
        if self.replay_at.is_some_and(|at| at <= now) {
            self.replay(now, out);
        }
        if self.paced_at.is_some_and(|at| at <= now) {
            self.pace(now, out);
        }
        if self.housekeeping_at.is_some_and(|at| at <= now) {
            self.housekeep(now, out);
        }
    }

    /// Lets replays go on.
    pub(crate) fn replay(&mut self, now: Instant, out: &mut impl SendBatch) {
        let mut sending = Sending {
            now,
            out,
            stats: &mut self.stats,
            events: &mut self.events,
            payload: &mut self.payload,
        };
        self.replays.turn(&self.config, &mut self.fans, &mut self.viewers, &mut self.paced, &mut sending);
        self.replay_at = self.replays.next(now);
        self.paced_at = self.paced_at.or_else(|| self.paced.next(now));
    }

    /// Lets pictures that wait go on.
    fn pace(&mut self, now: Instant, out: &mut impl SendBatch) {
        let mut sending = Sending {
            now,
            out,
            stats: &mut self.stats,
            events: &mut self.events,
            payload: &mut self.payload,
        };
        self.paced.turn(&self.fans, &mut self.viewers, &mut sending);
        self.paced_at = self.paced.next(now);
    }

    /// Makes a viewer's turn come at once.
    pub(crate) fn wake(&mut self, now: Instant, slot: usize) {
        if let Some(viewer) = self.viewers.get_mut(slot).and_then(Option::as_mut) {
            self.timers.remove(viewer.wake_at, slot);
            viewer.wake_at = now;
            self.timers.insert(now, slot);
        }
    }

    /// Sets a viewer's timer to whatever of its deadlines comes first.
    pub(crate) fn schedule(&mut self, slot: usize) {
        let Some(viewer) = self.viewers.get_mut(slot).and_then(Option::as_mut) else { return };
        let consent = viewer.is_consenting.then(|| viewer.heard_at + self.config.consent_timeout);
        let track = viewer.video.as_ref().filter(|_| viewer.is_consenting);
        let restart = track.and_then(|track| track.restart_at);
        let switch = track.and_then(|track| track.target?.due_at);
        let deadlines = [Some(viewer.report_at), consent, restart, switch];
        let at = deadlines.into_iter().flatten().min().unwrap_or(viewer.report_at);
        self.timers.remove(viewer.wake_at, slot);
        viewer.wake_at = at;
        self.timers.insert(at, slot);
    }

    fn tick(&mut self, now: Instant, slot: usize, out: &mut impl SendBatch) {
        let Some(viewer) = self.viewers.get_mut(slot).and_then(Option::as_mut) else { return };
        let Some(fan) = self.fans.get_mut(viewer.fan).and_then(Option::as_mut) else { return };
        let mut sending = Sending {
            now,
            out,
            stats: &mut self.stats,
            events: &mut self.events,
            payload: &mut self.payload,
        };
        let is_silent = now.saturating_duration_since(viewer.heard_at) >= self.config.consent_timeout;
        if is_silent && std::mem::take(&mut viewer.is_consenting) {
            sending.events.push_back(Event::ConsentExpired { viewer: viewer.id });
        }
        if viewer.is_consenting {
            let is_behind = self.behind_until.is_some_and(|at| now < at);
            let rules = Rules { config: &self.config, is_behind, layers_left_out: self.overload.layers() };
            layers::review(rules, viewer, fan, &mut sending);
            if let Some(target) = viewer.video.as_mut().and_then(|track| track.target.as_mut()) {
                // It has been looked at.
                target.due_at = target.due_at.filter(|at| *at > now);
            }
            replays::start_or_ask(&self.config, viewer, fan, &mut sending);
            restart(&self.config, viewer, fan, &mut sending);
        }
        if now >= viewer.report_at {
            viewer.report_at = now + self.config.report_interval;
            if viewer.is_consenting {
                report(viewer, fan, &mut sending);
            }
        }
        viewer.write_record(sending.out);
        self.replays.push(slot, viewer);
        self.paced.push(slot, viewer);
        self.paced_at = self.paced_at.or_else(|| self.paced.next(now));
        if self.replay_at.is_none() && self.replays.next(now).is_some() {
            self.replay_at = Some(now);
        }
        self.schedule(slot);
    }

    fn housekeep(&mut self, now: Instant, out: &mut impl SendBatch) {
        for viewer in self.removed.drain(..) {
            if out.keeps_records() {
                out.record(viewer, RecordChange::Removed);
            }
        }
        for stream in self.fans.iter_mut().flatten().flat_map(|fan| &mut fan.streams) {
            stream.ring.expire(now);
        }
        let pictures = || self.viewers.iter().flatten().filter_map(|viewer| viewer.video.as_ref());
        let count =
            |is_counted: fn(&Track) -> bool| pictures().filter(|track| is_counted(track)).count() as u64;
        self.stats.viewers_waiting =
            count(|track| matches!(track.phase, Phase::Waiting) && track.holding != Holding::Held);
        self.stats.viewers_replaying = count(|track| matches!(track.phase, Phase::Replaying(_)));
        self.stats.viewers_sound_only = count(|track| track.holding == Holding::Held);
        let is_in_use = self.fans.iter().any(Option::is_some);
        self.housekeeping_at = is_in_use.then(|| now + HOUSEKEEPING_INTERVAL);
    }
}

/// Asks for a keyframe, unless that was done a moment ago or there is nobody to ask.
pub fn want_keyframe<B>(config: &Config, fan: &mut Fan, ssrc: Ssrc, sending: &mut Sending<'_, B>) {
    let is_live = fan.broadcast.state == BroadcastState::Live;
    let Some(stream) = fan.stream_mut(ssrc).filter(|_| is_live) else { return };
    if stream.ask_keyframe(sending.now, config.keyframe_interval) {
        sending.stats.keyframe_requests += 1;
        sending.events.push_back(Event::KeyframeWanted { ssrc });
    }
}

/// Starts a picture again, where its viewer asked for a keyframe and none came.
fn restart<B: SendBatch>(config: &Config, viewer: &mut Viewer, fan: &mut Fan, sending: &mut Sending<'_, B>) {
    let now = sending.now;
    let Some(track) = &mut viewer.video else { return };
    if track.restart_at.is_none_or(|at| at > now) {
        return;
    }
    track.restart_at = None;
    if track.gives_way(now) {
        // A keyframe comes anyway, and this one has no room.
        return;
    }
    let stream = track.source.and_then(|source| fan.stream(source.ssrc));
    if matches!(track.phase, Phase::Live) && stream.is_none_or(|stream| !stream.is_active(now)) {
        // The publisher has fallen silent since: it would see what it has seen.
        return;
    }
    track.restarts(now);
    let has_started = matches!(track.phase, Phase::Live | Phase::Replaying(_));
    if has_started && replays::start(config, viewer, fan, Start::Cached, sending) {
        sending.stats.restarts += 1;
        viewer.video.iter_mut().for_each(Track::outdate);
    }
}

fn report<B: SendBatch>(viewer: &mut Viewer, fan: &Fan, sending: &mut Sending<'_, B>) {
    let mut compound = std::mem::take(sending.payload);
    compound.clear();
    report::write_compound(&mut compound, sending.now, viewer, fan);
    if !compound.is_empty() {
        viewer.send_rtcp(sending, &compound);
    }
    *sending.payload = compound;
}
