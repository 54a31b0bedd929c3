//! The life of a node: assembled from its parts, served, drained.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use config::Config;
use link::exchange;
use link::wire::message::Incarnation;
use model::{Bitrate, NodeId, Role};
use supervisor::Word;
use telemetry::Identity;
use telemetry::traces::Traces;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::advice::{self, Advice};
use crate::clock::unix_time;
use crate::control::{Control, Kept, Media, Prepared, Published};
use crate::directory::Directory;
use crate::drain::drain;
use crate::events::{self, NodeEvent};
use crate::gate::Gate;
use crate::handshakes::{self, Worker};
use crate::http::{self, App, ShardPort};
use crate::ice_tcp;
use crate::link_channel::LinkChannels;
use crate::link_socket::LinkSocket;
use crate::links;
use crate::metrics::Metrics;
use crate::ops::{self, Ops};
use crate::pending::PendingViewers;
use crate::priority;
use crate::random;
use crate::rate_limit::RateLimit;
use crate::reach;
use crate::rtmp;
use crate::rtp_in;
use crate::session_records::{Opening, SessionRecords, ViewerRecords};
use crate::sessions::Sessions;
use crate::shard::{self, Feed, Shard};
use crate::shard_load::ShardLoad;
use crate::start::{Start, StopSignals, Words};
use crate::tls::{self, Tls};
use crate::tokens;
use crate::traces::{self, Exporting};
use crate::tree::{self, LinkPort, PublishersConfig, Tree, TreeHandle};
use crate::webhooks::Webhooks;

/// What stretches into the link identity where all links stay on this machine and no cluster key is set.
const LOOPBACK_CLUSTER_KEY: &str = "links on this machine only";

/// What a process that hands over may take; its supervisor waits little longer.
const LEAVE_MAX: Duration = Duration::from_millis(300);

/// From start to end.
pub async fn live(role: Role, config: Config, mut start: Start) -> anyhow::Result<()> {
    let mut signals = StopSignals::new()?;
    let ports = start.ports(role, &config)?;
    let key = start.key(&config.node)?;
    let random: [u8; 32] = random::bytes()?;
    let node_id = node_id(role, &config, &random)?;
    let exchange_config = exchange_config(&node_id, role, &config, &random);
    let incarnation = exchange_config.incarnation;
    let (metrics, traces, exporting) = introduce(role, &config, &node_id, start.deaths())?;
    let run = (incarnation.counter, incarnation.random);
    let control = Control::prepare(role, &config, &node_id, run, &metrics)?;
    let published = Arc::new(Published::default());
    let publish_tokens = tokens::for_publishing(role, &config, key.as_ref())?;
    let certificate = Arc::new(ice_dtls::Certificate::generate().context("make the certificate for DTLS")?);
    let directory = Arc::new(Directory::default());
    let sessions = Arc::new(Sessions::new(config.log.client_addresses));
    let tls = tls::of_config(&config)?;
    metrics.certificate(tls.as_ref());
    let opening = Opening { key: key.as_ref(), resumes: start.stand_by()? };
    let records = SessionRecords::open(&config.node, opening, &ports.of_sessions(), &metrics.records())?;
    let (event_sender, event_receiver) = mpsc::unbounded_channel();
    let (threads, mut ended_threads) = Threads::new();

    let clone = ports.link.try_clone_udp().context("share the link socket")?;
    let (link_socket, quic) = LinkSocket::new(clone)?;
    let ingest_port = ports.ingest.as_ref().map(|socket| socket.local_addr().port());
    let (tree, tree_handle) = Tree::new(tree::Parts {
        ingest: ports.ingest,
        link: Some(LinkPort { socket: ports.link, quic }),
        exchange: exchange_config,
        parents: config.link.parents.len(),
        publishers: PublishersConfig::new(&config, &certificate, published.clone()),
        records: records.publishers,
        directory: directory.clone(),
        sessions: sessions.clone(),
        events: event_sender.clone(),
        counters: metrics.tree.clone(),
    })?;
    let shards = ports.shards.into_iter().zip(records.shards);
    let told = (&event_sender, &sessions);
    let shards = start_shards(&config, shards, &tree_handle, told, &metrics, &threads)?;
    let (feeds, shard_ports): (Vec<Feed>, Vec<ShardPort>) = shards.into_iter().unzip();
    let tree_thread = threads.start_for_media("tree".into(), move || tree.run(feeds))?;

    let channels = links::start(&config, link_socket, &tree_handle, &metrics)?;
    let declared = control.as_ref().map(|prepared| prepared.control().front_door.declared().clone());
    let served = Served {
        directory,
        sessions,
        ingest: ingest_port.map(|port| (tree_handle.clone(), port)),
        shards: shard_ports,
        rtmp: ports.rtmp.as_ref().map(std::net::TcpListener::local_addr).transpose()?,
        tcp_ports: serve_media_tcp(ports.media_tcp, &metrics)?,
        certificate,
        next_id: records.next_id,
        gate: Gate::new(&config, publish_tokens.clone(), node_id.clone(), declared, metrics.access())?,
    };
    let app = served.app(&config, control.as_ref().map(Prepared::control), (&metrics, traces));
    if let Some(control) = control {
        let kept = Kept::open(role, &config, key.as_ref(), &node_id);
        let media = Media { channels: channels.clone(), tree: tree_handle.clone(), published, kept };
        control.start(&app, Some(media));
    }
    tokio::spawn(events::follow(event_receiver, app.clone()));
    tokio::spawn(http::follow_events(app.clone()));
    tokio::spawn(advice::examine(app.clone(), app.metrics.tree.patients()));
    let webhooks = Webhooks::start(&config, &node_id, &app)?;

    serve_rtmp(ports.rtmp, tls.as_ref(), &config, &app)?;
    let rtp_in = rtp_in::serve(ports.rtp_in, &app)?;
    let ops = serve(ports.ops, ports.http, tls, (&config, &app))?;
    announce(role, &node_id, &config, app.is_tls);
    let demo =
        config.demo.then(|| tokio::spawn(demo(config.clone(), publish_tokens.first().cloned(), app.is_tls)));

    let mut words = start.ready()?;
    if ending(&mut words, &mut signals, &mut ended_threads).await? == Word::HandOver {
        // The next process reads the same sockets.
        drop(rtp_in);
        tree_handle.hand_over().await;
        leave(app.shards.len(), &channels, &mut ended_threads).await;
        return Ok(());
    }
    tracing::info!("draining; a second signal stops at once");
    ops.is_draining.store(true, Ordering::Relaxed);
    tokio::select! {
        () = drain(&app, &tree_handle, demo) => {}
        _ = words.next(&mut signals) => tracing::info!("stopped at once"),
    }
    flush(webhooks, exporting).await;
    channels.close().await;
    tree_handle.stop().await;
    let _ = tokio::task::spawn_blocking(move || tree_thread.join()).await;
    Ok(())
}

/// Gives what waits for others its last chance.
async fn flush(webhooks: Option<Arc<Webhooks>>, exporting: Option<Exporting>) {
    if let Some(webhooks) = webhooks {
        webhooks.flush().await;
    }
    if let Some(exporting) = exporting {
        exporting.flush().await;
    }
}

/// What ends the node. Without one of its threads it would serve nobody and say that it is well: then its supervisor must
/// start it anew.
async fn ending(
    words: &mut Words,
    signals: &mut StopSignals,
    ended: &mut mpsc::UnboundedReceiver<String>,
) -> anyhow::Result<Word> {
    tokio::select! {
        word = words.next(signals) => Ok(word),
        Some(name) = ended.recv() => anyhow::bail!("the thread {name} has ended"),
    }
}

/// From now on log, metrics and spans say who this is, and metrics how many of its processes died before.
pub fn introduce(
    role: Role,
    config: &Config,
    node: &NodeId,
    deaths: u64,
) -> anyhow::Result<(Arc<Metrics>, Traces, Option<Exporting>)> {
    let identity = Identity { tree: config.node.tree_id.clone(), node: node.clone(), role };
    telemetry::log::identify(&identity);
    let metrics = Metrics::new(&identity);
    metrics.crashed(deaths);
    let (traces, exporting) = traces::start(&config.traces, &identity, metrics.traces())?;
    Ok((Arc::new(metrics), traces, exporting))
}

/// Leaves sockets and sessions to the next process, without a word to any peer: waits until the tree thread and the
/// shards have sent what they had.
async fn leave(shards: usize, channels: &LinkChannels, ended: &mut mpsc::UnboundedReceiver<String>) {
    let everybody = async {
        let mut media_threads = 1 + shards;
        while media_threads > 0
            && let Some(name) = ended.recv().await
        {
            media_threads -= usize::from(name == "tree" || name.starts_with("shard-"));
        }
        channels.leave().await;
    };
    if tokio::time::timeout(LEAVE_MAX, everybody).await.is_err() {
        tracing::warn!("not all threads ended before the next process took over");
    }
}

/// What requests are served from.
pub struct Served {
    pub directory: Arc<Directory>,
    pub sessions: Arc<Sessions>,
    /// The tree thread and the port of its publishers' socket.
    pub ingest: Option<(TreeHandle, u16)>,
    pub shards: Vec<ShardPort>,
    /// Where RTMP is taken.
    pub rtmp: Option<SocketAddr>,
    /// Ports of media that can be reached over TCP, too.
    pub tcp_ports: BTreeSet<u16>,
    pub certificate: Arc<ice_dtls::Certificate>,
    pub next_id: u64,
    pub gate: Gate,
}

impl Served {
    /// What requests share.
    pub fn app(
        self,
        config: &Config,
        control: Option<&Arc<Control>>,
        (metrics, traces): (&Arc<Metrics>, Traces),
    ) -> Arc<App> {
        Arc::new(App {
            directory: self.directory,
            ingest: self.ingest,
            shards: self.shards,
            sessions: self.sessions,
            counter_offers: http::CounterOffers::default(),
            gate: self.gate,
            rate_limit: RateLimit::new(config.limits.request_rate, config.limits.request_burst),
            beacons: http::Beacons::default(),
            waiting_room: http::WaitingRoom::new(metrics.tree.waits.clone()),
            public_ips: config.media.public_ip.clone(),
            certificate: self.certificate,
            ice_servers: http::IceServers::new(&config.ice),
            viewers_wait: config.node.viewers_wait,
            is_tls: config.http.tls_certificate.is_some(),
            page_origins: config.http.page_origins.iter().map(|url| url.origin().to_owned()).collect(),
            is_draining: AtomicBool::new(false),
            next_id: AtomicU64::new(self.next_id),
            pending: PendingViewers::new(
                config.limits.pending_sessions_max,
                config.limits.client_pending_sessions_max,
            ),
            publishers_max: config.limits.publishers_max.into(),
            shard_load_max: f64::from(config.limits.shard_load_max_percent) / 100.0,
            metrics: metrics.clone(),
            traces,
            advice: Advice::default(),
            control: control.cloned(),
            operator_tokens: config.control.operator_tokens.clone(),
            rtmp: self.rtmp,
            tcp_ports: self.tcp_ports,
            trusted_proxies: config.http.trusted_proxies.clone(),
            has_cluster_key: config.link.cluster_key.is_some(),
        })
    }
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
    (events, sessions): (&mpsc::UnboundedSender<NodeEvent>, &Arc<Sessions>),
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
            resources: sessions.clone(),
            events: events.clone(),
            handshakes: handshakes.clone(),
            counters: metrics.shard(load.clone()),
            queue_full: metrics.media_queue_full(),
        })?;
        let occupied = AtomicU64::new(shard.viewers() as u64);
        let worker = Worker::new(commands, handle.clone(), metrics.handshakes());
        threads.start(format!("handshakes-{index}"), move || {
            priority::yield_to_media();
            worker.run();
        })?;
        threads.start_for_media(format!("shard-{index}"), move || shard.run())?;
        let slots = u64::from(config.limits.viewers_max).div_ceil(count);
        shards.push((
            feed,
            ShardPort {
                handle,
                handshakes,
                port,
                load,
                occupied,
                slots,
                layers: std::sync::Mutex::default(),
            },
        ));
    }
    Ok(shards)
}

/// Carries media over TCP to these sockets; gives their ports.
fn serve_media_tcp(
    listeners: Vec<(std::net::TcpListener, SocketAddr)>,
    metrics: &Metrics,
) -> anyhow::Result<BTreeSet<u16>> {
    let counters = metrics.media_connections();
    let admission = ice_tcp::admission(&counters);
    let serve = |(listener, media): (_, SocketAddr)| {
        ice_tcp::serve(listener, media, (admission.clone(), counters.clone()))
            .context("listen for media over TCP")?;
        Ok(media.port())
    };
    listeners.into_iter().map(serve).collect()
}

/// Opens both listeners; from then on the node is ready.
pub fn serve(
    ops: std::net::TcpListener,
    http: Option<std::net::TcpListener>,
    tls: Option<Tls>,
    (config, app): (&Config, &Arc<App>),
) -> anyhow::Result<Arc<Ops>> {
    let ops = serve_ops(ops, app)?;
    if let Some(listener) = http {
        serve_http(listener, tls.map(|tls| tls.server), config, app)?;
    }
    ops.is_ready.store(true, Ordering::Relaxed);
    Ok(ops)
}

fn serve_http(
    listener: std::net::TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    config: &Config,
    app: &Arc<App>,
) -> anyhow::Result<()> {
    let limits = http::Limits::new(&config.limits, config.http.trusted_proxies.clone());
    let listener =
        http::Listener::new(TcpListener::from_std(listener)?, tls, limits, app.metrics.connections())?;
    let service = http::router(app.clone()).into_make_service_with_connect_info::<http::Connection>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    Ok(())
}

fn serve_rtmp(
    listener: Option<std::net::TcpListener>,
    tls: Option<&Tls>,
    config: &Config,
    app: &Arc<App>,
) -> anyhow::Result<()> {
    let Some(listener) = listener else { return Ok(()) };
    let tls = tls.map(|tls| tls.server.clone());
    let door = rtmp::Door { app: app.clone(), tls, allows_plain: config.ingest.insecure_rtmp };
    rtmp::serve(listener, door).context("serve RTMP")
}

fn serve_ops(listener: std::net::TcpListener, app: &Arc<App>) -> anyhow::Result<Arc<Ops>> {
    let encoding = app.clone();
    let ops = Arc::new(Ops {
        encode: Box::new(move |exposition| encoding.metrics.encode(&encoding, exposition)),
        is_ready: AtomicBool::new(false),
        is_draining: AtomicBool::new(false),
    });
    let listener = TcpListener::from_std(listener)?;
    let router = ops::router(ops.clone()).merge(http::event_operations(app.clone()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(ops)
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
    tracing::info!(node = %node_id, %role, "node is up");
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
    if role.is_injection() || role.is_egress() {
        let notes = reach::advice(config.http.listen, &config.media.public_ip, &http::host_addresses());
        lines.extend(notes.into_iter().map(|note| format!("  note      {note}")));
    }
    println!("{}", lines.join("\n"));
}

/// The name of this node: as configured, or drawn at random. Where its sessions outlive the process its name does, too: other
/// nodes would take the resumed publishers of an unknown node for others.
pub fn node_id(role: Role, config: &Config, random: &[u8; 32]) -> anyhow::Result<NodeId> {
    if let Some(id) = &config.node.id {
        return Ok(id.clone());
    }
    let suffix: String = random[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let drawn = NodeId::new(&format!("{role}-{suffix}")).context("make a node id")?;
    match (&config.node.state_dir, &config.node.state_key_file) {
        (Some(directory), Some(_)) => kept_node_id(&directory.join(format!("{role}.id")), drawn),
        (None | Some(_), _) => Ok(drawn),
    }
}

/// The id in this file, or `drawn`, which is then kept there.
fn kept_node_id(path: &Path, drawn: NodeId) -> anyhow::Result<NodeId> {
    match std::fs::read_to_string(path) {
        Ok(text) => NodeId::new(text.trim()).with_context(|| format!("{} holds no node id", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                let made = DirBuilder::new().mode(0o700).recursive(true).create(directory);
                made.with_context(|| format!("make {}", directory.display()))?;
            }
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let written = file.and_then(|mut file| file.write_all(drawn.as_str().as_bytes()));
            written.with_context(|| format!("write {}", path.display()))?;
            Ok(drawn)
        }
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn exchange_config(node: &NodeId, role: Role, config: &Config, random: &[u8; 32]) -> exchange::Config {
    // Without a memory of its own a node counts its starts by the clock.
    let incarnation = Incarnation {
        counter: unix_time().as_secs(),
        random: u64::from_be_bytes(random[6..14].try_into().unwrap_or_default()),
    };
    exchange::Config {
        ring: ring_limits(config),
        // Those that a controller names are at least two where there are as many.
        parents_active: if config.control.store.is_some() {
            2
        } else {
            config.link.parents.len().clamp(1, 2)
        },
        ..exchange::Config::new(node.clone(), role, incarnation)
    }
}

/// The secret of the cluster, or what stands for it where everything stays on this machine.
pub fn cluster_key(config: &Config) -> &str {
    config.link.cluster_key.as_ref().map_or(LOOPBACK_CLUSTER_KEY, |key| key.expose())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_sessions_outlive_it_keeps_its_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.node.state_dir = Some(directory.path().join("state"));
        let id = |config: &Config, random: u8| node_id(Role::Egress, config, &[random; 32]);
        assert_ne!(id(&config, 1).expect("drawn"), id(&config, 2).expect("drawn"), "there is no key");
        config.node.state_key_file = Some(directory.path().join("key"));
        let first = id(&config, 1).expect("drawn");
        assert_eq!(id(&config, 2).expect("kept"), first);
        let file = directory.path().join("state/egress.id");
        std::fs::write(file, "No Name").expect("written");
        let refused = id(&config, 3).expect_err("no id");
        assert!(refused.to_string().ends_with("egress.id holds no node id"), "{refused}");
    }
}
