//! One node's process over its life: started, ended, started again later and later.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::directory::Directory;
use super::output::{self, Output};
use super::running::Running;
use crate::restarts::Restarts;
use crate::{NodeSpec, Ports};

#[derive(Debug)]
pub(super) struct Child {
    spec: NodeSpec,
    ports: Ports,
    running: Option<Running>,
    restarts: Restarts,
    told_to_stop: Option<Instant>,
    output: Output,
}

impl Child {
    pub fn started(now: Instant, spec: NodeSpec, ports: Ports, at: (&Directory, Running)) -> Self {
        let output = Output::new(output::file(&at.0.home(&spec.node)));
        Self::new(now, spec, ports, (at.1, output))
    }

    pub fn adopted(now: Instant, spec: NodeSpec, ports: Ports, at: (&Directory, Running)) -> Self {
        let output = Output::from_end(output::file(&at.0.home(&spec.node)));
        Self::new(now, spec, ports, (at.1, output))
    }

    fn new(now: Instant, spec: NodeSpec, ports: Ports, (running, output): (Running, Output)) -> Self {
        let restarts = Restarts::started(now);
        Self { spec, ports, running: Some(running), restarts, told_to_stop: None, output }
    }

    pub fn restarted(&mut self, now: Instant, ports: Ports, running: Running) {
        (self.ports, self.running) = (ports, Some(running));
        self.restarts.restarted(now);
    }

    pub const fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    pub const fn ports(&self) -> Ports {
        self.ports
    }

    pub const fn failures(&self) -> u32 {
        self.restarts.failures()
    }

    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Notices that it has ended, and passes on what it printed.
    pub fn look(&mut self, now: Instant) {
        self.output.look().pass_on(&self.spec.node);
        let Some(how) = self.running.as_mut().and_then(Running::ended) else { return };
        self.running = None;
        self.output.look().pass_on(&self.spec.node);
        let node = &self.spec.node;
        if self.told_to_stop.is_some() {
            tracing::info!(%node, "node stopped");
            return;
        }
        self.restarts.ended(now);
        let (failures, pause_s) = (self.restarts.failures(), self.restarts.pause().as_secs());
        tracing::warn!(%node, status = how, failures, pause_s, "a node ended that nobody had told to");
    }

    /// How much longer it is not started again.
    pub fn waits(&self, now: Instant) -> Option<Duration> {
        self.restarts.waits(now)
    }

    /// It has ended, and nobody wants it.
    pub fn is_done(&self, now: Instant) -> bool {
        !self.is_running() && (self.told_to_stop.is_some() || self.restarts.is_forgotten(now))
    }

    /// Tells it to stop; ends it, if it was told so long ago.
    pub fn stop(&mut self, now: Instant, within: Duration) {
        let Some(running) = &self.running else { return };
        match self.told_to_stop {
            None => {
                self.told_to_stop = Some(now);
                running.signal(Signal::TERM);
            }
            Some(told) if now >= told + within => {
                tracing::warn!(node = %self.spec.node, "a node did not stop in time and is killed");
                running.signal(Signal::KILL);
            }
            Some(_) => {}
        }
    }
}
