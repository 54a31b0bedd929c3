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
use crate::stream::Stream;
use crate::track::{Phase, Track};
use crate::viewer::Viewer;

/// What waits goes on in steps of this length: at 300 kbit/s a packet takes 30 ms.
const STEP: Duration = Duration::from_millis(5);
/// What may leave at once is what the connection carries in this time: about one usual frame.
const BURST: Duration = Duration::from_millis(40);
/// Of what the connection is believed to carry, so much: estimates rise until there is a queue, and sound is not in them.
const CARRIED_PERCENT: u64 = 85;
/// The layer itself has to get through, whatever is believed of the connection: whether it should is not decided here.
const LAYER_PERCENT: u64 = 115;
/// A connection that carries a better layer may carry far more than it shows, and there is a worse one for what it does not.
const BETTER_LAYER_PERCENT: u64 = 250;
const RATE_MIN: Bitrate = Bitrate::kbps(100);
/// While a packet waits for longer, all goes out twice as fast: rather a loss than a picture that is later still.
const WAIT_MAX: Duration = Duration::from_millis(400);
/// When steps left is remembered for so long: until a viewer has told of them, over a long queue.
const STEP_AGE_MAX: Duration = Duration::from_secs(2);

/// What left at one time, of what had waited: out sequence numbers from `first` to before `end`.
struct Step {
    first: SeqNo,
    end: SeqNo,
    at: Instant,
}

/// The pace of one viewer's picture.
pub struct Pace {
    /// Of payload.
    rate: Bitrate,
    budget: Budget,
    /// The first packet of its source that waits; those after it do, too.
    next: Option<SeqNo>,
    /// Of late.
    steps: VecDeque<Step>,
    is_queued: bool,
    /// There is no more reason for it: what waits still leaves, and nothing begins to.
    is_ending: bool,
}

impl Pace {
    fn new(rate: Bitrate) -> Self {
        Self {
            rate,
            budget: Budget::new(rate.bytes_in(BURST)),
            next: None,
            steps: VecDeque::new(),
            is_queued: false,
            is_ending: false,
        }
    }

    /// Whether packets wait.
    pub const fn is_waiting(&self) -> bool {
        self.next.is_some()
    }

    /// Whether packets may begin to wait.
    pub const fn is_in_use(&self) -> bool {
        !self.is_ending
    }

    /// Nothing waits any more: all of it has left, or is not to leave.
    pub const fn forget(&mut self) {
        self.next = None;
    }

    /// Everything from this packet on is to be sent from the ring.
    pub const fn begin(&mut self, next: SeqNo) {
        self.next = Some(next);
    }

    /// Whether this packet, which comes now, has to wait. If not, it is sent. One that is not the newest of its stream was
    /// missing, and waits only for those before it.
    pub fn waits(&mut self, now: Instant, packet: SeqNo, is_newest: bool) -> bool {
        if self.next.is_none() && is_newest && !self.is_ending {
            self.refill(now, 1);
            self.next = (!self.budget.has_any()).then_some(packet);
        }
        self.next.is_some_and(|next| packet >= next)
    }

    /// A packet of the picture was sent, with so much payload.
    pub const fn spend(&mut self, bytes: usize) {
        self.budget.spend(bytes);
    }

    /// When a packet with this number was sent; `None` if that was when it came.
    pub fn sent_at(&self, seq_no: SeqNo) -> Option<Instant> {
        let step = self.steps.iter().rev().find(|step| step.first <= seq_no);
        step.filter(|step| seq_no < step.end).map(|step| step.at)
    }

    fn refill(&mut self, now: Instant, factor: u64) {
        let rate = Bitrate::bps(self.rate.as_bps() * factor);
        self.budget.refill(now, rate, rate.bytes_in(BURST));
    }

    fn note(&mut self, seq_no: SeqNo, now: Instant) {
        let end = seq_no.plus(1);
        match self.steps.back_mut().filter(|step| step.at == now && step.end == seq_no) {
            Some(step) => step.end = end,
            None => self.steps.push_back(Step { first: seq_no, end, at: now }),
        }
        self.forget_steps(now);
    }

    fn forget_steps(&mut self, now: Instant) {
        let is_old = |step: &Step| now.saturating_duration_since(step.at) > STEP_AGE_MAX;
        while self.steps.front().is_some_and(is_old) {
            self.steps.pop_front();
        }
    }
}

/// The least pace of a layer of this rate.
pub fn least(layer: Bitrate, is_worst: bool) -> Bitrate {
    let percent = if is_worst { LAYER_PERCENT } else { BETTER_LAYER_PERCENT };
    share(layer, percent).max(RATE_MIN)
}

/// Lets a viewer's picture leave as fast as its connection carries, or, where that is not known to be little, as it comes once
/// nothing waits any more. `least` is [that](least) of the layer that it gets or is about to get.
pub fn set(viewer: &mut Viewer, now: Instant, carried: Option<Bitrate>, least: Bitrate) {
    match (carried, &mut viewer.pace) {
        (Some(carried), pace) => {
            let rate = share(carried, CARRIED_PERCENT).max(least);
            let pace = pace.get_or_insert_with(|| Box::new(Pace::new(rate)));
            (pace.rate, pace.is_ending) = (rate, false);
        }
        (None, Some(pace)) => {
            (pace.rate, pace.is_ending) = (pace.rate.max(share(least, 200)), true);
            pace.forget_steps(now);
            if !pace.is_waiting() && !pace.is_queued && pace.steps.is_empty() {
                viewer.pace = None;
            }
        }
        (None, None) => {}
    }
}

/// `percent` of a rate.
fn share(rate: Bitrate, percent: u64) -> Bitrate {
    Bitrate::bps(rate.as_bps().saturating_mul(percent) / 100)
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
    let Some(pace) = &mut viewer.pace else { return };
    let Some(stream) = viewer.video.as_ref().and_then(|track| waiting_stream(track, fan, sending.now)) else {
        return pace.forget();
    };
    let waits_longest = pace.next.and_then(|next| stream.ring.range(next..).find(|(_, it)| it.is_some()));
    let came_at = waits_longest.and_then(|(seq_no, _)| stream.ring.inserted_at(seq_no));
    let is_late = came_at.is_some_and(|at| sending.now.saturating_duration_since(at) > WAIT_MAX);
    pace.refill(sending.now, if is_late { 2 } else { 1 });
    send(viewer, stream, |pace| pace.budget.has_any(), sending);
}

/// Sends a viewer all that waits, because nothing more is to be sent from here, or of this layer.
pub fn finish<B: SendBatch>(viewer: &mut Viewer, fan: &Fan, sending: &mut Sending<'_, B>) {
    if let Some(stream) = viewer.video.as_ref().and_then(|track| waiting_stream(track, fan, sending.now)) {
        send(viewer, stream, |_| true, sending);
    }
}

/// The stream whose packets a track sends, as long as it does.
fn waiting_stream<'a>(track: &Track, fan: &'a Fan, now: Instant) -> Option<&'a Stream> {
    let source = track.source.filter(|_| matches!(track.phase, Phase::Live) && !track.is_given_up(now))?;
    fan.stream(source.ssrc)
}

fn send<B: SendBatch>(
    viewer: &mut Viewer,
    stream: &Stream,
    may_go_on: impl Fn(&Pace) -> bool,
    sending: &mut Sending<'_, B>,
) {
    let first = viewer.pace.as_ref().and_then(|pace| pace.next);
    let waiting = first.into_iter().flat_map(|first| stream.ring.range(first..));
    let mut next = None;
    for (seq_no, packet) in waiting {
        let (Some(pace), Some(track)) = (&mut viewer.pace, &mut viewer.video) else { return };
        if !may_go_on(pace) {
            next = Some(seq_no);
            break;
        }
        let Some((packet, place)) = packet.and_then(|packet| Some((packet, track.place(packet)?))) else {
            continue;
        };
        if packet.starts_keyframe {
            track.keyframe_at = Some(sending.now);
            track.restart_at = None;
        }
        pace.note(place.seq_no, sending.now);
        pace.spend(packet.payload.len());
        viewer.send_from_ring(sending, Kind::Video, &place, packet);
    }
    if let Viewer { pace: Some(pace), video: Some(track), .. } = viewer {
        pace.next = next;
        // It is later than its time by as much as it has waited.
        track.anchor(stream);
    }
}
