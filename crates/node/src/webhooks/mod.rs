//! Tells an operator's server of broadcasts: when one begins and ends here, how many watch it on this node and, where
//! its publisher is, how many in all and what the publisher could do better.
//!
//! One task looks at the directory whenever it changes and puts what is new into a bounded queue; another one posts,
//! signed, one event after the other, and tries again. Neither is ever waited for by media or by HTTP.

mod changes;
mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use access::signature::Signer;
use anyhow::Context as _;
use config::{Config, HttpUrl};
use model::{BroadcastId, BroadcastState, Epoch, NodeId, TreeId};
use serde::Serialize;
use telemetry::access::{EventOutcome, Metrics};
use tokio::sync::Notify;

use self::changes::{Change, Changes, Seen};
use self::queue::{Event, Queue};
use crate::advice::AdviceView;
use crate::clock::unix_time;
use crate::http::App;
use crate::{outbound, random};

/// How long a node that stops waits for its last events to be taken.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// How often it is looked at how many watch in all what is published here.
const COUNT_INTERVAL: Duration = Duration::from_secs(2);

/// The way to the operator's server.
pub struct Webhooks {
    app: Arc<App>,
    tree: TreeId,
    node: NodeId,
    url: HttpUrl,
    client: reqwest::Client,
    signer: Signer,
    metrics: Metrics,
    changes: Mutex<Changes>,
    queue: Mutex<Queue>,
    /// Something was put into the queue, or taken out.
    moved: Notify,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    id: &'a str,
    /// Seconds since 1970.
    at: f64,
    tree: &'a str,
    node: &'a str,
    broadcast: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    viewers: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<Vec<AdviceView>>,
}

impl Webhooks {
    /// Begins to tell; `None` if nobody is to be told.
    ///
    /// # Errors
    /// If there is no way to check the server's certificate.
    pub fn start(config: &Config, node: &NodeId, app: &Arc<App>) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(url) = config.webhooks.events.clone() else { return Ok(None) };
        let secret = config.webhooks.secret.as_ref().context("webhooks.events needs webhooks.secret")?;
        let webhooks = Arc::new(Self {
            app: app.clone(),
            tree: config.node.tree_id.clone(),
            node: node.clone(),
            client: outbound::client(&[&url])?,
            url,
            signer: Signer::new(secret.expose()),
            metrics: app.metrics.access(),
            changes: Mutex::new(Changes::new(config.webhooks.viewers_interval.get())),
            queue: Mutex::default(),
            moved: Notify::new(),
        });
        tokio::spawn(webhooks.clone().observe());
        tokio::spawn(webhooks.clone().deliver());
        Ok(Some(webhooks))
    }

    /// Tells what is left to tell before the process ends, for as long as that is worth waiting for.
    pub async fn flush(&self) {
        let mut changed = self.app.directory.changes();
        let all = async {
            loop {
                // It hears of everything from here on, so nothing is missed in between.
                let moved = self.moved.notified();
                changed.mark_unchanged();
                self.look();
                if lock(&self.queue).len() == 0 && !lock(&self.changes).is_any_running() {
                    return;
                }
                tokio::select! {
                    _ = changed.changed() => {}
                    () = moved => {}
                }
            }
        };
        if tokio::time::timeout(FLUSH_MAX, all).await.is_err() {
            tracing::warn!(
                events = lock(&self.queue).len(),
                "the server of webhooks.events did not take the last events"
            );
        }
    }

    async fn observe(self: Arc<Self>) {
        let mut changed = self.app.directory.changes();
        let mut advised = self.app.advice.changes();
        let mut counts = tokio::time::interval(COUNT_INTERVAL);
        counts.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_any_running = lock(&self.changes).is_any_running();
            if let (Some(control), true) = (&self.app.control, is_any_running) {
                control.front_door.refresh_audience().await;
            }
            changed.mark_unchanged();
            advised.mark_unchanged();
            let due = self.look();
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                outcome = changed.changed() => if outcome.is_err() { return },
                outcome = advised.changed() => if outcome.is_err() { return },
                () = due => {}
                _ = counts.tick(), if is_any_running => {}
            }
        }
    }

    /// Queues what is new; gives when there may be more.
    fn look(&self) -> Option<Instant> {
        let now = Instant::now();
        let seen = self.everything();
        let (changes, due) = lock(&self.changes).observe(now, &seen);
        for (broadcast, change) in changes {
            match self.event(now, broadcast, &change) {
                Ok(event) => {
                    let mut queue = lock(&self.queue);
                    queue.push(event);
                    self.count(&mut queue);
                    self.moved.notify_waiters();
                }
                Err(error) => tracing::error!(error = format!("{error:#}"), "an event could not be made"),
            }
        }
        due
    }

    /// Every broadcast that is known, and those that somebody cannot get to publish.
    fn everything(&self) -> Vec<Seen> {
        let advice = self.app.advice.of_broadcasts();
        let mut seen: Vec<Seen> =
            self.app.directory.list().into_iter().map(|entry| self.seen(entry)).collect();
        for (id, advice) in advice {
            let advice = advice.iter().map(|one| one.code).collect();
            match seen.iter_mut().find(|one| one.id == id) {
                Some(known) => known.advice = advice,
                None => seen.push(Seen {
                    id,
                    state: BroadcastState::Waiting,
                    epoch: None,
                    viewers: 0,
                    audience: None,
                    advice,
                    is_published_here: false,
                }),
            }
        }
        seen
    }

    fn seen(&self, entry: crate::directory::Entry) -> Seen {
        let crate::directory::Entry { broadcast, viewers, .. } = entry;
        let is_published_here = self.app.sessions.publishes(&broadcast.id);
        let is_counted = self.app.control.is_some() && is_published_here;
        Seen {
            is_published_here,
            advice: Vec::new(),
            audience: is_counted.then(|| self.app.audience(&broadcast.id, viewers)),
            id: broadcast.id,
            state: broadcast.state,
            epoch: broadcast.epoch,
            viewers,
        }
    }

    fn event(&self, at: Instant, broadcast: BroadcastId, change: &Change) -> anyhow::Result<Event> {
        let id = format!("evt_{:032x}", u128::from_be_bytes(random::bytes()?));
        let name = |run: &Epoch| Some(format!("{}-{:016x}", run.counter, run.random));
        let mut advice = None;
        let (kind, run, viewers) = match change {
            Change::Published(run) => ("published", name(run), None),
            Change::Unpublished(run) => ("unpublished", name(run), None),
            Change::Viewers(viewers) => ("viewers", None, Some(*viewers)),
            Change::Audience(viewers) => ("audience", None, Some(*viewers)),
            Change::Advice(codes) => {
                let all = self.app.advice.of_broadcasts().remove(&broadcast).unwrap_or_default();
                advice = Some(all.into_iter().filter(|one| codes.contains(&one.code)).collect());
                ("advice", None, None)
            }
        };
        let body = serde_json::to_string(&Document {
            r#type: kind,
            id: &id,
            at: unix_time().as_millis() as f64 / 1000.0,
            tree: self.tree.as_str(),
            node: self.node.as_str(),
            broadcast: broadcast.as_str(),
            run,
            viewers,
            advice,
        })?;
        Ok(Event { id, broadcast, count: viewers.map(|_| kind), body, at })
    }

    async fn deliver(self: Arc<Self>) {
        let mut is_reached = true;
        loop {
            let moved = self.moved.notified();
            let Some(event) = self.first() else {
                moved.await;
                continue;
            };
            match self.post(&event).await {
                Ok(()) => {
                    self.metrics.event(EventOutcome::Delivered);
                    self.taken(&event.id);
                    if !is_reached {
                        tracing::info!(
                            server = self.url.origin(),
                            "the server of webhooks.events takes events again"
                        );
                    }
                    is_reached = true;
                }
                Err(Refusal { reason, is_final: true }) => {
                    self.metrics.event(EventOutcome::AttemptFailed);
                    self.metrics.event(EventOutcome::Dropped);
                    self.taken(&event.id);
                    tracing::warn!(
                        server = self.url.origin(),
                        reason,
                        "the server of webhooks.events refuses an event"
                    );
                }
                Err(Refusal { reason, is_final: false }) => {
                    self.metrics.event(EventOutcome::AttemptFailed);
                    if is_reached {
                        tracing::warn!(
                            server = self.url.origin(),
                            reason,
                            "the server of webhooks.events takes no events"
                        );
                    }
                    is_reached = false;
                    let pause = lock(&self.queue).failed();
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn first(&self) -> Option<Event> {
        let mut queue = lock(&self.queue);
        let first = queue.first(Instant::now());
        self.count(&mut queue);
        first
    }

    fn taken(&self, id: &str) {
        let mut queue = lock(&self.queue);
        queue.delivered(id);
        self.count(&mut queue);
        self.moved.notify_waiters();
    }

    fn count(&self, queue: &mut Queue) {
        for _ in 0..queue.take_dropped() {
            self.metrics.event(EventOutcome::Dropped);
        }
        self.metrics.events_waiting(queue.len());
    }

    async fn post(&self, event: &Event) -> Result<(), Refusal> {
        let headers = self.signer.sign(&event.id, unix_time(), &event.body);
        let request = self
            .client
            .post(self.url.as_str())
            .header("content-type", "application/json")
            .header("webhook-id", headers.id)
            .header("webhook-timestamp", headers.timestamp)
            .header("webhook-signature", headers.signature)
            .body(event.body.clone());
        let answer = request.send().await;
        let status =
            answer.map_err(|error| Refusal { reason: outbound::reason(error), is_final: false })?.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Refusal {
            reason: format!("it answered {}", status.as_u16()),
            // This event is wrong for it, and will be; the others wait behind it.
            is_final: matches!(status.as_u16(), 400 | 413 | 415 | 422),
        })
    }
}

/// Why an event was not taken.
struct Refusal {
    reason: String,
    /// It would not be taken later either.
    is_final: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
