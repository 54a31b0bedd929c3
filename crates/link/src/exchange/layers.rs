//! Which layers of a picture cross a link: those that somebody below it needs.
//!
//! A child names the RTP streams that it can do *without*; what it does not name comes. So a new publishing run and the
//! first seconds of a viewer wait for no question, and children of an earlier version get everything. A node does without a
//! layer once no viewer here has needed it for [`UNWATCHED_MAX`] and no child needs it. Only viewers are waited for: what
//! the last child has given up goes at once, all the way up. Sound always comes, and so does a picture of one layer.
//!
//! Viewers choose among layers by how much there is of each, whether it comes here or not: each node tells its children
//! each second what it measures, or was told itself. A layer whose rate nobody tells is not done without, so that a parent of
//! an earlier version is asked for everything.
//!
//! Whoever needs a layer again says so in a Join at once, which is answered with what the parent's ring holds of it, from
//! its newest keyframe on; where the parent has to ask its own parents first, it passes on what they answer.

use std::time::{Duration, Instant};

use model::{Bitrate, BroadcastId, Kind, NtpTime, Ssrc};

use super::downstream::held;
use super::timer::Timer;
use super::{Exchange, Output, ParentId, PeerId, REFRESH_INTERVAL};
use crate::wire::message::{Held, JoinAnswer, Message, Rates, StreamRange, StreamRate};

/// A layer that no viewer of a node has needed for so long is done without: a viewer whose connection gets narrow and wide
/// again, or who reloads the page, costs no change.
pub const UNWATCHED_MAX: Duration = Duration::from_secs(10);
/// What was told of a layer holds so long.
const TOLD_AGE_MAX: Duration = REFRESH_INTERVAL.saturating_mul(5);
/// A layer that was asked for begins within this time, or is not told from one that has always come.
const BEGIN_MAX: Duration = Duration::from_secs(2);
/// No layer has more; what is told beyond it is no rate.
const RATE_MAX: Bitrate = Bitrate::kbps(10_000_000);

/// Whether one stream is to come, and how much there is of it.
#[derive(Debug)]
pub(super) struct Demand {
    /// Whether parents are asked for it.
    is_taken: bool,
    /// When a viewer here last needed it, or may have begun to.
    needed_at: Option<Instant>,
    /// When it was asked for, where that was not all the time.
    begun_at: Option<Instant>,
    /// What a parent said of it.
    told: Option<(Instant, Bitrate)>,
    /// Bytes that had come at the last two refreshes, newest first.
    samples: [Option<(Instant, u64)>; 2],
    measured: Option<Bitrate>,
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            is_taken: true,
            needed_at: None,
            begun_at: None,
            told: None,
            samples: [None; 2],
            measured: None,
        }
    }
}

impl Demand {
    pub(super) const fn is_taken(&self) -> bool {
        self.is_taken
    }

    /// Whether it was asked for a moment ago.
    pub(super) fn has_begun(&self, now: Instant) -> bool {
        self.begun_at.is_some_and(|at| now < at + BEGIN_MAX)
    }

    /// It was asked for, with all others of its broadcast.
    pub(super) const fn begin(&mut self, now: Instant) {
        self.begun_at = Some(now);
    }

    /// A viewer here needs it.
    pub(super) const fn need(&mut self, now: Instant) {
        self.needed_at = Some(now);
    }

    /// Whether a viewer here has needed it of late, or may yet.
    fn is_watched(&mut self, now: Instant) -> bool {
        now < *self.needed_at.get_or_insert(now) + UNWATCHED_MAX
    }

    fn told(&self, now: Instant) -> Option<Bitrate> {
        self.told.filter(|(at, _)| now < *at + TOLD_AGE_MAX).map(|(_, rate)| rate)
    }

    /// How much there is of it, as far as that is known.
    fn rate(&self, now: Instant) -> Option<Bitrate> {
        self.measured.or_else(|| self.told(now))
    }

    /// From now on it is asked for, or not any more.
    fn take(&mut self, now: Instant, is_taken: bool) {
        self.is_taken = is_taken;
        self.begun_at = is_taken.then_some(now);
        (self.samples, self.measured) = ([None; 2], None);
    }

    /// So many bytes of payload have come in all. To be called at each refresh; the first one after it was asked for counts
    /// for nothing, because what rings held came with it.
    pub(super) fn measure(&mut self, now: Instant, bytes: u64) {
        if !self.is_taken {
            return;
        }
        let [newer, older] = self.samples;
        self.measured = newer.map(|(at, before)| {
            let (since, before) = older.filter(|_| before < bytes).unwrap_or((at, before));
            Bitrate::of(bytes.saturating_sub(before), now.saturating_duration_since(since))
        });
        self.samples = [Some((now, bytes)), newer];
    }
}

impl Exchange {
    /// A viewer of this node needs this stream, now and for a while: to be repeated each second as long as that holds.
    pub fn need(&mut self, now: Instant, ssrc: Ssrc) {
        let Some(stream) = self.streams.get_mut(&ssrc) else { return };
        stream.demand.need(now);
        if !stream.demand.is_taken() {
            let id = stream.broadcast.clone();
            self.update_upstream(now, &id);
        }
    }

    /// A viewer comes where nobody was: it may need any of the layers.
    pub(super) fn need_all(&mut self, now: Instant, id: &BroadcastId) {
        let streams = self.streams.values_mut().filter(|stream| stream.broadcast == *id);
        streams.for_each(|stream| stream.demand.need(now));
    }

    /// Decides which layers of a broadcast are taken from parents. Returns whether that has changed.
    pub(super) fn update_layers(&mut self, now: Instant, id: &BroadcastId) -> bool {
        let Some(carried) = self.broadcasts.get(id) else { return false };
        let has_viewers = self.wanted.contains_key(id);
        let mut is_changed = false;
        for ssrc in carried.layers() {
            let Some(stream) = self.streams.get_mut(&ssrc).filter(|stream| stream.broadcast == *id) else {
                continue;
            };
            let is_needed = (has_viewers && stream.demand.is_watched(now))
                || carried.joins.values().any(|join| !join.without.contains(&ssrc))
                || stream.demand.told(now).is_none();
            if stream.demand.is_taken() != is_needed {
                stream.forget_packets();
                stream.demand.take(now, is_needed);
                is_changed = true;
            }
        }
        if is_changed {
            self.tell_viewers(now, id);
        }
        is_changed
    }

    /// A broadcast is asked for that was not before.
    pub(super) fn begin_layers(&mut self, now: Instant, id: &BroadcastId) {
        let layers = self.broadcasts.get(id).into_iter().flat_map(|carried| carried.layers());
        for ssrc in layers {
            if let Some(stream) = self.streams.get_mut(&ssrc) {
                stream.demand.begin(now);
            }
        }
    }

    /// The streams of a broadcast that parents are not asked for.
    pub(super) fn without(&self, id: &BroadcastId) -> Vec<Ssrc> {
        let layers = self.broadcasts.get(id).into_iter().flat_map(|carried| carried.layers());
        let is_left = |ssrc: &Ssrc| self.streams.get(ssrc).is_some_and(|stream| !stream.demand.is_taken());
        layers.filter(is_left).collect()
    }

    /// A child needs other streams than before. Those that it needs again begin with what the ring holds of them.
    pub(super) fn child_needs(
        &mut self,
        now: Instant,
        (peer, id): (PeerId, &BroadcastId),
        before: &[Ssrc],
        resume: &[Held],
    ) {
        self.update_upstream(now, id);
        let Some(carried) = self.broadcasts.get(id) else { return };
        let Some(join) = carried.joins.get(&peer).filter(|join| join.is_answered) else { return };
        let is_again = |ssrc: &Ssrc| before.contains(ssrc) && !join.without.contains(ssrc);
        let again: Vec<_> = carried.ssrcs().map(|(ssrc, _)| ssrc).filter(is_again).collect();
        let since = self.keyframe_capture_time(id);
        let ranges = self.begin_streams(now, peer, again.into_iter(), (resume, since));
        self.update_destinations(id);
        self.tell_ranges(peer, id, ranges);
    }

    /// Begins to send a child what it lacks of these streams. Gives what there is of them.
    pub(super) fn begin_streams(
        &mut self,
        now: Instant,
        peer: PeerId,
        ssrcs: impl Iterator<Item = Ssrc>,
        (resume, since): (&[Held], Option<NtpTime>),
    ) -> Vec<StreamRange> {
        let mut ranges = Vec::new();
        for ssrc in ssrcs {
            let Some(stream) = self.streams.get_mut(&ssrc) else { continue };
            let Some(range) = stream.range_for(held(resume, ssrc), since) else { continue };
            ranges.push(range);
            if stream.begin_replay(peer, range.start) {
                self.timers.set_earlier(Timer::Replay, now);
            }
        }
        ranges
    }

    /// Parents have said where streams begin that were asked for again: so they do for the children that wait for them.
    pub(super) fn pass_on(&mut self, id: &BroadcastId, begun: &[StreamRange]) {
        let Some(carried) = self.broadcasts.get(id) else { return };
        let answered = carried.joins.iter().filter(|(_, join)| join.is_answered);
        let ranges = answered.map(|(peer, join)| {
            let needed = begun.iter().filter(|range| !join.without.contains(&range.ssrc));
            (*peer, needed.copied().collect())
        });
        let ranges: Vec<(_, Vec<_>)> = ranges.collect();
        ranges.into_iter().for_each(|(peer, ranges)| self.tell_ranges(peer, id, ranges));
    }

    fn tell_ranges(&mut self, peer: PeerId, id: &BroadcastId, streams: Vec<StreamRange>) {
        let Some(carried) = self.broadcasts.get(id) else { return };
        let keys: Vec<_> = carried.keyring.keys().cloned().collect();
        if streams.is_empty() || keys.is_empty() {
            return;
        }
        let answer = JoinAnswer { broadcast: carried.broadcast.clone(), keys, streams };
        self.send(peer, Message::JoinAnswer(answer));
    }

    /// Measures all streams, and tells children how much there is of each layer.
    pub(super) fn tell_rates(&mut self, now: Instant) {
        self.streams.values_mut().for_each(|stream| stream.measure(now));
        let mut rates = Vec::new();
        for (id, carried) in &self.broadcasts {
            let known = carried.layers().filter_map(|ssrc| {
                Some(StreamRate { ssrc, rate: self.streams.get(&ssrc)?.demand.rate(now)? })
            });
            let streams: Vec<_> = known.collect();
            let answered = carried.joins.iter().filter(|(_, join)| join.is_answered && !streams.is_empty());
            rates.extend(
                answered.map(|(peer, _)| (*peer, Rates { broadcast: id.clone(), streams: streams.clone() })),
            );
        }
        rates.into_iter().for_each(|(peer, rates)| self.send(peer, Message::Rates(rates)));
    }

    pub(super) fn on_rates(&mut self, now: Instant, from: ParentId, rates: &Rates) {
        let id = &rates.broadcast;
        if !self.broadcasts.get(id).is_some_and(|carried| carried.upstream.contains(&from)) {
            // We have left in the meantime.
            return;
        }
        for StreamRate { ssrc, rate } in &rates.streams {
            let stream = self.streams.get_mut(ssrc).filter(|stream| stream.broadcast == *id);
            if let Some(stream) = stream.filter(|stream| stream.kind() == Kind::Video) {
                stream.demand.told = Some((now, RATE_MAX.min(*rate)));
            }
        }
        self.tell_viewers(now, id);
    }

    /// Tells the shards of layers that do not come, since their viewers choose among those, too.
    fn tell_viewers(&mut self, now: Instant, id: &BroadcastId) {
        if !self.delivers_locally || !self.wanted.contains_key(id) {
            return;
        }
        let told = |ssrc: Ssrc| Some((ssrc, self.streams.get(&ssrc)?.demand.told(now)?));
        let left: Vec<_> = self.without(id).into_iter().filter_map(told).collect();
        if !left.is_empty() {
            self.outputs.push_back(Output::LeftOut(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_two_seconds_and_nothing_once_nothing_comes() {
        let start = Instant::now();
        let mut demand = Demand::default();
        let mut bytes = 0;
        let mut rates = Vec::new();
        // A ring of 5 MB comes first, then two different seconds, then nothing.
        for (second, more) in [(1, 5_000_000), (2, 100_000), (3, 50_000), (4, 0), (5, 25_000)] {
            bytes += more;
            demand.measure(start + Duration::from_secs(second), bytes);
            rates.push(demand.rate(start).map(Bitrate::as_bps));
        }
        assert_eq!(rates, [None, Some(800_000), Some(600_000), Some(0), Some(100_000)]);
    }
}
