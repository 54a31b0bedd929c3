//! Runtime shell: threads, sockets, timers, HTTP, drain. The only crate that drives the cores for real.
//!
//! [`run`] is the whole life of a node: bind everything, start the threads, serve, drain, stop.
#![forbid(unsafe_code)]

mod advice;
mod aside;
mod bind;
mod clock;
mod control;
mod cues;
mod directory;
mod drain;
mod event_streams;
mod events;
mod gate;
mod handshakes;
mod http;
mod ice_tcp;
mod join;
mod life;
mod link_channel;
mod link_handshakes;
mod link_identity;
mod link_socket;
mod link_way;
mod links;
mod metrics;
mod ops;
mod outbound;
mod pending;
mod priority;
mod random;
mod rate_limit;
mod reach;
mod rtmp;
mod rtp_in;
mod session_records;
mod sessions;
mod shard;
mod shard_load;
mod start;
mod tls;
mod tokens;
mod traces;
mod tree;
mod webhooks;

use anyhow::Context as _;
use config::Config;
use model::Role;

pub use bind::Ports;
pub use session_records::envelope;
pub use start::Start;

/// What a program needs that holds a link channel without being a node: for tests and measuring.
pub mod link_peer {
    pub use crate::link_identity::{LinkIdentity, SERVER_NAME};
    pub use crate::link_socket::{Datagram, LinkSocket, is_quic};
}

/// Judges what the configuration alone does not: reads the session descriptions of plain RTP.
///
/// # Errors
/// Says which of them cannot be read or received, and why.
pub fn check(config: &Config) -> anyhow::Result<()> {
    rtp_in::inputs(config).map(drop)
}

/// Runs a node of this role until it is told to stop (SIGTERM or SIGINT: drain; a second one: at once).
///
/// # Errors
/// If a port is taken, a file cannot be read, or the machine lacks something that the node needs. The configuration
/// is taken as checked.
pub fn run(role: Role, config: Config, start: Start) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("media-tree-io")
        .on_thread_start(priority::yield_to_media)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = match role {
        Role::Controller => runtime.block_on(control::process::live(config)),
        Role::Injection | Role::Relay | Role::Egress | Role::All => {
            runtime.block_on(life::live(role, config, start))
        }
    };
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    result
}
