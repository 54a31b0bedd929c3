//! Who may publish and who may watch: the decisions of crate `access`, with the clock, the keys and the operator's
//! server that they need.
//!
//! A static token, a JSON Web Token, a ticket of another node, a word of the operator's server or the publish key of a
//! broadcast lets a request in; one of them is enough. Where none of them is configured for a right, everybody has it,
//! but for broadcasts that have a key. What cannot be decided is refused.

mod asker;
mod known;
mod ring;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use access::question::{Question, Verdict};
use access::tickets::{self, Grant, Issue, Moment, Redeemed, Ticket, Tickets};
use access::{Credential, Keys, Tokens, jwt};
use config::Config;
use controller::{Declared, Opens};
use model::{BroadcastId, NodeId, Right};
use signaling::SessionId;
use signaling::http::{Problem, bearer};
use telemetry::access::{AccessRefusal, Metrics};

use self::asker::Asker;
use self::known::KnownSessions;
use self::ring::KeyRing;
use crate::clock::unix_time;
use crate::random;

/// Seconds after which somebody may come back whom nobody could decide about.
const RETRY_AFTER: u32 = 3;

/// A process that has just started waits so long until it knows which broadcasts have a key.
const DECLARED_WITHIN: Duration = Duration::from_secs(1);

/// A request that wants in.
#[derive(Debug, Clone, Copy)]
pub struct Visitor<'a> {
    /// For what.
    pub right: Right,
    /// To which broadcast.
    pub broadcast: &'a BroadcastId,
    /// Where it comes from.
    pub client: IpAddr,
    /// Its bearer token.
    pub token: Option<&'a str>,
    /// The ticket in its path.
    pub ticket: Option<&'a str>,
}

/// Decides who may come in.
pub struct Gate {
    node: NodeId,
    tokens: Tokens,
    tickets: Mutex<Tickets>,
    credentials: access::CredentialKey,
    known: Mutex<KnownSessions>,
    jwt: Option<Jwt>,
    asker: Option<Asker>,
    declared: Option<Arc<Declared>>,
    metrics: Metrics,
}

/// JSON Web Tokens, and what they are asked for.
struct Jwt {
    rules: jwt::Rules,
    rights: Vec<Right>,
    secret: Option<Keys>,
    ring: Option<KeyRing>,
}

impl Gate {
    /// As configured; `publish_tokens` may have been made by the program, and broadcasts of the installation may have keys.
    /// Starts to fetch keys of JSON Web Tokens.
    ///
    /// # Errors
    /// If there is no randomness, or no way to check the certificates of servers.
    pub fn new(
        config: &Config,
        publish_tokens: Vec<config::Token>,
        node: NodeId,
        declared: Option<Arc<Declared>>,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let tickets = match &config.link.cluster_key {
            Some(key) => Tickets::new(key.expose().as_bytes()),
            None => match secret_here(config) {
                Some(secret) => Tickets::new(&secret),
                // Nobody else could sign tickets for this node, and nobody shall.
                None => Tickets::new(&random::bytes::<32>()?),
            },
        };
        Ok(Self {
            node,
            tokens: Tokens::new(publish_tokens, config.access.view_tokens.clone()),
            credentials: tickets.credentials().clone(),
            tickets: Mutex::new(tickets),
            known: Mutex::default(),
            jwt: Jwt::new(&config.access)?,
            asker: Asker::new(&config.webhooks)?,
            declared,
            metrics,
        })
    }

    /// What a token is to the key of a broadcast.
    fn key(&self, (right, broadcast): (Right, &BroadcastId), token: Option<&str>) -> Opens {
        let declared = self.declared.as_ref().filter(|_| right == Right::Publish);
        declared.map_or(Opens::Unkeyed, |declared| declared.opens(broadcast, token))
    }

    /// The same, once it is known which broadcasts have a key.
    async fn known_key(&self, visitor: &Visitor<'_>) -> Opens {
        let key = || self.key((visitor.right, visitor.broadcast), visitor.token);
        if key() == Opens::Unknown
            && let Some(declared) = &self.declared
        {
            let _ = tokio::time::timeout(DECLARED_WITHIN, declared.told()).await;
        }
        key()
    }

    /// Whether everybody has this right, where a broadcast has no key.
    fn is_open(&self, right: Right) -> bool {
        self.tokens.is_empty(right)
            && self.jwt.as_ref().is_none_or(|jwt| !jwt.rights.contains(&right))
            && self.asker.as_ref().is_none_or(|asker| !asker.is_for(right))
    }

    /// Lets a request in; gives what to remember of its token.
    ///
    /// # Errors
    /// What to answer otherwise.
    pub async fn admit(&self, visitor: &Visitor<'_>) -> Result<Option<Credential>, Problem> {
        let token = visitor.token.map(|token| self.credentials.credential(token));
        let key = self.known_key(visitor).await;
        if key == Opens::Yes || key == Opens::Unkeyed && self.is_open(visitor.right) {
            return Ok(token);
        }
        let refusal = match self.redeem(visitor) {
            None => AccessRefusal::TokenMissing,
            Some(Ok(Redeemed { is_checked: true, credential })) => return Ok(credential),
            Some(Ok(Redeemed { is_checked: false, .. })) => AccessRefusal::TokenMissing,
            Some(Err(refusal)) => refusal,
        };
        // Who lost its ticket, but kept its token, may come in by that.
        let refusal = match self.check(visitor).await {
            Ok(()) => return Ok(token),
            Err(_) if key == Opens::Unknown => AccessRefusal::Unavailable,
            Err(AccessRefusal::TokenMissing) => refusal,
            Err(refusal) => refusal,
        };
        self.metrics.refused(refusal);
        Err(problem(refusal))
    }

    /// Lets a request for a session in. The token that made the session is good for it as long as it lasts: it may have
    /// expired by now, and nobody is asked again.
    ///
    /// # Errors
    /// What to answer otherwise.
    pub async fn admit_to(&self, session: SessionId, visitor: &Visitor<'_>) -> Result<(), Problem> {
        let token = visitor.token.map(|token| self.credentials.credential(token));
        if token.is_some() && lock(&self.known).get(session) == token {
            return Ok(());
        }
        self.admit(visitor).await.map(drop)
    }

    /// A session was made by somebody who was let in with this.
    pub fn remember(&self, session: SessionId, credential: Option<Credential>) {
        if let Some(credential) = credential {
            lock(&self.known).insert(session, credential);
        }
    }

    /// With what this session was made, if with anything.
    pub fn credential(&self, session: SessionId) -> Option<Credential> {
        lock(&self.known).get(session)
    }

    /// A ticket for another node, for somebody who was let in here with `credential`. Where this gate asks nobody for
    /// anything, the ticket opens nothing at a node that does.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn issue(&self, grant: &Grant<'_>, credential: Option<Credential>) -> Result<Ticket, Problem> {
        let is_unkeyed = self.key((grant.right, grant.broadcast), None) == Opens::Unkeyed;
        let is_checked = !(is_unkeyed && self.is_open(grant.right));
        let issue = Issue { wallclock: unix_time(), nonce: crate::http::random()?, is_checked, credential };
        Ok(lock(&self.tickets).issue(grant, &issue))
    }

    fn redeem(&self, visitor: &Visitor<'_>) -> Option<Result<Redeemed, AccessRefusal>> {
        let ticket = visitor.ticket?;
        let grant = Grant { right: visitor.right, broadcast: visitor.broadcast, target: &self.node };
        let moment = Moment { now: Instant::now(), wallclock: unix_time() };
        let redeemed = lock(&self.tickets).redeem(&grant, ticket, moment);
        Some(redeemed.map_err(|refusal| {
            tracing::debug!(broadcast = %visitor.broadcast, %refusal, "ticket refused");
            match refusal {
                tickets::Refusal::Used => AccessRefusal::TicketUsed,
                tickets::Refusal::TooMany => AccessRefusal::Unavailable,
                _ => AccessRefusal::TicketRejected,
            }
        }))
    }

    async fn check(&self, visitor: &Visitor<'_>) -> Result<(), AccessRefusal> {
        let Visitor { right, broadcast, token, .. } = *visitor;
        let mut refusal = AccessRefusal::TokenMissing;
        if let Some(token) = token {
            refusal = AccessRefusal::TokenRejected;
            if self.tokens.allow(right, broadcast, token) {
                return Ok(());
            }
            if let Some(jwt) = self.jwt.as_ref().filter(|jwt| jwt.rights.contains(&right)) {
                match jwt.check(token, visitor).await {
                    Ok(()) => return Ok(()),
                    Err(reason) => refusal = reason,
                }
            }
        }
        let Some(asker) = self.asker.as_ref().filter(|asker| asker.is_for(right)) else {
            return Err(refusal);
        };
        let question = Question { right, broadcast, client: visitor.client, token, node: &self.node };
        match asker.ask(&question, &self.credentials).await {
            Some(Verdict::Allow) => Ok(()),
            Some(Verdict::Forbidden) => Err(AccessRefusal::Insufficient),
            Some(Verdict::Unknown) => Err(refusal),
            None => Err(AccessRefusal::Unavailable),
        }
    }
}

impl Jwt {
    fn new(config: &config::Access) -> anyhow::Result<Option<Self>> {
        let secret =
            config.jwt_secret.as_ref().and_then(|secret| Keys::of_secret(secret.expose().as_bytes()));
        let ring = config.jwt_jwks.as_ref().map(KeyRing::start).transpose()?;
        if secret.is_none() && ring.is_none() {
            return Ok(None);
        }
        let rules = jwt::Rules {
            issuer: config.jwt_issuer.clone(),
            audience: config.jwt_audience.clone(),
            leeway: config.jwt_leeway.get(),
        };
        Ok(Some(Self { rules, rights: config.jwt_for.clone(), secret, ring }))
    }

    async fn check(&self, token: &str, visitor: &Visitor<'_>) -> Result<(), AccessRefusal> {
        let mut outcome = self.verify(token, visitor);
        if let (Err(jwt::Refusal::UnknownKey), Some(ring)) = (outcome, &self.ring) {
            ring.refresh().await;
            outcome = self.verify(token, visitor);
        }
        let is_current = self.ring.as_ref().is_none_or(KeyRing::is_current);
        outcome.map_err(|refusal| {
            tracing::debug!(broadcast = %visitor.broadcast, %refusal, "JSON Web Token refused");
            match refusal {
                jwt::Refusal::Expired | jwt::Refusal::NotYet => AccessRefusal::TokenExpired,
                jwt::Refusal::Insufficient => AccessRefusal::Insufficient,
                jwt::Refusal::UnknownKey if !is_current => AccessRefusal::Unavailable,
                _ => AccessRefusal::TokenRejected,
            }
        })
    }

    fn verify(&self, token: &str, visitor: &Visitor<'_>) -> Result<(), jwt::Refusal> {
        let fetched = self.ring.as_ref().and_then(KeyRing::keys);
        let keys: Vec<&Keys> = self.secret.iter().chain(fetched.as_deref()).collect();
        let ask = jwt::Ask { right: visitor.right, broadcast: visitor.broadcast, wallclock: unix_time() };
        jwt::verify(&self.rules, &keys, token, &ask)
    }
}

fn problem(refusal: AccessRefusal) -> Problem {
    match refusal {
        AccessRefusal::TokenMissing => bearer::missing(),
        AccessRefusal::TokenRejected => bearer::rejected(),
        AccessRefusal::TokenExpired => bearer::expired(),
        AccessRefusal::Insufficient => bearer::insufficient(),
        AccessRefusal::TicketRejected | AccessRefusal::TicketUsed => bearer::ticket_rejected(),
        AccessRefusal::Unavailable => {
            let detail = "Whether you may do this cannot be found out at the moment. Try again soon.";
            Problem::new(503, "access-unavailable", detail).with_header("Retry-After", RETRY_AFTER)
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What stands for the secret of a cluster whose nodes are all on this machine: their tokens for publishing, of which each
/// is good for everything that a ticket lets in to. Who knows a token for viewing may view and no more.
fn secret_here(config: &Config) -> Option<Vec<u8>> {
    let tokens = &config.access.publish_tokens;
    let is_here = config.http.listen.ip().to_canonical().is_loopback();
    let secrets = tokens.iter().flat_map(|token| [token.secret.expose().as_bytes(), b"\n"].concat());
    (is_here && !tokens.is_empty()).then(|| secrets.collect())
}

#[cfg(test)]
mod tests;
