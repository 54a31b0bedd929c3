//! A node that is told to stop: it takes nobody new, and who is there goes elsewhere where there is an elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::Role;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::control::Control;
use crate::http::{self, App};
use crate::tree::TreeHandle;

/// How long viewers and children get to go to other nodes. Docker kills what has not ended after ten seconds.
const ELSEWHERE_MAX: Duration = Duration::from_secs(7);
/// Viewers are told to go over this time at most, so that those nodes do not get all of them at once,
const TELLING_MAX: Duration = Duration::from_secs(3);
/// and over so much for each.
const TELLING_EACH: Duration = Duration::from_millis(2);
/// How long the sessions that are left get to end by themselves before they are closed.
const CLOSE_AFTER: Duration = Duration::from_secs(2);
/// How long goodbyes may take: shards and the tree thread both answer within a turn.
const GOODBYES: Duration = Duration::from_millis(500);

/// No new sessions; those that are there go to other nodes, end by themselves, or are closed.
pub async fn drain(app: &Arc<App>, tree: &TreeHandle, demo: Option<JoinHandle<()>>) {
    app.is_draining.store(true, Ordering::Relaxed);
    if let Some(control) = &app.control {
        control.front_door.close(Some(control.about.node.clone()));
        control.stop();
        if tokio::time::timeout(ELSEWHERE_MAX, send_elsewhere(app, control)).await.is_err() {
            tracing::info!("not everybody who was told went elsewhere in time");
        }
    }
    if let Some(demo) = demo {
        demo.abort();
    }
    until(CLOSE_AFTER, || app.sessions.counts() == (0, 0)).await;
    for peer in app.sessions.peers() {
        http::end(app, peer).await;
    }
    tree.drain().await;
    until(GOODBYES, || app.occupied() == 0).await;
    if let Some(control) = &app.control {
        control.part().await;
    }
}

/// Viewers that listen are told of another node and make their new session before they end the old one; the controller
/// gives other parents to the children of a relay. Who does not listen, or has no place elsewhere, is not waited for.
async fn send_elsewhere(app: &Arc<App>, control: &Arc<Control>) {
    let viewers = || app.sessions.counts().1 as u64;
    if viewers() > 0 {
        let count = u32::try_from(viewers()).unwrap_or(u32::MAX);
        let moved = http::move_viewers(app, control, (TELLING_EACH * count).min(TELLING_MAX)).await;
        tracing::info!(told = moved.told, unreachable = moved.unreachable, "viewers told to move");
        until(ELSEWHERE_MAX, || viewers() <= moved.unreachable).await;
    }
    if control.about.role == Role::Relay {
        until(ELSEWHERE_MAX, || app.metrics.tree.forwarded() == 0).await;
    }
}

async fn until(most: Duration, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + most;
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !is_so() && Instant::now() < deadline {
        tick.tick().await;
    }
}
