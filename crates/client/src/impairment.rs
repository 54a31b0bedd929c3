//! A seeded bad network between the peer and its socket.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Share of RTP datagrams that this side loses. STUN, DTLS and RTCP always pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Impairment {
    /// Share of RTP datagrams lost on the way in, 0.0 to 1.0.
    pub lose_received: f64,
    /// Share of RTP datagrams lost on the way out, 0.0 to 1.0.
    pub lose_sent: f64,
    /// Same seed, same decisions for the same sequence of packets.
    pub seed: u64,
}

impl Impairment {
    /// A perfect network.
    pub const NONE: Self = Self { lose_received: 0.0, lose_sent: 0.0, seed: 0 };
}

impl Default for Impairment {
    fn default() -> Self {
        Self::NONE
    }
}

/// Decides, packet by packet.
pub(crate) struct Dice {
    impairment: Impairment,
    received: StdRng,
    sent: StdRng,
}

impl Dice {
    pub(crate) fn new(impairment: Impairment) -> Self {
        let received = StdRng::seed_from_u64(impairment.seed);
        let sent = StdRng::seed_from_u64(!impairment.seed);
        Self { impairment, received, sent }
    }

    pub(crate) fn loses_received(&mut self, datagram: &[u8]) -> bool {
        is_rtp(datagram) && loses(&mut self.received, self.impairment.lose_received)
    }

    pub(crate) fn loses_sent(&mut self, datagram: &[u8]) -> bool {
        is_rtp(datagram) && loses(&mut self.sent, self.impairment.lose_sent)
    }
}

fn loses(generator: &mut StdRng, share: f64) -> bool {
    share > 0.0 && generator.random_bool(share.min(1.0))
}

/// Payload type of an RTP datagram; `None` for STUN, DTLS and RTCP (RFC 7983, RFC 5761).
pub(crate) fn rtp_payload_type(datagram: &[u8]) -> Option<u8> {
    let (first, second) = (*datagram.first()?, *datagram.get(1)?);
    let is_rtcp = (64..96).contains(&(second & 0x7f));
    ((128..192).contains(&first) && !is_rtcp).then_some(second & 0x7f)
}

fn is_rtp(datagram: &[u8]) -> bool {
    rtp_payload_type(datagram).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTP: [u8; 12] = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
    const RTCP: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 1];
    const STUN: [u8; 20] = [0; 20];
    const DTLS: [u8; 13] = [22; 13];

    #[test]
    fn only_rtp_is_lost() {
        let everything = Impairment { lose_received: 1.0, lose_sent: 1.0, seed: 1 };
        let mut dice = Dice::new(everything);
        assert!(dice.loses_received(&RTP) && dice.loses_sent(&RTP));
        for kept in [&RTCP[..], &STUN, &DTLS, &[]] {
            assert!(!dice.loses_received(kept) && !dice.loses_sent(kept), "{kept:?}");
        }
    }

    #[test]
    fn the_share_holds_and_the_seed_repeats_it() {
        let run = |seed| -> Vec<bool> {
            let mut dice = Dice::new(Impairment { lose_received: 0.1, lose_sent: 0.0, seed });
            (0..10_000).map(|_| dice.loses_received(&RTP)).collect()
        };
        let lost = run(7).iter().filter(|lost| **lost).count();
        assert!((850..1150).contains(&lost), "{lost} of 10000 at 10 %");
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
