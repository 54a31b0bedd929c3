//! The two ciphers behind all profiles, keyed for one direction of RTP or of RTCP.
//!
//! Both build their initialisation vector the same way: SSRC and 48-bit index, exclusive-or'ed into the session
//! salt (RFC 3711, section 4.1.1; RFC 7714, sections 8.1 and 9.1).

use crate::key::{Label, MasterKey, SALT_LEN_MAX};
use crate::{KeyError, Profile};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

/// Why a packet was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The packet is shorter than its fixed header.
    #[error("a header of {length} bytes is too short")]
    HeaderTooShort {
        /// Bytes there are.
        length: usize,
    },
    /// The buffer cannot take the sealed packet.
    #[error("the sealed packet takes {needed} bytes, the buffer has {available}")]
    NoRoom {
        /// Bytes it takes.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// The index is past 2^48 - 1: the key is used up.
    #[error("the packet index is past 2^48 - 1")]
    IndexExhausted,
    /// The sequence number in the header is not the low half of the extended one, so nobody could open the packet.
    #[error("the header's sequence number is not that of the index")]
    SequenceMismatch,
    /// The cryptographic library refused; never happens to packets that fit a datagram.
    #[error("the cryptographic library refused to seal")]
    Cipher,
}

impl From<Unspecified> for SealError {
    fn from(_: Unspecified) -> Self {
        Self::Cipher
    }
}

/// Why a packet was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The packet is shorter than its header and its authentication tag.
    #[error("a packet of {length} bytes is too short to be authentic")]
    Truncated {
        /// Bytes there are.
        length: usize,
    },
    /// The index is past 2^48 - 1.
    #[error("the packet index is past 2^48 - 1")]
    IndexExhausted,
    /// The sequence number in the header is not the low half of the extended one.
    #[error("the header's sequence number is not that of the index")]
    SequenceMismatch,
    /// An RTCP packet whose E bit says that it is in clear text.
    #[error("the packet is not encrypted")]
    NotEncrypted,
    /// The authentication tag is wrong: other key, other index, or altered on the way.
    #[error("the packet is not authentic")]
    NotAuthentic,
}

impl From<Unspecified> for OpenError {
    fn from(_: Unspecified) -> Self {
        Self::NotAuthentic
    }
}

/// Longest authentication tag of any profile, in bytes.
const TAG_LEN_MAX: usize = 16;
const HMAC_SHA1_KEY_LEN: usize = 20;
const HMAC_SHA1_80_LEN: usize = 10;
const GCM_SALT_LEN: usize = 12;

/// What a packet is sealed under, besides the key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) ssrc: [u8; 4],
    /// 48 bits for RTP, 31 for RTCP.
    pub(crate) index: u64,
}

impl Identity {
    /// Exclusive-ors SSRC and index into the initialisation vector, from `offset` on.
    fn mix(self, vector: &mut [u8], offset: usize) {
        let index = self.index.to_be_bytes();
        let identity = self.ssrc.iter().chain(&index[2..]);
        vector[offset..].iter_mut().zip(identity).for_each(|(byte, other)| *byte ^= other);
    }
}

/// The labels of a direction's session keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Labels {
    pub(crate) encryption: Label,
    pub(crate) authentication: Label,
    pub(crate) salt: Label,
}

/// AEAD_AES_128_GCM or AEAD_AES_256_GCM.
pub(crate) struct Gcm {
    key: LessSafeKey,
    salt: [u8; GCM_SALT_LEN],
}

impl Gcm {
    pub(crate) fn new(key: &[u8], salt: [u8; GCM_SALT_LEN]) -> Result<Self, KeyError> {
        let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        Ok(Self { key: LessSafeKey::new(UnboundKey::new(algorithm, key)?), salt })
    }

    fn nonce(&self, identity: Identity) -> Nonce {
        let mut vector = self.salt;
        identity.mix(&mut vector, 2);
        Nonce::assume_unique_for_key(vector)
    }

    /// Encrypts `plain` into `out`, which is longer by the tag.
    pub(crate) fn seal(
        &self,
        identity: Identity,
        associated: &[u8],
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<(), SealError> {
        let (ciphertext, tag) = out.split_at_mut(plain.len());
        self.key.seal_out_of_place_scatter(
            self.nonce(identity),
            Aad::from(associated),
            plain,
            ciphertext,
            &[],
            tag,
        )?;
        Ok(())
    }

    /// Encrypts all of `text` but the room for the tag at its end.
    pub(crate) fn seal_in_place(
        &self,
        identity: Identity,
        associated: &[u8],
        text: &mut [u8],
    ) -> Result<(), SealError> {
        let (text, tag) = text.split_at_mut(text.len() - TAG_LEN_MAX);
        self.key.seal_in_place_scatter(self.nonce(identity), Aad::from(associated), text, &[], tag)?;
        Ok(())
    }

    /// Decrypts all of `text` but the tag at its end.
    pub(crate) fn open_in_place(
        &self,
        identity: Identity,
        associated: &[u8],
        text: &mut [u8],
    ) -> Result<(), OpenError> {
        let (text, tag) = text.split_at_mut(text.len() - TAG_LEN_MAX);
        self.key.open_in_place_separate_tag(self.nonce(identity), Aad::from(associated), tag, text)?;
        Ok(())
    }

    /// Decrypts `sealed` into `out`, which is shorter by the tag.
    pub(crate) fn open(
        &self,
        identity: Identity,
        associated: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<(), OpenError> {
        let (text, tag) = sealed.split_at(sealed.len() - TAG_LEN_MAX);
        self.key.open_separate_gather(self.nonce(identity), Aad::from(associated), text, tag, out)?;
        Ok(())
    }
}

/// AES-CM with HMAC-SHA1, of which 80 bits are sent.
pub(crate) struct CounterMode {
    key: EncryptingKey,
    salt: [u8; SALT_LEN_MAX],
    authentication: hmac::Key,
}

impl CounterMode {
    pub(crate) fn new(key: &[u8], salt: [u8; SALT_LEN_MAX], authentication: &[u8]) -> Result<Self, KeyError> {
        Ok(Self {
            key: EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, key)?)?,
            salt,
            authentication: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, authentication),
        })
    }

    /// Encrypts, or decrypts, which is the same.
    pub(crate) fn apply_key_stream(&self, identity: Identity, text: &mut [u8]) -> Result<(), Unspecified> {
        let mut counter = [0; 16];
        counter[..SALT_LEN_MAX].copy_from_slice(&self.salt);
        identity.mix(&mut counter, 4);
        self.key.less_safe_encrypt(text, EncryptionContext::Iv128(FixedLength::from(counter)))?;
        Ok(())
    }

    /// The tag of `packet` followed by `appendix`.
    pub(crate) fn tag(&self, packet: &[u8], appendix: &[u8]) -> [u8; HMAC_SHA1_80_LEN] {
        let mut context = hmac::Context::with_key(&self.authentication);
        context.update(packet);
        context.update(appendix);
        let whole = context.sign();
        let mut tag = [0; HMAC_SHA1_80_LEN];
        tag.copy_from_slice(&whole.as_ref()[..HMAC_SHA1_80_LEN]);
        tag
    }

    /// Compares in constant time.
    pub(crate) fn verify(&self, packet: &[u8], appendix: &[u8], tag: &[u8]) -> Result<(), OpenError> {
        verify_slices_are_equal(&self.tag(packet, appendix), tag)?;
        Ok(())
    }
}

/// A keyed cipher. Key schedules are wiped by the library when dropped.
pub(crate) enum Transform {
    Gcm(Gcm),
    /// Boxed: its key schedules take 1.7 KB, those of GCM are behind a pointer already.
    CounterMode(Box<CounterMode>),
}

impl Transform {
    pub(crate) fn derive(master: &MasterKey, labels: Labels) -> Result<Self, KeyError> {
        let profile = master.profile();
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..profile.key_len()];
        master.derive(labels.encryption, key)?;
        match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                let mut salt = [0; GCM_SALT_LEN];
                master.derive(labels.salt, &mut salt)?;
                Ok(Self::Gcm(Gcm::new(key, salt)?))
            }
            Profile::AesCm128HmacSha1_80 => {
                let mut salt = [0; SALT_LEN_MAX];
                master.derive(labels.salt, &mut salt)?;
                let mut authentication = Zeroizing::new([0; HMAC_SHA1_KEY_LEN]);
                master.derive(labels.authentication, &mut *authentication)?;
                Ok(Self::CounterMode(Box::new(CounterMode::new(key, salt, &*authentication)?)))
            }
        }
    }
}
