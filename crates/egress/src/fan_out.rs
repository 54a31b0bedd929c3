//! One train of tree packets to all viewers: the hot path.

use std::sync::Arc;
use std::time::{Duration, Instant};

use media_core::TreePacket;
use model::{Kind, NtpTime};

use crate::broadcast::Fan;
use crate::controller::LAYERS_MAX;
use crate::layers::{self, Layering};
use crate::packet;
use crate::replays::{self, Start};
use crate::send::{SendBatch, Sending};
use crate::shard::{Config, Shard};
use crate::stats::{DropReason, Stats};
use crate::track::{Holding, Phase};
use crate::viewer::{Payload, Viewer};

/// A packet of the train at work.
struct Entry {
    packet: Arc<TreePacket>,
    fan: usize,
    kind: Kind,
    /// Which layer of its track it belongs to.
    layer: u8,
    /// Place in the train.
    index: usize,
    is_newest: bool,
    /// Where the padded payload stands, if it needed padding.
    padded: Option<(usize, usize)>,
}

/// Packets sent in one slice: some 100 µs of work, one batch of system calls, and small enough to stay in the cache until
/// then. Between two slices the shell looks at its socket.
const SLICE_PACKETS: usize = 192;

/// A shard for which packets wait longer is behind, and stays so for a while.
const BEHIND: Duration = Duration::from_millis(20);
const BEHIND_TIME: Duration = Duration::from_secs(1);
/// A shard that cannot keep up does not send what waited longer, instead of letting everybody's delay grow. Long enough for
/// a machine that stood still for a moment. Sound goes on longer: it costs little, and its gaps are what is noticed first.
const BEHIND_MAX: Duration = Duration::from_millis(250);
const BEHIND_SOUND_MAX: Duration = Duration::from_millis(750);
/// What came while no process was there comes all at once to the next one, which sends it all: as late as its viewers are
/// already, and a machine that has much to do needs some time for it.
const RESUMED_BEHIND_MAX: Duration = Duration::from_secs(2);
/// So long after its viewers went on a shard is given that time.
pub const RESUMED: Duration = Duration::from_secs(5);

/// What the budget of all probes can save up: two frames at 30 per second.
const PROBES_SAVED: Duration = Duration::from_millis(70);

/// The train at work and how far it has come. Kept for its memory.
#[derive(Default)]
pub struct Train {
    packets: Vec<Arc<TreePacket>>,
    entries: Vec<Entry>,
    payloads: Vec<u8>,
    /// The first entry of the broadcast at work.
    entry: usize,
    /// How many of its viewers have been served, and how many of those are live on each layer.
    viewers: usize,
    viewers_live: [u32; LAYERS_MAX],
}

impl Train {
    fn payload<'a>(&'a self, entry: &'a Entry) -> Payload<'a> {
        match entry.padded {
            Some((start, end)) => Payload { bytes: &self.payloads[start..end], is_padded: true },
            None => Payload { bytes: &entry.packet.payload, is_padded: false },
        }
    }

    /// The entries of the broadcast at work.
    fn group(&self) -> &[Entry] {
        let rest = &self.entries[self.entry..];
        rest.chunk_by(|a, b| a.fan == b.fan).next().unwrap_or_default()
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.payloads.clear();
        (self.entry, self.viewers, self.viewers_live) = (0, 0, [0; LAYERS_MAX]);
    }
}

impl Config {
    fn hold_for(&self, fan: &Fan) -> Duration {
        if fan.viewers.len() < self.train_viewers_min { Duration::ZERO } else { self.train_hold }
    }
}

impl Shard {
    /// Takes a tree packet that came at `came_at`, in the order in which they came, into the train of its broadcast, which
    /// [`Shard::fan_out_due`] sends when it is due. A thread that is far behind only keeps it: viewers may ask for it, and
    /// who starts from the cache finds the group of pictures whole.
    pub fn gather(&mut self, now: Instant, came_at: Instant, packet: Arc<TreePacket>) {
        let waited = now.saturating_duration_since(came_at);
        if waited > BEHIND {
            self.behind_until = Some(now + BEHIND_TIME);
        }
        self.overload.waited(now, waited);
        let fan = self.fan_by_ssrc.get(&packet.ssrc).and_then(|index| self.fans.get_mut(*index)?.as_mut());
        let Some(fan) = fan else { return self.stats.drop(DropReason::UnknownStream) };
        let Some(stream) = fan.stream(packet.ssrc) else { return };
        let (kind, newest) = (stream.kind, stream.newest.map(|newest| newest.seq_no));
        let behind_max = match kind {
            _ if self.resumed_until.is_some_and(|until| now < until) => RESUMED_BEHIND_MAX,
            Kind::Audio => BEHIND_SOUND_MAX,
            Kind::Video => BEHIND_MAX,
        };
        if waited > behind_max {
            self.stats.drop(DropReason::Behind);
            return self.keep(now, &packet);
        }
        fan.held.push(now, kind, packet, newest);
    }

    /// Puts a packet into its ring alone.
    pub(crate) fn keep(&mut self, now: Instant, packet: &Arc<TreePacket>) {
        let fan = self.fan_by_ssrc.get(&packet.ssrc).and_then(|index| self.fans.get_mut(*index)?.as_mut());
        let Some(stream) = fan.and_then(|fan| fan.stream_mut(packet.ssrc)) else {
            return self.stats.drop(DropReason::UnknownStream);
        };
        if let Err(reason) = stream.insert(now, packet) {
            self.stats.drop(reason);
        }
        if stream.points() > 1 {
            self.layers_at.get_or_insert(now);
        }
    }

    /// Sends a slice of what is due. True if there is more: nothing but [`Shard::handle_rtcp`] and [`Shard::heard`] may be
    /// called before this is called again.
    pub fn fan_out_due(&mut self, now: Instant, out: &mut impl SendBatch) -> bool {
        if self.train.entries.is_empty() {
            let mut packets = std::mem::take(&mut self.train.packets);
            for fan in self.fans.iter_mut().flatten() {
                let hold = self.config.hold_for(fan);
                fan.held.take_due(now, hold, &mut packets);
            }
            self.begin(now, &packets);
            packets.clear();
            self.train.packets = packets;
        }
        self.fan_out_slice(now, SLICE_PACKETS, out)
    }

    /// Sends everything that is held, due or not.
    pub fn fan_out_held(&mut self, now: Instant, out: &mut impl SendBatch) {
        let mut packets = std::mem::take(&mut self.train.packets);
        self.fans.iter_mut().flatten().for_each(|fan| fan.held.take_all(&mut packets));
        self.fan_out(now, &packets, out);
        packets.clear();
        self.train.packets = packets;
    }

    /// Takes tree packets in the order in which they came and sends them to all viewers that follow them, at once. A packet
    /// that was repaired goes to its own place, late as it is. Then replays go on, with what the budget leaves.
    pub fn fan_out(&mut self, now: Instant, train: &[Arc<TreePacket>], out: &mut impl SendBatch) {
        self.fan_out_slice(now, usize::MAX, out);
        self.begin(now, train);
        self.fan_out_slice(now, usize::MAX, out);
    }

    /// When the next train is due.
    pub(crate) fn train_at(&self) -> Option<Instant> {
        self.fans.iter().flatten().filter_map(|fan| fan.held.due_at(self.config.hold_for(fan))).min()
    }

    fn begin(&mut self, now: Instant, train: &[Arc<TreePacket>]) {
        let mut work = std::mem::take(&mut self.train);
        self.take_in(now, train, &mut work);
        // Trains of segments: what belongs to one viewer goes out together, picture first, whose packets are equally
        // long. Between the two kinds order means nothing.
        work.entries.sort_unstable_by_key(|entry| (entry.fan, entry.kind != Kind::Video, entry.index));
        self.train = work;
    }

    /// Goes on with the train at work, for about `packets_max` packets; true if it is not done.
    fn fan_out_slice(&mut self, now: Instant, packets_max: usize, out: &mut impl SendBatch) -> bool {
        if self.train.entries.is_empty() {
            return false;
        }
        let mut work = std::mem::take(&mut self.train);
        let mut room = packets_max;
        let is_behind = self.behind_until.is_some_and(|at| now < at);
        if self.layers_at.is_some() {
            let rate = self.config.probe_rate;
            self.probes.refill(now, rate, rate.bytes_in(PROBES_SAVED));
        }
        while room > 0 && work.entry < work.entries.len() {
            let group = work.group();
            let length = group.len();
            let Some(fan) = self.fans.get_mut(group[0].fan).and_then(Option::as_mut) else {
                work.entry += length;
                continue;
            };
            let mut sending = Sending {
                now,
                out: &mut *out,
                stats: &mut self.stats,
                events: &mut self.events,
                payload: &mut self.payload,
            };
            let mut viewers_live = [0; LAYERS_MAX];
            let slots = std::mem::take(&mut fan.viewers);
            let turn = (room.div_ceil(length)).min(slots.len() - work.viewers);
            for slot in &slots[work.viewers..work.viewers + turn] {
                let Some(viewer) = self.viewers.get_mut(*slot).and_then(Option::as_mut) else { continue };
                if !viewer.is_consenting {
                    continue;
                }
                serve(&self.config, viewer, fan, (&work, group), &mut sending);
                if let Some(layer) = viewer.live_layer() {
                    viewers_live[layer] += 1;
                }
                if viewer.layering.as_deref().is_some_and(Layering::is_probing) && !is_behind {
                    let packets = group.iter().filter(|entry| entry.is_newest).map(|entry| &*entry.packet);
                    layers::probe(viewer, packets, &mut self.probes, &mut sending);
                }
                self.replays.push(*slot, viewer);
                self.paced.push(*slot, viewer);
            }
            room = room.saturating_sub(turn * length);
            work.viewers += turn;
            for (sum, live) in work.viewers_live.iter_mut().zip(viewers_live) {
                *sum += live;
            }
            if work.viewers == slots.len() {
                measure_latency(self.wallclock, now, work.group(), &work.viewers_live, &mut self.stats);
                work.entry += length;
                (work.viewers, work.viewers_live) = (0, [0; LAYERS_MAX]);
            }
            fan.viewers = slots;
        }
        let is_done = work.entry == work.entries.len();
        if is_done {
            work.clear();
        }
        self.train = work;
        self.paced_at = self.paced_at.or_else(|| self.paced.next(now));
        if is_done {
            self.replay(now, out);
        }
        !is_done
    }

    /// Puts the train into the rings.
    fn take_in(&mut self, now: Instant, train: &[Arc<TreePacket>], work: &mut Train) {
        let mut divided_otherwise = Vec::new();
        for (index, packet) in train.iter().enumerate() {
            let fan_index = self.fan_by_ssrc.get(&packet.ssrc).copied();
            let fan = fan_index.and_then(|index| self.fans.get_mut(index)?.as_mut());
            let stream = fan.and_then(|fan| fan.stream_mut(packet.ssrc));
            let (Some(fan), Some(stream)) = (fan_index, stream) else {
                self.stats.drop(DropReason::UnknownStream);
                continue;
            };
            let (kind, layer, division) = (stream.kind, stream.layer, stream.division());
            match stream.insert(now, packet) {
                Ok(is_newest) => {
                    // Once, however often a publisher changes its mind. Who loses its part with this goes on at once.
                    if stream.division() != division && !divided_otherwise.contains(&fan) {
                        divided_otherwise.push(fan);
                    }
                    let start = work.payloads.len();
                    let padded = (packet::padding(kind, packet) > 0).then(|| {
                        packet::push_padded(&mut work.payloads, kind, packet);
                        (start, work.payloads.len())
                    });
                    let packet = packet.clone();
                    work.entries.push(Entry { packet, fan, kind, layer, index, is_newest, padded });
                }
                Err(reason) => self.stats.drop(reason),
            }
        }
        for fan in divided_otherwise {
            let viewers = self.fans.get(fan).and_then(Option::as_ref).map(|fan| fan.viewers.clone());
            viewers.into_iter().flatten().for_each(|slot| self.wake(now, slot));
            self.layers_at.get_or_insert(now);
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
            Phase::Waiting if track.holding == Holding::Held => false,
            Phase::Waiting => {
                let is_behind = |entry: &Entry| {
                    fan.stream(entry.packet.ssrc).is_some_and(|stream| fan.is_behind(sending.now, stream))
                };
                entries.iter().any(|entry| is_keyframe(entry) && !is_behind(entry))
            }
            // A live keyframe ends every replay: it comes to all, whatever the budget.
            Phase::Replaying(_) => entries.iter().any(|entry| entry.is_newest && is_keyframe(entry)),
            Phase::Idle | Phase::Live => false,
        }
    });
    // Who starts now, or goes to another layer, gets the whole frame from the ring, with all that this train added to it.
    let mut has_started = starts && replays::start(config, viewer, fan, Start::Live, sending);
    let is_switching = viewer.is_switching();
    let is_divided = is_switching && fan.divided().is_some();
    for entry in entries {
        let is_new_picture = entry.is_newest && entry.kind == Kind::Video;
        if is_divided && is_new_picture && !has_started {
            layers::turn(viewer, &entry.packet, sending);
        }
        if entry.kind == Kind::Audio || !has_started {
            forward(viewer, entry, train.payload(entry), sending);
        }
        if is_switching && is_new_picture && !is_divided {
            has_started |= layers::pass(viewer, fan, &entry.packet, sending);
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
    let Viewer { audio, video, is_dirty, pace, .. } = viewer;
    let track = match entry.kind {
        Kind::Audio => audio,
        Kind::Video => video,
    };
    let Some(track) = track else { return };
    let Some(source) = track.source.filter(|source| source.ssrc == packet.ssrc) else { return };
    if track.leaves_out(packet) || (entry.is_newest && track.is_given_up(sending.now)) {
        return;
    }
    match track.phase {
        Phase::Waiting if entry.kind == Kind::Audio && entry.is_newest => {
            track.start_audio(sending.now, source, packet);
            *is_dirty = true;
        }
        Phase::Idle | Phase::Waiting => return,
        Phase::Replaying(replay) if packet.seq_no >= replay.next => {
            if track.is_queued || !replay.is_frame_end || !track.can_go_live(&replay) {
                return;
            }
            track.go_live(&replay, packet, sending.now);
            *is_dirty = true;
        }
        Phase::Replaying(_) | Phase::Live => {}
    }
    let Some(mut place) = track.place(packet) else {
        if entry.is_newest && track.has_lost_count(packet) {
            track.phase = Phase::Waiting;
        }
        return sending.stats.drop(DropReason::BeforeStart);
    };
    // A ring that fills anew does so in order; what comes out of order was missing before, too.
    if entry.is_newest && track.is_sent_before(&place) {
        return;
    }
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
    if entry.is_newest && track.renew(&place, packet) {
        *is_dirty = true;
    }
    if packet.starts_keyframe && entry.kind == Kind::Video {
        track.keyframe_at = Some(sending.now);
        track.restart_at = None;
    }
    if let Some(pace) = pace.as_mut().filter(|_| entry.kind == Kind::Video) {
        if pace.waits(sending.now, packet.seq_no, entry.is_newest) {
            return;
        }
        pace.spend(packet.payload.len());
    }
    viewer.send(sending, entry.kind, &place, packet, payload);
}

/// One sample for each frame that ends in the train and each viewer who is live on its layer.
fn measure_latency(
    wallclock: Option<(Instant, NtpTime)>,
    now: Instant,
    entries: &[Entry],
    viewers: &[u32; LAYERS_MAX],
    stats: &mut Stats,
) {
    let Some((at, wallclock)) = wallclock else { return };
    let wallclock = wallclock.plus(now.saturating_duration_since(at));
    for entry in entries {
        let viewers = viewers.get(usize::from(entry.layer)).copied().unwrap_or(0);
        if viewers > 0 && entry.kind == Kind::Video && entry.is_newest && entry.packet.marker {
            stats.latency.record(wallclock.saturating_since(entry.packet.capture_time), viewers);
        }
    }
}
