//! The peers of this server: str0m on a socket each.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

use super::{Fault, Session, Shared};

/// How long a session may wait for its peer here.
const UNCONNECTED_MAX: Duration = Duration::from_secs(3);
/// Between two datagrams to candidates that should be forgotten.
const NUISANCE_INTERVAL: Duration = Duration::from_millis(300);

/// What a peer is told to do.
pub(super) enum Command {
    /// Answer this offer with new credentials.
    Restart(String, oneshot::Sender<Option<String>>),
    /// Tell of new credentials, and have none.
    Pretend(oneshot::Sender<Option<String>>),
    /// Take the answer to a counter-offer.
    Answer(String, oneshot::Sender<bool>),
    /// Hear nothing from now on.
    Deafen,
    /// Leave the session in place for ever.
    Keep,
    End,
}

async fn transport() -> Option<(Rtc, UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.ok()?;
    let local = socket.local_addr().ok()?;
    let config = RtcConfig::new().clear_codecs().enable_opus(true, false).enable_h264(true).enable_vp8(true);
    let mut rtc = config.set_ice_lite(true).set_rtp_mode(true).build(Instant::now());
    rtc.add_local_candidate(Candidate::host(local, Protocol::Udp).ok()?);
    Some((rtc, socket, local))
}

/// A session that this offer makes.
pub(super) async fn begin(shared: &Arc<Shared>, protocol: &str, body: &str) -> Option<(String, Session)> {
    let (mut rtc, socket, local) = transport().await?;
    let offer = SdpOffer::from_sdp_string(body).ok()?;
    let answer = rtc.sdp_api().accept_offer(offer).ok()?.to_sdp_string();
    let answer = dressed(shared, protocol, &answer);
    Some(run(shared, (rtc, socket, local), (body, answer), None))
}

/// A counter-offer.
pub(super) async fn offer(shared: &Arc<Shared>) -> Option<(String, Session)> {
    let (mut rtc, socket, local) = transport().await?;
    let mut changes = rtc.sdp_api();
    for kind in [MediaKind::Audio, MediaKind::Video] {
        changes.add_media(kind, Direction::SendOnly, None, None, None);
    }
    let (offer, pending) = changes.apply()?;
    let offer = dressed(shared, "whep", &offer.to_sdp_string());
    Some(run(shared, (rtc, socket, local), ("", offer), Some(pending)))
}

fn run(
    shared: &Arc<Shared>,
    (rtc, socket, local): (Rtc, UdpSocket, SocketAddr),
    (offer, answer): (&str, String),
    pending: Option<SdpPendingOffer>,
) -> (String, Session) {
    let count = shared.number();
    let id = if shared.is(Fault::CountedNames) { format!("{count:032}") } else { drawn() };
    let entity_tag = match shared.fault {
        Fault::SameEntityTag => "\"same\"".to_owned(),
        Fault::WeakEntityTag => format!("W/\"{count}\""),
        _ => format!("\"{count}\""),
    };
    let (commands, received) = mpsc::channel(8);
    let is_counter_offer = pending.is_some();
    let peer = Peer {
        rtc,
        socket,
        local,
        shared: shared.clone(),
        id: id.clone(),
        commands: received,
        description: answer.clone(),
        pending,
        first_candidates: candidates(offer),
        heard: BTreeSet::new(),
        has_restarted: false,
        is_deaf: false,
        is_kept: false,
    };
    tokio::spawn(peer.run());
    let offer = offer.to_owned();
    (id, Session { entity_tag, offer, answer, is_counter_offer, restarts: 0, commands })
}

/// 128 bits of the process's hasher, which is seeded by the kernel.
fn drawn() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("{:016x}{:016x}", RandomState::new().hash_one(1), RandomState::new().hash_one(2))
}

/// The addresses of the candidates of an offer.
fn candidates(offer: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let fields: Vec<&str> = line.strip_prefix("a=candidate:")?.split(' ').collect();
        let ip: IpAddr = fields.get(4)?.parse().ok()?;
        Some(SocketAddr::new(ip, fields.get(5)?.parse().ok()?))
    };
    offer.lines().filter_map(address).collect()
}

/// str0m's answer with what WHIP demands beyond it, and without what the fault leaves out.
fn dressed(shared: &Shared, protocol: &str, answer: &str) -> String {
    let mut text = String::new();
    let (mut sections, mut candidates) = (0, 0);
    // Two layers are enough to see what is wrong with them, and leave those of a publisher as they are.
    let has_two_layers = answer.contains("a=simulcast:recv 0;1\r\n");
    for line in answer.lines().map(str::trim_end) {
        match line {
            _ if line.starts_with("a=candidate") && shared.is(Fault::NoCandidates) => continue,
            _ if line.starts_with("a=candidate")
                && candidates == 0
                && shared.is(Fault::FirstCandidateIsNowhere) =>
            {
                candidates += 1;
                text += &format!("a=candidate:9 1 udp 2130706431 192.0.2.9 9 typ host\r\n{line}");
            }
            _ if line.starts_with("a=msid") => continue,
            _ if has_two_layers && is_left_out(shared.fault, line) => continue,
            "a=simulcast:recv 0;1" if shared.is(Fault::SimulcastIsSent) => text += "a=simulcast:send 0;1",
            "a=simulcast:recv 0;1" if shared.is(Fault::SimulcastOfStrangers) => {
                text += "a=rid:x recv\r\na=simulcast:recv 0;1;x";
            }
            "a=recvonly" | "a=sendrecv" | "a=sendonly" | "a=inactive" => {
                let right = if protocol == "whip" { "a=recvonly" } else { "a=sendonly" };
                text += if shared.is(Fault::WrongDirection) { "a=sendrecv" } else { right };
                let stream = if shared.is(Fault::TwoStreams) { sections } else { 0 };
                text += &format!("\r\na=msid:stream{stream} track{sections}");
            }
            "a=rtcp-mux" if !shared.is(Fault::NoMuxOnly) => text += "a=rtcp-mux\r\na=rtcp-mux-only",
            _ => text += line,
        }
        sections += usize::from(line.starts_with("m="));
        text += "\r\n";
    }
    if shared.is(Fault::LinesEndWithLf) { text.replace("\r\n", "\n") } else { text }
}

/// Lines that the answer to simulcast should have.
fn is_left_out(fault: Fault, line: &str) -> bool {
    match fault {
        Fault::SimulcastWithoutRids => line.starts_with("a=rid:"),
        Fault::SimulcastWithoutExtension => line.ends_with("sdes:rtp-stream-id"),
        _ => false,
    }
}

struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    shared: Arc<Shared>,
    id: String,
    commands: mpsc::Receiver<Command>,
    /// What was told last of this side.
    description: String,
    pending: Option<SdpPendingOffer>,
    first_candidates: Vec<SocketAddr>,
    /// Who was heard before any restart.
    heard: BTreeSet<SocketAddr>,
    has_restarted: bool,
    is_deaf: bool,
    is_kept: bool,
}

impl Peer {
    async fn run(mut self) {
        let begun = Instant::now();
        let mut is_connected = false;
        let mut buffer = vec![0; 2048];
        let mut commands_are_open = true;
        while self.rtc.is_alive() {
            let Some(wake) = self.drain(&mut is_connected) else { return self.forget() };
            let expires = begun + UNCONNECTED_MAX;
            if !is_connected && Instant::now() > expires && !self.shared.is(Fault::NeverExpires) {
                return self.forget();
            }
            let wake = if is_connected { wake } else { wake.min(expires + Duration::from_millis(10)) };
            let wake = self.be_a_nuisance().map_or(wake, |next| wake.min(next));
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    if let Ok((length, source)) = received
                        && self.hears(source)
                        && let Ok(receive) = Receive::new(Protocol::Udp, source, self.local, &buffer[..length])
                    {
                        let _ = self.rtc.handle_input(Input::Receive(Instant::now(), receive));
                    }
                }
                command = self.commands.recv(), if commands_are_open => match command {
                    Some(Command::End) if self.shared.is(Fault::NoGoodbye) => return,
                    Some(command) => self.obey(command),
                    None => commands_are_open = false,
                },
                () = tokio::time::sleep_until(wake.into()) => {
                    let _ = self.rtc.handle_input(Input::Timeout(Instant::now()));
                }
            }
        }
        self.forget();
    }

    /// Sends what is to be sent; when to come back, or nothing if the peer is lost.
    fn drain(&mut self, is_connected: &mut bool) -> Option<Instant> {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(wake)) => return Some(wake),
                Ok(Output::Transmit(transmit)) => {
                    let _ = self.socket.try_send_to(&transmit.contents, transmit.destination);
                }
                Ok(Output::Event(Event::Connected)) => *is_connected = true,
                Ok(Output::Event(Event::IceConnectionStateChange(IceConnectionState::Disconnected))) => {
                    return None;
                }
                Ok(Output::Event(Event::RtpPacket(packet))) => {
                    let mut direct = self.rtc.direct_api();
                    let rid = direct.stream_rx(&packet.header.ssrc).and_then(|stream| stream.rid());
                    if let Some(rid) = rid {
                        let mut layers = self.shared.layers.lock().unwrap_or_else(PoisonError::into_inner);
                        layers.insert(rid.to_string(), Instant::now());
                    }
                }
                Ok(Output::Event(_)) => {}
                Err(_) => return None,
            }
        }
    }

    fn hears(&mut self, source: SocketAddr) -> bool {
        if !self.has_restarted {
            self.heard.insert(source);
        }
        let is_stranger = self.shared.is(Fault::OnlyOldAddresses) && !self.heard.contains(&source);
        !self.is_deaf && !is_stranger
    }

    /// Sends to the candidates of the first offer where that is the fault; when to come back.
    fn be_a_nuisance(&self) -> Option<Instant> {
        if !self.shared.is(Fault::OldCandidatesAreKept) || !self.has_restarted {
            return None;
        }
        for candidate in &self.first_candidates {
            let _ = self.socket.try_send_to(&[0; 20], *candidate);
        }
        Some(Instant::now() + NUISANCE_INTERVAL)
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Restart(offer, reply) => {
                let answer = SdpOffer::from_sdp_string(&offer).ok();
                let answer = answer.and_then(|offer| self.rtc.sdp_api().accept_offer(offer).ok());
                let answer = answer.map(|answer| answer.to_sdp_string());
                self.has_restarted = true;
                if let Some(answer) = &answer {
                    self.description.clone_from(answer);
                }
                let _ = reply.send(answer);
            }
            Command::Pretend(reply) => {
                let (ufrag, pwd) = (drawn(), drawn());
                let other = |line: &str| match line.split_once(':') {
                    Some(("a=ice-ufrag", _)) => format!("a=ice-ufrag:{ufrag}\r\n"),
                    Some(("a=ice-pwd", _)) => format!("a=ice-pwd:{pwd}\r\n"),
                    _ => format!("{line}\r\n"),
                };
                let _ = reply.send(Some(self.description.lines().map(other).collect()));
            }
            Command::Answer(text, reply) => {
                let answer = SdpAnswer::from_sdp_string(&text).ok();
                // One that cannot be read leaves the offer as it is.
                let pending = if answer.is_some() { self.pending.take() } else { None };
                let taken = answer.zip(pending).is_some_and(|(answer, pending)| {
                    self.rtc.sdp_api().accept_answer(pending, answer).is_ok()
                });
                let _ = reply.send(taken);
            }
            Command::Deafen => self.is_deaf = true,
            Command::Keep => self.is_kept = true,
            Command::End => {
                let _ = self.rtc.close();
            }
        }
    }

    fn forget(&self) {
        if !self.is_kept {
            self.shared.sessions().remove(&self.id);
        }
    }
}
