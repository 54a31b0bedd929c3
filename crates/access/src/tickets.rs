//! Tickets: single-use, short-lived passes that one node of the cluster gives for another one.
//!
//! Browsers strip `Authorization` when a redirect leads to another origin, so the node that redirects puts what it has
//! checked into the target's URL: `/whep/{broadcast}/t/{ticket}`. A ticket is signed with a key that is derived from
//! the cluster key, opens one broadcast for one right at one node, and is taken once.
//!
//! It says when it was issued, and clocks of nodes differ: [`CLOCK_SKEW_MAX`] is forgiven. A target remembers what it
//! has taken for longer than any clock could make a ticket look fresh; it forgets when its process ends.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::{BroadcastId, NodeId, Right};
use zeroize::Zeroizing;

use crate::credential::{self, Credential, CredentialKey};

/// How long a ticket is good for: a redirect is followed at once, on slow networks within seconds.
pub const LIFETIME: Duration = Duration::from_secs(30);
/// How far the clocks of two nodes may be apart.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(90);
/// Characters of a ticket.
pub const TEXT_LENGTH: usize = (BYTES * 4).div_ceil(3);
/// Tickets that a target remembers: 600 redirected joins a second, for as long as it must remember them.
pub const REMEMBERED_MAX: usize = 1 << 17;

/// A ticket looks fresh for no longer than this by any one clock; it counts whole seconds, which takes one more.
const MEMORY: Duration = Duration::from_secs(LIFETIME.as_secs() + 2 * CLOCK_SKEW_MAX.as_secs() + 1);

const VERSION: u8 = 1;
const HAS_CREDENTIAL: u8 = 1;
const IS_CHECKED: u8 = 2;
const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// Version, flags, seconds since 1970, nonce, credential.
const BODY_BYTES: usize = 1 + 1 + 8 + NONCE_BYTES + credential::BYTES;
const BYTES: usize = BODY_BYTES + TAG_BYTES;

type Nonce = [u8; NONCE_BYTES];

/// What a ticket opens.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// For what.
    pub right: Right,
    /// Which broadcast.
    pub broadcast: &'a BroadcastId,
    /// At which node.
    pub target: &'a NodeId,
}

/// A ticket on its way into a URL. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(String);

impl Ticket {
    /// The path segment.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(***)")
    }
}

/// A name for the way that the bearer of a ticket takes, the same at its issuer and at its target: for the log. It tells
/// nothing of what makes a ticket valid. `None` if the text is no ticket; nothing else is checked.
#[must_use]
pub fn trace(text: &str) -> Option<u64> {
    let bytes = decode(text)?;
    let nonce = bytes[BODY_BYTES - credential::BYTES - NONCE_BYTES..].first_chunk()?;
    Some(u64::from_be_bytes(*nonce))
}

/// Why a ticket is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No ticket at all.
    #[error("this is no ticket")]
    Malformed,
    /// Signed with another key, or for another broadcast, right or node.
    #[error("the ticket was not made for this")]
    Foreign,
    /// Too old, or from the future.
    #[error("the ticket has expired")]
    Expired,
    /// Taken before.
    #[error("the ticket has been used")]
    Used,
    /// So many have been taken lately that no more can be remembered.
    #[error("too many tickets at the moment")]
    TooMany,
}

/// Both clocks of a node.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Monotonic.
    pub now: Instant,
    /// Since 1970.
    pub wallclock: Duration,
}

/// What [`Tickets::issue`] needs beside the grant.
#[derive(Debug, Clone, Copy)]
pub struct Issue {
    /// Since 1970.
    pub wallclock: Duration,
    /// From the kernel's generator; never twice the same.
    pub nonce: Nonce,
    /// Whether the issuer asked for anything. Where it lets everybody in, its tickets open nothing that is not open.
    pub is_checked: bool,
    /// Which token was checked, so that the target knows it again in later requests of the session.
    pub credential: Option<Credential>,
}

/// What a ticket says that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redeemed {
    /// Whether its issuer asked for anything before it let its bearer in.
    pub is_checked: bool,
    /// Which token the issuer checked.
    pub credential: Option<Credential>,
}

/// Issues tickets for other nodes and takes those that are for this one.
#[derive(Debug)]
pub struct Tickets {
    key: hmac::Key,
    credentials: CredentialKey,
    used: Used,
}

impl Tickets {
    /// With keys derived from the secret of the cluster. A node without such a secret passes random bytes and takes
    /// only tickets of its own.
    #[must_use]
    pub fn new(cluster_secret: &[u8]) -> Self {
        let key = derive(cluster_secret, b"media-tree ticket");
        let credentials = derive(cluster_secret, b"media-tree credential");
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &*key),
            credentials: CredentialKey::new(&*credentials),
            used: Used::default(),
        }
    }

    /// What all nodes of the cluster make the same credential of one token with.
    #[must_use]
    pub const fn credentials(&self) -> &CredentialKey {
        &self.credentials
    }

    /// A ticket for `grant`.
    #[must_use]
    pub fn issue(&self, grant: &Grant<'_>, issue: &Issue) -> Ticket {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        let has_credential = if issue.credential.is_some() { HAS_CREDENTIAL } else { 0 };
        bytes.push(has_credential | if issue.is_checked { IS_CHECKED } else { 0 });
        bytes.extend(issue.wallclock.as_secs().to_be_bytes());
        bytes.extend(issue.nonce);
        bytes.extend(issue.credential.map_or([0; credential::BYTES], |credential| *credential.as_bytes()));
        let tag = self.sign(grant, &bytes);
        bytes.extend(&tag.as_ref()[..TAG_BYTES]);
        Ticket(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Takes a ticket, once.
    ///
    /// # Errors
    /// [`Refusal`] if it does not open what is asked for, here and now.
    pub fn redeem(&mut self, grant: &Grant<'_>, text: &str, moment: Moment) -> Result<Redeemed, Refusal> {
        let bytes = decode(text).ok_or(Refusal::Malformed)?;
        let (body, tag) = bytes.split_at(BODY_BYTES);
        let ours = self.sign(grant, body);
        aws_lc_rs::constant_time::verify_slices_are_equal(&ours.as_ref()[..TAG_BYTES], tag)
            .map_err(|_| Refusal::Foreign)?;
        let body = Body::read(body).ok_or(Refusal::Malformed)?;
        if !is_fresh(body.issued_at, moment.wallclock) {
            return Err(Refusal::Expired);
        }
        self.used.take(body.nonce, moment.now)?;
        Ok(body.says)
    }

    fn sign(&self, grant: &Grant<'_>, body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(body);
        // Ids have at most 63 characters and never a zero byte.
        for part in [grant.right.as_str(), grant.broadcast.as_str(), grant.target.as_str()] {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
        context.sign()
    }
}

fn derive(secret: &[u8], purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"media-tree access 1").extract(secret);
    let mut key = Zeroizing::new([0; 32]);
    extracted
        .expand(&[purpose], hkdf::HKDF_SHA256)
        .and_then(|expanded| expanded.fill(&mut *key))
        .expect("one block is never too long for HKDF");
    key
}

fn decode(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    if text.len() != TEXT_LENGTH {
        return None;
    }
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    (length == BYTES).then_some(bytes)
}

fn is_fresh(issued_at: u64, wallclock: Duration) -> bool {
    let (now, skew) = (wallclock.as_secs(), CLOCK_SKEW_MAX.as_secs());
    let oldest = now.saturating_sub(LIFETIME.as_secs() + skew);
    (oldest..=now.saturating_add(skew)).contains(&issued_at)
}

struct Body {
    issued_at: u64,
    nonce: Nonce,
    says: Redeemed,
}

impl Body {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (VERSION, rest) = bytes.split_first().map(|(version, rest)| (*version, rest))? else {
            return None;
        };
        let (flags, rest) = rest.split_first()?;
        let (issued_at, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let credential = Credential::from_bytes(*rest.first_chunk()?);
        Some(Self {
            issued_at: u64::from_be_bytes(*issued_at),
            nonce: *nonce,
            says: Redeemed {
                is_checked: flags & IS_CHECKED != 0,
                credential: (flags & HAS_CREDENTIAL != 0).then_some(credential),
            },
        })
    }
}

/// Tickets that were taken, for as long as they would look fresh.
#[derive(Debug, Default)]
struct Used {
    nonces: BTreeSet<Nonce>,
    /// In the order in which they may be forgotten.
    forget: VecDeque<(Instant, Nonce)>,
}

impl Used {
    fn take(&mut self, nonce: Nonce, now: Instant) -> Result<(), Refusal> {
        while let Some((_, old)) = self.forget.front().filter(|(at, _)| *at <= now) {
            self.nonces.remove(old);
            self.forget.pop_front();
        }
        if self.nonces.contains(&nonce) {
            return Err(Refusal::Used);
        }
        if self.nonces.len() >= REMEMBERED_MAX {
            return Err(Refusal::TooMany);
        }
        self.nonces.insert(nonce);
        self.forget.push_back((now + MEMORY, nonce));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
