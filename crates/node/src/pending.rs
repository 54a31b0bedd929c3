//! Viewers that were answered and are not connected yet: how many there may be, in all and of one client address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use egress::ViewerId;
use signaling::http::Problem;

use crate::rate_limit::network_of;

/// Seconds after which a refused client may try again.
const RETRY_AFTER: u32 = 2;

/// Who is connecting.
#[derive(Debug)]
pub struct PendingViewers {
    max: usize,
    client_max: u32,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    clients: HashMap<ViewerId, IpAddr>,
    by_client: HashMap<IpAddr, u32>,
}

impl PendingViewers {
    /// At most `max` in all and `client_max` of one address (of one /64 of IPv6).
    #[must_use]
    pub fn new(max: u32, client_max: u32) -> Self {
        Self { max: max as usize, client_max, tables: Mutex::default() }
    }

    /// A viewer was POSTed by `client`.
    ///
    /// # Errors
    /// What to answer if it is one too many.
    pub fn begin(&self, viewer: ViewerId, client: IpAddr) -> Result<(), Problem> {
        let client = network_of(client);
        let mut tables = self.lock();
        if tables.clients.len() >= self.max {
            return Err(Problem::overloaded(RETRY_AFTER));
        }
        let of_client = tables.by_client.get(&client).copied().unwrap_or(0);
        if of_client >= self.client_max {
            let detail = "Too many sessions from this address are not connected yet. Try again soon.";
            return Err(Problem::new(429, "too-many-pending", detail).with_header("Retry-After", RETRY_AFTER));
        }
        tables.by_client.insert(client, of_client + 1);
        tables.clients.insert(viewer, client);
        Ok(())
    }

    /// The viewer is connected, or gone.
    pub fn end(&self, viewer: ViewerId) {
        let mut tables = self.lock();
        let Some(client) = tables.clients.remove(&viewer) else { return };
        if let Some(of_client) = tables.by_client.get_mut(&client) {
            *of_client -= 1;
            if *of_client == 0 {
                tables.by_client.remove(&client);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_its_share_and_others_have_the_rest() {
        let pending = PendingViewers::new(6, 4);
        let (loud, quiet): (IpAddr, IpAddr) = ([198, 18, 0, 1].into(), [198, 18, 0, 2].into());
        let status =
            |viewer, client| pending.begin(ViewerId::new(viewer), client).map_err(|problem| problem.status);
        assert!((0..4).all(|viewer| status(viewer, loud).is_ok()));
        assert_eq!(status(4, loud), Err(429));
        assert_eq!((status(5, quiet), status(6, quiet)), (Ok(()), Ok(())));
        assert_eq!(status(7, quiet), Err(503), "full for everybody");
        pending.end(ViewerId::new(0));
        pending.end(ViewerId::new(0));
        assert_eq!((status(8, loud), status(9, loud)), (Ok(()), Err(503)));
        (0..10).for_each(|viewer| pending.end(ViewerId::new(viewer)));
        let tables = pending.lock();
        assert!(tables.clients.is_empty() && tables.by_client.is_empty(), "nothing is remembered");
    }

    #[test]
    fn a_refused_client_is_told_when_to_come_back() {
        let pending = PendingViewers::new(9, 0);
        let problem = pending.begin(ViewerId::new(1), [198, 18, 0, 1].into()).expect_err("none allowed");
        assert_eq!(problem.headers, [("Retry-After", "2".to_owned())]);
    }
}
