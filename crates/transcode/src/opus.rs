//! Opus that comes as Opus (Enhanced RTMP): what its packets say of themselves, and a steady clock for them.

use bytes::Bytes;
use model::MediaTime;

use crate::{PACKET_BYTES_MAX, SAMPLE_RATE};

/// Longest packet (RFC 6716, section 3.2.5), in ticks.
const TICKS_MAX: i64 = SAMPLE_RATE as i64 * 120 / 1000;
/// Differences between what is said and what is counted that are left alone; 40 ms, in ticks.
const STEADY_TICKS: i64 = SAMPLE_RATE as i64 * 40 / 1000;

/// Why Opus is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpusError {
    /// The configuration is not that of Opus.
    #[error("the configuration of Opus is malformed")]
    Malformed,
    /// More than two channels.
    #[error("the sound has {channels} channels of Opus: set the encoder to mono or stereo")]
    Channels {
        /// How many.
        channels: u8,
    },
    /// A packet that does not fit into a datagram.
    #[error(
        "a packet of Opus has {length} bytes, more than {PACKET_BYTES_MAX}: set the encoder to a lower audio bitrate"
    )]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// Checks an `OpusHead` (RFC 7845, section 5.1).
pub(crate) fn check_head(head: &[u8]) -> Result<(), OpusError> {
    let rest = head.strip_prefix(b"OpusHead").ok_or(OpusError::Malformed)?;
    let (&channels, &family) = rest.get(1).zip(rest.get(10)).ok_or(OpusError::Malformed)?;
    if family != 0 || !(1..=2).contains(&channels) {
        return Err(OpusError::Channels { channels });
    }
    Ok(())
}

/// Ticks of 48 kHz that a packet lasts (RFC 6716, sections 3.1 and 3.2). `None` if it is malformed.
fn ticks(packet: &[u8]) -> Option<i64> {
    let toc = *packet.first()?;
    let config = usize::from(toc >> 3);
    let frame = match config {
        0..12 => [480, 960, 1920, 2880][config % 4],
        12..16 => [480, 960][config % 2],
        _ => [120, 240, 480, 960][config % 4],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => i64::from(*packet.get(1)? & 0x3f),
    };
    Some(frame * frames).filter(|ticks| (1..=TICKS_MAX).contains(ticks))
}

/// A packet with its place on the clock: ticks, whether something begins, the packet.
pub(crate) type Placed = (i64, bool, Bytes);

/// The clock of one track.
#[derive(Debug, Default)]
pub(crate) struct OpusClock {
    next: Option<i64>,
}

impl OpusClock {
    /// Goes on with the clock of another codec.
    pub(crate) const fn new(next: Option<i64>) -> Self {
        Self { next }
    }

    pub(crate) const fn next(&self) -> Option<i64> {
        self.next
    }

    /// Places a packet. `None` if it is malformed, or from a time that has been played.
    pub(crate) fn place(&mut self, time: MediaTime, packet: Bytes) -> Result<Option<Placed>, OpusError> {
        if packet.len() > PACKET_BYTES_MAX {
            return Err(OpusError::TooLong { length: packet.len() });
        }
        let Some(length) = ticks(&packet) else { return Ok(None) };
        let said = time.ticks(SAMPLE_RATE);
        let (at, begins) = match self.next {
            Some(next) if (said - next).abs() <= STEADY_TICKS => (next, false),
            Some(next) if said < next => return Ok(None),
            _ => (said, true),
        };
        self.next = Some(at + length);
        Ok(Some((at, begins, packet)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_say_how_long_they_last() {
        assert_eq!(ticks(&[0xfc]), Some(960), "CELT, 20 ms");
        assert_eq!(ticks(&[0xe1]), Some(240), "twice 2.5 ms");
        assert_eq!(ticks(&[0x1b, 0x82]), Some(5760), "twice 60 ms of SILK");
        assert_eq!(ticks(&[0x1b, 0x83]), None, "more than 120 ms");
        assert_eq!(ticks(&[0x03]), None);
        assert_eq!(ticks(&[]), None);
    }

    #[test]
    fn rounded_times_become_a_steady_clock() {
        let mut clock = OpusClock::default();
        let mut place = |millis| clock.place(MediaTime::from_millis(millis), Bytes::from_static(&[0xfc]));
        let mut at = |millis| place(millis).expect("short").map(|(ticks, begins, _)| (ticks, begins));
        assert_eq!(at(1001), Some((48_048, true)));
        assert_eq!(at(1020), Some((49_008, false)));
        assert_eq!(at(1042), Some((49_968, false)));
        assert_eq!(at(3000), Some((144_000, true)), "a gap");
        assert_eq!(at(2000), None, "played already");
    }

    #[test]
    fn heads_of_more_than_two_channels_are_refused() {
        let head = |channels, family| {
            let mut head = b"OpusHead\x01".to_vec();
            head.extend([channels, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, family]);
            check_head(&head)
        };
        assert_eq!((head(2, 0), head(1, 0)), (Ok(()), Ok(())));
        assert_eq!(head(6, 1), Err(OpusError::Channels { channels: 6 }));
        assert_eq!(check_head(b"OpusHead\x01\x02"), Err(OpusError::Malformed));
        assert_eq!(check_head(b"Opus"), Err(OpusError::Malformed));
    }

    #[test]
    fn a_packet_that_fits_no_datagram_is_refused() {
        let packet = Bytes::from(vec![0xfc; PACKET_BYTES_MAX + 1]);
        let refused = OpusClock::default().place(MediaTime::from_millis(0), packet);
        assert_eq!(refused, Err(OpusError::TooLong { length: PACKET_BYTES_MAX + 1 }));
    }
}
