//! Writers: each appends one packet, or as many as its lists need, to the caller's buffer. A caller that keeps its
//! buffer allocates nothing.

use model::{Bitrate, Ssrc};

use super::feedback::{REMB_MANTISSA_BITS, REMB_NAME};
use super::report::ITEM_CNAME;
use super::transport_feedback::{
    REFERENCE_BITS, STATUS_LARGE, STATUS_NOT_RECEIVED, STATUS_SMALL, TWO_BIT_STATUSES, TWO_BIT_VECTOR,
};
use super::{
    FORMAT_APPLICATION, FORMAT_FULL_INTRA, FORMAT_NACK, FORMAT_PICTURE_LOSS, FORMAT_TRANSPORT_WIDE,
    ReportBlock, SenderInfo, TYPE_GOODBYE, TYPE_PAYLOAD_FEEDBACK, TYPE_RECEIVER_REPORT, TYPE_SENDER_REPORT,
    TYPE_SOURCE_DESCRIPTION, TYPE_TRANSPORT_FEEDBACK,
};

/// Report blocks or sources that the five bits of one packet can count.
const COUNT_MAX: usize = 31;
/// PID/BLP pairs in one NACK, so that it fits a datagram: 1 kB.
const NACK_ENTRIES_MAX: usize = 256;
/// FIR entries in one packet: 1 kB.
const FULL_INTRA_ENTRIES_MAX: usize = 128;
/// Sources that the eight bits of one REMB can count.
const REMB_SOURCES_MAX: usize = 255;
/// Bytes that the length of an SDES item can count.
const CNAME_BYTES_MAX: usize = 255;

/// SR. Blocks that do not fit follow in RRs (RFC 3550, section 6.1).
pub fn sender_report(out: &mut Vec<u8>, info: &SenderInfo, blocks: &[ReportBlock]) {
    let (first, more) = blocks.split_at(blocks.len().min(COUNT_MAX));
    let packet = Begun::new(out, first.len() as u8, TYPE_SENDER_REPORT);
    put(out, info.ssrc.get());
    out.extend_from_slice(&info.ntp.to_bits().to_be_bytes());
    put(out, info.rtp_timestamp);
    put(out, info.packets);
    put(out, info.bytes);
    report_blocks(out, first);
    packet.end(out);
    if !more.is_empty() {
        receiver_report(out, info.ssrc, more);
    }
}

/// RR from `sender`, empty if there are no blocks; more than one if they do not fit.
pub fn receiver_report(out: &mut Vec<u8>, sender: Ssrc, blocks: &[ReportBlock]) {
    let mut rest = blocks;
    loop {
        let (some, more) = rest.split_at(rest.len().min(COUNT_MAX));
        let packet = Begun::new(out, some.len() as u8, TYPE_RECEIVER_REPORT);
        put(out, sender.get());
        report_blocks(out, some);
        packet.end(out);
        if more.is_empty() {
            return;
        }
        rest = more;
    }
}

/// SDES with the CNAME of one source, cut at 255 bytes.
pub fn source_description(out: &mut Vec<u8>, source: Ssrc, cname: &str) {
    let end = (0..=CNAME_BYTES_MAX.min(cname.len())).rev().find(|end| cname.is_char_boundary(*end));
    let cname = &cname[..end.unwrap_or(0)];
    let packet = Begun::new(out, 1, TYPE_SOURCE_DESCRIPTION);
    put(out, source.get());
    out.extend_from_slice(&[ITEM_CNAME, cname.len() as u8]);
    out.extend_from_slice(cname.as_bytes());
    // One zero byte ends the list of items, more fill the word.
    out.push(0);
    let unfilled = (out.len() - packet.start).next_multiple_of(4) - (out.len() - packet.start);
    out.extend_from_slice(&[0; 3][..unfilled]);
    packet.end(out);
}

/// BYE for `sources`; nothing if there are none.
pub fn goodbye(out: &mut Vec<u8>, sources: &[Ssrc]) {
    for some in sources.chunks(COUNT_MAX) {
        let packet = Begun::new(out, some.len() as u8, TYPE_GOODBYE);
        some.iter().for_each(|source| put(out, source.get()));
        packet.end(out);
    }
}

/// NACK for `seqs`, which ascend (they may wrap around); nothing if there are none. Returns how many packets it wrote.
pub fn nack(out: &mut Vec<u8>, sender: Ssrc, media: Ssrc, seqs: impl IntoIterator<Item = u16>) -> usize {
    let mut seqs = seqs.into_iter().peekable();
    let mut packets = 0;
    while seqs.peek().is_some() {
        let packet = Begun::feedback(out, FORMAT_NACK, TYPE_TRANSPORT_FEEDBACK, sender, media);
        for _ in 0..NACK_ENTRIES_MAX {
            let Some(pid) = seqs.next() else { break };
            let mut following = 0u16;
            while let Some(next) = seqs.next_if(|next| next.wrapping_sub(pid) <= 16) {
                let distance = next.wrapping_sub(pid);
                if distance > 0 {
                    following |= 1 << (distance - 1);
                }
            }
            put(out, (u32::from(pid) << 16) | u32::from(following));
        }
        packet.end(out);
        packets += 1;
    }
    packets
}

/// PLI.
pub fn picture_loss_indication(out: &mut Vec<u8>, sender: Ssrc, media: Ssrc) {
    Begun::feedback(out, FORMAT_PICTURE_LOSS, TYPE_PAYLOAD_FEEDBACK, sender, media).end(out);
}

/// FIR: streams with their command numbers, which the caller raises by one for each new demand. Nothing if there are none.
pub fn full_intra_request(out: &mut Vec<u8>, sender: Ssrc, entries: &[(Ssrc, u8)]) {
    for some in entries.chunks(FULL_INTRA_ENTRIES_MAX) {
        // RFC 5104, section 4.3.1.2: the SSRC of the media source is not used and SHALL be 0.
        let packet = Begun::feedback(out, FORMAT_FULL_INTRA, TYPE_PAYLOAD_FEEDBACK, sender, Ssrc::new(0));
        for (source, command) in some {
            put(out, source.get());
            put(out, u32::from(*command) << 24);
        }
        packet.end(out);
    }
}

/// REMB for `sources` (at most 255 are named). The bitrate is rounded down to 18 significant bits.
pub fn receiver_estimate(out: &mut Vec<u8>, sender: Ssrc, bitrate: Bitrate, sources: &[Ssrc]) {
    let sources = &sources[..sources.len().min(REMB_SOURCES_MAX)];
    let bits_per_second = bitrate.as_bps();
    let exponent = (u64::BITS - bits_per_second.leading_zeros()).saturating_sub(REMB_MANTISSA_BITS);
    let mantissa = (bits_per_second >> exponent) as u32;
    let packet = Begun::feedback(out, FORMAT_APPLICATION, TYPE_PAYLOAD_FEEDBACK, sender, Ssrc::new(0));
    out.extend_from_slice(REMB_NAME);
    put(out, ((sources.len() as u32) << 24) | (exponent << REMB_MANTISSA_BITS) | mantissa);
    sources.iter().for_each(|source| put(out, source.get()));
    packet.end(out);
}

/// TWCC feedback, the one with this count, on packets from `base_seq` on: when each arrived, in ticks of 250 µs modulo 2^32,
/// or `None`. Of more than 65 535 the rest is left out, and so is an arrival 8 s away from the one before.
pub fn transport_feedback(
    out: &mut Vec<u8>,
    (sender, media): (Ssrc, Ssrc),
    (base_seq, count): (u16, u8),
    arrivals: &[Option<u32>],
) {
    let arrivals = &arrivals[..arrivals.len().min(usize::from(u16::MAX))];
    let reference_time = arrivals.iter().flatten().next().map_or(0, |at| at >> REFERENCE_BITS);
    let steps = || {
        arrivals.iter().scan(reference_time << REFERENCE_BITS, |before, at| {
            let step = at.and_then(|at| i16::try_from(at.wrapping_sub(*before) as i32).ok());
            if let (Some(_), Some(at)) = (step, at) {
                *before = *at;
            }
            Some(step)
        })
    };
    let packet = Begun::feedback(out, FORMAT_TRANSPORT_WIDE, TYPE_TRANSPORT_FEEDBACK, sender, media);
    put(out, (u32::from(base_seq) << 16) | arrivals.len() as u32);
    put(out, (reference_time << 8) | u32::from(count));
    let mut chunk = TWO_BIT_VECTOR;
    for (index, step) in steps().enumerate() {
        let status = match step {
            None => STATUS_NOT_RECEIVED,
            Some(0..=255) => STATUS_SMALL,
            Some(_) => STATUS_LARGE,
        };
        let place = index as u16 % TWO_BIT_STATUSES;
        chunk |= status << (2 * (TWO_BIT_STATUSES - 1 - place));
        if place + 1 == TWO_BIT_STATUSES || index + 1 == arrivals.len() {
            out.extend_from_slice(&chunk.to_be_bytes());
            chunk = TWO_BIT_VECTOR;
        }
    }
    for step in steps().flatten() {
        match u8::try_from(step) {
            Ok(small) => out.push(small),
            Err(_) => out.extend_from_slice(&step.to_be_bytes()),
        }
    }
    let length = out.len() - packet.start;
    if let Some(zeros) = (length.next_multiple_of(4) - length).checked_sub(1) {
        out.resize(out.len() + zeros, 0);
        out.push(zeros as u8 + 1);
        out[packet.start] |= 0x20;
    }
    packet.end(out);
}

fn put(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&word.to_be_bytes());
}

fn report_blocks(out: &mut Vec<u8>, blocks: &[ReportBlock]) {
    for block in blocks {
        put(out, block.ssrc.get());
        let lost = block.lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        put(out, (u32::from(block.fraction_lost) << 24) | lost);
        put(out, block.highest_seq);
        put(out, block.jitter);
        put(out, block.last_report);
        put(out, block.delay);
    }
}

/// A packet whose length is not known yet.
struct Begun {
    start: usize,
}

impl Begun {
    fn new(out: &mut Vec<u8>, count: u8, packet_type: u8) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0x80 | count, packet_type, 0, 0]);
        Self { start }
    }

    fn feedback(out: &mut Vec<u8>, format: u8, packet_type: u8, sender: Ssrc, media: Ssrc) -> Self {
        let packet = Self::new(out, format, packet_type);
        put(out, sender.get());
        put(out, media.get());
        packet
    }

    fn end(self, out: &mut [u8]) {
        let words = (out.len() - self.start) / 4 - 1;
        out[self.start + 2..self.start + 4].copy_from_slice(&(words as u16).to_be_bytes());
    }
}
