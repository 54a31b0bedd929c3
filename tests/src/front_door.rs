//! A front door as small as one can be: shows the pages of one node and sends WHEP requests on, by 307, to the first
//! of its servers that still answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running front door; closed with the value.
pub struct FrontDoor {
    /// Where it is.
    pub address: SocketAddr,
    servers: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Drop for FrontDoor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FrontDoor {
    /// Opens one before these servers, the first of which also gives the pages.
    ///
    /// # Errors
    /// If there is no port.
    pub async fn open(servers: &[SocketAddr]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let pages = *servers.first().context("a server")?;
        let servers = Arc::new(Mutex::new(servers.to_vec()));
        let task = tokio::spawn(accept(listener, pages, servers.clone()));
        Ok(Self { address, servers, task })
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on it sends to these, in this order; the policy of its pages lets them through with those before.
    pub fn send_to(&self, servers: &[SocketAddr]) {
        *self.servers.lock().unwrap_or_else(PoisonError::into_inner) = servers.to_vec();
    }
}

async fn accept(listener: TcpListener, pages: SocketAddr, servers: Arc<Mutex<Vec<SocketAddr>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let servers = servers.clone();
        // A client that breaks off is no fault of the door.
        tokio::spawn(async move { serve(stream, pages, &servers).await.ok() });
    }
}

async fn serve(stream: TcpStream, pages: SocketAddr, servers: &Mutex<Vec<SocketAddr>>) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse()?
            }
            Some(_) => {}
            None => break,
        }
    }
    stream.read_exact(&mut vec![0; length]).await?;
    let path = request.split(' ').nth(1).context("a path")?;
    let known = servers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let answer = if path.starts_with("/whep/") {
        redirect(path, &known).await.into_bytes()
    } else {
        page(path, pages, &known).await?
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn redirect(path: &str, servers: &[SocketAddr]) -> String {
    for server in servers {
        if TcpStream::connect(server).await.is_ok() {
            let head = "HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\nConnection: close";
            return format!("{head}\r\nLocation: http://{server}{path}\r\n\r\n");
        }
    }
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        .to_owned()
}

/// The page as the node gives it, but for its policy, which lists the servers.
async fn page(path: &str, pages: SocketAddr, servers: &[SocketAddr]) -> anyhow::Result<Vec<u8>> {
    let response = reqwest::get(format!("http://{pages}{path}")).await?;
    let mut answer = format!("HTTP/1.1 {}\r\nConnection: close\r\n", response.status());
    let origins: String = servers.iter().map(|server| format!(" http://{server}")).collect();
    for (name, value) in response.headers() {
        let value = value.to_str()?;
        match name.as_str() {
            "content-security-policy" => {
                let value = value.replace("connect-src 'self'", &format!("connect-src 'self'{origins}"));
                answer.push_str(&format!("{name}: {value}\r\n"));
            }
            "content-type" => answer.push_str(&format!("{name}: {value}\r\n")),
            _ => {}
        }
    }
    let body = response.bytes().await?;
    answer.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut answer = answer.into_bytes();
    answer.extend_from_slice(&body);
    Ok(answer)
}
