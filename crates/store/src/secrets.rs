//! What is made of the cluster key: the key that seals secrets, and the right to use a controller's store.

use std::fmt;

use aws_lc_rs::{aead, constant_time, hkdf};
use bytes::Bytes;
use zeroize::Zeroizing;

use crate::{Key, VALUE_BYTES_MAX};

const FORMAT: u8 = 1;
const SALT_BYTES: usize = 24;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// The longest secret that fits a record when sealed.
pub const SECRET_BYTES_MAX: usize = VALUE_BYTES_MAX - 1 - SALT_BYTES - TAG_BYTES;

/// Why a value is not sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The secret does not fit a record.
    #[error("a secret of {bytes} bytes is more than {SECRET_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The system gives no random bytes.
    #[error("no random bytes")]
    Random,
    /// Sealed by another version of this program.
    #[error("the secret is sealed in a format of another version")]
    Format,
    /// Not sealed with this key for this record.
    #[error("the secret was sealed with another cluster key, for another record, or was changed")]
    Forged,
}

/// Seals values with the cluster key (AES-256-GCM), so that who reads the store does not read secrets. A sealed value
/// opens only under the name of the record that it was sealed for.
///
/// Each value has a key of its own, derived (HKDF-SHA256) from the cluster key and a random salt, so no number of writes
/// uses a key and nonce twice.
#[derive(Clone)]
pub struct Sealer(Zeroizing<Vec<u8>>);

impl Sealer {
    /// A sealer for a cluster key of any length.
    #[must_use]
    pub fn new(cluster_key: &[u8]) -> Self {
        Self(Zeroizing::new(cluster_key.to_vec()))
    }

    /// Seals `secret` for the record `key`.
    ///
    /// # Errors
    /// If it is too large, or there are no random bytes.
    pub fn seal(&self, key: &Key, secret: &[u8]) -> Result<Bytes, SealError> {
        if secret.len() > SECRET_BYTES_MAX {
            return Err(SealError::TooLarge { bytes: secret.len() });
        }
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| SealError::Random)?;
        let mut sealed = Vec::with_capacity(1 + SALT_BYTES + secret.len() + TAG_BYTES);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&salt);
        let mut text = secret.to_vec();
        let aad = aead::Aad::from(key.to_string());
        let done = self.value_key(&salt).seal_in_place_append_tag(nonce(), aad, &mut text);
        done.expect("the text is far shorter than the cipher allows");
        sealed.extend_from_slice(&text);
        Ok(sealed.into())
    }

    /// Opens what was sealed for the record `key`.
    ///
    /// # Errors
    /// If it was sealed otherwise.
    pub fn open(&self, key: &Key, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (format, rest) = sealed.split_first().ok_or(SealError::Format)?;
        if *format != FORMAT {
            return Err(SealError::Format);
        }
        let (salt, text) = rest.split_first_chunk::<SALT_BYTES>().ok_or(SealError::Forged)?;
        let mut text = Zeroizing::new(text.to_vec());
        let aad = aead::Aad::from(key.to_string());
        let opened = self.value_key(salt).open_in_place(nonce(), aad, &mut text);
        let bytes = opened.map_err(|_| SealError::Forged)?.len();
        text.truncate(bytes);
        Ok(text)
    }

    fn value_key(&self, salt: &[u8; SALT_BYTES]) -> aead::LessSafeKey {
        let key = derive(&self.0, b"media-tree store secret 1", salt);
        aead::LessSafeKey::new(
            aead::UnboundKey::new(&aead::AES_256_GCM, &key[..]).expect("32 bytes are a key"),
        )
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(***)")
    }
}

/// The key is used once.
fn nonce() -> aead::Nonce {
    aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

/// The right to use a controller's store: a bearer token made of the cluster key.
#[derive(Clone)]
pub struct AccessKey(Zeroizing<String>);

impl AccessKey {
    /// The right of everybody who knows the cluster key.
    #[must_use]
    pub fn new(cluster_key: &[u8]) -> Self {
        let token = derive(cluster_key, b"media-tree store access 1", b"");
        let digits = token.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let text = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
        Self(Zeroizing::new(text))
    }

    /// The value of the `Authorization` header.
    #[must_use]
    pub fn header(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", *self.0))
    }

    /// Whether a header gives the right. Takes the same time for every wrong token.
    pub(crate) fn admits(&self, header: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(header, self.header().as_bytes()).is_ok()
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKey(***)")
    }
}

fn derive(cluster_key: &[u8], purpose: &[u8], salt: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(cluster_key)
        .expand(&[purpose], hkdf::HKDF_SHA256)
        .and_then(|expanded| expanded.fill(&mut key[..]))
        .expect("HKDF gives 32 bytes");
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Collection;
    use proptest::prelude::*;

    fn key(id: &str) -> Key {
        Key::new(Collection::Declared, id).expect("good id")
    }

    #[test]
    fn a_secret_opens_with_its_key_under_its_name_only() {
        let (ours, theirs) = (Sealer::new(b"ours"), Sealer::new(b"theirs"));
        let sealed = ours.seal(&key("a"), b"publish-key").expect("seal");
        assert!(!sealed.windows(7).any(|window| window == b"publish"));
        assert_eq!(ours.open(&key("a"), &sealed).as_deref(), Ok(&b"publish-key".to_vec()));
        assert_eq!(ours.open(&key("b"), &sealed), Err(SealError::Forged));
        assert_eq!(theirs.open(&key("a"), &sealed), Err(SealError::Forged));
        let again = ours.seal(&key("a"), b"publish-key").expect("seal");
        assert_ne!(sealed, again, "the same secret looks different each time");
        for place in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[place] ^= 1;
            assert!(ours.open(&key("a"), &changed).is_err(), "byte {place}");
            assert!(ours.open(&key("a"), &sealed[..place]).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn the_largest_secret_fits_a_record() {
        let sealer = Sealer::new(b"key");
        assert_eq!(sealer.seal(&key("a"), &[0; SECRET_BYTES_MAX]).expect("fits").len(), VALUE_BYTES_MAX);
        let bytes = SECRET_BYTES_MAX + 1;
        assert_eq!(sealer.seal(&key("a"), &vec![0; bytes]), Err(SealError::TooLarge { bytes }));
    }

    #[test]
    fn access_is_for_who_knows_the_cluster_key() {
        let key = AccessKey::new(b"cluster");
        assert!(key.admits(AccessKey::new(b"cluster").header().as_bytes()));
        assert!(!key.admits(AccessKey::new(b"Cluster").header().as_bytes()));
        assert!(!key.admits(b"") && !key.admits(b"Bearer cluster"));
        assert_eq!(format!("{key:?} {:?}", Sealer::new(b"k")), "AccessKey(***) Sealer(***)");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(Sealer::new(b"k").open(&key("a"), &bytes).is_err());
        }
    }
}
