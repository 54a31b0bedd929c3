//! Whether media gets through: ICE checks to each address of an answer, over UDP and over TCP (RFC 8445, RFC 6544).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use client::IceDescription;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::PATIENCE;
use super::addresses::{Between, Scope, list, scope};
use super::finding::{Check, Finding};
use crate::stun::{self, Manner};

/// Addresses of one answer that are tried.
const ADDRESSES_MAX: usize = 16;
/// No answer to a check is longer.
const ANSWER_BYTES_MAX: usize = 2048;

/// An address, and how long its answer took; none if it did not come.
struct Tried {
    address: SocketAddr,
    answered: Option<Duration>,
}

fn parts(tried: &[Tried]) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let (good, bad): (Vec<&Tried>, Vec<&Tried>) = tried.iter().partition(|tried| tried.answered.is_some());
    let addresses = |tried: Vec<&Tried>| tried.into_iter().map(|tried| tried.address).collect();
    (addresses(good), addresses(bad))
}

/// Those that answer, each with its time.
fn times(tried: &[Tried]) -> String {
    let told = |tried: &Tried| {
        tried.answered.map(|time| format!("{} after {:.0} ms", tried.address, time.as_secs_f64() * 1000.0))
    };
    tried.iter().filter_map(told).collect::<Vec<_>>().join(", ")
}

fn ports(addresses: &[SocketAddr]) -> String {
    let mut ports: Vec<u16> = addresses.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Tries every address over UDP. Also gives whether any answers.
pub(super) async fn over_udp(between: Between, server: &IceDescription, ufrag: &str) -> (Finding, bool) {
    let addresses = stun::addresses(&server.candidates).into_iter().take(ADDRESSES_MAX);
    let tried = addresses.map(|address| async move {
        let begun = Instant::now();
        let answered = ask_over_udp(address, server, ufrag).await.then(|| begun.elapsed());
        Tried { address, answered }
    });
    let tried = futures_util::future::join_all(tried).await;
    let is_through = tried.iter().any(|tried| tried.answered.is_some());
    (judge_udp(between, &tried), is_through)
}

async fn ask_over_udp(address: SocketAddr, server: &IceDescription, ufrag: &str) -> bool {
    let alone = IceDescription { candidates: vec![stun::candidate(address)], ..server.clone() };
    stun::answering(&alone, ufrag, Manner::Whole).await.is_some()
}

fn judge_udp(between: Between, tried: &[Tried]) -> Finding {
    let (good, bad) = parts(tried);
    let (told, silent) = (times(tried), list(&bad));
    let is_public = |address: &&SocketAddr| scope(address.ip()) == Scope::Public;
    if good.is_empty() {
        let finding = Finding::bad(Check::Udp, format!("nobody answers at {silent}"));
        let can_be_private = bad.iter().any(|address| is_public(&address)) || between.is_inside();
        return finding.advise(if can_be_private {
            format!(
                "Open UDP port {} for everybody, in the machine's firewall and in the provider's (security group); behind a \
                 router, send it on to the node; if the node has another address, start it with --public-ip ADDRESS.",
                ports(&bad)
            )
        } else {
            format!("Offer an address that clients reach: --public-ip {} (media.public_ip).", between.server)
        });
    }
    let is_first_silent = tried.first().is_some_and(|first| first.answered.is_none());
    let is_hairpin =
        bad.iter().any(|address| is_public(&address)) && !good.iter().any(|good| is_public(&good));
    if is_hairpin && !between.is_here() {
        return Finding::warning(Check::Udp, format!("answers come from {told}; none from {silent}")).advise(
            "You may be inside the server's network, and the router does not send its own network's packets back to its \
             public address (hairpin). Try it from outside before you change anything.",
        );
    }
    if is_first_silent {
        return Finding::warning(
            Check::Udp,
            format!("answers come from {told}; none from {silent}, the first one"),
        )
        .advise("ffmpeg tries the first address alone: have the right one there with --public-ip ADDRESS.");
    }
    if !bad.is_empty() {
        let said = format!("answers come from {told}; the others are not reached from here: {silent}");
        return Finding::good(Check::Udp, said);
    }
    Finding::good(Check::Udp, format!("answers come from {told}"))
}

/// Tries every address over TCP.
pub(super) async fn over_tcp(server: &IceDescription, ufrag: &str) -> Finding {
    let addresses: Vec<SocketAddr> =
        stun::tcp_addresses(&server.candidates).into_iter().take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Finding::note(
            Check::Tcp,
            "no address is offered over TCP: whose network lets no UDP out needs a TURN server, or RTMPS to publish",
        )
        .advise("Set media.tcp = true (--media-tcp=true) to listen for media over TCP on the same ports.");
    }
    let tried = addresses.iter().map(|address| async move {
        let begun = Instant::now();
        let answered = timeout(PATIENCE, ask_over_tcp(*address, server, ufrag)).await;
        let is_answered = answered.is_ok_and(|answered| answered.unwrap_or(false));
        Tried { address: *address, answered: is_answered.then(|| begun.elapsed()) }
    });
    let tried = futures_util::future::join_all(tried).await;
    let (good, bad) = parts(&tried);
    if good.is_empty() {
        let said = format!("nobody answers at {}: who can send no UDP is left out", list(&bad));
        let advice = format!("Open TCP port {} as well as UDP (the same numbers).", ports(&bad));
        return Finding::warning(Check::Tcp, said).advise(advice);
    }
    Finding::good(Check::Tcp, format!("answers come from {}", times(&tried)))
}

/// One check and its answer, each behind its length (RFC 4571).
async fn ask_over_tcp(address: SocketAddr, server: &IceDescription, ufrag: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let transaction = crate::offer::random();
    let username = format!("{}:{ufrag}", server.ufrag);
    let check = stun::request(transaction, (&username, &server.pwd), Manner::Whole);
    stream.write_all(&(check.len() as u16).to_be_bytes()).await?;
    stream.write_all(&check).await?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).await?;
        let mut frame = vec![0; usize::from(u16::from_be_bytes(length)).min(ANSWER_BYTES_MAX)];
        stream.read_exact(&mut frame).await?;
        // Others are checks of the server's own.
        if stun::is_success(&frame, transaction) {
            return Ok(true);
        }
    }
}

/// The address of this machine that faces `server`.
pub(super) async fn facing(server: SocketAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reachability::State;

    fn judged(server: &str, from: &str, tried: &[(&str, bool)]) -> Finding {
        let ip = |text: &str| text.parse().expect("an address");
        let tried: Vec<Tried> = tried
            .iter()
            .map(|(address, is_answered)| Tried {
                address: SocketAddr::new(ip(address), 50_000),
                answered: is_answered.then_some(Duration::from_millis(3)),
            })
            .collect();
        judge_udp(Between { server: ip(server), from: ip(from) }, &tried)
    }

    #[test]
    fn a_closed_port_is_told_from_a_wrong_address() {
        let closed = judged("203.0.113.7", "198.51.100.3", &[("203.0.113.7", false), ("10.0.0.5", false)]);
        assert_eq!(closed.state, State::Bad);
        assert!(closed.advice.clone().unwrap_or_default().contains("UDP port 50000"), "{closed:?}");
        let wrong = judged("203.0.113.7", "198.51.100.3", &[("10.0.0.5", false)]);
        assert!(wrong.advice.clone().unwrap_or_default().contains("--public-ip 203.0.113.7"), "{wrong:?}");
    }

    #[test]
    fn hairpins_and_wrong_orders_are_warnings() {
        let hairpin = judged("203.0.113.7", "10.0.0.9", &[("203.0.113.7", false), ("10.0.0.5", true)]);
        assert_eq!(hairpin.state, State::Warning);
        assert!(hairpin.advice.clone().unwrap_or_default().contains("hairpin"), "{hairpin:?}");
        let order = judged("10.0.0.5", "10.0.0.9", &[("172.17.0.1", false), ("10.0.0.5", true)]);
        assert_eq!(order.state, State::Warning);
        assert!(order.advice.clone().unwrap_or_default().contains("ffmpeg"), "{order:?}");
        let rest = judged("10.0.0.5", "10.0.0.9", &[("10.0.0.5", true), ("172.17.0.1", false)]);
        assert_eq!(rest.state, State::Good);
    }
}
