//! What threads with a media socket count of it.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use telemetry::node::NetworkCounters;
use telemetry::{NodeDrop, Telemetry};

/// What a thread with a media socket counts.
pub(super) struct SocketCounters {
    pub(super) network: Arc<NetworkCounters>,
    pub(super) stranger: Counter,
    send_buffer_full: Counter,
    send_refused: Counter,
}

impl SocketCounters {
    pub(super) fn new(telemetry: &Telemetry) -> Self {
        Self {
            network: telemetry.node.network(),
            stranger: telemetry.node.drops(NodeDrop::Stranger),
            send_buffer_full: telemetry.node.drops(NodeDrop::SendBufferFull),
            send_refused: telemetry.node.drops(NodeDrop::SendRefused),
        }
    }

    pub(super) fn flushed(&self, flushed: &udp_batch::Flushed) {
        self.network.sent(flushed.sent, flushed.bytes);
        if flushed.dropped > 0 {
            self.send_buffer_full.inc_by(flushed.dropped);
        }
        if flushed.refused > 0 {
            self.send_refused.inc_by(flushed.refused);
        }
    }
}

/// Whether one media socket sends with UDP segmentation offload.
pub(super) struct Segmentation {
    /// Sockets that do.
    sockets: Gauge,
    /// All sockets.
    all_sockets: Gauge,
    is_active: Option<bool>,
}

impl Segmentation {
    pub(super) fn new(telemetry: &Telemetry) -> Self {
        let (sockets, all_sockets) = (telemetry.node.segmentation(), telemetry.node.media_sockets());
        Self { sockets, all_sockets, is_active: None }
    }

    /// Counts the socket among those that do, or no more; says so when it does not.
    pub(super) fn observe(&mut self, socket: &udp_batch::Socket) {
        let (is_active, was_active) = (socket.gso_active(), self.is_active);
        if was_active == Some(is_active) {
            return;
        }
        self.is_active = Some(is_active);
        if was_active.is_none() {
            self.all_sockets.inc();
        }
        if is_active {
            self.sockets.inc();
            return;
        }
        tracing::warn!(
            port = socket.local_addr().port(),
            "this socket sends without UDP segmentation offload, which costs several times the CPU: the kernel, the \
             device or a tunnel on the way does not have it"
        );
        if was_active.is_some() {
            self.sockets.dec();
        }
    }
}
