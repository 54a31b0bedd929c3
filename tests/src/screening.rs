//! What is on the screen of a player, picture by picture: for how long it stood still, and whether it ever went back.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use crate::browser::Page;

/// Follows whichever video is on screen (the last of the stage, which covers the others) and notes each picture that it
/// shows, with the time in the picture, and everything that a viewer would notice.
const FOLLOW: &str = r#"
(async () => {
  const { read } = await import("/assets/timecode.js");
  const stage = document.getElementById("stage");
  const screening = window.screening = { pictures: [], states: [], servers: [], stops: [] };
  let onScreen = null;
  const note = (list, value) => list.at(-1) !== value && list.push(value);
  const follow = (video) => {
    onScreen = video;
    for (const stop of ["pause", "ended", "emptied"]) {
      video.addEventListener(stop, () => video.isConnected && video === onScreen && screening.stops.push(stop));
    }
    const picture = () => {
      if (video !== onScreen) return;
      screening.pictures.push({ at: performance.now(), code: read(video), server: mediaTree.server });
      video.requestVideoFrameCallback(picture);
    };
    video.requestVideoFrameCallback(picture);
  };
  const look = () => {
    const video = [...stage.querySelectorAll("video")].at(-1);
    if (video && video !== onScreen) follow(video);
    note(screening.states, mediaTree.state);
    note(screening.servers, mediaTree.server);
    requestAnimationFrame(look);
  };
  look();
})()
"#;

/// One picture on screen.
#[derive(Debug, Clone, Deserialize)]
pub struct Picture {
    /// When it came, in milliseconds of the page.
    pub at: f64,
    /// The time in the picture, in milliseconds since 1970; `None` where it could not be read.
    pub code: Option<f64>,
    /// The host that served it.
    pub server: Option<String>,
}

/// Everything since [`follow`].
#[derive(Debug, Clone, Deserialize)]
pub struct Screening {
    /// Each picture.
    pub pictures: Vec<Picture>,
    /// The player's states.
    pub states: Vec<String>,
    /// The hosts that served what was on screen.
    pub servers: Vec<Option<String>>,
    /// Times that the element on screen stopped.
    pub stops: Vec<String>,
}

/// Begins to follow what a player shows.
///
/// # Errors
/// If the page is no player.
pub async fn follow(page: &Page) -> anyhow::Result<()> {
    page.evaluate(FOLLOW).await.map(drop)
}

/// What was shown so far.
///
/// # Errors
/// If the page is gone.
pub async fn screening(page: &Page) -> anyhow::Result<Screening> {
    serde_json::from_value(page.evaluate("window.screening").await?).context("a screening")
}

/// Two pictures in a row, of two servers.
#[derive(Debug, Clone, Copy)]
pub struct Switch {
    /// From the last picture of one to the first of the other.
    pub gap: Duration,
    /// How much later what they show is, in milliseconds; negative if it went back.
    pub step_ms: f64,
}

impl Screening {
    /// The longest that a picture stood, over all pictures from `from` ms of the page on.
    #[must_use]
    pub fn longest(&self, from: f64) -> Duration {
        let shown = self.pictures.iter().filter(|picture| picture.at >= from).collect::<Vec<_>>();
        let longest = shown.windows(2).map(|pair| pair[1].at - pair[0].at).fold(0.0, f64::max);
        Duration::from_secs_f64(longest / 1000.0)
    }

    /// Where one server took over from another.
    #[must_use]
    pub fn switches(&self) -> Vec<Switch> {
        let pairs = self.pictures.windows(2).filter(|pair| pair[0].server != pair[1].server);
        pairs
            .map(|pair| Switch {
                gap: Duration::from_secs_f64((pair[1].at - pair[0].at) / 1000.0),
                step_ms: pair[1].code.zip(pair[0].code).map_or(f64::NAN, |(new, old)| new - old),
            })
            .collect()
    }
}

impl fmt::Display for Screening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = self.servers.iter().map(|server| server.as_deref().unwrap_or("-"));
        write!(
            f,
            "{} pictures, states {}, servers {}",
            self.pictures.len(),
            self.states.join(" > "),
            servers.collect::<Vec<_>>().join(" > ")
        )?;
        for switch in self.switches() {
            write!(f, ", switch: gap {} ms, content {:+.0} ms", switch.gap.as_millis(), switch.step_ms)?;
        }
        Ok(())
    }
}
