//! The life of a node: assembled from its parts, served, drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use config::Config;
use link::exchange::{self, ParentId};
use link::wire::message::Incarnation;
use model::{Bitrate, NodeId, Role};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::bind::Ports;
use crate::clock::unix_time;
use crate::directory::Directory;
use crate::drain::{DRAIN_DEADLINE, StopSignals};
use crate::events::{self, NodeEvent};
use crate::handshakes::{self, Worker};
use crate::http::{self, App, ShardPort};
use crate::link_channel::LinkChannels;
use crate::link_identity::LinkIdentity;
use crate::link_socket::LinkSocket;
use crate::metrics::Metrics;
use crate::ops::{self, Ops};
use crate::pending::PendingViewers;
use crate::priority;
use crate::random;
use crate::rate_limit::RateLimit;
use crate::session_records::{SessionRecords, ViewerRecords};
use crate::sessions::Sessions;
use crate::shard::{self, Feed, Shard};
use crate::shard_load::ShardLoad;
use crate::tls;
use crate::tokens::{self, Tokens};
use crate::tree::{self, LinkPort, PublishersConfig, Tree, TreeHandle};

/// What stretches into the link identity where all links stay on this machine and no cluster key is set.
const LOOPBACK_CLUSTER_KEY: &str = "links on this machine only";

/// From start to end.
pub async fn live(role: Role, config: Config) -> anyhow::Result<()> {
    let mut signals = StopSignals::new()?;
    let ports = Ports::bind(role, &config)?;
    let random: [u8; 32] = random::bytes()?;
    let node_id = node_id(role, &config, &random)?;
    let publish_tokens =
        if role.is_injection() { tokens::for_publishing(&config, random::bytes()?)? } else { Vec::new() };
    let metrics = Arc::new(Metrics::new(&config.node.tree_id, &node_id, role));
    let certificate = Arc::new(ice_dtls::Certificate::generate().context("make the certificate for DTLS")?);
    let directory = Arc::new(Directory::default());
    let sessions = Arc::new(Sessions::default());
    let tls = match (&config.http.tls_certificate, &config.http.tls_key) {
        (Some(chain), Some(key)) => Some(tls::server_config(chain, key)?),
        _ => None,
    };
    let records = SessionRecords::open(&config.node, role, ports.shards.len(), &metrics.records())?;
    let (event_sender, event_receiver) = mpsc::unbounded_channel();
    let (threads, mut ended_threads) = Threads::new();

    let clone = ports.link.try_clone_udp().context("share the link socket")?;
    let (link_socket, quic) = LinkSocket::new(clone)?;
    let ingest_port = ports.ingest.as_ref().map(|socket| socket.local_addr().port());
    let (tree, tree_handle) = Tree::new(tree::Parts {
        ingest: ports.ingest,
        link: Some(LinkPort { socket: ports.link, quic }),
        exchange: exchange_config(&node_id, role, &config, &random),
        parents: config.link.parents.len(),
        publishers: PublishersConfig::new(&config, &certificate),
        records: records.publishers,
        directory: directory.clone(),
        events: event_sender.clone(),
        counters: metrics.tree.clone(),
    })?;
    let shards = ports.shards.into_iter().zip(records.shards);
    let shards = start_shards(&config, shards, &tree_handle, &event_sender, &metrics, &threads)?;
    let (feeds, shard_ports): (Vec<Feed>, Vec<ShardPort>) = shards.into_iter().unzip();
    let tree_thread = threads.start_for_media("tree".into(), move || tree.run(feeds))?;

    let channels = start_links(&config, link_socket, &tree_handle)?;
    let app = Arc::new(App {
        directory: directory.clone(),
        ingest: ingest_port.map(|port| (tree_handle.clone(), port)),
        shards: shard_ports,
        sessions: sessions.clone(),
        tokens: Tokens::new(publish_tokens.clone(), config.access.view_tokens.clone()),
        rate_limit: RateLimit::new(config.limits.request_rate, config.limits.request_burst),
        public_ip: config.media.public_ip,
        certificate,
        is_tls: tls.is_some(),
        is_draining: AtomicBool::new(false),
        next_id: AtomicU64::new(1),
        pending: PendingViewers::new(
            config.limits.pending_sessions_max,
            config.limits.client_pending_sessions_max,
        ),
        publishers_max: config.limits.publishers_max.into(),
        shard_load_max: f64::from(config.limits.shard_load_max_percent) / 100.0,
        metrics: metrics.clone(),
    });
    tokio::spawn(events::follow(event_receiver, app.clone()));

    let ops = serve_ops(ports.ops, &app)?;
    if let Some(listener) = ports.http {
        let limits = http::Limits::new(&config.limits);
        let listener =
            http::Listener::new(TcpListener::from_std(listener)?, tls, limits, app.metrics.connections())?;
        let service = http::router(app.clone()).into_make_service_with_connect_info::<http::Connection>();
        tokio::spawn(async move { axum::serve(listener, service).await });
    }
    ops.is_ready.store(true, Ordering::Relaxed);
    announce(role, &node_id, &config, app.is_tls);
    let demo =
        config.demo.then(|| tokio::spawn(demo(config.clone(), publish_tokens.first().cloned(), app.is_tls)));

    tokio::select! {
        () = signals.next() => {}
        // Without one of its threads a node serves nobody and says that it is well: a supervisor must start it anew.
        Some(name) = ended_threads.recv() => anyhow::bail!("the thread {name} has ended"),
    }
    tracing::info!("draining; a second signal stops at once");
    ops.is_draining.store(true, Ordering::Relaxed);
    tokio::select! {
        () = drain(&app, &tree_handle, demo) => {}
        () = signals.next() => tracing::info!("stopped at once"),
    }
    channels.close().await;
    tree_handle.stop().await;
    let _ = tokio::task::spawn_blocking(move || tree_thread.join()).await;
    Ok(())
}

/// Starts threads and tells when one of them ends.
struct Threads {
    ended: mpsc::UnboundedSender<String>,
}

/// Tells that its thread has ended, by return or by panic.
struct TellEnd {
    name: String,
    ended: mpsc::UnboundedSender<String>,
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        let _ = self.ended.send(std::mem::take(&mut self.name));
    }
}

impl Threads {
    fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (ended, receiver) = mpsc::unbounded_channel();
        (Self { ended }, receiver)
    }

    /// Starts one that the kernel is asked to prefer.
    fn start_for_media(
        &self,
        name: String,
        work: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<thread::JoinHandle<()>> {
        let what = name.clone();
        self.start(name, move || {
            priority::prefer_for_media(&what);
            work();
        })
    }

    fn start(
        &self,
        name: String,
        work: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<thread::JoinHandle<()>> {
        let tell_end = TellEnd { name: name.clone(), ended: self.ended.clone() };
        let run = move || {
            let _tell_end = tell_end;
            work();
        };
        thread::Builder::new()
            .name(name.clone())
            .spawn(run)
            .with_context(|| format!("start the thread {name}"))
    }
}

/// Starts each shard and its handshake worker.
fn start_shards(
    config: &Config,
    owned: impl ExactSizeIterator<Item = (udp_batch::Socket, Option<ViewerRecords>)>,
    tree: &TreeHandle,
    events: &mpsc::UnboundedSender<NodeEvent>,
    metrics: &Metrics,
    threads: &Threads,
) -> anyhow::Result<Vec<(Feed, ShardPort)>> {
    let count = owned.len().max(1) as u64;
    let mut shards = Vec::new();
    for (index, (socket, records)) in owned.enumerate() {
        let port = socket.local_addr().port();
        let (handshakes, commands) = crossbeam_channel::bounded(handshakes::QUEUE_MAX);
        let load = Arc::new(ShardLoad::default());
        let (shard, handle, feed) = Shard::new(shard::Parts {
            index,
            socket,
            config: egress_config(config),
            records,
            tree: tree.clone(),
            events: events.clone(),
            handshakes: handshakes.clone(),
            counters: metrics.shard(load.clone()),
            queue_full: metrics.media_queue_full(),
        })?;
        let worker = Worker::new(commands, handle.clone(), metrics.handshakes());
        threads.start(format!("handshakes-{index}"), move || {
            priority::yield_to_media();
            worker.run();
        })?;
        threads.start_for_media(format!("shard-{index}"), move || shard.run())?;
        let slots = u64::from(config.limits.viewers_max).div_ceil(count);
        shards.push((feed, ShardPort { handle, handshakes, port, load, occupied: AtomicU64::new(0), slots }));
    }
    Ok(shards)
}

fn start_links(
    config: &Config,
    socket: Arc<LinkSocket>,
    tree: &TreeHandle,
) -> anyhow::Result<Arc<LinkChannels>> {
    let key = config.link.cluster_key.as_ref().map_or(LOOPBACK_CLUSTER_KEY, |key| key.expose());
    let identity = LinkIdentity::new(key.as_bytes())?;
    let channels = Arc::new(LinkChannels::new(socket, &identity, tree.clone())?);
    let listening = channels.clone();
    tokio::spawn(async move { listening.accept().await });
    for (index, parent) in config.link.parents.iter().enumerate() {
        let (channels, parent) = (channels.clone(), parent.clone());
        tokio::spawn(async move {
            channels.dial(ParentId::new(index as u32), (parent.host().to_owned(), parent.port())).await;
        });
    }
    Ok(channels)
}

fn serve_ops(listener: std::net::TcpListener, app: &Arc<App>) -> anyhow::Result<Arc<Ops>> {
    let app = app.clone();
    let ops = Arc::new(Ops {
        encode: Box::new(move || app.metrics.encode(&app)),
        is_ready: AtomicBool::new(false),
        is_draining: AtomicBool::new(false),
    });
    let listener = TcpListener::from_std(listener)?;
    let router = ops::router(ops.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(ops)
}

/// No new sessions; those that are there end by themselves or are closed at the deadline.
async fn drain(app: &Arc<App>, tree: &TreeHandle, demo: Option<tokio::task::JoinHandle<()>>) {
    app.is_draining.store(true, Ordering::Relaxed);
    if let Some(demo) = demo {
        demo.abort();
    }
    let is_empty = |app: &App| app.sessions.counts() == (0, 0);
    let deadline = tokio::time::Instant::now() + DRAIN_DEADLINE;
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while !is_empty(app) && tokio::time::Instant::now() < deadline {
        tick.tick().await;
    }
    for peer in app.sessions.peers() {
        http::end(app, peer).await;
    }
    tree.drain().await;
    // The goodbyes leave through the shards and the tree thread: both answer within a turn.
    let deadline = tokio::time::Instant::now() + Duration::from_millis(500);
    while app.occupied() > 0 && tokio::time::Instant::now() < deadline {
        tick.tick().await;
    }
}

async fn demo(config: Config, token: Option<config::Token>, is_tls: bool) {
    let mut address = config.http.listen;
    if address.ip().is_unspecified() {
        address.set_ip([127, 0, 0, 1].into());
    }
    if is_tls {
        tracing::warn!("the demo clip is published over plain HTTP only; it stays off with a certificate");
        return;
    }
    let url = format!("http://{address}/whip/demo");
    client::demo::publish(&url, token.as_ref().map(|token| token.secret.expose()), std::future::pending())
        .await;
}

/// Tells a person where to go.
fn announce(role: Role, node_id: &NodeId, config: &Config, is_tls: bool) {
    tracing::info!(%node_id, %role, "node is up");
    let base = format!("{}://{}", if is_tls { "https" } else { "http" }, config.http.listen);
    let name = if config.demo { "demo" } else { "mine" };
    let mut lines = vec![format!("Media-Tree is up ({role}).")];
    if role.is_injection() {
        lines.push(format!("  publish   {base}/publish/mine   (OBS: service WHIP, server {base}/whip/mine)"));
    }
    if role.is_egress() {
        lines.push(format!("  watch     {base}/watch/{name}"));
        lines.push(format!("  what is live  {base}/"));
    }
    lines.push(format!("  operate   http://{}/metrics", config.ops.listen));
    println!("{}", lines.join("\n"));
}

fn node_id(role: Role, config: &Config, random: &[u8; 32]) -> anyhow::Result<NodeId> {
    if let Some(id) = &config.node.id {
        return Ok(id.clone());
    }
    let suffix: String = random[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    NodeId::new(&format!("{role}-{suffix}")).context("make a node id")
}

fn exchange_config(node: &NodeId, role: Role, config: &Config, random: &[u8; 32]) -> exchange::Config {
    // Without a memory of its own a node counts its starts by the clock.
    let incarnation = Incarnation {
        counter: unix_time().as_secs(),
        random: u64::from_be_bytes(random[6..14].try_into().unwrap_or_default()),
    };
    exchange::Config {
        ring: ring_limits(config),
        parents_active: config.link.parents.len().clamp(1, 2),
        ..exchange::Config::new(node.clone(), role, incarnation)
    }
}

fn ring_limits(config: &Config) -> media_core::ring::Limits {
    media_core::ring::Limits {
        bytes_max: config.egress.ring_size.bytes() as usize,
        age_max: config.egress.ring_time.get(),
        ..media_core::ring::Limits::default()
    }
}

fn egress_config(config: &Config) -> egress::Config {
    egress::Config {
        ring: ring_limits(config),
        replay_rate: Bitrate::kbps(u64::from(config.egress.replay_rate_mbps) * 1000),
        replay_factor: config.egress.replay_factor,
        ..egress::Config::default()
    }
}
