//! Real browsers without a window: Chromium over the DevTools protocol, Firefox over WebDriver BiDi.
//!
//! Each [`Browser`] is a process of its own with a fresh profile; it ends with the value. Camera and microphone are
//! the browsers' own fakes, pages may play sound at once, and nothing calls home.

mod connection;
mod launch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};

use connection::Connection;
use launch::Process;

use crate::sound_card::SoundCard;

/// What Chromium says of a load that it gave up because interfaces of the machine came or went.
const NETWORK_CHANGED: &str = "net::ERR_NETWORK_CHANGED";
/// How often a condition in a page is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How many of a page's complaints a failed wait quotes.
const LATEST_ERRORS: usize = 5;
/// How long a page may take to load.
const LOAD_MAX: Duration = Duration::from_secs(30);

/// A running browser.
pub struct Browser {
    connection: Arc<Connection>,
    dialect: Dialect,
    // Dropped last: ends the process.
    process: Process,
}

/// Which remote protocol a browser speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    DevTools,
    BiDi,
}

impl Browser {
    /// Starts Chromium.
    ///
    /// # Errors
    /// If it is not installed or does not come up.
    pub async fn chromium() -> anyhow::Result<Self> {
        Self::chromium_with(None, None).await
    }

    /// Starts Chromium, which believes a certificate with this key whoever signed it: SHA-256 in base64.
    ///
    /// # Errors
    /// If it is not installed or does not come up.
    pub async fn chromium_that_trusts(key_hash: &str) -> anyhow::Result<Self> {
        Self::chromium_with(None, Some(key_hash)).await
    }

    /// Starts Chromium with a sound card, whose clock is right and does not wait for the processor.
    ///
    /// # Errors
    /// If it, or PulseAudio, is not installed or does not come up.
    pub async fn chromium_with_sound_card() -> anyhow::Result<Self> {
        Self::chromium_with(Some(SoundCard::start().await?), None).await
    }

    async fn chromium_with(sound_card: Option<SoundCard>, key_hash: Option<&str>) -> anyhow::Result<Self> {
        let (process, address) = launch::chromium(sound_card, key_hash).await?;
        let connection = Connection::open(&address).await?;
        Ok(Self { connection, dialect: Dialect::DevTools, process })
    }

    /// Starts Firefox ESR.
    ///
    /// # Errors
    /// If it is not installed or does not come up.
    pub async fn firefox() -> anyhow::Result<Self> {
        Self::firefox_with(None).await
    }

    /// Starts Firefox ESR with a sound card, whose clock is right: pictures wait for sound.
    ///
    /// # Errors
    /// If it, or PulseAudio, is not installed or does not come up.
    pub async fn firefox_with_sound_card() -> anyhow::Result<Self> {
        Self::firefox_with(Some(SoundCard::start().await?)).await
    }

    async fn firefox_with(sound_card: Option<SoundCard>) -> anyhow::Result<Self> {
        let (process, address) = launch::firefox(sound_card).await?;
        let connection = Connection::open(&format!("{address}/session")).await?;
        connection.call("session.new", json!({ "capabilities": {} })).await?;
        connection.call("session.subscribe", json!({ "events": ["log.entryAdded"] })).await?;
        Ok(Self { connection, dialect: Dialect::BiDi, process })
    }

    /// When its sound card began to play beeps since the last time, in ms since 1970; none without one.
    ///
    /// # Errors
    /// If nobody listens to it any more.
    pub fn beeps(&self) -> anyhow::Result<Vec<f64>> {
        self.process.sound_card.as_ref().map_or_else(|| Ok(Vec::new()), SoundCard::beeps)
    }

    /// Opens `url` in a window of its own, so that it is never in the background, and waits until it is loaded.
    ///
    /// # Errors
    /// If the page cannot be loaded.
    pub async fn open(&self, url: &str) -> anyhow::Result<Page> {
        let connection = self.connection.clone();
        let page = match self.dialect {
            Dialect::DevTools => {
                let window = json!({ "url": "about:blank", "newWindow": true });
                let target = connection.call("Target.createTarget", window).await?;
                let target = text(&target, "targetId")?;
                let attach = json!({ "targetId": target, "flatten": true });
                let session = text(&connection.call("Target.attachToTarget", attach).await?, "sessionId")?;
                Page { connection, dialect: self.dialect, target, session }
            }
            Dialect::BiDi => {
                let created = connection.call("browsingContext.create", json!({ "type": "window" })).await?;
                let target = text(&created, "context")?;
                Page { connection, dialect: self.dialect, session: target.clone(), target }
            }
        };
        let mut seen = 0;
        loop {
            let loaded = page.load(url).await;
            // Networks of other tests come and go on this machine, and Chromium gives up what it loads then.
            let complaints = page.connection.complaints(&page.session);
            let is_cut_short = |complaint: &String| complaint.contains(NETWORK_CHANGED);
            let is_page_cut_short = loaded.as_ref().is_err_and(|error| is_cut_short(&error.to_string()));
            if !is_page_cut_short && !complaints[seen..].iter().any(is_cut_short) {
                return loaded.map(|()| page);
            }
            seen = complaints.len();
        }
    }
}

/// One page in its window.
pub struct Page {
    connection: Arc<Connection>,
    dialect: Dialect,
    /// Names the page.
    target: String,
    /// Where commands and events of the tab go: a session in DevTools, the page itself in BiDi.
    session: String,
}

impl Page {
    async fn load(&self, url: &str) -> anyhow::Result<()> {
        match self.dialect {
            Dialect::DevTools => {
                for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
                    self.call(domain, json!({})).await?;
                }
                let loaded = self.call("Page.navigate", json!({ "url": url })).await?;
                if let Some(error) = loaded["errorText"].as_str() {
                    bail!("{url}: {error}");
                }
                let is_there = "document.readyState === 'complete' && (location.href !== 'about:blank' || ";
                self.wait_until(&format!("{is_there}{})", url == "about:blank"), LOAD_MAX).await
            }
            Dialect::BiDi => {
                let navigate = json!({ "context": self.target, "url": url, "wait": "complete" });
                self.call("browsingContext.navigate", navigate).await.map(drop)
            }
        }
    }

    /// The value of a JavaScript expression, as JSON; a promise is waited for. Counts as a user's action.
    ///
    /// # Errors
    /// If the expression throws, rejects, or has a value without a JSON form.
    pub async fn evaluate(&self, expression: &str) -> anyhow::Result<Value> {
        let wrapped = format!("(async () => JSON.stringify(await ({expression})) ?? 'null')()");
        let (call, result) = match self.dialect {
            Dialect::DevTools => {
                let evaluate = json!({
                    "expression": wrapped, "awaitPromise": true, "returnByValue": true, "userGesture": true
                });
                (self.call("Runtime.evaluate", evaluate).await?, "/result/value")
            }
            Dialect::BiDi => {
                let evaluate = json!({
                    "expression": wrapped, "target": { "context": self.target }, "awaitPromise": true,
                    "resultOwnership": "none", "userActivation": true
                });
                (self.call("script.evaluate", evaluate).await?, "/result/value")
            }
        };
        let Some(value) = call.pointer(result).and_then(Value::as_str) else {
            let thrown = &call["exceptionDetails"];
            let reason =
                thrown.pointer("/exception/description").or_else(|| thrown.get("text")).unwrap_or(thrown);
            bail!("{expression}: {reason}");
        };
        serde_json::from_str(value).with_context(|| format!("{expression}: {value}"))
    }

    /// Waits until a JavaScript expression is truthy.
    ///
    /// # Errors
    /// If it is not within `patience`, or throws; names what the page complained about.
    pub async fn wait_until(&self, condition: &str, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        let mut looks = tokio::time::interval(POLL_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let looked = self.evaluate(&format!("Promise.resolve({condition}).then(Boolean)")).await;
            // While a page is being replaced it may have nothing to evaluate in.
            if let Ok(Value::Bool(true)) = looked {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let seen = looked.map_or_else(|error| format!("{error:#}"), |value| value.to_string());
                let errors = self.errors();
                let latest = &errors[errors.len().saturating_sub(LATEST_ERRORS)..];
                bail!("not within {patience:?}: {condition} (last: {seen}; latest page errors: {latest:?})");
            }
        }
    }

    /// What the page complained about so far: exceptions, failed loads, breaches of its security policy.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let mut complaints = self.connection.complaints(&self.session);
        // No page can help that.
        complaints.retain(|complaint| !complaint.contains(NETWORK_CHANGED));
        complaints
    }

    /// Sets the size of the page, in CSS pixels.
    ///
    /// # Errors
    /// If the browser refuses.
    pub async fn resize(&self, width: u32, height: u32) -> anyhow::Result<()> {
        match self.dialect {
            Dialect::DevTools => {
                let metrics =
                    json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
                self.call("Emulation.setDeviceMetricsOverride", metrics).await.map(drop)
            }
            Dialect::BiDi => {
                let viewport =
                    json!({ "context": self.target, "viewport": { "width": width, "height": height } });
                self.call("browsingContext.setViewport", viewport).await.map(drop)
            }
        }
    }

    /// Makes the page believe that its user prefers dark colours. Chromium only.
    ///
    /// # Errors
    /// In Firefox, or if the browser refuses.
    pub async fn prefer_dark(&self) -> anyhow::Result<()> {
        if self.dialect != Dialect::DevTools {
            bail!("only Chromium can be told which colours to prefer");
        }
        let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        self.call("Emulation.setEmulatedMedia", dark).await.map(drop)
    }

    /// Makes the page believe, from its next load on, that its user prefers a language (`de-AT`). Chromium only.
    ///
    /// # Errors
    /// In Firefox, or if the browser refuses.
    pub async fn prefer_language(&self, language: &str) -> anyhow::Result<()> {
        if self.dialect != Dialect::DevTools {
            bail!("only Chromium can be told which language to prefer");
        }
        let agent = self.evaluate("navigator.userAgent").await?;
        let prefer = json!({ "userAgent": agent, "acceptLanguage": language });
        self.call("Emulation.setUserAgentOverride", prefer).await.map(drop)
    }

    /// Presses a key as a user does, by its name (`Tab`, `Enter`, `ArrowUp`, `/`). Chromium only.
    ///
    /// # Errors
    /// In Firefox, or if the browser refuses.
    pub async fn press(&self, key: &str) -> anyhow::Result<()> {
        if self.dialect != Dialect::DevTools {
            bail!("only Chromium can be told which keys are pressed");
        }
        // What a key does of itself hangs on its number and on what it writes.
        let number = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            _ => 0,
        };
        let mut down = json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": number });
        match key {
            "Enter" => down["text"] = "\r".into(),
            key if key.chars().count() == 1 => down["text"] = key.into(),
            _ => {}
        }
        self.call("Input.dispatchKeyEvent", down).await?;
        let up = json!({ "type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": number });
        self.call("Input.dispatchKeyEvent", up).await.map(drop)
    }

    /// Writes what the page shows to `path`, as PNG.
    ///
    /// # Errors
    /// If the browser refuses or the file cannot be written.
    pub async fn screenshot(&self, path: &Path) -> anyhow::Result<()> {
        let answer = match self.dialect {
            Dialect::DevTools => self.call("Page.captureScreenshot", json!({ "format": "png" })).await?,
            Dialect::BiDi => {
                let capture = json!({ "context": self.target, "origin": "viewport" });
                self.call("browsingContext.captureScreenshot", capture).await?
            }
        };
        let png =
            base64::engine::general_purpose::STANDARD.decode(text(&answer, "data")?).context("screenshot")?;
        std::fs::write(path, png).with_context(|| format!("write {}", path.display()))
    }

    /// Closes the window as a user does: the page learns of it.
    ///
    /// # Errors
    /// If it is closed already.
    pub async fn close(self) -> anyhow::Result<()> {
        match self.dialect {
            Dialect::DevTools => {
                // Unlike Target.closeTarget this lets `pagehide` run.
                self.call("Page.close", json!({})).await.map(drop)
            }
            Dialect::BiDi => {
                let close = json!({ "context": self.target, "promptUnload": false });
                self.call("browsingContext.close", close).await.map(drop)
            }
        }
    }

    async fn call(&self, method: &str, parameters: Value) -> anyhow::Result<Value> {
        match self.dialect {
            Dialect::DevTools => self.connection.call_session(&self.session, method, parameters).await,
            Dialect::BiDi => self.connection.call(method, parameters).await,
        }
    }
}

fn text(answer: &Value, key: &str) -> anyhow::Result<String> {
    let value = answer[key].as_str().with_context(|| format!("no {key} in {answer}"))?;
    Ok(value.to_owned())
}
