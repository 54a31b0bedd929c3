//! Publishers wait a moment for a place.
//!
//! OBS takes 201 alone at its first attempt, calls everything else an invalid stream and does not try again; but it waits
//! eight seconds for the answer. So who meets a node that is full for the moment, or an installation in which nobody takes
//! publishers for the moment, is held for a part of that.

use std::sync::Arc;
use std::time::Duration;

use telemetry::WaitResult;
use telemetry::injection::Waits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Half of what OBS waits.
const PATIENCE: Duration = Duration::from_secs(4);
/// Who comes by a redirect may have waited where it came from; OBS counts both together.
const PATIENCE_LEFT: Duration = Duration::from_secs(2);
/// How often it is looked for a place.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Publishers that wait at once: each holds a connection and an offer.
const WAITING_MAX: usize = 64;

/// Where publishers wait.
pub struct WaitingRoom {
    places: Arc<Semaphore>,
    waits: Waits,
}

impl WaitingRoom {
    /// An empty one, which counts in `waits`.
    #[must_use]
    pub fn new(waits: Waits) -> Self {
        Self { places: Arc::new(Semaphore::new(WAITING_MAX)), waits }
    }

    /// How long a publisher may be held that comes now, perhaps sent by another node.
    pub(super) fn patience(&self, is_sent: bool) -> Patience {
        let until = Instant::now() + if is_sent { PATIENCE_LEFT } else { PATIENCE };
        Patience { places: self.places.clone(), waits: self.waits.clone(), until, place: None }
    }
}

/// For how long one publisher is held. Ends with its value, and that with the request if the client hangs up.
pub(super) struct Patience {
    places: Arc<Semaphore>,
    waits: Waits,
    until: Instant,
    place: Option<OwnedSemaphorePermit>,
}

impl Patience {
    /// Waits a moment, after which it may be tried again; false, and at once, if nobody is to wait for longer, or too many
    /// do.
    pub async fn a_moment(&mut self) -> bool {
        if Instant::now() >= self.until {
            self.ends(WaitResult::InVain);
            return false;
        }
        if self.place.is_none() {
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                self.waits.count(WaitResult::TooMany);
                return false;
            };
            self.waits.began();
            self.place = Some(place);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        true
    }

    /// There is a place.
    pub fn served(&mut self) {
        self.ends(WaitResult::Served);
    }

    fn ends(&mut self, result: WaitResult) {
        if self.place.take().is_some() {
            self.waits.ended(result);
        }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        self.ends(WaitResult::Gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waits(room: &WaitingRoom, is_sent: bool) -> Duration {
        let (begun, mut patience) = (Instant::now(), room.patience(is_sent));
        while patience.a_moment().await {}
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_obs_does_also_over_a_redirect() {
        let room = WaitingRoom::new(Waits::default());
        let both = waits(&room, false).await + waits(&room, true).await;
        assert!((Duration::from_secs(5)..Duration::from_secs(7)).contains(&both), "{both:?}");
        assert_eq!(room.places.available_permits(), WAITING_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_wait_and_no_more() {
        let room = WaitingRoom::new(Waits::default());
        let mut waiting: Vec<Patience> = (0..WAITING_MAX).map(|_| room.patience(false)).collect();
        for patience in &mut waiting {
            // Each takes its place before it begins to wait.
            assert!(tokio::time::timeout(Duration::ZERO, patience.a_moment()).await.is_err());
        }
        assert_eq!(waits(&room, false).await, Duration::ZERO, "the next one is told at once");
        waiting.pop();
        assert!(waits(&room, false).await > Duration::ZERO, "who hangs up makes room");
    }
}
