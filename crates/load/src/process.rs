//! What this process uses and may use, from the kernel.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Error;

/// Processor time used since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cpu {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Cpu {
    /// Of this process up to now; zero where the kernel does not tell.
    pub(crate) fn now() -> Self {
        Self::parse(
            &fs::read_to_string("/proc/self/stat").unwrap_or_default(),
            rustix::param::clock_ticks_per_second(),
        )
        .unwrap_or_default()
    }

    fn parse(stat: &str, ticks_per_second: u64) -> Option<Self> {
        // The second field is the name, which may hold anything; `utime` and `stime` are the 14th and 15th.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let mut time = || {
            let ticks: u64 = fields.next()?.parse().ok()?;
            Some(Duration::from_secs_f64(ticks as f64 / ticks_per_second.max(1) as f64))
        };
        Some(Self { user: time()?, system: time()? })
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// Memory in use by this process; zero where the kernel does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Datagrams that this machine, or network namespace, has dropped because a receive buffer was full.
pub(crate) fn receive_buffer_overflows() -> u64 {
    overflows(&fs::read_to_string("/proc/net/snmp").unwrap_or_default()).unwrap_or(0)
}

fn overflows(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let position = names.split(' ').position(|name| name == "RcvbufErrors")?;
    values.split(' ').nth(position)?.parse().ok()
}

/// Makes sure that the process may open so many files and sockets; raises its limit as far as it may.
///
/// # Errors
/// [`Error::Descriptors`] says what to raise.
pub(crate) fn allow_descriptors(needed: u64) -> Result<(), Error> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(needed));
    for wanted in [limit.maximum, maximum] {
        let is_enough = wanted.is_none_or(|wanted| wanted >= needed);
        let raised = Rlimit { current: Some(needed), maximum: wanted };
        // The hard limit is only for those with CAP_SYS_RESOURCE.
        if is_enough && setrlimit(Resource::Nofile, raised).is_ok() {
            return Ok(());
        }
    }
    Err(Error::Descriptors { needed, allowed: limit.maximum.unwrap_or(u64::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_name_with_brackets() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 125 0 0 20 0 5 0 99";
        let cpu = Cpu::parse(stat, 100).unwrap();
        assert_eq!(cpu, Cpu { user: Duration::from_millis(2500), system: Duration::from_millis(1250) });
        assert_eq!(Cpu::parse("broken", 100), None);
        assert!(resident_bytes() > 0);
    }

    #[test]
    fn overflows_are_read_by_their_name() {
        let snmp = "Ip: A B\nIp: 1 2\nUdp: InDatagrams RcvbufErrors X\nUdp: 9 42 3\nUdpLite: RcvbufErrors\nUdpLite: 7\n";
        assert_eq!(overflows(snmp), Some(42));
        assert_eq!(overflows(""), None);
    }

    #[test]
    fn what_is_allowed_already_is_no_error_and_what_is_impossible_is() {
        assert!(allow_descriptors(10).is_ok());
        let refused = allow_descriptors(u64::MAX - 1).unwrap_err().to_string();
        assert!(refused.contains("ulimit -n"), "{refused}");
    }
}
