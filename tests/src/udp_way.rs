//! A way to a UDP port on loopback that can be cut for those who go it, as when a NAT forgets them or their network is
//! another one: who begins anew, from another port, gets through.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The way. Ends with its value.
pub struct UdpWay {
    /// Where it begins.
    pub port: u16,
    cuts: Arc<AtomicU64>,
    carrying: JoinHandle<()>,
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
        let cuts = Arc::new(AtomicU64::new(0));
        let begins = front.local_addr()?.port();
        let carrying = tokio::spawn({
            let cuts = cuts.clone();
            async move {
                // An error of a socket on loopback ends the way, and with it the test.
                let _ = carry(&front, (Ipv4Addr::LOCALHOST, port).into(), &cuts).await;
            }
        });
        Ok(Self { port: begins, cuts, carrying })
    }

    /// Nothing gets through any more, either way, for whoever has gone it so far.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for UdpWay {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

async fn carry(front: &Arc<UdpSocket>, server: SocketAddr, cuts: &Arc<AtomicU64>) -> std::io::Result<()> {
    let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = front.recv_from(&mut buffer).await?;
        if let Entry::Vacant(vacant) = flows.entry(from) {
            let upstream = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
            upstream.connect(server).await?;
            let now = cuts.load(Ordering::Relaxed);
            let returning =
                tokio::spawn(bring_back(upstream.clone(), front.clone(), from, (now, cuts.clone())));
            vacant.insert(Flow { upstream, cuts: now, returning });
        }
        let flow = &flows[&from];
        if flow.cuts == cuts.load(Ordering::Relaxed) {
            // Nobody may be there at the moment.
            let _ = flow.upstream.send(&buffer[..length]).await;
        }
    }
}

async fn bring_back(
    upstream: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    to: SocketAddr,
    (came, cuts): (u64, Arc<AtomicU64>),
) {
    let mut buffer = [0; 2048];
    while cuts.load(Ordering::Relaxed) == came {
        if let Ok(length) = upstream.recv(&mut buffer).await
            && cuts.load(Ordering::Relaxed) == came
        {
            let _ = front.send_to(&buffer[..length], to).await;
        }
    }
}
