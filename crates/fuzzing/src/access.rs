//! What strangers show to be let in: tickets, JSON Web Tokens; and what operators' servers send: key sets.

use std::time::{Duration, Instant};

use access::tickets::{Grant, Moment, Refusal, Tickets};
use access::{Keys, Pattern, jwt};
use config::{HttpUrl, KeySource};
use model::{BroadcastId, NodeId, Right};

/// Known to whoever makes inputs, so that some get behind the signatures.
const SECRET: &[u8] = b"a secret that is known to everybody";

/// Lines of an attempt: ticket, token, pattern, URL; then a key set.
pub fn attempt(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut lines = text.splitn(5, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let broadcast = BroadcastId::new("demo").expect("an id");
    ticket(line(), &broadcast);
    token(line(), &broadcast);
    pattern(line(), &broadcast);
    url(line());
    if let Ok(keys) = Keys::of_jwks(line().as_bytes()) {
        assert!((1..=32).contains(&keys.len()));
    }
}

fn ticket(text: &str, broadcast: &BroadcastId) {
    let target = NodeId::new("target").expect("an id");
    let grant = Grant { right: Right::View, broadcast, target: &target };
    let moment = Moment { now: Instant::now(), wallclock: Duration::ZERO };
    let mut tickets = Tickets::new(SECRET);
    if tickets.redeem(&grant, text, moment).is_ok() {
        assert_eq!(tickets.redeem(&grant, text, moment), Err(Refusal::Used));
        let publishing = Grant { right: Right::Publish, ..grant };
        assert_eq!(tickets.redeem(&publishing, text, moment), Err(Refusal::Foreign));
    }
}

fn token(text: &str, broadcast: &BroadcastId) {
    let keys = Keys::of_secret(SECRET).expect("a key");
    let ask = jwt::Ask { right: Right::View, broadcast, wallclock: Duration::ZERO };
    let verify = |keys: &[&Keys]| jwt::verify(&jwt::Rules::default(), keys, text, &ask);
    let outcome = verify(&[&keys]);
    assert!(jwt::looks_like_one(text) || outcome == Err(jwt::Refusal::Malformed));
    assert!(verify(&[]).is_err(), "without a key nothing is verified");
}

fn pattern(text: &str, broadcast: &BroadcastId) {
    let Some(pattern) = Pattern::new(text) else { return };
    let covers = pattern.covers(broadcast);
    assert!(text.contains('*') || covers == (text == broadcast.as_str()));
}

fn url(text: &str) {
    let Ok(url) = text.parse::<HttpUrl>() else { return };
    assert!(url.as_str().starts_with(url.origin()));
    assert_eq!(url.to_string().parse(), Ok(url.clone()));
    assert_eq!(text.parse(), Ok(KeySource::Url(url)));
}
