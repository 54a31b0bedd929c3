//! A server such as an operator has: public keys, a say in who comes in, and a letter box for events.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// What requests to it are signed with.
pub const SECRET: &str = "the-secret-of-the-webhooks";

/// A running server. Ends with its value.
pub struct Operator {
    address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
    /// Of its own, since a server that is gone leaves no connection behind.
    runtime: Option<Runtime>,
}

/// What lies on its desk.
struct Desk {
    signer: Signer,
    verdict: StatusCode,
    questions: Vec<Letter>,
    events: Vec<Letter>,
}

/// Something that it was sent.
#[derive(Debug, Clone)]
pub struct Letter {
    id: String,
    timestamp: String,
    signature: String,
    text: String,
    /// The JSON.
    pub body: Value,
}

impl Letter {
    fn new(headers: &HeaderMap, text: String) -> Option<Self> {
        let header = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        Some(Self {
            id: header("webhook-id")?,
            timestamp: header("webhook-timestamp")?,
            signature: header("webhook-signature")?,
            body: serde_json::from_str(&text).ok()?,
            text,
        })
    }

    /// Whether it is signed with this secret, as a receiver finds out that knows only the description.
    #[must_use]
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let message = format!("{}.{}.{}", self.id, self.timestamp, self.text);
        let signature = self.signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
        signature.is_some_and(|signature| hmac::verify(&key, message.as_bytes(), &signature).is_ok())
    }

    /// The same with one character of the body changed.
    #[must_use]
    pub fn tampered(mut self) -> Self {
        self.text = self.text.replacen("show", "shop", 1);
        self
    }

    /// Seconds between its signature and now.
    ///
    /// # Errors
    /// If it has no time.
    pub fn age(&self) -> anyhow::Result<u64> {
        Ok(unix_seconds().abs_diff(self.timestamp.parse()?))
    }

    /// What kind of event it tells of.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }
}

/// Signs JSON Web Tokens with ES256.
pub struct Signer {
    key: EcdsaKeyPair,
    id: String,
}

impl Signer {
    /// A new key of this name.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn new(id: &str) -> anyhow::Result<Self> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Ok(Self { key: key.ok().context("make a key")?, id: id.to_owned() })
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// If signing fails.
    pub fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.id });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).ok().context("sign")?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// A token for `right` on `broadcast`, good for so many seconds.
    ///
    /// # Errors
    /// If signing fails.
    pub fn token(&self, right: &str, broadcast: &str, seconds: i64) -> anyhow::Result<String> {
        let expires = unix_seconds().saturating_add_signed(seconds);
        self.sign(&json!({ "right": right, "broadcast": broadcast, "exp": expires }))
    }

    fn jwks(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id,
            "x": encode(&point[1..33]), "y": encode(&point[33..]),
        }] })
    }
}

impl Operator {
    /// Starts one that lets everybody in.
    ///
    /// # Errors
    /// If there is no port or no randomness.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let desk = Desk {
            signer: Signer::new("first")?,
            verdict: StatusCode::OK,
            questions: Vec::new(),
            events: Vec::new(),
        };
        let (address, desk) = (listener.local_addr()?, Arc::new(Mutex::new(desk)));
        let runtime = Some(serve(listener, desk.clone())?);
        Ok(Self { address, desk, runtime })
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Stops answering.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Answers again, at the same address.
    ///
    /// # Errors
    /// If somebody has taken the port.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let listener = TcpListener::bind(self.address).context("take the port again")?;
        self.runtime = Some(serve(listener, self.desk.clone())?);
        Ok(())
    }

    /// A token that it signs, for so many seconds.
    ///
    /// # Errors
    /// If signing fails.
    pub fn token(&self, right: &str, broadcast: &str, seconds: i64) -> anyhow::Result<String> {
        self.desk().signer.token(right, broadcast, seconds)
    }

    /// Signs with another key from now on, and publishes that one only.
    pub fn rotate(&self, signer: Signer) {
        self.desk().signer = signer;
    }

    /// Answers so when it is asked who may come in.
    pub fn decide(&self, verdict: StatusCode) {
        self.desk().verdict = verdict;
    }

    /// What it was asked.
    #[must_use]
    pub fn questions(&self) -> Vec<Letter> {
        self.desk().questions.clone()
    }

    /// What it was told.
    #[must_use]
    pub fn events(&self) -> Vec<Letter> {
        self.desk().events.clone()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(listener: TcpListener, desk: Arc<Mutex<Desk>>) -> anyhow::Result<Runtime> {
    let router = Router::new()
        .route("/keys", get(keys))
        .route("/may", post(question))
        .route("/events", post(event))
        .with_state(desk);
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.spawn(async move { axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await });
    Ok(runtime)
}

async fn keys(State(desk): State<Arc<Mutex<Desk>>>) -> Json<Value> {
    Json(lock(&desk).signer.jwks())
}

async fn question(State(desk): State<Arc<Mutex<Desk>>>, headers: HeaderMap, text: String) -> StatusCode {
    let Some(letter) = Letter::new(&headers, text) else { return StatusCode::BAD_REQUEST };
    let mut desk = lock(&desk);
    desk.questions.push(letter);
    desk.verdict
}

async fn event(State(desk): State<Arc<Mutex<Desk>>>, headers: HeaderMap, text: String) -> StatusCode {
    let Some(letter) = Letter::new(&headers, text) else { return StatusCode::BAD_REQUEST };
    lock(&desk).events.push(letter);
    StatusCode::NO_CONTENT
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Each of `expected` once, in this order, among `kinds`.
///
/// # Errors
/// If one is missing.
pub fn in_order(kinds: &[&str], expected: &[&str]) -> anyhow::Result<()> {
    let mut rest = kinds.iter();
    for kind in expected {
        ensure!(rest.any(|found| found == kind), "no {kind} in its place among {kinds:?}");
    }
    Ok(())
}
