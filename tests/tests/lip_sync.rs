//! The player holds a picture back for as long as its sound is late.

use tests::browser::Browser;
use tests::{program, tools};

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";

/// Plays to the player's part, with a browser whose pictures wait 40 ms in their buffer by themselves and take 13 ms more to be
/// shown, which it counts in, and whose sound is `late` ms later than they are then. Tells how late it is after each time, and for
/// how many ms more pictures wait.
const COURSE: &str = r"
(async () => {
  const { LipSync } = await import('/assets/lip-sync.js');
  const [sync, least, video] = [new LipSync(), 40, { jitterBufferDelay: 0, jitterBufferEmittedCount: 0 }];
  let [now, target, held] = [0, 0, 0];
  const play = (seconds, late) => {
    for (const end = now + seconds * 1000; now < end; now += 250) {
      held = Math.max(least, target - 13) - least;
      video.jitterBufferDelay += (8 * (least + held)) / 1000;
      video.jitterBufferEmittedCount += 8;
      target = sync.note({ video, soundLateMs: late === null ? null : late - held }, now) ?? target;
    }
    return [late - held, held];
  };
  const course = [play(7, 30), play(15, 30), play(10, null), play(15, 12), play(30, 300), play(30, -20), play(15, 30)];
  const muted = [sync.release(), sync.release()];
  target = 0;
  return [...course, muted, play(15, 30)];
})()
";

#[tokio::test]
async fn a_picture_waits_for_its_sound_and_no_longer_than_it_has_to() -> Result {
    if !tools::has("a_picture_waits_for_its_sound_and_no_longer_than_it_has_to", CHROMIUM) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&node.url("/")).await?;
    let course: Vec<[Option<f64>; 2]> = serde_json::from_value(page.evaluate(COURSE).await?)?;
    let known = |pair: &[Option<f64>; 2]| pair.map(|value| value.unwrap_or(f64::NAN));
    let pairs: Vec<[f64; 2]> = course.iter().map(known).collect();
    let [settling, late, unknown, less, hopeless, early, again, _, heard] = pairs[..] else {
        panic!("{course:?}")
    };
    assert_eq!(settling, [30.0, 0.0], "at first the browser sees to it itself");
    for [is_late, held] in [late, less, again, heard] {
        assert!((-5.0..15.0).contains(&is_late) && held > 0.0, "{course:?}");
    }
    assert_eq!(unknown[1], late[1], "what is not known changes nothing");
    assert!((80.0..=150.0).contains(&hopeless[1]), "there is a bound: {course:?}");
    assert_eq!(early, [-20.0, 0.0], "a picture that is late by itself waits for nothing");
    assert_eq!(course[7], [Some(0.0), None], "who hears nothing waits for nothing, and is told once");
    Ok(())
}
