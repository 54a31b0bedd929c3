//! One RTP stream of one viewer: what it follows, where it stands, and which place a packet takes.

use std::time::{Duration, Instant};

use media_core::TreePacket;
use model::{NtpTime, SeqNo, Ssrc};

use crate::counter::CounterBlock;
use crate::feedback::Reception;
use crate::mapping::{Line, Mapping, Scale, Segment, later};
use crate::part::{Fit, Part};
use crate::record::{OutTrack, Selection, TrackRecord};
use crate::replay::{self, Replay};
use crate::replays::Start;
use crate::stats::LayerSwitch;
use crate::stream::Stream;

mod state;

pub use state::{Holding, Phase, Place, Source, Target};

/// Sequence numbers reserved in the record at once. Who resumes after a crash sends so many packets twice at most, and
/// a viewer who then starts anew sees a gap of at most this; browsers give up repairing at 1000 and ask for a keyframe.
/// A record costs about 1.5 µs to write.
const SENT_BLOCK: u64 = 128;
/// RTX sequence numbers reserved in the record at once.
const RTX_BLOCK: u64 = 256;
/// A step in a stream's sequence numbers that is no loss: beyond half of this a receiver guesses a wrong rollover
/// counter (RFC 3711, section 3.3.1).
const STEP_MAX: u64 = 1 << 14;
/// Capture and arrival may drift apart by so much jitter. Beyond it, after a change of the injection node or while a
/// parent fills the ring, timestamps follow arrival: a player would otherwise wait for frames that it has.
const JITTER_MAX: Duration = Duration::from_millis(100);

/// What came in one train with a keyframe is live with it.
const LIVE_BACKLOG_MAX: Duration = Duration::from_millis(100);
/// From one start from the cache to the next.
const RESTART_INTERVAL_MIN: Duration = Duration::from_secs(1);
const RESTART_INTERVAL_MAX: Duration = Duration::from_secs(5);
const RESTARTS_FORGOTTEN_AFTER: Duration = Duration::from_secs(15);
/// A layer that there is no room for gives way to the next smaller one for so long, which comes from the cache well before.
const GIVES_WAY_MAX: Duration = Duration::from_secs(2);

/// One RTP stream of one viewer.
pub struct Track {
    pub out: OutTrack,
    /// The layer that `source` is.
    pub layer: u8,
    pub selection: Selection,
    pub target: Option<Target>,
    pub source: Option<Source>,
    pub phase: Phase,
    pub holding: Holding,
    pub mapping: Mapping,
    /// What the viewer last reported of it.
    pub reception: Option<Reception>,
    /// NTP times of the last two sender reports, newest first, and when they were sent.
    pub reports: [Option<(NtpTime, Instant)>; 2],
    /// RTP packets and payload bytes of it, for sender reports.
    pub packets: u32,
    pub payload_bytes: u32,
    /// Payload bytes of repeats.
    pub repeated_bytes: u32,
    /// Whether the viewer was found unable to decode the source.
    pub is_refused: bool,
    /// Whether it stands in the queue of replays.
    pub is_queued: bool,
    /// Whether the packet with the highest number that was sent ends its frame.
    pub is_frame_end: bool,
    /// The first packet that was sent from the ring when the picture went live, and when it was: what the ring held had come
    /// before.
    pub rest: Option<(SeqNo, Instant)>,
    /// When a keyframe last began, live or in a replay.
    pub keyframe_at: Option<Instant>,
    /// When to start again from a cached keyframe unless one comes before.
    pub restart_at: Option<Instant>,
    restarted_at: Option<Instant>,
    restart_pause: Duration,
    /// Out sequence numbers below are of before a keyframe with which the picture began anew, because it had no room or could not
    /// be decoded any more.
    pub outdated_before: SeqNo,
    sent_until: CounterBlock,
    /// Out sequence number after the highest one that was surely sent: in the process after a crash, less than what may have been
    /// sent.
    reached: u64,
    /// Out sequence numbers below were sent by another process; the viewer asks for what did not come.
    sent_before: u64,
    /// Out sequence numbers below may have been sent by another process, in the segment that the record ends with and in no
    /// later one.
    promised_until: u64,
    /// Whether another process left it, and nothing has begun since.
    is_resumed: bool,
    rtx: CounterBlock,
    line: Option<Line>,
    /// Timestamps of the current segment are later than the line says by so many ticks: what was sent before was in its way.
    /// The line is kept as it is, lest every switch of layers put the picture off a little more.
    ahead: u32,
    /// When the sample that `line` names came.
    line_at: Option<Instant>,
    first_timestamp: u32,
    last_timestamp: Option<u32>,
    /// Source timestamp of the first keyframe until it is out whole.
    first_frame: Option<u32>,
}

impl Track {
    /// Goes on from a record.
    pub fn from_record(record: TrackRecord) -> Self {
        Self {
            out: record.out,
            layer: record.layer,
            selection: record.selection,
            target: None,
            source: None,
            phase: Phase::Idle,
            holding: Holding::Sent,
            mapping: Mapping::new(record.segments),
            reception: None,
            reports: [None; 2],
            packets: 0,
            payload_bytes: 0,
            repeated_bytes: 0,
            is_refused: false,
            is_queued: false,
            is_frame_end: false,
            rest: None,
            keyframe_at: None,
            restart_at: None,
            restarted_at: None,
            restart_pause: Duration::ZERO,
            outdated_before: SeqNo::new(0),
            sent_until: record.sent.resumed(),
            reached: record.sent.surely_used(),
            sent_before: record.sent.surely_used(),
            promised_until: record.sent.reserved_until,
            is_resumed: true,
            rtx: record.rtx.resumed(),
            line: record.line,
            ahead: 0,
            line_at: None,
            first_timestamp: record.first_timestamp,
            last_timestamp: None,
            first_frame: None,
        }
    }

    pub fn record(&self) -> TrackRecord {
        TrackRecord {
            out: self.out.clone(),
            layer: self.layer,
            selection: self.selection.clone(),
            segments: self.mapping.segments().to_vec(),
            line: self.line,
            first_timestamp: self.first_timestamp,
            sent: CounterBlock { next: self.reached, ..self.sent_until },
            rtx: self.rtx,
        }
    }

    /// Follows `source` from now on. Goes on without a break where the mapping is live on it already: after a resume, or
    /// where nothing changed.
    pub fn follow(&mut self, source: Option<Source>) {
        self.target = None;
        if self.source == source {
            return;
        }
        self.source = source;
        self.restart_at = None;
        let current = self.mapping.current();
        self.phase = match (source, current) {
            (None, _) => Phase::Idle,
            (Some(_), _) if self.holding != Holding::Sent => Phase::Waiting,
            (Some(source), Some(current)) if source.is_of(current) && current.is_live() => Phase::Live,
            (Some(_), Some(_) | None) => Phase::Waiting,
        };
    }

    /// Picture: stops, until it is told to come back. It has been [anchored](Track::anchor).
    pub const fn hold(&mut self) {
        self.target = None;
        self.restart_at = None;
        self.holding = Holding::Held;
        if self.source.is_some() {
            self.phase = Phase::Waiting;
        }
    }

    /// Notes where live timestamps stand, for whatever comes after: clocks of publishers drift.
    pub fn anchor(&mut self, stream: &Stream) {
        if let (Phase::Live, Some(newest), Some(current)) =
            (self.phase, stream.newest, self.mapping.current())
            && current.source == stream.ssrc
        {
            let timestamp = current.timestamp(newest.timestamp).wrapping_sub(self.ahead);
            self.line = Some(Line { capture_time: newest.capture_time, timestamp });
            self.line_at = Some(newest.at);
        }
    }

    /// Sound: goes live with this packet.
    pub fn start_audio(&mut self, now: Instant, source: Source, packet: &TreePacket) {
        let after = self.after_sent(source.clock_rate);
        let timestamp = self.present(packet.capture_time, now, source.clock_rate, after);
        self.begin(source, packet, None, timestamp, Scale::LIVE);
        self.phase = Phase::Live;
    }

    /// Picture: starts from the newest keyframe in the ring; `scale` says how to squeeze a backlog of some length.
    /// Returns whether there is a keyframe; without one nothing changes.
    pub fn start_video(
        &mut self,
        now: Instant,
        source: Source,
        stream: &Stream,
        how: Start,
        scale: impl FnOnce(Duration) -> Scale,
    ) -> bool {
        let (Some(keyframe), Some(newest)) = (stream.keyframe(), stream.newest) else { return false };
        self.anchor(stream);
        if self.line.is_none() || self.first_frame.is_some() {
            self.first_frame = Some(keyframe.timestamp);
        }
        let after = self.after_sent(source.clock_rate);
        let timestamp = self.present(newest.capture_time, newest.at, source.clock_rate, after);
        let backlog = newest.timestamp.wrapping_sub(keyframe.timestamp);
        let backlog_time = replay::duration(backlog, source.clock_rate);
        let is_live = how == Start::Live && backlog_time <= LIVE_BACKLOG_MAX;
        let scale = if is_live { Scale::LIVE } else { scale(backlog_time) };
        let part = stream.part(self.layer, keyframe);
        if part.is_none() && stream.is_alone {
            // All of it: what is less cannot be counted from here on. The viewer goes there with a later picture.
            self.layer = 0;
        }
        let segment = self.begin(source, keyframe, part, timestamp, scale);
        self.keyframe_at = Some(now);
        self.restart_at = None;
        self.holding = Holding::Sent;
        self.phase =
            if is_live { Phase::Live } else { Phase::Replaying(Replay::new(now, keyframe, &segment)) };
        true
    }

    /// Picture: goes on with the replay in whose midst another process left it, if the ring has what that one sent last.
    /// Returns whether it does.
    pub fn resume_replay(&mut self, now: Instant, stream: &Stream) -> bool {
        let (Some(source), Some(current)) = (self.source, self.mapping.current()) else { return false };
        if !self.is_resumed || !source.is_of(current) || current.is_live() {
            return false;
        }
        let Some(keyframe) = stream.ring.get(current.source_base) else { return false };
        let mut replay = Replay::new(now, keyframe, current);
        if self.reached > current.first_out.get() {
            let Some(last) = current.find(SeqNo::new(self.reached - 1), &stream.ring) else { return false };
            replay = Replay::new(now, last, current);
            replay.sent(now, last, current);
            replay.has_keyframe |= last.timestamp != keyframe.timestamp;
        }
        self.is_resumed = false;
        self.phase = Phase::Replaying(replay);
        true
    }

    /// Whether a replay may end here. What another process may have sent beyond it had squeezed timestamps, and must have
    /// them again.
    pub fn can_go_live(&self, replay: &Replay) -> bool {
        let current = self.mapping.current();
        let out = current.and_then(|current| current.out_of_next(replay.next, replay.counted));
        out.is_some_and(|out| out.get() >= self.promised_until)
    }

    /// Picture: goes on with another layer, from its newest keyframe, which has just come. The layer before it has been
    /// [anchored](Track::anchor).
    pub fn switch(&mut self, now: Instant, target: Target, stream: &Stream) {
        let (Some(keyframe), Some(newest)) = (stream.keyframe(), stream.newest) else { return };
        let source = target.source;
        if self.first_frame.is_some() {
            self.first_frame = Some(keyframe.timestamp);
        }
        let age = replay::duration(newest.timestamp.wrapping_sub(keyframe.timestamp), source.clock_rate);
        let at = newest.at.checked_sub(age).unwrap_or(newest.at);
        let after = self.after_sent(source.clock_rate);
        let timestamp = self.present(keyframe.capture_time, at, source.clock_rate, after);
        self.begin(source, keyframe, None, timestamp, Scale::LIVE);
        (self.layer, self.source, self.target) = (target.layer, Some(source), None);
        self.phase = Phase::Live;
        self.keyframe_at = Some(now);
        self.restart_at = None;
    }

    /// Picture: it starts again from the cache. A browser that was not ready for the keyframe of its replay may not have been
    /// for the next one either, so that the third comes soon; later ones do not.
    pub fn restarts(&mut self, now: Instant) {
        let is_soon = |at: Instant| now.saturating_duration_since(at) < RESTARTS_FORGOTTEN_AFTER;
        let before =
            self.restarted_at.filter(|at| is_soon(*at)).map_or(Duration::ZERO, |_| self.restart_pause);
        self.restart_pause = match self.phase {
            Phase::Replaying(_) => (before * 2).clamp(RESTART_INTERVAL_MIN, RESTART_INTERVAL_MAX),
            Phase::Idle | Phase::Waiting | Phase::Live => RESTART_INTERVAL_MAX,
        };
        self.restarted_at = Some(now);
    }

    /// Picture: the earliest that it may start again from the cache; `None` if it never has.
    pub fn may_restart_at(&self) -> Option<Instant> {
        self.restarted_at.map(|at| at + self.restart_pause)
    }

    /// Picture: it has begun anew, and what was sent before is worth no repeat.
    pub fn outdate(&mut self) {
        self.outdated_before =
            self.mapping.current().map_or(self.outdated_before, |current| current.first_out);
    }

    /// Picture: whether it is to have a worse layer because its connection does not carry this one.
    pub fn is_on_its_way_down(&self) -> bool {
        self.target.is_some_and(|target| target.layer > self.layer && target.reason == LayerSwitch::Down)
    }

    /// Picture: whether another stream is to follow for that reason, which begins with a keyframe of its own. If that does
    /// not come, what there is has to be kept going after all.
    pub fn gives_way(&self, now: Instant) -> bool {
        let is_another = |target: Target| {
            Some(target.source) != self.source && now.saturating_duration_since(target.since) < GIVES_WAY_MAX
        };
        self.is_on_its_way_down() && self.target.is_some_and(is_another)
    }

    /// Picture: whether its layer is not worth sending meanwhile.
    pub fn is_given_up(&self, now: Instant) -> bool {
        self.target.is_some_and(|target| target.is_urgent) && self.gives_way(now)
    }

    /// Picture: whether what is lost of its layer takes room from the worse one that is about to follow. A layer of the same
    /// stream follows when a replay has come to its end, and needs what is lost of it until then.
    pub fn withholds_repeats(&self, now: Instant) -> bool {
        self.gives_way(now) || self.is_on_its_way_down() && matches!(self.phase, Phase::Live)
    }

    /// Whether it can go to this layer in the midst of a replay: what it replays has no room.
    pub fn may_switch(&self, target: Target) -> bool {
        match self.phase {
            Phase::Live => true,
            Phase::Replaying(_) => target.layer > self.layer,
            Phase::Idle | Phase::Waiting => false,
        }
    }

    /// Payload that was sent so far, repeats among it, in bytes modulo 2^32.
    pub const fn payload_sent(&self) -> u32 {
        self.payload_bytes.wrapping_add(self.repeated_bytes)
    }

    /// Whether packets can be repeated without a need: in an RTX stream, which its viewer counts and then drops.
    pub fn can_probe(&self) -> bool {
        let payload_type = self.source.map(|source| source.payload_type);
        let mut formats = self.out.formats.iter();
        let format = formats.find(|format| Some(format.payload_type) == payload_type);
        self.out.rtx_ssrc.is_some() && format.is_some_and(|format| format.rtx_payload_type.is_some())
    }

    /// Ends a replay at a frame boundary: `packet` begins the next frame, which came at `at`, and from there on timestamps
    /// keep the source's pace.
    pub fn go_live(&mut self, replay: &Replay, packet: &TreePacket, at: Instant) {
        let (Some(source), Some(current)) = (self.source, self.mapping.current().copied()) else { return };
        // From the packet after the last one sent, so that one that is repaired later gets its frame's timestamp.
        let Some(first_out) = current.out_of_next(replay.next, replay.counted) else { return };
        // Frames that are missing in between come later, if they are repaired, and keep the source's pace before it.
        let skipped = packet.timestamp.wrapping_sub(replay.timestamp);
        let step = if current.is_next((replay.next, replay.counted), packet) { 1 } else { skipped };
        let after = current.timestamp(replay.timestamp).wrapping_add(step);
        let out_timestamp = self.present(packet.capture_time, at, source.clock_rate, after);
        self.mapping.push(Segment {
            first_out,
            source_base: replay.next,
            source_timestamp: packet.timestamp,
            out_timestamp,
            scale: Scale::LIVE,
            part: current.part.map(|part| Part { count: replay.counted, ..part }),
            ..current
        });
        self.phase = Phase::Live;
    }

    /// Picture: goes on with another part of its stream from this packet on, which begins a picture and comes now. Returns
    /// whether it does. Times go on as they are.
    pub fn change_part(&mut self, target: Target, packet: &TreePacket) -> bool {
        let (Some(current), Some(svc)) = (self.mapping.current().copied(), packet.svc) else { return false };
        if !svc.can_change(current.point(), target.layer, packet.starts_keyframe) || !current.is_live() {
            return false;
        }
        // What was sent, or may have been by another process, was of the part before. A keyframe may leave a gap.
        let Some(next) = current.next_out(packet.seq_no, packet.svc) else { return false };
        let unused = SeqNo::new(self.sent_until.next);
        if next < unused && !packet.starts_keyframe {
            return false;
        }
        let first_out = next.max(unused);
        self.continue_with(first_out, packet, Part::beginning(target.layer, &svc));
        (self.layer, self.target) = (target.layer, None);
        true
    }

    /// Lets a segment follow that says the same, where counts are about to run out. Returns whether it did.
    pub fn renew(&mut self, place: &Place, packet: &TreePacket) -> bool {
        let Some((part, svc)) = place.segment.part.zip(packet.svc) else { return false };
        let is_current = || self.mapping.current() == Some(&place.segment);
        let is_due =
            place.segment.is_due_for_renewal(packet.seq_no) && place.segment.is_live() && is_current();
        if is_due {
            self.continue_with(place.seq_no, packet, Part::beginning(part.point, &svc));
        }
        is_due
    }

    /// A segment that begins with this packet and goes on in time with the one before.
    fn continue_with(&mut self, first_out: SeqNo, packet: &TreePacket, part: Option<Part>) {
        let Some(current) = self.mapping.current().copied() else { return };
        self.mapping.push(Segment {
            first_out,
            source_base: packet.seq_no,
            source_timestamp: packet.timestamp,
            out_timestamp: current.timestamp(packet.timestamp),
            part,
            ..current
        });
    }

    /// Whether a packet of its source is none of the part that the viewer gets.
    pub fn leaves_out(&self, packet: &TreePacket) -> bool {
        let current = self.mapping.current().filter(|current| current.part.is_some());
        current.is_some_and(|current| {
            current.source == packet.ssrc && current.fit(packet.seq_no, packet.svc) == Fit::LeftOut
        })
    }

    /// Whether the counts that tell the viewer's part have broken off before this packet: the publisher's session went on
    /// in another process, or it codes otherwise.
    pub fn has_lost_count(&self, packet: &TreePacket) -> bool {
        let current = self.mapping.current().filter(|current| current.source == packet.ssrc);
        current.is_some_and(|current| {
            let is_behind = packet.seq_no >= current.source_base;
            is_behind && current.part.is_some() && current.next_out(packet.seq_no, packet.svc).is_none()
        })
    }

    /// The timestamp of what was captured at `capture_time` and came at `at`: as much later than the last line as time
    /// has passed, and not before `after`. Becomes the new line.
    fn present(&mut self, capture_time: NtpTime, at: Instant, clock_rate: u32, after: u32) -> u32 {
        let ideal = match self.line {
            None => self.first_timestamp,
            Some(line) => {
                let by_capture = line.timestamp_at(capture_time, clock_rate);
                // After a resume there is no instant to compare with.
                let by_arrival = self.line_at.map_or(by_capture, |line_at| {
                    line.timestamp.wrapping_add(ticks(at.saturating_duration_since(line_at), clock_rate))
                });
                let difference = (by_capture.wrapping_sub(by_arrival) as i32).unsigned_abs();
                if difference > ticks(JITTER_MAX, clock_rate) { by_arrival } else { by_capture }
            }
        };
        let timestamp = if self.line.is_some() { later(ideal, after) } else { ideal };
        self.line = Some(Line { capture_time, timestamp: ideal });
        self.line_at = Some(at);
        self.ahead = timestamp.wrapping_sub(ideal);
        timestamp
    }

    /// The first timestamp after all that were sent; a millisecond, so that a frame is never shown with another.
    fn after_sent(&self, clock_rate: u32) -> u32 {
        let last = self.last_timestamp.or(self.line.map(|line| line.timestamp));
        last.unwrap_or(self.first_timestamp).wrapping_add(clock_rate / 1000)
    }

    /// Begins a segment after everything that was ever sent.
    fn begin(
        &mut self,
        source: Source,
        first: &TreePacket,
        part: Option<Part>,
        out_timestamp: u32,
        scale: Scale,
    ) -> Segment {
        let unused = self.mapping.current().map_or(0, |current| current.first_out.get());
        self.is_resumed = false;
        let segment = Segment {
            first_out: SeqNo::new(self.sent_until.next.max(unused)),
            source: source.ssrc,
            source_base: first.seq_no,
            source_timestamp: first.timestamp,
            out_timestamp,
            scale,
            payload_type: source.payload_type,
            part,
        };
        self.mapping.push(segment);
        segment
    }

    /// Where a source packet goes; `None` if it is from before the start.
    pub fn place(&self, packet: &TreePacket) -> Option<Place> {
        let (seq_no, segment) = self.mapping.out(packet.ssrc, packet.seq_no, packet.svc)?;
        Some(Place { seq_no, segment: *segment })
    }

    /// Whether the process before this one sent the packet of this place: parents fill the ring of a new process with
    /// what its viewers have.
    pub const fn is_sent_before(&self, place: &Place) -> bool {
        place.seq_no.get() < self.sent_before
    }

    /// Whether the packet of this place went out, as far as anybody knows, or no other packet will ever have its number.
    pub const fn is_sent(&self, place: &Place) -> bool {
        place.seq_no.get() < self.sent_until.next
    }

    /// Whether a place is so far ahead that the receiver would take it for one behind.
    pub const fn is_step(&self, place: &Place) -> bool {
        place.seq_no.get() > self.sent_until.next + STEP_MAX
    }

    /// Notes that a packet takes its place. Returns whether the record changed, and must be written before the packet
    /// is seen by anybody.
    pub fn take_place(&mut self, now: Instant, place: &Place, packet: &TreePacket) -> bool {
        let is_changed = self.sent_until.reach(place.seq_no.get(), SENT_BLOCK);
        self.reached = self.reached.max(place.seq_no.get() + 1);
        if is_changed && place.segment.is_live() {
            let timestamp = place.segment.timestamp(packet.timestamp).wrapping_sub(self.ahead);
            self.line = Some(Line { capture_time: packet.capture_time, timestamp });
            self.line_at = Some(now);
        }
        is_changed
    }

    /// Takes the next RTX sequence number; the flag is as in [`CounterBlock::take`].
    pub fn take_rtx(&mut self) -> (SeqNo, bool) {
        let (number, is_changed) = self.rtx.take(RTX_BLOCK);
        (SeqNo::new(number), is_changed)
    }

    /// The extended sequence number that a viewer means by `seq`.
    pub fn meant(&self, seq: u16) -> SeqNo {
        SeqNo::new(self.sent_until.next).nearest(seq)
    }

    /// When a packet with this number, which came at this time, was sent as it came. `None` if another process may have sent
    /// it, or nobody.
    pub fn sent_at(&self, seq_no: SeqNo, came_at: Instant) -> Option<Instant> {
        if !(self.promised_until..self.sent_until.next).contains(&seq_no.get()) {
            return None;
        }
        let rest = self.rest.filter(|(first, _)| *first <= seq_no);
        Some(rest.map_or(came_at, |(_, at)| at.max(came_at)))
    }

    /// Counts a packet that was sent for the first time. Returns whether the first whole frame is out with it.
    pub fn sent(&mut self, place: &Place, packet: &TreePacket) -> bool {
        let timestamp = place.segment.timestamp(packet.timestamp);
        self.last_timestamp = Some(self.last_timestamp.map_or(timestamp, |last| later(timestamp, last)));
        if place.seq_no.get() + 1 == self.reached {
            self.is_frame_end = place.segment.marker(packet);
        }
        self.packets = self.packets.wrapping_add(1);
        if place.segment.wants(packet) {
            self.payload_bytes = self.payload_bytes.wrapping_add(packet.payload.len() as u32);
        }
        let Some(keyframe) = self.first_frame else { return false };
        let is_out = packet.timestamp != keyframe || place.segment.marker(packet);
        if is_out {
            self.first_frame = None;
        }
        is_out
    }

    /// Reserves nothing beyond what was used: another process goes on from here.
    pub const fn settle(&mut self) {
        if self.reached == self.sent_until.next {
            self.sent_until = self.sent_until.settled();
        }
        self.rtx = self.rtx.settled();
    }

    /// Forgets segments whose packets are in no ring any more.
    pub fn forget_old(&mut self, oldest: impl Fn(Ssrc) -> Option<SeqNo>) {
        self.mapping.retain(|segment, end| oldest(segment.source).is_some_and(|oldest| oldest < end));
    }
}

/// `time` in ticks of a clock, modulo 2^32.
pub fn ticks(time: Duration, clock_rate: u32) -> u32 {
    (time.as_micros() * u128::from(clock_rate) / 1_000_000) as u32
}
