//! AV1 (RTP Payload Format For AV1, section 4.4): where keyframes start.

/// The first element goes on from the packet before.
const CONTINUES: u8 = 0x80;
/// First packet of a coded video sequence.
const NEW_SEQUENCE: u8 = 0x08;
const TYPE_SEQUENCE_HEADER: u8 = 1;

/// The packet begins a coded video sequence and has its sequence header.
pub(super) fn starts_keyframe(payload: &[u8]) -> bool {
    let Some((&aggregation, elements)) = payload.split_first() else { return false };
    if aggregation & (CONTINUES | NEW_SEQUENCE) != NEW_SEQUENCE {
        return false;
    }
    // Elements with a length before them: all where the count is 0, all but the last where it is 1 to 3.
    let count = aggregation >> 4 & 0x03;
    Elements { rest: elements, with_length: if count == 0 { u8::MAX } else { count - 1 } }
        .any(|element| element.first().is_some_and(|header| header >> 3 & 0x0f == TYPE_SEQUENCE_HEADER))
}

struct Elements<'a> {
    rest: &'a [u8],
    with_length: u8,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        if self.with_length == 0 {
            return Some(std::mem::take(&mut self.rest));
        }
        self.with_length -= 1;
        let (length, after) = leb128(self.rest)?;
        let (element, after) = after.split_at_checked(length)?;
        self.rest = after;
        Some(element)
    }
}

/// A number in seven-bit groups, the lowest first, and what follows it; at most 32 bits.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[index + 1..]));
        }
    }
    None
}
