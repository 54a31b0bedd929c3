//! Binding every port of a node before anything runs, so that a taken port is one clear line.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use config::Config;
use model::Role;
use udp_batch::{Options, Socket};

/// Everything a node listens on.
pub struct Ports {
    /// Public HTTP, on nodes that have publishers or viewers.
    pub http: Option<TcpListener>,
    /// Operations.
    pub ops: TcpListener,
    /// Links.
    pub link: Arc<Socket>,
    /// Publishers' media.
    pub ingest: Option<Socket>,
    /// One socket for each shard.
    pub shards: Vec<Socket>,
}

impl Ports {
    /// Binds what a node of this role needs.
    ///
    /// # Errors
    /// Names the port that cannot be had and the setting that moves it.
    pub fn bind(role: Role, config: &Config) -> anyhow::Result<Self> {
        let options = Options {
            receive_buffer_bytes: config.media.receive_buffer.bytes() as usize,
            send_buffer_bytes: config.media.send_buffer.bytes() as usize,
            ..Options::default()
        };
        let has_public = role.is_injection() || role.is_egress();
        let http = has_public.then(|| tcp(config.http.listen, "--http")).transpose()?;
        let ops = tcp(config.ops.listen, "--ops")?;
        // Parents send trains; publishers and viewers mostly single datagrams.
        let link_options = Options { is_coalescing: true, ..options.clone() };
        let link = udp(config.link_listen(), "--link-port", &link_options)?;
        let ingest = role
            .is_injection()
            .then(|| udp_anywhere(config.ingest.port, "--ingest-port", &options))
            .transpose()?;
        let count = if role.is_egress() { config.shards() } else { 0 };
        let shards = (0..count)
            .map(|shard| {
                let port = if config.media.port == 0 { 0 } else { config.media.port + shard };
                udp_anywhere(port, "--media-port", &options)
            })
            .collect::<anyhow::Result<_>>()?;
        warn_of_small_buffer(&link, options.receive_buffer_bytes);
        Ok(Self { http, ops, link: Arc::new(link), ingest, shards })
    }
}

/// All sockets are asked for the same, so one of them tells it for all.
fn warn_of_small_buffer(socket: &Socket, asked: usize) {
    // The kernel counts what it adds for itself: twice what was asked for.
    let granted = socket.receive_buffer_bytes().unwrap_or(usize::MAX) / 2;
    if granted < asked {
        tracing::warn!(
            granted,
            asked,
            "the kernel holds fewer received bytes than media.receive_buffer asks for, so bursts may be lost: raise \
             the sysctl net.core.rmem_max or give the program CAP_NET_ADMIN"
        );
    }
}

fn tcp(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .with_context(|| format!("cannot listen on TCP {address}; {flag} chooses another address or port"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn udp(address: SocketAddr, flag: &str, options: &Options) -> anyhow::Result<Socket> {
    let with_words = || format!("cannot listen on UDP {address}; {flag} chooses another port");
    match Socket::bind(address, options) {
        Err(error) if is_no_ipv6(&error) && address.ip() == Ipv6Addr::UNSPECIFIED => {
            Socket::bind((Ipv4Addr::UNSPECIFIED, address.port()).into(), options).with_context(with_words)
        }
        other => other.with_context(with_words),
    }
}

/// Media sockets take both families on all addresses.
fn udp_anywhere(port: u16, flag: &str, options: &Options) -> anyhow::Result<Socket> {
    udp((Ipv6Addr::UNSPECIFIED, port).into(), flag, options)
}

/// `EAFNOSUPPORT`: the kernel has no IPv6.
const ADDRESS_FAMILY_NOT_SUPPORTED: i32 = 97;

fn is_no_ipv6(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(ADDRESS_FAMILY_NOT_SUPPORTED)
}
