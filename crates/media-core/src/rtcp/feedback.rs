//! Feedback messages: NACK, PLI, FIR, REMB.

use model::{Bitrate, Ssrc};

use super::{
    ParseError, TYPE_PAYLOAD_FEEDBACK, TYPE_TRANSPORT_FEEDBACK, feedback_header, ssrc, ssrcs, take, word,
};

/// Name of the REMB message among application layer feedback.
pub(super) const REMB_NAME: &[u8; 4] = b"REMB";
/// Bits of REMB's mantissa.
pub(super) const REMB_MANTISSA_BITS: u32 = 18;

/// Generic NACK: packets that the sender of the message misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack<'a> {
    /// Who asks.
    pub sender: Ssrc,
    /// The stream with the gaps.
    pub media: Ssrc,
    entries: &'a [u8],
}

impl<'a> Nack<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, ParseError> {
        let (sender, media, entries) = feedback_header(TYPE_TRANSPORT_FEEDBACK, body)?;
        Ok(Self { sender, media, entries })
    }

    /// Header sequence numbers asked for, in the order of the message.
    #[must_use]
    pub const fn seqs(&self) -> NackSeqs<'a> {
        NackSeqs { entries: self.entries, pid: 0, bits: 0 }
    }
}

/// Iterator over the sequence numbers of a [`Nack`].
#[derive(Debug, Clone)]
pub struct NackSeqs<'a> {
    entries: &'a [u8],
    pid: u16,
    /// Bit n stands for PID + n; bit 0 for the PID itself.
    bits: u32,
}

impl Iterator for NackSeqs<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.bits == 0 {
            let (entry, rest) = self.entries.split_first_chunk::<4>()?;
            self.entries = rest;
            self.pid = u16::from_be_bytes([entry[0], entry[1]]);
            self.bits = (u32::from(u16::from_be_bytes([entry[2], entry[3]])) << 1) | 1;
        }
        let offset = self.bits.trailing_zeros();
        self.bits &= self.bits - 1;
        Some(self.pid.wrapping_add(offset as u16))
    }
}

/// PLI: a receiver's decoder cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureLossIndication {
    /// Who asks.
    pub sender: Ssrc,
    /// The stream that should send a keyframe.
    pub media: Ssrc,
}

/// FIR: a keyframe is demanded, whatever was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullIntraRequest<'a> {
    /// Who asks.
    pub sender: Ssrc,
    entries: &'a [u8],
}

impl<'a> FullIntraRequest<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, ParseError> {
        let (sender, _, entries) = feedback_header(TYPE_PAYLOAD_FEEDBACK, body)?;
        Ok(Self { sender, entries })
    }

    /// Streams that should send a keyframe, each with the command's number: a repeated number is the same command.
    pub fn entries(&self) -> impl Iterator<Item = (Ssrc, u8)> + use<'a> {
        self.entries.as_chunks::<8>().0.iter().map(|entry| (ssrc(entry), entry[4]))
    }
}

/// REMB: the bitrate that a receiver thinks it can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiverEstimate<'a> {
    /// Who estimates.
    pub sender: Ssrc,
    /// For all streams together.
    pub bitrate: Bitrate,
    sources: &'a [u8],
}

impl<'a> ReceiverEstimate<'a> {
    /// `None` for application layer feedback that is not REMB.
    pub(super) fn read(body: &'a [u8]) -> Result<Option<Self>, ParseError> {
        let (sender, _, rest) = feedback_header(TYPE_PAYLOAD_FEEDBACK, body)?;
        if !rest.starts_with(REMB_NAME) {
            return Ok(None);
        }
        let (header, rest) = take(TYPE_PAYLOAD_FEEDBACK, rest, 8)?;
        let fields = word(&header[4..]);
        let (sources, _) = take(TYPE_PAYLOAD_FEEDBACK, rest, (fields >> 24) as usize * 4)?;
        let exponent = (fields >> REMB_MANTISSA_BITS) & 0x3f;
        let mantissa = u64::from(fields) & ((1 << REMB_MANTISSA_BITS) - 1);
        let bits_per_second =
            if mantissa.leading_zeros() >= exponent { mantissa << exponent } else { u64::MAX };
        Ok(Some(Self { sender, bitrate: Bitrate::bps(bits_per_second), sources }))
    }

    /// The streams it speaks of.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> + use<'a> {
        ssrcs(self.sources)
    }
}
