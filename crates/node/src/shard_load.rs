//! How busy shards are: measured by each shard's thread, read by whoever chooses a shard for a viewer.
//!
//! Load is the part of a second that the thread was not waiting for something to do. What keeps it from running while
//! it has work, other programs included, counts as load: media is late all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Over which load is measured.
const WINDOW: Duration = Duration::from_secs(1);

/// What a shard told last.
#[derive(Debug, Default)]
pub struct ShardLoad {
    /// Busy time in a second, in microseconds; more than a second if datagrams found no room in the kernel.
    micros: AtomicU64,
    viewers: AtomicU64,
}

impl ShardLoad {
    /// From 0 to 1; 1 also if the shard could not send all that it had.
    #[must_use]
    pub fn share(&self) -> f64 {
        Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64()
    }

    /// Viewers that this load comes from.
    #[must_use]
    pub fn viewers(&self) -> u64 {
        self.viewers.load(Ordering::Relaxed)
    }
}

/// The shard's side.
#[derive(Debug)]
pub struct LoadMeter {
    load: Arc<ShardLoad>,
    began: Option<Instant>,
    idle: Duration,
    has_dropped: bool,
}

impl LoadMeter {
    /// Tells `load`.
    #[must_use]
    pub const fn new(load: Arc<ShardLoad>) -> Self {
        Self { load, began: None, idle: Duration::ZERO, has_dropped: false }
    }

    /// The thread waited so long for something to do.
    pub fn waited(&mut self, time: Duration) {
        self.idle += time;
    }

    /// The kernel had no room for what was sent.
    pub const fn dropped(&mut self) {
        self.has_dropped = true;
    }

    /// Tells the load of the latest second, and that it comes from so many viewers; `None` before it is over.
    pub fn publish(&mut self, now: Instant, viewers: usize) -> Option<f64> {
        let began = *self.began.get_or_insert(now);
        let window = now.duration_since(began);
        if window < WINDOW {
            return None;
        }
        let idle = self.idle.as_secs_f64() / window.as_secs_f64();
        let share = if self.has_dropped { 1.0 } else { (1.0 - idle).clamp(0.0, 1.0) };
        self.load.micros.store((share * 1e6) as u64, Ordering::Relaxed);
        self.load.viewers.store(viewers as u64, Ordering::Relaxed);
        *self = Self { began: Some(now), ..Self::new(self.load.clone()) };
        Some(share)
    }
}

/// A shard as seen by who has a viewer for it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// What it told last.
    pub load: f64,
    /// Viewers that this load came from.
    pub viewers_then: u64,
    /// Viewers that it has or expects by now.
    pub occupied: u64,
    /// Viewers that it may have.
    pub slots: u64,
}

/// Why no shard takes a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// All slots are taken.
    Full,
    /// All shards that have slots are too busy.
    Overloaded,
}

/// The shard that will be least loaded: what it told, and what those who came since will cost, as far as that can be
/// told from those who are there.
///
/// # Errors
/// If all are full, or as loaded as `load_max`.
pub fn choose(shards: &[Candidate], load_max: f64) -> Result<usize, Refusal> {
    let viewers: u64 = shards.iter().map(|shard| shard.viewers_then).sum();
    let load: f64 = shards.iter().map(|shard| shard.load).sum();
    let mean = if viewers == 0 { 0.0 } else { load / viewers as f64 };
    let expected = |shard: &Candidate| {
        let slot = 1.0 / shard.slots.max(1) as f64;
        let came_since = shard.occupied.saturating_sub(shard.viewers_then) as f64;
        // Viewers who wait for a broadcast cost nothing yet, and will.
        shard.load.max(shard.viewers_then as f64 * slot) + came_since * mean.max(slot)
    };
    let mut has_room = false;
    let least =
        (0..).zip(shards).filter(|(_, shard)| shard.occupied < shard.slots).inspect(|_| has_room = true);
    let least = least.filter(|(_, shard)| shard.load < load_max).min_by(|(_, one), (_, other)| {
        expected(one).total_cmp(&expected(other)).then(one.occupied.cmp(&other.occupied))
    });
    match least {
        Some((index, _)) => Ok(index),
        None if has_room => Err(Refusal::Overloaded),
        None => Err(Refusal::Full),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(load: f64, viewers_then: u64, occupied: u64) -> Candidate {
        Candidate { load, viewers_then, occupied, slots: 1000 }
    }

    /// Lets `count` viewers come before anybody tells a new load; the viewers of each shard.
    fn come(shards: &mut [Candidate], count: usize) -> Vec<u64> {
        for _ in 0..count {
            let chosen = choose(shards, 0.85).expect("room");
            shards[chosen].occupied += 1;
        }
        shards.iter().map(|shard| shard.occupied).collect()
    }

    #[test]
    fn load_is_the_part_of_a_second_in_which_a_shard_did_not_wait() {
        let load = Arc::new(ShardLoad::default());
        let mut meter = LoadMeter::new(load.clone());
        let start = Instant::now();
        assert_eq!(meter.publish(start, 0), None);
        meter.waited(Duration::from_millis(750));
        assert_eq!(meter.publish(start + WINDOW / 2, 7), None);
        assert_eq!(meter.publish(start + WINDOW, 7), Some(0.25));
        assert_eq!((load.share(), load.viewers()), (0.25, 7));
        meter.waited(Duration::from_millis(1500));
        assert_eq!(meter.publish(start + WINDOW * 3, 8), Some(0.25), "a longer second counts as one");
    }

    #[test]
    fn a_shard_that_cannot_send_is_overloaded_for_a_second() {
        let load = Arc::new(ShardLoad::default());
        let mut meter = LoadMeter::new(load.clone());
        let start = Instant::now();
        meter.publish(start, 1);
        meter.waited(WINDOW);
        meter.dropped();
        assert_eq!(meter.publish(start + WINDOW, 1), Some(1.0));
        meter.waited(WINDOW);
        assert_eq!(meter.publish(start + WINDOW * 2, 1), Some(0.0));
        assert!(load.share() < 0.01);
    }

    #[test]
    fn viewers_spread_evenly_whether_they_cost_anything_yet_or_not() {
        assert_eq!(come(&mut [shard(0.0, 0, 0); 4], 100), [25; 4]);
        assert_eq!(come(&mut [shard(0.0, 40, 40), shard(0.0, 0, 0)], 60), [50, 50]);
        assert_eq!(come(&mut [shard(0.3, 100, 100); 2], 100), [150, 150]);
    }

    #[test]
    fn the_less_loaded_shard_is_preferred_until_it_will_be_as_loaded() {
        // 0.002 of a second for each viewer: 50 of them make up for 0.1.
        let mut shards = [shard(0.25, 100, 100), shard(0.15, 100, 100)];
        assert_eq!(come(&mut shards, 50), [100, 150]);
        assert_eq!(come(&mut shards, 50), [125, 175]);
        // A second's crowd does not all go to the shard that nothing is known of.
        let counts = come(&mut [shard(0.1, 1, 1), shard(0.0, 0, 0)], 20);
        assert_eq!(counts.iter().sum::<u64>(), 21);
        assert!(counts[0] >= 9, "{counts:?}");
    }

    #[test]
    fn too_busy_shards_take_nobody() {
        assert_eq!(choose(&[shard(0.9, 5, 5), shard(0.8, 500, 500)], 0.85), Ok(1));
        assert_eq!(choose(&[shard(0.9, 5, 5), shard(0.85, 5, 5)], 0.85), Err(Refusal::Overloaded));
        let full = Candidate { occupied: 1000, ..shard(0.1, 1000, 1000) };
        assert_eq!(choose(&[full, shard(0.9, 5, 5)], 0.85), Err(Refusal::Overloaded));
        assert_eq!(choose(&[full, full], 0.85), Err(Refusal::Full));
        assert_eq!(choose(&[], 0.85), Err(Refusal::Full));
    }
}
