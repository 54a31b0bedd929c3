//! Viewers' offers and the answers to them.

mod offers;

use std::net::SocketAddr;

use model::{Codec, Kind, Mid, Ssrc, Track};
use proptest::prelude::*;
use signaling::sdp::{Candidate, Direction, Fingerprint, IceCredentials, Session, Setup};
use signaling::whep::{self, Accepted, AnswerParameters, Extension, Policy, Section};
use signaling::{ANSWER_BYTES_MAX, DtlsRole, OfferError};

fn addresses() -> Vec<SocketAddr> {
    ["192.0.2.7:50001", "10.0.0.7:50001", "[2001:db8::7]:50001"]
        .iter()
        .map(|text| text.parse().expect("address"))
        .collect()
}

fn answer_with(accepted: &Accepted<'_>, addresses: &[SocketAddr]) -> String {
    let candidates: Vec<Candidate> =
        (0..).zip(addresses).map(|(index, address)| Candidate::host(index, *address)).collect();
    let parameters = AnswerParameters {
        ice: IceCredentials { ufrag: "srvU".to_owned(), pwd: "0123456789abcdef01234567".to_owned() },
        fingerprint: Fingerprint::sha256([0xa5; 32]),
        candidates: &candidates,
        audio_ssrc: Ssrc::new(1001),
        video_ssrc: Ssrc::new(2002),
        video_rtx_ssrc: Ssrc::new(2003),
        cname: "media-tree",
        stream_id: "demo",
        session_id: u64::MAX,
    };
    whep::answer(accepted, &parameters)
}

/// Judged once and kept for as long as the tests run.
fn accepted(name: &str) -> Accepted<'static> {
    let offer = Box::leak(Box::new(offers::parsed(name)));
    whep::accept(offer, &Policy::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn answered(name: &str) -> Session {
    Session::parse(&answer_with(&accepted(name), &addresses())).expect("our own answer can be read")
}

/// An offer of the corpus with some of its text replaced.
fn refused(name: &str, from: &str, to: &str) -> OfferError {
    let text = offers::text(name);
    assert!(text.contains(from), "{name} has {from}");
    let offer = Session::parse(&text.replace(from, to)).expect("description");
    whep::accept(&offer, &Policy::default()).expect_err("refused")
}

#[test]
fn w04_the_answer_has_the_sections_and_mids_of_the_offer_in_its_order() {
    for (name, _) in offers::VIEWERS {
        let (offer, answer) = (offers::parsed(name), answered(name));
        let shape = |session: &Session| -> Vec<(String, Option<String>, String)> {
            let one = |media: &signaling::sdp::Media| {
                (media.kind.clone(), media.mid().map(str::to_owned), media.protocol.clone())
            };
            session.media.iter().map(one).collect()
        };
        assert_eq!(shape(&answer), shape(&offer), "{name}");
        for (offered, answered) in offer.media.iter().zip(&answer.media) {
            for payload_type in answered.payload_types() {
                assert!(offered.payload_types().any(|known| known == payload_type), "{name} {payload_type}");
                let (ours, theirs) = (answered.rtpmap(payload_type), offered.rtpmap(payload_type));
                let lower =
                    |map: Option<signaling::sdp::RtpMap<'_>>| map.map(|map| map.encoding.to_lowercase());
                assert_eq!(lower(ours), lower(theirs), "{name} {payload_type}");
                assert_eq!(answered.fmtp(payload_type), offered.fmtp(payload_type), "{name} {payload_type}");
            }
        }
    }
}

#[test]
fn w04_rejected_sections_have_port_zero_and_are_not_in_the_bundle() {
    let answer = answered("chromium-viewer-sendrecv-data");
    assert_eq!(answer.media.iter().map(|media| media.port == 0).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(answer.group("BUNDLE"), Some(vec!["0", "1"]));
    assert_eq!(answer.media[2].formats, ["webrtc-datachannel"]);
}

#[test]
fn an_audio_only_broadcast_rejects_the_video_section_alone() {
    let offer = offers::parsed("chromium-viewer");
    let accepted =
        whep::accept(&offer, &Policy { codecs: vec![Codec::Opus], ..Policy::default() }).expect("accepted");
    assert!(accepted.media(Kind::Audio).is_some() && accepted.media(Kind::Video).is_none());
    let answer = Session::parse(&answer_with(&accepted, &addresses())).expect("answer");
    assert_eq!((answer.group("BUNDLE"), answer.media[1].port), (Some(vec!["0"]), 0));
}

#[test]
fn e01_the_answer_is_sendonly_and_both_recvonly_and_sendrecv_are_taken() {
    for (name, _) in offers::VIEWERS {
        let answer = answered(name);
        for media in answer.media.iter().filter(|media| media.port != 0) {
            assert_eq!(answer.direction(media), Direction::SendOnly, "{name}");
        }
    }
}

#[test]
fn w06_a_viewer_that_would_not_receive_is_refused() {
    for word in ["sendonly", "inactive"] {
        let error = refused("chromium-viewer", "a=recvonly", &format!("a={word}"));
        assert!(matches!(error, OfferError::NotReceiving { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn w22_all_candidates_stand_in_the_answer_and_no_more_will_come() {
    for (name, _) in offers::VIEWERS {
        let answer = answered(name);
        let listed: Vec<Candidate> = answer.media.iter().flat_map(|media| media.candidates()).collect();
        let addresses: Vec<String> = listed.iter().map(|candidate| candidate.address.clone()).collect();
        assert_eq!(addresses, ["192.0.2.7", "10.0.0.7", "2001:db8::7"], "{name}");
        assert!(listed.windows(2).all(|pair| pair[0].priority > pair[1].priority), "{name}");
        assert!(answer.media[0].has("end-of-candidates") && answer.is_ice_lite(), "{name}");
    }
}

#[test]
fn t03_the_first_candidate_line_is_a_udp_host_address_and_the_answer_is_short() {
    let many: Vec<SocketAddr> = (0..100u16)
        .map(|index| format!("[2001:db8:1111:2222:3333:4444:5555:{index:x}]:50000").parse().expect("address"))
        .collect();
    for (name, _) in offers::VIEWERS {
        let answer = answer_with(&accepted(name), &addresses());
        let first = answer.lines().find(|line| line.starts_with("a=candidate:")).expect("candidate");
        assert_eq!(first, "a=candidate:1 1 udp 2130706431 192.0.2.7 50001 typ host");
        let longest = answer_with(&accepted(name), &many);
        assert!(longest.len() < ANSWER_BYTES_MAX, "{name}: {} bytes", longest.len());
    }
}

#[test]
fn t07_every_line_ends_with_crlf() {
    for (name, _) in offers::VIEWERS {
        let answer = answer_with(&accepted(name), &addresses());
        assert!(answer.ends_with("\r\n"));
        assert!(!answer.replace("\r\n", "").contains(['\r', '\n']), "{name}");
    }
}

#[test]
fn w30_one_transport_with_rtcp_mux_only_in_each_section() {
    for (name, _) in offers::VIEWERS {
        let answer = answered(name);
        for media in answer.media.iter().filter(|media| media.port != 0) {
            assert!(media.has("rtcp-mux") && media.has("rtcp-mux-only"), "{name}");
            let ice = answer.ice_credentials(media).expect("credentials");
            assert_eq!((ice.ufrag.as_str(), answer.fingerprints(media).len()), ("srvU", 1), "{name}");
        }
    }
    let error = refused("chromium-viewer", "a=group:BUNDLE 0 1", "a=group:BUNDLE 0");
    assert_eq!(error, OfferError::Bundle);
    let error = refused("chromium-viewer", "a=rtcp-mux\r\n", "");
    assert_eq!(error, OfferError::RtcpMux { mid: "0".to_owned() });
}

#[test]
fn a_lone_section_needs_no_bundle_and_gets_none() {
    let text = offers::text("libdatachannel-viewer").replace("a=group:BUNDLE video audio\r\n", "");
    let lone = &text[..text.find("m=audio").expect("audio")];
    let offer = Session::parse(lone).expect("description");
    let accepted = whep::accept(&offer, &Policy::default()).expect("accepted");
    let answer = Session::parse(&answer_with(&accepted, &addresses())).expect("answer");
    assert_eq!((answer.group("BUNDLE"), answer.media.len()), (None, 1));
}

#[test]
fn w31_two_videos_are_refused() {
    let error = refused("chromium-viewer", "m=audio", "m=video");
    assert_eq!(error, OfferError::TooMany { kind: Kind::Video });
}

#[test]
fn w33_the_dtls_role_is_the_one_that_the_offer_leaves() {
    assert_eq!(accepted("chromium-viewer").peer.dtls_role, DtlsRole::Server);
    let mut text = offers::text("chromium-viewer");
    for (setup, role, ours) in
        [("active", DtlsRole::Server, Setup::Passive), ("passive", DtlsRole::Client, Setup::Active)]
    {
        text = text.replace("a=setup:actpass", &format!("a=setup:{setup}"));
        let offer = Session::parse(&text).expect("description");
        let accepted = whep::accept(&offer, &Policy::default()).expect("accepted");
        assert_eq!(accepted.peer.dtls_role, role);
        let answer = Session::parse(&answer_with(&accepted, &addresses())).expect("answer");
        assert_eq!(answer.setup(&answer.media[1]), Some(ours));
        text = offers::text("chromium-viewer");
    }
}

#[test]
fn e06_all_sections_belong_to_one_stream() {
    for (name, _) in offers::VIEWERS {
        let answer = answered(name);
        let streams = answer.media.iter().filter_map(|media| media.msid()).map(|(stream, _)| stream);
        assert_eq!(streams.collect::<Vec<_>>(), ["demo", "demo"], "{name}");
    }
}

#[test]
fn e02_offers_without_transport_are_refused() {
    let without = |prefix: &str| {
        let text = offers::text("firefox-viewer");
        let lines: Vec<&str> =
            text.split_inclusive("\r\n").filter(|line| !line.starts_with(prefix)).collect();
        let offer = Session::parse(&lines.concat()).expect("description");
        whep::accept(&offer, &Policy::default()).expect_err("refused")
    };
    assert_eq!(without("a=fingerprint"), OfferError::FingerprintMissing);
    assert_eq!(without("a=ice-pwd"), OfferError::IceCredentials);
    assert_eq!(without("a=mid:1"), OfferError::Mid { section: 2 });
    assert_eq!(without("m="), OfferError::Empty);
    let error = refused("firefox-viewer", "a=fingerprint:sha-256", "a=fingerprint:sha-1");
    assert_eq!(error, OfferError::FingerprintUnsupported);
    assert_eq!(refused("firefox-viewer", "a=mid:1", "a=mid:0"), OfferError::Mid { section: 1 });
    assert_eq!(refused("firefox-viewer", "t=0 0", "a=ice-lite"), OfferError::IceLite);
}

#[test]
fn e05_no_common_codec_is_told_with_both_sides() {
    let offer = offers::parsed("firefox-viewer");
    let policy = Policy { codecs: vec![Codec::Opus, Codec::H265], ..Policy::default() };
    let error = whep::accept(&offer, &policy).expect_err("refused");
    let told = "No common video codec: the broadcast has H.265, the player has VP8, VP9, H.264, AV1.";
    assert_eq!(error.to_string(), told);
    assert_eq!(signaling::http::Problem::from(error).status, 406);
}

/// What is on air: sound, and a picture in this codec with these format parameters.
fn on_air(codec: Codec, fmtp: &str) -> Policy {
    let track = |codec, fmtp: &str| Track { codec, fmtp: fmtp.into(), layers: Vec::new(), was_heard: true };
    Policy { on_air: vec![track(Codec::Opus, "stereo=1"), track(codec, fmtp)], ..Policy::default() }
}

#[test]
fn e05_who_cannot_play_what_is_on_air_is_told_what_it_is_and_what_was_offered() {
    let refuse = |name: &str, codec, fmtp: &str| {
        let offer = offers::parsed(name);
        let error = whep::accept(&offer, &on_air(codec, fmtp)).expect_err("refused");
        signaling::http::Problem::from(error)
    };
    let problem = refuse("firefox-viewer", Codec::H265, "profile-id=1;tier-flag=0;level-id=120");
    assert_eq!((problem.status, problem.code), (406, "no-common-codec"));
    assert_eq!(
        problem.detail,
        "This player cannot play the broadcast: its picture is H.265 (Main, level 4), and the player takes VP8, VP9, \
         H.264, AV1."
    );
    assert_eq!(problem.members, [("codec", "H265".to_owned()), ("profile", "Main".to_owned())]);

    let problem = refuse("firefox-viewer", Codec::H264, "profile-level-id=6e0028;packetization-mode=1");
    assert_eq!((problem.status, problem.code), (406, "no-common-profile"));
    assert_eq!(
        problem.detail,
        "This player cannot play the broadcast: its picture is H.264 (High 10, level 4), and of H.264 the player takes \
         Constrained Baseline."
    );
    assert!(problem.body().contains(r#""profile":"High 10""#), "{}", problem.body());
}

#[test]
fn what_plays_is_not_refused_whatever_was_offered_of_profile_and_level() {
    for (name, codec, fmtp) in [
        // OBS says Constrained Baseline and sends High; levels are offered lower than they are decoded.
        ("firefox-viewer", Codec::H264, "profile-level-id=640033;packetization-mode=1"),
        ("chromium-viewer", Codec::H264, "profile-level-id=640033;packetization-mode=1"),
        ("chromium-viewer", Codec::H264, "profile-level-id=f4001f"),
        ("chromium-viewer", Codec::H265, "profile-id=2;tier-flag=1;level-id=186"),
        ("chromium-viewer", Codec::Vp9, "profile-id=2"),
        ("chromium-viewer", Codec::Av1, "profile=0;level-idx=19;tier=1"),
        ("firefox-viewer", Codec::Vp9, "profile-id=2"),
        ("firefox-viewer", Codec::Av1, "profile=0;level-idx=19;tier=1"),
        ("gstreamer-viewer", Codec::H264, "profile-level-id=64001f"),
        ("libdatachannel-viewer", Codec::H264, ""),
    ] {
        let offer = offers::parsed(name);
        let accepted =
            whep::accept(&offer, &on_air(codec, fmtp)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let video = accepted.media(Kind::Video).expect("video");
        assert!(video.payloads.iter().any(|payload| payload.codec == codec), "{name} {codec}");
    }
}

#[test]
fn who_wants_the_sound_alone_gets_it_whatever_the_picture_is() {
    let text = offers::text("firefox-viewer");
    let text = text.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0");
    let offer = Session::parse(&text[..text.find("m=video").expect("video")]).expect("description");
    let accepted = whep::accept(&offer, &on_air(Codec::H265, "profile-id=1")).expect("accepted");
    assert!(accepted.media(Kind::Audio).is_some() && accepted.media(Kind::Video).is_none());
}

#[test]
fn h264_in_whole_units_only_is_called_so() {
    let text = offers::text("firefox-viewer");
    let text = text.replace(";packetization-mode=1", "");
    let text = text.replace("level-asymmetry-allowed=1", "level-asymmetry-allowed=1;packetization-mode=0");
    let offer = Session::parse(&text).expect("description");
    let error = whep::accept(&offer, &on_air(Codec::H264, "profile-level-id=42e01f")).expect_err("refused");
    let told = error.to_string();
    assert!(told.ends_with("the player takes VP8, VP9, H.264 with packetization-mode=0, AV1."), "{told}");
}

/// As GStreamer's `whepsrc` offers with caps made by hand: nothing of how H264 is packetised, nothing of Opus's channels.
#[test]
fn an_offer_made_of_short_caps_is_served() {
    let text = offers::text("gstreamer-viewer");
    let short = text
        .replace("a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n", "")
        .replace("OPUS/48000/2", "OPUS/48000");
    assert_eq!(text.len() - short.len(), 58, "both were there");
    let offer = Session::parse(&short).expect("description");
    let accepted = whep::accept(&offer, &on_air(Codec::H264, "profile-level-id=640028")).expect("accepted");
    let video = accepted.media(Kind::Video).expect("video");
    let best = video.payload_for(Codec::H264, "profile-level-id=640028").expect("H264");
    assert_eq!((best.payload_type, best.rtx_payload_type), (96, Some(97)));
    assert!(accepted.media(Kind::Audio).is_some());
    let answer = Session::parse(&answer_with(&accepted, &addresses())).expect("answer");
    assert_eq!((answer.media[0].fmtp(96), answer.media[0].fmtp(97)), (None, Some("apt=96")));

    // Beside one that says that it takes fragments, it is not needed.
    let both = text
        .replace("SAVPF 96 97", "SAVPF 95 96 97")
        .replace("a=rtpmap:96 ", "a=rtpmap:95 H264/90000\r\na=rtpmap:96 ");
    let offer = Session::parse(&both).expect("description");
    let accepted = whep::accept(&offer, &Policy::default()).expect("accepted");
    let video = accepted.media(Kind::Video).expect("video");
    assert_eq!(video.payloads.iter().map(|payload| payload.payload_type).collect::<Vec<_>>(), [96]);
}

#[test]
fn chromium_gets_every_codec_of_the_tree_and_none_that_it_cannot_carry() {
    let accepted = accepted("chromium-viewer");
    let video = accepted.media(Kind::Video).expect("video");
    let taken: Vec<(Codec, u8, Option<u8>)> = video
        .payloads
        .iter()
        .map(|payload| (payload.codec, payload.payload_type, payload.rtx_payload_type))
        .collect();
    assert_eq!(
        taken,
        [
            (Codec::Vp8, 96, Some(97)),
            (Codec::Vp9, 98, Some(99)),
            (Codec::Vp9, 100, Some(101)),
            (Codec::Vp9, 35, Some(36)),
            (Codec::Vp9, 37, Some(38)),
            (Codec::H264, 103, Some(104)),
            (Codec::H264, 109, Some(114)),
            (Codec::H264, 117, Some(118)),
            (Codec::H264, 41, Some(42)),
            (Codec::H264, 119, Some(120)),
            (Codec::Av1, 45, Some(46)),
            (Codec::Av1, 47, Some(48)),
            (Codec::H265, 49, Some(50)),
            (Codec::H265, 51, Some(52)),
        ]
    );
    let best = video.payload_for(Codec::H264, "profile-level-id=64001f;packetization-mode=1").expect("H264");
    assert_eq!(best.payload_type, 119);
    let audio = accepted.media(Kind::Audio).expect("audio");
    assert_eq!(audio.payloads.iter().map(|payload| payload.payload_type).collect::<Vec<_>>(), [111]);
    assert_eq!(accepted.bundle_mids().map(Mid::as_str).collect::<Vec<_>>(), ["0", "1"]);
}

/// Where there is a layer of the picture to choose.
fn layered() -> Policy {
    Policy { has_choice: true, ..Policy::default() }
}

/// The answer to a text, where there is a layer to choose.
fn answered_layered(text: &str) -> Session {
    let offer = Session::parse(text).expect("description");
    let accepted = whep::accept(&offer, &layered()).expect("accepted");
    let answer = answer_with(&accepted, &[addresses(), addresses()].concat());
    assert!(answer.len() < ANSWER_BYTES_MAX, "{} bytes", answer.len());
    Session::parse(&answer).expect("our own answer can be read")
}

/// The numbers of extensions by which a section tells when packets arrive.
fn transport_sequences(media: &signaling::sdp::Media) -> Vec<u16> {
    let maps = media.extension_maps().filter(|map| map.uri == Extension::TransportSequence.uri());
    maps.map(|map| map.id).collect()
}

#[test]
fn where_there_is_a_layer_to_choose_pictures_have_transport_wide_feedback_in_place_of_remb() {
    for (name, id) in [("chromium-viewer", 4), ("firefox-viewer", 7)] {
        let answer = answered_layered(&offers::text(name));
        for media in answer.media.iter().filter(|media| media.port != 0) {
            let is_video = media.kind == "video";
            let ids: &[u16] = if is_video { &[id] } else { &[] };
            assert_eq!(transport_sequences(media), ids, "{name}");
            for map in media.payload_types().filter_map(|payload_type| media.rtpmap(payload_type)) {
                let feedback: Vec<&str> = media.rtcp_feedback(map.payload_type).collect();
                let has_any = is_video && !map.encoding.eq_ignore_ascii_case("rtx");
                assert_eq!(feedback.contains(&"transport-cc"), has_any, "{name} {}", map.payload_type);
                assert!(!feedback.contains(&"goog-remb"), "{name} {}", map.payload_type);
            }
        }
    }
}

#[test]
fn who_cannot_tell_when_every_packet_arrives_keeps_remb() {
    let text = offers::text("chromium-viewer");
    let without = [
        ("the extension", text.replace("transport-wide-cc-extensions-01", "something-else")),
        ("an id for it", text.replace("a=extmap:4 ", "a=extmap:15 ")),
        ("its direction", text.replace("a=extmap:4 ", "a=extmap:4/sendonly ")),
        ("the feedback of one codec", text.replace("a=rtcp-fb:45 transport-cc\r\n", "")),
        ("repeats of one codec", text.replace("a=fmtp:46 apt=45", "a=fmtp:46 apt=44")),
    ];
    for (lacks, offer) in without {
        assert_ne!(offer, text, "{lacks}");
        let answer = answered_layered(&offer);
        assert!(transport_sequences(&answer.media[1]).is_empty(), "without {lacks}");
        let feedback: Vec<&str> = answer.media[1].rtcp_feedback(109).collect();
        assert_eq!(feedback, ["nack", "nack pli", "ccm fir", "goog-remb"], "without {lacks}");
    }
}

#[test]
fn feedback_is_taken_as_offered_and_transport_cc_only_where_there_is_a_choice() {
    for (name, _) in offers::VIEWERS {
        let answer = answer_with(&accepted(name), &addresses());
        assert!(!answer.contains("transport-cc"), "{name}");
        assert!(!answer.contains("transport-wide-cc"), "{name}");
    }
    let answer = answered("chromium-viewer");
    let feedback: Vec<&str> = answer.media[1].rtcp_feedback(109).collect();
    assert_eq!(feedback, ["nack", "nack pli", "ccm fir", "goog-remb"]);
    assert_eq!(answered("libdatachannel-viewer").media[1].rtcp_feedback(111).count(), 0, "none was offered");
}

#[test]
fn rtx_is_announced_only_where_it_was_offered() {
    let answer = answered("chromium-viewer");
    assert_eq!(answer.media[1].ssrc_groups("FID").collect::<Vec<_>>(), [vec![2002, 2003]]);
    assert_eq!(answer.media[1].fmtp(114), Some("apt=109"));
    let answer = answered("libdatachannel-viewer");
    assert_eq!(answer.media[0].ssrc_groups("FID").count(), 0);
    assert!(answer.media[0].ssrcs().all(|line| line.ssrc == 2002));
}

#[test]
fn extensions_that_we_send_keep_the_ids_of_the_offer() {
    let accepted = accepted("chromium-viewer");
    let video = accepted.media(Kind::Video).expect("video");
    assert_eq!(video.extension_id(Extension::Mid), Some(9));
    assert_eq!(video.extension_id(Extension::AbsCaptureTime), Some(12));
    assert_eq!(video.extension_id(Extension::PlayoutDelay), Some(5));
    assert_eq!(video.extension_id(Extension::VideoOrientation), Some(3));
    let audio = accepted.media(Kind::Audio).expect("audio");
    assert_eq!(
        (audio.extension_id(Extension::AudioLevel), audio.extension_id(Extension::PlayoutDelay)),
        (Some(14), None)
    );
    // Ids above 14 need two-byte headers; directions that exclude us are no invitation.
    let text = offers::text("chromium-viewer")
        .replace("extmap:9 ", "extmap:15 ")
        .replace("extmap:5 ", "extmap:5/sendonly ")
        .replace("extmap:12 ", "extmap:12/recvonly ");
    let offer = Session::parse(&text).expect("description");
    let accepted = whep::accept(&offer, &Policy::default()).expect("accepted");
    let video = accepted.media(Kind::Video).expect("video");
    assert_eq!(video.extension_id(Extension::Mid), None);
    assert_eq!(video.extension_id(Extension::PlayoutDelay), None);
    assert_eq!(video.extension_id(Extension::AbsCaptureTime), Some(12));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the peer wants a time; the test does not depend on it")]
fn a_complete_webrtc_stack_takes_the_answer() {
    let provider = std::sync::Arc::new(str0m::crypto::from_feature_flags());
    let config = str0m::RtcConfig::new().set_crypto_provider(provider);
    let mut viewer = config.build(std::time::Instant::now());
    let mut changes = viewer.sdp_api();
    for kind in [str0m::media::MediaKind::Audio, str0m::media::MediaKind::Video] {
        changes.add_media(kind, str0m::media::Direction::RecvOnly, None, None, None);
    }
    changes.add_channel("chat".to_owned());
    let (offer, pending) = changes.apply().expect("changes");
    let offer = Session::parse(&offer.to_sdp_string()).expect("description");
    let accepted = whep::accept(&offer, &layered()).expect("accepted");
    assert_eq!(accepted.bundle_mids().count(), 2);
    let answer = answer_with(&accepted, &addresses());
    assert!(answer.contains("transport-cc") && !answer.contains("goog-remb"), "{answer}");
    let answer = str0m::change::SdpAnswer::from_sdp_string(&answer).expect("readable");
    viewer.sdp_api().accept_answer(pending, answer).expect("taken");
}

#[test]
fn t06_an_offer_without_extensions_streams_or_rtcp_mux_only_is_served() {
    let text = offers::text("chromium-viewer");
    let is_plain = |line: &&str| {
        !["a=extmap", "a=msid", "a=ssrc", "a=rtcp-fb"].iter().any(|name| line.starts_with(name))
    };
    let plain: Vec<&str> = text.split_inclusive("\r\n").filter(is_plain).collect();
    let offer = Session::parse(&plain.concat()).expect("description");
    let accepted = whep::accept(&offer, &Policy::default()).expect("accepted");
    assert!(accepted.media(Kind::Video).is_some_and(|video| video.extensions.is_empty()));
}

#[test]
fn an_unused_section_stays_rejected() {
    let text = offers::text("chromium-viewer").replace("m=video 9", "m=video 0");
    let offer = Session::parse(&text).expect("description");
    let accepted = whep::accept(&offer, &Policy::default()).expect("accepted");
    assert!(matches!(accepted.sections[1], Section::Rejected(_)));
    let text = text.replace("a=mid:1", "a=mid:1\r\na=bundle-only");
    let offer = Session::parse(&text).expect("description");
    let accepted = whep::accept(&offer, &Policy::default()).expect("accepted");
    assert!(matches!(accepted.sections[1], Section::Accepted(_)), "bundle-only is no rejection");
}

proptest! {
    /// However an offer swells the answer, FFmpeg's buffer holds it.
    #[test]
    fn t03_no_offer_makes_a_long_answer(padding in 0usize..400, count in 1usize..100) {
        let mut text = offers::text("libdatachannel-viewer").replace("m=video 53817 UDP/TLS/RTP/SAVPF 96", "m=video 9 UDP/TLS/RTP/SAVPF 127");
        let at = text.find("m=audio").expect("audio");
        let formats: Vec<String> = (0..count).map(|pt| pt.to_string()).collect();
        let lines: String = (0..count)
            .map(|pt| format!("a=rtpmap:{pt} H264/90000\r\na=fmtp:{pt} packetization-mode=1;x={}\r\na=rtcp-fb:{pt} nack\r\na=rtcp-fb:{pt} nack pli\r\na=rtcp-fb:{pt} ccm fir\r\na=rtcp-fb:{pt} goog-remb\r\n", "y".repeat(padding)))
            .collect();
        text.insert_str(at, &lines);
        let text = text.replace("SAVPF 127", &format!("SAVPF {}", formats.join(" ")));
        let Ok(offer) = Session::parse(&text) else { return Ok(()) };
        if let Ok(accepted) = whep::accept(&offer, &Policy::default()) {
            let answer = answer_with(&accepted, &[addresses(), addresses(), addresses(), addresses(), addresses()].concat());
            prop_assert!(answer.len() < ANSWER_BYTES_MAX, "{} bytes", answer.len());
        }
    }
}
