//! Who is alive, judged by the observer's own clock from one thing only: whether a node's record still changes.
//!
//! No clock of another machine counts, and no store's lease either: an observer that was itself cut off, frozen or just
//! started knows nothing, so it waits ([`SETTLE`]) before it calls anybody dead. While the store is away everything
//! stays as it was.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::NodeId;

use crate::{Health, Incarnation, Version};

/// A record that has not changed for so long belongs to a dead node. Nodes write each second: two may be lost.
pub const DEAD_AFTER: Duration = Duration::from_secs(3);

/// A record that has not changed for so long: one write is missing.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(2);

/// After the observer's own start, after the store's return and after a stall of the observer itself, nothing is
/// decided for so long.
pub const SETTLE: Duration = Duration::from_secs(3);

/// A longer pause between two calls of [`Membership::tick`] says that the observer itself stood still. The shell ticks
/// each second.
pub const STALL: Duration = Duration::from_millis(2500);

/// So many dead nodes are remembered, so that their ids are not taken again; the longest dead go first.
pub const DEAD_MAX: usize = 10_000;

/// How a record came to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It was written just now: a watch delivered it.
    Written,
    /// It was found lying there, in a snapshot: the first sight of it is no sign of life yet.
    Found,
}

/// What counts of a node's record here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Of the record; any change is a sign of life.
    pub version: Version,
    /// Of the process that wrote it.
    pub incarnation: Incarnation,
    /// The node says that it takes nobody new.
    pub is_draining: bool,
}

/// Why a record is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeenError {
    /// Another process has, or had, this id: ids are unique for ever.
    #[error("node {node} was seen in a later run (start {} after start {})", .known.counter, .claimed.counter)]
    Superseded {
        /// The id that both use.
        node: NodeId,
        /// The latest run seen.
        known: Incarnation,
        /// The run of the refused record.
        claimed: Incarnation,
    },
}

#[derive(Debug, Clone)]
struct Member {
    record: Record,
    /// When its record last changed, or the store came back.
    heard: Instant,
    /// Its record has changed before our eyes at least once.
    is_proved: bool,
    /// Decided; only a new sign of life undoes it.
    is_dead: bool,
}

/// All nodes that were ever seen, and what is believed of them.
#[derive(Debug, Clone)]
pub struct Membership {
    members: BTreeMap<NodeId, Member>,
    /// Nothing is judged before; `None` while the store is away.
    settled_at: Option<Instant>,
    last_tick: Instant,
}

impl Membership {
    /// Knows nobody, with the store up.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { members: BTreeMap::new(), settled_at: Some(now + SETTLE), last_tick: now }
    }

    /// The store does not answer: everything stays as it is.
    pub fn store_lost(&mut self, now: Instant) {
        self.tick(now);
        self.settled_at = None;
    }

    /// The store answers again. Everybody alive is given time to be heard.
    pub fn store_returned(&mut self, now: Instant) {
        if self.settled_at.is_none() {
            self.last_tick = now;
            self.grant(now);
        }
    }

    /// To be called each second: judges who has been silent for too long.
    pub fn tick(&mut self, now: Instant) {
        if self.settled_at.is_some() {
            if now.saturating_duration_since(self.last_tick) > STALL {
                // The observer stood still: what it missed says nothing of the nodes.
                self.grant(now);
            }
            self.bury(now);
        }
        self.last_tick = now;
    }

    /// When the next one will be dead if nothing is heard of it; [`Membership::tick`] then finds it so.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.settled_at?;
        self.members.values().filter(|member| !member.is_dead).map(|member| member.heard + DEAD_AFTER).min()
    }

    /// Gives everybody alive [`DEAD_AFTER`] from now, and decisions [`SETTLE`].
    fn grant(&mut self, now: Instant) {
        self.settled_at = Some(now + SETTLE);
        for member in self.members.values_mut().filter(|member| !member.is_dead) {
            member.heard = now;
        }
    }

    fn bury(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            member.is_dead |= now.saturating_duration_since(member.heard) >= DEAD_AFTER;
        }
        let dead = self.members.values().filter(|member| member.is_dead).count();
        for _ in DEAD_MAX..dead {
            let dead = self.members.iter().filter(|(_, member)| member.is_dead);
            let Some(oldest) = dead.min_by_key(|(_, member)| member.heard).map(|(id, _)| id.clone()) else {
                return;
            };
            self.members.remove(&oldest);
        }
    }

    /// A record of a node was seen.
    ///
    /// # Errors
    /// [`SeenError::Superseded`] if a later run of this id was seen before and is not dead; such a record counts for nothing.
    /// Runs are counted by their machines' clocks, and a clock may be set back between two of them.
    pub fn seen(
        &mut self,
        now: Instant,
        node: &NodeId,
        (sight, record): (Sight, Record),
    ) -> Result<(), SeenError> {
        let Some(member) = self.members.get_mut(node) else {
            let is_proved = sight == Sight::Written;
            self.members.insert(node.clone(), Member { record, heard: now, is_proved, is_dead: false });
            return Ok(());
        };
        let (known, claimed) = (member.record.incarnation, record.incarnation);
        let is_alone = member.is_dead && sight == Sight::Written;
        if claimed < known && !is_alone {
            return Err(SeenError::Superseded { node: node.clone(), known, claimed });
        }
        if member.record.version != record.version {
            *member = Member { record, heard: now, is_proved: true, is_dead: false };
        }
        Ok(())
    }

    /// The record of a node is gone. A node that was draining has left; of another one nothing is known yet, the store
    /// may have lost its memory.
    pub fn gone(&mut self, node: &NodeId) {
        if let Some(member) = self.members.get_mut(node) {
            member.is_dead |= member.record.is_draining;
        }
    }

    /// What is believed of a node; `None` if it was never seen.
    #[must_use]
    pub fn health(&self, now: Instant, node: &NodeId) -> Option<Health> {
        self.members.get(node).map(|member| self.judge(now, member))
    }

    /// Everybody ever seen, by id.
    pub fn nodes(&self, now: Instant) -> impl Iterator<Item = (&NodeId, Health)> {
        self.members.iter().map(move |(id, member)| (id, self.judge(now, member)))
    }

    fn judge(&self, now: Instant, member: &Member) -> Health {
        let is_frozen = self.settled_at.is_none();
        let silence = now.saturating_duration_since(member.heard);
        if member.is_dead {
            Health::Dead
        } else if member.record.is_draining {
            Health::Draining
        } else if !member.is_proved || (!is_frozen && silence >= SUSPECT_AFTER) {
            Health::Suspect
        } else {
            Health::Ready
        }
    }

    /// The view is complete enough to decide on: not before [`SETTLE`] has passed, not while the store is away.
    #[must_use]
    pub fn is_settled(&self, now: Instant) -> bool {
        self.settled_at.is_some_and(|at| now >= at)
    }
}
