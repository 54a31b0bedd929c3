//! RTP packets (RFC 3550, section 5) with header extensions (RFC 8285): a borrowed view and a header writer.
//!
//! Nothing here allocates. Rollover counters, SRTP and the meaning of extensions are left to others.

use model::Ssrc;

/// Bytes of a header without CSRCs and extensions.
pub const FIXED_HEADER_BYTES: usize = 12;

/// Profile of a one-byte extension block (RFC 8285, section 4.2).
const ONE_BYTE_PROFILE: u16 = 0xbede;
/// Profile of a two-byte extension block; the low four bits belong to the application (RFC 8285, section 4.3).
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// Why bytes are not an RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The bytes end before the header, its CSRCs or its extension block do.
    #[error("the packet ends {missing} bytes before its header does")]
    Truncated {
        /// Bytes that would be needed in addition.
        missing: usize,
    },
    /// Not version 2.
    #[error("RTP version {version}, not 2")]
    Version {
        /// What stands in its place.
        version: u8,
    },
    /// The padding count is zero or reaches into the header.
    #[error("{padding} bytes of padding in {available} bytes after the header")]
    Padding {
        /// The count in the last byte.
        padding: usize,
        /// Bytes after the header.
        available: usize,
    },
}

/// View of one RTP packet in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Marker bit.
    pub marker: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Low 16 bits of the sequence number.
    pub seq: u16,
    /// Media time, in ticks of the codec's clock.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: Ssrc,
    /// Bytes of the whole header: CSRCs and extension block included.
    pub header_len: usize,
    /// Payload without padding.
    pub payload: &'a [u8],
    /// Bytes of padding after the payload, its count included.
    pub padding_len: usize,
    csrcs: &'a [u8],
    extensions: Extensions<'a>,
}

impl<'a> Packet<'a> {
    /// Reads a packet.
    ///
    /// # Errors
    /// [`ParseError`] if header, extension block or padding do not fit in `bytes`. A malformed element *inside* the
    /// extension block only ends the list of extensions.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let Some(fixed) = bytes.first_chunk::<FIXED_HEADER_BYTES>() else {
            return Err(ParseError::Truncated { missing: FIXED_HEADER_BYTES - bytes.len() });
        };
        let version = fixed[0] >> 6;
        if version != 2 {
            return Err(ParseError::Version { version });
        }
        let csrc_end = FIXED_HEADER_BYTES + usize::from(fixed[0] & 0x0f) * 4;
        let csrcs = slice(bytes, FIXED_HEADER_BYTES, csrc_end)?;
        let mut header_len = csrc_end;
        let mut extensions = Extensions::NONE;
        if fixed[0] & 0x10 != 0 {
            let block = slice(bytes, csrc_end, csrc_end + 4)?;
            let words = usize::from(u16::from_be_bytes([block[2], block[3]]));
            header_len = csrc_end + 4 + words * 4;
            extensions = Extensions {
                profile: u16::from_be_bytes([block[0], block[1]]),
                rest: slice(bytes, csrc_end + 4, header_len)?,
            };
        }
        let body = &bytes[header_len..];
        let padding_len = if fixed[0] & 0x20 == 0 { 0 } else { padding(body)? };
        Ok(Self {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            seq: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: Ssrc::new(u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]])),
            header_len,
            payload: &body[..body.len() - padding_len],
            padding_len,
            csrcs,
            extensions,
        })
    }

    /// The contributing sources, in the order of the header.
    pub fn csrcs(&self) -> impl Iterator<Item = Ssrc> + use<'a> {
        self.csrcs.as_chunks::<4>().0.iter().map(|word| Ssrc::new(u32::from_be_bytes(*word)))
    }

    /// Data of the first header extension with this id, 1 to 255.
    #[must_use]
    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        self.extensions.into_iter().find(|(found, _)| *found == id).map(|(_, data)| data)
    }

    /// All header extensions in either form of RFC 8285; empty for other profiles.
    #[must_use]
    pub const fn extensions(&self) -> Extensions<'a> {
        self.extensions
    }
}

fn slice(bytes: &[u8], start: usize, end: usize) -> Result<&[u8], ParseError> {
    bytes.get(start..end).ok_or(ParseError::Truncated { missing: end.saturating_sub(bytes.len()) })
}

fn padding(body: &[u8]) -> Result<usize, ParseError> {
    let count = body.last().copied().map_or(0, usize::from);
    if count == 0 || count > body.len() {
        return Err(ParseError::Padding { padding: count, available: body.len() });
    }
    Ok(count)
}

/// Iterator over the header extensions of one packet: id and data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extensions<'a> {
    profile: u16,
    rest: &'a [u8],
}

impl Extensions<'_> {
    const NONE: Self = Self { profile: 0, rest: &[] };
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let two_byte = self.profile & 0xfff0 == TWO_BYTE_PROFILE;
        if !two_byte && self.profile != ONE_BYTE_PROFILE {
            return None;
        }
        loop {
            let (&first, after) = self.rest.split_first()?;
            self.rest = after;
            if first == 0 {
                continue; // a byte of padding
            }
            let (id, length) = if two_byte {
                let (&length, after) = self.rest.split_first()?;
                self.rest = after;
                (first, usize::from(length))
            } else {
                (first >> 4, usize::from(first & 0x0f) + 1)
            };
            // RFC 8285, section 4.2: id 15 ends the list, id 0 with a length is to be skipped.
            let stop = !two_byte && id == 15;
            let Some((data, after)) = self.rest.split_at_checked(length).filter(|_| !stop) else {
                self.rest = &[];
                return None;
            };
            self.rest = after;
            if id != 0 {
                return Some((id, data));
            }
        }
    }
}

/// What [`write_header`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderFields<'a> {
    /// Marker bit.
    pub marker: bool,
    /// Padding bit: the caller appends padding after the payload, its count in the last byte.
    pub padding: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Low 16 bits of the sequence number.
    pub seq: u16,
    /// Media time, in ticks of the codec's clock.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: Ssrc,
    /// Ids (1 to 255) and data (at most 255 bytes each), in the order in which they are to be written. Written in the
    /// one-byte form if all ids are at most 14 and all data have 1 to 16 bytes, else in the two-byte form.
    pub extensions: &'a [(u8, &'a [u8])],
}

impl HeaderFields<'_> {
    fn fits_one_byte_form(&self) -> bool {
        self.extensions.iter().all(|(id, data)| *id <= 14 && (1..=16).contains(&data.len()))
    }

    /// Bytes that [`write_header`] will write. Depends on the ids of the extensions and the lengths of their data only.
    #[must_use]
    pub fn header_len(&self) -> usize {
        if self.extensions.is_empty() {
            return FIXED_HEADER_BYTES;
        }
        let element = if self.fits_one_byte_form() { 1 } else { 2 };
        let block: usize = self.extensions.iter().map(|(_, data)| element + data.len()).sum();
        FIXED_HEADER_BYTES + 4 + block.next_multiple_of(4)
    }
}

/// Writes an RTP header without CSRCs to the start of `out` and returns its length in bytes, which is
/// [`HeaderFields::header_len`].
///
/// # Panics
/// If `out` is shorter than that, an id is 0, or an extension has more than 255 bytes.
pub fn write_header(out: &mut [u8], fields: &HeaderFields<'_>) -> usize {
    let length = fields.header_len();
    let (fixed, block) = out[..length].split_at_mut(FIXED_HEADER_BYTES);
    let extended = u8::from(!block.is_empty());
    fixed[0] = 0x80 | (u8::from(fields.padding) << 5) | (extended << 4);
    fixed[1] = (u8::from(fields.marker) << 7) | (fields.payload_type & 0x7f);
    fixed[2..4].copy_from_slice(&fields.seq.to_be_bytes());
    fixed[4..8].copy_from_slice(&fields.timestamp.to_be_bytes());
    fixed[8..12].copy_from_slice(&fields.ssrc.get().to_be_bytes());
    if !block.is_empty() {
        write_extensions(block, fields);
    }
    length
}

fn write_extensions(block: &mut [u8], fields: &HeaderFields<'_>) {
    let one_byte = fields.fits_one_byte_form();
    let profile = if one_byte { ONE_BYTE_PROFILE } else { TWO_BYTE_PROFILE };
    let words = (block.len() - 4) / 4;
    block[..2].copy_from_slice(&profile.to_be_bytes());
    block[2..4].copy_from_slice(&(words as u16).to_be_bytes());
    let mut rest = &mut block[4..];
    for (id, data) in fields.extensions {
        assert!(*id != 0 && data.len() <= 255, "extension {id} of {} bytes cannot be written", data.len());
        let start = if one_byte {
            rest[0] = (id << 4) | (data.len() - 1) as u8;
            1
        } else {
            rest[..2].copy_from_slice(&[*id, data.len() as u8]);
            2
        };
        rest[start..start + data.len()].copy_from_slice(data);
        rest = &mut rest[start + data.len()..];
    }
    rest.fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields<'a>(extensions: &'a [(u8, &'a [u8])]) -> HeaderFields<'a> {
        HeaderFields {
            marker: true,
            padding: false,
            payload_type: 96,
            seq: 0xfffe,
            timestamp: 0xdead_beef,
            ssrc: Ssrc::new(0x1234_5678),
            extensions,
        }
    }

    #[test]
    fn a_packet_with_csrcs_padding_and_one_byte_extensions_is_read() {
        let bytes = [
            0xb2, 0xe0, 0x00, 0x07, 0, 0, 0, 9, 0, 0, 0, 1, // P, X, two CSRCs, marker, PT 96
            0, 0, 0, 0xa, 0, 0, 0, 0xb, // CSRCs
            0xbe, 0xde, 0, 2, 0x10, 0xaa, 0x00, 0x21, 0xbb, 0xcc, 0,
            0, // ids 1 and 2 with padding between
            1, 2, 3, 0, 2, // payload, then two bytes of padding
        ];
        let packet = Packet::parse(&bytes).expect("well formed");
        assert_eq!((packet.marker, packet.payload_type, packet.seq, packet.timestamp), (true, 96, 7, 9));
        assert_eq!(packet.csrcs().map(Ssrc::get).collect::<Vec<_>>(), [10, 11]);
        assert_eq!(packet.extension(1), Some(&[0xaa][..]));
        assert_eq!(packet.extension(2), Some(&[0xbb, 0xcc][..]));
        assert_eq!(packet.extension(3), None);
        assert_eq!((packet.payload, packet.padding_len, packet.header_len), (&[1, 2, 3][..], 2, 32));
    }

    #[test]
    fn id_fifteen_ends_a_one_byte_block() {
        let mut bytes = vec![0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0, 1, 0xf0, 0, 0x10, 0xaa];
        assert_eq!(Packet::parse(&bytes).expect("well formed").extensions().count(), 0);
        bytes[16] = 0x30;
        assert_eq!(Packet::parse(&bytes).expect("well formed").extension(1), Some(&[0xaa][..]));
    }

    #[test]
    fn foreign_extension_profiles_are_skipped() {
        let bytes = [0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x4d, 0x54, 0, 1, 0x10, 0xaa, 0, 0, 5];
        let packet = Packet::parse(&bytes).expect("well formed");
        assert_eq!((packet.extensions().count(), packet.payload), (0, &[5][..]));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_reason() {
        let mut bytes = [0u8; 12];
        assert_eq!(Packet::parse(&bytes[..5]), Err(ParseError::Truncated { missing: 7 }));
        assert_eq!(Packet::parse(&bytes), Err(ParseError::Version { version: 0 }));
        bytes[0] = 0x81;
        assert_eq!(Packet::parse(&bytes), Err(ParseError::Truncated { missing: 4 }));
        bytes[0] = 0x90;
        assert_eq!(Packet::parse(&bytes), Err(ParseError::Truncated { missing: 4 }));
        bytes[0] = 0xa0;
        assert_eq!(Packet::parse(&bytes), Err(ParseError::Padding { padding: 0, available: 0 }));
        let mut padded = bytes.to_vec();
        padded.extend([1, 3]);
        assert_eq!(Packet::parse(&padded), Err(ParseError::Padding { padding: 3, available: 2 }));
    }

    #[test]
    fn long_extensions_are_written_in_the_two_byte_form() {
        let long = [7u8; 17];
        let extensions: [(u8, &[u8]); 3] = [(1, &[1]), (2, &long), (200, &[])];
        let mut out = [0xff; 64];
        let length = write_header(&mut out, &fields(&extensions));
        assert_eq!(out[12..14], [0x10, 0x00]);
        let packet = Packet::parse(&out[..length]).expect("own header");
        assert!(packet.extensions().eq(extensions));
    }

    #[test]
    fn id_fifteen_is_written_in_the_two_byte_form() {
        let extensions: [(u8, &[u8]); 1] = [(15, &[1])];
        let mut out = [0; 20];
        assert_eq!(write_header(&mut out, &fields(&extensions)), 20);
        assert_eq!(out[12..], [0x10, 0x00, 0, 1, 15, 1, 1, 0]);
    }

    #[test]
    fn two_byte_blocks_with_application_bits_are_read() {
        let bytes = [0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x05, 0, 1, 0x11, 1, 0xaa, 0];
        assert_eq!(Packet::parse(&bytes).expect("well formed").extension(0x11), Some(&[0xaa][..]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), first in 0u8..64) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() {
                *byte = 0x80 | first;
            }
            if let Ok(packet) = Packet::parse(&bytes) {
                let extensions = packet.extensions().map(|(_, data)| data.len() + 1).sum::<usize>();
                prop_assert!(extensions <= packet.header_len);
                prop_assert_eq!(packet.header_len + packet.payload.len() + packet.padding_len, bytes.len());
            }
        }

        #[test]
        fn what_is_written_reads_back(
            (marker, padding, payload_type) in (any::<bool>(), any::<bool>(), 0u8..128),
            (seq, timestamp, ssrc) in any::<(u16, u32, u32)>(),
            one_byte in any::<bool>(),
            extensions in prop::collection::btree_map(1u8..=255, prop::collection::vec(any::<u8>(), 0..30), 0..6),
        ) {
            let extensions: Vec<(u8, &[u8])> = extensions
                .iter()
                .map(|(id, data)| (*id, data.as_slice()))
                .filter(|(id, data)| !one_byte || (*id < 15 && (1..=16).contains(&data.len())))
                .collect();
            let fields = HeaderFields {
                marker, padding, payload_type, seq, timestamp, ssrc: Ssrc::new(ssrc), extensions: &extensions,
            };
            let mut out = [0xff; 600];
            let length = write_header(&mut out, &fields);
            prop_assert_eq!(length, fields.header_len());
            out[length..length + 3].copy_from_slice(&[5, 0, 2]);
            let packet = Packet::parse(&out[..length + 3]).expect("own header");
            prop_assert_eq!((packet.marker, packet.payload_type, packet.seq), (marker, payload_type, seq));
            prop_assert_eq!((packet.timestamp, packet.ssrc.get(), packet.header_len), (timestamp, ssrc, length));
            prop_assert_eq!(packet.padding_len, if padding { 2 } else { 0 });
            prop_assert!(packet.extensions().eq(extensions.iter().copied()));
        }
    }
}
