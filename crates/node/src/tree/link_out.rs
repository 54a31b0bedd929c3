//! Link media on its way out.
//!
//! The exchange says of each packet who gets it. Nearly always that is the same list for all packets of a batch, and the
//! kernel takes them much more cheaply if each child's come as a train. So packets are gathered by their list of
//! children for the length of one batch; nothing waits beyond it.

use bytes::Bytes;
use link::exchange::Destinations;
use udp_batch::SendQueue;

/// Datagrams of one train at most: 38 KB, which every switch on the way has buffers for.
const TRAIN_DATAGRAMS_MAX: u16 = 30;
/// Lists of children that are open for more packets; with more of them the oldest are searched no longer.
const GROUPS_OPEN: usize = 16;

/// Packets for the same children.
struct Group {
    to: Destinations,
    datagrams: Vec<Bytes>,
}

impl Group {
    fn is_for(&self, to: &Destinations) -> bool {
        let (ours, theirs) = (self.to.as_slice(), to.as_slice());
        std::ptr::eq(ours, theirs) || ours == theirs
    }
}

/// What a batch has brought for children.
pub(super) struct LinkOut {
    groups: Vec<Group>,
    queue: SendQueue,
}

impl LinkOut {
    pub(super) const fn new() -> Self {
        Self { groups: Vec::new(), queue: SendQueue::with_trains_of(TRAIN_DATAGRAMS_MAX) }
    }

    /// A packet for the children on a list.
    pub(super) fn push(&mut self, wire: Bytes, to: Destinations) {
        match self.groups.iter_mut().rev().take(GROUPS_OPEN).find(|group| group.is_for(&to)) {
            Some(group) => group.datagrams.push(wire),
            None => self.groups.push(Group { to, datagrams: vec![wire] }),
        }
    }

    /// The packets of the batch, as trains for each child.
    pub(super) fn queue(&mut self) -> &mut SendQueue {
        for group in self.groups.drain(..) {
            self.queue.push_to_all(&group.datagrams, group.to.as_slice());
        }
        &mut self.queue
    }
}
