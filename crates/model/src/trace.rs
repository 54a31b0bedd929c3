//! What a join is called by all who have to do with it: in logs, and in traces (W3C Trace Context, level 1).

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

/// Length of a `traceparent` of version 00, in characters.
const LENGTH: usize = 55;

/// Why a text is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a traceparent is like 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
pub struct TraceParentError;

/// A span that others may be children of, as the header `traceparent` carries it (section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// Of all spans of the trace.
    pub trace_id: NonZeroU128,
    /// Of this one.
    pub span_id: NonZeroU64,
    /// Whether it is recorded.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Bytes between nodes.
    pub const BYTES: usize = 25;

    /// As it goes between nodes: trace, span, flags.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace_id.get().to_be_bytes());
        bytes[16..24].copy_from_slice(&self.span_id.get().to_be_bytes());
        bytes[24] = u8::from(self.is_sampled);
        bytes
    }

    /// From what [`TraceParent::to_bytes`] gave; `None` if it names no span.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let trace_id = NonZeroU128::new(u128::from_be_bytes(*bytes.first_chunk()?))?;
        let span_id = NonZeroU64::new(u64::from_be_bytes(*bytes[16..].first_chunk()?))?;
        Some(Self { trace_id, span_id, is_sampled: bytes[24] & 1 == 1 })
    }
}

/// Hexadecimal digits, all of them small, as the recommendation wants it.
fn hex(text: &str) -> Option<u128> {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { u128::from_str_radix(text, 16).ok() } else { None }
}

fn parse(text: &str) -> Option<TraceParent> {
    if !text.is_ascii() || text.len() < LENGTH {
        return None;
    }
    let (known, more) = text.split_at(LENGTH);
    let mut parts = known.split('-');
    let mut part = |length| parts.next().filter(|part| part.len() == length).and_then(hex);
    let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    // Later versions may go on behind another dash (section 3.2.4); 255 is none.
    let is_whole = if version == 0 { more.is_empty() } else { more.is_empty() || more.starts_with('-') };
    if !is_whole || version == 255 {
        return None;
    }
    Some(TraceParent {
        trace_id: NonZeroU128::new(trace_id)?,
        span_id: NonZeroU64::new(span_id as u64)?,
        is_sampled: flags & 1 == 1,
    })
}

impl FromStr for TraceParent {
    type Err = TraceParentError;
    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        parse(text).ok_or(TraceParentError)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }
}

/// What one publisher's or viewer's way in is called, from the front door to its end, by all nodes that have to do with
/// it. It opens nothing, and a client can make up all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JoinName {
    /// In logs: 16 hexadecimal digits.
    pub id: u64,
    /// The span that is the parent of what the join sets going; `None` if nobody traces.
    pub span: Option<TraceParent>,
}

impl fmt::Display for JoinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_recommendation_is_read() {
        let parent: TraceParent = GOOD.parse().expect("good");
        assert_eq!(parent.trace_id.get(), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(parent.span_id.get(), 0xb7ad_6b71_6920_3331);
        assert!(parent.is_sampled);
        assert_eq!(parent.to_string(), GOOD);
        let later = GOOD.replacen("00", "cc", 1) + "-what-the-future-will-be-like";
        assert_eq!(later.parse(), Ok(parent), "a later version is read as far as it is known");
        let not_sampled: TraceParent = format!("{}00", &GOOD[..LENGTH - 2]).parse().expect("good");
        assert!(!not_sampled.is_sampled);
    }

    #[test]
    fn what_names_no_span_is_refused() {
        for bad in [
            "",
            &GOOD[1..],
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &format!("{GOOD}-more"),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.replacen('-', "_", 1),
            &GOOD.replace("0af7", "+af7"),
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(TraceParentError), "{bad}");
        }
        assert_eq!(TraceParent::from_bytes(&[0; TraceParent::BYTES]), None);
    }

    #[test]
    fn a_join_is_called_by_16_digits() {
        assert_eq!(JoinName { id: 0xab, span: GOOD.parse().ok() }.to_string(), "00000000000000ab");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1u128.., span in 1u64.., is_sampled: bool) {
            let (trace_id, span_id) = (NonZeroU128::new(trace), NonZeroU64::new(span));
            let parent = trace_id.zip(span_id).map(|(trace_id, span_id)| TraceParent { trace_id, span_id, is_sampled });
            let parent = parent.expect("not zero");
            prop_assert_eq!(parent.to_string().parse(), Ok(parent));
            prop_assert_eq!(TraceParent::from_bytes(&parent.to_bytes()), Some(parent));
        }

        #[test]
        fn no_text_breaks_the_parser(text in "(?s).{0,80}", digits in "[0-9a-f-]{50,60}") {
            for text in [text, digits] {
                if let Ok(parent) = text.parse::<TraceParent>() {
                    prop_assert_eq!(parent.to_string().parse(), Ok(parent));
                }
            }
        }
    }
}
