//! Where a peer really is: nothing is sent at length to an address that has not answered a check of ours.

#[allow(dead_code)]
mod pair;

use ice_dtls::{
    Certificate, DatagramError, DtlsRole, FailureReason, HANDSHAKE_DURATION_MAX, Handshake, IceCredentials,
    Output, PATHS_MAX, Path, stun,
};
use pair::{Pair, SERVER, answer, check, config};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

static CERTIFICATES: LazyLock<[Arc<Certificate>; 2]> =
    LazyLock::new(|| [(); 2].map(|()| Arc::new(Certificate::generate().expect("a certificate"))));

fn remote(port: u16) -> Path {
    Path {
        local: SocketAddr::from(([192, 0, 2, 1], 50_000)),
        remote: SocketAddr::from(([198, 51, 100, 1], port)),
    }
}

fn outputs(handshake: &mut Handshake) -> Vec<Output> {
    std::iter::from_fn(|| handshake.poll_output()).collect()
}

/// The checks of ours among them.
fn asks(outputs: &[Output]) -> Vec<(Path, Vec<u8>)> {
    let sent = outputs.iter().filter_map(|output| match output {
        Output::Transmit { path, bytes } => Some((*path, bytes.clone())),
        _ => None,
    });
    sent.filter(|(_, bytes)| stun::BindingRequest::parse(bytes).is_some()).collect()
}

fn selected(outputs: &[Output]) -> Vec<Path> {
    let selected = outputs.iter().filter_map(|output| match output {
        Output::PathSelected(path) => Some(*path),
        _ => None,
    });
    selected.collect()
}

/// A session with keys, and the credentials that its peer's checks are addressed to.
struct Established {
    now: Instant,
    handshake: Handshake,
    credentials: IceCredentials,
    path: Path,
}

impl Established {
    fn new() -> Self {
        let mut pair = Pair::new(&CERTIFICATES);
        pair.establish();
        let (now, path) = (pair.now, pair.path(SERVER));
        let [server, _] = pair.ends;
        Self { now, handshake: server.handshake, credentials: server.credentials, path }
    }

    /// Takes over from a process that had it at the same path.
    fn resumed() -> Self {
        let Self { now, credentials, path, .. } = Self::new();
        let ice = config(&CERTIFICATES[0], &CERTIFICATES[1], DtlsRole::Server, 1).ice;
        Self { now, handshake: Handshake::resumed(ice, path, now), credentials, path }
    }

    fn nominates(&mut self, path: Path) -> Vec<Output> {
        let check = check(&self.credentials, true);
        self.handshake.handle_datagram(self.now, path, &check).expect("an authentic check");
        outputs(&mut self.handshake)
    }
}

#[test]
fn a_nominated_path_is_used_once_the_peer_has_answered_from_there_and_not_before() {
    for mut session in [Established::new(), Established::resumed()] {
        let told = session.nominates(remote(5));
        assert!(selected(&told).is_empty());
        let [(asked, ask)] = &asks(&told)[..] else { panic!("one check of ours") };
        assert_eq!(*asked, remote(5));
        let answer = answer(*asked, ask).expect("a check of ours");

        let (now, path, handshake) = (session.now, session.path, &mut session.handshake);
        let elsewhere = handshake.handle_datagram(now, path, &answer);
        assert_eq!(elsewhere, Err(DatagramError::OtherSession), "from where it was before");
        let mut forged = answer.clone();
        forged[10] ^= 1;
        assert_eq!(handshake.handle_datagram(now, remote(5), &forged), Err(DatagramError::NotAuthentic));
        assert!(outputs(handshake).is_empty());

        assert_eq!(handshake.handle_datagram(now, remote(5), &answer), Ok(()));
        assert_eq!(selected(&outputs(handshake)), [remote(5)]);
        assert_eq!(handshake.poll_timeout(), None, "a session that has moved needs no timer");
    }
}

#[test]
fn an_answer_that_was_guessed_proves_nothing() {
    let mut session = Established::new();
    let told = session.nominates(remote(5));
    let (path, ask) = asks(&told).remove(0);
    // Authentic, since whoever has the session knows the password, but for another transaction.
    let mut other = ask;
    other[8..20].fill(0);
    let transaction = stun::Transaction([0; 12]);
    let mut bytes = vec![0; stun::SUCCESS_LENGTH_MAX];
    let pwd = config(&CERTIFICATES[0], &CERTIFICATES[1], DtlsRole::Server, 1).ice.remote.pwd;
    let length = stun::write_success(&mut bytes, transaction, path.local, &pwd);
    let guessed = session.handshake.handle_datagram(session.now, path, &bytes[..length]);
    assert_eq!(guessed, Err(DatagramError::OtherSession));
    assert!(outputs(&mut session.handshake).is_empty());
}

#[test]
fn a_path_that_was_proved_before_is_used_at_once() {
    let mut session = Established::new();
    let (old, new) = (session.path, remote(5));
    let told = session.nominates(new);
    let (_, ask) = asks(&told).remove(0);
    let answer = answer(new, &ask).expect("a check of ours");
    session.handshake.handle_datagram(session.now, new, &answer).expect("taken");
    outputs(&mut session.handshake);
    let told = session.nominates(old);
    assert_eq!((selected(&told), asks(&told).len()), (vec![old], 0));
}

#[test]
fn a_lost_check_of_ours_is_sent_once_more_and_then_at_the_peers_next() {
    let mut session = Established::new();
    let first = asks(&session.nominates(remote(5)));
    let at = session.handshake.poll_timeout().expect("it will be repeated");
    assert!(at > session.now);
    session.handshake.handle_timeout(at);
    assert_eq!(asks(&outputs(&mut session.handshake)), first, "a repetition is the same message");
    assert_eq!(session.handshake.poll_timeout(), None, "nothing more unless the peer asks again");
    session.now = at + Duration::from_secs(5);
    let check = check(&session.credentials, false);
    session.handshake.handle_datagram(session.now, remote(5), &check).expect("an authentic check");
    let (path, ask) = asks(&outputs(&mut session.handshake)).remove(0);
    let answer = answer(path, &ask).expect("a check of ours");
    session.handshake.handle_datagram(session.now, path, &answer).expect("taken");
    assert_eq!(selected(&outputs(&mut session.handshake)), [remote(5)], "its nomination stands");
}

#[test]
fn however_many_addresses_are_named_checks_of_ours_are_few() {
    let mut session = Established::new();
    let (mut sent, mut checks) = (0, 0);
    let end = session.now + Duration::from_secs(1);
    let mut port = 1;
    while session.now < end {
        checks += 1;
        sent += asks(&session.nominates(remote(port))).len();
        port += 1;
        session.now += Duration::from_millis(1);
        session.handshake.handle_timeout(session.now);
        sent += asks(&outputs(&mut session.handshake)).len();
    }
    assert_eq!(checks, 1000);
    assert!((40..=51).contains(&sent), "{sent} in a second");
    // What is still owed to the last ones.
    while let Some(at) = session.handshake.poll_timeout() {
        session.handshake.handle_timeout(at);
        sent += asks(&outputs(&mut session.handshake)).len();
    }
    assert!(sent <= 51 + 2 * PATHS_MAX, "{sent}");
}

#[test]
fn dtls_waits_for_the_proof_of_its_path_and_only_so_much_of_it() {
    let mut client =
        Handshake::new(config(&CERTIFICATES[1], &CERTIFICATES[0], DtlsRole::Client, 2), Instant::now());
    let own = config(&CERTIFICATES[0], &CERTIFICATES[1], DtlsRole::Server, 1);
    let credentials = own.ice.local.clone();
    let now = Instant::now();
    let mut server = Handshake::new(own, now);
    let theirs = check(&config(&CERTIFICATES[1], &CERTIFICATES[0], DtlsRole::Client, 2).ice.local, true);
    client.handle_datagram(now, remote(1), &theirs).expect("an authentic check");
    let (path, ask) = asks(&outputs(&mut client)).remove(0);
    client.handle_datagram(now, path, &answer(path, &ask).expect("a check of ours")).expect("taken");
    let hello = outputs(&mut client).into_iter().find_map(|output| match output {
        Output::Transmit { bytes, .. } => Some(bytes),
        _ => None,
    });
    let hello = hello.expect("a client speaks first");

    server.handle_datagram(now, remote(1), &check(&credentials, true)).expect("an authentic check");
    let ask = asks(&outputs(&mut server)).remove(0).1;
    assert_eq!(server.handle_datagram(now, remote(1), &hello), Ok(()));
    assert!(outputs(&mut server).is_empty(), "nothing goes to an address that is not proved");
    let mut taken = 0;
    while server.handle_datagram(now, remote(1), &[22; 1400]).is_ok() {
        taken += 1;
        assert!(taken < 10, "it has to end");
    }
    server
        .handle_datagram(now, remote(1), &answer(remote(1), &ask).expect("a check of ours"))
        .expect("taken");
    let flight = outputs(&mut server);
    let is_dtls =
        |output: &&Output| matches!(output, Output::Transmit { bytes, .. } if !stun::is_stun(bytes));
    assert!(flight.iter().filter(is_dtls).count() > 0, "the hello was kept and is answered: {flight:?}");
}

#[test]
fn a_session_whose_peer_answers_nothing_fails_and_says_so() {
    let own = config(&CERTIFICATES[0], &CERTIFICATES[1], DtlsRole::Server, 1);
    let (now, credentials) = (Instant::now(), own.ice.local.clone());
    let mut session = Handshake::new(own, now);
    session.handle_datagram(now, remote(1), &check(&credentials, true)).expect("an authentic check");
    outputs(&mut session);
    session.handle_timeout(now + HANDSHAKE_DURATION_MAX);
    let told = outputs(&mut session);
    assert!(matches!(told.last(), Some(Output::Failed(FailureReason::NoAnswer))), "{told:?}");
}
