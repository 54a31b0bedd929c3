//! A peer whose DTLS is mbedTLS, set up as libdatachannel sets it up: the WebRTC of OBS on Windows and macOS.
//!
//! `mbedtls.c` does the handshake and tells its keys. Signalling, ICE and SRTP are done here, and all DTLS passes through
//! here, where a test can lose, double or delay it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use client::demo::{self, Clip};
use ice_dtls::stun::{self, BindingRequest, Check, Transaction};
use ice_dtls::{Datagram, classify};
use model::SeqNo;
use srtp::{Profile, RtcpKey, RtpKey, split_exporter};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UdpSocket;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::offers::{attributes, crlf};
use crate::program::PATIENCE;

const SOURCE: &str = include_str!("mbedtls.c");
/// Of `libmbedtls-dev`.
pub const HEADER: &str = "/usr/include/mbedtls/ssl.h";
/// Longest datagram of libdatachannel's DTLS, in bytes: 1280 less the headers of IPv6 and UDP.
pub const MTU: u16 = 1232;
/// Every cipher suite that mbedTLS has, in its order.
pub const ALL_SUITES: &str = "default";

/// The only one that libdatachannel offers with mbedTLS.
const PROFILE: Profile = Profile::AesCm128HmacSha1_80;
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Of a peer-reflexive candidate (RFC 8445, section 5.1.2.1).
const PRIORITY: u32 = (110 << 24) | (0xffff << 8) | 255;
/// What waits to be looked at; more is dropped, as by a socket.
const HEARD_PACKETS_MAX: usize = 1024;
const SOUND_PACKET: Duration = Duration::from_millis(20);

/// Which end a datagram goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toward {
    /// The server.
    Node,
    /// mbedTLS.
    Peer,
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It does not arrive.
    Lost,
    /// It arrives, and arrives again.
    Twice,
    /// It arrives behind the next one that goes its way.
    Late,
}

/// What happens to one datagram of the handshake.
#[derive(Debug, Clone, Copy)]
pub struct Mishap {
    /// Which way it goes.
    pub toward: Toward,
    /// How many with DTLS went this way before it.
    pub number: usize,
    /// What happens.
    pub fate: Fate,
}

/// The program of `mbedtls.c`.
pub struct MbedTls {
    folder: TempDir,
}

impl MbedTls {
    /// Compiles it.
    ///
    /// # Errors
    /// If there is no C compiler, or no [`HEADER`].
    pub async fn compile() -> anyhow::Result<Self> {
        let mbedtls = Self { folder: tempfile::tempdir()? };
        let source = mbedtls.folder.path().join("mbedtls.c");
        std::fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-Wall", "-Werror", "-o"]).arg(mbedtls.program()).arg(source);
        compiler.args(["-lmbedtls", "-lmbedx509", "-lmbedcrypto"]);
        let output = compiler.output().await.context("start cc")?;
        ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        Ok(mbedtls)
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("mbedtls")
    }

    /// A peer whose DTLS datagrams have at most `mtu` bytes, and that offers this suite, by mbedTLS's name for it, or
    /// [`ALL_SUITES`].
    ///
    /// # Errors
    /// If it does not start.
    pub async fn peer(&self, mtu: u16, suite: &str) -> anyhow::Result<Peer> {
        let mut command = Command::new(self.program());
        command.arg(mtu.to_string()).arg(suite).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("start the peer")?;
        let stdin = child.stdin.take().context("its input")?;
        let lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let mut peer = Peer { _child: child, stdin, lines, fingerprint: String::new() };
        peer.fingerprint = peer.says("fingerprint").await?;
        Ok(peer)
    }
}

/// mbedTLS with its certificate. Vanishes with its value.
pub struct Peer {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    fingerprint: String,
}

impl Peer {
    /// What follows `word` in its next line that begins with it.
    async fn says(&mut self, word: &str) -> anyhow::Result<String> {
        let search = async {
            while let Some(line) = self.lines.next_line().await? {
                match line.split_once(' ') {
                    Some((first, rest)) if first == word => return Ok(rest.to_owned()),
                    Some(("failed", reason)) => bail!("mbedTLS failed: {reason}"),
                    _ => {}
                }
            }
            bail!("mbedTLS ended before {word}")
        };
        tokio::time::timeout(PATIENCE, search).await.with_context(|| format!("no {word} in time"))?
    }

    /// Brings `offer`, with its own fingerprint, to the endpoint `url`, and does ICE and DTLS with what answers.
    ///
    /// # Errors
    /// If one of them fails.
    pub async fn join(
        mut self,
        url: &str,
        offer: &str,
        mishaps: &'static [Mishap],
    ) -> anyhow::Result<Session> {
        let offer = with_fingerprint(offer, &self.fingerprint);
        let request = reqwest::Client::new().post(url).header("Content-Type", "application/sdp");
        let response = request.body(offer.clone()).send().await?;
        let status = response.status();
        let answer = response.text().await?;
        ensure!(status == 201, "{status}: {answer}");

        let way = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a port")?;
        way.connect(server(&answer)?).await?;
        let inner = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.context("a port")?;
        let port = inner.local_addr()?.port();
        let (reached, is_reached) = oneshot::channel();
        let (heard_by_way, heard) = mpsc::channel(HEARD_PACKETS_MAX);
        let (outgoing, to_send) = mpsc::channel(1);
        let relay = Relay {
            way,
            inner,
            peer: None,
            ice: Ice::of(&offer, &answer)?,
            reached: Some(reached),
            mishaps,
            sides: Default::default(),
            heard: heard_by_way,
            to_send,
        };
        let relaying = Relaying(tokio::spawn(relay.run()));
        let is_reached =
            tokio::time::timeout(PATIENCE, is_reached).await.context("checks are not answered")?;
        is_reached.context("the way has ended")?;

        // As libdatachannel: DTLS begins once ICE is connected.
        let fingerprint = attribute(&answer, "fingerprint")?.trim_start_matches("sha-256 ").to_uppercase();
        self.stdin.write_all(format!("{port} {fingerprint}\n").as_bytes()).await?;
        let suite = self.says("suite").await?;
        let (own, server) = split_exporter(PROFILE, &bytes(&self.says("keys").await?)?)?;
        Ok(Session {
            suite,
            seals: RtpKey::derive(&own)?,
            opens_rtp: RtpKey::derive(&server)?,
            opens_rtcp: RtcpKey::derive(&server)?,
            outgoing,
            heard: Mutex::new(heard),
            _relaying: relaying,
            _peer: self,
        })
    }
}

fn with_fingerprint(offer: &str, fingerprint: &str) -> String {
    let own = |line: &str| {
        let is_it = line.starts_with("a=fingerprint:");
        if is_it { format!("a=fingerprint:sha-256 {fingerprint}\n") } else { format!("{line}\n") }
    };
    crlf(&offer.lines().map(own).collect::<String>())
}

fn attribute<'sdp>(sdp: &'sdp str, name: &str) -> anyhow::Result<&'sdp str> {
    attributes(sdp, name).first().copied().with_context(|| format!("no {name} in {sdp}"))
}

/// Where the answer's first candidate is.
fn server(answer: &str) -> anyhow::Result<SocketAddr> {
    let candidate: Vec<&str> = attribute(answer, "candidate")?.split(' ').collect();
    let [_, _, _, _, address, port, ..] = candidate[..] else { bail!("not a candidate: {candidate:?}") };
    Ok(SocketAddr::new(address.parse()?, port.parse()?))
}

fn bytes(hex: &str) -> anyhow::Result<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| Ok(u8::from_str_radix(str::from_utf8(pair)?, 16)?)).collect()
}

/// Credentials of both ends (RFC 8445, section 5.3).
struct Ice {
    own_ufrag: String,
    own_pwd: String,
    ufrag: String,
    pwd: String,
    checks: u32,
}

impl Ice {
    fn of(offer: &str, answer: &str) -> anyhow::Result<Self> {
        let [own_ufrag, own_pwd] = [attribute(offer, "ice-ufrag")?, attribute(offer, "ice-pwd")?];
        let [ufrag, pwd] = [attribute(answer, "ice-ufrag")?, attribute(answer, "ice-pwd")?];
        let [own_ufrag, own_pwd, ufrag, pwd] = [own_ufrag, own_pwd, ufrag, pwd].map(ToOwned::to_owned);
        Ok(Self { own_ufrag, own_pwd, ufrag, pwd, checks: 0 })
    }

    /// The next check, which nominates.
    fn check(&mut self) -> Vec<u8> {
        self.checks += 1;
        let mut transaction = [0; 12];
        transaction[..4].copy_from_slice(&self.checks.to_be_bytes());
        let check = Check {
            transaction: Transaction(transaction),
            remote_ufrag: &self.ufrag,
            local_ufrag: &self.own_ufrag,
            priority: PRIORITY,
            controlling: Some((1, true)),
        };
        let mut bytes = vec![0; check.length_max()];
        let length = stun::write_request(&mut bytes, &check, &self.pwd);
        bytes.truncate(length);
        bytes
    }

    /// What is answered to a check of the server's; `None` if these bytes are none.
    fn answer(&self, datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
        let request = BindingRequest::parse(datagram)?;
        let mut bytes = vec![0; stun::SUCCESS_LENGTH_MAX];
        let length = stun::write_success(&mut bytes, request.transaction(), from, &self.own_pwd);
        bytes.truncate(length);
        Some(bytes)
    }
}

/// What went one way.
#[derive(Default)]
struct Side {
    count: usize,
    late: Option<Vec<u8>>,
}

/// Stands between the server and mbedTLS.
struct Relay {
    /// Connected to the server.
    way: UdpSocket,
    /// What mbedTLS takes for the server.
    inner: UdpSocket,
    /// Where mbedTLS is, once it has spoken.
    peer: Option<SocketAddr>,
    ice: Ice,
    /// To be told of the first check that is answered.
    reached: Option<oneshot::Sender<()>>,
    mishaps: &'static [Mishap],
    sides: [Side; 2],
    heard: mpsc::Sender<Vec<u8>>,
    to_send: mpsc::Receiver<Vec<u8>>,
}

impl Relay {
    async fn run(mut self) -> io::Result<()> {
        let server = self.way.peer_addr()?;
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        let (mut down, mut up) = ([0; 2048], [0; 2048]);
        loop {
            tokio::select! {
                _ = checks.tick() => {
                    let check = self.ice.check();
                    self.way.send(&check).await?;
                }
                received = self.way.recv(&mut down) => self.on_node_datagram(&down[..received?], server).await?,
                received = self.inner.recv_from(&mut up) => {
                    let (length, from) = received?;
                    self.peer = Some(from);
                    self.pass(Toward::Node, &up[..length]).await?;
                }
                Some(sealed) = self.to_send.recv() => {
                    self.way.send(&sealed).await?;
                }
            }
        }
    }

    async fn on_node_datagram(&mut self, datagram: &[u8], server: SocketAddr) -> io::Result<()> {
        match classify(datagram) {
            Datagram::Stun => {
                if let Some(answer) = self.ice.answer(datagram, server) {
                    self.way.send(&answer).await?;
                } else if stun::verify(datagram, &self.ice.pwd)
                    && let Some(reached) = self.reached.take()
                {
                    // Nobody waits any more if the test has ended.
                    let _ = reached.send(());
                }
            }
            Datagram::Dtls => self.pass(Toward::Peer, datagram).await?,
            Datagram::Rtp | Datagram::Rtcp => {
                let _ = self.heard.try_send(datagram.to_vec());
            }
            Datagram::Unknown => {}
        }
        Ok(())
    }

    async fn pass(&mut self, toward: Toward, datagram: &[u8]) -> io::Result<()> {
        let side = &mut self.sides[toward as usize];
        let number = side.count;
        side.count += 1;
        let mishap = self.mishaps.iter().find(|mishap| mishap.toward == toward && mishap.number == number);
        match mishap.map(|mishap| mishap.fate) {
            Some(Fate::Lost) => return Ok(()),
            Some(Fate::Late) => {
                side.late = Some(datagram.to_vec());
                return Ok(());
            }
            Some(Fate::Twice) => self.hand(toward, datagram).await?,
            None => {}
        }
        self.hand(toward, datagram).await?;
        match self.sides[toward as usize].late.take() {
            Some(late) => self.hand(toward, &late).await,
            None => Ok(()),
        }
    }

    async fn hand(&self, toward: Toward, datagram: &[u8]) -> io::Result<()> {
        match (toward, self.peer) {
            (Toward::Node, _) => self.way.send(datagram).await?,
            (Toward::Peer, Some(peer)) => self.inner.send_to(datagram, peer).await?,
            (Toward::Peer, None) => 0,
        };
        Ok(())
    }
}

/// Ends the way with its value.
struct Relaying(JoinHandle<io::Result<()>>);

impl Drop for Relaying {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A peer that has keys. Vanishes with its value.
pub struct Session {
    /// Cipher suite of its DTLS, as mbedTLS names it.
    pub suite: String,
    seals: RtpKey,
    opens_rtp: RtpKey,
    opens_rtcp: RtcpKey,
    outgoing: mpsc::Sender<Vec<u8>>,
    heard: Mutex<mpsc::Receiver<Vec<u8>>>,
    _relaying: Relaying,
    _peer: Peer,
}

/// One RTP stream of [`crate::offers::OBS_PUBLISHER`].
struct Track {
    payload_type: u8,
    ssrc: u32,
    next: SeqNo,
}

impl Session {
    /// Publishes the built-in clip over and over, as one who has offered [`crate::offers::OBS_PUBLISHER`].
    ///
    /// # Errors
    /// If the way ends; this ends with nothing else.
    pub async fn play(&self) -> anyhow::Result<()> {
        let Clip { pictures, sounds } = Clip::built_in();
        let mut audio = Track { payload_type: 111, ssrc: 2_718_281_828, next: SeqNo::new(1000) };
        let mut video = Track { payload_type: 96, ssrc: 2_718_281_829, next: SeqNo::new(2000) };
        let began = Instant::now();
        let mut sounds = sounds.iter().cycle().zip(0u32..).peekable();
        for (picture, frame) in pictures.iter().cycle().zip(0u32..) {
            let due = Duration::from_secs(1) * frame / demo::FRAME_RATE;
            tokio::time::sleep_until((began + due).into()).await;
            while let Some((sound, index)) = sounds.next_if(|(_, index)| SOUND_PACKET * *index <= due) {
                self.send(&mut audio, (index * 960, false), sound).await?;
            }
            let payloads = picture.payloads();
            for (index, payload) in payloads.iter().enumerate() {
                let marker = index + 1 == payloads.len();
                self.send(&mut video, (frame * (90_000 / demo::FRAME_RATE), marker), payload).await?;
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        track: &mut Track,
        (timestamp, marker): (u32, bool),
        payload: &[u8],
    ) -> anyhow::Result<()> {
        let mut header = vec![0x80, (u8::from(marker) << 7) | track.payload_type];
        header.extend(track.next.seq().to_be_bytes());
        header.extend(timestamp.to_be_bytes());
        header.extend(track.ssrc.to_be_bytes());
        let mut sealed = vec![0; header.len() + payload.len() + PROFILE.rtp_tag_len()];
        let length = self.seals.seal(&header, payload, track.next, &mut sealed)?;
        sealed.truncate(length);
        track.next = track.next.plus(1);
        self.outgoing.send(sealed).await.context("the way has ended")
    }

    /// Waits until a packet of this kind, RTP or RTCP, comes from the server.
    ///
    /// # Errors
    /// If none comes in time, or one comes that the server's key does not open.
    pub async fn until_heard(&self, kind: Datagram) -> anyhow::Result<()> {
        let mut heard = self.heard.lock().await;
        let search = async {
            while let Some(packet) = heard.recv().await {
                let is = classify(&packet);
                self.open(is, packet).with_context(|| format!("{is:?}"))?;
                if is == kind {
                    return Ok(());
                }
            }
            bail!("the way has ended")
        };
        tokio::time::timeout(PATIENCE, search).await.with_context(|| format!("no {kind:?} in time"))?
    }

    fn open(&self, kind: Datagram, mut packet: Vec<u8>) -> anyhow::Result<()> {
        if kind == Datagram::Rtcp {
            self.opens_rtcp.open_in_place(&mut packet)?;
            return Ok(());
        }
        let seq = u16::from_be_bytes([packet[2], packet[3]]);
        let header_len = rtp_header_len(&packet).context("an RTP header")?;
        // A stream may begin shortly before its sequence numbers wrap.
        let opens = |roc| {
            let seq_no = SeqNo::from_parts(roc, seq);
            self.opens_rtp.open_in_place(&mut packet.clone(), header_len, seq_no).is_ok()
        };
        ensure!((0..2).any(opens), "the server's key does not open it");
        Ok(())
    }
}

/// Of the header with its CSRCs and extensions (RFC 3550, section 5.1), in bytes.
fn rtp_header_len(packet: &[u8]) -> Option<usize> {
    let fixed = 12 + 4 * usize::from(packet[0] & 0x0f);
    if packet[0] & 0x10 == 0 {
        return Some(fixed);
    }
    let &[high, low] = packet.get(fixed + 2..)?.first_chunk()?;
    Some(fixed + 4 + 4 * usize::from(u16::from_be_bytes([high, low])))
}
