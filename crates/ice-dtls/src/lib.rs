//! ICE-lite and DTLS-SRTP handshakes, sans-IO (RFC 8445, RFC 5764). Knows nothing of media or HTTP.
#![forbid(unsafe_code)]
