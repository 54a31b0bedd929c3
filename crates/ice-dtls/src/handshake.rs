//! One session from the first connectivity check to SRTP keys, and its cold rest.

use crate::dtls::{Association, Keys, Progress};
use crate::paths::{Greeting, Paths};
use crate::{
    Certificate, Datagram, DtlsRole, FailureReason, Fingerprint, IceCredentials, PeerCredentials, classify,
    stun,
};
use srtp::{MasterKey, Profile};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From [`Handshake::new`] to keys; past that the session has failed.
pub const HANDSHAKE_DURATION_MAX: Duration = Duration::from_secs(15);

/// DTLS that came before its path was proved, and waits for that: a client's first flight of two full datagrams, twice.
const HELD_BYTES_MAX: usize = 6000;
/// Of our own checks: that of a peer-reflexive candidate (RFC 8445, section 5.1.2.1).
const PRIORITY: u32 = (110 << 24) | (0xffff << 8) | 255;

/// A pair of transport addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Ours, at which datagrams arrive and from which they must be sent.
    pub local: SocketAddr,
    /// The peer's, as we see it.
    pub remote: SocketAddr,
}

/// What checks are made and judged with.
#[derive(Debug, Clone)]
pub struct IceConfig {
    /// Of our answer.
    pub local: IceCredentials,
    /// Of the peer's offer: its checks must be addressed from it.
    pub remote: PeerCredentials,
    /// Drawn for this session alone, and secret: whoever can guess the transactions of our checks can answer them from
    /// where it does not receive.
    pub random: [u8; 32],
}

/// What a session was agreed on with.
#[derive(Debug, Clone)]
pub struct HandshakeConfig {
    /// Credentials and randomness.
    pub ice: IceConfig,
    /// Of the peer's offer.
    pub remote_fingerprint: Fingerprint,
    /// This node's.
    pub certificate: Arc<Certificate>,
    /// Ours.
    pub dtls_role: DtlsRole,
}

/// Why a datagram was dropped. Harmless to the session, for a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// Neither STUN nor DTLS.
    #[error("the datagram belongs to no handshake")]
    NotHandshake,
    /// STUN, but neither a connectivity check nor an answer to one of ours.
    #[error("the STUN message is neither a connectivity check nor the answer to one")]
    NotCheck,
    /// The check's user name is not that of this session.
    #[error("the check is for another session")]
    OtherSession,
    /// A check was not made with our password, or an answer not with the peer's.
    #[error("the check or answer is not authentic")]
    NotAuthentic,
    /// DTLS from where no authentic check came, or too much of it before the peer answered ours.
    #[error("DTLS on a path that is not proved")]
    PathNotVerified,
    /// The session has failed or was closed.
    #[error("the session is over")]
    Over,
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this datagram.
    Transmit {
        /// Where from and to.
        path: Path,
        /// A STUN answer or DTLS records.
        bytes: Vec<u8>,
    },
    /// The peer nominated this path and has proved that it receives there; the latest one is to be used.
    PathSelected(Path),
    /// There are keys; told once.
    Established {
        /// The path in use.
        path: Path,
        /// How both directions are sealed.
        profile: Profile,
        /// For what the peer sends.
        receive: MasterKey,
        /// For what we send.
        send: MasterKey,
    },
    /// It came to nothing; the last output.
    Failed(FailureReason),
    /// The peer said goodbye; the last output.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Established,
    Over,
}

/// What the DTLS association is made of.
struct DtlsConfig {
    role: DtlsRole,
    remote_fingerprint: Fingerprint,
    certificate: Arc<Certificate>,
}

/// One session. ICE-lite: answers checks, and makes none but to prove where the peer's came from.
pub struct Handshake {
    local: IceCredentials,
    remote: PeerCredentials,
    tie_breaker: u64,
    /// `None` where another process had the association: its keys are gone with it.
    dtls: Option<DtlsConfig>,
    state: State,
    /// When it fails, unless there are keys by then.
    deadline: Instant,
    paths: Paths,
    /// What the peer nominated last, as long as it is not proved.
    nominated: Option<Path>,
    /// The nominated path in use.
    selected: Option<Path>,
    /// Where DTLS goes as long as nothing is selected.
    dtls_path: Option<Path>,
    /// DTLS that waits for the proof of its path.
    held: Vec<(Path, Vec<u8>)>,
    /// Made at the first proved path: sessions that never connect cost little.
    association: Option<Box<Association>>,
    dtls_timeout: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Handshake {
    /// A session that waits for its peer's checks, from `now` on.
    #[must_use]
    pub fn new(config: HandshakeConfig, now: Instant) -> Self {
        let HandshakeConfig { ice, remote_fingerprint, certificate, dtls_role } = config;
        let dtls = DtlsConfig { role: dtls_role, remote_fingerprint, certificate };
        Self { dtls: Some(dtls), ..Self::without_dtls(ice, Paths::new, now + HANDSHAKE_DURATION_MAX) }
    }

    /// Goes on with a session that another process established and whose peer was last at `path`: answers checks, and
    /// tells of other paths that the peer nominates. It does not understand DTLS any more and cannot say goodbye.
    #[must_use]
    pub fn resumed(ice: IceConfig, path: Path, now: Instant) -> Self {
        let paths = |random| Paths::with_proved(random, path);
        let session = Self::without_dtls(ice, paths, now);
        Self { state: State::Established, selected: Some(path), ..session }
    }

    fn without_dtls(ice: IceConfig, paths: impl FnOnce([u8; 32]) -> Paths, deadline: Instant) -> Self {
        let IceConfig { local, remote, random } = ice;
        let mut tie_breaker = [0; 8];
        tie_breaker.copy_from_slice(&random[..8]);
        Self {
            local,
            remote,
            tie_breaker: u64::from_be_bytes(tie_breaker),
            dtls: None,
            state: State::Connecting,
            deadline,
            paths: paths(random),
            nominated: None,
            selected: None,
            dtls_path: None,
            held: Vec::new(),
            association: None,
            dtls_timeout: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes a datagram that arrived on `path`.
    ///
    /// # Errors
    /// [`DatagramError`] if it was dropped; the session goes on. Failure of the session is an output.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &[u8],
    ) -> Result<(), DatagramError> {
        if self.state == State::Over {
            return Err(DatagramError::Over);
        }
        match classify(datagram) {
            Datagram::Stun => self.handle_stun(now, path, datagram),
            Datagram::Dtls => self.handle_dtls(now, path, datagram),
            Datagram::Rtp | Datagram::Rtcp | Datagram::Unknown => Err(DatagramError::NotHandshake),
        }
    }

    /// Acts on what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.ask(now);
        if self.state != State::Connecting {
            return;
        }
        if now >= self.deadline {
            let reason = match self.association {
                Some(_) => FailureReason::DtlsTimedOut,
                None if self.paths.has_any() => FailureReason::NoAnswer,
                None => FailureReason::NoCheck,
            };
            return self.fail(reason);
        }
        if self.dtls_timeout.is_some_and(|at| now >= at) {
            self.drive(|association| association.handle_timeout(now));
        }
    }

    /// When [`Handshake::handle_timeout`] is to be called; `None` once there are keys and no path waits for its proof.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.state {
            State::Connecting => Some(self.dtls_timeout.map_or(self.deadline, |at| at.min(self.deadline))),
            State::Established => None,
            State::Over => return None,
        };
        own.into_iter().chain(self.paths.poll_timeout()).min()
    }

    /// The next thing to do. Call until `None` after each of the other calls.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Ends the session: says goodbye over DTLS, where there are keys to say it with.
    pub fn close(&mut self, now: Instant) {
        if self.state == State::Established {
            self.drive(|association| association.close(now));
        }
        self.end();
    }

    /// ICE restart (RFC 8445, section 9): from now on only checks with the new credentials count. The path in use
    /// stays in use until the peer nominates another; DTLS goes on.
    pub fn restart_ice(&mut self, local: IceCredentials, remote: PeerCredentials) {
        self.local = local;
        self.remote = remote;
        self.nominated = None;
        self.paths.keep_only(self.path_in_use());
    }

    fn handle_stun(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), DatagramError> {
        if let Some(answer) = stun::Answer::parse(datagram) {
            return self.handle_answer(now, path, answer, datagram);
        }
        let request = stun::BindingRequest::parse(datagram).ok_or(DatagramError::NotCheck)?;
        if request.local_ufrag() != self.local.ufrag() || request.remote_ufrag() != self.remote.ufrag {
            return Err(DatagramError::OtherSession);
        }
        if !stun::verify(datagram, self.local.pwd()) {
            return Err(DatagramError::NotAuthentic);
        }
        self.paths.checked(now, path, self.path_in_use());
        if request.use_candidate() {
            self.nominated = Some(path);
        }
        // Our check goes first: so the peer's answer to it comes before the DTLS that the other answer allows.
        self.ask(now);
        let (transaction, remote) = (request.transaction(), path.remote);
        let mut bytes = vec![0; stun::SUCCESS_LENGTH_MAX];
        let length = stun::write_success(&mut bytes, transaction, remote, self.local.pwd());
        bytes.truncate(length);
        self.outputs.push_back(Output::Transmit { path, bytes });
        self.select();
        Ok(())
    }

    /// An answer to a check of ours. A refusal proves as much as a success, if it is authentic.
    fn handle_answer(
        &mut self,
        now: Instant,
        path: Path,
        answer: stun::Answer,
        datagram: &[u8],
    ) -> Result<(), DatagramError> {
        if !stun::verify(datagram, &self.remote.pwd) {
            return Err(DatagramError::NotAuthentic);
        }
        if !self.paths.answered(path, answer.transaction) {
            return Err(DatagramError::OtherSession);
        }
        self.select();
        if self.association.is_none() {
            self.begin_dtls(now, path);
        }
        let (due, held) = std::mem::take(&mut self.held).into_iter().partition(|(from, _)| *from == path);
        self.held = held;
        let due: Vec<(Path, Vec<u8>)> = due;
        due.into_iter().try_for_each(|(path, datagram)| self.handle_dtls(now, path, &datagram))
    }

    /// Uses what was nominated last, once it is proved.
    fn select(&mut self) {
        let Some(path) = self.nominated.take_if(|path| self.paths.is_proved(*path)) else { return };
        if self.selected != Some(path) {
            self.selected = Some(path);
            self.outputs.push_back(Output::PathSelected(path));
        }
    }

    /// Sends the checks of ours that are due.
    fn ask(&mut self, now: Instant) {
        while let Some((path, transaction)) = self.paths.poll_ask(now) {
            let check = stun::Check {
                transaction,
                remote_ufrag: &self.remote.ufrag,
                local_ufrag: self.local.ufrag(),
                priority: PRIORITY,
                controlling: None,
            };
            let mut bytes = vec![0; check.length_max()];
            let (tie_breaker, pwd) = (self.tie_breaker, &self.remote.pwd);
            let length = stun::write_controlled_request(&mut bytes, &check, tie_breaker, pwd);
            bytes.truncate(length);
            self.outputs.push_back(Output::Transmit { path, bytes });
        }
    }

    fn begin_dtls(&mut self, now: Instant, path: Path) {
        let Some(DtlsConfig { role, remote_fingerprint, certificate }) = &self.dtls else { return };
        let association = Association::new(*role, remote_fingerprint.clone(), certificate, now);
        self.association = Some(Box::new(association));
        self.dtls_path = Some(path);
        // The library wants to know the time before the first packet; as client it sends its hello then.
        self.drive(|association| association.handle_timeout(now));
    }

    fn handle_dtls(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), DatagramError> {
        match self.paths.greeted(now, path) {
            Greeting::Stranger => Err(DatagramError::PathNotVerified),
            Greeting::Unproved => {
                self.ask(now);
                let held: usize = self.held.iter().map(|(_, datagram)| datagram.len()).sum();
                if held + datagram.len() > HELD_BYTES_MAX {
                    return Err(DatagramError::PathNotVerified);
                }
                self.held.push((path, datagram.to_vec()));
                Ok(())
            }
            Greeting::Proved => {
                self.dtls_path = Some(path);
                self.drive(|association| association.handle_packet(now, datagram));
                Ok(())
            }
        }
    }

    fn path_in_use(&self) -> Option<Path> {
        self.selected.or(self.dtls_path)
    }

    fn drive(&mut self, step: impl FnOnce(&mut Association) -> Progress) {
        let path = self.path_in_use();
        let (Some(association), Some(path)) = (&mut self.association, path) else { return };
        let progress = step(association);
        let transmit = |bytes| Output::Transmit { path, bytes };
        self.outputs.extend(progress.packets.into_iter().map(transmit));
        self.dtls_timeout = progress.timeout;
        if let Some(reason) = progress.failure {
            return self.fail(reason);
        }
        if let Some(Keys { profile, receive, send }) = progress.keys {
            self.state = State::Established;
            self.outputs.push_back(Output::Established { path, profile, receive, send });
        }
        if progress.is_closed {
            self.outputs.push_back(Output::Closed);
            self.end();
        }
    }

    fn fail(&mut self, reason: FailureReason) {
        self.outputs.push_back(Output::Failed(reason));
        self.end();
    }

    fn end(&mut self) {
        self.state = State::Over;
        self.association = None;
        self.held = Vec::new();
        self.dtls_timeout = None;
    }
}
