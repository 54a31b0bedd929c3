//! Link channels: QUIC connections from children to parents that carry messages.
//!
//! The child dials, so that a node behind NAT can be one. One bidirectional stream carries what must arrive, QUIC
//! datagrams carry what is stale when late. Everything is handed to the tree thread, which owns the link's state.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use link::exchange::{ParentId, PeerId};
use link::wire::message::{MESSAGE_BYTES_MAX, Message};
use model::NodeId;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::link_handshakes::LinkHandshakes;
use crate::link_identity::{LinkIdentity, SERVER_NAME};
use crate::link_socket::LinkSocket;
use crate::link_way::{NotThere, Way};
use crate::tree::TreeHandle;

/// Messages that may wait to be sent to one peer; a peer that does not take them is disconnected.
const OUTBOUND_MAX: usize = 1024;
/// QUIC notices a dead peer by then; the exchange's own heartbeat is much faster.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// For the word that a channel is let go of; who does not hear it is told by the next process.
const LEAVE_TIME: Duration = Duration::from_millis(10);
/// Pause before a parent is dialled again.
const REDIAL: Duration = Duration::from_millis(250);
/// What an address has before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// What the channels tell the tree thread.
#[derive(Debug)]
pub enum ChannelEvent {
    /// A peer has proved that it belongs to the cluster.
    Connected {
        /// Its id for the life of this connection.
        peer: PeerId,
        /// Which parent of the configuration it is; `None` for a child.
        parent: Option<ParentId>,
        /// Its proved address: media goes there and comes from there.
        address: SocketAddr,
        /// Where messages to it go.
        outbound: mpsc::Sender<Message>,
    },
    /// A peer said something.
    Message {
        /// Who.
        peer: PeerId,
        /// What.
        message: Message,
    },
    /// The connection is over.
    Disconnected {
        /// Whose.
        peer: PeerId,
    },
}

/// The QUIC endpoint of a node, both listening and dialling.
pub struct LinkChannels {
    endpoint: Endpoint,
    handshakes: Arc<LinkHandshakes>,
    tree: TreeHandle,
    next_peer: Arc<AtomicU64>,
}

impl LinkChannels {
    /// QUIC over the node's link socket. Must run inside tokio.
    ///
    /// # Errors
    /// If the library refuses the configuration.
    pub fn new(
        socket: Arc<LinkSocket>,
        identity: &LinkIdentity,
        handshakes: Arc<LinkHandshakes>,
        tree: TreeHandle,
    ) -> anyhow::Result<Self> {
        let transport = Arc::new(transport()?);
        let server = quinn::crypto::rustls::QuicServerConfig::try_from(identity.server()?)?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
        server.transport_config(transport.clone());
        // A child whose address changes dials anew: media goes to the address that its channel has proved.
        server.migration(false);
        let client = quinn::crypto::rustls::QuicClientConfig::try_from(identity.client()?)?;
        let mut client = quinn::ClientConfig::new(Arc::new(client));
        client.transport_config(transport);
        let runtime = Arc::new(quinn::TokioRuntime);
        let mut endpoint =
            Endpoint::new_with_abstract_socket(identity.endpoint()?, Some(server), socket, runtime)
                .context("start QUIC on the link port")?;
        endpoint.set_default_client_config(client);
        Ok(Self { endpoint, handshakes, tree, next_peer: Arc::new(AtomicU64::new(1)) })
    }

    /// Takes children until the endpoint closes.
    pub async fn accept(&self) {
        while let Some(incoming) = self.endpoint.accept().await {
            // An address is proved before any state is kept for it or more than its own bytes are sent to it.
            if !incoming.remote_address_validated() {
                let _ = incoming.retry();
                continue;
            }
            let Some(handshake) = self.handshakes.begin(incoming) else { continue };
            let (tree, peer) = (self.tree.clone(), self.next_peer());
            tokio::spawn(async move {
                let result = async {
                    let connection = handshake.await?;
                    let streams = connection.accept_bi().await?;
                    serve(&tree, peer, None, connection, streams).await
                };
                if let Err(error) = result.await {
                    tracing::debug!(%error, "a child's link ended");
                }
            });
        }
    }

    /// Keeps a channel to a parent for ever, by whichever of its addresses leads there.
    pub async fn dial(&self, parent: ParentId, mut way: Way) {
        let mut was_up = true;
        loop {
            let begun = Instant::now();
            let result = self.dial_once(parent, &mut way, &mut was_up).await;
            if let Err(error) = result
                && was_up
            {
                tracing::warn!(parent = %way, error = format!("{error:#}"), "no link to the parent, dialling on");
                was_up = false;
            }
            // A link that was there is missed: the parent's next process is waited for in the handshake.
            if begun.elapsed() < REDIAL {
                tokio::time::sleep(REDIAL).await;
            }
        }
    }

    async fn dial_once(&self, parent: ParentId, way: &mut Way, was_up: &mut bool) -> anyhow::Result<()> {
        let (address, connection) = self.connect_first(way.resolve().await?).await?;
        let streams = connection.open_bi().await?;
        let served =
            serve(&self.tree, self.next_peer(), Some((parent, way.node.as_ref())), connection, streams);
        let result = served.await;
        match result.as_ref().map_err(anyhow::Error::downcast_ref::<NotThere>) {
            // The next attempt begins with another address, at once.
            Err(Some(_)) => way.leads_elsewhere(address),
            Ok(()) | Err(None) => {
                *was_up = true;
                way.leads_there(address);
            }
        }
        result
    }

    /// Connects to the first of these addresses that answers, which are tried in this order: the next one as soon as one
    /// fails, or has not answered for a moment (RFC 8305, section 5). Not each family need be reachable, or be ours.
    async fn connect_first(&self, addresses: Vec<SocketAddr>) -> anyhow::Result<(SocketAddr, Connection)> {
        let mut waiting = addresses.into_iter();
        // Those that are left behind end with the set.
        let mut attempts = JoinSet::new();
        let mut last = anyhow::anyhow!("the parent has no address");
        loop {
            match waiting.next() {
                Some(address) => match self.endpoint.connect(address, SERVER_NAME) {
                    Ok(connecting) => {
                        attempts.spawn(async move { Ok::<_, anyhow::Error>((address, connecting.await?)) });
                    }
                    Err(error) => {
                        last = error.into();
                        continue;
                    }
                },
                None if attempts.is_empty() => return Err(last.context("connect to the parent")),
                None => {}
            }
            let head_start = if waiting.len() > 0 { HEAD_START } else { Duration::MAX };
            match tokio::time::timeout(head_start, attempts.join_next()).await {
                Ok(Some(Ok(Ok(found)))) => return Ok(found),
                Ok(Some(Ok(Err(error)))) => last = error,
                Ok(Some(Err(error))) => last = error.into(),
                // Nothing has answered yet: the next one is tried beside it.
                Ok(None) | Err(_) => {}
            }
        }
    }

    fn next_peer(&self) -> PeerId {
        PeerId::new(self.next_peer.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets go of every channel: the other ends dial the next process of this node at once.
    pub async fn leave(&self) {
        self.endpoint.close(0u32.into(), b"another process takes over");
        let _ = tokio::time::timeout(LEAVE_TIME, self.endpoint.wait_idle()).await;
    }

    /// Ends every channel.
    pub async fn close(&self) {
        self.endpoint.close(0u32.into(), b"stopping");
        let _ = tokio::time::timeout(Duration::from_millis(500), self.endpoint.wait_idle()).await;
    }
}

fn transport() -> anyhow::Result<quinn::TransportConfig> {
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(IDLE_TIMEOUT.try_into()?));
    transport.keep_alive_interval(Some(IDLE_TIMEOUT / 4));
    transport.max_concurrent_bidi_streams(1u32.into());
    transport.max_concurrent_uni_streams(0u32.into());
    Ok(transport)
}

/// Runs one channel until it ends. Of a parent's it is known which one it is, and, where it was assigned, its name.
async fn serve(
    tree: &TreeHandle,
    peer: PeerId,
    parent: Option<(ParentId, Option<&NodeId>)>,
    connection: Connection,
    (mut send, mut receive): (SendStream, RecvStream),
) -> anyhow::Result<()> {
    let (parent, wanted) = parent.map_or((None, None), |(parent, wanted)| (Some(parent), wanted));
    let hello = match wanted {
        Some(wanted) => {
            let introduced = introduction(wanted, (&mut send, &mut receive)).await;
            Some(introduced.map_err(|error| NotThere { what: format!("{error:#}") })?)
        }
        None => None,
    };
    let (outbound, messages) = mpsc::channel(OUTBOUND_MAX);
    let remote = connection.remote_address();
    // As link media's source is written.
    let address = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    tree.channel(ChannelEvent::Connected { peer, parent, address, outbound }).await;
    if let Some(message) = hello {
        tree.channel(ChannelEvent::Message { peer, message }).await;
    }
    let result = tokio::select! {
        result = write_all(&connection, send, messages) => result,
        result = read_stream(tree, peer, receive) => result,
        result = read_datagrams(tree, peer, &connection) => result,
    };
    connection.close(0u32.into(), b"");
    tree.channel(ChannelEvent::Disconnected { peer }).await;
    result
}

/// The first word of the node at the other end, if it is the one that is wanted. Nothing is said to another one: it would
/// take this channel for the one that this node has to it, and close that.
async fn introduction(
    wanted: &NodeId,
    (send, receive): (&mut SendStream, &mut RecvStream),
) -> anyhow::Result<Message> {
    let first_word = async {
        // The parent learns of the stream.
        send.write_all(&0u32.to_be_bytes()).await?;
        let mut frame = Vec::new();
        loop {
            read_frame(receive, &mut frame).await?;
            if let Some(message) = decode(&frame)? {
                return anyhow::Ok(message);
            }
        }
    };
    let message = tokio::time::timeout(IDLE_TIMEOUT, first_word).await.context("nobody says anything")??;
    match &message {
        Message::Hello(hello) if hello.node == *wanted => Ok(message),
        Message::Hello(hello) => bail!("is another node, {}", hello.node),
        _ => bail!("is somebody who does not say who it is"),
    }
}

async fn write_all(
    connection: &Connection,
    mut stream: SendStream,
    mut messages: mpsc::Receiver<Message>,
) -> anyhow::Result<()> {
    let mut frame = Vec::new();
    // An empty frame first: the parent learns of the stream before the child has anything to say.
    stream.write_all(&0u32.to_be_bytes()).await?;
    while let Some(message) = messages.recv().await {
        frame.clear();
        frame.extend_from_slice(&[0; 4]);
        message.encode(&mut frame);
        let length = frame.len() - 4;
        let fits_datagram = connection.max_datagram_size().is_some_and(|max| length <= max);
        if !message.is_reliable() && fits_datagram {
            // A datagram that finds no room is lost like one on the wire.
            let _ = connection.send_datagram(Bytes::copy_from_slice(&frame[4..]));
            continue;
        }
        frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
        // A peer whose streams stand still while its connection lives would be waited for without end.
        tokio::time::timeout(IDLE_TIMEOUT, stream.write_all(&frame))
            .await
            .context("the peer takes nothing")??;
    }
    bail!("this node ended the link")
}

async fn read_stream(tree: &TreeHandle, peer: PeerId, mut stream: RecvStream) -> anyhow::Result<()> {
    let mut frame = Vec::new();
    loop {
        read_frame(&mut stream, &mut frame).await?;
        deliver(tree, peer, &frame).await?;
    }
}

async fn read_frame(stream: &mut RecvStream, frame: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    ensure!(length <= MESSAGE_BYTES_MAX, "a message of {length} bytes");
    frame.resize(length, 0);
    stream.read_exact(frame).await?;
    Ok(())
}

async fn read_datagrams(tree: &TreeHandle, peer: PeerId, connection: &Connection) -> anyhow::Result<()> {
    loop {
        let datagram = connection.read_datagram().await?;
        deliver(tree, peer, &datagram).await?;
    }
}

async fn deliver(tree: &TreeHandle, peer: PeerId, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(message) = decode(bytes)? {
        tree.channel(ChannelEvent::Message { peer, message }).await;
    }
    Ok(())
}

/// `None`: an empty frame, or one of a later version.
fn decode(bytes: &[u8]) -> anyhow::Result<Option<Message>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    Message::decode(bytes).context("a message that does not follow the wire format")
}
