//! Entity tags and `If-Match` (RFC 9110, sections 8.8.3 and 13.1.1). One tag names one ICE session.

use std::fmt;

/// A strong entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag(String);

impl EntityTag {
    /// From random bytes: each ICE session gets a tag of its own.
    #[must_use]
    pub fn from_random(bytes: [u8; 8]) -> Self {
        Self(format!("{:016x}", u64::from_be_bytes(bytes)))
    }
}

/// As in the `ETag` header: quoted.
impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// The value of an `If-Match` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`, or `"*"` as in the example of RFC 9725.
    Any,
    /// The strong tags listed; weak ones never match and are left out.
    Tags(Vec<String>),
}

/// A text is no `If-Match` value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("If-Match is '*' or a list of entity tags in double quotes")]
pub struct IfMatchError;

impl IfMatch {
    /// Reads a header value.
    ///
    /// # Errors
    /// [`IfMatchError`] if it does not follow the grammar.
    pub fn parse(value: &str) -> Result<Self, IfMatchError> {
        let mut rest = value.trim();
        if matches!(rest, "*" | "\"*\"") {
            return Ok(Self::Any);
        }
        let mut tags = Vec::new();
        loop {
            let (is_weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
            let (tag, after) =
                quoted.strip_prefix('"').and_then(|text| text.split_once('"')).ok_or(IfMatchError)?;
            if !is_weak {
                tags.push(tag.to_owned());
            }
            let after = after.trim_start();
            if after.is_empty() {
                return Ok(Self::Tags(tags));
            }
            rest = after.strip_prefix(',').ok_or(IfMatchError)?.trim_start();
        }
    }

    /// Whether the condition holds for a session with this tag (strong comparison).
    #[must_use]
    pub fn holds(&self, current: &EntityTag) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.contains(&current.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn w17_a_tag_is_strong_quoted_and_one_per_session(bytes: [u8; 8], other: [u8; 8]) {
            let tag = EntityTag::from_random(bytes);
            let text = tag.to_string();
            prop_assert!(text.starts_with('"') && text.ends_with('"') && text.len() == 18);
            let if_match = IfMatch::parse(&text).expect("our own tag");
            prop_assert!(if_match.holds(&tag));
            prop_assert_eq!(if_match.holds(&EntityTag::from_random(other)), bytes == other);
        }

        #[test]
        fn no_header_value_panics(value in "[W/\"*, a-z]{0,30}|.{0,30}") {
            let _ = IfMatch::parse(&value);
        }
    }

    #[test]
    fn if_match_follows_the_grammar() {
        let tags = |list: &[&str]| Ok(IfMatch::Tags(list.iter().map(|tag| (*tag).to_owned()).collect()));
        assert_eq!(IfMatch::parse("*"), Ok(IfMatch::Any));
        assert_eq!(IfMatch::parse("\"*\""), Ok(IfMatch::Any));
        assert_eq!(IfMatch::parse("\"a\" , W/\"b\",\"c,d\""), tags(&["a", "c,d"]));
        assert_eq!(IfMatch::parse("W/\"a\""), tags(&[]));
        for bad in ["", "a", "\"a", "\"a\" \"b\"", "\"a\",", "W/a"] {
            assert_eq!(IfMatch::parse(bad), Err(IfMatchError), "{bad}");
        }
    }
}
