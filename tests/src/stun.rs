//! STUN Binding requests as bare as clients send them, written and read without any of the product's code.

use std::net::{Ipv4Addr, SocketAddr};

use aws_lc_rs::hmac;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const HEADER_BYTES: usize = 20;
/// MESSAGE-INTEGRITY with its header.
const INTEGRITY_BYTES: usize = 24;

/// A Binding request with USERNAME and MESSAGE-INTEGRITY (RFC 8489, section 14.5) and nothing else: no PRIORITY, no
/// ICE-CONTROLLING, no FINGERPRINT. `password` is that of the peer that is asked.
#[must_use]
pub fn bare_request(transaction: [u8; 12], username: &str, password: &str) -> Vec<u8> {
    let mut message = request(transaction, username);
    sign(&mut message, password);
    message
}

/// The same without MESSAGE-INTEGRITY.
#[must_use]
pub fn unsigned_request(transaction: [u8; 12], username: &str) -> Vec<u8> {
    let mut message = request(transaction, username);
    let length = (message.len() - HEADER_BYTES) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    message
}

/// The answer to a Binding request, if `datagram` is one: MESSAGE-INTEGRITY and nothing else. `password` is that of the
/// peer that was asked.
#[must_use]
pub fn bare_success(datagram: &[u8], password: &str) -> Option<Vec<u8>> {
    let is_request = datagram.get(..2)? == BINDING_REQUEST.to_be_bytes() && datagram.get(4..8)? == COOKIE;
    let mut message = is_request.then(|| datagram.get(..HEADER_BYTES))??.to_vec();
    message[..2].copy_from_slice(&BINDING_SUCCESS.to_be_bytes());
    sign(&mut message, password);
    Some(message)
}

fn sign(message: &mut Vec<u8>, password: &str) {
    let length = (message.len() - HEADER_BYTES + INTEGRITY_BYTES) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let tag = hmac::sign(&key, message);
    attribute(message, MESSAGE_INTEGRITY, tag.as_ref());
}

fn request(transaction: [u8; 12], username: &str) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend_from_slice(&BINDING_REQUEST.to_be_bytes());
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(&COOKIE);
    message.extend_from_slice(&transaction);
    attribute(&mut message, USERNAME, username.as_bytes());
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&(value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Where the sender of the request with this transaction was seen, if `datagram` is the success for it (IPv4).
#[must_use]
pub fn mapped_address(datagram: &[u8], transaction: [u8; 12]) -> Option<SocketAddr> {
    let is_success = datagram.get(..2)? == BINDING_SUCCESS.to_be_bytes()
        && datagram.get(4..8)? == COOKIE
        && datagram.get(8..HEADER_BYTES)? == transaction;
    let mut rest = is_success.then(|| &datagram[HEADER_BYTES..])?;
    while let Some((&[kind_high, kind_low, length_high, length_low], value)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        if u16::from_be_bytes([kind_high, kind_low]) == XOR_MAPPED_ADDRESS {
            let &[_, 1, p0, p1, a, b, c, d] = value.first_chunk()? else { return None };
            let port = u16::from_be_bytes([p0 ^ COOKIE[0], p1 ^ COOKIE[1]]);
            let ip = Ipv4Addr::new(a ^ COOKIE[0], b ^ COOKIE[1], c ^ COOKIE[2], d ^ COOKIE[3]);
            return Some(SocketAddr::from((ip, port)));
        }
        rest = value.get(length.next_multiple_of(4)..)?;
    }
    None
}
