//! Records, their versions, and how a write is meant.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use crate::Key;

/// The largest value that a record takes.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The most records of one collection: so no flood of names fills the store or an observer.
pub const RECORDS_MAX: usize = 20_000;

/// The longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Names one write. Two writes never have the same version, not even when a failover lost the first one.
///
/// Compare for equality only: after a failover or a restart the counter may go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Place of the write among all writes to its collection.
    pub counter: u64,
    /// Random, drawn for this write.
    pub writer: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.counter, self.writer)
    }
}

/// The random part of a new version.
pub(crate) fn nonce() -> Result<u64, Unavailable> {
    getrandom::u64().map_err(|error| Unavailable::Refused(format!("no random bytes: {error}")))
}

/// The text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a version is a decimal counter, '-' and 16 hexadecimal digits")]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let (counter, writer) = text.split_once('-').ok_or(VersionError)?;
        let is_decimal = counter.bytes().all(|byte| byte.is_ascii_digit());
        let is_hex =
            writer.len() == 16 && writer.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_decimal || !is_hex {
            return Err(VersionError);
        }
        Ok(Self {
            counter: counter.parse().map_err(|_| VersionError)?,
            writer: u64::from_str_radix(writer, 16).map_err(|_| VersionError)?,
        })
    }
}

/// One record. Cloning shares the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: Key,
    /// Its bytes, at most [`VALUE_BYTES_MAX`].
    pub value: Bytes,
    /// The write that made it.
    pub version: Version,
}

/// Without the value: it may be a secret.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} {}, {} bytes)", self.key, self.version, self.value.len())
    }
}

/// What must be there for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything or nothing.
    Any,
    /// No record.
    Absent,
    /// The record of exactly this write.
    Version(Version),
}

impl Expect {
    /// Whether `current` is what is expected.
    #[must_use]
    pub fn allows(self, current: Option<Version>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => current.is_none(),
            Self::Version(expected) => current == Some(expected),
        }
    }
}

/// How a record is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    pub(crate) expect: Expect,
    pub(crate) lease: Option<Duration>,
    pub(crate) is_durable: bool,
}

impl Write {
    /// Over whatever is there.
    #[must_use]
    pub fn any() -> Self {
        Self::expecting(Expect::Any)
    }

    /// Only where nothing is.
    #[must_use]
    pub fn if_absent() -> Self {
        Self::expecting(Expect::Absent)
    }

    /// Only over the record that `version` wrote.
    #[must_use]
    pub fn if_version(version: Version) -> Self {
        Self::expecting(Expect::Version(version))
    }

    /// As `expect` says.
    #[must_use]
    pub fn expecting(expect: Expect) -> Self {
        Self { expect, lease: None, is_durable: false }
    }

    /// With a lease: after this time (1 ms to [`LEASE_MAX`]) without another put the record disappears by itself.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease: Some(lease.clamp(Duration::from_millis(1), LEASE_MAX)), ..self }
    }

    /// Waits until the write survives the loss of one server, where the store has several. Costs a round trip more;
    /// for the few writes that need it.
    #[must_use]
    pub fn durable(self) -> Self {
        Self { is_durable: true, ..self }
    }
}

/// Why the store did not answer. Whether a write with this outcome happened is not known: read again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// No answer in time.
    #[error("the store did not answer within {within:?}")]
    TimedOut {
        /// The bound.
        within: Duration,
    },
    /// The store cannot be reached.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The store answers that it does not serve.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// The answer or the stored bytes are not what this version of the program writes.
    #[error("the store holds what is no record: {0}")]
    Malformed(String),
    /// The file of the embedded store cannot be written.
    #[error("the store's file cannot be written: {0}")]
    File(String),
}

/// Why a write did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// Something else is there than expected; nothing was written.
    #[error("the record is not the expected one")]
    Conflict {
        /// What is there.
        current: Option<Box<Record>>,
    },
    /// The value is too large; nothing was written.
    #[error("a value of {bytes} bytes is more than {VALUE_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The collection holds [`RECORDS_MAX`] records; nothing was written.
    #[error("the collection holds {RECORDS_MAX} records, which is the most")]
    Full,
    /// Written, but no replica confirmed it in time: a failover may lose it.
    #[error("written, but no replica confirmed it")]
    Unconfirmed {
        /// What was written.
        version: Version,
    },
    /// No answer: it may have been written or not.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_version_round_trips(counter: u64, writer: u64) {
            let version = Version { counter, writer };
            prop_assert_eq!(version.to_string().parse(), Ok(version));
        }

        #[test]
        fn no_text_panics_and_a_good_one_is_canonical_but_for_zeros(text in "[0-9a-f+-]{0,40}") {
            if let Ok(version) = text.parse::<Version>() {
                let canonical = version.to_string();
                prop_assert_eq!(canonical.trim_start_matches('0'), text.trim_start_matches('0'));
            }
        }
    }

    #[test]
    fn a_value_is_not_shown() {
        let key = Key::new(crate::Collection::Declared, "a").expect("good");
        let record = Record { key, value: "hidden".into(), version: Version { counter: 1, writer: 2 } };
        assert_eq!(format!("{record:?}"), "Record(declared/a 1-0000000000000002, 6 bytes)");
    }
}
