//! What the player does where a browser does not let it play: as WebKit, which gives sound to the element that was touched
//! for it and to no other; as a phone that saves power, where nothing plays before it is touched; and when somebody else
//! pauses. Chromium plays WebKit's part, by a script.

use std::time::Duration;

use anyhow::ensure;
use tests::browser::{Browser, Page};
use tests::other_site::{OtherSite, one_layer};
use tests::program::{Program, node};
use tests::tools;

type Result = anyhow::Result<()>;

/// A page is quick where nothing is wrong, the machine may be busy.
const SOON: Duration = Duration::from_secs(20);
const CHROMIUM: &str = "/usr/bin/chromium";
const PLAYER: &str = "document.querySelector('media-tree-player')";

/// An element sounds if it was touched, and stops if it is to sound without; muted it plays, unless `needsTouch`. `touch`
/// does what a user does, `forget` takes back what touching has allowed.
const PERMISSION: &str = r#"
  (() => {
    const { prototype } = HTMLMediaElement;
    const muted = Object.getOwnPropertyDescriptor(prototype, "muted");
    const play = prototype.play;
    let touched = new WeakSet();
    let isTouched = false;
    window.needsTouch = false;
    window.touch = (act) => {
      isTouched = true;
      act();
      isTouched = false;
    };
    window.forget = () => {
      touched = new WeakSet();
    };
    // Nothing begins by itself behind the player's back.
    Object.defineProperty(prototype, "autoplay", { configurable: true, get: () => false, set: () => {} });
    Object.defineProperty(prototype, "muted", {
      configurable: true,
      get() {
        return muted.get.call(this);
      },
      set(isMuted) {
        if (isTouched) touched.add(this);
        muted.set.call(this, isMuted);
        if (!isMuted && !touched.has(this)) this.pause();
      },
    });
    prototype.play = function () {
      if (isTouched) touched.add(this);
      const isAllowed = touched.has(this) || (!window.needsTouch && muted.get.call(this));
      return isAllowed ? play.call(this) : Promise.reject(new DOMException("touch it first", "NotAllowedError"));
    };
  })()
"#;

/// A program with its demo on air, somebody else's site, and a page of it whose player has no address yet.
async fn stage() -> anyhow::Result<(Program, OtherSite, Browser, Page)> {
    let program = node("up").with(&["--demo"]).start().await?;
    let site = OtherSite::start(&program, one_layer()).await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&site.url("/page?muted=")).await?;
    page.wait_until("window.told !== undefined", SOON).await?;
    page.evaluate(PERMISSION).await?;
    Ok((program, site, browser, page))
}

async fn begin(page: &Page) -> Result {
    page.evaluate(&format!("{PLAYER}.setAttribute('src', '/layered/demo')")).await?;
    page.wait_until(&format!("{PLAYER}.state === 'live'"), SOON).await
}

/// Waits until the element on screen goes on, with or without sound, in a session whose stream is not that of `before`.
async fn until_it_plays_on(page: &Page, is_muted: bool) -> Result {
    let is_other =
        format!("{PLAYER}.video.srcObject !== before && !{PLAYER}.video.paused && !{PLAYER}.paused");
    let sounds = format!("{PLAYER}.muted === {is_muted} && {PLAYER}.video.muted === {is_muted}");
    page.wait_until(&format!("{is_other} && {sounds}"), SOON).await?;
    page.evaluate(&format!("(() => {{ window.at = {PLAYER}.video.currentTime; }})()")).await?;
    page.wait_until(&format!("{PLAYER}.video.currentTime > at + 0.5"), SOON).await?;
    page.wait_until(&format!("{PLAYER}.shadowRoot.querySelectorAll('video').length === 1"), SOON).await?;
    until_it_listens(page).await
}

/// What the server tells before that is missed.
async fn until_it_listens(page: &Page) -> Result {
    page.wait_until(&format!("{PLAYER}.layers.length === 1"), SOON).await
}

#[tokio::test]
async fn sound_goes_on_through_a_move_where_only_a_touched_element_may_sound() -> Result {
    if !tools::has("sound_goes_on_through_a_move", CHROMIUM) {
        return Ok(());
    }
    let (_program, site, _browser, page) = stage().await?;
    begin(&page).await?;
    until_it_listens(&page).await?;
    page.evaluate(&format!("touch(() => {{ {PLAYER}.muted = false; }})")).await?;
    ensure!(page.evaluate(&format!("{PLAYER}.video.muted || {PLAYER}.video.paused")).await? == false);
    let remember = format!("(() => {{ window.before = {PLAYER}.video.srcObject; }})()");
    page.evaluate(&remember).await?;
    site.move_viewers();
    until_it_plays_on(&page, false).await?;

    // Where not even that element may go on, the picture does, and a button brings the sound.
    page.evaluate(&remember).await?;
    page.evaluate("forget()").await?;
    site.move_viewers();
    until_it_plays_on(&page, true).await?;
    let sound_on = format!("{PLAYER}.shadowRoot.getElementById('sound-on')");
    ensure!(page.evaluate(&format!("{sound_on}.hidden")).await? == false, "a button for the sound");
    page.evaluate(&format!("touch(() => {sound_on}.click())")).await?;
    page.wait_until(&format!("!{PLAYER}.muted && !{PLAYER}.video.muted && !{PLAYER}.video.paused"), SOON)
        .await?;

    // A phone that saves power lets not even a muted one begin without a touch; and one that has the whole screen keeps it.
    page.evaluate(&format!("touch(() => {{ {PLAYER}.muted = true; }})")).await?;
    page.evaluate("(() => { window.needsTouch = true; })()").await?;
    for prepare in ["", "Object.defineProperty(element, 'webkitDisplayingFullscreen', { value: true });"] {
        until_it_listens(&page).await?;
        page.evaluate(&remember).await?;
        page.evaluate(&format!("(() => {{ window.element = {PLAYER}.video; {prepare} }})()")).await?;
        site.move_viewers();
        until_it_plays_on(&page, true).await?;
        ensure!(page.evaluate(&format!("{PLAYER}.video === element")).await? == true, "in the same element");
    }
    let states =
        "[...new Set(told.filter(({ type }) => type === 'state').map(({ detail }) => detail.state))]";
    let states = page.evaluate(states).await?;
    ensure!(states.as_array().is_some_and(|states| states.last() == Some(&"live".into())), "{states}");
    ensure!(page.errors().is_empty(), "{:?}", page.errors());
    Ok(())
}

#[tokio::test]
async fn where_nothing_plays_before_it_is_touched_a_button_begins() -> Result {
    if !tools::has("where_nothing_plays_before_it_is_touched", CHROMIUM) {
        return Ok(());
    }
    for (button, is_muted) in [("play", true), ("sound-on", false)] {
        let (_program, _site, _browser, page) = stage().await?;
        page.evaluate("(() => { window.needsTouch = true; })()").await?;
        begin(&page).await?;
        let play = format!("{PLAYER}.shadowRoot.getElementById('play')");
        page.wait_until(
            &format!("{PLAYER}.paused && {PLAYER}.video.paused && {play}.title === 'Play'"),
            SOON,
        )
        .await?;
        page.evaluate(&format!("touch(() => {PLAYER}.shadowRoot.getElementById('{button}').click())"))
            .await?;
        let plays = format!(
            "!{PLAYER}.paused && !{PLAYER}.video.paused && {PLAYER}.video.muted === {is_muted} && {play}.title === 'Pause'"
        );
        page.wait_until(&plays, SOON).await?;
        page.wait_until(&format!("{PLAYER}.video.currentTime > 0.5"), SOON).await?;
        ensure!(page.errors().is_empty(), "{:?}", page.errors());
    }
    Ok(())
}

#[tokio::test]
async fn a_pause_of_others_is_shown_and_so_is_its_end() -> Result {
    if !tools::has("a_pause_of_others_is_shown", CHROMIUM) {
        return Ok(());
    }
    let (_program, _site, _browser, page) = stage().await?;
    begin(&page).await?;
    let title = format!("{PLAYER}.shadowRoot.getElementById('play').title");
    for (act, is_paused, shown) in [("pause", true, "Play"), ("play", false, "Pause")] {
        page.evaluate(&format!("(() => {{ {PLAYER}.video.{act}(); }})()")).await?;
        page.wait_until(&format!("{PLAYER}.paused === {is_paused} && {title} === '{shown}'"), SOON).await?;
        let told =
            format!("told.filter(({{ type }}) => type === 'state').at(-1).detail.paused === {is_paused}");
        ensure!(page.evaluate(&told).await? == true, "{act}");
    }
    ensure!(page.errors().is_empty(), "{:?}", page.errors());
    Ok(())
}
