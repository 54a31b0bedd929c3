//! Binding every port of a node before anything runs, so that a taken port is one clear line.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Context as _;
use config::Config;
use model::Role;
use udp_batch::{Options, Socket};

use crate::rtp_in::{self, Listening};
use crate::session_records::SessionPorts;

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
    /// Publishers over RTMP.
    pub rtmp: Option<TcpListener>,
    /// Plain RTP, in the order of the configuration.
    pub rtp_in: Vec<Listening>,
    /// One socket for each shard.
    pub shards: Vec<Socket>,
    /// TCP on the ports of publishers' media and of the shards, as far as it can be had: each with the address of its media
    /// socket.
    pub media_tcp: Vec<(TcpListener, SocketAddr)>,
}

/// Sockets by name, as a supervisor keeps them.
pub type Sockets = BTreeMap<String, OwnedFd>;

const HTTP: &str = "http";
const OPS: &str = "ops";
const LINK: &str = "link";
const INGEST: &str = "ingest";
const RTMP: &str = "rtmp";
/// With the shard's index behind it.
const SHARD: &str = "shard-";
/// With the port behind it.
const MEDIA_TCP: &str = "media-tcp-";

impl Ports {
    /// Binds what a node of this role needs.
    ///
    /// # Errors
    /// Names the port that cannot be had and the setting that moves it.
    pub fn bind(role: Role, config: &Config) -> anyhow::Result<Self> {
        Self::take(role, config, Sockets::new())
    }

    /// Takes what a node of this role needs from `sockets`, and binds what is missing there.
    ///
    /// # Errors
    /// As [`Ports::bind`].
    pub fn take(role: Role, config: &Config, mut sockets: Sockets) -> anyhow::Result<Self> {
        let options = Options {
            receive_buffer_bytes: config.media.receive_buffer.bytes() as usize,
            send_buffer_bytes: config.media.send_buffer.bytes() as usize,
            ..Options::default()
        };
        // A relay with a store leads whoever asks it to the right node.
        let has_public = role != Role::Relay || config.control.store.is_some();
        let listen = config.http.listen;
        let http = has_public.then(|| tcp(sockets.remove(HTTP), listen, "--http")).transpose()?;
        let ops = tcp(sockets.remove(OPS), config.ops.listen, "--ops")?;
        // Parents send trains; publishers and viewers mostly single datagrams.
        let link_options = Options { is_coalescing: true, ..options.clone() };
        let link = udp(sockets.remove(LINK), config.link_listen(), "--link-port", &link_options)?;
        let ingest = role
            .is_injection()
            .then(|| udp_anywhere(sockets.remove(INGEST), config.ingest.port, "--ingest-port", &options))
            .transpose()?;
        let rtmp = config.ingest.rtmp.address().filter(|_| role.is_injection());
        let rtmp = rtmp.map(|address| tcp(sockets.remove(RTMP), address, "--rtmp")).transpose()?;
        let inputs = if role.is_injection() { rtp_in::inputs(config)? } else { Vec::new() };
        let rtp_in = inputs
            .into_iter()
            .map(|input| rtp_in::listen(input, &mut sockets))
            .collect::<anyhow::Result<_>>()?;
        let count = if role.is_egress() { config.shards() } else { 0 };
        let shards = (0..count)
            .map(|shard| {
                let port = if config.media.port == 0 { 0 } else { config.media.port + shard };
                let held = sockets.remove(&format!("{SHARD}{shard}"));
                udp_anywhere(held, port, "--media-port", &options)
            })
            .collect::<anyhow::Result<Vec<Socket>>>()?;
        let media = ingest.iter().chain(&shards).map(Socket::local_addr).filter(|_| config.media.tcp);
        let media_tcp = media.filter_map(|media| {
            let held = sockets.remove(&format!("{MEDIA_TCP}{}", media.port()));
            let listener = tcp(held, media, "--media-port");
            // Another service may have the number on TCP: those who have UDP lose nothing.
            let warn = |error: &anyhow::Error| tracing::warn!("no media over TCP on this port: {error:#}");
            Some((listener.inspect_err(warn).ok()?, media))
        });
        let media_tcp = media_tcp.collect();
        warn_of_small_buffer(&link, options.receive_buffer_bytes);
        Ok(Self { http, ops, link: Arc::new(link), ingest, rtmp, rtp_in, shards, media_tcp })
    }

    /// The sockets alone, for a supervisor to keep.
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub fn into_sockets(self) -> std::io::Result<Vec<(String, OwnedFd)>> {
        let mut sockets = vec![(OPS.to_owned(), self.ops.into())];
        sockets.extend(self.http.map(|http| (HTTP.to_owned(), http.into())));
        sockets.push((LINK.to_owned(), self.link.try_clone_udp()?.into()));
        sockets.extend(self.rtmp.map(|rtmp| (RTMP.to_owned(), rtmp.into())));
        sockets.extend(self.rtp_in.into_iter().flat_map(Listening::into_sockets));
        if let Some(ingest) = self.ingest {
            sockets.push((INGEST.to_owned(), ingest.try_clone_udp()?.into()));
        }
        for (index, shard) in self.shards.iter().enumerate() {
            sockets.push((format!("{SHARD}{index}"), shard.try_clone_udp()?.into()));
        }
        for (listener, media) in self.media_tcp {
            sockets.push((format!("{MEDIA_TCP}{}", media.port()), listener.into()));
        }
        Ok(sockets)
    }

    /// The ports of the sockets that sessions run over.
    pub fn of_sessions(&self) -> SessionPorts {
        let port = |socket: &Socket| socket.local_addr().port();
        SessionPorts {
            ingest: self.ingest.as_ref().map(port),
            shards: self.shards.iter().map(port).collect(),
        }
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

/// A TCP listener that nobody has kept for this process.
///
/// # Errors
/// Names the port and the setting that moves it.
pub fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    tcp(None, address, flag)
}

fn tcp(held: Option<OwnedFd>, address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let listener = match held {
        Some(held) => TcpListener::from(held),
        None => TcpListener::bind(address).with_context(|| {
            format!("cannot listen on TCP {address}; {flag} chooses another address or port")
        })?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn udp(held: Option<OwnedFd>, address: SocketAddr, flag: &str, options: &Options) -> anyhow::Result<Socket> {
    let with_words = || format!("cannot listen on UDP {address}; {flag} chooses another port");
    if let Some(held) = held {
        return Socket::adopt(held, options).with_context(with_words);
    }
    match Socket::bind(address, options) {
        Err(error) if is_no_ipv6(&error) && address.ip() == Ipv6Addr::UNSPECIFIED => {
            Socket::bind((Ipv4Addr::UNSPECIFIED, address.port()).into(), options).with_context(with_words)
        }
        other => other.with_context(with_words),
    }
}

/// Media sockets take both families on all addresses.
fn udp_anywhere(held: Option<OwnedFd>, port: u16, flag: &str, options: &Options) -> anyhow::Result<Socket> {
    udp(held, (Ipv6Addr::UNSPECIFIED, port).into(), flag, options)
}

/// `EAFNOSUPPORT`: the kernel has no IPv6.
const ADDRESS_FAMILY_NOT_SUPPORTED: i32 = 97;

fn is_no_ipv6(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(ADDRESS_FAMILY_NOT_SUPPORTED)
}
