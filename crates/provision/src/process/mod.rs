//! Nodes as processes on this machine.
//!
//! Each has a directory of its own with its configuration, its output and its session records, and a block of consecutive
//! ports. It outlives the process that started it, since stopping a controller stops nothing else: whoever opens the
//! directory next finds its processes by a mark in their environment and goes on with them. Linux only (`/proc`, pidfd).

mod child;
mod directory;
mod output;
mod running;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt as _};
use model::NodeId;

use crate::{Listed, NodeSpec, Phase, Ports, Provisioner, StartError, Unanswered};
use child::Child;
use directory::Directory;

/// How nodes are started.
pub struct Options {
    /// Where their directories are. Private to this user; made if it is not there.
    pub directory: PathBuf,
    /// The program; its arguments are the role and `--config FILE`.
    pub program: PathBuf,
    /// The first port that nodes may have.
    pub first_port: u16,
    /// UDP ports of each egress node.
    pub shards: u16,
    /// A node that was told to stop and is still there after so long is killed.
    pub stop_within: Duration,
    /// Writes a node's configuration, given its ports and its directory.
    pub configure: Configure,
    /// See [`Provisioner::place`].
    pub place: String,
}

/// The text of a node's configuration file.
pub type Configure = Box<dyn Fn(&NodeSpec, &Ports, &Path) -> String + Send + Sync>;

/// Starts nodes as processes.
pub struct Processes {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    /// `None` until the directory could be opened: a process that ends may still have it.
    opened: Mutex<Option<Opened>>,
}

struct Opened {
    directory: Directory,
    children: BTreeMap<NodeId, Child>,
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes").field("directory", &self.inner.options.directory).finish_non_exhaustive()
    }
}

impl Processes {
    /// Touches nothing before it is asked for something.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { inner: Arc::new(Inner { options, opened: Mutex::new(None) }) }
    }

    /// Files and processes are no work for the threads that serve sockets.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Options, &mut Opened) -> T + Send + 'static,
    ) -> Result<T, String> {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || -> Result<T, String> {
            let mut opened = inner.opened.lock().unwrap_or_else(PoisonError::into_inner);
            let opened = match &mut *opened {
                Some(opened) => opened,
                closed => closed.insert(Opened::open(&inner.options)?),
            };
            Ok(work(&inner.options, opened))
        });
        done.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl Provisioner for Processes {
    fn place(&self) -> &str {
        &self.inner.options.place
    }

    fn start_node<'a>(&'a self, spec: &'a NodeSpec) -> BoxFuture<'a, Result<(), StartError>> {
        let spec = spec.clone();
        let started = self.work(move |options, opened| opened.start(options, &spec));
        started.map(|started| started.unwrap_or_else(|error| Err(StartError::Failed(error)))).boxed()
    }

    fn stop_node<'a>(&'a self, node: &'a NodeId) -> BoxFuture<'a, Result<(), Unanswered>> {
        let node = node.clone();
        self.work(move |options, opened| opened.stop(options, &node))
            .map(|stopped| stopped.map_err(Unanswered))
            .boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, Unanswered>> {
        self.work(|_, opened| opened.list()).map(|listed| listed.map_err(Unanswered)).boxed()
    }
}

impl Opened {
    fn open(options: &Options) -> Result<Self, String> {
        let path = &options.directory;
        let directory = Directory::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let now = Instant::now();
        let children: BTreeMap<NodeId, Child> = directory
            .found()
            .into_iter()
            .map(|(spec, ports, running)| {
                (spec.node.clone(), Child::adopted(now, spec, ports, (&directory, running)))
            })
            .collect();
        if !children.is_empty() {
            tracing::info!(nodes = children.len(), "goes on with nodes that were started before");
        }
        Ok(Self { directory, children })
    }

    fn start(&mut self, options: &Options, spec: &NodeSpec) -> Result<(), StartError> {
        let now = Instant::now();
        let node = &spec.node;
        if let Some(child) = self.children.get_mut(node) {
            child.look(now);
            if child.is_running() {
                return Ok(());
            }
            if let Some(wait) = child.waits(now) {
                return Err(StartError::BackingOff { node: node.clone(), failures: child.failures(), wait });
            }
        }
        let taken = self.children.values().filter(|child| child.spec().node != *node).map(Child::ports);
        let ports = Ports::free(options.first_port, options.shards, taken)
            .ok_or_else(|| StartError::NoPorts { node: node.clone(), first: options.first_port })?;
        let home = self.directory.home(node);
        let failed = |error: std::io::Error| StartError::Failed(format!("{}: {error}", home.display()));
        let configuration = (options.configure)(spec, &ports, &home);
        self.directory.prepare(spec, &ports, &configuration).map_err(failed)?;
        let running = self.directory.run(&options.program, spec).map_err(failed)?;
        tracing::info!(%node, tree = %spec.tree, role = %spec.role, port = ports.http, "node started");
        match self.children.get_mut(node) {
            Some(child) => child.restarted(now, ports, running),
            None => {
                let child = Child::started(now, spec.clone(), ports, (&self.directory, running));
                self.children.insert(node.clone(), child);
            }
        }
        Ok(())
    }

    fn stop(&mut self, options: &Options, node: &NodeId) {
        let now = Instant::now();
        let Some(child) = self.children.get_mut(node) else { return };
        child.look(now);
        if child.is_running() {
            child.stop(now, options.stop_within);
        } else {
            self.children.remove(node);
            self.directory.remove(node);
        }
    }

    fn list(&mut self) -> Vec<Listed> {
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut listed = Vec::new();
        for (node, child) in &mut self.children {
            child.look(now);
            let phase = match (child.is_running(), child.waits(now)) {
                (true, _) => Phase::Running,
                (false, Some(_)) => Phase::BackingOff,
                (false, None) => {
                    gone.extend(child.is_done(now).then(|| node.clone()));
                    continue;
                }
            };
            listed.push(Listed { spec: child.spec().clone(), phase, failures: child.failures() });
        }
        for node in gone {
            self.children.remove(&node);
            self.directory.remove(&node);
        }
        listed
    }
}
