//! Names of broadcasts with `*` in them.

use std::fmt;

use model::BroadcastId;

/// The longest pattern that is read: a name and a few stars.
const LENGTH_MAX: usize = 80;

/// A name, or a name in which each `*` stands for any characters, none too.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Reads a pattern; `None` if no broadcast could match it.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_of_a_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'*');
        let is_good = !text.is_empty() && text.len() <= LENGTH_MAX && text.bytes().all(is_of_a_name);
        is_good.then(|| Self(text.into()))
    }

    /// Whether it covers this broadcast.
    #[must_use]
    pub fn covers(&self, broadcast: &BroadcastId) -> bool {
        let name = broadcast.as_str();
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            // The leftmost place leaves the most for the parts behind it.
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covers(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).expect("pattern").covers(&BroadcastId::new(name).expect("id"))
    }

    /// The same, character by character, as one would write it down first.
    fn obviously(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|skipped| obviously(rest, &name[skipped..])),
            Some((byte, rest)) => name.first() == Some(byte) && obviously(rest, &name[1..]),
        }
    }

    #[test]
    fn a_pattern_covers_what_it_says() {
        for (pattern, name) in
            [("*", "a"), ("demo", "demo"), ("friday-*", "friday-"), ("*-hd", "x-hd"), ("a*b*c", "abbc")]
        {
            assert!(covers(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("demo", "demo2"), ("demo", "dem"), ("friday-*", "friday"), ("a*a", "a"), ("ab*ba", "aba")]
        {
            assert!(!covers(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_no_broadcast_can_match_is_no_pattern() {
        for bad in ["", "Demo", "a b", "a/b", "a?", &"a".repeat(81)] {
            assert_eq!(Pattern::new(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_one_would_write_down_first(pattern in "[ab*]{1,8}", name in "[ab]{1,8}") {
            prop_assert_eq!(covers(&pattern, &name), obviously(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
