//! A viewer whose link gets narrow step by step, and wide again: which layer it gets, how soon, and what it sees of that.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use ::tests::browser::{Browser, Page};
use ::tests::network::{Hosts, PUBLISH_TOKEN, Path};
use ::tests::program::Program;
use ::tests::watching;
use anyhow::{Context as _, ensure};
use model::Bitrate;
use serde_json::{Value, json};

use crate::plot::{self, Point};
use crate::report;

const SCRIPT: &str = include_str!("layered.js");
/// The picture, and what its layers may take together with their sizes: as of `web/whip.js`.
const WIDTH: u64 = 960;
const HEIGHTS: [u64; 3] = [540, 270, 135];
const BITRATE: u64 = 2_500_000;
/// What the link carries, in kbit/s, and the lines of the best picture that this has room for.
const LINK: [(u64, u64); 13] = [
    (8000, 540),
    (4000, 540),
    (2000, 270),
    (1000, 270),
    (500, 135),
    (300, 135),
    (SOUND_ONLY, 135),
    (300, 135),
    (500, 135),
    (1000, 270),
    (2000, 270),
    (4000, 540),
    (8000, 540),
];
/// A link that carries no layer, but sound.
const SOUND_ONLY: u64 = 100;
/// The picture may stand still for so long in a step, and be looked for so long.
const FROZEN_MAX: Duration = Duration::from_secs(1);
const ADAPTED_MAX: Duration = Duration::from_secs(15);
/// So much of the sound comes over such a link once the picture is held, in percent: now and then the picture is tried.
const SOUND_PERCENT_MIN: u64 = 60;
const DELAY: Duration = Duration::from_millis(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Chromium begins with the smallest layer and adds the others as its estimate of its uplink grows.
const LAYERS_WITHIN: Duration = Duration::from_secs(120);
const STATS: &str = "document.querySelector('media-tree-player').stats().then((stats) => ({ ...stats?.video, \
                     sounds: stats?.audio?.packetsReceived, soundsLost: stats?.audio?.packetsLost }))";

/// What was seen.
pub struct Narrowing {
    steps: Vec<Step>,
    length: Duration,
}

/// While the link carried so much.
#[derive(Debug, Clone, Default, PartialEq)]
struct Step {
    /// In kbit/s, and the lines of the picture that that has room for.
    capacity: u64,
    wanted: u64,
    /// Lines of the picture at its end.
    height: u64,
    /// When the layer was changed for the last time, if it was.
    adapted_after: Option<Duration>,
    freezes: u64,
    frozen: Duration,
    pictures: u64,
    bytes: u64,
    /// Packets of sound that came, and that did not, in the second half of it.
    sounds: (u64, u64),
}

/// What the browser counts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counts {
    pictures: u64,
    bytes: u64,
    height: u64,
    freezes: u64,
    frozen: f64,
    sounds: u64,
    sounds_lost: u64,
}

impl Counts {
    fn of(stats: &Value) -> Self {
        let count = |name: &str| stats[name].as_u64().unwrap_or(0);
        Self {
            pictures: count("framesDecoded"),
            bytes: count("bytesReceived"),
            height: count("frameHeight"),
            freezes: count("freezeCount"),
            frozen: stats["totalFreezesDuration"].as_f64().unwrap_or(0.0),
            sounds: count("sounds"),
            sounds_lost: count("soundsLost"),
        }
    }

    /// What came since `before`; all of it if the player has begun a session of its own since then.
    fn since(&self, before: &Self) -> Self {
        if self.pictures < before.pictures || self.bytes < before.bytes {
            return *self;
        }
        Self {
            pictures: self.pictures - before.pictures,
            bytes: self.bytes - before.bytes,
            height: self.height,
            freezes: self.freezes.saturating_sub(before.freezes),
            frozen: (self.frozen - before.frozen).max(0.0),
            sounds: self.sounds.saturating_sub(before.sounds),
            sounds_lost: self.sounds_lost.saturating_sub(before.sounds_lost),
        }
    }
}

/// Plays it, with `length` for each step, and writes the plot to docs/images/abr.svg if `is_kept`.
pub async fn run(length: Duration, is_kept: bool) -> anyhow::Result<Narrowing> {
    let hosts = Hosts::new(64, &["in", "out"])?;
    let injection = hosts.node("injection", "in", &[]).start().await?;
    let egress = hosts.node("egress", "out", &["in"]).with(&["--broadcasts", "show"]).start().await?;
    let (publisher, viewer) = (Browser::chromium().await?, Browser::chromium().await?);
    let publishing = publisher.open(&injection.url("/publish/show")).await?;
    let picture = json!({ "token": PUBLISH_TOKEN, "width": WIDTH, "height": HEIGHTS[0], "bitrate": BITRATE });
    publishing.evaluate(&format!("({SCRIPT})({picture})")).await.context("publish")?;
    until_layers_come(&injection, &publishing).await?;
    let player = watching::open_player(&viewer, &egress.url("/watch/show")).await?;
    let is_best = format!("{STATS}.then(({{ frameHeight }}) => frameHeight === {})", HEIGHTS[0]);
    player.wait_until(&is_best, LAYERS_WITHIN).await.context("the best layer, while the link is wide")?;

    let (mut steps, mut points) = (Vec::new(), Vec::<Point>::new());
    let begun = Instant::now();
    for (capacity, wanted) in LINK {
        let path = Path { delay: DELAY, bitrate: Some(Bitrate::kbps(capacity)), ..Path::default() };
        hosts.join(hosts.host("out").address, hosts.here(), path);
        let (step, seen) = step(&player, (capacity, wanted), length, begun).await?;
        steps.push(step);
        points.extend(seen);
    }
    if is_kept {
        let file = report::docs().join("images/abr.svg");
        std::fs::write(&file, plot::draw(&points, &HEIGHTS)).context("write the plot")?;
    }
    player.close().await?;
    publishing.close().await?;
    Ok(Narrowing { steps, length })
}

/// Waits until every layer comes to the injection node.
async fn until_layers_come(injection: &Program, publishing: &Page) -> anyhow::Result<()> {
    let deadline = Instant::now() + LAYERS_WITHIN;
    loop {
        let metrics = reqwest::get(format!("http://{}/metrics", injection.ops)).await?.text().await?;
        let is_coming = |line: &&str| {
            line.starts_with("media_tree_publisher_bitrate_bits_per_second{")
                && line.contains(r#"kind="video""#)
                && line
                    .rsplit(' ')
                    .next()
                    .and_then(|rate| rate.parse().ok())
                    .is_some_and(|rate: f64| rate > 0.0)
        };
        let coming = metrics.lines().filter(is_coming).count();
        if coming == HEIGHTS.len() {
            return Ok(());
        }
        let sends = publishing.evaluate("layered.session.stats().then(({ video }) => video)").await?;
        ensure!(Instant::now() < deadline, "{coming} layers come; the publisher sends {sends}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn step(
    player: &Page,
    (capacity, wanted): (u64, u64),
    length: Duration,
    begun: Instant,
) -> anyhow::Result<(Step, Vec<Point>)> {
    let (narrowed, mut points) = (Instant::now(), Vec::new());
    let mut step = Step { capacity, wanted, ..Step::default() };
    let mut last = (Counts::of(&player.evaluate(STATS).await?), narrowed);
    while narrowed.elapsed() < length {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = (Counts::of(&player.evaluate(STATS).await?), Instant::now());
        let new = now.0.since(&last.0);
        let seconds = now.1.duration_since(last.1).as_secs_f64();
        if now.0.height != last.0.height {
            step.adapted_after = Some(narrowed.elapsed());
        }
        step.height = now.0.height;
        step.freezes += new.freezes;
        step.frozen += Duration::from_secs_f64(new.frozen);
        step.pictures += new.pictures;
        step.bytes += new.bytes;
        if narrowed.elapsed() > length / 2 {
            step.sounds = (step.sounds.0 + new.sounds, step.sounds.1 + new.sounds_lost);
        }
        points.push(Point {
            at: now.1.duration_since(begun).as_secs_f64(),
            capacity: capacity as f64,
            received: new.bytes as f64 * 8.0 / seconds / 1000.0,
            height: now.0.height,
            freezes: new.freezes,
        });
        last = now;
    }
    println!("{capacity} kbit/s: {step:?}");
    Ok((step, points))
}

impl Step {
    /// How much of the sound came in its second half; nothing of none.
    fn sound_percent(&self) -> u64 {
        let (came, lost) = self.sounds;
        (came * 100).checked_div(came + lost).unwrap_or(0)
    }
}

impl Narrowing {
    /// As Markdown, and what was not as it should be.
    pub fn table(&self) -> (String, Vec<String>) {
        let mut text = format!(
            "Chromium publishes VP8 in three layers ({} lines; of 2.5 Mbit/s, a quarter and a fourteenth of that), a Chromium on \
             its own link watches. Each step is {} s long; the link has {} ms of delay each way and a queue of 200 ms.\n\n\
             ![The link, the picture received and the layer over time](images/abr.svg)\n\n\
             | Link Mbit/s | Room for, lines | Layer, lines | Last change after s | Frames/s | Picture kbit/s | Freezes (ms) | \
             Sound that came, second half |\n|---|---|---|---|---|---|---|---|\n",
            HEIGHTS.map(|height| height.to_string()).join(", "),
            self.length.as_secs(),
            DELAY.as_millis()
        );
        let seconds = self.length.as_secs_f64();
        for step in &self.steps {
            let change =
                step.adapted_after.map_or("no change".into(), |after| format!("{:.1}", after.as_secs_f64()));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {change} | {:.1} | {:.0} | {} ({}) | {} % |",
                step.capacity as f64 / 1000.0,
                if step.capacity == SOUND_ONLY { "none".to_owned() } else { step.wanted.to_string() },
                step.height,
                step.pictures as f64 / seconds,
                step.bytes as f64 * 8.0 / seconds / 1000.0,
                step.freezes,
                step.frozen.as_millis(),
                step.sound_percent()
            );
        }
        (text, self.complaints())
    }

    fn complaints(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut is_afterwards = false;
        for (index, step) in self.steps.iter().enumerate() {
            let mut complain = |what: String| {
                found.push(format!("a link of {} Mbit/s: {what}", step.capacity as f64 / 1000.0));
            };
            // What comes after the sound alone is on its way back.
            let is_returning = std::mem::replace(&mut is_afterwards, step.capacity == SOUND_ONLY);
            if step.capacity == SOUND_ONLY {
                let percent = step.sound_percent();
                if percent < SOUND_PERCENT_MIN {
                    complain(format!("{percent} % of the sound"));
                }
                continue;
            }
            if step.pictures == 0 {
                complain("no pictures".into());
            }
            if is_returning {
                continue;
            }
            // A step that is too short for that is not judged by it, but for the ends and the narrowest one.
            let is_long = self.length > ADAPTED_MAX;
            let is_narrowest = self.steps.get(index + 1).is_some_and(|next| next.capacity == SOUND_ONLY);
            let is_known = is_narrowest || index == 0 || index + 1 == self.steps.len();
            if (is_long || is_known) && step.height != step.wanted {
                complain(format!("{} lines, not {}", step.height, step.wanted));
            }
            if let Some(after) = step.adapted_after.filter(|after| is_long && *after > ADAPTED_MAX) {
                complain(format!("{:.1} s until the picture fits", after.as_secs_f64()));
            }
            if step.frozen > FROZEN_MAX {
                complain(format!("the picture stands still for {} ms", step.frozen.as_millis()));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_its_own_counts_from_its_beginning() {
        let counts = |pictures, bytes| Counts { pictures, bytes, height: 270, ..Counts::default() };
        assert_eq!(counts(30, 3000).since(&counts(10, 1000)), counts(20, 2000));
        assert_eq!(counts(5, 500).since(&counts(10, 1000)), counts(5, 500));
    }

    #[test]
    fn a_link_for_sound_alone_is_judged_by_its_sound() {
        let step = |sounds| Step { capacity: 100, sounds, ..Step::default() };
        let of = |sounds| complaints(vec![step(sounds)]);
        assert_eq!(of((700, 300)), [""; 0]);
        assert_eq!(of((500, 500)), ["a link of 0.1 Mbit/s: 50 % of the sound"]);
        assert_eq!(of((0, 0)), ["a link of 0.1 Mbit/s: 0 % of the sound"]);
    }

    fn complaints(steps: Vec<Step>) -> Vec<String> {
        Narrowing { steps, length: Duration::from_secs(30) }.complaints()
    }

    #[test]
    fn each_step_is_judged_but_the_one_on_the_way_back() {
        let sound = Step { capacity: 100, sounds: (100, 0), ..Step::default() };
        let step =
            |capacity, wanted, height| Step { capacity, wanted, height, pictures: 100, ..Step::default() };
        let best = step(8000, 540, 540);
        let good = vec![best.clone(), step(1000, 270, 270), sound, step(300, 135, 0), best.clone()];
        assert_eq!(complaints(good.clone()), [""; 0]);
        let judge = |change: fn(&mut Step)| {
            let mut steps = good.clone();
            change(&mut steps[1]);
            complaints(steps)
        };
        assert_eq!(judge(|step| step.height = 540), ["a link of 1 Mbit/s: 540 lines, not 270"]);
        assert_eq!(judge(|step| step.pictures = 0), ["a link of 1 Mbit/s: no pictures"]);
        assert_eq!(
            judge(|step| step.adapted_after = Some(Duration::from_secs(18))),
            ["a link of 1 Mbit/s: 18.0 s until the picture fits"]
        );
        assert_eq!(
            judge(|step| step.frozen = Duration::from_millis(1200)),
            ["a link of 1 Mbit/s: the picture stands still for 1200 ms"]
        );
    }

    #[test]
    fn of_short_steps_the_layer_is_judged_at_the_ends_and_where_the_link_is_narrowest() {
        let wrong = |capacity| Step { capacity, wanted: 540, height: 270, pictures: 100, ..Step::default() };
        let sound = Step { capacity: 100, sounds: (100, 0), ..Step::default() };
        let steps = vec![wrong(8), wrong(1000), wrong(3000), sound, wrong(4000), wrong(5000), wrong(8000)];
        let found = Narrowing { steps, length: Duration::from_secs(12) }.complaints();
        assert_eq!(
            found,
            [0.008, 3.0, 8.0].map(|mbps| format!("a link of {mbps} Mbit/s: 270 lines, not 540"))
        );
    }
}
