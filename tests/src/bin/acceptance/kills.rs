//! Processes are killed and upgraded under an encoder like OBS, then under pages in Chromium, and two hundred viewers.

use std::time::Duration;

use anyhow::ensure;
use tests::browser::{Browser, Page};
use tests::crowd::{ANY_RATE, Crowd, Watching};
use tests::encoders::Encoder;
use tests::program::{self, PATIENCE, Program, until};
use tests::supervised::{has_libdatachannel, kill, media_flows, on_air, upgrade};
use tests::{screening, watching};

use crate::report::Section;

const VIEWERS: usize = 200;
/// About a second of everybody's packets.
const PACKETS: f64 = 60_000.0;
/// The promise of a supervised restart.
const BACK_WITHIN: Duration = Duration::from_secs(1);
/// A picture later than this is no short freeze.
const FREEZE_MAX: Duration = Duration::from_secs(1);

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

/// Who publishes.
#[derive(Clone, Copy)]
enum Publisher {
    /// An encoder like OBS.
    Obs,
    /// Our page in Chromium.
    Page,
}

/// Somebody on the air.
enum OnAir {
    Obs(Box<Encoder>),
    Page(Box<Pages>),
}

/// Our page that publishes, and a player beside it in the same browser, whose screen is followed.
struct Pages {
    browser: Browser,
    publishing: Page,
    player: Page,
}

impl Publisher {
    const fn words(self) -> &'static str {
        match self {
            Self::Obs => "OBS",
            Self::Page => "Chromium",
        }
    }

    async fn on_air(self, injection: &Program, egress: &Program) -> anyhow::Result<OnAir> {
        match self {
            Self::Obs => Ok(OnAir::Obs(Box::new(on_air(injection).await?))),
            Self::Page => {
                let browser = Browser::chromium().await?;
                let url = injection.url("/publish/show");
                let publishing = watching::publish_test_picture(&browser, &url, "h264").await?;
                let player = watching::open_player(&browser, &egress.url("/watch/show")).await?;
                player.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
                screening::follow(&player).await?;
                Ok(OnAir::Page(Box::new(Pages { browser, publishing, player })))
            }
        }
    }
}

impl OnAir {
    /// The longest that a picture stood on a screen, if there is one; what is not as it should be. Ends the session.
    async fn end(self, injection: &Program) -> anyhow::Result<(Option<Duration>, Vec<String>)> {
        let mut complaints = Vec::new();
        let stood = match self {
            Self::Obs(encoder) => {
                let said = encoder.close().await?;
                if said != "200" {
                    complaints.push(format!("the publisher's session is none any more: {said}"));
                }
                None
            }
            Self::Page(pages) => {
                let Pages { browser, publishing, player } = *pages;
                let seen = screening::screening(&player).await?;
                if seen.states != ["live"] || seen.servers.len() != 1 || !seen.stops.is_empty() {
                    complaints.push(format!("the player did not stay: {seen}"));
                }
                if publishing.evaluate("mediaTree.state").await? != "live" {
                    complaints.push("the publish page did not stay".to_owned());
                }
                player.close().await?;
                publishing.close().await?;
                drop(browser);
                Some(seen.longest(0.0))
            }
        };
        until("the publisher is gone", || async {
            Ok(injection.metric("media_tree_whip_sessions{").await? == 0.0)
        })
        .await?;
        Ok((stood, complaints))
    }
}

pub async fn run() -> anyhow::Result<Section> {
    ensure!(has_libdatachannel("kills"), "no encoder like OBS");
    let mut text = format!(
        "\n## Processes killed and upgraded\n\n{VIEWERS} viewers of `media-tree load` watch, all of them verified. *OBS*: an \
         encoder like it publishes (libdatachannel, deaf to keyframe requests, a keyframe each 8 s). *Chromium*: our page \
         publishes there, and our player shows it. Every session goes on under its URL, with its ports and keys; no POST, no \
         handshake.\n\n\
         | What | Back after ms | Packets expected | Repaired | Lost | Longest pause of the crowd ms | Of one viewer's \
         pictures ms | On screen ms |\n|---|---|---|---|---|---|---|---|\n"
    );
    let mut failures = Vec::new();
    for publisher in [Publisher::Obs, Publisher::Page] {
        for blow in [Blow::Kill, Blow::Upgrade] {
            let node = program::node("up").supervised().with(&ANY_RATE).with(&["--broadcasts", "show"]);
            let node = node.start().await?;
            let (all, ends) = (("up", &node), (&node, &node));
            one((&mut text, &mut failures), (publisher, blow), all, ends).await?;
            drop(node);
            let [injection, relay, egress] = three().await?;
            for (role, struck) in [("injection", &injection), ("relay", &relay), ("egress", &egress)] {
                let ends = (&injection, &egress);
                one((&mut text, &mut failures), (publisher, blow), (role, struck), ends).await?;
            }
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
    (text, failures): (&mut String, &mut Vec<String>),
    (publisher, blow): (Publisher, Blow),
    (role, struck): (&str, &Program),
    (injection, egress): (&Program, &Program),
) -> anyhow::Result<()> {
    let name = format!("{}: {} of {role}", publisher.words(), blow.words());
    let on_air = publisher.on_air(injection, egress).await?;
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
    let (stood, complaints) = on_air.end(injection).await?;
    text.push_str(&format!(
        "| {name} | {} | {} | {} | {} | {} | {} | {} |\n",
        back.as_millis(),
        missed.expected,
        missed.before_repair.saturating_sub(missed.after_repair),
        missed.after_repair,
        missed.longest_stall.as_millis(),
        pause.as_millis(),
        stood.map_or_else(|| "–".to_owned(), |stood| stood.as_millis().to_string()),
    ));
    failures.extend(complaints.into_iter().map(|complaint| format!("{name}: {complaint}")));
    let is_lost = missed.after_repair > 0;
    let pause = pause.max(stood.unwrap_or_default());
    let is_late = pause > FREEZE_MAX || blow == Blow::Kill && back > BACK_WITHIN;
    if is_lost || is_late {
        let (entering, leaving) = (injection.drops().await?, egress.drops().await?);
        failures.push(format!(
            "{name}: {} packets lost, back after {back:?}, pause {pause:?}; dropped where they enter: {entering}; where they \
             leave: {leaving}",
            missed.after_repair
        ));
    }
    Ok(())
}
