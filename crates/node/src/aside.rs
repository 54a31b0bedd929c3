//! Work beside a loop, one piece at a time: however long it takes, it delays the loop once and by little, and it ends with the
//! loop.

use std::pin::Pin;
use std::time::Duration;

/// What is under way, if anything is.
pub struct Aside<F> {
    work: Option<Pin<Box<F>>>,
}

impl<F: Future<Output = ()>> Aside<F> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { work: None }
    }

    /// Begins what `work` gives, unless something is under way, and waits for so long until it is done.
    pub async fn begin(&mut self, patience: Duration, work: impl FnOnce() -> Option<F>) {
        if self.work.is_none()
            && let Some(work) = work()
        {
            self.work = Some(Box::pin(work));
            // What is not done by then is gone on with by who waits for its end.
            let _ = tokio::time::timeout(patience, self.ended()).await;
        }
    }

    /// Goes on with what is under way until that is done; for ever if nothing is. Who waits no more may come again.
    pub async fn ended(&mut self) {
        match &mut self.work {
            Some(work) => work.await,
            None => std::future::pending().await,
        }
        self.work = None;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    async fn until_told(told: oneshot::Receiver<()>) {
        let _ = told.await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_delays_its_loop_once_and_by_little_and_ends_with_it() {
        let (begun, mut aside) = (Instant::now(), Aside::new());
        let [(slow, first), (quick, second), (endless, third)] = [(); 3].map(|()| oneshot::channel());
        let mut pieces = vec![third, second, first];
        for _ in 0..10 {
            aside.begin(PATIENCE, || pieces.pop().map(until_told)).await;
        }
        assert_eq!(pieces.len(), 2, "one at a time");
        let delay = begun.elapsed();
        assert!((PATIENCE..2 * PATIENCE).contains(&delay), "{delay:?}");
        slow.send(()).expect("it is under way");
        aside.ended().await;
        drop(quick);
        aside.begin(PATIENCE, || pieces.pop().map(until_told)).await;
        assert_eq!(begun.elapsed(), delay, "what is done at once is not waited for");
        aside.begin(PATIENCE, || pieces.pop().map(until_told)).await;
        assert!(pieces.is_empty() && !endless.is_closed());
        drop(aside);
        assert!(endless.is_closed(), "nothing is left behind");
    }
}
