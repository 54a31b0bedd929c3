//! The player holds a picture back for as long as its sound is late.

use tests::browser::Browser;
use tests::{program, tools};

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";

/// Plays to the player's part: a browser that was told to hold media back for `asked` ms, whose pictures wait `least` ms in their
/// buffer by themselves and take 13 ms more to be shown, which it counts in, and whose sound is `late` ms later than they are then;
/// or always, where it keeps both in step. `play` tells how late the sound is after a time, and for how many ms more pictures wait.
const BROWSER: &str = r"
async (asked, least) => {
  const { LipSync } = await import('/assets/lip-sync.js');
  const [sync, video] = [new LipSync(), { jitterBufferDelay: 0, jitterBufferEmittedCount: 0 }];
  const browser = { asked, least };
  let [now, target] = [0, 0];
  const waits = (target) => Math.max(browser.least, Math.max(browser.asked, target) - 13);
  browser.play = (seconds, late, isInStep = false) => {
    let held = 0;
    for (const end = now + seconds * 1000; now < end; now += 250) {
      held = waits(target) - waits(0);
      video.jitterBufferDelay += (8 * waits(target)) / 1000;
      video.jitterBufferEmittedCount += 8;
      const soundLateMs = late === null || isInStep ? late : late - held;
      target = sync.note({ video, soundLateMs }, now, browser.asked) ?? target;
    }
    return [late - held, held];
  };
  browser.mute = () => {
    const told = [sync.release(), sync.release()];
    target = 0;
    return told;
  };
  return browser;
}
";

/// Lets a browser run its course: what that tells, where what is not known is no number.
async fn run((asked, least): (u32, u32), course: &str) -> anyhow::Result<Vec<[f64; 2]>> {
    let node = program::node("up").start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&node.url("/")).await?;
    let expression = format!("({BROWSER})({asked}, {least}).then((browser) => {course})");
    let told: Vec<[Option<f64>; 2]> = serde_json::from_value(page.evaluate(&expression).await?)?;
    Ok(told.into_iter().map(|pair| pair.map(|value| value.unwrap_or(f64::NAN))).collect())
}

fn is_together([is_late, held]: [f64; 2]) -> bool {
    (-5.0..15.0).contains(&is_late) && held > 0.0
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
        browser.play(30, -20),
        browser.play(15, 30),
        browser.mute(),
        browser.play(15, 30),
    ]";
    let course = run((0, 40), script).await?;
    let [settling, late, unknown, less, hopeless, early, again, muted, heard] = course[..] else {
        panic!("{course:?}")
    };
    assert_eq!(settling, [30.0, 0.0], "at first the browser sees to it itself");
    for pair in [late, less, again, heard] {
        assert!(is_together(pair), "{course:?}");
    }
    assert_eq!(unknown[1], late[1], "what is not known changes nothing");
    assert!((80.0..=150.0).contains(&hopeless[1]), "there is a bound: {course:?}");
    assert_eq!(early, [-20.0, 0.0], "a picture that is late by itself waits for nothing");
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
    assert_eq!(at_once, [30.0, 0.0], "who chooses the lowest delay has it at once");
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
