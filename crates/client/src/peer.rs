//! One peer on its socket: drives str0m until the session ends. What events and commands mean is its [`Role`]'s.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::Url;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{ConnectError, Ending, RestartError};
use crate::ice::IceDescription;
use crate::impairment::{Dice, Impairment, rtp_payload_type};

/// How long a server has to answer a goodbye: one that went on with a session in another process cannot.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// No datagram of WebRTC is larger.
const DATAGRAM_BYTES_MAX: usize = 2048;
/// Datagrams read before timers and commands get their turn.
const RECEIVE_BATCH_MAX: usize = 64;
/// Longest sleep while connecting: where str0m waits for the other side's first DTLS message, its time-out does not
/// tell when it has something to do.
const CONNECTING_STEP: Duration = Duration::from_millis(50);
/// Kernel buffer asked for in each direction, in bytes: a keyframe burst at hundreds of sessions per core.
const SOCKET_BUFFER_BYTES: usize = 1 << 20;

/// How long joining took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joining {
    /// When it began.
    pub started: Instant,
    /// From the first POST to the 201.
    pub answered: Duration,
    /// From the first POST to the end of the DTLS handshake.
    pub connected: Duration,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Connecting,
    Connected(Instant),
    Ended(Ending),
}

/// What a publisher and a viewer do differently.
pub(crate) trait Role: Send + 'static {
    /// What the session's owner can ask for.
    type Command: Send;
    /// `payload_type` is that of the RTP datagram which led to the event, as it stood on the wire.
    fn handle_event(&mut self, now: Instant, rtc: &mut Rtc, event: Event, payload_type: Option<u8>);
    /// One mutation of `rtc` at most.
    fn handle_command(&mut self, now: Instant, rtc: &mut Rtc, command: Self::Command);
    /// One mutation of `rtc` at most, when [`Role::poll_timeout`] is reached.
    fn handle_timeout(&mut self, now: Instant, rtc: &mut Rtc);
    fn poll_timeout(&self) -> Option<Instant>;
}

/// A message to the peer's task. Dropping the sender makes the peer vanish without a word, as a crash would.
pub(crate) enum Message<C> {
    Role(C),
    /// Make new ICE credentials for a restart, and tell them.
    BeginRestart(oneshot::Sender<Result<IceDescription, RestartError>>),
    /// Go on with what the server said to the restart; answered once the new ICE session is connected.
    FinishRestart(IceDescription, oneshot::Sender<Result<(), RestartError>>),
    /// Say goodbye (RTCP BYE, DTLS close_notify) and end.
    Close,
}

/// A UDP socket on the address of this machine that faces the server.
pub(crate) async fn socket_towards(server: &Url) -> Result<(UdpSocket, SocketAddr), ConnectError> {
    let host = server.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = server.port_or_known_default().unwrap_or(80);
    let mut resolved = tokio::net::lookup_host((host.as_str(), port)).await.map_err(ConnectError::Socket)?;
    let server =
        resolved.next().ok_or_else(|| ConnectError::Socket(io::ErrorKind::AddrNotAvailable.into()))?;
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let probe = UdpSocket::bind(any).await.map_err(ConnectError::Socket)?;
    probe.connect(server).await.map_err(ConnectError::Socket)?;
    let facing = probe.local_addr().map_err(ConnectError::Socket)?.ip();
    let socket = UdpSocket::bind((facing, 0)).await.map_err(ConnectError::Socket)?;
    let reference = socket2::SockRef::from(&socket);
    reference.set_recv_buffer_size(SOCKET_BUFFER_BYTES).map_err(ConnectError::Socket)?;
    reference.set_send_buffer_size(SOCKET_BUFFER_BYTES).map_err(ConnectError::Socket)?;
    let local = socket.local_addr().map_err(ConnectError::Socket)?;
    Ok((socket, local))
}

/// Host candidate for `local`.
pub(crate) fn host_candidate(local: SocketAddr) -> Result<Candidate, ConnectError> {
    Candidate::host(local, Protocol::Udp).map_err(|error| ConnectError::Socket(io::Error::other(error)))
}

/// One peer with its socket.
pub(crate) struct Peer<R: Role> {
    pub(crate) rtc: Rtc,
    pub(crate) socket: UdpSocket,
    pub(crate) local: SocketAddr,
    pub(crate) role: R,
    pub(crate) messages: mpsc::Receiver<Message<R::Command>>,
    pub(crate) state: watch::Sender<State>,
    dice: Dice,
    /// The session is being closed from here, and ends by then whatever the server says.
    closing_until: Option<Instant>,
    restart: Restart,
}

/// An ICE restart, and what it needs.
struct Restart {
    /// The server's first SDP: a restart changes its ICE and nothing else.
    answer: String,
    /// Credentials were made, the server has not answered yet.
    pending: Option<SdpPendingOffer>,
    /// The server has answered, the new ICE session is not connected yet.
    waiting: Option<oneshot::Sender<Result<(), RestartError>>>,
}

impl<R: Role> Peer<R> {
    pub(crate) fn new(
        rtc: Rtc,
        (socket, local): (UdpSocket, SocketAddr),
        role: R,
        (impairment, answer): (Impairment, &str),
    ) -> (Self, mpsc::Sender<Message<R::Command>>, watch::Receiver<State>) {
        let (sender, messages) = mpsc::channel(256);
        let (state, states) = watch::channel(State::Connecting);
        let dice = Dice::new(impairment);
        let restart = Restart { answer: answer.to_owned(), pending: None, waiting: None };
        (
            Self { rtc, socket, local, role, messages, state, dice, closing_until: None, restart },
            sender,
            states,
        )
    }

    /// Runs until the session ends or its owner is gone.
    pub(crate) async fn run(mut self) {
        let ending = match self.drive().await {
            Ok(ending) => ending,
            Err(error) => {
                tracing::debug!(%error, "peer failed");
                Ending::Failed
            }
        };
        let _ = self.state.send(State::Ended(ending));
    }

    async fn drive(&mut self) -> Result<Ending, DriveError> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let (wake, ending) = self.drain(None)?;
            if let Some(ending) = ending {
                return Ok(ending);
            }
            if self.closing_until.is_some_and(|until| until <= Instant::now()) {
                return Ok(Ending::ClosedHere);
            }
            let wake = self.closing_until.map_or(wake, |until| until.min(wake));
            let wake = self.role.poll_timeout().map_or(wake, |role| role.min(wake));
            let wake = if *self.state.borrow() == State::Connecting {
                wake.min(Instant::now() + CONNECTING_STEP)
            } else {
                wake
            };
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(Message::Role(command)) => self.role.handle_command(Instant::now(), &mut self.rtc, command),
                    Some(Message::BeginRestart(reply)) => {
                        // Nobody is left to tell if the owner has given up.
                        let _ = reply.send(self.begin_restart());
                    }
                    Some(Message::FinishRestart(remote, reply)) => self.finish_restart(&remote, reply),
                    Some(Message::Close) => {
                        self.closing_until.get_or_insert(Instant::now() + GOODBYE_MAX);
                        self.rtc.close()?;
                    }
                    None => return Ok(Ending::ClosedHere),
                },
                readable = self.socket.readable() => {
                    readable?;
                    if let Some(ending) = self.receive(&mut buffer)? {
                        return Ok(ending);
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    let now = Instant::now();
                    if self.role.poll_timeout().is_some_and(|at| at <= now) {
                        self.role.handle_timeout(now, &mut self.rtc);
                        if let (_, Some(ending)) = self.drain(None)? {
                            return Ok(ending);
                        }
                    }
                    self.rtc.handle_input(Input::Timeout(now))?;
                }
            }
        }
    }

    fn begin_restart(&mut self) -> Result<IceDescription, RestartError> {
        let candidate = host_candidate(self.local).map_err(|_| RestartError::Impossible)?;
        let mut changes = self.rtc.sdp_api();
        let credentials = changes.ice_restart(true);
        let (_, pending) = changes.apply().ok_or(RestartError::Impossible)?;
        self.restart.pending = Some(pending);
        let candidates = vec![IceDescription::value_of(&candidate)];
        Ok(IceDescription { ufrag: credentials.ufrag, pwd: credentials.pass, candidates })
    }

    fn finish_restart(&mut self, remote: &IceDescription, reply: oneshot::Sender<Result<(), RestartError>>) {
        let pending = self.restart.pending.take().ok_or(RestartError::NotBegun);
        let accepted = pending.and_then(|pending| {
            let unusable = |error: &dyn std::fmt::Display| RestartError::Answer { reason: error.to_string() };
            let answer = remote.in_place_of(&self.restart.answer);
            let answer = SdpAnswer::from_sdp_string(&answer).map_err(|error| unusable(&error))?;
            self.rtc.sdp_api().accept_answer(pending, answer).map_err(|error| unusable(&error))
        });
        match accepted {
            Ok(()) => self.restart.waiting = Some(reply),
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<Ending>, DriveError> {
        for _ in 0..RECEIVE_BATCH_MAX {
            let (length, source) = match self.socket.try_recv_from(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP answer to something sent: the port is closed, ICE will notice.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error.into()),
            };
            let datagram = &buffer[..length];
            if self.dice.loses_received(datagram) {
                continue;
            }
            let Ok(received) = Receive::new(Protocol::Udp, source, self.local, datagram) else { continue };
            let payload_type = rtp_payload_type(datagram);
            self.rtc.handle_input(Input::Receive(Instant::now(), received))?;
            if let (_, Some(ending)) = self.drain(payload_type)? {
                return Ok(Some(ending));
            }
        }
        Ok(None)
    }

    /// Carries out what str0m wants until it wants to wait; `None` while the session goes on.
    fn drain(&mut self, payload_type: Option<u8>) -> Result<(Instant, Option<Ending>), DriveError> {
        loop {
            if !self.rtc.is_alive() {
                let ending =
                    if self.closing_until.is_some() { Ending::ClosedHere } else { Ending::ServerClosed };
                return Ok((Instant::now(), Some(ending)));
            }
            match self.rtc.poll_output()? {
                Output::Timeout(wake) => return Ok((wake, None)),
                Output::Transmit(transmit) => {
                    if !self.dice.loses_sent(&transmit.contents) {
                        self.send(&transmit.contents, transmit.destination);
                    }
                }
                Output::Event(Event::Connected) => {
                    let _ = self.state.send(State::Connected(Instant::now()));
                }
                Output::Event(Event::IceConnectionStateChange(IceConnectionState::Disconnected)) => {
                    return Ok((Instant::now(), Some(Ending::ConsentLost)));
                }
                Output::Event(Event::IceConnectionStateChange(state)) if state.is_connected() => {
                    if let Some(reply) = self.restart.waiting.take() {
                        let _ = reply.send(Ok(()));
                    }
                }
                Output::Event(event) => {
                    self.role.handle_event(Instant::now(), &mut self.rtc, event, payload_type);
                }
            }
        }
    }

    fn send(&self, datagram: &[u8], destination: SocketAddr) {
        // A full socket buffer or an unreachable candidate is a lost datagram: the protocols above live with it.
        if let Err(error) = self.socket.try_send_to(datagram, destination) {
            tracing::trace!(%error, %destination, "datagram not sent");
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum DriveError {
    #[error(transparent)]
    Rtc(#[from] str0m::RtcError),
    #[error("socket")]
    Socket(#[from] io::Error),
}

/// Waits until the peer is connected, at most `patience`.
pub(crate) async fn connected(
    states: &mut watch::Receiver<State>,
    patience: Duration,
) -> Result<Instant, ConnectError> {
    let decided = states.wait_for(|state| *state != State::Connecting);
    match tokio::time::timeout(patience, decided).await {
        Err(_elapsed) => Err(ConnectError::Timeout { waited: patience }),
        Ok(Err(_gone)) => Err(ConnectError::Ended(Ending::Failed)),
        Ok(Ok(state)) => match *state {
            State::Connected(at) => Ok(at),
            State::Ended(ending) => Err(ConnectError::Ended(ending)),
            State::Connecting => Err(ConnectError::Timeout { waited: patience }),
        },
    }
}

/// New ICE credentials of this side, for a restart (RFC 8445, section 9).
pub(crate) async fn begin_restart<C>(
    messages: &mpsc::Sender<Message<C>>,
) -> Result<IceDescription, RestartError> {
    let (reply, answer) = oneshot::channel();
    messages.send(Message::BeginRestart(reply)).await.map_err(|_| RestartError::Ended)?;
    answer.await.map_err(|_| RestartError::Ended)?
}

/// Goes on with the server's side of a restart; waits until it is connected, at most `patience`.
pub(crate) async fn finish_restart<C>(
    messages: &mpsc::Sender<Message<C>>,
    remote: IceDescription,
    patience: Duration,
) -> Result<(), RestartError> {
    let (reply, answer) = oneshot::channel();
    messages.send(Message::FinishRestart(remote, reply)).await.map_err(|_| RestartError::Ended)?;
    match tokio::time::timeout(patience, answer).await {
        Err(_elapsed) => Err(RestartError::Timeout { waited: patience }),
        Ok(answer) => answer.map_err(|_| RestartError::Ended)?,
    }
}

/// Sends a command to the peer's task.
pub(crate) async fn command<C>(
    messages: &mpsc::Sender<Message<C>>,
    states: &watch::Receiver<State>,
    command: C,
) -> Result<(), Ending> {
    messages.send(Message::Role(command)).await.map_err(|_gone| match *states.borrow() {
        State::Ended(ending) => ending,
        State::Connecting | State::Connected(_) => Ending::Failed,
    })
}

/// Waits until the peer has ended.
pub(crate) async fn ended(states: &mut watch::Receiver<State>) -> Ending {
    match states.wait_for(|state| matches!(state, State::Ended(_))).await.as_deref() {
        Ok(State::Ended(ending)) => *ending,
        Ok(State::Connecting | State::Connected(_)) | Err(_) => Ending::Failed,
    }
}
