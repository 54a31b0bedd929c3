//! Nodes as containers of one or several Docker engines.
//!
//! A container has the network of its machine, a block of ports there, and its configuration in a file that is put into it
//! before it is started: no secret stands where `docker inspect` shows it. What there is to know of a node is in its labels,
//! so nothing is written down elsewhere, and whoever has the same word for the place goes on with its containers.
//!
//! An engine that has fallen silent is taken to run what it ran: its nodes are listed as they were and are started nowhere
//! else, and new nodes go to the others. As long as one has never answered, nothing is known at all, and nothing is done.

mod archive;
mod container;
mod engine;
mod known;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use model::NodeId;
use reqwest::StatusCode;
use tokio::sync::OwnedMutexGuard;

use crate::printed::Printed;
use crate::{Listed, NodeSpec, Ports, Provisioner, StartError, Unanswered};
use container::{Container, Create, State};
use engine::{Api, ApiError};
use known::{Ended, Known, Leftover, NoPlace, PortPlan};

/// Where a node finds its files, within its container.
pub const HOME: &str = "/media-tree";
/// The file there that every node has.
pub const CONFIGURATION: &str = "/media-tree/node.toml";

/// Nobody in particular owns the files, and is whom a node runs as.
const OWNER: u32 = 65_534;
const USER: &str = "65534:65534";

/// How nodes are started.
pub struct Options {
    /// Where. At least one; the first comes first where several have as few nodes.
    pub engines: Vec<Engine>,
    /// The image, as each engine has it. Its entry point is the program; the arguments are the role and `--config FILE`.
    pub image: String,
    /// The first port that nodes may have, on every machine.
    pub first_port: u16,
    /// UDP ports of each egress node.
    pub shards: u16,
    /// A node that was told to stop and is still there after so long is killed.
    pub stop_within: Duration,
    /// Writes a node's files, given its ports and the name of its engine.
    pub configure: Configure,
    /// See [`Provisioner::place`]: whoever has another word leaves the containers of this one alone.
    pub place: String,
}

/// One engine.
#[derive(Debug, Clone)]
pub struct Engine {
    /// What it is called in the log.
    pub name: String,
    /// How it is reached.
    pub address: Address,
    /// Most nodes that it runs, of all places together. As many blocks of ports are used there.
    pub nodes_max: u16,
}

/// How an engine is reached. Whoever reaches it has its machine.
#[derive(Debug, Clone)]
pub enum Address {
    /// By the socket on this machine.
    Unix(PathBuf),
    /// By HTTP at `host:port`, which anybody on the way can read and change.
    Plain(String),
    /// By HTTPS with certificates on both sides.
    Tls {
        /// `host:port`.
        host: String,
        /// A directory with `ca.pem`, `cert.pem` and `key.pem`, as Docker's own client has it.
        certificates: PathBuf,
    },
}

/// A file of a node in [`HOME`].
pub struct File {
    /// Its name there.
    pub name: &'static str,
    /// What it has.
    pub bytes: Vec<u8>,
}

/// The files of a node, [`CONFIGURATION`] among them, or why they cannot be had.
pub type Configure = Box<dyn Fn(&NodeSpec, &Ports, &str) -> Result<Vec<File>, String> + Send + Sync>;

/// An engine can never be reached: its certificates are not to be had.
#[derive(Debug, thiserror::Error)]
#[error("{engine}: {reason}")]
pub struct EngineError {
    /// Its name.
    pub engine: String,
    /// Why.
    pub reason: String,
}

/// Starts nodes as containers.
pub struct Containers {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    engines: Vec<Api>,
    known: Mutex<Known>,
    turns: Turns,
}

impl fmt::Debug for Containers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Containers").field("engines", &self.inner.options.engines).finish_non_exhaustive()
    }
}

impl Containers {
    /// Reads certificates; asks no engine before it is asked for something.
    ///
    /// # Errors
    /// If certificates are missing or are none.
    pub fn new(options: Options) -> Result<Self, EngineError> {
        let engines = options.engines.iter().map(Api::new).collect::<Result<_, _>>()?;
        let known = Known::new(options.engines.iter().map(|engine| engine.nodes_max));
        let inner = Inner { options, engines, known: Mutex::new(known), turns: Turns::default() };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Provisioner for Containers {
    fn place(&self) -> &str {
        &self.inner.options.place
    }

    fn start_node<'a>(&'a self, spec: &'a NodeSpec) -> BoxFuture<'a, Result<(), StartError>> {
        self.inner.start(spec).boxed()
    }

    fn stop_node<'a>(&'a self, node: &'a NodeId) -> BoxFuture<'a, Result<(), Unanswered>> {
        self.inner.stop(node).map(|stopped| stopped.map_err(Unanswered)).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, Unanswered>> {
        self.inner.list().map(|listed| listed.map_err(Unanswered)).boxed()
    }
}

/// What an engine has under a node's name.
enum Found {
    Nothing,
    Runs,
    /// What ended there was removed; it had these ports.
    Left(RangeInclusive<u16>),
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, engine: usize) -> &str {
        self.options.engines.get(engine).map_or("", |engine| &engine.name)
    }

    /// An engine's answer; one that does not answer is noted, and named in the error.
    fn answered<T>(&self, engine: usize, answer: Result<T, ApiError>) -> Result<T, String> {
        answer.map_err(|error| {
            let words = format!("{}: {error}", self.name(engine));
            if matches!(error, ApiError::Unanswered(_)) {
                self.silent(engine, &words);
            }
            words
        })
    }

    fn silent(&self, engine: usize, error: &str) {
        let is_new = self.known().silent(engine, error);
        if let Some(nodes) = is_new {
            let what =
                "an engine does not answer: its nodes are taken to be as they were, new ones go to others";
            tracing::warn!(engine = self.name(engine), error, nodes, "{what}");
        }
    }

    /// Asks all engines what they run, and has removed what nobody wants.
    async fn look(self: &Arc<Self>) {
        let asked = Instant::now();
        self.known().asks(asked);
        let answers = join_all(self.engines.iter().map(|api| api.list())).await;
        let busy = self.turns.taken();
        let mut all_ended = Vec::new();
        for (engine, answer) in answers.into_iter().enumerate() {
            let containers = match answer {
                Ok(containers) => containers,
                // Also if it refuses: what it runs is not known.
                Err(error) => {
                    self.silent(engine, &format!("{}: {error}", self.name(engine)));
                    continue;
                }
            };
            let place = self.options.place.as_str();
            let (ended, is_back) = self.known().heard((engine, asked), (containers, place), &busy);
            all_ended.extend(ended);
            if is_back {
                tracing::info!(engine = self.name(engine), "an engine answers again");
            }
        }
        self.turns.tidy();
        let leftovers = self.known().leftovers(Instant::now(), &busy);
        all_ended.into_iter().for_each(|ended| self.tell(ended));
        for leftover in leftovers {
            let inner = self.clone();
            tokio::spawn(async move { inner.clear(leftover).await });
        }
    }

    /// Looks, unless all engines have said already what they run.
    async fn know(self: &Arc<Self>) -> Result<(), String> {
        let is_known = self.known().unknown().is_none();
        if !is_known {
            self.look().await;
        }
        self.is_known()
    }

    fn is_known(&self) -> Result<(), String> {
        match self.known().unknown() {
            None => Ok(()),
            Some(reason) => Err(format!(
                "{reason}; what it runs is not known yet, so nothing is started or stopped anywhere"
            )),
        }
    }

    async fn list(self: &Arc<Self>) -> Result<Vec<Listed>, String> {
        self.look().await;
        self.is_known()?;
        let known = self.known();
        match known.silence() {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(known.list(Instant::now())),
        }
    }

    async fn start(self: &Arc<Self>, spec: &NodeSpec) -> Result<(), StartError> {
        self.know().await.map_err(StartError::Failed)?;
        let _turn = self.turn(&spec.node).await;
        let mut before = None;
        let located = self.known().located(&spec.node);
        if let Some(engine) = located {
            match self.find(engine, spec).await? {
                Found::Runs => return Ok(()),
                Found::Left(ports) => before = Some((engine, ports)),
                Found::Nothing => {}
            }
        }
        let plan = PortPlan { first: self.options.first_port, shards: self.options.shards };
        let chosen = self.known().choose(spec, before, plan);
        let (engine, ports) = chosen.map_err(|why| no_place(spec, plan, why))?;
        let Some(id) = self.make(engine, spec, ports).await? else { return Ok(()) };
        match self.fill(engine, spec, (&id, ports)).await {
            Ok(()) => {
                self.known().runs(Instant::now(), engine, &spec.node);
                let (node, tree, role, engine) = (&spec.node, &spec.tree, spec.role, self.name(engine));
                tracing::info!(%node, %tree, %role, engine, port = ports.http, "node started");
                Ok(())
            }
            Err(error) => {
                // If this fails too, the next look finds it.
                if self.engines[engine].remove(&id).await.is_ok() {
                    self.known().gone(engine, &spec.node);
                }
                Err(StartError::Failed(error))
            }
        }
    }

    /// Looks what a node's engine has of it, and removes what does not run.
    async fn find(self: &Arc<Self>, engine: usize, spec: &NodeSpec) -> Result<Found, StartError> {
        let node = &spec.node;
        let inspected = self.engines[engine].inspect(node).await;
        let Some(container) = self.answered(engine, inspected).map_err(StartError::Failed)? else {
            self.known().gone(engine, node);
            return Ok(Found::Nothing);
        };
        self.is_ours(engine, &container).map_err(StartError::Failed)?;
        let now = Instant::now();
        let ended = self.known().saw(now, engine, &container);
        if let Some(ended) = ended {
            self.tell(ended);
        }
        if container.state == State::Running {
            return Ok(Found::Runs);
        }
        let waits = self.known().waits(now, node).filter(|_| container.state == State::Ended);
        if let Some((failures, wait)) = waits {
            return Err(StartError::BackingOff { node: node.clone(), failures, wait });
        }
        let removed = self.engines[engine].remove(&container.id).await;
        self.answered(engine, removed).map_err(StartError::Failed)?;
        self.known().gone(engine, node);
        Ok(match container.state {
            State::Ended => Found::Left(container.ports),
            State::Created | State::Running => Found::Nothing,
        })
    }

    fn is_ours(&self, engine: usize, container: &Container) -> Result<(), String> {
        let (name, node, place) = (self.name(engine), &container.spec.node, &container.place);
        if *place == self.options.place {
            return Ok(());
        }
        Err(format!(
            "{name}: the container of {node} there was made by {place}, not by {}",
            self.options.place
        ))
    }

    /// Makes the container of a node, whose place it has been given; its id, or `None` if the node turns out to run there.
    async fn make(
        self: &Arc<Self>,
        engine: usize,
        spec: &NodeSpec,
        ports: Ports,
    ) -> Result<Option<String>, StartError> {
        let (node, options) = (&spec.node, &self.options);
        let create = Create::new(&options.image, &options.place, spec, &ports.all(options.shards));
        let mut created = self.engines[engine].create(node, &create).await;
        if matches!(&created, Err(ApiError::Refused { status: StatusCode::CONFLICT, .. })) {
            // Of a start that was broken off, or of somebody who led before.
            match self.find(engine, spec).await {
                Ok(Found::Runs) => return Ok(None),
                Ok(Found::Left(_) | Found::Nothing) => {
                    self.known().reserve(engine, spec, ports.all(options.shards));
                    created = self.engines[engine].create(node, &create).await;
                }
                Err(error) => {
                    self.known().give_back(engine, node);
                    return Err(error);
                }
            }
        }
        if matches!(&created, Err(ApiError::Refused { .. })) {
            self.known().give_back(engine, node);
        }
        let id = self.answered(engine, created).map_err(StartError::Failed)?;
        self.known().made(engine, node, &id);
        Ok(Some(id))
    }

    /// Puts its files into a node's container, and starts it.
    async fn fill(
        self: &Arc<Self>,
        engine: usize,
        spec: &NodeSpec,
        (id, ports): (&str, Ports),
    ) -> Result<(), String> {
        let (inner, spec) = (self.clone(), spec.clone());
        // Files are no work for the threads that serve sockets.
        let files = tokio::task::spawn_blocking(move || {
            let files = (inner.options.configure)(&spec, &ports, inner.name(engine))?;
            Ok::<_, String>(archive::of(HOME.trim_start_matches('/'), &files, OWNER))
        });
        let archive = files.await.map_err(|error| error.to_string())??;
        let uploaded = self.engines[engine].upload(id, archive).await;
        self.answered(engine, uploaded)?;
        let started = self.engines[engine].start(id).await;
        self.answered(engine, started)
    }

    async fn stop(self: &Arc<Self>, node: &NodeId) -> Result<(), String> {
        self.know().await?;
        let _turn = self.turn(node).await;
        let located = self.known().tell(node);
        let Some(engine) = located else { return Ok(()) };
        let inspected = self.engines[engine].inspect(node).await;
        if let Some(container) = self.answered(engine, inspected)? {
            self.is_ours(engine, &container)?;
            if container.state == State::Running {
                let stopped = self.engines[engine].stop(&container.id, self.options.stop_within).await;
                self.answered(engine, stopped)?;
                tracing::info!(%node, engine = self.name(engine), "node stopped");
            }
            let removed = self.engines[engine].remove(&container.id).await;
            self.answered(engine, removed)?;
        }
        self.known().forget(engine, node);
        Ok(())
    }

    /// Says that a node has ended, and what it printed last.
    fn tell(self: &Arc<Self>, ended: Ended) {
        let Ended { engine, node, id, status, failures, pause } = ended;
        let (name, pause_s) = (self.name(engine), pause.as_secs());
        let what = "a node ended that nobody had told to";
        tracing::warn!(%node, engine = name, status, failures, pause_s, "{what}");
        let inner = self.clone();
        tokio::spawn(async move {
            match inner.engines[engine].last_words(&id).await {
                Ok(text) => Printed::of(&text).pass_on(&node),
                Err(error) => tracing::debug!(%node, %error, "its last words are not to be had"),
            }
        });
    }

    /// Removes a container that nobody wants.
    async fn clear(self: Arc<Self>, leftover: Leftover) {
        let _turn = self.turn(&leftover.node).await;
        // Whoever had the turn before may have started it.
        let is_left = self.known().leftovers(Instant::now(), &BTreeSet::new()).contains(&leftover);
        if !is_left {
            return;
        }
        let Leftover { engine, node, id, is_double } = leftover;
        if is_double {
            tracing::warn!(%node, engine = self.name(engine), "a node runs twice, and is stopped here");
            let stopped = self.engines[engine].stop(&id, self.options.stop_within).await;
            if self.answered(engine, stopped).is_err() {
                return;
            }
        }
        let removed = self.engines[engine].remove(&id).await;
        match self.answered(engine, removed) {
            Ok(()) => self.known().cleared(Instant::now(), engine, &node),
            Err(error) => tracing::debug!(%node, error, "what is left of a node cannot be removed"),
        }
    }

    /// Waits for one's turn with a node: nobody else does anything about it meanwhile.
    async fn turn(&self, node: &NodeId) -> Turn<'_> {
        let held = self.turns.take(node).await;
        self.known().touch(Instant::now(), node);
        Turn { inner: self, node: node.clone(), _held: held }
    }
}

fn no_place(spec: &NodeSpec, plan: PortPlan, why: NoPlace) -> StartError {
    match why {
        NoPlace::Ports => StartError::NoPorts { node: spec.node.clone(), first: plan.first },
        NoPlace::Full => StartError::Failed(
            "every engine that answers runs as many nodes as it may (nodes_max of scaling.engines)".into(),
        ),
        NoPlace::Silence(reason) => StartError::Failed(format!("no engine answers: {reason}")),
    }
}

/// Somebody's turn with a node.
struct Turn<'a> {
    inner: &'a Inner,
    node: NodeId,
    _held: OwnedMutexGuard<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.inner.known().touch(Instant::now(), &self.node);
    }
}

/// One at a time for each node.
#[derive(Default)]
struct Turns(Mutex<TurnsByNode>);

type TurnsByNode = BTreeMap<NodeId, Arc<tokio::sync::Mutex<()>>>;

impl Turns {
    fn lock(&self) -> MutexGuard<'_, TurnsByNode> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self, node: &NodeId) -> OwnedMutexGuard<()> {
        let turn = self.lock().entry(node.clone()).or_default().clone();
        turn.lock_owned().await
    }

    /// The nodes that somebody is at.
    fn taken(&self) -> BTreeSet<NodeId> {
        let turns = self.lock();
        let is_taken = |turn: &Arc<tokio::sync::Mutex<()>>| turn.try_lock().is_err();
        turns.iter().filter(|(_, turn)| is_taken(turn)).map(|(node, _)| node.clone()).collect()
    }

    /// Forgets those that nobody waits for.
    fn tidy(&self) {
        self.lock().retain(|_, turn| Arc::strong_count(turn) > 1);
    }
}
