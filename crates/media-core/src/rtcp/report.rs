//! Reports, source descriptions and goodbyes (RFC 3550, section 6).

use std::time::Duration;

use model::{NtpTime, Ssrc};

use super::{ParseError, TYPE_GOODBYE, TYPE_RECEIVER_REPORT, TYPE_SENDER_REPORT, ssrc, ssrcs, take, word};

/// Bytes of one report block.
pub(super) const BLOCK_BYTES: usize = 24;

/// SDES item type of a CNAME.
pub(super) const ITEM_CNAME: u8 = 1;

/// The sender's part of an SR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// Whose report it is.
    pub ssrc: Ssrc,
    /// The sender's wallclock when it reported; zero bits if it has none.
    pub ntp: NtpTime,
    /// The same moment in ticks of the stream's clock.
    pub rtp_timestamp: u32,
    /// Packets sent since the stream began, modulo 2^32.
    pub packets: u32,
    /// Payload bytes sent since the stream began, modulo 2^32.
    pub bytes: u32,
}

/// What a receiver says of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream it speaks of.
    pub ssrc: Ssrc,
    /// Share of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the stream began; duplicates make it negative. 24 bits on the wire, clamped to them.
    pub lost: i32,
    /// Highest sequence number received, with the count of cycles above it.
    pub highest_seq: u32,
    /// Interarrival jitter, in ticks of the stream's clock.
    pub jitter: u32,
    /// LSR: middle 32 bits of the last SR's NTP time; zero if none came.
    pub last_report: u32,
    /// DLSR: time between that SR's arrival and this report, in 1/65536 s.
    pub delay: u32,
}

impl ReportBlock {
    /// Round-trip time as the sender of the SR sees it when this block arrives at `now`, in the clock of its SRs
    /// (RFC 3550, section 6.4.1). `None` without an SR, or if the block claims more delay than time has passed.
    #[must_use]
    pub fn round_trip(&self, now: NtpTime) -> Option<Duration> {
        if self.last_report == 0 {
            return None;
        }
        let units = now.middle().wrapping_sub(self.last_report).wrapping_sub(self.delay);
        // A block from the future: the difference is negative.
        if units > u32::MAX / 2 {
            return None;
        }
        Some(Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16))
    }

    fn read(bytes: &[u8; BLOCK_BYTES]) -> Self {
        let lost = word(&bytes[4..]);
        Self {
            ssrc: ssrc(bytes),
            fraction_lost: (lost >> 24) as u8,
            // Sign of the 24 bits.
            lost: (lost << 8) as i32 >> 8,
            highest_seq: word(&bytes[8..]),
            jitter: word(&bytes[12..]),
            last_report: word(&bytes[16..]),
            delay: word(&bytes[20..]),
        }
    }
}

fn blocks(bytes: &[u8]) -> impl Iterator<Item = ReportBlock> + use<'_> {
    bytes.as_chunks::<BLOCK_BYTES>().0.iter().map(ReportBlock::read)
}

/// SR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport<'a> {
    /// What the sender says of its own stream.
    pub info: SenderInfo,
    blocks: &'a [u8],
}

impl<'a> SenderReport<'a> {
    pub(super) fn read(body: &'a [u8], count: usize) -> Result<Self, ParseError> {
        let (info, rest) = take(TYPE_SENDER_REPORT, body, 24)?;
        let (blocks, _) = take(TYPE_SENDER_REPORT, rest, count * BLOCK_BYTES)?;
        let ntp = (u64::from(word(&info[4..])) << 32) | u64::from(word(&info[8..]));
        let info = SenderInfo {
            ssrc: ssrc(info),
            ntp: NtpTime::from_bits(ntp),
            rtp_timestamp: word(&info[12..]),
            packets: word(&info[16..]),
            bytes: word(&info[20..]),
        };
        Ok(Self { info, blocks })
    }

    /// What it says of streams that it receives.
    pub fn blocks(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        blocks(self.blocks)
    }
}

/// RR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiverReport<'a> {
    /// Whose report it is.
    pub ssrc: Ssrc,
    blocks: &'a [u8],
}

impl<'a> ReceiverReport<'a> {
    pub(super) fn read(body: &'a [u8], count: usize) -> Result<Self, ParseError> {
        let (sender, rest) = take(TYPE_RECEIVER_REPORT, body, 4)?;
        let (blocks, _) = take(TYPE_RECEIVER_REPORT, rest, count * BLOCK_BYTES)?;
        Ok(Self { ssrc: ssrc(sender), blocks })
    }

    /// What it says of streams that it receives.
    pub fn blocks(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        blocks(self.blocks)
    }
}

/// SDES.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceDescription<'a> {
    count: usize,
    chunks: &'a [u8],
}

impl<'a> SourceDescription<'a> {
    pub(super) const fn new(body: &'a [u8], count: usize) -> Self {
        Self { count, chunks: body }
    }

    /// SSRC and CNAME (UTF-8 as sent, unchecked) of every chunk that has one. A malformed chunk ends the list.
    pub fn cnames(&self) -> impl Iterator<Item = (Ssrc, &'a [u8])> + use<'a> {
        let mut rest = self.chunks;
        (0..self.count)
            .map_while(move |_| {
                let (chunk, after) = Chunk::split(rest)?;
                rest = after;
                Some(chunk)
            })
            .filter_map(|chunk| Some((chunk.ssrc, chunk.cname?)))
    }
}

struct Chunk<'a> {
    ssrc: Ssrc,
    cname: Option<&'a [u8]>,
}

impl<'a> Chunk<'a> {
    /// The first chunk of `bytes`, which start on a 32-bit boundary, and what follows it.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut chunk = Self { ssrc: ssrc(bytes.get(..4)?), cname: None };
        let mut position = 4;
        loop {
            let item = *bytes.get(position)?;
            if item == 0 {
                // The list ends with at least one zero byte and goes on to the next boundary.
                let end = (position + 1).next_multiple_of(4);
                return Some((chunk, bytes.get(end..)?));
            }
            let start = position + 2;
            let end = start + usize::from(*bytes.get(position + 1)?);
            let text = bytes.get(start..end)?;
            if item == ITEM_CNAME && chunk.cname.is_none() {
                chunk.cname = Some(text);
            }
            position = end;
        }
    }
}

/// BYE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goodbye<'a> {
    sources: &'a [u8],
}

impl<'a> Goodbye<'a> {
    pub(super) fn read(body: &'a [u8], count: usize) -> Result<Self, ParseError> {
        let (sources, _) = take(TYPE_GOODBYE, body, count * 4)?;
        Ok(Self { sources })
    }

    /// The streams that end.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> + use<'a> {
        ssrcs(self.sources)
    }
}
