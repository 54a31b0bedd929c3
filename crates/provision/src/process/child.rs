//! One node's process over its life: started, ended, started again later and later.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::directory::Directory;
use super::output::{self, Output};
use super::ports::Ports;
use super::running::Running;
use crate::NodeSpec;

/// A process that ran for so long has nothing to do with the ends before it.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// Before the second start in a row; doubles from end to end.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A node that ended, and that nobody has asked for since, is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Child {
    spec: NodeSpec,
    ports: Ports,
    running: Option<Running>,
    since: Instant,
    /// When it ended by itself.
    ended: Option<Instant>,
    failures: u32,
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
        let running = Some(running);
        Self { spec, ports, running, since: now, ended: None, failures: 0, told_to_stop: None, output }
    }

    pub fn restarted(&mut self, now: Instant, ports: Ports, running: Running) {
        (self.ports, self.running, self.since, self.ended) = (ports, Some(running), now, None);
    }

    pub const fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    pub const fn ports(&self) -> Ports {
        self.ports
    }

    pub const fn failures(&self) -> u32 {
        self.failures
    }

    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Notices that it has ended, and passes on what it printed.
    pub fn look(&mut self, now: Instant) {
        output::pass_on(&self.spec.node, &self.output.look());
        let Some(how) = self.running.as_mut().and_then(Running::ended) else { return };
        self.running = None;
        output::pass_on(&self.spec.node, &self.output.look());
        let node = &self.spec.node;
        if self.told_to_stop.is_some() {
            tracing::info!(%node, "node stopped");
            return;
        }
        if now.saturating_duration_since(self.since) >= WELL_AFTER {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.ended = Some(now);
        let pause_s = self.pause().as_secs();
        tracing::warn!(%node, status = how, failures = self.failures, pause_s, "a node ended that nobody had told to");
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX)
    }

    /// How much longer it is not started again.
    pub fn waits(&self, now: Instant) -> Option<Duration> {
        let until = self.ended? + self.pause();
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// It has ended, and nobody wants it.
    pub fn is_done(&self, now: Instant) -> bool {
        let is_forgotten = self.ended.is_some_and(|ended| now >= ended + FORGOTTEN_AFTER);
        !self.is_running() && (self.told_to_stop.is_some() || is_forgotten)
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
