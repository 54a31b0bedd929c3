//! The way from the tree thread to a shard.

use std::collections::VecDeque;
use std::sync::Arc;

use mio::Waker;
use prometheus_client::metrics::counter::Counter;

use super::Input;

/// The tree thread's end of the media queue of one shard.
pub struct Feed {
    inputs: rtrb::Producer<Input>,
    /// Changes of broadcasts that found no room: they must not be lost, so packets are as long as they wait.
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
            Some(change) => self.waiting.push_back(change),
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
