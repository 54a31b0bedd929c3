//! Behaviour of the module `controller`.

use super::*;

const fn layer(kbps: u64) -> LayerNow {
    LayerNow { rate: Bitrate::kbps(kbps), is_active: true, is_steady: true }
}

const LAYERS: [LayerNow; 3] = [layer(2500), layer(800), layer(200)];

/// A viewer whose reports come once a second, and what it is given.
struct Viewer {
    controller: Controller,
    now: Instant,
    layer: u8,
    highest_seq: u32,
    lost: i32,
    sent: u32,
    probe: Option<Bitrate>,
}

impl Viewer {
    fn new(layer: u8) -> Self {
        let now = Instant::now();
        let controller = Controller::new(now, layer);
        Self { controller, now, layer, highest_seq: 1000, lost: 0, sent: 0, probe: None }
    }

    /// A second, after which it reports this loss, and follows the decision at once.
    fn second(&mut self, lost_percent: i32, round_trip_ms: u64) {
        let sent_at = self.now;
        self.now += Duration::from_secs(1);
        self.highest_seq += 100;
        self.lost += lost_percent;
        let second = Duration::from_secs(1);
        if let Some(rate) = self.probe {
            self.controller.probed(rate.bytes_in(second) as usize);
        }
        let rate = LAYERS[usize::from(self.layer)].rate.as_bps() + self.probe.map_or(0, Bitrate::as_bps);
        self.sent = self.sent.wrapping_add(Bitrate::bps(rate).bytes_in(second) as u32);
        let report = Report {
            fraction_lost: (lost_percent * 255 / 100) as u8,
            lost: self.lost,
            highest_seq: self.highest_seq,
            sent: self.sent,
            round_trip: Some((Duration::from_millis(round_trip_ms), sent_at)),
        };
        self.controller.reported(self.now, report);
        self.decide(&LAYERS);
    }

    fn decide(&mut self, layers: &[LayerNow]) {
        let decision = self.controller.decide(self.now, layers, self.layer, true);
        (self.layer, self.probe) = (decision.layer, decision.probe);
    }

    fn seconds(&mut self, count: u32) {
        (0..count).for_each(|_| self.second(0, 40));
    }
}

#[test]
fn two_windows_of_loss_bring_the_layer_that_what_arrives_allows() {
    for (lost, layer) in [(9, 0), (20, 1), (60, 1), (80, 2), (99, 2)] {
        let mut viewer = Viewer::new(0);
        viewer.seconds(3);
        viewer.second(lost, 40);
        assert_eq!(viewer.layer, 0, "{lost} % once");
        viewer.second(lost, 40);
        assert_eq!(viewer.layer, layer, "{lost} % twice");
    }
}

#[test]
fn reports_in_quick_succession_are_one_window() {
    let mut viewer = Viewer::new(0);
    viewer.seconds(3);
    for _ in 0..20 {
        viewer.now += Duration::from_millis(20);
        (viewer.highest_seq, viewer.lost) = (viewer.highest_seq + 10, viewer.lost + 5);
        let Viewer { highest_seq, lost, .. } = viewer;
        let report = Report { fraction_lost: 128, lost, highest_seq, sent: 0, round_trip: None };
        viewer.controller.reported(viewer.now, report);
        viewer.decide(&LAYERS);
    }
    assert_eq!(viewer.layer, 0);
}

#[test]
fn a_fallen_estimate_decides_if_it_is_low_or_has_a_witness() {
    for (kbps, lost, round_trip, layer) in [
        (2100, 0, 40, 0),
        (2100, 3, 40, 1),
        (2100, 0, 300, 1),
        (1700, 0, 40, 1),
        (700, 0, 40, 2),
        (2200, 3, 300, 0),
    ] {
        let mut viewer = Viewer::new(0);
        viewer.seconds(3);
        viewer.controller.estimated(viewer.now, Bitrate::kbps(3700));
        viewer.second(0, 40);
        viewer.controller.estimated(viewer.now, Bitrate::kbps(kbps));
        viewer.second(lost, round_trip);
        assert_eq!(viewer.layer, layer, "{kbps} kbit/s, {lost} %, {round_trip} ms");
    }
}

#[test]
fn an_estimate_that_rises_from_below_is_no_shortage() {
    let mut viewer = Viewer::new(0);
    for second in 0..30 {
        viewer.controller.estimated(viewer.now, Bitrate::kbps(300 + second * 25));
        viewer.second(0, 40);
    }
    assert_eq!(viewer.layer, 0);
}

#[test]
fn repeats_that_arrive_are_carried_too() {
    let short = |repeated: u64| {
        let mut viewer = Viewer::new(2);
        viewer.seconds(3);
        let mut short = None;
        for _ in 0..6 {
            viewer.sent =
                viewer.sent.wrapping_add(Bitrate::kbps(repeated).bytes_in(Duration::from_secs(1)) as u32);
            viewer.second(30, 40);
            short = viewer.controller.short().or(short);
        }
        short.expect("a third is missing").as_bps() / 1000
    };
    assert_eq!((short(0), short(130)), (140, 231));
}

fn check_that_one_queue_is_none(viewer: &mut Viewer) {
    viewer.second(0, 250);
    assert_eq!(viewer.controller.short(), None, "one report met a queue");
    // The probe that was on its way ends there, and what comes then is of it.
    let short = (0..4).find_map(|_| {
        viewer.second(0, 250);
        viewer.controller.short()
    });
    assert!(short.is_some(), "the next ones, too");
}

#[test]
fn an_estimate_from_before_a_hold_says_nothing_and_one_late_report_neither() {
    let mut viewer = Viewer::new(2);
    viewer.seconds(3);
    viewer.controller.estimated(viewer.now, Bitrate::kbps(300));
    viewer.controller.began_anew(viewer.now);
    for kbps in 28..31 {
        viewer.controller.estimated(viewer.now, Bitrate::kbps(kbps));
        viewer.second(0, 40);
        assert_eq!(viewer.controller.short(), None);
    }
    check_that_one_queue_is_none(&mut viewer);
}

#[test]
fn a_queue_from_before_a_hold_says_nothing() {
    let mut viewer = Viewer::new(2);
    viewer.seconds(3);
    viewer.controller.estimated(viewer.now, Bitrate::kbps(300));
    (0..2).for_each(|_| viewer.second(0, 250));
    viewer.controller.began_anew(viewer.now);
    // Nothing of the picture was sent for a while, so no report was answered.
    viewer.now += Duration::from_secs(10);
    viewer.controller.estimated(viewer.now, Bitrate::kbps(30));
    viewer.decide(&LAYERS);
    assert_eq!(viewer.controller.short(), None, "of now nothing is known");
    check_that_one_queue_is_none(&mut viewer);
}

#[test]
fn what_the_viewer_itself_says_it_can_take_needs_no_probe() {
    let mut viewer = Viewer::new(2);
    for _ in 0..3 {
        viewer.seconds(1);
        viewer.controller.estimated(viewer.now, Bitrate::kbps(3100));
    }
    viewer.decide(&LAYERS);
    assert_eq!((viewer.layer, viewer.controller.take_probes().begun), (0, 1));
}

#[test]
fn an_estimate_by_arrivals_that_is_beyond_what_is_sent_is_of_another_time() {
    let mut viewer = Viewer::new(2);
    viewer.controller.queued(Queue::default());
    for _ in 0..3 {
        viewer.seconds(1);
        viewer.controller.estimated(viewer.now, Bitrate::kbps(3100));
    }
    viewer.decide(&LAYERS);
    assert!(viewer.layer == 2 && viewer.probe.is_some(), "it is seen by a probe");
}

#[test]
fn a_try_that_fails_makes_the_next_wait_longer() {
    let mut viewer = Viewer::new(2);
    let mut starts = Vec::new();
    for second in 0..400 {
        let was_probing = viewer.probe.is_some();
        viewer.second(if was_probing { 30 } else { 0 }, 40);
        if viewer.probe.is_some() && !was_probing {
            starts.push(second);
        }
    }
    let waits: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted() && waits.len() >= 5, "{waits:?}");
    assert!(waits.iter().all(|wait| (8..=36).contains(wait)), "{waits:?}");
    assert_eq!(viewer.layer, 2);
}

#[test]
fn a_probe_ends_with_the_first_queue_and_the_next_one_need_not_wait_for_long() {
    let mut viewer = Viewer::new(2);
    let mut starts = Vec::new();
    for second in 0..100 {
        let was_probing = viewer.probe.is_some();
        viewer.seconds(1);
        if !was_probing && viewer.probe.is_some() {
            starts.push(second);
        }
        let queue = Queue { is_growing: was_probing, delay: Duration::ZERO };
        viewer.controller.queued(queue);
        viewer.decide(&LAYERS);
        assert!(!was_probing || viewer.probe.is_none(), "second {second}");
    }
    let waits: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.len() >= 7 && waits.iter().all(|wait| (10..=12).contains(wait)), "{waits:?}");
    assert_eq!(viewer.layer, 2);
}

#[test]
fn a_probe_grows_slowly_enough_for_a_queue_to_be_seen() {
    let mut viewer = Viewer::new(2);
    let mut rates = Vec::new();
    while viewer.layer == 2 {
        viewer.seconds(1);
        rates.extend(viewer.probe.map(|rate| rate.as_bps() / 1000));
    }
    assert_eq!(rates, [0, 200, 400, 600, 680, 680], "up to 800 and a tenth, beside the 200 that are sent");
}

#[test]
fn a_layer_that_is_seen_to_fill_a_queue_is_given_up_at_once() {
    // Who tells no arrivals has to say more first: which layer fits, its estimate shows only while it falls.
    for (loss, queue_ms, is_urgent) in [(5, 0, false), (0, 120, true), (5, 60, true)] {
        let mut viewer = Viewer::new(0);
        viewer.seconds(3);
        viewer.second(loss, 40);
        viewer.controller.estimated(viewer.now, Bitrate::kbps(2100));
        viewer.controller.queued(Queue { is_growing: false, delay: Duration::from_millis(queue_ms) });
        let decision = viewer.controller.decide(viewer.now, &LAYERS, 0, true);
        assert_eq!((decision.layer, decision.is_urgent), (1, is_urgent), "{loss} %, {queue_ms} ms");
    }
}

#[test]
fn a_shortage_soon_after_a_switch_up_counts_as_a_failed_try() {
    let mut viewer = Viewer::new(1);
    let mut ups = Vec::new();
    for second in 0..300 {
        let before = viewer.layer;
        // The best layer does not fit, though probes went well.
        viewer.second(if before == 0 { 20 } else { 0 }, 40);
        if viewer.layer < before {
            ups.push(second);
        }
    }
    let waits: Vec<_> = ups.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted() && (5..=13).contains(&waits.len()), "{ups:?}");
}

#[test]
fn nobody_who_is_silent_is_probed() {
    let mut viewer = Viewer::new(2);
    viewer.seconds(2);
    assert!(viewer.probe.is_some());
    viewer.now += Duration::from_secs(3);
    viewer.decide(&LAYERS);
    assert_eq!(viewer.probe, None);
}

#[test]
fn the_nearest_layer_that_is_there_is_given() {
    let there = |mask: u8| {
        [0, 1, 2].map(|index| LayerNow {
            is_active: mask >> index & 1 == 1,
            is_steady: false,
            ..LAYERS[index]
        })
    };
    assert_eq!(nearest(&there(0b111), 1, 1), 1);
    assert_eq!(nearest(&there(0b101), 1, 1), 2, "worse rather than better");
    assert_eq!(nearest(&there(0b001), 1, 1), 0);
    assert_eq!(nearest(&there(0b000), 0, 1), 1, "nothing is there");
    assert_eq!(nearest(&there(0b111), 0, 2), 2, "what has just come may go again");
    assert_eq!(nearest(&LAYERS, 0, 2), 0);
    assert_eq!(nearest(&LAYERS, 9, 2), 2, "there are not so many");
}
