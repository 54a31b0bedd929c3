//! One RTP stream: its ring, its gaps, the children that follow it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::gap::{self, Arrival, GapTracker};
use media_core::ring::{Inserted, Ring};
use model::{BroadcastId, Kind, NtpTime, SeqNo, Ssrc};

use super::layers::Demand;
use super::stats::StreamStats;
use super::{Config, PeerId};
use crate::wire::media::{HEADER_BYTES, Header, TAG_BYTES};
use crate::wire::message::StreamRange;

/// Missing packets whose requests are counted; the gap tracker follows fewer.
const ASKS_MAX: usize = 2048;
/// How much sound a new child gets where there is no picture to start with.
const SOUND_WITHOUT_PICTURE: Duration = Duration::from_secs(1);
/// How many packets at the head of a promised range may still be missing for it to count as held.
const HEAD_MISSING_MAX: u64 = 64;

/// A gap must outlive the silence of a dead parent, so that the next one can fill it: only age gives it up.
fn repair_patience() -> gap::Config {
    let defaults = gap::Config::default();
    gap::Config {
        asks_max: (defaults.age_max.as_millis() / defaults.ask_interval_min.as_millis()) as u32,
        ..defaults
    }
}

/// Why a number is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeated {
    /// The packet is held.
    Held,
    /// It is older than what the ring still holds: nobody can tell whether it was held.
    TooOld,
}

/// A packet in the ring: the datagram as it came.
#[derive(Debug)]
struct Kept {
    wire: Bytes,
    since: Instant,
    capture_time: NtpTime,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) broadcast: BroadcastId,
    /// Whether it is to come.
    pub(super) demand: Demand,
    ssrc: Ssrc,
    kind: Kind,
    ring: Ring<Kept>,
    gaps: GapTracker,
    /// Packets before it may have been held and are gone.
    evicted_before: Option<SeqNo>,
    /// What a parent is about to send, until it comes.
    promised: Option<StreamRange>,
    live: Arc<[SocketAddr]>,
    /// Packets sent to all of those since the last heartbeats.
    forwarded: usize,
    /// Children in replay, and the next packet for each.
    replays: BTreeMap<PeerId, SeqNo>,
    /// How often each missing packet was asked for.
    asks: BTreeMap<SeqNo, usize>,
    counters: StreamStats,
}

impl Stream {
    pub(super) fn new(broadcast: BroadcastId, ssrc: Ssrc, kind: Kind, config: &Config) -> Self {
        Self {
            broadcast,
            demand: Demand::default(),
            ssrc,
            kind,
            ring: Ring::new(config.ring),
            gaps: GapTracker::new(repair_patience()),
            evicted_before: None,
            promised: None,
            live: Arc::new([]),
            forwarded: 0,
            replays: BTreeMap::new(),
            asks: BTreeMap::new(),
            counters: StreamStats::default(),
        }
    }

    /// Begins anew; counters stay.
    pub(super) fn clear(&mut self) {
        self.forget_packets();
        self.demand = Demand::default();
    }

    /// Forgets all packets and gaps.
    pub(super) fn forget_packets(&mut self) {
        self.ring.clear();
        self.restart_gaps();
        self.evicted_before = None;
        self.promised = None;
        self.replays.clear();
    }

    fn restart_gaps(&mut self) {
        self.counters = self.totals();
        self.asks.clear();
        self.gaps = GapTracker::new(repair_patience());
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) const fn counters_mut(&mut self) -> &mut StreamStats {
        &mut self.counters
    }

    /// What has happened so far.
    pub(super) fn totals(&self) -> StreamStats {
        let gaps = self.gaps.stats();
        StreamStats {
            lost: self.counters.lost + gaps.lost,
            recovered: self.counters.recovered + gaps.recovered,
            nacked: self.counters.nacked + gaps.asked,
            ..self.counters
        }
    }

    /// What has happened so far, and what the ring holds now.
    pub(super) fn stats(&self) -> StreamStats {
        let oldest = self.ring.oldest().and_then(|oldest| self.ring.get(oldest));
        StreamStats {
            ring_packets: self.ring.len(),
            ring_bytes: self.ring.bytes(),
            ring_since: oldest.map(|kept| kept.since),
            ..self.totals()
        }
    }

    /// Takes the rate of the last seconds.
    pub(super) fn measure(&mut self, now: Instant) {
        let envelopes = self.counters.packets_received * (HEADER_BYTES + TAG_BYTES) as u64;
        self.demand.measure(now, self.counters.bytes_received.saturating_sub(envelopes));
    }

    pub(super) fn count_resent(&mut self, bytes: usize) {
        self.counters.resent += 1;
        self.count_sent(1, bytes);
    }

    fn count_sent(&mut self, copies: usize, bytes: usize) {
        self.counters.packets_sent += copies as u64;
        self.counters.bytes_sent += (copies * bytes) as u64;
    }

    /// Whether a packet with this number would be a new one.
    pub(super) fn check_new(&self, seq_no: SeqNo) -> Result<(), Repeated> {
        if self.ring.get(seq_no).is_some() {
            return Err(Repeated::Held);
        }
        if self.evicted_before.is_some_and(|evicted_before| seq_no < evicted_before) {
            return Err(Repeated::TooOld);
        }
        Ok(())
    }

    /// Puts a verified packet in the ring. `false` if it is too old for that.
    pub(super) fn keep(&mut self, now: Instant, header: &Header, wire: Bytes) -> bool {
        let bytes = wire.len();
        let kept = Kept { wire, since: now, capture_time: header.capture_time };
        let mut inserted = Inserted::New;
        self.evicting(|ring| inserted = ring.insert(now, header.seq_no, bytes, kept));
        if inserted != Inserted::New {
            return false;
        }
        if header.starts_keyframe && self.kind == Kind::Video {
            self.ring.mark_keyframe(header.seq_no);
        }
        self.counters.packets_received += 1;
        self.counters.bytes_received += bytes as u64;
        true
    }

    /// Drops what is too old for the ring, where nothing new pushes it out.
    pub(super) fn expire(&mut self, now: Instant) {
        self.evicting(|ring| ring.expire(now));
    }

    fn evicting(&mut self, change: impl FnOnce(&mut Ring<Kept>)) {
        let before = self.ring.oldest().zip(self.ring.newest());
        change(&mut self.ring);
        let Some((oldest, newest)) = before else { return };
        match self.ring.oldest() {
            Some(now_oldest) if now_oldest > oldest => self.evicted_before = Some(now_oldest),
            Some(_) => {}
            None => {
                self.evicted_before = Some(newest.plus(1));
                // What was promised from then on is over.
                self.promised = None;
            }
        }
    }

    pub(super) fn newest(&self) -> Option<SeqNo> {
        self.ring.newest()
    }

    pub(super) fn get(&self, seq_no: SeqNo) -> Option<Bytes> {
        self.ring.get(seq_no).map(|kept| kept.wire.clone())
    }

    /// What is held from this packet on.
    pub(super) fn packets_from(&self, start: SeqNo) -> impl Iterator<Item = Bytes> + '_ {
        self.ring.range(start..).filter_map(|(_, kept)| Some(kept?.wire.clone()))
    }

    /// Whether the packet is held and came no longer ago than that.
    pub(super) fn came_within(&self, now: Instant, seq_no: SeqNo, age_max: Duration) -> bool {
        self.ring.get(seq_no).is_some_and(|kept| now <= kept.since + age_max)
    }

    /// When the newest keyframe in the ring was captured.
    pub(super) fn keyframe_capture_time(&self) -> Option<NtpTime> {
        let keyframe = self.ring.newest_keyframe()?;
        self.ring.get(keyframe).map(|kept| kept.capture_time)
    }

    /// A parent has said what it is about to send. Of use only while nothing has come, or not for long: then the head is
    /// missed, too. Gives whether the stream was asked for a moment ago.
    pub(super) fn promise(&mut self, now: Instant, range: StreamRange) -> bool {
        let has_begun = self.demand.has_begun(now);
        // Of two parents the one that starts earlier counts: what it sends and loses is missing.
        let is_later = self.promised.is_some_and(|promised| promised.start <= range.start);
        if is_later || !(self.ring.is_empty() || has_begun) {
            return false;
        }
        if self.ring.is_empty() {
            self.restart_gaps();
            self.gaps.expect(range.start);
        } else {
            // Keys are known already, so media did not have to wait for the message.
            self.gaps.begins_with(now, range.start);
        }
        self.promised = Some(range);
        has_begun
    }

    /// Notes that a packet has come, and with it perhaps a gap before it. Gives whether it filled one.
    pub(super) fn track_gap(&mut self, now: Instant, seq_no: SeqNo) -> bool {
        let arrival = self.gaps.received(now, seq_no);
        if arrival == Arrival::TooOld {
            // The head of a publishing run or of a replay may come after what follows it.
            self.gaps.begin_earlier(now, seq_no);
        }
        self.asks.remove(&seq_no);
        matches!(arrival, Arrival::Recovered { .. })
    }

    /// What to ask each of so many parents for now: another one each time that a packet is asked for, because the
    /// one before may lack it, too. What is too old is given up.
    pub(super) fn poll_nack(&mut self, now: Instant, parents: usize) -> Vec<Vec<SeqNo>> {
        let mut missing = Vec::new();
        self.gaps.poll_nack(now, &mut missing);
        if self.gaps.poll_timeout().is_none() {
            self.asks.clear();
        }
        let mut questions = vec![Vec::new(); parents];
        for seq_no in missing {
            let asks = self.asks.entry(seq_no).or_default();
            let turn = (seq_no.get() as usize).wrapping_add(*asks);
            *asks += 1;
            if let Some(question) = turn.checked_rem(parents).and_then(|parent| questions.get_mut(parent)) {
                question.push(seq_no);
            }
        }
        while self.asks.len() > ASKS_MAX {
            self.asks.pop_first();
        }
        questions
    }

    /// When [`Stream::poll_nack`] will have something to do.
    pub(super) fn repair_at(&self) -> Option<Instant> {
        self.gaps.poll_timeout()
    }

    /// The round trip to the parents, so that requests are spaced by it.
    pub(super) fn set_round_trip(&mut self, round_trip: Duration) {
        self.gaps.set_round_trip(round_trip);
    }

    /// What the ring holds, and where a child starts that holds all up to `held`, with sound from `since` on.
    pub(super) fn range_for(&self, held: Option<SeqNo>, since: Option<NtpTime>) -> Option<StreamRange> {
        let (Some(oldest), Some(newest)) = (self.ring.oldest(), self.ring.newest()) else {
            return self.promised;
        };
        let start = self.start_for(held, since)?;
        Some(StreamRange { ssrc: self.ssrc, oldest, newest, keyframe: self.ring.newest_keyframe(), start })
    }

    /// The first packet that a child lacks; one after the newest if it lacks none.
    fn start_for(&self, held: Option<SeqNo>, since: Option<NtpTime>) -> Option<SeqNo> {
        let (oldest, newest) = (self.ring.oldest()?, self.ring.newest()?);
        let after_newest = SeqNo::MAX.min(newest.plus(1));
        if let Some(next) = held.map(|held| held.plus(1)).filter(|next| *next >= oldest) {
            return Some(next.min(after_newest));
        }
        // The head of a promised range may still be on its way here.
        let promised = self.promised.map(|range| range.start);
        let promised =
            promised.filter(|start| *start <= newest && oldest.get() <= start.get() + HEAD_MISSING_MAX);
        Some(match self.kind {
            Kind::Video => self.ring.newest_keyframe().or(promised).unwrap_or(after_newest),
            Kind::Audio => self.sound_since(since).or(promised).unwrap_or(after_newest),
        })
    }

    /// The first packet captured at `since` or later.
    fn sound_since(&self, since: Option<NtpTime>) -> Option<SeqNo> {
        let newest = self.ring.get(self.ring.newest()?)?;
        let since = since.unwrap_or_else(|| newest.capture_time.minus(SOUND_WITHOUT_PICTURE));
        let mut held = self.ring.range(..).filter_map(|(seq_no, kept)| Some((seq_no, kept?)));
        held.find(|(_, kept)| kept.capture_time >= since).map(|(seq_no, _)| seq_no)
    }

    /// Up to `count_max` packets beyond `held` that are here for longer than `age`.
    pub(super) fn tail(
        &self,
        now: Instant,
        held: Option<SeqNo>,
        since: Option<NtpTime>,
        (age, count_max): (Duration, usize),
    ) -> Vec<Bytes> {
        let Some(start) = self.start_for(held, since) else { return Vec::new() };
        let beyond = self.ring.range(start..).filter_map(|(_, kept)| kept);
        let old = beyond.filter(|kept| kept.since + age <= now);
        old.take(count_max).map(|kept| kept.wire.clone()).collect()
    }

    /// Starts to send a child what it lacks from `start` on. `false` if that is nothing, so that it follows live.
    pub(super) fn begin_replay(&mut self, peer: PeerId, start: SeqNo) -> bool {
        let has_packets = self.ring.newest().is_some_and(|newest| start <= newest);
        if has_packets {
            self.replays.insert(peer, start);
        }
        has_packets
    }

    pub(super) fn end_replay(&mut self, peer: PeerId) {
        self.replays.remove(&peer);
    }

    pub(super) fn is_replaying(&self, peer: PeerId) -> bool {
        self.replays.contains_key(&peer)
    }

    /// The children in replay.
    pub(super) fn replays(&self) -> Vec<PeerId> {
        self.replays.keys().copied().collect()
    }

    /// The next packets for a child in replay, `bytes_max` or the one packet that exceeds it, and whether these were
    /// the last ones.
    pub(super) fn replay_slice(&mut self, peer: PeerId, bytes_max: usize) -> (Vec<Bytes>, bool) {
        let Some(cursor) = self.replays.get_mut(&peer) else { return (Vec::new(), true) };
        let (mut packets, mut bytes, mut is_finished) = (Vec::new(), 0, true);
        for (seq_no, kept) in self.ring.range(*cursor..) {
            if bytes >= bytes_max {
                is_finished = false;
                break;
            }
            *cursor = seq_no.plus(1);
            if let Some(kept) = kept {
                bytes += kept.wire.len();
                packets.push(kept.wire.clone());
            }
        }
        self.counters.packets_sent += packets.len() as u64;
        self.counters.bytes_sent += bytes as u64;
        (packets, is_finished)
    }

    /// The children that have joined, with `all` of their addresses. Those in replay do not follow live yet.
    pub(super) fn set_children(&mut self, children: &[(PeerId, SocketAddr)], all: &Arc<[SocketAddr]>) {
        self.replays.retain(|peer, _| children.iter().any(|(child, _)| child == peer));
        self.live = if self.replays.is_empty() {
            all.clone()
        } else {
            let live = children.iter().filter(|(peer, _)| !self.replays.contains_key(peer));
            live.map(|(_, address)| *address).collect()
        };
    }

    /// Who gets a packet of `bytes` that has just come, if anybody.
    pub(super) fn live_destinations(&mut self, bytes: usize) -> Option<Arc<[SocketAddr]>> {
        if self.live.is_empty() {
            return None;
        }
        self.count_sent(self.live.len(), bytes);
        self.forwarded += 1;
        Some(self.live.clone())
    }

    /// How many packets have gone to all children that follow live since the last call.
    pub(super) const fn take_forwarded(&mut self) -> usize {
        std::mem::replace(&mut self.forwarded, 0)
    }
}
