//! Behaviour of the module `origin`.

use super::*;
use model::{Codec, Layer, Ssrc};
use proptest::prelude::*;

const FIRST: PublisherId = PublisherId(1);
const SECOND: PublisherId = PublisherId(2);

fn id() -> BroadcastId {
    BroadcastId::new("demo").unwrap()
}

fn tracks(ssrc: u32) -> Vec<Track> {
    let layers = vec![Layer { ssrc: Ssrc::new(ssrc), rid: None }];
    vec![Track { codec: Codec::Opus, fmtp: "".into(), layers, was_heard: true }]
}

fn drain(origin: &mut Origin) -> Vec<OriginOutput> {
    std::iter::from_fn(|| origin.poll_output()).collect()
}

fn drawn(random: u64) -> Epoch {
    Epoch { counter: 0, random }
}

#[test]
fn a_run_follows_the_wallclock_and_every_earlier_run() {
    let mut origin = Origin::new(BroadcastId::new("show").unwrap(), OriginConfig::default(), Instant::now());
    let clock = Epoch { counter: 1000, random: 1 };
    assert_eq!(origin.publisher_started(PublisherId(1), tracks(1), clock).unwrap().counter, 1000);
    assert_eq!(origin.publisher_started(PublisherId(2), tracks(1), clock).unwrap().counter, 1001);
}

#[test]
fn a_broadcast_lives_across_a_reconnect_within_the_grace_period() {
    let now = Instant::now();
    let mut origin = Origin::new(id(), OriginConfig::default(), now);
    let first = origin.publisher_started(FIRST, tracks(1), drawn(11)).unwrap();
    assert_eq!(first, Epoch { counter: 1, random: 11 });
    assert!(matches!(&drain(&mut origin)[..], [OriginOutput::Changed(b)] if b.state == BroadcastState::Live));

    origin.publisher_gone(FIRST, now);
    let waiting = drain(&mut origin);
    assert!(matches!(&waiting[..], [OriginOutput::Changed(b)]
        if b.state == BroadcastState::Waiting && b.epoch == Some(first) && b.tracks == tracks(1)));
    origin.handle_timeout(now + Duration::from_secs(59));
    assert_eq!(drain(&mut origin), []);

    let second = origin.publisher_started(SECOND, tracks(2), drawn(5)).unwrap();
    assert!(second > first, "a later run wins whatever its random part");
    assert!(matches!(&drain(&mut origin)[..], [OriginOutput::Changed(b)] if b.tracks == tracks(2)));
    assert_eq!(origin.poll_timeout(), None);
}

#[test]
fn a_broadcast_nobody_returns_to_ends_once() {
    let now = Instant::now();
    let mut origin = Origin::new(id(), OriginConfig::default(), now);
    origin.publisher_started(FIRST, tracks(1), drawn(1)).unwrap();
    origin.publisher_gone(FIRST, now);
    drain(&mut origin);
    let end = origin.poll_timeout().unwrap();
    assert_eq!(end, now + Duration::from_secs(60));
    origin.handle_timeout(end);
    origin.handle_timeout(end);
    assert_eq!(drain(&mut origin), [OriginOutput::Ended]);
}

#[test]
fn a_declared_broadcast_never_ends() {
    let now = Instant::now();
    let config = OriginConfig { is_declared: true, ..OriginConfig::default() };
    let mut origin = Origin::new(id(), config, now);
    assert_eq!(origin.poll_timeout(), None);
    origin.publisher_started(FIRST, tracks(1), drawn(1)).unwrap();
    origin.publisher_gone(FIRST, now);
    origin.handle_timeout(now + Duration::from_secs(1_000_000));
    assert!(!drain(&mut origin).contains(&OriginOutput::Ended));
}

#[test]
fn a_second_publisher_takes_over_and_the_late_farewell_of_the_first_changes_nothing() {
    let now = Instant::now();
    let mut origin = Origin::new(id(), OriginConfig::default(), now);
    origin.publisher_started(FIRST, tracks(1), drawn(1)).unwrap();
    drain(&mut origin);
    origin.publisher_started(SECOND, tracks(2), drawn(1)).unwrap();
    let outputs = drain(&mut origin);
    assert_eq!(outputs[0], OriginOutput::PublisherReplaced { old: FIRST });
    assert!(matches!(&outputs[1], OriginOutput::Changed(b) if b.epoch.unwrap().counter == 2));
    origin.publisher_gone(FIRST, now);
    origin.tracks_changed(FIRST, tracks(7));
    assert_eq!(drain(&mut origin), []);
    assert_eq!(origin.publisher(), Some(SECOND));
}

#[test]
fn a_second_publisher_is_refused_where_the_policy_says_so_until_the_first_is_gone() {
    let now = Instant::now();
    let config = OriginConfig { second_publisher: SecondPublisher::Refused, ..OriginConfig::default() };
    let mut origin = Origin::new(id(), config, now);
    origin.publisher_started(FIRST, tracks(1), drawn(1)).unwrap();
    drain(&mut origin);
    assert_eq!(origin.check(), Err(Refused));
    assert_eq!(origin.publisher_started(SECOND, tracks(2), drawn(1)), Err(Refused));
    assert_eq!(drain(&mut origin), []);
    origin.publisher_gone(FIRST, now);
    assert_eq!(origin.check(), Ok(()));
    assert!(origin.publisher_started(SECOND, tracks(2), drawn(1)).is_ok());
}

#[test]
fn a_resumed_publisher_goes_on_in_its_run() {
    let epoch = Epoch { counter: 4, random: 9 };
    let mut origin = Origin::new(id(), OriginConfig::default(), Instant::now());
    origin.publisher_resumed(FIRST, epoch, tracks(1));
    assert_eq!(origin.broadcast().epoch, Some(epoch));
    let next = origin.publisher_started(SECOND, tracks(2), drawn(0)).unwrap();
    assert_eq!(next.counter, 5);
}

#[test]
fn counting_goes_on_from_what_the_store_knows() {
    let origin = Origin::new(id(), OriginConfig::default(), Instant::now());
    let mut origin = origin.with_epoch(Epoch { counter: 41, random: 3 });
    assert_eq!(origin.publisher_started(FIRST, tracks(1), drawn(0)).unwrap().counter, 42);
}

#[derive(Debug, Clone)]
enum Step {
    Start(u64),
    Gone(u64),
    Wait(u64),
}

proptest! {
    /// Against what must hold whatever happens: epochs only grow, nobody is live without a publisher, a broadcast with
    /// a publisher has no end, and nobody but the current publisher is ever told to go.
    #[test]
    fn invariants_hold_over_random_lives(
        steps in proptest::collection::vec(
            prop_oneof![
                (1u64..4).prop_map(Step::Start),
                (1u64..4).prop_map(Step::Gone),
                (0u64..80).prop_map(Step::Wait),
            ],
            0..60,
        ),
        refuse in any::<bool>(),
    ) {
        let second_publisher =
            if refuse { SecondPublisher::Refused } else { SecondPublisher::TakesOver };
        let mut now = Instant::now();
        let mut origin = Origin::new(id(), OriginConfig { second_publisher, ..OriginConfig::default() }, now);
        let mut newest = None;
        for step in steps {
            let before = origin.publisher();
            match step {
                Step::Start(number) => {
                    let _ = origin.publisher_started(PublisherId(number), tracks(1), drawn(number));
                }
                Step::Gone(number) => origin.publisher_gone(PublisherId(number), now),
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    origin.handle_timeout(now);
                }
            }
            for output in drain(&mut origin) {
                match output {
                    OriginOutput::PublisherReplaced { old } => {
                        prop_assert!(!refuse);
                        prop_assert_eq!(Some(old), before);
                    }
                    OriginOutput::Changed(broadcast) => {
                        prop_assert!(broadcast.epoch >= newest);
                        newest = broadcast.epoch;
                    }
                    OriginOutput::Ended => prop_assert_eq!(origin.publisher(), None),
                    OriginOutput::StandbyGoesOn { .. } => prop_assert!(false, "nobody stands by here"),
                }
            }
            let is_live = origin.broadcast().state == BroadcastState::Live;
            prop_assert_eq!(is_live, origin.publisher().is_some());
            prop_assert!(!is_live || origin.poll_timeout().is_none());
        }
    }
}

/// An origin whose second publisher stands by, with one that stands by.
fn with_standby(now: Instant) -> Origin {
    let config = OriginConfig { second_publisher: SecondPublisher::StandsBy, ..OriginConfig::default() };
    let mut origin = Origin::new(id(), config, now);
    let run = origin.publisher_started(FIRST, tracks(1), drawn(11)).unwrap();
    drain(&mut origin);
    assert_eq!(origin.publisher_started(SECOND, tracks(2), drawn(22)), Ok(run), "the run goes on");
    assert_eq!(drain(&mut origin), [], "nobody hears of one that stands by");
    origin
}

fn goes_on(outputs: &[OriginOutput], publisher: PublisherId, counter: u64) {
    let [OriginOutput::Changed(broadcast), goes_on] = outputs else { panic!("{outputs:?}") };
    assert_eq!((broadcast.state, broadcast.epoch.unwrap().counter), (BroadcastState::Live, counter));
    assert_eq!(*goes_on, OriginOutput::StandbyGoesOn { publisher });
}

#[test]
fn one_that_stands_by_goes_on_when_the_first_goes() {
    let now = Instant::now();
    let mut origin = with_standby(now);
    assert!(origin.heard(FIRST, now) && !origin.heard(SECOND, now), "only one of them counts");
    origin.tracks_changed(SECOND, tracks(3));
    origin.publisher_gone(FIRST, now);
    goes_on(&drain(&mut origin), SECOND, 2);
    assert_eq!(origin.broadcast().tracks, tracks(3), "as they were described last");
    assert_eq!(origin.broadcast().epoch, Some(Epoch { counter: 2, random: 22 }));
    assert_eq!((origin.publisher(), origin.poll_timeout()), (Some(SECOND), None));
    origin.publisher_gone(SECOND, now);
    assert!(
        matches!(&drain(&mut origin)[..], [OriginOutput::Changed(b)] if b.state == BroadcastState::Waiting)
    );
}

#[test]
fn one_that_stands_by_goes_on_when_the_first_falls_silent_and_nobody_switches_back() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut origin = with_standby(start);
    origin.heard(FIRST, at(0));
    origin.heard(SECOND, at(1900));
    assert_eq!(origin.poll_timeout(), Some(at(2000)));
    origin.handle_timeout(at(1999));
    assert_eq!(drain(&mut origin), []);
    origin.handle_timeout(at(2000));
    goes_on(&drain(&mut origin), SECOND, 2);
    assert!(origin.heard(SECOND, at(2001)) && !origin.heard(FIRST, at(2002)), "the first stands by now");
    assert_eq!(drain(&mut origin), []);
    origin.handle_timeout(at(4001));
    goes_on(&drain(&mut origin), FIRST, 3);
}

#[test]
fn nobody_goes_on_who_is_silent_too() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut origin = with_standby(start);
    origin.heard(FIRST, at(0));
    origin.handle_timeout(at(2));
    assert_eq!(
        (drain(&mut origin), origin.poll_timeout()),
        (vec![], None),
        "and nobody looks again and again"
    );
    assert!(origin.heard(SECOND, at(60)), "the first that is heard goes on");
    goes_on(&drain(&mut origin), SECOND, 2);
}

#[test]
fn a_silence_without_anybody_to_go_on_changes_nothing() {
    let now = Instant::now();
    let mut origin = Origin::new(id(), OriginConfig::default(), now);
    origin.publisher_started(FIRST, tracks(1), drawn(1)).unwrap();
    drain(&mut origin);
    origin.heard(FIRST, now);
    assert_eq!(origin.poll_timeout(), None);
    origin.handle_timeout(now + Duration::from_secs(10));
    assert_eq!(drain(&mut origin), []);
    assert!(origin.heard(FIRST, now + Duration::from_secs(11)));
}

#[test]
fn one_that_stands_by_has_one_place_however_often_its_media_is_described() {
    let now = Instant::now();
    let mut origin = with_standby(now);
    let run = origin.broadcast().epoch.unwrap();
    for more in 3..9 {
        assert_eq!(origin.publisher_started(SECOND, tracks(more), drawn(22)), Ok(run));
    }
    assert_eq!(origin.check(), Ok(()), "there is room for others");
    origin.publisher_gone(FIRST, now);
    goes_on(&drain(&mut origin), SECOND, 2);
    assert_eq!(origin.broadcast().tracks, tracks(8));
}

#[test]
fn only_so_many_stand_by() {
    let now = Instant::now();
    let mut origin = with_standby(now);
    for other in 3..5 {
        origin.publisher_started(PublisherId(other), tracks(1), drawn(1)).unwrap();
    }
    assert_eq!(origin.check(), Err(Refused));
    assert_eq!(origin.publisher_started(PublisherId(9), tracks(1), drawn(1)), Err(Refused));
    origin.publisher_gone(SECOND, now);
    assert_eq!((origin.check(), origin.publisher()), (Ok(()), Some(FIRST)));
}

#[test]
fn one_that_stands_by_for_another_nodes_goes_on_when_that_one_is_gone() {
    let now = Instant::now();
    let config = OriginConfig { second_publisher: SecondPublisher::StandsBy, ..OriginConfig::default() };
    let mut origin = Origin::new(id(), config, now);
    let there = Epoch { counter: 900, random: 9 };
    origin.published_elsewhere(Some(there));
    assert_eq!(origin.publisher_started(FIRST, tracks(1), drawn(1)), Ok(there), "the run that is on the air");
    assert!(!origin.heard(FIRST, now));
    assert_eq!(
        (drain(&mut origin), origin.poll_timeout()),
        (vec![], None),
        "nobody hears of it, and it stays"
    );

    // Another run of the other node is no end of it.
    origin.published_elsewhere(Some(Epoch { counter: 901, random: 9 }));
    assert_eq!(drain(&mut origin), []);
    origin.published_elsewhere(None);
    let changes = drain(&mut origin);
    let [OriginOutput::Changed(broadcast), OriginOutput::StandbyGoesOn { publisher: FIRST }] = &changes[..]
    else {
        panic!("{changes:?}")
    };
    assert_eq!(broadcast.epoch, Some(Epoch { counter: 902, random: 1 }));
    assert!(origin.heard(FIRST, now));

    // The other node comes back with the run that has lost: nobody here steps back for it.
    origin.published_elsewhere(Some(there));
    origin.published_elsewhere(None);
    assert_eq!(drain(&mut origin), []);
    assert!(origin.heard(FIRST, now));
}

#[test]
fn a_broadcast_of_another_node_is_forgotten_here_when_nobody_stands_by_for_it_any_more() {
    let now = Instant::now();
    let config = OriginConfig { second_publisher: SecondPublisher::StandsBy, ..OriginConfig::default() };
    let mut origin = Origin::new(id(), config, now);
    origin.published_elsewhere(Some(Epoch { counter: 900, random: 9 }));
    origin.publisher_started(FIRST, tracks(1), drawn(1)).unwrap();
    origin.publisher_gone(FIRST, now);
    origin.published_elsewhere(None);
    assert_eq!(drain(&mut origin), [], "nobody is there to go on");
    origin.handle_timeout(now + config.grace);
    assert_eq!(drain(&mut origin), [OriginOutput::Ended]);
}
