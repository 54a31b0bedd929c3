//! A value that no log shows.

use std::fmt;

/// Holds a value whose `Debug` and `Display` are `***`: tokens, keys, addresses of viewers.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Hides `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_value_is_shown() {
        let token = Redacted::new("correct-horse");
        assert_eq!(format!("{token} {token:?} {:?}", Some(token)), "*** *** Some(***)");
        assert_eq!(*token.expose(), "correct-horse");
    }
}
