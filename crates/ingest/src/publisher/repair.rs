//! Asking the publisher for what is missing (RFC 4585, section 6.2.1), beside the engine's own RTCP.
//!
//! The engine asks only for streams with RTX, and OBS resends without; and it looks back no further than 100 packets.
//! So its NACKs are off and these go out, under an SSRC of their own: what is sealed with one key never shares SSRC and
//! index (RFC 3711, section 9.1).

use media_core::rtcp;
use model::Ssrc;
use srtp::{RtcpIndex, RtcpKey};

use super::{Output, Publisher, offer};

/// Most SSRCs under which RTCP of one session is sealed: two for each life of it.
pub(super) const RTCP_SSRCS_MAX: usize = 250;
/// Numbers asked for at once; the rest a moment later.
const ASKS_MAX: usize = 256;

/// Seals RTCP of our own.
#[derive(Debug)]
pub(super) struct Sealer {
    key: RtcpKey,
    ssrc: Ssrc,
    next: RtcpIndex,
}

impl Sealer {
    pub(super) const fn new(key: RtcpKey, ssrc: Ssrc) -> Self {
        Self { key, ssrc, next: RtcpIndex::ZERO }
    }

    /// `None` once the indices are used up, after 2^31 packets.
    fn seal(&mut self, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        let index = self.next;
        self.next = index.next()?;
        let plain_len = packet.len();
        packet.resize(plain_len + self.key.profile().rtcp_overhead(), 0);
        self.key.seal_in_place(&mut packet, plain_len, index).ok()?;
        Some(packet)
    }
}

impl Publisher {
    /// Sends NACKs that are due.
    pub(super) fn ask_for_missing(&mut self) {
        for stream in &mut self.streams {
            let mut places = Vec::new();
            stream.gaps.poll_nack(self.now, &mut places);
            let takes_nack = stream
                .payload_type
                .and_then(|number| offer::find(&self.sections, number))
                .is_some_and(|(_, payload, _)| payload.feedback.nack);
            let Some(mapping) = stream.mapping.filter(|_| takes_nack && !places.is_empty()) else { continue };
            let (Some((source, destination)), Some(sealer)) = (self.path, &mut self.sealer) else { continue };
            let mine = places.iter().filter(|place| place.get() >= mapping.floor).take(ASKS_MAX);
            let seqs = mine.map(|place| (place.get() as i64 - mapping.base) as u16);
            let mut packet = Vec::new();
            rtcp::write::receiver_report(&mut packet, sealer.ssrc, &[]);
            if rtcp::write::nack(&mut packet, sealer.ssrc, Ssrc::new(mapping.remote), seqs) == 0 {
                continue;
            }
            stream.nacks += 1;
            if let Some(bytes) = sealer.seal(packet) {
                self.outputs.push_back(Output::Transmit { source, destination, bytes });
            }
        }
    }

    /// Prepares our own RTCP once the keys are there.
    pub(super) fn make_sealer(&mut self, local: &srtp::MasterKey) {
        let Ok(key) = RtcpKey::derive(local) else { return };
        let free = |ssrc: &u32| !self.rtcp_ssrcs.contains(ssrc);
        // The engine draws one that is not in use in this life.
        let drawn = (0..8).map(|_| *self.rtc.direct_api().new_ssrc()).collect::<Vec<u32>>();
        let Some(ssrc) = drawn.into_iter().find(free) else { return };
        if self.rtcp_ssrcs.len() < RTCP_SSRCS_MAX {
            self.rtcp_ssrcs.push(ssrc);
            self.sealer = Some(Sealer::new(key, Ssrc::new(ssrc)));
        }
    }

    /// Remembers the SSRC under which the engine seals. `false` if it, or an earlier life of this session, was used
    /// by someone else: nonces would repeat, so nothing may be sent.
    pub(super) fn note_rtcp(&mut self, bytes: &[u8]) -> bool {
        let Some(ssrc) = bytes.get(4..8).and_then(<[u8]>::first_chunk::<4>) else { return false };
        let ssrc = u32::from_be_bytes(*ssrc);
        if self.engine_rtcp_ssrc == Some(ssrc) {
            return true;
        }
        if self.rtcp_ssrcs.contains(&ssrc) || self.rtcp_ssrcs.len() >= RTCP_SSRCS_MAX {
            return false;
        }
        self.engine_rtcp_ssrc = Some(ssrc);
        self.rtcp_ssrcs.push(ssrc);
        true
    }
}
