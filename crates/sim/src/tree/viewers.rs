//! Viewers come, go, and are resumed; their datagrams travel.

use std::rc::Rc;
use std::sync::Arc;

use egress::{Path, TrackRecord, ViewerId, ViewerRecord, ViewerSetup};
use media_core::TreePacket;
use model::{BroadcastId, Kind};

use super::Tree;
use crate::network::{Delivery, NodeIndex};
use crate::node::CONSENT_TIMEOUT;
use crate::tap::Opened;
use crate::viewer::{ABOUT_TO_WRAP, Presence, Style, Viewer};

impl Tree {
    /// A viewer joins a broadcast at an egress node. `None` if its process is down.
    pub fn join(&mut self, node: NodeIndex, broadcast: &BroadcastId, style: Style) -> Option<ViewerId> {
        if !self.nodes[node.0].is_alive || self.nodes[node.0].shard.is_none() {
            return None;
        }
        let id = ViewerId::new(self.viewers.len() as u64 + 1);
        let now = self.clock.now();
        let watches = (node, broadcast.clone());
        let (viewer, setup) = Viewer::new(now, id, watches, style, &mut self.random);
        self.by_remote.insert(setup.path.remote, id);
        self.viewers.insert(id, viewer);
        self.trace.note(&[5, node.0 as u64, id.get()]);
        let result = if style.is_about_to_wrap {
            let record = about_to_wrap(broadcast, setup);
            self.shard(node, |shard, now, _| shard.resume_viewer(now, record))
        } else {
            self.shard(node, |shard, now, _| shard.add_viewer(now, broadcast, setup))
        };
        if let Some(Err(error)) = result {
            self.fail(format!("{node:?} does not take {id:?}: {error}"));
        }
        self.nodes[node.0].count_viewer(now, broadcast, true);
        self.drain(node);
        Some(id)
    }

    /// A viewer leaves, with a goodbye (which may be lost) or without.
    pub fn leave(&mut self, id: ViewerId, says_goodbye: bool) {
        let Some(viewer) = self.viewers.get_mut(&id) else { return };
        if viewer.presence != Presence::Watching {
            return;
        }
        self.trace.note(&[6, id.get(), u64::from(says_goodbye)]);
        viewer.presence = if says_goodbye { Presence::Left } else { Presence::Vanished };
        let goodbye = says_goodbye.then(|| viewer.goodbye()).flatten();
        if let Some(datagram) = goodbye {
            self.send_feedback(id, datagram);
        }
    }

    /// A viewer's decoder wants a keyframe, for no reason that we see.
    pub fn wish_keyframe(&mut self, id: ViewerId) {
        let watching = self.viewers.get_mut(&id).filter(|viewer| viewer.presence == Presence::Watching);
        if let Some(datagram) = watching.and_then(Viewer::keyframe_request) {
            self.send_feedback(id, datagram);
        }
    }

    /// A viewer.
    #[must_use]
    pub fn viewer(&self, id: ViewerId) -> Option<&Viewer> {
        self.viewers.get(&id)
    }

    /// All viewers that ever were.
    pub fn viewers(&self) -> impl Iterator<Item = &Viewer> {
        self.viewers.values()
    }

    /// The viewers that watch.
    #[must_use]
    pub fn watching(&self) -> Vec<ViewerId> {
        let watching = self.viewers.values().filter(|viewer| viewer.presence == Presence::Watching);
        watching.map(|viewer| viewer.id).collect()
    }

    pub(super) fn send_feedback(&mut self, viewer: ViewerId, datagram: Rc<[u8]>) {
        let Some(conditions) = self.viewers.get(&viewer).map(|viewer| viewer.conditions) else { return };
        self.network.datagram(self.clock.now(), &conditions, Delivery::FromViewer { viewer, datagram });
    }

    /// A datagram leaves an egress for a viewer: through the tap, then on its way.
    pub(super) fn send_to_viewer(&mut self, node: NodeIndex, run: u32, path: &Path, datagram: Vec<u8>) {
        let now = self.clock.now();
        let viewer = self.by_remote.get(&path.remote).and_then(|id| self.viewers.get_mut(id));
        let Some(viewer) = viewer.filter(|viewer| viewer.node == node) else {
            return self.fail(format!("{node:?} sends to {}, where none of its viewers is", path.remote));
        };
        let (id, conditions) = (viewer.id, viewer.conditions);
        self.trace.note(&[7, id.get(), crate::trace::tag(&datagram)]);
        let opened = viewer.tap.open(&self.published, run, datagram).and_then(|opened| match &opened {
            Opened::Media(media) => {
                let stream = self.published.stream(media.packet.ssrc);
                let is_own = stream.is_some_and(|stream| stream.broadcast == viewer.broadcast);
                is_own.then_some(opened).ok_or_else(|| "gets a packet of another broadcast".into())
            }
            Opened::Reports(_) => Ok(opened),
        });
        match opened {
            Ok(opened) => {
                let opened = Rc::new(opened);
                self.network.datagram(now, &conditions, Delivery::ToViewer { viewer: id, opened });
            }
            Err(what) => self.fail(format!("{node:?} to {id:?}: {what}")),
        }
    }

    pub(super) fn viewer_receives(&mut self, id: ViewerId, opened: &Opened) {
        let now = self.clock.now();
        let Some(viewer) = self.viewers.get_mut(&id) else { return };
        if viewer.presence != Presence::Watching {
            return;
        }
        if let Err(what) = viewer.receive(now, opened) {
            self.fail(format!("{id:?} {what}"));
        }
    }

    /// The egress lets a viewer go.
    pub(super) fn remove_viewer(&mut self, node: NodeIndex, id: ViewerId) {
        self.shard(node, |shard, now, _| shard.remove_viewer(now, id));
        let now = self.clock.now();
        let Some(viewer) = self.viewers.get(&id) else { return };
        if viewer.presence == Presence::Watching {
            self.fail(format!("{node:?} lets {id:?} go, who watches"));
            return;
        }
        let broadcast = viewer.broadcast.clone();
        self.nodes[node.0].count_viewer(now, &broadcast, false);
        self.drain(node);
    }

    /// A process that starts goes on with all viewers that its predecessor left records of. Who had joined so shortly
    /// before its end that there is none has to join anew.
    pub(super) fn resume_viewers(&mut self, node: NodeIndex) {
        let now = self.clock.now();
        let known = &self.nodes[node.0].outbox.records;
        for viewer in self.viewers.values_mut().filter(|viewer| viewer.node == node) {
            if viewer.presence == Presence::Watching && !known.contains_key(&viewer.id) {
                viewer.presence = Presence::Vanished;
            }
        }
        let records: Vec<_> = self.nodes[node.0].outbox.records.values().cloned().collect();
        for record in records {
            let (id, broadcast) = (record.id, record.broadcast.clone());
            let result = self.shard(node, |shard, now, _| shard.resume_viewer(now, record));
            if let Some(Err(error)) = result {
                self.fail(format!("{node:?} does not resume {id:?}: {error}"));
            }
            self.nodes[node.0].count_viewer(now, &broadcast, true);
            self.drain(node);
        }
    }

    /// The packets of a kind that were sent to a viewer, in the order of its numbers.
    #[must_use]
    pub fn sent_to(&self, id: ViewerId, kind: Kind) -> Vec<Arc<TreePacket>> {
        let viewer = self.viewers.get(&id);
        viewer.map_or_else(Vec::new, |viewer| {
            viewer.tap.packets(kind).map(|(_, packet)| packet.clone()).collect()
        })
    }

    /// How long it may take until an egress lets go of who has left.
    pub(super) const LEAVE_MAX: std::time::Duration = CONSENT_TIMEOUT;
}

/// What an egress would hold of a viewer that has watched for hours elsewhere.
fn about_to_wrap(broadcast: &BroadcastId, setup: ViewerSetup) -> ViewerRecord {
    let track = |out| {
        let mut record = TrackRecord::new(out, [0, 0, 0, 0, 0xff, 0xff, 0xff, 0x00]);
        record.sent = egress::CounterBlock::starting_at(ABOUT_TO_WRAP);
        record.rtx = egress::CounterBlock::starting_at(ABOUT_TO_WRAP);
        record
    };
    ViewerRecord {
        id: setup.id,
        broadcast: broadcast.clone(),
        path: setup.path,
        send: setup.send,
        receive: setup.receive,
        audio: setup.audio.map(track),
        video: setup.video.map(track),
        cname: setup.cname,
        srtcp_index: egress::CounterBlock::starting_at(0),
        srtcp_received: None,
    }
}
