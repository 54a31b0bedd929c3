//! One peer of the oracle: str0m as it is meant to be used, with a socket that it shares.

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use anyhow::Context as _;
use str0m::change::SdpOffer;
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

/// One publisher or viewer.
pub struct Peer {
    rtc: Rtc,
    local: SocketAddr,
    wake: Instant,
    /// Media sections that the peer receives, with the payload type to send there.
    sends: Vec<(MediaKind, Mid, Pt)>,
    is_connected: bool,
}

impl Peer {
    /// Takes an offer; gives the peer and its answer.
    pub fn accept(offer: &str, local: SocketAddr) -> anyhow::Result<(Self, String)> {
        let config = RtcConfig::new().clear_codecs().enable_opus(true, false).enable_h264(true);
        let now = Instant::now();
        let mut rtc = config.set_ice_lite(true).set_rtp_mode(true).build(now);
        rtc.add_local_candidate(Candidate::host(local, Protocol::Udp)?);
        let offer = SdpOffer::from_sdp_string(offer)?;
        let answer = rtc.sdp_api().accept_offer(offer)?.to_sdp_string();
        let mut peer = Self { rtc, local, wake: now, sends: Vec::new(), is_connected: false };
        peer.poll(None, &mut Vec::new());
        Ok((peer, answer))
    }

    pub fn wake(&self) -> Instant {
        self.wake
    }

    pub fn is_alive(&self) -> bool {
        self.rtc.is_alive()
    }

    pub fn accepts(&self, remote: SocketAddr, bytes: &[u8]) -> bool {
        let Ok(receive) = Receive::new(Protocol::Udp, remote, self.local, bytes) else { return false };
        self.rtc.accepts(&Input::Receive(Instant::now(), receive))
    }

    /// Whether a packet of this publisher is sound; `None` for one of an unknown payload type.
    pub fn is_audio(&self, packet: &RtpPacket) -> Option<bool> {
        let mut params = self.rtc.codec_config().params().iter();
        let own = params.find(|params| params.pt() == packet.header.payload_type)?;
        Some(own.spec().codec == Codec::Opus)
    }

    pub fn receive(
        &mut self,
        remote: SocketAddr,
        bytes: &[u8],
        socket: &UdpSocket,
        packets: &mut Vec<RtpPacket>,
    ) {
        let Ok(receive) = Receive::new(Protocol::Udp, remote, self.local, bytes) else { return };
        self.handle(Input::Receive(Instant::now(), receive), socket, packets);
    }

    pub fn handle_timeout(&mut self, now: Instant, socket: &UdpSocket, packets: &mut Vec<RtpPacket>) {
        if self.wake <= now {
            self.handle(Input::Timeout(now), socket, packets);
        }
    }

    /// Sends a publisher's packet to this viewer.
    pub fn write(&mut self, packet: &RtpPacket, is_audio: bool, socket: &UdpSocket) {
        let kind = if is_audio { MediaKind::Audio } else { MediaKind::Video };
        let track = self.sends.iter().find(|track| track.0 == kind);
        let (true, Some((_, mid, payload_type))) = (self.is_connected, track) else { return };
        let mut direct = self.rtc.direct_api();
        let Some(stream) = direct.stream_tx_by_mid(*mid, None) else { return };
        let time = packet.header.timestamp;
        let write =
            RtpWrite::new(*payload_type, packet.seq_no, time, packet.timestamp, packet.payload.clone());
        let write = write.marker(packet.header.marker).nackable(!is_audio);
        stream.write_rtp(write.ext_vals(packet.header.ext_vals.clone()));
        self.poll(Some(socket), &mut Vec::new());
    }

    fn handle(&mut self, input: Input<'_>, socket: &UdpSocket, packets: &mut Vec<RtpPacket>) {
        if let Err(error) = self.rtc.handle_input(input) {
            eprintln!("peer: {error}");
            self.rtc.disconnect();
            return;
        }
        self.poll(Some(socket), packets);
    }

    fn poll(&mut self, socket: Option<&UdpSocket>, packets: &mut Vec<RtpPacket>) {
        while self.rtc.is_alive() {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(wake)) => {
                    self.wake = wake;
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    if let Some(socket) = socket {
                        // What the kernel has no room for is lost on the way, as by any server.
                        let _ = socket.send_to(&transmit.contents, transmit.destination);
                    }
                }
                Ok(Output::Event(event)) => self.handle_event(event, packets),
                Err(error) => {
                    eprintln!("peer: {error}");
                    self.rtc.disconnect();
                }
            }
        }
    }

    fn handle_event(&mut self, event: Event, packets: &mut Vec<RtpPacket>) {
        match event {
            Event::Connected => self.is_connected = true,
            Event::MediaAdded(media) if media.direction == Direction::SendOnly => {
                match self.payload_type(media.mid, media.kind) {
                    Ok(payload_type) => self.sends.push((media.kind, media.mid, payload_type)),
                    Err(error) => eprintln!("viewer: {error:#}"),
                }
            }
            Event::RtpPacket(packet) => packets.push(packet),
            _ => {}
        }
    }

    fn payload_type(&self, mid: Mid, kind: MediaKind) -> anyhow::Result<Pt> {
        let codec = if kind == MediaKind::Audio { Codec::Opus } else { Codec::H264 };
        let remote = self.rtc.media(mid).context("a section without media")?.remote_pts();
        let params = self.rtc.codec_config().params().iter();
        let mut common =
            params.filter(|params| remote.contains(&params.pt()) && params.spec().codec == codec);
        Ok(common.next().with_context(|| format!("no {codec} in common"))?.pt())
    }
}
