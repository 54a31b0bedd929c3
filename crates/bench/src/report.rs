//! The report: computed from the records and nothing else, so that no figure is ever typed.

mod tables;
mod targets;

use std::fmt::Write as _;

use crate::record::{Record, Run, Session};

const METHOD: &str = include_str!("report/method.md");
const MISSES: &str = include_str!("report/misses.md");

/// What is told of a run while the bench goes on.
#[must_use]
pub fn line(run: &Run) -> String {
    let floor = format!(
        "{:.2} × floor ({:.0} ns), {:.2} × sendto ({:.0} ns)",
        run.packet_ns() / run.floor.gso_ns,
        run.floor.gso_ns,
        run.packet_ns() / run.floor.sendto_ns,
        run.floor.sendto_ns
    );
    format!(
        "{:.0} ns for each packet delivered ({:.1} %), {floor}; {:.0} viewers for each core; delay {} ms; \
         {} of {} joined{}",
        run.packet_ns(),
        100.0 * run.delivered(),
        run.viewers_per_core(),
        tables::percentiles(run.seen.latency_frame_ms.or(run.seen.transit_ms)),
        run.seen.viewers.joined,
        run.seen.viewers.wanted,
        run.seen
            .viewers
            .failed
            .iter()
            .map(|(reason, count)| format!(", {count}: {reason}"))
            .collect::<String>(),
    )
}

/// The report as Markdown.
#[must_use]
pub fn write(records: &[Record]) -> String {
    let mut text = String::from("# Benchmarks\n\nWritten by `cargo xtask bench`; do not edit.\n\n");
    for session in records.iter().filter_map(Record::session) {
        head(&mut text, session);
    }
    let sections = [
        ("Targets", format!("{}\n{MISSES}", targets::write(records))),
        ("Servers under the same load", tables::runs(records)),
        ("Delay at rising load", tables::rising(records)),
        ("Joins", tables::storms(records)),
        ("Relay", tables::relays(records)),
        ("Beside the hot paths", tables::micro(records)),
        ("Where the CPU time goes", tables::profiles(records)),
        ("Not measured", tables::missing(records)),
    ];
    for (title, section) in sections.iter().filter(|(_, section)| !section.is_empty()) {
        let _ = write!(text, "## {title}\n\n{section}\n");
    }
    text.push_str(METHOD);
    text
}

fn head(text: &mut String, session: &Session) {
    let machine = &session.machine;
    let _ = writeln!(
        text,
        "{}, commit {}, {}: {}, {} cores, Linux {}, Debian {}, Janus {}.{}\n",
        session.date,
        machine.commit,
        machine.rustc,
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.debian,
        machine.janus,
        if session.is_quick { " Shortened run (`--quick`)." } else { "" }
    );
    if !session.parts.is_empty() {
        let names: Vec<_> = session.parts.iter().filter_map(clap::ValueEnum::to_possible_value).collect();
        let names: Vec<_> = names.iter().map(clap::builder::PossibleValue::get_name).collect();
        let _ = writeln!(text, "Measured anew then: {}.\n", names.join(", "));
    }
}
