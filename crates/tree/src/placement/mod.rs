//! Where a viewer or a publisher goes: here, to another node by redirect, or nowhere, with the reason.
//!
//! Everybody who answers HTTP places for itself, from the nodes' latest reports and from what it has sent where since:
//! each answer reserves a place, and the part of the network that the viewer may take, until the node's report includes it
//! or [`RESERVATION`] has passed. Of two nodes drawn at random the less used one is taken, so that many front doors with the
//! same stale reports do not all send to the same node. A node whose load is not known is never taken for idle: it gets nobody.

mod directory;
mod publishers;
mod reservations;
mod usage;
mod viewers;

use std::fmt;
use std::time::{Duration, Instant};

use model::{BroadcastId, NodeId, TreeId};

use crate::{Observation, Rate};
use directory::Directory;
use reservations::{Kind, Reservations};

/// How long a place is kept for somebody who was sent to it and does not show in the node's report.
pub const RESERVATION: Duration = Duration::from_secs(5);

/// The node that was asked is preferred if it is not more used than another one by this: a redirect costs a round trip.
const HERE_PERMILLE: u64 = 10;

/// Draws of which two shall be possible; after so many the whole list is looked at.
const DRAWS: usize = 8;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The tree of the broadcast.
    pub tree: &'a TreeId,
    /// What is to be watched or published.
    pub broadcast: &'a BroadcastId,
    /// Where the asker is, as far as is known: the region of the node that it reached.
    pub region: Option<&'a str>,
    /// The node that was asked; `None` for a controller.
    pub here: Option<&'a NodeId>,
    /// A node that does not answer the asker, who knows that sooner than a controller can. It comes last.
    pub lost: Option<&'a NodeId>,
}

/// Where the asker goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The node that was asked takes it.
    Here,
    /// Another node takes it: 307.
    Redirect(NodeId),
    /// Nobody takes it: 503.
    Nowhere(Nowhere),
}

/// Why nobody takes the asker: the reason nearest to success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nowhere {
    /// The tree has no node of this kind.
    NoNode,
    /// All such nodes are dead, silent or draining.
    NotReady,
    /// Nodes are there, but media does not get to them from where the broadcast is published.
    OutOfReach,
    /// Nodes are ready, but do not say how loaded they are.
    LoadUnknown,
    /// All nodes that are ready are full.
    Full,
    /// What their networks carry is promised, of all that are ready and have places.
    NetworkFull,
}

impl fmt::Display for Nowhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNode => "the tree has no such node",
            Self::NotReady => "no node is ready",
            Self::OutOfReach => "no node is linked to where the broadcast is published",
            Self::LoadUnknown => "no node says how loaded it is",
            Self::Full => "all nodes are full",
            Self::NetworkFull => "the networks of all nodes are full",
        })
    }
}

/// Where places are, and which are promised.
#[derive(Debug, Default)]
pub struct Placement {
    directory: Directory,
    reservations: Reservations,
}

/// What placement counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Places promised and not yet seen in a report.
    pub reserved: u64,
    /// Promises that no report fulfilled in time.
    pub expired: u64,
}

impl Placement {
    /// Knows no node.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a new view: to be called each second, and when a node comes or goes.
    pub fn update(&mut self, now: Instant, observation: &Observation) {
        self.directory = Directory::new(observation);
        self.reservations.update(now, &observation.nodes);
    }

    /// Chooses among all but the node that is lost to the asker; among all where nobody else takes it.
    fn choose<T>(
        &self,
        request: &Request<'_>,
        mut choose: impl FnMut(&Request<'_>) -> Result<T, Nowhere>,
    ) -> Result<T, Nowhere> {
        match choose(request) {
            Err(_) if request.lost.is_some() => choose(&Request { lost: None, ..*request }),
            chosen => chosen,
        }
    }

    /// Whether this node is lost to the asker.
    fn is_lost(&self, request: &Request<'_>, index: usize) -> bool {
        request.lost == Some(&self.directory.entries[index].id)
    }

    /// Keeps the chosen place, and says where it is.
    fn promise(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        (kind, chosen): (Kind, Result<(usize, Rate), Nowhere>),
    ) -> Answer {
        let (index, rate) = match chosen {
            Ok(chosen) => chosen,
            Err(nowhere) => return Answer::Nowhere(nowhere),
        };
        let id = &self.directory.entries[index].id;
        self.reservations.add(now, id, (kind, rate));
        if request.here == Some(id) { Answer::Here } else { Answer::Redirect(id.clone()) }
    }

    /// Reports stop coming: promises no longer expire, so that a stale report does not draw everybody to one node.
    pub const fn store_lost(&mut self) {
        self.reservations.freeze();
    }

    /// Reports come again.
    pub fn store_returned(&mut self, now: Instant) {
        self.reservations.thaw(now);
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.reservations.stats()
    }
}

/// What was found among nodes: the best, or why none is.
struct Search {
    best: Option<(u64, usize)>,
    nearest: Nowhere,
}

impl Search {
    const fn new() -> Self {
        Self { best: None, nearest: Nowhere::NoNode }
    }

    /// One more node, with how used it is.
    fn consider(&mut self, index: usize, usage: Result<u64, Nowhere>) {
        match usage {
            Ok(usage) if self.best.is_none_or(|best| usage < best.0) => self.best = Some((usage, index)),
            Ok(_) => {}
            Err(nowhere) => self.nearest = self.nearest.max(nowhere),
        }
    }
}

/// The less used of two that are drawn at random, else the least used of all.
fn search(
    pool: &[usize],
    draw: &mut dyn FnMut() -> u64,
    usage: &dyn Fn(usize) -> Result<u64, Nowhere>,
) -> Search {
    let mut search = Search::new();
    let mut first = None;
    if pool.len() > 2 {
        for _ in 0..DRAWS {
            let index = pool[(draw() % pool.len() as u64) as usize];
            let Ok(used) = usage(index) else { continue };
            search.consider(index, Ok(used));
            match first {
                None => first = Some(index),
                Some(other) if other != index => return search,
                Some(_) => {}
            }
        }
    }
    if first.is_none() {
        pool.iter().for_each(|index| search.consider(*index, usage(*index)));
    }
    search
}
