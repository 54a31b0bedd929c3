//! Counter-offers: the server's own offer in place of a refusal (draft-ietf-wish-whep, "Server Sends Counter-offer").
//!
//! One is made where the client may well take it: its offer had no media, or media in the wrong direction. Where a codec
//! or a profile is missing there is nothing better to offer, and a refusal in words says more; the same holds for
//! offers that cannot be read, since the draft wants those refused.

use crate::OfferError;
use crate::http::Problem;
use crate::sdp::{Session, Setup};
use crate::whep::{self, AnswerParameters, Policy};

/// How long a counter-offer can be answered, in seconds: what holds in the draft where the server names no time.
pub const VALID_SECS: u64 = 30;

/// What a viewer would offer that takes everything there is. Its transport is nobody's: none of it gets into the
/// counter-offer.
const TAKES_ALL: &str = include_str!("takes-all.sdp");

/// Whether an offer that was refused for this reason is answered with one of the server's own.
#[must_use]
pub const fn is_called_for(error: &OfferError) -> bool {
    matches!(error, OfferError::Empty | OfferError::NotReceiving { .. })
}

/// Writes a counter-offer: sound and picture in every codec of the tree, `sendonly`, ICE-lite, with every candidate.
#[must_use]
pub fn write(parameters: &AnswerParameters<'_>) -> String {
    let all = Session::parse(TAKES_ALL).expect("a text of our own, which a test reads");
    let accepted = whep::accept(&all, &Policy::default()).expect("a text of our own, which a test reads");
    whep::describe(&accepted, parameters, Setup::ActPass)
}

/// Judges the answer to a counter-offer, which is judged as an offer is: it says what the viewer takes.
///
/// # Errors
/// If it is not one to our sections (RFC 3264, section 6), or cannot be served.
pub fn accept<'answer>(
    answer: &'answer Session,
    policy: &Policy,
) -> Result<whep::Accepted<'answer>, Problem> {
    let shape = |session: &Session| -> Vec<(String, Option<String>)> {
        session.media.iter().map(|media| (media.kind.clone(), media.mid().map(str::to_owned))).collect()
    };
    let offered = Session::parse(TAKES_ALL).map(|all| shape(&all)).unwrap_or_default();
    if shape(answer) != offered {
        let detail =
            "This is no answer to the counter-offer: it does not have its media sections in their order.";
        return Err(Problem::new(400, "answer-sections", detail));
    }
    Ok(whep::accept(answer, policy)?)
}

#[cfg(test)]
mod tests {
    use model::{Codec, Kind, Ssrc};

    use super::*;
    use crate::DtlsRole;
    use crate::sdp::{Candidate, Direction, Fingerprint, IceCredentials};

    fn counter_offer() -> String {
        let candidates = [Candidate::host(0, "192.0.2.7:50001".parse().expect("address"))];
        write(&AnswerParameters {
            ice: IceCredentials { ufrag: "srvU".to_owned(), pwd: "0123456789abcdef01234567".to_owned() },
            fingerprint: Fingerprint::sha256([0xa5; 32]),
            candidates: &candidates,
            audio_ssrc: Ssrc::new(1001),
            video_ssrc: Ssrc::new(2002),
            video_rtx_ssrc: Ssrc::new(2003),
            cname: "media-tree",
            stream_id: "demo",
            session_id: 7,
        })
    }

    /// As a browser answers: its own transport, what it takes of the formats, the other direction.
    fn answer(setup: &str) -> String {
        let own = Session::parse(TAKES_ALL).expect("description");
        let line =
            |name: &str| own.media[0].attributes.iter().find(|a| a.name == name).expect("a line").to_string();
        let mut text = String::new();
        for counter in counter_offer().lines() {
            let name = counter.strip_prefix("a=").and_then(|rest| rest.split(':').next()).unwrap_or_default();
            match name {
                "ice-lite" | "candidate" | "end-of-candidates" | "ssrc" | "ssrc-group" | "msid" => continue,
                "ice-ufrag" | "ice-pwd" | "fingerprint" => text += line(name).trim_end(),
                "setup" => text += &format!("a=setup:{setup}"),
                "sendonly" => text += "a=recvonly",
                _ => text += counter,
            }
            text += "\r\n";
        }
        text
    }

    #[test]
    fn e05_a_counter_offer_sends_everything_and_says_nothing_of_the_client_it_was_made_up_from() {
        let text = counter_offer();
        let offer = Session::parse(&text).expect("a description");
        assert!(offer.is_ice_lite() && offer.group("BUNDLE") == Some(vec!["0", "1"]));
        for media in &offer.media {
            assert_eq!(
                (offer.direction(media), offer.setup(media)),
                (Direction::SendOnly, Some(Setup::ActPass))
            );
            assert_eq!(offer.ice_credentials(media).expect("credentials").ufrag, "srvU");
        }
        let maps: Vec<&str> =
            offer.media.iter().flat_map(|media| media.rtpmaps()).map(|map| map.encoding).collect();
        for codec in Codec::ALL {
            assert!(
                maps.iter().any(|name| Codec::from_encoding_name(name) == Some(codec)),
                "{codec} in {maps:?}"
            );
        }
        assert_eq!(offer.media[0].candidates().count() + offer.media[1].candidates().count(), 1);
        assert!(text.len() < crate::ANSWER_BYTES_MAX);
    }

    #[test]
    fn e05_its_answer_is_what_the_viewer_takes() {
        for (setup, role) in [("active", DtlsRole::Server), ("passive", DtlsRole::Client)] {
            let text = answer(setup);
            let session = Session::parse(&text).expect("a description");
            let accepted = accept(&session, &Policy::default()).expect("accepted");
            assert_eq!(accepted.peer.dtls_role, role);
            assert!(accepted.media(Kind::Audio).is_some() && accepted.media(Kind::Video).is_some());
        }
        // A viewer without a picture rejects its section.
        let text = answer("active").replace("m=video 9", "m=video 0").replace("BUNDLE 0 1", "BUNDLE 0");
        let session = Session::parse(&text).expect("a description");
        let accepted = accept(&session, &Policy::default()).expect("accepted");
        assert!(accepted.media(Kind::Audio).is_some() && accepted.media(Kind::Video).is_none());
    }

    #[test]
    fn what_is_no_answer_to_it_is_refused() {
        let refused = |text: &str| {
            let session = Session::parse(text).expect("a description");
            accept(&session, &Policy::default()).expect_err("refused").code
        };
        let text = answer("active");
        assert_eq!(refused(&text[..text.find("m=video").expect("video")]), "answer-sections");
        assert_eq!(refused(&text.replace("a=mid:1", "a=mid:2")), "answer-sections");
        assert_eq!(refused(&text.replace("a=recvonly", "a=inactive")), "offer-direction");
    }

    #[test]
    fn only_who_may_take_it_gets_one() {
        assert!(is_called_for(&OfferError::Empty));
        assert!(is_called_for(&OfferError::NotReceiving { mid: "0".into(), direction: Direction::SendOnly }));
        let offered = vec!["PCMU".to_owned()];
        let no_codec = OfferError::NoCommonCodec { kind: Kind::Audio, wanted: vec![Codec::Opus], offered };
        for error in [no_codec, OfferError::Bundle, OfferError::IceLite] {
            assert!(!is_called_for(&error), "{error}");
        }
    }
}
