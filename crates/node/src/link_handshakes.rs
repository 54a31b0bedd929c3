//! Who may shake hands for a link channel.
//!
//! Whoever receives at an address can begin a handshake, and only its end shows who holds the cluster key. So those under way are
//! bounded in number and in time; of one client there are fewer, so that others get through.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::metrics::counter::Counter;
use quinn::{Connection, Incoming};

use crate::rate_limit::network_of;

/// Handshakes under way, at most: all children of a parent dial at once when it has started again. Who is refused dials again.
const UNDER_WAY_MAX: u32 = 256;
/// Of one client address, behind which there may be several nodes.
const UNDER_WAY_OF_CLIENT_MAX: u32 = 64;
/// A few round trips, also if some packets are lost. QUIC itself waits for as long as anything comes.
const TIME_MAX: Duration = Duration::from_secs(5);

/// The handshakes under way at the node's link port.
pub struct LinkHandshakes {
    by_client: Mutex<BTreeMap<IpAddr, u32>>,
    refused: Counter,
}

impl LinkHandshakes {
    /// None yet; who is refused is counted.
    pub fn new(refused: Counter) -> Arc<Self> {
        Arc::new(Self { by_client: Mutex::default(), refused })
    }

    /// The handshake of a client that has proved its address, to be awaited; `None` if it was refused for want of room.
    pub fn begin(
        self: &Arc<Self>,
        incoming: Incoming,
    ) -> Option<impl Future<Output = anyhow::Result<Connection>> + use<>> {
        match self.place(incoming.remote_address().ip()) {
            Some(place) => Some(place.hold(incoming)),
            None => {
                incoming.refuse();
                None
            }
        }
    }

    fn place(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let client = network_of(client);
        let mut by_client = self.lock();
        let of_client = by_client.get(&client).copied().unwrap_or(0);
        if of_client >= UNDER_WAY_OF_CLIENT_MAX || by_client.values().sum::<u32>() >= UNDER_WAY_MAX {
            self.refused.inc();
            return None;
        }
        by_client.insert(client, of_client + 1);
        Some(Place { handshakes: self.clone(), client })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, u32>> {
        self.by_client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for a handshake; given back when dropped.
struct Place {
    handshakes: Arc<LinkHandshakes>,
    client: IpAddr,
}

impl Place {
    /// Waits for the end of a handshake, for as long as that may take.
    async fn hold<T, E>(self, handshake: impl IntoFuture<Output = Result<T, E>>) -> anyhow::Result<T>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let ended = tokio::time::timeout(TIME_MAX, handshake).await;
        Ok(ended.context("the handshake takes too long")??)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_client = self.handshakes.lock();
        if let Some(of_client) = by_client.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use quinn::Endpoint;

    use super::*;
    use crate::link_identity::{LinkIdentity, SERVER_NAME};

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 1));

    fn places(handshakes: &Arc<LinkHandshakes>, clients: impl Iterator<Item = IpAddr>) -> Vec<Place> {
        clients.filter_map(|client| handshakes.place(client)).collect()
    }

    #[test]
    fn there_is_an_end_to_handshakes_and_one_client_leaves_room_for_others() {
        let refused = Counter::default();
        let handshakes = LinkHandshakes::new(refused.clone());
        let loud = places(&handshakes, std::iter::repeat_n(CLIENT, 100));
        assert_eq!((loud.len() as u32, refused.get()), (UNDER_WAY_OF_CLIENT_MAX, 36));
        let others = (1..=255).map(|last| IpAddr::from([198, 18, 1, last]));
        let others = places(&handshakes, others);
        assert_eq!((loud.len() + others.len()) as u32, UNDER_WAY_MAX);
        assert_eq!(refused.get(), 36 + 63, "each that was refused is counted");
        drop((loud, others));
        assert!(handshakes.lock().is_empty(), "nothing is remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_does_not_end_gives_its_place_back() {
        let handshakes = LinkHandshakes::new(Counter::default());
        let begun = tokio::time::Instant::now();
        let place = handshakes.place(CLIENT).expect("a place");
        let ended = place.hold(std::future::pending::<Result<(), io::Error>>()).await;
        assert!(ended.is_err() && begun.elapsed() >= TIME_MAX);
        assert!(handshakes.lock().is_empty());
    }

    /// An endpoint on loopback, which listens if it has a configuration for that.
    fn endpoint(identity: &LinkIdentity, server: Option<quinn::ServerConfig>) -> Endpoint {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let config = identity.endpoint().expect("a configuration");
        Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime)).expect("an endpoint")
    }

    #[tokio::test]
    async fn a_handshake_for_which_there_is_no_room_is_refused_and_others_go_on() {
        let identity = LinkIdentity::new(b"the secret of the cluster").expect("an identity");
        let server = identity.server().expect("a configuration");
        let server = quinn::crypto::rustls::QuicServerConfig::try_from(server).expect("it has TLS 1.3");
        let listening = endpoint(&identity, Some(quinn::ServerConfig::with_crypto(Arc::new(server))));
        let mut dialling = endpoint(&identity, None);
        let client = identity.client().expect("a configuration");
        let client = quinn::crypto::rustls::QuicClientConfig::try_from(client).expect("it has TLS 1.3");
        dialling.set_default_client_config(quinn::ClientConfig::new(Arc::new(client)));
        let address = listening.local_addr().expect("an address");
        let dial = || dialling.connect(address, SERVER_NAME).expect("it dials");
        let refused = Counter::default();
        let handshakes = LinkHandshakes::new(refused.clone());

        let first = dial();
        let under_way = handshakes.begin(listening.accept().await.expect("the first")).expect("room");
        let client = address.ip();
        let rest = places(&handshakes, std::iter::repeat_n(client, UNDER_WAY_OF_CLIENT_MAX as usize - 1));
        let second = dial();
        assert!(handshakes.begin(listening.accept().await.expect("the second")).is_none());
        assert!(second.await.is_err(), "it is told at once");
        assert_eq!(refused.get(), 1);
        let (ours, theirs) = tokio::join!(under_way, first);
        assert!(ours.is_ok() && theirs.is_ok(), "the first goes on");
        drop(rest);
        let third = dial();
        let under_way = handshakes.begin(listening.accept().await.expect("the third")).expect("room again");
        let (ours, theirs) = tokio::join!(under_way, third);
        assert!(ours.is_ok() && theirs.is_ok());
        assert_eq!(refused.get(), 1);
    }
}
