//! The lives of the viewers: each joins, watches, leaves, and may be replaced by another.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ice_dtls::{Certificate, IceCredentials};
use rand::RngExt as _;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use udp_batch::Socket;

use super::{Endpoint, Options, Phase, any_of};
use crate::chance::Chance;
use crate::description::Local;
use crate::engine::{Command, Engine};
use crate::http::{Agreed, JoinError, Resource, Signalling};
use crate::media::Scrutiny;
use crate::viewer::{Plan, Reason};

/// What the kernel may hold for one viewer, in bytes: a second of 4 Mbit/s, as the kernel counts.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// Reports and checks are small and few.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// The shortest life of a viewer that is replaced: one that has begun to watch.
const LIFE_MIN: Duration = Duration::from_secs(1);

/// What has become of the viewers so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// First viewers of their seat that have joined or failed.
    pub(super) decided: u64,
    pub(super) watching: u64,
    pub(super) joined: u64,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) left_early: u64,
    pub(super) churned: u64,
    pub(super) delete_failed: u64,
}

/// What all viewers share.
pub(super) struct Crowd {
    pub(super) options: Options,
    pub(super) began: Instant,
    pub(super) signalling: Signalling,
    pub(super) certificate: Arc<Certificate>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) engines: Vec<Engine>,
    pub(super) counts: watch::Sender<Counts>,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) joins: Semaphore,
    pub(super) deletes: Semaphore,
}

/// Why a viewer never watched.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error("no UDP socket: {}", .0.kind())]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Peer(#[from] Reason),
    #[error("the run was over")]
    Over,
}

/// A viewer that watches.
struct Watching {
    number: u64,
    resource: Option<Resource>,
    ended: oneshot::Receiver<Reason>,
}

/// How the time of a viewer came to its end.
enum Ending {
    RunOver,
    Replaced,
    /// By the server.
    Lost,
}

impl Crowd {
    /// Lets all viewers in at their pace; done when the last one has left.
    pub(super) async fn gather(self: Arc<Self>, viewers: usize) {
        let mut seats = JoinSet::new();
        let mut phase = self.phase.subscribe();
        let start = Instant::now();
        for seat in 0..viewers {
            let due = start + Duration::from_secs_f64(seat as f64 / self.options.join_rate);
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                _ = phase.wait_for(|phase| *phase == Phase::Leaving) => break,
            }
            seats.spawn(self.clone().seat(seat as u64));
        }
        while seats.join_next().await.is_some() {}
    }

    /// One viewer, and whoever replaces it.
    async fn seat(self: Arc<Self>, seat: u64) {
        let mut generation = 0;
        let mut chance = Chance::new(self.options.seed ^ 0x6c69_6665, seat);
        loop {
            // Numbers of replacements begin where those of seats end.
            let number = (generation << 32) | seat;
            let joined = self.join(number, seat).await;
            let is_first = generation == 0;
            self.counts.send_modify(|counts| {
                counts.decided += u64::from(is_first);
                match &joined {
                    Ok(_) => {
                        counts.joined += 1;
                        counts.watching += 1;
                    }
                    Err(Failure::Over) => {}
                    Err(failure) => *counts.failed.entry(failure.to_string()).or_insert(0) += 1,
                }
            });
            let Ok(mut watching) = joined else { return };
            let life =
                self.options.churn.map(|mean| mean.mul_f64(-(1.0 - chance.fraction()).ln()).max(LIFE_MIN));
            let ending = self.watch(&mut watching.ended, life).await;
            self.leave(watching, &ending).await;
            match ending {
                Ending::Replaced => generation += 1,
                Ending::RunOver | Ending::Lost => return,
            }
        }
    }

    fn engine(&self, number: u64) -> &Engine {
        &self.engines[number as usize % self.engines.len()]
    }

    async fn join(&self, number: u64, seat: u64) -> Result<Watching, Failure> {
        let _permit = self.joins.acquire().await.map_err(|_| Failure::Over)?;
        let broadcast = seat as usize % self.endpoints.len();
        let endpoint = &self.endpoints[broadcast];
        let socket = self.socket(endpoint)?;
        let address = SocketAddr::new(endpoint.facing, socket.local_addr().port());
        let ice = IceCredentials::from_random(&rand::rng().random());
        let local = Local { ice: ice.clone(), fingerprint: self.certificate.fingerprint(), address };
        let began = Instant::now();
        let Agreed { remote, resource } = self.signalling.join(&endpoint.url, &local).await?;
        let (joined, outcome) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        let share = self.options.verify_share;
        let is_verifying = ((seat + 1) as f64 * share).floor() > (seat as f64 * share).floor();
        let plan = Plan {
            broadcast,
            began,
            local: ice,
            remote,
            certificate: self.certificate.clone(),
            scrutiny: Scrutiny { is_verifying, loss: self.options.loss },
            chance: Chance::new(self.options.seed, number),
            joined,
            ended,
        };
        self.engine(number).send(Command::Join(number, Box::new(plan), socket));
        let failure = match outcome.await {
            Ok(Ok(())) => return Ok(Watching { number, resource, ended: end }),
            Ok(Err(reason)) => reason.into(),
            Err(_) => Failure::Socket(io::ErrorKind::Other.into()),
        };
        self.delete(number, resource).await;
        Err(failure)
    }

    fn socket(&self, endpoint: &Endpoint) -> io::Result<Socket> {
        let options = udp_batch::Options {
            receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
            send_buffer_bytes: SEND_BUFFER_BYTES,
            is_segmenting: false,
            is_coalescing: self.options.is_coalescing,
            ..udp_batch::Options::default()
        };
        Socket::bind(SocketAddr::new(any_of(endpoint.facing), 0), &options)
    }

    async fn watch(&self, ended: &mut oneshot::Receiver<Reason>, life: Option<Duration>) -> Ending {
        let mut phase = self.phase.subscribe();
        let life = async {
            match life {
                Some(life) => tokio::time::sleep(life).await,
                None => std::future::pending().await,
            }
        };
        let is_late = |phase: &Phase| matches!(phase, Phase::Closing | Phase::Leaving);
        let ending = tokio::select! {
            _ = phase.wait_for(is_late) => Ending::RunOver,
            () = life => Ending::Replaced,
            _ = ended => Ending::Lost,
        };
        if matches!(ending, Ending::Lost) {
            self.counts.send_modify(|counts| {
                counts.left_early += 1;
                counts.watching -= 1;
            });
        }
        if !matches!(ending, Ending::Replaced) {
            // Its account stays open to the end of the grace.
            let _ = phase.wait_for(|phase| *phase == Phase::Leaving).await;
        }
        ending
    }

    async fn leave(&self, watching: Watching, ending: &Ending) {
        if !matches!(ending, Ending::Lost) {
            self.counts.send_modify(|counts| {
                counts.watching -= 1;
                counts.churned += u64::from(matches!(ending, Ending::Replaced));
            });
        }
        self.engine(watching.number).send(Command::Leave(watching.number));
        self.delete(watching.number, watching.resource).await;
    }

    async fn delete(&self, number: u64, resource: Option<Resource>) {
        if let (Some(resource), Ok(_permit)) = (resource, self.deletes.acquire().await)
            && !self.signalling.delete(&resource).await
        {
            self.counts.send_modify(|counts| counts.delete_failed += 1);
        }
        self.engine(number).send(Command::Remove(number));
    }
}
