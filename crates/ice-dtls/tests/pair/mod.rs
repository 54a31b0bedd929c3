//! Two sessions of this crate with a network between them that a test rules, under a virtual clock.

use ice_dtls::stun::{Check, Transaction, write_request};
use ice_dtls::{
    Certificate, DtlsRole, FailureReason, Handshake, HandshakeConfig, IceConfig, IceCredentials, Output,
    Path, PeerCredentials, stun,
};
use srtp::{MasterKey, Profile};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One-way delay of the network.
pub const DELAY: Duration = Duration::from_millis(20);

/// What a session told.
#[derive(Default)]
pub struct Told {
    pub selected: Vec<Path>,
    pub keys: Vec<(Path, Profile, MasterKey, MasterKey)>,
    pub failed: Vec<FailureReason>,
    pub is_closed: bool,
}

pub struct End {
    pub handshake: Handshake,
    pub credentials: IceCredentials,
    pub address: SocketAddr,
    pub told: Told,
}

/// A datagram under way.
struct Flying {
    arrives: Instant,
    to: usize,
    bytes: Vec<u8>,
}

pub struct Pair {
    pub now: Instant,
    pub ends: [End; 2],
    flying: Vec<Flying>,
    /// DTLS datagrams sent so far, both ways together.
    pub sent: usize,
}

pub const SERVER: usize = 0;
pub const CLIENT: usize = 1;

/// Of the agents that check for both ends, and answer their checks.
const PEER_UFRAG: &str = "peer";
const PEER_PWD: &str = "a password of the peer";

pub fn config(
    certificate: &Arc<Certificate>,
    peer: &Certificate,
    dtls_role: DtlsRole,
    random: u8,
) -> HandshakeConfig {
    HandshakeConfig {
        ice: IceConfig {
            local: IceCredentials::from_random(&[random; 32]),
            remote: PeerCredentials { ufrag: PEER_UFRAG.to_owned(), pwd: PEER_PWD.to_owned() },
            random: [random; 32],
        },
        remote_fingerprint: peer.fingerprint(),
        certificate: certificate.clone(),
        dtls_role,
    }
}

/// A check as the controlling peer would send it.
pub fn check(to: &IceCredentials, nominates: bool) -> Vec<u8> {
    let transaction = Transaction([7; 12]);
    let controlling = Some((1, nominates));
    let check =
        Check { transaction, remote_ufrag: to.ufrag(), local_ufrag: PEER_UFRAG, priority: 1, controlling };
    let mut bytes = vec![0; check.length_max()];
    let length = write_request(&mut bytes, &check, to.pwd());
    bytes.truncate(length);
    bytes
}

/// What the peer answers to a check of ours; `None` if these bytes are none.
pub fn answer(path: Path, bytes: &[u8]) -> Option<Vec<u8>> {
    let request = stun::BindingRequest::parse(bytes)?;
    assert!(stun::verify(bytes, PEER_PWD), "made for the peer");
    assert_eq!(request.local_ufrag(), PEER_UFRAG);
    let mut answer = vec![0; stun::SUCCESS_LENGTH_MAX];
    let length = stun::write_success(&mut answer, request.transaction(), path.local, PEER_PWD);
    answer.truncate(length);
    Some(answer)
}

impl Pair {
    /// Server and client, each with the other's fingerprint.
    pub fn new(certificates: &[Arc<Certificate>; 2]) -> Self {
        let [server, client] = certificates;
        Self::with([config(server, client, DtlsRole::Server, 1), config(client, server, DtlsRole::Client, 2)])
    }

    pub fn with(configs: [HandshakeConfig; 2]) -> Self {
        let now = Instant::now();
        let mut port = 1000;
        let ends = configs.map(|config| {
            port += 1;
            let credentials = config.ice.local.clone();
            let address = SocketAddr::from(([192, 0, 2, 1], port));
            End { handshake: Handshake::new(config, now), credentials, address, told: Told::default() }
        });
        Self { now, ends, flying: Vec::new(), sent: 0 }
    }

    pub fn path(&self, end: usize) -> Path {
        Path { local: self.ends[end].address, remote: self.ends[1 - end].address }
    }

    /// Both ends see an authentic, nominating check.
    pub fn connect(&mut self) {
        for end in [SERVER, CLIENT] {
            let bytes = check(&self.ends[end].credentials, true);
            self.deliver(end, &bytes, |_, _| Some(DELAY));
        }
    }

    /// Hands a datagram to an end and puts what it answers on the way; `fate` tells how long the n-th DTLS datagram
    /// takes, or that it is lost.
    pub fn deliver(&mut self, end: usize, bytes: &[u8], fate: impl FnMut(usize, &[u8]) -> Option<Duration>) {
        let path = self.path(end);
        let _ = self.ends[end].handshake.handle_datagram(self.now, path, bytes);
        self.drain(end, fate);
    }

    pub fn drain(&mut self, end: usize, mut fate: impl FnMut(usize, &[u8]) -> Option<Duration>) {
        while let Some(output) = self.ends[end].handshake.poll_output() {
            let told = &mut self.ends[end].told;
            match output {
                Output::Transmit { path, bytes } if stun::is_stun(&bytes) => {
                    if let Some(answer) = answer(path, &bytes) {
                        let _ = self.ends[end].handshake.handle_datagram(self.now, path, &answer);
                    }
                }
                Output::Transmit { bytes, .. } => {
                    if let Some(delay) = fate(self.sent, &bytes) {
                        self.flying.push(Flying { arrives: self.now + delay, to: 1 - end, bytes });
                    }
                    self.sent += 1;
                }
                Output::PathSelected(path) => told.selected.push(path),
                Output::Established { path, profile, receive, send } => {
                    told.keys.push((path, profile, receive, send))
                }
                Output::Failed(reason) => told.failed.push(reason),
                Output::Closed => told.is_closed = true,
            }
        }
    }

    /// Lets time pass until nothing is under way and nobody waits.
    pub fn run(&mut self, mut fate: impl FnMut(usize, &[u8]) -> Option<Duration>) {
        loop {
            let arrival = self.flying.iter().map(|flying| flying.arrives).min();
            let timeout = self.ends.iter().filter_map(|end| end.handshake.poll_timeout()).min();
            let Some(next) = arrival.into_iter().chain(timeout).min() else { return };
            self.now = self.now.max(next);
            while let Some(index) = self.flying.iter().position(|flying| flying.arrives <= self.now) {
                let flying = self.flying.swap_remove(index);
                self.deliver(flying.to, &flying.bytes, &mut fate);
            }
            for end in [SERVER, CLIENT] {
                if self.ends[end].handshake.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.ends[end].handshake.handle_timeout(self.now);
                    self.drain(end, &mut fate);
                }
            }
        }
    }

    /// From nothing to keys at both ends over a network without fault.
    pub fn establish(&mut self) {
        self.connect();
        self.run(|_, _| Some(DELAY));
    }
}
