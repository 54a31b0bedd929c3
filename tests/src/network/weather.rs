//! What happens to packets between the hosts: the thread that carries them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use model::Bitrate;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tun_rs::SyncDevice;

/// More than the device's MTU of 1500.
const PACKET_BYTES_MAX: usize = 2048;
/// Packets under way at once; more are lost. A second of a fast link.
const UNDER_WAY_MAX: usize = 100_000;

/// Where IPv4 says that a packet is a part of one: more follow, or it is not the first (RFC 791, section 3.1).
const FRAGMENT_AT: usize = 6;
const FRAGMENT: u16 = 0x3fff;
/// Where it has its protocol, checksum and addresses, and which protocol is UDP.
const PROTOCOL_AT: usize = 9;
const UDP: u8 = 17;
const CHECKSUM_AT: usize = 10;
const SOURCE_AT: usize = 12;
const DESTINATION_AT: usize = 16;
/// Where a UDP datagram has its own checksum (RFC 768): zero says that there is none.
const UDP_CHECKSUM_AT: usize = 6;

/// How long a packet waits at most where a path is narrow: what home routers have is longer, and worse for media.
pub const QUEUE_MAX: Duration = Duration::from_millis(200);

/// How packets travel from one host to another.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Path {
    /// Share of packets lost at random, 0.0 to 1.0.
    pub loss: f64,
    /// How long each packet takes at least.
    pub delay: Duration,
    /// How much longer it may take, evenly spread: packets that are closer together than this overtake each other.
    pub jitter: Duration,
    /// What fits through in a second; all of it if none is given. Packets wait for each other [`QUEUE_MAX`] long, and are
    /// lost beyond.
    pub bitrate: Option<Bitrate>,
    /// No UDP gets through, as in some offices.
    pub lets_no_udp: bool,
}

/// What a path has done with packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Packets that arrived or will.
    pub passed: u64,
    /// Packets that do not.
    pub lost: u64,
}

/// The state of all paths, shared between the thread and the test.
pub(super) struct Weather {
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    directions: BTreeMap<(Ipv4Addr, Ipv4Addr), Direction>,
    cut: BTreeSet<Ipv4Addr>,
    /// By the address that a host has, the one that all others know it by.
    translated: BTreeMap<Ipv4Addr, Ipv4Addr>,
    is_over: bool,
}

struct Direction {
    path: Path,
    /// When the last packet has left a narrow path.
    free_at: Option<Instant>,
    dice: StdRng,
    carried: Carried,
}

impl Weather {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, from: Ipv4Addr, to: Ipv4Addr, path: Path) {
        self.state().direction(self.seed, from, to).path = path;
    }

    pub(super) fn cut(&self, host: Ipv4Addr, is_cut: bool) {
        let cut = &mut self.state().cut;
        if is_cut {
            cut.insert(host)
        } else {
            cut.remove(&host)
        };
    }

    pub(super) fn translate(&self, host: Ipv4Addr, public: Ipv4Addr) {
        self.state().translated.insert(host, public);
    }

    /// The hosts between which an IPv4 packet goes, after its addresses were translated; `None` if it goes nowhere.
    fn ends(&self, packet: &mut [u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let (from, to) = addresses(packet)?;
        if packet.get(PROTOCOL_AT) != Some(&UDP) {
            return Some((from, to));
        }
        let state = self.state();
        if let Some(public) = state.translated.get(&from) {
            rewrite(packet, SOURCE_AT, *public)?;
        }
        if state.translated.contains_key(&to) {
            return None;
        }
        let Some((host, _)) = state.translated.iter().find(|(_, public)| **public == to) else {
            return Some((from, to));
        };
        rewrite(packet, DESTINATION_AT, *host)?;
        Some((from, *host))
    }

    pub(super) fn carried(&self, from: Ipv4Addr, to: Ipv4Addr) -> Carried {
        self.state().directions.get(&(from, to)).map(|direction| direction.carried).unwrap_or_default()
    }

    pub(super) fn stop(&self) {
        self.state().is_over = true;
    }

    /// How long an IPv4 packet takes; `None` if it is lost.
    fn fate(&self, now: Instant, (from, to): (Ipv4Addr, Ipv4Addr), packet: &[u8]) -> Option<Duration> {
        let mut state = self.state();
        let is_cut = state.cut.contains(&from) || state.cut.contains(&to);
        let direction = state.direction(self.seed, from, to);
        let Path { loss, delay, jitter, lets_no_udp, .. } = direction.path;
        let is_cut = is_cut || lets_no_udp && packet.get(PROTOCOL_AT) == Some(&UDP);
        // Both are drawn for every packet: a change of one does not move the other's sequence.
        let (chance, share) = (direction.dice.random::<f64>(), direction.dice.random::<f64>());
        let queued = direction.queue(now, packet.len()).filter(|_| !is_cut && chance >= loss);
        match queued {
            Some(_) => direction.carried.passed += 1,
            None => direction.carried.lost += 1,
        }
        Some(queued? + delay + jitter.mul_f64(share))
    }
}

impl Direction {
    /// How long a packet waits for those before it and then takes to get through; `None` if the queue is full.
    fn queue(&mut self, now: Instant, bytes: usize) -> Option<Duration> {
        let Some(bitrate) = self.path.bitrate else { return Some(Duration::ZERO) };
        let waits = self.free_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if waits > QUEUE_MAX {
            return None;
        }
        let takes = waits + Duration::from_secs_f64(bytes as f64 * 8.0 / bitrate.as_bps() as f64);
        self.free_at = Some(now + takes);
        Some(takes)
    }
}

impl State {
    /// The generator of a direction depends on the seed and the last numbers of both addresses, so that a network has
    /// the same luck in every slot.
    fn direction(&mut self, seed: u64, from: Ipv4Addr, to: Ipv4Addr) -> &mut Direction {
        let numbers = u64::from(from.octets()[3]) << 8 | u64::from(to.octets()[3]);
        self.directions.entry((from, to)).or_insert_with(|| Direction {
            path: Path::default(),
            free_at: None,
            dice: StdRng::seed_from_u64(seed << 16 | numbers),
            carried: Carried::default(),
        })
    }
}

/// A packet under way: when it arrives, its number among all, the index of the device, its bytes.
type UnderWay = Reverse<(Instant, u64, usize, Vec<u8>)>;

/// Carries packets between the devices until told to stop.
pub(super) fn run(mut poll: Poll, devices: &[(Ipv4Addr, SyncDevice)], weather: &Weather) {
    for (index, (_, device)) in devices.iter().enumerate() {
        let registered =
            poll.registry().register(&mut SourceFd(&device.as_raw_fd()), Token(index), Interest::READABLE);
        registered.expect("epoll takes a TUN device");
    }
    let mut under_way: BinaryHeap<UnderWay> = BinaryHeap::new();
    let mut count = 0;
    let mut events = Events::with_capacity(devices.len() + 1);
    let mut buffer = [0; PACKET_BYTES_MAX];
    loop {
        let wait = under_way.peek().map(|Reverse(next)| next.0.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, wait) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return,
            _ => {}
        }
        if weather.state().is_over {
            return;
        }
        for event in &events {
            let Some((_, device)) = devices.get(event.token().0) else { continue };
            while let Ok(length) = device.recv(&mut buffer) {
                let packet = &mut buffer[..length];
                let Some((from, to)) = weather.ends(packet) else { continue };
                let Some(receiver) = devices.iter().position(|(address, _)| *address == to) else { continue };
                let Some(delay) = weather.fate(Instant::now(), (from, to), packet) else { continue };
                if under_way.len() < UNDER_WAY_MAX {
                    count += 1;
                    under_way.push(Reverse((Instant::now() + delay, count, receiver, packet.to_vec())));
                }
            }
        }
        while under_way.peek().is_some_and(|Reverse(next)| next.0 <= Instant::now()) {
            let Some(Reverse((_, _, receiver, packet))) = under_way.pop() else { break };
            // A device that is down or full loses the packet.
            let _ = devices[receiver].1.send(&packet);
        }
    }
}

/// Source and destination of an IPv4 packet (RFC 791, section 3.1).
fn addresses(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let at = |from: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(from..from + 4)?).ok()?));
    (packet.first()? >> 4 == 4).then_some((at(SOURCE_AT)?, at(DESTINATION_AT)?))
}

/// In one's complement (RFC 1071).
fn sum_of(words: &[[u8; 2]]) -> u32 {
    let sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let once = (sum & 0xffff) + (sum >> 16);
    (once & 0xffff) + (once >> 16)
}

/// Gives a whole UDP packet another address; `None` if it is too short for one, or a part of one.
fn rewrite(packet: &mut [u8], at: usize, address: Ipv4Addr) -> Option<()> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    if u16::from_be_bytes([*packet.get(FRAGMENT_AT)?, *packet.get(FRAGMENT_AT + 1)?]) & FRAGMENT != 0 {
        return None;
    }
    packet.get_mut(at..at + 4)?.copy_from_slice(&address.octets());
    packet.get_mut(header + UDP_CHECKSUM_AT..header + UDP_CHECKSUM_AT + 2)?.fill(0);
    packet[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
    let words = packet.get(..header)?.as_chunks::<2>().0;
    let checksum = !sum_of(words) as u16;
    packet[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Ipv4Addr = Ipv4Addr::new(198, 18, 3, 2);
    const OTHER: Ipv4Addr = Ipv4Addr::new(198, 18, 3, 3);

    fn fate(weather: &Weather, from: Ipv4Addr, to: Ipv4Addr) -> Option<Duration> {
        weather.fate(Instant::now(), (from, to), &[0; 1000])
    }

    fn fates(seed: u64, path: Path) -> Vec<Option<Duration>> {
        let weather = Weather::new(seed);
        weather.set(ONE, OTHER, path);
        (0..10_000).map(|_| fate(&weather, ONE, OTHER)).collect()
    }

    #[test]
    fn the_seed_repeats_what_is_lost_and_how_long_the_rest_takes() {
        let milliseconds = Duration::from_millis;
        let path = Path { loss: 0.05, delay: milliseconds(40), jitter: milliseconds(10), ..Path::default() };
        let fates_of_seven = fates(7, path);
        assert_eq!(fates_of_seven, fates(7, path));
        assert_ne!(fates_of_seven, fates(8, path));
        let lost = fates_of_seven.iter().filter(|fate| fate.is_none()).count();
        assert!((400..600).contains(&lost), "{lost} of 10000 at 5 %");
        assert!(
            fates_of_seven
                .iter()
                .flatten()
                .all(|delay| (milliseconds(40)..=milliseconds(50)).contains(delay))
        );
    }

    #[test]
    fn a_partition_is_both_ways_and_ends() {
        let weather = Weather::new(1);
        weather.cut(ONE, true);
        assert_eq!((fate(&weather, ONE, OTHER), fate(&weather, OTHER, ONE)), (None, None));
        weather.cut(ONE, false);
        assert_eq!(fate(&weather, ONE, OTHER), Some(Duration::ZERO));
        assert_eq!(weather.carried(ONE, OTHER), Carried { passed: 1, lost: 1 });
        assert_eq!(weather.carried(OTHER, ONE), Carried { passed: 0, lost: 1 });
    }

    #[test]
    fn a_translated_host_has_one_address_inside_and_another_outside() {
        const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 18, 3, 200);
        let weather = Weather::new(1);
        weather.translate(ONE, PUBLIC);
        // 20 bytes of header without options, 8 of UDP, nothing in it.
        let packet = |from: Ipv4Addr, to: Ipv4Addr| {
            let mut packet = [0; 28];
            (packet[0], packet[3], packet[8], packet[PROTOCOL_AT]) = (0x45, 28, 64, UDP);
            packet[SOURCE_AT..SOURCE_AT + 4].copy_from_slice(&from.octets());
            packet[DESTINATION_AT..DESTINATION_AT + 4].copy_from_slice(&to.octets());
            packet
        };
        let mut coming = packet(OTHER, PUBLIC);
        assert_eq!(weather.ends(&mut coming), Some((OTHER, ONE)));
        assert_eq!(addresses(&coming), Some((OTHER, ONE)));
        let mut going = packet(ONE, OTHER);
        assert_eq!(weather.ends(&mut going), Some((ONE, OTHER)));
        assert_eq!(addresses(&going), Some((PUBLIC, OTHER)));
        assert_eq!(weather.ends(&mut packet(OTHER, ONE)), None, "nobody outside knows that address");
        // A whole header sums up to all ones (RFC 1071).
        for packet in [coming, going] {
            assert_eq!(sum_of(packet[..20].as_chunks().0), 0xffff);
        }
        assert_eq!(sum_of(&[[0xff; 2], [0xff; 2], [0, 1]]), 1, "the carry of a carry");
        let mut part = packet(OTHER, PUBLIC);
        part[FRAGMENT_AT] = 0x20;
        assert_eq!(weather.ends(&mut part), None);
        let mut tcp = packet(OTHER, ONE);
        tcp[PROTOCOL_AT] = 6;
        assert_eq!(weather.ends(&mut tcp), Some((OTHER, ONE)), "operators look from inside");
    }

    #[test]
    fn a_narrow_path_delays_and_then_loses() {
        let weather = Weather::new(1);
        weather.set(ONE, OTHER, Path { bitrate: Some(Bitrate::kbps(800)), ..Path::default() });
        let now = Instant::now();
        let fates: Vec<_> = (0..30).map(|_| weather.fate(now, (ONE, OTHER), &[0; 1000])).collect();
        let expected = |index: u64| (index < 21).then_some(Duration::from_millis(10 * (index + 1)));
        assert_eq!(fates, (0..30).map(expected).collect::<Vec<_>>(), "10 ms each, and 200 ms of them wait");
        let later = weather.fate(now + Duration::from_secs(1), (ONE, OTHER), &[0; 500]);
        assert_eq!(later, Some(Duration::from_millis(5)));
    }

    #[test]
    fn a_path_without_udp_lets_everything_else_through() {
        let weather = Weather::new(1);
        weather.set(ONE, OTHER, Path { lets_no_udp: true, ..Path::default() });
        let of_protocol = |protocol| {
            let mut packet = [0; 20];
            packet[PROTOCOL_AT] = protocol;
            weather.fate(Instant::now(), (ONE, OTHER), &packet)
        };
        assert_eq!((of_protocol(UDP), of_protocol(6)), (None, Some(Duration::ZERO)));
    }

    #[test]
    fn only_whole_ipv4_headers_have_addresses() {
        let mut packet = [0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&ONE.octets());
        packet[16..20].copy_from_slice(&OTHER.octets());
        assert_eq!(addresses(&packet), Some((ONE, OTHER)));
        assert_eq!(addresses(&packet[..19]), None);
        packet[0] = 0x60;
        assert_eq!(addresses(&packet), None);
        assert_eq!(addresses(&[]), None);
    }
}
