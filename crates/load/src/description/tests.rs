//! Offers that a server takes, answers and counter-offers that servers give.

use super::*;
use signaling::whep;

fn local() -> Local {
    Local {
        ice: IceCredentials::from_random(&[7; 32]),
        fingerprint: Fingerprint::new(HashFunction::Sha256, &[0xab; 32]).unwrap(),
        address: "192.0.2.1:4000".parse().unwrap(),
    }
}

fn sdp(lines: &str) -> String {
    lines.trim().lines().map(|line| format!("{}\r\n", line.trim())).collect()
}

/// As a gateway with full ICE offers it: three formats of video, one that nobody knows, a data channel.
fn counter_offer(session_lines: &str) -> String {
    let fingerprint = ["CD"; 32].join(":");
    sdp(&format!(
        "v=0
        o=- 1 1 IN IP4 198.51.100.1
        s=-
        t=0 0
        a=group:BUNDLE a v d
        {session_lines}
        a=fingerprint:sha-256 {fingerprint}
        m=audio 9 UDP/TLS/RTP/SAVPF 100
        a=sendonly
        a=mid:a
        a=rtcp-mux
        a=ice-ufrag:abcd
        a=ice-pwd:abcdefghijklmnopqrstuvwx
        a=setup:actpass
        a=rtpmap:100 opus/48000/2
        a=candidate:1 1 udp 100 198.51.100.1 5000 typ host
        a=candidate:2 1 udp 900 203.0.113.1 5000 typ srflx
        a=candidate:3 1 tcp 950 203.0.113.1 5000 typ host
        a=candidate:4 1 udp 990 name.local 5000 typ host
        m=video 9 UDP/TLS/RTP/SAVPF 120 121 122 123
        a=sendonly
        a=mid:v
        a=rtcp-mux
        a=ice-ufrag:abcd
        a=ice-pwd:abcdefghijklmnopqrstuvwx
        a=setup:actpass
        a=rtpmap:120 THEORA/90000
        a=rtpmap:121 H264/90000
        a=fmtp:121 profile-level-id=42e01f;packetization-mode=1
        a=rtcp-fb:121 nack
        a=rtcp-fb:121 nack pli
        a=rtcp-fb:121 goog-remb
        a=rtpmap:122 rtx/90000
        a=fmtp:122 apt=121
        a=rtpmap:123 VP8/90000
        a=extmap:3 {CAPTURE_TIME}
        a=extmap:4 urn:unknown
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel
        a=mid:d"
    ))
}

#[test]
fn our_own_server_takes_the_offer_and_every_codec_in_it() {
    let offer = Session::parse(&offer(&local())).unwrap();
    let accepted = whep::accept(&offer, &whep::Policy::default()).unwrap();
    let video = accepted.media(Kind::Video).unwrap();
    for codec in [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1] {
        assert!(video.payload_for(codec, "").is_some(), "{codec}");
    }
    assert!(video.extension_id(whep::Extension::AbsCaptureTime).is_some());
    assert!(accepted.media(Kind::Audio).is_some());
    assert!(!offer.to_string().contains("transport-cc"));
}

#[test]
fn a_counter_offer_is_answered_section_by_section() {
    let (remote, answer) = Remote::of_counter_offer(&counter_offer(""), &local()).unwrap();
    assert!(!remote.is_controlling, "the offerer is");
    assert_eq!((remote.dtls_role, remote.capture_time), (DtlsRole::Client, Some(3)));
    let candidates = ["203.0.113.1:5000", "198.51.100.1:5000"].map(|text| text.parse().unwrap());
    assert_eq!(remote.candidates, candidates, "UDP addresses, best first");
    let h264 = Format {
        payload_type: 121,
        codec: Codec::H264,
        clock_rate: 90_000,
        rtx: Some(122),
        takes_nack: true,
    };
    assert_eq!(remote.formats[1..], [h264], "the first that is known");

    let answer = Session::parse(&answer).unwrap();
    let kinds: Vec<_> = answer.media.iter().map(|media| (media.kind.as_str(), media.port != 0)).collect();
    assert_eq!(kinds, [("audio", true), ("video", true), ("application", false)]);
    assert_eq!(answer.group("BUNDLE").unwrap(), ["a", "v"]);
    let video = &answer.media[1];
    assert_eq!(video.formats, ["121", "122"]);
    assert_eq!(answer.direction(video), Direction::RecvOnly);
    assert_eq!(answer.setup(video), Some(Setup::Active));
    assert_eq!(video.rtcp_feedback(121).collect::<Vec<_>>(), ["nack", "nack pli"]);
    assert_eq!(video.extension_maps().map(|map| map.id).collect::<Vec<_>>(), [3]);
    assert_eq!(answer.ice_credentials(video).unwrap().ufrag, local().ice.ufrag());
    assert_eq!(answer.media[0].rtpmap(100).unwrap().channels, 2);
}

#[test]
fn a_lite_server_that_offers_leaves_control_to_us() {
    let (remote, _) = Remote::of_counter_offer(&counter_offer("a=ice-lite"), &local()).unwrap();
    assert!(remote.is_controlling);
    let active = counter_offer("").replace("actpass", "active");
    let (remote, answer) = Remote::of_counter_offer(&active, &local()).unwrap();
    assert_eq!(remote.dtls_role, DtlsRole::Server);
    assert!(answer.contains("a=setup:passive"));
}

#[test]
fn what_an_answer_lacks_is_named() {
    let answer = counter_offer("");
    let of = |text: &str| Remote::of_answer(text).map(|remote| remote.dtls_role);
    assert_eq!(of(&answer.replace("actpass", "passive")), Ok(DtlsRole::Client));
    assert_eq!(of(&answer.replace("actpass", "active")), Ok(DtlsRole::Server));
    assert_eq!(of(&answer.replace("sendonly", "inactive")), Err(DescriptionError::NoMedia));
    assert_eq!(of(&answer.replace("a=ice-pwd", "a=x")), Err(DescriptionError::IceCredentials));
    assert_eq!(of(&answer.replace("a=fingerprint", "a=x")), Err(DescriptionError::Fingerprint));
    assert!(matches!(of("hello"), Err(DescriptionError::Syntax(_))));
}
