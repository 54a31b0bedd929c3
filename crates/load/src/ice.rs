//! A full ICE agent for one session (RFC 8445), lean: checks to each of the server's candidates, answers to its checks,
//! consent (RFC 7675). Our one local candidate is the viewer's own socket.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ice_dtls::IceCredentials;
use ice_dtls::stun::{self, Answer, BindingRequest, Check, ClaimedRole, Transaction};
use rand::RngExt as _;
use signaling::sdp;

use crate::turn::Turn;

/// Pause between the first checks of different candidates (RFC 8445, section 14.2: Ta).
const PACE: Duration = Duration::from_millis(20);
/// First repetition of an unanswered check; doubled with each further one.
const REPEAT_AFTER: Duration = Duration::from_millis(100);
/// The longest pause between repetitions.
const REPEAT_AFTER_MAX: Duration = Duration::from_millis(1600);
/// Checks in flight that are remembered for one candidate.
const IN_FLIGHT_MAX: usize = 4;
/// Candidates at once: the server's, and addresses that its checks come from.
const PAIRS_MAX: usize = 24;
/// Consent is asked for so often, ±20 % (RFC 7675, section 5.1).
const CONSENT_INTERVAL: Duration = Duration::from_secs(5);
/// Without an answer for so long, consent is gone.
const CONSENT_EXPIRY: Duration = Duration::from_secs(30);
/// Of a peer-reflexive candidate, which is what our checks would make (RFC 8445, section 5.1.2.1).
const PRIORITY: u32 = (110 << 24) | (0xffff << 8) | 255;

/// What an input led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The path is agreed on; DTLS may start.
    Connected,
    /// The server has not answered for 30 s.
    ConsentLost,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    transaction: Transaction,
    at: Instant,
    nominates: bool,
}

/// One remote address.
#[derive(Debug)]
struct Pair {
    remote: SocketAddr,
    in_flight: Vec<Sent>,
    /// When the next check is due.
    check_at: Option<Instant>,
    pause: Duration,
    is_valid: bool,
    /// The controlling server has nominated it.
    is_nominated: bool,
}

impl Pair {
    fn new(remote: SocketAddr, check_at: Instant) -> Self {
        let (check_at, pause) = (Some(check_at), REPEAT_AFTER);
        Self { remote, in_flight: Vec::new(), check_at, pause, is_valid: false, is_nominated: false }
    }
}

/// The agent.
#[derive(Debug)]
pub(crate) struct Agent {
    local: IceCredentials,
    remote: sdp::IceCredentials,
    is_controlling: bool,
    tie_breaker: u64,
    pairs: Vec<Pair>,
    /// The pair that we nominate.
    nominee: Option<SocketAddr>,
    selected: Option<SocketAddr>,
    consent_at: Instant,
    round_trip: Duration,
}

impl Agent {
    pub(crate) fn new(
        local: IceCredentials,
        remote: sdp::IceCredentials,
        is_controlling: bool,
        candidates: &[SocketAddr],
        turn: &mut Turn<'_>,
    ) -> Self {
        let starts = (0u32..).map(|index| turn.now + PACE * index);
        let pairs = candidates.iter().zip(starts).take(PAIRS_MAX);
        Self {
            local,
            remote,
            is_controlling,
            tie_breaker: turn.random.random(),
            pairs: pairs.map(|(address, at)| Pair::new(*address, at)).collect(),
            nominee: None,
            selected: None,
            consent_at: turn.now,
            round_trip: Duration::ZERO,
        }
    }

    /// Where everything goes, once there is a path.
    pub(crate) const fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// Where to answer as long as nothing is agreed on.
    pub(crate) fn path(&self) -> Option<SocketAddr> {
        self.selected.or_else(|| self.pairs.iter().find(|pair| pair.is_valid).map(|pair| pair.remote))
    }

    /// Whether a check of ours to this address was answered.
    pub(crate) fn is_valid(&self, remote: SocketAddr) -> bool {
        self.pairs.iter().any(|pair| pair.is_valid && pair.remote == remote)
    }

    /// Of the last answered check.
    pub(crate) const fn round_trip(&self) -> Duration {
        self.round_trip
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.selected.map(|_| self.consent_at + CONSENT_EXPIRY);
        self.pairs.iter().filter_map(|pair| pair.check_at).chain(expiry).min()
    }

    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_>) -> Option<Event> {
        if self.selected.is_some() && turn.now >= self.consent_at + CONSENT_EXPIRY {
            return Some(Event::ConsentLost);
        }
        for index in 0..self.pairs.len() {
            if self.pairs[index].check_at.is_some_and(|at| turn.now >= at) {
                self.check(index, turn);
            }
        }
        None
    }

    fn check(&mut self, index: usize, turn: &mut Turn<'_>) {
        let pair = &mut self.pairs[index];
        let is_selected = self.selected == Some(pair.remote);
        let nominates = self.is_controlling && (self.nominee == Some(pair.remote) || is_selected);
        let transaction = Transaction(turn.random.random());
        let check = Check {
            transaction,
            remote_ufrag: &self.remote.ufrag,
            local_ufrag: self.local.ufrag(),
            priority: PRIORITY,
            controlling: self.is_controlling.then_some((self.tie_breaker, nominates)),
        };
        let (pwd, tie_breaker) = (&self.remote.pwd, self.tie_breaker);
        turn.send(pair.remote, check.length_max(), |room| match check.controlling {
            Some(_) => stun::write_request(room, &check, pwd),
            None => stun::write_controlled_request(room, &check, tie_breaker, pwd),
        });
        if pair.in_flight.len() == IN_FLIGHT_MAX {
            pair.in_flight.remove(0);
        }
        pair.in_flight.push(Sent { transaction, at: turn.now, nominates });
        let pause = if is_selected {
            CONSENT_INTERVAL.mul_f64(turn.random.random_range(0.8..1.2))
        } else {
            let pause = pair.pause;
            pair.pause = (pause * 2).min(REPEAT_AFTER_MAX);
            pause
        };
        pair.check_at = Some(turn.now + pause);
    }

    /// Takes a STUN message. What is not authentic, or not for this session, is dropped.
    pub(crate) fn handle_datagram(
        &mut self,
        turn: &mut Turn<'_>,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Option<Event> {
        if let Some(request) = BindingRequest::parse(datagram) {
            return self.handle_request(turn, from, datagram, request);
        }
        let answer = Answer::parse(datagram)?;
        stun::verify(datagram, &self.remote.pwd).then_some(())?;
        self.handle_answer(turn, from, answer)
    }

    fn handle_request(
        &mut self,
        turn: &mut Turn<'_>,
        from: SocketAddr,
        datagram: &[u8],
        request: BindingRequest<'_>,
    ) -> Option<Event> {
        let is_ours = request.local_ufrag() == self.local.ufrag() && stun::verify(datagram, self.local.pwd());
        if !is_ours {
            return None;
        }
        let transaction = request.transaction();
        // RFC 8445, section 7.3.1.1: the larger tie-breaker controls.
        let keeps_role = match (stun::claimed_role(datagram), self.is_controlling) {
            (Some(ClaimedRole::Controlling(theirs)), true) => Some(self.tie_breaker >= theirs),
            (Some(ClaimedRole::Controlled(theirs)), false) => Some(self.tie_breaker < theirs),
            _ => None,
        };
        match keeps_role {
            Some(true) => {
                let pwd = self.local.pwd();
                turn.send(from, stun::ROLE_CONFLICT_LENGTH_MAX, |room| {
                    stun::write_role_conflict(room, transaction, pwd)
                });
                return None;
            }
            Some(false) => self.change_role(),
            None => {}
        }
        let pwd = self.local.pwd();
        turn.send(from, stun::SUCCESS_LENGTH_MAX, |room| stun::write_success(room, transaction, from, pwd));
        let index = self.pair_of(turn.now, from)?;
        if request.use_candidate() && !self.is_controlling {
            self.pairs[index].is_nominated = true;
            if self.pairs[index].is_valid {
                return self.select(turn, index);
            }
            // RFC 8445, section 7.3.1.4: a triggered check.
            self.pairs[index].check_at = Some(turn.now);
        }
        None
    }

    /// The pair with this address; a new one if the address is new (RFC 8445, section 7.3.1.3).
    fn pair_of(&mut self, now: Instant, from: SocketAddr) -> Option<usize> {
        if let Some(index) = self.pairs.iter().position(|pair| pair.remote == from) {
            return Some(index);
        }
        if self.pairs.len() >= PAIRS_MAX || (self.selected.is_some() && self.is_controlling) {
            return None;
        }
        self.pairs.push(Pair::new(from, now));
        Some(self.pairs.len() - 1)
    }

    fn handle_answer(&mut self, turn: &mut Turn<'_>, from: SocketAddr, answer: Answer) -> Option<Event> {
        let index = self.pairs.iter().position(|pair| pair.remote == from)?;
        let pair = &mut self.pairs[index];
        let position = pair.in_flight.iter().position(|sent| sent.transaction == answer.transaction)?;
        let sent = pair.in_flight.remove(position);
        match answer.error_code {
            Some(stun::ROLE_CONFLICT) => {
                self.change_role();
                self.pairs[index].check_at = Some(turn.now);
                return None;
            }
            // Another refusal: repetitions go on until time is up.
            Some(_) => return None,
            None => {}
        }
        pair.is_valid = true;
        self.round_trip = turn.now.saturating_duration_since(sent.at);
        if self.selected == Some(from) {
            self.consent_at = turn.now;
            pair.in_flight.clear();
            return None;
        }
        if self.is_controlling {
            if sent.nominates {
                return self.select(turn, index);
            }
            // Regular nomination (RFC 8445, section 8.1.1): the first path that works.
            if self.nominee.is_none() {
                self.nominee = Some(from);
                pair.pause = REPEAT_AFTER;
                self.check(index, turn);
            }
            None
        } else if pair.is_nominated {
            self.select(turn, index)
        } else {
            // The server will nominate; until then it is enough to keep the path open.
            pair.check_at = Some(turn.now + REPEAT_AFTER_MAX);
            None
        }
    }

    fn change_role(&mut self) {
        self.is_controlling = !self.is_controlling;
        self.nominee = None;
        self.pairs.iter_mut().for_each(|pair| pair.in_flight.clear());
    }

    fn select(&mut self, turn: &mut Turn<'_>, index: usize) -> Option<Event> {
        let first = self.selected.is_none();
        let remote = self.pairs[index].remote;
        self.selected = Some(remote);
        self.consent_at = turn.now;
        for pair in &mut self.pairs {
            pair.check_at = None;
            pair.is_nominated = false;
            pair.in_flight.clear();
        }
        if self.is_controlling {
            self.pairs.retain(|pair| pair.remote == remote);
            self.pairs.shrink_to_fit();
        }
        let pause = CONSENT_INTERVAL.mul_f64(turn.random.random_range(0.8..1.2));
        for pair in self.pairs.iter_mut().filter(|pair| pair.remote == remote) {
            pair.check_at = Some(turn.now + pause);
            pair.pause = REPEAT_AFTER;
        }
        first.then_some(Event::Connected)
    }
}

#[cfg(test)]
mod tests;
