//! Nodes as containers: the promises of every adapter, and engines that answer badly, late, differently, or no more.

mod contract;
mod engine;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::{PATIENCE, all, spec, stop, until};
use engine::{Daemon, Engine, Fault, serve};
use model::Role;
use provision::docker::{self, Address, Containers, File, Options};
use provision::{NodeSpec, Phase, Provisioner, StartError};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const HERE: &str = "docker.here";
const NODES_MAX: u16 = 3;

fn options(place: &str, addresses: Vec<Address>) -> Options {
    let engine = |(number, address): (usize, Address)| docker::Engine {
        name: format!("machine-{number}"),
        address,
        nodes_max: NODES_MAX,
    };
    Options {
        engines: addresses.into_iter().enumerate().map(engine).collect(),
        image: "media-tree:test".into(),
        first_port: 20_000,
        shards: 2,
        stop_within: Duration::from_secs(5),
        configure: Box::new(|spec, ports, engine| {
            let text = format!("a-secret of {} at {} on {engine}", spec.node, ports.http);
            Ok(vec![File { name: "node.toml", bytes: text.into_bytes() }])
        }),
        place: place.into(),
    }
}

fn at(place: &str, engines: &[&Engine]) -> Containers {
    let addresses = engines.iter().map(|engine| engine.address()).collect();
    Containers::new(options(place, addresses)).expect("there are no certificates to read")
}

/// Names of nodes and states of containers.
fn running(engine: &Engine) -> Vec<String> {
    let all = engine.daemon.containers().into_iter();
    all.map(|(name, state)| format!("{} {state}", name.trim_start_matches("media-tree-"))).collect()
}

fn egress(name: &str) -> NodeSpec {
    spec(name, Role::Egress)
}

/// Why a node was not started.
async fn refusal(containers: &Containers, spec: &NodeSpec) -> String {
    match containers.start_node(spec).await {
        Err(StartError::Failed(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

async fn listed(containers: &Containers) -> Vec<String> {
    let listed = containers.list().await.expect("it answers");
    listed.into_iter().map(|one| one.spec.node.to_string()).collect()
}

#[tokio::test]
async fn containers_keep_the_promises_of_every_adapter() {
    let engine = Engine::start();
    all(&at(HERE, &[&engine])).await;
    assert_eq!(running(&engine), [""; 0], "nothing is left");
}

#[tokio::test]
async fn containers_of_several_engines_keep_them_too() {
    let (one, two) = (Engine::start(), Engine::start());
    all(&at(HERE, &[&one, &two])).await;
    assert_eq!((running(&one), running(&two)), (Vec::new(), Vec::new()), "nothing is left");
}

#[tokio::test]
async fn a_node_finds_its_files_and_inspecting_its_container_shows_no_secret() {
    let engine = Engine::start();
    at(HERE, &[&engine]).start_node(&egress("egress-1")).await.expect("started");
    let (create, archive) = engine.daemon.of("media-tree-egress-1");
    assert!(!create.to_string().contains("a-secret"), "{create}");
    assert_eq!(create["Image"], "media-tree:test");
    assert_eq!(create["User"], "65534:65534");
    assert_eq!(create["Labels"]["media-tree.ports"], "20000-20004");
    let archive = String::from_utf8_lossy(&archive);
    assert!(archive.contains("media-tree/node.toml"), "{archive}");
    assert!(archive.contains("a-secret of egress-1 at 20000 on machine-0"), "{archive}");
}

#[tokio::test]
async fn nodes_are_spread_over_engines_each_with_ports_of_its_own_up_to_the_bounds() {
    let (one, two) = (Engine::start(), Engine::start());
    let containers = at(HERE, &[&one, &two]);
    let names: Vec<String> = (0..2 * NODES_MAX).map(|number| format!("egress-{number}")).collect();
    let specs: Vec<NodeSpec> = names.iter().map(|name| egress(name)).collect();
    let started = futures_util::future::join_all(specs.iter().map(|spec| containers.start_node(spec))).await;
    assert!(started.iter().all(Result::is_ok), "{started:?}");
    for engine in [&one, &two] {
        let containers = engine.daemon.containers().into_iter();
        let ports = |(name, _): (String, _)| engine.daemon.of(&name).0["Labels"]["media-tree.ports"].clone();
        let mut ports: Vec<String> = containers.map(ports).map(|ports| ports.to_string()).collect();
        ports.sort();
        assert_eq!(ports, ["\"20000-20004\"", "\"20005-20009\"", "\"20010-20014\""]);
    }
    assert!(refusal(&containers, &egress("egress-7")).await.contains("nodes_max"));
    assert_eq!(listed(&containers).await, names);
}

#[tokio::test]
async fn whoever_has_the_same_word_goes_on_with_the_nodes_and_others_leave_them_alone() {
    let engine = Engine::start();
    let node = egress("egress-1");
    at(HERE, &[&engine]).start_node(&node).await.expect("started");
    let stranger = at("docker.there", &[&engine]);
    assert_eq!(listed(&stranger).await, [""; 0]);
    stranger.stop_node(&node.node).await.expect("it knows no such node");
    assert!(refusal(&stranger, &node).await.contains("was made by docker.here"));
    assert_eq!(running(&engine), ["egress-1 running"]);

    let next = at(HERE, &[&engine]);
    next.start_node(&node).await.expect("it runs");
    assert_eq!(listed(&next).await, ["egress-1"]);
    assert_eq!(engine.daemon.calls("start"), 1, "nothing was started");
    stop(&next, &node).await;
    assert_eq!((running(&engine), engine.daemon.calls("stop")), (Vec::new(), 1));
}

#[tokio::test]
async fn a_killed_node_is_told_with_its_last_words_and_comes_back_at_other_ports() {
    let engine = Engine::start();
    let (containers, node) = (at(HERE, &[&engine]), egress("egress-1"));
    containers.start_node(&node).await.expect("started");
    engine.daemon.kill("media-tree-egress-1");
    let listed = containers.list().await.expect("it answers");
    assert_eq!((listed[0].phase, listed[0].failures), (Phase::BackingOff, 1));
    engine.daemon.until_called("logs", 1).await;
    let until_started = async {
        while let Err(error) = containers.start_node(&node).await {
            assert!(matches!(error, StartError::BackingOff { .. }), "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, until_started).await.expect("it may be started again");
    assert_eq!(running(&engine), ["egress-1 running"]);
    let ports = engine.daemon.of("media-tree-egress-1").0["Labels"]["media-tree.ports"].clone();
    assert_eq!(ports, "20005-20009", "a stranger may have had the ones before");
    stop(&containers, &node).await;
}

#[tokio::test]
async fn an_engine_that_is_gone_keeps_its_nodes_and_the_others_go_on() {
    let (mut one, two) = (Engine::start(), Engine::start());
    let (containers, node) = (at(HERE, &[&one, &two]), egress("egress-1"));
    containers.start_node(&node).await.expect("started");
    assert_eq!(running(&one), ["egress-1 running"]);
    one.go().await;
    assert_eq!(listed(&containers).await, ["egress-1"], "as it was");
    for name in ["egress-2", "egress-3"] {
        containers.start_node(&egress(name)).await.expect("the other engine goes on");
    }
    assert!(refusal(&containers, &node).await.starts_with("machine-0: "));
    assert_eq!(running(&two), ["egress-2 running", "egress-3 running"], "it was not started twice");
    let unanswered = containers.stop_node(&node.node).await.expect_err("nobody heard it");
    assert!(unanswered.to_string().starts_with("machine-0: "), "{unanswered}");

    one.come_back();
    assert_eq!(listed(&containers).await, ["egress-1", "egress-2", "egress-3"]);
    stop(&containers, &node).await;
    assert_eq!(running(&one), [""; 0]);
    containers.start_node(&egress("egress-4")).await.expect("it gets new ones again");
    assert_eq!(running(&one), ["egress-4 running"]);
}

#[tokio::test]
async fn without_any_engine_nothing_is_answered() {
    let mut engine = Engine::start();
    let containers = at(HERE, &[&engine]);
    containers.start_node(&egress("egress-1")).await.expect("started");
    engine.go().await;
    assert!(containers.list().await.is_err());
    assert!(refusal(&containers, &egress("egress-2")).await.contains("no engine answers"));
}

#[tokio::test]
async fn as_long_as_an_engine_has_never_answered_nothing_is_done_anywhere() {
    let (mut one, two) = (Engine::start(), Engine::start());
    let node = egress("egress-1");
    at(HERE, &[&one]).start_node(&node).await.expect("started");
    one.go().await;
    // A controller that was started anew, and cannot know that the node runs there.
    let containers = at(HERE, &[&one, &two]);
    let unanswered = containers.list().await.expect_err("half of it is not known").to_string();
    assert!(unanswered.starts_with("machine-0: ") && unanswered.contains("not known yet"), "{unanswered}");
    assert!(refusal(&containers, &node).await.contains("not known yet"));
    assert!(containers.stop_node(&node.node).await.is_err());
    assert_eq!(running(&two), [""; 0]);
    one.come_back();
    assert_eq!(listed(&containers).await, ["egress-1"]);
}

#[tokio::test]
async fn a_slow_engine_does_not_keep_the_others_waiting() {
    let (one, two) = (Engine::start(), Engine::start());
    let containers = at(HERE, &[&one, &two]);
    containers.start_node(&egress("egress-1")).await.expect("started");
    one.daemon.fail("list", Fault::Hangs);
    let asked = Instant::now();
    assert_eq!(listed(&containers).await, ["egress-1"]);
    assert!(asked.elapsed() < Duration::from_millis(4900), "a controller waits for five seconds");
    containers.start_node(&egress("egress-2")).await.expect("started");
    containers.start_node(&egress("egress-3")).await.expect("started");
    assert_eq!(running(&two), ["egress-2 running", "egress-3 running"]);
}

#[tokio::test]
async fn what_is_no_answer_of_an_engine_is_none() {
    for (call, fault) in [
        ("list", Fault::Answers(200, "<html>welcome</html>")),
        ("list", Fault::Answers(200, r#"[{ "Id": 5 }]"#)),
        ("list", Fault::Answers(500, r#"{ "message": "disk full" }"#)),
        ("list", Fault::Answers(502, "the engine is away")),
        ("version", Fault::Answers(200, r#"{ "ApiVersion": "new" }"#)),
        ("version", Fault::Answers(404, "")),
    ] {
        let engine = Engine::start();
        engine.daemon.fail(call, fault);
        let containers = at(HERE, &[&engine]);
        assert!(containers.list().await.is_err(), "{call} {fault:?}");
        assert!(containers.start_node(&egress("egress-1")).await.is_err(), "{call} {fault:?}");
        engine.daemon.heal();
        assert_eq!(listed(&containers).await, [""; 0], "{call} {fault:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_engines_words_and_leaves_nothing() {
    for (call, fault) in [
        ("create", Fault::Answers(404, r#"{ "message": "No such image: media-tree:test" }"#)),
        ("upload", Fault::Answers(500, r#"{ "message": "No such image: media-tree:test" }"#)),
        ("start", Fault::Answers(500, r#"{ "message": "No such image: media-tree:test" }"#)),
    ] {
        let engine = Engine::start();
        let (containers, node) = (at(HERE, &[&engine]), egress("egress-1"));
        engine.daemon.fail(call, fault);
        let refused = refusal(&containers, &node).await;
        assert_eq!(refused, "machine-0: No such image: media-tree:test", "{call}");
        assert_eq!(running(&engine), [""; 0], "{call}");
        engine.daemon.heal();
        containers.start_node(&node).await.expect("now it goes");
        assert_eq!(running(&engine), ["egress-1 running"]);
    }
}

#[tokio::test]
async fn files_that_cannot_be_had_start_no_node() {
    let engine = Engine::start();
    let mut options = options(HERE, vec![engine.address()]);
    options.configure = Box::new(|_, _, _| Err("tls.crt: no such file".into()));
    let containers = Containers::new(options).expect("there are no certificates to read");
    assert_eq!(refusal(&containers, &egress("egress-1")).await, "tls.crt: no such file");
    assert_eq!(running(&engine), [""; 0]);
}

#[tokio::test]
async fn a_half_made_container_is_made_anew_or_removed() {
    let engine = Engine::start();
    let (containers, node) = (at(HERE, &[&engine]), egress("egress-1"));
    // Nobody waits for ever: a controller gives up, and the engine makes the container all the same.
    let given_up = async |call: &'static str| {
        let before = engine.daemon.calls(call);
        engine.daemon.fail(call, Fault::Hangs);
        tokio::select! {
            started = containers.start_node(&node) => panic!("{started:?}"),
            () = engine.daemon.until_called(call, before + 1) => {}
        }
        engine.daemon.heal();
        assert_eq!(running(&engine), ["egress-1 created"]);
    };
    given_up("create").await;
    containers.start_node(&node).await.expect("started");
    assert_eq!(running(&engine), ["egress-1 running"]);
    stop(&containers, &node).await;

    given_up("upload").await;
    until(&containers, "it is removed", |_| engine.daemon.containers().is_empty()).await;
}

#[tokio::test]
async fn a_name_that_is_taken_is_taken_over_from_ourselves_only() {
    let engine = Engine::start();
    let containers = at(HERE, &[&engine]);
    assert_eq!(listed(&containers).await, [""; 0]);
    // Made since the list was asked for: by a controller that led before, and by somebody else.
    let labels = json!({
        "media-tree.place": HERE, "media-tree.node": "egress-1", "media-tree.tree": "main", "media-tree.slot": "3",
        "media-tree.role": "egress", "media-tree.ports": "20000-20004"
    });
    engine.daemon.plant("media-tree-egress-1", json!({ "Labels": labels }), "created");
    engine.daemon.plant("media-tree-egress-2", json!({ "Labels": null }), "running");
    containers.start_node(&egress("egress-1")).await.expect("started");
    assert!(refusal(&containers, &egress("egress-2")).await.contains("was not made for this node"));
    assert_eq!(running(&engine), ["egress-1 running", "egress-2 running"]);
    assert_eq!(listed(&containers).await, ["egress-1"]);
    containers.stop_node(&egress("egress-2").node).await.expect("it knows no such node");
    assert_eq!(running(&engine), ["egress-1 running", "egress-2 running"]);
}

#[tokio::test]
async fn a_node_that_runs_twice_is_stopped_where_it_is_not_wanted() {
    let (one, two) = (Engine::start(), Engine::start());
    let node = egress("egress-1");
    for engine in [&one, &two] {
        at(HERE, &[engine]).start_node(&node).await.expect("started");
    }
    let containers = at(HERE, &[&one, &two]);
    until(&containers, "one is left", |_| two.daemon.containers().is_empty()).await;
    assert_eq!((running(&one), two.daemon.calls("stop")), (vec!["egress-1 running".to_owned()], 1));
    assert_eq!(listed(&containers).await, ["egress-1"]);
}

#[tokio::test]
async fn engines_of_many_versions_are_spoken_to_in_one_that_they_have() {
    for versions in [("1.12", "1.41"), ("1.24", "1.48"), ("1.44", "1.53"), ("1.60", "1.70")] {
        let engine = Engine::of(versions);
        let containers = at(HERE, &[&engine]);
        containers.start_node(&egress("egress-1")).await.expect("started");
        assert_eq!(listed(&containers).await, ["egress-1"], "{versions:?}");
    }
    let old = Engine::of(("1.12", "1.40"));
    let refused = at(HERE, &[&old]).list().await.expect_err("too old").to_string();
    assert!(refused.contains("it speaks API 1.40; at least 1.41 is needed"), "{refused}");
}

/// An authority for an engine and for those who may use it.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "engines");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate and its key.
    fn certify(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// As an operator has it for Docker's own client.
    fn folder(&self, identity: &(String, String)) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [("ca.pem", &self.pem), ("cert.pem", &identity.0), ("key.pem", &identity.1)] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(&self.pem)).expect("a root");
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let (certificate, key) = self.certify("localhost");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(clients.build().expect("a verifier"))
            .with_single_cert(vec![der(&certificate)], key)
            .expect("a configuration");
        TlsAcceptor::from(Arc::new(config))
    }
}

struct TlsListener(TcpListener, TlsAcceptor);

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.0.accept().await else { continue };
            // Whoever shows no good certificate is not served.
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[tokio::test]
async fn an_engine_on_another_machine_is_reached_with_certificates_on_both_sides() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let host = format!("localhost:{}", listener.local_addr().expect("an address").port());
    let daemon = Daemon::new(("1.24", "1.41"));
    let task = serve(TlsListener(listener, ours.acceptor()), &daemon);
    let with = |folder: &Path| {
        let address = Address::Tls { host: host.clone(), certificates: folder.to_owned() };
        Containers::new(options(HERE, vec![address]))
    };

    let good = ours.folder(&ours.certify("controller"));
    let containers = with(good.path()).expect("certificates");
    containers.start_node(&egress("egress-1")).await.expect("started");
    assert_eq!(listed(&containers).await, ["egress-1"]);

    let stranger = ours.folder(&theirs.certify("controller"));
    assert!(with(stranger.path()).expect("certificates").list().await.is_err(), "the engine knows it not");
    let deceived = theirs.folder(&ours.certify("controller"));
    assert!(with(deceived.path()).expect("certificates").list().await.is_err(), "it knows not the engine");
    let plain = Containers::new(options(HERE, vec![Address::Plain(host.clone())]));
    assert!(plain.expect("no certificates").list().await.is_err(), "in clear it is not served");

    let missing = with(Path::new("/nowhere")).expect_err("no certificates").to_string();
    assert!(missing.starts_with("machine-0: /nowhere/ca.pem: "), "{missing}");
    std::fs::write(good.path().join("key.pem"), "no key").expect("written");
    let broken = with(good.path()).expect_err("no key").to_string();
    assert!(broken.starts_with("machine-0: cert.pem, key.pem: "), "{broken}");
    task.abort();
}

#[tokio::test]
async fn an_engine_in_clear_is_reached_where_it_is_wanted_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = Address::Plain(listener.local_addr().expect("an address").to_string());
    let daemon = Daemon::new(("1.24", "1.41"));
    let task = serve(listener, &daemon);
    let containers = Containers::new(options(HERE, vec![address])).expect("no certificates");
    containers.start_node(&egress("egress-1")).await.expect("started");
    assert_eq!(daemon.containers(), [("media-tree-egress-1".to_owned(), "running")]);
    task.abort();
}
