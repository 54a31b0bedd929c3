//! Programs that publish.

use std::fmt;

/// A version of OBS Studio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObsVersion {
    /// 30 is the first that speaks WHIP.
    pub major: u16,
    /// Brings features.
    pub minor: u16,
    /// Brings repairs.
    pub patch: u16,
}

impl fmt::Display for ObsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
