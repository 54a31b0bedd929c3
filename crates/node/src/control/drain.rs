//! An operator's order to drain: no new peers, and those that are there go elsewhere before the deadline.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::Control;
use crate::http::{self, App};
use crate::sessions::Peer;

/// The part of the deadline over which viewers are told to move: the rest is for those who take their time.
const TELLING_SHARE: f64 = 0.5;

/// The order that is being carried out.
#[derive(Default)]
pub struct Drain {
    order: Option<registry::Drain>,
    work: Option<JoinHandle<()>>,
}

impl Drain {
    /// The order is now this one.
    pub fn follow(&mut self, app: &Arc<App>, control: &Arc<Control>, order: Option<registry::Drain>) {
        if self.order.map(|order| order.id) == order.map(|order| order.id) {
            return;
        }
        self.order = order;
        if let Some(work) = self.work.take() {
            work.abort();
        }
        app.is_draining.store(order.is_some(), Ordering::Relaxed);
        control.front_door.close(order.is_some().then(|| control.about.node.clone()));
        match order {
            Some(order) => {
                tracing::info!(deadline_secs = order.deadline_secs, "ordered to drain");
                self.work = Some(tokio::spawn(drain(app.clone(), control.clone(), order)));
            }
            None => tracing::info!("the order to drain was taken back"),
        }
    }
}

async fn drain(app: Arc<App>, control: Arc<Control>, order: registry::Drain) {
    let deadline = Duration::from_secs(order.deadline_secs.into());
    let ends_at = tokio::time::Instant::now() + deadline;
    let moved = http::move_viewers(&app, &control, deadline.mul_f64(TELLING_SHARE)).await;
    tracing::info!(told = moved.told, unreachable = moved.unreachable, "viewers told to move");
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    while tokio::time::Instant::now() < ends_at && viewers(&app) > 0 {
        tick.tick().await;
    }
    let left: Vec<Peer> = app.sessions.peers().into_iter().filter(is_viewer).collect();
    tracing::info!(closed = left.len(), "drained");
    for peer in left {
        http::end(&app, peer).await;
    }
}

const fn is_viewer(peer: &Peer) -> bool {
    matches!(peer, Peer::Viewer(..))
}

fn viewers(app: &App) -> usize {
    app.sessions.peers().iter().filter(|peer| is_viewer(peer)).count()
}
