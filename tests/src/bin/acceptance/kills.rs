//! Processes are killed and upgraded under an encoder like OBS and two hundred viewers.

use std::time::Duration;

use anyhow::ensure;
use tests::crowd::{ANY_RATE, Crowd, Watching};
use tests::program::{self, Program, until};
use tests::supervised::{has_libdatachannel, kill, media_flows, on_air, upgrade};

use crate::report::Section;

const VIEWERS: usize = 200;
/// About a second of everybody's packets.
const PACKETS: f64 = 60_000.0;
/// The promise of a supervised restart.
const BACK_WITHIN: Duration = Duration::from_secs(1);
/// A picture later than this is no short freeze.
const FREEZE_MAX: Duration = Duration::from_secs(2);

/// What is done to a process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    Kill,
    Upgrade,
}

impl Blow {
    const fn words(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Upgrade => "upgrade",
        }
    }
}

pub async fn run() -> anyhow::Result<Section> {
    ensure!(has_libdatachannel("kills"), "no encoder like OBS");
    let mut text = format!(
        "\n## Processes killed and upgraded\n\nAn encoder like OBS (libdatachannel, deaf to keyframe requests, a keyframe \
         each 8 s) publishes, {VIEWERS} viewers of `media-tree load` watch, all of them verified. Every session goes on \
         under its URL, with its ports and keys; no POST, no handshake.\n\n\
         | What | Back after ms | Packets expected | Lost before repair | Lost | Longest pause of the crowd ms | Of one viewer's \
         pictures ms |\n|---|---|---|---|---|---|---|\n"
    );
    let mut failures = Vec::new();
    for blow in [Blow::Kill, Blow::Upgrade] {
        let node = program::node("up").supervised().with(&ANY_RATE).with(&["--broadcasts", "show"]);
        let node = node.start().await?;
        one(&mut text, &mut failures, blow, ("up", &node), (&node, &node)).await?;
        drop(node);
        let [injection, relay, egress] = three().await?;
        for (role, struck) in [("injection", &injection), ("relay", &relay), ("egress", &egress)] {
            one(&mut text, &mut failures, blow, (role, struck), (&injection, &egress)).await?;
        }
    }
    Ok(Section { text, failures })
}

/// Injection, relay and egress, each under its supervisor.
async fn three() -> anyhow::Result<[Program; 3]> {
    let node = |role| program::node(role).supervised().with(&ANY_RATE);
    let injection = node("injection").with(&["--broadcasts", "show"]).start().await?;
    let parent = format!("127.0.0.1:{}", injection.link_port);
    let relay = node("relay").with(&["--parents", &parent]).start().await?;
    let parent = format!("127.0.0.1:{}", relay.link_port);
    let egress = node("egress").with(&["--parents", &parent]).start().await?;
    until("the broadcast is known", || async {
        Ok(reqwest::get(egress.url("/api/v1/broadcasts")).await?.text().await?.contains("show"))
    })
    .await?;
    Ok([injection, relay, egress])
}

async fn one(
    text: &mut String,
    failures: &mut Vec<String>,
    blow: Blow,
    (role, struck): (&str, &Program),
    (injection, egress): (&Program, &Program),
) -> anyhow::Result<()> {
    let name = format!("{} of {role}", blow.words());
    let obs = on_air(injection).await?;
    let viewer = Watching::begin(egress).await?;
    let crowd = Crowd::of(VIEWERS, egress, "20s").await?;
    media_flows(egress, PACKETS).await?;
    let back = match blow {
        Blow::Kill => kill(struck).await?,
        Blow::Upgrade => {
            let begun = std::time::Instant::now();
            let output = upgrade(struck, &program::path()?).await?;
            ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            begun.elapsed()
        }
    };
    media_flows(egress, PACKETS).await?;
    let missed = crowd.judge(&name).await?;
    let seen = viewer.judge(&name, Duration::MAX).await?;
    let pause = seen.track(model::Kind::Video).fluency().longest_pause;
    ensure!(obs.close().await? == "200", "{name}: the publisher's session is none any more");
    text.push_str(&format!(
        "| {name} | {} | {} | {} | {} | {} | {} |\n",
        back.as_millis(),
        missed.expected,
        missed.before_repair,
        missed.after_repair,
        missed.longest_stall.as_millis(),
        pause.as_millis()
    ));
    let is_lost = missed.after_repair > 0;
    let is_late = pause > FREEZE_MAX || blow == Blow::Kill && back > BACK_WITHIN;
    if is_lost || is_late {
        failures.push(format!(
            "{name}: {} packets lost, back after {back:?}, pause {pause:?}",
            missed.after_repair
        ));
    }
    Ok(())
}
