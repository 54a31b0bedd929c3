//! A broadcast that this node knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use model::{Broadcast, JoinName, Kind, Ssrc};

use super::cues::Cues;
use super::stats::StreamStats;
use super::{ParentId, PeerId};
use crate::wire::Keyring;
use crate::wire::message::{Held, STREAMS_MAX};

/// SSRCs of earlier publishing runs that are remembered, so that late packets are told from foreign ones.
const RETIRED_SSRCS_MAX: usize = 2 * STREAMS_MAX;

#[derive(Debug)]
pub(super) struct Carried {
    pub(super) broadcast: Broadcast,
    /// Published at this node.
    pub(super) is_local: bool,
    pub(super) keyring: Keyring,
    /// When the present publishing run was first heard of.
    pub(super) epoch_since: Instant,
    /// Since when no parent offers it; never set for a local one.
    pub(super) orphaned: Option<Instant>,
    /// The parents that it is asked from.
    pub(super) upstream: BTreeSet<ParentId>,
    /// The children that asked for it.
    pub(super) joins: BTreeMap<PeerId, ChildJoin>,
    /// Its captions and other timed data.
    pub(super) cues: Cues,
    retired_ssrcs: VecDeque<Ssrc>,
    /// Counters of streams that are gone.
    past: [StreamStats; 2],
}

/// A child's join: soft state.
#[derive(Debug)]
pub(super) struct ChildJoin {
    pub(super) since: Instant,
    pub(super) refreshed: Instant,
    /// The JoinAnswer has been sent; it waits until there is a key.
    pub(super) is_answered: bool,
    /// What the child holds, until it is answered.
    pub(super) resume: Vec<Held>,
    /// What whoever made the child join is called.
    pub(super) cause: Option<JoinName>,
    /// Streams that the child does not need.
    pub(super) without: Vec<Ssrc>,
}

impl Carried {
    pub(super) fn new(now: Instant, broadcast: Broadcast) -> Self {
        Self {
            broadcast,
            is_local: false,
            keyring: Keyring::default(),
            epoch_since: now,
            orphaned: None,
            upstream: BTreeSet::new(),
            joins: BTreeMap::new(),
            cues: Cues::default(),
            retired_ssrcs: VecDeque::new(),
            past: [StreamStats::default(); 2],
        }
    }

    /// The streams of the present publishing run.
    pub(super) fn ssrcs(&self) -> impl Iterator<Item = (Ssrc, Kind)> + '_ {
        let tracks = self.broadcast.tracks.iter();
        tracks.flat_map(|track| track.layers.iter().map(|layer| (layer.ssrc, track.kind())))
    }

    /// The RTP streams of a picture that has several.
    pub(super) fn layers(&self) -> impl Iterator<Item = Ssrc> + '_ {
        let pictures = self.broadcast.tracks.iter().filter(|track| track.kind() == Kind::Video);
        let layered = pictures.filter(|track| track.layers.len() > 1);
        layered.flat_map(|track| track.layers.iter().map(|layer| layer.ssrc))
    }

    /// A stream of it has ended.
    pub(super) fn retire_stream(&mut self, ssrc: Ssrc, kind: Kind, stats: &StreamStats) {
        if self.retired_ssrcs.len() == RETIRED_SSRCS_MAX {
            self.retired_ssrcs.pop_front();
        }
        self.retired_ssrcs.push_back(ssrc);
        self.past[kind as usize].add(stats);
    }

    pub(super) fn is_retired(&self, ssrc: Ssrc) -> bool {
        self.retired_ssrcs.contains(&ssrc)
    }

    pub(super) const fn past(&self, kind: Kind) -> &StreamStats {
        &self.past[kind as usize]
    }
}
