//! The tables of the report.

use std::fmt::Write as _;

use crate::load::{Media, Pacing, Percentiles};
use crate::record::{Missing, Record, Relay, Run};
use crate::servers::Kind;

/// So many functions of a profile are told.
const FUNCTIONS: usize = 30;

/// All servers under all loads.
pub fn runs(records: &[Record]) -> String {
    let mut text = String::new();
    for run in records.iter().filter_map(Record::run) {
        if text.is_empty() {
            text.push_str(
                "| Server | Video | Trains | Viewers | Delivered | CPU ns/packet | × floor (ns) | × `sendto` (ns) \
                 | Viewers/core | Packet p50 / p95 / p99 ms | Last of frame p50 / p95 / p99 ms | Stalled viewers \
                 | KB/viewer | Cores server / load / foreign |\n\
                 |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
            );
        }
        let _ = writeln!(text, "| {} |", cells(run).join(" | "));
    }
    text
}

fn cells(run: &Run) -> Vec<String> {
    let seen = &run.seen;
    let ratio = |floor_ns: f64| format!("{:.2} ({floor_ns:.0})", run.packet_ns() / floor_ns);
    let saturated = if run.is_carried() { "" } else { ", saturated" };
    vec![
        run.server.name().to_owned(),
        format!("{} kbit/s, {} fps, {}", run.media.bitrate_kbps, run.media.fps, run.media.pacing.name()),
        if run.audience.takes_trains { "whole" } else { "cut" }.to_owned(),
        format!("{} of {}", seen.viewers.joined, seen.viewers.wanted),
        format!("{:.2} %{saturated}", 100.0 * run.delivered()),
        format!("{:.0}", run.packet_ns()),
        ratio(run.floor.gso_ns),
        ratio(run.floor.sendto_ns),
        format!("{:.0}", run.viewers_per_core()),
        percentiles(seen.transit_ms),
        percentiles(seen.latency_frame_ms),
        seen.stalls.viewers.to_string(),
        format!("{:.1}", run.resident_per_viewer() / 1000.0),
        format!("{:.2} / {:.2} / {:.2}", run.cores(), run.load_cores(), run.foreign_cores()),
    ]
}

/// p50, p95 and p99, or a dash.
pub fn percentiles(of: Option<Percentiles>) -> String {
    of.map_or_else(|| "–".to_owned(), |of| format!("{:.1} / {:.1} / {:.1}", of.p50, of.p95, of.p99))
}

/// How delays grow with the number of viewers, up to what the machine carries together with its load.
pub fn rising(records: &[Record]) -> String {
    let usual = |run: &&Run| {
        let is_ours = run.server == Kind::MediaTree && run.media == Media::usual(Pacing::Burst);
        is_ours && !run.audience.takes_trains
    };
    let mut runs: Vec<&Run> = records.iter().filter_map(Record::run).filter(usual).collect();
    runs.sort_by_key(|run| run.audience.viewers);
    let mut text = String::new();
    for run in runs {
        if text.is_empty() {
            text.push_str(
                "| Viewers | Packets/s to them | Cores server / load | Packet p50 / p99 ms | Last of frame p50 / p99 ms \
                 | Delivered |\n|---|---|---|---|---|---|\n",
            );
        }
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.2} / {:.2} | {} | {} | {:.2} %{} |",
            run.audience.viewers,
            run.seen.packets_per_second,
            run.cores(),
            run.load_cores(),
            ends(run.seen.transit_ms),
            ends(run.seen.latency_frame_ms),
            100.0 * run.delivered(),
            if run.is_carried() { "" } else { ", saturated" },
        );
    }
    text
}

fn ends(of: Option<Percentiles>) -> String {
    of.map_or_else(|| "–".to_owned(), |of| format!("{:.1} / {:.1}", of.p50, of.p99))
}

/// Many viewers at once.
pub fn storms(records: &[Record]) -> String {
    let mut text = String::new();
    for storm in records.iter().filter_map(Record::storm) {
        let (seen, inside) = (&storm.seen, &storm.inside);
        let _ = writeln!(
            text,
            "{} of {} viewers joined within {:.1} s, which cost {:.2} s of CPU time: {:.0} joins/s for each core. From POST \
             to the end of DTLS {} ms (p50 / p95 / p99). Of {} viewers who were there before, {} saw a \
             stall; their packets came after {} ms. Load average {:.1}.",
            seen.viewers.joined,
            seen.viewers.wanted,
            storm.seconds,
            storm.cpu_seconds,
            storm.joins_per_core(),
            percentiles(seen.join_ms),
            inside.viewers.joined,
            inside.stalls.viewers,
            percentiles(inside.transit_ms),
            storm.load_average,
        );
    }
    text
}

/// A relay with more and more children.
pub fn relays(records: &[Record]) -> String {
    let mut text = String::new();
    let relays: Vec<&Relay> = records.iter().filter_map(Record::relay).collect();
    let Some((first, last)) = relays.first().zip(relays.last()) else { return text };
    text.push_str(
        "| Children | Packets forwarded/s | CPU ns/packet | Publisher to viewer, p50 / p95 / p99 ms | Load average |\n\
         |---|---|---|---|---|\n",
    );
    for relay in &relays {
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {} | {:.1} |",
            relay.children,
            relay.packets as f64 / relay.seconds,
            relay.packet_ns(),
            percentiles(Some(relay.latency_ms)),
            relay.load_average,
        );
    }
    let _ = writeln!(
        text,
        "\n{} nodes are connected in every row; a child is one that takes the broadcast. From the first row to the last \
         each packet more costs {:.0} ns.",
        last.children,
        last.more_than(first),
    );
    text
}

/// The benches of the crates.
pub fn micro(records: &[Record]) -> String {
    let mut text = String::new();
    for micro in records.iter().filter_map(Record::micro) {
        if text.is_empty() {
            text.push_str("| Bench | ns for each element, median | Elements |\n|---|---|---|\n");
        }
        let each = micro.iteration_ns / micro.elements as f64;
        let _ = writeln!(text, "| {} | {each:.1} | {} |", micro.name, micro.elements);
    }
    text
}

/// Profiles.
pub fn profiles(records: &[Record]) -> String {
    let mut text = String::new();
    for profile in records.iter().filter_map(Record::profile) {
        let in_kernel = profile.functions.iter().filter(|(_, name)| name.starts_with("[k]"));
        let in_kernel: f64 = in_kernel.map(|(share, _)| share).sum();
        let _ = writeln!(
            text,
            "{}: {:.0} ns for each packet, {:.0} % of them in the kernel (`[k]`).\n\n\
             | Function | ns for each packet |\n|---|---|",
            profile.of,
            profile.packet_ns,
            100.0 * in_kernel
        );
        for (share, name) in profile.functions.iter().take(FUNCTIONS) {
            let _ = writeln!(text, "| `{name}` | {:.0} |", share * profile.packet_ns);
        }
        text.push('\n');
    }
    text
}

/// What failed.
pub fn missing(records: &[Record]) -> String {
    let mut text = String::new();
    for Missing { measurement, reason, .. } in records.iter().filter_map(Record::missing) {
        let _ = writeln!(text, "- {measurement}: {}", shortened(&reason.replace('\n', " ")));
    }
    text
}

/// The beginning and the end of what a program said; all of it is in the raw data.
fn shortened(reason: &str) -> String {
    const ENDS: usize = 160;
    let characters: Vec<char> = reason.chars().collect();
    if characters.len() <= 2 * ENDS {
        return reason.to_owned();
    }
    let part = |part: &[char]| part.iter().collect::<String>();
    format!("{} … {}", part(&characters[..ENDS]), part(&characters[characters.len() - ENDS..]))
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn a_long_reason_keeps_its_beginning_and_its_end() {
        assert_eq!(shortened("short"), "short");
        let long = format!("begin{}end", "ß".repeat(1000));
        let shown = shortened(&long);
        assert!(
            shown.starts_with("begin") && shown.ends_with("end") && shown.chars().count() < 400,
            "{shown}"
        );
    }
}
