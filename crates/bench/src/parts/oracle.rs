//! The naive server: one str0m for each viewer, one `sendto` for each packet, one thread.
//!
//! It takes one publisher by WHIP and serves viewers by WHEP. It can also pass the publisher's packets on as plain RTP
//! (for servers that are fed so) or take down their mix (for the floor), so that all are fed by the same publisher.

mod http;
mod output;
mod peer;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use str0m::rtp::RtpPacket;
use tokio::sync::oneshot;
use udp_batch::{Options, ReceiveBatch, Socket};

use output::Output;
use peer::Peer;

const PUBLISHER: Token = Token(0);
const VIEWERS: Token = Token(1);
const REQUESTS: Token = Token(2);
/// Requests that wait to be taken up; HTTP waits beyond that.
const REQUESTS_MAX: usize = 1024;

/// Where the oracle listens and what it does with what is published.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Address of HTTP, and of media.
    #[arg(long)]
    address: IpAddr,
    /// Port of HTTP; media takes the next two.
    #[arg(long)]
    port: u16,
    /// Send what is published there as RTP: audio to this port, video to the next but one.
    #[arg(long)]
    rtp_to: Option<SocketAddr>,
    /// Take the mix of what is published down into this file, then end.
    #[arg(long)]
    mix: Option<PathBuf>,
    /// For so many seconds.
    #[arg(long, default_value_t = 8)]
    mix_seconds: u64,
    /// Cut frames in it so that no packet waits longer for the others, in milliseconds.
    #[arg(long)]
    mix_hold_ms: Option<u64>,
}

/// What HTTP asks of the media thread.
enum Request {
    Publish { offer: String, answer: oneshot::Sender<anyhow::Result<String>> },
    Watch { offer: String, answer: oneshot::Sender<anyhow::Result<(u64, String)>> },
    Leave { viewer: u64 },
}

/// Serves until killed, or until the mix is taken down.
///
/// # Errors
/// If an address is taken.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (sender, requests) = std::sync::mpsc::sync_channel(REQUESTS_MAX);
    let mut oracle = Oracle::new(arguments, requests)?;
    let http = http::serve(SocketAddr::new(arguments.address, arguments.port), sender, oracle.waker.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.spawn(async {
        if let Err(error) = http.await {
            eprintln!("HTTP: {error:#}");
            std::process::exit(1);
        }
    });
    oracle.run()
}

struct Oracle {
    poll: Poll,
    waker: Arc<Waker>,
    requests: std::sync::mpsc::Receiver<Request>,
    publisher_socket: Socket,
    viewers_socket: Socket,
    publisher: Option<Peer>,
    viewers: BTreeMap<u64, Peer>,
    /// Which viewer an address belongs to, once one of its datagrams was accepted.
    by_address: BTreeMap<SocketAddr, u64>,
    next_viewer: u64,
    output: Output,
}

impl Oracle {
    fn new(arguments: &Arguments, requests: std::sync::mpsc::Receiver<Request>) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), REQUESTS)?);
        let socket = |token: Token, port: u16| {
            let options = Options { is_segmenting: false, ..Options::default() };
            let socket = Socket::bind(SocketAddr::new(arguments.address, port), &options)
                .with_context(|| format!("bind UDP port {port}"))?;
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
            anyhow::Ok(socket)
        };
        let publisher_socket = socket(PUBLISHER, arguments.port + 1)?;
        let viewers_socket = socket(VIEWERS, arguments.port + 2)?;
        let output = match (&arguments.rtp_to, &arguments.mix) {
            (Some(to), _) => Output::rtp(*to)?,
            (None, Some(file)) => {
                let hold = arguments.mix_hold_ms.map(Duration::from_millis);
                Output::mix(file.clone(), Duration::from_secs(arguments.mix_seconds), hold)
            }
            (None, None) => Output::Viewers,
        };
        Ok(Self {
            poll,
            waker,
            requests,
            publisher_socket,
            viewers_socket,
            publisher: None,
            viewers: BTreeMap::new(),
            by_address: BTreeMap::new(),
            next_viewer: 1,
            output,
        })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(16);
        let mut batch = ReceiveBatch::new();
        let publisher_udp = self.publisher_socket.try_clone_udp()?;
        let viewers_udp = self.viewers_socket.try_clone_udp()?;
        let mut packets = Vec::new();
        loop {
            let wake = self.wake();
            let wait = wake.map(|wake| wake.saturating_duration_since(Instant::now()));
            self.poll.poll(&mut events, wait).or_else(interrupted)?;
            while let Ok(request) = self.requests.try_recv() {
                self.handle_request(request);
            }
            while self.publisher_socket.receive(&mut batch)? > 0 {
                for datagram in batch.iter_mut() {
                    if let Some(publisher) = &mut self.publisher {
                        publisher.receive(datagram.remote, datagram.bytes, &publisher_udp, &mut packets);
                    }
                }
                self.forward(&mut packets, &viewers_udp)?;
                if self.output.is_over() {
                    return Ok(());
                }
            }
            while self.viewers_socket.receive(&mut batch)? > 0 {
                for datagram in batch.iter_mut() {
                    self.handle_viewer_datagram(datagram.remote, datagram.bytes, &viewers_udp);
                }
            }
            let now = Instant::now();
            if let Some(publisher) = &mut self.publisher {
                publisher.handle_timeout(now, &publisher_udp, &mut packets);
            }
            let mut nothing = Vec::new();
            for viewer in self.viewers.values_mut() {
                viewer.handle_timeout(now, &viewers_udp, &mut nothing);
            }
            self.viewers.retain(|_, viewer| viewer.is_alive());
        }
    }

    fn wake(&self) -> Option<Instant> {
        self.viewers.values().chain(&self.publisher).map(Peer::wake).min()
    }

    fn handle_request(&mut self, request: Request) {
        match request {
            Request::Publish { offer, answer } => {
                let accepted = Peer::accept(&offer, self.publisher_socket.local_addr());
                let _ = answer.send(accepted.map(|(peer, sdp)| {
                    self.publisher = Some(peer);
                    sdp
                }));
            }
            Request::Watch { offer, answer } => {
                let accepted = Peer::accept(&offer, self.viewers_socket.local_addr());
                let _ = answer.send(accepted.map(|(peer, sdp)| {
                    let id = self.next_viewer;
                    self.next_viewer += 1;
                    self.viewers.insert(id, peer);
                    (id, sdp)
                }));
            }
            Request::Leave { viewer } => {
                self.viewers.remove(&viewer);
                self.by_address.retain(|_, id| *id != viewer);
            }
        }
    }

    fn handle_viewer_datagram(&mut self, remote: SocketAddr, bytes: &[u8], socket: &std::net::UdpSocket) {
        let known = self.by_address.get(&remote).copied();
        let id = known.or_else(|| {
            let accepts = |viewer: &Peer| viewer.accepts(remote, bytes);
            let id = self.viewers.iter().find(|(_, viewer)| accepts(viewer)).map(|(id, _)| *id)?;
            self.by_address.insert(remote, id);
            Some(id)
        });
        if let Some(viewer) = id.and_then(|id| self.viewers.get_mut(&id)) {
            viewer.receive(remote, bytes, socket, &mut Vec::new());
        }
    }

    fn forward(&mut self, packets: &mut Vec<RtpPacket>, socket: &std::net::UdpSocket) -> anyhow::Result<()> {
        for packet in packets.drain(..) {
            let Some(is_audio) = self.publisher.as_ref().and_then(|publisher| publisher.is_audio(&packet))
            else {
                continue;
            };
            self.output.take(&packet, is_audio)?;
            if matches!(self.output, Output::Viewers) {
                for viewer in self.viewers.values_mut() {
                    viewer.write(&packet, is_audio, socket);
                }
            }
        }
        Ok(())
    }
}

fn interrupted(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}
