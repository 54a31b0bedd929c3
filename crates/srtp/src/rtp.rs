//! SRTP: sealing and opening RTP packets (RFC 3711, section 3.3; RFC 7714, section 8).

use crate::key::{Label, MasterKey};
use crate::transform::{Identity, Labels, Transform};
use crate::{KeyError, OpenError, Profile, SealError};
use model::SeqNo;
use std::fmt;

/// Bytes of an RTP header without CSRCs and extensions.
const FIXED_HEADER_LEN: usize = 12;

/// Session key for the RTP packets of one direction, whatever their SSRC.
pub struct RtpKey {
    profile: Profile,
    transform: Transform,
}

impl RtpKey {
    /// Derives the session key.
    ///
    /// # Errors
    /// [`KeyError::Cipher`] if the cryptographic library cannot set up the cipher (out of memory).
    pub fn derive(master: &MasterKey) -> Result<Self, KeyError> {
        let labels = Labels {
            encryption: Label::RtpEncryption,
            authentication: Label::RtpAuthentication,
            salt: Label::RtpSalt,
        };
        Ok(Self { profile: master.profile(), transform: Transform::derive(master, labels)? })
    }

    /// How it seals.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Copies `header` (with its CSRCs and extensions) to `out`, encrypts `payload` behind it and appends the tag;
    /// gives the length of the sealed packet. SSRC is read from the header, the rollover counter from `seq_no`.
    ///
    /// This is the cheapest way to seal: `payload` is read once and not copied.
    ///
    /// # Errors
    /// [`SealError`] if the header is no RTP header of this `seq_no`, or `out` is too short.
    pub fn seal(
        &self,
        header: &[u8],
        payload: &[u8],
        seq_no: SeqNo,
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let identity = seal_identity(header, seq_no)?;
        let plain_len = header.len() + payload.len();
        let out = self.room(out, plain_len)?;
        out[..header.len()].copy_from_slice(header);
        match &self.transform {
            Transform::Gcm(gcm) => gcm.seal(identity, header, payload, &mut out[header.len()..])?,
            Transform::CounterMode(_) => {
                out[header.len()..plain_len].copy_from_slice(payload);
                self.seal_text(identity, header.len(), out)?;
            }
        }
        Ok(out.len())
    }

    /// Seals the first `plain_len` bytes of `packet`, of which the first `header_len` stay readable; gives the
    /// length of the sealed packet. There must be room for the tag behind them.
    ///
    /// # Errors
    /// [`SealError`] if the header is no RTP header of this `seq_no`, or `packet` is too short.
    pub fn seal_in_place(
        &self,
        packet: &mut [u8],
        header_len: usize,
        plain_len: usize,
        seq_no: SeqNo,
    ) -> Result<usize, SealError> {
        let packet = self.room(packet, plain_len)?;
        let header = packet[..plain_len].get(..header_len);
        let identity = seal_identity(header.ok_or(SealError::HeaderTooShort { length: plain_len })?, seq_no)?;
        self.seal_text(identity, header_len, packet)?;
        Ok(packet.len())
    }

    /// Verifies and decrypts `packet`; gives the length of the plain packet, which stands at its beginning.
    /// On error the payload is no longer what it was.
    ///
    /// # Errors
    /// [`OpenError`] tells a malformed packet from one that is not authentic.
    pub fn open_in_place(
        &self,
        packet: &mut [u8],
        header_len: usize,
        seq_no: SeqNo,
    ) -> Result<usize, OpenError> {
        let (identity, plain_len) = self.open_identity(packet, header_len, seq_no)?;
        match &self.transform {
            Transform::Gcm(gcm) => {
                let (header, text) = packet.split_at_mut(header_len);
                gcm.open_in_place(identity, header, text)?;
            }
            Transform::CounterMode(cipher) => {
                let (text, tag) = packet.split_at_mut(plain_len);
                cipher.verify(text, &seq_no.roc().to_be_bytes(), tag)?;
                cipher.apply_key_stream(identity, &mut text[header_len..])?;
            }
        }
        Ok(plain_len)
    }

    /// Verifies `packet`, leaves it as it is and puts the plain payload into `payload`, replacing what was there:
    /// for a relay, which forwards the same ciphertext.
    ///
    /// # Errors
    /// [`OpenError`] as for [`RtpKey::open_in_place`]; `payload` is then without meaning.
    pub fn open_into(
        &self,
        packet: &[u8],
        header_len: usize,
        seq_no: SeqNo,
        payload: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let (identity, plain_len) = self.open_identity(packet, header_len, seq_no)?;
        payload.clear();
        match &self.transform {
            Transform::Gcm(gcm) => {
                let (header, sealed) = packet.split_at(header_len);
                payload.resize(plain_len - header_len, 0);
                gcm.open(identity, header, sealed, payload)?;
            }
            Transform::CounterMode(cipher) => {
                let (text, tag) = packet.split_at(plain_len);
                cipher.verify(text, &seq_no.roc().to_be_bytes(), tag)?;
                payload.extend_from_slice(&text[header_len..]);
                cipher.apply_key_stream(identity, payload)?;
            }
        }
        Ok(())
    }

    /// The part of `buffer` that the sealed packet takes.
    fn room<'buffer>(
        &self,
        buffer: &'buffer mut [u8],
        plain_len: usize,
    ) -> Result<&'buffer mut [u8], SealError> {
        let available = buffer.len();
        let needed = plain_len.saturating_add(self.profile.rtp_tag_len());
        buffer.get_mut(..needed).ok_or(SealError::NoRoom { needed, available })
    }

    /// Encrypts what stands between header and tag, and writes the tag.
    fn seal_text(&self, identity: Identity, header_len: usize, packet: &mut [u8]) -> Result<(), SealError> {
        match &self.transform {
            Transform::Gcm(gcm) => {
                let (header, text) = packet.split_at_mut(header_len);
                gcm.seal_in_place(identity, header, text)
            }
            Transform::CounterMode(cipher) => {
                let (text, tag) = packet.split_at_mut(packet.len() - self.profile.rtp_tag_len());
                cipher.apply_key_stream(identity, &mut text[header_len..])?;
                let rollover_counter = (identity.index >> 16) as u32;
                tag.copy_from_slice(&cipher.tag(text, &rollover_counter.to_be_bytes()));
                Ok(())
            }
        }
    }

    /// Checks that the lengths fit together; gives the identity and the length of the plain packet.
    fn open_identity(
        &self,
        packet: &[u8],
        header_len: usize,
        seq_no: SeqNo,
    ) -> Result<(Identity, usize), OpenError> {
        let truncated = OpenError::Truncated { length: packet.len() };
        let plain_len = packet.len().checked_sub(self.profile.rtp_tag_len()).ok_or(truncated)?;
        let header = packet[..plain_len].get(..header_len).ok_or(truncated)?;
        if header_len < FIXED_HEADER_LEN {
            return Err(truncated);
        }
        if seq_no > SeqNo::MAX {
            return Err(OpenError::IndexExhausted);
        }
        if header[2..4] != seq_no.seq().to_be_bytes() {
            return Err(OpenError::SequenceMismatch);
        }
        Ok((identity(header, seq_no), plain_len))
    }
}

impl fmt::Debug for RtpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RtpKey").field("profile", &self.profile).finish_non_exhaustive()
    }
}

fn seal_identity(header: &[u8], seq_no: SeqNo) -> Result<Identity, SealError> {
    if header.len() < FIXED_HEADER_LEN {
        return Err(SealError::HeaderTooShort { length: header.len() });
    }
    if seq_no > SeqNo::MAX {
        return Err(SealError::IndexExhausted);
    }
    if header[2..4] != seq_no.seq().to_be_bytes() {
        return Err(SealError::SequenceMismatch);
    }
    Ok(identity(header, seq_no))
}

/// `header` is at least [`FIXED_HEADER_LEN`] long.
fn identity(header: &[u8], seq_no: SeqNo) -> Identity {
    Identity { ssrc: [header[8], header[9], header[10], header[11]], index: seq_no.get() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::Gcm;

    const HEADER: [u8; 12] = [0x80, 0x40, 0xf1, 0x7b, 0x80, 0x41, 0xf8, 0xd3, 0x55, 0x01, 0xa0, 0xb2];
    const PAYLOAD: &[u8] = b"Gallia est omnis divisa in partes tres";

    /// Session key and salt of RFC 7714, section 16.
    fn rfc_7714(profile: Profile) -> RtpKey {
        let key: Vec<u8> = (0..profile.key_len() as u8).collect();
        let salt = *b"Quid pro quo";
        RtpKey { profile, transform: Transform::Gcm(Gcm::new(&key, salt).unwrap()) }
    }

    fn check(key: &RtpKey, header: &[u8], payload: &[u8], seq_no: SeqNo, sealed: &[u8]) {
        let mut out = [0; 100];
        let length = key.seal(header, payload, seq_no, &mut out).unwrap();
        assert_eq!(out[..length], *sealed);

        let mut in_place = [header, payload, &[0; 16]].concat();
        let plain_len = header.len() + payload.len();
        let length = key.seal_in_place(&mut in_place, header.len(), plain_len, seq_no).unwrap();
        assert_eq!(in_place[..length], *sealed);

        assert_eq!(key.open_in_place(&mut in_place[..length], header.len(), seq_no), Ok(plain_len));
        assert_eq!(in_place[..plain_len], *[header, payload].concat());

        let mut opened = vec![1; 3];
        key.open_into(sealed, header.len(), seq_no, &mut opened).unwrap();
        assert_eq!(opened, payload);
    }

    #[test]
    fn aead_aes_128_gcm_gives_the_packet_of_rfc_7714_section_16_1() {
        let sealed = [
            0x80, 0x40, 0xf1, 0x7b, 0x80, 0x41, 0xf8, 0xd3, 0x55, 0x01, 0xa0, 0xb2, 0xf2, 0x4d, 0xe3, 0xa3,
            0xfb, 0x34, 0xde, 0x6c, 0xac, 0xba, 0x86, 0x1c, 0x9d, 0x7e, 0x4b, 0xca, 0xbe, 0x63, 0x3b, 0xd5,
            0x0d, 0x29, 0x4e, 0x6f, 0x42, 0xa5, 0xf4, 0x7a, 0x51, 0xc7, 0xd1, 0x9b, 0x36, 0xde, 0x3a, 0xdf,
            0x88, 0x33, 0x89, 0x9d, 0x7f, 0x27, 0xbe, 0xb1, 0x6a, 0x91, 0x52, 0xcf, 0x76, 0x5e, 0xe4, 0x39,
            0x0c, 0xce,
        ];
        check(&rfc_7714(Profile::AeadAes128Gcm), &HEADER, PAYLOAD, SeqNo::from_parts(0, 0xf17b), &sealed);
    }

    #[test]
    fn aead_aes_256_gcm_gives_the_packet_of_rfc_7714_section_16_2() {
        let sealed = [
            0x80, 0x40, 0xf1, 0x7b, 0x80, 0x41, 0xf8, 0xd3, 0x55, 0x01, 0xa0, 0xb2, 0x32, 0xb1, 0xde, 0x78,
            0xa8, 0x22, 0xfe, 0x12, 0xef, 0x9f, 0x78, 0xfa, 0x33, 0x2e, 0x33, 0xaa, 0xb1, 0x80, 0x12, 0x38,
            0x9a, 0x58, 0xe2, 0xf3, 0xb5, 0x0b, 0x2a, 0x02, 0x76, 0xff, 0xae, 0x0f, 0x1b, 0xa6, 0x37, 0x99,
            0xb8, 0x7b, 0x7a, 0xa3, 0xdb, 0x36, 0xdf, 0xff, 0xd6, 0xb0, 0xf9, 0xbb, 0x78, 0x78, 0xd7, 0xa7,
            0x6c, 0x13,
        ];
        check(&rfc_7714(Profile::AeadAes256Gcm), &HEADER, PAYLOAD, SeqNo::from_parts(0, 0xf17b), &sealed);
    }

    #[test]
    fn counter_mode_gives_the_reference_packet_of_libsrtp() {
        let master = MasterKey::new(
            Profile::AesCm128HmacSha1_80,
            &[0xe1, 0xf9, 0x7a, 0x0d, 0x3e, 0x01, 0x8b, 0xe0, 0xd6, 0x4f, 0xa3, 0x2c, 0x06, 0xde, 0x41, 0x39],
            &[0x0e, 0xc6, 0x75, 0xad, 0x49, 0x8a, 0xfe, 0xeb, 0xb6, 0x96, 0x0b, 0x3a, 0xab, 0xe6],
        );
        let key = RtpKey::derive(&master.unwrap()).unwrap();
        let header = [0x80, 0x0f, 0x12, 0x34, 0xde, 0xca, 0xfb, 0xad, 0xca, 0xfe, 0xba, 0xbe];
        let sealed = [
            0x80, 0x0f, 0x12, 0x34, 0xde, 0xca, 0xfb, 0xad, 0xca, 0xfe, 0xba, 0xbe, 0x4e, 0x55, 0xdc, 0x4c,
            0xe7, 0x99, 0x78, 0xd8, 0x8c, 0xa4, 0xd2, 0x15, 0x94, 0x9d, 0x24, 0x02, 0xb7, 0x8d, 0x6a, 0xcc,
            0x99, 0xea, 0x17, 0x9b, 0x8d, 0xbb,
        ];
        check(&key, &header, &[0xab; 16], SeqNo::from_parts(0, 0x1234), &sealed);
    }
}
