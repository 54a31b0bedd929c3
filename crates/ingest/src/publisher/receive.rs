//! What comes from the publisher: telling datagrams apart, guarding the engine, packets and reports.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media_core::rtp;
use model::{NtpTime, SeqNo};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Input};

use super::offer::{self, Purpose, Section};
use super::stun::BindingRequest;
use super::{
    LOCAL_ADDRESSES_MAX, NEW_ADDRESS_EVERY, NEW_ADDRESSES_MAX, Output, Phase, Publisher, RemoteStream,
};
use crate::stream::{self, Media, Told};

/// Most SSRCs of one publisher.
const REMOTE_STREAMS_MAX: usize = 64;
const RTP_HEADER_BYTES: usize = 12;

/// What a datagram is (RFC 7983, section 7; RFC 5761, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Datagram {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
}

fn classify(bytes: &[u8]) -> Option<Datagram> {
    match bytes.first()? {
        0..=1 => Some(Datagram::Stun),
        20..=63 => Some(Datagram::Dtls),
        128..=191 if bytes.len() >= RTP_HEADER_BYTES => match bytes[1] & 0x7f {
            64..=95 => Some(Datagram::Rtcp),
            _ => Some(Datagram::Rtp),
        },
        _ => None,
    }
}

pub(super) fn is_rtcp(bytes: &[u8]) -> bool {
    classify(bytes) == Some(Datagram::Rtcp)
}

impl Publisher {
    /// Whether this datagram is for this session, when several share a socket: it is a connectivity check that names this session,
    /// or something else from an address that has shown to be the publisher's. A check names the session of a publisher who has
    /// begun anew from the address of the one before.
    #[must_use]
    pub fn accepts(&self, source: SocketAddr, bytes: &[u8]) -> bool {
        match BindingRequest::parse(bytes) {
            Some(request) => request.local_ufrag() == self.ice.ufrag,
            None => self.is_known(source),
        }
    }

    /// A datagram came from `source` to our `destination`, when our wallclock showed `wallclock`.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        wallclock: NtpTime,
        (source, destination): (SocketAddr, SocketAddr),
        bytes: &[u8],
    ) {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        self.now = self.now.max(now);
        self.wallclock = wallclock;
        match classify(bytes) {
            Some(Datagram::Stun) => self.handle_stun((source, destination), bytes),
            Some(Datagram::Dtls) if self.is_known(source) && !self.has_channel_budget() => {
                self.drops.channel_rate += 1;
            }
            Some(Datagram::Dtls | Datagram::Rtcp) if self.is_known(source) => {
                self.feed((source, destination), bytes);
            }
            Some(Datagram::Rtp) if self.is_known(source) => self.handle_rtp((source, destination), bytes),
            Some(Datagram::Dtls | Datagram::Rtp | Datagram::Rtcp) => self.drops.unknown_source += 1,
            None => self.drops.malformed += 1,
        }
    }

    /// Whether one more datagram of DTLS may come: after the handshake that is what data channels send.
    fn has_channel_budget(&mut self) -> bool {
        self.phase != Phase::Connected || self.channel_budget.take(self.now)
    }

    pub(super) fn is_known(&self, source: SocketAddr) -> bool {
        self.path.is_some_and(|(_, remote)| remote == source) || self.remote_addresses.contains(&source)
    }

    pub(super) fn handle_stun(&mut self, path: (SocketAddr, SocketAddr), bytes: &[u8]) {
        let Some(request) = BindingRequest::parse(bytes) else { return };
        if !request.is_authentic(&self.ice.password) {
            self.drops.unknown_source += 1;
            return;
        }
        if !self.is_known(path.0) && !self.admits_address() {
            self.drops.unknown_source += 1;
            return;
        }
        self.learn_local_address(path.1);
        if request.has_priority {
            self.feed(path, bytes);
        } else {
            let complete = request.with_priority(&self.ice.password);
            self.feed(path, &complete);
        }
    }

    /// Takes one of the new addresses that may come.
    fn admits_address(&mut self) -> bool {
        let (left, since) = &mut self.new_addresses;
        let more = self.now.saturating_duration_since(*since).as_secs() / NEW_ADDRESS_EVERY.as_secs();
        if more > 0 {
            *left = left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(NEW_ADDRESSES_MAX);
            *since = self.now;
        }
        let admits = *left > 0;
        *left = left.saturating_sub(1);
        admits
    }

    /// An authentic check has reached us there, so it is ours, listed or not.
    fn learn_local_address(&mut self, address: SocketAddr) {
        if self.local_addresses.contains(&address) || self.local_addresses.len() >= LOCAL_ADDRESSES_MAX {
            return;
        }
        if let Ok(candidate) = Candidate::host(address, "udp") {
            self.rtc.add_local_candidate(candidate);
            self.local_addresses.push(address);
        }
    }

    /// Verifies a packet, lets the engine see it for its reports, and takes the media out of it.
    ///
    /// Media is decrypted here although the engine does it too: the engine binds streams to SSRCs before it authenticates,
    /// so that one forged packet could take a stream from its owner, and it forgets gaps 100 packets back, which a
    /// keyframe of a few hundred packets passes before a repair can come.
    fn handle_rtp(&mut self, path: (SocketAddr, SocketAddr), bytes: &[u8]) {
        let (seq, ssrc) = (u16::from_be_bytes([bytes[2], bytes[3]]), word(bytes, 8));
        let Some((section, _, purpose)) = offer::find(&self.sections, bytes[1] & 0x7f) else {
            self.drops.payload_type += 1;
            return;
        };
        // Marks the probes of libwebrtc, which carry nothing. Their stream is the engine's own affair.
        if ssrc == 0 {
            self.feed(path, bytes);
            return;
        }
        // A new SSRC begins with a rollover counter of zero (RFC 3711, section 3.3.1).
        let known = self.remote_streams.get(&ssrc).copied();
        let index = known.map_or(SeqNo::from_parts(0, seq), |remote| SeqNo::new(remote.highest).nearest(seq));
        let plain = self.open(bytes, index);
        let packet = plain.as_deref().and_then(|plain| rtp::Packet::parse(plain).ok());
        let Some(packet) = packet.filter(|packet| known.is_some() || self.admit(packet, purpose, section))
        else {
            self.drops.unauthentic += 1;
            return;
        };
        self.alive_at = self.now;
        if let Some(remote) = self.remote_streams.get_mut(&ssrc) {
            // One that somebody has caught and sends again leads nowhere.
            if known.is_none() || index.get() > remote.highest {
                self.media_path = Some((path.1, path.0));
            }
            remote.highest = remote.highest.max(index.get());
        }
        self.feed(path, bytes);
        match purpose {
            Purpose::Retransmission => self.handle_repair(ssrc, section, &packet),
            Purpose::Media => {
                self.handle_media((ssrc, index), &packet, (packet.payload_type, packet.payload))
            }
        }
        self.ask_for_missing();
    }

    /// Takes a new SSRC.
    fn admit(&mut self, packet: &rtp::Packet<'_>, purpose: Purpose, section: usize) -> bool {
        if self.remote_streams.len() >= REMOTE_STREAMS_MAX {
            return false;
        }
        let is_repair = purpose == Purpose::Retransmission;
        let section = &self.sections[section];
        let names_section = section.mid_extension.is_some_and(|id| packet.extension(id).is_some());
        let mid = section.mid;
        let is_single = section.rids.is_empty();
        let mut api = self.rtc.direct_api();
        if !is_repair && api.stream_rx(&packet.ssrc.get().into()).is_none() {
            // The engine would take padding on a repair SSRC for the first packet of a new media SSRC.
            if packet.payload.is_empty() {
                return false;
            }
            // Neither the packet nor the offer says whose stream it is: its payload type does.
            if !names_section && is_single {
                api.expect_stream_rx(packet.ssrc.get().into(), None, mid, None);
            }
        }
        let highest = u64::from(packet.seq);
        self.remote_streams.insert(packet.ssrc.get(), RemoteStream { is_repair, stream: None, highest });
        true
    }

    /// A retransmission: the number of the original packet, then its payload (RFC 4588, section 4).
    fn handle_repair(&mut self, ssrc: u32, section: usize, packet: &rtp::Packet<'_>) {
        let Some(index) = self.repaired_by(ssrc) else { return };
        let Some((original, payload)) = packet.payload.split_first_chunk::<2>() else { return };
        let Some(mapping) = self.streams[index].mapping else { return };
        let Some(remote) = self.remote_streams.get(&mapping.remote) else { return };
        let extended = SeqNo::new(remote.highest).nearest(u16::from_be_bytes(*original));
        let payloads = &self.sections[section].payloads;
        let Some(main) = payloads.iter().find(|main| main.rtx == Some(packet.payload_type)) else { return };
        let payload_type = main.payload_type;
        self.handle_media((mapping.remote, extended), packet, (payload_type, payload));
    }

    /// The stream that an SSRC repairs: the engine learns that from the offer or from header extensions.
    fn repaired_by(&mut self, ssrc: u32) -> Option<usize> {
        if let Some(RemoteStream { stream: Some(index), .. }) = self.remote_streams.get(&ssrc) {
            return Some(*index);
        }
        let mut api = self.rtc.direct_api();
        let index = self.streams.iter().position(|stream| {
            let engine = stream.mapping.and_then(|mapping| api.stream_rx(&mapping.remote.into()));
            engine.is_some_and(|engine| engine.rtx().is_some_and(|rtx| *rtx == ssrc))
        })?;
        self.remote_streams.get_mut(&ssrc)?.stream = Some(index);
        self.streams[index].repair = Some(ssrc);
        Some(index)
    }

    /// Media of an SSRC with its extended sequence number; `packet` is what it came in.
    fn handle_media(
        &mut self,
        (ssrc, extended): (u32, SeqNo),
        packet: &rtp::Packet<'_>,
        (payload_type, payload): (u8, &[u8]),
    ) {
        let Some(index) = self.stream_of(ssrc) else { return };
        let Some((section, used, _)) = offer::find(&self.sections, payload_type) else { return };
        if section != self.streams[index].section {
            return;
        }
        let (codec, section) = (used.codec, &self.sections[section]);
        let (timestamp, marker, told) = (packet.timestamp, packet.marker, told(packet, section));
        let dependency = section.dependency_extension.and_then(|id| packet.extension(id));
        let media =
            Media { ssrc, extended, timestamp, marker, payload_type, payload, codec, told, dependency };
        let received = self.streams[index].receive((self.now, self.wallclock), &media, &self.offset);
        if received.is_some() && (self.announced.is_none() || self.streams[index].take_news()) {
            self.announce();
        }
        self.outputs.extend(received.map(Output::Packet));
    }

    /// The packet in the clear, if it is authentic at this index.
    fn open(&self, bytes: &[u8], index: SeqNo) -> Option<Vec<u8>> {
        let key = self.remote_key.as_ref()?;
        let header_len = header_len(bytes)?;
        let mut packet = bytes.to_vec();
        let length = key.open_in_place(&mut packet, header_len, index).ok()?;
        packet.truncate(length);
        Some(packet)
    }

    /// Hands a datagram to the engine and carries out what it wants.
    pub(super) fn feed(&mut self, (source, destination): (SocketAddr, SocketAddr), bytes: &[u8]) {
        let receive = match Receive::new(Protocol::Udp, source, destination, bytes) {
            Ok(receive) => receive,
            Err(error) => {
                tracing::trace!(%error, "datagram not understood");
                self.drops.malformed += 1;
                return;
            }
        };
        if let Err(error) = self.rtc.handle_input(Input::Receive(self.now, receive)) {
            self.engine_failed(&error);
        }
        self.drain();
    }

    /// The stream that this SSRC of media belongs to.
    fn stream_of(&mut self, ssrc: u32) -> Option<usize> {
        if let Some(RemoteStream { stream: Some(index), .. }) = self.remote_streams.get(&ssrc) {
            return Some(*index);
        }
        let mut api = self.rtc.direct_api();
        let engine = api.stream_rx(&ssrc.into())?;
        let (mid, rid) = (engine.mid(), engine.rid());
        let section = self.sections.iter().position(|section| section.mid == mid)?;
        let layer = match rid {
            Some(rid) => self.sections[section].rids.iter().position(|other| other.as_str() == &*rid)?,
            None => 0,
        };
        let index =
            self.streams.iter().position(|stream| (stream.section, stream.layer) == (section, layer))?;
        if let Some(remote) = self.remote_streams.get_mut(&ssrc) {
            remote.stream = Some(index);
            engine.suppress_nack(true);
        }
        Some(index)
    }

    pub(super) fn handle_report(&mut self, feedback: &str0m::media::SenderFeedback) {
        self.alive_at = self.now;
        let info = &feedback.sender_info;
        let sender = stream::ntp(info.ntp_time);
        let Some(index) = self.stream_of(*info.ssrc) else { return };
        self.offset.observe(self.now, self.wallclock, sender);
        self.streams[index].sender_report(sender, info.rtp_time.numer() as u32);
    }

    pub(super) fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = Some(round_trip);
        self.offset.set_round_trip(round_trip);
        self.streams.iter_mut().for_each(|stream| stream.gaps.set_round_trip(round_trip));
    }
}

/// What the header extensions of the section tell in this packet.
fn told(packet: &rtp::Packet<'_>, section: &Section) -> Told {
    let extension = |id: Option<u8>| packet.extension(id?);
    let first_byte = |id| extension(id).and_then(|data| data.first().copied());
    let captured = extension(section.capture_time_extension).and_then(<[u8]>::first_chunk::<8>);
    Told {
        captured: captured.map(|bits| NtpTime::from_bits(u64::from_be_bytes(*bits))),
        audio_level: first_byte(section.audio_level_extension),
        orientation: first_byte(section.orientation_extension),
    }
}

/// The big-endian word at `offset`, which is within the fixed header.
fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
}

/// Bytes of the RTP header with its CSRCs and extension block.
fn header_len(bytes: &[u8]) -> Option<usize> {
    let mut length = RTP_HEADER_BYTES + 4 * usize::from(bytes[0] & 0x0f);
    if bytes[0] & 0x10 != 0 {
        let words = bytes.get(length + 2..length + 4)?.first_chunk::<2>()?;
        length += 4 + 4 * usize::from(u16::from_be_bytes(*words));
    }
    (length <= bytes.len()).then_some(length)
}
