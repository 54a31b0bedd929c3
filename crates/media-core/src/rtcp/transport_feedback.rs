//! Transport-wide feedback: when each packet arrived (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1).
//!
//! Arrival times are ticks of 250 µs on the receiver's clock, modulo 2^32: the 24 bits of the reference time, which counts
//! 256 ticks, are the upper ones of these 32. So its wrap-around, after twelve days, is theirs.

use model::Ssrc;

use super::{ParseError, TYPE_TRANSPORT_FEEDBACK, feedback_header, take, word};

/// Ticks in a unit of the reference time (64 ms): two to the power of this.
pub(super) const REFERENCE_BITS: u32 = 8;

/// Packet statuses (section 3.1.1), the last of which is reserved.
pub(super) const STATUS_NOT_RECEIVED: u16 = 0;
pub(super) const STATUS_SMALL: u16 = 1;
pub(super) const STATUS_LARGE: u16 = 2;

/// A chunk of two-bit statuses (section 3.1.4), and how many of them it has.
pub(super) const TWO_BIT_VECTOR: u16 = 0xc000;
pub(super) const TWO_BIT_STATUSES: u16 = 7;
const ONE_BIT_STATUSES: u16 = 14;

/// TWCC feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    /// Who reports.
    pub sender: Ssrc,
    /// A stream of the transport; any will do.
    pub media: Ssrc,
    /// Transport-wide number of the first packet that it speaks of,
    pub base_seq: u16,
    /// and of how many.
    pub status_count: u16,
    /// Counts feedback.
    pub count: u8,
    /// The receiver's clock, in ticks.
    reference: u32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, ParseError> {
        let (sender, media, control) = feedback_header(TYPE_TRANSPORT_FEEDBACK, body)?;
        let (header, rest) = take(TYPE_TRANSPORT_FEEDBACK, control, 8)?;
        let (numbers, times) = (word(header), word(&header[4..]));
        let status_count = numbers as u16;
        let (chunk_bytes, delta_bytes) = measure(rest, status_count)?;
        let (chunks, rest) = take(TYPE_TRANSPORT_FEEDBACK, rest, chunk_bytes)?;
        // What follows is padding, said or not.
        let (deltas, _) = take(TYPE_TRANSPORT_FEEDBACK, rest, delta_bytes)?;
        Ok(Self {
            sender,
            media,
            base_seq: (numbers >> 16) as u16,
            status_count,
            count: times as u8,
            reference: times >> 8 << REFERENCE_BITS,
            chunks,
            deltas,
        })
    }

    /// The packets that arrived, in the order of their numbers; those in between did not.
    #[must_use]
    pub const fn arrivals(&self) -> Arrivals<'a> {
        Arrivals {
            chunks: self.chunks,
            deltas: self.deltas,
            unread: self.status_count,
            chunk: Chunk(0),
            index: 0,
            length: 0,
            seq: self.base_seq,
            at: self.reference,
        }
    }
}

/// Bytes of the chunks that tell so many statuses, and of the deltas that belong to them.
fn measure(bytes: &[u8], status_count: u16) -> Result<(usize, usize), ParseError> {
    let (mut unread, mut chunks, mut deltas) = (status_count, 0, 0);
    while unread > 0 {
        let (chunk, _) = take(TYPE_TRANSPORT_FEEDBACK, &bytes[chunks..], 2)?;
        let chunk = Chunk(u16::from_be_bytes([chunk[0], chunk[1]]));
        let length = chunk.length().min(unread);
        deltas += chunk.delta_bytes(length)?;
        unread -= length;
        chunks += 2;
    }
    Ok((chunks, deltas))
}

/// A packet chunk (sections 3.1.2 to 3.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk(u16);

impl Chunk {
    const fn is_run(self) -> bool {
        self.0 & 0x8000 == 0
    }

    /// How many statuses it has; the last chunk may have more than there are packets.
    const fn length(self) -> u16 {
        match self.0 >> 14 {
            0 | 1 => self.0 & 0x1fff,
            2 => ONE_BIT_STATUSES,
            _ => TWO_BIT_STATUSES,
        }
    }

    /// One of them, which must be there.
    const fn status(self, index: u16) -> u16 {
        match self.0 >> 14 {
            0 | 1 => self.0 >> 13 & 0b11,
            2 => self.0 >> (ONE_BIT_STATUSES - 1 - index) & 0b1,
            _ => self.0 >> (2 * (TWO_BIT_STATUSES - 1 - index)) & 0b11,
        }
    }

    /// Bytes of the deltas of the first `length` statuses.
    fn delta_bytes(self, length: u16) -> Result<usize, ParseError> {
        let bytes = |status: u16| match status {
            STATUS_NOT_RECEIVED => Ok(0),
            STATUS_SMALL => Ok(1),
            STATUS_LARGE => Ok(2),
            _ => Err(ParseError::Status),
        };
        if self.is_run() {
            return Ok(usize::from(length) * bytes(self.status(0))?);
        }
        (0..length).map(|index| bytes(self.status(index))).sum()
    }
}

/// A packet that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its transport-wide number.
    pub seq: u16,
    /// When, in ticks of 250 µs on the receiver's clock, modulo 2^32.
    pub at: u32,
}

/// Iterator over what a [`TransportFeedback`] says has arrived.
#[derive(Debug, Clone)]
pub struct Arrivals<'a> {
    chunks: &'a [u8],
    deltas: &'a [u8],
    /// Statuses in chunks that are still to be read.
    unread: u16,
    chunk: Chunk,
    /// The next status of the chunk, and how many count.
    index: u16,
    length: u16,
    seq: u16,
    at: u32,
}

impl Arrivals<'_> {
    fn delta(&mut self, status: u16) -> Option<i16> {
        if status == STATUS_SMALL {
            let (&small, rest) = self.deltas.split_first()?;
            self.deltas = rest;
            return Some(small.into());
        }
        let (large, rest) = self.deltas.split_first_chunk::<2>()?;
        self.deltas = rest;
        Some(i16::from_be_bytes(*large))
    }
}

impl Iterator for Arrivals<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        loop {
            if self.index == self.length {
                if self.unread == 0 {
                    return None;
                }
                let (chunk, rest) = self.chunks.split_first_chunk::<2>()?;
                (self.chunks, self.chunk) = (rest, Chunk(u16::from_be_bytes(*chunk)));
                (self.index, self.length) = (0, self.chunk.length().min(self.unread));
                self.unread -= self.length;
                continue;
            }
            let (seq, status) = (self.seq, self.chunk.status(self.index));
            let is_missing = status == STATUS_NOT_RECEIVED;
            // A long run of losses costs one step.
            let steps = if is_missing && self.chunk.is_run() { self.length } else { 1 };
            self.index += steps;
            self.seq = seq.wrapping_add(steps);
            if !is_missing {
                let delta = self.delta(status)?;
                self.at = self.at.wrapping_add_signed(delta.into());
                return Some(Arrival { seq, at: self.at });
            }
        }
    }
}
