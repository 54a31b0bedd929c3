//! How often one client address may POST, PATCH or DELETE.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Client addresses remembered at once. When they are more, those with a full allowance are forgotten, which changes
/// nothing for them; when nobody can be forgotten, strangers share one allowance.
const ADDRESSES_MAX: usize = 65_536;

/// A token bucket for each client address. IPv6 clients are told apart by /64, since one host owns that many.
pub struct RateLimit {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimit {
    /// `per_second` requests in the long run, `burst` at once.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: per_second.into(), burst: burst.into(), buckets: Mutex::default() }
    }

    /// Takes one request of `client`.
    ///
    /// # Errors
    /// How long to wait if the allowance is used up.
    pub fn take(&self, now: Instant, client: IpAddr) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut client = network_of(client);
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&client) {
            let (per_second, burst) = (self.per_second, self.burst);
            buckets.retain(|_, bucket| bucket.refilled(now, per_second, burst) < burst);
            if buckets.len() >= ADDRESSES_MAX {
                client = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
            }
        }
        let bucket = buckets.entry(client).or_insert(Bucket { tokens: self.burst, at: now });
        bucket.tokens = bucket.refilled(now, self.per_second, self.burst);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second.max(0.001)))
    }
}

impl Bucket {
    fn refilled(&self, now: Instant, per_second: f64, burst: f64) -> f64 {
        (self.tokens + now.saturating_duration_since(self.at).as_secs_f64() * per_second).min(burst)
    }
}

/// Who counts as one client: an IPv4 address, or a /64 of IPv6.
pub fn network_of(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            IpAddr::V6(octets.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_others_are_not() {
        let limit = RateLimit::new(10, 20);
        let start = Instant::now();
        let (loud, quiet): (IpAddr, IpAddr) = ([198, 18, 0, 1].into(), [198, 18, 0, 2].into());
        let passed = (0..1000).filter(|_| limit.take(start, loud).is_ok()).count();
        assert_eq!(passed, 20);
        assert!(limit.take(start, quiet).is_ok());
        let wait = limit.take(start, loud).expect_err("used up");
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert!(limit.take(start + wait, loud).is_ok());
    }

    #[test]
    fn memory_is_bounded_under_a_flood_of_addresses() {
        let limit = RateLimit::new(10, 20);
        let start = Instant::now();
        for index in 0..100_000u32 {
            let _ = limit.take(start, IpAddr::V4(index.into()));
        }
        assert!(limit.buckets.lock().expect("not poisoned").len() <= ADDRESSES_MAX + 1);
    }

    #[test]
    fn one_ipv6_host_is_one_client() {
        let limit = RateLimit::new(1, 1);
        let start = Instant::now();
        assert!(limit.take(start, "2001:db8::1".parse().expect("address")).is_ok());
        assert!(limit.take(start, "2001:db8::2".parse().expect("address")).is_err());
    }
}
