//! Going on with a session that another process established: see `docs/decisions/001-resume-publishers.md`.
//!
//! The engine has no way to be put into the middle of a session, but it believes what is authentic, and we hold the keys:
//! - its DTLS instance begins after the handshake, with the recorded keying material (`dtls.rs`);
//! - a binding request of our own, signed with our password, nominates the recorded pair;
//! - one packet of our own for each SSRC of the publisher, sealed with the *publisher's* key at the recorded highest index,
//!   sets the engine's rollover counter and replay window. It is never sent. From then on the engine
//!   extends sequence numbers as RFC 3711, section 3.3.1 says, and forged packets cannot disturb it.

use std::time::Instant;

use media_core::svc::Stamper;
use model::{NtpTime, SeqNo, Ssrc};

use super::offer;
use super::record::{PublisherRecord, StreamRecord};
use super::{AcceptError, Identity, Output, Past, Phase, Publisher, RemoteStream, Setup, stun};
use crate::stream::Stream;

/// Padding only: a sender may send it, and it carries nothing.
const PRIMER_PADDING: [u8; 4] = [0, 0, 0, 4];
const RTP_VERSION_AND_PADDING: u8 = 0xa0;

/// Why a session cannot be resumed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The offer that it began with is no longer taken.
    #[error("the recorded offer is not accepted")]
    Offer(#[from] AcceptError),
    /// The record does not fit together, or the engine does not do as expected.
    #[error("the recorded session cannot be rebuilt: {what}")]
    Inconsistent {
        /// What does not fit.
        what: &'static str,
    },
}

const fn inconsistent(what: &'static str) -> ResumeError {
    ResumeError::Inconsistent { what }
}

impl Publisher {
    /// What another process needs to go on with this session. `None` unless it is connected.
    ///
    /// Sequence numbers in it may be up to 32 767 packets old when it is used; everything else changes seldom. Take it
    /// at least each second and after every [`Output::Connected`] and [`Output::Tracks`].
    #[must_use]
    pub fn record(&self) -> Option<PublisherRecord> {
        let keys = self.tap.with(|seen| seen.keys.clone())?;
        let (local, remote) = self.path.filter(|_| self.phase == Phase::Connected)?;
        let sender_now = self.streams.iter().find_map(|stream| stream.report).map(|report| report.sender);
        Some(PublisherRecord {
            offer: self.offer.clone(),
            ice: self.ice.clone(),
            certificate: self.certificate.clone(),
            keys,
            local,
            remote,
            local_addresses: self.local_addresses.clone(),
            rtcp_ssrcs: self.rtcp_ssrcs.clone(),
            streams: self.streams.iter().map(|stream| self.stream_record(stream)).collect(),
            order: self
                .order
                .iter()
                .map(|section| section.iter().map(|index| *index as u8).collect())
                .collect(),
            // The transit is taken off anew by whoever reads the record.
            clock: sender_now.and_then(|sender| {
                Some((
                    sender,
                    self.offset.to_wallclock(sender)?.plus(self.round_trip.unwrap_or_default() / 2),
                ))
            }),
            round_trip: self.round_trip,
        })
    }

    fn stream_record(&self, stream: &Stream) -> StreamRecord {
        let timestamp = stream.newest_timestamp;
        let repair = stream.repair.and_then(|ssrc| Some((ssrc, self.remote_streams.get(&ssrc)?.highest)));
        StreamRecord {
            ssrc: stream.ssrc.get(),
            first_base: stream.first_base,
            mapping: stream
                .mapping
                .zip(stream.highest)
                .map(|(mapping, highest)| (mapping, highest.get(), stream.received)),
            repair,
            payload_type: stream.payload_type,
            report: stream.report,
            capture: stream.clock.capture_time(timestamp).map(|time| (time, timestamp)),
            picture: stream.picture,
            counts: stream.stamper.generation(),
        }
    }

    /// Goes on with a recorded session. The publisher notices nothing: same addresses, same keys, no new handshake.
    ///
    /// [`Output::Connected`] comes at once, and [`Output::Tracks`] if there has been media. Refuse records older than
    /// 30 s: the publisher has given up by then.
    ///
    /// # Errors
    /// [`ResumeError`] if the record does not fit together.
    pub fn resume(record: &PublisherRecord, now: Instant, wallclock: NtpTime) -> Result<Self, ResumeError> {
        let sections = offer::sections(&record.offer)?;
        let mut streams = super::streams(&sections, &Identity([0; 64]));
        if streams.len() != record.streams.len() {
            return Err(inconsistent("streams"));
        }
        for (stream, recorded) in streams.iter_mut().zip(&record.streams) {
            restore_stream(stream, recorded);
        }
        let setup = Setup {
            ice: record.ice.clone(),
            certificate: record.certificate.clone(),
            local_addresses: record.local_addresses.clone(),
            identity: Identity([0; 64]),
            now,
        };
        let past = Past { keys: record.keys.clone(), rtcp_ssrcs: record.rtcp_ssrcs.clone() };
        let (mut publisher, _answer) = Self::build(&record.offer, sections, streams, setup, Some(past))?;
        publisher.wallclock = wallclock;
        if let Some((sender, ours)) = record.clock {
            publisher.offset.observe(now, ours, sender);
        }
        publisher.round_trip = record.round_trip;
        publisher.offset.set_round_trip(record.round_trip.unwrap_or_default());
        publisher.restore_order(record)?;
        publisher.nominate(record)?;
        // The answer to our own check, and the engine's connected.
        publisher.outputs.clear();
        publisher.outputs.push_back(Output::Connected);
        publisher.prime(record)?;
        publisher.ask_for_missing();
        if record.has_media() {
            publisher.announce();
        }
        Ok(publisher)
    }

    fn restore_order(&mut self, record: &PublisherRecord) -> Result<(), ResumeError> {
        let restored: Vec<Vec<usize>> =
            record.order.iter().map(|section| section.iter().copied().map(usize::from).collect()).collect();
        let is_permutation = restored.len() == self.order.len()
            && restored.iter().zip(&self.order).all(|(restored, offered)| {
                let mut sorted = restored.clone();
                sorted.sort_unstable();
                sorted == *offered
            });
        if !is_permutation {
            return Err(inconsistent("order of layers"));
        }
        self.order = restored;
        Ok(())
    }

    /// Lets the engine see a check over the recorded pair, as if the publisher had sent it.
    fn nominate(&mut self, record: &PublisherRecord) -> Result<(), ResumeError> {
        let remote_ufrag = offer::ice_ufrag(&record.offer).ok_or(inconsistent("ICE credentials"))?;
        let username = format!("{}:{remote_ufrag}", record.ice.ufrag);
        let request = stun::nomination(b"media-tree-r", &username, &record.ice.password);
        self.handle_stun((record.remote, record.local), &request);
        self.path = Some((record.local, record.remote));
        let is_up =
            self.phase == Phase::Connected && self.remote_key.is_some() && self.is_known(record.remote);
        is_up.then_some(()).ok_or(inconsistent("connection"))
    }

    /// Brings the engine's streams to where they were.
    ///
    /// It sets a rollover counter for media only, but remembers the highest index of any SSRC; so each repair SSRC is
    /// media for the length of one packet.
    fn prime(&mut self, record: &PublisherRecord) -> Result<(), ResumeError> {
        for (index, stream) in record.streams.iter().enumerate() {
            let Some((mapping, highest, received)) = stream.mapping else { continue };
            // The offer may have bound the repair SSRC to its stream already.
            self.rtc.direct_api().remove_stream_rx(mapping.remote.into());
            if let Some((ssrc, repair_highest)) = stream.repair {
                self.declare(index, (ssrc, None), SeqNo::new(repair_highest));
                self.prime_packet(record, index, ssrc, SeqNo::new(repair_highest))?;
                self.rtc.direct_api().remove_stream_rx(ssrc.into());
                let remote = RemoteStream { is_repair: true, stream: Some(index), highest: repair_highest };
                self.remote_streams.insert(ssrc, remote);
                self.streams[index].repair = Some(ssrc);
            }
            let published = SeqNo::new((highest as i64 - mapping.base) as u64);
            let repair = stream.repair.map(|(ssrc, _)| ssrc);
            self.declare(index, (mapping.remote, repair), published);
            self.prime_packet(record, index, mapping.remote, published)?;
            let remote = RemoteStream { is_repair: false, stream: Some(index), highest: published.get() };
            self.remote_streams.insert(mapping.remote, remote);
            for below in (0..u64::from(u128::BITS)).rev().filter(|below| received & (1 << below) != 0) {
                self.streams[index].gaps.received(self.now, SeqNo::new(highest.saturating_sub(below)));
            }
        }
        Ok(())
    }

    fn declare(&mut self, index: usize, (ssrc, repair): (u32, Option<u32>), at: SeqNo) {
        let stream = &self.streams[index];
        let section = &self.sections[stream.section];
        let rid = section.rids.get(stream.layer).map(|rid| rid.as_str().into());
        let mut api = self.rtc.direct_api();
        let engine = api.expect_stream_rx(ssrc.into(), repair.map(Into::into), section.mid, rid);
        engine.suppress_nack(true);
        engine.reset_roc(u64::from(at.roc()));
    }

    /// Lets the engine see a packet of this SSRC and index, as if the publisher had sent it.
    fn prime_packet(
        &mut self,
        record: &PublisherRecord,
        index: usize,
        ssrc: u32,
        at: SeqNo,
    ) -> Result<(), ResumeError> {
        let stream = &self.streams[index];
        let payloads = &self.sections[stream.section].payloads;
        let mut header = [0; 12];
        header[0] = RTP_VERSION_AND_PADDING;
        header[1] = stream.payload_type.unwrap_or(payloads[0].payload_type);
        header[2..4].copy_from_slice(&at.seq().to_be_bytes());
        header[4..8].copy_from_slice(&stream.newest_timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let mut packet = [0; 64];
        let key = self.remote_key.as_ref().ok_or(inconsistent("keys"))?;
        let length =
            key.seal(&header, &PRIMER_PADDING, at, &mut packet).map_err(|_| inconsistent("primer"))?;
        self.is_priming = true;
        self.feed((record.remote, record.local), &packet[..length]);
        self.is_priming = false;
        (self.primed.take() == Some((ssrc, at.get()))).then_some(()).ok_or(inconsistent("rollover counter"))
    }
}

fn restore_stream(stream: &mut Stream, recorded: &StreamRecord) {
    stream.ssrc = Ssrc::new(recorded.ssrc);
    stream.first_base = recorded.first_base;
    stream.mapping = recorded.mapping.map(|(mapping, _, _)| mapping);
    stream.highest = recorded.mapping.map(|(_, highest, _)| SeqNo::new(highest));
    stream.received = recorded.mapping.map_or(0, |(_, _, received)| received | 1);
    stream.payload_type = recorded.payload_type;
    stream.picture = recorded.picture;
    stream.stamper = Stamper::new(Stamper::next_generation(recorded.counts));
    if let Some((time, timestamp)) = recorded.capture {
        stream.newest_timestamp = timestamp;
        // Without a report the clock starts at the arrival it is told, which here is the recorded capture time.
        stream.clock.received(time, timestamp, &media_core::time::ClockOffset::default());
    }
    if let Some(report) = recorded.report {
        stream.sender_report(report.sender, report.timestamp);
    }
}

#[cfg(test)]
mod tests;
