//! A way to a UDP port on loopback that can be cut for those who go it, as when a NAT forgets them or their network is
//! another one: who begins anew, from another port, gets through. It can also lose a part of the media that goes it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The way. Ends with its value.
pub struct UdpWay {
    /// Where it begins.
    pub port: u16,
    state: Arc<State>,
    carrying: JoinHandle<()>,
}

/// What is the matter with it.
#[derive(Default)]
struct State {
    cuts: AtomicU64,
    /// Of a hundred packets of media so many are lost, either way.
    loses_percent: AtomicU32,
}

impl State {
    fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    fn loses(&self, dice: &mut StdRng, datagram: &[u8]) -> bool {
        let percent = self.loses_percent.load(Ordering::Relaxed);
        percent > 0 && is_rtp(datagram) && dice.random_bool(f64::from(percent) / 100.0)
    }
}

/// Not STUN, DTLS or QUIC (RFC 9443), and not RTCP (RFC 5761).
fn is_rtp(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, kind, ..] if !(64..96).contains(&(kind & 0x7f)))
}

/// One who goes it.
struct Flow {
    upstream: Arc<UdpSocket>,
    /// How often the way had been cut when he came.
    cuts: u64,
    returning: JoinHandle<()>,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.returning.abort();
    }
}

impl UdpWay {
    /// To `port`.
    ///
    /// # Errors
    /// If there is no socket for it.
    pub async fn to(port: u16) -> anyhow::Result<Self> {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a port")?);
        let state = Arc::new(State::default());
        let begins = front.local_addr()?.port();
        let carrying = tokio::spawn({
            let state = state.clone();
            async move {
                // An error of a socket on loopback ends the way, and with it the test.
                let _ = carry(&front, (Ipv4Addr::LOCALHOST, port).into(), &state).await;
            }
        });
        Ok(Self { port: begins, state, carrying })
    }

    /// Nothing gets through any more, either way, for whoever has gone it so far.
    pub fn cut(&self) {
        self.state.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on so many of a hundred RTP packets are lost, either way. What sets up and reports gets through.
    pub fn lose(&self, percent: u32) {
        self.state.loses_percent.store(percent.min(100), Ordering::Relaxed);
    }
}

impl Drop for UdpWay {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

async fn carry(front: &Arc<UdpSocket>, server: SocketAddr, state: &Arc<State>) -> std::io::Result<()> {
    let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
    let mut dice = StdRng::seed_from_u64(1);
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = front.recv_from(&mut buffer).await?;
        if let Entry::Vacant(vacant) = flows.entry(from) {
            let upstream = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
            upstream.connect(server).await?;
            let now = state.cuts();
            let returning =
                tokio::spawn(bring_back(upstream.clone(), front.clone(), from, (now, state.clone())));
            vacant.insert(Flow { upstream, cuts: now, returning });
        }
        let flow = &flows[&from];
        let datagram = &buffer[..length];
        if flow.cuts == state.cuts() && !state.loses(&mut dice, datagram) {
            // Nobody may be there at the moment.
            let _ = flow.upstream.send(datagram).await;
        }
    }
}

async fn bring_back(
    upstream: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    to: SocketAddr,
    (came, state): (u64, Arc<State>),
) {
    let (mut buffer, mut dice) = ([0; 2048], StdRng::seed_from_u64(2));
    while state.cuts() == came {
        if let Ok(length) = upstream.recv(&mut buffer).await
            && state.cuts() == came
            && !state.loses(&mut dice, &buffer[..length])
        {
            let _ = front.send_to(&buffer[..length], to).await;
        }
    }
}
