//! The protection profiles that DTLS-SRTP can agree on, and their lengths.

use std::fmt;

/// How packets are sealed: cipher, authentication and their lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// `AEAD_AES_128_GCM` (RFC 7714): by far the cheapest to compute.
    AeadAes128Gcm,
    /// `AEAD_AES_256_GCM` (RFC 7714).
    AeadAes256Gcm,
    /// `AES_CM_128_HMAC_SHA1_80` (RFC 3711): what every WebRTC peer has.
    AesCm128HmacSha1_80,
}

impl Profile {
    /// Every profile, cheapest first.
    pub const ALL: [Self; 3] = [Self::AeadAes128Gcm, Self::AeadAes256Gcm, Self::AesCm128HmacSha1_80];

    /// The value in the `use_srtp` extension (RFC 5764, section 4.1.2; RFC 7714, section 14.2).
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::AesCm128HmacSha1_80 => 0x0001,
            Self::AeadAes128Gcm => 0x0007,
            Self::AeadAes256Gcm => 0x0008,
        }
    }

    /// The profile with this value in the `use_srtp` extension.
    #[must_use]
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.id() == id)
    }

    /// Bytes of a master key, and of a session key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AesCm128HmacSha1_80 => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of a master salt, and of a session salt.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::AesCm128HmacSha1_80 => 14,
        }
    }

    /// Bytes that sealing adds to an RTP packet: the authentication tag.
    #[must_use]
    pub const fn rtp_tag_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
            Self::AesCm128HmacSha1_80 => 10,
        }
    }

    /// Bytes that sealing adds to an RTCP packet: authentication tag and index word.
    #[must_use]
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_tag_len() + 4
    }

    /// Bytes to take from the DTLS exporter: key and salt of both directions (RFC 5764, section 4.2).
    #[must_use]
    pub const fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }
}

impl fmt::Display for Profile {
    /// The registered name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AeadAes128Gcm => "SRTP_AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "SRTP_AEAD_AES_256_GCM",
            Self::AesCm128HmacSha1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_keep_their_registered_ids_and_lengths() {
        let facts = Profile::ALL
            .map(|profile| (profile.id(), profile.keying_material_len(), profile.rtcp_overhead()));
        assert_eq!(facts, [(7, 56, 20), (8, 88, 20), (1, 60, 14)]);
        for profile in Profile::ALL {
            assert_eq!(Profile::from_id(profile.id()), Some(profile));
        }
        assert_eq!(Profile::from_id(2), None, "SHA1_32 is too short a tag");
    }
}
