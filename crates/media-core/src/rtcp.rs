//! RTCP (RFC 3550, section 6; feedback per RFC 4585, RFC 5104 and the drafts of REMB and TWCC): a borrowed view of compound
//! packets, and writers in [`write`].
//!
//! Reading allocates nothing, accepts reduced-size packets (RFC 5506) and skips what the media plane has no use for
//! (extended reports, APP, unknown feedback). SRTCP and scheduling are left to others.

mod feedback;
mod report;
mod transport_feedback;
pub mod write;

#[cfg(test)]
mod tests;

pub use feedback::{FullIntraRequest, Nack, NackSeqs, PictureLossIndication, ReceiverEstimate};
pub use report::{Goodbye, ReceiverReport, ReportBlock, SenderInfo, SenderReport, SourceDescription};
pub use transport_feedback::{Arrival, Arrivals, TransportFeedback};

use model::Ssrc;

const TYPE_SENDER_REPORT: u8 = 200;
const TYPE_RECEIVER_REPORT: u8 = 201;
const TYPE_SOURCE_DESCRIPTION: u8 = 202;
const TYPE_GOODBYE: u8 = 203;
const TYPE_TRANSPORT_FEEDBACK: u8 = 205;
const TYPE_PAYLOAD_FEEDBACK: u8 = 206;

/// Format (FMT) of feedback packets.
const FORMAT_NACK: u8 = 1;
const FORMAT_TRANSPORT_WIDE: u8 = 15;
const FORMAT_PICTURE_LOSS: u8 = 1;
const FORMAT_FULL_INTRA: u8 = 4;
const FORMAT_APPLICATION: u8 = 15;

/// Why bytes are not RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The bytes end before a packet does; nothing after it can be read.
    #[error("the packet ends {missing} bytes before the length its header claims")]
    Truncated {
        /// Bytes that would be needed in addition.
        missing: usize,
    },
    /// Not version 2; nothing after it can be read.
    #[error("RTCP version {version}, not 2")]
    Version {
        /// What stands in its place.
        version: u8,
    },
    /// The padding count is zero or larger than the packet.
    #[error("{padding} bytes of padding in {available} bytes of RTCP")]
    Padding {
        /// The count in the last byte.
        padding: usize,
        /// Bytes after the header.
        available: usize,
    },
    /// A packet of a known type has not the bytes that its type or its counts ask for.
    #[error("RTCP packet of type {packet_type} is {missing} bytes too short for what it holds")]
    Content {
        /// The packet type.
        packet_type: u8,
        /// Bytes that would be needed in addition.
        missing: usize,
    },
    /// TWCC feedback says of a packet what the draft has reserved.
    #[error("transport-wide feedback has a reserved packet status")]
    Status,
}

/// Whether a datagram on a port shared with RTP is RTCP (RFC 5761, section 4).
#[must_use]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, packet_type, ..] if first >> 6 == 2 && (192..=223).contains(packet_type))
}

/// One packet of a compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// SR (RFC 3550, section 6.4.1).
    SenderReport(SenderReport<'a>),
    /// RR (RFC 3550, section 6.4.2).
    ReceiverReport(ReceiverReport<'a>),
    /// SDES (RFC 3550, section 6.5).
    SourceDescription(SourceDescription<'a>),
    /// BYE (RFC 3550, section 6.6).
    Goodbye(Goodbye<'a>),
    /// Generic NACK (RFC 4585, section 6.2.1).
    Nack(Nack<'a>),
    /// PLI (RFC 4585, section 6.3.1).
    PictureLossIndication(PictureLossIndication),
    /// FIR (RFC 5104, section 4.3.1).
    FullIntraRequest(FullIntraRequest<'a>),
    /// REMB (draft-alvestrand-rmcat-remb-03).
    ReceiverEstimate(ReceiverEstimate<'a>),
    /// TWCC (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportFeedback(TransportFeedback<'a>),
}

/// Reads a compound or reduced-size packet in the clear.
#[must_use]
pub const fn parse(datagram: &[u8]) -> Packets<'_> {
    Packets { rest: datagram }
}

/// Iterator over a compound packet, see [`parse`]. An error in the framing is the last item; a packet whose content
/// is broken is one error, and the next packet follows.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let parsed = split(self.rest).map(|(frame, rest)| {
                self.rest = rest;
                frame
            });
            match parsed {
                Ok(frame) => match frame.read().transpose() {
                    Some(item) => return Some(item),
                    None => continue,
                },
                Err(error) => {
                    self.rest = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// One packet with its common header taken apart.
struct Frame<'a> {
    /// RC, SC or FMT.
    count: u8,
    packet_type: u8,
    /// After the common header, without padding.
    body: Result<&'a [u8], ParseError>,
}

fn split(bytes: &[u8]) -> Result<(Frame<'_>, &[u8]), ParseError> {
    let Some(&[first, packet_type, high, low]) = bytes.first_chunk::<4>() else {
        return Err(ParseError::Truncated { missing: 4 - bytes.len() });
    };
    let version = first >> 6;
    if version != 2 {
        return Err(ParseError::Version { version });
    }
    let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
    let Some((packet, rest)) = bytes.split_at_checked(length) else {
        return Err(ParseError::Truncated { missing: length - bytes.len() });
    };
    let body = &packet[4..];
    let body = if first & 0x20 == 0 { Ok(body) } else { without_padding(body) };
    Ok((Frame { count: first & 0x1f, packet_type, body }, rest))
}

fn without_padding(body: &[u8]) -> Result<&[u8], ParseError> {
    let padding = body.last().copied().map_or(0, usize::from);
    match body.len().checked_sub(padding) {
        Some(length) if padding > 0 => Ok(&body[..length]),
        _ => Err(ParseError::Padding { padding, available: body.len() }),
    }
}

impl<'a> Frame<'a> {
    fn read(self) -> Result<Option<Packet<'a>>, ParseError> {
        let body = self.body?;
        let count = usize::from(self.count);
        let packet = match (self.packet_type, self.count) {
            (TYPE_SENDER_REPORT, _) => Packet::SenderReport(SenderReport::read(body, count)?),
            (TYPE_RECEIVER_REPORT, _) => Packet::ReceiverReport(ReceiverReport::read(body, count)?),
            (TYPE_SOURCE_DESCRIPTION, _) => Packet::SourceDescription(SourceDescription::new(body, count)),
            (TYPE_GOODBYE, _) => Packet::Goodbye(Goodbye::read(body, count)?),
            (TYPE_TRANSPORT_FEEDBACK, FORMAT_NACK) => Packet::Nack(Nack::read(body)?),
            (TYPE_TRANSPORT_FEEDBACK, FORMAT_TRANSPORT_WIDE) => {
                Packet::TransportFeedback(TransportFeedback::read(body)?)
            }
            (TYPE_PAYLOAD_FEEDBACK, FORMAT_PICTURE_LOSS) => {
                let (sender, media, _) = feedback_header(TYPE_PAYLOAD_FEEDBACK, body)?;
                Packet::PictureLossIndication(PictureLossIndication { sender, media })
            }
            (TYPE_PAYLOAD_FEEDBACK, FORMAT_FULL_INTRA) => {
                Packet::FullIntraRequest(FullIntraRequest::read(body)?)
            }
            (TYPE_PAYLOAD_FEEDBACK, FORMAT_APPLICATION) => match ReceiverEstimate::read(body)? {
                Some(estimate) => Packet::ReceiverEstimate(estimate),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(packet))
    }
}

/// The first `length` bytes of `body` and the rest.
fn take(packet_type: u8, body: &[u8], length: usize) -> Result<(&[u8], &[u8]), ParseError> {
    body.split_at_checked(length)
        .ok_or_else(|| ParseError::Content { packet_type, missing: length - body.len() })
}

/// Both SSRCs of a feedback packet and its feedback control information.
fn feedback_header(packet_type: u8, body: &[u8]) -> Result<(Ssrc, Ssrc, &[u8]), ParseError> {
    let (header, rest) = take(packet_type, body, 8)?;
    Ok((ssrc(&header[..4]), ssrc(&header[4..]), rest))
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk::<4>().map_or(0, |word| u32::from_be_bytes(*word))
}

fn ssrc(bytes: &[u8]) -> Ssrc {
    Ssrc::new(word(bytes))
}

fn ssrcs(bytes: &[u8]) -> impl Iterator<Item = Ssrc> + use<'_> {
    bytes.as_chunks::<4>().0.iter().map(|word| Ssrc::new(u32::from_be_bytes(*word)))
}
