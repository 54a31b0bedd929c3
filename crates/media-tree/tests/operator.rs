//! The commands for operators, as processes, against the operator API of a real controller.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use controller::{Controller, Declared, FrontDoor, Identity};
use model::{NodeId, TreeId};
use registry::{Assignment, NodeRecord, Registry, SlotsRecord};
use serde_json::{Value, json};
use store::{Embedded, Sealer, Write};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const TOKEN: &str = "SECRET-OF-OPERATORS";
/// Longer than a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(30);

struct Installation {
    registry: Registry,
    api: SocketAddr,
}

/// A controller over an embedded store, and its API behind a token.
async fn installation() -> Installation {
    let registry = Registry::new(Arc::new(Embedded::in_memory()));
    let tree = TreeId::new("main").expect("an id");
    let declared = Arc::new(Declared::new(registry.clone(), Sealer::new(b"cluster")));
    let following = declared.clone();
    tokio::spawn(async move { following.follow(true).await });
    let front_door = FrontDoor::new(registry.clone(), tree.clone(), "eu".into(), declared);
    let identity = Identity {
        id: NodeId::new("controller-1").expect("an id"),
        candidate: 7,
        is_alone: true,
        default_tree: tree,
    };
    let (controller, handle) = Controller::new(registry.clone(), identity, Arc::new(front_door));
    tokio::spawn(controller.run(std::future::pending()));
    let router = controller::api::router(handle).layer(middleware::from_fn(authorized));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let api = listener.local_addr().expect("its address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    Installation { registry, api }
}

async fn authorized(request: Request, next: Next) -> Response {
    let expected = format!("Bearer {TOKEN}");
    if request.headers().get(header::AUTHORIZATION).is_some_and(|value| value == expected.as_str()) {
        return next.run(request).await;
    }
    StatusCode::UNAUTHORIZED.into_response()
}

/// Runs the program; `variables` are all that it finds of ours in its environment.
async fn media_tree(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_media-tree"));
    command.env_remove("MEDIA_TREE_API").env_remove("MEDIA_TREE_OPERATOR_TOKEN");
    command.args(arguments).envs(variables.iter().copied()).output().await.expect("the program runs")
}

impl Installation {
    async fn run(&self, arguments: &[&str]) -> Output {
        let api = format!("http://{}", self.api);
        media_tree(arguments, &[("MEDIA_TREE_API", &api), ("MEDIA_TREE_OPERATOR_TOKEN", TOKEN)]).await
    }

    /// What a command prints that does its work.
    async fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Repeats a command until what it prints contains `part`.
    async fn until(&self, arguments: &[&str], part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.ok(arguments).await;
            if text.contains(part) {
                return text;
            }
            assert!(Instant::now() < deadline, "{arguments:?}: no {part:?} in {text}");
        }
    }

    /// The code and the words of a command that fails: one line, and nothing else.
    async fn refused(&self, arguments: &[&str]) -> (i32, String) {
        refusal(&self.run(arguments).await)
    }
}

fn refusal(output: &Output) -> (i32, String) {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code().expect("an exit code"), words)
}

fn node(id: &str) -> NodeRecord {
    serde_json::from_value(json!({
        "node": id, "tree": "main", "role": "egress", "incarnation": { "counter": 1, "random": 2 }, "report": 1,
        "region": "eu", "zone": null, "host": "rack7", "link": null, "url": "http://198.18.0.9:8080", "ops": null,
        "state": "ready", "capacity": { "viewers": 1000, "publishers": 0, "children": 0 },
        "load": {
            "viewers": 412, "publishers": 0, "children": 0, "cpu_percent": 31.0, "shard_percent": 40.0,
            "transmit_mbps": 1030.0, "packets_per_second": 148_000.0
        },
        "parents": [], "broadcasts": [{ "broadcast": "demo", "viewers": 412 }], "version": "0.1.0"
    }))
    .expect("a node record")
}

#[tokio::test]
async fn slots_are_shown_and_what_waits_for_an_operator_is_allowed() {
    let installation = installation().await;
    let none = installation.ok(&["tree", "slots"]).await;
    assert_eq!(none, "There are no slots.\n");
    let record: SlotsRecord = serde_json::from_value(json!({
        "tree": "main", "term": 0, "slots": [
            { "number": 0, "state": "attached", "since": 1, "place": "process.rack7", "failures": 0, "drain": 0,
              "nodes": [{ "node": "relay-1", "role": "relay" }, { "node": "egress-1", "role": "egress" }],
              "proposal": { "change": "shrink", "is_approved": false, "reason": "few watch" } },
        ]
    }))
    .expect("slots");
    installation.registry.put(&record, Write::any()).await.expect("written");
    let shown = installation.until(&["tree", "slots", "main"], "attached").await;
    assert!(shown.starts_with("TREE ") && shown.contains("shrink: few watch"), "{shown}");
    assert_eq!(installation.ok(&["tree", "slots", "other"]).await, "There are no slots.\n");
    let (code, words) = installation.refused(&["tree", "approve", "main", "0", "grow"]).await;
    assert!(code == 1 && words.contains("does not wait"), "{words}");
    let allowed = installation.ok(&["tree", "approve", "main", "0", "shrink"]).await;
    assert_eq!(allowed, "Slot 0 of main may shrink.\n");
    let approved = installation.until(&["tree", "slots", "--json"], "\"is_approved\": true").await;
    assert!(approved.contains("\"few watch\""), "{approved}");
}

/// The record of a node that stands on a host of its own.
fn node_of(tree: &str, (name, role): (&str, &str), report: u64) -> NodeRecord {
    let mut record = serde_json::to_value(node(name)).expect("JSON");
    let children = if role == "egress" { 0 } else { 64 };
    for (key, value) in [
        ("tree", json!(tree)),
        ("role", json!(role)),
        ("report", json!(report)),
        ("host", json!(name)),
        ("link", json!("198.18.0.9:51000")),
        ("capacity", json!({ "viewers": 1000, "publishers": 10, "children": children })),
    ] {
        record[key] = value;
    }
    serde_json::from_value(record).expect("a node record")
}

#[tokio::test]
async fn trees_are_made_shown_and_deleted() {
    let installation = installation().await;
    let made = installation.ok(&["tree", "create", "small", "--template", "minimal", "--egress", "3"]).await;
    assert_eq!(made, "The tree small is made.\n");
    let list = installation.until(&["tree", "list"], "small").await;
    assert!(list.starts_with("TREE "), "{list}");
    let shown: Value =
        serde_json::from_str(&installation.ok(&["tree", "show", "small", "--json"]).await).expect("JSON");
    assert_eq!((&shown["template"], &shown["shape"]["egress"]), (&json!("minimal"), &json!(3)));
    let shown = installation.ok(&["tree", "show", "small"]).await;
    assert!(shown.contains("0 of 3 egress") && shown.ends_with("There are no nodes.\n"), "{shown}");

    let again = installation.refused(&["tree", "create", "small"]).await;
    assert_eq!(again, (1, "media-tree: There is a tree named small already.\n".into()));
    let (code, words) = installation.refused(&["tree", "create", "empty", "--egress", "0"]).await;
    assert!(code == 1 && words.lines().count() == 1, "{words}");
    installation.ok(&["tree", "delete", "small"]).await;
    let gone = installation.refused(&["tree", "delete", "small"]).await;
    assert_eq!(gone, (1, "media-tree: There is no tree named small.\n".into()));
}

#[tokio::test]
async fn a_tree_is_made_from_a_template_of_ones_own_and_grows_as_that_says() {
    let installation = installation().await;
    let folder = tempfile::tempdir().expect("a folder");
    let write = |text: &str| {
        let path = folder.path().join("gala.toml");
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("text").to_owned()
    };
    let file = write(
        "# For the gala.\nname = \"gala\"\nbased_on = \"minimal\"\nrelay = 3\npaths = 1\nstandbys = 1\n\
         direct_children_max = 0\nrelay_levels_max = 1\nrelay_children_max = 24\n",
    );
    installation.ok(&["tree", "create", "friday", "--template-file", &file, "--egress", "2"]).await;
    let shown = installation.until(&["tree", "list"], "friday").await;
    assert!(shown.contains("gala"), "{shown}");
    let shown = installation.ok(&["tree", "show", "friday"]).await;
    for part in [
        "template    gala\n",
        "wanted      0 of 1 injection, 0 of 3 relay, 0 of 2 egress\n",
        "parents     1 at once, 1 on standby\n",
        "relays      always, at most 1 in a row, at most 24 children each\n",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }

    // Nodes of it come, and are placed as the template says: even the one egress has relays, one in use, one standing by.
    let deadline = Instant::now() + PATIENCE;
    let mut report = 0;
    loop {
        report += 1;
        for (name, role) in
            [("in", "injection"), ("relay-1", "relay"), ("relay-2", "relay"), ("out", "egress")]
        {
            let record = node_of("friday", (name, role), report);
            installation.registry.put(&record, Write::any()).await.expect("stored");
        }
        let found = installation.registry.get::<Assignment>("out").await.expect("the store answers");
        let status = installation.ok(&["status"]).await;
        let parents = found.as_ref().map_or(&[][..], |found| &found.record.parents);
        let is_relayed = parents.iter().all(|parent| parent.node.as_str().starts_with("relay-"));
        let is_placed =
            parents.len() == 2 && is_relayed && found.is_some_and(|found| found.record.paths == 1);
        if is_placed && status.contains("tree friday has 2 of the 3 relay nodes that its template wants") {
            break;
        }
        assert!(Instant::now() < deadline, "{status}");
    }

    for (text, code, words) in [
        ("name = \"gala\"\npath = 1\n", 1, "The template gala: unknown field `path`"),
        ("name = \"gala\"\npaths = 5\n", 1, "paths is 1 to 4"),
        ("paths = 1\n", 1, "\"name\" is a text that is needed"),
        ("name = \"gala\"\nrelay_levels_max = 0\n", 1, "relay_levels_max is 0"),
        ("name = \"gala\"\npaths = \n", 64, "line 2:"),
    ] {
        let file = write(text);
        let (got, told) = installation.refused(&["tree", "create", "other", "--template-file", &file]).await;
        assert!(got == code && told.contains(words) && told.lines().count() == 1, "{text}: {got} {told}");
    }
    let (code, told) =
        installation.refused(&["tree", "create", "other", "--template-file", "/nowhere"]).await;
    assert!(code == 64 && told.contains("--template-file /nowhere"), "{told}");
}

#[tokio::test]
async fn nodes_are_listed_and_drained_and_the_order_is_taken_back() {
    let installation = installation().await;
    installation.registry.put(&node("egress-1"), Write::any()).await.expect("stored");
    let list = installation.until(&["node", "list"], "egress-1").await;
    assert!(list.contains("412/1000"), "{list}");
    let json: Value =
        serde_json::from_str(&installation.ok(&["node", "list", "--json"]).await).expect("JSON");
    assert_eq!(json[0]["id"], "egress-1");
    assert_eq!(installation.ok(&["node", "list", "--tree", "other"]).await, "There are no nodes.\n");

    installation.ok(&["node", "drain", "egress-1", "--deadline", "1500ms"]).await;
    let order = || async {
        let found = installation.registry.get::<Assignment>("egress-1").await.expect("the store answers");
        found.and_then(|found| found.record.drain).map(|drain| drain.deadline_secs)
    };
    assert_eq!(order().await, Some(2));
    installation.until(&["node", "show", "egress-1"], "drain ordered  within 2 s").await;
    installation.ok(&["node", "undrain", "egress-1"]).await;
    assert_eq!(order().await, None);

    let unknown = installation.refused(&["node", "drain", "egress-9"]).await;
    assert_eq!(unknown, (1, "media-tree: There is no node named egress-9.\n".into()));
    let (code, words) = installation.refused(&["node", "drain", "egress-1", "--deadline", "48h"]).await;
    assert!(code == 1 && words.contains("deadline"), "{words}");
}

#[tokio::test]
async fn every_list_can_be_read_by_people_and_machines() {
    let installation = installation().await;
    installation.registry.put(&node("egress-1"), Write::any()).await.expect("stored");
    let status = installation.until(&["status"], "controller-1").await;
    assert!(status.contains("store          up\n"), "{status}");
    assert_eq!(installation.ok(&["broadcast", "list"]).await, "There are no broadcasts.\n");
    assert_eq!(installation.ok(&["viewer", "list"]).await, "There are no broadcasts.\n");
    for list in
        [&["broadcast", "list", "--json"][..], &["viewer", "list", "--json"], &["decisions", "--json"]]
    {
        let text = installation.ok(list).await;
        assert!(serde_json::from_str::<Vec<Value>>(&text).is_ok(), "{list:?}: {text}");
    }
    installation.ok(&["decisions"]).await;
}

#[tokio::test]
async fn what_a_publisher_could_do_better_is_shown_with_its_broadcast() {
    let installation = installation().await;
    installation.ok(&["broadcast", "create", "friday"]).await;
    installation.until(&["broadcast", "list"], "friday").await;
    let well = installation.ok(&["broadcast", "show", "friday"]).await;
    assert!(!well.contains("better"), "{well}");
    let advice = registry::Advice {
        broadcast: "friday".parse().expect("an id"),
        code: "b-frames".into(),
        severity: "problem".into(),
        what: "The picture has B-frames.".into(),
        remedy: "Set B-frames to 0.".into(),
    };
    let record = NodeRecord { advice: vec![advice], ..node("injection-1") };
    installation.registry.put(&record, Write::any()).await.expect("stored");
    let shown = installation.until(&["broadcast", "show", "friday"], "better").await;
    let expected =
        "\nWhat could be better:\n\nproblem (b-frames): The picture has B-frames.\n  Set B-frames to 0.\n";
    assert!(shown.ends_with(expected), "{shown}");
    let json = installation.ok(&["broadcast", "show", "friday", "--json"]).await;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["advice"][0]["code"], "b-frames");
}

#[tokio::test]
async fn a_broadcast_is_made_its_key_read_changed_and_taken_back() {
    let installation = installation().await;
    let made = installation.ok(&["broadcast", "create", "friday"]).await;
    let key = installation.ok(&["broadcast", "key", "friday"]).await;
    assert!(made.contains(key.trim()) && made.contains("/whip/friday"), "{made}");
    let shown = installation.until(&["broadcast", "list"], "friday").await;
    assert!(shown.contains("waiting") && !shown.contains(key.trim()), "{shown}");
    let shown = installation.ok(&["broadcast", "show", "friday"]).await;
    assert!(shown.contains("main") && !shown.contains(key.trim()), "{shown}");
    let changed = installation.ok(&["broadcast", "key", "friday", "--change"]).await;
    assert_ne!(key, changed);
    assert_eq!(installation.ok(&["broadcast", "key", "friday"]).await, changed);
    let twice = installation.refused(&["broadcast", "create", "friday"]).await;
    assert_eq!(twice, (1, "media-tree: There is a broadcast named friday already.\n".into()));
    let (code, words) = installation.refused(&["broadcast", "create", "gala", "--tree", "elsewhere"]).await;
    assert!(code == 1 && words.contains("no tree named elsewhere"), "{words}");
    installation.ok(&["broadcast", "delete", "friday"]).await;
    let (code, words) = installation.refused(&["broadcast", "key", "friday"]).await;
    assert!(code == 1 && words.contains("friday"), "{words}");
}

#[tokio::test]
async fn what_goes_wrong_is_one_line_and_an_exit_code() {
    let installation = installation().await;
    let api = format!("http://{}", installation.api);
    for (arguments, code, part) in [
        (&["node", "list", "--api", &api][..], 1, "MEDIA_TREE_OPERATOR_TOKEN"),
        (&["node", "list", "--api", &api, "--token", "WRONG"], 1, "MEDIA_TREE_OPERATOR_TOKEN"),
        // Nobody listens on the port that is reserved for nothing.
        (&["node", "list", "--api", "http://127.0.0.1:1"], 1, "no answer from http://127.0.0.1:1: "),
        (&["node", "list", "--api", "localhost"], 64, "http://HOST:PORT"),
    ] {
        let (actual, words) = refusal(&media_tree(arguments, &[]).await);
        assert_eq!(actual, code, "{arguments:?}: {words}");
        assert!(words.contains(part) && words.lines().count() == 1, "{arguments:?}: {words}");
    }
    let (code, words) = refusal(&media_tree(&["node", "show", "Not A Name"], &[]).await);
    assert!(code == 64 && words.contains("Not A Name"), "{words}");
}

#[tokio::test]
async fn a_controller_behind_tls_is_asked_when_its_certificate_is_trusted() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, certified.cert.pem()).expect("written");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .expect("a key for its certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not trust the certificate hangs up.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]").await;
            let _ = stream.shutdown().await;
        }
    });
    let api = format!("https://localhost:{port}");
    let ca_file = ca_file.to_str().expect("a name");
    let trusted = media_tree(&["node", "list", "--api", &api, "--ca-file", ca_file], &[]).await;
    assert_eq!(String::from_utf8_lossy(&trusted.stdout), "There are no nodes.\n", "{trusted:?}");
    let (code, words) = refusal(&media_tree(&["node", "list", "--api", &api], &[]).await);
    assert!(code == 1 && words.lines().count() == 1, "{words}");
}
