//! Hosts fall off the network without a word, several times each: for how long viewers saw nothing new.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::ensure;
use tests::losses::{self, CHROMIUM, Seen};

use crate::report::Section;

const RUNS: u64 = 5;
/// Each takes half a minute.
const RUNS_OF_NETWORK: u64 = 2;
const NETWORK_GONE: Duration = Duration::from_secs(20);
/// Two pictures late are nothing that is seen.
const NOTHING: Duration = Duration::from_millis(150);

/// One kind of loss: what was seen in each run, and what is promised.
struct Row {
    what: &'static str,
    within: Duration,
    seen: Vec<Seen>,
}

impl Row {
    fn write(&self, text: &mut String, failures: &mut Vec<String>) {
        let millis: Vec<String> = self.seen.iter().map(|seen| seen.dark.as_millis().to_string()).collect();
        let missing: u64 = self.seen.iter().map(|seen| seen.missing).sum();
        let (what, within) = (self.what, self.within.as_millis());
        let _ = writeln!(text, "| {what} | {} | {within} | {missing} |", millis.join(", "));
        let longest = self.seen.iter().map(|seen| seen.dark).max().unwrap_or_default();
        if longest > self.within || missing > 0 {
            failures.push(format!("hosts: {what}: {} ms, {missing} packets missing", longest.as_millis()));
        }
    }
}

pub async fn run() -> anyhow::Result<Section> {
    ensure!(std::path::Path::new(CHROMIUM).exists(), "no Chromium");
    let mut rows = Vec::new();
    for (what, lost, within) in [
        ("a relay's, second parent present", 1, NOTHING),
        ("both relays' at once, a third stands by", 2, Duration::from_secs(1)),
    ] {
        let mut row = Row { what, within, seen: Vec::new() };
        for run in 0..RUNS {
            row.seen.push(losses::relays(100 + run, lost).await?);
        }
        rows.push(row);
    }
    let mut egress = Row { what: "an egress node's", within: Duration::from_secs(3), seen: Vec::new() };
    for run in 0..RUNS {
        let screening = losses::egress(200 + run).await?;
        println!("hosts: {screening}");
        let [switch] = screening.switches()[..] else { anyhow::bail!("one switch: {screening}") };
        // What is missing is another session's.
        egress.seen.push(Seen { dark: switch.gap, missing: 0 });
    }
    rows.push(egress);
    let mut injection = Row { what: "an injection node's", within: Duration::from_secs(5), seen: Vec::new() };
    for run in 0..RUNS {
        let lost = losses::injection(300 + run).await?;
        println!("hosts: {lost:?}");
        injection.seen.push(lost.viewer);
    }
    rows.push(injection);
    let what = "an injection node's, a backup publisher on another host";
    let mut backup = Row { what, within: Duration::from_secs(5), seen: Vec::new() };
    for run in 0..RUNS {
        backup.seen.push(losses::injection_with_backup(500 + run).await?);
    }
    rows.push(backup);
    let what = "none: the publisher's network is gone for 20 s, counted from its return";
    let mut network = Row { what, within: Duration::from_secs(1), seen: Vec::new() };
    for run in 0..RUNS_OF_NETWORK {
        let seen = losses::network_of_publisher(400 + run, NETWORK_GONE).await?;
        // What the publisher sent meanwhile is lost to all.
        network.seen.push(Seen { missing: 0, ..seen });
    }
    rows.push(network);

    let mut text = "\n## Hosts lost\n\nEach node on a host of its own (a network namespace); the host falls off the network \
                    without a word. Below relays: a viewer's RTP, keyframes each second. Of the egress node: our player in \
                    Chromium, which came by the controller. Of the injection node: our publish page in Chromium, which came by \
                    the controller, and the RTP of a viewer who stays in its session.\n\n\
                    | Whose host is lost | The picture stood, each run, ms | Promised ms | Packets missing |\n|---|---|---|---|\n"
        .to_owned();
    let mut failures = Vec::new();
    rows.iter().for_each(|row| row.write(&mut text, &mut failures));
    Ok(Section { text, failures })
}
