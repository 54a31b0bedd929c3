//! Memory stays bounded under a flood. Alone in its process, because it looks at the process's resident memory.

#[allow(dead_code)]
mod pair;

use ice_dtls::{Certificate, Path};
use pair::{DELAY, Pair, SERVER, check};
use std::net::SocketAddr;
use std::sync::Arc;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split_whitespace().nth(1).expect("resident pages").parse().expect("a number");
    pages * 4096
}

/// Pseudo-random bytes that start like DTLS, SRTP or a check, or like nothing.
fn garbage(state: &mut u64, length: usize) -> Vec<u8> {
    let mut step = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as u8
    };
    let mut bytes: Vec<u8> = (0..length).map(|_| step()).collect();
    let header =
        [[22, 0xfe, 0xfd, 0], [23, 0xfe, 0xfd, 0], [128, 96, 0, 0], [0, 1, 0, 0]][usize::from(step() & 3)];
    bytes[..4].copy_from_slice(&header);
    bytes[11..13].copy_from_slice(&((length - 13) as u16).to_be_bytes());
    bytes
}

/// Sends to the server from ever new paths: garbage, then a check that verifies and nominates the path, then, if
/// `is_peer_mad`, garbage on that verified path.
fn flood(pair: &mut Pair, state: &mut u64, count: u16, is_peer_mad: bool) {
    let nominating = check(&pair.ends[SERVER].credentials, true);
    let (now, local) = (pair.now, pair.ends[SERVER].address);
    for port in 1..count {
        let path = Path { local, remote: SocketAddr::from(([198, 51, 100, (port & 63) as u8], port)) };
        let handshake = &mut pair.ends[SERVER].handshake;
        let _ = handshake.handle_datagram(now, path, &garbage(state, 200));
        let _ = handshake.handle_datagram(now, path, &nominating);
        if is_peer_mad {
            let _ = handshake.handle_datagram(now, path, &garbage(state, 200));
        }
        while handshake.poll_output().is_some() {}
    }
}

#[test]
fn a_flood_keeps_memory_bounded_and_one_of_strangers_keeps_the_session_alive() {
    let certificates = [(); 2].map(|()| Arc::new(Certificate::generate().expect("a certificate")));
    let mut state = 1;
    for is_peer_mad in [false, true] {
        let mut pair = Pair::new(&certificates);
        flood(&mut pair, &mut state, 1000, is_peer_mad);
        let before = resident_bytes();
        for _ in 0..4 {
            flood(&mut pair, &mut state, 20_000, is_peer_mad);
        }
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 1 << 20, "{grown} bytes more");
        if !is_peer_mad {
            pair.connect();
            pair.run(|_, _| Some(DELAY));
            assert_eq!(pair.ends[SERVER].told.keys.len(), 1);
        }
    }
}
