//! What is pure in the HTTP of WHIP and WHEP: which method means what, header values, problem documents.
//!
//! No HTTP library is known here: the shell passes method and header texts in and sends what comes out.
//! Authentication, rate limits and the resources themselves are the shell's.

pub mod bearer;
mod cors;
mod entity_tag;
mod link;
mod problem;
pub mod user_agent;

pub use cors::{PREFLIGHT_HEADERS, RESPONSE_HEADERS};
pub use entity_tag::{EntityTag, IfMatch, IfMatchError};
pub use link::{Link, LinkError};
pub use problem::{PROBLEM_JSON, Problem};

use crate::whep::events;

/// Media type of offers and answers.
pub const SDP: &str = "application/sdp";
/// Media type of trickled candidates and restarts (RFC 8840).
pub const TRICKLE_ICE_SDPFRAG: &str = "application/trickle-ice-sdpfrag";
/// Longest body that the shell reads, in bytes; what is longer gets [`Problem::too_large`].
pub const BODY_BYTES_MAX: usize = crate::sdp::BYTES_MAX;

/// What a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `/whip/{broadcast}`
    WhipEndpoint,
    /// `/whep/{broadcast}`
    WhepEndpoint,
    /// The URL that a `Location` header gave.
    Session,
    /// Where a viewer's session makes event streams ([`crate::whep::events`]).
    EventsEntry,
    /// One event stream.
    EventStream,
    /// Where a viewer's session chooses a layer of its picture ([`crate::whep::layers`]).
    LayerEntry,
    /// What a publisher's session could do better.
    Advice,
    /// Where a publisher's captions and other timed data are taken ([`crate::cue`]).
    Cues,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// An offer: make a session. On [`Resource::EventsEntry`]: make an event stream.
    /// On [`Resource::LayerEntry`]: choose. On [`Resource::Cues`]: take.
    Create,
    /// Candidates or an ICE restart: see [`crate::patch::decide`].
    Modify,
    /// Send events for as long as there are any to come.
    Listen,
    /// Show what is there.
    Show,
    /// End the session or the event stream. `If-Match` does not matter (RFC 9725, section 4.2).
    Delete,
    /// Everything is said by these headers; there is no body, and no authentication is needed: preflight
    /// requests carry none.
    Reply(Reply),
}

/// An answer without body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Names and values, beside [`RESPONSE_HEADERS`].
    pub headers: Vec<(&'static str, &'static str)>,
}

/// What a method means on a resource.
///
/// # Errors
/// A 405 with `Allow` for every other method.
pub fn action(resource: Resource, method: &str) -> Result<Action, Problem> {
    let takes_posts = !matches!(resource, Resource::Session | Resource::EventStream | Resource::Advice);
    let ends = matches!(resource, Resource::Session | Resource::EventStream);
    match method {
        "POST" if takes_posts => Ok(Action::Create),
        "PATCH" if resource == Resource::Session => Ok(Action::Modify),
        "DELETE" if ends => Ok(Action::Delete),
        "OPTIONS" => Ok(Action::Reply(options(resource))),
        "GET" if resource == Resource::EventStream => Ok(Action::Listen),
        "GET" if resource == Resource::Advice => Ok(Action::Show),
        "GET" | "HEAD" => Ok(Action::Reply(look(resource, method))),
        _ => Err(Problem::new(405, "method", format!("{} is not possible here.", printable(method)))
            .with_header("Allow", allowed(resource))),
    }
}

const fn allowed(resource: Resource) -> &'static str {
    match resource {
        Resource::WhipEndpoint
        | Resource::WhepEndpoint
        | Resource::EventsEntry
        | Resource::LayerEntry
        | Resource::Cues => "GET, HEAD, OPTIONS, POST",
        Resource::Session => "DELETE, GET, HEAD, OPTIONS, PATCH",
        Resource::EventStream => "DELETE, GET, HEAD, OPTIONS",
        Resource::Advice => "GET, HEAD, OPTIONS",
    }
}

fn options(resource: Resource) -> Reply {
    let accepts = match resource {
        Resource::WhipEndpoint | Resource::WhepEndpoint => Some(("Accept-Post", SDP)),
        Resource::Session => Some(("Accept-Patch", TRICKLE_ICE_SDPFRAG)),
        Resource::EventsEntry | Resource::LayerEntry | Resource::Cues => Some(("Accept-Post", events::JSON)),
        Resource::EventStream | Resource::Advice => None,
    };
    let mut headers = vec![("Allow", allowed(resource))];
    headers.extend(accepts);
    headers.extend(PREFLIGHT_HEADERS);
    Reply { status: 200, headers }
}

/// GET and HEAD succeed and have nothing to show. A WHEP endpoint says what it is for (WHEP, section 4.3).
fn look(resource: Resource, method: &str) -> Reply {
    match resource {
        Resource::WhepEndpoint => {
            let status = if method == "HEAD" { 200 } else { 204 };
            Reply { status, headers: vec![("Content-Type", SDP), ("Accept-Post", SDP)] }
        }
        Resource::WhipEndpoint => Reply { status: 204, headers: vec![("Accept-Post", SDP)] },
        Resource::Session => Reply { status: 204, headers: Vec::new() },
        Resource::EventsEntry | Resource::LayerEntry | Resource::Cues => {
            Reply { status: 204, headers: vec![("Accept-Post", events::JSON)] }
        }
        Resource::EventStream => Reply { status: 200, headers: vec![("Content-Type", events::EVENT_STREAM)] },
        Resource::Advice => Reply { status: 200, headers: vec![("Content-Type", events::JSON)] },
    }
}

/// Checks a `Content-Type` header; parameters are accepted, case does not matter.
///
/// # Errors
/// A 415 that says what is expected.
pub fn check_content_type(content_type: Option<&str>, expected: &'static str) -> Result<(), Problem> {
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or("").trim();
    if media_type.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let detail = match media_type {
        "" => format!("The request has no Content-Type; {expected} is expected."),
        other => format!("The request has Content-Type {}; {expected} is expected.", printable(other)),
    };
    Err(Problem::new(415, "content-type", detail))
}

/// Something of a request, short and without control characters, fit to be repeated.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Resource; 7] = [
        Resource::WhipEndpoint,
        Resource::WhepEndpoint,
        Resource::Session,
        Resource::EventsEntry,
        Resource::EventStream,
        Resource::Advice,
        Resource::Cues,
    ];

    fn reply(resource: Resource, method: &str) -> Reply {
        match action(resource, method) {
            Ok(Action::Reply(reply)) => reply,
            other => panic!("{method} on {resource:?}: {other:?}"),
        }
    }

    #[test]
    fn w02_only_sdp_is_posted_and_parameters_do_not_matter() {
        for good in
            ["application/sdp", "application/sdp; charset=utf-8", "Application/SDP;x=y", " application/sdp "]
        {
            assert_eq!(check_content_type(Some(good), SDP), Ok(()), "{good}");
        }
        for bad in [None, Some(""), Some("text/plain"), Some("application/sdpx"), Some("application/json")] {
            assert_eq!(check_content_type(bad, SDP).expect_err("refused").status, 415, "{bad:?}");
        }
    }

    #[test]
    fn w07_get_on_everything_succeeds_without_content() {
        let has_content = |resource| matches!(resource, Resource::EventStream | Resource::Advice);
        for resource in ALL.into_iter().filter(|resource| !has_content(*resource)) {
            assert_eq!(reply(resource, "GET").status, 204, "{resource:?}");
        }
        assert_eq!(action(Resource::EventStream, "GET"), Ok(Action::Listen));
        assert_eq!(action(Resource::Advice, "GET"), Ok(Action::Show));
    }

    #[test]
    fn e04_head_on_a_whep_endpoint_says_what_it_is_for_with_the_headers_of_get() {
        let (head, get) = (reply(Resource::WhepEndpoint, "HEAD"), reply(Resource::WhepEndpoint, "GET"));
        assert_eq!(head.status, 200);
        assert!(head.headers.contains(&("Content-Type", SDP)));
        assert_eq!(head.headers, get.headers);
    }

    #[test]
    fn w11_options_allows_what_browsers_need() {
        for resource in ALL {
            let reply = reply(resource, "OPTIONS");
            let header = |name: &str| {
                let found = reply.headers.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| *value).unwrap_or_default()
            };
            assert_eq!(reply.status, 200);
            for method in ["POST", "PATCH", "DELETE"] {
                assert!(header("Access-Control-Allow-Methods").contains(method));
            }
            // `*` is for what players of others send beside.
            for name in ["Authorization", "Content-Type", "If-Match", "traceparent", "*"] {
                let is_it = |listed: &str| listed.trim() == name;
                assert!(header("Access-Control-Allow-Headers").split(',').any(is_it), "{name}");
            }
            assert_eq!(header("Link"), "", "W13: no ICE servers in a preflight");
        }
        let exposed = RESPONSE_HEADERS.iter().find(|(name, _)| *name == "Access-Control-Expose-Headers");
        let exposed = exposed.map(|(_, value)| *value).expect("exposes headers");
        for name in ["Location", "ETag", "Link", "Retry-After"] {
            assert!(exposed.contains(name), "{name}");
        }
    }

    #[test]
    fn w12_options_says_what_may_be_posted() {
        for resource in [Resource::WhipEndpoint, Resource::WhepEndpoint] {
            assert!(reply(resource, "OPTIONS").headers.contains(&("Accept-Post", SDP)));
        }
    }

    #[test]
    fn methods_of_the_other_resource_are_refused_with_those_that_work() {
        assert_eq!(action(Resource::WhipEndpoint, "POST"), Ok(Action::Create));
        assert_eq!(action(Resource::EventsEntry, "POST"), Ok(Action::Create));
        assert_eq!(action(Resource::EventStream, "DELETE"), Ok(Action::Delete));
        assert_eq!(action(Resource::Session, "PATCH"), Ok(Action::Modify));
        assert_eq!(action(Resource::Session, "DELETE"), Ok(Action::Delete));
        for (resource, method) in [
            (Resource::Session, "POST"),
            (Resource::Session, "PUT"),
            (Resource::WhepEndpoint, "PATCH"),
            (Resource::WhipEndpoint, "DELETE"),
            (Resource::EventsEntry, "DELETE"),
            (Resource::EventStream, "POST"),
            (Resource::EventStream, "PATCH"),
            (Resource::Advice, "DELETE"),
            (Resource::Advice, "POST"),
            (Resource::Cues, "DELETE"),
        ] {
            let problem = action(resource, method).expect_err("refused");
            assert_eq!((problem.status, problem.headers.len()), (405, 1), "{method} on {resource:?}");
        }
    }
}
