//! The node as a whole: what the machine gives it, what HTTP asks of it, what it drops.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use model::BroadcastId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::collect::{Labels, Name, counter, gauge, plain};
use crate::controller::SlotState;
use crate::labels::{
    BroadcastState, Closed as _, ConnectionDrop, Endpoint, HttpResult, Label, NodeDrop, OfBroadcast,
    RecordRefusal, counters, write_label,
};
use crate::own_names;
use crate::process::{Holdings, Usage};

/// Bytes through the node's media sockets; the threads that own the sockets add to them.
#[derive(Debug, Default)]
pub struct NetworkCounters {
    received: AtomicU64,
    sent: AtomicU64,
    sent_datagrams: AtomicU64,
}

impl NetworkCounters {
    /// Adds received bytes, UDP payload.
    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds sent datagrams and their bytes, UDP payload.
    pub fn sent(&self, datagrams: u64, bytes: u64) {
        self.sent_datagrams.fetch_add(datagrams, Ordering::Relaxed);
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes and datagrams sent until now.
    #[must_use]
    pub fn sent_until_now(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.sent_datagrams.load(Ordering::Relaxed))
    }
}

/// Session records of one store; all stores of the node add up.
#[derive(Debug, Clone)]
pub struct RecordCounters {
    held: Gauge,
    puts: Counter,
    put_failures: Counter,
    resumed: Counter,
    refused: Family<Label<RecordRefusal>, Counter>,
}

impl Default for RecordCounters {
    fn default() -> Self {
        Self {
            held: Gauge::default(),
            puts: Counter::default(),
            put_failures: Counter::default(),
            resumed: Counter::default(),
            refused: counters(),
        }
    }
}

impl RecordCounters {
    fn register(&self, own: &mut Registry) {
        own.register("records", "Sessions that have a record which outlives the process", self.held.clone());
        own.register("record_puts", "Session records written", self.puts.clone());
        own.register(
            "record_put_failures",
            "Session records that could not be written: their sessions end with the process",
            self.put_failures.clone(),
        );
        own.register(
            "sessions_resumed",
            "Sessions of an earlier process that went on in this one",
            self.resumed.clone(),
        );
        own.register(
            "record_refusals",
            "Session records of an earlier process that were not resumed from",
            self.refused.clone(),
        );
    }

    /// The store held `before` records and now holds `after`.
    pub fn held(&self, before: usize, after: usize) {
        self.held.inc_by(after as i64 - before as i64);
    }

    /// A record was written.
    pub fn put(&self) {
        self.puts.inc();
    }

    /// A record could not be written.
    pub fn put_failed(&self) {
        self.put_failures.inc();
    }

    /// A session of an earlier process goes on.
    pub fn resumed(&self) {
        self.resumed.inc();
    }

    /// A session of an earlier process does not go on.
    pub fn refused(&self, reason: RecordRefusal) {
        self.refused.get_or_create(&Label(reason)).inc();
    }
}

/// Connections of the public HTTP listener, or of those for media over TCP. Cloning shares them.
#[derive(Debug, Clone)]
pub struct ConnectionCounters {
    open: Gauge,
    dropped: Family<Label<ConnectionDrop>, Counter>,
}

impl Default for ConnectionCounters {
    fn default() -> Self {
        Self { open: Gauge::default(), dropped: counters() }
    }
}

/// Who is let in at a listener. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct AdmissionCounters {
    pub(crate) open: Gauge,
    pub(crate) full: Counter,
    pub(crate) client_full: Counter,
}

impl AdmissionCounters {
    /// A connection was let in.
    pub fn opened(&self) {
        self.open.inc();
    }

    /// It is no more.
    pub fn closed(&self) {
        self.open.dec();
    }

    /// One was refused: there were too many.
    pub fn full(&self) {
        self.full.inc();
    }

    /// One was refused: there were too many of its client.
    pub fn client_full(&self) {
        self.client_full.inc();
    }
}

impl ConnectionCounters {
    /// Where it is counted who is let in.
    #[must_use]
    pub fn admission(&self) -> AdmissionCounters {
        AdmissionCounters {
            open: self.open.clone(),
            full: self.dropped.get_or_create_owned(&Label(ConnectionDrop::Full)),
            client_full: self.dropped.get_or_create_owned(&Label(ConnectionDrop::ClientFull)),
        }
    }

    /// The TLS handshake of one failed.
    pub fn tls_failed(&self) {
        self.dropped(ConnectionDrop::TlsFailed);
    }

    /// The client of one took too long to speak TLS, to ask, or to take the answer.
    pub fn too_slow(&self) {
        self.dropped(ConnectionDrop::TooSlow);
    }

    fn dropped(&self, reason: ConnectionDrop) {
        self.dropped.get_or_create(&Label(reason)).inc();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Request(Endpoint, HttpResult);

impl EncodeLabelSet for Request {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        write_label(encoder, Endpoint::NAME, self.0.as_str())?;
        write_label(encoder, HttpResult::NAME, self.1.as_str())
    }
}

/// Handles of the node's metrics.
#[derive(Debug, Default)]
pub struct Metrics {
    cpu_percent: Gauge<f64, AtomicU64>,
    memory_bytes: Gauge,
    uptime_seconds: Gauge<f64, AtomicU64>,
    open_files: Gauge,
    open_files_max: Gauge<f64, AtomicU64>,
    processors: Gauge<f64, AtomicU64>,
    crashes: Counter,
    certificate_expires: Arc<OnceLock<f64>>,
    slot: Arc<Mutex<Option<SlotState>>>,
    port_pool_percent: Gauge<f64, AtomicU64>,
    port_pool_used: Gauge,
    port_pool_size: Gauge,
    broadcasts: Family<Label<BroadcastState>, Gauge>,
    pipelines: Arc<Mutex<BTreeMap<BroadcastId, bool>>>,
    network: Arc<NetworkCounters>,
    requests: Family<Request, Counter>,
    drops: Family<Label<NodeDrop>, Counter>,
    segmentation: Gauge,
    media_sockets: Gauge,
    records: RecordCounters,
    connections: ConnectionCounters,
    media_connections: ConnectionCounters,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { drops: counters(), ..Self::default() };
        for (endpoint, result) in
            Endpoint::ALL.iter().flat_map(|e| HttpResult::ALL.iter().map(move |r| (e, r)))
        {
            let _: &Counter = &metrics.requests.get_or_create(&Request(*endpoint, *result));
        }
        registry.register(
            "node_cpu_usage_percent",
            "CPU used by this process, in percent of what its cgroup and affinity allow",
            metrics.cpu_percent.clone(),
        );
        registry.register(
            "node_memory_used_bytes",
            "Resident memory of this process",
            metrics.memory_bytes.clone(),
        );
        registry.register_collector(Box::new(Network(metrics.network.clone())));
        registry.register(
            "port_pool_utilization",
            "Used part of the node's media capacity (viewers or publishers over their maximum), in percent",
            metrics.port_pool_percent.clone(),
        );
        registry.register_collector(Box::new(Pipelines(metrics.pipelines.clone())));
        let own = own_names(registry);
        own.register(
            "build",
            "The program that runs",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        own.register(
            "port_pool_used",
            "Used slots of the node's media capacity",
            metrics.port_pool_used.clone(),
        );
        own.register(
            "port_pool_size",
            "The node's media capacity: viewers that it may serve, else publishers that it may take",
            metrics.port_pool_size.clone(),
        );
        own.register("broadcasts", "Broadcasts that this node knows, by state", metrics.broadcasts.clone());
        own.register(
            "http_connections",
            "Connections of the public HTTP listener",
            metrics.connections.open.clone(),
        );
        own.register(
            "http_connection_drops",
            "Connections of the public HTTP listener that it refused or ended",
            metrics.connections.dropped.clone(),
        );
        own.register(
            "media_tcp_connections",
            "Publishers and viewers that are connected over TCP, for want of UDP",
            metrics.media_connections.open.clone(),
        );
        own.register(
            "media_tcp_connection_drops",
            "Connections for media over TCP that were refused or ended",
            metrics.media_connections.dropped.clone(),
        );
        own.register("http_requests", "HTTP requests answered", metrics.requests.clone());
        own.register(
            "node_drops",
            "Datagrams, packets, messages, commands and handshakes that this node dropped outside its cores",
            metrics.drops.clone(),
        );
        own.register(
            "udp_segmentation_active",
            "Media sockets that send with UDP segmentation offload; fewer than sockets means a slow path",
            metrics.segmentation.clone(),
        );
        own.register(
            "udp_media_sockets",
            "Media sockets that this node sends on",
            metrics.media_sockets.clone(),
        );
        metrics.register_process(own);
        metrics.records.register(own);
        metrics
    }

    fn register_process(&self, own: &mut Registry) {
        own.register("uptime_seconds", "Time since this process began", self.uptime_seconds.clone());
        own.register("open_files", "File descriptors that this process has open", self.open_files.clone());
        own.register(
            "open_files_max",
            "File descriptors that this process may have open; a number out of all reach without a limit",
            self.open_files_max.clone(),
        );
        own.register(
            "cpu_cores",
            "Processors that this process may use by its cgroup and affinity: what 100 percent of CPU usage are",
            self.processors.clone(),
        );
        own.register(
            "pipeline_crashes",
            "Times that the process of this node died unasked and its supervisor started it again",
            self.crashes.clone(),
        );
        own.register_collector(Box::new(Certificate(self.certificate_expires.clone())));
        own.register_collector(Box::new(OwnSlot(self.slot.clone())));
    }

    /// Shows what the process uses; see [`crate::process::Sampler`].
    pub fn usage(&self, usage: &Usage) {
        self.cpu_percent.set(usage.cpu_percent);
        self.memory_bytes.set(i64::try_from(usage.memory_bytes).unwrap_or(i64::MAX));
    }

    /// Shows what the process holds; see [`crate::process::Sampler`].
    pub fn holdings(&self, holdings: &Holdings) {
        self.open_files.set(i64::try_from(holdings.open_files).unwrap_or(i64::MAX));
        self.open_files_max.set(holdings.open_files_max.unwrap_or(u64::MAX) as f64);
        self.processors.set(holdings.processors);
    }

    /// Shows for how long the process runs.
    pub fn uptime(&self, time: Duration) {
        self.uptime_seconds.set(time.as_secs_f64());
    }

    /// Counts the deaths of this node's earlier processes. To be called once.
    pub fn crashed(&self, times: u64) {
        self.crashes.inc_by(times);
    }

    /// Shows when the certificate of the public listener expires, in seconds since 1970. To be called once; without
    /// one there is no such series.
    pub fn certificate_expires(&self, at: Duration) {
        let _ = self.certificate_expires.set(at.as_secs_f64());
    }

    /// Shows how far the slot has come that this node belongs to, if it belongs to one.
    pub fn slot(&self, state: Option<SlotState>) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Shows how many broadcasts are known here.
    pub fn broadcasts(&self, live: usize, waiting: usize) {
        self.broadcasts.get_or_create(&Label(BroadcastState::Live)).set(live as i64);
        self.broadcasts.get_or_create(&Label(BroadcastState::Waiting)).set(waiting as i64);
    }

    /// Where the owners of media sockets count their bytes.
    #[must_use]
    pub fn network(&self) -> Arc<NetworkCounters> {
        self.network.clone()
    }

    /// Shows how many of the node's slots (viewers or publishers) are used.
    pub fn port_pool(&self, used: u64, slots: u64) {
        let percent = if slots == 0 { 100.0 } else { used as f64 * 100.0 / slots as f64 };
        self.port_pool_percent.set(percent);
        self.port_pool_used.set(used as i64);
        self.port_pool_size.set(slots as i64);
    }

    /// Shows of each broadcast whether its media flows through this node. The series of one that is missing end.
    pub fn pipelines(&self, all: BTreeMap<BroadcastId, bool>) {
        *self.pipelines.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Counts an answered HTTP request.
    pub fn request(&self, endpoint: Endpoint, status: u16) {
        self.requests.get_or_create(&Request(endpoint, HttpResult::of_status(status))).inc();
    }

    /// A handle to count what is dropped for one reason.
    #[must_use]
    pub fn drops(&self, reason: NodeDrop) -> Counter {
        self.drops.get_or_create_owned(&Label(reason))
    }

    /// Where media sockets that use segmentation offload are counted.
    #[must_use]
    pub fn segmentation(&self) -> Gauge {
        self.segmentation.clone()
    }

    /// Where media sockets are counted.
    #[must_use]
    pub fn media_sockets(&self) -> Gauge {
        self.media_sockets.clone()
    }

    /// Where the public HTTP listener counts its connections.
    #[must_use]
    pub fn connections(&self) -> ConnectionCounters {
        self.connections.clone()
    }

    /// Where the listeners for media over TCP count theirs.
    #[must_use]
    pub fn media_connections(&self) -> ConnectionCounters {
        self.media_connections.clone()
    }

    /// Where the owner of a store of session records counts.
    #[must_use]
    pub fn records(&self) -> RecordCounters {
        self.records.clone()
    }
}

#[derive(Debug)]
struct Certificate(Arc<OnceLock<f64>>);

impl Collector for Certificate {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "When the certificate of the public listener expires, in seconds since 1970";
        let name = Name("tls_certificate_expiry_timestamp_seconds", help);
        gauge(&mut encoder, name, self.0.get().into_iter().flat_map(|at| plain(*at)))
    }
}

#[derive(Debug)]
struct OwnSlot(Arc<Mutex<Option<SlotState>>>);

impl Collector for OwnSlot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let own = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let states = std::iter::once(None).chain(SlotState::ALL.iter().copied().map(Some));
        let series = states.map(|state| {
            let word = state.map_or("none", SlotState::as_str);
            (Labels(vec![(SlotState::NAME, word)]), f64::from(u8::from(state == own)))
        });
        let help = "1 for the state of the slot that this node belongs to, 0 for the others; none: no slot brought it";
        gauge(&mut encoder, Name("node_slot", help), series)
    }
}

#[derive(Debug)]
struct Pipelines(Arc<Mutex<BTreeMap<BroadcastId, bool>>>);

impl Collector for Pipelines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if all.is_empty() {
            return Ok(());
        }
        let help = "1 if media of the broadcast comes to this node, or would if anybody took it here; 0 if the \
                    broadcast waits for its publisher or media is missing";
        let mut metric = encoder.encode_descriptor("pipeline_up", help, None, MetricType::Gauge)?;
        for (broadcast, is_up) in all {
            metric.encode_family(&OfBroadcast(broadcast))?.encode_gauge(&i64::from(is_up))?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Network(Arc<NetworkCounters>);

impl Collector for Network {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let received = Name(
            "node_network_receive_bytes",
            "Bytes received by the media sockets of this node, UDP payload",
        );
        counter(&mut encoder, received, plain(self.0.received.load(Ordering::Relaxed)))?;
        let sent =
            Name("node_network_transmit_bytes", "Bytes sent by the media sockets of this node, UDP payload");
        counter(&mut encoder, sent, plain(self.0.sent.load(Ordering::Relaxed)))
    }
}
