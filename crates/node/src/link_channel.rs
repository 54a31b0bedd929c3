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
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::sync::mpsc;

use crate::link_identity::{LinkIdentity, SERVER_NAME};
use crate::link_socket::LinkSocket;
use crate::tree::TreeHandle;

/// Messages that may wait to be sent to one peer; a peer that does not take them is disconnected.
const OUTBOUND_MAX: usize = 1024;
/// QUIC notices a dead peer by then; the exchange's own heartbeat is much faster.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// For the word that a channel is let go of; who does not hear it is told by the next process.
const LEAVE_TIME: Duration = Duration::from_millis(10);
/// Pause before a parent is dialled again.
const REDIAL: Duration = Duration::from_millis(250);

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
    tree: TreeHandle,
    next_peer: Arc<AtomicU64>,
}

impl LinkChannels {
    /// QUIC over the node's link socket. Must run inside tokio.
    ///
    /// # Errors
    /// If the library refuses the configuration.
    pub fn new(socket: Arc<LinkSocket>, identity: &LinkIdentity, tree: TreeHandle) -> anyhow::Result<Self> {
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
        Ok(Self { endpoint, tree, next_peer: Arc::new(AtomicU64::new(1)) })
    }

    /// Takes children until the endpoint closes.
    pub async fn accept(&self) {
        while let Some(incoming) = self.endpoint.accept().await {
            // An address is proved before any state is kept for it or more than its own bytes are sent to it.
            if !incoming.remote_address_validated() {
                let _ = incoming.retry();
                continue;
            }
            let (tree, peer) = (self.tree.clone(), self.next_peer());
            tokio::spawn(async move {
                let result = async {
                    let connection = incoming.await?;
                    let streams = connection.accept_bi().await?;
                    serve(&tree, peer, None, connection, streams).await
                };
                if let Err(error) = result.await {
                    tracing::debug!(%error, "a child's link ended");
                }
            });
        }
    }

    /// Keeps a channel to the parent at `address` (host and port) for ever.
    pub async fn dial(&self, parent: ParentId, address: (String, u16)) {
        let mut was_up = true;
        loop {
            let begun = Instant::now();
            let result = self.dial_once(parent, &address, &mut was_up).await;
            if let Err(error) = result
                && was_up
            {
                tracing::warn!(parent = %format_args!("{}:{}", address.0, address.1), error = format!("{error:#}"), "no link to the parent, dialling on");
                was_up = false;
            }
            // A link that was there is missed: the parent's next process is waited for in the handshake.
            if begun.elapsed() < REDIAL {
                tokio::time::sleep(REDIAL).await;
            }
        }
    }

    async fn dial_once(
        &self,
        parent: ParentId,
        (host, port): &(String, u16),
        was_up: &mut bool,
    ) -> anyhow::Result<()> {
        let resolved =
            tokio::net::lookup_host((host.as_str(), *port)).await.context("resolve the parent's name")?;
        let connection = self.connect_any(resolved).await?;
        let streams = connection.open_bi().await?;
        *was_up = true;
        serve(&self.tree, self.next_peer(), Some(parent), connection, streams).await
    }

    /// Tries the addresses of a name in turn: not each family need be reachable, or be ours.
    async fn connect_any(&self, addresses: impl Iterator<Item = SocketAddr>) -> anyhow::Result<Connection> {
        let mut last = anyhow::anyhow!("the parent's name has no address");
        for address in addresses {
            let connecting = match self.endpoint.connect(address, SERVER_NAME) {
                Ok(connecting) => connecting,
                Err(error) => {
                    last = error.into();
                    continue;
                }
            };
            match connecting.await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error.into(),
            }
        }
        Err(last.context("connect to the parent"))
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

/// Runs one channel until it ends.
async fn serve(
    tree: &TreeHandle,
    peer: PeerId,
    parent: Option<ParentId>,
    connection: Connection,
    (send, receive): (SendStream, RecvStream),
) -> anyhow::Result<()> {
    let (outbound, messages) = mpsc::channel(OUTBOUND_MAX);
    let remote = connection.remote_address();
    // As link media's source is written.
    let address = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    tree.channel(ChannelEvent::Connected { peer, parent, address, outbound }).await;
    let result = tokio::select! {
        result = write_all(&connection, send, messages) => result,
        result = read_stream(tree, peer, receive) => result,
        result = read_datagrams(tree, peer, &connection) => result,
    };
    connection.close(0u32.into(), b"");
    tree.channel(ChannelEvent::Disconnected { peer }).await;
    result
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
        let mut length = [0; 4];
        stream.read_exact(&mut length).await?;
        let length = u32::from_be_bytes(length) as usize;
        ensure!(length <= MESSAGE_BYTES_MAX, "a message of {length} bytes");
        frame.resize(length, 0);
        stream.read_exact(&mut frame).await?;
        if length > 0 {
            deliver(tree, peer, &frame).await?;
        }
    }
}

async fn read_datagrams(tree: &TreeHandle, peer: PeerId, connection: &Connection) -> anyhow::Result<()> {
    loop {
        let datagram = connection.read_datagram().await?;
        deliver(tree, peer, &datagram).await?;
    }
}

async fn deliver(tree: &TreeHandle, peer: PeerId, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(message) = Message::decode(bytes).context("a message that does not follow the wire format")? {
        tree.channel(ChannelEvent::Message { peer, message }).await;
    }
    Ok(())
}
