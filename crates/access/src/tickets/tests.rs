//! Tests of tickets.

use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = b"the secret of the cluster";

fn id(text: &str) -> (BroadcastId, NodeId) {
    (BroadcastId::new(text).expect("id"), NodeId::new(text).expect("id"))
}

const CHECKED: Redeemed = Redeemed { is_checked: true, credential: None };

struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    /// Both clocks at `seconds`; the wallclock is `skew` off.
    fn at(&self, seconds: u64, skew: i64) -> Moment {
        let wallclock = Duration::from_secs((1_000_000 + seconds).saturating_add_signed(skew));
        Moment { now: self.0 + Duration::from_secs(seconds), wallclock }
    }
}

fn issue(wallclock: Duration, nonce: u8) -> Issue {
    Issue { wallclock, nonce: [nonce; NONCE_BYTES], is_checked: true, credential: None }
}

#[test]
fn a_ticket_opens_what_it_was_made_for_once() {
    let (clock, (broadcast, target)) = (Clock::start(), id("demo"));
    let grant = Grant { right: Right::View, broadcast: &broadcast, target: &target };
    let issuer = Tickets::new(SECRET);
    let credential = issuer.credentials().credential("a token");
    let request = Issue { credential: Some(credential), ..issue(clock.at(0, 0).wallclock, 1) };
    let ticket = issuer.issue(&grant, &request);
    let mut tickets = Tickets::new(SECRET);
    assert_eq!(tickets.credentials().credential("a token"), credential, "nodes of a cluster agree on it");
    assert_ne!(tickets.credentials().credential("a tokem"), credential);
    assert_eq!(
        tickets.redeem(&grant, ticket.as_str(), clock.at(5, 0)),
        Ok(Redeemed { is_checked: true, credential: Some(credential) })
    );
    assert_eq!(tickets.redeem(&grant, ticket.as_str(), clock.at(6, 0)), Err(Refusal::Used));
}

#[test]
fn a_ticket_names_its_bearers_way_and_nobody_elses() {
    let (clock, (broadcast, target)) = (Clock::start(), id("demo"));
    let grant = Grant { right: Right::View, broadcast: &broadcast, target: &target };
    let tickets = Tickets::new(SECRET);
    let traces = [1, 2].map(|nonce| {
        let ticket = tickets.issue(&grant, &issue(clock.at(0, 0).wallclock, nonce));
        trace(ticket.as_str())
    });
    assert_eq!(traces, [Some(0x0101_0101_0101_0101), Some(0x0202_0202_0202_0202)]);
    assert_eq!(trace("no ticket"), None);
}

#[test]
fn a_ticket_says_whether_anything_was_asked_for() {
    let (clock, (broadcast, target)) = (Clock::start(), id("demo"));
    let grant = Grant { right: Right::Publish, broadcast: &broadcast, target: &target };
    let mut tickets = Tickets::new(SECRET);
    let unasked = Issue { is_checked: false, ..issue(clock.at(0, 0).wallclock, 1) };
    let ticket = tickets.issue(&grant, &unasked);
    let redeemed = tickets.redeem(&grant, ticket.as_str(), clock.at(0, 0));
    assert_eq!(redeemed, Ok(Redeemed { is_checked: false, credential: None }));
}

#[test]
fn a_ticket_opens_nothing_else() {
    let (clock, (broadcast, target), (other_broadcast, other_target)) =
        (Clock::start(), id("demo"), id("other"));
    let grant = Grant { right: Right::View, broadcast: &broadcast, target: &target };
    let ticket = Tickets::new(SECRET).issue(&grant, &issue(clock.at(0, 0).wallclock, 1));
    let mut tickets = Tickets::new(SECRET);
    for foreign in [
        Grant { right: Right::Publish, ..grant },
        Grant { broadcast: &other_broadcast, ..grant },
        Grant { target: &other_target, ..grant },
    ] {
        assert_eq!(tickets.redeem(&foreign, ticket.as_str(), clock.at(0, 0)), Err(Refusal::Foreign));
    }
    let mut strangers = Tickets::new(b"another secret");
    assert_eq!(strangers.redeem(&grant, ticket.as_str(), clock.at(0, 0)), Err(Refusal::Foreign));
    assert_eq!(
        tickets.redeem(&grant, ticket.as_str(), clock.at(0, 0)),
        Ok(CHECKED),
        "none of this used it up"
    );
}

#[test]
fn a_ticket_does_not_last_but_forgives_a_clock_that_is_a_minute_off() {
    let (clock, (broadcast, target)) = (Clock::start(), id("demo"));
    let grant = Grant { right: Right::Publish, broadcast: &broadcast, target: &target };
    let mut tickets = Tickets::new(SECRET);
    let mut try_at = |nonce, moment| {
        let ticket = tickets.issue(&grant, &issue(clock.at(500, 0).wallclock, nonce));
        tickets.redeem(&grant, ticket.as_str(), moment)
    };
    for (nonce, skew) in [(1, -60), (2, 0), (3, 60)] {
        assert_eq!(try_at(nonce, clock.at(529, skew)), Ok(CHECKED), "{skew} s off");
    }
    assert_eq!(try_at(4, clock.at(621, 0)), Err(Refusal::Expired), "later than lifetime and skew allow");
    assert_eq!(try_at(5, clock.at(500, -91)), Err(Refusal::Expired), "from the future");
}

#[test]
fn a_used_ticket_is_remembered_for_as_long_as_any_clock_lets_it_look_fresh() {
    let (clock, (broadcast, target)) = (Clock::start(), id("demo"));
    let grant = Grant { right: Right::View, broadcast: &broadcast, target: &target };
    let mut tickets = Tickets::new(SECRET);
    // Issued by a clock that is ahead as far as is forgiven, taken at once.
    let ticket = tickets.issue(&grant, &issue(clock.at(0, 90).wallclock, 1));
    assert_eq!(tickets.redeem(&grant, ticket.as_str(), clock.at(0, 0)), Ok(CHECKED));
    let outcomes = (1..400).map(|second| tickets.redeem(&grant, ticket.as_str(), clock.at(second, 0)));
    let outcomes: Vec<_> = outcomes.collect();
    assert!(outcomes.iter().all(Result::is_err));
    assert_eq!(outcomes.last(), Some(&Err(Refusal::Expired)));
}

#[test]
fn memory_of_used_tickets_is_bounded_and_frees_itself() {
    let now = Instant::now();
    let mut used = Used::default();
    let nonce = |number: usize| {
        let mut nonce = [0; NONCE_BYTES];
        nonce[..8].copy_from_slice(&(number as u64).to_be_bytes());
        nonce
    };
    for number in 0..REMEMBERED_MAX {
        assert_eq!(used.take(nonce(number), now), Ok(()));
    }
    assert_eq!(used.take(nonce(REMEMBERED_MAX), now), Err(Refusal::TooMany));
    assert_eq!(used.take(nonce(REMEMBERED_MAX), now + MEMORY), Ok(()));
    assert_eq!((used.nonces.len(), used.forget.len()), (1, 1));
}

#[test]
fn a_ticket_shows_itself_in_no_log_and_fits_a_path() {
    let (broadcast, target) = id("demo");
    let grant = Grant { right: Right::View, broadcast: &broadcast, target: &target };
    let tickets = Tickets::new(SECRET);
    let ticket = tickets.issue(&grant, &issue(Duration::from_secs(7), 1));
    assert_eq!(format!("{ticket:?}"), "Ticket(***)");
    let shown = format!("{tickets:?}");
    assert!(!shown.contains("secret"), "{shown}");
    assert_eq!(ticket.as_str().len(), TEXT_LENGTH);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    assert!(ticket.as_str().bytes().all(is_plain));
}

proptest! {
    #[test]
    fn no_text_panics_and_none_that_was_not_issued_is_taken(text in "[A-Za-z0-9_-]{78}|.{0,100}") {
        let (broadcast, target) = id("demo");
        let grant = Grant { right: Right::View, broadcast: &broadcast, target: &target };
        let mut tickets = Tickets::new(SECRET);
        prop_assert!(tickets.redeem(&grant, &text, Clock::start().at(0, 0)).is_err());
    }

    #[test]
    fn a_changed_ticket_is_no_ticket(nonce: [u8; NONCE_BYTES], place in 0..TEXT_LENGTH, digit in "[A-Za-z0-9_-]") {
        let (clock, (broadcast, target)) = (Clock::start(), id("demo"));
        let grant = Grant { right: Right::View, broadcast: &broadcast, target: &target };
        let mut tickets = Tickets::new(SECRET);
        let ticket = tickets.issue(&grant, &Issue { nonce, ..issue(clock.at(0, 0).wallclock, 0) });
        let mut text = ticket.as_str().to_owned();
        text.replace_range(place..=place, &digit);
        let outcome = tickets.redeem(&grant, &text, clock.at(0, 0));
        if text == ticket.as_str() {
            prop_assert_eq!(outcome, Ok(CHECKED));
        } else {
            prop_assert!(outcome.is_err());
        }
    }
}
