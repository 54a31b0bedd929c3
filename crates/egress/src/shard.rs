//! The shard: broadcasts, viewers and their timers, and how they come and go.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media_core::ring::Limits;
use model::{Bitrate, Broadcast, BroadcastId, Kind, NtpTime, Ssrc};
use srtp::KeyError;

use crate::broadcast::{Fan, NotNegotiated};
use crate::budget::Budget;
use crate::fan_out::Train;
use crate::overload::Overload;
use crate::pace::Paced;
use crate::record::{OutTrack, Path, ViewerId, ViewerRecord, ViewerSetup};
use crate::replays::Replays;
use crate::stats::Stats;
use crate::timers::Timers;
use crate::viewer::Viewer;

/// Limits of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What each RTP stream keeps: at least a GOP.
    pub ring: Limits,
    /// How long packets of picture wait for the rest of their frame, at most: what one message carries costs the kernel
    /// as little as a single packet.
    pub train_hold: Duration,
    /// A broadcast with fewer viewers on this shard costs too little to make anybody wait.
    pub train_viewers_min: usize,
    /// What all replays together may send: it comes on top of live media.
    pub replay_rate: Bitrate,
    /// How much faster than live a replay is, at most.
    pub replay_factor: u16,
    /// What all probes for better layers together may send, on top of live media.
    pub probe_rate: Bitrate,
    /// What a viewer may have sent again, in percent of its layer's rate.
    pub rtx_percent: u8,
    /// Time between sender reports.
    pub report_interval: Duration,
    /// Time between two requests for a keyframe of one RTP stream.
    pub keyframe_interval: Duration,
    /// A viewer that is not heard for so long has withdrawn its consent (RFC 7675, section 5.1).
    pub consent_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ring: Limits::default(),
            // Whole frames that were sent at once come within it, and one tenth of a frame at 30 per second is not seen.
            train_hold: Duration::from_millis(3),
            // What holding saves them is 1 % of a core at 30 frames of 10 packets.
            train_viewers_min: 50,
            // A quarter of what 1000 viewers at 2.5 Mbit/s take.
            replay_rate: Bitrate::kbps(600_000),
            replay_factor: 4,
            // Forty viewers at once that try a layer of 2.5 Mbit/s; the others wait.
            probe_rate: Bitrate::kbps(100_000),
            rtx_percent: 50,
            report_interval: Duration::from_secs(1),
            keyframe_interval: Duration::from_secs(1),
            consent_timeout: Duration::from_secs(30),
        }
    }
}

/// What the shell should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody needs a keyframe of this RTP stream.
    KeyframeWanted {
        /// The stream of the tree.
        ssrc: Ssrc,
    },
    /// A viewer gets this layer, or is to get it; said each second as long as that holds. One of which nothing is said for
    /// a while may be left out, see [`Shard::left_out`].
    StreamNeeded {
        /// The stream of the tree.
        ssrc: Ssrc,
    },
    /// The first whole keyframe was sent to a viewer.
    FirstFrame {
        /// To whom.
        viewer: ViewerId,
        /// Since its POST.
        after: Duration,
    },
    /// A new publishing run uses a codec that a viewer did not negotiate: it gets nothing of this kind.
    CodecNotNegotiated {
        /// Who.
        viewer: ViewerId,
        /// Sound or picture.
        kind: Kind,
    },
    /// A viewer's connection carries no picture: it gets sound alone from now on, or its picture has come back.
    SoundOnly {
        /// Who.
        viewer: ViewerId,
        /// Whether it does without a picture.
        is_sound_only: bool,
    },
    /// A viewer was not heard for too long: nothing may be sent to it any more, and nothing is.
    ConsentExpired {
        /// Who.
        viewer: ViewerId,
    },
    /// A viewer said goodbye.
    Bye {
        /// Who.
        viewer: ViewerId,
    },
    /// The broadcast of a viewer is no more.
    BroadcastEnded {
        /// Who.
        viewer: ViewerId,
    },
}

/// Why a viewer was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// Its id is taken.
    #[error("a viewer with this id is there already")]
    Exists,
    /// A header extension has an id that its one-byte form has no room for (RFC 8285, section 4.2).
    #[error("{id} is no id of a header extension: 1 to 14 are")]
    ExtensionId {
        /// The id.
        id: u8,
    },
    /// Its keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// The viewers of one thread.
///
/// Drive it so: tell it of broadcasts before their packets, [`Shard::gather`] what comes, then [`Shard::fan_out_due`] until
/// nothing is due; [`Shard::handle_rtcp`]; both this and [`Shard::handle_timeout`] when [`Shard::poll_timeout`] says so; and
/// drain [`Shard::poll_event`].
pub struct Shard {
    pub(crate) config: Config,
    pub(crate) fans: Vec<Option<Fan>>,
    pub(crate) fan_by_id: BTreeMap<BroadcastId, usize>,
    pub(crate) fan_by_ssrc: HashMap<Ssrc, usize>,
    pub(crate) viewers: Vec<Option<Viewer>>,
    /// Slots of `viewers` that are empty.
    free: Vec<usize>,
    pub(crate) by_id: HashMap<ViewerId, usize>,
    by_remote: HashMap<SocketAddr, usize>,
    pub(crate) timers: Timers,
    pub(crate) replays: Replays,
    pub(crate) replay_at: Option<Instant>,
    pub(crate) paced: Paced,
    pub(crate) paced_at: Option<Instant>,
    /// When to look at which layers have dried up, if any broadcast has several.
    pub(crate) layers_at: Option<Instant>,
    pub(crate) probes: Budget,
    pub(crate) housekeeping_at: Option<Instant>,
    pub(crate) events: VecDeque<Event>,
    /// Gone, and whoever keeps records does not know yet.
    pub(crate) removed: Vec<ViewerId>,
    pub(crate) wallclock: Option<(Instant, NtpTime)>,
    pub(crate) stats: Stats,
    /// Packets had to wait for the shard, and until then it counts as behind.
    pub(crate) behind_until: Option<Instant>,
    /// Its viewers went on from another process a moment ago, and more than usual may wait for it.
    pub(crate) resumed_until: Option<Instant>,
    pub(crate) overload: Overload,
    pub(crate) train: Train,
    pub(crate) payload: Vec<u8>,
}

impl Shard {
    /// A shard without broadcasts and viewers.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            replays: Replays::new(config.replay_rate),
            config,
            fans: Vec::new(),
            fan_by_id: BTreeMap::new(),
            fan_by_ssrc: HashMap::new(),
            viewers: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            by_remote: HashMap::new(),
            timers: Timers::default(),
            replay_at: None,
            paced: Paced::default(),
            paced_at: None,
            layers_at: None,
            probes: Budget::new(0),
            housekeeping_at: None,
            events: VecDeque::new(),
            removed: Vec::new(),
            wallclock: None,
            stats: Stats::default(),
            behind_until: None,
            resumed_until: None,
            overload: Overload::new(),
            train: Train::default(),
            payload: Vec::new(),
        }
    }

    /// Says what time it is at `now`, for the latency histogram; without it there is none. Repeat it now and then, since
    /// wallclocks are corrected.
    pub const fn set_wallclock(&mut self, now: Instant, wallclock: NtpTime) {
        self.wallclock = Some((now, wallclock));
    }

    /// Takes over what injection announced of a broadcast: its state, a new epoch, its tracks. Comes before the first
    /// packet of a new SSRC. Viewers go on with their own sequence numbers and timestamps.
    pub fn broadcast_changed(&mut self, now: Instant, broadcast: &Broadcast) {
        let index = self.fan_index(&broadcast.id);
        let Some(fan) = self.fans.get_mut(index).and_then(Option::as_mut) else { return };
        for slot in &fan.viewers {
            let Some(viewer) = self.viewers.get_mut(*slot).and_then(Option::as_mut) else { continue };
            for track in [&mut viewer.audio, &mut viewer.video].into_iter().flatten() {
                if let Some(stream) = track.source.and_then(|source| fan.stream(source.ssrc)) {
                    track.anchor(stream);
                }
            }
        }
        for stream in &fan.streams {
            self.fan_by_ssrc.remove(&stream.ssrc);
        }
        fan.change(now, broadcast, self.config.ring);
        if fan.has_choice() {
            self.layers_at.get_or_insert(now);
        }
        self.fan_by_ssrc.extend(fan.streams.iter().map(|stream| (stream.ssrc, index)));
        for slot in fan.viewers.clone() {
            self.follow(now, slot);
        }
        self.housekeeping_at.get_or_insert(now);
    }

    /// Forgets a broadcast and all its media. Its viewers are told of by [`Event::BroadcastEnded`] and stay until they
    /// are removed, or it comes back.
    pub fn broadcast_removed(&mut self, now: Instant, id: &BroadcastId) {
        let Some(&index) = self.fan_by_id.get(id) else { return };
        self.broadcast_changed(now, &Broadcast::waiting(id.clone()));
        let Some(fan) = self.fans.get_mut(index).and_then(Option::as_mut) else { return };
        fan.is_known = false;
        let viewers = fan.viewers.iter().filter_map(|slot| self.viewers.get(*slot)?.as_ref());
        self.events.extend(viewers.map(|viewer| Event::BroadcastEnded { viewer: viewer.id }));
        self.forget_unused(index);
    }

    /// Begins to serve a viewer. Sound starts with the next packet, picture with a cached keyframe at the next
    /// [`Shard::handle_timeout`], which is due at once. The broadcast need not be known yet.
    ///
    /// # Errors
    /// [`AddError`] if its id is taken or its keys are of no use.
    pub fn add_viewer(
        &mut self,
        now: Instant,
        broadcast: &BroadcastId,
        setup: ViewerSetup,
    ) -> Result<(), AddError> {
        self.check(setup.id, setup.audio.iter().chain(&setup.video))?;
        let fan = self.fan_index(broadcast);
        let viewer = Viewer::new(now, broadcast.clone(), fan, setup);
        self.insert(now, fan, viewer)
    }

    /// Stops serving a viewer.
    pub fn remove_viewer(&mut self, now: Instant, viewer: ViewerId) {
        let Some(slot) = self.by_id.remove(&viewer) else { return };
        let Some(viewer) = self.viewers.get_mut(slot).and_then(Option::take) else { return };
        self.free.push(slot);
        if self.by_remote.get(&viewer.path.remote) == Some(&slot) {
            self.by_remote.remove(&viewer.path.remote);
        }
        self.timers.remove(viewer.wake_at, slot);
        self.replays.remove(slot);
        self.paced.remove(slot);
        if let Some(fan) = self.fans.get_mut(viewer.fan).and_then(Option::as_mut)
            && let Some(place) = fan.viewers.iter().position(|watching| *watching == slot)
        {
            fan.viewers.swap_remove(place);
        }
        self.forget_unused(viewer.fan);
        self.stats.viewers -= 1;
        self.removed.push(viewer.id);
        self.housekeeping_at = Some(now);
    }

    /// A viewer has proved another path and chosen it.
    pub fn move_viewer(&mut self, now: Instant, viewer: ViewerId, path: Path) {
        let Some(&slot) = self.by_id.get(&viewer) else { return };
        let Some(viewer) = self.viewers.get_mut(slot).and_then(Option::as_mut) else { return };
        if self.by_remote.get(&viewer.path.remote) == Some(&slot) {
            self.by_remote.remove(&viewer.path.remote);
        }
        self.by_remote.insert(path.remote, slot);
        viewer.path = path;
        viewer.is_dirty = true;
        viewer.heard(now);
        self.wake(now, slot);
    }

    /// What the shell keeps beside a viewer's record has changed: the record is to be written again.
    pub fn record_again(&mut self, now: Instant, viewer: ViewerId) {
        let Some(&slot) = self.by_id.get(&viewer) else { return };
        if let Some(viewer) = self.viewers.get_mut(slot).and_then(Option::as_mut) {
            viewer.is_dirty = true;
            self.wake(now, slot);
        }
    }

    /// A viewer has proved its consent by an authenticated STUN request; SRTCP counts by itself.
    pub fn heard(&mut self, now: Instant, viewer: ViewerId) {
        let slot = self.by_id.get(&viewer).copied();
        if let Some(viewer) = slot.and_then(|slot| self.viewers.get_mut(slot)?.as_mut()) {
            viewer.heard(now);
        }
    }

    /// Who is at this address; the newest, where an address is used again.
    #[must_use]
    pub fn viewer_by_remote(&self, remote: SocketAddr) -> Option<ViewerId> {
        let slot = *self.by_remote.get(&remote)?;
        Some(self.viewers.get(slot)?.as_ref()?.id)
    }

    /// The record of a viewer as it is now.
    #[must_use]
    pub fn record(&self, viewer: ViewerId) -> Option<ViewerRecord> {
        self.viewer(viewer).map(Viewer::record)
    }

    /// What happened; call until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Counters; how many viewers wait or catch up was counted within the last second.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    pub(crate) fn viewer(&self, viewer: ViewerId) -> Option<&Viewer> {
        self.viewers.get(*self.by_id.get(&viewer)?)?.as_ref()
    }

    pub(crate) fn check<'a>(
        &self,
        id: ViewerId,
        mut tracks: impl Iterator<Item = &'a OutTrack>,
    ) -> Result<(), AddError> {
        if self.by_id.contains_key(&id) {
            return Err(AddError::Exists);
        }
        let id = tracks.find_map(|track| track.extensions.ids().find(|id| !(1..=14).contains(id)));
        id.map_or(Ok(()), |id| Err(AddError::ExtensionId { id }))
    }

    pub(crate) fn insert(
        &mut self,
        now: Instant,
        fan: usize,
        viewer: Result<Viewer, KeyError>,
    ) -> Result<(), AddError> {
        let mut viewer = viewer.inspect_err(|_| self.forget_unused(fan))?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.viewers.push(None);
            self.viewers.len() - 1
        });
        // Spread evenly (by the golden ratio) over the interval, however many come at once.
        let share = (slot as u32).wrapping_mul(0x9e37_79b9);
        viewer.report_at = now + self.config.report_interval.mul_f64(f64::from(share) / f64::from(u32::MAX));
        self.by_id.insert(viewer.id, slot);
        self.by_remote.insert(viewer.path.remote, slot);
        if let Some(fan) = self.fans.get_mut(viewer.fan).and_then(Option::as_mut) {
            fan.viewers.push(slot);
        }
        self.timers.insert(viewer.wake_at, slot);
        self.viewers[slot] = Some(viewer);
        self.stats.viewers += 1;
        self.follow(now, slot);
        Ok(())
    }

    /// Lets a viewer's tracks follow what its broadcast has now.
    fn follow(&mut self, now: Instant, slot: usize) {
        let Some(viewer) = self.viewers.get_mut(slot).and_then(Option::as_mut) else { return };
        let Some(fan) = self.fans.get(viewer.fan).and_then(Option::as_ref) else { return };
        let mut is_moved = false;
        for kind in [Kind::Audio, Kind::Video] {
            let id = viewer.id;
            let Some(track) = viewer.track_mut(kind) else { continue };
            let followed = track.source.map(|source| source.ssrc);
            let followed = followed.or(track.mapping.current().map(|current| current.source));
            let is_part = track.mapping.current().is_some_and(|current| current.part.is_some());
            let layer = fan.layer(kind, followed, (track.layer, is_part));
            is_moved |= std::mem::replace(&mut track.layer, layer) != layer;
            let source = fan.source(kind, layer, &track.out);
            let is_refused = source == Err(NotNegotiated);
            if is_refused && !track.is_refused {
                self.events.push_back(Event::CodecNotNegotiated { viewer: id, kind });
            }
            track.is_refused = is_refused;
            track.follow(source.unwrap_or(None));
        }
        viewer.is_dirty |= is_moved;
        if let Viewer { video: Some(track), layering: Some(layering), .. } = viewer {
            layering.controller.renumbered(track.layer);
        }
        self.wake(now, slot);
    }

    /// The slot of a broadcast, which need not be known yet.
    pub(crate) fn fan_index(&mut self, id: &BroadcastId) -> usize {
        if let Some(index) = self.fan_by_id.get(id) {
            return *index;
        }
        let index = match self.fans.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.fans.push(None);
                self.fans.len() - 1
            }
        };
        self.fans[index] = Some(Fan::new(id));
        self.fan_by_id.insert(id.clone(), index);
        index
    }

    /// Forgets a broadcast that is not known and has no viewers.
    fn forget_unused(&mut self, index: usize) {
        let Some(slot) = self.fans.get_mut(index) else { return };
        if let Some(fan) = slot.take_if(|fan| !fan.is_known && fan.viewers.is_empty()) {
            self.fan_by_id.remove(&fan.broadcast.id);
        }
    }
}
