//! Session descriptions.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ingest::{Identity, Publisher, Setup};
use model::{Codec, Ssrc, Track};
use signaling::sdp::{Attribute, Candidate, Fingerprint, HashAlgorithm, IceCredentials, Session};
use signaling::sdpfrag::Fragment;
use signaling::{ANSWER_BYTES_MAX, whep, whip};

/// An offer: read, written, read again; taken as a viewer's and as a publisher's, as far as a process takes it.
pub fn offer(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(session) = Session::parse(text) else { return };
    let again = Session::parse(&session.to_string()).expect("what we write, we read");
    assert_eq!(session, again);
    for media in &session.media {
        for candidate in media.candidates() {
            assert_eq!(candidate.to_string().parse(), Ok(candidate));
        }
        let _ = (media.simulcast(), media.msid(), media.rids().count(), media.ssrcs().count());
        let _ = (media.extension_maps().count(), media.ssrc_groups("FID").count());
    }
    let layered = whep::Policy { has_choice: true, ..whep::Policy::default() };
    for policy in [whep::Policy::default(), layered] {
        let Ok(accepted) = whep::accept(&session, &policy) else { continue };
        let answer = whep::answer(&accepted, &viewers_answer());
        let answer = Session::parse(&answer).expect("what we answer can be read");
        assert_eq!(answer.media.len(), session.media.len(), "one section for each");
    }
    let _ = whep::counter_offer::accept(&session, &whep::Policy::default());
    // What it offers is on air, too.
    for media in &session.media {
        for map in media.payload_types().filter_map(|payload_type| media.rtpmap(payload_type)) {
            let Some(codec) = Codec::from_encoding_name(map.encoding) else { continue };
            let fmtp = media.fmtp(map.payload_type).unwrap_or_default().into();
            let on_air = vec![Track { codec, fmtp, layers: Vec::new(), was_heard: true }];
            let policy = whep::Policy { on_air, ..whep::Policy::default() };
            let _ = whep::accept(&session, &policy).map_err(|error| error.to_string());
        }
    }
    if let Ok(checked) = whip::check(&session, &whip::Policy::default()) {
        publish(&session, &checked);
    }
}

fn publish(session: &Session, checked: &whip::CheckedOffer) {
    let plain = whip::prepare_offer(session, checked);
    let Ok((_, answer)) = Publisher::accept(&plain, setup()) else { return };
    let candidates = [Candidate::host(0, ([192, 0, 2, 1], 52_000).into())];
    let parameters = whip::AnswerParameters { candidates: &candidates, session_id: 1 };
    if let Ok(answer) = whip::finish_answer(checked, &answer, &parameters) {
        assert!(answer.len() <= ANSWER_BYTES_MAX);
        Session::parse(&answer).expect("what we answer can be read");
    }
}

/// What a publisher's session begins with, but for its offer.
pub(crate) fn setup() -> Setup {
    let certificate = certificate();
    Setup {
        ice: ingest::IceCredentials {
            ufrag: "ours".into(),
            password: "ourPasswordOf22OrMore00".to_owned().into(),
        },
        certificate: ingest::Certificate::new(certificate.certificate_der(), certificate.private_key_der()),
        local_addresses: vec![([192, 0, 2, 1], 52_000).into()],
        identity: Identity([5; 64]),
        now: Instant::now(),
    }
}

/// One for all: a key takes longer to make than most inputs to read.
pub(crate) fn certificate() -> &'static Arc<ice_dtls::Certificate> {
    static CERTIFICATE: OnceLock<Arc<ice_dtls::Certificate>> = OnceLock::new();
    CERTIFICATE.get_or_init(|| Arc::new(ice_dtls::Certificate::generate().expect("a certificate")))
}

fn viewers_answer() -> whep::AnswerParameters<'static> {
    static CANDIDATES: OnceLock<[Candidate; 1]> = OnceLock::new();
    whep::AnswerParameters {
        ice: IceCredentials { ufrag: "ours".into(), pwd: "ourPasswordOf22OrMore00".into() },
        fingerprint: Fingerprint { algorithm: HashAlgorithm::Sha256, bytes: vec![9; 32] },
        candidates: CANDIDATES.get_or_init(|| [Candidate::host(0, ([192, 0, 2, 1], 50_000).into())]),
        audio_ssrc: Ssrc::new(1),
        video_ssrc: Ssrc::new(2),
        video_rtx_ssrc: Ssrc::new(3),
        cname: "cname",
        stream_id: "stream",
        session_id: 1,
    }
}

/// The body of a PATCH.
pub fn fragment(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = Fragment::parse(text);
}

/// The value of `a=fingerprint`: its two readers agree.
pub fn fingerprint(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut session =
        Session::parse("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n")
            .expect("a description");
    session.media[0].attributes = vec![Attribute::with("fingerprint", text)];
    let offered = session.fingerprints(&session.media[0]).pop().map(|offered| offered.to_string());
    let expected = text.parse::<ice_dtls::Fingerprint>().ok().map(|expected| expected.to_string());
    assert_eq!(offered, expected);
    if let Some(written) = expected {
        assert_eq!(written.parse::<ice_dtls::Fingerprint>().map(|again| again.to_string()), Ok(written));
    }
}
