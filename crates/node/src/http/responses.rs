//! What requests are answered with, from what the pure rules say.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use signaling::http::{self as rules, Link, Problem, Reply};

use super::{Created, CreatedKind};

pub(super) fn created_response(created: Created, ice_servers: &[Link]) -> Response {
    let headers = [
        (header::CONTENT_TYPE, rules::SDP.to_owned()),
        (header::LOCATION, created.location),
        (header::ETAG, created.entity_tag.to_string()),
    ];
    let status = match created.kind {
        CreatedKind::Answer => StatusCode::CREATED,
        CreatedKind::CounterOffer => StatusCode::NOT_ACCEPTABLE,
    };
    let mut response = (status, headers, created.description).into_response();
    for link in ice_servers.iter().chain(&created.extensions) {
        insert(response.headers_mut(), "Link", &link.to_string());
    }
    response
}

pub(super) fn reply_response(reply: &Reply) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &reply.headers {
        insert(response.headers_mut(), name, value);
    }
    response
}

/// Which problem a response tells of, for those who count.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProblemCode(pub(super) &'static str);

pub(super) fn problem_response(problem: &Problem) -> Response {
    let mut response = Response::new(Body::from(problem.body()));
    response.extensions_mut().insert(ProblemCode(problem.code));
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    insert(response.headers_mut(), "Content-Type", rules::PROBLEM_JSON);
    for (name, value) in &problem.headers {
        insert(response.headers_mut(), name, value);
    }
    response
}

pub(super) fn with_cors(mut response: Response) -> Response {
    for (name, value) in rules::RESPONSE_HEADERS {
        insert(response.headers_mut(), name, value);
    }
    response
}

pub(super) fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        headers.append(name, value);
    }
}
