//! Sans-IO WHIP/WHEP: SDP, resource state, policy (RFC 9725). Knows no HTTP server and no media packet.
//!
//! The way of an offer: [`sdp::Session::parse`] reads it, [`whip::check`] or [`whep::accept`] judges it,
//! [`candidates::order`] says which addresses the answer lists, and [`whip::finish_answer`] or
//! [`whep::answer`] writes the answer. [`http`] has what is pure in the HTTP around it: methods, headers and
//! problem documents; [`patch`] decides what a PATCH on a session means. [`cue`] reads captions and other timed data.
//!
//! **Invariant**: nothing here opens a socket, reads a clock or makes a random number; the caller passes
//! addresses and random bytes in.
#![forbid(unsafe_code)]

mod answer;
pub mod candidates;
pub mod coding;
pub mod cue;
pub mod http;
mod offer_error;
pub mod patch;
mod payload;
mod peer;
pub mod sdp;
pub mod sdpfrag;
mod session_id;
pub mod whep;
pub mod whip;

pub use answer::ANSWER_BYTES_MAX;
pub use offer_error::OfferError;
pub use payload::{Feedback, Payload};
pub use peer::{DtlsRole, Peer};
pub use session_id::{SessionId, SessionIdError, Ticket};
