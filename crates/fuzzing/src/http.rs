//! What we take apart ourselves in HTTP: methods, headers, paths, bodies of PATCH.

use model::{BroadcastId, TraceParent};
use signaling::SessionId;
use signaling::http::{
    Action, EntityTag, IfMatch, Problem, Resource, SDP, action, bearer, check_content_type, user_agent,
};
use signaling::patch;
use signaling::sdp::IceCredentials;
use signaling::whep::events::Kinds;

/// Lines of a request: `Authorization`, `User-Agent` or `traceparent`, `If-Match`, `Content-Type`, method, session, broadcast; then the body.
pub fn headers(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut lines = text.splitn(7, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let first = line();
    authorization(first);
    if let Ok(parent) = first.parse::<TraceParent>() {
        assert_eq!(parent.to_string().parse(), Ok(parent), "{first}");
    }
    if let Some(version) = user_agent::obs(first) {
        assert_eq!(user_agent::obs(&format!("OBS-Studio/{version}")), Some(version), "{first}");
    }
    let if_match = line();
    tags(if_match);
    let content_type = line();
    fit_to_be_sent(check_content_type(Some(content_type), SDP).err());
    method(line());
    let (session, broadcast) = (line(), line());
    if let Ok(id) = session.parse::<SessionId>() {
        assert_eq!(id.to_string(), session, "one session has one URL");
    }
    if let Ok(id) = BroadcastId::new(broadcast) {
        assert_eq!(id.as_str(), broadcast);
    }
    let body = line();
    fit_to_be_sent(Kinds::parse(Some(content_type), body).err());
    modify(content_type, if_match, body);
}

fn authorization(value: &str) {
    match bearer::token(Some(value)) {
        Ok(Some(token)) => {
            assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
            assert_eq!(bearer::token(Some(&format!("Bearer {token}"))), Ok(Some(token)));
        }
        Ok(None) => {}
        Err(problem) => fit_to_be_sent(Some(problem)),
    }
}

fn tags(value: &str) {
    let Ok(IfMatch::Tags(tags)) = IfMatch::parse(value) else { return };
    // The weak tag changes nothing but keeps a lone "*" from being any tag.
    let list: String = tags.iter().map(|tag| format!("\"{tag}\", ")).collect();
    assert_eq!(IfMatch::parse(&format!("{list}W/\"\"")), Ok(IfMatch::Tags(tags)));
}

fn method(value: &str) {
    for resource in [
        Resource::WhipEndpoint,
        Resource::WhepEndpoint,
        Resource::Session,
        Resource::EventsEntry,
        Resource::EventStream,
        Resource::Advice,
    ] {
        match action(resource, value) {
            Ok(Action::Create) => assert_eq!(value, "POST"),
            Ok(Action::Modify) => assert_eq!(value, "PATCH"),
            Ok(Action::Listen | Action::Show) => assert_eq!(value, "GET"),
            Ok(Action::Delete) => assert_eq!(value, "DELETE"),
            Ok(Action::Reply(_)) => {}
            Err(problem) => fit_to_be_sent(Some(problem)),
        }
    }
}

fn modify(content_type: &str, if_match: &str, body: &str) {
    let entity_tag = EntityTag::from_random([7; 8]);
    let peer_ice = IceCredentials { ufrag: "abcd".into(), pwd: "0123456789012345678901".into() };
    let state = patch::State { entity_tag: &entity_tag, peer_ice: &peer_ice };
    let headers = patch::Headers { content_type: Some(content_type), if_match: Some(if_match) };
    match patch::decide(&state, &headers, body) {
        Ok(patch::Outcome::Restart(ice)) => assert!(ice.is_well_formed() && ice != peer_ice),
        Ok(patch::Outcome::Trickled) => {}
        Err(problem) => fit_to_be_sent(Some(problem)),
    }
}

/// A refusal repeats nothing of the request that could break out of a header or a log.
fn fit_to_be_sent(problem: Option<Problem>) {
    let Some(problem) = problem else { return };
    assert!((400..500).contains(&problem.status), "{problem:?}");
    let texts = problem.headers.iter().map(|(_, value)| value).chain([&problem.detail]);
    assert!(texts.into_iter().all(|text| !text.chars().any(char::is_control)), "{problem:?}");
}
