//! A broadcast as the shard serves it: its streams, and who watches.

use std::collections::BTreeMap;

use media_core::ring::Limits;
use model::{Broadcast, BroadcastId, Kind, Ssrc};

use crate::format;
use crate::record::OutTrack;
use crate::stream::Stream;
use crate::track::Source;
use crate::trains::Held;

/// The viewer negotiated no format that could carry the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotNegotiated;

/// One broadcast.
pub struct Fan {
    /// What injection announced last; without tracks while it is not known.
    pub broadcast: Broadcast,
    /// Whether it was announced, and not taken back since.
    pub is_known: bool,
    pub streams: Vec<Stream>,
    /// Packets that wait for their train.
    pub held: Held,
    /// Slots of its viewers.
    pub viewers: Vec<usize>,
}

impl Fan {
    pub fn new(id: &BroadcastId) -> Self {
        Self {
            broadcast: Broadcast::waiting(id.clone()),
            is_known: false,
            streams: Vec::new(),
            held: Held::default(),
            viewers: Vec::new(),
        }
    }

    /// Takes over what was announced. Streams that go on keep their ring.
    pub fn change(&mut self, broadcast: &Broadcast, limits: Limits) {
        let mut before: BTreeMap<Ssrc, Stream> =
            std::mem::take(&mut self.streams).into_iter().map(|stream| (stream.ssrc, stream)).collect();
        for track in &broadcast.tracks {
            let kind = track.kind();
            self.streams.extend(track.layers.iter().map(|layer| {
                before.remove(&layer.ssrc).unwrap_or_else(|| Stream::new(layer.ssrc, kind, limits))
            }));
        }
        self.broadcast = broadcast.clone();
        self.is_known = true;
    }

    pub fn stream(&self, ssrc: Ssrc) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.ssrc == ssrc)
    }

    pub fn stream_mut(&mut self, ssrc: Ssrc) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.ssrc == ssrc)
    }

    /// What a track that follows `layer` gets its packets from; the worst layer where there are not so many. The one
    /// place where a source is chosen.
    pub fn source(&self, kind: Kind, layer: u8, out: &OutTrack) -> Result<Option<Source>, NotNegotiated> {
        let Some(track) = self.broadcast.track(kind) else { return Ok(None) };
        let Some(layer) = track.layers.get(usize::from(layer)).or(track.layers.last()) else {
            return Ok(None);
        };
        let format = format::choose(&out.formats, track.codec, &track.fmtp).ok_or(NotNegotiated)?;
        Ok(Some(Source::new(layer.ssrc, track.codec, format.payload_type)))
    }
}
