//! One session from the first connectivity check to SRTP keys, and its cold rest.

use crate::dtls::{Association, Keys, Progress};
use crate::{Certificate, Datagram, DtlsRole, FailureReason, Fingerprint, IceCredentials, classify, stun};
use srtp::{MasterKey, Profile};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From [`Handshake::new`] to keys; past that the session has failed.
pub const HANDSHAKE_DURATION_MAX: Duration = Duration::from_secs(15);

/// Verified paths that a session remembers; the oldest one that is not in use gives way. A peer has as many as it
/// has addresses times ours.
pub const PATHS_MAX: usize = 8;

/// A pair of transport addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Ours, at which datagrams arrive and from which they must be sent.
    pub local: SocketAddr,
    /// The peer's, as we see it.
    pub remote: SocketAddr,
}

/// What a session was agreed on with.
#[derive(Debug, Clone)]
pub struct HandshakeConfig {
    /// Of our answer.
    pub local: IceCredentials,
    /// Of the peer's offer. If given, checks must be addressed from it.
    pub remote_ufrag: Option<String>,
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
    /// STUN, but no connectivity check.
    #[error("the STUN message is not a connectivity check")]
    NotCheck,
    /// The check's user name is not that of this session.
    #[error("the check is for another session")]
    OtherSession,
    /// The check was not made with our password.
    #[error("the check is not authentic")]
    NotAuthentic,
    /// DTLS from where no authentic check came.
    #[error("DTLS on a path without an authentic check")]
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
    /// The peer nominated this path; the latest one is to be used.
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

/// One session. ICE-lite: answers checks, makes none of its own.
pub struct Handshake {
    config: HandshakeConfig,
    state: State,
    /// When it fails, unless there are keys by then.
    deadline: Instant,
    /// Paths with an authentic check, oldest first.
    verified: Vec<Path>,
    /// What the peer nominated last.
    selected: Option<Path>,
    /// Where DTLS goes as long as nothing is nominated.
    dtls_path: Option<Path>,
    /// Made at the first authentic check: sessions that never connect cost little.
    association: Option<Box<Association>>,
    dtls_timeout: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Handshake {
    /// A session that waits for its peer's checks, from `now` on.
    #[must_use]
    pub fn new(config: HandshakeConfig, now: Instant) -> Self {
        Self {
            config,
            state: State::Connecting,
            deadline: now + HANDSHAKE_DURATION_MAX,
            verified: Vec::new(),
            selected: None,
            dtls_path: None,
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
        if self.state != State::Connecting {
            return;
        }
        if now >= self.deadline {
            let reason =
                if self.association.is_some() { FailureReason::DtlsTimedOut } else { FailureReason::NoCheck };
            return self.fail(reason);
        }
        if self.dtls_timeout.is_some_and(|at| now >= at) {
            self.drive(|association| association.handle_timeout(now));
        }
    }

    /// When [`Handshake::handle_timeout`] is to be called; `None` once there are keys.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Connecting => Some(self.dtls_timeout.map_or(self.deadline, |at| at.min(self.deadline))),
            State::Established | State::Over => None,
        }
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
    pub fn restart_ice(&mut self, local: IceCredentials, remote_ufrag: Option<String>) {
        self.config.local = local;
        self.config.remote_ufrag = remote_ufrag;
        let in_use = self.path_in_use();
        self.verified.retain(|path| Some(*path) == in_use);
    }

    fn handle_stun(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), DatagramError> {
        let request = stun::BindingRequest::parse(datagram).ok_or(DatagramError::NotCheck)?;
        let is_from_peer =
            self.config.remote_ufrag.as_deref().is_none_or(|ufrag| ufrag == request.remote_ufrag());
        if request.local_ufrag() != self.config.local.ufrag() || !is_from_peer {
            return Err(DatagramError::OtherSession);
        }
        if !stun::verify(datagram, self.config.local.pwd()) {
            return Err(DatagramError::NotAuthentic);
        }
        let mut bytes = vec![0; stun::SUCCESS_LENGTH_MAX];
        let length =
            stun::write_success(&mut bytes, request.transaction(), path.remote, self.config.local.pwd());
        bytes.truncate(length);
        self.outputs.push_back(Output::Transmit { path, bytes });
        self.remember(path);
        if request.use_candidate() && self.selected != Some(path) {
            self.selected = Some(path);
            self.outputs.push_back(Output::PathSelected(path));
        }
        if self.association.is_none() {
            self.begin_dtls(now, path);
        }
        Ok(())
    }

    fn remember(&mut self, path: Path) {
        if self.verified.contains(&path) {
            return;
        }
        if self.verified.len() >= PATHS_MAX {
            let in_use = self.path_in_use();
            let oldest = self.verified.iter().position(|verified| Some(*verified) != in_use).unwrap_or(0);
            self.verified.remove(oldest);
        }
        self.verified.push(path);
    }

    fn begin_dtls(&mut self, now: Instant, path: Path) {
        let HandshakeConfig { dtls_role, remote_fingerprint, certificate, .. } = &self.config;
        let association = Association::new(*dtls_role, remote_fingerprint.clone(), certificate, now);
        self.association = Some(Box::new(association));
        self.dtls_path = Some(path);
        // The library wants to know the time before the first packet; as client it sends its hello then.
        self.drive(|association| association.handle_timeout(now));
    }

    fn handle_dtls(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), DatagramError> {
        if !self.verified.contains(&path) {
            return Err(DatagramError::PathNotVerified);
        }
        self.dtls_path = Some(path);
        self.drive(|association| association.handle_packet(now, datagram));
        Ok(())
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
        self.dtls_timeout = None;
    }
}
