//! What the shard's socket receives.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::TrySendError;
use egress::ViewerId;
use ice_dtls::{Datagram, Path, stun};

use super::Shard;
use crate::handshakes;

impl Shard {
    /// Handles some of what the socket received; true if more may wait.
    pub(super) fn socket_turn(&mut self, datagrams_max: usize) -> bool {
        let mut handled = 0;
        while handled < datagrams_max {
            let mut batch = std::mem::take(&mut self.received);
            let count = self.out.socket.receive(&mut batch).unwrap_or(0);
            let now = Instant::now();
            for datagram in batch.iter_mut() {
                self.counters.received(datagram.bytes.len());
                self.datagram(now, datagram);
            }
            self.received = batch;
            if count == 0 {
                return false;
            }
            handled += count;
        }
        true
    }

    fn datagram(&mut self, now: Instant, datagram: udp_batch::Received<'_>) {
        let local = SocketAddr::new(datagram.local, self.out.socket.local_addr().port());
        let path = Path { local, remote: datagram.remote };
        match ice_dtls::classify(datagram.bytes) {
            Datagram::Stun => self.stun(now, path, datagram.bytes),
            Datagram::Dtls => {
                // A viewer on its way in may have the address of one that left without a word.
                let checked = self.pending.get(&path.remote).copied();
                let joining = checked.filter(|viewer| !self.is_established(*viewer));
                match joining.or_else(|| self.core.viewer_by_remote(path.remote)) {
                    Some(viewer) => self.hand_over(viewer, path, datagram.bytes),
                    None => self.counters.stranger(),
                }
            }
            Datagram::Rtcp => match self.core.viewer_by_remote(path.remote) {
                Some(viewer) => {
                    let out = &mut self.out;
                    if let Err(error) = self.core.handle_rtcp(now, viewer, datagram.bytes, out) {
                        tracing::trace!(viewer = viewer.get(), %error, "RTCP refused");
                    }
                }
                None => self.counters.stranger(),
            },
            Datagram::Rtp | Datagram::Unknown => self.counters.stranger(),
        }
    }

    /// Answers a check on the path in use itself; leaves every other check to the worker.
    fn stun(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        let Some(request) = stun::BindingRequest::parse(bytes) else {
            // Perhaps the answer to a check of the worker's.
            return match self.pending.get(&path.remote) {
                Some(&viewer) => self.hand_over(viewer, path, bytes),
                None => self.counters.stranger(),
            };
        };
        let Some(&viewer) = self.by_ufrag.get(request.local_ufrag()) else {
            return self.counters.stranger();
        };
        let Some(session) = self.sessions.get_mut(&viewer) else { return };
        if !stun::verify(bytes, session.local.pwd()) {
            return self.counters.stranger();
        }
        let is_path_in_use = session.is_established && session.path == Some(path);
        if !is_path_in_use {
            // The answer to the worker's own check will come from there, and DTLS.
            if !session.checked.contains(&path.remote) {
                if session.checked.len() == ice_dtls::PATHS_MAX {
                    self.pending.remove(&session.checked.remove(0));
                }
                session.checked.push(path.remote);
            }
            self.pending.insert(path.remote, viewer);
            return self.hand_over(viewer, path, bytes);
        }
        self.core.heard(now, viewer);
        let to = egress::Path { local: path.local.ip(), remote: path.remote };
        egress::SendBatch::datagram(&mut self.out, &to, stun::SUCCESS_LENGTH_MAX, |buffer| {
            stun::write_success(buffer, request.transaction(), path.remote, session.local.pwd())
        });
    }

    fn is_established(&self, viewer: ViewerId) -> bool {
        self.sessions.get(&viewer).is_some_and(|session| session.is_established)
    }

    fn hand_over(&mut self, viewer: ViewerId, path: Path, bytes: &[u8]) {
        if !self.introduce(viewer) {
            return self.counters.handshake_queue_full();
        }
        let command = handshakes::Command::Datagram { viewer, path, bytes: Bytes::copy_from_slice(bytes) };
        match self.handshakes.try_send(command) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => self.counters.handshake_queue_full(),
        }
    }
}
