//! SRTCP: sealing and opening RTCP packets (RFC 3711, section 3.4; RFC 7714, section 9).
//!
//! Always encrypted: a packet with the E bit clear is refused.

use crate::key::{Label, MasterKey};
use crate::transform::{Identity, Labels, Transform};
use crate::{KeyError, OpenError, Profile, SealError};
use std::fmt;

/// Bytes that stay readable: the first packet's header and its sender's SSRC.
const CLEAR_LEN: usize = 8;
/// Bytes of E bit and index.
const INDEX_LEN: usize = 4;
/// The E bit: the packet is encrypted.
const ENCRYPTED: u32 = 1 << 31;

/// The 31-bit number of an SRTCP packet; never to be used twice under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RtcpIndex(u32);

impl RtcpIndex {
    /// The first one.
    pub const ZERO: Self = Self(0);
    /// The last one: 2^31 - 1.
    pub const MAX: Self = Self(ENCRYPTED - 1);

    /// `None` if `value` takes more than 31 bits.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value < ENCRYPTED { Some(Self(value)) } else { None }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The one after it; `None` after the last, when the key is used up.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

/// Session key for the RTCP packets of one direction, whoever sends them.
pub struct RtcpKey {
    profile: Profile,
    transform: Transform,
}

impl RtcpKey {
    /// Derives the session key.
    ///
    /// # Errors
    /// [`KeyError::Cipher`] if the cryptographic library cannot set up the cipher (out of memory).
    pub fn derive(master: &MasterKey) -> Result<Self, KeyError> {
        let labels = Labels {
            encryption: Label::RtcpEncryption,
            authentication: Label::RtcpAuthentication,
            salt: Label::RtcpSalt,
        };
        Ok(Self { profile: master.profile(), transform: Transform::derive(master, labels)? })
    }

    /// How it seals.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Seals the compound packet in the first `plain_len` bytes of `packet`; gives the length of the sealed packet.
    /// There must be room for [`Profile::rtcp_overhead`] bytes behind it.
    ///
    /// # Errors
    /// [`SealError`] if there is no whole RTCP header, or `packet` is too short.
    pub fn seal_in_place(
        &self,
        packet: &mut [u8],
        plain_len: usize,
        index: RtcpIndex,
    ) -> Result<usize, SealError> {
        if plain_len < CLEAR_LEN {
            return Err(SealError::HeaderTooShort { length: plain_len });
        }
        let available = packet.len();
        let needed = plain_len.saturating_add(self.profile.rtcp_overhead());
        let packet = packet.get_mut(..needed).ok_or(SealError::NoRoom { needed, available })?;
        let identity = identity(packet, index);
        let index_word = (ENCRYPTED | index.0).to_be_bytes();
        match &self.transform {
            Transform::Gcm(gcm) => {
                let (packet, trailer) = packet.split_at_mut(needed - INDEX_LEN);
                let associated = associated(packet, index_word);
                gcm.seal_in_place(identity, &associated, &mut packet[CLEAR_LEN..])?;
                trailer.copy_from_slice(&index_word);
            }
            Transform::CounterMode(cipher) => {
                let (text, trailer) = packet.split_at_mut(plain_len);
                cipher.apply_key_stream(identity, &mut text[CLEAR_LEN..])?;
                trailer[..INDEX_LEN].copy_from_slice(&index_word);
                trailer[INDEX_LEN..].copy_from_slice(&cipher.tag(text, &index_word));
            }
        }
        Ok(needed)
    }

    /// Verifies and decrypts `packet`; gives the length of the plain compound packet, which stands at its
    /// beginning, and its index, which the caller holds against a [`crate::ReplayWindow`].
    /// On error the packet is no longer what it was.
    ///
    /// # Errors
    /// [`OpenError`] tells a malformed packet from one that is not authentic.
    pub fn open_in_place(&self, packet: &mut [u8]) -> Result<(usize, RtcpIndex), OpenError> {
        let length = packet.len();
        let plain_len =
            length.checked_sub(self.profile.rtcp_overhead()).filter(|plain_len| *plain_len >= CLEAR_LEN);
        let plain_len = plain_len.ok_or(OpenError::Truncated { length })?;
        let index_at = match self.transform {
            Transform::Gcm(_) => length - INDEX_LEN,
            Transform::CounterMode(_) => plain_len,
        };
        let index_word = [packet[index_at], packet[index_at + 1], packet[index_at + 2], packet[index_at + 3]];
        let word = u32::from_be_bytes(index_word);
        if word & ENCRYPTED == 0 {
            return Err(OpenError::NotEncrypted);
        }
        let index = RtcpIndex(word & !ENCRYPTED);
        let identity = identity(packet, index);
        match &self.transform {
            Transform::Gcm(gcm) => {
                let associated = associated(packet, index_word);
                gcm.open_in_place(identity, &associated, &mut packet[CLEAR_LEN..index_at])?;
            }
            Transform::CounterMode(cipher) => {
                let (text, trailer) = packet.split_at_mut(plain_len);
                cipher.verify(text, &index_word, &trailer[INDEX_LEN..])?;
                cipher.apply_key_stream(identity, &mut text[CLEAR_LEN..])?;
            }
        }
        Ok((plain_len, index))
    }
}

impl fmt::Debug for RtcpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RtcpKey").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// `packet` is at least [`CLEAR_LEN`] long.
fn identity(packet: &[u8], index: RtcpIndex) -> Identity {
    Identity { ssrc: [packet[4], packet[5], packet[6], packet[7]], index: u64::from(index.0) }
}

/// What GCM authenticates and does not encrypt (RFC 7714, section 9.2).
fn associated(packet: &[u8], index_word: [u8; INDEX_LEN]) -> [u8; CLEAR_LEN + INDEX_LEN] {
    let mut associated = [0; CLEAR_LEN + INDEX_LEN];
    associated[..CLEAR_LEN].copy_from_slice(&packet[..CLEAR_LEN]);
    associated[CLEAR_LEN..].copy_from_slice(&index_word);
    associated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::Gcm;

    const PLAIN: [u8; 52] = [
        0x81, 0xc8, 0x00, 0x0d, 0x4d, 0x61, 0x72, 0x73, 0x4e, 0x54, 0x50, 0x31, 0x4e, 0x54, 0x50, 0x32, 0x52,
        0x54, 0x50, 0x20, 0x00, 0x00, 0x04, 0x2a, 0x00, 0x00, 0xe9, 0x30, 0x4c, 0x75, 0x6e, 0x61, 0xde, 0xad,
        0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe,
        0xef,
    ];

    /// Session key and salt of RFC 7714, section 17.
    fn rfc_7714(profile: Profile) -> RtcpKey {
        let key: Vec<u8> = (0..profile.key_len() as u8).collect();
        let salt = *b"Quid pro quo";
        RtcpKey { profile, transform: Transform::Gcm(Gcm::new(&key, salt).unwrap()) }
    }

    fn check(key: &RtcpKey, plain: &[u8], index: u32, sealed: &[u8]) {
        let index = RtcpIndex::new(index).unwrap();
        let mut packet = [plain, &[0; 24]].concat();
        let length = key.seal_in_place(&mut packet, plain.len(), index).unwrap();
        assert_eq!(packet[..length], *sealed);
        assert_eq!(key.open_in_place(&mut packet[..length]), Ok((plain.len(), index)));
        assert_eq!(packet[..plain.len()], *plain);
    }

    #[test]
    fn aead_aes_128_gcm_gives_the_packet_of_rfc_7714_section_17_1() {
        let sealed = [
            0x81, 0xc8, 0x00, 0x0d, 0x4d, 0x61, 0x72, 0x73, 0x63, 0xe9, 0x48, 0x85, 0xdc, 0xda, 0xb6, 0x7c,
            0xa7, 0x27, 0xd7, 0x66, 0x2f, 0x6b, 0x7e, 0x99, 0x7f, 0xf5, 0xc0, 0xf7, 0x6c, 0x06, 0xf3, 0x2d,
            0xc6, 0x76, 0xa5, 0xf1, 0x73, 0x0d, 0x6f, 0xda, 0x4c, 0xe0, 0x9b, 0x46, 0x86, 0x30, 0x3d, 0xed,
            0x0b, 0xb9, 0x27, 0x5b, 0xc8, 0x4a, 0xa4, 0x58, 0x96, 0xcf, 0x4d, 0x2f, 0xc5, 0xab, 0xf8, 0x72,
            0x45, 0xd9, 0xea, 0xde, 0x80, 0x00, 0x05, 0xd4,
        ];
        check(&rfc_7714(Profile::AeadAes128Gcm), &PLAIN, 0x5d4, &sealed);
    }

    #[test]
    fn aead_aes_256_gcm_gives_the_packet_of_rfc_7714_section_17_2() {
        let sealed = [
            0x81, 0xc8, 0x00, 0x0d, 0x4d, 0x61, 0x72, 0x73, 0xd5, 0x0a, 0xe4, 0xd1, 0xf5, 0xce, 0x5d, 0x30,
            0x4b, 0xa2, 0x97, 0xe4, 0x7d, 0x47, 0x0c, 0x28, 0x2c, 0x3e, 0xce, 0x5d, 0xbf, 0xfe, 0x0a, 0x50,
            0xa2, 0xea, 0xa5, 0xc1, 0x11, 0x05, 0x55, 0xbe, 0x84, 0x15, 0xf6, 0x58, 0xc6, 0x1d, 0xe0, 0x47,
            0x6f, 0x1b, 0x6f, 0xad, 0x1d, 0x1e, 0xb3, 0x0c, 0x44, 0x46, 0x83, 0x9f, 0x57, 0xff, 0x6f, 0x6c,
            0xb2, 0x6a, 0xc3, 0xbe, 0x80, 0x00, 0x05, 0xd4,
        ];
        check(&rfc_7714(Profile::AeadAes256Gcm), &PLAIN, 0x5d4, &sealed);
    }

    #[test]
    fn counter_mode_gives_the_reference_packet_of_libsrtp() {
        let master = MasterKey::new(
            Profile::AesCm128HmacSha1_80,
            &[0xe1, 0xf9, 0x7a, 0x0d, 0x3e, 0x01, 0x8b, 0xe0, 0xd6, 0x4f, 0xa3, 0x2c, 0x06, 0xde, 0x41, 0x39],
            &[0x0e, 0xc6, 0x75, 0xad, 0x49, 0x8a, 0xfe, 0xeb, 0xb6, 0x96, 0x0b, 0x3a, 0xab, 0xe6],
        );
        let key = RtcpKey::derive(&master.unwrap()).unwrap();
        let plain = [&[0x81, 0xc8, 0x00, 0x0b, 0xca, 0xfe, 0xba, 0xbe], &[0xab; 16][..]].concat();
        let sealed = [
            0x81, 0xc8, 0x00, 0x0b, 0xca, 0xfe, 0xba, 0xbe, 0x71, 0x28, 0x03, 0x5b, 0xe4, 0x87, 0xb9, 0xbd,
            0xbe, 0xf8, 0x90, 0x41, 0xf9, 0x77, 0xa5, 0xa8, 0x80, 0x00, 0x00, 0x01, 0x99, 0x3e, 0x08, 0xcd,
            0x54, 0xd6, 0xc1, 0x23, 0x07, 0x98,
        ];
        check(&key, &plain, 1, &sealed);
    }

    #[test]
    fn a_packet_that_is_only_authenticated_is_refused() {
        let tag_and_index = [
            0x84, 0x1d, 0xd9, 0x68, 0x3d, 0xd7, 0x8e, 0xc9, 0x2a, 0xe5, 0x87, 0x90, 0x12, 0x5f, 0x62, 0xb3,
            0x00, 0x00, 0x05, 0xd4,
        ];
        let mut packet = [&PLAIN[..], &tag_and_index].concat();
        assert_eq!(rfc_7714(Profile::AeadAes128Gcm).open_in_place(&mut packet), Err(OpenError::NotEncrypted));
    }

    #[test]
    fn the_index_ends_at_31_bits() {
        assert_eq!(RtcpIndex::ZERO.next(), RtcpIndex::new(1));
        assert_eq!(RtcpIndex::MAX.next(), None);
        assert_eq!(RtcpIndex::new(1 << 31), None);
    }
}
