//! Hashes of certificates as they stand in SDP (RFC 8122, section 5).

use aws_lc_rs::digest;
use std::fmt;
use std::str::FromStr;

/// A hash function that fingerprints are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashFunction {
    /// What every WebRTC peer uses.
    Sha256,
    /// Rare.
    Sha384,
    /// Rare.
    Sha512,
}

impl HashFunction {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// Its name in `a=fingerprint`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    fn digest(self, bytes: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes)
    }

    const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// Why a text or bytes are not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FingerprintError {
    /// The hash function is too weak or not known.
    #[error("fingerprints are taken with sha-256, sha-384 or sha-512")]
    HashFunction,
    /// The hash has not as many bytes as its function yields.
    #[error("a {} fingerprint has {} bytes, not {length}", function.as_str(), function.length())]
    Length {
        /// What it is said to be made with.
        function: HashFunction,
        /// Bytes there are.
        length: usize,
    },
    /// The text is not hexadecimal pairs with colons between them.
    #[error("a fingerprint is written as AB:CD:...")]
    Text,
}

/// Hash of a certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    function: HashFunction,
    bytes: Vec<u8>,
}

impl Fingerprint {
    /// Takes the bytes of a hash.
    ///
    /// # Errors
    /// [`FingerprintError::Length`] if the function does not yield as many.
    pub fn new(function: HashFunction, bytes: &[u8]) -> Result<Self, FingerprintError> {
        if bytes.len() != function.length() {
            return Err(FingerprintError::Length { function, length: bytes.len() });
        }
        Ok(Self { function, bytes: bytes.to_vec() })
    }

    /// What it was made with.
    #[must_use]
    pub const fn function(&self) -> HashFunction {
        self.function
    }

    /// The hash itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the certificate hashes to it.
    #[must_use]
    pub fn is_of(&self, certificate_der: &[u8]) -> bool {
        self.function.digest(certificate_der).as_ref() == self.bytes
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads the value of `a=fingerprint`, for instance `sha-256 AB:CD:...`.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let (name, hash) = text.trim().split_once(' ').ok_or(FingerprintError::Text)?;
        let function =
            HashFunction::ALL.into_iter().find(|function| function.as_str().eq_ignore_ascii_case(name));
        let function = function.ok_or(FingerprintError::HashFunction)?;
        let pair = |pair: &str| match pair.len() {
            2 if pair.bytes().all(|byte| byte.is_ascii_hexdigit()) => u8::from_str_radix(pair, 16).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = hash.trim().split(':').map(pair).collect();
        Self::new(function, &bytes.ok_or(FingerprintError::Text)?)
    }
}

impl fmt::Display for Fingerprint {
    /// The value of `a=fingerprint`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.function.as_str())?;
        for (index, byte) in self.bytes.iter().enumerate() {
            let separator = if index == 0 { ' ' } else { ':' };
            write!(f, "{separator}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fingerprint_is_read_in_any_case_and_matches_what_it_was_made_of() {
        for (function, upper) in
            HashFunction::ALL.into_iter().flat_map(|function| [(function, true), (function, false)])
        {
            let made = Fingerprint::new(function, function.digest(b"certificate").as_ref()).unwrap();
            let text = if upper { made.to_string() } else { made.to_string().to_lowercase() };
            let read: Fingerprint = text.parse().unwrap();
            assert_eq!(read, made);
            assert!(read.is_of(b"certificate"));
            assert!(!read.is_of(b"another"));
        }
    }

    #[test]
    fn a_weak_or_broken_fingerprint_is_refused_with_the_reason() {
        let parse = |text: &str| text.parse::<Fingerprint>().unwrap_err();
        assert_eq!(parse("sha-1 AB:CD"), FingerprintError::HashFunction);
        assert_eq!(
            parse("sha-256 AB:CD"),
            FingerprintError::Length { function: HashFunction::Sha256, length: 2 }
        );
        assert_eq!(parse("sha-256 AB:+D"), FingerprintError::Text);
        assert_eq!(parse("sha-256"), FingerprintError::Text);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,120}", pairs in "sha-256 [0-9a-fA-F:+é]{0,96}") {
            prop_assert!(text.parse::<Fingerprint>().is_err());
            if let Ok(fingerprint) = pairs.parse::<Fingerprint>() {
                prop_assert_eq!(fingerprint.to_string().to_lowercase(), pairs.to_lowercase());
            }
        }
    }
}
