//! The node as a whole: what the machine gives it, what HTTP asks of it, what it drops.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::BroadcastId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::collect::{Name, counter, plain};
use crate::labels::{
    Closed as _, ConnectionDrop, Endpoint, HttpResult, Label, NodeDrop, OfBroadcast, counters, write_label,
};
use crate::own_names;
use crate::process::Usage;

/// Bytes through the node's media sockets; the threads that own the sockets add to them.
#[derive(Debug, Default)]
pub struct NetworkCounters {
    received: AtomicU64,
    sent: AtomicU64,
}

impl NetworkCounters {
    /// Adds received bytes, UDP payload.
    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds sent bytes, UDP payload.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Session records of one store; all stores of the node add up.
#[derive(Debug, Clone, Default)]
pub struct RecordCounters {
    held: Gauge,
    puts: Counter,
    put_failures: Counter,
}

impl RecordCounters {
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
}

/// Connections of the public HTTP listener. Cloning shares them.
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

impl ConnectionCounters {
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
        self.dropped(ConnectionDrop::Full);
    }

    /// One was refused: there were too many of its client.
    pub fn client_full(&self) {
        self.dropped(ConnectionDrop::ClientFull);
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
    port_pool_percent: Gauge<f64, AtomicU64>,
    pipelines: Family<OfBroadcast, Gauge>,
    network: Arc<NetworkCounters>,
    requests: Family<Request, Counter>,
    drops: Family<Label<NodeDrop>, Counter>,
    segmentation: Gauge,
    records: RecordCounters,
    connections: ConnectionCounters,
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
        registry.register(
            "pipeline_up",
            "1 if media of the broadcast flows through this node, 0 if it is known here and none flows",
            metrics.pipelines.clone(),
        );
        let own = own_names(registry);
        own.register(
            "build",
            "The program that runs",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
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
        own.register("http_requests", "HTTP requests answered", metrics.requests.clone());
        own.register(
            "node_drops",
            "Datagrams, packets and commands that this node dropped outside its cores",
            metrics.drops.clone(),
        );
        own.register(
            "udp_segmentation_active",
            "Media sockets that send with UDP segmentation offload; fewer than sockets means a slow path",
            metrics.segmentation.clone(),
        );
        own.register(
            "records",
            "Sessions that have a record which outlives the process",
            metrics.records.held.clone(),
        );
        own.register("record_puts", "Session records written", metrics.records.puts.clone());
        own.register(
            "record_put_failures",
            "Session records that could not be written: their sessions end with the process",
            metrics.records.put_failures.clone(),
        );
        metrics
    }

    /// Shows what the process uses; see [`crate::process::Sampler`].
    pub fn usage(&self, usage: &Usage) {
        self.cpu_percent.set(usage.cpu_percent);
        self.memory_bytes.set(i64::try_from(usage.memory_bytes).unwrap_or(i64::MAX));
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
    }

    /// Shows whether media of a broadcast flows through this node.
    pub fn pipeline(&self, broadcast: &BroadcastId, is_up: bool) {
        self.pipelines.get_or_create(&OfBroadcast(broadcast.clone())).set(i64::from(is_up));
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

    /// Where the public HTTP listener counts its connections.
    #[must_use]
    pub fn connections(&self) -> ConnectionCounters {
        self.connections.clone()
    }

    /// Where the owner of a store of session records counts.
    #[must_use]
    pub fn records(&self) -> RecordCounters {
        self.records.clone()
    }

    pub(crate) fn remove_broadcast(&self, broadcast: &BroadcastId) {
        self.pipelines.remove(&OfBroadcast(broadcast.clone()));
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
