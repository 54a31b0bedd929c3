//! A place that messages for Slack are sent to.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::program::PATIENCE;

/// The fake; ends with its value.
pub struct Slack {
    address: SocketAddr,
    messages: mpsc::UnboundedReceiver<Value>,
    /// Came, and nobody has waited for them yet.
    kept: Vec<Message>,
    server: JoinHandle<()>,
}

impl Slack {
    /// Listens.
    ///
    /// # Errors
    /// If there is no port for it.
    pub async fn start() -> anyhow::Result<Self> {
        let (sender, messages) = mpsc::unbounded_channel();
        let router = Router::new().route("/services/hook", post(take)).with_state(Arc::new(sender));
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port")?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, messages, kept: Vec::new(), server })
    }

    /// The URL of its incoming webhook.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/services/hook", self.address)
    }

    /// The next message whose title contains both words. Others are kept for whoever asks for them.
    ///
    /// # Errors
    /// If none comes in time; the error has those that did.
    pub async fn message(&mut self, words: [&str; 2]) -> anyhow::Result<Message> {
        let is_wanted = |message: &Message| words.iter().all(|word| message.title().contains(word));
        if let Some(place) = self.kept.iter().position(is_wanted) {
            return Ok(self.kept.remove(place));
        }
        let wait = async {
            while let Some(value) = self.messages.recv().await {
                let message = Message(value);
                if is_wanted(&message) {
                    return Some(message);
                }
                self.kept.push(message);
            }
            None
        };
        let found = tokio::time::timeout(PATIENCE, wait).await.ok().flatten();
        let others: Vec<&str> = self.kept.iter().map(Message::title).collect();
        found.with_context(|| format!("no message with {words:?}, but {others:#?}"))
    }
}

impl Drop for Slack {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(
    State(messages): State<Arc<mpsc::UnboundedSender<Value>>>,
    Json(message): Json<Value>,
) -> &'static str {
    let _ = messages.send(message);
    "ok"
}

/// A message as it was posted.
#[derive(Debug)]
pub struct Message(Value);

impl Message {
    /// Where it belongs.
    #[must_use]
    pub fn channel(&self) -> &str {
        self.0["channel"].as_str().unwrap_or_default()
    }

    /// Its one line.
    #[must_use]
    pub fn title(&self) -> &str {
        self.field("title")
    }

    /// What is below.
    #[must_use]
    pub fn text(&self) -> &str {
        self.field("text")
    }

    /// The colour at its side.
    #[must_use]
    pub fn color(&self) -> &str {
        self.field("color")
    }

    fn field(&self, name: &str) -> &str {
        self.0["attachments"][0][name].as_str().unwrap_or_default()
    }
}
