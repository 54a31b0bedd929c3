//! Behaviour of the module `rate`.

use std::time::{Duration, Instant};

use model::{Bitrate, NtpTime, SeqNo, Ssrc};
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_steady_stream_shows_its_rate_and_silence_shows_none() {
    let start = Instant::now();
    let mut meter = RateMeter::new(SECOND);
    for packet in 0..3000u32 {
        meter.add(start + Duration::from_millis(1) * packet, 125);
    }
    let now = start + Duration::from_secs(3);
    let rate = meter.rate(now).as_bps();
    assert!((950_000..=1_000_000).contains(&rate), "{rate}");
    assert_eq!(meter.rate(now + SECOND), Bitrate::bps(0));
    assert!(meter.buckets.len() <= BUCKETS as usize + 1);
}

#[test]
fn the_first_packet_is_no_enormous_rate() {
    let now = Instant::now();
    let mut meter = RateMeter::new(SECOND);
    assert_eq!(meter.rate(now), Bitrate::bps(0));
    meter.add(now, 1250);
    assert_eq!(meter.rate(now), Bitrate::kbps(100));
    assert_eq!(meter.rate(now + SECOND / 2), Bitrate::kbps(20));
}

#[test]
fn even_arrival_has_no_jitter_and_uneven_arrival_converges_to_its_size() {
    let start = Instant::now();
    let mut even = Jitter::new(90_000);
    let mut uneven = Jitter::new(90_000);
    for frame in 0..500u32 {
        let at = start + Duration::from_millis(40) * frame;
        even.received(at, u32::MAX.wrapping_add(3600 * frame)); // the timestamp wraps around
        uneven.received(at + Duration::from_millis(10) * (frame % 2), 3600 * frame);
    }
    assert_eq!(even.ticks(), 0);
    // Differences of 10 ms, each other way.
    assert!(uneven.duration().abs_diff(Duration::from_millis(10)) < Duration::from_millis(1), "{uneven:?}");
}

#[test]
fn a_break_in_the_timestamps_is_not_jitter() {
    let start = Instant::now();
    let mut jitter = Jitter::new(90_000);
    jitter.received(start, 0);
    jitter.received(start + SECOND, 2_000_000_000);
    assert_eq!(jitter.ticks(), 0);
}

#[test]
fn a_report_tells_the_loss_of_its_interval_and_of_all_time() {
    let start = Instant::now();
    let mut statistics = ReceiverStatistics::new(Ssrc::new(9), 90_000);
    assert_eq!(statistics.report(start), None);
    let first = SeqNo::from_parts(5, 65_530);
    for offset in (0..100).filter(|offset| offset % 4 != 1) {
        statistics.received(start, first.plus(offset), 0);
    }
    let block = statistics.report(start).expect("packets came");
    assert_eq!((block.fraction_lost, block.lost), (64, 25));
    // 99 after 65 530, one cycle later: cycles count from the first packet's.
    assert_eq!(block.highest_seq, (1 << 16) | 93);
    assert_eq!((block.last_report, block.delay), (0, 0));

    for offset in 100..200 {
        statistics.received(start, first.plus(offset), 0);
    }
    let block = statistics.report(start).expect("packets came");
    assert_eq!((block.fraction_lost, block.lost), (0, 25), "the interval was whole");
}

#[test]
fn a_report_tells_how_long_ago_the_senders_report_came() {
    let start = Instant::now();
    let mut statistics = ReceiverStatistics::new(Ssrc::new(9), 90_000);
    statistics.received(start, SeqNo::new(1), 0);
    statistics.sender_report(start, NtpTime::from_bits(0x0001_2345_6789_0000));
    let block = statistics.report(start + SECOND / 4).expect("packets came");
    assert_eq!((block.last_report, block.delay), (0x2345_6789, 65_536 / 4));
}

#[test]
fn duplicates_make_the_loss_negative_and_the_fraction_zero() {
    let now = Instant::now();
    let mut statistics = ReceiverStatistics::new(Ssrc::new(9), 90_000);
    for index in [1, 2, 2, 2] {
        statistics.received(now, SeqNo::new(index), 0);
    }
    assert_eq!(statistics.lost(), -2);
    let block = statistics.report(now).expect("packets came");
    assert_eq!((block.fraction_lost, block.lost), (0, -2));
}

proptest! {
    #[test]
    fn a_meter_never_counts_more_than_came(
        packets in prop::collection::vec((0u64..300, 0usize..1500), 1..300),
    ) {
        let mut now = Instant::now();
        let mut meter = RateMeter::new(SECOND);
        let mut came: Vec<(Instant, u64)> = Vec::new();
        for (wait, bytes) in packets {
            now += Duration::from_millis(wait);
            meter.add(now, bytes);
            came.push((now, bytes as u64));
            let since = |window: Duration| {
                came.iter().filter(|(at, _)| now - *at < window).map(|(_, bytes)| bytes).sum::<u64>()
            };
            // A part of the window leaves as a whole, with its first byte.
            prop_assert!(meter.bytes <= since(SECOND));
            prop_assert!(meter.bytes >= since(SECOND - SECOND / BUCKETS));
        }
    }
}
