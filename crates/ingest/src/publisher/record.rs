//! What a process must know to go on with a publisher's session, and its bytes.
//!
//! The bytes hold keys: sealing them, and the file, are the business of crate `records`. The layout is fixed by
//! [`VERSION`]. The one before it is read too, so that an upgrade loses no session; any other is refused, since a session is
//! better lost than misread.

use std::net::SocketAddr;
use std::time::Duration;

use model::NtpTime;
use octets::{Reader, Writer};
use srtp::Profile;
use zeroize::Zeroizing;

use super::dtls::Keys;
use super::repair::RTCP_SSRCS_MAX;
use super::{Certificate, IceCredentials};
use crate::stream::{Mapping, Picture, Report};

/// Layout of the bytes.
const VERSION: u8 = 2;
/// The layout in which packets of layers were not counted.
const VERSION_WITHOUT_COUNTS: u8 = 1;
/// Longest offer, in bytes: four times what an answer may have.
const OFFER_BYTES_MAX: usize = 65_535;
const ITEMS_MAX: usize = 64;

/// Everything needed to go on with a publisher's session in another process. Plain data; does not change with the
/// session it was taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherRecord {
    pub(super) offer: String,
    pub(super) ice: IceCredentials,
    pub(super) certificate: Certificate,
    pub(super) keys: Keys,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) local_addresses: Vec<SocketAddr>,
    pub(super) rtcp_ssrcs: Vec<u32>,
    pub(super) streams: Vec<StreamRecord>,
    /// Streams of each section, best first.
    pub(super) order: Vec<Vec<u8>>,
    /// A moment in the publisher's clock and in ours.
    pub(super) clock: Option<(NtpTime, NtpTime)>,
    pub(super) round_trip: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamRecord {
    pub(super) ssrc: u32,
    pub(super) first_base: u64,
    /// With the highest tree sequence number, and which of those below it have come (bit *n*: *n* below).
    pub(super) mapping: Option<(Mapping, u64, u128)>,
    /// SSRC of retransmissions with its highest extended sequence number.
    pub(super) repair: Option<(u32, u64)>,
    pub(super) payload_type: Option<u8>,
    pub(super) report: Option<Report>,
    /// Capture time of the newest timestamp.
    pub(super) capture: Option<(NtpTime, u32)>,
    pub(super) picture: Option<Picture>,
    /// Generation of the counts of its layers.
    pub(super) counts: u8,
}

/// Why bytes are no publisher's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Written by another version of this program.
    #[error("layout {version} of a publisher's record is unknown")]
    Version {
        /// The one it says it has.
        version: u8,
    },
    /// The bytes end too early, go on too long, or say what cannot be.
    #[error("a publisher's record is broken")]
    Malformed,
}

impl PublisherRecord {
    /// The addresses, ours first, between which the session runs: for the shell to bind and to tell datagrams apart.
    #[must_use]
    pub const fn path(&self) -> (SocketAddr, SocketAddr) {
        (self.local, self.remote)
    }

    /// Whether media had come.
    #[must_use]
    pub fn has_media(&self) -> bool {
        self.streams.iter().any(|stream| stream.mapping.is_some())
    }

    /// Its bytes. They hold keys.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.bytes(self.offer.as_bytes());
        out.bytes(self.ice.ufrag.as_bytes());
        out.bytes(self.ice.password.as_bytes());
        out.bytes(&self.certificate.certificate);
        out.bytes(&self.certificate.private_key);
        out.u16(self.keys.profile.id());
        out.bytes(&self.keys.material);
        out.address(self.local);
        out.address(self.remote);
        out.list(&self.local_addresses, |out, one| out.address(*one));
        out.list(&self.rtcp_ssrcs, |out, ssrc| out.u32(*ssrc));
        out.list(&self.streams, write_stream);
        out.list(&self.order, |out, section| out.bytes(section));
        out.option(self.clock, |out, (sender, ours)| {
            out.u64(sender.to_bits());
            out.u64(ours.to_bits());
        });
        out.option(self.round_trip, |out, time| out.u64(time.as_nanos() as u64));
        out.finish()
    }

    /// Reads what [`PublisherRecord::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let version = input.u8().ok_or(DecodeError::Malformed)?;
        if version != VERSION && version != VERSION_WITHOUT_COUNTS {
            return Err(DecodeError::Version { version });
        }
        let record = read(&mut input, version).filter(|_| input.is_empty());
        record.ok_or(DecodeError::Malformed)
    }
}

fn read(input: &mut Reader<'_>, version: u8) -> Option<PublisherRecord> {
    let offer = input.text(OFFER_BYTES_MAX)?;
    let ufrag = input.text(256)?;
    let password = Zeroizing::new(input.text(256)?);
    let certificate = Certificate::new(input.bytes(8192)?, input.bytes(8192)?);
    let profile = Profile::from_id(input.u16()?)?;
    let material = input.bytes(256).filter(|material| material.len() == profile.keying_material_len())?;
    let record = PublisherRecord {
        offer,
        ice: IceCredentials { ufrag, password },
        certificate,
        keys: Keys { profile, material: Zeroizing::new(material.to_vec()) },
        local: input.address()?,
        remote: input.address()?,
        local_addresses: input.list(ITEMS_MAX, Reader::address)?,
        rtcp_ssrcs: input.list(RTCP_SSRCS_MAX, Reader::u32)?,
        streams: input.list(ITEMS_MAX, |input| read_stream(input, version))?,
        order: input.list(2, |input| Some(input.bytes(ITEMS_MAX)?.to_vec()))?,
        clock: input
            .option(|input| Some((NtpTime::from_bits(input.u64()?), NtpTime::from_bits(input.u64()?))))?,
        round_trip: input.option(|input| input.u64().map(Duration::from_nanos))?,
    };
    Some(record)
}

fn write_stream(out: &mut Writer, stream: &StreamRecord) {
    out.u32(stream.ssrc);
    out.u64(stream.first_base);
    out.option(stream.mapping, |out, (mapping, highest, received)| {
        out.u32(mapping.remote);
        out.u64(mapping.base as u64);
        out.u64(mapping.floor);
        out.u64(highest);
        out.u64((received >> 64) as u64);
        out.u64(received as u64);
    });
    out.option(stream.repair, |out, (ssrc, highest)| {
        out.u32(ssrc);
        out.u64(highest);
    });
    out.option(stream.payload_type, Writer::u8);
    out.option(stream.report, |out, report| {
        out.u64(report.sender.to_bits());
        out.u32(report.timestamp);
    });
    out.option(stream.capture, |out, (time, timestamp)| {
        out.u64(time.to_bits());
        out.u32(timestamp);
    });
    out.option(stream.picture, |out, picture| {
        picture.profile_level_id.into_iter().for_each(|byte| out.u8(byte));
        out.u32(picture.width);
        out.u32(picture.height);
    });
    out.u8(stream.counts);
}

fn read_stream(input: &mut Reader<'_>, version: u8) -> Option<StreamRecord> {
    const PLACES: u64 = 1 << 48;
    Some(StreamRecord {
        ssrc: input.u32()?,
        first_base: input.u64().filter(|base| *base < PLACES)?,
        mapping: input.option(|input| {
            let remote = input.u32()?;
            let base = Some(input.u64()? as i64).filter(|base| base.unsigned_abs() < PLACES)?;
            let mapping = Mapping { remote, base, floor: input.u64()? };
            // The publisher's own number lies in its range too.
            let is_placed =
                |highest: &u64| *highest < PLACES && (0..PLACES as i64).contains(&(*highest as i64 - base));
            let highest = input.u64().filter(is_placed)?;
            Some((mapping, highest, (u128::from(input.u64()?) << 64) | u128::from(input.u64()?)))
        })?,
        repair: input.option(|input| Some((input.u32()?, input.u64().filter(|index| *index < PLACES)?)))?,
        payload_type: input.option(Reader::u8)?,
        report: input.option(|input| {
            Some(Report { sender: NtpTime::from_bits(input.u64()?), timestamp: input.u32()? })
        })?,
        capture: input.option(|input| Some((NtpTime::from_bits(input.u64()?), input.u32()?)))?,
        picture: input.option(|input| {
            let profile_level_id = [input.u8()?, input.u8()?, input.u8()?];
            Some(Picture { profile_level_id, width: input.u32()?, height: input.u32()? })
        })?,
        counts: match version {
            VERSION_WITHOUT_COUNTS => 0,
            _ => input.u8()?,
        },
    })
}

#[cfg(test)]
mod tests;
