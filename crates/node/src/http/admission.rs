//! Room for connections: in all, and of one client address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use telemetry::node::AdmissionCounters;
use tokio::net::{TcpListener, TcpStream};

use super::listener::Limits;
use crate::rate_limit::network_of;

/// How often it is logged that connections are refused.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// After an attempt to accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who may connect.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    counters: AdmissionCounters,
    connected: Mutex<Connected>,
}

#[derive(Debug, Default)]
struct Connected {
    count: u32,
    by_client: HashMap<IpAddr, u32>,
    /// Refused since it was last logged, and when that was.
    refused: u64,
    logged_at: Option<Instant>,
}

impl Admission {
    pub fn new(limits: Limits, counters: AdmissionCounters) -> Self {
        Self { limits, counters, connected: Mutex::default() }
    }

    /// The next connection that has a place. `what` is for the log.
    pub async fn accept(
        self: &Arc<Self>,
        listener: &TcpListener,
        what: &str,
    ) -> (TcpStream, SocketAddr, Place) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(place) = self.admit(peer.ip()) {
                        return (stream, peer, place);
                    }
                }
                Err(error) => {
                    // Out of file descriptors, mostly: the next client must not find a spinning loop.
                    tracing::warn!(%error, "cannot accept a connection {what}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A place for one more connection of `client`; `None` if there is none.
    pub fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let is_proxy = self.limits.trusted_proxies.iter().any(|network| network.contains(client));
        let client = network_of(client);
        let mut connected = self.lock();
        let of_client = connected.by_client.get(&client).copied().unwrap_or(0);
        let is_full = connected.count >= self.limits.connections_max;
        if is_full || !is_proxy && of_client >= self.limits.client_connections_max {
            if is_full {
                self.counters.full();
            } else {
                self.counters.client_full();
            }
            connected.log_refusal(Instant::now(), is_full);
            return None;
        }
        connected.count += 1;
        connected.by_client.insert(client, of_client + 1);
        self.counters.opened();
        Some(Place { admission: self.clone(), client })
    }

    fn lock(&self) -> MutexGuard<'_, Connected> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
    fn log_refusal(&mut self, now: Instant, is_full: bool) {
        self.refused += 1;
        if self.logged_at.is_some_and(|at| now < at + LOG_INTERVAL) {
            return;
        }
        let why =
            if is_full { "limits.connections_max" } else { "limits.client_connections_max of one address" };
        tracing::warn!(refused = self.refused, "HTTP connections refused: {why} reached");
        self.refused = 0;
        self.logged_at = Some(now);
    }
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connected = self.admission.lock();
        connected.count -= 1;
        if let Some(of_client) = connected.by_client.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                connected.by_client.remove(&self.client);
            }
        }
        self.admission.counters.closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Arc<Admission> {
        let trusted_proxies = vec!["10.0.0.1".parse().expect("a network")];
        let limits = Limits { connections_max: 6, client_connections_max: 4, trusted_proxies };
        Arc::new(Admission::new(limits, AdmissionCounters::default()))
    }

    #[test]
    fn one_client_does_not_take_the_places_of_others() {
        let admission = admission();
        let (loud, quiet): (IpAddr, IpAddr) = ([198, 18, 0, 1].into(), [198, 18, 0, 2].into());
        let places: Vec<Place> = (0..10).filter_map(|_| admission.admit(loud)).collect();
        assert_eq!(places.len(), 4);
        let other = admission.admit(quiet).expect("room for another");
        drop(places);
        assert!(admission.admit(loud).is_some(), "places are given back");
        let of_proxy: Vec<Place> = (0..10).filter_map(|_| admission.admit([10, 0, 0, 1].into())).collect();
        assert_eq!(of_proxy.len(), 5, "a proxy comes for many");
        drop(of_proxy);
        drop(other);
        assert!(
            admission.lock().by_client.is_empty() && admission.lock().count == 0,
            "nothing is remembered"
        );
    }

    #[test]
    fn there_is_an_end_to_connections_in_all() {
        let admission = admission();
        let clients = (0..10u8).map(|last| IpAddr::from([198, 18, 0, last]));
        let places: Vec<Place> = clients.filter_map(|client| admission.admit(client)).collect();
        assert_eq!(places.len(), 6);
    }
}
