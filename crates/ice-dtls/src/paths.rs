//! Which addresses are really the peer's.
//!
//! An authentic check proves who asks, not that the address it seems to come from receives: its source can be forged by
//! whoever has a session. So a path counts only once the peer has answered, from there, a check of our own (RFC 8445,
//! section 7.3.1.4: a triggered check), whose transaction nobody can know who did not receive it.
//!
//! What an address gets that did not ask for it: answers no longer than the checks that were sent in its name, two checks
//! of ours for each of them, and no more than 50 of these a second for each session.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;

use crate::Path;
use crate::stun::Transaction;

/// Paths that a session remembers; the oldest one that is not in use gives way. A peer has as many as it has addresses
/// times ours.
pub const PATHS_MAX: usize = 8;
/// Between two checks of ours, whatever paths they are on.
pub const ASK_INTERVAL: Duration = Duration::from_millis(20);
/// An unanswered check is repeated once: the peer's own check may have come once only. Above most round trips.
pub const REPEAT_AFTER: Duration = Duration::from_millis(250);
/// Checks of ours for one of the peer's.
const ASKS_MAX: u8 = 2;

/// A path from which an authentic check came.
struct Known {
    path: Path,
    /// What its answer must carry.
    transaction: Transaction,
    is_proved: bool,
    /// Checks that may still be sent, and when the next one is due.
    asks: u8,
    due: Option<Instant>,
}

/// The paths of one session.
pub struct Paths {
    secret: hmac::Key,
    transactions: u64,
    /// Oldest first.
    known: Vec<Known>,
    asked_at: Option<Instant>,
}

impl Paths {
    /// No paths yet. `random` must be drawn for this session alone.
    pub fn new(random: [u8; 32]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &random);
        Self { secret, transactions: 0, known: Vec::new(), asked_at: None }
    }

    /// Knows one that is proved.
    pub fn with_proved(random: [u8; 32], path: Path) -> Self {
        let mut paths = Self::new(random);
        paths.remember(path, None).is_proved = true;
        paths
    }

    /// An authentic check came from `path`; what is `in_use` is not forgotten for it.
    pub fn checked(&mut self, now: Instant, path: Path, in_use: Option<Path>) {
        let asked_at = self.asked_at;
        let known = self.remember(path, in_use);
        if !known.is_proved {
            known.asks = ASKS_MAX;
            known.ask_soon(now, asked_at);
        }
    }

    /// DTLS came from `path`: the peer waits for us.
    pub fn greeted(&mut self, now: Instant, path: Path) -> Greeting {
        let asked_at = self.asked_at;
        let Some(known) = self.known.iter_mut().find(|known| known.path == path) else {
            return Greeting::Stranger;
        };
        if known.is_proved {
            return Greeting::Proved;
        }
        known.asks = known.asks.max(1);
        known.ask_soon(now, asked_at);
        Greeting::Unproved
    }

    /// An authentic answer came from `path`; true if that proves it.
    pub fn answered(&mut self, path: Path, transaction: Transaction) -> bool {
        let asked = |known: &&mut Known| known.path == path && !known.is_proved;
        let Some(known) = self.known.iter_mut().find(asked) else { return false };
        known.is_proved = known.transaction == transaction;
        if known.is_proved {
            known.due = None;
        }
        known.is_proved
    }

    pub fn is_proved(&self, path: Path) -> bool {
        self.known.iter().any(|known| known.path == path && known.is_proved)
    }

    /// Whether a check came from anywhere.
    pub const fn has_any(&self) -> bool {
        !self.known.is_empty()
    }

    /// Forgets all but one.
    pub fn keep_only(&mut self, path: Option<Path>) {
        self.known.retain(|known| Some(known.path) == path);
    }

    /// A check of ours that is due. Call until `None`.
    pub fn poll_ask(&mut self, now: Instant) -> Option<(Path, Transaction)> {
        let known = self.known.iter_mut().find(|known| known.due.is_some_and(|due| due <= now))?;
        known.asks = known.asks.saturating_sub(1);
        known.due = (known.asks > 0).then(|| now + REPEAT_AFTER);
        let asked = (known.path, known.transaction);
        self.asked_at = Some(now);
        for due in self.known.iter_mut().filter_map(|known| known.due.as_mut()) {
            *due = (*due).max(now + ASK_INTERVAL);
        }
        Some(asked)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.known.iter().filter_map(|known| known.due).min()
    }

    fn remember(&mut self, path: Path, in_use: Option<Path>) -> &mut Known {
        let index = match self.known.iter().position(|known| known.path == path) {
            Some(index) => index,
            None => {
                if self.known.len() >= PATHS_MAX {
                    let oldest = self.known.iter().position(|known| Some(known.path) != in_use).unwrap_or(0);
                    self.known.remove(oldest);
                }
                let transaction = self.draw();
                self.known.push(Known { path, transaction, is_proved: false, asks: 0, due: None });
                self.known.len() - 1
            }
        };
        &mut self.known[index]
    }

    fn draw(&mut self) -> Transaction {
        self.transactions += 1;
        let drawn = hmac::sign(&self.secret, &self.transactions.to_be_bytes());
        let mut transaction = Transaction([0; 12]);
        transaction.0.copy_from_slice(&drawn.as_ref()[..12]);
        transaction
    }
}

impl Known {
    /// At once, or as soon as the last check of the session is long enough ago.
    fn ask_soon(&mut self, now: Instant, asked_at: Option<Instant>) {
        let soon = asked_at.map_or(now, |at| now.max(at + ASK_INTERVAL));
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }
}

/// What DTLS from a path is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// No authentic check came from there.
    Stranger,
    /// Our check there is not answered yet.
    Unproved,
    /// It is the peer's.
    Proved,
}
