//! Names that people choose: broadcasts, nodes, trees. One grammar for all of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text is empty.
    #[error("an id has at least one character")]
    Empty,
    /// The text is longer than [`LENGTH_MAX`].
    #[error("an id has at most {LENGTH_MAX} characters, this one has {length}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character outside the grammar, or a first one that is neither letter nor digit.
    #[error("character {position} of an id must be a-z, 0-9{}", if *.position == 1 { "" } else { ", '.', '_' or '-'" })]
    Character {
        /// Its place, from 1.
        position: usize,
    },
}

/// The longest id, in characters.
pub const LENGTH_MAX: usize = 63;

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > LENGTH_MAX {
        return Err(IdError::TooLong { length: text.len() });
    }
    let bad = text.bytes().enumerate().position(|(index, byte)| match byte {
        b'a'..=b'z' | b'0'..=b'9' => false,
        b'.' | b'_' | b'-' => index == 0,
        _ => true,
    });
    match bad {
        Some(index) => Err(IdError::Character { position: index + 1 }),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Grammar: `[a-z0-9][a-z0-9._-]{0,62}`. Cloning shares the text.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against the grammar.
            ///
            /// # Errors
            /// [`IdError`] names the rule that `text` breaks.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id! {
    /// The name of a broadcast: what stands in `/whip/{broadcast}` and `/whep/{broadcast}`.
    BroadcastId
}
id! {
    /// The name of a node, unique for ever.
    NodeId
}
id! {
    /// The name of a record of the control plane among its kind.
    RecordId
}
id! {
    /// The name of a tree.
    TreeId
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_follows_the_grammar() {
        for good in ["a", "0", "demo", "friday-night_2.1", &"x".repeat(63)] {
            assert_eq!(BroadcastId::new(good).expect("good id").as_str(), good);
        }
        assert_eq!(BroadcastId::new(""), Err(IdError::Empty));
        assert_eq!(BroadcastId::new(&"x".repeat(64)), Err(IdError::TooLong { length: 64 }));
        assert_eq!(BroadcastId::new(".a"), Err(IdError::Character { position: 1 }));
        assert_eq!(BroadcastId::new("aB"), Err(IdError::Character { position: 2 }));
        assert_eq!(BroadcastId::new("a/b"), Err(IdError::Character { position: 2 }));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_a_good_one_round_trips(text in ".{0,80}") {
            if let Ok(id) = BroadcastId::new(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
