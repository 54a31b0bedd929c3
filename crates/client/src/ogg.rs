//! Opus packets out of an Ogg stream (RFC 3533, RFC 7845). One logical stream; checksums are not looked at.

use bytes::Bytes;

/// Why a stream is not Opus in Ogg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// No page where one should start.
    #[error("no Ogg page at byte {at}")]
    Page {
        /// Offset in the stream.
        at: usize,
    },
    /// A page promises more than there is.
    #[error("the stream ends within the page at byte {at}")]
    Truncated {
        /// Offset of the page.
        at: usize,
    },
    /// The first packets are not `OpusHead` and `OpusTags`.
    #[error("the Ogg stream does not carry Opus")]
    NotOpus,
}

/// Length of a page header without its segment table.
const PAGE_HEADER_BYTES: usize = 27;

/// The audio packets of an Ogg/Opus stream, without the two header packets.
///
/// # Errors
/// [`ParseError`] says what is wrong where.
pub fn opus_packets(stream: &Bytes) -> Result<Vec<Bytes>, ParseError> {
    let mut packets = packets(stream)?;
    let is_opus =
        packets.len() >= 2 && packets[0].starts_with(b"OpusHead") && packets[1].starts_with(b"OpusTags");
    if !is_opus {
        return Err(ParseError::NotOpus);
    }
    Ok(packets.split_off(2))
}

fn packets(stream: &Bytes) -> Result<Vec<Bytes>, ParseError> {
    let mut packets = Vec::new();
    let mut unfinished: Vec<u8> = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        let page = &stream[at..];
        if !page.starts_with(b"OggS") {
            return Err(ParseError::Page { at });
        }
        let truncated = ParseError::Truncated { at };
        let segments = usize::from(*page.get(PAGE_HEADER_BYTES - 1).ok_or(truncated)?);
        let lacing = page.get(PAGE_HEADER_BYTES..PAGE_HEADER_BYTES + segments).ok_or(truncated)?;
        let mut position = PAGE_HEADER_BYTES + segments;
        for length in lacing {
            let segment = page.get(position..position + usize::from(*length)).ok_or(truncated)?;
            unfinished.extend_from_slice(segment);
            position += usize::from(*length);
            // A packet ends with the first segment that is not full.
            if *length < 255 {
                packets.push(Bytes::from(std::mem::take(&mut unfinished)));
            }
        }
        at += position;
    }
    Ok(packets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pages of at most `segments_max` segments, as a muxer writes them.
    fn mux(packets: &[Vec<u8>], segments_max: usize) -> Bytes {
        let mut segments: Vec<Vec<u8>> = Vec::new();
        for packet in packets {
            segments.extend(packet.chunks(255).map(<[u8]>::to_vec));
            if packet.len() % 255 == 0 {
                segments.push(Vec::new());
            }
        }
        let mut stream = Vec::new();
        for page in segments.chunks(segments_max) {
            stream.extend_from_slice(b"OggS");
            stream.extend_from_slice(&[0; 22]);
            stream.push(page.len() as u8);
            stream.extend(page.iter().map(|segment| segment.len() as u8));
            stream.extend(page.iter().flatten());
        }
        stream.into()
    }

    fn with_headers(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        [&[b"OpusHead".to_vec(), b"OpusTags".to_vec()], packets].concat()
    }

    #[test]
    fn what_is_not_opus_is_refused() {
        assert_eq!(opus_packets(&Bytes::from_static(b"RIFF")), Err(ParseError::Page { at: 0 }));
        assert_eq!(opus_packets(&Bytes::from_static(b"OggS")), Err(ParseError::Truncated { at: 0 }));
        assert_eq!(opus_packets(&mux(&[b"vorbis".to_vec()], 10)), Err(ParseError::NotOpus));
    }

    proptest! {
        #[test]
        fn packets_come_back_whole_however_they_were_paged(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..12),
            segments_max in 1usize..20,
        ) {
            let stream = mux(&with_headers(&packets), segments_max);
            prop_assert_eq!(opus_packets(&stream).expect("a good stream"), packets);
        }

        #[test]
        fn no_stream_panics(length in 0usize..200, bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let stream = mux(&with_headers(std::slice::from_ref(&bytes)), 3);
            let _ = opus_packets(&stream.slice(..length.min(stream.len())));
            let _ = opus_packets(&bytes.into());
        }
    }
}
