//! Sans-IO WHIP/WHEP: SDP, resource state, policy (RFC 9725). Knows no HTTP server and no media packet.
#![forbid(unsafe_code)]
