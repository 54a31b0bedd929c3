//! Late viewers of a publisher that is deaf to keyframe requests and sends one every eight seconds, as OBS does: the
//! picture is there at once and soon live, in real browsers with real decoders.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use model::Codec;
use tests::browser::{Browser, Page};
use tests::clip::{Clip, FFMPEG, FRAME_RATE, OnAir};
use tests::program::{self, PATIENCE, Program};
use tests::tools;

const CHROMIUM: &str = "/usr/bin/chromium";
const FIREFOX: &str = "/usr/bin/firefox-esr";

/// How long after a keyframe viewers join. In this order, whichever is first, each is done before the next one's turn, and
/// all within three groups.
const MOMENTS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(6), Duration::from_secs(3)];
/// How long the viewer from the start is watched, before and after the joins.
const REFERENCE: Duration = Duration::from_secs(2);
/// How long a late viewer is watched: replays at four times the pace have made up six seconds after two.
const WATCHED: Duration = Duration::from_millis(4500);
/// The last part of it, in which the viewer must be live.
const TAIL: Duration = Duration::from_millis(800);
/// A browser that is starved may show nothing in that part: it is watched for so many more, then. What it is judged by
/// stays: a picture that hangs is a pause that is too long.
const TAILS_MORE: usize = 6;
/// A late viewer is live when it is this close to the viewer from the start.
const LIVE: Duration = Duration::from_millis(150);
/// What a loaded machine may add to that; a viewer that was not caught up would be behind by the moment of its join.
const LIVE_MAX: Duration = Duration::from_millis(750);
/// Long before the next keyframe, which is two seconds away at best.
const FIRST_FRAME_MAX: Duration = Duration::from_secs(2);
/// The viewer from the start is where it stays once it is this close to the publisher, in ms.
const SETTLED_MS: f64 = 1000.0;
/// A loaded machine may hold a picture back for so long, in ms; a freeze that lasts ends with the next keyframe only.
const FREEZES_MAX_MS: f64 = 1500.0;
/// Decode rates are taken over this time.
const RATE_WINDOW_MS: f64 = 300.0;

/// One look at a page, mostly at each picture that it showed.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// Since the page was navigated to, in ms.
    at: f64,
    /// Age of the picture shown, in ms.
    age: Option<f64>,
    frames_decoded: f64,
    freeze_count: f64,
    freezes_ms: f64,
    first_frame_ms: Option<f64>,
    plis: f64,
}

/// Looks at a player for `length`.
async fn look(page: &Page, on_air: &OnAir, length: Duration) -> anyhow::Result<Vec<Look>> {
    let script = format!(
        "(async () => {{
            const looks = [];
            const end = performance.now() + {};
            while (performance.now() < end) {{
                const seen = window.mediaTree ? await mediaTree.timecode() : null;
                const stats = window.mediaTree ? await mediaTree.stats() : {{}};
                looks.push({{ at: performance.now(), code: seen?.code, behind: seen?.behind, ...stats }});
                await new Promise((resolve) => setTimeout(resolve, seen ? 0 : 20));
            }}
            return looks;
        }})()",
        length.as_millis()
    );
    let looks = page.evaluate(&script).await?;
    let looks = looks.as_array().context("the looks are a list")?.iter().map(|look| {
        let number = |name: &str| look[name].as_f64();
        let code = number("code").zip(number("behind"));
        Look {
            at: number("at").unwrap_or_default(),
            age: code.map(|(code, behind)| on_air.age_ms(code, code + behind)),
            frames_decoded: number("framesDecoded").unwrap_or_default(),
            freeze_count: number("freezeCount").unwrap_or_default(),
            freezes_ms: number("totalFreezesDuration").unwrap_or_default() * 1000.0,
            first_frame_ms: number("firstFrameMs"),
            plis: number("pliCount").unwrap_or_default(),
        }
    });
    Ok(looks.collect())
}

/// The last looks.
fn tail(looks: &[Look]) -> impl Iterator<Item = &Look> {
    let from = looks.last().map_or(0.0, |last| last.at - TAIL.as_secs_f64() * 1000.0);
    looks.iter().filter(move |look| look.at >= from)
}

/// The age that `share` of these looks do not exceed.
fn age<'a>(looks: impl IntoIterator<Item = &'a Look>, share: f64) -> Option<f64> {
    quantile(looks.into_iter().filter_map(|look| look.age).collect(), share)
}

fn quantile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * share).round() as usize).copied()
}

/// What a late viewer saw.
struct Join {
    moment: Duration,
    /// From the POST to the first picture on screen, and from navigation to it.
    first_frame_ms: f64,
    first_look_ms: f64,
    /// Age of the first picture.
    first_age_ms: f64,
    /// From the first picture until live; `None` if that never came.
    live_after_ms: Option<f64>,
    /// Pictures decoded per second until then, and at the fastest.
    decode_rate: f64,
    decode_rate_max: f64,
    freeze_count: f64,
    freezes_ms: f64,
    /// The longest time between two pictures on screen: not every browser counts freezes.
    pause_ms: f64,
    plis: f64,
    /// At the end.
    age_ms: f64,
    tail_rate: f64,
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} s after a keyframe: first picture {:.0} ms after the POST, {:.0} ms after navigation, {:.0} ms old; ",
            self.moment.as_secs(),
            self.first_frame_ms,
            self.first_look_ms,
            self.first_age_ms
        )?;
        match self.live_after_ms {
            Some(after) => write!(f, "live {after:.0} ms after it, ")?,
            None => write!(f, "never live, ")?,
        }
        write!(
            f,
            "decoded {:.0}/s on the way (fastest {:.0}/s); {} freezes ({:.0} ms), longest pause {:.0} ms, {} PLI; at the end {:.0} ms old, {:.0}/s",
            self.decode_rate,
            self.decode_rate_max,
            self.freeze_count,
            self.freezes_ms,
            self.pause_ms,
            self.plis,
            self.age_ms,
            self.tail_rate
        )
    }
}

impl Join {
    fn of(moment: Duration, looks: &[Look], reference_ms: f64) -> anyhow::Result<Self> {
        let shown = looks.iter().position(|look| look.age.is_some()).context("no picture is shown")?;
        let looks = &looks[shown..];
        let (first, last) = (&looks[0], looks[looks.len() - 1]);
        let is_live =
            |look: &Look| look.age.is_some_and(|age| age <= reference_ms + LIVE.as_secs_f64() * 1000.0);
        let live = looks.iter().position(is_live);
        let rate =
            |from: &Look, to: &Look| (to.frames_decoded - from.frames_decoded) * 1000.0 / (to.at - from.at);
        let until = looks[live.unwrap_or(looks.len() - 1)];
        let window = |(index, from): (usize, &Look)| {
            let to = looks[index..].iter().find(|to| to.at - from.at >= RATE_WINDOW_MS)?;
            Some(rate(from, to))
        };
        let shown_at: Vec<f64> = looks.iter().filter(|look| look.age.is_some()).map(|look| look.at).collect();
        let tail: Vec<&Look> = tail(looks).collect();
        Ok(Self {
            moment,
            first_frame_ms: last.first_frame_ms.context("no picture was on screen")?,
            first_look_ms: first.at,
            first_age_ms: first.age.unwrap_or_default(),
            live_after_ms: live.map(|live| looks[live].at - first.at),
            decode_rate: if until.at > first.at { rate(first, &until) } else { 0.0 },
            decode_rate_max: looks.iter().enumerate().filter_map(window).fold(0.0, f64::max),
            freeze_count: last.freeze_count,
            freezes_ms: last.freezes_ms,
            pause_ms: shown_at.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max),
            plis: last.plis,
            age_ms: age(tail.iter().copied(), 0.5).context("no picture is shown at the end")?,
            tail_rate: tail.first().map_or(0.0, |from| rate(from, &last)),
        })
    }
}

/// Lets viewers join at all moments beside one that was there before them; gives what the late ones saw.
async fn joins(
    name: &str,
    browser: &Browser,
    node: &Program,
    (broadcast, on_air): (&str, &OnAir),
) -> anyhow::Result<Vec<Join>> {
    let url = node.url(&format!("/watch/{broadcast}"));
    let reference = browser.open(&url).await?;
    reference.wait_until("window.mediaTree?.state === 'live'", PATIENCE).await?;
    // It may have come late itself.
    let settled =
        async || Ok(age(&look(&reference, on_air, TAIL).await?, 0.9).is_some_and(|age| age < SETTLED_MS));
    program::until("the first viewer is live", settled).await?;
    let before = look(&reference, on_air, REFERENCE).await?;
    let reference_ms = age(&before, 0.5).context("the first viewer's time code can be read")?;
    let mut seen = Vec::new();
    let mut moments = MOMENTS;
    let soonest = (0..moments.len()).min_by_key(|index| on_air.until(moments[*index]));
    moments.rotate_left(soonest.unwrap_or_default());
    for moment in moments {
        tokio::time::sleep(on_air.until(moment)).await;
        let page = browser.open(&url).await?;
        let mut looks = look(&page, on_air, WATCHED).await?;
        for _ in 0..TAILS_MORE {
            if age(tail(&looks), 0.5).is_some() {
                break;
            }
            looks.extend(look(&page, on_air, TAIL).await?);
        }
        let join = Join::of(moment, &looks, reference_ms)?;
        println!("{name}, {join}");
        replays_end(node).await?;
        page.close().await?;
        seen.push(join);
    }
    let after = look(&reference, on_air, REFERENCE).await?;
    let (Some(first), Some(last)) = (before.first(), after.last()) else { anyhow::bail!("no looks") };
    println!(
        "{name}, viewer from the start: {reference_ms:.0} ms behind (p95 {:.0}), {:.0} ms at the end; while others joined {} \
         freezes ({:.0} ms), {} PLI",
        age(&before, 0.95).unwrap_or(f64::NAN),
        age(&after, 0.5).unwrap_or(f64::NAN),
        last.freeze_count - first.freeze_count,
        last.freezes_ms - first.freezes_ms,
        last.plis - first.plis
    );
    reference.close().await?;
    for join in &seen {
        let first_frame_max = FIRST_FRAME_MAX.as_secs_f64() * 1000.0;
        assert!(join.first_frame_ms < first_frame_max, "{name}, {join}");
        assert!(join.age_ms < reference_ms + LIVE_MAX.as_secs_f64() * 1000.0, "it ends live: {name}, {join}");
        assert!(join.tail_rate > f64::from(FRAME_RATE) / 3.0, "pictures go on: {name}, {join}");
        assert!(join.pause_ms.max(join.freezes_ms) < FREEZES_MAX_MS, "no lasting freeze: {name}, {join}");
    }
    Ok(seen)
}

async fn replays_end(node: &Program) -> anyhow::Result<()> {
    program::until("nobody catches up any more", async || {
        Ok(node.metric("media_tree_viewers_replaying").await? == 0.0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn late_viewers_of_a_deaf_publisher_have_the_picture_at_once_and_are_soon_live() -> anyhow::Result<()> {
    let name = "late_viewers_of_a_deaf_publisher_have_the_picture_at_once_and_are_soon_live";
    if !tools::has(name, FFMPEG) || !tools::has(name, CHROMIUM) || !tools::has(name, FIREFOX) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let h264 = Clip::encode(Codec::H264)?.publish(&node.url("/whip/h264")).await?;
    let mut seen = {
        let chromium = Browser::chromium().await?;
        joins("Chromium, H264", &chromium, &node, ("h264", &h264)).await?
    };
    let deaf_to = h264.keyframe_requests();
    drop(h264);
    let vp8 = Clip::encode(Codec::Vp8)?.publish(&node.url("/whip/vp8")).await?;
    {
        let chromium = Browser::chromium().await?;
        seen.extend(joins("Chromium, VP8", &chromium, &node, ("vp8", &vp8)).await?);
    }
    {
        let firefox = Browser::firefox().await?;
        seen.extend(joins("Firefox, VP8", &firefox, &node, ("vp8", &vp8)).await?);
    }
    let of = |figure: fn(&Join) -> Option<f64>, share| {
        quantile(seen.iter().filter_map(figure).collect(), share).unwrap_or(f64::NAN)
    };
    println!(
        "{} joins: first picture p50 {:.0} ms, p95 {:.0} ms; live after it p50 {:.0} ms, p95 {:.0} ms; {} keyframe requests \
         left unanswered, {} replays, {} restarts",
        seen.len(),
        of(|join| Some(join.first_frame_ms), 0.5),
        of(|join| Some(join.first_frame_ms), 0.95),
        of(|join| join.live_after_ms, 0.5),
        of(|join| join.live_after_ms, 0.95),
        deaf_to + vp8.keyframe_requests(),
        node.metric("media_tree_replays_total").await?,
        node.metric("media_tree_viewer_restarts_total").await?
    );
    Ok(())
}
