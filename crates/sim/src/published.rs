//! The reference model: everything that was published, against which everything that arrives is held.

use std::collections::BTreeMap;
use std::sync::Arc;

use media_core::TreePacket;
use model::{Broadcast, BroadcastId, Codec, Epoch, Kind, SeqNo, Ssrc};

use crate::publisher::{Made, name};

/// One RTP stream of one publishing run.
#[derive(Debug)]
pub struct PublishedStream {
    /// Its broadcast.
    pub broadcast: BroadcastId,
    /// Its publishing run.
    pub epoch: Epoch,
    /// What it is coded with.
    pub codec: Codec,
    first: SeqNo,
    /// From `first` on; `None` where a packet was lost before injection.
    packets: Vec<Option<Arc<TreePacket>>>,
}

impl PublishedStream {
    /// Sound or picture.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.codec.kind()
    }

    /// Place of a number in the stream, from 0.
    #[must_use]
    pub fn index(&self, seq_no: SeqNo) -> Option<usize> {
        let index = usize::try_from(seq_no.get().checked_sub(self.first.get())?).ok()?;
        (index < self.packets.len()).then_some(index)
    }

    /// How many numbers were used so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.packets.len()
    }

    /// Nothing was made yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packet with this number, if it reached injection.
    #[must_use]
    pub fn get(&self, seq_no: SeqNo) -> Option<&Arc<TreePacket>> {
        self.packets.get(self.index(seq_no)?)?.as_ref()
    }

    /// The packet at a place, if it reached injection.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&Arc<TreePacket>> {
        self.packets.get(index)?.as_ref()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Published {
    streams: BTreeMap<Ssrc, PublishedStream>,
}

impl Published {
    /// A publishing run begins.
    pub fn begin(&mut self, broadcast: &Broadcast) {
        let Some(epoch) = broadcast.epoch else { return };
        for track in &broadcast.tracks {
            for layer in &track.layers {
                let stream = PublishedStream {
                    broadcast: broadcast.id.clone(),
                    epoch,
                    codec: track.codec,
                    first: SeqNo::new(0),
                    packets: Vec::new(),
                };
                self.streams.insert(layer.ssrc, stream);
            }
        }
    }

    /// The publisher has made something.
    pub fn add(&mut self, made: &Made) {
        let Some(stream) = self.streams.get_mut(&made.packet.ssrc) else { return };
        if stream.packets.is_empty() {
            stream.first = made.packet.seq_no;
        }
        stream.packets.push((!made.is_lost).then(|| Arc::new(made.packet.clone())));
    }

    /// The stream with this SSRC.
    #[must_use]
    pub fn stream(&self, ssrc: Ssrc) -> Option<&PublishedStream> {
        self.streams.get(&ssrc)
    }

    /// The packet of the tree whose payload this is: named by it, and equal to it in every byte.
    #[must_use]
    pub fn by_payload(&self, payload: &[u8]) -> Option<&Arc<TreePacket>> {
        let (ssrc, seq_no) = name(payload)?;
        self.streams.get(&ssrc)?.get(seq_no).filter(|packet| packet.payload == payload)
    }

    /// Whether exactly this packet was published.
    #[must_use]
    pub fn has(&self, packet: &TreePacket) -> bool {
        let stream = self.streams.get(&packet.ssrc);
        stream.and_then(|stream| stream.get(packet.seq_no)).is_some_and(|published| **published == *packet)
    }
}
