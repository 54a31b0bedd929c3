//! What a viewer was sent again a moment ago.
//!
//! Browsers ask for a missing packet each 100 ms until it comes, whatever the round trip. Where the queue of a link is full a
//! repeat takes longer than that, and each further one only makes the queue longer and pushes something else out of it.

use std::time::{Duration, Instant};

/// Packets that are remembered. Of two whose numbers fall into one place, the older one is forgotten: it may be repeated early.
const PLACES: usize = 64;
/// A round trip longer than this is not waited for.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Repeats of one track.
pub struct Resent {
    begun: Instant,
    /// RTP sequence numbers, and when they were repeated, in ms since `begun` modulo 2^16.
    places: [Option<(u16, u16)>; PLACES],
}

impl Resent {
    pub const fn new(now: Instant) -> Self {
        Self { begun: now, places: [None; PLACES] }
    }

    /// Notes that a packet is to be repeated. False if it was, and that repeat may still be on its way.
    pub fn note(&mut self, now: Instant, seq: u16, round_trip: Duration) -> bool {
        let at = (now.saturating_duration_since(self.begun).as_millis() & 0xffff) as u16;
        let place = &mut self.places[usize::from(seq) % PLACES];
        let is_on_its_way = place.is_some_and(|(noted, before)| {
            let passed = Duration::from_millis(u64::from(at.wrapping_sub(before)));
            noted == seq && passed < round_trip.min(WAIT_MAX)
        });
        if !is_on_its_way {
            *place = Some((seq, at));
        }
        !is_on_its_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_repeated_once_in_a_round_trip() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut resent = Resent::new(start);
        let round_trip = Duration::from_millis(220);
        assert!(resent.note(at(70_000), 9, round_trip));
        assert!(resent.note(at(70_050), 10, round_trip), "another one");
        assert!(!resent.note(at(70_100), 9, round_trip));
        assert!(!resent.note(at(70_200), 9, round_trip));
        assert!(resent.note(at(70_220), 9, round_trip), "that one was lost, too");
        assert!(!resent.note(at(70_300), 9, round_trip));
        assert!(resent.note(at(70_300), 9, Duration::from_millis(20)), "the queue is gone");
        assert!(!resent.note(at(70_700), 9, Duration::from_secs(9)));
        assert!(resent.note(at(70_800), 9, Duration::from_secs(9)), "nobody waits for so long");
    }
}
