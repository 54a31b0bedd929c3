//! The websocket to a browser: commands, their answers, and what pages complain about meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

/// A command that takes longer has gone astray.
const CALL_MAX: Duration = Duration::from_secs(90);

/// Commands to one browser.
pub(super) struct Connection {
    commands: mpsc::UnboundedSender<Message>,
    next_id: AtomicU64,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    waiting: BTreeMap<u64, oneshot::Sender<Value>>,
    /// Session or page, and what it said.
    complaints: Vec<(String, String)>,
}

impl Connection {
    pub(super) async fn open(address: &str) -> anyhow::Result<Arc<Self>> {
        let (socket, _response) = tokio_tungstenite::connect_async(address)
            .await
            .with_context(|| format!("connect to {address}"))?;
        let (mut sink, mut stream) = socket.split();
        let (commands, mut queue) = mpsc::unbounded_channel::<Message>();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let reading = shared.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let Message::Text(text) = message else { continue };
                if let Ok(value) = serde_json::from_str(&text) {
                    reading.lock().unwrap_or_else(PoisonError::into_inner).handle(value);
                }
            }
            // Whoever still waits learns at once that there is no browser any more.
            reading.lock().unwrap_or_else(PoisonError::into_inner).waiting.clear();
        });
        tokio::spawn(async move {
            while let Some(message) = queue.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        });
        Ok(Arc::new(Self { commands, next_id: AtomicU64::new(1), shared }))
    }

    /// A command to the browser as a whole.
    pub(super) async fn call(&self, method: &str, parameters: Value) -> anyhow::Result<Value> {
        self.send(method, json!({ "method": method, "params": parameters })).await
    }

    /// A command to one DevTools session.
    pub(super) async fn call_session(
        &self,
        session: &str,
        method: &str,
        parameters: Value,
    ) -> anyhow::Result<Value> {
        self.send(method, json!({ "sessionId": session, "method": method, "params": parameters })).await
    }

    async fn send(&self, method: &str, mut command: Value) -> anyhow::Result<Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        command["id"] = id.into();
        let (sender, answer) = oneshot::channel();
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).waiting.insert(id, sender);
        self.commands.send(Message::text(command.to_string())).map_err(|_| anyhow!("the browser is gone"))?;
        let answer =
            tokio::time::timeout(CALL_MAX, answer).await.with_context(|| format!("{method}: no answer"))?;
        let mut answer = answer.with_context(|| format!("{method}: the browser is gone"))?;
        // DevTools: {"error": {"message": ...}}; BiDi: {"error": "...", "message": "..."}.
        if let Some(error) = answer.get("error") {
            let message = error.get("message").or_else(|| answer.get("message")).unwrap_or(error);
            return Err(anyhow!("{method}: {message}"));
        }
        Ok(answer["result"].take())
    }

    pub(super) fn complaints(&self, session: &str) -> Vec<String> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.complaints.iter().filter(|(of, _)| of == session).map(|(_, text)| text.clone()).collect()
    }
}

impl Shared {
    fn handle(&mut self, message: Value) {
        if let Some(id) = message["id"].as_u64() {
            if let Some(waiting) = self.waiting.remove(&id) {
                let _ = waiting.send(message);
            }
            return;
        }
        let parameters = &message["params"];
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                let details = &parameters["exceptionDetails"];
                Some(details.pointer("/exception/description").unwrap_or(&details["text"]))
            }
            Some("Log.entryAdded") if parameters["entry"]["level"] == "error" => {
                Some(&parameters["entry"]["text"])
            }
            Some("log.entryAdded") if parameters["level"] == "error" => Some(&parameters["text"]),
            _ => None,
        };
        let session = message["sessionId"].as_str().or_else(|| parameters["source"]["context"].as_str());
        if let (Some(complaint), Some(session)) = (complaint, session) {
            let text = complaint.as_str().map_or_else(|| complaint.to_string(), str::to_owned);
            self.complaints.push((session.to_owned(), text));
        }
    }
}
