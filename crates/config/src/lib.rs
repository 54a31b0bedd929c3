//! Typed configuration: defaults < file < environment < flags. Knows no socket and no running node.
//!
//! Every setting is declared once, in [`sections`]: its type, default, documentation and flag. From that one
//! declaration come the key of the file (`[media] port`), the flag (`--media-port`), the variable of the environment
//! (`MEDIA_TREE_MEDIA_PORT`) and the documented example file ([`Config::example`]).
//!
//! [`Config::resolve`] merges the sources, [`Config::check`] judges the whole for one role and names every problem at
//! once. A program that finds its configuration bad exits with [`EXIT_BAD_CONFIGURATION`] before it binds any port.
#![forbid(unsafe_code)]

mod check;
mod engine;
mod rtp_in;
mod secret;
mod section;
mod sections;
mod sources;
mod values;

pub use check::Problem;
pub use engine::{Engine, EngineUrl};
pub use rtp_in::{RtpIn, Sdp};
pub use secret::{Secret, SecretError, Token, TokenError};
pub use sections::{
    Access, Capacity, Config, Control, Egress, Flags, Http, Ice, Ingest, Limits, Link, Log, Media, Node, Ops,
    Scaling, Traces, Webhooks,
};
pub use sources::{ConfigError, Sources};
pub use values::{
    HttpUrl, HumanDuration, IceServer, KeySource, LogFormat, Network, OptionalListen, Parent, Part,
    Provisioner, PublisherConflict, ScalingMode, Size, ValueError,
};

/// The exit code of a program whose configuration is bad (`EX_USAGE` of `sysexits.h`).
pub const EXIT_BAD_CONFIGURATION: u8 = 64;
