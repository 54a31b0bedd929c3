//! The supervisor: one child at a time, and for the length of a hand-over two.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::channel::{Channel, KEY_BYTES, ToChild, ToParent};
use crate::child::VARIABLE;
use crate::control::{Control, Request};
use crate::place::Place;
use crate::restarts::{Death, Decision, Restarts};

/// How long a successor may prepare itself.
const STAND_BY_MAX: Duration = Duration::from_secs(15);
/// How long the one before may take to leave; its records are written as it goes, so it can be killed.
const HAND_OVER_MAX: Duration = Duration::from_millis(500);

/// What outlives each child.
pub struct Estate {
    /// The node's sockets, by name.
    pub sockets: Vec<(String, OwnedFd)>,
    /// The key of session records, unless the configuration names one.
    pub key: Option<Zeroizing<[u8; KEY_BYTES]>>,
    /// Where session records are.
    pub place: Place,
    /// What the child is told beside the arguments and the environment of this process.
    pub environment: Vec<(String, OsString)>,
    /// The exit code that says that starting again is of no use.
    pub bad_configuration: u8,
}

/// How supervision ended: the exit code of the last child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended(pub u8);

/// Starts this program again, with the same arguments, as a child that gets the estate; starts the next one whenever it
/// dies. Ends with a child that was told to stop or that ends well. Call it on the thread that lives as long as the
/// process: the children end with it.
///
/// # Errors
/// If the first child cannot be started, or signals not be taken.
pub fn supervise(estate: Estate) -> anyhow::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut supervisor = Supervisor::new(estate)?;
        supervisor.run().await
    })
}

/// A running child.
struct Running {
    process: tokio::process::Child,
    channel: Channel,
    reports: mpsc::UnboundedReceiver<ToParent>,
    since: Instant,
    is_ready: bool,
}

/// What woke the supervisor.
enum Happened {
    Signal,
    Ended(ExitStatus),
    Ready,
    Asked(Request),
}

struct Supervisor {
    estate: Estate,
    /// Of the next child.
    program: PathBuf,
    /// The one before it, as long as the next has not shown that it serves.
    program_before: Option<PathBuf>,
    arguments: Vec<OsString>,
    control: Option<Control>,
    terminate: Signal,
    interrupt: Signal,
    restarts: Restarts,
    is_stopping: bool,
}

impl Supervisor {
    fn new(estate: Estate) -> anyhow::Result<Self> {
        let control = Control::listen(estate.place.path()).inspect_err(
            |error| tracing::warn!(%error, "no control socket: this node cannot be upgraded in place"),
        );
        Ok(Self {
            estate,
            program: std::env::current_exe().context("find this program")?,
            program_before: None,
            arguments: std::env::args_os().skip(1).collect(),
            control: control.ok(),
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            restarts: Restarts::default(),
            is_stopping: false,
        })
    }

    async fn run(&mut self) -> anyhow::Result<Ended> {
        let mut child = self.start(Some(true))?;
        loop {
            match self.happening(&mut child).await {
                Happened::Signal => {
                    self.is_stopping = true;
                    // A child that is gone will be heard of at once.
                    let _ = child.channel.tell(&ToChild::Stop);
                }
                Happened::Ready => {
                    child.is_ready = true;
                    self.program_before = None;
                    self.restarts.ready();
                }
                Happened::Asked(request) => child = self.replace(child, request).await,
                Happened::Ended(status) => match self.after_death(&child, status).await {
                    Some(next) => child = next,
                    None => return Ok(Ended(code(status))),
                },
            }
        }
    }

    async fn happening(&mut self, child: &mut Running) -> Happened {
        let asked = async {
            match &self.control {
                Some(control) => control.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Happened::Signal,
            _ = self.interrupt.recv() => Happened::Signal,
            Some(ToParent::Ready) = child.reports.recv() => Happened::Ready,
            status = child.process.wait() => Happened::Ended(status.unwrap_or_default()),
            request = asked => Happened::Asked(request),
        }
    }

    /// The next child, or `None` if there is to be none.
    async fn after_death(&mut self, dead: &Running, status: ExitStatus) -> Option<Running> {
        let death = Death { code: status.code(), was_ready: dead.is_ready, lived: dead.since.elapsed() };
        if self.is_stopping {
            return None;
        }
        if let Some(before) = self.program_before.take() {
            tracing::error!(program = %self.program.display(), "the new program does not serve, the one before goes on");
            self.program = before;
        }
        let (mut pause, mut resumes) = match self.restarts.died(death, self.estate.bad_configuration) {
            Decision::End(_) => return None,
            Decision::Restart { after, resumes } => (after, resumes),
        };
        loop {
            tracing::error!(%status, pause_ms = pause.as_millis() as u64, resumes, "the node died and is started again");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.terminate.recv() => return None,
                _ = self.interrupt.recv() => return None,
            }
            match self.start(Some(resumes)) {
                Ok(next) => return Some(next),
                Err(error) => tracing::error!(error = format!("{error:#}"), "the node cannot be started"),
            }
            let failed = Death { code: None, was_ready: false, lived: Duration::ZERO };
            match self.restarts.died(failed, self.estate.bad_configuration) {
                Decision::End(_) => return None,
                Decision::Restart { after, resumes: next } => (pause, resumes) = (after, next),
            }
        }
    }

    /// Lets a child of another program take over; the old one goes on if that one does not come to wait for its turn.
    async fn replace(&mut self, mut old: Running, request: Request) -> Running {
        let before = std::mem::replace(&mut self.program, request.program.clone());
        let begun = Instant::now();
        let stood_by = tokio::select! {
            next = self.stand_by() => next,
            _ = old.process.wait() => Err(anyhow::anyhow!("the node before ended meanwhile")),
        };
        let mut next = match stood_by {
            Ok(next) => next,
            Err(error) => {
                self.program = before;
                tracing::warn!(error = format!("{error:#}"), "the program was not replaced");
                request.answer(Err(format!("the new program was not taken: {error:#}"))).await;
                return old;
            }
        };
        let prepared = begun.elapsed();
        let handed_over = Instant::now();
        let _ = old.channel.tell(&ToChild::HandOver);
        if tokio::time::timeout(HAND_OVER_MAX, old.process.wait()).await.is_err() {
            tracing::warn!("the node before did not leave by itself");
            let _ = old.process.kill().await;
        }
        self.program_before = Some(before);
        let _ = next.channel.tell(&ToChild::Go { resumes: true });
        let is_ready = tokio::time::timeout(STAND_BY_MAX, next.reports.recv()).await;
        if matches!(is_ready, Ok(Some(ToParent::Ready))) {
            next.is_ready = true;
            self.program_before = None;
            let gap = handed_over.elapsed().as_millis();
            tracing::info!(program = %self.program.display(), prepared_ms = prepared.as_millis() as u64, gap_ms = gap as u64, "another program took over");
            request.answer(Ok(format!("{} took over after {gap} ms", self.program.display()))).await;
        } else {
            // Its end, if it has ended, is heard of next, and the program before goes on then.
            let _ = next.process.start_kill();
            request
                .answer(Err("the new program did not come to serve; the one before is started again".into()))
                .await;
        }
        next
    }

    /// Starts a child that waits for its turn.
    async fn stand_by(&self) -> anyhow::Result<Running> {
        let mut next = self.start(None)?;
        let prepared = tokio::time::timeout(STAND_BY_MAX, next.reports.recv()).await;
        if matches!(prepared, Ok(Some(ToParent::StandsBy))) {
            return Ok(next);
        }
        let _ = next.process.start_kill();
        let status = next.process.wait().await?;
        anyhow::bail!("{} did not come to wait for its turn ({status})", self.program.display())
    }

    /// Starts a child; `resumes` is `None` for one that waits for its turn.
    fn start(&self, resumes: Option<bool>) -> anyhow::Result<Running> {
        let (ours, theirs) = Channel::pair().context("make a channel")?;
        let process = Command::new(&self.program)
            .args(&self.arguments)
            .env(VARIABLE, "1")
            .envs(self.estate.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(theirs.into_inner()))
            // A terminal's interrupt is for the supervisor, which passes it on once.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        for (name, socket) in &self.estate.sockets {
            let socket = socket.try_clone().context("share a socket")?;
            ours.tell(&ToChild::Socket(name.clone(), socket)).context("hand over a socket")?;
        }
        if let Some(key) = &self.estate.key {
            ours.tell(&ToChild::Key(key.clone())).context("hand over the key")?;
        }
        ours.tell(&ToChild::Deaths(self.restarts.deaths())).context("hand over the count of deaths")?;
        let last = resumes.map_or(ToChild::HandOver, |resumes| ToChild::Go { resumes });
        ours.tell(&last).context("hand over")?;
        let reports = hear(ours.try_clone().context("share the channel")?)?;
        Ok(Running { process, channel: ours, reports, since: Instant::now(), is_ready: false })
    }
}

/// What the child at the other end says.
fn hear(channel: Channel) -> anyhow::Result<mpsc::UnboundedReceiver<ToParent>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let hear = move || {
        while let Ok(Some(report)) = channel.hear() {
            if sender.send(report).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new()
        .name("child".into())
        .spawn(hear)
        .context("start a thread for a child's reports")?;
    Ok(receiver)
}

/// As a shell tells it.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let of_signal = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(of_signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
