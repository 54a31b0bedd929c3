//! Master keys and the derivation of session keys from them (RFC 3711, section 4.3; RFC 7714, section 11).

use crate::Profile;
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use std::fmt;
use zeroize::Zeroizing;

/// Longest key of any profile, in bytes.
const KEY_LEN_MAX: usize = 32;
/// Longest salt of any profile, in bytes; also what key derivation pads shorter ones to.
pub(crate) const SALT_LEN_MAX: usize = 14;

/// Why bytes are not a master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key has another length than the profile asks for.
    #[error("{profile} takes a key of {} bytes, not {length}", profile.key_len())]
    KeyLength {
        /// What it was meant for.
        profile: Profile,
        /// Its length in bytes.
        length: usize,
    },
    /// The salt has another length than the profile asks for.
    #[error("{profile} takes a salt of {} bytes, not {length}", profile.salt_len())]
    SaltLength {
        /// What it was meant for.
        profile: Profile,
        /// Its length in bytes.
        length: usize,
    },
    /// The exported keying material has another length than the profile asks for.
    #[error("{profile} takes {} bytes of keying material, not {length}", profile.keying_material_len())]
    KeyingMaterialLength {
        /// What it was meant for.
        profile: Profile,
        /// Its length in bytes.
        length: usize,
    },
    /// The cryptographic library could not set up the cipher.
    #[error("the cryptographic library refused the key")]
    Cipher,
}

impl From<Unspecified> for KeyError {
    fn from(_: Unspecified) -> Self {
        Self::Cipher
    }
}

/// Master key and salt of one direction, for RTP and RTCP alike. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct MasterKey {
    profile: Profile,
    key: Zeroizing<[u8; KEY_LEN_MAX]>,
    salt: Zeroizing<[u8; SALT_LEN_MAX]>,
}

impl MasterKey {
    /// Takes key and salt for `profile`.
    ///
    /// # Errors
    /// [`KeyError::KeyLength`] or [`KeyError::SaltLength`] if one does not fit the profile.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, KeyError> {
        if key.len() != profile.key_len() {
            return Err(KeyError::KeyLength { profile, length: key.len() });
        }
        if salt.len() != profile.salt_len() {
            return Err(KeyError::SaltLength { profile, length: salt.len() });
        }
        let mut master = Self { profile, key: Zeroizing::default(), salt: Zeroizing::default() };
        master.key[..key.len()].copy_from_slice(key);
        master.salt[..salt.len()].copy_from_slice(salt);
        Ok(master)
    }

    /// What it is for.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// The key itself, for a sealed record.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key[..self.profile.key_len()]
    }

    /// The salt itself, for a sealed record.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt[..self.profile.salt_len()]
    }

    /// Fills `out` with the pseudo-random bytes for `label` (RFC 3711, section 4.3.1; key derivation rate zero).
    pub(crate) fn derive(&self, label: Label, out: &mut [u8]) -> Result<(), KeyError> {
        // RFC 7714, section 11: a 96-bit salt is padded on the right to 112 bits.
        let mut counter = [0; 16];
        counter[..SALT_LEN_MAX].copy_from_slice(&*self.salt);
        counter[7] ^= label as u8;
        let algorithm = if self.profile.key_len() == 32 { &AES_256 } else { &AES_128 };
        let cipher = EncryptingKey::ctr(UnboundCipherKey::new(algorithm, self.key())?)?;
        out.fill(0);
        cipher.less_safe_encrypt(out, EncryptionContext::Iv128(FixedLength::from(counter)))?;
        Ok(())
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// What derived bytes are used for (RFC 3711, section 4.3.2).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Label {
    RtpEncryption = 0,
    RtpAuthentication = 1,
    RtpSalt = 2,
    RtcpEncryption = 3,
    RtcpAuthentication = 4,
    RtcpSalt = 5,
}

/// Splits what the DTLS exporter `EXTRACTOR-dtls_srtp` gave into the keys that the DTLS client and the DTLS
/// server seal with, in this order (RFC 5764, section 4.2).
///
/// # Errors
/// [`KeyError::KeyingMaterialLength`] if `material` is not [`Profile::keying_material_len`] bytes long.
pub fn split_exporter(profile: Profile, material: &[u8]) -> Result<(MasterKey, MasterKey), KeyError> {
    if material.len() != profile.keying_material_len() {
        return Err(KeyError::KeyingMaterialLength { profile, length: material.len() });
    }
    let (keys, salts) = material.split_at(2 * profile.key_len());
    let (client_key, server_key) = keys.split_at(profile.key_len());
    let (client_salt, server_salt) = salts.split_at(profile.salt_len());
    Ok((MasterKey::new(profile, client_key, client_salt)?, MasterKey::new(profile, server_key, server_salt)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn derived(master: &MasterKey, label: Label, length: usize) -> Vec<u8> {
        let mut out = vec![0xff; length];
        master.derive(label, &mut out).unwrap();
        out
    }

    #[test]
    fn derivation_gives_the_keys_of_rfc_3711_appendix_b_3() {
        let key = bytes("E1F97A0D3E018BE0D64FA32C06DE4139");
        let salt = bytes("0EC675AD498AFEEBB6960B3AABE6");
        let master = MasterKey::new(Profile::AesCm128HmacSha1_80, &key, &salt).unwrap();
        assert_eq!(derived(&master, Label::RtpEncryption, 16), bytes("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(derived(&master, Label::RtpSalt, 14), bytes("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(
            derived(&master, Label::RtpAuthentication, 94),
            bytes(
                "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4 8F0A0ACF3C34E2359E6CDBCEE049646C43D9327AD175578EF7227098
                 6371C10C9A369AC2F94A8C5FBCDDDC256D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2"
            )
        );
    }

    #[test]
    fn derivation_with_a_256_bit_key_follows_rfc_6188_section_7_2() {
        let key = bytes("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6");
        // A 112-bit salt in the RFC; GCM salts are its first 96 bits, so the cipher is checked with the zero-padded one.
        let master =
            MasterKey::new(Profile::AeadAes256Gcm, &key, &bytes("3b04803de51ee7c96423ab5b")).unwrap();
        let mut whole = master.clone();
        whole.salt.copy_from_slice(&bytes("3b04803de51ee7c96423ab5b78d2"));
        let expected = bytes("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4");
        assert_eq!(derived(&whole, Label::RtpEncryption, 32), expected);
        assert_eq!(derived(&whole, Label::RtpSalt, 14), bytes("fa31791685ca444a9e07c6c64e93"));
        assert_ne!(derived(&master, Label::RtpEncryption, 32), expected, "the pad is part of the counter");
    }

    #[test]
    fn the_exporter_is_split_into_client_and_server_keys() {
        for profile in Profile::ALL {
            let material: Vec<u8> = (0..profile.keying_material_len() as u8).collect();
            let (client, server) = split_exporter(profile, &material).unwrap();
            let joined = [client.key(), server.key(), client.salt(), server.salt()].concat();
            assert_eq!(joined, material);
            assert!(split_exporter(profile, &material[1..]).is_err());
        }
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused_and_none_is_printed() {
        let profile = Profile::AeadAes128Gcm;
        let error = MasterKey::new(profile, &[0xab; 32], &[0; 12]).unwrap_err();
        assert_eq!(error, KeyError::KeyLength { profile, length: 32 });
        let error = MasterKey::new(profile, &[0xab; 16], &[0; 14]).unwrap_err();
        assert_eq!(error, KeyError::SaltLength { profile, length: 14 });
        let printed = format!("{:?}", MasterKey::new(profile, &[0xab; 16], &[0xcd; 12]).unwrap());
        assert_eq!(printed, "MasterKey { profile: AeadAes128Gcm, .. }");
    }
}
