//! Two sessions against each other under a virtual clock: loss, reordering, goodbye, and everything that must fail.

#[allow(dead_code)]
mod pair;

use ice_dtls::{
    Certificate, DatagramError, DtlsRole, FailureReason, Fingerprint, HANDSHAKE_DURATION_MAX, Handshake,
    IceCredentials, Output, PATHS_MAX, Path, stun,
};
use pair::{CLIENT, DELAY, Pair, SERVER, answer, check, config};
use proptest::prelude::*;
use srtp::{MasterKey, Profile};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

static CERTIFICATES: LazyLock<[Arc<Certificate>; 2]> =
    LazyLock::new(|| [(); 2].map(|()| Arc::new(Certificate::generate().expect("a certificate"))));

fn bytes(key: &MasterKey) -> Vec<u8> {
    [key.key(), key.salt()].concat()
}

fn assert_keys_agree(pair: &Pair) {
    let [server, client] = &pair.ends;
    assert_eq!(
        (server.told.keys.len(), client.told.keys.len()),
        (1, 1),
        "{:?}",
        (&server.told.failed, &client.told.failed)
    );
    let (server_path, profile, server_receive, server_send) = &server.told.keys[0];
    let (client_path, _, client_receive, client_send) = &client.told.keys[0];
    assert_eq!(*profile, Profile::AeadAes256Gcm, "the server takes GCM although the hello lists AES-CM too");
    assert_eq!((*server_path, *client_path), (pair.path(SERVER), pair.path(CLIENT)));
    assert_eq!(bytes(server_receive), bytes(client_send));
    assert_eq!(bytes(server_send), bytes(client_receive));
    assert_ne!(bytes(server_send), bytes(server_receive));
}

#[test]
fn server_and_client_agree_on_keys_in_two_round_trips() {
    let mut pair = Pair::new(&CERTIFICATES);
    let start = pair.now;
    pair.establish();
    assert_keys_agree(&pair);
    assert_eq!(pair.now - start, 4 * DELAY);
    assert_eq!(pair.ends[SERVER].told.selected, [pair.path(SERVER)]);
    assert_eq!(pair.ends[SERVER].handshake.poll_timeout(), None, "a cold session needs no timer");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_handshake_survives_loss_and_reordering(
        fates in proptest::collection::btree_map(0usize..24, prop_oneof![
            2 => Just(None),
            3 => (1u64..400).prop_map(|delay| Some(Duration::from_millis(delay))),
        ], 0..10),
    ) {
        let mut lost = 0;
        // At most four losses: more in a row than the retransmissions of 15 seconds make up for prove nothing.
        let fates: BTreeMap<usize, Option<Duration>> = fates.into_iter().filter(|(_, fate)| {
            lost += usize::from(fate.is_none());
            fate.is_some() || lost <= 4
        }).collect();
        let mut pair = Pair::new(&CERTIFICATES);
        pair.connect();
        pair.run(|index, _| fates.get(&index).copied().unwrap_or(Some(DELAY)));
        // The first hello was put on its way before the fates applied; all else may have been lost.
        assert_keys_agree(&pair);
    }
}

#[test]
fn a_lost_last_flight_is_sent_again_by_the_cold_session() {
    let mut pair = Pair::new(&CERTIFICATES);
    pair.connect();
    // Hello, server's flight, client's flight; the fourth datagram on is the server's last flight.
    let mut lost = 0;
    pair.run(|index, _| {
        let is_last_flight = index >= 3 && lost < 2;
        lost += usize::from(is_last_flight);
        (!is_last_flight).then_some(DELAY)
    });
    assert!(lost > 0);
    assert_keys_agree(&pair);
}

/// Cuts each handshake message of a plaintext DTLS record into fragments of `size` bytes, one record and datagram each.
fn fragments(record: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (header, message) = record[13..].split_at(12);
    let mut datagrams = Vec::new();
    for (index, piece) in message.chunks(size).enumerate() {
        let mut datagram = record[..5].to_vec();
        datagram.extend((index as u64).to_be_bytes()[2..].iter());
        datagram.extend(((12 + piece.len()) as u16).to_be_bytes());
        datagram.extend(&header[..6]);
        datagram.extend(&((index * size) as u32).to_be_bytes()[1..]);
        datagram.extend(&(piece.len() as u32).to_be_bytes()[1..]);
        datagram.extend(piece);
        datagrams.push(datagram);
    }
    datagrams
}

#[test]
fn a_client_hello_in_fragments_out_of_order_is_answered() {
    let mut pair = Pair::new(&CERTIFICATES);
    let to_server = check(&pair.ends[SERVER].credentials, true);
    pair.deliver(SERVER, &to_server, |_, _| None);
    let mut hello = Vec::new();
    let to_client = check(&pair.ends[CLIENT].credentials, true);
    pair.deliver(CLIENT, &to_client, |_, bytes| {
        hello = bytes.to_vec();
        None
    });
    let mut pieces = fragments(&hello, 25);
    assert!(pieces.len() > 3);
    pieces.reverse();
    for piece in pieces {
        pair.deliver(SERVER, &piece, |_, _| Some(DELAY));
    }
    pair.run(|_, _| Some(DELAY));
    assert_keys_agree(&pair);
}

#[test]
fn closing_tells_the_peer() {
    for (closer, other) in [(SERVER, CLIENT), (CLIENT, SERVER)] {
        let mut pair = Pair::new(&CERTIFICATES);
        pair.establish();
        let now = pair.now;
        pair.ends[closer].handshake.close(now);
        pair.drain(closer, |_, _| Some(DELAY));
        pair.run(|_, _| Some(DELAY));
        assert!(pair.ends[other].told.is_closed);
        let path = pair.path(closer);
        let check = check(&pair.ends[closer].credentials, false);
        let after = pair.ends[closer].handshake.handle_datagram(now, path, &check);
        assert_eq!(after, Err(DatagramError::Over));
    }
}

#[test]
fn closing_an_unfinished_session_says_nothing() {
    let mut pair = Pair::new(&CERTIFICATES);
    pair.connect();
    let (now, sent) = (pair.now, pair.sent);
    pair.ends[SERVER].handshake.close(now);
    pair.drain(SERVER, |_, _| None);
    assert_eq!(pair.sent, sent);
    assert_eq!(pair.ends[SERVER].handshake.poll_timeout(), None);
}

#[test]
fn another_certificate_than_announced_is_refused_by_either_end() {
    let stranger = Certificate::generate().unwrap();
    for (deceived, other) in [(SERVER, CLIENT), (CLIENT, SERVER)] {
        let [server, client] = &*CERTIFICATES;
        let mut configs =
            [config(server, client, DtlsRole::Server, 1), config(client, server, DtlsRole::Client, 2)];
        configs[deceived].remote_fingerprint = stranger.fingerprint();
        let mut pair = Pair::with(configs);
        pair.establish();
        assert_eq!(pair.ends[deceived].told.failed, [FailureReason::FingerprintMismatch]);
        assert!(pair.ends[deceived].told.keys.is_empty());
        assert!(pair.ends[other].told.keys.is_empty(), "the peer gets no keys either");
    }
}

#[test]
fn a_sha_384_fingerprint_is_checked_too() {
    let [server, client] = &*CERTIFICATES;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, client.certificate_der());
    let mut configs =
        [config(server, client, DtlsRole::Server, 1), config(client, server, DtlsRole::Client, 2)];
    configs[SERVER].remote_fingerprint =
        Fingerprint::new(ice_dtls::HashFunction::Sha384, hash.as_ref()).unwrap();
    let mut pair = Pair::with(configs);
    pair.establish();
    assert_keys_agree(&pair);
}

/// One session that is spoken to by hand.
struct Lone {
    now: Instant,
    handshake: Handshake,
    credentials: IceCredentials,
}

fn remote(port: u16) -> Path {
    Path {
        local: SocketAddr::from(([192, 0, 2, 1], 50_000)),
        remote: SocketAddr::from(([198, 51, 100, 1], port)),
    }
}

impl Lone {
    fn new(role: DtlsRole) -> Self {
        let now = Instant::now();
        let config = config(&CERTIFICATES[0], &CERTIFICATES[1], role, 1);
        let credentials = config.ice.local.clone();
        Self { now, handshake: Handshake::new(config, now), credentials }
    }

    fn handle(&mut self, port: u16, bytes: &[u8]) -> Result<(), DatagramError> {
        self.handshake.handle_datagram(self.now, remote(port), bytes)
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.handshake.poll_output()).collect()
    }

    /// The peer checks from there and answers what it is asked; what else there is to do.
    fn meet(&mut self, port: u16, nominates: bool) -> Vec<Output> {
        self.now += Duration::from_millis(100);
        self.handle(port, &check(&self.credentials.clone(), nominates)).expect("an authentic check");
        let mut others = Vec::new();
        while let Some(output) = self.handshake.poll_output() {
            match output {
                Output::Transmit { path, bytes } if stun::is_stun(&bytes) => {
                    if let Some(answer) = answer(path, &bytes) {
                        self.handshake.handle_datagram(self.now, path, &answer).expect("an authentic answer");
                    }
                }
                other => others.push(other),
            }
        }
        others
    }
}

/// The first flight of a client that wants to talk to [`Lone`].
fn client_hello() -> Vec<u8> {
    let mut lone = Lone::new(DtlsRole::Client);
    let hello = |output| match output {
        Output::Transmit { bytes, .. } => Some(bytes),
        _ => None,
    };
    lone.meet(1, false).into_iter().find_map(hello).expect("a client speaks first")
}

#[test]
fn a_check_is_answered_to_where_it_came_from() {
    let mut lone = Lone::new(DtlsRole::Server);
    lone.handle(7, &check(&lone.credentials.clone(), false)).unwrap();
    let outputs = lone.outputs();
    let [Output::Transmit { path: asked, bytes: ask }, Output::Transmit { path, bytes }] = &outputs[..]
    else {
        panic!("a check of ours and an answer")
    };
    assert_eq!((*asked, *path), (remote(7), remote(7)));
    assert!(answer(*asked, ask).is_some());
    assert!(stun::verify(bytes, lone.credentials.pwd()));
}

#[test]
fn nothing_unauthenticated_is_answered() {
    let mut lone = Lone::new(DtlsRole::Server);
    let forged = IceCredentials::new(lone.credentials.ufrag(), &"x".repeat(24)).unwrap();
    let foreign = IceCredentials::new("foreign", lone.credentials.pwd()).unwrap();
    let hello = client_hello();
    assert_eq!(lone.handle(1, &check(&forged, true)), Err(DatagramError::NotAuthentic));
    assert_eq!(lone.handle(1, &check(&foreign, true)), Err(DatagramError::OtherSession));
    assert_eq!(lone.handle(1, &hello), Err(DatagramError::PathNotVerified));
    assert_eq!(lone.handle(1, &[128, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(DatagramError::NotHandshake));
    assert!(lone.outputs().is_empty());

    lone.handle(1, &check(&lone.credentials.clone(), false)).unwrap();
    assert_eq!(lone.handle(2, &hello), Err(DatagramError::PathNotVerified), "another port is another path");
    assert_eq!(lone.outputs().len(), 2, "the answer to the check, and a check of ours");
}

#[test]
fn a_check_from_another_peer_than_the_offer_names_is_refused() {
    let mut config = config(&CERTIFICATES[0], &CERTIFICATES[1], DtlsRole::Server, 1);
    config.ice.remote.ufrag = "somebody".into();
    let (now, credentials) = (Instant::now(), config.ice.local.clone());
    let mut handshake = Handshake::new(config, now);
    let result = handshake.handle_datagram(now, remote(1), &check(&credentials, true));
    assert_eq!(result, Err(DatagramError::OtherSession));
}

#[test]
fn dtls_is_answered_on_a_proved_path_before_nomination() {
    let mut lone = Lone::new(DtlsRole::Server);
    lone.meet(1, false);
    lone.handle(1, &client_hello()).unwrap();
    let outputs = lone.outputs();
    assert!(!outputs.is_empty());
    assert!(
        outputs.iter().all(|output| matches!(output, Output::Transmit { path, .. } if *path == remote(1)))
    );
}

#[test]
fn the_path_nominated_last_is_used() {
    let mut lone = Lone::new(DtlsRole::Server);
    let mut selected = lone.meet(1, false);
    for port in [2, 2, 1] {
        selected.extend(lone.meet(port, true));
    }
    let selected: Vec<Path> = selected
        .into_iter()
        .map(|output| match output {
            Output::PathSelected(path) => path,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(selected, [remote(2), remote(1)]);
    lone.handle(2, &client_hello()).unwrap();
    let outputs = lone.outputs();
    assert!(
        outputs.iter().all(|output| matches!(output, Output::Transmit { path, .. } if *path == remote(1)))
    );
}

#[test]
fn paths_are_forgotten_oldest_first_but_never_the_one_in_use() {
    let mut lone = Lone::new(DtlsRole::Server);
    lone.meet(1, true);
    for port in 2..=PATHS_MAX as u16 + 1 {
        lone.meet(port, false);
    }
    let hello = client_hello();
    assert_eq!(lone.handle(2, &hello), Err(DatagramError::PathNotVerified));
    assert_eq!(lone.handle(1, &hello), Ok(()));
    assert_eq!(lone.handle(3, &hello), Ok(()));
}

#[test]
fn after_an_ice_restart_only_the_new_credentials_count() {
    let mut pair = Pair::new(&CERTIFICATES);
    pair.establish();
    let (now, path) = (pair.now, pair.path(SERVER));
    let old = pair.ends[SERVER].credentials.clone();
    let new = IceCredentials::from_random(&[9; 32]);
    let server = &mut pair.ends[SERVER].handshake;
    server
        .restart_ice(new.clone(), config(&CERTIFICATES[0], &CERTIFICATES[1], DtlsRole::Server, 1).ice.remote);
    assert_eq!(server.handle_datagram(now, path, &check(&old, true)), Err(DatagramError::OtherSession));
    assert_eq!(server.handle_datagram(now, remote(5), &check(&new, true)), Ok(()));
    let Some(Output::Transmit { path: asked, bytes: ask }) = server.poll_output() else { panic!("asked") };
    let answer = answer(asked, &ask).expect("a check of ours");
    assert_eq!(server.handle_datagram(now, remote(5), &answer), Ok(()));
    let outputs: Vec<Output> = std::iter::from_fn(|| server.poll_output()).collect();
    assert!(
        matches!(outputs[..], [Output::Transmit { .. }, Output::PathSelected(path)] if path == remote(5))
    );
    server.close(now);
    let goodbye = server.poll_output();
    assert!(
        matches!(goodbye, Some(Output::Transmit { path, .. }) if path == remote(5)),
        "DTLS went on and moved"
    );
}

#[test]
fn a_session_that_nobody_checks_fails_in_time() {
    let mut lone = Lone::new(DtlsRole::Server);
    let start = lone.now;
    assert_eq!(lone.handshake.poll_timeout(), Some(start + HANDSHAKE_DURATION_MAX));
    lone.handshake.handle_timeout(start + HANDSHAKE_DURATION_MAX);
    assert!(matches!(lone.outputs()[..], [Output::Failed(FailureReason::NoCheck)]));
    assert_eq!(lone.handshake.poll_timeout(), None);
}

#[test]
fn a_handshake_that_never_completes_fails_in_time() {
    for role in [DtlsRole::Server, DtlsRole::Client] {
        let mut lone = Lone::new(role);
        let start = lone.now;
        lone.meet(1, true);
        if role == DtlsRole::Server {
            lone.handle(1, &client_hello()).unwrap();
        }
        lone.outputs();
        let mut sent = 0;
        let mut failed = None;
        while let Some(at) = lone.handshake.poll_timeout() {
            lone.now = at;
            lone.handshake.handle_timeout(at);
            for output in lone.outputs() {
                match output {
                    Output::Transmit { .. } => sent += 1,
                    Output::Failed(reason) => failed = Some(reason),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(failed, Some(FailureReason::DtlsTimedOut), "{role:?}");
        assert!(lone.now - start <= HANDSHAKE_DURATION_MAX);
        assert!((4..20).contains(&sent), "{sent} datagrams sent again as {role:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_or_stop_an_established_session(
        garbage in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..20),
        first in prop_oneof![Just(20u8), Just(21), Just(22), Just(23), any::<u8>()],
    ) {
        static ESTABLISHED: LazyLock<std::sync::Mutex<Pair>> = LazyLock::new(|| {
            let mut pair = Pair::new(&CERTIFICATES);
            pair.establish();
            pair.into()
        });
        let mut pair = ESTABLISHED.lock().unwrap();
        for bytes in garbage {
            // A record header that fits its datagram, so that the bytes get further than to its parser.
            let mut record = vec![first, 0xfe, 0xfd, 0, bytes.len() as u8 & 1, 0, 0, 0, 0, 1, 0, 0, bytes.len() as u8];
            record.extend(&bytes);
            pair.deliver(SERVER, &bytes, |_, _| None);
            pair.deliver(SERVER, &record, |_, _| None);
        }
        prop_assert!(pair.ends[SERVER].told.failed.is_empty(), "{:?}", pair.ends[SERVER].told.failed);
        prop_assert!(!pair.ends[SERVER].told.is_closed);
    }

    #[test]
    fn no_bytes_panic_during_a_handshake(
        garbage in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..20),
        kind in 20u8..24, message in 0u8..24,
    ) {
        for role in [DtlsRole::Server, DtlsRole::Client] {
            let mut lone = Lone::new(role);
            lone.meet(1, true);
            for bytes in &garbage {
                let length = bytes.len() as u8;
                let mut record = vec![kind, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, length + 12];
                record.extend([message, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length]);
                record.extend(bytes);
                let _ = lone.handle(1, &record);
                let _ = lone.handle(1, bytes);
            }
            let is_established = lone.outputs().iter().any(|output| matches!(output, Output::Established { .. }));
            prop_assert!(!is_established);
        }
    }
}
