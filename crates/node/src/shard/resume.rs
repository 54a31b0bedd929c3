//! Going on with the viewers of an earlier process.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use egress::{ViewerId, ViewerRecord};
use ice_dtls::{Handshake, IceConfig, Path, PeerCredentials};
use model::BroadcastId;

use super::{Session, Shard};
use crate::events::{NodeEvent, ViewerEnding as Ending};
use crate::handshakes::{self, Resumed};
use crate::random;
use crate::session_records::envelope;
use crate::sessions::{Came, Peer, Sessions};

/// A broadcast whose viewers went on and that nobody has told of by then is no more: longer than its publisher may stay
/// away, and than the links of the tree need.
const UNKNOWN_MAX: Duration = Duration::from_secs(60);

/// Broadcasts whose viewers went on before anybody told of them.
#[derive(Default)]
pub(super) struct Unknown {
    broadcasts: BTreeSet<BroadcastId>,
    until: Option<Instant>,
}

impl Unknown {
    /// The broadcast is known now.
    pub(super) fn told(&mut self, broadcast: &BroadcastId) {
        self.broadcasts.remove(broadcast);
    }
}

impl Shard {
    /// Goes on with the viewers of an earlier process that have good records; their URLs go into `sessions`.
    pub(super) fn resume(&mut self, now: Instant, sessions: &Sessions) {
        let earlier = self.out.records.as_mut().map(|records| records.take_earlier()).unwrap_or_default();
        let mut count = 0_u64;
        let mut have = BTreeMap::new();
        for (viewer, record) in earlier {
            let id = record.id;
            let newest_sent: Vec<_> = record.newest_sent().collect();
            let resumed = self.resume_viewer(now, viewer, record, sessions);
            let Some(records) = &mut self.out.records else { continue };
            match resumed {
                Ok(()) => {
                    records.resumed();
                    count += 1;
                    for (ssrc, newest) in newest_sent {
                        let known = have.entry(ssrc).or_insert(newest);
                        *known = newest.min(*known);
                    }
                }
                Err(error) => records.refuse(id, &error),
            }
        }
        if count > 0 {
            self.tree.viewers_have(have);
            tracing::info!(shard = self.index, viewers = count, "viewers go on");
            self.unknown.until = Some(now + UNKNOWN_MAX);
        }
    }

    fn resume_viewer(
        &mut self,
        now: Instant,
        viewer: envelope::Viewer,
        record: ViewerRecord,
        sessions: &Sessions,
    ) -> anyhow::Result<()> {
        let envelope::Viewer { resource, local } = viewer;
        let (id, broadcast) = (record.id, record.broadcast.clone());
        anyhow::ensure!(broadcast == resource.broadcast, "it is of two broadcasts");
        anyhow::ensure!(
            !self.by_ufrag.contains_key(local.ufrag()),
            "another viewer has its ICE user fragment"
        );
        let port = self.out.socket.local_addr().port();
        let path = Path { local: SocketAddr::new(record.path.local, port), remote: record.path.remote };
        let remote =
            PeerCredentials { ufrag: resource.peer_ice.ufrag.clone(), pwd: resource.peer_ice.pwd.clone() };
        let ice = IceConfig { local: local.clone(), remote, random: random::bytes()? };
        // All m-lines have one transport: any of them will do for the first.
        let mut tracks = record.audio.iter().chain(&record.video);
        let first_mid = tracks.next().map(|track| track.out.mid.clone());
        self.core.resume_viewer(now, record)?;
        self.by_ufrag.insert(local.ufrag().to_owned(), id);
        let handshake = Handshake::resumed(ice, path, now);
        let resumed = Resumed { viewer: id, broadcast: broadcast.clone(), handshake };
        let session = Session {
            path: Some(path),
            is_established: true,
            resumed: Some(Box::new(resumed)),
            ..Session::new(broadcast.clone(), local)
        };
        self.sessions.insert(id, session);
        self.unknown.broadcasts.insert(broadcast.clone());
        self.watch(&broadcast, None);
        sessions.insert(&resource, Peer::Viewer(id, self.index), Came::default(), first_mid);
        let _ = self.events.send(NodeEvent::ViewerResumed { viewer: id, broadcast });
        Ok(())
    }

    /// Lets the worker know of a viewer of an earlier process, once it has something to do for it; false if it has no
    /// room at the moment.
    pub(super) fn introduce(&mut self, viewer: ViewerId) -> bool {
        let Some(session) = self.sessions.get_mut(&viewer) else { return true };
        let Some(resumed) = session.resumed.take() else { return true };
        match self.handshakes.try_send(handshakes::Command::Resumed(resumed)) {
            Ok(()) => true,
            Err(error) => {
                if let handshakes::Command::Resumed(resumed) = error.into_inner() {
                    session.resumed = Some(resumed);
                }
                false
            }
        }
    }

    /// Ends viewers whose broadcast nobody has told of.
    pub(super) fn end_unknown(&mut self, now: Instant) {
        if self.unknown.until.is_none_or(|until| now < until) {
            return;
        }
        self.unknown.until = None;
        for broadcast in std::mem::take(&mut self.unknown.broadcasts) {
            let watching = self.sessions.iter().filter(|(_, session)| session.broadcast == broadcast);
            let mut watching: Vec<ViewerId> = watching.map(|(viewer, _)| *viewer).collect();
            watching.sort_unstable();
            for viewer in watching {
                self.end(now, viewer, Ending::BroadcastEnded, true);
            }
        }
    }
}
