//! What publisher and viewer have in common between their offer and the server's answer.

use std::net::SocketAddr;
use std::time::Instant;

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::{Candidate, Rtc};
use tokio::net::UdpSocket;

use crate::error::ConnectError;
use crate::ice::IceDescription;

/// An offer that waits for its answer.
pub(crate) struct Offer {
    pub(crate) rtc: Rtc,
    pub(crate) pending: SdpPendingOffer,
    pub(crate) socket: (UdpSocket, SocketAddr),
    pub(crate) started: Instant,
    pub(crate) candidate: Candidate,
    /// Whether the offer lists the candidate.
    pub(crate) is_candidate_offered: bool,
    pub(crate) description: String,
}

/// A peer that has its answer.
pub(crate) struct Answered {
    pub(crate) rtc: Rtc,
    pub(crate) socket: (UdpSocket, SocketAddr),
    pub(crate) started: Instant,
}

impl Offer {
    /// The ICE of this side, whether the offer lists the candidate or not.
    pub(crate) fn ice(&mut self) -> IceDescription {
        let credentials = self.rtc.direct_api().local_ice_credentials();
        let candidates = vec![IceDescription::value_of(&self.candidate)];
        IceDescription { ufrag: credentials.ufrag, pwd: credentials.pass, candidates }
    }

    /// Takes the server's SDP.
    pub(crate) fn accept(self, answer: &str) -> Result<Answered, ConnectError> {
        let Self { mut rtc, pending, socket, started, candidate, is_candidate_offered, .. } = self;
        let unusable = |error: &dyn std::fmt::Display| ConnectError::Answer { reason: error.to_string() };
        let answer = SdpAnswer::from_sdp_string(answer).map_err(|error| unusable(&error))?;
        if !is_candidate_offered {
            rtc.add_local_candidate(candidate);
        }
        rtc.sdp_api().accept_answer(pending, answer).map_err(|error| unusable(&error))?;
        Ok(Answered { rtc, socket, started })
    }
}
