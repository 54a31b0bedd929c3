//! Time passes: whatever is due first happens, and all that follows from it.

use std::time::{Duration, Instant};

use egress::{Event, RtcpError, Shard, ViewerId};
use link::exchange::{Destinations, Exchange, Output};
use model::Ssrc;

use super::Tree;
use crate::network::{Delivery, NodeIndex};
use crate::node::Outbox;
use crate::publisher::Publisher;
use crate::trace;
use crate::violation::Violation;

/// Links and audiences are looked after so often.
const MAINTENANCE: Duration = Duration::from_millis(50);
/// More turns at one moment than this, and time stands still.
const TURNS_MAX: u32 = 10_000;

impl Tree {
    /// Lets time pass.
    ///
    /// # Errors
    /// The first [`Violation`] of all time.
    pub fn run(&mut self, length: Duration) -> Result<(), Violation> {
        let end = self.clock.now() + length;
        let mut turns = 0;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            turns = if next > self.clock.now() { 0 } else { turns + 1 };
            if turns > TURNS_MAX {
                self.fail("time stands still: something is always due".into());
            }
            self.clock.advance(next);
            self.turn();
            if let Some(violation) = &self.violation {
                return Err(violation.clone());
            }
        }
        self.clock.advance(end);
        self.violation.clone().map_or(Ok(()), Err)
    }

    fn next(&self) -> Option<Instant> {
        let nodes = self.nodes.iter().filter_map(|node| node.poll_timeout());
        let publishers = self.programmes.values().filter_map(|programme| programme.publisher.as_ref());
        let viewers = self.viewers.values().filter_map(|viewer| viewer.poll_timeout());
        let others = [self.network.next(), Some(self.maintenance_at)];
        nodes.chain(publishers.map(Publisher::next)).chain(viewers).chain(others.into_iter().flatten()).min()
    }

    fn turn(&mut self) {
        let now = self.clock.now();
        while let Some(delivery) = self.network.pop(now) {
            self.arrive(delivery);
        }
        if self.maintenance_at <= now {
            self.maintenance_at = now + MAINTENANCE;
            self.maintain_links();
            for index in 0..self.nodes.len() {
                if self.nodes[index].is_alive {
                    self.nodes[index].expire_audience(now, &self.published);
                    self.drain(NodeIndex(index));
                }
            }
        }
        self.make_media();
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            if node.is_alive && node.exchange.poll_timeout().is_some_and(|at| at <= now) {
                self.exchange(NodeIndex(index), Exchange::handle_timeout);
            }
        }
        self.wake_viewers();
        for index in 0..self.nodes.len() {
            let index = NodeIndex(index);
            self.gather(index);
            while self.shard(index, Shard::fan_out_due) == Some(true) {}
            let shard = self.nodes[index.0].shard.as_ref();
            if shard.and_then(Shard::poll_timeout).is_some_and(|at| at <= now) {
                self.shard(index, |shard, now, out| shard.handle_timeout(now, out));
            }
        }
    }

    fn arrive(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Media { to, from, wire } => {
                if self.nodes[to.0].is_alive {
                    self.exchange(to, |exchange, now| exchange.media(now, from, &wire));
                }
            }
            Delivery::Message { to, bytes } => self.receive_message(to, &bytes),
            Delivery::ToViewer { viewer, opened } => self.viewer_receives(viewer, &opened),
            Delivery::FromViewer { viewer, datagram } => self.feedback(viewer, &datagram),
        }
    }

    fn feedback(&mut self, viewer: ViewerId, datagram: &[u8]) {
        let Some(node) = self.viewers.get(&viewer).map(|viewer| viewer.node) else { return };
        let mut bytes = datagram.to_vec();
        let result = self.shard(node, |shard, now, out| shard.handle_rtcp(now, viewer, &mut bytes, out));
        if result == Some(Err(RtcpError::NotAuthentic)) {
            self.fail(format!("{node:?} does not take SRTCP of {viewer:?}"));
        }
    }

    fn make_media(&mut self) {
        let now = self.clock.now();
        let mut made = Vec::new();
        for programme in self.programmes.values_mut() {
            if let Some(publisher) = &mut programme.publisher {
                made.extend(publisher.make(now).into_iter().map(|made| (programme.node, made)));
            }
        }
        for (node, made) in made {
            self.published.add(&made);
            if !made.is_lost && self.nodes[node.0].is_alive {
                self.exchange(node, |exchange, now| exchange.published(now, made.packet));
            }
        }
    }

    fn wake_viewers(&mut self) {
        let now = self.clock.now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let due = self.viewers.iter().filter(|(_, viewer)| is_due(viewer.poll_timeout()));
        let due: Vec<_> = due.map(|(id, _)| *id).collect();
        for id in due {
            let Some(viewer) = self.viewers.get_mut(&id) else { continue };
            match viewer.handle_timeout(now) {
                Ok(datagrams) => datagrams.into_iter().for_each(|datagram| self.send_feedback(id, datagram)),
                Err(what) => self.fail(format!("{id:?}: {what}")),
            }
        }
    }

    /// Lets something happen at a node's exchange, and carries out what follows.
    pub fn exchange<R>(&mut self, node: NodeIndex, act: impl FnOnce(&mut Exchange, Instant) -> R) -> R {
        let result = act(&mut self.nodes[node.0].exchange, self.clock.now());
        self.drain(node);
        result
    }

    pub(super) fn drain(&mut self, node: NodeIndex) {
        while let Some(output) = self.nodes[node.0].exchange.poll_output() {
            match output {
                Output::Send { peer, message } => {
                    self.watch_message(node, &message);
                    self.send_message(peer, &message);
                }
                Output::Media { wire, to } => self.send_media(node, &wire, &to),
                Output::Deliver(packet) => {
                    let at = &mut self.nodes[node.0];
                    let result = at.deliver(&self.published, packet);
                    self.expect(|| format!("{node:?}"), result);
                }
                Output::Restored(packets) => {
                    self.shard(node, |shard, now, _| shard.restore(now, &packets));
                }
                Output::LeftOut(layers) => {
                    self.gather(node);
                    self.shard(node, Shard::fan_out_held);
                    self.shard(node, |shard, now, _| shard.left_out(now, &layers));
                }
                Output::BroadcastChanged(broadcast) => {
                    self.gather(node);
                    self.shard(node, Shard::fan_out_held);
                    self.shard(node, |shard, now, _| shard.broadcast_changed(now, &broadcast));
                }
                Output::BroadcastRetired(id) => {
                    self.gather(node);
                    self.shard(node, Shard::fan_out_held);
                    self.shard(node, |shard, now, _| shard.broadcast_removed(now, &id));
                }
                Output::KeyframeWanted { ssrc } => self.keyframe_wanted(node, ssrc),
                Output::Disconnect { peer, .. } => self.disconnect(peer),
                // What a tree has beside its packets is not played here.
                Output::Cue(_) | Output::Event(_) => {}
            }
        }
    }

    fn keyframe_wanted(&mut self, node: NodeIndex, ssrc: Ssrc) {
        self.watch_keyframe_request(node, ssrc, true);
        let broadcast = self.published.stream(ssrc).map(|stream| stream.broadcast.clone());
        let programme = broadcast.and_then(|id| self.programmes.get_mut(&id));
        if let Some(publisher) = programme.and_then(|programme| programme.publisher.as_mut()) {
            publisher.request_keyframe();
        }
    }

    fn send_media(&mut self, from: NodeIndex, wire: &bytes::Bytes, to: &Destinations) {
        let now = self.clock.now();
        self.trace.note(&[4, from.0 as u64, trace::tag(wire), self.clock.elapsed().as_micros() as u64]);
        self.watch_wire(from, wire);
        for address in to.as_slice() {
            let Some(to) = self.nodes.iter().position(|node| node.address == *address).map(NodeIndex) else {
                self.fail(format!("{from:?} sends media to {address}, which is no node"));
                continue;
            };
            let from_address = self.nodes[from.0].address;
            let delivery = Delivery::Media { to, from: from_address, wire: wire.clone() };
            self.network.link_datagram(now, &self.conditions, (from, to), delivery);
        }
    }

    /// Hands the shard of a node what has come for it.
    fn gather(&mut self, node: NodeIndex) {
        for packet in std::mem::take(&mut self.nodes[node.0].train) {
            self.shard(node, |shard, now, _| shard.gather(now, now, packet));
        }
    }

    /// Lets something happen at a node's shard, and carries out what follows; `None` if there is none.
    pub(super) fn shard<R>(
        &mut self,
        node: NodeIndex,
        act: impl FnOnce(&mut Shard, Instant, &mut Outbox) -> R,
    ) -> Option<R> {
        let at = &mut self.nodes[node.0];
        let shard = at.shard.as_mut().filter(|_| at.is_alive)?;
        let result = act(shard, self.clock.now(), &mut at.outbox);
        let events: Vec<_> = std::iter::from_fn(|| shard.poll_event()).collect();
        let (run, is_dead) = (at.run, at.outbox.is_dead());
        for (path, datagram) in std::mem::take(&mut at.outbox.datagrams) {
            self.send_to_viewer(node, run, &path, datagram);
        }
        if is_dead {
            self.crash(node);
            return Some(result);
        }
        for event in events {
            match event {
                Event::KeyframeWanted { ssrc } => {
                    self.exchange(node, |exchange, now| exchange.request_keyframe(now, ssrc));
                }
                Event::StreamNeeded { ssrc } => self.exchange(node, |exchange, now| exchange.need(now, ssrc)),
                Event::ConsentExpired { viewer } | Event::Bye { viewer } => self.remove_viewer(node, viewer),
                Event::FirstFrame { .. }
                | Event::SoundOnly { .. }
                | Event::CodecNotNegotiated { .. }
                | Event::BroadcastEnded { .. } => {}
            }
        }
        Some(result)
    }
}
