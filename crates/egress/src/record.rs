//! What a viewer is: plain data that a process can write down and another can go on from.
//!
//! Everything that decides which bytes a viewer gets is here. The rest of a viewer's state (what it reported, where a
//! replay stands) is made anew by whoever resumes it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use model::{BroadcastId, Kind, Mid, Rid, SeqNo, Ssrc};
use srtp::MasterKey;

use crate::counter::CounterBlock;
use crate::format::Format;
use crate::mapping::{Line, Segment};

mod encoding;

pub use encoding::DecodeError;

/// The name of a viewer on its node, chosen by the caller, never used twice by one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewerId(u64);

impl ViewerId {
    /// Any number is one.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The way of a viewer's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The local address they leave from (`IP_PKTINFO`).
    pub local: IpAddr,
    /// The viewer's end.
    pub remote: SocketAddr,
}

/// Ids of the header extensions that the viewer wants (RFC 8285, one-byte form: 1 to 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions {
    /// Media id (RFC 9143).
    pub mid: Option<u8>,
    /// NTP time of capture.
    pub abs_capture_time: Option<u8>,
    /// Loudness (RFC 6464).
    pub audio_level: Option<u8>,
    /// Rotation (3GPP TS 26.114).
    pub video_orientation: Option<u8>,
    /// Transport-wide number: the packet's own sequence number, so of one stream only. Repeats in an RTX stream have none.
    pub transport_sequence: Option<u8>,
}

impl Extensions {
    /// The ids of all that it wants.
    pub fn ids(&self) -> impl Iterator<Item = u8> {
        let Self { mid, abs_capture_time, audio_level, video_orientation, transport_sequence } = *self;
        [mid, abs_capture_time, audio_level, video_orientation, transport_sequence].into_iter().flatten()
    }
}

/// One RTP stream to a viewer, as its answer promised it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutTrack {
    /// Its media id.
    pub mid: Mid,
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// SSRC of its RTX stream (RFC 4588), if there is one.
    pub rtx_ssrc: Option<Ssrc>,
    /// What it can carry, in the viewer's order of preference.
    pub formats: Vec<Format>,
    /// The header extensions it may have.
    pub extensions: Extensions,
    /// Whether the viewer may ask for packets again.
    pub nack: bool,
}

/// A viewer whose handshake is done.
pub struct ViewerSetup {
    /// Its name.
    pub id: ViewerId,
    /// Where it is.
    pub path: Path,
    /// Key for what it gets.
    pub send: MasterKey,
    /// Key of what it sends.
    pub receive: MasterKey,
    /// Sound, if it asked for it.
    pub audio: Option<OutTrack>,
    /// Picture, if it asked for it.
    pub video: Option<OutTrack>,
    /// When its POST came: time to first frame counts from here.
    pub joined_at: Instant,
    /// Random bytes, for initial sequence numbers and timestamps (RFC 3550, section 5.1).
    pub random: [u8; 32],
    /// RTCP canonical name (RFC 7022), the one in the answer.
    pub cname: String,
}

/// All that another process needs to go on with a viewer.
#[derive(Clone)]
pub struct ViewerRecord {
    /// Its name.
    pub id: ViewerId,
    /// What it watches.
    pub broadcast: BroadcastId,
    /// Where it is.
    pub path: Path,
    /// Key for what it gets.
    pub send: MasterKey,
    /// Key of what it sends.
    pub receive: MasterKey,
    /// Sound, if it asked for it.
    pub audio: Option<TrackRecord>,
    /// Picture, if it asked for it.
    pub video: Option<TrackRecord>,
    /// RTCP canonical name.
    pub cname: String,
    /// Index of the next SRTCP packet to it (RFC 3711, section 3.4), for all its SSRCs.
    pub srtcp_index: CounterBlock,
    /// Highest index of SRTCP from it when the record was made; what is older is not taken again.
    pub srtcp_received: Option<u64>,
}

impl ViewerRecord {
    /// The track of this kind.
    #[must_use]
    pub const fn track(&self, kind: Kind) -> Option<&TrackRecord> {
        match kind {
            Kind::Audio => self.audio.as_ref(),
            Kind::Video => self.video.as_ref(),
        }
    }

    /// The newest packet of each source that the viewer was sent when the record was written.
    pub fn newest_sent(&self) -> impl Iterator<Item = (Ssrc, SeqNo)> + '_ {
        self.audio.iter().chain(&self.video).filter_map(|track| {
            let newest = SeqNo::new(track.sent.next.checked_sub(1)?);
            // Of the segment after it nothing may have been sent yet.
            let owner = track.segments.iter().rev().find(|segment| segment.first_out <= newest)?;
            let is_current = track.segments.last()?.source == owner.source;
            is_current.then_some((owner.source, owner.source_seq_no(newest)?))
        })
    }
}

impl fmt::Debug for ViewerRecord {
    /// Without keys and addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewerRecord")
            .field("id", &self.id)
            .field("broadcast", &self.broadcast)
            .field("audio", &self.audio)
            .field("video", &self.video)
            .field("srtcp_index", &self.srtcp_index)
            .finish_non_exhaustive()
    }
}

/// Who chooses among the layers of a picture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Selection {
    /// The shard, by what the viewer's connection carries.
    #[default]
    Auto,
    /// The viewer: the layer in this place, 0 being the best, or the worst one where there are not so many.
    Layer(u8),
    /// The viewer: the layer with this name. While the broadcast has none, as in [`Selection::Auto`].
    Rid(Rid),
    /// The shard, among the layer with this name and worse ones. While the broadcast has none of that name, as in
    /// [`Selection::Auto`].
    UpTo(Rid),
}

/// One track of a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackRecord {
    /// What was promised.
    pub out: OutTrack,
    /// Which layer of the source it follows, 0 being the best.
    pub layer: u8,
    /// Who chooses that.
    pub selection: Selection,
    /// Its mapping, oldest segment first.
    pub segments: Vec<Segment>,
    /// Where its timestamps stand on the wallclock; `None` before the first packet.
    pub line: Option<Line>,
    /// Timestamp it begins with.
    pub first_timestamp: u32,
    /// The out sequence number after the last one sent.
    pub sent: CounterBlock,
    /// The next sequence number of its RTX stream.
    pub rtx: CounterBlock,
}

impl TrackRecord {
    /// A track that has sent nothing yet; `random` gives its first sequence numbers and timestamp.
    #[must_use]
    pub fn new(out: OutTrack, random: [u8; 8]) -> Self {
        let [a, b, c, d, first_timestamp @ ..] = random;
        // Below 2^15, so that early loss cannot hide a wrap-around from the receiver (RFC 3711, section 3.3.1).
        let counter =
            |high, low| CounterBlock::starting_at(u64::from(u16::from_be_bytes([high, low]) & 0x7fff));
        Self {
            out,
            layer: 0,
            selection: Selection::Auto,
            segments: Vec::new(),
            line: None,
            first_timestamp: u32::from_be_bytes(first_timestamp),
            sent: counter(a, b),
            rtx: counter(c, d),
        }
    }
}

/// What happened to the record of a viewer.
#[derive(Debug, Clone)]
pub enum RecordChange {
    /// Write this one; it replaces an older one.
    Put(Box<ViewerRecord>),
    /// The viewer is gone.
    Removed,
}
