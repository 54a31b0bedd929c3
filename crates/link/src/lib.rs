//! Wire format and state of the parent-child links, sans-IO. Knows no QUIC connection and no socket.
#![forbid(unsafe_code)]
