//! What the runs came to, as Markdown: `docs/compatibility.md`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::tests::host;
use ::tests::probe::quantile;
use anyhow::Context as _;

use crate::abr::Narrowing;
use crate::hour::Hour;
use crate::stage::{CUTS, Outcome, Return};
use crate::trials::{Trial, Trials};
use crate::versions::Version;
use crate::viewers::Seen;

/// All publishers have so many pictures a second to send; software that encodes on a busy machine leaves some out.
const PICTURES_A_SECOND: f64 = 30.0;
/// Of what is made at least so much is shown.
const PICTURES_SHOWN_MIN: f64 = 0.9;
/// Sound and picture belong together within this, in ms.
const LIP_SYNC_MAX: f64 = 45.0;
/// Beeps, one a second: those at first, and those after which a browser has found its measure.
const FIRST_BEEPS: usize = 5;
const SETTLING_BEEPS: usize = 10;
/// Glass to glass, in ms: for WebRTC, and where the way in is RTMP or OBS with its own buffers.
const AGE_MAX: f64 = 500.0;
const AGE_OF_LONG_WAY_MAX: f64 = 2000.0;
/// How much older pictures may be at the end than at the beginning, in ms, and where those buffers grow with each hitch of a busy
/// machine.
const DRIFT_MAX: f64 = 100.0;
const DRIFT_OF_LONG_WAY_MAX: f64 = 200.0;
/// Who has its network back is back by then.
const RETURN_MAX: Duration = Duration::from_secs(15);

/// What is seen in one run.
pub struct Report {
    day: String,
    place: String,
    trials: Vec<Trial>,
}

impl Report {
    /// Of today and this machine.
    pub fn new() -> Self {
        let now = host::today_and_here();
        let (day, place) = now.split_once(", ").unwrap_or((&now, ""));
        Self { day: day.to_owned(), place: place.to_owned(), trials: Vec::new() }
    }

    /// What belongs to a stage that streams for so long.
    fn trial(&mut self, stage: &str, length: Duration) -> &mut Trial {
        let index = self.trials.iter().position(|trial| trial.stage == stage).unwrap_or_else(|| {
            self.trials.push(Trial {
                stage: stage.to_owned(),
                day: self.day.clone(),
                place: self.place.clone(),
                seconds: length.as_secs(),
                ..Trial::default()
            });
            self.trials.len() - 1
        });
        &mut self.trials[index]
    }

    /// Takes what a direct connection came to.
    pub fn add_direct(&mut self, seen: &Seen, length: Duration) {
        let line = row(["Chromium", "Chromium, without a server"], seen, "to compare with");
        self.trial("direct", length).streaming.push(line);
    }

    /// Takes what a pair of a stage came to; `direct` is what freezes are compared with: how many there were in how long.
    pub fn add(&mut self, stage: &str, outcome: &Outcome, length: Duration, direct: (u64, Duration)) {
        let who = [outcome.publisher.name(), outcome.viewer.name()];
        let found = complaints(outcome, length, direct);
        let mut verdict = if found.is_empty() { "good".to_owned() } else { found.join("; ") };
        if let Some(made) = outcome.made.filter(|made| *made < PICTURES_A_SECOND * PICTURES_SHOWN_MIN) {
            let _ = write!(verdict, " (its publisher makes {made:.1} pictures a second)");
        }
        let mut cuts = format!("| {} | {} | {} ", who[0], who[1], outcome.seen.viewing.codec);
        for returned in &outcome.returns {
            let _ = write!(cuts, "| {} ", in_words(returned));
        }
        cuts.push('|');
        let pair = format!("{}, {}, {}", who[0], who[1], outcome.seen.viewing.codec);
        let trial = self.trial(stage, length);
        trial.streaming.push(row(who, &outcome.seen, &verdict));
        trial.cuts.push(cuts);
        trial.failures.extend(found.iter().map(|complaint| format!("{pair}: {complaint}")));
    }

    /// Takes what a viewer on a narrow link saw.
    pub fn add_narrowing(&mut self, narrowing: &Narrowing, length: Duration) {
        let (table, found) = narrowing.table();
        println!("{table}");
        let trial = self.trial("abr", length);
        (trial.narrowing, trial.failures) = (table, found);
    }

    /// Takes that a publisher is not on this machine.
    pub fn add_left_out(&mut self, stage: &str, publisher: &str) {
        let trial = self.trial(stage, Duration::ZERO);
        trial.streaming.push(format!("| {publisher} | | | | | | | | | | | | not on this machine |"));
        trial.is_left_out = true;
    }

    /// Takes what an hour of RTMP came to; it has a page of its own.
    pub fn add_hour(&mut self, stage: &str, hour: &Hour, length: Duration) {
        let (words, found) = hour.words();
        println!("{words}");
        self.trial(stage, length).failures.extend(found);
    }

    /// Takes why something did not come to its end.
    pub fn add_failure(&mut self, stage: &str, error: &anyhow::Error, length: Duration) {
        let words = format!("{stage} did not come to its end: {error:#}");
        println!("{words}");
        let trial = self.trial(stage, length);
        trial
            .streaming
            .push(format!("| {stage} | | | | | | | | | | | | did not come to its end: {error:#} |"));
        trial.failures.push(words);
    }

    /// Somebody in it did not go when told to; what was seen before stands.
    pub fn add_bad_end(&mut self, stage: &str, error: &anyhow::Error, length: Duration) {
        let words = format!("{stage} did not end well: {error:#}");
        println!("{words}");
        self.trial(stage, length).failures.push(words);
    }

    /// What was not as it should be.
    pub fn failures(&self) -> Vec<&str> {
        self.trials.iter().flat_map(|trial| &trial.failures).map(String::as_str).collect()
    }

    /// The page of this run alone.
    pub fn text(&self, versions: &[Version], firefox: &[String]) -> String {
        page(&Trials::of_today(versions, firefox, self.trials.clone()))
    }

    /// Writes the page, with what was seen before of the other stages. `order` has the names of all.
    pub fn keep(&self, versions: &[Version], firefox: &[String], order: &[&str]) -> anyhow::Result<()> {
        let file = docs().join("compatibility.json");
        let mut kept = Trials::load(&file)?;
        kept.replace(Trials::of_today(versions, firefox, self.trials.clone()), order);
        kept.save(&file)?;
        let path = docs().join("compatibility.md");
        std::fs::write(&path, page(&kept)).with_context(|| format!("write {}", path.display()))
    }
}

/// A line of the table of streaming.
fn row([publisher, viewer]: [&str; 2], seen: &Seen, verdict: &str) -> String {
    let viewing = &seen.viewing;
    let or_dash = |is_known: bool, text: String| if is_known { text } else { "–".to_owned() };
    let line = format!(
        "| {publisher} | {viewer} | {} | {} | {:.1} | {} ({}) | {} | {} | {} | {} | {} | {} | {verdict} |",
        viewing.codec,
        viewing.frames_decoded,
        viewing.frames_per_second,
        viewing.freeze_count,
        viewing.freezes.as_millis(),
        or_dash(seen.knows_loss, viewing.packets_lost.to_string()),
        if seen.has_sound { "yes" } else { "no" },
        or_dash(seen.knows_first_frame, viewing.first_frame.as_millis().to_string()),
        quantiles(&seen.ages, &[0.5, 0.95]),
        drift(&seen.ages).map_or_else(|| "–".to_owned(), |drift| format!("{drift:+.0}")),
        lip_sync_in_words(&seen.lip_sync),
    );
    println!("{line}");
    line
}

/// The page of the documentation.
fn page(kept: &Trials) -> String {
    let (mut streaming, mut cuts, mut narrowing) = (String::new(), String::new(), String::new());
    let mut failures = Vec::new();
    for trial in &kept.trials {
        let tried = if trial.is_left_out {
            String::new()
        } else {
            format!("{}, {}", trial.day, in_minutes(Duration::from_secs(trial.seconds)))
        };
        for line in &trial.streaming {
            let _ = writeln!(streaming, "{line} {tried} |");
        }
        for line in &trial.cuts {
            let _ = writeln!(cuts, "{line}");
        }
        if !trial.narrowing.is_empty() {
            let _ = write!(narrowing, "Tried on {}. {}", trial.day, trial.narrowing);
        }
        failures.extend(trial.failures.iter().map(|failure| format!("{failure} ({})", trial.day)));
    }
    let mut places: Vec<&str> = kept.trials.iter().map(|trial| trial.place.as_str()).collect();
    places.sort_unstable();
    places.dedup();
    let verdict = if failures.is_empty() {
        "All of it is as it should be.".to_owned()
    } else {
        format!("Not as it should be:\n\n- {}", failures.join("\n- "))
    };
    let mut programs = String::new();
    for (program, version) in &kept.programs {
        let _ = writeln!(programs, "| {program} | {version} |");
    }
    let columns = CUTS.map(|cut| format!(" {} s |", cut.as_secs())).concat();
    format!(
        "{HEAD}{}; publishers, nodes and viewers all on one machine. {verdict}\n\n\
         ## Programs\n\n| Program | Version |\n|---|---|\n{programs}\n{STREAMING}{streaming}\n{CUT}|---|---|---|{}\n{cuts}\n\
         {NARROWING}{narrowing}\n{ALSO}\n{}",
        places.join("; "),
        "---|".repeat(CUTS.len()),
        not_tried(&kept.firefox)
    )
    .replace("{columns}", &columns)
}

const HEAD: &str = "# What works with what\n\nWritten by `cargo xtask clients` from `compatibility.json`; do not edit. Each line is of \
the latest trial, and says when that was and for how long.\n\n";

const STREAMING: &str = "## Streaming\n\nThrough an injection and an egress node. Freezes are the browser's count, with how \
many ms they took together; of GStreamer, which counts none, gaps between pictures by the same measure. *Glass to glass* is read off a time \
code in the picture: from the picture's making (from the input of ffmpeg over RTMP and of OBS, which has buffers of its own; recordings of WHIP encoders: from \
the encoder's output; of GStreamer, from a camera that hands each picture over with the next one) to its place on screen. *Drift* is by how much it grew from the first tenth of the run to the last. \
*Lip sync* is how many ms after its picture a beep is heard, negative if before, at the viewer's sound card: in the \
first 5 s, while a browser still looks for the right size of its buffer, and from 10 s on. In it are the publishing and the \
viewing browser's own parts; what goes without a server has nothing else in it. The card is PulseAudio's and throws all away. \
Pictures wait for their sound, and so they are older than on a machine without a card.\n\n\
| Publisher | Viewer | Codec | Frames | Frames/s | Freezes (ms) | Lost packets | Sound | First frame ms | Glass to glass p50 / \
p95 ms | Drift ms | Lip sync ms: at first; p5 / p50 / p95 | Result | Tried |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";

const CUT: &str = "## The publisher loses its network\n\nNothing gets through from and to the publisher for so long. In brackets: \
whether it goes on in the session that it had, and how old pictures are on screen 5 s later.\n\n\
| Publisher | Viewer | Codec |{columns}\n";

const NARROWING: &str = "## A viewer's link gets narrow and wide again\n\n";

const ALSO: &str = "## Shorter trials\n\nThese are tried each time by `cargo xtask test`, for seconds instead of minutes: ffmpeg 8's own \
WHIP muxer; RTMPS; HEVC, AV1 and VP9 over Enhanced RTMP; several layers with OBS's names and habits; HEVC of GStreamer over WHIP; plain RTP \
of ffmpeg and of GStreamer, unicast and multicast; publishers and viewers whose DTLS is mbedTLS, as OBS has it on Windows and macOS; \
VP9 and AV1 with layers in one stream (SVC).\n";

/// What is missing, and why.
fn not_tried(firefox: &[String]) -> String {
    let h264 = if firefox.iter().any(|codec| codec == "H264") {
        String::new()
    } else {
        format!(
            "- **H264 in Firefox**: Mozilla's builds fetch a decoder for it by themselves, Debian's here has none. It receives {}.\n",
            firefox.join(", ")
        )
    };
    format!(
        "## Not tried\n\n- **OBS 32's WHIP plugin as it is released**: the one in the trial is 30.2's with the layers of 32's, built by hand, \
         since Debian leaves the plugin out and its archive had no source of 32 (obs.md). In the tests its part is played by \
         libdatachannel, the WebRTC library of OBS, with OBS's offer and habits.\n- **Safari and other WebKit browsers**: none for Linux has WebRTC. In Debian's WebKitGTK 2.50.6 \
         `RTCPeerConnection` is undefined, its setting switched on or not, and up to 2.54.2 none is linked with GStreamer's WebRTC.\n{h264}\
         - **Encoders and decoders in hardware**, and H265 in browsers, which needs them: this machine has none.\n\
         - **GStreamer's `whipclientsink` and `whepsrc`**: they are made with Rust, and Debian does not package them. `webrtcbin`, \
         which does their WebRTC, is tried, with a few lines for the HTTP; they themselves for moments and by hand (gstreamer.md).\n- **Phones.**\n"
    )
}

/// Where pages of the documentation are.
pub fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn complaints(outcome: &Outcome, length: Duration, (freezes, watched): (u64, Duration)) -> Vec<String> {
    let Outcome { publisher, seen, returns, .. } = outcome;
    let viewing = &seen.viewing;
    let mut found = Vec::new();
    let made = outcome.made.unwrap_or(PICTURES_A_SECOND);
    if viewing.frames_per_second < made.min(PICTURES_A_SECOND) * PICTURES_SHOWN_MIN {
        found.push(format!("{:.1} of {made:.1} pictures a second", viewing.frames_per_second));
    }
    // As many as a direct connection would have had in the time, and one for the start of the tone.
    let freezes_max = (freezes as f64 * length.as_secs_f64() / watched.as_secs_f64()).ceil() as u64 + 1;
    if viewing.freeze_count > freezes_max {
        found.push(format!("{} freezes", viewing.freeze_count));
    }
    if viewing.packets_lost != 0 {
        found.push(format!("{} packets lost", viewing.packets_lost));
    }
    if !seen.has_sound {
        found.push("no sound".into());
    }
    let (age_max, drift_max) = if publisher.has_long_way() {
        (AGE_OF_LONG_WAY_MAX, DRIFT_OF_LONG_WAY_MAX)
    } else {
        (AGE_MAX, DRIFT_MAX)
    };
    if let Some(age) = quantile(&seen.ages, 0.95).filter(|age| *age > age_max) {
        found.push(format!("{age:.0} ms glass to glass"));
    }
    if let Some(drift) = drift(&seen.ages).filter(|drift| *drift > drift_max) {
        found.push(format!("{drift:.0} ms of drift"));
    }
    match quantile(settled(&seen.lip_sync), 0.5) {
        Some(offset) if offset.abs() > LIP_SYNC_MAX => {
            found.push(format!("sound {offset:+.0} ms off"));
        }
        Some(_) => {}
        None => found.push("lip sync could not be measured".into()),
    }
    for (cut, returned) in CUTS.iter().zip(returns) {
        if returned.after.is_none_or(|after| after > RETURN_MAX) {
            found.push(format!("not back in time after {} s without network", cut.as_secs()));
        }
        if let Some(age) = returned.age.filter(|age| *age > AGE_OF_LONG_WAY_MAX) {
            found.push(format!("{age:.0} ms behind after {} s without network", cut.as_secs()));
        }
    }
    found
}

/// By how much pictures are older in the last tenth than in the first.
fn drift(ages: &[f64]) -> Option<f64> {
    let tenth = ages.len() / 10;
    Some(quantile(&ages[ages.len() - tenth..], 0.5)? - quantile(&ages[..tenth], 0.5)?)
}

/// Without what is heard while a browser looks for the right size of its buffer.
fn settled(lip_sync: &[f64]) -> &[f64] {
    lip_sync.get(SETTLING_BEEPS..).unwrap_or_default()
}

fn lip_sync_in_words(lip_sync: &[f64]) -> String {
    let first = &lip_sync[..lip_sync.len().min(FIRST_BEEPS)];
    match quantile(first, 0.5) {
        Some(first) => format!("{first:.0}; {}", quantiles(settled(lip_sync), &[0.05, 0.5, 0.95])),
        None => "–".into(),
    }
}

fn quantiles(values: &[f64], shares: &[f64]) -> String {
    let found: Vec<String> =
        shares.iter().filter_map(|share| Some(format!("{:.0}", quantile(values, *share)?))).collect();
    if found.is_empty() { "–".into() } else { found.join(" / ") }
}

fn in_words(returned: &Return) -> String {
    let Some(after) = returned.after else { return "does not come back".into() };
    let publisher = match (returned.was_restarted, returned.publisher_sessions) {
        (true, _) => "its program ended and was started again",
        (false, 0) => "same session",
        (false, _) => "new session",
    };
    let viewer = if returned.viewer_sessions > 0 { ", viewers' sessions began anew" } else { "" };
    let age = returned.age.map(|age| format!(", {age:.0} ms old")).unwrap_or_default();
    format!("{:.1} s after ({publisher}{viewer}{age})", after.as_secs_f64())
}

fn in_minutes(length: Duration) -> String {
    let seconds = length.as_secs();
    if seconds.is_multiple_of(60) && seconds > 60 {
        format!("{} minutes", seconds / 60)
    } else {
        format!("{seconds} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publishers::Publisher;
    use crate::viewers::Viewer;

    fn good() -> Outcome {
        let mut seen =
            Seen { has_sound: true, ages: vec![60.0; 100], lip_sync: vec![10.0; 20], ..Seen::default() };
        seen.viewing.frames_per_second = 30.0;
        let returned = Return { after: Some(Duration::from_secs(1)), ..Return::default() };
        Outcome {
            publisher: Publisher::Chromium("vp8"),
            viewer: Viewer::Chromium,
            seen,
            made: Some(30.0),
            returns: vec![returned.clone(), returned],
        }
    }

    #[test]
    fn each_thing_that_is_wrong_is_said() {
        let minute = Duration::from_secs(60);
        let judge = |change: fn(&mut Outcome)| {
            let mut outcome = good();
            change(&mut outcome);
            complaints(&outcome, minute, (0, minute))
        };
        assert_eq!(judge(|_| {}), [""; 0]);
        let of_all = ["20.0 of 30.0 pictures a second"];
        assert_eq!(judge(|it| it.seen.viewing.frames_per_second = 20.0), of_all);
        let of_unknown = |it: &mut Outcome| (it.seen.viewing.frames_per_second, it.made) = (20.0, None);
        assert_eq!(judge(of_unknown), of_all);
        let of_few = |it: &mut Outcome| (it.seen.viewing.frames_per_second, it.made) = (20.0, Some(20.5));
        assert_eq!(judge(of_few), [""; 0], "there are no more");
        assert_eq!(judge(|it| it.seen.viewing.freeze_count = 2), ["2 freezes"]);
        assert_eq!(judge(|it| it.seen.viewing.packets_lost = 1), ["1 packets lost"]);
        assert_eq!(judge(|it| it.seen.has_sound = false), ["no sound"]);
        assert_eq!(judge(|it| it.seen.ages = vec![600.0; 100]), ["600 ms glass to glass"]);
        assert_eq!(judge(|it| it.seen.ages[80..].fill(200.0)), ["140 ms of drift"]);
        assert_eq!(judge(|it| it.seen.lip_sync = vec![-60.0; 20]), ["sound -60 ms off"]);
        assert_eq!(judge(|it| it.seen.lip_sync[..9].fill(120.0)), [""; 0], "that is the beginning");
        assert_eq!(judge(|it| it.seen.lip_sync.clear()), ["lip sync could not be measured"]);
        assert_eq!(judge(|it| it.returns[1].after = None), ["not back in time after 20 s without network"]);
        assert_eq!(
            judge(|it| it.returns[1].age = Some(14_000.0)),
            ["14000 ms behind after 20 s without network"]
        );
    }

    #[test]
    fn freezes_are_held_against_those_of_a_direct_connection() {
        let mut outcome = good();
        outcome.seen.viewing.freeze_count = 6;
        let (minute, five) = (Duration::from_secs(60), Duration::from_secs(300));
        assert_eq!(complaints(&outcome, five, (1, minute)), [""; 0]);
        assert_eq!(complaints(&outcome, five, (0, minute)), ["6 freezes"]);
    }

    #[test]
    fn the_page_says_what_was_tried_when_and_for_how_long() {
        assert_eq!(in_minutes(Duration::from_secs(300)), "5 minutes");
        assert_eq!(in_minutes(Duration::from_secs(20)), "20 s");
        let length = Duration::from_secs(300);
        let mut report = Report::new();
        report.day = "2026-12-01".to_owned();
        report.add("chromium-vp8", &good(), length, (0, length));
        report.add_left_out("obs29", "OBS Studio");
        let page = report.text(&[], &["VP8".to_owned()]);
        assert!(page.contains("All of it is as it should be."), "{page}");
        assert!(page.contains("| good | 2026-12-01, 5 minutes |\n"), "{page}");
        assert!(page.contains("| Codec | 5 s | 20 s |\n|---|---|---|---|---|\n"), "{page}");
        assert!(page.contains("1.0 s after (same session)"), "{page}");
        assert!(page.contains("| OBS Studio |") && page.contains("| not on this machine |  |"), "{page}");
        assert!(report.failures().is_empty());
        report.add_bad_end("chromium-vp8", &anyhow::anyhow!("it goes on"), length);
        let page = report.text(&[], &[]);
        assert!(page.contains("- chromium-vp8 did not end well: it goes on (2026-12-01)"), "{page}");
        assert!(page.contains("| good | 2026-12-01, 5 minutes |\n"), "what was seen stands: {page}");
    }
}
