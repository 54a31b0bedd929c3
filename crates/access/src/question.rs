//! What an operator's server is asked: may this request publish or watch?
//!
//! It is asked with a POST of JSON and answers with a status: 2xx lets in, 401 and 403 refuse, and everything else is
//! no answer. No answer lets nobody in.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use model::{BroadcastId, NodeId, Right};
use serde::Serialize;

use crate::credential::CredentialKey;

/// Answers that a node remembers.
pub const REMEMBERED_MAX: usize = 8192;

/// One request, as the server is told of it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What the client wants.
    pub right: Right,
    /// Of which broadcast.
    pub broadcast: &'a BroadcastId,
    /// Where the request came from.
    pub client: IpAddr,
    /// Its bearer token, if it has one.
    pub token: Option<&'a str>,
    /// Which node asks.
    pub node: &'a NodeId,
}

/// What the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Come in.
    Allow,
    /// The token is wrong or missing: 401.
    Unknown,
    /// The token is good, but not for this: 403.
    Forbidden,
}

impl Verdict {
    /// What a status means; `None` if it is no answer.
    #[must_use]
    pub const fn of_status(status: u16) -> Option<Self> {
        match status {
            200..=299 => Some(Self::Allow),
            401 => Some(Self::Unknown),
            403 => Some(Self::Forbidden),
            _ => None,
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    action: &'static str,
    broadcast: &'a str,
    client: String,
    token: Option<&'a str>,
    node: &'a str,
}

impl Question<'_> {
    /// The JSON that is POSTed.
    #[must_use]
    pub fn body(&self) -> String {
        let document = Document {
            action: self.right.as_str(),
            broadcast: self.broadcast.as_str(),
            client: self.client.to_canonical().to_string(),
            token: self.token,
            node: self.node.as_str(),
        };
        serde_json::to_string(&document).expect("texts are always JSON")
    }

    /// Under which its answer is remembered.
    #[must_use]
    pub fn key(&self, secret: &CredentialKey) -> Key {
        Key {
            right: self.right,
            broadcast: self.broadcast.clone(),
            client: self.client.to_canonical(),
            token: self.token.map(|token| *secret.credential(token).as_bytes()),
        }
    }
}

/// Two equal questions have equal keys. Holds no token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    right: Right,
    broadcast: BroadcastId,
    client: IpAddr,
    token: Option<[u8; crate::credential::BYTES]>,
}

/// The latest answers, for a short while.
#[derive(Debug)]
pub struct Answers {
    lifetime: Duration,
    verdicts: HashMap<Key, Verdict>,
    /// In the order in which they are forgotten.
    forget: VecDeque<(Instant, Key)>,
}

impl Answers {
    /// Remembers each for `lifetime`.
    #[must_use]
    pub fn new(lifetime: Duration) -> Self {
        Self { lifetime, verdicts: HashMap::new(), forget: VecDeque::new() }
    }

    /// What was answered a short while ago.
    pub fn get(&mut self, now: Instant, key: &Key) -> Option<Verdict> {
        while self.forget.front().is_some_and(|(at, _)| *at <= now) {
            self.forget_oldest();
        }
        self.verdicts.get(key).copied()
    }

    /// Remembers an answer; the oldest makes room.
    pub fn put(&mut self, now: Instant, key: Key, verdict: Verdict) {
        if self.lifetime.is_zero() || self.verdicts.contains_key(&key) {
            return;
        }
        if self.forget.len() >= REMEMBERED_MAX {
            self.forget_oldest();
        }
        self.forget.push_back((now + self.lifetime, key.clone()));
        self.verdicts.insert(key, verdict);
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.forget.pop_front() {
            self.verdicts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tickets::Tickets;

    fn question<'a>(broadcast: &'a BroadcastId, node: &'a NodeId, token: Option<&'a str>) -> Question<'a> {
        Question { right: Right::View, broadcast, client: [198, 18, 0, 7].into(), token, node }
    }

    #[test]
    fn a_question_says_who_wants_what() {
        let (broadcast, node) = (BroadcastId::new("demo").expect("id"), NodeId::new("egress-1").expect("id"));
        let body: serde_json::Value =
            serde_json::from_str(&question(&broadcast, &node, Some("a\"b")).body()).expect("JSON");
        let expected = serde_json::json!({
            "action": "view", "broadcast": "demo", "client": "198.18.0.7", "token": "a\"b", "node": "egress-1",
        });
        assert_eq!(body, expected);
        assert!(question(&broadcast, &node, None).body().contains("\"token\":null"));
        let key = question(&broadcast, &node, Some("a-token")).key(Tickets::new(b"x").credentials());
        assert!(!format!("{key:?}").contains("a-token"));
    }

    #[test]
    fn only_clear_answers_count() {
        assert_eq!(Verdict::of_status(200), Some(Verdict::Allow));
        assert_eq!(Verdict::of_status(204), Some(Verdict::Allow));
        assert_eq!(Verdict::of_status(401), Some(Verdict::Unknown));
        assert_eq!(Verdict::of_status(403), Some(Verdict::Forbidden));
        for unclear in [100, 302, 400, 404, 429, 500, 503] {
            assert_eq!(Verdict::of_status(unclear), None, "{unclear}");
        }
    }

    #[test]
    fn answers_are_remembered_for_a_while_and_in_bounds() {
        let (broadcast, node) = (BroadcastId::new("demo").expect("id"), NodeId::new("egress-1").expect("id"));
        let tickets = Tickets::new(b"secret");
        let key = |token: &str| question(&broadcast, &node, Some(token)).key(tickets.credentials());
        let (now, mut answers) = (Instant::now(), Answers::new(Duration::from_secs(10)));
        answers.put(now, key("a"), Verdict::Allow);
        answers.put(now, key("b"), Verdict::Forbidden);
        let later = now + Duration::from_secs(9);
        assert_eq!(answers.get(later, &key("a")), Some(Verdict::Allow));
        assert_eq!(answers.get(later, &key("b")), Some(Verdict::Forbidden));
        assert_eq!(answers.get(later, &key("c")), None);
        assert_eq!(answers.get(now + Duration::from_secs(10), &key("a")), None);
        for number in 0..REMEMBERED_MAX + 10 {
            answers.put(later, key(&number.to_string()), Verdict::Allow);
        }
        assert_eq!((answers.verdicts.len(), answers.forget.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert_eq!(answers.get(later, &key("0")), None, "the oldest made room");
    }

    #[test]
    fn nothing_is_remembered_where_nothing_shall_be() {
        let (broadcast, node) = (BroadcastId::new("demo").expect("id"), NodeId::new("egress-1").expect("id"));
        let key = question(&broadcast, &node, None).key(Tickets::new(b"secret").credentials());
        let (now, mut answers) = (Instant::now(), Answers::new(Duration::ZERO));
        answers.put(now, key.clone(), Verdict::Allow);
        assert_eq!(answers.get(now, &key), None);
    }
}
