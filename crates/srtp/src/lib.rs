//! SRTP and SRTCP (RFC 3711, RFC 7714): seal and open. Knows keys and bytes, never sockets or sessions.
#![forbid(unsafe_code)]
