//! The fan-out core's way out: datagrams to the send queue, records to their store.

use std::time::Instant;

use egress::{RecordChange, SendBatch, ViewerId};

use crate::session_records::ViewerRecords;

/// Where the core sends.
pub struct Out {
    /// The viewers' socket.
    pub socket: udp_batch::Socket,
    /// Datagrams on their way to it.
    pub queue: udp_batch::SendQueue,
    /// Records of viewers, if they are kept.
    pub records: Option<ViewerRecords>,
}

impl SendBatch for Out {
    fn datagram(&mut self, path: &egress::Path, len_max: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        self.queue.push(path.local, path.remote, len_max, fill);
        // A broken socket shows at the next flush.
        let _ = self.queue.flush_when_full(&self.socket);
    }

    fn keeps_records(&self) -> bool {
        self.records.is_some()
    }

    /// Written at once, and so before whatever is pushed from now on: no datagram leaves before its push.
    fn record(&mut self, viewer: ViewerId, change: RecordChange) {
        let Some(records) = &mut self.records else { return };
        match change {
            RecordChange::Put(record) => records.put(Instant::now(), viewer, &record),
            RecordChange::Removed => records.remove(viewer),
        }
    }
}
