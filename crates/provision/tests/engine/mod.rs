//! A Docker engine that runs nothing: it keeps containers as its API shows them, and errs as it is told.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::serve::Listener;
use provision::docker::Address;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What a call does instead of what it should.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Does nothing and answers so.
    Answers(u16, &'static str),
    /// Does what it should, and never answers.
    Hangs,
}

/// A container.
#[derive(Debug, Clone)]
struct Held {
    name: String,
    /// What it was made of.
    create: Value,
    archive: Vec<u8>,
    state: &'static str,
    exit_code: i64,
}

#[derive(Default)]
struct Machine {
    containers: BTreeMap<String, Held>,
    faults: BTreeMap<&'static str, Fault>,
    calls: Vec<&'static str>,
}

/// What is behind a listener.
pub struct Daemon {
    machine: Mutex<Machine>,
    called: Notify,
    /// The oldest and the newest version that it speaks.
    versions: (&'static str, &'static str),
}

impl Daemon {
    pub fn new(versions: (&'static str, &'static str)) -> Arc<Self> {
        Arc::new(Self { machine: Mutex::default(), called: Notify::new(), versions })
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names and states of all containers, by name.
    pub fn containers(&self) -> Vec<(String, &'static str)> {
        let machine = self.machine();
        let mut all: Vec<_> =
            machine.containers.values().map(|held| (held.name.clone(), held.state)).collect();
        all.sort();
        all
    }

    /// What a container was made of, and what was put into it.
    pub fn of(&self, name: &str) -> (Value, Vec<u8>) {
        let machine = self.machine();
        let held = machine.containers.values().find(|held| held.name == name).expect("it is there");
        (held.create.clone(), held.archive.clone())
    }

    /// Puts a container there that nobody asked for.
    pub fn plant(&self, name: &str, create: Value, state: &'static str) {
        self.machine().hold(Held { name: name.to_owned(), create, archive: Vec::new(), state, exit_code: 0 });
    }

    /// A container's process is killed.
    pub fn kill(&self, name: &str) {
        let mut machine = self.machine();
        let held = machine.containers.values_mut().find(|held| held.name == name).expect("it is there");
        (held.state, held.exit_code) = ("exited", 137);
    }

    /// From now on this call goes wrong.
    pub fn fail(&self, call: &'static str, fault: Fault) {
        self.machine().faults.insert(call, fault);
    }

    /// All calls do what they should.
    pub fn heal(&self) {
        self.machine().faults.clear();
    }

    /// How often it was called so.
    pub fn calls(&self, call: &str) -> usize {
        self.machine().calls.iter().filter(|made| **made == call).count()
    }

    /// Waits until it has been called so, so often.
    pub async fn until_called(&self, call: &str, times: usize) {
        loop {
            let called = self.called.notified();
            if self.calls(call) >= times {
                return;
            }
            called.await;
        }
    }

    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a whole request");
        let query = Query::<BTreeMap<String, String>>::try_from_uri(&parts.uri).map(|Query(query)| query);
        let path = parts.uri.path();
        let Some(path) = self.of_version(path) else {
            return said(
                StatusCode::BAD_REQUEST,
                &json!({ "message": format!("{path}: no version of mine") }),
            );
        };
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let (call, id) = match (&parts.method, &segments[..]) {
            (&Method::GET, ["version"]) => ("version", ""),
            (&Method::GET, ["containers", "json"]) => ("list", ""),
            (&Method::POST, ["containers", "create"]) => ("create", ""),
            (&Method::GET, ["containers", id, "json"]) => ("inspect", *id),
            (&Method::PUT, ["containers", id, "archive"]) => ("upload", *id),
            (&Method::POST, ["containers", id, "start"]) => ("start", *id),
            (&Method::POST, ["containers", id, "stop"]) => ("stop", *id),
            (&Method::GET, ["containers", id, "logs"]) => ("logs", *id),
            (&Method::DELETE, ["containers", id]) => ("remove", *id),
            _ => panic!("no engine has {} {path}", parts.method),
        };
        let fault = self.machine().faults.get(call).copied();
        let response = match fault {
            Some(Fault::Answers(status, text)) => {
                response(StatusCode::from_u16(status).expect("a status"), Body::from(text))
            }
            Some(Fault::Hangs) | None if call == "version" => said(
                StatusCode::OK,
                &json!({ "MinAPIVersion": self.versions.0, "ApiVersion": self.versions.1 }),
            ),
            Some(Fault::Hangs) | None => self.machine().does((call, id), &query.expect("a query"), body),
        };
        self.machine().calls.push(call);
        self.called.notify_waiters();
        if matches!(fault, Some(Fault::Hangs)) {
            std::future::pending::<()>().await;
        }
        response
    }

    /// The path behind the version; `None` for one that is not spoken here.
    fn of_version<'a>(&self, path: &'a str) -> Option<&'a str> {
        if path == "/version" {
            return Some(path);
        }
        let number = |version: &str| {
            let (major, minor) = version.split_once('.').expect("a version");
            (major.parse::<u32>().expect("a number"), minor.parse::<u32>().expect("a number"))
        };
        let (version, _) = path.strip_prefix("/v")?.split_once('/')?;
        let is_spoken = (number(self.versions.0)..=number(self.versions.1)).contains(&number(version));
        is_spoken.then(|| &path["/v".len() + version.len()..])
    }
}

impl Machine {
    fn hold(&mut self, held: Held) -> String {
        // As Docker's are: no two alike, on whatever engine.
        static MADE: AtomicU64 = AtomicU64::new(1);
        let id = format!("{:064x}", MADE.fetch_add(1, Ordering::Relaxed));
        self.containers.insert(id.clone(), held);
        id
    }

    fn does(&mut self, (call, id): (&str, &str), query: &BTreeMap<String, String>, body: Bytes) -> Response {
        let is_it = |(key, held): &(&String, &Held)| **key == id || held.name == id;
        let found = self.containers.iter().find(is_it).map(|(key, _)| key.clone());
        match (call, found) {
            ("list", _) => said(StatusCode::OK, &self.list(query)),
            ("create", _) => self.create(query, &body),
            (_, None) => {
                said(StatusCode::NOT_FOUND, &json!({ "message": format!("No such container: {id}") }))
            }
            ("remove", Some(id)) => {
                self.containers.remove(&id);
                response(StatusCode::NO_CONTENT, Body::empty())
            }
            (_, Some(id)) => {
                let held = self.containers.get_mut(&id).expect("it was found");
                held.does((call, id.as_str()), query, body)
            }
        }
    }

    fn create(&mut self, query: &BTreeMap<String, String>, body: &[u8]) -> Response {
        let (name, create) = (query["name"].clone(), serde_json::from_slice(body).expect("JSON"));
        if self.containers.values().any(|held| held.name == name) {
            let message = format!("Conflict. The container name \"/{name}\" is already in use");
            return said(StatusCode::CONFLICT, &json!({ "message": message }));
        }
        let held = Held { name, create, archive: Vec::new(), state: "created", exit_code: 0 };
        said(StatusCode::CREATED, &json!({ "Id": self.hold(held), "Warnings": [] }))
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Value {
        let filters: Value = serde_json::from_str(&query["filters"]).expect("JSON");
        let labels = filters["label"].as_array().expect("labels");
        let has_them = |held: &&Held| labels.iter().all(|label| has_label(&held.create, label));
        let is_wanted = |held: &&Held| query["all"] == "true" || held.state == "running";
        let entry = |(id, held): (&String, &Held)| {
            json!({
                "Id": id, "Names": [format!("/{}", held.name)], "Labels": held.create["Labels"],
                "State": held.state, "Status": format!("{} ({})", held.state, held.exit_code),
            })
        };
        let all = self.containers.iter().filter(|(_, held)| has_them(held) && is_wanted(held));
        all.map(entry).collect()
    }
}

fn has_label(create: &Value, label: &Value) -> bool {
    label.as_str().is_some_and(|label| create["Labels"].get(label).is_some())
}

impl Held {
    fn does(&mut self, (call, id): (&str, &str), query: &BTreeMap<String, String>, body: Bytes) -> Response {
        let nothing = |status| response(status, Body::empty());
        match call {
            "inspect" => said(
                StatusCode::OK,
                &json!({
                    "Id": id, "Name": format!("/{}", self.name), "Config": self.create,
                    "State": { "Status": self.state, "ExitCode": self.exit_code, "OOMKilled": false },
                }),
            ),
            "upload" => {
                assert_eq!(query["path"], "/");
                self.archive = body.into();
                nothing(StatusCode::OK)
            }
            "start" if self.state == "running" => nothing(StatusCode::NOT_MODIFIED),
            "start" => {
                let is_configured = self.archive.starts_with(b"media-tree/");
                let crashes = self.name.starts_with("media-tree-crash") || !is_configured;
                (self.state, self.exit_code) = if crashes { ("exited", 7) } else { ("running", 0) };
                nothing(StatusCode::NO_CONTENT)
            }
            "stop" if self.state != "running" => nothing(StatusCode::NOT_MODIFIED),
            "stop" => {
                assert!(query["t"].parse::<u32>().is_ok_and(|seconds| seconds > 0), "{query:?}");
                (self.state, self.exit_code) = ("exited", 0);
                nothing(StatusCode::NO_CONTENT)
            }
            "logs" => response(StatusCode::OK, Body::from(&b"\x02\0\0\0\0\0\0\x05last\n"[..])),
            other => panic!("{other}"),
        }
    }
}

fn said(status: StatusCode, body: &Value) -> Response {
    response(status, Body::from(body.to_string()))
}

fn response(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    // A daemon that ends takes its connections along.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn answer(State(daemon): State<Arc<Daemon>>, request: Request) -> Response {
    daemon.answer(request).await
}

/// Serves an engine wherever that is.
pub fn serve<L>(listener: L, daemon: &Arc<Daemon>) -> JoinHandle<()>
where
    L: Listener,
    L::Addr: Debug,
{
    let router = Router::new().fallback(answer).with_state(daemon.clone());
    tokio::spawn(async move {
        let _ = axum::serve(listener, router).await;
    })
}

/// An engine at a socket of this machine.
pub struct Engine {
    pub daemon: Arc<Daemon>,
    folder: tempfile::TempDir,
    task: JoinHandle<()>,
}

impl Engine {
    pub fn start() -> Self {
        Self::of(("1.24", "1.41"))
    }

    pub fn of(versions: (&'static str, &'static str)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let daemon = Daemon::new(versions);
        let task = serve(UnixListener::bind(folder.path().join("engine")).expect("bound"), &daemon);
        Self { daemon, folder, task }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("engine")
    }

    pub fn address(&self) -> Address {
        Address::Unix(self.socket())
    }

    /// The daemon ends; what it runs goes on.
    pub async fn go(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        std::fs::remove_file(self.socket()).expect("it was there");
    }

    /// The daemon is started again.
    pub fn come_back(&mut self) {
        self.task = serve(UnixListener::bind(self.socket()).expect("bound"), &self.daemon);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
    }
}
