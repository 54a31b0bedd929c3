//! The RTP packet that a viewer gets for a tree packet: a function of the viewer's record and of that packet, nothing
//! else. Whoever holds the same record makes the same bytes.

use media_core::TreePacket;
use media_core::rtp::{HeaderFields, write_header};
use model::{Kind, SeqNo, Ssrc};

use crate::mapping::Segment;
use crate::record::OutTrack;

/// No header that [`Header`] writes is longer: 12 bytes, 4 for the extension block, 17 for a mid, 9 for the time of
/// capture, 2 for loudness, 2 for rotation, 3 for the transport-wide number, rounded up.
pub const HEADER_BYTES_MAX: usize = 52;

/// What sealing can add: the tag of AES-GCM is 16 bytes, others are shorter.
pub const SEAL_BYTES_MAX: usize = 16;

/// Payloads of one size make one train of segments; this is the grain they are padded to.
const PADDING_GRAIN: usize = 16;

/// How a payload is padded (RFC 3550, section 5.1): video to a multiple of 16 bytes, so that packets of one frame,
/// which packetizers cut about equally, leave in one train. The last packet of a frame ends its train anyway.
#[must_use]
pub fn padding(kind: Kind, packet: &TreePacket) -> u8 {
    match kind {
        Kind::Video if !packet.marker => {
            let length = packet.payload.len();
            (length.next_multiple_of(PADDING_GRAIN) - length) as u8
        }
        Kind::Audio | Kind::Video => 0,
    }
}

/// Appends the payload of `packet` with its padding; returns whether it has any.
pub fn push_padded(out: &mut Vec<u8>, kind: Kind, packet: &TreePacket) -> bool {
    out.extend_from_slice(&packet.payload);
    let padding = padding(kind, packet);
    if let Some(zeros) = padding.checked_sub(1) {
        out.resize(out.len() + usize::from(zeros), 0);
        out.push(padding);
    }
    padding > 0
}

/// An RTP header, ready to be sealed.
pub struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    length: usize,
}

impl Header {
    /// The header of `packet` as media: with its out sequence number in `segment`.
    #[must_use]
    pub fn media(
        track: &OutTrack,
        segment: &Segment,
        out: SeqNo,
        packet: &TreePacket,
        is_padded: bool,
    ) -> Self {
        let stream = Stream { ssrc: track.ssrc, payload_type: segment.payload_type, seq_no: out };
        Self::write(track, segment, stream, packet, is_padded)
    }

    /// The header of `packet` repeated in an RTX stream (RFC 4588, section 4).
    #[must_use]
    pub fn rtx(track: &OutTrack, segment: &Segment, stream: Stream, packet: &TreePacket) -> Self {
        Self::write(track, segment, stream, packet, false)
    }

    fn write(
        track: &OutTrack,
        segment: &Segment,
        stream: Stream,
        packet: &TreePacket,
        is_padded: bool,
    ) -> Self {
        let ids = &track.extensions;
        let capture_time = packet.capture_time.to_bits().to_be_bytes();
        let orientation = [packet.orientation];
        let level = packet.audio_level.map(|level| [level]);
        // One stream counts for the whole transport: so its own number is the transport-wide one, and nothing is counted.
        let transport_sequence = ids.transport_sequence.filter(|_| stream.ssrc == track.ssrc);
        let seq = stream.seq_no.seq().to_be_bytes();
        // Loudness is left out where the publisher sends none: then it sends none at all, and the size stays constant.
        let wanted = [
            ids.mid.zip(Some(track.mid.as_str().as_bytes())),
            ids.abs_capture_time.zip(Some(capture_time.as_slice())),
            ids.audio_level.zip(level.as_ref().map(<[u8; 1]>::as_slice)),
            ids.video_orientation.zip(Some(orientation.as_slice())),
            transport_sequence.zip(Some(seq.as_slice())),
        ];
        let mut extensions: [(u8, &[u8]); 5] = [(0, &[]); 5];
        let mut count = 0;
        for extension in wanted.into_iter().flatten() {
            extensions[count] = extension;
            count += 1;
        }
        let fields = HeaderFields {
            marker: segment.marker(packet),
            padding: is_padded,
            payload_type: stream.payload_type,
            seq: stream.seq_no.seq(),
            timestamp: segment.timestamp(packet.timestamp),
            ssrc: stream.ssrc,
            extensions: &extensions[..count],
        };
        let mut bytes = [0; HEADER_BYTES_MAX];
        let length = write_header(&mut bytes, &fields);
        Self { bytes, length }
    }

    /// The header itself.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Identity of a packet in one of a viewer's streams.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// SSRC of the stream.
    pub ssrc: Ssrc,
    /// Its payload type.
    pub payload_type: u8,
    /// Place in the stream.
    pub seq_no: SeqNo,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use media_core::rtp::Packet;
    use model::{Mid, NtpTime};

    use super::*;
    use crate::mapping::Scale;
    use crate::record::Extensions;

    fn tree_packet(length: usize, marker: bool) -> TreePacket {
        TreePacket {
            ssrc: Ssrc::new(1),
            seq_no: SeqNo::new(70_000),
            timestamp: 9000,
            marker,
            starts_keyframe: false,
            capture_time: NtpTime::from_bits(0x0123_4567_89ab_cdef),
            audio_level: None,
            orientation: 1,
            svc: None,
            payload: Bytes::from(vec![7; length]),
        }
    }

    fn track(extensions: Extensions) -> OutTrack {
        let mid = Mid::new("0123456789abcdef").expect("a mid");
        OutTrack { mid, ssrc: Ssrc::new(2), rtx_ssrc: None, formats: Vec::new(), extensions, nack: true }
    }

    const SEGMENT: Segment = Segment {
        first_out: SeqNo::new(10),
        source: Ssrc::new(1),
        source_base: SeqNo::new(70_000),
        source_timestamp: 0,
        out_timestamp: 100,
        scale: Scale::LIVE,
        payload_type: 96,
        part: None,
    };

    #[test]
    fn a_header_has_every_negotiated_extension_and_fits() {
        let all = Extensions {
            mid: Some(1),
            abs_capture_time: Some(14),
            audio_level: Some(2),
            video_orientation: Some(3),
            transport_sequence: Some(4),
        };
        let mut packet = tree_packet(3, true);
        packet.audio_level = Some(0x80);
        let header = Header::media(&track(all), &SEGMENT, SeqNo::new(65_537), &packet, false);
        let parsed = Packet::parse(header.as_slice()).expect("RTP");
        assert_eq!((parsed.ssrc, parsed.seq, parsed.timestamp), (Ssrc::new(2), 1, 9100));
        assert_eq!((parsed.payload_type, parsed.marker), (96, true));
        assert_eq!(parsed.extension(1), Some(&b"0123456789abcdef"[..]));
        assert_eq!(parsed.extension(14), Some(&0x0123_4567_89ab_cdef_u64.to_be_bytes()[..]));
        assert_eq!(parsed.extension(2), Some(&[0x80][..]));
        assert_eq!(parsed.extension(3), Some(&[1][..]));
        assert_eq!(parsed.extension(4), Some(&[0, 1][..]), "the low bits of its number");
        let stream = Stream { ssrc: Ssrc::new(3), payload_type: 97, seq_no: SeqNo::new(9) };
        let repeated = Header::rtx(&track(all), &SEGMENT, stream, &packet);
        let repeated = Packet::parse(repeated.as_slice()).expect("RTP");
        assert_eq!((repeated.extension(3), repeated.extension(4)), (Some(&[1][..]), None));
        let none = Header::media(&track(Extensions::default()), &SEGMENT, SeqNo::new(1), &packet, false);
        assert_eq!(none.as_slice().len(), 12);
    }

    #[test]
    fn packets_of_nearly_one_size_become_packets_of_one_size() {
        let sizes = [1185, 1190, 1200].map(|length| {
            let packet = tree_packet(length, false);
            let header = Header::media(&track(Extensions::default()), &SEGMENT, SeqNo::new(1), &packet, true);
            let mut bytes = header.as_slice().to_vec();
            let is_padded = push_padded(&mut bytes, Kind::Video, &packet);
            if is_padded {
                assert_eq!(Packet::parse(&bytes).expect("RTP").payload, &packet.payload[..]);
            }
            bytes.len()
        });
        assert_eq!(sizes, [1212; 3]);
        let mut bytes = Vec::new();
        assert!(
            !push_padded(&mut bytes, Kind::Video, &tree_packet(1185, true)),
            "the last one may be shorter"
        );
        assert!(!push_padded(&mut bytes, Kind::Audio, &tree_packet(81, false)));
        assert_eq!(bytes.len(), 1185 + 81);
    }
}
