//! Asks an operator's server who may come in.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use access::CredentialKey;
use access::question::{Answers, Question, Verdict};
use access::signature::Signer;
use anyhow::Context as _;
use config::{HttpUrl, Webhooks};
use model::Right;
use tokio::sync::Semaphore;

use crate::clock::unix_time;
use crate::{outbound, random};

/// Questions under way at once; more wait, within the time that an answer may take.
const QUESTIONS_MAX: usize = 64;
/// How often it is logged that there is no answer.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// One server, and what it said a short while ago.
pub struct Asker {
    url: HttpUrl,
    rights: Vec<Right>,
    signer: Signer,
    client: reqwest::Client,
    permits: Semaphore,
    answers: Mutex<Answers>,
    logged_at: Mutex<Option<Instant>>,
}

impl Asker {
    /// As configured; `None` if nobody is to be asked.
    ///
    /// # Errors
    /// If there is no way to check the server's certificate.
    pub fn new(config: &Webhooks) -> anyhow::Result<Option<Self>> {
        let Some(url) = config.access.clone() else { return Ok(None) };
        let secret = config.secret.as_ref().context("webhooks.access needs webhooks.secret")?;
        Ok(Some(Self {
            client: outbound::client(&[&url])?,
            url,
            rights: config.access_for.clone(),
            signer: Signer::new(secret.expose()),
            permits: Semaphore::new(QUESTIONS_MAX),
            answers: Mutex::new(Answers::new(config.access_cache.get())),
            logged_at: Mutex::default(),
        }))
    }

    /// Whether it is asked for this right.
    pub fn is_for(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }

    /// What the server says; `None` if it says nothing clear in time.
    pub async fn ask(&self, question: &Question<'_>, credentials: &CredentialKey) -> Option<Verdict> {
        let key = question.key(credentials);
        if let Some(verdict) = self.answers().get(Instant::now(), &key) {
            return Some(verdict);
        }
        let asked = tokio::time::timeout(outbound::TIMEOUT, self.post(question)).await;
        match asked.unwrap_or_else(|_| Err("it takes too long".into())) {
            Ok(verdict) => {
                self.answers().put(Instant::now(), key, verdict);
                Some(verdict)
            }
            Err(reason) => {
                self.log(&reason);
                None
            }
        }
    }

    async fn post(&self, question: &Question<'_>) -> Result<Verdict, String> {
        let _permit = self.permits.acquire().await.map_err(|error| error.to_string())?;
        let id: [u8; 16] = random::bytes().map_err(|error| error.to_string())?;
        let body = question.body();
        let headers = self.signer.sign(&format!("ask_{:032x}", u128::from_be_bytes(id)), unix_time(), &body);
        let request = self
            .client
            .post(self.url.as_str())
            .header("content-type", "application/json")
            .header("webhook-id", headers.id)
            .header("webhook-timestamp", headers.timestamp)
            .header("webhook-signature", headers.signature)
            .body(body);
        let status = request.send().await.map_err(outbound::reason)?.status().as_u16();
        Verdict::of_status(status).ok_or_else(|| format!("it answered {status}"))
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, reason: &str) {
        let mut logged_at = self.logged_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if logged_at.is_none_or(|at| now >= at + LOG_INTERVAL) {
            *logged_at = Some(now);
            let server = self.url.origin();
            tracing::warn!(server, reason, "webhooks.access gives no answer, so nobody is let in by it");
        }
    }
}
