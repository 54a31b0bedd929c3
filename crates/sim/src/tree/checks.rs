//! What must hold of a whole tree.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use egress::{DropReason as EgressDrop, SEGMENTS_MAX, Shard};
use link::exchange::{DropReason, JOIN_AGE_MAX};
use link::wire::media::{GenerationLabel, Header};
use link::wire::message::{Message, TRACKS_MAX};
use model::{BroadcastId, Kind, SeqNo, Ssrc};

use super::Tree;
use crate::network::NodeIndex;
use crate::node::LINGER;
use crate::trace;
use crate::viewer::{Presence, Viewer};
use crate::violation::Violation;

/// What nobody does here, so that it would be a mistake of a core.
const NEVER: [DropReason; 6] = [
    DropReason::Malformed,
    DropReason::Version,
    DropReason::Forged,
    DropReason::Unsealable,
    DropReason::BroadcastLimit,
    DropReason::StreamLimit,
];
/// The same for egress.
const NEVER_AT_EGRESS: [EgressDrop; 2] = [EgressDrop::RtcpAuthentication, EgressDrop::RtcpMalformed];
/// What was asked for again, and not sent.
const UNANSWERED: [EgressDrop; 4] =
    [EgressDrop::NackUnknown, EgressDrop::NackBudget, EgressDrop::NackOutdated, EgressDrop::NackEarly];
/// After its last viewer a broadcast may flow this long: goodbye lost, lingering, a Leave that a partition held back.
const SILENCE_AFTER: Duration = LINGER
    .saturating_add(Tree::LEAVE_MAX)
    .saturating_add(JOIN_AGE_MAX)
    .saturating_add(Duration::from_secs(2));
/// How old the newest picture and sound of a live viewer may be.
const FRESH: Duration = Duration::from_millis(600);

/// A gap that is older than this has been given up by now.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(1500);

/// A jump over more numbers than this is a new start, see [`media_core::gap::Config::outstanding_max`].
const GAP_MAX: usize = 1024;

/// What was seen of links so far.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// What stands under each nonce of the group keys.
    wires: BTreeMap<(GenerationWord, Ssrc), BTreeMap<SeqNo, u64>>,
    /// When each node last passed on a wish for a keyframe of a stream, and how often in all.
    keyframe_requests: BTreeMap<(NodeIndex, Ssrc), (Instant, u64)>,
    /// Since when a broadcast has no viewer at all.
    idle: BTreeMap<BroadcastId, Instant>,
    media_sent: BTreeMap<BroadcastId, Instant>,
}

/// The label of a key generation, ordered.
type GenerationWord = u32;

fn word(header: &Header, wire: &[u8]) -> GenerationWord {
    // Where the label stands, see `link::wire::media`; the label itself has no order.
    let bytes = wire.get(20..24).and_then(|bytes| bytes.try_into().ok());
    let _: GenerationLabel = header.generation;
    bytes.map_or(0, u32::from_be_bytes)
}

impl Tree {
    /// No nonce of a group key serves two contents.
    pub(super) fn watch_wire(&mut self, from: NodeIndex, wire: &[u8]) {
        let Ok(header) = Header::parse(wire) else {
            return self.fail(format!("{from:?} sends media that is none"));
        };
        let sent = self.watched.wires.entry((word(&header, wire), header.ssrc)).or_default();
        let fingerprint = trace::tag(wire);
        if *sent.entry(header.seq_no).or_insert(fingerprint) != fingerprint {
            self.fail(format!("{from:?}: {} {:?} is sealed twice", header.ssrc, header.seq_no));
        }
        if let Some(stream) = self.published.stream(header.ssrc) {
            self.watched.media_sent.insert(stream.broadcast.clone(), self.clock.now());
        }
    }

    pub(super) fn watch_message(&mut self, from: NodeIndex, message: &Message) {
        if let Message::KeyframeRequest(ssrc) = message {
            self.watch_keyframe_request(from, *ssrc, false);
        }
    }

    /// However many ask, a node passes on at most one wish per stream and interval.
    pub(super) fn watch_keyframe_request(&mut self, node: NodeIndex, ssrc: Ssrc, is_to_publisher: bool) {
        let now = self.clock.now();
        let interval = media_core::keyframe_request::INTERVAL;
        let run = self.nodes[node.0].run;
        let count = self.watched.keyframe_requests.get(&(node, ssrc)).map_or(0, |(_, count)| *count) + 1;
        let before = self.watched.keyframe_requests.insert((node, ssrc), (now, count));
        let gap = before.map(|(before, _)| now.saturating_duration_since(before));
        // A process that has just started does not know what the one before it asked.
        if run == 1 && gap.is_some_and(|gap| gap < interval) {
            let whom = if is_to_publisher { "the publisher" } else { "its parent" };
            self.fail(format!("{node:?} asks {whom} twice within {gap:?} for a keyframe of {ssrc}"));
        }
    }

    /// How often publishers were asked for a keyframe, of all streams.
    #[must_use]
    pub fn keyframe_requests(&self, node: NodeIndex) -> u64 {
        let requests = self.watched.keyframe_requests.iter().filter(|((from, _), _)| *from == node);
        requests.map(|(_, (_, count))| count).sum()
    }

    /// Checks everything that must hold at any moment.
    ///
    /// # Errors
    /// The first [`Violation`] of all time.
    pub fn check(&mut self) -> Result<(), Violation> {
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_alive {
                let index = NodeIndex(index);
                let result = self.check_exchange(index).and_then(|()| self.check_shard(index));
                self.expect(|| format!("{index:?}"), result);
            }
        }
        let result = self.check_idle();
        self.expect(|| "an idle tree".into(), result);
        self.violation.clone().map_or(Ok(()), Err)
    }

    fn check_exchange(&self, index: NodeIndex) -> Result<(), String> {
        let node = &self.nodes[index.0];
        let stats = node.exchange.stats();
        for reason in NEVER {
            let count = stats.drops.get(reason);
            if count > 0 {
                return Err(format!("has dropped {count} for {}", reason.as_str()));
            }
        }
        let limits = node.setup.ring;
        for (id, broadcast) in &stats.broadcasts {
            for stream in [&broadcast.audio, &broadcast.video] {
                let is_bounded = stream.ring_packets <= limits.span_max * TRACKS_MAX
                    && stream.ring_bytes <= (limits.bytes_max + (64 << 10)) * TRACKS_MAX;
                if !is_bounded {
                    return Err(format!("the rings of {id} hold {} packets", stream.ring_packets));
                }
            }
            if broadcast.parents > node.setup.parents_active {
                return Err(format!("{id} comes from {} parents", broadcast.parents));
            }
        }
        let parents = self.parents(index).count();
        if stats.parents.len() != parents {
            return Err(format!("knows {} parents of {parents}", stats.parents.len()));
        }
        if stats.children.len() > 2 * self.nodes.len() {
            return Err(format!("has {} children", stats.children.len()));
        }
        Ok(())
    }

    fn check_shard(&self, index: NodeIndex) -> Result<(), String> {
        let node = &self.nodes[index.0];
        let Some(shard) = &node.shard else { return Ok(()) };
        let stats = shard.stats();
        for reason in NEVER_AT_EGRESS {
            let count = stats.drops(reason);
            if count > 0 {
                return Err(format!("its shard has dropped {count} for {}", reason.as_str()));
            }
        }
        let served: usize = node.audience.values().map(|(count, _)| count).sum();
        if stats.viewers != served as u64 {
            return Err(format!("serves {} viewers, should be {served}", stats.viewers));
        }
        let unanswered: u64 = UNANSWERED.iter().map(|reason| stats.drops(*reason)).sum();
        if stats.nacked != stats.rtx.packets + unanswered {
            return Err(format!(
                "{} numbers were asked for again, {} sent, {unanswered} dropped",
                stats.nacked, stats.rtx.packets
            ));
        }
        self.viewers
            .values()
            .filter(|viewer| viewer.node == index)
            .try_for_each(|viewer| check_record(shard, viewer))
    }

    /// A broadcast without any viewer flows nowhere, after a while.
    fn check_idle(&mut self) -> Result<(), String> {
        let now = self.clock.now();
        let broadcasts: Vec<_> = self.programmes.keys().cloned().collect();
        for id in broadcasts {
            let mut viewers = self.viewers.values();
            let has_viewers =
                viewers.any(|viewer| viewer.broadcast == id && viewer.presence == Presence::Watching);
            // A process that is down or cut off may not know.
            let is_whole = self.nodes.iter().all(|node| node.is_alive) && self.network.cuts().is_empty();
            if has_viewers || !is_whole {
                self.watched.idle.remove(&id);
                continue;
            }
            let since = *self.watched.idle.entry(id.clone()).or_insert(now);
            if now < since + SILENCE_AFTER {
                continue;
            }
            for node in &self.nodes {
                let stats = node.exchange.stats();
                let joins = stats.broadcasts.get(&id).map_or(0, |stats| stats.parents + stats.destinations);
                if joins > 0 {
                    return Err(format!("{:?} still has {joins} joins of {id}", node.index));
                }
            }
            if self.watched.media_sent.get(&id).is_some_and(|sent| *sent > since + SILENCE_AFTER) {
                return Err(format!("{id} still flows"));
            }
        }
        Ok(())
    }

    /// Whether every viewer that can sees and hears what is published now.
    ///
    /// # Errors
    /// The first who does not.
    pub fn check_everybody_is_live(&self) -> Result<(), Violation> {
        let stale = self.viewers.values().find_map(|viewer| self.staleness(viewer));
        stale.map_or(Ok(()), |what| Err(Violation { at: self.clock.elapsed(), what }))
    }

    fn staleness(&self, viewer: &Viewer) -> Option<String> {
        let is_on = self.published_for(&viewer.broadcast)? > FRESH;
        if viewer.presence != Presence::Watching || !is_on {
            return None;
        }
        let now = self.clock.wallclock(self.clock.now());
        let broadcast = self.broadcast(&viewer.broadcast)?;
        [Kind::Audio, Kind::Video].into_iter().find_map(|kind| {
            broadcast.track(kind).filter(|track| viewer.decodes(track.codec))?;
            let age = viewer.newest_played(kind).map(|captured| now.saturating_since(captured));
            let is_fresh = age.is_some_and(|age| age <= FRESH);
            (!is_fresh).then(|| {
                let (id, node) = (viewer.id, viewer.node);
                format!("{id:?} at {node:?}: newest {kind} is {age:?} old")
            })
        })
    }

    /// Runs until everybody is live.
    ///
    /// # Errors
    /// The first [`Violation`], or who is not live within `most`.
    pub fn run_until_everybody_is_live(&mut self, most: Duration) -> Result<Duration, Violation> {
        const STEP: Duration = Duration::from_millis(100);
        let start = self.clock.now();
        loop {
            let stale = self.check_everybody_is_live();
            let waited = self.clock.now().saturating_duration_since(start);
            match stale {
                Ok(()) => return Ok(waited),
                Err(stale) if waited >= most => return Err(stale),
                Err(_) => self.run(STEP)?,
            }
        }
    }

    /// Checks what can be told only when nothing is on its way any more: call it a while after [`Tree::heal`].
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn check_to_the_end(&mut self) -> Result<(), Violation> {
        self.check()?;
        let at = self.clock.elapsed();
        // What is repaired after a viewer has left is sent to it no more.
        let watching = self.viewers.values().filter(|viewer| viewer.presence == Presence::Watching);
        for viewer in watching {
            let node = &self.nodes[viewer.node.0];
            let came = |ssrc: Ssrc, seq_no: SeqNo| {
                let index = self.published.stream(ssrc).and_then(|stream| stream.index(seq_no));
                index.zip(node.came.get(&ssrc)).is_some_and(|(index, came)| came.has(index))
            };
            for kind in [Kind::Audio, Kind::Video] {
                if let Err(what) = viewer.tap.check_gaps(kind, came) {
                    return Err(Violation {
                        at,
                        what: format!("{:?} to {:?}: {what}", viewer.node, viewer.id),
                    });
                }
            }
        }
        for node in self.nodes.iter().filter(|node| node.is_alive) {
            if let Err(what) = self.check_losses(node.index) {
                return Err(Violation { at, what: format!("{:?}: {what}", node.index) });
            }
        }
        Ok(())
    }

    /// How many numbers of a stream never came to a node, of those so old that it must have given them up.
    fn old_gaps(&self, node: NodeIndex, ssrc: Ssrc) -> usize {
        let came = self.nodes[node.0].came.get(&ssrc);
        let Some((came, stream)) = came.zip(self.published.stream(ssrc)) else { return 0 };
        let now = self.clock.wallclock(self.clock.now());
        let is_old = |index: &usize| {
            let next = (*index..stream.len()).find_map(|index| stream.at(index));
            next.is_some_and(|packet| now.saturating_since(packet.capture_time) > GIVEN_UP_AFTER)
        };
        let missing: Vec<_> = came.missing().collect();
        let gaps = missing.chunk_by(|before, after| before + 1 == *after);
        gaps.filter(|gap| gap.len() <= GAP_MAX).flatten().filter(|index| is_old(index)).count()
    }

    /// What never came to a shard must have been counted as lost.
    fn check_losses(&self, index: NodeIndex) -> Result<(), String> {
        let node = &self.nodes[index.0];
        let stats = node.exchange.stats();
        for (id, counted) in &stats.broadcasts {
            let Some(broadcast) = self.broadcast(id) else { continue };
            for track in &broadcast.tracks {
                let counted = match track.kind() {
                    Kind::Audio => counted.audio,
                    Kind::Video => counted.video,
                };
                let missing: usize = track.layers.iter().map(|layer| self.old_gaps(index, layer.ssrc)).sum();
                let is_local = self.programmes.get(id).is_some_and(|programme| programme.node == index);
                if !is_local && missing as u64 > counted.lost {
                    return Err(format!(
                        "{missing} of {} of {id} are missing, {} lost",
                        track.kind(),
                        counted.lost
                    ));
                }
            }
        }
        Ok(())
    }
}

fn check_record(shard: &Shard, viewer: &Viewer) -> Result<(), String> {
    let Some(record) = shard.record(viewer.id) else { return Ok(()) };
    let tracks = [record.audio, record.video];
    match tracks.iter().flatten().find(|track| track.segments.len() > SEGMENTS_MAX) {
        Some(track) => Err(format!("{:?} has {} segments", viewer.id, track.segments.len())),
        None => Ok(()),
    }
}
