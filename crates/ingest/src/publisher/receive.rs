//! What comes from the publisher: telling datagrams apart, guarding the engine, packets and reports.

use std::net::SocketAddr;
use std::time::Instant;

use media_core::rtp;
use model::{NtpTime, SeqNo};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpPacket;
use str0m::stats::MediaIngressStats;
use str0m::{Candidate, Input};

use super::offer::{self, Purpose};
use super::stun::BindingRequest;
use super::{LOCAL_ADDRESSES_MAX, Output, Phase, Publisher, RemoteStream, stream};

/// Most SSRCs of one publisher.
const REMOTE_STREAMS_MAX: usize = 64;
/// Most SSRCs under which RTCP of one session is sealed: one for each life of it.
pub(super) const RTCP_SSRCS_MAX: usize = 64;
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
    /// Whether this datagram is for this session, when several share a socket: it comes from an address that has shown
    /// to be the publisher's, or it is a connectivity check that names this session.
    #[must_use]
    pub fn accepts(&self, source: SocketAddr, bytes: &[u8]) -> bool {
        self.is_known(source)
            || BindingRequest::parse(bytes).is_some_and(|request| request.local_ufrag() == self.ice.ufrag)
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
            Some(Datagram::Dtls | Datagram::Rtcp) if self.is_known(source) => {
                self.feed((source, destination), bytes);
            }
            Some(Datagram::Rtp) if self.is_known(source) => self.handle_rtp((source, destination), bytes),
            Some(Datagram::Dtls | Datagram::Rtp | Datagram::Rtcp) => self.drops.unknown_source += 1,
            None => self.drops.malformed += 1,
        }
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
        self.learn_local_address(path.1);
        if request.has_priority {
            self.feed(path, bytes);
        } else {
            let complete = request.with_priority(&self.ice.password);
            self.feed(path, &complete);
        }
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

    fn handle_rtp(&mut self, path: (SocketAddr, SocketAddr), bytes: &[u8]) {
        let payload_type = bytes[1] & 0x7f;
        let seq = u16::from_be_bytes([bytes[2], bytes[3]]);
        let ssrc = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let Some((section, _, purpose)) = offer::find(&self.sections, payload_type) else {
            self.drops.payload_type += 1;
            return;
        };
        let is_repair = purpose == Purpose::Retransmission;
        // SSRC 0 marks the probes of libwebrtc; they carry nothing and their stream is the engine's own affair.
        let is_admitted = match self.remote_streams.get(&ssrc) {
            Some(remote) if is_repair => {
                self.follow_repair(ssrc, SeqNo::new(remote.highest).nearest(seq), bytes)
            }
            Some(_) => true,
            None => ssrc == 0 || self.admit(ssrc, is_repair, section, bytes),
        };
        if !is_admitted {
            self.drops.unauthentic += 1;
            return;
        }
        self.feed(path, bytes);
        if is_repair && self.remote_streams.get(&ssrc).is_some_and(|remote| remote.stream.is_none()) {
            self.bind_repair(ssrc);
        }
    }

    /// Asks the engine which stream a repair SSRC repairs; it learns that from the offer or from header extensions.
    fn bind_repair(&mut self, ssrc: u32) {
        let mut api = self.rtc.direct_api();
        let found = self.streams.iter().position(|stream| {
            let engine = stream.mapping.and_then(|mapping| api.stream_rx(&mapping.remote.into()));
            engine.is_some_and(|engine| engine.rtx().is_some_and(|rtx| *rtx == ssrc))
        });
        if let (Some(index), Some(remote)) = (found, self.remote_streams.get_mut(&ssrc)) {
            remote.stream = Some(index);
            self.streams[index].repair = Some(ssrc);
        }
    }

    /// Follows the extended sequence number of a repair stream, which the engine keeps to itself. `false` if the packet
    /// is not authentic.
    fn follow_repair(&mut self, ssrc: u32, index: SeqNo, bytes: &[u8]) -> bool {
        if self.open(bytes, index).is_none() {
            return false;
        }
        if let Some(remote) = self.remote_streams.get_mut(&ssrc) {
            remote.highest = remote.highest.max(index.get());
        }
        true
    }

    /// Takes a new SSRC if its packet is authentic.
    ///
    /// The engine binds streams to SSRCs before it authenticates, so that one forged packet could take a stream from its
    /// owner. A new SSRC begins with a rollover counter of zero (RFC 3711, section 3.3.1).
    fn admit(&mut self, ssrc: u32, is_repair: bool, section: usize, bytes: &[u8]) -> bool {
        let seq = u16::from_be_bytes([bytes[2], bytes[3]]);
        let Some(plain) = self.open(bytes, SeqNo::from_parts(0, seq)) else { return false };
        let Ok(packet) = rtp::Packet::parse(&plain) else { return false };
        if self.remote_streams.len() >= REMOTE_STREAMS_MAX {
            return false;
        }
        let section = &self.sections[section];
        let names_section = section.mid_extension.is_some_and(|id| packet.extension(id).is_some());
        // Neither the packet nor the offer says whose stream it is: its payload type does.
        if !names_section && !is_repair && section.rids.is_empty() {
            let mid = section.mid;
            let mut api = self.rtc.direct_api();
            if api.stream_rx(&ssrc.into()).is_none() {
                api.expect_stream_rx(ssrc.into(), None, mid, None);
            }
        }
        let highest = u64::from(packet.seq);
        self.remote_streams.insert(ssrc, RemoteStream { is_repair, stream: None, highest });
        true
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

    pub(super) fn handle_packet(&mut self, packet: &RtpPacket) {
        if self.is_priming {
            self.primed = Some((*packet.header.ssrc, *packet.seq_no));
            return;
        }
        self.alive_at = self.now;
        let ssrc = *packet.header.ssrc;
        let Some(index) = self.stream_of(ssrc) else { return };
        let Some((section, payload, _)) = offer::find(&self.sections, *packet.header.payload_type) else {
            return;
        };
        if section != self.streams[index].section {
            return;
        }
        let codec = payload.codec;
        let received = self.streams[index].receive((self.now, self.wallclock), packet, codec, &self.offset);
        if self.announced.is_none() || self.streams[index].take_news() {
            self.announce();
        }
        self.outputs.extend(received.map(Output::Packet));
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
            // The engine ties NACK to RTX; encoders built on libdatachannel (OBS) resend the packet itself.
            engine
                .suppress_nack(!self.sections[section].payloads.iter().any(|payload| payload.feedback.nack));
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

    pub(super) fn handle_ingress_stats(&mut self, stats: &MediaIngressStats) {
        if let Some(round_trip) = stats.rtt {
            self.round_trip = Some(round_trip);
            self.offset.set_round_trip(round_trip);
        }
        let Some(section) = self.sections.iter().position(|section| section.mid == stats.mid) else { return };
        let layer = stats.rid.map_or(Some(0), |rid| {
            self.sections[section].rids.iter().position(|other| other.as_str() == &*rid)
        });
        for stream in &mut self.streams {
            if stream.section == section && Some(stream.layer) == layer {
                stream.set_nacks(stats.nacks);
            }
        }
    }

    /// Remembers the SSRC under which RTCP is sealed. `false` if an earlier life of this session has used it: its nonces
    /// would repeat, so nothing may be sent.
    pub(super) fn note_rtcp(&mut self, bytes: &[u8]) -> bool {
        let ssrc = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        if self.own_rtcp_ssrc == Some(ssrc) {
            return true;
        }
        if self.rtcp_ssrcs.contains(&ssrc) || self.rtcp_ssrcs.len() >= RTCP_SSRCS_MAX {
            return false;
        }
        self.own_rtcp_ssrc = Some(ssrc);
        self.rtcp_ssrcs.push(ssrc);
        true
    }
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
