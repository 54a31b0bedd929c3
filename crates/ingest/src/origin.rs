//! Which publishing run a broadcast is in: epochs, grace period, take-over.
//!
//! One [`Origin`] for each broadcast that its injection node knows. It says what to tell the tree and which publisher to
//! close; it never sees media.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::{Broadcast, BroadcastId, BroadcastState, Epoch, Track};

/// A publisher's session, as the shell numbers them. Never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublisherId(pub u64);

/// What a second publisher of a broadcast meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecondPublisher {
    /// It takes over, the one before is closed. An encoder that lost its network comes back before the server knows
    /// that the old session is dead, so this is the default.
    #[default]
    TakesOver,
    /// It is refused while the first one is there.
    Refused,
    /// It stays connected and goes on when the first one goes, or says nothing for [`OriginConfig::silence`]. The first
    /// one, if it is still there, then stands by itself; nobody switches back.
    StandsBy,
}

/// Publishers of one broadcast that stand by at once; more are refused.
pub const STANDBYS_MAX: usize = 3;

/// How one broadcast is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginConfig {
    /// How long a broadcast without publisher is kept; 60 s by default.
    pub grace: Duration,
    /// Declared by the operator: never ends.
    pub is_declared: bool,
    /// What a second publisher meets.
    pub second_publisher: SecondPublisher,
    /// For how long a publisher may send nothing before one that stands by goes on; 2 s by default.
    pub silence: Duration,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(60),
            is_declared: false,
            second_publisher: SecondPublisher::default(),
            silence: Duration::from_secs(2),
        }
    }
}

/// The broadcast has a publisher, and a second one is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broadcast already has a publisher")]
pub struct Refused;

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginOutput {
    /// The broadcast is now this; tell the tree.
    Changed(Broadcast),
    /// Close this publisher: another one has taken its place.
    PublisherReplaced {
        /// The one to close.
        old: PublisherId,
    },
    /// This publisher stood by and goes on now: ask it for a keyframe.
    StandbyGoesOn {
        /// Which.
        publisher: PublisherId,
    },
    /// The grace period is over; forget the broadcast.
    Ended,
}

/// A publisher that stands by.
#[derive(Debug)]
struct Standby {
    publisher: PublisherId,
    tracks: Vec<Track>,
    /// For its run.
    drawn: Epoch,
    heard_at: Option<Instant>,
}

/// State of one broadcast at its injection node.
#[derive(Debug)]
pub struct Origin {
    config: OriginConfig,
    broadcast: Broadcast,
    publisher: Option<PublisherId>,
    /// In the order in which they came.
    standbys: Vec<Standby>,
    /// The run in which another node publishes the broadcast, as far as is known.
    elsewhere: Option<Epoch>,
    /// When the publisher counts as silent, unless it is heard.
    silent_at: Option<Instant>,
    is_silent: bool,
    /// When the broadcast ends, unless a publisher comes.
    ends_at: Option<Instant>,
    outputs: VecDeque<OriginOutput>,
}

impl Origin {
    /// A broadcast that is known and has no publisher yet. One that is not declared ends after the grace period unless
    /// a publisher comes.
    #[must_use]
    pub fn new(id: BroadcastId, config: OriginConfig, now: Instant) -> Self {
        let broadcast = Broadcast::waiting(id);
        let mut origin = Self {
            config,
            broadcast,
            publisher: None,
            standbys: Vec::new(),
            elsewhere: None,
            silent_at: None,
            is_silent: false,
            ends_at: None,
            outputs: VecDeque::new(),
        };
        origin.wait(now);
        origin
    }

    /// A broadcast that an earlier process, or the store, knew in the run `epoch`: the next one counts on from it.
    #[must_use]
    pub fn with_epoch(mut self, epoch: Epoch) -> Self {
        self.broadcast.epoch = Some(epoch);
        self
    }

    /// The broadcast as it is now.
    #[must_use]
    pub const fn broadcast(&self) -> &Broadcast {
        &self.broadcast
    }

    /// The publisher that counts, connected or about to.
    #[must_use]
    pub const fn publisher(&self) -> Option<PublisherId> {
        self.publisher
    }

    /// Whether a new publisher would be taken now; ask before its offer is answered.
    ///
    /// # Errors
    /// [`Refused`] if there is one and the policy keeps it.
    pub fn check(&self) -> Result<(), Refused> {
        let is_refused = match self.config.second_publisher {
            SecondPublisher::TakesOver => false,
            SecondPublisher::Refused => true,
            SecondPublisher::StandsBy => self.standbys.len() >= STANDBYS_MAX,
        };
        if self.has_publisher() && is_refused { Err(Refused) } else { Ok(()) }
    }

    fn has_publisher(&self) -> bool {
        let is_here = self.broadcast.state == BroadcastState::Live && self.publisher.is_some();
        is_here || self.elsewhere.is_some()
    }

    /// Another node publishes the broadcast, in this run, or, with `None`, no other one does any more. Where second
    /// publishers stand by, they do so for a first one elsewhere, too, and go on when that one, or its node, is gone.
    pub fn published_elsewhere(&mut self, run: Option<Epoch>) {
        if self.config.second_publisher != SecondPublisher::StandsBy {
            return;
        }
        let before = std::mem::replace(&mut self.elsewhere, run);
        if self.publisher.is_some() {
            return;
        }
        // The next run here counts on from there.
        self.broadcast.epoch = self.broadcast.epoch.max(run);
        if let (Some(_), None, Some(index)) = (before, run, self.latest_standby()) {
            self.go_on(index);
        }
    }

    /// A publisher's media has begun: a new publishing run, with these tracks. Until this call the one before goes on,
    /// so an offer that never connects disturbs nobody. `drawn` has the epoch's random part and the least counter: the
    /// wallclock, so that runs of a restarted process, or of another node, follow all earlier ones.
    ///
    /// Gives the run that the broadcast is in then: of this publisher, unless it stands by.
    ///
    /// # Errors
    /// [`Refused`] if there is one and the policy keeps it: close the newcomer.
    pub fn publisher_started(
        &mut self,
        publisher: PublisherId,
        tracks: Vec<Track>,
        drawn: Epoch,
    ) -> Result<Epoch, Refused> {
        if let (Some(epoch), Some(standby)) =
            (self.broadcast.epoch, self.standbys.iter_mut().find(|standby| standby.publisher == publisher))
        {
            standby.tracks = tracks;
            return Ok(epoch);
        }
        if self.publisher != Some(publisher) {
            self.check()?;
        }
        if let (SecondPublisher::StandsBy, true, Some(epoch)) =
            (self.config.second_publisher, self.has_publisher(), self.broadcast.epoch)
            && self.publisher != Some(publisher)
        {
            self.standbys.push(Standby { publisher, tracks, drawn, heard_at: None });
            self.ends_at = None;
            return Ok(epoch);
        }
        Ok(self.begin_next(publisher, drawn, tracks))
    }

    /// Media of this publisher came. Gives whether it is the one that counts: the packets of others lead nowhere.
    pub fn heard(&mut self, publisher: PublisherId, now: Instant) -> bool {
        if self.publisher == Some(publisher) {
            self.is_silent = false;
            self.silent_at = Some(now + self.config.silence);
            return true;
        }
        if let Some(standby) = self.standbys.iter_mut().find(|standby| standby.publisher == publisher) {
            standby.heard_at = Some(now);
            if self.is_silent {
                self.replace_silent(now);
            }
        }
        self.publisher == Some(publisher)
    }

    /// A publisher of an earlier process goes on in the same run.
    pub fn publisher_resumed(&mut self, publisher: PublisherId, epoch: Epoch, tracks: Vec<Track>) {
        self.begin(publisher, epoch, tracks);
    }

    /// The publisher's tracks are described anew: its media said more than its offer. Without effect from another
    /// publisher than the current one.
    pub fn tracks_changed(&mut self, publisher: PublisherId, tracks: Vec<Track>) {
        if let Some(standby) = self.standbys.iter_mut().find(|standby| standby.publisher == publisher) {
            standby.tracks = tracks;
            return;
        }
        let is_current = self.publisher == Some(publisher) && self.broadcast.state == BroadcastState::Live;
        if is_current && self.broadcast.tracks != tracks {
            self.broadcast.tracks = tracks;
            self.announce();
        }
    }

    /// The publisher is gone. Without effect from another one than the current: it has been replaced.
    ///
    /// The tracks stay in the description, so that viewers keep their sessions and new ones can be answered.
    pub fn publisher_gone(&mut self, publisher: PublisherId, now: Instant) {
        self.standbys.retain(|standby| standby.publisher != publisher);
        if self.publisher != Some(publisher) {
            if self.publisher.is_none() && self.standbys.is_empty() && self.ends_at.is_none() {
                // Nobody is here any more, of those who stood by for another node's.
                self.wait(now);
            }
            return;
        }
        self.publisher = None;
        if let Some(index) = self.latest_standby() {
            self.go_on(index);
            return;
        }
        self.broadcast.state = BroadcastState::Waiting;
        self.announce();
        self.wait(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ends_at.is_some_and(|at| now >= at) {
            self.ends_at = None;
            self.outputs.push_back(OriginOutput::Ended);
        }
        if self.silent_at.is_some_and(|at| now >= at) {
            self.silent_at = None;
            self.is_silent = true;
            self.replace_silent(now);
        }
    }

    /// When [`Origin::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let silent_at = self.silent_at.filter(|_| !self.standbys.is_empty());
        self.ends_at.into_iter().chain(silent_at).min()
    }

    /// What to do next; call until `None` after every change.
    pub fn poll_output(&mut self) -> Option<OriginOutput> {
        self.outputs.pop_front()
    }

    /// One that stands by and is heard takes the place of the silent publisher, which then stands by.
    fn replace_silent(&mut self, now: Instant) {
        let silence = self.config.silence;
        let is_heard = |standby: &Standby| standby.heard_at.is_some_and(|at| now < at + silence);
        let (Some(index), Some(silent), Some(epoch)) =
            (self.standbys.iter().position(is_heard), self.publisher, self.broadcast.epoch)
        else {
            return;
        };
        self.publisher = None;
        let tracks = self.broadcast.tracks.clone();
        self.standbys.push(Standby { publisher: silent, tracks, drawn: epoch, heard_at: None });
        self.go_on(index);
    }

    /// Whoever was heard last is the likeliest to go on.
    fn latest_standby(&self) -> Option<usize> {
        let latest = self.standbys.iter().enumerate().max_by_key(|(_, standby)| standby.heard_at);
        latest.map(|(index, _)| index)
    }

    fn go_on(&mut self, index: usize) {
        let Standby { publisher, tracks, drawn, .. } = self.standbys.remove(index);
        self.begin_next(publisher, drawn, tracks);
        self.outputs.push_back(OriginOutput::StandbyGoesOn { publisher });
    }

    fn begin_next(&mut self, publisher: PublisherId, drawn: Epoch, tracks: Vec<Track>) -> Epoch {
        let next = self.broadcast.epoch.map_or(0, |epoch| epoch.counter) + 1;
        let epoch = Epoch { counter: drawn.counter.max(next), ..drawn };
        self.begin(publisher, epoch, tracks);
        epoch
    }

    fn begin(&mut self, publisher: PublisherId, epoch: Epoch, tracks: Vec<Track>) {
        if let Some(old) = self.publisher.replace(publisher).filter(|old| *old != publisher) {
            self.outputs.push_back(OriginOutput::PublisherReplaced { old });
        }
        self.standbys.retain(|standby| standby.publisher != publisher);
        self.ends_at = None;
        self.silent_at = None;
        self.is_silent = false;
        self.broadcast.state = BroadcastState::Live;
        self.broadcast.epoch = Some(epoch);
        self.broadcast.tracks = tracks;
        self.announce();
    }

    fn wait(&mut self, now: Instant) {
        self.ends_at = (!self.config.is_declared).then(|| now + self.config.grace);
    }

    fn announce(&mut self) {
        self.outputs.push_back(OriginOutput::Changed(self.broadcast.clone()));
    }
}

#[cfg(test)]
mod tests;
