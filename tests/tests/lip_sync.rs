//! The player holds a picture back for as long as its sound is late, and sound for as long as its picture is.

use tests::browser::Browser;
use tests::{program, tools};

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";

/// Plays to the player's part: a browser that was told to hold media back for `asked` ms, whose pictures and sound wait `least` ms
/// in their buffers by themselves; pictures take 13 ms more to be shown, which it counts in, and its sound is `late` ms later than
/// they are then; or always, where it keeps both in step. `play` tells how late the sound is after a time, and for how many ms more
/// pictures and sound wait.
const BROWSER: &str = r"
async (asked, least) => {
  const { LipSync } = await import('/assets/lip-sync.js');
  const stream = () => ({ jitterBufferDelay: 0, jitterBufferEmittedCount: 0 });
  const [sync, video, audio] = [new LipSync(), stream(), stream()];
  const browser = { asked, least };
  let [now, targets] = [0, { video: 0, audio: 0 }];
  const waits = (target, shown) => Math.max(browser.least, Math.max(browser.asked, target) - shown);
  const wait = (stream, count, ms) => {
    stream.jitterBufferDelay += (count * ms) / 1000;
    stream.jitterBufferEmittedCount += count;
  };
  browser.play = (seconds, late, isInStep = false) => {
    let [picture, sound] = [0, 0];
    for (const end = now + seconds * 1000; now < end; now += 250) {
      picture = waits(targets.video, 13) - waits(0, 13);
      sound = waits(targets.audio, 0) - waits(0, 0);
      wait(video, 8, waits(targets.video, 13));
      wait(audio, 12_000, waits(targets.audio, 0));
      const soundLateMs = late === null || isInStep ? late : late - picture + sound;
      targets = sync.note({ video, audio, soundLateMs }, now, browser.asked) ?? targets;
    }
    return [late - picture + sound, picture, sound];
  };
  browser.mute = () => {
    const told = [sync.release(), sync.release()];
    targets = { video: 0, audio: 0 };
    return told.map((held) => held && held.video + held.audio).concat(0);
  };
  return browser;
}
";

/// Lets a browser run its course: what that tells, where what is not known is no number.
async fn run((asked, least): (u32, u32), course: &str) -> anyhow::Result<Vec<[f64; 3]>> {
    let node = program::node("up").start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&node.url("/")).await?;
    let expression = format!("({BROWSER})({asked}, {least}).then((browser) => {course})");
    let told: Vec<[Option<f64>; 3]> = serde_json::from_value(page.evaluate(&expression).await?)?;
    Ok(told.into_iter().map(|looks| looks.map(|value| value.unwrap_or(f64::NAN))).collect())
}

fn is_together([late, picture, sound]: [f64; 3]) -> bool {
    (-5.0..15.0).contains(&late) && picture > 0.0 && sound == 0.0
}

#[tokio::test]
async fn a_picture_waits_for_its_sound_and_no_longer_than_it_has_to() -> Result {
    if !tools::has("a_picture_waits_for_its_sound_and_no_longer_than_it_has_to", CHROMIUM) {
        return Ok(());
    }
    let script = "[
        browser.play(7, 30),
        browser.play(15, 30),
        browser.play(10, null),
        browser.play(15, 12),
        browser.play(30, 300),
        browser.play(30, -40),
        browser.play(30, -300),
        browser.play(30, 30),
        browser.mute(),
        browser.play(15, 30),
    ]";
    let course = run((0, 40), script).await?;
    let [settling, late, unknown, less, hopeless, early, too_early, again, muted, heard] = course[..] else {
        panic!("{course:?}")
    };
    assert_eq!(settling, [30.0, 0.0, 0.0], "at first the browser sees to it itself");
    for pair in [late, less, again, heard] {
        assert!(is_together(pair), "{course:?}");
    }
    assert_eq!(unknown[1], late[1], "what is not known changes nothing");
    assert!((80.0..=150.0).contains(&hopeless[1]), "there is a bound: {course:?}");
    let [late, picture, sound] = early;
    assert!((-10.0..10.0).contains(&late) && picture == 0.0 && sound > 0.0, "sound waits, too: {course:?}");
    assert!(too_early[1] == 0.0 && (80.0..=150.0).contains(&too_early[2]), "within its bound: {course:?}");
    assert!(muted[0] == 0.0 && muted[1].is_nan(), "who hears nothing waits for nothing, and is told once");
    Ok(())
}

#[tokio::test]
async fn a_picture_waits_for_its_sound_beyond_the_buffer_of_smooth() -> Result {
    if !tools::has("a_picture_waits_for_its_sound_beyond_the_buffer_of_smooth", CHROMIUM) {
        return Ok(());
    }
    let script = "[
        browser.play(20, 30),
        browser.play(30, 300),
        (browser.asked = 0, browser.play(1, 30)),
        browser.play(30, 30),
    ]";
    let course = run((500, 40), script).await?;
    let [smooth, hopeless, at_once, lowest] = course[..] else { panic!("{course:?}") };
    assert!(is_together(smooth), "{course:?}");
    assert!((80.0..=150.0).contains(&hopeless[1]), "the bound is on what is added: {course:?}");
    assert_eq!(at_once, [30.0, 0.0, 0.0], "who chooses the lowest delay has it at once");
    assert!(is_together(lowest), "{course:?}");
    Ok(())
}

#[tokio::test]
async fn a_picture_that_a_bad_network_delays_waits_for_its_sound_until_the_network_is_good() -> Result {
    if !tools::has("a_picture_that_a_bad_network_delays_waits_for_its_sound", CHROMIUM) {
        return Ok(());
    }
    let script = "[
        browser.play(30, 30),
        (browser.least = 40, browser.play(70, 5, true)),
        browser.play(30, 30),
    ]";
    let course = run((0, 300), script).await?;
    let [bad, good, after] = course[..] else { panic!("{course:?}") };
    assert!(is_together(bad), "{course:?}");
    assert_eq!(good[1], 0.0, "sound that is delayed to a held picture does not hold it for ever: {course:?}");
    assert!(is_together(after), "{course:?}");
    Ok(())
}
