//! Tells the tree thread what other nodes publish, where a second publisher stands by: then it does so for a first one on
//! another host, too, and goes on when that host is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Control;
use crate::tree::TreeHandle;

/// How often it is looked whether the other nodes are alive, while they publish something.
const INTERVAL: Duration = Duration::from_secs(1);

/// Goes on until the process ends; `changes` tells of every change of the installation's broadcasts.
pub async fn follow(control: Arc<Control>, tree: TreeHandle, mut changes: watch::Receiver<()>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = BTreeMap::new();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = interval.tick() => {}
        }
        if !told.is_empty() {
            control.front_door.refresh().await;
        }
        let elsewhere = control.front_door.published_elsewhere(&control.about.node);
        if elsewhere != told {
            tree.published_elsewhere(elsewhere.clone()).await;
            told = elsewhere;
        }
    }
}
