//! Viewers whose connection is known to carry little get large frames bit by bit.
//!
//! A keyframe of a small layer is as much as such a connection carries in a quarter of a second and more. Sent at once it fills the
//! queue in front of it, what has no room there is lost, and has to be asked for, repeated and waited for. So beyond a small burst
//! the picture leaves at the rate that the connection carries: what waits is in the ring, and goes out in its order. Sound does not
//! wait. All others get every packet as it comes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::{Bitrate, Kind, SeqNo};

use crate::broadcast::Fan;
use crate::budget::Budget;
use crate::send::{SendBatch, Sending};
use crate::track::Phase;
use crate::viewer::Viewer;

/// What waits goes on in steps of this length: at 300 kbit/s a packet takes 30 ms.
const STEP: Duration = Duration::from_millis(5);
/// What may leave at once is what the connection carries in this time: a frame as they usually are.
const BURST: Duration = Duration::from_millis(40);
/// The layer itself has to get through, whatever is believed of the connection: whether it should is not decided here.
const LAYER_PERCENT: u64 = 130;
/// What waits for longer goes out twice as fast: a picture that is late is no better than one with losses.
const WAIT_MAX: Duration = Duration::from_millis(400);
/// Steps of which it is remembered when they left: more than a viewer takes to tell of them.
const STEPS_KEPT: usize = 256;

/// The pace of one viewer's picture.
pub struct Pace {
    rate: Bitrate,
    budget: Budget,
    /// The next packet of its source, if it and those after it wait.
    next: Option<SeqNo>,
    /// Out sequence numbers that steps began with, and when those were. What was sent as it came is not among them.
    steps: VecDeque<(SeqNo, SeqNo, Instant)>,
    is_queued: bool,
}

impl Pace {
    fn new(rate: Bitrate) -> Self {
        Self {
            rate,
            budget: Budget::new(rate.bytes_in(BURST)),
            next: None,
            steps: VecDeque::new(),
            is_queued: false,
        }
    }

    /// Whether packets wait.
    pub const fn is_waiting(&self) -> bool {
        self.next.is_some()
    }

    /// What waits is of a segment that has ended, or is sent in another way.
    pub const fn forget(&mut self) {
        self.next = None;
    }

    /// Everything from this packet on is to be sent from the ring.
    pub const fn begin(&mut self, next: SeqNo) {
        self.next = Some(next);
    }

    /// Whether this packet, which comes now, has to wait. If not, it is sent. What is not the newest of its stream was missing.
    pub fn waits(&mut self, now: Instant, packet: SeqNo, is_newest: bool) -> bool {
        if self.next.is_none() && is_newest {
            self.refill(now, 1);
            self.next = (!self.budget.has_any()).then_some(packet);
        }
        self.next.is_some_and(|next| packet >= next)
    }

    /// So much was sent.
    pub const fn spend(&mut self, bytes: usize) {
        self.budget.spend(bytes);
    }

    /// When a packet with this number was sent, if that was after it came.
    pub fn sent_at(&self, seq_no: SeqNo) -> Option<Instant> {
        let step = self.steps.iter().rev().find(|(first, ..)| *first <= seq_no);
        step.filter(|(_, end, _)| seq_no < *end).map(|(.., at)| *at)
    }

    fn refill(&mut self, now: Instant, factor: u64) {
        let rate = Bitrate::bps(self.rate.as_bps() * factor);
        self.budget.refill(now, rate, rate.bytes_in(BURST));
    }

    fn note(&mut self, seq_no: SeqNo, now: Instant) {
        let end = seq_no.plus(1);
        match self.steps.back_mut() {
            Some((_, before, at)) if *at == now && *before == seq_no => *before = end,
            _ => {
                if self.steps.len() >= STEPS_KEPT {
                    self.steps.pop_front();
                }
                self.steps.push_back((seq_no, end, now));
            }
        }
    }
}

/// Lets a viewer's picture leave no faster than at `rate`, or, without one, as it comes. `layer` is the rate of what it gets.
pub fn set(viewer: &mut Viewer, rate: Option<Bitrate>, layer: Bitrate) {
    match rate {
        Some(rate) => {
            let least = Bitrate::bps(layer.as_bps() * LAYER_PERCENT / 100);
            let rate = rate.max(least);
            viewer.pace.get_or_insert_with(|| Box::new(Pace::new(rate))).rate = rate;
        }
        None => drop(viewer.pace.take_if(|pace| !pace.is_waiting())),
    }
}

/// Viewers of a shard whose packets wait.
#[derive(Default)]
pub struct Paced {
    /// Slots of viewers.
    queue: Vec<usize>,
}

impl Paced {
    pub fn push(&mut self, slot: usize, viewer: &mut Viewer) {
        if let Some(pace) = viewer.pace.as_mut().filter(|pace| pace.is_waiting())
            && !std::mem::replace(&mut pace.is_queued, true)
        {
            self.queue.push(slot);
        }
    }

    pub fn remove(&mut self, slot: usize) {
        self.queue.retain(|queued| *queued != slot);
    }

    /// When the next step is due, if anything waits.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        (!self.queue.is_empty()).then(|| now + STEP)
    }

    /// Sends what may leave by now.
    pub fn turn<B: SendBatch>(
        &mut self,
        fans: &[Option<Fan>],
        viewers: &mut [Option<Viewer>],
        sending: &mut Sending<'_, B>,
    ) {
        self.queue.retain(|slot| {
            let Some(viewer) = viewers.get_mut(*slot).and_then(Option::as_mut) else { return false };
            let fan = fans.get(viewer.fan).and_then(Option::as_ref).filter(|_| viewer.is_consenting);
            match fan {
                Some(fan) => step(viewer, fan, sending),
                None => viewer.pace.iter_mut().for_each(|pace| pace.forget()),
            }
            let Some(pace) = &mut viewer.pace else { return false };
            pace.is_queued = pace.is_waiting();
            pace.is_queued
        });
    }
}

/// Sends a viewer what its pace allows of what waits.
pub fn step<B: SendBatch>(viewer: &mut Viewer, fan: &Fan, sending: &mut Sending<'_, B>) {
    let Viewer { pace: Some(pace), video: Some(track), .. } = viewer else { return };
    let Some(first) = pace.next else { return };
    let source =
        track.source.filter(|_| matches!(track.phase, Phase::Live) && !track.is_given_up(sending.now));
    let Some(stream) = source.and_then(|source| fan.stream(source.ssrc)) else { return pace.forget() };
    let came_at = stream.ring.range(first..).find_map(|(seq_no, packet)| packet.map(|_| seq_no));
    let came_at = came_at.and_then(|seq_no| stream.ring.inserted_at(seq_no));
    let is_late = came_at.is_some_and(|at| sending.now.saturating_duration_since(at) > WAIT_MAX);
    pace.refill(sending.now, if is_late { 2 } else { 1 });
    for (seq_no, packet) in stream.ring.range(first..) {
        let (Some(pace), Some(track)) = (&mut viewer.pace, &viewer.video) else { return };
        if !pace.budget.has_any() {
            pace.next = Some(seq_no);
            return;
        }
        let Some((packet, place)) = packet.and_then(|packet| Some((packet, track.place(packet)?))) else {
            continue;
        };
        pace.note(place.seq_no, sending.now);
        let bytes = viewer.send_from_ring(sending, Kind::Video, &place, packet);
        viewer.pace.iter_mut().for_each(|pace| pace.spend(bytes));
    }
    viewer.pace.iter_mut().for_each(|pace| pace.forget());
}
