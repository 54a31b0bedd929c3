//! STUN Binding requests as bare as some clients send them (RFC 8489): who answers one has a live ICE session.

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
const HEADER_BYTES: usize = 20;
/// MESSAGE-INTEGRITY with its header.
const INTEGRITY_BYTES: usize = 24;
/// Requests sent to one address before it counts as silent.
const TRIES: usize = 4;
/// How long each one may take.
const WAIT: Duration = Duration::from_millis(400);

/// A Binding request with USERNAME and MESSAGE-INTEGRITY and nothing else: no PRIORITY, no ICE-CONTROLLING.
fn bare_request(transaction: [u8; 12], username: &str, password: &str) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend_from_slice(&BINDING_REQUEST.to_be_bytes());
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(&COOKIE);
    message.extend_from_slice(&transaction);
    attribute(&mut message, USERNAME, username.as_bytes());
    let length = (message.len() - HEADER_BYTES + INTEGRITY_BYTES) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let tag = hmac::sign(&key, &message);
    attribute(&mut message, MESSAGE_INTEGRITY, tag.as_ref());
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&(value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn is_success(datagram: &[u8], transaction: [u8; 12]) -> bool {
    datagram.get(..2) == Some(&BINDING_SUCCESS.to_be_bytes()[..])
        && datagram.get(4..8) == Some(&COOKIE[..])
        && datagram.get(8..HEADER_BYTES) == Some(&transaction[..])
}

/// The addresses of UDP candidates, in order.
pub(crate) fn addresses(candidates: &[String]) -> Vec<SocketAddr> {
    let address = |candidate: &String| {
        let fields: Vec<&str> = candidate.split(' ').collect();
        let is_udp = fields.get(2)?.eq_ignore_ascii_case("udp");
        let address = SocketAddr::new(fields.get(4)?.parse().ok()?, fields.get(5)?.parse().ok()?);
        is_udp.then_some(address)
    };
    candidates.iter().filter_map(address).collect()
}

/// The address that answers a check of the client `ufrag`, if one of the server's does.
pub(crate) async fn answering(server: &IceDescription, ufrag: &str) -> Option<SocketAddr> {
    for address in addresses(&server.candidates).into_iter().take(4) {
        let any: SocketAddr = if address.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let Ok(socket) = UdpSocket::bind(any).await else { continue };
        if socket.connect(address).await.is_ok() && is_answered(&socket, server, ufrag).await {
            return Some(address);
        }
    }
    None
}

async fn is_answered(socket: &UdpSocket, server: &IceDescription, ufrag: &str) -> bool {
    let username = format!("{}:{ufrag}", server.ufrag);
    for _ in 0..TRIES {
        let transaction = random();
        if socket.send(&bare_request(transaction, &username, &server.pwd)).await.is_err() {
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
    fn a_bare_request_is_whole() {
        let request = bare_request([7; 12], "server:client", "password");
        assert_eq!(request.len() % 4, 0);
        assert_eq!(usize::from(u16::from_be_bytes([request[2], request[3]])), request.len() - HEADER_BYTES);
        assert!(!is_success(&request, [7; 12]), "a request is no answer");
    }

    #[test]
    fn udp_candidates_have_addresses() {
        let candidates =
            ["1 1 udp 1 192.0.2.1 5 typ host", "2 1 tcp 1 192.0.2.1 9 typ host", "3 1 UDP 1 ::1 6 typ host"];
        let found = addresses(&candidates.map(str::to_owned));
        assert_eq!(found, ["192.0.2.1:5".parse().expect("address"), "[::1]:6".parse().expect("address")]);
    }
}
