//! What of a stream counts in the window, and when its first picture is whole.

use super::*;
use model::Codec;

const STEP: Duration = Duration::from_millis(10);
const H264: Format =
    Format { payload_type: 96, codec: Codec::H264, clock_rate: 90_000, rtx: Some(97), takes_nack: true };

struct Play {
    stream: Stream,
    now: Instant,
}

impl Play {
    fn new() -> Self {
        let now = Instant::now();
        Self { stream: Stream::new(now, Ssrc::new(1), H264, false), now }
    }

    /// Frames of two packets: odd and even numbers. Every tenth packet is a parameter set and begins a keyframe.
    fn receive(&mut self, seq_no: u64, via_rtx: bool) -> (Arrival, bool) {
        self.now += STEP;
        let payload: &[u8] = if seq_no % 10 == 1 { &[0x67, 0x42] } else { &[0x41, 0x10] };
        let marker = seq_no.is_multiple_of(2);
        let timestamp = (seq_no.div_ceil(2) * 3000) as u32;
        let head = Head { seq_no: SeqNo::new(seq_no), timestamp, marker, via_rtx };
        self.stream.received(self.now, head, Some(payload))
    }

    fn receive_all(&mut self, seq_nos: impl IntoIterator<Item = u64>) {
        for seq_no in seq_nos {
            self.receive(seq_no, false);
        }
    }

    fn asks(&mut self) -> Vec<u64> {
        let mut asks = Vec::new();
        self.now += STEP * 2;
        self.stream.poll(self.now, Duration::ZERO, &mut asks);
        asks.into_iter().map(SeqNo::get).collect()
    }

    fn shares(&mut self) -> (u64, u64, u64) {
        let share = self.stream.close_account();
        (share.expected(), share.lost_before_repair, share.lost_after_repair)
    }
}

#[test]
fn what_is_repaired_after_the_window_counts_and_what_lies_outside_does_not() {
    let mut play = Play::new();
    play.receive_all([1, 2, 4]);
    play.stream.begin_window(play.now);
    play.receive_all([5, 6, 8, 9, 11, 12]);
    play.stream.end_window(play.now);
    play.receive_all([14, 15]);
    assert_eq!(play.asks(), [3, 7, 10, 13]);
    for repaired in [3, 7, 13] {
        assert_eq!(play.receive(repaired, true).0, Arrival::Repaired);
    }
    assert_eq!(play.shares(), (8, 2, 1), "5 to 12; 7 and 10 were missing, 10 still is");
}

#[test]
fn one_that_leaves_is_not_charged_for_what_it_still_waits_for() {
    let mut play = Play::new();
    play.stream.begin_window(play.now);
    play.receive_all([1, 2, 3, 5, 6]);
    play.stream.end_window_at_frontier(play.now);
    assert_eq!(play.shares(), (3, 0, 0));
}

#[test]
fn a_sequence_that_begins_anew_is_counted_in_both_parts() {
    let mut play = Play::new();
    play.stream.begin_window(play.now);
    play.receive_all(1..=10);
    play.receive_all(20_001..=20_005);
    play.stream.end_window(play.now);
    assert_eq!(play.shares(), (15, 0, 0));
}

#[test]
fn the_first_picture_is_whole_with_its_last_packet_even_if_that_was_repaired() {
    let mut play = Play::new();
    assert_eq!(play.receive(9, false), (Arrival::New, false));
    assert_eq!(play.receive(10, false), (Arrival::New, false), "a delta is none");
    assert_eq!(play.receive(12, false), (Arrival::New, false));
    assert_eq!(play.asks(), [11]);
    play.receive_all([13, 14]);
    assert!(play.stream.awaits_keyframe());
    assert_eq!(play.receive(11, true), (Arrival::Repaired, true));
    assert!(!play.stream.awaits_keyframe());
}

#[test]
fn a_packet_lost_for_good_breaks_the_picture_until_the_next_keyframe() {
    let mut play = Play::new();
    play.receive_all([10, 11, 12]);
    assert!(!play.stream.awaits_keyframe());
    play.receive(14, false);
    let mut is_broken = false;
    for _ in 0..12 {
        play.now += Duration::from_millis(50);
        is_broken |= play.stream.poll(play.now, Duration::ZERO, &mut Vec::new());
    }
    assert!(is_broken && play.stream.awaits_keyframe());
    play.receive_all(15..=22);
    assert!(!play.stream.awaits_keyframe());
}

#[test]
fn reports_tell_the_loss_since_the_last_one() {
    let mut play = Play::new();
    assert_eq!(play.stream.report(play.now), None);
    play.receive_all([1, 2, 3, 5]);
    play.stream.sender_report(play.now, NtpTime::from_bits(0x1234_5678_9abc_def0));
    let block = play.stream.report(play.now + Duration::from_millis(500)).unwrap();
    assert_eq!((block.fraction_lost, block.lost, block.highest_seq), (51, 1, 5));
    assert_eq!((block.last_report, block.delay), (0x5678_9abc, 0x8000));
    play.receive(4, true);
    play.receive_all(6..=9);
    let block = play.stream.report(play.now).unwrap();
    assert_eq!((block.fraction_lost, block.lost), (0, 1), "retransmissions are not reception");
}
