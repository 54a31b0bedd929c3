//! This node in the control plane: reports itself each second, follows what it is told, says what it publishes.
//!
//! Nothing here is waited for by media. With the store away the node keeps its parents, its broadcasts and its viewers;
//! with the store back it says again what it is.

mod about;
mod broadcasts;
mod drain;
mod kept;
pub mod network;
mod parents;
pub mod process;
mod rates;
mod report;
mod scaling;
mod slot;
mod standby;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use config::Config;
use controller::{Controller, Declared, FrontDoor, Handle};
use model::{NodeId, Role};
use registry::{Assignment, Registry};
use tokio::sync::watch;

pub use about::About;
pub use broadcasts::Published;
pub use kept::Kept;

use crate::http::App;
use crate::link_channel::LinkChannels;
use crate::metrics::Metrics;
use crate::tree::TreeHandle;

/// The store of a process that is asked for none and needs one.
const EMBEDDED: &str = "embedded";

/// What requests and the controller's pages need of the control plane.
pub struct Control {
    /// Records of the installation.
    pub registry: Registry,
    /// Sends viewers and publishers to whoever has a place.
    pub front_door: Arc<FrontDoor>,
    /// This node.
    pub about: About,
    /// The controller of this process, if it has one.
    pub controller: Option<Handle>,
    /// With what others may use the store of this process.
    offered: Option<store::AccessKey>,
    /// Tells the controller to stop.
    stop: watch::Sender<bool>,
    /// It has.
    stopped: watch::Sender<bool>,
    /// The store knows that this node leaves.
    parted: watch::Sender<bool>,
}

/// A node that leaves waits so long for the store to take that. Whoever dies without a word is missed, by an alert too.
const PART_WITHIN: Duration = Duration::from_millis(500);

/// A process that begins waits so long for the store before it goes by what an earlier one was told: parents of
/// yesterday are not even called where there are others today.
const STORE_PATIENCE: Duration = Duration::from_millis(250);

/// A control plane that is not running yet.
pub struct Prepared {
    control: Arc<Control>,
    controller: Option<Controller>,
    /// Parents come from the store, not from the configuration.
    finds_parents: bool,
}

impl Control {
    /// Opens the store that the configuration names; `None` for a node that has its parents by configuration and shares
    /// nothing.
    ///
    /// # Errors
    /// If the store's address is none, or its file cannot be read. A store that does not answer is no error.
    pub fn prepare(
        role: Role,
        config: &Config,
        me: &NodeId,
        incarnation: (u64, u64),
        metrics: &Metrics,
    ) -> anyhow::Result<Option<Prepared>> {
        let has_controller = matches!(role, Role::All | Role::Controller);
        let url = config.control.store.as_ref().map(|url| url.expose());
        let Some(url) = url.or(has_controller.then_some(EMBEDDED)) else { return Ok(None) };
        let options =
            store::Options { access_key: Some(access_key(config)), allows_plain_http: config.http.insecure };
        let store =
            store::open(url, &options).context("open the store of the installation (control.store)")?;
        let registry = Registry::new(store);
        let about = About::new(role, config, me, incarnation);
        let tree = config.node.tree_id.clone();
        let sealer = store::Sealer::new(crate::life::cluster_key(config).as_bytes());
        let declared = Arc::new(Declared::new(registry.clone(), sealer));
        let region = config.control.region.clone();
        let has_backups = config.ingest.publisher_conflict == config::PublisherConflict::Backup;
        let front_door = FrontDoor::new(registry.clone(), tree.clone(), region, declared);
        let front_door = Arc::new(front_door.with_backups(has_backups));
        let is_embedded = url.starts_with(EMBEDDED);
        let (controller, handle) = if config.decides(role) {
            let identity = controller::Identity {
                id: me.clone(),
                candidate: (u128::from(incarnation.0) << 64) | u128::from(incarnation.1),
                is_alone: is_embedded,
                default_tree: tree,
            };
            let (controller, handle) = Controller::new(registry.clone(), identity, front_door.clone());
            let controller = controller.with_metrics(metrics.controller());
            let controller = match scaling::of_config(config, &about.host)? {
                Some(scaling) => controller.with_scaling(scaling),
                None => controller,
            };
            (Some(controller), Some(handle))
        } else {
            (None, None)
        };
        let (stop, stopped) = (watch::channel(false).0, watch::channel(handle.is_none()).0);
        let parted = watch::channel(false).0;
        // Nobody beyond this machine is let in with a key that everybody knows.
        let is_guarded = config.link.cluster_key.is_some() || config.http.listen.ip().is_loopback();
        let offered = (handle.is_some() && is_guarded).then(|| access_key(config));
        let control = Arc::new(Self {
            registry,
            front_door,
            about,
            controller: handle,
            offered,
            stop,
            stopped,
            parted,
        });
        let finds_parents = config.link.parents.is_empty() && role != Role::Controller;
        Ok(Some(Prepared { control, controller, finds_parents }))
    }

    /// The routes by which nodes on other machines use the store of this process; empty where nobody may.
    pub fn store_routes(&self) -> axum::Router {
        let Some(key) = self.offered.clone() else { return axum::Router::new() };
        store::serve::router(self.registry.store().clone(), key, store::serve::Limits::default())
    }

    /// Lets the controller of this process give its lease back, and has the store told at once that this node drains.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits, not for long, until the store has been told.
    pub async fn part(&self) {
        let mut parted = self.parted.subscribe();
        let _ = tokio::time::timeout(PART_WITHIN, parted.wait_for(|has_parted| *has_parted)).await;
    }

    /// Whether it has.
    #[must_use]
    pub fn stopped(&self) -> watch::Receiver<bool> {
        self.stopped.subscribe()
    }
}

/// What nodes show to a controller whose store they use. Without a cluster key all of them are on this machine.
fn access_key(config: &Config) -> store::AccessKey {
    store::AccessKey::new(crate::life::cluster_key(config).as_bytes())
}

/// The media side of a node, as far as the control plane moves it.
pub struct Media {
    /// Dials parents.
    pub channels: Arc<LinkChannels>,
    /// Takes media from them.
    pub tree: TreeHandle,
    /// What is published here.
    pub published: Arc<Published>,
    /// What the store told an earlier process of this node.
    pub kept: Option<Kept>,
}

impl Prepared {
    /// What requests see.
    #[must_use]
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Starts everything; it goes on until the process ends. `media` is `None` for a controller.
    pub fn start(self, app: &Arc<App>, media: Option<Media>) {
        let Self { control, controller, finds_parents } = self;
        let is_controller = controller.is_some();
        if let Some(controller) = controller {
            let (mut stop, control) = (control.stop.subscribe(), control.clone());
            tokio::spawn(async move {
                let told = async {
                    let _ = stop.wait_for(|is_told| *is_told).await;
                };
                controller.run(told).await;
                control.stopped.send_replace(true);
            });
        }
        tokio::spawn(report::report(
            app.clone(),
            control.clone(),
            media.as_ref().map(|it| it.published.clone()),
        ));
        let declared = control.front_door.declared().clone();
        if let Some(kept) = media.as_ref().and_then(|media| media.kept.as_ref()) {
            declared.remember(kept.declared());
        }
        tokio::spawn(async move { declared.follow(is_controller).await });
        let (broadcasts_changed, changes) = watch::channel(());
        let front_door = control.front_door.clone();
        tokio::spawn(async move {
            front_door.follow_broadcasts(|_| broadcasts_changed.send_replace(())).await;
        });
        let Some(media) = media else { return };
        if control.front_door.has_backups() && control.about.role.is_injection() {
            tokio::spawn(standby::follow(control.clone(), media.tree.clone(), changes.clone()));
        }
        tokio::spawn(rates::measure(media.published.clone(), app.metrics.tree.patients()));
        tokio::spawn(broadcasts::announce(
            control.clone(),
            media.tree.clone(),
            media.published.clone(),
            changes,
        ));
        tokio::spawn(slot::follow(app.clone(), control.clone()));
        let parents = finds_parents.then(|| parents::Parents::new(media.channels, media.tree));
        tokio::spawn(follow(app.clone(), control, parents, media.kept));
    }
}

/// Follows what this node is told, or, until it is told anything, what an earlier process of it was told last.
async fn follow(
    app: Arc<App>,
    control: Arc<Control>,
    mut parents: Option<parents::Parents>,
    kept: Option<Kept>,
) {
    let me = control.about.node.clone();
    let Ok(mut watch) = control.registry.watch_one::<Assignment>(me.as_str()) else { return };
    let mut earlier = kept.as_ref().and_then(|kept| kept.assignment().cloned());
    let (told, to_keep) = watch::channel(None);
    if let Some(kept) = kept {
        tokio::spawn(kept.follow(to_keep, control.front_door.declared().clone()));
    }
    let mut drain = drain::Drain::default();
    let patience = tokio::time::sleep(STORE_PATIENCE);
    tokio::pin!(patience);
    loop {
        let news = tokio::select! {
            event = watch.next() => match event {
                None => return,
                Some(event) => assignment_in(event),
            },
            () = parents::Parents::due(parents.as_mut()) => continue,
            () = &mut patience, if earlier.is_some() => None,
        };
        if let Some(news) = &news {
            told.send_replace(Some(news.clone()));
        }
        // What an earlier process was told counts once, and not after anything newer.
        let earlier = earlier.take();
        let Some(assignment) = news.or(earlier) else { continue };
        if let Some(parents) = &mut parents {
            parents.assign(&assignment).await;
        }
        drain.follow(&app, &control, assignment.drain);
    }
}

/// What the store tells with this, if anything that can be followed.
fn assignment_in(event: store::WatchEvent) -> Option<Assignment> {
    let record = match event {
        store::WatchEvent::Put(record) => record,
        // A store that lost its memory says nothing of parents: those that work are kept.
        store::WatchEvent::Snapshot(mut records) => records.pop()?,
        // Forgotten by a controller that took the node for dead: it keeps what it has until it is told anew.
        store::WatchEvent::Gone(_) => return None,
    };
    let decoded = registry::decode::<Assignment>(&record.value);
    decoded.inspect_err(|error| tracing::warn!(%error, "an assignment that cannot be followed")).ok()
}
