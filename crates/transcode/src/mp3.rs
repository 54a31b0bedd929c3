//! Headers of MP3 frames (ISO/IEC 11172-3, section 2.4.1.3; ISO/IEC 13818-3 for the lower rates).

/// Bytes of a header.
const HEADER_BYTES: usize = 4;
/// Kilobits per second of layer III by index, from 1: MPEG-1, then MPEG-2 and 2.5.
const KILOBITS: [[u32; 14]; 2] = [
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];
/// Samples in a second of MPEG-1; MPEG-2 has half of it, MPEG-2.5 a quarter.
const RATES: [u32; 3] = [44_100, 48_000, 32_000];

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Samples in a second.
    pub(crate) rate: u32,
    /// 1 or 2.
    pub(crate) channels: u8,
    /// Bytes of the whole frame.
    pub(crate) bytes: usize,
}

/// Reads the header at the start of `bytes`. `None` if there is none of layer III with a bitrate of its own.
pub(crate) fn frame_header(bytes: &[u8]) -> Option<FrameHeader> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    if header[0] != 0xff || header[1] & 0xe0 != 0xe0 || header[1] & 0x06 != 0x02 {
        return None;
    }
    let (divisor, is_mpeg1) = match header[1] >> 3 & 3 {
        3 => (1, true),
        2 => (2, false),
        0 => (4, false),
        _ => return None,
    };
    let bitrate_index = usize::from(header[2] >> 4).checked_sub(1)?;
    let kilobits = *KILOBITS[usize::from(!is_mpeg1)].get(bitrate_index)?;
    let rate = *RATES.get(usize::from(header[2] >> 2 & 3))? / divisor;
    let padding = usize::from(header[2] >> 1 & 1);
    let samples_per_bit = if is_mpeg1 { 144_000 } else { 72_000 };
    let channels = if header[3] >> 6 == 3 { 1 } else { 2 };
    Some(FrameHeader { rate, channels, bytes: (samples_per_bit * kilobits / rate) as usize + padding })
}

/// The whole frames in a message, each with its header.
pub(crate) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (FrameHeader, &[u8])> {
    std::iter::from_fn(move || {
        let header = frame_header(bytes)?;
        let (frame, rest) = bytes.split_at_checked(header.bytes)?;
        bytes = rest;
        Some((header, frame))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_say_how_long_their_frame_is() {
        let header = |bytes: [u8; 4]| frame_header(&bytes);
        let stereo = Some(FrameHeader { rate: 44_100, channels: 2, bytes: 417 });
        assert_eq!(header([0xff, 0xfb, 0x90, 0x64]), stereo, "128 kbit/s");
        let padded = Some(FrameHeader { rate: 44_100, channels: 1, bytes: 418 });
        assert_eq!(header([0xff, 0xfb, 0x92, 0xc4]), padded);
        let slow = Some(FrameHeader { rate: 22_050, channels: 1, bytes: 208 });
        assert_eq!(header([0xff, 0xf3, 0x80, 0xc4]), slow, "MPEG-2, 64 kbit/s");
        assert_eq!(header([0xff, 0xfd, 0x90, 0x64]), None, "layer II");
        assert_eq!(header([0xff, 0xfb, 0x00, 0x64]), None, "free format");
        assert_eq!(header([0x49, 0x44, 0x33, 0x03]), None, "a tag");
    }

    #[test]
    fn a_message_may_have_several_frames() {
        let frame = [&[0xff, 0xfb, 0x90, 0x64][..], &[0; 413]].concat();
        assert_eq!(frames(&frame.repeat(3)).count(), 3);
        assert_eq!(frames(&frame[..400]).count(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![Just(0xffu8), any::<u8>()], 0..900)) {
            let taken: usize = frames(&bytes).map(|(_, frame)| frame.len()).sum();
            prop_assert!(taken <= bytes.len());
        }
    }
}
