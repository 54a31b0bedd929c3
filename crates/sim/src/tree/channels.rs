//! Link channels: who is connected to whom, as QUIC would have it.
//!
//! The shell of a node dials every configured parent and dials again when a channel is gone. A channel dies when
//! nothing passes for [`IDLE_TIMEOUT`], or soon after the other process has started anew.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use link::exchange::{ParentId, PeerId};
use link::wire::message::Message;

use super::Tree;
use crate::network::NodeIndex;

/// A channel over which nothing passes dies after this.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time until a channel that is gone is dialled again.
const REDIAL: Duration = Duration::from_millis(250);
/// Time until a stateless reset tells that the other process is another one (RFC 9000, section 10.3).
const RESET_AFTER: Duration = Duration::from_millis(100);

/// One configured parent of a node.
#[derive(Debug)]
pub(super) struct Link {
    pub child: NodeIndex,
    pub parent: NodeIndex,
    pub channel: Option<Channel>,
    dial_at: Instant,
}

/// A connection of a link; each end may know longer than the other that it is there.
#[derive(Debug)]
pub(super) struct Channel {
    child_end: Option<PeerId>,
    parent_end: Option<PeerId>,
    /// Since when nothing passes.
    broken_since: Option<Instant>,
}

/// Which link an end belongs to, and whether it is the child's.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    link: usize,
    is_child: bool,
}

/// All links of a tree.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub links: Vec<Link>,
    ends: BTreeMap<PeerId, End>,
    count: u64,
}

impl Links {
    fn new_end(&mut self, link: usize, is_child: bool) -> PeerId {
        self.count += 1;
        let end = PeerId::new(self.count);
        self.ends.insert(end, End { link, is_child });
        end
    }

    /// The node that an end belongs to, and the node and end at the other side.
    fn route(&self, end: PeerId) -> Option<(NodeIndex, NodeIndex, Option<PeerId>)> {
        let End { link, is_child } = *self.ends.get(&end)?;
        let link = &self.links[link];
        let (child_end, parent_end) =
            link.channel.as_ref().map_or((None, None), |channel| (channel.child_end, channel.parent_end));
        // An end that was replaced and lives on for a moment leads nowhere.
        Some(match is_child {
            true => (link.child, link.parent, parent_end.filter(|_| child_end == Some(end))),
            false => (link.parent, link.child, child_end.filter(|_| parent_end == Some(end))),
        })
    }

    fn forget(&mut self, end: PeerId) {
        let Some(End { link, is_child }) = self.ends.remove(&end) else { return };
        let Some(channel) = &mut self.links[link].channel else { return };
        let slot = if is_child { &mut channel.child_end } else { &mut channel.parent_end };
        *slot = slot.filter(|present| *present != end);
        if channel.child_end.is_none() && channel.parent_end.is_none() {
            self.links[link].channel = None;
        }
    }
}

impl Tree {
    /// Makes `parent` a parent of `child`; those named first are preferred.
    pub fn link(&mut self, child: NodeIndex, parent: NodeIndex) {
        let now = self.clock.now();
        let priority = self.links.links.iter().filter(|link| link.child == child).count() as u8;
        self.links.links.push(Link { child, parent, channel: None, dial_at: now });
        self.nodes[child.0].exchange.add_parent(ParentId::new(parent.0 as u32), priority);
        self.maintain_links();
    }

    /// The configured parents of a node.
    pub fn parents(&self, child: NodeIndex) -> impl Iterator<Item = NodeIndex> {
        self.links.links.iter().filter(move |link| link.child == child).map(|link| link.parent)
    }

    /// Whether the channel is there as both sides see it.
    #[must_use]
    pub fn is_connected(&self, child: NodeIndex, parent: NodeIndex) -> bool {
        let mut links = self.links.links.iter();
        let link = links.find(|link| (link.child, link.parent) == (child, parent));
        let channel = link.and_then(|link| link.channel.as_ref());
        channel.is_some_and(|channel| channel.child_end.is_some() && channel.parent_end.is_some())
    }

    /// A process has started: it knows its configuration, and nobody yet.
    pub(super) fn configure_parents(&mut self, child: NodeIndex) {
        let links = self.links.links.iter_mut().filter(|link| link.child == child);
        for (priority, link) in links.enumerate() {
            let parent = ParentId::new(link.parent.0 as u32);
            self.nodes[child.0].exchange.add_parent(parent, priority as u8);
            link.dial_at = self.clock.now();
        }
    }

    /// The ends of a process that has died are gone; the other sides do not know.
    pub(super) fn drop_ends(&mut self, node: NodeIndex) {
        let ends: Vec<_> = self.links.ends.keys().copied().collect();
        for end in ends {
            if self.links.route(end).is_some_and(|(own, ..)| own == node) {
                self.forget_end(end);
            }
        }
    }

    fn forget_end(&mut self, end: PeerId) {
        self.links.forget(end);
        self.network.forget(end);
    }

    /// Both sides learn that a channel is gone; the one that asked for it knows already.
    pub(super) fn disconnect(&mut self, end: PeerId) {
        let other = self.links.route(end).and_then(|(_, node, other)| Some((node, other?)));
        self.forget_end(end);
        if let Some((node, other)) = other {
            self.lose_end(node, other);
        }
    }

    fn lose_end(&mut self, node: NodeIndex, end: PeerId) {
        self.forget_end(end);
        if self.nodes[node.0].is_alive {
            self.exchange(node, |exchange, now| exchange.peer_disconnected(now, end));
        }
    }

    /// Sends a message from an end of a channel.
    pub(super) fn send_message(&mut self, end: PeerId, message: &Message) {
        let Some((from, to, Some(other))) = self.links.route(end) else { return };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let bytes: Rc<[u8]> = bytes.into();
        let (now, conditions) = (self.clock.now(), self.conditions);
        if message.is_reliable() {
            self.network.reliable(now, &conditions, (from, to), other, bytes);
        } else {
            let delivery = crate::network::Delivery::Message { to: other, bytes };
            self.network.link_datagram(now, &conditions, (from, to), delivery);
        }
    }

    /// A message has come to an end of a channel.
    pub(super) fn receive_message(&mut self, end: PeerId, bytes: &[u8]) {
        let Some((node, _, _)) = self.links.route(end).filter(|(node, ..)| self.nodes[node.0].is_alive)
        else {
            return;
        };
        match Message::decode(bytes) {
            Ok(Some(message)) => self.exchange(node, |exchange, now| exchange.message(now, end, message)),
            Ok(None) => self.fail(format!("{node:?} got a message of unknown type")),
            Err(error) => self.fail(format!("{node:?} got a broken message: {error}")),
        }
    }

    /// Finds dead channels and dials those that are missing.
    pub(super) fn maintain_links(&mut self) {
        for index in 0..self.links.links.len() {
            self.expire_channel(index);
            self.dial(index);
        }
    }

    fn expire_channel(&mut self, index: usize) {
        let now = self.clock.now();
        let link = &mut self.links.links[index];
        let (child, parent) = (link.child, link.parent);
        let are_alive = self.nodes[child.0].is_alive && self.nodes[parent.0].is_alive;
        let is_cut = self.network.is_cut((child, parent));
        let Some(channel) = &mut link.channel else { return };
        let is_whole = channel.child_end.is_some() && channel.parent_end.is_some();
        if is_whole && are_alive && !is_cut {
            channel.broken_since = None;
            return;
        }
        let since = *channel.broken_since.get_or_insert(now);
        let is_reset = are_alive && !is_cut && !is_whole;
        let patience = if is_reset { RESET_AFTER } else { IDLE_TIMEOUT };
        if now < since + patience {
            return;
        }
        let ends = [(child, channel.child_end), (parent, channel.parent_end)];
        link.dial_at = now + REDIAL;
        for (node, end) in ends {
            if let Some(end) = end {
                self.lose_end(node, end);
            }
        }
        self.links.links[index].channel = None;
    }

    fn dial(&mut self, index: usize) {
        let now = self.clock.now();
        let link = &mut self.links.links[index];
        let (child, parent) = (link.child, link.parent);
        // The child dials again as soon as its own end is gone; the parent's old end is replaced then.
        let is_missing = link.channel.as_ref().is_none_or(|channel| channel.child_end.is_none());
        if !is_missing || now < link.dial_at || !self.nodes[child.0].is_alive {
            return;
        }
        link.dial_at = now + REDIAL;
        if !self.nodes[parent.0].is_alive || self.network.is_cut((child, parent)) {
            return;
        }
        let old_end = link.channel.take().and_then(|channel| channel.parent_end);
        let (child_end, parent_end) = (self.links.new_end(index, true), self.links.new_end(index, false));
        let channel =
            Channel { child_end: Some(child_end), parent_end: Some(parent_end), broken_since: None };
        self.links.links[index].channel = Some(channel);
        let (child_address, parent_address) = (self.nodes[child.0].address, self.nodes[parent.0].address);
        let id = ParentId::new(parent.0 as u32);
        self.exchange(child, |exchange, now| exchange.parent_connected(now, id, child_end, parent_address));
        let connected =
            self.exchange(parent, |exchange, now| exchange.child_connected(now, parent_end, child_address));
        if connected.is_err() {
            self.disconnect(parent_end);
        }
        // Half of the time the old connection outlives the new one's handshake.
        if let Some(old_end) = old_end
            && self.random.happens(0.5)
        {
            self.exchange(parent, |exchange, now| exchange.peer_disconnected(now, old_end));
            self.links.ends.remove(&old_end);
            self.network.forget(old_end);
        }
    }
}
