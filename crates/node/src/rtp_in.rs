//! Plain RTP: what the configuration names is listened to and published.
//!
//! One task for each session description drives [`rtp_in::Receiver`] and hands its tree packets to the tree thread, as one
//! more kind of publisher. The operator has named the broadcast, so nobody is asked for a token; whether another
//! publisher has the place is decided as for any publisher.

mod listen;
mod publisher;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use config::{Config, RtpIn, Sdp};
use ipnet::IpNet;
use model::BroadcastId;
use rtp_in::Description;
use tokio::task::JoinSet;

use self::listen::Port;
pub use self::listen::{Listening, listen};
use self::publisher::Publisher;
use crate::http::App;

/// One session description, as the configuration has it.
pub struct Input {
    broadcast: BroadcastId,
    description: Description,
    /// Nobody else may send, unless it is empty.
    allowed: Vec<IpNet>,
    /// Where it comes to, whatever the description says.
    address: Option<IpAddr>,
    /// What the kernel may hold, in bytes.
    receive_buffer_bytes: usize,
}

/// Reads all of them.
///
/// # Errors
/// Names the first that cannot be read or received, and why.
pub fn inputs(config: &Config) -> anyhow::Result<Vec<Input>> {
    let input = |entry: &RtpIn| {
        let description = description(entry).with_context(|| format!("ingest.rtp_in (--rtp-in), {entry}"))?;
        let everybody = entry.sources.iter().chain(&config.ingest.rtp_in_sources);
        Ok(Input {
            broadcast: entry.broadcast.clone(),
            description,
            allowed: everybody.map(config::Network::get).collect(),
            address: config.ingest.rtp_in_address,
            receive_buffer_bytes: config.media.receive_buffer.bytes() as usize,
        })
    };
    config.ingest.rtp_in.iter().map(input).collect()
}

fn description(entry: &RtpIn) -> anyhow::Result<Description> {
    Ok(match &entry.sdp {
        Sdp::Text(text) => Description::parse(text)?,
        Sdp::File(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            Description::parse(&text)?
        }
    })
}

/// Receives for as long as what it gives is kept.
///
/// # Errors
/// If a socket cannot be used.
pub fn serve(listening: Vec<Listening>, app: &Arc<App>) -> io::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let Some((tree, _)) = &app.ingest else { return Ok(tasks) };
    for Listening { input, ports } in listening {
        let ports = ports.into_iter().map(Port::open).collect::<io::Result<Vec<_>>>()?;
        let publisher = Publisher::new(app.clone(), tree.clone(), input);
        tasks.spawn(publisher.run(ports));
    }
    Ok(tasks)
}
