//! One run from the first POST to the last DELETE.

mod crowd;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ice_dtls::{Certificate, CertificateError};
use model::Kind;
use reqwest::Url;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::engine::{Collected, Command, Engine};
use crate::http::Signalling;
use crate::ledger::settle;
use crate::media::SETTLING;
use crate::process::{self, Cpu};
use crate::publish::{self, Publishers};
use crate::summary::{self, CpuSeconds, Packets, Stalls, Summary, Window};
use crowd::{Counts, Crowd};

/// After the window, repairs of what was lost in it still count.
const GRACE: Duration = Duration::from_secs(1);
/// Between two reports of the progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Joins that wait for HTTP at once.
const JOINS_AT_ONCE: usize = 256;
/// Sessions deleted at once.
const DELETES_AT_ONCE: usize = 64;
/// Files and sockets besides those of viewers: HTTP connections, publishers, pollers, standard streams.
const OTHER_DESCRIPTORS: u64 = 1024;
/// The most viewers of one process: ports of one address.
const VIEWERS_MAX: usize = 60_000;

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// WHEP endpoints; viewers are spread evenly over them.
    pub watch: Vec<String>,
    /// How many.
    pub viewers: usize,
    /// Joins begun in a second.
    pub join_rate: f64,
    /// Length of the window.
    pub duration: Duration,
    /// Bearer token of viewers.
    pub token: Option<String>,
    /// Share of viewers whose every packet is decrypted and authenticated.
    pub verify_share: f64,
    /// Share of received RTP packets that is dropped.
    pub loss: f64,
    /// Of the losses and of the churn.
    pub seed: u64,
    /// Mean life of a viewer; forever without it.
    pub churn: Option<Duration>,
    /// Threads for viewers; as many as there are processors without it.
    pub threads: Option<usize>,
    /// Take trains of datagrams from the kernel whole. Cheaper, but on one machine it makes the server cheaper as well.
    pub is_coalescing: bool,
    /// What to publish meanwhile.
    pub publish: Option<publish::Options>,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The options contradict themselves or make no sense.
    #[error("{0}")]
    Options(&'static str),
    /// A URL is none.
    #[error("{url} is not an http URL with a host")]
    Url {
        /// What was given.
        url: String,
    },
    /// A host has no address, or no way leads there.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// The endpoint.
        url: String,
        /// What the system says.
        source: io::Error,
    },
    /// Too few files may be open.
    #[error(
        "{needed} open files and sockets are needed and {allowed} are allowed: raise the limit, for instance with \
         `ulimit -n {needed}` as root or LimitNOFILE={needed} in a systemd unit"
    )]
    Descriptors {
        /// For this run.
        needed: u64,
        /// The hard limit.
        allowed: u64,
    },
    /// No publisher at this URL.
    #[error("cannot publish to {url}")]
    Publish {
        /// The endpoint.
        url: String,
        /// Which step failed.
        #[source]
        reason: client::ConnectError,
    },
    /// No certificate.
    #[error("no certificate for DTLS")]
    Certificate(#[from] CertificateError),
    /// No HTTP client.
    #[error("no HTTP client")]
    Http(#[from] reqwest::Error),
    /// No thread or poller.
    #[error("no thread for viewers")]
    Thread(#[source] io::Error),
    /// A thread is gone.
    #[error("a thread of viewers has died")]
    ThreadDied,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Viewers join.
    Joining,
    /// All have joined or failed.
    Settling,
    /// The window is open.
    Measuring,
    /// The window is over; what was lost in it may still be repaired.
    Closing,
    /// Sessions are being deleted.
    Leaving,
}

/// A report while it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Since the start.
    pub elapsed: Duration,
    /// How far it is.
    pub phase: Phase,
    /// Served at this moment.
    pub watching: u64,
    /// Never connected so far.
    pub failed: u64,
    /// RTP datagrams a second, since the last report.
    pub packets_per_second: f64,
    /// 10^6 bits a second, since the last report.
    pub mbps: f64,
}

/// An endpoint and the address of this machine that faces it.
pub(crate) struct Endpoint {
    pub(crate) url: Url,
    pub(crate) facing: IpAddr,
}

/// Joins, measures, leaves. `stop` cuts it short: what was measured until then is summed up, and all sessions are
/// deleted.
///
/// # Errors
/// [`Error`] if there was nothing to measure; viewers and sessions that fail are part of the summary.
pub async fn run(
    options: Options,
    report: impl FnMut(&Progress),
    stop: impl Future<Output = ()>,
) -> Result<Summary, Error> {
    check(&options)?;
    let viewers = if options.watch.is_empty() { 0 } else { options.viewers };
    process::allow_descriptors(viewers as u64 + OTHER_DESCRIPTORS)?;
    let endpoints = endpoints(&options.watch).await?;
    let publishers = match &options.publish {
        Some(publish) => Some(Publishers::start(publish).await?),
        None => None,
    };
    let wanted_publishers = options.publish.as_ref().map_or(0, |publish| publish.urls.len() as u64);
    let threads =
        options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let engines = (0..threads).map(|index| Engine::start(index, options.seed));
    let engines: Vec<Engine> = engines.collect::<io::Result<_>>().map_err(Error::Thread)?;
    let (phase, _) = watch::channel(Phase::Joining);
    let crowd = Arc::new(Crowd {
        signalling: Signalling::new(options.token.clone())?,
        certificate: Arc::new(Certificate::generate()?),
        endpoints,
        engines,
        began: Instant::now(),
        counts: watch::channel(Counts::default()).0,
        phase,
        joins: Semaphore::new(JOINS_AT_ONCE),
        deletes: Semaphore::new(DELETES_AT_ONCE),
        options,
    });
    let everybody = tokio::spawn(crowd.clone().gather(viewers));
    let mut course =
        Course { crowd: &crowd, report, stop: pin!(stop), is_stopped: false, last: (Instant::now(), 0, 0) };
    let measured = course.measure(viewers as u64).await;
    course.enter(Phase::Leaving);
    course.pass(everybody).await;
    let ended = match publishers {
        Some(publishers) => publishers.stop().await,
        None => BTreeMap::new(),
    };
    let publishers = summary::Publishers { wanted: wanted_publishers, ended };
    let counts = crowd.counts.borrow().clone();
    Ok(measured?.sum_up(counts, viewers as u64, publishers))
}

fn check(options: &Options) -> Result<(), Error> {
    let is_share = |share: f64| (0.0..=1.0).contains(&share);
    let publish = options.publish.as_ref();
    let refuse = |why| Err(Error::Options(why));
    match () {
        () if options.watch.is_empty() && publish.is_none_or(|publish| publish.urls.is_empty()) => {
            refuse("there is nothing to do: give a WHEP URL to watch, or a WHIP URL to publish to")
        }
        () if !options.watch.is_empty() && options.viewers == 0 => refuse("at least one viewer is needed"),
        () if options.viewers > VIEWERS_MAX => {
            refuse("one process holds at most 60000 viewers: an address has no more ports")
        }
        () if !(options.join_rate > 0.0 && options.join_rate.is_finite()) => {
            refuse("the join rate is a number above zero")
        }
        () if !is_share(options.verify_share) => refuse("the share to verify lies between 0 and 1"),
        () if !is_share(options.loss) => refuse("the loss lies between 0 and 1"),
        () if options.threads == Some(0) => refuse("at least one thread is needed"),
        () if publish.is_some_and(|publish| !(0.1..=1000.0).contains(&publish.frame_rate)) => {
            refuse("the frame rate lies between 0.1 and 1000")
        }
        () => Ok(()),
    }
}

async fn endpoints(urls: &[String]) -> Result<Vec<Endpoint>, Error> {
    let mut endpoints = Vec::new();
    for text in urls {
        let refused = || Error::Url { url: text.clone() };
        let url = Url::parse(text).map_err(|_| refused())?;
        let (true, Some(host)) = (url.scheme() == "http", url.host_str()) else { return Err(refused()) };
        let unreachable = |source| Error::Unreachable { url: text.clone(), source };
        let facing = facing(host.trim_matches(['[', ']']), url.port_or_known_default().unwrap_or(80));
        let facing = facing.await.map_err(unreachable)?;
        endpoints.push(Endpoint { url, facing });
    }
    Ok(endpoints)
}

/// The address of this machine from which datagrams to the host would leave.
async fn facing(host: &str, port: u16) -> io::Result<IpAddr> {
    let mut resolved = tokio::net::lookup_host((host, port)).await?;
    let server = resolved.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let probe = std::net::UdpSocket::bind((any_of(server.ip()), 0))?;
    probe.connect(server)?;
    Ok(probe.local_addr()?.ip())
}

/// The unspecified address of the same family.
pub(crate) const fn any_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// Leads a run through its phases and tells of it.
struct Course<'a, R, S> {
    crowd: &'a Crowd,
    report: R,
    stop: S,
    is_stopped: bool,
    /// When the last report was, and what had been received by then: packets and bytes.
    last: (Instant, u64, u64),
}

impl<R: FnMut(&Progress), S: Future<Output = ()> + Unpin> Course<'_, R, S> {
    fn enter(&self, phase: Phase) {
        self.crowd.phase.send_replace(phase);
    }

    /// Waits for `end` and reports meanwhile; a stop ends every wait but that for leaving.
    async fn pass<T>(&mut self, end: impl Future<Output = T>) {
        let mut end = pin!(end);
        let mut ticks =
            tokio::time::interval_at((Instant::now() + PROGRESS_INTERVAL).into(), PROGRESS_INTERVAL);
        let is_leaving = *self.crowd.phase.borrow() == Phase::Leaving;
        while is_leaving || !self.is_stopped {
            tokio::select! {
                _ = &mut end => return,
                () = &mut self.stop, if !self.is_stopped => self.is_stopped = true,
                _ = ticks.tick() => self.tell(),
            }
        }
    }

    fn tell(&mut self) {
        let gauges = || self.crowd.engines.iter().map(|engine| &engine.gauges);
        let packets: u64 = gauges().map(|gauge| gauge.packets.load(Ordering::Relaxed)).sum();
        let bytes: u64 = gauges().map(|gauge| gauge.bytes.load(Ordering::Relaxed)).sum();
        let (at, packets_before, bytes_before) =
            std::mem::replace(&mut self.last, (Instant::now(), packets, bytes));
        let seconds = at.elapsed().as_secs_f64().max(0.001);
        let counts = self.crowd.counts.borrow().clone();
        (self.report)(&Progress {
            elapsed: self.crowd.began.elapsed(),
            phase: *self.crowd.phase.borrow(),
            watching: counts.watching,
            failed: counts.failed.values().sum(),
            packets_per_second: packets.saturating_sub(packets_before) as f64 / seconds,
            mbps: bytes.saturating_sub(bytes_before) as f64 * 8.0 / seconds / 1e6,
        });
    }

    async fn measure(&mut self, viewers: u64) -> Result<Measured, Error> {
        let mut decided = self.crowd.counts.subscribe();
        self.pass(decided.wait_for(|counts| counts.decided >= viewers)).await;
        // Where nobody came, there is nothing to wait for.
        let is_pointless = viewers > 0 && self.crowd.counts.borrow().watching == 0;
        let unless_pointless = |time: Duration| if is_pointless { Duration::ZERO } else { time };
        self.enter(Phase::Settling);
        self.pass(tokio::time::sleep(unless_pointless(SETTLING))).await;
        self.enter(Phase::Measuring);
        let (before, overflows) = (Cpu::now(), process::receive_buffer_overflows());
        let begin = (SystemTime::now(), Instant::now());
        self.crowd.engines.iter().for_each(|engine| engine.send(Command::BeginWindow));
        let duration = unless_pointless(self.crowd.options.duration);
        self.pass(tokio::time::sleep(duration)).await;
        self.crowd.engines.iter().for_each(|engine| engine.send(Command::EndWindow));
        let length = begin.1.elapsed();
        let cpu = Cpu::now().since(before);
        let resident_bytes = process::resident_bytes();
        let overflows = process::receive_buffer_overflows().saturating_sub(overflows);
        self.enter(Phase::Closing);
        self.pass(tokio::time::sleep(unless_pointless(GRACE))).await;
        let mut collected = Collected::default();
        for engine in &self.crowd.engines {
            let (to, from) = oneshot::channel();
            engine.send(Command::Collect(to));
            let more = from.await.map_err(|_| Error::ThreadDied)?;
            collected.tally.merge(more.tally);
            collected.without_picture += more.without_picture;
        }
        Ok(Measured { begin: begin.0, length, cpu, resident_bytes, overflows, collected })
    }
}

/// What the window brought.
struct Measured {
    begin: SystemTime,
    length: Duration,
    cpu: Cpu,
    resident_bytes: u64,
    overflows: u64,
    collected: Collected,
}

impl Measured {
    fn sum_up(self, counts: Counts, wanted: u64, publishers: summary::Publishers) -> Summary {
        let Collected { tally, without_picture } = self.collected;
        let delivery = settle(&tally.accounts.tracks);
        let of_kind = |kind| {
            let tracks = tally.accounts.tracks.iter().filter(|track| track.kind == kind);
            settle(&tracks.copied().collect::<Vec<_>>())
        };
        let traffic = tally.traffic;
        let start = self.begin.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = self.length.as_secs_f64().max(0.001);
        let stalls = tally.accounts.stalls;
        Summary {
            window: Window {
                start_unix_ms: start.as_millis() as u64,
                end_unix_ms: (start + self.length).as_millis() as u64,
            },
            viewers: summary::Viewers {
                wanted,
                joined: counts.joined,
                failed: counts.failed,
                left_early: counts.left_early,
                churned: counts.churned,
                without_keyframe: without_picture,
                delete_failed: counts.delete_failed,
            },
            join_ms: tally.joins.percentiles(),
            first_frame_ms: tally.first_frames.percentiles(),
            packets: Packets {
                expected: delivery.expected,
                delivered: delivery.delivered,
                lost_before_repair: delivery.lost_before_repair,
                lost_after_repair: delivery.lost_after_repair,
                verified: traffic.verified,
                unverified: traffic.unverified,
                failed_verification: traffic.failed_verification,
                injected_losses: traffic.injected_losses,
            },
            audio: of_kind(Kind::Audio),
            video: of_kind(Kind::Video),
            bytes: traffic.bytes,
            packets_per_second: traffic.packets as f64 / seconds,
            mbps: traffic.bytes as f64 * 8.0 / seconds / 1e6,
            stalls: Stalls {
                viewers: stalls.viewers,
                count: stalls.count,
                longest_ms: stalls.longest.as_millis() as u64,
            },
            latency_ms: tally.latencies.packet.percentiles(),
            latency_frame_ms: tally.latencies.frame.percentiles(),
            transit_ms: tally.latencies.transit.percentiles(),
            cpu_seconds: CpuSeconds {
                user: self.cpu.user.as_secs_f64(),
                system: self.cpu.system.as_secs_f64(),
            },
            rss_bytes: self.resident_bytes,
            receive_buffer_overflows: self.overflows,
            publishers,
        }
    }
}
