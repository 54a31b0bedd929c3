//! Cross-origin headers (WHATWG Fetch): any page may publish and watch, with a token of its own.

/// Headers of every answer, errors too: without them a page does not even see the error.
pub const RESPONSE_HEADERS: [(&str, &str); 2] = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", "Accept-Post, Content-Type, ETag, Link, Location, Retry-After"),
];

/// Further headers of answers to OPTIONS. `Authorization` has to be named: `*` does not cover it, and older browsers do not
/// know `*`. It is for what players of others send beside: W3C Trace Context, headers of their own.
pub const PREFLIGHT_HEADERS: [(&str, &str); 3] = [
    ("Access-Control-Allow-Methods", "DELETE, GET, HEAD, OPTIONS, PATCH, POST"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match, traceparent, tracestate, *"),
    // A day; browsers cap it at two hours or less.
    ("Access-Control-Max-Age", "86400"),
];
