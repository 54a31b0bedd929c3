//! Reading and writing session descriptions.

mod offers;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use signaling::sdp::{
    self, Attribute, Candidate, CandidateKind, Connection, Direction, HashAlgorithm, Media, ParseError,
    RidDirection, Session, Setup,
};

fn word() -> impl Strategy<Value = String> {
    "[A-Za-z0-9.+_-]{1,12}"
}

fn attribute() -> impl Strategy<Value = Attribute> {
    // A value has no line ends and no space around it; colons and spaces within it are fine.
    let value = proptest::option::of("|[!-~]{1,5}|[!-~][ -~]{0,30}[!-~]");
    ("[a-z-]{1,16}", value).prop_map(|(name, value)| Attribute { name, value })
}

fn connection() -> impl Strategy<Value = Option<Connection>> {
    let address = prop_oneof![
        any::<Ipv4Addr>().prop_map(IpAddr::from),
        any::<Ipv6Addr>().prop_map(IpAddr::from),
        any::<u8>().prop_map(|last| [239, 1, 2, last].into()),
    ];
    let named = address.prop_filter("an address", |address| !address.is_unspecified());
    proptest::option::of(named.prop_map(|address| Connection { address }))
}

fn media() -> impl Strategy<Value = Media> {
    let formats = proptest::collection::vec(word(), 1..10);
    let attributes = proptest::collection::vec(attribute(), 0..12);
    (word(), any::<u16>(), word(), formats, connection(), attributes).prop_map(
        |(kind, port, protocol, formats, connection, attributes)| Media {
            kind,
            port,
            protocol,
            formats,
            connection,
            attributes,
        },
    )
}

fn session() -> impl Strategy<Value = Session> {
    let origin = (word(), any::<u64>(), any::<u32>())
        .prop_map(|(user, id, version)| format!("{user} {id} {version} IN IP4 127.0.0.1"));
    let attributes = proptest::collection::vec(attribute(), 0..8);
    let media = proptest::collection::vec(media(), 0..5);
    (origin, word(), connection(), attributes, media).prop_map(
        |(origin, name, connection, attributes, media)| Session {
            origin,
            name,
            connection,
            attributes,
            media,
        },
    )
}

/// Texts that resemble descriptions, so that the parser is entered deeply.
fn resembling() -> impl Strategy<Value = String> {
    let line = "(v=0|o=- 1 1 IN IP4 0|s=-|m=(audio|video) [0-9]{1,6} [A-Z/]{1,9}( [0-9]{1,4}){0,3}\
        |a=(group|mid|rtpmap|fmtp|rtcp-fb|extmap|rid|simulcast|ssrc|ssrc-group|candidate|fingerprint|setup|msid)\
        (:[ -~]{0,30})?|[ -~]{0,20}|\u{e4}{0,3})(\r\n|\n|\r)";
    proptest::collection::vec(line, 0..20)
        .prop_map(|lines| format!("v=0\no=- 1 1 IN IP4 0\n{}", lines.concat()))
}

/// Reads everything that can be read.
fn touch(session: &Session) -> usize {
    let mut count = session.group("BUNDLE").map_or(0, |mids| mids.len());
    for media in &session.media {
        count += session.ice_options(media).len() + session.fingerprints(media).len();
        count += usize::from(session.ice_credentials(media).is_some_and(|ice| ice.is_well_formed()));
        count += usize::from(session.direction(media) == Direction::SendRecv);
        count += usize::from(session.setup(media) == Some(Setup::ActPass));
        count += media.rids().count() + media.ssrcs().count() + media.ssrc_groups("FID").count();
        count += media.candidates().count() + media.extension_maps().count();
        count += usize::from(media.simulcast().is_some()) + usize::from(media.msid().is_some());
        for payload_type in media.payload_types() {
            count +=
                usize::from(media.rtpmap(payload_type).is_some()) + media.rtcp_feedback(payload_type).count();
            count += media.fmtp(payload_type).map_or(0, str::len);
        }
    }
    count
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(session in session()) {
        let text = session.to_string();
        prop_assert_eq!(Session::parse(&text), Ok(session.clone()));
        prop_assert_eq!(Session::parse(&text.replace("\r\n", "\n")), Ok(session));
    }

    #[test]
    fn w03_no_text_panics(text in prop_oneof![resembling(), any::<String>()]) {
        if let Ok(session) = Session::parse(&text) {
            touch(&session);
            let _ = signaling::whip::check(&session, &signaling::whip::Policy::default());
            let _ = signaling::whep::accept(&session, &signaling::whep::Policy::default());
        }
    }

    #[test]
    fn w03_a_real_offer_cut_or_damaged_anywhere_does_not_panic(
        offer in 0..offers::PUBLISHERS.len(), cut in 0usize..8000, damage in "[ -~]{0,3}", at in 0usize..8000,
    ) {
        let (_, text) = offers::PUBLISHERS[offer];
        let mut text = text[..cut.min(text.len())].to_owned();
        text.insert_str(at.min(text.len()), &damage);
        if let Ok(session) = Session::parse(&text) {
            touch(&session);
            if let Ok(checked) = signaling::whip::check(&session, &signaling::whip::Policy::default()) {
                let prepared = signaling::whip::prepare_offer(&session, &checked);
                prop_assert!(Session::parse(&prepared).is_ok());
            }
        }
    }

    #[test]
    fn a_candidate_round_trips(index in 0u16..100, port: u16, ip: std::net::IpAddr) {
        let candidate = Candidate::host(index, (ip, port).into());
        prop_assert_eq!(candidate.to_string().parse(), Ok(candidate));
    }
}

#[test]
fn every_offer_of_the_corpus_is_read_with_either_line_end() {
    for (name, text) in offers::PUBLISHERS.into_iter().chain(offers::VIEWERS) {
        let session = Session::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(Session::parse(&offers::text(name)).as_ref(), Ok(&session), "{name}");
        assert!(touch(&session) > 20, "{name}");
    }
}

#[test]
fn w03_what_is_no_description_is_refused_with_the_line() {
    let head = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n";
    let parse = |rest: &str| Session::parse(&format!("{head}{rest}")).expect_err("refused");
    assert_eq!(Session::parse(""), Err(ParseError::Version));
    assert_eq!(Session::parse("{\"sdp\":1}"), Err(ParseError::Version));
    assert_eq!(Session::parse("v=0\r\n"), Err(ParseError::OriginMissing));
    assert_eq!(Session::parse("v=0\r\no=- x 1 IN IP4 0\r\n"), Err(ParseError::Origin { line: 2 }));
    assert_eq!(parse("hello\r\n"), ParseError::Line { line: 3 });
    assert_eq!(parse("a=\r\n"), ParseError::Line { line: 3 });
    assert_eq!(parse("s=-\r\nm=audio nine RTP/AVP 0\r\n"), ParseError::Media { line: 4 });
    assert_eq!(parse("m=audio 9 RTP/AVP\r\n"), ParseError::Media { line: 3 });
    assert_eq!(parse("a=x\u{0}y\r\n"), ParseError::ControlCharacter { line: 3 });
}

#[test]
fn w03_every_limit_holds() {
    let head = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n";
    let many = |line: &str, count: usize| Session::parse(&format!("{head}{}", line.repeat(count)));
    assert!(many("m=audio 9 X 0\r\n", sdp::MEDIA_MAX).is_ok());
    assert_eq!(many("m=audio 9 X 0\r\n", sdp::MEDIA_MAX + 1), Err(ParseError::TooManyMedia));
    assert!(many("a=x\r\n", sdp::ATTRIBUTES_MAX).is_ok());
    assert_eq!(many("a=x\r\n", sdp::ATTRIBUTES_MAX + 1), Err(ParseError::TooManyAttributes));
    let formats = " 0".repeat(sdp::FORMATS_MAX + 1);
    assert_eq!(many(&format!("m=audio 9 X{formats}\r\n"), 1), Err(ParseError::Media { line: 3 }));
    let bytes = head.len() + 6 * 20_000;
    assert_eq!(many("i=abc\n", 20_000), Err(ParseError::TooLong { bytes }));
}

#[test]
fn typed_access_finds_what_chromium_writes() {
    let session = offers::parsed("chromium-publisher");
    let video = &session.media[1];
    assert_eq!(session.group("BUNDLE"), Some(vec!["0", "1"]));
    assert_eq!((video.mid(), session.direction(video)), (Some("1"), Direction::SendOnly));
    let map = video.rtpmap(109).expect("mapped");
    assert_eq!((map.encoding, map.clock_rate, map.channels), ("H264", 90_000, 1));
    assert_eq!(
        video.fmtp(109),
        Some("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
    );
    let feedback: Vec<&str> = video.rtcp_feedback(96).collect();
    assert_eq!(feedback, ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"]);
    assert_eq!(video.ssrc_groups("FID").collect::<Vec<_>>(), [vec![3_391_472_215, 902_817_364]]);
    assert_eq!(video.ssrcs().filter(|line| line.name == "cname").count(), 2);
    assert_eq!(video.msid(), Some(("7f0e0b4a-stream", Some("4e5f6a7b-video"))));
    assert_eq!(session.ice_options(video), ["trickle"]);
    assert_eq!(session.setup(video), Some(Setup::ActPass));
    assert!(video.has("rtcp-rsize") && !session.is_ice_lite());
    let fingerprints = session.fingerprints(video);
    assert_eq!((fingerprints.len(), fingerprints[0].algorithm), (1, HashAlgorithm::Sha256));
    assert_eq!((fingerprints[0].bytes[0], fingerprints[0].bytes[31]), (0x5b, 0xe6));
    let audio = &session.media[0];
    let names: Vec<String> = audio.candidates().map(|candidate| candidate.address).collect();
    assert!(names.len() == 2 && names.iter().all(|name| name.ends_with(".local")), "{names:?}");
}

#[test]
fn session_level_attributes_count_for_every_section() {
    let session = offers::parsed("obs-publisher");
    for media in &session.media {
        assert_eq!(session.ice_credentials(media).map(|ice| ice.ufrag), Some("r7Kq".to_owned()));
        assert_eq!(session.fingerprints(media).len(), 1);
        assert_eq!(session.setup(media), Some(Setup::ActPass));
    }
    assert_eq!(session.group("LS"), Some(vec!["0", "1"]));
}

#[test]
fn a_sign_is_no_digit_of_a_fingerprint() {
    let mut session = offers::parsed("chromium-publisher");
    let hash = vec!["0D"; 32].join(":");
    for (hash, count) in [(hash.clone(), 1), (hash.replacen("0D", "+D", 1), 0)] {
        session.media[1].attributes = vec![Attribute::with("fingerprint", format!("sha-256 {hash}"))];
        assert_eq!(session.fingerprints(&session.media[1]).len(), count, "{hash}");
    }
}

#[test]
fn simulcast_is_read_with_rids() {
    let session = offers::parsed("chromium-publisher-simulcast");
    let video = &session.media[1];
    assert_eq!(video.simulcast().expect("simulcast").send, ["h", "m", "l"]);
    assert!(video.rids().all(|rid| rid.direction == RidDirection::Send && rid.restrictions.is_empty()));
}

#[test]
fn alternatives_and_paused_layers_are_reduced_to_the_first_rid() {
    let text = "v=0\no=- 1 1 IN IP4 0\nm=video 9 UDP/TLS/RTP/SAVPF 96\n\
        a=rid:1 send pt=96;max-width=1280\na=simulcast:send 1,2;~3 recv 4\n";
    let session = Session::parse(text).expect("description");
    let simulcast = session.media[0].simulcast().expect("simulcast");
    assert_eq!((simulcast.send.join(" "), simulcast.receive.join(" ")), ("1 3".to_owned(), "4".to_owned()));
    assert_eq!(simulcast.to_string(), "send 1;3 recv 4");
    assert_eq!(session.media[0].rids().next().map(|rid| rid.restrictions), Some("pt=96;max-width=1280"));
    assert_eq!(session.direction(&session.media[0]), Direction::SendRecv, "RFC 8866: the default");
}

#[test]
fn a_candidate_says_what_it_is() {
    let session = offers::parsed("gstreamer-publisher");
    let kinds: Vec<CandidateKind> = session.media[0].candidates().map(|candidate| candidate.kind).collect();
    let host = CandidateKind::Host;
    assert_eq!(kinds, [host, host, host, CandidateKind::ServerReflexive]);
    let ours = Candidate::host(0, "192.0.2.1:50000".parse().expect("address"));
    assert_eq!(ours.to_string(), "1 1 udp 2130706431 192.0.2.1 50000 typ host");
}

#[test]
fn a_section_goes_where_it_says_or_else_where_the_session_says() {
    let text = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
                m=audio 5006 RTP/AVP 97\r\nm=video 5004 RTP/AVP 96\r\nc=IN IP4 239.1.2.3/127/2\r\n\
                m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n";
    let session = Session::parse(text).expect("a description");
    let goes = |index: usize| session.connection(&session.media[index]).map(|it| it.address.to_string());
    assert_eq!([goes(0), goes(1)].map(Option::unwrap), ["192.0.2.9", "239.1.2.3"]);
    assert_eq!(session.media[2].connection, None, "ICE says it");
}
