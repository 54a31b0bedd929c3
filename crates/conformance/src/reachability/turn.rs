//! Whether the STUN and TURN servers answer that a server tells of.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::finding::{Check, Finding};
use super::{PATIENCE, certificate};
use crate::link::Link;
use crate::stun;

/// Servers that are tried.
const SERVERS_MAX: usize = 8;
/// Binding requests to one server over UDP.
const TRIES: usize = 3;

/// How a server is asked (RFC 7065).
#[derive(Debug, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Server {
    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let is_tcp = query.eq_ignore_ascii_case("transport=tcp");
        let (transport, usual) = match scheme {
            "stun" => (Transport::Udp, 3478),
            "turn" if is_tcp => (Transport::Tcp, 3478),
            "turn" => (Transport::Udp, 3478),
            "turns" | "stuns" => (Transport::Tls, 5349),
            _ => return None,
        };
        // The colons of an IPv6 address stand in brackets.
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (place, usual),
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        (!host.is_empty()).then_some(Self { host, port, transport })
    }

    /// Why it does not answer.
    async fn ask(&self) -> Result<(), String> {
        let resolved = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let mut resolved = resolved.map_err(|_| format!("there is no name {}", self.host))?;
        let address = resolved.next().ok_or("its name has no address")?;
        let asked = timeout(PATIENCE, async {
            match self.transport {
                Transport::Udp => ask_over_udp(address).await.map_err(|error| error.to_string()),
                Transport::Tcp => {
                    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
                    ask_over(stream).await.map_err(|error| error.to_string())
                }
                Transport::Tls => {
                    let stream = certificate::tls(&self.host, address).await?;
                    ask_over(stream).await.map_err(|error| error.to_string())
                }
            }
        });
        asked.await.map_err(|_| "no answer in time".to_owned())?
    }
}

async fn ask_over_udp(address: SocketAddr) -> std::io::Result<()> {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    let transaction = crate::offer::random();
    let mut buffer = [0; 2048];
    for _ in 0..TRIES {
        socket.send(&stun::open_request(transaction)).await?;
        if let Ok(received) = timeout(PATIENCE / 4, socket.recv(&mut buffer)).await
            && stun::is_success(&buffer[..received?], transaction)
        {
            return Ok(());
        }
    }
    Err(std::io::ErrorKind::TimedOut.into())
}

/// STUN over a stream has no frames of its own (RFC 8489, section 6.2.2).
async fn ask_over(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let transaction = crate::offer::random();
    stream.write_all(&stun::open_request(transaction)).await?;
    stream.flush().await?;
    let mut head = [0; stun::HEADER_BYTES];
    stream.read_exact(&mut head).await?;
    let is_answer = stun::is_success(&head, transaction);
    if is_answer { Ok(()) } else { Err(std::io::Error::other("what answers speaks no STUN")) }
}

/// Asks each of the servers in the `Link` headers of an answer.
pub(super) async fn servers(links: &[Link]) -> Vec<Finding> {
    let urls: Vec<&str> = links
        .iter()
        .filter(|link| link.relation() == "ice-server")
        .map(|link| link.target.as_str())
        .collect();
    if urls.is_empty() {
        return vec![Finding::note(
            Check::Turn,
            "no TURN server is told: networks that let neither UDP nor TCP through to the media ports are left out",
        )];
    }
    let asked = urls.into_iter().take(SERVERS_MAX).map(|url| async move {
        let Some(server) = Server::parse(url) else {
            return Finding::warning(Check::Turn, format!("{url} is no STUN or TURN server"))
                .advise("Write turn:HOST:PORT or turns:HOST:PORT?transport=tcp in ice.servers.");
        };
        match server.ask().await {
            Ok(()) => Finding::good(
                Check::Turn,
                format!("{url} answers (whether it takes the credentials is not tried)"),
            ),
            Err(why) => {
                Finding::warning(Check::Turn, format!("{url} does not answer: {why}")).advise(format!(
                    "Start it, open its port {}, or take it out of ice.servers: browsers wait for it.",
                    server.port
                ))
            }
        }
    });
    futures_util::future::join_all(asked).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers_are_read() {
        let server = |host: &str, port, transport| Some(Server { host: host.into(), port, transport });
        for (url, wanted) in [
            ("stun:a.example", server("a.example", 3478, Transport::Udp)),
            ("turn:a.example:99?transport=tcp", server("a.example", 99, Transport::Tcp)),
            ("turns:[2001:db8::1]?transport=tcp", server("2001:db8::1", 5349, Transport::Tls)),
            ("turn:[2001:db8::1]:5?transport=udp", server("2001:db8::1", 5, Transport::Udp)),
            ("http://a.example", None),
            ("turn:", None),
            ("turn:a:port", None),
        ] {
            assert_eq!(Server::parse(url), wanted, "{url}");
        }
    }
}
