//! What somebody may do with a broadcast.

use std::fmt;
use std::str::FromStr;

/// What a request wants to do with a broadcast, and what a token lets its owner do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Send it: WHIP.
    Publish,
    /// Receive it: WHEP.
    View,
}

impl Right {
    /// The word for it in configuration, tokens and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::View => "view",
        }
    }
}

/// A text names no right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one of publish, view may stand here")]
pub struct RightError;

impl FromStr for Right {
    type Err = RightError;
    fn from_str(text: &str) -> Result<Self, RightError> {
        match text {
            "publish" => Ok(Self::Publish),
            "view" => Ok(Self::View),
            _ => Err(RightError),
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_read_as_it_is_written() {
        for right in [Right::Publish, Right::View] {
            assert_eq!(right.to_string().parse(), Ok(right));
        }
        assert_eq!("Publish".parse::<Right>(), Err(RightError));
    }
}
