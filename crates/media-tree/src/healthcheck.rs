//! One question to the operations listener of a node on this machine.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

/// A node that does not answer within this time is not well.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A status line is shorter.
const ANSWER_BYTES_MAX: u64 = 1024;

/// Asks for `path` on the listener at `listen`, which may be "all addresses".
///
/// # Errors
/// If nobody answers, or with anything but 200.
pub fn ask(listen: SocketAddr, path: &str) -> anyhow::Result<()> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    let address = SocketAddr::new(ip, listen.port());
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("no node answers on {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .with_context(|| format!("{address} does not answer"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    anyhow::ensure!(status.split(' ').nth(1) == Some("200"), "the node says {status:?} {:?}", body.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A listener that reads one whole request and gives `answer`: a part left unread would reset the connection.
    fn node(bind: &str, answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind(bind).expect("bind");
        let address = listener.local_addr().expect("address");
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut part = [0; 512];
                let length = stream.read(&mut part).expect("a request");
                assert_ne!(length, 0, "a whole request");
                request.extend_from_slice(&part[..length]);
            }
            stream.write_all(answer.as_bytes()).expect("answered");
            String::from_utf8(request).expect("text")
        });
        (address, served)
    }

    #[test]
    fn a_node_that_says_200_is_well() {
        for bind in ["127.0.0.1:0", "0.0.0.0:0"] {
            let (address, served) = node(bind, "HTTP/1.1 200 OK\r\n\r\nalive\n");
            ask(address, "/healthz").expect("well");
            assert!(served.join().expect("served").starts_with("GET /healthz HTTP/1.1\r\n"));
        }
    }

    #[test]
    fn a_node_that_says_anything_else_is_not() {
        for answer in ["HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n", "200", ""] {
            let (address, served) = node("127.0.0.1:0", answer);
            let error = ask(address, "/readyz").expect_err("not ready").to_string();
            assert!(!answer.contains("draining") || error.contains("draining"), "{error}");
            served.join().expect("served");
        }
    }

    #[test]
    fn nobody_is_not_well() {
        let (address, served) = node("127.0.0.1:0", "");
        assert!(ask(address, "/healthz").is_err());
        served.join().expect("served");
        assert!(ask(address, "/healthz").expect_err("gone").to_string().contains("no node answers"));
    }
}
