//! Publishers' offers, and what comes of them with the real ingest engine.

mod offers;

use std::sync::Arc;
use std::time::Instant;

use model::{Codec, Kind, Rid};
use proptest::prelude::*;
use signaling::http::Problem;
use signaling::sdp::{Candidate, Direction, Session, Setup};
use signaling::whip::{self, AnswerError, AnswerParameters, CheckedOffer, Policy};
use signaling::{ANSWER_BYTES_MAX, DtlsRole, OfferError};
use str0m::change::SdpOffer;
use str0m::{Rtc, RtcConfig};

fn check(text: &str) -> Result<(Session, CheckedOffer), OfferError> {
    let offer = Session::parse(text).expect("description");
    let checked = whip::check(&offer, &Policy::default())?;
    Ok((offer, checked))
}

fn checked(name: &str) -> (Session, CheckedOffer) {
    check(&offers::text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// An offer of the corpus with some of its text replaced.
fn refused(name: &str, from: &str, to: &str) -> OfferError {
    let text = offers::text(name);
    assert!(text.contains(from), "{name} has {from}");
    check(&text.replace(from, to)).expect_err("refused")
}

#[expect(clippy::disallowed_methods, reason = "the engine wants a time; no test depends on it")]
fn engine() -> Rtc {
    let provider = Arc::new(str0m::crypto::from_feature_flags());
    RtcConfig::new().set_crypto_provider(provider).set_ice_lite(true).set_rtp_mode(true).build(Instant::now())
}

/// What the engine answers to an offer text.
fn engine_answer(text: &str) -> Result<String, String> {
    let offer = SdpOffer::from_sdp_string(text).map_err(|error| error.to_string())?;
    let answer = engine().sdp_api().accept_offer(offer).map_err(|error| error.to_string())?;
    Ok(answer.to_sdp_string())
}

fn candidates() -> Vec<Candidate> {
    let addresses = ["192.0.2.7:50000", "10.0.0.7:50000"].map(|text| text.parse().expect("address"));
    (0..).zip(addresses).map(|(index, address)| Candidate::host(index, address)).collect()
}

fn finish(checked: &CheckedOffer, engine_answer: &str) -> Result<String, AnswerError> {
    let parameters = AnswerParameters { candidates: &candidates(), session_id: 42 };
    whip::finish_answer(checked, engine_answer, &parameters)
}

/// The whole way: check, prepare, engine, finish.
fn answered(name: &str) -> String {
    let (offer, checked) = checked(name);
    let prepared = whip::prepare_offer(&offer, &checked);
    let engine = engine_answer(&prepared).unwrap_or_else(|error| panic!("{name}: {error}\n{prepared}"));
    finish(&checked, &engine).unwrap_or_else(|error| panic!("{name}: {error}\n{engine}"))
}

fn answers() -> Vec<(&'static str, Session, Session)> {
    let one = |(name, _)| {
        let answer = Session::parse(&answered(name)).expect("our own answer can be read");
        (name, offers::parsed(name), answer)
    };
    offers::PUBLISHERS.into_iter().map(one).collect()
}

#[test]
fn w04_the_answer_has_the_sections_and_mids_of_the_offer_in_its_order() {
    for (name, offer, answer) in answers() {
        let mids = |session: &Session| -> Vec<String> {
            session.media.iter().map(|media| format!("{} {:?}", media.kind, media.mid())).collect()
        };
        assert_eq!(mids(&answer), mids(&offer), "{name}");
        assert_eq!(answer.group("BUNDLE"), offer.group("BUNDLE"), "{name}");
        for (offered, answered) in offer.media.iter().zip(&answer.media) {
            assert!(answered.payload_types().count() > 0, "{name}");
            for payload_type in answered.payload_types() {
                let (ours, theirs) = (answered.rtpmap(payload_type), offered.rtpmap(payload_type));
                let encoding =
                    |map: Option<signaling::sdp::RtpMap<'_>>| map.map(|map| map.encoding.to_lowercase());
                assert!(ours.is_some() && encoding(ours) == encoding(theirs), "{name}: {ours:?} {theirs:?}");
            }
        }
    }
}

#[test]
fn w05_the_answer_is_recvonly_and_both_sendonly_and_sendrecv_are_taken() {
    for (name, _, answer) in answers() {
        for media in &answer.media {
            assert_eq!(answer.direction(media), Direction::RecvOnly, "{name}");
            assert!(media.ssrcs().next().is_none() && media.msid().is_none(), "{name}: we send nothing");
        }
    }
}

#[test]
fn w06_a_publisher_that_would_not_send_is_refused() {
    for word in ["recvonly", "inactive"] {
        let error = refused("obs-publisher", "a=sendonly", &format!("a={word}"));
        assert!(matches!(error, OfferError::NotSending { .. }), "{error}");
        assert!((400..500).contains(&Problem::from(error).status));
    }
}

#[test]
fn w22_all_candidates_stand_in_the_answer_best_first() {
    for (name, _, answer) in answers() {
        let listed: Vec<String> = answer
            .media
            .iter()
            .flat_map(|media| media.candidates())
            .map(|candidate| candidate.address)
            .collect();
        assert_eq!(listed, ["192.0.2.7", "10.0.0.7"], "{name}");
        assert!(answer.media[0].has("end-of-candidates") && answer.is_ice_lite(), "{name}");
    }
}

#[test]
fn w30_one_transport_with_rtcp_mux_only_in_each_section() {
    for (name, _, answer) in answers() {
        for media in &answer.media {
            assert!(media.has("rtcp-mux") && media.has("rtcp-mux-only"), "{name}");
            assert!(
                answer.ice_credentials(media).is_some() && answer.fingerprints(media).len() == 1,
                "{name}"
            );
        }
    }
    assert_eq!(refused("obs-publisher", "a=group:BUNDLE 0 1", "a=group:BUNDLE 1"), OfferError::Bundle);
}

#[test]
fn w31_more_than_one_section_of_a_kind_is_refused() {
    let error = refused("obs-publisher", "m=audio", "m=video");
    assert_eq!(error, OfferError::TooMany { kind: Kind::Video });
    assert_eq!(Problem::from(error).status, 422);
}

#[test]
fn w32_there_is_no_partial_success() {
    let error = refused("obs-publisher", "opus/48000/2", "MP4A-LATM/48000/2");
    assert_eq!(
        error.to_string(),
        "The audio of the offer cannot be taken: this server takes Opus, the offer has MP4A-LATM."
    );
    assert_eq!(Problem::from(error).status, 422);

    let offer = offers::parsed("obs-publisher");
    let policy = Policy { codecs: vec![Codec::Opus, Codec::Vp8], ..Policy::default() };
    let error = whip::check(&offer, &policy).expect_err("refused");
    assert!(matches!(error, OfferError::NoUsableCodec { kind: Kind::Video, .. }), "{error}");

    let unusable = OfferError::Unusable { kind: "application".to_owned() };
    let name = "chromium-viewer-sendrecv-data";
    assert_eq!(refused(name, "UDP/DTLS/SCTP webrtc-datachannel", "UDP/BFCP *"), unusable);
    assert_eq!(refused(name, "m=application 9", "m=application 0"), unusable);
    let second = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:7\r\n";
    let two = offers::text(name).replace("BUNDLE 0 1 2", "BUNDLE 0 1 2 7") + second;
    assert_eq!(check(&two).expect_err("two sections of data channels"), unusable);
}

#[test]
fn data_channels_are_taken_beside_media_wherever_they_stand() {
    let text = offers::text("chromium-viewer-sendrecv-data");
    let at = |line: &str| text.find(line).expect("a section");
    let (audio, data) = (at("m=audio"), at("m=application"));
    let first = format!("{}{}{}", &text[..audio], &text[data..], &text[audio..data]);
    for (text, place) in [(text.clone(), 2), (first, 0)] {
        let (offer, checked) = check(&text).expect("taken");
        let prepared = whip::prepare_offer(&offer, &checked);
        let engine = engine_answer(&prepared).unwrap_or_else(|error| panic!("{error}\n{prepared}"));
        let answer = finish(&checked, &engine).unwrap_or_else(|error| panic!("{error}\n{engine}"));
        let answer = Session::parse(&answer).expect("our own answer can be read");
        let mids = |session: &Session| -> Vec<String> {
            session.media.iter().map(|media| format!("{} {:?}", media.kind, media.mid())).collect()
        };
        assert_eq!(mids(&answer), mids(&offer));
        assert_eq!(checked.mids().len(), 3);
        assert_eq!(answer.group("BUNDLE").map(|group| group.len()), Some(3));
        let data = &answer.media[place];
        assert_eq!((&*data.protocol, data.port), ("UDP/DTLS/SCTP", 9));
        assert_eq!(data.formats, ["webrtc-datachannel"]);
        assert!(!data.has("rtcp-mux") && answer.ice_credentials(data).is_some());
        assert!(data.attributes.iter().any(|attribute| attribute.name == "max-message-size"));
        assert_eq!(data.attributes.iter().filter(|attribute| attribute.name == "sctp-port").count(), 1);
        assert!(answer.media[0].has("end-of-candidates"));
    }
}

#[test]
fn data_channels_alone_are_nothing_to_publish() {
    let text = offers::text("chromium-viewer-sendrecv-data");
    let (head, rest) = text.split_at(text.find("m=audio").expect("sound"));
    let data = &rest[rest.find("m=application").expect("data")..];
    let head: String =
        head.lines().filter(|line| !line.starts_with("a=group")).map(|line| format!("{line}\r\n")).collect();
    assert_eq!(check(&format!("{head}{data}")).expect_err("refused"), OfferError::Empty);
}

#[test]
fn w33_t04_the_dtls_role_is_the_one_that_the_offer_leaves() {
    for (name, _, answer) in answers() {
        let (role, setup) = match name {
            "ffmpeg-publisher" => (DtlsRole::Client, Setup::Active),
            _ => (DtlsRole::Server, Setup::Passive),
        };
        assert_eq!(checked(name).1.peer.dtls_role, role, "{name}");
        assert_eq!(answer.setup(&answer.media[0]), Some(setup), "{name}");
    }
}

#[test]
fn w40_simulcast_is_accepted_with_every_layer() {
    for (name, rids) in
        [("obs-publisher-simulcast", ["0", "1", "2"]), ("chromium-publisher-simulcast", ["h", "m", "l"])]
    {
        let (_, checked) = checked(name);
        assert_eq!(checked.media[1].rids.iter().map(Rid::as_str).collect::<Vec<_>>(), rids, "{name}");
        let answer = answered(name);
        for rid in rids {
            assert_eq!(answer.matches(&format!("a=rid:{rid} recv\r\n")).count(), 1, "{name}");
        }
        assert_eq!(answer.matches(&format!("a=simulcast:recv {}\r\n", rids.join(";"))).count(), 1, "{name}");
    }
    assert!(!answered("obs-publisher").contains("simulcast"));
}

#[test]
fn w40_simulcast_that_cannot_be_taken_is_refused() {
    let error = refused("obs-publisher-simulcast", "send 0;1;2", "send 0;1;2;3;4");
    assert_eq!(error, OfferError::TooManyLayers { offered: 5, max: 4 });
    for (from, to, rid) in
        [("send 0;1;2", "send 0;1;7", "7"), ("send 0;1;2", "send 0;1;1", "1"), ("rid:2", "rid:2_2", "2")]
    {
        assert_eq!(refused("obs-publisher-simulcast", from, to), OfferError::Rid { rid: rid.to_owned() });
    }
    let error = refused("chromium-publisher", "ssrc-group:FID", "ssrc-group:SIM");
    assert_eq!(error, OfferError::SimulcastBySsrc);
}

#[test]
fn t01_an_offer_without_candidates_is_taken() {
    assert!(!offers::text("obs-publisher").contains("a=candidate"));
    assert!(
        answered("obs-publisher").contains("a=candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host\r\n")
    );
}

#[test]
fn t03_t07_the_answer_is_short_and_every_line_ends_with_crlf() {
    for (name, _) in offers::PUBLISHERS {
        let answer = answered(name);
        assert!(answer.len() < ANSWER_BYTES_MAX, "{name}: {} bytes", answer.len());
        assert!(answer.ends_with("\r\n") && !answer.replace("\r\n", "").contains(['\r', '\n']), "{name}");
        let first = answer.lines().find(|line| line.starts_with("a=candidate:")).expect("candidate");
        assert!(first.ends_with("192.0.2.7 50000 typ host"), "{name}: {first}");
    }
}

#[test]
fn the_engine_reads_every_prepared_offer() {
    for (name, _) in offers::PUBLISHERS {
        let (offer, checked) = checked(name);
        let prepared = whip::prepare_offer(&offer, &checked);
        engine_answer(&prepared).unwrap_or_else(|error| panic!("{name}: {error}\n{prepared}"));
        assert!(!prepared.contains("a=candidate"), "{name}");
        // What is prepared is itself an offer that passes, and stays what it is.
        let again = Session::parse(&prepared).expect("description");
        let checked = whip::check(&again, &Policy::default()).expect("checked");
        assert_eq!(whip::prepare_offer(&again, &checked), prepared, "{name}");
    }
}

/// Offers that RFC 8829 allows and the engine alone refuses: the reason for preparing them.
#[test]
fn offers_that_the_engine_alone_refuses_are_taken_after_preparing() {
    let obs = offers::text("obs-publisher");
    let odd = [
        obs.replace("a=group:BUNDLE 0 1\r\na=group:LS 0 1", "a=group:LS 1\r\na=group:BUNDLE 0 1"),
        obs.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 1 0"),
        obs.replace("a=sendonly\r\n", ""),
        obs.replace("t=0 0", "t=3034423619 3042462419"),
        obs.replace("a=mid:1\r\n", "b=AS:2500\r\nb=TIAS:2500000\r\na=mid:1\r\n"),
        obs.replace("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP"),
    ];
    for text in odd {
        assert_ne!(text, obs);
        let refusal = engine_answer(&text).expect_err("the engine alone refuses");
        let (offer, checked) = check(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let engine = engine_answer(&whip::prepare_offer(&offer, &checked)).expect("prepared");
        assert!(finish(&checked, &engine).is_ok(), "{refusal}");
    }
}

/// Payload types of the answer's video that are not RTX, with their encodings.
fn video_of(answer: &Session) -> Vec<(u8, String)> {
    let video = answer.media.iter().find(|media| media.kind == "video").expect("video");
    let named = |payload_type| Some((payload_type, video.rtpmap(payload_type)?.encoding.to_owned()));
    video.payload_types().filter_map(named).filter(|(_, name)| name != "rtx").collect()
}

#[test]
fn every_codec_of_the_tree_that_chromium_offers_is_answered() {
    let answer = Session::parse(&answered("chromium-publisher")).expect("answer");
    let mut video = video_of(&answer);
    video.sort_unstable();
    let expected = [
        (45, "AV1"),
        (49, "H265"),
        (96, "VP8"),
        (98, "VP9"),
        (103, "H264"),
        (109, "H264"),
        (117, "H264"),
        (119, "H264"),
    ];
    assert_eq!(video, expected.map(|(payload_type, name)| (payload_type, name.to_owned())));
    assert_eq!(answer.media[1].fmtp(114), Some("apt=109"), "RTX goes with its video");
}

#[test]
fn profile_level_and_tier_are_answered_as_they_were_offered() {
    let parameters = "profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1";
    let cases = [
        ("H264", "packetization-mode=1;profile-level-id=640c2a"),
        ("H264", "packetization-mode=1;profile-level-id=640028"),
        ("H264", "packetization-mode=1;profile-level-id=42c015"),
        ("H264", "packetization-mode=1;profile-level-id=58e01f"),
        ("H264", "packetization-mode=0;profile-level-id=4d401e"),
        ("AV1", "level-idx=13;profile=0;tier=0"),
        ("H265", "level-id=153;profile-id=1;tier-flag=1;tx-mode=SRST"),
        ("VP9", "profile-id=0"),
    ];
    for (codec, fmtp) in cases {
        let text = offers::text("obs-publisher").replace("H264/90000", &format!("{codec}/90000"));
        let (offer, checked) = check(&text.replace(parameters, fmtp)).expect("checked");
        let engine = engine_answer(&whip::prepare_offer(&offer, &checked)).expect("engine");
        let answer = finish(&checked, &engine).unwrap_or_else(|error| panic!("{codec} {fmtp}: {error}"));
        let answer = Session::parse(&answer).expect("answer");
        assert_eq!(video_of(&answer), [(96, codec.to_owned())]);
        assert_eq!(answer.media[1].fmtp(96), Some(fmtp), "{codec}");
    }
}

#[test]
fn of_payload_types_that_are_one_to_the_engine_the_publishers_first_is_answered() {
    let text =
        offers::text("obs-publisher").replace("SAVPF 96", "SAVPF 96 97").replace("42e01f", "640c1f").replace(
            "a=rtpmap:96",
            "a=rtpmap:97 H264/90000\r\na=fmtp:97 packetization-mode=1;profile-level-id=64001f\r\na=rtpmap:96",
        );
    let (offer, checked) = check(&text).expect("checked");
    let engine = engine_answer(&whip::prepare_offer(&offer, &checked)).expect("engine");
    let answer = Session::parse(&finish(&checked, &engine).expect("finished")).expect("answer");
    assert_eq!(video_of(&answer), [(96, "H264".to_owned())]);
}

#[test]
fn h264_that_no_browser_decodes_is_refused() {
    let error = refused("obs-publisher", "42e01f", "f4001f");
    assert!(matches!(error, OfferError::NoUsableCodec { kind: Kind::Video, .. }), "{error}");
    let error = refused("obs-publisher", "packetization-mode=1", "packetization-mode=2");
    assert!(matches!(error, OfferError::NoUsableCodec { kind: Kind::Video, .. }), "{error}");
}

/// ffmpeg 8 makes seven digits of the six when it copies a stream in a constrained profile. What the stream is, its
/// parameter sets say.
#[test]
fn an_h264_profile_that_says_nothing_is_no_reason_to_refuse() {
    for id in ["422001f", "nonsense", "56001f"] {
        let (offer, checked) = check(&offers::text("ffmpeg-publisher").replace("42c01f", id))
            .unwrap_or_else(|error| panic!("{id}: {error}"));
        let engine = engine_answer(&whip::prepare_offer(&offer, &checked)).expect("engine");
        let answer = Session::parse(&finish(&checked, &engine).expect("finished")).expect("answer");
        assert_eq!(video_of(&answer), [(106, "H264".to_owned())], "{id}");
    }
}

/// ffmpeg names both sections in its bundle, whether it has both or one.
#[test]
fn a_bundle_may_name_a_section_that_is_not_there() {
    let text = offers::text("ffmpeg-publisher");
    let at = |line: &str| text.find(line).expect("a section");
    let (audio, video) = (at("m=audio"), at("m=video"));
    for (text, mid) in
        [(text[..video].to_owned(), "0"), (format!("{}{}", &text[..audio], &text[video..]), "1")]
    {
        let (offer, checked) = check(&text).expect("taken");
        let engine = engine_answer(&whip::prepare_offer(&offer, &checked)).expect("engine");
        let answer = Session::parse(&finish(&checked, &engine).expect("finished")).expect("answer");
        assert_eq!((answer.group("BUNDLE"), answer.media.len()), (Some(vec![mid]), 1));
        assert!(answer.media[0].candidates().next().is_some(), "{mid}");
    }
}

#[test]
fn obs_names_no_parameters_of_its_newer_codecs() {
    for codec in ["AV1", "H265"] {
        let text = offers::text("obs-publisher-av1").replace("AV1/90000", &format!("{codec}/90000"));
        let (offer, checked) = check(&text).unwrap_or_else(|error| panic!("{codec}: {error}"));
        let engine = engine_answer(&whip::prepare_offer(&offer, &checked)).expect("engine");
        let answer = Session::parse(&finish(&checked, &engine).expect("finished")).expect("answer");
        assert_eq!(video_of(&answer), [(96, codec.to_owned())]);
        assert_eq!(answer.media[1].fmtp(96), None, "{codec}");
    }
}

#[test]
fn stereo_is_asked_for() {
    for (name, _, answer) in answers() {
        let audio = answer.media.iter().find(|media| media.kind == "audio").expect("audio");
        let opus = audio.payload_types().next().expect("opus");
        assert!(audio.fmtp(opus).is_some_and(|fmtp| fmtp.contains("stereo=1")), "{name}");
    }
}

#[test]
fn feedback_and_extensions_are_the_engines_and_never_more_than_offered() {
    let answer = Session::parse(&answered("obs-publisher")).expect("answer");
    let mut feedback: Vec<&str> = answer.media[1].rtcp_feedback(96).collect();
    feedback.sort_unstable();
    assert_eq!(feedback, ["ccm fir", "goog-remb", "nack", "nack pli"]);
    let mid = answer.media[1].extension_maps().find(|map| map.uri.ends_with("sdes:mid")).expect("mid");
    assert_eq!(mid.id, 1);
    let answer = Session::parse(&answered("ffmpeg-publisher")).expect("answer");
    assert_eq!(answer.media[1].rtcp_feedback(106).count(), 0);
}

#[test]
fn header_extensions_of_both_forms_are_mixed_where_one_needs_it_and_the_publisher_can() {
    let (offer, mixes) = checked("chromium-publisher");
    let engine = engine_answer(&whip::prepare_offer(&offer, &mixes)).expect("an answer");
    let line =
        "a=extmap:12 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
    let with_descriptor = engine.replacen("a=extmap:", &format!("{line}\r\na=extmap:"), 1);
    let is_mixed = |checked: &CheckedOffer, engine: &str| {
        finish(checked, engine).expect("an answer").contains("a=extmap-allow-mixed\r\n")
    };
    assert!(is_mixed(&mixes, &with_descriptor));
    assert!(!is_mixed(&mixes, &engine));
    let without = offers::text("chromium-publisher").replace("a=extmap-allow-mixed\r\n", "");
    let (_, does_not) = check(&without).expect("taken");
    assert!(!is_mixed(&does_not, &with_descriptor));
}

#[test]
fn payload_types_that_were_not_offered_are_not_answered() {
    let (offer, checked) = checked("obs-publisher");
    let engine = engine_answer(&whip::prepare_offer(&offer, &checked)).expect("answer");
    let more = engine.replace("m=video 9 UDP/TLS/RTP/SAVPF 96", "m=video 9 UDP/TLS/RTP/SAVPF 102 96")
        + "a=rtpmap:102 H264/90000\r\n";
    let answer = Session::parse(&finish(&checked, &more).expect("finished")).expect("answer");
    assert_eq!(answer.media[1].formats, ["96"]);
}

proptest! {
    /// Whatever becomes of an offer on its way: what is checked, the engine reads without a panic, and what
    /// it answers is finished or refused for its codecs.
    #[test]
    fn w03_the_engine_reads_all_that_is_checked(
        offer in 0..offers::PUBLISHERS.len(),
        line in 0usize..300,
        other in 0usize..300,
        garbage in "(a=(rtpmap|fmtp|ssrc|rid|extmap|ssrc-group|mid):)?[ -~]{0,20}",
        change in 0..4,
    ) {
        let (_, text) = offers::PUBLISHERS[offer];
        let mut lines: Vec<&str> = text.lines().collect();
        let (line, other) = (line % lines.len(), other % lines.len());
        match change {
            0 => { lines.remove(line); }
            1 => lines.swap(line, other),
            2 => lines.insert(line, &garbage),
            _ => lines[line] = lines[other],
        }
        let Ok(offer) = Session::parse(&lines.join("\n")) else { return Ok(()) };
        let Ok(checked) = whip::check(&offer, &Policy::default()) else { return Ok(()) };
        let engine = engine_answer(&whip::prepare_offer(&offer, &checked));
        prop_assert!(engine.is_ok(), "{engine:?}");
        let finished = finish(&checked, &engine.unwrap_or_default());
        prop_assert!(matches!(finished, Ok(_) | Err(AnswerError::Refused { .. })), "{finished:?}");
    }
}

#[test]
fn an_engine_answer_that_does_not_fit_is_not_sent() {
    let (offer, checked) = checked("obs-publisher");
    let good = engine_answer(&whip::prepare_offer(&offer, &checked)).expect("answer");
    assert!(matches!(finish(&checked, "rubbish"), Err(AnswerError::Parse(_))));
    assert_eq!(finish(&checked, &good.replace("a=mid:1", "a=mid:7")), Err(AnswerError::Sections));
    assert_eq!(finish(&checked, &good.replace("a=ice-pwd", "a=ice-pw")), Err(AnswerError::Transport));
    assert_eq!(
        finish(&checked, &good.replace("m=video 9", "m=video 0")),
        Err(AnswerError::Refused { mid: checked.media[1].mid.clone() })
    );
    assert_eq!(
        finish(&checked, &good.replace("a=rtpmap:111 opus", "a=x")),
        Err(AnswerError::Refused { mid: checked.media[0].mid.clone() })
    );
    let long = format!("{good}{}", "a=extmap:9 urn:x\r\n".repeat(500));
    let too_long = finish(&checked, &long).expect_err("too long");
    assert!(matches!(too_long, AnswerError::TooLong { .. }));
    let statuses =
        [too_long, AnswerError::Sections, AnswerError::Refused { mid: checked.media[0].mid.clone() }]
            .map(|error| Problem::from(error).status);
    assert_eq!(statuses, [422, 500, 422]);
}
