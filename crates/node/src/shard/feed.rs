//! The way from the tree thread to a shard.

use std::collections::VecDeque;
use std::sync::Arc;

use mio::Waker;
use model::BroadcastId;
use prometheus_client::metrics::counter::Counter;

use super::Input;

/// The tree thread's end of the media queue of one shard.
pub struct Feed {
    inputs: rtrb::Producer<Input>,
    /// Changes of broadcasts that found no room: they must not be lost, so packets are as long as they wait. Two of each
    /// broadcast at most, however often its publisher changes its mind while the shard takes nothing.
    waiting: VecDeque<Input>,
    waker: Arc<Waker>,
    queue_full: Counter,
    is_fed: bool,
}

impl Feed {
    pub(super) const fn new(inputs: rtrb::Producer<Input>, waker: Arc<Waker>, queue_full: Counter) -> Self {
        Self { inputs, waiting: VecDeque::new(), waker, queue_full, is_fed: false }
    }

    /// Puts `input` into the queue; wakes nobody yet.
    pub fn push(&mut self, input: Input) {
        self.push_waiting();
        let refused = if self.waiting.is_empty() { self.try_push(input) } else { Some(input) };
        match refused {
            None => {}
            Some(Input::Packet(..) | Input::LeftOut(_)) => {
                self.queue_full.inc();
            }
            Some(change) => self.keep(change),
        }
    }

    /// Lets a change wait. Of each broadcast the latest state does, and that the broadcast was no more before.
    fn keep(&mut self, change: Input) {
        let broadcast = broadcast_of(&change);
        let is_of_it = |waiting: &Input| broadcast.is_some() && broadcast_of(waiting) == broadcast;
        self.waiting.retain(|waiting| !(matches!(waiting, Input::Changed(_)) && is_of_it(waiting)));
        let is_told = matches!(change, Input::Retired(_)) && self.waiting.iter().any(is_of_it);
        if !is_told {
            self.waiting.push_back(change);
        }
    }

    fn push_waiting(&mut self) {
        while let Some(input) = self.waiting.pop_front() {
            if let Some(refused) = self.try_push(input) {
                self.waiting.push_front(refused);
                return;
            }
        }
    }

    fn try_push(&mut self, input: Input) -> Option<Input> {
        match self.inputs.push(input) {
            Ok(()) => {
                self.is_fed = true;
                None
            }
            Err(rtrb::PushError::Full(refused)) => Some(refused),
        }
    }

    /// Wakes the shard if anything was put in since the last time.
    pub fn wake(&mut self) {
        self.push_waiting();
        if std::mem::take(&mut self.is_fed) {
            let _ = self.waker.wake();
        }
    }
}

impl Drop for Feed {
    /// Lets the shard see that nothing more will come.
    fn drop(&mut self) {
        let _ = self.waker.wake();
    }
}

/// The broadcast whose change this is.
fn broadcast_of(input: &Input) -> Option<&BroadcastId> {
    match input {
        Input::Changed(broadcast) => Some(&broadcast.id),
        Input::Retired(broadcast) => Some(broadcast),
        Input::Packet(..) | Input::Restored(_) | Input::LeftOut(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Token};
    use model::{Broadcast, BroadcastState};

    use super::*;

    fn id(name: &str) -> BroadcastId {
        BroadcastId::new(name).expect("an id")
    }

    fn changed(name: &str, state: BroadcastState) -> Input {
        Input::Changed(Arc::new(Broadcast { state, ..Broadcast::waiting(id(name)) }))
    }

    #[test]
    fn while_a_shard_takes_nothing_the_latest_state_of_each_broadcast_waits() {
        let poll = Poll::new().expect("a poll");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let (inputs, mut shard) = rtrb::RingBuffer::new(1);
        let dropped = Counter::default();
        let mut feed = Feed::new(inputs, waker, dropped.clone());
        feed.push(Input::LeftOut(Arc::default()));
        for _ in 0..1000 {
            feed.push(changed("friday", BroadcastState::Waiting));
            feed.push(changed("monday", BroadcastState::Live));
            feed.push(Input::Retired(id("sunday")));
            feed.push(changed("sunday", BroadcastState::Waiting));
        }
        feed.push(changed("friday", BroadcastState::Live));
        feed.push(Input::LeftOut(Arc::default()));
        assert_eq!((feed.waiting.len(), dropped.get()), (4, 1));
        let mut told = Vec::new();
        while let Ok(input) = shard.pop() {
            feed.wake();
            match input {
                Input::Changed(broadcast) => told.push(format!("{} {:?}", broadcast.id, broadcast.state)),
                Input::Retired(broadcast) => told.push(format!("{broadcast} is no more")),
                Input::Packet(..) | Input::Restored(_) | Input::LeftOut(_) => {}
            }
        }
        assert_eq!(told, ["sunday is no more", "monday Live", "sunday Waiting", "friday Live"]);
    }
}
