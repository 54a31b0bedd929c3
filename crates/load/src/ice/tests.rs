//! Two agents that find each other, and one that is left alone.

use super::*;
use crate::turn::Tally;
use model::NtpTime;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use udp_batch::{Options, ReceiveBatch, SendQueue, Socket};

/// One agent with a real socket, so that nothing has to be said twice; time is played.
struct Side {
    agent: Option<Agent>,
    local: IceCredentials,
    socket: Socket,
    random: StdRng,
    tally: Tally,
    events: Vec<Event>,
}

impl Side {
    fn new(seed: u8) -> Self {
        Self {
            agent: None,
            local: IceCredentials::from_random(&[seed; 32]),
            socket: Socket::bind("127.0.0.1:0".parse().unwrap(), &Options::default()).unwrap(),
            random: StdRng::seed_from_u64(seed.into()),
            tally: Tally::default(),
            events: Vec::new(),
        }
    }

    fn with<T>(&mut self, now: Instant, act: impl FnOnce(&mut Option<Agent>, &mut Turn<'_>) -> T) -> T {
        let mut out = SendQueue::new();
        let wallclock = NtpTime::from_bits(0);
        let (random, tally) = (&mut self.random, &mut self.tally);
        let result = act(&mut self.agent, &mut Turn { now, wallclock, random, out: &mut out, tally });
        out.flush(&self.socket).unwrap();
        result
    }

    fn meet(&mut self, now: Instant, other: &Self, is_controlling: bool) {
        let (local, theirs) = (self.local.clone(), &other.local);
        let remote = sdp::IceCredentials { ufrag: theirs.ufrag().into(), pwd: theirs.pwd().into() };
        // The first candidate is a dead end.
        let candidates = ["127.0.0.1:9".parse().unwrap(), other.socket.local_addr()];
        self.with(now, |agent, turn| {
            *agent = Some(Agent::new(local, remote, is_controlling, &candidates, turn));
        });
    }

    /// Timers that are due, then what has arrived.
    fn step(&mut self, now: Instant) {
        let mut batch = ReceiveBatch::new();
        self.socket.receive(&mut batch).unwrap();
        let events = self.with(now, |agent, turn| {
            let agent = agent.as_mut().unwrap();
            let mut events: Vec<Event> = agent.handle_timeout(turn).into_iter().collect();
            for received in batch.iter_mut() {
                events.extend(agent.handle_datagram(turn, received.remote, received.bytes));
            }
            events
        });
        self.events.extend(events);
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().unwrap()
    }
}

/// Both sides in turn, ten milliseconds apart.
fn play(sides: &mut [Side; 2], from: Instant, length: Duration) -> Instant {
    let mut now = from;
    while now < from + length {
        now += Duration::from_millis(10);
        sides.iter_mut().for_each(|side| side.step(now));
    }
    now
}

fn meeting(roles: [bool; 2]) -> ([Side; 2], Instant) {
    let start = Instant::now();
    let mut sides = [Side::new(1), Side::new(2)];
    let [one, other] = &mut sides;
    one.meet(start, other, roles[0]);
    other.meet(start, one, roles[1]);
    let now = play(&mut sides, start, Duration::from_secs(3));
    (sides, now)
}

#[test]
fn both_agree_on_one_path_whoever_controls_and_whatever_they_believe_at_first() {
    for roles in [[true, false], [false, true], [true, true], [false, false]] {
        let (sides, _) = meeting(roles);
        let [one, other] = &sides;
        assert_eq!(
            (&one.events[..], &other.events[..]),
            (&[Event::Connected][..], &[Event::Connected][..]),
            "{roles:?}"
        );
        assert_eq!(one.agent().selected(), Some(other.socket.local_addr()));
        assert_eq!(other.agent().selected(), Some(one.socket.local_addr()));
        assert_ne!(one.agent().is_controlling, other.agent().is_controlling);
    }
}

#[test]
fn consent_lasts_as_long_as_it_is_answered_and_ends_after_thirty_seconds_of_silence() {
    let (mut sides, now) = meeting([true, false]);
    let now = play(&mut sides, now, Duration::from_secs(60));
    assert_eq!(sides[0].events, [Event::Connected], "consent goes on");
    let [one, _silent] = &mut sides;
    one.step(now);
    one.step(now + CONSENT_EXPIRY + CONSENT_INTERVAL * 2);
    assert_eq!(one.events.last(), Some(&Event::ConsentLost));
}

#[test]
fn strangers_are_not_answered() {
    let (mut sides, now) = meeting([true, false]);
    let mut stranger = Side::new(3);
    let [one, _] = &mut sides;
    stranger.meet(now, one, true);
    stranger.agent.as_mut().unwrap().remote.pwd = "x".repeat(24);
    stranger.step(now + PACE);
    one.step(now + PACE);
    stranger.step(now + PACE * 2);
    assert!(!stranger.agent().is_valid(one.socket.local_addr()));
    assert_ne!(one.agent().selected(), Some(stranger.socket.local_addr()));
}
