//! Which sequence number and timestamp a tree packet has for one viewer.
//!
//! A mapping is a short list of segments, each a linear piece from the source's numbers to the viewer's. It is part
//! of the viewer's record, never changes but by a new segment at its end, and says nothing that depends on when or
//! where it is asked: so a repeated packet is the same packet, byte for byte (RFC 3711, section 9.1: a key stream
//! must never serve two different ones).

use media_core::svc::Svc;
use model::{NtpTime, SeqNo, Ssrc};

use crate::part::{Fit, Part};

/// Segments kept: the current one and those that packets younger than the ring may still need.
pub const SEGMENTS_MAX: usize = 8;

/// How many ticks of the viewer's RTP clock pass in some ticks of the source's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Ticks of the viewer.
    pub numerator: u16,
    /// Ticks of the source; never zero.
    pub denominator: u16,
}

impl Scale {
    /// The source's own pace.
    pub const LIVE: Self = Self { numerator: 1, denominator: 1 };

    /// Rounded down, so that order is kept.
    fn apply(self, source_ticks: i32) -> i32 {
        if self == Self::LIVE {
            return source_ticks;
        }
        let scaled = i64::from(source_ticks) * i64::from(self.numerator);
        scaled.div_euclid(i64::from(self.denominator.max(1))) as i32
    }
}

/// One linear piece of a mapping. Its range of out sequence numbers ends where the next one's begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Out sequence number of `source_base`.
    pub first_out: SeqNo,
    /// The RTP stream of the tree it is about.
    pub source: Ssrc,
    /// The first source packet it is about.
    pub source_base: SeqNo,
    /// A source timestamp, in ticks of the codec's clock,
    pub source_timestamp: u32,
    /// and what it is for the viewer.
    pub out_timestamp: u32,
    /// How timestamps go on from there: squeezed in a replay.
    pub scale: Scale,
    /// Payload type of the source's codec for this viewer.
    pub payload_type: u8,
    /// The part of the source that it is about; all of it if none is named.
    pub part: Option<Part>,
}

impl Segment {
    /// The source packet with this out sequence number, or, of a part, one that is not after it; `None` before the segment.
    #[must_use]
    pub fn source_seq_no(&self, out: SeqNo) -> Option<SeqNo> {
        let steps = out.get().checked_sub(self.first_out.get())?;
        Some(self.source_base.plus(steps))
    }

    /// The viewer's timestamp for a source timestamp.
    #[must_use]
    pub fn timestamp(&self, source: u32) -> u32 {
        let ticks = source.wrapping_sub(self.source_timestamp) as i32;
        self.out_timestamp.wrapping_add_signed(self.scale.apply(ticks))
    }

    /// Whether timestamps keep the source's pace.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.scale == Scale::LIVE
    }
}

/// The segments of one track of one viewer, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mapping {
    segments: Vec<Segment>,
}

impl Mapping {
    /// From the segments of a record; the newest [`SEGMENTS_MAX`] are kept.
    #[must_use]
    pub fn new(mut segments: Vec<Segment>) -> Self {
        segments.sort_by_key(|segment| segment.first_out);
        let surplus = segments.len().saturating_sub(SEGMENTS_MAX);
        segments.drain(..surplus);
        Self { segments }
    }

    /// The segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segment that new packets belong to.
    #[must_use]
    pub fn current(&self) -> Option<&Segment> {
        self.segments.last()
    }

    /// Begins a segment and ends the one before it; forgets the oldest where there are too many.
    ///
    /// The caller makes sure that no packet was ever sent with an out sequence number from `first_out` on.
    pub fn push(&mut self, segment: Segment) {
        debug_assert!(self.current().is_none_or(|current| current.first_out <= segment.first_out));
        // A segment that ends where it began was never used.
        if self.current().is_some_and(|current| current.first_out == segment.first_out) {
            self.segments.pop();
        }
        if self.segments.len() == SEGMENTS_MAX {
            self.segments.remove(0);
        }
        self.segments.push(segment);
    }

    /// Forgets finished segments that `is_needed` denies: those whose source packets are gone from every ring. It gets
    /// the segment and the source packet after its last.
    pub fn retain(&mut self, is_needed: impl Fn(&Segment, SeqNo) -> bool) {
        let needless = self.segments.windows(2).take_while(|pair| {
            let [segment, next] = [pair[0], pair[1]];
            let goes_on = segment.source == next.source && segment.source_base < next.source_base;
            let end = match segment.part {
                None => segment.source_seq_no(next.first_out).unwrap_or(segment.source_base),
                Some(_) if goes_on => next.source_base,
                Some(_) => segment.source_base.plus(u64::from(u16::MAX)),
            };
            !is_needed(&segment, end)
        });
        let count = needless.count();
        self.segments.drain(..count);
    }

    /// Where a source packet goes: the newest segment that has it, and its out sequence number there. `None` if it is in no
    /// segment, or the newest one that knows it leaves it out.
    #[must_use]
    pub fn out(&self, source: Ssrc, seq_no: SeqNo, svc: Option<Svc>) -> Option<(SeqNo, &Segment)> {
        let mut end = SeqNo::MAX;
        for segment in self.segments.iter().rev() {
            if segment.source == source {
                match segment.fit(seq_no, svc) {
                    Fit::At(out) if out < end => return Some((out, segment)),
                    Fit::LeftOut => return None,
                    Fit::At(_) | Fit::Outside => {}
                }
            }
            end = segment.first_out;
        }
        None
    }

    /// The segment with this out sequence number.
    #[must_use]
    pub fn owner(&self, out: SeqNo) -> Option<&Segment> {
        self.segments.iter().rev().find(|segment| segment.first_out <= out)
    }
}

/// The straight line from capture time to a viewer's timestamp, so that every segment begins where the wallclock says
/// it should, whatever was skipped or squeezed before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// When a sample was captured, in the injection node's wallclock,
    pub capture_time: NtpTime,
    /// and the viewer's timestamp of it.
    pub timestamp: u32,
}

impl Line {
    /// The viewer's timestamp of a sample captured at `capture_time`. Modulo 2^32, as timestamps are.
    #[must_use]
    pub fn timestamp_at(self, capture_time: NtpTime, clock_rate: u32) -> u32 {
        let bits = i128::from(capture_time.to_bits()) - i128::from(self.capture_time.to_bits());
        let ticks = (bits * i128::from(clock_rate)) >> 32;
        self.timestamp.wrapping_add(ticks as u32)
    }
}

/// The later of two timestamps, modulo 2^32 (RFC 1982).
#[must_use]
pub fn later(a: u32, b: u32) -> u32 {
    if (a.wrapping_sub(b) as i32) < 0 { b } else { a }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn segment(first_out: u64, source: u32, source_base: u64) -> Segment {
        Segment {
            first_out: SeqNo::new(first_out),
            source: Ssrc::new(source),
            source_base: SeqNo::new(source_base),
            source_timestamp: 1000,
            out_timestamp: 5000,
            scale: Scale::LIVE,
            payload_type: 96,
            part: None,
        }
    }

    fn source(mapping: &Mapping, out: u64) -> Option<SeqNo> {
        mapping.owner(SeqNo::new(out))?.source_seq_no(SeqNo::new(out))
    }

    #[test]
    fn a_segment_ends_where_the_next_begins() {
        let mut mapping = Mapping::default();
        mapping.push(segment(100, 1, 10));
        mapping.push(segment(120, 2, 500));
        let out = |source, seq_no| {
            mapping.out(Ssrc::new(source), SeqNo::new(seq_no), None).map(|(out, _)| out.get())
        };
        assert_eq!(out(1, 9), None);
        assert_eq!(out(1, 10), Some(100));
        assert_eq!(out(1, 29), Some(119));
        assert_eq!(out(1, 30), None, "this number belongs to the second segment");
        assert_eq!(out(2, 500), Some(120));
        assert_eq!(out(3, 500), None);
    }

    #[test]
    fn the_newest_segment_wins_for_a_packet_that_is_in_two() {
        let mut mapping = Mapping::default();
        mapping.push(segment(100, 1, 10));
        mapping.push(segment(150, 1, 20));
        assert_eq!(mapping.out(Ssrc::new(1), SeqNo::new(25), None).expect("mapped").0, SeqNo::new(155));
        assert_eq!(mapping.out(Ssrc::new(1), SeqNo::new(15), None).expect("mapped").0, SeqNo::new(105));
        assert_eq!(source(&mapping, 115), Some(SeqNo::new(25)));
        assert_eq!(source(&mapping, 155), Some(SeqNo::new(25)));
    }

    #[test]
    fn the_list_stays_short() {
        let mut mapping = Mapping::default();
        for index in 0..100 {
            mapping.push(segment(index * 10, 1, index * 10));
        }
        assert_eq!(mapping.segments().len(), SEGMENTS_MAX);
        assert_eq!(mapping.current().expect("current").first_out, SeqNo::new(990));
        assert_eq!(mapping.owner(SeqNo::new(5)), None);
        mapping.retain(|_, end| end > SeqNo::new(970));
        assert_eq!(mapping.segments()[0].first_out, SeqNo::new(970));
        mapping.retain(|_, _| false);
        assert_eq!(mapping.segments().len(), 1, "the current segment is always needed");
    }

    #[test]
    fn an_unused_segment_leaves_no_trace() {
        let mut mapping = Mapping::default();
        mapping.push(segment(100, 1, 10));
        mapping.push(segment(100, 2, 70));
        assert_eq!(mapping.segments(), [segment(100, 2, 70)]);
    }

    #[test]
    fn a_line_goes_both_ways_in_time() {
        let then = NtpTime::from_unix(Duration::from_secs(1_800_000_000));
        let line = Line { capture_time: then, timestamp: 10 };
        assert_eq!(line.timestamp_at(then.plus(Duration::from_secs(2)), 90_000), 180_010);
        assert_eq!(line.timestamp_at(then.minus(Duration::from_secs(1)), 90_000), 10u32.wrapping_sub(90_000));
    }

    proptest! {
        #[test]
        fn out_and_source_are_inverse(
            bases in proptest::collection::vec((0u32..3, 0u64..1 << 40, 1u64..5000), 1..12),
            pick in 0usize..12,
            step in 0u64..6000,
        ) {
            let mut mapping = Mapping::default();
            let mut first_out = 30_000;
            for (source, base, length) in &bases {
                mapping.push(segment(first_out, *source, *base));
                first_out += length;
            }
            let chosen = mapping.segments()[pick % mapping.segments().len()];
            let out = chosen.first_out.plus(step);
            let owner = *mapping.owner(out).expect("after the first segment");
            let seq_no = owner.source_seq_no(out).expect("in it");
            prop_assert_eq!(owner.fit(seq_no, None), Fit::At(out));
            // The same source packet may be in a newer segment too; wherever it is sent, it is found there again.
            let (sent, segment) = mapping.out(owner.source, seq_no, None).expect("it is in one");
            prop_assert!(sent >= out);
            prop_assert_eq!(mapping.owner(sent), Some(segment));
            prop_assert_eq!(source(&mapping, sent.get()), Some(seq_no));
        }

        #[test]
        fn no_two_source_packets_share_an_out_number(
            bases in proptest::collection::vec((0u32..2, 0u64..300, 1u64..200), 1..8),
        ) {
            let mut mapping = Mapping::default();
            let mut first_out = 65_400;
            for (source, base, length) in &bases {
                mapping.push(segment(first_out, *source, *base));
                first_out += length;
            }
            let mut seen = std::collections::BTreeMap::new();
            for source in 0..2 {
                for seq_no in 0..600 {
                    if let Some((out, _)) = mapping.out(Ssrc::new(source), SeqNo::new(seq_no), None) {
                        prop_assert_eq!(seen.insert(out, (source, seq_no)), None);
                    }
                }
            }
        }

        #[test]
        fn timestamps_keep_their_order(
            start in any::<u32>(), out in any::<u32>(), denominator in 1u16..32,
            steps in proptest::collection::vec(1u32..9000, 1..50),
        ) {
            let mut segment = segment(0, 1, 0);
            (segment.source_timestamp, segment.out_timestamp) = (start, out);
            segment.scale = Scale { numerator: 1, denominator };
            let (mut source, mut last) = (start, out);
            for step in steps {
                source = source.wrapping_add(step);
                let next = segment.timestamp(source);
                prop_assert_eq!(later(next, last), next);
                last = next;
            }
        }
    }
}
