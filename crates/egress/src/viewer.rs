//! One viewer: keys, path, tracks, and how its packets are sealed.

use std::time::{Duration, Instant};

use media_core::TreePacket;
use model::{Bitrate, BroadcastId, Kind, SeqNo};
use srtp::{KeyError, MasterKey, ReplayWindow, RtcpIndex, RtcpKey, RtpKey};

use crate::Event;
use crate::budget::Budget;
use crate::controller::LAYERS_MAX;
use crate::counter::CounterBlock;
use crate::feedback;
use crate::layers::Layering;
use crate::pace::Pace;
use crate::packet::{self, Header, SEAL_BYTES_MAX};
use crate::record::{Path, RecordChange, TrackRecord, ViewerId, ViewerRecord, ViewerSetup};
use crate::resent::Resent;
use crate::send::{SendBatch, Sending};
use crate::stats::DropReason;
use crate::track::{Phase, Place, Track};

/// SRTCP indices reserved in the record at once: a minute of reports.
const SRTCP_BLOCK: u64 = 64;
/// What SRTCP adds at most: tag and index.
const SEAL_RTCP_BYTES_MAX: usize = 20;

/// Keys of a viewer: where they come from and what they became.
struct Keys {
    send: MasterKey,
    receive: MasterKey,
    rtp: RtpKey,
    rtcp: RtcpKey,
    rtcp_received: RtcpKey,
}

impl Keys {
    fn derive(send: MasterKey, receive: MasterKey) -> Result<Self, KeyError> {
        Ok(Self {
            rtp: RtpKey::derive(&send)?,
            rtcp: RtcpKey::derive(&send)?,
            rtcp_received: RtcpKey::derive(&receive)?,
            send,
            receive,
        })
    }
}

/// One viewer.
pub struct Viewer {
    pub id: ViewerId,
    pub broadcast: BroadcastId,
    /// Slot of that broadcast.
    pub fan: usize,
    pub path: Path,
    pub audio: Option<Track>,
    pub video: Option<Track>,
    pub cname: String,
    pub joined_at: Instant,
    /// When it last proved that it wants media (RFC 7675).
    pub heard_at: Instant,
    pub report_at: Instant,
    /// The entry in the shard's timers.
    pub wake_at: Instant,
    /// What it can take, by its own estimate or by when packets arrive.
    pub estimate: Option<Bitrate>,
    pub rtx_budget: Budget,
    /// Of the picture, once something was repeated.
    resent: Option<Box<Resent>>,
    /// Where there is a layer to choose.
    pub layering: Option<Box<Layering>>,
    /// Of its picture, where the connection is known to carry little.
    pub pace: Option<Box<Pace>>,
    /// Whether its consent is fresh.
    pub is_consenting: bool,
    /// The record changed and has not been written.
    pub is_dirty: bool,
    keys: Keys,
    srtcp_index: CounterBlock,
    window: ReplayWindow,
}

impl Viewer {
    pub fn new(
        now: Instant,
        broadcast: BroadcastId,
        fan: usize,
        setup: ViewerSetup,
    ) -> Result<Self, KeyError> {
        let random = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&setup.random[at..at + 8]);
            bytes
        };
        let (audio, video) = (random(0), random(8));
        let record = ViewerRecord {
            id: setup.id,
            broadcast,
            path: setup.path,
            send: setup.send,
            receive: setup.receive,
            audio: setup.audio.map(|out| TrackRecord::new(out, audio)),
            video: setup.video.map(|out| TrackRecord::new(out, video)),
            cname: setup.cname,
            srtcp_index: CounterBlock::starting_at(0),
            srtcp_received: None,
        };
        Ok(Self { joined_at: setup.joined_at, ..Self::from_record(now, fan, record)? })
    }

    /// Goes on from a record. Its counters begin after all that its last owner may have used.
    pub fn from_record(now: Instant, fan: usize, record: ViewerRecord) -> Result<Self, KeyError> {
        Ok(Self {
            id: record.id,
            broadcast: record.broadcast,
            fan,
            path: record.path,
            audio: record.audio.map(Track::from_record),
            video: record.video.map(Track::from_record),
            cname: record.cname,
            joined_at: now,
            heard_at: now,
            report_at: now,
            wake_at: now,
            estimate: None,
            rtx_budget: Budget::new(feedback::RTX_BYTES_AT_START),
            resent: None,
            layering: None,
            pace: None,
            is_consenting: true,
            is_dirty: true,
            keys: Keys::derive(record.send, record.receive)?,
            srtcp_index: record.srtcp_index.resumed(),
            window: record.srtcp_received.map_or_else(ReplayWindow::default, ReplayWindow::above),
        })
    }

    pub fn record(&self) -> ViewerRecord {
        ViewerRecord {
            id: self.id,
            broadcast: self.broadcast.clone(),
            path: self.path,
            send: self.keys.send.clone(),
            receive: self.keys.receive.clone(),
            audio: self.audio.as_ref().map(Track::record),
            video: self.video.as_ref().map(Track::record),
            cname: self.cname.clone(),
            srtcp_index: self.srtcp_index,
            srtcp_received: self.window.highest(),
        }
    }

    pub const fn track(&self, kind: Kind) -> Option<&Track> {
        match kind {
            Kind::Audio => self.audio.as_ref(),
            Kind::Video => self.video.as_ref(),
        }
    }

    pub const fn track_mut(&mut self, kind: Kind) -> Option<&mut Track> {
        match kind {
            Kind::Audio => self.audio.as_mut(),
            Kind::Video => self.video.as_mut(),
        }
    }

    /// Notes that it proved consent.
    pub fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Whether it tells when each packet of its picture arrives.
    pub fn tells_arrivals(&self) -> bool {
        self.video.as_ref().is_some_and(|track| track.out.extensions.transport_sequence.is_some())
    }

    /// The layer whose picture it gets packet by packet as they come.
    pub fn live_layer(&self) -> Option<usize> {
        let waits = self.pace.as_ref().is_some_and(|pace| pace.is_waiting());
        let track = self.video.as_ref().filter(|track| matches!(track.phase, Phase::Live) && !waits)?;
        // A part comes in the only stream.
        let is_part = track.mapping.current().is_some_and(|current| current.part.is_some());
        Some(if is_part { 0 } else { usize::from(track.layer).min(LAYERS_MAX - 1) })
    }

    /// Whether its picture waits for a keyframe of another layer.
    pub fn is_switching(&self) -> bool {
        self.video.as_ref().is_some_and(|track| track.target.is_some())
    }

    /// Gives the record to whoever keeps it, if it changed.
    pub fn write_record(&mut self, out: &mut impl SendBatch) {
        if std::mem::take(&mut self.is_dirty) && out.keeps_records() {
            out.record(self.id, RecordChange::Put(Box::new(self.record())));
        }
    }

    /// Writes a record after which nothing may be sent: it reserves nothing beyond what was used.
    pub fn hand_over(&mut self, out: &mut impl SendBatch) {
        self.audio.iter_mut().chain(&mut self.video).for_each(Track::settle);
        self.srtcp_index = self.srtcp_index.settled();
        self.is_dirty = true;
        self.write_record(out);
    }

    /// Sends a packet of a track at its place, for the first time; gives the bytes of the datagram. `payload` has its
    /// padding already.
    pub fn send<B: SendBatch>(
        &mut self,
        sending: &mut Sending<'_, B>,
        kind: Kind,
        place: &Place,
        packet: &TreePacket,
        payload: Payload<'_>,
    ) -> usize {
        let Some(track) = self.track_mut(kind) else { return 0 };
        if track.take_place(sending.now, place, packet) {
            self.is_dirty = true;
        }
        if self.is_dirty {
            self.write_record(sending.out);
        }
        let Some(track) = self.track_mut(kind) else { return 0 };
        let is_first_frame = track.sent(place, packet);
        let payload = if place.segment.wants(packet) { payload } else { Payload::EMPTY };
        let header = Header::media(&track.out, &place.segment, place.seq_no, packet, payload.is_padded);
        let bytes = self.seal(sending.out, &header, payload.bytes, place.seq_no);
        sending.stats.media(kind).add(bytes);
        if is_first_frame {
            let after = sending.now.saturating_duration_since(self.joined_at);
            sending.events.push_back(Event::FirstFrame { viewer: self.id, after });
        }
        bytes
    }

    /// Sends a packet from the ring; see [`Viewer::send`].
    pub fn send_from_ring<B: SendBatch>(
        &mut self,
        sending: &mut Sending<'_, B>,
        kind: Kind,
        place: &Place,
        packet: &TreePacket,
    ) -> usize {
        let mut payload = std::mem::take(sending.payload);
        payload.clear();
        let is_padded = packet::push_padded(&mut payload, kind, packet);
        let padded = Payload { bytes: &payload, is_padded };
        let bytes = self.send(sending, kind, place, packet, padded);
        *sending.payload = payload;
        bytes
    }

    /// Lets it ask for as much as one that has just begun.
    pub const fn renew_rtx_budget(&mut self) {
        self.rtx_budget = Budget::new(feedback::RTX_BYTES_AT_START);
    }

    /// Whether a packet of its picture was repeated less than a round trip ago. If not, it is going to be.
    pub fn is_repeated(&mut self, now: Instant, seq: u16, round_trip: Option<Duration>) -> bool {
        let Some(round_trip) = round_trip else { return false };
        !self.resent.get_or_insert_with(|| Box::new(Resent::new(now))).note(now, seq, round_trip)
    }

    /// Sends a packet again: in the RTX stream, or, where there is none, just as it was. Counted by the caller.
    pub fn resend<B: SendBatch>(
        &mut self,
        sending: &mut Sending<'_, B>,
        kind: Kind,
        place: &Place,
        packet: &TreePacket,
    ) -> usize {
        let Some(track) = self.track_mut(kind) else { return 0 };
        let format =
            track.out.formats.iter().find(|format| format.payload_type == place.segment.payload_type);
        let rtx_payload_type = format.and_then(|format| format.rtx_payload_type);
        let rtx = track.out.rtx_ssrc.zip(rtx_payload_type);
        let mut payload = std::mem::take(sending.payload);
        payload.clear();
        let bytes = match rtx {
            Some((ssrc, payload_type)) => {
                let (seq_no, is_changed) = track.take_rtx();
                let stream = packet::Stream { ssrc, payload_type, seq_no };
                let header = Header::rtx(&track.out, &place.segment, stream, packet);
                // RFC 4588, section 4: the original sequence number comes first.
                payload.extend_from_slice(&place.seq_no.seq().to_be_bytes());
                if place.segment.wants(packet) {
                    payload.extend_from_slice(&packet.payload);
                }
                if is_changed {
                    self.is_dirty = true;
                }
                self.write_record(sending.out);
                self.seal(sending.out, &header, &payload, seq_no)
            }
            None => {
                let is_padded =
                    place.segment.wants(packet) && packet::push_padded(&mut payload, kind, packet);
                let header = Header::media(&track.out, &place.segment, place.seq_no, packet, is_padded);
                self.seal(sending.out, &header, &payload, place.seq_no)
            }
        };
        if let Some(track) = self.track_mut(kind) {
            track.repeated_bytes = track.repeated_bytes.wrapping_add(payload.len() as u32);
        }
        *sending.payload = payload;
        bytes
    }

    fn seal(&self, out: &mut impl SendBatch, header: &Header, payload: &[u8], seq_no: SeqNo) -> usize {
        let header = header.as_slice();
        let len_max = header.len() + payload.len() + SEAL_BYTES_MAX;
        let mut length = 0;
        out.datagram(&self.path, len_max, |buffer| {
            // Nothing can fail but an index past 2^48, thousands of years from now.
            length = self.keys.rtp.seal(header, payload, seq_no, buffer).unwrap_or(0);
            length
        });
        length
    }

    /// Seals and sends a compound RTCP packet.
    pub fn send_rtcp<B: SendBatch>(&mut self, sending: &mut Sending<'_, B>, compound: &[u8]) {
        let (index, is_changed) = self.srtcp_index.take(SRTCP_BLOCK);
        // The key is used up after 2^31 packets: 68 years of reports.
        let Some(index) = u32::try_from(index).ok().and_then(RtcpIndex::new) else { return };
        if is_changed {
            self.is_dirty = true;
        }
        self.write_record(sending.out);
        let mut length = 0;
        sending.out.datagram(&self.path, compound.len() + SEAL_RTCP_BYTES_MAX, |buffer| {
            buffer[..compound.len()].copy_from_slice(compound);
            length = self.keys.rtcp.seal_in_place(buffer, compound.len(), index).unwrap_or(0);
            length
        });
        sending.stats.rtcp.add(length);
    }

    /// Opens SRTCP of the viewer in place; gives the length of the compound packet.
    pub fn open_rtcp(&mut self, datagram: &mut [u8]) -> Result<usize, DropReason> {
        let (length, index) =
            self.keys.rtcp_received.open_in_place(datagram).map_err(|_| DropReason::RtcpAuthentication)?;
        let index = u64::from(index.get());
        if !self.window.is_fresh(index) {
            return Err(DropReason::RtcpReplay);
        }
        self.window.record(index);
        Ok(length)
    }
}

/// A payload as it is sealed.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    pub bytes: &'a [u8],
    /// Whether it ends with padding.
    pub is_padded: bool,
}

impl Payload<'_> {
    /// Of a packet that only takes up its number.
    const EMPTY: Self = Self { bytes: &[], is_padded: false };
}
