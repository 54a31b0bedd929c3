//! Encoded pictures into RTP payloads, each at most as large as [`PAYLOAD_BYTES_MAX`], and whether they are keyframes.

use client::h264::PAYLOAD_BYTES_MAX;

/// OBU types (AV1 specification, section 6.2.2).
const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;

/// The frames of an IVF file: a header of 32 bytes, then each frame with 12 bytes before it, of which the first 4 are
/// its length. `None` if one is cut off.
pub(super) fn ivf_frames(file: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = file.strip_prefix(b"DKIF")?.get(28..)?;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        let (frame, after) = rest.get(12..)?.split_at_checked(length)?;
        frames.push(frame);
        rest = after;
    }
    Some(frames)
}

/// RFC 6386, section 9.1: the lowest bit of a frame is 0 in a keyframe.
pub(super) fn is_vp8_keyframe(frame: &[u8]) -> bool {
    frame.first().is_some_and(|byte| byte & 1 == 0)
}

/// RTP payloads of a VP8 frame (RFC 7741, section 4.2): a descriptor of one byte, whose S bit says that the partition
/// starts here, before each piece.
pub(super) fn vp8(frame: &[u8]) -> Vec<Vec<u8>> {
    let pieces = frame.chunks(PAYLOAD_BYTES_MAX - 1).enumerate();
    pieces.map(|(index, piece)| [&[if index == 0 { 0x10 } else { 0 }], piece].concat()).collect()
}

/// VP9 specification, section 6.2: after marker and profile (0) come `show_existing_frame` and `frame_type`, 0 in a
/// keyframe.
pub(super) fn is_vp9_keyframe(frame: &[u8]) -> bool {
    frame.first().is_some_and(|byte| byte & 0x0c == 0)
}

/// RTP payloads of a VP9 frame (RFC 9628, section 4.2): a descriptor with the picture's number before each piece.
pub(super) fn vp9(frame: &[u8], number: u16) -> Vec<Vec<u8>> {
    const DESCRIPTOR_BYTES: usize = 3;
    let predicted = if is_vp9_keyframe(frame) { 0 } else { 0x40 };
    let pieces = frame.chunks(PAYLOAD_BYTES_MAX - DESCRIPTOR_BYTES);
    let last = pieces.len() - 1;
    let payload = |(index, piece): (usize, &[u8])| {
        let begins = if index == 0 { 0x08 } else { 0 };
        let ends = if index == last { 0x04 } else { 0 };
        let [high, low] = (number | 0x8000).to_be_bytes();
        [&[0x80 | predicted | begins | ends, high, low], piece].concat()
    };
    pieces.enumerate().map(payload).collect()
}

/// The OBUs of a temporal unit in which each tells its size, but for the delimiter: as RTP has them, without the size.
/// `None` if one is cut off.
pub(super) fn obus(mut unit: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut obus = Vec::new();
    while let Some((&header, rest)) = unit.split_first() {
        let has_extension = usize::from(header & 0x04 != 0);
        let (extension, rest) = rest.split_at_checked(has_extension)?;
        let mut length = 0;
        let mut rest = rest.iter();
        for shift in (0..35).step_by(7) {
            let byte = *rest.next()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (body, after) = rest.as_slice().split_at_checked(length)?;
        unit = after;
        if obu_type(header) != OBU_TEMPORAL_DELIMITER {
            obus.push([&[header & !0x02], extension, body].concat());
        }
    }
    Some(obus)
}

const fn obu_type(header: u8) -> u8 {
    header >> 3 & 0x0f
}

/// A sequence header comes with every keyframe and with nothing else.
pub(super) fn is_av1_keyframe(obus: &[Vec<u8>]) -> bool {
    obus.iter().any(|obu| obu_type(obu[0]) == OBU_SEQUENCE_HEADER)
}

/// RTP payloads of a temporal unit (RTP Payload Format For AV1, section 4.4): an aggregation header, then elements each
/// with its length before it (W is 0).
pub(super) fn av1(obus: &[Vec<u8>]) -> Vec<Vec<u8>> {
    /// Largest element, so that its length takes two bytes at most.
    const ELEMENT_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 3;
    const CONTINUES: u8 = 0x80;
    const IS_CONTINUED: u8 = 0x40;
    const NEW_SEQUENCE: u8 = 0x08;
    let mut payloads = vec![vec![if is_av1_keyframe(obus) { NEW_SEQUENCE } else { 0 }]];
    for obu in obus {
        let mut rest = obu.as_slice();
        while !rest.is_empty() {
            let mut payload = payloads.pop().unwrap_or_default();
            let room = (PAYLOAD_BYTES_MAX - payload.len()).saturating_sub(2).min(ELEMENT_BYTES_MAX);
            let (piece, after) = rest.split_at(room.min(rest.len()));
            rest = after;
            if !piece.is_empty() {
                payload.extend_from_slice(&length_of(piece));
                payload.extend_from_slice(piece);
            }
            let is_cut = !rest.is_empty();
            // What is cut before its first byte has not begun.
            let has_begun = rest.len() < obu.len();
            if is_cut && has_begun {
                payload[0] |= IS_CONTINUED;
            }
            payloads.push(payload);
            if is_cut {
                payloads.push(vec![if has_begun { CONTINUES } else { 0 }]);
            }
        }
    }
    payloads
}

/// LEB128, for pieces shorter than 16 KiB.
fn length_of(piece: &[u8]) -> Vec<u8> {
    let length = piece.len();
    if length < 0x80 { vec![length as u8] } else { vec![length as u8 | 0x80, (length >> 7) as u8] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ivf_file_falls_into_its_frames_or_is_refused() {
        let mut file = [b"DKIF".as_slice(), &[0; 28]].concat();
        for frame in [&[1u8, 2, 3][..], &[4]] {
            file.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            file.extend_from_slice(&[0; 8]);
            file.extend_from_slice(frame);
        }
        assert_eq!(ivf_frames(&file), Some(vec![&[1u8, 2, 3][..], &[4]]));
        assert_eq!(ivf_frames(&file[..file.len() - 1]), None);
        assert_eq!(ivf_frames(b"RIFF"), None);
    }

    #[test]
    fn only_the_first_piece_of_a_vp8_frame_starts_a_partition() {
        let payloads = vp8(&[7; 2 * PAYLOAD_BYTES_MAX]);
        let first: Vec<u8> = payloads.iter().map(|payload| payload[0]).collect();
        assert_eq!(first, [0x10, 0, 0]);
        assert_eq!(payloads.iter().map(|payload| payload.len() - 1).sum::<usize>(), 2 * PAYLOAD_BYTES_MAX);
        assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
    }

    #[test]
    fn a_vp9_frame_begins_once_and_ends_once() {
        let payloads = vp9(&[0x86; 2 * PAYLOAD_BYTES_MAX], 5);
        let first: Vec<[u8; 3]> =
            payloads.iter().filter_map(|payload| payload.first_chunk().copied()).collect();
        assert_eq!(first, [[0xc8, 0x80, 5], [0xc0, 0x80, 5], [0xc4, 0x80, 5]]);
        assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
        assert_eq!(vp9(&[0x82], 0x7fff), [[0x8c, 0xff, 0xff, 0x82]]);
    }

    #[test]
    fn a_temporal_unit_comes_out_of_its_payloads_as_it_went_in() {
        let delimiter = [0x12, 0x00];
        let sequence = [0x0a, 0x02, 0xaa, 0xbb];
        let picture = [&[0x32, 0x88, 0x27][..], &[0xcc; 5000]].concat();
        let unit = [&delimiter[..], &sequence, &picture].concat();
        let obus = obus(&unit).unwrap();
        assert_eq!(obus[0], [0x08, 0xaa, 0xbb]);
        assert_eq!((obus[1][0], obus[1].len()), (0x30, 5001));
        let payloads = av1(&obus);
        assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
        let headers: Vec<u8> = payloads.iter().map(|payload| payload[0]).collect();
        assert_eq!(headers, [0x48, 0xc0, 0xc0, 0xc0, 0x80]);
        let bytes: usize = payloads.iter().map(|payload| payload.len() - 3).sum();
        // The sequence header has a length byte of its own beside those counted.
        assert_eq!(bytes, 5001 + 1 + 3);
        assert_eq!(super::obus(&unit[..unit.len() - 1]), None);
    }
}
