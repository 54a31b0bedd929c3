//! Connectivity and consent checks: STUN Binding requests and their answers (RFC 8489, RFC 8445, RFC 7675).
//!
//! Takes what real clients send: PRIORITY and ICE-CONTROLLING may be missing, unknown attributes are skipped. A request
//! without USERNAME or MESSAGE-INTEGRITY is none. Nothing allocates.

mod agent;

pub use agent::{
    Answer, ClaimedRole, ROLE_CONFLICT, ROLE_CONFLICT_LENGTH_MAX, claimed_role, write_controlled_request,
    write_role_conflict,
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use std::net::{IpAddr, SocketAddr};

const HEADER_LEN: usize = 20;
const COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802a;

const ATTRIBUTE_HEADER_LEN: usize = 4;
const INTEGRITY_LEN: usize = 20;
/// Bytes of MESSAGE-INTEGRITY and FINGERPRINT with their headers.
const TRAILER_LEN: usize = ATTRIBUTE_HEADER_LEN + INTEGRITY_LEN + ATTRIBUTE_HEADER_LEN + 4;

/// Room that [`write_success`] needs, in bytes.
pub const SUCCESS_LENGTH_MAX: usize = HEADER_LEN + ATTRIBUTE_HEADER_LEN + 20 + TRAILER_LEN;

/// Whether this is a STUN message of today (with magic cookie), as far as its header tells.
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LEN
        && datagram[0] < 4
        && datagram[4..8] == COOKIE
        && usize::from(u16::from_be_bytes([datagram[2], datagram[3]])) + HEADER_LEN == datagram.len()
        && datagram.len().is_multiple_of(4)
}

/// The 96 bits that bind an answer to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction(pub [u8; 12]);

/// A peer's check, not yet verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingRequest<'datagram> {
    transaction: Transaction,
    local_ufrag: &'datagram str,
    remote_ufrag: &'datagram str,
    use_candidate: bool,
}

impl<'datagram> BindingRequest<'datagram> {
    /// `None` if the datagram is not a Binding request with USERNAME `local:remote` and MESSAGE-INTEGRITY.
    ///
    /// Says nothing about its authenticity: for that, look up the password of [`Self::local_ufrag`] and [`verify`].
    #[must_use]
    pub fn parse(datagram: &'datagram [u8]) -> Option<Self> {
        if !is_stun(datagram) || datagram[..2] != BINDING_REQUEST.to_be_bytes() {
            return None;
        }
        let mut transaction = Transaction([0; 12]);
        transaction.0.copy_from_slice(&datagram[8..HEADER_LEN]);
        let mut username = None;
        let mut use_candidate = false;
        for attribute in Attributes::of(datagram) {
            match attribute.kind {
                USERNAME => username = str::from_utf8(attribute.value).ok()?.split_once(':'),
                USE_CANDIDATE => use_candidate = true,
                // Whatever follows is not authenticated.
                MESSAGE_INTEGRITY => {
                    let (local_ufrag, remote_ufrag) = username?;
                    return Some(Self { transaction, local_ufrag, remote_ufrag, use_candidate });
                }
                _ => {}
            }
        }
        None
    }

    /// For the answer.
    #[must_use]
    pub const fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// Our user fragment, as the peer knows it.
    #[must_use]
    pub const fn local_ufrag(&self) -> &'datagram str {
        self.local_ufrag
    }

    /// The peer's own user fragment.
    #[must_use]
    pub const fn remote_ufrag(&self) -> &'datagram str {
        self.remote_ufrag
    }

    /// Whether the peer nominates this path.
    #[must_use]
    pub const fn use_candidate(&self) -> bool {
        self.use_candidate
    }
}

/// Whether the message's MESSAGE-INTEGRITY was made with `pwd`, and its FINGERPRINT, if there is one, fits.
///
/// Compares in constant time. Works for requests (our password) and answers (the peer's) alike.
#[must_use]
pub fn verify(datagram: &[u8], pwd: &str) -> bool {
    if !is_stun(datagram) {
        return false;
    }
    let mut is_authentic = false;
    for attribute in Attributes::of(datagram) {
        match attribute.kind {
            MESSAGE_INTEGRITY if !is_authentic => {
                let expected = integrity(datagram, attribute.offset, pwd);
                if verify_slices_are_equal(expected.as_ref(), attribute.value).is_err() {
                    return false;
                }
                is_authentic = true;
            }
            FINGERPRINT => {
                return is_authentic && attribute.value == fingerprint(&datagram[..attribute.offset]);
            }
            _ => {}
        }
    }
    is_authentic
}

/// Writes the answer to a verified check: success, seen from `mapped`. Gives its length; 0, and nothing written, if
/// `out` is shorter than [`SUCCESS_LENGTH_MAX`]. An IPv4 address in IPv6 clothes is told as IPv4.
pub fn write_success(out: &mut [u8], transaction: Transaction, mapped: SocketAddr, pwd: &str) -> usize {
    if out.len() < SUCCESS_LENGTH_MAX {
        return 0;
    }
    let mut value = [0; 20];
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&COOKIE);
    mask[4..].copy_from_slice(&transaction.0);
    let port = mapped.port().to_be_bytes();
    value[2..4].copy_from_slice(&[port[0] ^ COOKIE[0], port[1] ^ COOKIE[1]]);
    let xor = |(to, (byte, mask)): (&mut u8, (u8, u8))| *to = byte ^ mask;
    let length = match mapped.ip().to_canonical() {
        IpAddr::V4(address) => {
            value[1] = 1;
            value[4..].iter_mut().zip(address.octets().into_iter().zip(mask)).for_each(xor);
            8
        }
        IpAddr::V6(address) => {
            value[1] = 2;
            value[4..].iter_mut().zip(address.octets().into_iter().zip(mask)).for_each(xor);
            20
        }
    };
    let mut writer = Writer::begin(out, BINDING_SUCCESS, transaction);
    writer.attribute(XOR_MAPPED_ADDRESS, &value[..length]);
    writer.finish(pwd)
}

/// A check of our own: keeps a standby's candidate alive, and plays the client in tests.
#[derive(Debug, Clone, Copy)]
pub struct Check<'text> {
    /// Drawn at random for each.
    pub transaction: Transaction,
    /// The user fragment of the peer that is asked.
    pub remote_ufrag: &'text str,
    /// Our own.
    pub local_ufrag: &'text str,
    /// Of the candidate (RFC 8445, section 5.1.2).
    pub priority: u32,
    /// `Some` if we are controlling: the tie-breaker, and whether this path is nominated.
    pub controlling: Option<(u64, bool)>,
}

impl Check<'_> {
    /// Bytes that [`write_request`] needs for it.
    #[must_use]
    pub const fn length_max(&self) -> usize {
        let username =
            ATTRIBUTE_HEADER_LEN + (self.remote_ufrag.len() + self.local_ufrag.len() + 1).next_multiple_of(4);
        HEADER_LEN + username + 8 + 12 + 4 + TRAILER_LEN
    }
}

/// Writes a Binding request, authenticated with the password of the peer that is asked. Gives its length; 0, and
/// nothing written, if `out` is shorter than [`Check::length_max`].
pub fn write_request(out: &mut [u8], check: &Check<'_>, remote_pwd: &str) -> usize {
    if out.len() < check.length_max() {
        return 0;
    }
    let mut writer = Writer::begin(out, BINDING_REQUEST, check.transaction);
    writer.joined_attribute(USERNAME, [check.remote_ufrag.as_bytes(), b":", check.local_ufrag.as_bytes()]);
    writer.attribute(PRIORITY, &check.priority.to_be_bytes());
    if let Some((tie_breaker, nominates)) = check.controlling {
        writer.attribute(ICE_CONTROLLING, &tie_breaker.to_be_bytes());
        if nominates {
            writer.attribute(USE_CANDIDATE, &[]);
        }
    }
    writer.finish(remote_pwd)
}

struct Attribute<'datagram> {
    kind: u16,
    value: &'datagram [u8],
    /// Where its header begins.
    offset: usize,
}

/// Walks attributes; ends early at one that claims more bytes than there are.
struct Attributes<'datagram> {
    datagram: &'datagram [u8],
    offset: usize,
}

impl<'datagram> Attributes<'datagram> {
    /// `datagram` passed [`is_stun`].
    const fn of(datagram: &'datagram [u8]) -> Self {
        Self { datagram, offset: HEADER_LEN }
    }
}

impl<'datagram> Iterator for Attributes<'datagram> {
    type Item = Attribute<'datagram>;

    fn next(&mut self) -> Option<Attribute<'datagram>> {
        let offset = self.offset;
        let &[kind_high, kind_low, length_high, length_low] = self.datagram.get(offset..)?.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let value = self.datagram.get(offset + ATTRIBUTE_HEADER_LEN..)?.get(..length)?;
        self.offset = offset + ATTRIBUTE_HEADER_LEN + length.next_multiple_of(4);
        Some(Attribute { kind: u16::from_be_bytes([kind_high, kind_low]), value, offset })
    }
}

/// MESSAGE-INTEGRITY at `offset`: over all before it, with the length as if it were the last attribute.
fn integrity(message: &[u8], offset: usize, pwd: &str) -> hmac::Tag {
    let length = (offset + ATTRIBUTE_HEADER_LEN + INTEGRITY_LEN - HEADER_LEN) as u16;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(&message[..2]);
    context.update(&length.to_be_bytes());
    context.update(&message[4..offset]);
    context.sign()
}

/// FINGERPRINT behind `message`, whose header already counts it (RFC 8489, section 14.7).
fn fingerprint(message: &[u8]) -> [u8; 4] {
    let crc = message.iter().fold(u32::MAX, |crc, byte| CRC[usize::from(crc as u8 ^ byte)] ^ (crc >> 8));
    (!crc ^ 0x5354_554e).to_be_bytes()
}

/// CRC-32 of each byte, polynomial of ISO 3309.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Writes into a buffer that its maker found long enough.
struct Writer<'out> {
    out: &'out mut [u8],
    length: usize,
}

impl<'out> Writer<'out> {
    fn begin(out: &'out mut [u8], kind: u16, transaction: Transaction) -> Self {
        out[..2].copy_from_slice(&kind.to_be_bytes());
        out[4..8].copy_from_slice(&COOKIE);
        out[8..HEADER_LEN].copy_from_slice(&transaction.0);
        Self { out, length: HEADER_LEN }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.joined_attribute(kind, [value, &[], &[]]);
    }

    fn joined_attribute(&mut self, kind: u16, parts: [&[u8]; 3]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.put(&kind.to_be_bytes());
        self.put(&(length as u16).to_be_bytes());
        parts.into_iter().for_each(|part| self.put(part));
        self.put(&[0; 3][..length.next_multiple_of(4) - length]);
    }

    fn finish(mut self, pwd: &str) -> usize {
        let integrity = integrity(self.out, self.length, pwd);
        self.attribute(MESSAGE_INTEGRITY, integrity.as_ref());
        let length = (self.length + ATTRIBUTE_HEADER_LEN + 4 - HEADER_LEN) as u16;
        self.out[2..4].copy_from_slice(&length.to_be_bytes());
        let fingerprint = fingerprint(&self.out[..self.length]);
        self.attribute(FINGERPRINT, &fingerprint);
        self.length
    }
}

#[cfg(test)]
mod tests;
