//! One viewer from the answer of the server to its end: ICE, DTLS, then media.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ice_dtls::{
    Association, Certificate, Datagram, DtlsRole, FailureReason, HANDSHAKE_DURATION_MAX, IceCredentials,
    Progress, classify,
};
use tokio::sync::oneshot;

use crate::chance::Chance;
use crate::description::Remote;
use crate::frames::Stalls;
use crate::ice::{Agent, Event};
use crate::ledger::Account;
use crate::media::{Reception, Scrutiny};
use crate::turn::Turn;

/// Why a viewer is not, or no longer, served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Reason {
    #[error("no ICE path: none of the server's candidates answered")]
    NoPath,
    #[error("{0}")]
    Dtls(FailureReason),
    #[error("the server closed the session")]
    Closed,
    #[error("the server stopped answering consent checks")]
    ConsentLost,
    #[error("the server's SRTP keys cannot be used")]
    Keys,
}

/// What a viewer is made of.
pub(crate) struct Plan {
    /// Which of the URLs it watches.
    pub(crate) broadcast: usize,
    /// When its POST began.
    pub(crate) began: Instant,
    pub(crate) local: IceCredentials,
    pub(crate) remote: Remote,
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) scrutiny: Scrutiny,
    pub(crate) chance: Chance,
    /// Told once, when DTLS is done or has failed.
    pub(crate) joined: oneshot::Sender<Result<(), Reason>>,
    /// Told once, if a joined viewer is no longer served.
    pub(crate) ended: oneshot::Sender<Reason>,
}

enum State {
    Connecting {
        deadline: Instant,
    },
    Served(Box<Reception>),
    /// Ended by the server; its silence is still accounted for.
    Ended(Box<Reception>),
    Failed,
}

/// One viewer without its socket.
pub(crate) struct Viewer {
    broadcast: usize,
    began: Instant,
    agent: Agent,
    /// Needed until there is an association and media.
    setting: Setting,
    association: Option<Box<Association>>,
    dtls_timeout: Option<Instant>,
    joined: Option<oneshot::Sender<Result<(), Reason>>>,
    ended: Option<oneshot::Sender<Reason>>,
    state: State,
}

struct Setting {
    remote: Option<Box<Remote>>,
    certificate: Arc<Certificate>,
    scrutiny: Scrutiny,
    chance: Chance,
    role: DtlsRole,
}

impl Viewer {
    pub(crate) fn new(plan: Plan, turn: &mut Turn<'_>) -> Self {
        let Plan { broadcast, began, local, remote, certificate, scrutiny, chance, joined, ended } = plan;
        let agent = Agent::new(local, remote.ice.clone(), remote.is_controlling, &remote.candidates, turn);
        let role = remote.dtls_role;
        Self {
            broadcast,
            began,
            agent,
            setting: Setting { remote: Some(Box::new(remote)), certificate, scrutiny, chance, role },
            association: None,
            dtls_timeout: None,
            joined: Some(joined),
            ended: Some(ended),
            state: State::Connecting { deadline: turn.now + HANDSHAKE_DURATION_MAX },
        }
    }

    pub(crate) fn handle_datagram(&mut self, turn: &mut Turn<'_>, from: SocketAddr, datagram: &mut [u8]) {
        if matches!(self.state, State::Ended(_) | State::Failed) {
            return;
        }
        match classify(datagram) {
            Datagram::Rtp => {
                if let State::Served(reception) = &mut self.state {
                    reception.handle_rtp(turn, datagram);
                }
            }
            Datagram::Rtcp => {
                if let State::Served(reception) = &mut self.state {
                    reception.handle_rtcp(turn.now, datagram);
                }
            }
            Datagram::Stun => {
                let event = self.agent.handle_datagram(turn, from, datagram);
                self.handle_ice(turn, event);
            }
            Datagram::Dtls => self.handle_dtls(turn, from, datagram),
            Datagram::Unknown => {}
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Connecting { deadline } => {
                Some(self.dtls_timeout.map_or(*deadline, |at| at.min(*deadline)))
            }
            State::Served(reception) => reception.poll_timeout(),
            State::Ended(_) | State::Failed => return None,
        };
        own.into_iter().chain(self.agent.poll_timeout()).min()
    }

    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_>, buffer: &mut Vec<u8>) {
        let event = self.agent.handle_timeout(turn);
        self.handle_ice(turn, event);
        match &mut self.state {
            State::Connecting { deadline } if turn.now >= *deadline => {
                let reason = match self.association {
                    Some(_) => Reason::Dtls(FailureReason::DtlsTimedOut),
                    None => Reason::NoPath,
                };
                self.end(reason);
            }
            State::Connecting { .. } => {
                if self.dtls_timeout.is_some_and(|at| turn.now >= at) {
                    self.drive(turn, |association, now| association.handle_timeout(now));
                }
            }
            State::Served(reception) => {
                reception.handle_timeout(turn.now, self.agent.round_trip(), buffer);
                if let Some(to) = self.agent.selected().filter(|_| !buffer.is_empty()) {
                    turn.send_bytes(to, buffer);
                }
            }
            State::Ended(_) | State::Failed => {}
        }
    }

    fn handle_ice(&mut self, turn: &mut Turn<'_>, event: Option<Event>) {
        match event {
            Some(Event::Connected) => {
                self.associate(turn.now);
                if self.setting.role == DtlsRole::Client {
                    self.drive(turn, |association, now| association.handle_timeout(now));
                }
            }
            Some(Event::ConsentLost) => self.end(Reason::ConsentLost),
            None => {}
        }
    }

    fn associate(&mut self, now: Instant) {
        if let (None, Some(remote)) = (&self.association, &self.setting.remote) {
            let fingerprint = remote.fingerprint.clone();
            let certificate = &self.setting.certificate;
            let association = Association::new(self.setting.role, fingerprint, certificate, now);
            self.association = Some(Box::new(association));
        }
    }

    fn handle_dtls(&mut self, turn: &mut Turn<'_>, from: SocketAddr, datagram: &[u8]) {
        // DTLS is spoken only where ICE has been.
        if !self.agent.is_valid(from) {
            return;
        }
        self.associate(turn.now);
        self.drive(turn, |association, now| association.handle_packet(now, datagram));
    }

    fn drive(&mut self, turn: &mut Turn<'_>, step: impl FnOnce(&mut Association, Instant) -> Progress) {
        let Some(association) = &mut self.association else { return };
        let progress = step(association, turn.now);
        if let Some(to) = self.agent.path() {
            progress.packets.iter().for_each(|packet| turn.send_bytes(to, packet));
        }
        self.dtls_timeout = progress.timeout;
        if let Some(failure) = progress.failure {
            // Once there are keys, a record that cannot be read is no reason to leave.
            if matches!(self.state, State::Connecting { .. }) {
                self.end(Reason::Dtls(failure));
            }
            return;
        }
        if let Some(keys) = progress.keys
            && let Some(remote) = self.setting.remote.take()
        {
            let looks = (self.setting.scrutiny, self.setting.chance);
            match Reception::new(&keys, &remote, looks, self.began, turn) {
                Ok(reception) => {
                    self.state = State::Served(Box::new(reception));
                    if let Some(joined) = self.joined.take() {
                        // Whoever asked may have gone: the run is over.
                        let _ = joined.send(Ok(()));
                    }
                }
                Err(_) => self.end(Reason::Keys),
            }
        }
        if progress.is_closed {
            self.end(Reason::Closed);
        }
    }

    fn end(&mut self, reason: Reason) {
        self.state = match std::mem::replace(&mut self.state, State::Failed) {
            State::Served(reception) => State::Ended(reception),
            other => other,
        };
        if matches!(self.state, State::Connecting { .. }) {
            self.state = State::Failed;
        }
        let (joined, ended) = (self.joined.take(), self.ended.take());
        // Whoever asked may have gone: the run is over.
        match (joined, ended) {
            (Some(joined), _) => drop(joined.send(Err(reason))),
            (None, Some(ended)) => drop(ended.send(reason)),
            (None, None) => {}
        }
    }

    fn reception(&mut self) -> Option<&mut Reception> {
        match &mut self.state {
            State::Served(reception) | State::Ended(reception) => Some(reception),
            State::Connecting { .. } | State::Failed => None,
        }
    }

    /// Whether it was joined and never saw a whole keyframe, though there is video.
    pub(crate) fn waits_for_picture(&mut self) -> bool {
        self.reception().is_some_and(|reception| reception.expects_picture() && !reception.has_picture())
    }

    pub(crate) fn begin_window(&mut self, now: Instant) {
        if let Some(reception) = self.reception() {
            reception.begin_window(now);
        }
    }

    pub(crate) fn end_window(&mut self, now: Instant) -> Stalls {
        self.reception().map(|reception| reception.end_window(now)).unwrap_or_default()
    }

    /// It stops watching; the server will be told by HTTP.
    pub(crate) fn leave(&mut self, now: Instant, is_window_open: bool) -> Stalls {
        self.reception().map(|reception| reception.leave(now, is_window_open)).unwrap_or_default()
    }

    pub(crate) fn close_accounts(&mut self, window: (Instant, Instant), accounts: &mut Vec<Account>) {
        let broadcast = self.broadcast;
        if let Some(reception) = self.reception() {
            reception.close_accounts(broadcast, window, accounts);
        }
    }

    /// Says goodbye over DTLS.
    pub(crate) fn close(&mut self, turn: &mut Turn<'_>) {
        if let (State::Served(_), Some(association), Some(to)) =
            (&self.state, &mut self.association, self.agent.selected())
        {
            let progress = association.close(turn.now);
            progress.packets.iter().for_each(|packet| turn.send_bytes(to, packet));
        }
    }
}
