//! Datagrams of peers, as far as they get without keys.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ice_dtls::stun::{
    BindingRequest, Check, SUCCESS_LENGTH_MAX, Transaction, verify, write_request, write_success,
};
use ice_dtls::{
    DtlsRole, Handshake, HandshakeConfig, IceConfig, IceCredentials, Output, Path, PeerCredentials, classify,
};
use ingest::Publisher;
use model::NtpTime;
use octets::Reader;

use crate::sdp::{certificate, setup};

const PASSWORD: &str = "aPasswordThatNoSeedHas00";
const OFFER: &str = include_str!("../../signaling/tests/corpus/obs-publisher.sdp");

/// What arrives on a media port.
pub fn stun(bytes: &[u8]) {
    let _ = classify(bytes);
    let Some(request) = BindingRequest::parse(bytes) else { return };
    assert!(!verify(bytes, PASSWORD), "nobody knows the password");
    let check = Check {
        transaction: request.transaction(),
        remote_ufrag: request.local_ufrag(),
        local_ufrag: request.remote_ufrag(),
        priority: 1,
        controlling: Some((2, request.use_candidate())),
    };
    let mut written = vec![0; check.length_max()];
    let length = write_request(&mut written, &check, PASSWORD);
    let written = &written[..length];
    assert!(verify(written, PASSWORD));
    assert_eq!(BindingRequest::parse(written), Some(request));
}

/// One step of a peer.
enum Step<'a> {
    /// Any bytes.
    Datagram(&'a [u8]),
    /// A connectivity check that is authentic: whoever has a session can make one.
    Check,
    /// Time goes on.
    Later(Duration),
}

/// Reads steps until the bytes end.
fn steps(bytes: &[u8]) -> impl Iterator<Item = Step<'_>> {
    let mut input = Reader::new(bytes);
    std::iter::from_fn(move || {
        Some(match input.u8()? % 8 {
            0 => Step::Check,
            1 => Step::Later(Duration::from_millis(input.u8()?.into())),
            _ => Step::Datagram(input.bytes(2048)?),
        })
    })
}

fn check(local: &str, remote: &str, number: u8) -> Vec<u8> {
    let check = Check {
        transaction: Transaction([number; 12]),
        remote_ufrag: local,
        local_ufrag: remote,
        priority: 1,
        controlling: Some((2, true)),
    };
    let mut bytes = vec![0; check.length_max()];
    let length = write_request(&mut bytes, &check, PASSWORD);
    bytes.truncate(length);
    bytes
}

fn addresses() -> (SocketAddr, SocketAddr) {
    (([192, 0, 2, 1], 52_000).into(), ([198, 51, 100, 7], 40_000).into())
}

/// A viewer's way to its keys: checks and DTLS, as server and as client.
pub fn handshake(bytes: &[u8]) {
    for dtls_role in [DtlsRole::Server, DtlsRole::Client] {
        let mut now = Instant::now();
        let (local, remote) = addresses();
        let mut handshake = Handshake::new(
            HandshakeConfig {
                ice: IceConfig {
                    local: IceCredentials::new("ours", PASSWORD).expect("credentials"),
                    remote: PeerCredentials { ufrag: "peer".to_owned(), pwd: PASSWORD.to_owned() },
                    random: [4; 32],
                },
                remote_fingerprint: certificate().fingerprint(),
                certificate: certificate().clone(),
                dtls_role,
            },
            now,
        );
        for step in steps(bytes) {
            let path = Path { local, remote };
            let _ = match step {
                Step::Datagram(datagram) => handshake.handle_datagram(now, path, datagram),
                Step::Check => handshake.handle_datagram(now, path, &check("ours", "peer", 1)),
                Step::Later(time) => {
                    now += time;
                    handshake.handle_timeout(now);
                    Ok(())
                }
            };
            while let Some(output) = handshake.poll_output() {
                match output {
                    Output::Transmit { path, bytes } => {
                        if let Some(answer) = answer(path, &bytes) {
                            let _ = handshake.handle_datagram(now, path, &answer);
                        }
                    }
                    Output::Established { .. } => panic!("nobody has the certificate's key"),
                    Output::PathSelected(_) | Output::Failed(_) | Output::Closed => {}
                }
            }
        }
    }
}

/// What the peer answers to a check; `None` if these bytes are none.
fn answer(path: Path, bytes: &[u8]) -> Option<Vec<u8>> {
    let request = BindingRequest::parse(bytes)?;
    let mut answer = vec![0; SUCCESS_LENGTH_MAX];
    let length = write_success(&mut answer, request.transaction(), path.local, PASSWORD);
    answer.truncate(length);
    Some(answer)
}

/// A publisher's session from its offer on.
pub fn publisher(bytes: &[u8]) {
    let setup = setup();
    let mut now = setup.now;
    let (mut publisher, _) = Publisher::accept(OFFER, setup).expect("an offer of OBS");
    let (local, remote) = addresses();
    let theirs = OFFER.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).expect("credentials");
    for step in steps(bytes) {
        let wallclock = NtpTime::from_bits(1 << 62);
        match step {
            Step::Datagram(datagram) => {
                let _ = publisher.accepts(remote, datagram);
                publisher.handle_datagram(now, wallclock, (remote, local), datagram);
            }
            Step::Check => {
                publisher.handle_datagram(now, wallclock, (remote, local), &check("ours", theirs.trim(), 1));
            }
            Step::Later(time) => {
                now += time;
                publisher.handle_timeout(now);
            }
        }
        while let Some(output) = publisher.poll_output() {
            let is_unearned = matches!(output, ingest::Output::Connected | ingest::Output::Packet(_));
            assert!(!is_unearned, "nobody has the certificate's key");
        }
    }
}
