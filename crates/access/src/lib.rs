//! Who may publish and who may watch, decided without a socket and without a clock.
//!
//! - [`Tokens`]: passwords of the configuration.
//! - [`jwt`]: tokens that somebody else signs, verified with [`keys`].
//! - [`tickets`]: single-use passes that one node of the cluster gives for another one, since browsers drop the token
//!   when they follow a redirect to another origin.
//! - [`question`]: what an operator's server is asked and what its answer means.
//! - [`turn`]: credentials for a TURN server.
//! - [`signature`]: how messages to an operator's server are signed.
//!
//! Fetching keys, asking an operator's server and speaking HTTP are left to the shell.
#![forbid(unsafe_code)]

mod credential;
pub mod jwt;
pub mod keys;
mod pattern;
pub mod question;
pub mod signature;
pub mod tickets;
mod tokens;
pub mod turn;

pub use credential::{Credential, CredentialKey};
pub use keys::Keys;
pub use pattern::Pattern;
pub use tokens::Tokens;
