//! A controller's store keeps the contract over HTTP, and both ends stand bad peers.

mod contract;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contract::{event, key, snapshot};
use reqwest::{Client, Method, StatusCode};
use store::serve::{Limits, router};
use store::{
    AccessKey, Collection, Embedded, OpenError, Options, PutError, Store, StoreState, Unavailable, UrlError,
    VALUE_BYTES_MAX, WatchEvent, Write, open,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const CLUSTER_KEY: &[u8] = b"the-cluster-key-of-these-tests";
/// An operation may take this much longer than it promises, on a busy machine.
const SLACK: Duration = Duration::from_millis(400);

/// A controller. Ends with its value, and all its connections with it: it has a runtime of its own, as a process has.
struct Controller {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.runtime.take().expect("ends once").shutdown_background();
    }
}

impl Controller {
    async fn start(at: SocketAddr, store: Arc<dyn Store>, limits: Limits) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let bound = runtime.spawn(async move { TcpListener::bind(at).await.expect("bind") });
        let listener = bound.await.expect("bound");
        let address = listener.local_addr().expect("address");
        let router = router(store, AccessKey::new(CLUSTER_KEY), limits);
        runtime.spawn(async move { axum::serve(listener, router).await.expect("serve") });
        Self { address, runtime: Some(runtime) }
    }

    async fn anywhere(store: Arc<dyn Store>) -> Self {
        Self::start(([127, 0, 0, 1], 0).into(), store, Limits::default()).await
    }

    fn store(&self) -> Arc<dyn Store> {
        remote(self.address)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1/store{path}", self.address)
    }
}

fn remote(at: SocketAddr) -> Arc<dyn Store> {
    let options = Options { access_key: Some(AccessKey::new(CLUSTER_KEY)), ..Options::default() };
    open(&format!("http://{at}"), &options).expect("open")
}

async fn until(store: &dyn Store, is_it: impl Fn(StoreState) -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let waiting = async {
        while !is_it(store.state()) {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the state changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_it_keeps_the_contract() {
    let controller = Controller::anywhere(Arc::new(Embedded::in_memory())).await;
    contract::all(controller.store()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_see_each_other() {
    let controller = Controller::anywhere(Arc::new(Embedded::in_memory())).await;
    let (one, other) = (controller.store(), controller.store());
    let mut watch = one.watch(Collection::Nodes);
    assert_eq!(event(&mut watch).await, WatchEvent::Snapshot(vec![]));
    let key = key(Collection::Nodes, "n");
    other.put(&key, "x".into(), Write::any().lease(Duration::from_millis(300))).await.expect("put");
    assert!(matches!(event(&mut watch).await, WatchEvent::Put(record) if record.key == key));
    assert_eq!(event(&mut watch).await, WatchEvent::Gone(key));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_controller_is_away_operations_fail_in_time_and_watches_wait() {
    let controller = Controller::anywhere(Arc::new(Embedded::in_memory())).await;
    let store = controller.store();
    let key = key(Collection::Trees, "t");
    store.put(&key, "before".into(), Write::any()).await.expect("put");
    let mut watch = store.watch(Collection::Trees);
    assert_eq!(snapshot(&mut watch).await.len(), 1);
    let address = controller.address;
    drop(controller);
    for _ in 0..3 {
        let began = tokio::time::Instant::now();
        let outcome = store.put(&key, "x".into(), Write::any()).await;
        assert!(matches!(outcome, Err(PutError::Unavailable(_))), "{outcome:?}");
        assert!(began.elapsed() < store::ANSWER_WITHIN + SLACK, "{:?}", began.elapsed());
    }
    assert!(matches!(store.state(), StoreState::Down { .. }));
    // Another controller takes its place; its store has forgotten everything.
    let controller = Controller::start(address, Arc::new(Embedded::in_memory()), Limits::default()).await;
    assert_eq!(snapshot(&mut watch).await, []);
    until(&*store, |state| state == StoreState::Up).await;
    store.put(&key, "after".into(), Write::if_absent()).await.expect("put");
    assert!(matches!(event(&mut watch).await, WatchEvent::Put(record) if record.value == "after"));
    let stats = store.stats();
    assert!(stats.failures >= 3 && stats.outages >= 1 && stats.resolutions >= 2, "{stats:?}");
    drop(controller);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_hangs_is_unavailable_in_time() {
    // Takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let store = remote(listener.local_addr().expect("address"));
    let key = key(Collection::Trees, "t");
    let began = tokio::time::Instant::now();
    let outcome = store.get(&key).await;
    assert_eq!(outcome, Err(Unavailable::TimedOut { within: store::ANSWER_WITHIN }));
    assert!(began.elapsed() < store::ANSWER_WITHIN + SLACK, "{:?}", began.elapsed());
    assert!(matches!(store.state(), StoreState::Down { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_is_not_taken_for_an_empty_store() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let server = tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            // Closed with the request unread, the connection would be reset instead. The client may be gone.
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        }
    });
    let outcome = remote(address).get(&key(Collection::Trees, "t")).await;
    assert!(matches!(outcome, Err(Unavailable::Malformed(_))), "{outcome:?}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_know_the_cluster_key_gets_nothing() {
    let controller = Controller::anywhere(Arc::new(Embedded::in_memory())).await;
    for header in [None, Some("Bearer "), Some("Basic YTpi"), Some("Bearer 0000")] {
        for (method, path) in
            [(Method::GET, ""), (Method::GET, "/secrets"), (Method::PUT, "/trees/t"), (Method::GET, "/x")]
        {
            let mut request = Client::new().request(method, controller.url(path));
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let status = request.send().await.expect("answer").status();
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{header:?} {path}");
        }
    }
    let options = Options { access_key: Some(AccessKey::new(b"another")), ..Options::default() };
    let stranger = open(&format!("http://{}", controller.address), &options).expect("open");
    let outcome = stranger.get(&key(Collection::Trees, "t")).await;
    assert!(
        matches!(&outcome, Err(Unavailable::Refused(reason)) if reason.contains("cluster key")),
        "{outcome:?}"
    );
}

/// A client with the right that sends what it wants.
fn raw() -> Client {
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("authorization", AccessKey::new(CLUSTER_KEY).header().parse().expect("header"));
    Client::builder().default_headers(headers).build().expect("client")
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_refused_with_a_reason() {
    let controller = Controller::anywhere(Arc::new(Embedded::in_memory())).await;
    let client = raw();
    let put = |path: &str| client.put(controller.url(path));
    let long = format!("/trees/{}", "x".repeat(64));
    let cases = [
        (put("/nothing/x"), 400),
        (put("/trees/UPPER"), 400),
        (put(&long), 400),
        (put("/trees/t").header("if-match", "1-2"), 400),
        (put("/trees/t").header("if-match", "\"1-0000000000000002\"").header("if-none-match", "*"), 400),
        (put("/trees/t").header("if-none-match", "x"), 400),
        (put("/trees/t").header("media-tree-lease", "-1"), 400),
        (put("/trees/t").header("if-match", "\"1-0000000000000002\""), 412),
        (put("/trees/t").body(vec![0; VALUE_BYTES_MAX + 1]), 413),
        (client.delete(controller.url("/trees/t")), 404),
        (client.post(controller.url("/trees/t")), 405),
        (client.get(controller.url("/trees/t?watch=perhaps")), 400),
        (put("/trees/t").body("x"), 204),
        (client.get(controller.url("/trees/t")), 200),
    ];
    for (request, status) in cases {
        let request = request.build().expect("request");
        let what = format!("{} {} {:?}", request.method(), request.url(), request.headers());
        let response = client.execute(request).await.expect("answer");
        assert_eq!(response.status().as_u16(), status, "{what}");
        assert!(response.headers().contains_key("media-tree-store"), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_are_bounded_and_a_place_is_free_again_when_one_ends() {
    let store: Arc<dyn Store> = Arc::new(Embedded::in_memory());
    let limits = Limits { watches_max: 2 };
    let controller = Controller::start(([127, 0, 0, 1], 0).into(), store, limits).await;
    let client = raw();
    let url = controller.url("/nodes?watch=true");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut response = client.get(&url).send().await.expect("answer");
        assert_eq!(response.chunk().await.expect("piece").expect("a snapshot"), "{\"snapshot\":0}\n");
        open.push(response);
    }
    assert_eq!(client.get(&url).send().await.expect("answer").status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(open);
    let freed = async {
        while client.get(&url).send().await.expect("answer").status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), freed).await.expect("a place is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_says_that_it_is_alive() {
    let controller = Controller::anywhere(Arc::new(Embedded::in_memory())).await;
    let mut response = raw().get(controller.url("/nodes/n?watch=true")).send().await.expect("answer");
    let mut text = Vec::new();
    while !text.ends_with(b"\"alive\"\n\"alive\"\n") {
        text.extend_from_slice(&response.chunk().await.expect("piece").expect("no end"));
    }
    assert_eq!(text, b"{\"snapshot\":0}\n\"alive\"\n\"alive\"\n");
}

#[tokio::test]
async fn a_url_that_names_no_store_is_refused_with_the_reason() {
    let key = Some(AccessKey::new(CLUSTER_KEY));
    let options = Options { access_key: key.clone(), ..Options::default() };
    let refused = |url: &str| open(url, &options).expect_err("no store").to_string();
    assert!(refused("memcached://h").contains("redis+sentinel://"));
    assert!(refused("redis://").contains("host 1"));
    assert!(refused("redis+sentinel://a,b:x/main").contains("host 2"));
    assert!(refused("redis+sentinel://a").contains("name-of-the-master"));
    assert!(refused("http://user:hidden@127.0.0.1").contains("cluster key"));
    assert!(!refused("http://user:hidden@127.0.0.1").contains("hidden"));
    assert!(refused("https://controller/path").contains("path"));
    assert!(refused("embedded:/nowhere/at/all").contains("/nowhere/at/all"));
    assert!(matches!(open("http://controller.example", &options), Err(OpenError::PlainHttp)));
    assert!(matches!(open("http://127.0.0.1", &Options::default()), Err(OpenError::NoAccessKey)));
    assert!(matches!(open("http://a,b", &options), Err(OpenError::Url(UrlError::Hosts))));
    let plain = Options { access_key: key, allows_plain_http: true };
    for url in
        ["http://controller.example", "https://controller.example", "http://[::1]:9", "embedded", "redis://h"]
    {
        assert!(open(url, &plain).is_ok(), "{url}");
    }
}
