//! Viewers that join and do nothing else: offer, connectivity check, DTLS, as cheaply as a client can, so that a storm
//! of them fits on the machine beside the node that it hits. They can stop at every step, as real ones do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ice_dtls::stun::{self, BindingRequest, Check, Transaction};
use ice_dtls::{
    Certificate, DtlsRole, Handshake, HandshakeConfig, IceConfig, IceCredentials, Output, Path,
    PeerCredentials,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};

use crate::offers::{self, attributes};
use crate::program::Program;

/// A check or a hello without an answer is sent again after this time.
const REPEAT_AFTER: Duration = Duration::from_millis(200);
/// Above the node's own 15 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of a host candidate (RFC 8445, section 5.1.2.1).
const PRIORITY: u32 = 2_130_706_431;

/// How far a viewer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// It has an answer and is never heard of again.
    Posted,
    /// Its check was answered.
    Checked,
    /// It has sent its ClientHello.
    Greeted,
    /// It has keys.
    Connected,
}

/// What viewers of one broadcast have in common. Each comes from another address of this machine, so that what one
/// address may do limits none of them.
pub struct Door {
    http: SocketAddr,
    target: String,
    certificate: Arc<Certificate>,
    credentials: IceCredentials,
    offer: String,
    came: AtomicU32,
}

/// A viewer that has come as far as it was told to. Dropped, it vanishes without a word.
pub struct Joined {
    /// What the node sends to; connected to its shard.
    pub socket: UdpSocket,
    /// From the POST to the answer.
    pub answered: Duration,
    /// From the POST to the last step.
    pub arrived: Duration,
    handshake: Handshake,
    has_greeted: bool,
    credentials: IceCredentials,
    answer: Answer,
}

/// What the answer told.
struct Answer {
    remote: SocketAddr,
    ufrag: String,
    pwd: String,
    fingerprint: String,
}

impl Door {
    /// Viewers of `broadcast` on `program`, all with one certificate.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn new(program: &Program, broadcast: &str) -> anyhow::Result<Self> {
        let certificate = Certificate::generate()?;
        let offered = offers::crlf(offers::CHROMIUM_VIEWER);
        let first = |name: &str| attributes(&offered, name).first().map(ToString::to_string);
        let credentials = IceCredentials::new(
            &first("ice-ufrag").context("ufrag")?,
            &first("ice-pwd").context("password")?,
        )?;
        let fingerprint = first("fingerprint").context("fingerprint")?;
        let offer = offered.replace(&fingerprint, &certificate.fingerprint().to_string());
        let target = format!("/whep/{broadcast}");
        Ok(Self {
            http: program.http,
            target,
            certificate: Arc::new(certificate),
            credentials,
            offer,
            came: AtomicU32::new(0),
        })
    }

    /// Sends an offer on a connection of its own; the status and the whole response.
    ///
    /// # Errors
    /// If the connection fails.
    pub async fn post(&self) -> anyhow::Result<(u16, String)> {
        let [_, upper, middle, lower] = self.came.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 64 | upper, middle, lower], 0).into()).context("bind")?;
        let mut stream = socket.connect(self.http).await.context("connect")?;
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{}",
            self.target,
            self.http,
            self.offer.len(),
            self.offer
        );
        stream.write_all(request.as_bytes()).await.context("send the offer")?;
        let mut response = String::with_capacity(8192);
        stream.read_to_string(&mut response).await.context("read the answer")?;
        let status = response.split(' ').nth(1).context("a status line")?.parse()?;
        Ok((status, response))
    }

    /// Joins as far as `last`.
    ///
    /// # Errors
    /// If the node refuses, or does not answer in time.
    pub async fn join(&self, last: Step) -> anyhow::Result<Joined> {
        let began = Instant::now();
        let (status, response) = self.post().await?;
        ensure!(status == 201, "status {status}: {response}");
        let answered = began.elapsed();
        let answer = Answer::of(&response)?;
        let socket = UdpSocket::bind((self.http.ip(), 0)).await?;
        socket.connect(answer.remote).await?;
        let config = HandshakeConfig {
            ice: IceConfig {
                local: self.credentials.clone(),
                remote: PeerCredentials { ufrag: answer.ufrag.clone(), pwd: answer.pwd.clone() },
                random: [1; 32],
            },
            remote_fingerprint: answer.fingerprint.parse()?,
            certificate: self.certificate.clone(),
            dtls_role: DtlsRole::Client,
        };
        let handshake = Handshake::new(config, began);
        let mut joined = Joined {
            socket,
            answered,
            arrived: answered,
            handshake,
            has_greeted: false,
            credentials: self.credentials.clone(),
            answer,
        };
        tokio::time::timeout(PATIENCE, joined.go_on(last)).await.context("too slow")??;
        joined.arrived = began.elapsed();
        Ok(joined)
    }
}

impl Joined {
    /// Says goodbye over DTLS.
    ///
    /// # Errors
    /// If the socket is broken.
    pub async fn leave(mut self) -> anyhow::Result<()> {
        self.handshake.close(Instant::now());
        self.drain().await?;
        Ok(())
    }

    /// Where the server's media comes from.
    #[must_use]
    pub const fn server(&self) -> SocketAddr {
        self.answer.remote
    }

    /// A check for the server that nominates the path it is sent on.
    #[must_use]
    pub fn check(&self) -> Vec<u8> {
        request((&self.answer.ufrag, &self.answer.pwd), self.credentials.ufrag())
    }

    /// What this viewer answers to a check of the server's; `None` if the datagram is none.
    #[must_use]
    pub fn answer_to(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        let transaction = BindingRequest::parse(datagram)?.transaction();
        let mut bytes = vec![0; stun::SUCCESS_LENGTH_MAX];
        let length = stun::write_success(&mut bytes, transaction, self.server(), self.credentials.pwd());
        bytes.truncate(length);
        Some(bytes)
    }

    async fn go_on(&mut self, last: Step) -> anyhow::Result<()> {
        if last == Step::Posted {
            return Ok(());
        }
        let check = self.check();
        let mut buffer = [0; 2048];
        loop {
            self.socket.send(&check).await?;
            let Ok(length) = tokio::time::timeout(REPEAT_AFTER, self.socket.recv(&mut buffer)).await else {
                continue;
            };
            let datagram = &buffer[..length?];
            if let Some(answer) = self.answer_to(datagram) {
                self.socket.send(&answer).await?;
            } else if stun::verify(datagram, &self.answer.pwd) {
                break;
            }
        }
        if last == Step::Checked {
            return Ok(());
        }
        // The crate serves both ends; its client waits for a check, as its server does, and the server is lite.
        let path = Path { local: self.socket.local_addr()?, remote: self.server() };
        let own = request((self.credentials.ufrag(), self.credentials.pwd()), &self.answer.ufrag);
        self.handshake.handle_datagram(Instant::now(), path, &own)?;
        while !self.drain().await? {
            if last == Step::Greeted && self.has_greeted {
                return Ok(());
            }
            let now = Instant::now();
            let at = self.handshake.poll_timeout().unwrap_or(now + REPEAT_AFTER);
            let received = tokio::time::timeout_at(at.into(), self.socket.recv(&mut buffer)).await;
            match received {
                Ok(length) => {
                    // Media that comes before the last handshake message is not for us.
                    let _ = self.handshake.handle_datagram(Instant::now(), path, &buffer[..length?]);
                }
                Err(_elapsed) => self.handshake.handle_timeout(Instant::now()),
            }
        }
        Ok(())
    }

    /// Sends what the handshake wants sent; true once there are keys.
    async fn drain(&mut self) -> anyhow::Result<bool> {
        let mut has_keys = false;
        while let Some(output) = self.handshake.poll_output() {
            match output {
                Output::Transmit { bytes, .. } => {
                    self.has_greeted |= !stun::is_stun(&bytes);
                    self.socket.send(&bytes).await?;
                }
                Output::PathSelected(_) | Output::Closed => {}
                Output::Established { .. } => has_keys = true,
                Output::Failed(reason) => bail!("DTLS failed: {reason}"),
            }
        }
        Ok(has_keys)
    }
}

/// A nominating check for whoever has these credentials.
fn request((ufrag, pwd): (&str, &str), from: &str) -> Vec<u8> {
    let check = Check {
        transaction: Transaction([7; 12]),
        remote_ufrag: ufrag,
        local_ufrag: from,
        priority: PRIORITY,
        controlling: Some((1, true)),
    };
    let mut bytes = vec![0; check.length_max()];
    let length = stun::write_request(&mut bytes, &check, pwd);
    bytes.truncate(length);
    bytes
}

impl Answer {
    fn of(response: &str) -> anyhow::Result<Self> {
        let first = |name: &str| {
            let values = attributes(response, name);
            values.first().map(ToString::to_string).with_context(|| format!("a={name} in {response}"))
        };
        // foundation component protocol priority address port (RFC 8839, section 5.1)
        let candidate = first("candidate")?;
        let mut fields = candidate.split(' ').skip(4);
        let address = fields.next().context("an address")?.parse()?;
        let port = fields.next().context("a port")?.parse()?;
        Ok(Self {
            remote: SocketAddr::new(address, port),
            ufrag: first("ice-ufrag")?,
            pwd: first("ice-pwd")?,
            fingerprint: first("fingerprint")?,
        })
    }
}
