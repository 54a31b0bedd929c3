//! Chromium publishes, Chromium watches: through one process, and through three.

use std::fmt::Write as _;
use std::time::Duration;

use tests::baseline::{self, Baseline};
use tests::browser::Browser;
use tests::program::{self, Program};
use tests::watching::{self, Viewing};

use crate::report::Section;

/// How long each picture is watched.
const LENGTH: Duration = Duration::from_secs(60);
/// How long the direct connection is.
const DIRECT: Duration = Duration::from_secs(20);

pub async fn run() -> anyhow::Result<Section> {
    let mut text = format!(
        "\n## A browser watches\n\nChromium publishes and another one watches, {} s each. *Direct* is the same browser with \
         no server between, for {} s. Glass to glass is read off a time code in the picture.\n\n\
         | Run | Frames | Frames/s | Freezes | Frozen ms | Lost packets | Sound | First frame ms | Glass to glass p50 / \
         p95 ms |\n|---|---|---|---|---|---|---|---|---|\n",
        LENGTH.as_secs(),
        DIRECT.as_secs()
    );
    let mut failures = Vec::new();
    for codec in ["h264", "vp8"] {
        let direct = baseline::loopback(&Browser::chromium().await?, codec, DIRECT).await?;
        let _ = writeln!(
            text,
            "| direct, {codec} | | | {} | {} | | | | |",
            direct.freeze_count,
            direct.freezes.as_millis()
        );
        let node = program::node("up").start().await?;
        let seen = watching::publish_and_watch_through(&node, &node, codec, LENGTH).await?;
        row(&mut text, &mut failures, &format!("one process, {codec}"), (&seen, &direct));
        drop(node);
        let [injection, _relay, egress] = three().await?;
        let seen = watching::publish_and_watch_through(&injection, &egress, codec, LENGTH).await?;
        row(&mut text, &mut failures, &format!("injection, relay, egress, {codec}"), (&seen, &direct));
    }
    Ok(Section { text, failures })
}

async fn three() -> anyhow::Result<[Program; 3]> {
    three_with(&[]).await
}

/// Injection, relay and egress as processes of their own, the last with more arguments.
pub async fn three_with(arguments: &[&str]) -> anyhow::Result<[Program; 3]> {
    let injection = program::node("injection").start().await?;
    let parent = format!("127.0.0.1:{}", injection.link_port);
    let relay = program::node("relay").with(&["--parents", &parent]).start().await?;
    let parent = format!("127.0.0.1:{}", relay.link_port);
    let egress = program::node("egress").with(&["--parents", &parent]).with(arguments).start().await?;
    Ok([injection, relay, egress])
}

fn row(text: &mut String, failures: &mut Vec<String>, name: &str, (seen, direct): (&Viewing, &Baseline)) {
    println!("{name}: {seen}");
    let millis = |share| seen.latency(share).map_or(0, |latency| latency.as_millis());
    let has_sound = seen.audio_energy > 0.0;
    let _ = writeln!(
        text,
        "| {name} | {} | {:.1} | {} | {} | {} | {} | {} | {} / {} |",
        seen.frames_decoded,
        seen.frames_per_second,
        seen.freeze_count,
        seen.freezes.as_millis(),
        seen.packets_lost,
        if has_sound { "yes" } else { "no" },
        seen.first_frame.as_millis(),
        millis(0.5),
        millis(0.95)
    );
    if !has_sound || seen.packets_lost != 0 || seen.freeze_count > direct.freeze_count {
        failures.push(format!("{name}: {seen}"));
    }
}
