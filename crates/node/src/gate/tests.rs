//! Tests of the gate, with servers on loopback where it asks any.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get};
use model::{Role, TreeId};

use super::*;

fn gate(configure: impl FnOnce(&mut Config)) -> Gate {
    gate_of("egress-1", configure)
}

fn gate_of(node: &str, configure: impl FnOnce(&mut Config)) -> Gate {
    gate_with(node, None, configure)
}

fn gate_with(node: &str, declared: Option<Arc<Declared>>, configure: impl FnOnce(&mut Config)) -> Gate {
    let mut config = Config::default();
    config.link.cluster_key = Some("the secret of the cluster".replace(' ', "-").parse().expect("secret"));
    configure(&mut config);
    let node = NodeId::new(node).expect("id");
    let tree = TreeId::new("main").expect("id");
    let identity = telemetry::Identity { tree, node: node.clone(), role: Role::All };
    let metrics = crate::metrics::Metrics::new(&identity);
    Gate::new(&config, config.access.publish_tokens.clone(), node, declared, metrics.access())
        .expect("a gate")
}

fn demo() -> BroadcastId {
    BroadcastId::new("demo").expect("id")
}

fn visitor<'a>(broadcast: &'a BroadcastId, token: Option<&'a str>) -> Visitor<'a> {
    Visitor { right: Right::View, broadcast, client: [127, 0, 0, 1].into(), token, ticket: None }
}

async fn code(gate: &Gate, visitor: &Visitor<'_>) -> &'static str {
    gate.admit(visitor).await.err().map_or("in", |problem| problem.code)
}

/// A server that always answers so; its URL.
async fn server(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn asking(url: &str) -> impl FnOnce(&mut Config) {
    let url = url.parse().expect("url");
    move |config| {
        config.webhooks.access = Some(url);
        config.webhooks.secret = Some("0123456789abcdef".parse().expect("secret"));
    }
}

#[tokio::test]
async fn a_ticket_of_another_node_lets_in_once_and_carries_the_token_on() {
    let closed =
        |config: &mut Config| config.access.view_tokens = vec!["a-view-token".parse().expect("token")];
    let (here, there, elsewhere) = (gate_of("a", closed), gate_of("b", closed), gate_of("c", closed));
    let broadcast = demo();
    let credential = here.admit(&visitor(&broadcast, Some("a-view-token"))).await.expect("in");
    let target = NodeId::new("b").expect("id");
    let grant = Grant { right: Right::View, broadcast: &broadcast, target: &target };
    let ticket = here.issue(&grant, credential).expect("a ticket");
    let with_ticket = Visitor { ticket: Some(ticket.as_str()), ..visitor(&broadcast, None) };
    assert_eq!(code(&elsewhere, &with_ticket).await, "ticket-rejected");
    let publishing = Visitor { right: Right::Publish, ..with_ticket };
    assert_eq!(code(&there, &publishing).await, "in", "publishing is open here");
    let carried = there.admit(&with_ticket).await.expect("in");
    assert_eq!(carried, credential);
    assert_eq!(code(&there, &with_ticket).await, "ticket-rejected", "used");
    let both = Visitor { token: Some("a-view-token"), ..with_ticket };
    assert_eq!(code(&there, &both).await, "in", "the token is as good as ever");

    let session = SessionId::from_random([7; 16]);
    there.remember(session, carried);
    assert!(there.admit_to(session, &visitor(&broadcast, Some("a-view-token"))).await.is_ok());
    assert!(there.admit_to(session, &visitor(&broadcast, Some("another-token"))).await.is_err());
    assert!(there.admit_to(session, &visitor(&broadcast, None)).await.is_err());
}

#[tokio::test]
async fn a_node_that_asks_for_nothing_gives_nothing_away() {
    let open = gate_of("a", |_| ());
    let closed =
        gate_of("b", |config| config.access.publish_tokens = vec!["a-publish-key".parse().expect("token")]);
    let broadcast = demo();
    let target = NodeId::new("b").expect("id");
    let ticket = open.issue(&Grant { right: Right::Publish, broadcast: &broadcast, target: &target }, None);
    let ticket = ticket.expect("a ticket");
    let visitor =
        Visitor { right: Right::Publish, ticket: Some(ticket.as_str()), ..visitor(&broadcast, None) };
    assert_eq!(code(&closed, &visitor).await, "token-missing");
}

#[tokio::test]
async fn without_a_cluster_key_nobody_else_can_sign_tickets() {
    let lonely = |config: &mut Config| {
        config.link.cluster_key = None;
        config.http.listen = "0.0.0.0:8080".parse().expect("address");
        config.access.view_tokens = vec!["a-view-token".parse().expect("token")];
    };
    let (here, there) = (gate_of("a", lonely), gate_of("b", lonely));
    let broadcast = demo();
    let target = NodeId::new("b").expect("id");
    let ticket = here.issue(&Grant { right: Right::View, broadcast: &broadcast, target: &target }, None);
    let ticket = ticket.expect("a ticket");
    let visitor = Visitor { ticket: Some(ticket.as_str()), ..visitor(&broadcast, None) };
    assert_eq!(code(&there, &visitor).await, "ticket-rejected");
}

#[tokio::test]
async fn the_operators_server_decides_and_its_silence_lets_nobody_in() {
    let broadcast = demo();
    for (status, expected) in [
        (StatusCode::NO_CONTENT, "in"),
        (StatusCode::UNAUTHORIZED, "token-rejected"),
        (StatusCode::FORBIDDEN, "insufficient"),
        (StatusCode::NOT_FOUND, "access-unavailable"),
        (StatusCode::INTERNAL_SERVER_ERROR, "access-unavailable"),
        (StatusCode::TEMPORARY_REDIRECT, "access-unavailable"),
    ] {
        let url = server(Router::new().route("/", any(move || async move { status }))).await;
        let gate = gate(asking(&url));
        assert_eq!(code(&gate, &visitor(&broadcast, Some("whatever"))).await, expected, "{status}");
    }
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}/", gone.local_addr().expect("address"));
    drop(gone);
    let gate = gate(asking(&url));
    let problem = gate.admit(&visitor(&broadcast, None)).await.expect_err("nobody answers");
    assert_eq!((problem.status, problem.headers[0].0), (503, "Retry-After"));
}

#[tokio::test]
async fn a_server_that_takes_too_long_is_not_waited_for() {
    let url = server(Router::new().route("/", any(std::future::pending::<StatusCode>))).await;
    let gate = gate(asking(&url));
    let (broadcast, started) = (demo(), Instant::now());
    assert_eq!(code(&gate, &visitor(&broadcast, Some("whatever"))).await, "access-unavailable");
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test]
async fn keys_that_were_never_read_let_nobody_in_and_blame_nobody() {
    let url = server(Router::new().route("/", get(|| async { StatusCode::BAD_GATEWAY }))).await;
    let gate = gate(|config| config.access.jwt_jwks = Some(url.parse().expect("url")));
    let broadcast = demo();
    // ES256, no key id, no claims.
    let token = "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl";
    assert_eq!(code(&gate, &visitor(&broadcast, Some(token))).await, "access-unavailable");
    assert_eq!(code(&gate, &visitor(&broadcast, Some("no-jwt-at-all"))).await, "token-rejected");
}

/// Broadcasts of an installation whose store has told of them.
async fn declared() -> Arc<Declared> {
    let store = store::open("embedded", &store::Options::default()).expect("a store");
    let declared = Arc::new(Declared::new(registry::Registry::new(store), store::Sealer::new(b"cluster")));
    let following = declared.clone();
    tokio::spawn(async move { following.follow(false).await });
    declared
}

#[tokio::test]
async fn a_broadcast_with_a_key_is_closed_to_others_even_where_everybody_may_publish() {
    let declared = declared().await;
    let tree = TreeId::new("main").expect("id");
    let key = declared.declare(demo(), tree, None).await.expect("made");
    // The gate waits until the store has told, so there is nothing to wait for here.
    let (a, b) =
        (gate_with("a", Some(declared.clone()), |_| {}), gate_with("b", Some(declared.clone()), |_| {}));
    let (demo, other) = (demo(), BroadcastId::new("other").expect("id"));
    let publisher = |broadcast, token| Visitor { right: Right::Publish, ..visitor(broadcast, token) };
    assert_eq!(code(&a, &publisher(&demo, None)).await, "token-missing");
    assert_eq!(code(&a, &publisher(&demo, Some("not-the-key-at-all"))).await, "token-rejected");
    assert_eq!(code(&a, &publisher(&demo, Some(&key))).await, "in");
    assert_eq!(code(&a, &publisher(&other, None)).await, "in");
    assert_eq!(code(&a, &visitor(&demo, None)).await, "in", "the key is for publishing");
    // Who is sent on comes in there.
    let credential = a.admit(&publisher(&demo, Some(&key))).await.expect("in");
    let grant = Grant { right: Right::Publish, broadcast: &demo, target: &NodeId::new("b").expect("id") };
    let ticket = a.issue(&grant, credential).expect("issued");
    let with_ticket = Visitor { ticket: Some(ticket.as_str()), ..publisher(&demo, None) };
    assert_eq!(code(&b, &with_ticket).await, "in");
}

#[tokio::test(start_paused = true)]
async fn while_keys_are_not_known_nobody_publishes_without_a_token_of_the_configuration() {
    let store = store::open("embedded", &store::Options::default()).expect("a store");
    let untold = Arc::new(Declared::new(registry::Registry::new(store), store::Sealer::new(b"cluster")));
    let gate = gate_with("a", Some(untold), |config| {
        config.access.publish_tokens = vec!["master-key".parse().expect("token")];
    });
    let demo = demo();
    let publisher = |token| Visitor { right: Right::Publish, ..visitor(&demo, token) };
    assert_eq!(code(&gate, &publisher(Some("perhaps-its-key"))).await, "access-unavailable");
    assert_eq!(code(&gate, &publisher(None)).await, "access-unavailable");
    assert_eq!(code(&gate, &publisher(Some("master-key"))).await, "in");
    assert_eq!(code(&gate, &visitor(&demo, None)).await, "in", "watching needs no key");
}
