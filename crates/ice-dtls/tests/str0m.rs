//! A complete WebRTC stack as the peer, in memory: its ICE finds us, its DTLS agrees with us, and each opens what the
//! other seals.

#[allow(dead_code)]
mod pair;

use ice_dtls::{
    Certificate, Datagram, DatagramError, DtlsRole, Fingerprint, Handshake, HandshakeConfig, IceConfig,
    IceCredentials, Output, Path, PeerCredentials, classify,
};
use model::SeqNo;
use srtp::{MasterKey, Profile, RtcpKey, RtpKey};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use str0m::config::DtlsVersion;
use str0m::media::{KeyframeRequestKind, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpPacket;
use str0m::{Candidate, Event, Input, Rtc, RtcConfig};

const SSRC: u32 = 0x1234_5678;
const VP8: u8 = 96;
const STEP: Duration = Duration::from_millis(5);

struct Established {
    profile: Profile,
    receive: MasterKey,
    send: MasterKey,
}

/// Our session and str0m, connected by a network without delay.
struct Session {
    now: Instant,
    peer: Rtc,
    peer_address: SocketAddr,
    handshake: Handshake,
    local: SocketAddr,
    established: Option<Established>,
    selected: Vec<Path>,
    is_closed: bool,
    /// What str0m sent that is neither STUN nor DTLS.
    media: Vec<Vec<u8>>,
    received: Vec<RtpPacket>,
}

impl Session {
    fn new(version: DtlsVersion, our_role: DtlsRole) -> Self {
        let now = Instant::now();
        let (local, peer_address) =
            (SocketAddr::from(([192, 0, 2, 1], 50_000)), SocketAddr::from(([192, 0, 2, 2], 40_000)));
        let mut peer = RtcConfig::new().set_rtp_mode(true).set_dtls_version(version).build(now);
        peer.add_local_candidate(Candidate::host(peer_address, "udp").expect("a candidate"));
        peer.add_remote_candidate(Candidate::host(local, "udp").expect("a candidate"));
        let credentials = IceCredentials::from_random(&[3; 32]);
        let certificate = Arc::new(Certificate::generate().expect("a certificate"));
        let mut api = peer.direct_api();
        let peer_fingerprint: Fingerprint =
            api.local_dtls_fingerprint().to_string().parse().expect("a fingerprint");
        let str0m::ice::IceCreds { ufrag, pass } = api.local_ice_credentials();
        api.set_ice_controlling(true);
        api.set_remote_ice_credentials(str0m::ice::IceCreds {
            ufrag: credentials.ufrag().to_owned(),
            pass: credentials.pwd().to_owned(),
        });
        api.set_remote_fingerprint(certificate.fingerprint().to_string().parse().expect("a fingerprint"));
        api.start_dtls(our_role == DtlsRole::Server).expect("DTLS starts");
        api.declare_media("vid".into(), MediaKind::Video);
        api.expect_stream_rx(SSRC.into(), None, "vid".into(), None);
        let config = HandshakeConfig {
            ice: IceConfig {
                local: credentials,
                remote: PeerCredentials { ufrag, pwd: pass },
                random: [5; 32],
            },
            remote_fingerprint: peer_fingerprint,
            certificate,
            dtls_role: our_role,
        };
        Self {
            now,
            peer,
            peer_address,
            handshake: Handshake::new(config, now),
            local,
            established: None,
            selected: Vec::new(),
            is_closed: false,
            media: Vec::new(),
            received: Vec::new(),
        }
    }

    fn give_peer(&mut self, bytes: &[u8]) {
        let receive = Receive {
            proto: Protocol::Udp,
            source: self.local,
            destination: self.peer_address,
            contents: bytes.try_into().expect("a datagram that str0m knows"),
        };
        self.peer.handle_input(Input::Receive(self.now, receive)).expect("str0m goes on");
    }

    fn drain_ours(&mut self) {
        while let Some(output) = self.handshake.poll_output() {
            match output {
                Output::Transmit { path, bytes } => {
                    assert_eq!(path, Path { local: self.local, remote: self.peer_address });
                    self.give_peer(&bytes);
                    self.drain_peer();
                }
                Output::PathSelected(path) => self.selected.push(path),
                Output::Established { profile, receive, send, .. } => {
                    self.established = Some(Established { profile, receive, send });
                }
                Output::Failed(reason) => panic!("{reason}"),
                Output::Closed => self.is_closed = true,
            }
        }
    }

    /// Moves what str0m sends; it must be drained after every input.
    fn drain_peer(&mut self) {
        loop {
            match self.peer.poll_output().expect("str0m goes on") {
                str0m::Output::Transmit(transmit) => match classify(&transmit.contents) {
                    Datagram::Stun | Datagram::Dtls => {
                        let path = Path { local: transmit.destination, remote: transmit.source };
                        let taken = self.handshake.handle_datagram(self.now, path, &transmit.contents);
                        assert!(matches!(taken, Ok(()) | Err(DatagramError::Over)), "{taken:?}");
                    }
                    Datagram::Rtp | Datagram::Rtcp | Datagram::Unknown => {
                        self.media.push(transmit.contents.to_vec())
                    }
                },
                str0m::Output::Event(Event::RtpPacket(packet)) => self.received.push(packet),
                str0m::Output::Event(_) => {}
                str0m::Output::Timeout(_) => return,
            }
        }
    }

    /// Lets up to a minute pass, until `done`.
    fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..12_000 {
            self.peer.handle_input(Input::Timeout(self.now)).expect("str0m goes on");
            self.drain_peer();
            self.handshake.handle_timeout(self.now);
            self.drain_ours();
            if done(self) {
                return;
            }
            self.now += STEP;
        }
        panic!("nothing happens");
    }

    fn establish(&mut self) -> Established {
        self.run_until(|session| session.established.is_some());
        assert_eq!(self.selected, [Path { local: self.local, remote: self.peer_address }]);
        self.established.take().expect("just seen")
    }

    /// Seals a packet under our key, gives it to str0m and returns what it read.
    fn send_media(&mut self, key: &RtpKey, seq_no: SeqNo, payload: &[u8]) -> Option<RtpPacket> {
        let mut header = vec![0x80, 0x80 | VP8];
        header.extend(seq_no.seq().to_be_bytes());
        header.extend(90_000u32.to_be_bytes());
        header.extend(SSRC.to_be_bytes());
        let mut sealed = vec![0; header.len() + payload.len() + 16];
        let length = key.seal(&header, payload, seq_no, &mut sealed).expect("room");
        self.give_peer(&sealed[..length]);
        self.drain_peer();
        self.received.pop()
    }
}

fn media_flows_both_ways(version: DtlsVersion, our_role: DtlsRole) {
    let mut session = Session::new(version, our_role);
    let Established { profile, receive, send } = session.establish();
    assert_eq!(profile, Profile::AeadAes256Gcm);

    let key = RtpKey::derive(&send).expect("a key");
    for (index, payload) in
        [(65_534u64, &b"\x10 one"[..]), (65_535, b"\x10 two"), (65_536, b"\x10 past the rollover")]
    {
        let read = session.send_media(&key, SeqNo::new(index), payload).expect("str0m opens it");
        assert_eq!(*read.payload, *payload);
        assert_eq!(read.header.sequence_number, index as u16);
    }
    let wrong = RtpKey::derive(&receive).expect("a key");
    assert!(session.send_media(&wrong, SeqNo::new(65_537), b"\x10 forged").is_none());

    session.media.clear();
    let mut api = session.peer.direct_api();
    api.stream_rx(&SSRC.into()).expect("declared").request_keyframe(KeyframeRequestKind::Pli);
    session.run_until(|session| !session.media.is_empty());
    let rtcp_key = RtcpKey::derive(&receive).expect("a key");
    let mut packet = session.media.remove(0);
    assert_eq!(classify(&packet), Datagram::Rtcp);
    let (length, _index) = rtcp_key.open_in_place(&mut packet).expect("str0m's RTCP opens");
    // A PLI (RFC 4585, section 6.3.1) about our stream, somewhere in the compound packet.
    let is_pli = |part: &[u8]| part[..4] == [0x81, 206, 0, 2] && part[8..] == SSRC.to_be_bytes();
    assert!(packet[..length].windows(12).any(is_pli), "{:02x?}", &packet[..length]);
}

#[test]
fn str0m_as_dtls_client_plays_what_we_seal() {
    media_flows_both_ways(DtlsVersion::Dtls12, DtlsRole::Server);
}

#[test]
fn a_hello_that_also_offers_dtls_1_3_is_answered() {
    media_flows_both_ways(DtlsVersion::Auto, DtlsRole::Server);
}

#[test]
fn str0m_as_dtls_server_plays_what_we_seal() {
    media_flows_both_ways(DtlsVersion::Dtls12, DtlsRole::Client);
    media_flows_both_ways(DtlsVersion::Auto, DtlsRole::Client);
}

#[test]
fn closing_disconnects_str0m() {
    let mut session = Session::new(DtlsVersion::Dtls12, DtlsRole::Server);
    session.establish();
    let now = session.now;
    session.handshake.close(now);
    session.drain_ours();
    assert!(!session.peer.is_alive() || !session.peer.is_connected(), "str0m ends at the goodbye");
}
