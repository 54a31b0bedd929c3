//! Public keys that are fetched, kept and fetched again.

use std::sync::Arc;
use std::time::Duration;

use access::Keys;
use access::keys::JWKS_BYTES_MAX;
use anyhow::Context as _;
use config::{HttpUrl, KeySource};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::outbound;

/// How old keys may become. Issuers publish new keys long before they sign with them.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);
/// How soon a failed attempt is repeated, and how often tokens with unknown keys may cause one.
const PAUSE: Duration = Duration::from_secs(10);
/// The same for files, which are near.
const FILE_PAUSE: Duration = Duration::from_secs(1);

/// The keys of one source. The last good ones are kept while it is away.
pub struct KeyRing {
    state: watch::Receiver<State>,
    wake: Arc<Notify>,
    pause: Duration,
}

#[derive(Debug, Clone, Default)]
struct State {
    keys: Option<Arc<Keys>>,
    /// Attempts that are over.
    attempts: u64,
    /// When the latest was over, and whether it brought keys.
    latest: Option<(Instant, bool)>,
}

impl KeyRing {
    /// Begins to fetch.
    ///
    /// # Errors
    /// If there is no way to check the server's certificate.
    pub fn start(source: &KeySource) -> anyhow::Result<Self> {
        let (fetcher, pause) = match source {
            KeySource::Url(url) => (Fetcher::Url(url.clone(), outbound::client(&[url])?), PAUSE),
            KeySource::File(path) => (Fetcher::File(path.clone()), FILE_PAUSE),
        };
        let (sender, state) = watch::channel(State::default());
        let wake = Arc::new(Notify::new());
        tokio::spawn(follow(fetcher, sender, wake.clone(), pause));
        Ok(Self { state, wake, pause })
    }

    /// The last good keys.
    pub fn keys(&self) -> Option<Arc<Keys>> {
        self.state.borrow().keys.clone()
    }

    /// Whether the latest attempt brought keys.
    pub fn is_current(&self) -> bool {
        self.state.borrow().latest.is_some_and(|(_, is_good)| is_good)
    }

    /// Fetches again, unless that was done a moment ago; waits for the outcome, for a while.
    pub async fn refresh(&self) {
        let mut state = self.state.clone();
        let before = {
            let state = state.borrow_and_update();
            if state.latest.is_some_and(|(at, _)| at.elapsed() < self.pause) {
                return;
            }
            state.attempts
        };
        self.wake.notify_one();
        let changed = state.wait_for(|state| state.attempts > before);
        let _ = tokio::time::timeout(outbound::TIMEOUT, changed).await;
    }
}

async fn follow(fetcher: Fetcher, state: watch::Sender<State>, wake: Arc<Notify>, pause: Duration) {
    let mut was_good = true;
    while !state.is_closed() {
        let fetched = fetcher.fetch().await;
        let is_good = fetched.is_ok();
        match &fetched {
            Ok(keys) if !was_good => tracing::info!(keys = keys.len(), "access.jwt_jwks can be read again"),
            Ok(keys) => tracing::debug!(keys = keys.len(), "read access.jwt_jwks"),
            Err(error) if was_good => {
                let error = format!("{error:#}");
                tracing::warn!(error, "cannot read access.jwt_jwks; the last good keys are kept");
            }
            Err(error) => tracing::debug!(error = format!("{error:#}"), "cannot read access.jwt_jwks"),
        }
        was_good = is_good;
        state.send_modify(|state| {
            state.attempts += 1;
            state.latest = Some((Instant::now(), is_good));
            if let Ok(keys) = fetched {
                state.keys = Some(Arc::new(keys));
            }
        });
        tokio::time::sleep(pause).await;
        if is_good {
            let _ = tokio::time::timeout(REFRESH_INTERVAL - pause, wake.notified()).await;
        }
    }
}

enum Fetcher {
    Url(HttpUrl, reqwest::Client),
    File(std::path::PathBuf),
}

impl Fetcher {
    async fn fetch(&self) -> anyhow::Result<Keys> {
        let text = match self {
            Self::Url(url, client) => {
                let text = tokio::time::timeout(outbound::TIMEOUT, download(url, client)).await;
                text.context("it takes too long").flatten().with_context(|| url.origin().to_owned())?
            }
            Self::File(path) => {
                let file = tokio::fs::File::open(path).await;
                let mut text = Vec::new();
                let mut file =
                    file.with_context(|| path.display().to_string())?.take(JWKS_BYTES_MAX as u64 + 1);
                file.read_to_end(&mut text).await.with_context(|| path.display().to_string())?;
                text
            }
        };
        Ok(Keys::of_jwks(&text)?)
    }
}

async fn download(url: &HttpUrl, client: &reqwest::Client) -> anyhow::Result<Vec<u8>> {
    let request = client.get(url.as_str()).header("accept", "application/jwk-set+json, application/json");
    let mut response = request.send().await.map_err(|error| anyhow::anyhow!(outbound::reason(error)))?;
    anyhow::ensure!(response.status().is_success(), "it answered {}", response.status().as_u16());
    let mut text = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| anyhow::anyhow!(outbound::reason(error)))?
    {
        text.extend_from_slice(&chunk);
        anyhow::ensure!(text.len() <= JWKS_BYTES_MAX, "it sends more than {JWKS_BYTES_MAX} bytes");
    }
    Ok(text)
}
