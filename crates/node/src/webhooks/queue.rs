//! Events that wait for an operator's server, in order and in bounds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::BroadcastId;

/// Events that wait at once; the oldest make room.
pub const EVENTS_MAX: usize = 1024;
/// For so long an event is worth telling.
pub const AGE_MAX: Duration = Duration::from_secs(600);
/// The first pause after a failed attempt; each later one is twice as long, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The same at every attempt.
    pub id: String,
    /// Of which broadcast.
    pub broadcast: BroadcastId,
    /// What it counts, if it does: a newer count replaces an older one that still waits.
    pub count: Option<&'static str>,
    /// The JSON.
    pub body: String,
    /// When it happened.
    pub at: Instant,
}

/// What waits.
#[derive(Debug, Default)]
pub struct Queue {
    events: VecDeque<Event>,
    /// Of the first event.
    attempts: u32,
    /// Events that were given up since this was asked last.
    dropped: u64,
}

impl Queue {
    /// One more event.
    pub fn push(&mut self, event: Event) {
        if event.count.is_some() {
            // The first one may be on its way.
            let is_older =
                |waiting: &Event| waiting.count == event.count && waiting.broadcast == event.broadcast;
            if let Some(index) = self.events.iter().skip(1).position(is_older) {
                self.events.remove(index + 1);
            }
        }
        if self.events.len() >= EVENTS_MAX {
            self.drop_first();
        }
        self.events.push_back(event);
    }

    /// The event that is next, if there is one that is worth telling.
    pub fn first(&mut self, now: Instant) -> Option<Event> {
        while self.events.front()?.at + AGE_MAX < now {
            self.drop_first();
        }
        self.events.front().cloned()
    }

    /// The event of this id was taken.
    pub fn delivered(&mut self, id: &str) {
        if self.events.front().is_some_and(|event| event.id == id) {
            self.events.pop_front();
            self.attempts = 0;
        }
    }

    /// An attempt failed: how long to wait before the next.
    pub fn failed(&mut self) -> Duration {
        let pause = PAUSE_MIN * 2u32.pow(self.attempts.min(6));
        self.attempts += 1;
        pause.min(PAUSE_MAX)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// How many were given up since this was asked last.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn drop_first(&mut self) {
        self.events.pop_front();
        self.attempts = 0;
        self.dropped += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: usize, count: Option<&'static str>, at: Instant) -> Event {
        let broadcast = BroadcastId::new("show").expect("id");
        Event { id: id.to_string(), broadcast, count, body: String::new(), at }
    }

    #[test]
    fn events_are_told_in_order_and_counts_replace_older_counts() {
        let (now, mut queue) = (Instant::now(), Queue::default());
        let counts = [Some("viewers"), None, Some("viewers"), Some("audience"), Some("viewers")];
        for (id, count) in counts.into_iter().enumerate() {
            queue.push(event(id, count, now));
        }
        let mut told = Vec::new();
        while let Some(event) = queue.first(now) {
            queue.delivered(&event.id);
            told.push(event.id);
        }
        assert_eq!(told, ["0", "1", "3", "4"], "the first may be on its way, so it stays");
        assert_eq!(queue.take_dropped(), 0);
    }

    #[test]
    fn an_event_that_made_room_while_it_was_on_its_way_does_not_take_another_with_it() {
        let (now, mut queue) = (Instant::now(), Queue::default());
        queue.push(event(0, None, now));
        let sent = queue.first(now).expect("an event");
        for id in 1..=EVENTS_MAX {
            queue.push(event(id, None, now));
        }
        queue.delivered(&sent.id);
        assert_eq!((queue.len(), queue.first(now).map(|event| event.id)), (EVENTS_MAX, Some("1".into())));
        assert_eq!((queue.take_dropped(), queue.take_dropped()), (1, 0));
    }

    #[test]
    fn attempts_come_more_and_more_rarely_and_end() {
        let (now, mut queue) = (Instant::now(), Queue::default());
        queue.push(event(0, None, now));
        let pauses: Vec<u64> = (0..8).map(|_| queue.failed().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(queue.first(now + AGE_MAX).is_some());
        queue.push(event(1, None, now + AGE_MAX));
        let late = now + AGE_MAX + Duration::from_secs(1);
        assert_eq!(queue.first(late).map(|event| event.id), Some("1".into()));
        assert_eq!((queue.take_dropped(), queue.failed().as_secs()), (1, 1), "the next one begins anew");
    }
}
