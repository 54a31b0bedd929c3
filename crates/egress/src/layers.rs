//! Layers of a picture: which one each viewer gets, and how it goes from one to another.
//!
//! A switch is a new segment of the viewer's mapping. It begins with a keyframe of the other layer as that comes live, at
//! the end of a frame of the old one; until then the old one goes on. So players see one stream whose numbers and times go
//! on, nothing stands still, and a publisher that sends keyframes when it likes is simply waited for. Only where the old
//! layer has dried up the viewer starts from the cache, as one that joins.
//!
//! Which layer suits the connection is decided by [`Controller`], and by [`Hold`] whether any does: where not, the picture
//! stops and the sound goes on. That is the one thing of this that viewers of a single layer have, too.
//!
//! Of a picture that comes in one stream of several layers ([`media_core::svc`]) viewers get parts, which are their layers
//! here. A switch is a new segment there, too: to less of it with the next picture, to more of it where that can be
//! decoded, at the latest with a keyframe.
//!
//! Layers that no viewer needs do not come: what there is of them is told, and counts as if it came. Whoever wants to go
//! to one says so ([`Event::StreamNeeded`]); it then comes from the past on, and is gone to at its first live keyframe.

use std::time::{Duration, Instant};

use media_core::{TreePacket, svc};
use model::{Bitrate, BroadcastId, Kind, Rid, Ssrc};

use crate::broadcast::{Fan, point_name};
use crate::budget::Budget;
use crate::controller::{self, Controller, LAYERS_MAX, LayerNow, Report};
use crate::estimator::{Arrived, Estimator, Queue, Sent};
use crate::feedback::Rules;
use crate::hold::{Connection, Hold, Step};
use crate::mapping::Segment;
use crate::overload::Overload;
use crate::pace;
use crate::record::{Selection, ViewerId};
use crate::replays;
use crate::send::{SendBatch, Sending};
use crate::shard::{Config, Event, Shard};
use crate::stats::LayerSwitch;
use crate::stream::Stream;
use crate::ticks::want_keyframe;
use crate::track::{Holding, Phase, Target, Track};
use crate::viewer::Viewer;

/// How often it is looked at which layers have dried up or come back.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// How often it is said which layers are needed.
const NEEDS_INTERVAL: Duration = Duration::from_secs(1);
/// A decision to probe is good for so long: whoever falls silent is not probed further.
const PROBE_VALID: Duration = Duration::from_millis(1500);
/// What a probe may save up: two frames at 30 per second.
const PROBE_SAVED: Duration = Duration::from_millis(70);
/// A worse layer is waited for so long to come with a live keyframe; publishers that answer need less. Then it begins with the
/// cached one: what the connection does not carry is no picture to go on with.
const DOWN_PATIENCE: Duration = Duration::from_millis(800);
/// A packet is repeated so often, at most: layers differ by a factor of about four, and the one between two may be missing.
const REPEATS_MAX: usize = 16;

/// One layer of a broadcast's picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerState {
    /// The publisher's name for it; of a part of a stream, ours.
    pub rid: Option<Rid>,
    /// The layer that it ends with, if it is a part of a stream.
    pub point: Option<svc::Layer>,
    /// Whether anything came of late.
    pub is_active: bool,
    /// Payload of late.
    pub rate: Bitrate,
    /// Width and height in pixels, as far as its keyframes say so (H.264 and VP8).
    pub size: Option<(u32, u32)>,
    /// Viewers of this shard that get it.
    pub viewers: u64,
}

/// What a viewer has beside its track of a picture.
pub struct Layering {
    pub controller: Controller,
    pub hold: Hold,
    /// What its connection carries, if it tells when packets arrive.
    estimator: Option<Box<Estimator>>,
    /// At which rate to probe, and until when.
    probe: Option<(Bitrate, Instant)>,
    budget: Budget,
    /// The viewer has said something that matters.
    has_news: bool,
}

impl Layering {
    fn new(now: Instant, layer: u8) -> Self {
        Self {
            controller: Controller::new(now, layer),
            hold: Hold::new(),
            estimator: None,
            probe: None,
            budget: Budget::new(0),
            has_news: false,
        }
    }

    pub const fn is_probing(&self) -> bool {
        self.probe.is_some()
    }

    /// The viewer says which packets arrived when, of all that was sent to it. Gives what its connection carries, where that is
    /// news.
    pub fn arrived(
        &mut self,
        now: Instant,
        sent: Sent,
        packets: impl Iterator<Item = Arrived>,
    ) -> Option<Bitrate> {
        let estimator = self.estimator.get_or_insert_with(Box::default);
        packets.for_each(|packet| estimator.arrived(&packet));
        let estimate = estimator.conclude(now, sent);
        self.controller.queued(estimator.queue());
        // A probe grows and ends with it.
        self.has_news |= self.is_probing();
        let bitrate = estimate?;
        self.estimated(now, bitrate);
        Some(bitrate)
    }

    /// The viewer, or what it tells of arrivals, says what it can take.
    pub fn estimated(&mut self, now: Instant, bitrate: Bitrate) {
        self.controller.estimated(now, bitrate);
        self.hold.estimated(now, bitrate);
        self.has_news = true;
    }

    /// The viewer says what it got.
    pub fn reported(&mut self, now: Instant, report: Report) {
        self.controller.reported(now, report);
        self.has_news = true;
    }

    pub const fn take_news(&mut self) -> bool {
        std::mem::replace(&mut self.has_news, false)
    }
}

impl Shard {
    /// Gives a viewer the layer that it, or somebody for it, has chosen; [`Selection::Auto`] gives the choice back. Takes
    /// effect at the next [`Shard::handle_timeout`], which is due at once, and then with a keyframe. False if there is no
    /// such viewer, or it gets no picture.
    pub fn select_layer(&mut self, now: Instant, viewer: ViewerId, selection: Selection) -> bool {
        let Some(&slot) = self.by_id.get(&viewer) else { return false };
        let Some(viewer) = self.viewers.get_mut(slot).and_then(Option::as_mut) else { return false };
        let Some(track) = &mut viewer.video else { return false };
        if track.selection != selection {
            track.selection = selection;
            viewer.is_dirty = true;
            self.wake(now, slot);
        }
        true
    }

    /// The layers of a broadcast's picture, best first: one where the publisher does not simulcast.
    pub fn layers(&mut self, now: Instant, broadcast: &BroadcastId) -> Vec<LayerState> {
        let index = self.fan_by_id.get(broadcast).copied();
        let Some(fan) = index.and_then(|index| self.fans.get_mut(index)?.as_mut()) else { return Vec::new() };
        let mut viewers = [0; u8::MAX as usize + 1];
        for slot in &fan.viewers {
            let viewer = self.viewers.get(*slot).and_then(Option::as_ref);
            if let Some(track) = viewer.and_then(|viewer| viewer.video.as_ref()) {
                viewers[usize::from(track.layer)] += 1;
            }
        }
        if let Some(stream) =
            fan.streams.iter_mut().find(|stream| stream.kind == Kind::Video && stream.points() > 1)
        {
            return parts(now, stream, &viewers);
        }
        let Some(track) = fan.broadcast.track(Kind::Video) else { return Vec::new() };
        let rids = track.layers.iter().map(|layer| layer.rid.clone());
        let streams = fan.streams.iter_mut().filter(|stream| stream.kind == Kind::Video);
        let states = rids.zip(streams).zip(viewers).map(|((rid, stream), viewers)| LayerState {
            rid,
            point: None,
            is_active: stream.is_active(now),
            rate: stream.rate(now),
            size: stream.size,
            viewers,
        });
        states.collect()
    }

    /// The layer that a viewer's picture follows, 0 being the best.
    #[must_use]
    pub fn layer(&self, viewer: ViewerId) -> Option<u8> {
        Some(self.viewer(viewer)?.video.as_ref()?.layer)
    }

    /// Takes note of layers that do not come because nobody needs them, and of how much there is of each; to be repeated each
    /// second as long as that holds.
    pub fn left_out(&mut self, now: Instant, layers: &[(Ssrc, Bitrate)]) {
        for (ssrc, rate) in layers {
            let fan = self.fan_by_ssrc.get(ssrc).and_then(|index| self.fans.get_mut(*index)?.as_mut());
            if let Some(stream) = fan.and_then(|fan| fan.stream_mut(*ssrc)) {
                stream.left_out(now, *rate);
            }
        }
    }

    /// Wakes the viewers of broadcasts of which a layer has dried up or come back. Says which layers are needed.
    pub(crate) fn watch_layers(&mut self, now: Instant) {
        let mut changed = Vec::new();
        let mut has_layers = false;
        let is_other_load = self.overload.look(now);
        for fan in self.fans.iter_mut().flatten().filter(|fan| fan.has_choice()) {
            has_layers = true;
            if fan.is_layered && fan.needs_at.is_none_or(|at| at <= now) {
                fan.needs_at = Some(now + NEEDS_INTERVAL);
                let needed = needed_layers(fan, &self.viewers);
                for stream in fan.streams.iter_mut().filter(|stream| stream.kind == Kind::Video) {
                    if needed >> stream.layer.min(31) & 1 == 1 && stream.say_need(now) {
                        self.events.push_back(Event::StreamNeeded { ssrc: stream.ssrc });
                    }
                }
            }
            let videos = fan.streams.iter().filter(|stream| stream.kind == Kind::Video);
            let active = videos
                .map(|stream| (stream.is_active(now), stream.is_steady(now), !fan.is_behind(now, stream)));
            if is_other_load || !active.clone().eq(fan.active.iter().copied()) {
                fan.active = active.collect();
                changed.extend(&fan.viewers);
            }
        }
        changed.into_iter().for_each(|slot| self.wake(now, slot));
        if !has_layers {
            // Nobody looks at it until there are some again.
            self.overload = Overload::new();
        }
        self.layers_at = has_layers.then(|| now + WATCH_INTERVAL);
    }
}

/// The points of a stream as layers.
fn parts(now: Instant, stream: &mut Stream, viewers: &[u64]) -> Vec<LayerState> {
    let is_active = stream.is_active(now);
    let states = (0..stream.points()).zip(viewers).map(|(index, viewers)| {
        let point = stream.point(index);
        // Nobody says how large the smaller pictures are.
        let size = stream.size.filter(|_| point.spatial == stream.point(0).spatial);
        let rate = stream.point_rate(now, index);
        LayerState { rid: point_name(point), point: Some(point), is_active, rate, size, viewers: *viewers }
    });
    states.collect()
}

/// The layers that viewers get or are to get: a bit for each.
fn needed_layers(fan: &Fan, viewers: &[Option<Viewer>]) -> u32 {
    let watching = fan.viewers.iter().filter_map(|slot| viewers.get(*slot)?.as_ref());
    let tracks = watching.filter(|viewer| viewer.is_consenting).filter_map(|viewer| viewer.video.as_ref());
    let layers = tracks.filter(|track| track.source.is_some()).flat_map(|track| {
        let target = track.target.map(|target| target.layer);
        std::iter::once(track.layer).chain(target)
    });
    layers.fold(0, |needed, layer| needed | 1 << layer.min(31))
}

/// Says that a stream is needed, unless that was said a moment ago. Nobody asks who needs the only layer there is.
pub fn need<B>(fan: &mut Fan, ssrc: Ssrc, sending: &mut Sending<'_, B>) {
    let is_layered = fan.is_layered;
    let stream = fan.stream_mut(ssrc).filter(|_| is_layered);
    if stream.is_some_and(|stream| stream.say_need(sending.now)) {
        sending.events.push_back(Event::StreamNeeded { ssrc });
    }
}

/// Looks at which layer a viewer should have, and goes there as far as that can be done now.
pub fn review<B: SendBatch>(
    rules: Rules<'_>,
    viewer: &mut Viewer,
    fan: &mut Fan,
    sending: &mut Sending<'_, B>,
) {
    note_part(viewer, fan);
    let Some(track) = &viewer.video else { return };
    let (current, can_probe, is_sent) = (track.layer, track.can_probe(), track.holding == Holding::Sent);
    if track.source.is_none() {
        return;
    }
    let mut room = [LayerNow::default(); LAYERS_MAX];
    let layers = fan.layers_now(sending.now, &mut room);
    if layers.is_empty() {
        return;
    }
    let (pinned, chosen) = (fan.pinned(&track.selection), fan.best(&track.selection));
    let is_active = layers.get(usize::from(current)).is_some_and(|layer| layer.is_active);
    let worst = layers.iter().rposition(|layer| layer.is_active).unwrap_or(layers.len() - 1);
    let best = chosen.max(rules.layers_left_out.min(worst as u8));
    // To who wants nothing better, or is not to have it, the better ones are not there.
    for layer in layers.iter_mut().take(usize::from(best)) {
        (layer.is_active, layer.is_steady) = (false, false);
    }
    // Others estimate by what comes, and come back up by bursts.
    let tells_arrivals = viewer.tells_arrivals();
    let layering = viewer.layering.get_or_insert_with(|| Box::new(Layering::new(sending.now, current)));
    let (mut probe, mut is_urgent) = (None, false);
    let layer = match pinned {
        Some(wanted) => controller::nearest(layers, wanted, wanted),
        // Whatever it was held on, also in a publishing run before this one.
        None if !is_sent => controller::nearest(layers, worst as u8, worst as u8),
        None => {
            if rules.is_behind && tells_arrivals {
                // It is this shard that makes them wait.
                layering.controller.queued(Queue::default());
            }
            let decision = layering.controller.decide(sending.now, layers, current, can_probe);
            let probes = layering.controller.take_probes();
            sending.stats.probes += probes.begun;
            sending.stats.probes_failed += probes.failed;
            probe = decision.probe.filter(|_| !rules.is_behind);
            is_urgent = decision.is_urgent;
            decision.layer
        }
    };
    if probe.is_some() && !layering.is_probing() {
        layering.budget = Budget::new(0);
    }
    layering.probe = probe.map(|rate| (rate, sending.now + PROBE_VALID));
    let is_paced = layers.len() > 1 && pinned.is_none() && tells_arrivals;
    let carried = layering.controller.pace(sending.now, layers).filter(|_| is_paced);
    // A probe pays for what waits, since nothing is repeated meanwhile.
    let carried = carried.map(|carried| Bitrate::bps(carried.as_bps() + probe.unwrap_or_default().as_bps()));
    let rate = |index: u8| layers.get(usize::from(index)).map_or(Bitrate::default(), |layer| layer.rate);
    let rate = if layer > current { rate(layer) } else { rate(layer).max(rate(current)) };
    pace::set(viewer, sending.now, carried, pace::least(rate, usize::from(layer) == worst));
    let reason = match pinned {
        Some(wanted) if layer == wanted => LayerSwitch::Pinned,
        Some(_) => LayerSwitch::Inactive,
        None if current < chosen => LayerSwitch::Pinned,
        None if current < best => LayerSwitch::Overload,
        None if !is_active => LayerSwitch::Inactive,
        None if layer < current => LayerSwitch::Up,
        None => LayerSwitch::Down,
    };
    let worst = Worst { layer: worst as u8, rate: layers[worst].rate };
    go_to(rules.config, viewer, fan, Choice { layer, reason, goes_on: is_active, is_urgent }, sending);
    hold_or_return(rules.config, viewer, fan, (worst, pinned.is_some()), sending);
}

/// Takes the part that a viewer gets as its layer. The two differ where a publisher had left its layers out for a while: then
/// every part was the whole.
fn note_part(viewer: &mut Viewer, fan: &Fan) {
    let (Some(track), Some(stream)) = (&mut viewer.video, fan.divided()) else { return };
    if !matches!(track.phase, Phase::Live | Phase::Replaying(_)) {
        return;
    }
    let current = track.mapping.current().filter(|current| current.source == stream.ssrc);
    if let Some(point) = current.map(Segment::point) {
        let layer = point.min(stream.points() - 1);
        viewer.is_dirty |= std::mem::replace(&mut track.layer, layer) != layer;
    }
}

/// The worst layer that comes.
#[derive(Clone, Copy)]
struct Worst {
    layer: u8,
    rate: Bitrate,
}

/// Stops the picture of a viewer whose connection carries no layer of it, and lets it come back, with the worst layer. Who
/// has chosen a layer gets it, whatever it costs.
fn hold_or_return<B: SendBatch>(
    config: &Config,
    viewer: &mut Viewer,
    fan: &mut Fan,
    (worst, is_pinned): (Worst, bool),
    sending: &mut Sending<'_, B>,
) {
    let sound = viewer.audio.as_ref().and_then(|track| track.source);
    let comes = sound.and_then(|source| fan.stream(source.ssrc)).is_some_and(|it| it.comes(sending.now));
    let id = viewer.id;
    let Viewer { video: Some(track), layering: Some(layering), is_dirty, .. } = viewer else { return };
    let connection = Connection {
        capacity: layering.controller.short(),
        needed: worst.rate,
        // A picture that is held stays so over a pause of the sound, as between two publishing runs.
        has_sound: comes || (sound.is_some() && track.holding == Holding::Held),
        is_playing: matches!(track.phase, Phase::Live | Phase::Replaying(_)),
    };
    let step = if !is_pinned {
        layering.hold.decide(sending.now, connection)
    } else if layering.hold.release() {
        // Why it was held says nothing of what is sent from now on.
        layering.controller.began_anew(sending.now);
        Step::Return
    } else {
        Step::Stay
    };
    let sound_only = |is_sound_only: bool| Event::SoundOnly { viewer: id, is_sound_only };
    match step {
        Step::Stay => {}
        Step::Hold => {
            if let Some(stream) = track.source.and_then(|source| fan.stream(source.ssrc)) {
                track.anchor(stream);
            }
            track.hold();
            if let Ok(Some(source)) = fan.source(Kind::Video, worst.layer, &track.out) {
                *is_dirty |= track.layer != worst.layer;
                track.layer = worst.layer;
                track.follow(Some(source));
            }
            sending.stats.layer_switched(LayerSwitch::SoundOnly);
            sending.events.push_back(sound_only(true));
        }
        Step::Return => {
            if track.holding == Holding::Held {
                track.holding = Holding::Returning;
            }
            if is_pinned {
                sending.events.push_back(sound_only(false));
            }
            replays::start_or_ask(config, viewer, fan, sending);
        }
        Step::Returned => {
            track.outdate();
            layering.controller.renumbered(track.layer);
            layering.controller.began_anew(sending.now);
            sending.stats.layer_switched(LayerSwitch::Up);
            sending.events.push_back(sound_only(false));
        }
    }
}

/// A layer that was chosen.
#[derive(Clone, Copy)]
struct Choice {
    layer: u8,
    reason: LayerSwitch,
    /// Whether the layer before goes on until then,
    goes_on: bool,
    /// or what comes of it has no room.
    is_urgent: bool,
}

/// Begins to go to a layer, or stays.
fn go_to<B: SendBatch>(
    config: &Config,
    viewer: &mut Viewer,
    fan: &mut Fan,
    Choice { layer, reason, goes_on, is_urgent }: Choice,
    sending: &mut Sending<'_, B>,
) {
    let Some(track) = &mut viewer.video else { return };
    let before = track.target.take();
    if layer == track.layer {
        return;
    }
    let Ok(Some(source)) = fan.source(Kind::Video, layer, &track.out) else { return };
    need(fan, source.ssrc, sending);
    let is_playing = matches!(track.phase, Phase::Live | Phase::Replaying(_));
    if let Some(stream) = fan.divided().filter(|_| is_playing) {
        let is_as_large = stream.point(layer).spatial == stream.point(track.layer).spatial;
        let has_waited = before.is_some_and(|before| before.layer == layer);
        let asks = layer < track.layer && (has_waited || !is_as_large);
        let since = sending.now;
        track.target =
            Some(Target { layer, source, reason, since, due_at: None, is_due: false, is_urgent: false });
        if asks {
            want_keyframe(config, fan, source.ssrc, sending);
        }
        return;
    }
    let since = before.filter(|before| before.layer == layer).map_or(sending.now, |before| before.since);
    let is_cached = |stream: &Stream| stream.keyframe().is_some() && !fan.is_behind(sending.now, stream);
    let has_waited = sending.now.saturating_duration_since(since) >= DOWN_PATIENCE;
    let is_down = reason == LayerSwitch::Down;
    let begins_cached = is_down && has_waited && fan.stream(source.ssrc).is_some_and(is_cached);
    if !goes_on || !is_playing || begins_cached {
        // There is nothing to go on with: it starts there as one that joins.
        if let Some(old) = track.source.and_then(|old| fan.stream(old.ssrc)) {
            track.anchor(old);
        }
        track.layer = layer;
        track.follow(Some(source));
        viewer.is_dirty = true;
        sending.stats.layer_switched(reason);
        replays::start_or_ask(config, viewer, fan, sending);
        if begins_cached {
            begin_with_room(viewer);
        }
        return;
    }
    let is_due = fan.fresh_keyframe(sending.now, source.ssrc).is_some();
    let is_urgent = is_urgent || before.is_some_and(|before| before.layer == layer && before.is_urgent);
    let due_at = (is_down && !has_waited).then(|| since + DOWN_PATIENCE);
    track.target = Some(Target { layer, source, reason, since, due_at, is_due, is_urgent });
    if !is_due {
        want_keyframe(config, fan, source.ssrc, sending);
    } else {
        switch(viewer, fan, sending);
    }
}

/// Notes that a packet of the broadcast passes a viewer that waits for a keyframe of another layer, and switches where that
/// has come and the frame before it is out. True if it did.
pub fn pass<B: SendBatch>(
    viewer: &mut Viewer,
    fan: &Fan,
    packet: &TreePacket,
    sending: &mut Sending<'_, B>,
) -> bool {
    let target = viewer.video.as_mut().and_then(|track| track.target.as_mut());
    let Some(target) = target else { return false };
    target.is_due |= packet.starts_keyframe && packet.ssrc == target.source.ssrc;
    target.is_due && switch(viewer, fan, sending)
}

/// Lets a viewer go to another part of the stream that it gets, if it is to and this packet, which comes now and was not sent
/// yet, allows it.
pub fn turn<B>(viewer: &mut Viewer, packet: &TreePacket, sending: &mut Sending<'_, B>) {
    let Some(track) = &mut viewer.video else { return };
    let is_live = matches!(track.phase, Phase::Live);
    let Some(target) = track.target.filter(|target| is_live && target.source.ssrc == packet.ssrc) else {
        return;
    };
    if track.change_part(target, packet) {
        viewer.is_dirty = true;
        sending.stats.layer_switched(target.reason);
    }
}

/// Switches a viewer to its target, if that has a fresh keyframe and the frame before it is out. True if it did.
fn switch<B: SendBatch>(viewer: &mut Viewer, fan: &Fan, sending: &mut Sending<'_, B>) -> bool {
    let Some(track) = &viewer.video else { return false };
    let Some(target) = track.target.filter(|target| track.may_switch(*target)) else { return false };
    let Some(stream) = fan.stream(target.source.ssrc) else { return false };
    let Some(age) = fan.fresh_keyframe(sending.now, target.source.ssrc) else { return false };
    // What a connection has no room for, least of all a keyframe, is not sent to its end.
    let is_down = track.is_on_its_way_down();
    let old = track.source.and_then(|old| fan.stream(old.ssrc)).map(|old| &old.ring);
    let newest = old.and_then(|ring| ring.get(ring.newest()?));
    // A frame of which more comes in this train would be sent once more with it.
    if !is_down && newest.is_some_and(|packet| packet.marker) {
        pace::finish(viewer, fan, sending);
    }
    let Some(track) = &mut viewer.video else { return false };
    if !is_down && !track.is_frame_end && age < FRAME_PATIENCE {
        return false;
    }
    if let Some(old) = track.source.and_then(|old| fan.stream(old.ssrc)) {
        track.anchor(old);
    }
    track.switch(sending.now, target, stream);
    track.forget_old(|ssrc| fan.stream(ssrc)?.ring.oldest());
    viewer.is_dirty = true;
    if is_down {
        begin_with_room(viewer);
    }
    sending.stats.layer_switched(target.reason);
    replays::send_the_rest(viewer, fan, sending);
    true
}

/// What was before the keyframe that a viewer now begins with had no room, so none of it is repeated; that keyframe itself meets
/// the queue of what was before, and may have to be.
fn begin_with_room(viewer: &mut Viewer) {
    viewer.video.iter_mut().for_each(Track::outdate);
    viewer.renew_rtx_budget();
}

/// A frame of the old layer whose end does not come holds a switch up no longer.
const FRAME_PATIENCE: Duration = Duration::from_millis(50);

/// Repeats what a viewer was just sent, as far as its probe and the shard's budget go: players drop it, and their estimates
/// count it. Never anything older: receivers judge delay by RTP timestamps, which have to keep the pace of arrival.
pub fn probe<'a, B: SendBatch>(
    viewer: &mut Viewer,
    packets: impl Iterator<Item = &'a TreePacket> + Clone,
    budget: &mut Budget,
    sending: &mut Sending<'_, B>,
) {
    let Viewer { video: Some(track), layering: Some(layering), .. } = viewer else { return };
    let Some((rate, until)) = layering.probe else { return };
    let waits = viewer.pace.as_ref().is_some_and(|pace| pace.is_waiting());
    let source = track.source.filter(|_| matches!(track.phase, Phase::Live) && !waits);
    let Some(source) = source.filter(|_| sending.now < until) else { return };
    layering.budget.refill(sending.now, rate, rate.bytes_in(PROBE_SAVED));
    let mut left = layering.budget;
    let mut sent = 0;
    for packet in (0..REPEATS_MAX).flat_map(|_| packets.clone()).filter(|packet| packet.ssrc == source.ssrc) {
        if !left.has_any() || !budget.has_any() {
            break;
        }
        let place = viewer.video.as_ref().and_then(|track| track.place(packet));
        let Some(place) = place else { continue };
        let bytes = viewer.resend(sending, Kind::Video, &place, packet);
        sending.stats.probe.add(bytes);
        left.spend(bytes);
        budget.spend(bytes);
        sent += bytes;
    }
    if let Some(layering) = &mut viewer.layering {
        layering.budget = left;
        layering.controller.probed(sent);
    }
}
