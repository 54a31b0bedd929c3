//! STUN Binding requests, whole or as bare as some clients send them (RFC 8489): who answers one has a live ICE session.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::hmac;
use client::IceDescription;
use tokio::net::UdpSocket;

use crate::offer::random;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const PRIORITY: u16 = 0x0024;
const ICE_CONTROLLING: u16 = 0x802a;
const FINGERPRINT: u16 = 0x8028;
const FINGERPRINT_MASK: u32 = 0x5354_554e;
/// What a peer-reflexive candidate of a single address has (RFC 8445, section 5.1.2).
const PEER_REFLEXIVE: u32 = 0x6eff_ffff;
/// What every message begins with.
pub(crate) const HEADER_BYTES: usize = 20;
/// MESSAGE-INTEGRITY with its header.
const INTEGRITY_BYTES: usize = 24;
/// FINGERPRINT with its header.
const FINGERPRINT_BYTES: usize = 8;
/// Requests sent to one address before it counts as silent.
const TRIES: usize = 4;
/// How long each one may take.
const WAIT: Duration = Duration::from_millis(400);

/// What a check carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// USERNAME and MESSAGE-INTEGRITY and nothing else.
    Bare,
    /// What RFC 8445 demands: PRIORITY, a role and FINGERPRINT, too. It nominates nothing.
    Whole,
}

/// A Binding request of the user `username` (both ufrags).
pub(crate) fn request(transaction: [u8; 12], (username, password): (&str, &str), manner: Manner) -> Vec<u8> {
    let mut message = open_request(transaction);
    attribute(&mut message, USERNAME, username.as_bytes());
    if manner == Manner::Whole {
        attribute(&mut message, PRIORITY, &PEER_REFLEXIVE.to_be_bytes());
        attribute(&mut message, ICE_CONTROLLING, &u64::MAX.to_be_bytes());
    }
    set_length(&mut message, INTEGRITY_BYTES);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let tag = hmac::sign(&key, &message);
    attribute(&mut message, MESSAGE_INTEGRITY, tag.as_ref());
    if manner == Manner::Whole {
        set_length(&mut message, FINGERPRINT_BYTES);
        let fingerprint = crc32(&message) ^ FINGERPRINT_MASK;
        attribute(&mut message, FINGERPRINT, &fingerprint.to_be_bytes());
    }
    message
}

/// The length of a message counts the attribute that is to come.
fn set_length(message: &mut [u8], coming: usize) {
    let length = (message.len() - HEADER_BYTES + coming) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// ITU V.42, as FINGERPRINT wants it (RFC 8489, section 14.7).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    let fold = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(u32::MAX, fold)
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&(value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Whether this answers the request of that transaction.
pub(crate) fn is_success(datagram: &[u8], transaction: [u8; 12]) -> bool {
    datagram.get(..2) == Some(&BINDING_SUCCESS.to_be_bytes()[..])
        && datagram.get(4..8) == Some(&COOKIE[..])
        && datagram.get(8..HEADER_BYTES) == Some(&transaction[..])
}

/// A Binding request that asks for nothing but the address it came from.
pub(crate) fn open_request(transaction: [u8; 12]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_BYTES);
    message.extend_from_slice(&BINDING_REQUEST.to_be_bytes());
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(&COOKIE);
    message.extend_from_slice(&transaction);
    message
}

/// The value of an `a=candidate` line for an address.
pub(crate) fn candidate(address: SocketAddr) -> String {
    format!("1 1 udp 2130706431 {} {} typ host", address.ip(), address.port())
}

/// The addresses of UDP candidates, in order.
pub(crate) fn addresses(candidates: &[String]) -> Vec<SocketAddr> {
    candidates.iter().filter_map(|candidate| address_of(candidate, "udp")).collect()
}

/// The addresses of TCP candidates that wait to be connected to, in order.
pub(crate) fn tcp_addresses(candidates: &[String]) -> Vec<SocketAddr> {
    let passive = candidates.iter().filter(|candidate| candidate.contains(" tcptype passive"));
    passive.filter_map(|candidate| address_of(candidate, "tcp")).collect()
}

fn address_of(candidate: &str, transport: &str) -> Option<SocketAddr> {
    let fields: Vec<&str> = candidate.split(' ').collect();
    let is_it = fields.get(2)?.eq_ignore_ascii_case(transport);
    let address = SocketAddr::new(fields.get(4)?.parse().ok()?, fields.get(5)?.parse().ok()?);
    is_it.then_some(address)
}

/// The address that answers a check of the client `ufrag`, if one of the server's does.
pub(crate) async fn answering(server: &IceDescription, ufrag: &str, manner: Manner) -> Option<SocketAddr> {
    for address in addresses(&server.candidates).into_iter().take(4) {
        let any: SocketAddr = if address.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let Ok(socket) = UdpSocket::bind(any).await else { continue };
        // Connected, the socket hears that a port is closed.
        if socket.connect(address).await.is_ok()
            && is_answered(&socket, address, (server, ufrag), manner).await
        {
            return Some(address);
        }
    }
    None
}

/// Whether `address` of the server answers a check of the client `ufrag` from this socket.
pub(crate) async fn is_answered(
    socket: &UdpSocket,
    address: SocketAddr,
    (server, ufrag): (&IceDescription, &str),
    manner: Manner,
) -> bool {
    let username = format!("{}:{ufrag}", server.ufrag);
    for _ in 0..TRIES {
        let transaction = random();
        let check = request(transaction, (&username, &server.pwd), manner);
        if socket.send_to(&check, address).await.is_err() {
            tokio::time::sleep(WAIT).await;
            continue;
        }
        let success = async {
            let mut buffer = [0; 2048];
            loop {
                match socket.recv(&mut buffer).await {
                    Ok(length) if is_success(&buffer[..length], transaction) => return true,
                    Ok(_other) => {}
                    // The port is closed.
                    Err(_) => return false,
                }
            }
        };
        if tokio::time::timeout(WAIT, success).await == Ok(true) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_length_that_they_say() {
        for manner in [Manner::Bare, Manner::Whole] {
            let request = request([7; 12], ("server:client", "password"), manner);
            assert_eq!(request.len() % 4, 0);
            let said = usize::from(u16::from_be_bytes([request[2], request[3]]));
            assert_eq!(said, request.len() - HEADER_BYTES, "{manner:?}");
            assert!(!is_success(&request, [7; 12]), "a request is no answer");
        }
    }

    #[test]
    fn a_whole_request_is_one_for_an_ice_agent() {
        let request = request([7; 12], ("server:client", "password"), Manner::Whole);
        let parsed = str0m::ice::StunMessage::parse(&request).expect("a STUN message");
        assert!(parsed.is_binding_request());
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the check value of this CRC");
    }

    #[test]
    fn udp_candidates_have_addresses() {
        let candidates =
            ["1 1 udp 1 192.0.2.1 5 typ host", "2 1 tcp 1 192.0.2.1 9 typ host", "3 1 UDP 1 ::1 6 typ host"];
        let passive = "4 1 tcp 1 192.0.2.1 8 typ host tcptype passive".to_owned();
        assert_eq!(tcp_addresses(&[passive]), ["192.0.2.1:8".parse().expect("address")]);
        assert!(tcp_addresses(&candidates.map(str::to_owned)).is_empty());
        let found = addresses(&candidates.map(str::to_owned));
        assert_eq!(found, ["192.0.2.1:5".parse().expect("address"), "[::1]:6".parse().expect("address")]);
    }
}
