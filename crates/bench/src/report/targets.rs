//! The targets, and whether what was measured meets them.

use std::fmt::Write as _;

use crate::load::{Media, Pacing};
use crate::plan::COMPARED;
use crate::record::{Record, Run};
use crate::servers::Kind;

/// Our CPU time for a packet, in units of the floor's.
const FLOOR_RATIO_MAX: f64 = 1.35;
/// The same in units of one `sendto`.
const SENDTO_RATIO_MAX: f64 = 0.4;
/// How much more Janus spends on a packet.
const JANUS_RATIO_MIN: f64 = 7.0;
const VIEWERS_PER_CORE_MIN: f64 = 1000.0;
/// Video of the target above, in kbit/s.
pub const MODEST_KBPS: u32 = 1500;
const LATENCY_P95_MS_MAX: f64 = 10.0;
const RESIDENT_BYTES_MAX: f64 = 40_000.0;
const MEMORY_VIEWERS_MIN: u32 = 1000;
const JOINS_PER_CORE_MIN: f64 = 500.0;
/// Viewers connected and verified at once.
pub const CROWD: u32 = 10_000;
const RELAY_PACKET_NS_MAX: f64 = 500.0;
/// The bench of a node that carries as many broadcasts as one may, 200, in either format.
const SCRAPES: &str = "metrics/scrape_";
const SCRAPE_MS_MAX: f64 = 10.0;
/// What the runtime counts for a packet, beside the plain numbers of the cores: when it comes, and for a flush of
/// [`FLUSH_PACKETS`].
const COUNTED: [&str; 2] = ["metrics/packet_received", "metrics/flush_sent"];
const FLUSH_PACKETS: f64 = 64.0;
/// A hundredth of what a packet costs at least.
const COUNTED_NS_MAX: f64 = 5.0;
/// The slowest decision of a controller: nobody has parents yet.
const DECISION: &str = "decide/1000 nodes/from nothing";
const DECISION_MS_MAX: f64 = 10.0;

/// A target, and what stands against it.
struct Target {
    wanted: String,
    /// `None` if it was not measured.
    measured: Option<(String, bool)>,
}

/// The table of targets.
pub fn write(records: &[Record]) -> String {
    let mut text = String::from("| Target | Measured | |\n|---|---|---|\n");
    for Target { wanted, measured } in targets(records) {
        let (measured, verdict) = match measured {
            Some((measured, true)) => (measured, "met"),
            Some((measured, false)) => (measured, "**missed**"),
            None => ("–".to_owned(), "not measured"),
        };
        let _ = writeln!(text, "| {wanted} | {measured} | {verdict} |");
    }
    text
}

fn targets(records: &[Record]) -> Vec<Target> {
    let runs: Vec<&Run> = records.iter().filter_map(Record::run).collect();
    let mut targets = Vec::new();
    for pacing in [Pacing::Burst, Pacing::Paced] {
        targets.extend([floor(&runs, pacing), sendto(&runs, pacing), janus(&runs, pacing)]);
    }
    targets.extend([
        modest(&runs),
        latency(&runs),
        memory(&runs),
        joins(records),
        crowd(&runs),
        relay(records),
        decision(records),
        counted(records),
        scrape(records),
    ]);
    targets
}

/// Ours under the usual load, as far as it carried it.
fn ours<'a>(runs: &'a [&Run], pacing: Pacing) -> impl Iterator<Item = &'a Run> {
    let usual = runs.iter().copied().filter(move |run| run.media == Media::usual(pacing));
    usual.filter(|run| run.server == Kind::MediaTree && !run.audience.takes_trains && run.is_carried())
}

/// The worst of our runs with enough viewers, in units of something that was measured beside it.
fn worst(runs: &[&Run], pacing: Pacing, most: f64, unit: impl Fn(&Run) -> f64) -> Option<(String, bool)> {
    let crowded = ours(runs, pacing).filter(|run| run.audience.viewers >= COMPARED);
    let ratios = crowded.map(|run| (run.packet_ns() / unit(run), run.audience.viewers));
    let (ratio, viewers) = ratios.max_by(|one, other| one.0.total_cmp(&other.0))?;
    Some((format!("{ratio:.2} × (worst, {viewers} viewers)"), ratio <= most))
}

fn floor(runs: &[&Run], pacing: Pacing) -> Target {
    Target {
        wanted: format!(
            "CPU for each packet delivered, ≥ {COMPARED} viewers, {}: ≤ {FLOOR_RATIO_MAX} × floor",
            pacing.name()
        ),
        measured: worst(runs, pacing, FLOOR_RATIO_MAX, |run| run.floor.gso_ns),
    }
}

fn sendto(runs: &[&Run], pacing: Pacing) -> Target {
    Target {
        wanted: format!("The same: ≤ {SENDTO_RATIO_MAX} × one `sendto` (aim)"),
        measured: worst(runs, pacing, SENDTO_RATIO_MAX, |run| run.floor.sendto_ns),
    }
}

/// Beside Janus with as many viewers as both carried; with most, if Janus carried none.
fn janus(runs: &[&Run], pacing: Pacing) -> Target {
    let usual = |kind: Kind| {
        runs.iter().copied().filter(move |run| {
            let is_usual = run.media == Media::usual(pacing) && !run.audience.takes_trains;
            run.server == kind && is_usual
        })
    };
    let pairs = usual(Kind::Janus).filter_map(|janus| {
        let ours = usual(Kind::MediaTree).find(|ours| ours.audience.viewers == janus.audience.viewers)?;
        Some((ours, janus))
    });
    let best = pairs.max_by_key(|(_, janus)| (janus.is_carried(), janus.audience.viewers));
    let measured = best.map(|(ours, janus)| {
        let ratio = janus.packet_ns() / ours.packet_ns();
        let told = format!(
            "{ratio:.1} × below with {} viewers ({:.0} and {:.0} ns; Janus delivered {:.1} %; the bare floor is {:.1} × below)",
            janus.audience.viewers,
            ours.packet_ns(),
            janus.packet_ns(),
            100.0 * janus.delivered(),
            janus.packet_ns() / janus.floor.gso_ns
        );
        (told, ratio >= JANUS_RATIO_MIN)
    });
    Target {
        wanted: format!("≥ {JANUS_RATIO_MIN} × below Janus in the same run, {}", pacing.name()),
        measured,
    }
}

fn modest(runs: &[&Run]) -> Target {
    let modest =
        runs.iter().find(|run| run.server == Kind::MediaTree && run.media.bitrate_kbps == MODEST_KBPS);
    let measured = modest.map(|run| {
        let told = format!(
            "{:.0} ({:.2} % delivered); the bare floor would carry {:.0}",
            run.viewers_per_core(),
            100.0 * run.delivered(),
            run.viewers_per_core() * run.packet_ns() / run.floor.gso_ns
        );
        (told, run.viewers_per_core() >= VIEWERS_PER_CORE_MIN && run.is_carried())
    });
    Target { wanted: format!("≥ {VIEWERS_PER_CORE_MIN} viewers for each core at 1.5 Mbit/s"), measured }
}

/// Half load: the run nearest to half of what was carried at most.
fn latency(runs: &[&Run]) -> Target {
    let carried = || ours(runs, Pacing::Burst);
    let most = carried().map(|run| run.audience.viewers).max();
    let measured = most.and_then(|most| {
        let half = carried().min_by_key(|run| run.audience.viewers.abs_diff(most / 2))?;
        let p95 = half.seen.latency_frame_ms?.p95;
        let told = format!("{p95:.1} ms at {} viewers; {most} were carried", half.audience.viewers);
        Some((told, p95 <= LATENCY_P95_MS_MAX))
    });
    Target {
        wanted: format!("Last packet of a frame, p95 at half load: ≤ {LATENCY_P95_MS_MAX} ms"),
        measured,
    }
}

fn memory(runs: &[&Run]) -> Target {
    // With few viewers, what is kept once for all of them would weigh on each.
    let ours =
        runs.iter().filter(|run| run.server == Kind::MediaTree && run.audience.viewers >= MEMORY_VIEWERS_MIN);
    let measured = ours.max_by_key(|run| run.audience.viewers).map(|run| {
        let bytes = run.resident_per_viewer();
        (format!("{:.1} KB at {} viewers", bytes / 1000.0, run.audience.viewers), bytes <= RESIDENT_BYTES_MAX)
    });
    Target { wanted: format!("Memory: ≤ {:.0} KB for each viewer", RESIDENT_BYTES_MAX / 1000.0), measured }
}

fn joins(records: &[Record]) -> Target {
    let measured = records.iter().find_map(Record::storm).map(|storm| {
        let told = format!(
            "{:.0}; {} of {} joined",
            storm.joins_per_core(),
            storm.seen.viewers.joined,
            storm.seen.viewers.wanted
        );
        let all = storm.seen.viewers.joined == storm.seen.viewers.wanted;
        (told, all && storm.joins_per_core() >= JOINS_PER_CORE_MIN)
    });
    Target { wanted: format!("≥ {JOINS_PER_CORE_MIN} joins/s for each core"), measured }
}

fn crowd(runs: &[&Run]) -> Target {
    let ours = runs.iter().filter(|run| run.server == Kind::MediaTree);
    let measured = ours.filter(|run| run.audience.viewers >= CROWD).map(|run| {
        let packets = run.seen.packets;
        let told = format!(
            "{} joined, {:.2} % of the packets delivered, {} verified, {} failed verification",
            run.seen.viewers.joined,
            100.0 * run.delivered(),
            packets.verified,
            packets.failed_verification
        );
        (told, run.is_carried() && packets.failed_verification == 0 && packets.verified > 0)
    });
    Target {
        wanted: format!("{CROWD} viewers connected and verified, two cores shared with their load"),
        measured: measured.max_by_key(|(_, is_met)| *is_met),
    }
}

fn relay(records: &[Record]) -> Target {
    let relays = records.iter().filter_map(Record::relay);
    let measured = relays.max_by_key(|relay| relay.children).map(|relay| {
        let told = format!("{:.0} ns with {} children", relay.packet_ns(), relay.children);
        (told, relay.packet_ns() <= RELAY_PACKET_NS_MAX)
    });
    Target {
        wanted: format!("Relay: ≤ {RELAY_PACKET_NS_MAX} ns for each packet forwarded to a child"),
        measured,
    }
}

fn counted(records: &[Record]) -> Target {
    let [received, flushed] = COUNTED.map(|name| {
        let bench = records.iter().filter_map(Record::micro).find(|bench| bench.name == name);
        bench.map(|bench| bench.iteration_ns)
    });
    let measured = received.zip(flushed).map(|(received, flushed)| {
        let nanoseconds = received + flushed / FLUSH_PACKETS;
        (format!("{nanoseconds:.1} ns"), nanoseconds <= COUNTED_NS_MAX)
    });
    Target {
        wanted: format!(
            "Metrics: counting a packet that comes and goes takes ≤ {COUNTED_NS_MAX} ns, no lock and no look-up"
        ),
        measured,
    }
}

fn scrape(records: &[Record]) -> Target {
    let scrapes = records.iter().filter_map(Record::micro).filter(|micro| micro.name.starts_with(SCRAPES));
    let slowest = scrapes.map(|micro| micro.iteration_ns / 1e6).max_by(f64::total_cmp);
    Target {
        wanted: format!("Metrics: a scrape of 200 broadcasts takes ≤ {SCRAPE_MS_MAX} ms of CPU"),
        measured: slowest.map(|millis| (format!("{millis:.1} ms"), millis <= SCRAPE_MS_MAX)),
    }
}

fn decision(records: &[Record]) -> Target {
    let bench = records.iter().filter_map(Record::micro).find(|bench| bench.name == DECISION);
    let measured = bench.map(|bench| {
        let milliseconds = bench.iteration_ns / 1e6;
        (format!("{milliseconds:.1} ms"), milliseconds <= DECISION_MS_MAX)
    });
    Target {
        wanted: format!(
            "A decision about 1000 nodes with 40000 viewers, from nothing: ≤ {DECISION_MS_MAX} ms"
        ),
        measured,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Audience, Packets, Seen, Viewers, Window};
    use crate::record::{Floor, Micro, Surroundings};

    /// 10 s with 200 viewers and a million packets.
    fn run(server: Kind, cpu_seconds: f64) -> Record {
        let packets = Packets { expected: 1_000_000, delivered: 1_000_000, ..Packets::default() };
        let viewers = Viewers { wanted: 200, joined: 200, ..Viewers::default() };
        let window = Window { start_unix_ms: 0.0, end_unix_ms: 10_000.0 };
        Record::Run(Box::new(Run {
            server,
            media: Media::usual(Pacing::Burst),
            audience: Audience { viewers: COMPARED, join_rate: 50, seconds: 10, takes_trains: false },
            cpu_seconds,
            resident_before: 0,
            resident_after: 0,
            floor: Floor { gso_ns: 500.0, sendto_ns: 2000.0, delivered: 1.0, load_average: 0.0 },
            surroundings: Surroundings::default(),
            seen: Seen { packets, window, viewers, ..Seen::default() },
        }))
    }

    fn verdicts(records: &[Record]) -> Vec<Option<bool>> {
        targets(records).iter().map(|target| target.measured.as_ref().map(|measured| measured.1)).collect()
    }

    #[test]
    fn janus_is_judged_where_it_carries_its_viewers() {
        let mut saturated = run(Kind::Janus, 20.0);
        let mut smaller = [run(Kind::MediaTree, 0.6), run(Kind::Janus, 3.0)];
        for record in &mut smaller {
            let Record::Run(run) = record else { unreachable!() };
            run.audience.viewers = 100;
        }
        if let Record::Run(run) = &mut saturated {
            run.seen.packets.delivered /= 2;
        }
        let [ours, janus] = smaller;
        let text = write(&[run(Kind::MediaTree, 0.6), saturated, ours, janus]);
        assert!(text.contains("| 5.0 × below with 100 viewers (600 and 3000 ns"), "{text}");
    }

    #[test]
    fn a_scrape_is_as_slow_as_its_slower_format() {
        let bench = |name: &str, iteration_ns| {
            Record::Micro(Micro { name: name.to_owned(), iteration_ns, elements: 1 })
        };
        let (quick, other) = (bench("metrics/scrape_prometheus", 2.4e6), bench("metrics/flush_sent", 9e9));
        let verdict = |records: &[Record]| verdicts(records).pop().flatten();
        assert_eq!(verdict(&[quick.clone(), other.clone()]), Some(true));
        assert_eq!(verdict(&[quick, bench("metrics/scrape_openmetrics", 10.4e6)]), Some(false));
        assert_eq!(verdict(&[other]), None);
    }

    #[test]
    fn counting_costs_what_a_packet_and_its_share_of_a_flush_do() {
        let bench = |name: &str, iteration_ns| {
            Record::Micro(Micro { name: name.to_owned(), iteration_ns, elements: 1 })
        };
        let [received, flushed] = COUNTED;
        assert_eq!(counted(&[bench(received, 3.0)]).measured, None, "half of it was measured");
        let cheap = [bench(received, 3.0), bench(flushed, 6.4)];
        assert_eq!(counted(&cheap).measured, Some(("3.1 ns".into(), true)));
        assert_eq!(
            counted(&[bench(received, 3.0), bench(flushed, 640.0)]).measured,
            Some(("13.0 ns".into(), false))
        );
    }

    #[test]
    fn the_slowest_decision_is_judged() {
        let bench = |name: &str, milliseconds: f64| {
            Record::Micro(Micro { name: name.into(), iteration_ns: milliseconds * 1e6, elements: 1 })
        };
        let judged = |milliseconds| {
            let records = [bench("decide/1000 nodes/at rest", 99.0), bench(DECISION, milliseconds)];
            decision(&records).measured
        };
        assert_eq!(judged(2.34), Some(("2.3 ms".into(), true)));
        assert_eq!(judged(10.3), Some(("10.3 ms".into(), false)));
    }

    #[test]
    fn a_target_is_met_missed_or_not_measured_by_the_figures() {
        let nothing = vec![None; verdicts(&[]).len()];
        assert_eq!(verdicts(&[]), nothing);
        // 0.6 s for a million packets: 600 ns.
        let good = [run(Kind::MediaTree, 0.6), run(Kind::Janus, 6.0)];
        assert_eq!(verdicts(&good)[..3], [Some(true), Some(true), Some(true)]);
        let bad = [run(Kind::MediaTree, 0.9), run(Kind::Janus, 6.0)];
        assert_eq!(verdicts(&bad)[..3], [Some(false), Some(false), Some(false)]);
        assert!(write(&bad).contains("| 1.80 × (worst, 200 viewers) | **missed** |"), "{}", write(&bad));
    }
}
