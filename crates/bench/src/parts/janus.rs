//! The Janus API over its WebSocket: one session, one plugin handle for each viewer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A request that is not answered in this time has failed.
const PATIENCE: Duration = Duration::from_secs(15);
/// Below the 60 s after which Janus ends a silent session.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const PLUGIN: &str = "janus.plugin.streaming";

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A request under way. A plugin first acknowledges, then answers; a trickle is only acknowledged.
struct Waiting {
    ends_with_ack: bool,
    answer: oneshot::Sender<Value>,
}

#[derive(Default)]
struct Pending {
    next: u64,
    waiting: BTreeMap<String, Waiting>,
}

/// One session with Janus. Its plugin handles end with the connection.
pub struct Janus {
    sender: tokio::sync::Mutex<SplitSink<Socket, Message>>,
    pending: Mutex<Pending>,
    session: OnceLock<u64>,
}

impl Janus {
    /// Opens a session and keeps it alive.
    pub async fn connect(url: &str) -> anyhow::Result<Arc<Self>> {
        let mut request = url.into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", "janus-protocol".try_into()?);
        let (socket, _response) = tokio_tungstenite::connect_async(request).await?;
        let (sender, receiver) = socket.split();
        let sender = tokio::sync::Mutex::new(sender);
        let janus = Arc::new(Self { sender, pending: Mutex::default(), session: OnceLock::new() });
        tokio::spawn(janus.clone().read(receiver));
        let created = janus.ask(json!({ "janus": "create" }), false).await?;
        let session = created["data"]["id"].as_u64().context("Janus creates no session")?;
        janus.session.get_or_init(|| session);
        tokio::spawn(janus.clone().stay_alive());
        Ok(janus)
    }

    /// A new viewer of a mountpoint: its handle and the offer that Janus makes it.
    pub async fn watch(&self, mountpoint: u64) -> anyhow::Result<(u64, String)> {
        let attached = self.ask(json!({ "janus": "attach", "plugin": PLUGIN }), false).await?;
        let handle = attached["data"]["id"].as_u64().context("Janus attaches no plugin")?;
        let body = json!({ "request": "watch", "id": mountpoint });
        let request = json!({ "janus": "message", "handle_id": handle, "body": body });
        let offered = self.ask(request, false).await?;
        let offer = offered["jsep"]["sdp"].as_str().with_context(|| format!("no offer: {offered}"))?;
        Ok((handle, offer.to_owned()))
    }

    /// The viewer's answer: media may start.
    pub async fn start(&self, handle: u64, answer: &str) -> anyhow::Result<()> {
        let jsep = json!({ "type": "answer", "sdp": answer });
        let body = json!({ "request": "start" });
        let request = json!({ "janus": "message", "handle_id": handle, "body": body, "jsep": jsep });
        let started = self.ask(request, false).await?;
        ensure!(started["plugindata"]["data"]["error"].is_null(), "not started: {started}");
        let completed = json!({ "completed": true });
        self.ask(json!({ "janus": "trickle", "handle_id": handle, "candidate": completed }), true).await?;
        Ok(())
    }

    /// The viewer leaves.
    pub async fn leave(&self, handle: u64) -> anyhow::Result<()> {
        self.ask(json!({ "janus": "detach", "handle_id": handle }), false).await.map(drop)
    }

    async fn ask(&self, mut request: Value, ends_with_ack: bool) -> anyhow::Result<Value> {
        let (answer, answered) = oneshot::channel();
        let transaction = {
            let mut pending = self.pending();
            pending.next += 1;
            let transaction = pending.next.to_string();
            pending.waiting.insert(transaction.clone(), Waiting { ends_with_ack, answer });
            transaction
        };
        request["transaction"] = transaction.clone().into();
        if let Some(session) = self.session.get() {
            request["session_id"] = (*session).into();
        }
        self.sender.lock().await.send(Message::text(request.to_string())).await?;
        let answered = tokio::time::timeout(PATIENCE, answered).await;
        self.pending().waiting.remove(&transaction);
        let answer = answered.context("Janus does not answer")?.context("Janus hung up")?;
        ensure!(answer["janus"] != "error", "Janus refuses: {}", answer["error"]);
        Ok(answer)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(self: Arc<Self>, mut receiver: SplitStream<Socket>) {
        while let Some(Ok(message)) = receiver.next().await {
            let Ok(text) = message.to_text() else { continue };
            let Ok(message) = serde_json::from_str::<Value>(text) else { continue };
            let Some(transaction) = message["transaction"].as_str() else { continue };
            let is_ack = message["janus"] == "ack";
            let mut pending = self.pending();
            let is_answer =
                pending.waiting.get(transaction).is_some_and(|waiting| !is_ack || waiting.ends_with_ack);
            if is_answer && let Some(waiting) = pending.waiting.remove(transaction) {
                let _ = waiting.answer.send(message);
            }
        }
        // Whoever still waits learns that nothing will come.
        self.pending().waiting.clear();
    }

    async fn stay_alive(self: Arc<Self>) {
        loop {
            tokio::time::sleep(KEEP_ALIVE).await;
            if let Err(error) = self.ask(json!({ "janus": "keepalive" }), true).await {
                eprintln!("keep-alive: {error:#}");
                return;
            }
        }
    }
}
