//! Children of a node that are no nodes: they hold a real link channel, take link media and check it, nothing else. So
//! a small machine can hold as many as a relay may have.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use link::exchange::REFRESH_INTERVAL;
use link::wire::media::Header;
use link::wire::message::{Echo, Heartbeat, Held, Hello, Incarnation, Join, MESSAGE_BYTES_MAX, Message};
use link::wire::{Keyring, Version};
use model::{BroadcastId, NodeId, Role, SeqNo, Ssrc};
use node::link_peer::{Datagram, LinkIdentity, LinkSocket, SERVER_NAME, is_quic};
use tokio::io::Interest;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use udp_batch::{Options, ReceiveBatch, Socket};

/// What a child has of one RTP stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stream {
    /// The lowest number that came first.
    first: u64,
    /// One bit for each number from `first` on.
    seen: Vec<u64>,
    newest: u64,
    packets: u64,
    repeated: u64,
}

impl Stream {
    fn take(&mut self, seq_no: u64) {
        if self.packets == 0 {
            (self.first, self.newest) = (seq_no, seq_no);
        }
        let Some(place) = seq_no.checked_sub(self.first) else { return };
        let (word, bit) = ((place / 64) as usize, 1 << (place % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.repeated += 1;
            return;
        }
        self.seen[word] |= bit;
        self.packets += 1;
        self.newest = self.newest.max(seq_no);
    }
}

/// What a child has received so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// RTP streams.
    pub streams: usize,
    /// Packets that verified, each once.
    pub packets: u64,
    /// Packets between the first and the newest of their stream that did not come.
    pub missing: u64,
    /// Packets that came again.
    pub repeated: u64,
    /// Datagrams that did not verify after there was a key.
    pub refused: u64,
    /// Messages of the kernel that brought media: trains, or single datagrams.
    pub trains: u64,
}

#[derive(Default)]
struct State {
    keys: Keyring,
    streams: BTreeMap<Ssrc, Stream>,
    refused: u64,
    trains: u64,
    /// The parent's newest heartbeat and when it came.
    heartbeat: Option<(u64, Instant)>,
}

impl State {
    fn media(&mut self, datagram: &[u8], payload: &mut Vec<u8>) {
        if self.keys.is_empty() {
            return;
        }
        match Header::parse(datagram) {
            Ok(header) if self.keys.open(&header, datagram, payload).is_ok() => {
                self.streams.entry(header.ssrc).or_default().take(header.seq_no.get());
            }
            Ok(_) | Err(_) => self.refused += 1,
        }
    }

    /// What is held, and the parent's heartbeat sent back.
    fn reply(&self) -> (Vec<Held>, Option<Echo>) {
        let held = self.streams.iter();
        let held = held.map(|(ssrc, stream)| Held { ssrc: *ssrc, newest: SeqNo::new(stream.newest) });
        let echo = self
            .heartbeat
            .map(|(sent_micros, came)| Echo { sent_micros, held_micros: came.elapsed().as_micros() as u64 });
        (held.collect(), echo)
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::JoinAnswer(answer) => {
                for key in &answer.keys {
                    self.keys.install(answer.broadcast.epoch, key);
                }
            }
            Message::Keys(keys) => {
                self.keys.install(keys.epoch, &keys.key);
            }
            Message::Heartbeat(heartbeat) => self.heartbeat = Some((heartbeat.sent_micros, Instant::now())),
            _of_no_interest => {}
        }
    }
}

/// A child that takes broadcasts. Falls silent with its value, as one that is killed.
pub struct LeanChild {
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<anyhow::Result<()>>,
    _endpoint: quinn::Endpoint,
}

impl LeanChild {
    /// Joins these broadcasts at a parent on this machine and goes on refreshing the joins.
    ///
    /// # Errors
    /// If there is no link to the parent.
    pub async fn join(
        (parent, cluster_key): (SocketAddr, &str),
        name: &str,
        broadcasts: &[BroadcastId],
    ) -> anyhow::Result<Self> {
        let options = Options { is_coalescing: true, ..Options::default() };
        let socket = Socket::bind((Ipv4Addr::LOCALHOST, 0).into(), &options)?;
        let (quic_socket, quic) = LinkSocket::new(socket.try_clone_udp()?)?;
        let identity = LinkIdentity::new(cluster_key.as_bytes())?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let mut endpoint =
            quinn::Endpoint::new_with_abstract_socket(identity.endpoint()?, None, quic_socket, runtime)?;
        let tls = quinn::crypto::rustls::QuicClientConfig::try_from(identity.client()?)?;
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));

        let state = Arc::<Mutex<State>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(take_media(socket, quic, state.clone()));
        let connection = endpoint.connect(parent, SERVER_NAME)?.await.context("no link to the parent")?;
        let (send, receive) = connection.open_bi().await?;
        let hello = Hello {
            version: Version::CURRENT,
            node: NodeId::new(name)?,
            role: Role::Egress,
            incarnation: Incarnation { counter: 1, random: 1 },
        };
        tasks.spawn(tell(connection.clone(), send, hello, broadcasts.to_vec(), state.clone()));
        tasks.spawn(listen(receive, state.clone()));
        tasks.spawn(listen_to_datagrams(connection.clone(), state.clone()));
        Ok(Self { state, _tasks: tasks, _endpoint: endpoint })
    }

    /// What has come so far.
    #[must_use]
    pub fn received(&self) -> Received {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Received {
            streams: state.streams.len(),
            refused: state.refused,
            trains: state.trains,
            ..Received::default()
        };
        for stream in state.streams.values() {
            sum.packets += stream.packets;
            sum.missing += stream.newest - stream.first + 1 - stream.packets;
            sum.repeated += stream.repeated;
        }
        sum
    }
}

async fn take_media(
    socket: Socket,
    quic: mpsc::Sender<Datagram>,
    state: Arc<Mutex<State>>,
) -> anyhow::Result<()> {
    let readiness = tokio::net::UdpSocket::from_std(socket.try_clone_udp()?)?;
    let (mut batch, mut payload) = (ReceiveBatch::new(), Vec::new());
    loop {
        readiness.readable().await?;
        let received = readiness.try_io(Interest::READABLE, || match socket.receive(&mut batch)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            trains => Ok(trains),
        });
        let trains = match received {
            Ok(trains) => trains as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.trains += trains;
        for datagram in batch.iter_mut() {
            if datagram.bytes.first().copied().is_some_and(is_quic) {
                let bytes = Bytes::copy_from_slice(datagram.bytes);
                let datagram = Datagram { source: datagram.remote, destination: datagram.local, bytes };
                // QUIC repairs what finds no room.
                let _ = quic.try_send(datagram);
            } else {
                state.media(datagram.bytes, &mut payload);
            }
        }
    }
}

/// Says hello, then each second what a child says again and again.
async fn tell(
    connection: quinn::Connection,
    mut stream: quinn::SendStream,
    hello: Hello,
    broadcasts: Vec<BroadcastId>,
    state: Arc<Mutex<State>>,
) -> anyhow::Result<()> {
    // An empty frame opens the stream.
    stream.write_all(&[0; 4]).await?;
    stream.write_all(&frame(&Message::Hello(hello))).await?;
    let mut refresh = tokio::time::interval(REFRESH_INTERVAL);
    for sent_micros in 0.. {
        refresh.tick().await;
        let (resume, echo) = state.lock().unwrap_or_else(PoisonError::into_inner).reply();
        for broadcast in broadcasts.iter().cloned() {
            let join = Join { broadcast, resume: resume.clone(), cause: None, without: Vec::new() };
            stream.write_all(&frame(&Message::Join(join))).await?;
        }
        let mut bytes = Vec::new();
        Message::Heartbeat(Heartbeat { sent_micros, echo }).encode(&mut bytes);
        connection.send_datagram(bytes.into())?;
    }
    Ok(())
}

fn frame(message: &Message) -> Vec<u8> {
    let mut frame = vec![0; 4];
    message.encode(&mut frame);
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

async fn listen(mut stream: quinn::RecvStream, state: Arc<Mutex<State>>) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX {
            bail!("a message of {length} bytes");
        }
        bytes.resize(length, 0);
        stream.read_exact(&mut bytes).await?;
        if let Some(message) = (length > 0).then(|| Message::decode(&bytes)).transpose()?.flatten() {
            state.lock().unwrap_or_else(PoisonError::into_inner).message(message);
        }
    }
}

async fn listen_to_datagrams(connection: quinn::Connection, state: Arc<Mutex<State>>) -> anyhow::Result<()> {
    loop {
        if let Some(message) = Message::decode(&connection.read_datagram().await?)? {
            state.lock().unwrap_or_else(PoisonError::into_inner).message(message);
        }
    }
}
