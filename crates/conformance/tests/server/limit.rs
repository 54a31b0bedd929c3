//! How often one client may ask.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::Method;

use super::Fault;

/// More than a whole run asks at once.
const BURST: f64 = 600.0;
const PER_SECOND: f64 = 20.0;

/// What each client address has left.
#[derive(Default)]
pub(super) struct Limit(Mutex<BTreeMap<IpAddr, (f64, Option<Instant>)>>);

impl Limit {
    /// Takes one request.
    pub(super) fn admits(&self, fault: Fault, method: &Method, client: SocketAddr) -> bool {
        let client = match fault {
            Fault::NoLimit => return true,
            Fault::OnlyPostsAreLimited if method != Method::POST => return true,
            Fault::OneLimitForAll => Ipv4Addr::UNSPECIFIED.into(),
            _ => client.ip(),
        };
        let now = Instant::now();
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, at) = clients.entry(client).or_insert((BURST, None));
        let since = at.replace(now).map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        *left = (*left + since * PER_SECOND).min(BURST);
        let is_admitted = *left >= 1.0;
        if is_admitted {
            *left -= 1.0;
        }
        is_admitted
    }
}
