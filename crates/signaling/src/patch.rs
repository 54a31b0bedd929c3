//! What a PATCH on a session means: trickled candidates or an ICE restart (RFC 9725, section 4.3).

use model::Mid;

use crate::answer::ICE_OPTIONS;
use crate::candidates::CANDIDATES_MAX;
use crate::http::{EntityTag, IfMatch, Problem, TRICKLE_ICE_SDPFRAG, check_content_type};
use crate::sdp::{Candidate, IceCredentials};
use crate::sdpfrag::Fragment;

/// What is known of the session.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    /// The tag of its present ICE session, as given with the 201 or with the last restart.
    pub entity_tag: &'a EntityTag,
    /// The peer's present ICE credentials.
    pub peer_ice: &'a IceCredentials,
}

/// The headers that matter.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    /// `Content-Type`
    pub content_type: Option<&'a str>,
    /// `If-Match`
    pub if_match: Option<&'a str>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answer 204 without body and without `ETag`. An ICE-lite server has no use for the candidates: the
    /// addresses of a peer come from its checks.
    Trickled,
    /// The peer has new credentials. Carry it out and answer 200 with a new `ETag` and [`restart_answer`]; if that
    /// fails, the session stays as it is.
    Restart(IceCredentials),
}

/// Judges a PATCH.
///
/// # Errors
/// The [`Problem`] to answer with; the session stays as it is.
pub fn decide(state: &State<'_>, headers: &Headers<'_>, body: &str) -> Result<Outcome, Problem> {
    check_content_type(headers.content_type, TRICKLE_ICE_SDPFRAG)?;
    let if_match = headers.if_match.ok_or_else(|| {
        let detail =
            "The request needs an If-Match header with the ETag of the session, or * for an ICE restart.";
        Problem::new(428, "if-match-missing", detail)
    })?;
    let if_match = IfMatch::parse(if_match).map_err(|error| {
        Problem::new(400, "if-match-malformed", format!("The request is malformed: {error}."))
    })?;
    if !if_match.holds(state.entity_tag) {
        let detail = "The If-Match header names an ICE session that is over; the ETag has changed since.";
        return Err(Problem::new(412, "if-match-stale", detail));
    }
    let fragment = Fragment::parse(body).map_err(|error| {
        Problem::new(400, "fragment-malformed", format!("The body cannot be used: {error}."))
    })?;
    credentials(state, fragment)
}

/// New credentials are always a restart (RFC 9725, section 4.3.3), whatever `If-Match` says.
fn credentials(state: &State<'_>, fragment: Fragment) -> Result<Outcome, Problem> {
    let current = state.peer_ice;
    let is_known = |value: Option<&String>, known: &String| value.is_none_or(|value| value == known);
    if is_known(fragment.ice_ufrag.as_ref(), &current.ufrag)
        && is_known(fragment.ice_pwd.as_ref(), &current.pwd)
    {
        return Ok(Outcome::Trickled);
    }
    let ice = match (fragment.ice_ufrag, fragment.ice_pwd) {
        (Some(ufrag), Some(pwd)) => {
            Some(IceCredentials { ufrag, pwd }).filter(IceCredentials::is_well_formed)
        }
        _ => None,
    };
    ice.map(Outcome::Restart).ok_or_else(|| {
        let detail = "An ICE restart needs both a=ice-ufrag (4 to 256 characters) and a=ice-pwd (22 to 256).";
        Problem::new(400, "fragment-credentials", detail)
    })
}

/// The body of the answer to a restart (RFC 9725, section 4.3.3): new credentials of ours, and the candidates, which are
/// those of the first section that was accepted, `mid`. Without one the client keeps the candidates that it has.
#[must_use]
pub fn restart_answer(ice: &IceCredentials, mid: Option<&Mid>, candidates: &[Candidate]) -> String {
    let mut lines = vec![
        "a=ice-lite".to_owned(),
        format!("a=ice-options:{ICE_OPTIONS}"),
        format!("a=ice-ufrag:{}", ice.ufrag),
        format!("a=ice-pwd:{}", ice.pwd),
    ];
    if let Some(mid) = mid {
        lines.extend(["m=audio 9 UDP/TLS/RTP/SAVPF 0".to_owned(), format!("a=mid:{mid}")]);
        let candidates = candidates.iter().take(CANDIDATES_MAX);
        lines.extend(candidates.map(|candidate| format!("a=candidate:{candidate}")));
        lines.push("a=end-of-candidates".to_owned());
    }
    lines.into_iter().map(|line| line + "\r\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRICKLE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
        a=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\n";
    const RESTART: &str = "a=ice-ufrag:wxyz\r\na=ice-pwd:9876543210987654321098\r\n";

    fn decided(content_type: Option<&str>, if_match: Option<&str>, body: &str) -> Result<Outcome, u16> {
        let entity_tag = EntityTag::from_random([7; 8]);
        let peer_ice = IceCredentials { ufrag: "abcd".to_owned(), pwd: "0123456789012345678901".to_owned() };
        let state = State { entity_tag: &entity_tag, peer_ice: &peer_ice };
        decide(&state, &Headers { content_type, if_match }, body).map_err(|problem| problem.status)
    }

    fn with_if_match(if_match: Option<&str>, body: &str) -> Result<Outcome, u16> {
        decided(Some(TRICKLE_ICE_SDPFRAG), if_match, body)
    }

    const CURRENT: Option<&str> = Some("\"0707070707070707\"");

    fn restarted() -> Outcome {
        Outcome::Restart(IceCredentials {
            ufrag: "wxyz".to_owned(),
            pwd: "9876543210987654321098".to_owned(),
        })
    }

    #[test]
    fn w15_other_content_types_and_malformed_fragments_are_refused() {
        assert_eq!(decided(Some("application/sdp"), CURRENT, TRICKLE), Err(415));
        assert_eq!(decided(None, CURRENT, TRICKLE), Err(415));
        assert_eq!(with_if_match(CURRENT, "rubbish"), Err(400));
        assert_eq!(with_if_match(CURRENT, ""), Err(400));
    }

    #[test]
    fn w23_w26_a_restart_is_answered_with_credentials_candidates_and_the_same_options() {
        assert_eq!(with_if_match(Some("*"), RESTART), Ok(restarted()));
        let ours = IceCredentials { ufrag: "ours".to_owned(), pwd: "p".repeat(22) };
        let candidates = [Candidate::host(0, "192.0.2.7:50000".parse().expect("an address"))];
        let answer = restart_answer(&ours, Some(&Mid::new("0").expect("a mid")), &candidates);
        let read = Fragment::parse(&answer).expect("a fragment");
        assert_eq!((read.ice_ufrag, read.ice_pwd), (Some(ours.ufrag.clone()), Some(ours.pwd.clone())));
        assert_eq!((read.candidates.len(), read.is_end_of_candidates), (1, true));
        assert_eq!(read.candidates[0].address, "192.0.2.7");
        assert!(answer.starts_with("a=ice-lite\r\na=ice-options:trickle ice2\r\n"), "{answer}");
        let bare = restart_answer(&ours, None, &candidates);
        assert!(Fragment::parse(&bare).is_ok_and(|read| read.candidates.is_empty()), "{bare}");
    }

    #[test]
    fn w18_if_match_is_required() {
        assert_eq!(with_if_match(None, TRICKLE), Err(428));
        assert_eq!(with_if_match(Some("unquoted"), TRICKLE), Err(400));
    }

    #[test]
    fn w19_a_stale_or_weak_tag_is_refused() {
        assert_eq!(with_if_match(Some("\"0707070707070708\""), TRICKLE), Err(412));
        assert_eq!(with_if_match(Some("W/\"0707070707070707\""), TRICKLE), Err(412));
        assert_eq!(with_if_match(Some("\"0707070707070708\""), RESTART), Err(412));
    }

    #[test]
    fn w20_trickled_candidates_are_accepted() {
        assert_eq!(with_if_match(CURRENT, TRICKLE), Ok(Outcome::Trickled));
        assert_eq!(with_if_match(CURRENT, "a=end-of-candidates\r\n"), Ok(Outcome::Trickled));
    }

    #[test]
    fn w23_both_quotings_of_the_star_are_understood() {
        assert_eq!(with_if_match(Some("\"*\""), RESTART), Ok(restarted()));
    }

    #[test]
    fn w24_new_credentials_are_a_restart_even_with_the_tag_of_the_session() {
        assert_eq!(with_if_match(CURRENT, RESTART), Ok(restarted()));
        assert_eq!(with_if_match(CURRENT, "a=ice-ufrag:wxyz\r\n"), Err(400), "the password is missing");
        assert_eq!(with_if_match(CURRENT, "a=ice-ufrag:wxyz\r\na=ice-pwd:short\r\n"), Err(400));
    }
}
