//! One tree packet in one datagram: an RTP packet sealed with SRTP, AEAD_AES_128_GCM (RFC 7714), under the group key.
//!
//! Sealed once, at injection; every node after it verifies the bytes and forwards the very same ones. Sealing is a
//! pure function of packet and key, so sealing again yields identical bytes and a repeated nonce is harmless.
//!
//! Layout, big-endian, 44 bytes of header for every packet:
//!
//! ```text
//!  0  V=2, P, X=1, CC=0     P: the payload is padded (RFC 3550, section 5.1)
//!  1  M, PT=96              PT means nothing: the codec is known from the broadcast
//!  2  sequence number       low 16 bits of the extended one
//!  4  timestamp
//!  8  SSRC
//! 12  0x4d54 ("MT")         profile of the header extension (RFC 3550, section 5.3.1)
//! 14  7                     its length in words of 32 bits
//! 16  version               major in the upper four bits, minor in the lower ones
//! 17  flags                 0x01 starts a keyframe; 0x02 the audio level is valid; 0x04 layers are valid; the upper five
//!                           bits are those of the generation of the layers' counts
//! 18  audio level           RFC 6464: voice flag and -dBov
//! 19  orientation           the `urn:3gpp:video-orientation` byte
//! 20  key generation        low 16 bits of its counter, then low 16 bits of its random part
//! 24  rollover counter      upper 32 bits of the extended sequence number
//! 28  capture time          64-bit NTP, injection node's clock
//! 36  layers                of one RTP stream: running counts of its points and what this packet is to them, see
//!                           `media_core::svc`; zero and ignored without their flag
//! 44  payload, padding, 16 bytes of authentication tag
//! ```
//!
//! The header is authenticated, payload and padding are encrypted too. So that the packets of a frame are equally
//! long and leave an egress as one train, the payload is padded to a multiple of 16 bytes, but for the packet with
//! the marker and for payloads so long that padding could exceed the path's MTU.

use bytes::Bytes;
use media_core::TreePacket;
use media_core::svc::{self, Svc};
use model::{KeyGeneration, NtpTime, SeqNo, Ssrc};
use srtp::{MasterKey, Profile, RtpKey};

use super::{GroupKey, Version};

/// Bytes before the payload, the same for every packet.
pub const HEADER_BYTES: usize = 44;
/// Bytes after it: the tag of AEAD_AES_128_GCM.
pub const TAG_BYTES: usize = 16;
/// Longest payload, bytes: with header, tag, IPv6 and UDP it still is one datagram.
pub const PAYLOAD_BYTES_MAX: usize = 65_000;

/// Payloads are padded to a multiple of this, bytes.
const PADDING_UNIT: usize = 16;
/// Longest padded payload, bytes: an MTU of 1500 less IPv6, UDP, header and tag, rounded down to the unit.
const PADDED_BYTES_MAX: usize = 1392;

const EXTENSION_PROFILE: u16 = 0x4d54;
const EXTENSION_WORDS: u16 = 7;
const PAYLOAD_TYPE: u8 = 96;
const FLAG_STARTS_KEYFRAME: u8 = 0x01;
const FLAG_AUDIO_LEVEL: u8 = 0x02;
const FLAG_SVC: u8 = 0x04;
const _: () = assert!(svc::GENERATION_BESIDE & (FLAG_STARTS_KEYFRAME | FLAG_AUDIO_LEVEL | FLAG_SVC) == 0);
const SVC_AT: usize = HEADER_BYTES - svc::BYTES;

/// The bits of a key generation that stand in each packet: 16 of its counter, 16 of its random part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationLabel(u32);

impl From<KeyGeneration> for GenerationLabel {
    fn from(generation: KeyGeneration) -> Self {
        Self((generation.counter << 16) | (generation.random & 0xffff))
    }
}

/// Why a datagram is not a tree packet of this wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Too short, no RTP version 2, or not the one header extension.
    #[error("the datagram is not a tree packet")]
    Malformed,
    /// A major version that this program does not speak.
    #[error("the packet speaks wire version {}, this program {}", .0, Version::CURRENT)]
    Version(Version),
}

/// Why a tree packet cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Longer than [`PAYLOAD_BYTES_MAX`].
    #[error("a payload of {length} bytes does not fit a datagram")]
    TooLong {
        /// Its length, bytes.
        length: usize,
    },
    /// Beyond 2^48 - 1.
    #[error("the stream has used up its sequence numbers")]
    Exhausted,
    /// The cryptographic library refused.
    #[error("the cryptographic library could not seal the packet")]
    Cipher,
}

/// Why a tree packet cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No key at hand has its generation label: the key is still on its way, or the packet is foreign.
    #[error("the packet is sealed under a key generation that is not known here")]
    UnknownGeneration,
    /// The tag does not fit: damaged or forged.
    #[error("the packet does not verify")]
    Forged,
    /// Verified, but its padding is longer than its payload.
    #[error("the padding of the packet is impossible")]
    Padding,
}

/// Everything about a packet but its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The RTP stream.
    pub ssrc: Ssrc,
    /// Place in the stream.
    pub seq_no: SeqNo,
    /// RTP timestamp.
    pub timestamp: u32,
    /// RTP marker.
    pub marker: bool,
    /// First packet of a keyframe.
    pub starts_keyframe: bool,
    /// Which key seals it.
    pub generation: GenerationLabel,
    /// When it was captured.
    pub capture_time: NtpTime,
    /// Audio level, RFC 6464.
    pub audio_level: Option<u8>,
    /// The `urn:3gpp:video-orientation` byte.
    pub orientation: u8,
    /// Its layer, where the stream has several.
    pub svc: Option<Svc>,
    /// Whether padding follows the payload.
    is_padded: bool,
}

impl Header {
    /// Reads the header. Nothing in it can be trusted before [`GroupOpener::open`] has verified the packet.
    ///
    /// # Errors
    /// [`HeaderError`] if `datagram` is something else, or speaks another version.
    pub fn parse(datagram: &[u8]) -> Result<Self, HeaderError> {
        if datagram.len() < HEADER_BYTES + TAG_BYTES {
            return Err(HeaderError::Malformed);
        }
        let (header, _) = datagram.split_first_chunk::<HEADER_BYTES>().ok_or(HeaderError::Malformed)?;
        let is_rtp_with_extension = header[0] & 0xdf == 0x90;
        if !is_rtp_with_extension
            || read_u16(header, 12) != EXTENSION_PROFILE
            || read_u16(header, 14) != EXTENSION_WORDS
        {
            return Err(HeaderError::Malformed);
        }
        let version = Version { major: header[16] >> 4, minor: header[16] & 0x0f };
        if !version.is_understood() {
            return Err(HeaderError::Version(version));
        }
        let flags = header[17];
        Ok(Self {
            ssrc: Ssrc::new(read_u32(header, 8)),
            seq_no: SeqNo::from_parts(read_u32(header, 24), read_u16(header, 2)),
            timestamp: read_u32(header, 4),
            marker: header[1] & 0x80 != 0,
            starts_keyframe: flags & FLAG_STARTS_KEYFRAME != 0,
            generation: GenerationLabel(read_u32(header, 20)),
            capture_time: NtpTime::from_bits(
                (u64::from(read_u32(header, 28)) << 32) | u64::from(read_u32(header, 32)),
            ),
            audio_level: (flags & FLAG_AUDIO_LEVEL != 0).then_some(header[18]),
            orientation: header[19],
            svc: header.last_chunk::<{ svc::BYTES }>().filter(|_| flags & FLAG_SVC != 0).map(|bytes| {
                let svc = Svc::from_bytes(*bytes);
                Svc { generation: svc.generation | flags & svc::GENERATION_BESIDE, ..svc }
            }),
            is_padded: header[0] & 0x20 != 0,
        })
    }

    /// The packet in the clear, from its payload.
    #[must_use]
    pub const fn tree_packet(&self, payload: Bytes) -> TreePacket {
        TreePacket {
            ssrc: self.ssrc,
            seq_no: self.seq_no,
            timestamp: self.timestamp,
            marker: self.marker,
            starts_keyframe: self.starts_keyframe,
            capture_time: self.capture_time,
            audio_level: self.audio_level,
            orientation: self.orientation,
            svc: self.svc,
            payload,
        }
    }

    fn write(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0] = if self.is_padded { 0xb0 } else { 0x90 };
        header[1] = PAYLOAD_TYPE | if self.marker { 0x80 } else { 0 };
        header[2..4].copy_from_slice(&self.seq_no.seq().to_be_bytes());
        header[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&self.ssrc.get().to_be_bytes());
        header[12..14].copy_from_slice(&EXTENSION_PROFILE.to_be_bytes());
        header[14..16].copy_from_slice(&EXTENSION_WORDS.to_be_bytes());
        header[16] = (Version::CURRENT.major << 4) | Version::CURRENT.minor;
        header[17] = if self.starts_keyframe { FLAG_STARTS_KEYFRAME } else { 0 }
            | if self.audio_level.is_some() { FLAG_AUDIO_LEVEL } else { 0 }
            | if self.svc.is_some() { FLAG_SVC } else { 0 };
        header[18] = self.audio_level.unwrap_or(0);
        header[19] = self.orientation;
        header[20..24].copy_from_slice(&self.generation.0.to_be_bytes());
        header[24..28].copy_from_slice(&self.seq_no.roc().to_be_bytes());
        header[28..SVC_AT].copy_from_slice(&self.capture_time.to_bits().to_be_bytes());
        if let Some(svc) = self.svc {
            header[17] |= svc.generation & svc::GENERATION_BESIDE;
            header[SVC_AT..].copy_from_slice(&svc.to_bytes());
        }
        header
    }
}

fn read_u16(bytes: &[u8; HEADER_BYTES], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn read_u32(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Bytes of padding after a payload: up to the next multiple of the unit. Depends on this packet alone.
const fn padding_bytes(payload_bytes: usize, marker: bool) -> usize {
    let padded = payload_bytes.next_multiple_of(PADDING_UNIT);
    if marker || padded > PADDED_BYTES_MAX { 0 } else { padded - payload_bytes }
}

fn rtp_key(key: &GroupKey) -> RtpKey {
    let master = MasterKey::new(Profile::AeadAes128Gcm, &key.key, &key.salt);
    let derived = master.and_then(|master| RtpKey::derive(&master));
    derived.expect("key and salt have the lengths of the profile, and any bytes are a key")
}

/// Seals packets under one key generation.
#[derive(Debug)]
pub struct GroupSealer {
    generation: KeyGeneration,
    rtp_key: RtpKey,
}

impl GroupSealer {
    /// Derives the session key.
    #[must_use]
    pub fn new(key: &GroupKey) -> Self {
        Self { generation: key.generation, rtp_key: rtp_key(key) }
    }

    /// The datagram for `packet`.
    ///
    /// # Errors
    /// [`SealError`] if it cannot be one.
    pub fn seal(&self, packet: &TreePacket) -> Result<Bytes, SealError> {
        if packet.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(SealError::TooLong { length: packet.payload.len() });
        }
        if packet.seq_no > SeqNo::MAX {
            return Err(SealError::Exhausted);
        }
        let padding = padding_bytes(packet.payload.len(), packet.marker);
        let header = Header {
            ssrc: packet.ssrc,
            seq_no: packet.seq_no,
            timestamp: packet.timestamp,
            marker: packet.marker,
            starts_keyframe: packet.starts_keyframe,
            generation: self.generation.into(),
            capture_time: packet.capture_time,
            audio_level: packet.audio_level,
            orientation: packet.orientation,
            svc: packet.svc,
            is_padded: padding > 0,
        };
        let plain_bytes = HEADER_BYTES + packet.payload.len() + padding;
        let mut wire = Vec::with_capacity(plain_bytes + TAG_BYTES);
        wire.extend_from_slice(&header.write());
        wire.extend_from_slice(&packet.payload);
        wire.resize(plain_bytes + TAG_BYTES, 0);
        if padding > 0 {
            wire[plain_bytes - 1] = padding as u8;
        }
        self.rtp_key
            .seal_in_place(&mut wire, HEADER_BYTES, plain_bytes, packet.seq_no)
            .map_err(|_| SealError::Cipher)?;
        Ok(wire.into())
    }
}

/// Opens packets under one key generation.
#[derive(Debug)]
pub struct GroupOpener {
    label: GenerationLabel,
    rtp_key: RtpKey,
}

impl GroupOpener {
    /// Derives the session key.
    #[must_use]
    pub fn new(key: &GroupKey) -> Self {
        Self { label: key.generation.into(), rtp_key: rtp_key(key) }
    }

    /// Verifies `datagram`, whose header is `header`, and leaves its payload without padding in `payload`.
    ///
    /// # Errors
    /// [`OpenError`]; what `payload` holds then means nothing.
    pub fn open(&self, header: &Header, datagram: &[u8], payload: &mut Vec<u8>) -> Result<(), OpenError> {
        if header.generation != self.label {
            return Err(OpenError::UnknownGeneration);
        }
        self.rtp_key
            .open_into(datagram, HEADER_BYTES, header.seq_no, payload)
            .map_err(|_| OpenError::Forged)?;
        if header.is_padded {
            let padding = payload.last().map_or(0, |last| usize::from(*last));
            if padding == 0 || padding > payload.len() {
                return Err(OpenError::Padding);
            }
            payload.truncate(payload.len() - padding);
        }
        Ok(())
    }
}
