//! Trains: which packets of a broadcast leave together, and when.
//!
//! What a message costs the kernel hardly depends on how many packets are in it, so the packets of a frame wait for each
//! other: until the frame is whole, a train is full, or [`Config::train_hold`](crate::Config::train_hold) is over.
//! A frame of more than one train is spread over a few milliseconds, so that a keyframe does not flood the last mile of
//! every viewer at once. Sound that nothing is held for goes at once, and so does what was repaired: it is late already.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media_core::TreePacket;
use model::{Kind, SeqNo};

/// Packets of picture in one train. The kernel's cost per message is spread thin by then, and the last mile gets no burst
/// of more than 20 KB.
pub const TRAIN_PACKETS_MAX: usize = 16;
/// Time between two trains of one frame: 16 packets in it are 150 Mbit/s.
const TRAIN_INTERVAL: Duration = Duration::from_millis(1);
/// So many packets that are ready mean that the thread is behind: then nothing is spread.
const BACKLOG_MAX: usize = 8 * TRAIN_PACKETS_MAX;

/// What is held of one broadcast.
#[derive(Default)]
pub struct Held {
    packets: VecDeque<Waiting>,
    /// So many of them, from the front, wait for nothing any more.
    ready: usize,
    /// Packets of picture behind those.
    gathered: usize,
    /// The next train of this frame leaves then.
    not_before: Option<Instant>,
}

struct Waiting {
    packet: Arc<TreePacket>,
    kind: Kind,
    since: Instant,
}

impl Held {
    /// Takes a packet; `newest` is the newest one of its stream that has left.
    pub fn push(&mut self, now: Instant, kind: Kind, packet: Arc<TreePacket>, newest: Option<SeqNo>) {
        let is_repair = newest.is_some_and(|newest| packet.seq_no < newest);
        let ends = match kind {
            Kind::Audio => self.gathered == 0,
            Kind::Video => {
                self.gathered += 1;
                packet.marker || self.gathered >= TRAIN_PACKETS_MAX
            }
        };
        self.packets.push_back(Waiting { packet, kind, since: now });
        if ends || is_repair {
            self.release();
        }
    }

    /// When the next train is due, if anything is held.
    pub fn due_at(&self, hold: Duration) -> Option<Instant> {
        let first = self.packets.front()?;
        Some(if self.ready > 0 { self.not_before.unwrap_or(first.since) } else { first.since + hold })
    }

    /// Moves the next train to `train`, if one is due.
    pub fn take_due(&mut self, now: Instant, hold: Duration, train: &mut Vec<Arc<TreePacket>>) {
        if self.due_at(hold).is_none_or(|at| at > now) {
            return;
        }
        if self.ready == 0 {
            self.release();
        }
        let packets_max = if self.ready > BACKLOG_MAX { usize::MAX } else { TRAIN_PACKETS_MAX };
        let mut pictures = 0;
        while self.ready > 0 && pictures < packets_max {
            let Some(next) = self.packets.pop_front() else { break };
            pictures += usize::from(next.kind == Kind::Video);
            self.ready -= 1;
            train.push(next.packet);
        }
        self.not_before = (self.ready > 0).then(|| now + TRAIN_INTERVAL);
    }

    /// Moves everything to `train`.
    pub fn take_all(&mut self, train: &mut Vec<Arc<TreePacket>>) {
        train.extend(self.packets.drain(..).map(|waiting| waiting.packet));
        *self = Self::default();
    }

    /// Nothing that stands here waits any longer.
    fn release(&mut self) {
        self.ready = self.packets.len();
        self.gathered = 0;
    }
}
