//! Chromium to Chromium without a server between: what this machine, and what the measuring itself, make of it.

use std::time::Duration;

use anyhow::Context as _;
use tests::browser::Browser;
use tests::probe::{self, Clock};
use tests::program::{self, PATIENCE};

use crate::viewers::{self, Seen};

const SCRIPT: &str = include_str!("direct.js");

/// Plays in this codec for `length`.
pub async fn run(codec: &str, length: Duration) -> anyhow::Result<Seen> {
    // For its pages alone: picture, sound and time code are theirs.
    let node = program::node("up").start().await?;
    let browser = Browser::chromium_with_sound_card().await?;
    let page = browser.open(&node.url("/")).await?;
    page.evaluate(&format!("({SCRIPT})({{ codec: '{codec}' }})")).await?;
    page.wait_until("mediaTree.stats().then(({ framesDecoded }) => framesDecoded > 10)", PATIENCE)
        .await
        .context("the peers connect")?;
    probe::begin(&page, "window.direct.video").await?;
    let seen = viewers::watch_page(&browser, &page, length, Clock::Capture).await?;
    page.close().await?;
    Ok(seen)
}
