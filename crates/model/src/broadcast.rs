//! What a broadcast consists of, as injection announces it to the whole tree.

use crate::{BroadcastId, Codec, Epoch, Kind, Rid, Ssrc};

/// One published programme in one publishing run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// Its name.
    pub id: BroadcastId,
    /// Live, or waiting for its publisher.
    pub state: BroadcastState,
    /// The publishing run that the tracks belong to; `None` before the first one.
    pub epoch: Option<Epoch>,
    /// At most one audio and one video track (RFC 9725, section 4.4.1). Empty before the first run.
    pub tracks: Vec<Track>,
}

impl Broadcast {
    /// A broadcast that is known and has never been published.
    #[must_use]
    pub const fn waiting(id: BroadcastId) -> Self {
        Self { id, state: BroadcastState::Waiting, epoch: None, tracks: Vec::new() }
    }

    /// The track of this kind.
    #[must_use]
    pub fn track(&self, kind: Kind) -> Option<&Track> {
        self.tracks.iter().find(|track| track.kind() == kind)
    }
}

/// Whether media flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BroadcastState {
    /// Known, without a publisher: before the first one, or within the grace period after one.
    Waiting,
    /// A publisher is connected.
    Live,
}

/// One audio or video source of a broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// What it is coded with; fixes kind and RTP clock.
    pub codec: Codec,
    /// Format parameters as in `a=fmtp`, for instance `profile-level-id=42e01f;packetization-mode=1`; what the
    /// media says where it was read, else what the publisher's SDP claims. Empty if there are none.
    pub fmtp: Box<str>,
    /// Its RTP streams, best first: one, or one for each simulcast layer.
    pub layers: Vec<Layer>,
    /// Media of it has come. Else it was only offered, may never come, and may come in another codec.
    pub was_heard: bool,
}

impl Track {
    /// Audio or video.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.codec.kind()
    }
}

/// One RTP stream of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its tree-wide identity.
    pub ssrc: Ssrc,
    /// The publisher's name for it, if it simulcasts (RFC 8853).
    pub rid: Option<Rid>,
}
