//! Plain RTP and its session descriptions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ingest::{Identity, Output};
use model::{NtpTime, Ssrc};
use rtp_in::{Description, Event, RETRY, Receiver, SILENCE};

/// Plain RTP: a session description up to the first zero byte; then datagrams, before each of them who sends it to which
/// port, how long it takes, and 16 bits of length. Whoever sends what, places in a stream only grow, nothing is too large,
/// and in the end nobody publishes.
pub fn rtp(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, mut rest) = bytes.split_at(end);
    let Ok(Ok(description)) = str::from_utf8(text).map(Description::parse) else { return };
    let (start, tracks) = (Instant::now(), description.tracks.len());
    let mut receiver = Receiver::new(description, Vec::new());
    let mut listener = Listener::default();
    let mut now = start;
    rest = rest.get(1..).unwrap_or_default();
    while let Some(([port, wait, high, low], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (datagram, after) = after.split_at(length);
        rest = after;
        now += Duration::from_millis(u64::from(*wait) * 8);
        let wallclock = NtpTime::from_unix(Duration::from_secs(1_800_000_000) + (now - start));
        let from = ([192, 0, 2, port >> 2 & 3], 5004).into();
        receiver.handle_timeout(now);
        if port & 2 == 0 {
            receiver.handle_media((now, wallclock), usize::from(port & 1) % tracks, from, datagram);
        } else {
            receiver.handle_control((now, wallclock), usize::from(port & 1) % tracks, from, datagram);
        }
        listener.listen(&mut receiver);
    }
    while let Some(at) = receiver.poll_timeout() {
        assert!(at <= now + SILENCE + RETRY, "nobody waits for ever");
        now = now.max(at);
        receiver.handle_timeout(now);
        listener.listen(&mut receiver);
    }
    assert_eq!(listener.asked, listener.ended);
}

/// What a receiver tells.
#[derive(Default)]
struct Listener {
    asked: u8,
    ended: u8,
    places: BTreeMap<Ssrc, u64>,
}

impl Listener {
    fn listen(&mut self, receiver: &mut Receiver) {
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::PublishRequested => {
                    self.asked = self.asked.wrapping_add(1);
                    self.places.clear();
                    let mut identity = [self.asked; 64];
                    identity[32] = !self.asked;
                    receiver.publish(Identity(identity));
                }
                Event::Output(Output::Packet(packet)) => {
                    assert!(packet.payload.len() <= 1200);
                    let place = packet.seq_no.get();
                    assert!(self.places.insert(packet.ssrc, place).is_none_or(|before| before < place));
                }
                Event::Output(output) => assert!(matches!(output, Output::Tracks(_)), "{output:?}"),
                Event::Ended { .. } => self.ended = self.ended.wrapping_add(1),
            }
        }
    }
}
