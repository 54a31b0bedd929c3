//! How often one client address may POST, PATCH or DELETE.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Client addresses remembered at once; when nobody can be forgotten, strangers share one allowance.
const ADDRESSES_MAX: usize = 65_536;
/// So many are not worth a sweep.
const SWEEP_ABOVE: usize = 1024;
/// A sweep looks at everybody, so sweeps keep this distance.
const BETWEEN_SWEEPS: Duration = Duration::from_millis(100);

/// A token bucket for each client address. IPv6 clients are told apart by /64, since one host owns that many.
pub struct RateLimit {
    per_second: f64,
    burst: f64,
    buckets: Mutex<Buckets>,
}

/// Swept each time they have doubled: those with a full allowance are forgotten, which changes nothing for them.
struct Buckets {
    by_client: HashMap<IpAddr, Bucket>,
    sweep_above: usize,
    next_sweep: Option<Instant>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimit {
    /// `per_second` requests in the long run, `burst` at once.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let buckets = Buckets { by_client: HashMap::new(), sweep_above: SWEEP_ABOVE, next_sweep: None };
        Self { per_second: per_second.into(), burst: burst.into(), buckets: buckets.into() }
    }

    /// Takes one request of `client`.
    ///
    /// # Errors
    /// How long to wait if the allowance is used up.
    pub fn take(&self, now: Instant, client: IpAddr) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut client = network_of(client);
        if !buckets.by_client.contains_key(&client) {
            if buckets.by_client.len() > buckets.sweep_above && buckets.next_sweep.is_none_or(|at| at <= now)
            {
                buckets.sweep(now, self.per_second, self.burst);
            }
            if buckets.by_client.len() >= ADDRESSES_MAX {
                client = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
            }
        }
        let bucket = buckets.by_client.entry(client).or_insert(Bucket { tokens: self.burst, at: now });
        bucket.tokens = bucket.refilled(now, self.per_second, self.burst);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second.max(0.001)))
    }
}

impl Buckets {
    fn sweep(&mut self, now: Instant, per_second: f64, burst: f64) {
        self.by_client.retain(|_, bucket| bucket.refilled(now, per_second, burst) < burst);
        self.sweep_above = (2 * self.by_client.len()).clamp(SWEEP_ABOVE, ADDRESSES_MAX - 1);
        self.by_client.shrink_to(self.sweep_above);
        self.next_sweep = Some(now + BETWEEN_SWEEPS);
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

    impl RateLimit {
        fn remembered(&self) -> usize {
            self.buckets.lock().expect("not poisoned").by_client.len()
        }
    }

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
        for index in 1..=100_000u32 {
            let _ = limit.take(start, IpAddr::V4(index.into()));
        }
        assert_eq!(limit.remembered(), ADDRESSES_MAX + 1, "strangers share one");
        assert!(limit.take(start + Duration::from_secs(2), [198, 18, 0, 1].into()).is_ok());
        assert_eq!(limit.remembered(), 1, "who has a full allowance is forgotten");
    }

    #[test]
    fn those_who_came_once_are_not_kept() {
        let limit = RateLimit::new(10, 20);
        let start = Instant::now();
        for index in 1..=100_000u32 {
            let now = start + Duration::from_millis(1) * index;
            assert!(limit.take(now, IpAddr::V4(index.into())).is_ok());
        }
        assert!(limit.remembered() <= SWEEP_ABOVE + 1);
        assert!(limit.buckets.lock().expect("not poisoned").by_client.capacity() <= 2 * SWEEP_ABOVE);
    }

    #[test]
    fn one_ipv6_host_is_one_client() {
        let limit = RateLimit::new(1, 1);
        let start = Instant::now();
        assert!(limit.take(start, "2001:db8::1".parse().expect("address")).is_ok());
        assert!(limit.take(start, "2001:db8::2".parse().expect("address")).is_err());
    }
}
