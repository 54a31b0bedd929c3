//! The first packet of each keyframe of one RTP stream.

use model::{Codec, SeqNo};

use super::{KeyframePart, h264, h265, starts_keyframe};

/// Marks the packet with which a joiner must begin: exactly one for each keyframe.
///
/// H.264 and H.265 send parameter sets in packets of their own before the picture, with its timestamp. The first packet
/// with the leading parameter set (SPS; VPS for H.265) is marked and the rest of that picture is not. A picture without
/// them is marked only if the packets before it in the stream show that none was lost: a joiner that begins without
/// its parameter sets sees nothing.
///
/// Reordering: feed packets as they arrive. A packet that comes late is judged too, so a leading parameter set that was
/// repaired is marked when it arrives, and its picture, which followed a gap, has not been. A picture that itself comes
/// late or just after a gap, in a stream that sends no parameter sets in band, is not marked: joiners wait for the
/// next one. Parameter sets are taken to announce a keyframe, so streams that refresh gradually can be joined too.
#[derive(Debug, Clone)]
pub struct KeyframeDetector {
    codec: Codec,
    /// The newest packet.
    newest: Option<SeqNo>,
    /// Timestamp of the newest picture.
    timestamp: u32,
    /// Whether all packets of the newest picture, from its first on, have come in order.
    from_first_packet: bool,
    /// The last mark and the timestamp of its picture.
    marked: Option<(SeqNo, u32)>,
}

impl KeyframeDetector {
    /// For one stream.
    #[must_use]
    pub const fn new(codec: Codec) -> Self {
        Self { codec, newest: None, timestamp: 0, from_first_packet: false, marked: None }
    }

    /// Whether this packet is the first of a keyframe.
    pub fn inspect(&mut self, seq_no: SeqNo, timestamp: u32, payload: &[u8]) -> bool {
        let from_first_packet = self.follow(seq_no, timestamp);
        let part = match self.codec {
            Codec::H264 => h264::keyframe_part(payload),
            Codec::H265 => h265::keyframe_part(payload),
            Codec::Opus | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => {
                return starts_keyframe(self.codec, payload);
            }
        };
        let marked_before =
            self.marked.is_some_and(|(mark, of_picture)| of_picture == timestamp && mark <= seq_no);
        let starts = match part {
            Some(KeyframePart::Leading) => !marked_before,
            Some(KeyframePart::Following) => !marked_before && from_first_packet,
            None => false,
        };
        if starts {
            self.marked = Some((seq_no, timestamp));
        }
        starts
    }

    /// Whether the packet's picture is known from its first packet up to this one.
    fn follow(&mut self, seq_no: SeqNo, timestamp: u32) -> bool {
        let Some(newest) = self.newest else {
            self.newest = Some(seq_no);
            self.timestamp = timestamp;
            return false;
        };
        if seq_no <= newest {
            return false;
        }
        let in_order = seq_no == newest.plus(1);
        let new_picture = timestamp != self.timestamp;
        self.from_first_packet = in_order && (new_picture || self.from_first_packet);
        self.newest = Some(seq_no);
        self.timestamp = timestamp;
        self.from_first_packet
    }
}
