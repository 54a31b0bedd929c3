//! Behaviour of the module `keyframe_request`.

use std::time::{Duration, Instant};

use model::Ssrc;
use proptest::prelude::*;

use super::*;

const ONE: Ssrc = Ssrc::new(1);
const TWO: Ssrc = Ssrc::new(2);

fn forwarded(limiter: &mut KeyframeLimiter, now: Instant) -> Vec<Ssrc> {
    std::iter::from_fn(|| limiter.poll_forward(now)).collect()
}

#[test]
fn a_thousand_requests_make_one_upstream() {
    let now = Instant::now();
    let mut limiter = KeyframeLimiter::default();
    for _ in 0..1000 {
        limiter.request(ONE);
    }
    assert_eq!(forwarded(&mut limiter, now), [ONE]);
    assert_eq!(limiter.stats(), Stats { asked: 1000, forwarded: 1, suppressed: 999 });
}

#[test]
fn a_request_within_the_interval_waits_for_its_end() {
    let start = Instant::now();
    let mut limiter = KeyframeLimiter::default();
    limiter.request(ONE);
    assert_eq!(forwarded(&mut limiter, start), [ONE]);
    assert_eq!(limiter.poll_timeout(), None);
    limiter.request(ONE);
    assert_eq!(forwarded(&mut limiter, start + INTERVAL / 2), []);
    assert_eq!(limiter.poll_timeout(), Some(start + INTERVAL));
    assert_eq!(forwarded(&mut limiter, start + INTERVAL), [ONE]);
}

#[test]
fn a_keyframe_answers_the_request_that_waits() {
    let start = Instant::now();
    let mut limiter = KeyframeLimiter::default();
    limiter.request(ONE);
    assert_eq!(forwarded(&mut limiter, start), [ONE]);
    limiter.request(ONE);
    limiter.keyframe_started(ONE);
    assert_eq!(limiter.poll_timeout(), None);
    assert_eq!(forwarded(&mut limiter, start + INTERVAL), []);
    assert_eq!(limiter.stats(), Stats { asked: 2, forwarded: 1, suppressed: 1 });
}

#[test]
fn streams_do_not_wait_for_each_other() {
    let start = Instant::now();
    let mut limiter = KeyframeLimiter::default();
    limiter.request(TWO);
    assert_eq!(forwarded(&mut limiter, start), [TWO]);
    limiter.request(TWO);
    limiter.request(ONE);
    assert_eq!(forwarded(&mut limiter, start + INTERVAL / 2), [ONE]);
}

#[test]
fn a_forgotten_stream_asks_for_nothing() {
    let now = Instant::now();
    let mut limiter = KeyframeLimiter::default();
    limiter.request(ONE);
    limiter.forget(ONE);
    assert_eq!(forwarded(&mut limiter, now), []);
    assert_eq!(limiter.stats(), Stats { asked: 1, forwarded: 0, suppressed: 1 });
}

proptest! {
    #[test]
    fn no_two_requests_leave_within_an_interval(steps in prop::collection::vec((0u64..400, 0u32..3, 0u8..8), 1..200)) {
        let mut limiter = KeyframeLimiter::default();
        let mut now = Instant::now();
        let mut last: [Option<Instant>; 3] = [None; 3];
        for (wait, stream, what) in steps {
            now += Duration::from_millis(wait);
            let ssrc = Ssrc::new(stream);
            if what == 0 { limiter.keyframe_started(ssrc) } else { limiter.request(ssrc) }
            for sent in forwarded(&mut limiter, now) {
                let before = last[sent.get() as usize].replace(now);
                prop_assert!(before.is_none_or(|before| now - before >= INTERVAL));
            }
            prop_assert!(limiter.poll_timeout().is_none_or(|at| at > now));
            let waiting = limiter.streams.values().filter(|stream| stream.waits).count() as u64;
            let stats = limiter.stats();
            prop_assert_eq!(stats.asked, stats.forwarded + stats.suppressed + waiting);
        }
    }
}
