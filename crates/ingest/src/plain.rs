//! A publisher whose media comes as RTP without WebRTC: its packets become tree packets here.
//!
//! Whatever brings them has put them into order and numbered them, with a gap for each that is missing; which sender is
//! the right one is decided there, too. Sender reports tell its clock; without them time runs on from arrival.

use std::time::Instant;

use media_core::TreePacket;
use media_core::time::ClockOffset;
use model::{Codec, Kind, Layer, NtpTime, SeqNo, Track};

use crate::encoded::{Beginning, format_parameters};
use crate::publisher::{Connection, Identity, Stats};
use crate::stream::{Media, Stream, Told};

/// One track, as its description announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainTrack {
    /// What it is coded with.
    pub codec: Codec,
    /// H.264: the profile that is announced; what the stream says counts.
    pub profile_level_id: Option<[u8; 3]>,
}

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainPacket<'a> {
    /// Its place in the stream; every missing packet has one, too.
    pub place: u64,
    /// Ticks of the codec's clock, as they came.
    pub timestamp: u32,
    /// RTP marker.
    pub marker: bool,
    /// RTP payload.
    pub payload: &'a [u8],
}

/// One publishing run of such a publisher.
#[derive(Debug)]
pub struct Plain {
    offset: ClockOffset,
    tracks: Vec<(PlainTrack, Stream)>,
}

impl Plain {
    /// A publisher of these tracks, at most one of each kind, whose streams get their names and the beginnings of their
    /// numbers from these random bytes.
    #[must_use]
    pub fn new(identity: Identity, tracks: &[PlainTrack]) -> Self {
        let stream = |(index, track): (usize, &PlainTrack)| {
            let Beginning { ssrc, seq_no, .. } = Beginning::of(track.codec.kind(), &identity);
            let stream = Stream::new(ssrc, index, 0, seq_no.get(), track.codec.clock_rate());
            (track.clone(), stream)
        };
        Self { offset: ClockOffset::default(), tracks: tracks.iter().enumerate().map(stream).collect() }
    }

    /// What is published, of those tracks whose index `is_sent`.
    #[must_use]
    pub fn tracks(&self, is_sent: impl Fn(usize) -> bool) -> Vec<Track> {
        let sent = self.tracks.iter().enumerate().filter(|(index, _)| is_sent(*index));
        sent.map(|(_, (track, stream))| {
            let real = stream.picture.map(|picture| picture.profile_level_id);
            Track {
                codec: track.codec,
                fmtp: format_parameters(track.codec, real.or(track.profile_level_id), stream.profile).into(),
                layers: vec![Layer { ssrc: stream.ssrc, rid: None }],
                was_heard: true,
            }
        })
        .collect()
    }

    /// Whether [`Plain::tracks`] may say something else than before.
    pub fn take_news(&mut self) -> bool {
        self.tracks.iter_mut().fold(false, |has_news, (_, stream)| stream.take_news() | has_news)
    }

    /// The sender of a track said that its clock showed `timestamp` at `sender`.
    pub fn sender_report(
        &mut self,
        (now, wallclock): (Instant, NtpTime),
        track: usize,
        (sender, timestamp): (NtpTime, u32),
    ) {
        self.offset.observe(now, wallclock, sender);
        if let Some((_, stream)) = self.tracks.get_mut(track) {
            stream.sender_report(sender, timestamp);
        }
    }

    /// Makes a tree packet of one that came now, when our wallclock showed `wallclock`. `None` if its place is taken.
    pub fn packet(
        &mut self,
        arrived: (Instant, NtpTime),
        track: usize,
        packet: PlainPacket<'_>,
    ) -> Option<TreePacket> {
        let (track, stream) = self.tracks.get_mut(track)?;
        let media = Media {
            ssrc: 0,
            extended: SeqNo::new(packet.place),
            timestamp: packet.timestamp,
            marker: packet.marker,
            payload_type: 0,
            payload: packet.payload,
            codec: track.codec,
            told: Told::default(),
            dependency: None,
        };
        stream.receive(arrived, &media, &self.offset)
    }

    /// What it has sent.
    pub fn stats(&mut self, now: Instant) -> Stats {
        for (_, stream) in &mut self.tracks {
            // Nobody can be asked to send again: what is missing is given up in time.
            stream.gaps.poll_nack(now, &mut Vec::new());
        }
        let delay = |kind: Kind| {
            let mut of_kind = self.tracks.iter().filter(|(track, _)| track.codec.kind() == kind);
            of_kind.find_map(|(_, stream)| stream.delay())
        };
        let layers =
            self.tracks.iter().map(|(track, stream)| stream.stats(now, track.codec.kind())).collect();
        Stats {
            connection: Connection::Connected,
            picture_delay: delay(Kind::Video).zip(delay(Kind::Audio)).map(|(video, audio)| video - audio),
            layers,
            ..Stats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PICTURE: PlainTrack = PlainTrack { codec: Codec::Vp8, profile_level_id: None };
    const SOUND: PlainTrack = PlainTrack { codec: Codec::Opus, profile_level_id: None };
    const SECOND: Duration = Duration::from_secs(1);

    fn packet(place: u64, timestamp: u32) -> PlainPacket<'static> {
        PlainPacket { place, timestamp, marker: true, payload: &[0x10, 1] }
    }

    fn identity() -> Identity {
        Identity(std::array::from_fn(|index| index as u8))
    }

    fn start() -> (Instant, NtpTime) {
        (Instant::now(), NtpTime::from_unix(Duration::from_secs(1_800_000_000)))
    }

    #[test]
    fn gaps_stay_gaps_and_are_given_up() {
        let ((now, wallclock), mut plain) = (start(), Plain::new(identity(), &[SOUND, PICTURE]));
        let first = plain.packet((now, wallclock), 1, packet(0, 500)).expect("a packet");
        let later = plain.packet((now, wallclock), 1, packet(4, 3500)).expect("a packet");
        assert_eq!(later.seq_no, first.seq_no.plus(4));
        assert_eq!((first.timestamp, later.timestamp), (500, 3500));
        assert_eq!(plain.packet((now, wallclock), 1, packet(4, 3500)), None, "its place is taken");
        let video = |stats: &Stats| (stats.layers[1].lost, stats.layers[1].given_up);
        assert_eq!(video(&plain.stats(now)), (3, 0));
        assert_eq!(video(&plain.stats(now + SECOND)), (3, 3));
        assert_eq!(plain.tracks(|_| true).len(), 2);
        assert_eq!(plain.tracks(|index| index == 1)[0].layers[0].ssrc, first.ssrc);
    }

    #[test]
    fn sender_reports_bring_sound_and_picture_together() {
        let ((start, wallclock), mut plain) = (start(), Plain::new(identity(), &[SOUND, PICTURE]));
        let sender = NtpTime::from_unix(Duration::from_secs(77));
        plain.sender_report((start, wallclock), 0, (sender, 1000));
        plain.sender_report((start, wallclock), 1, (sender, 9000));
        let mut captured = Vec::new();
        // The picture takes 120 ms longer than the sound of the same moment.
        for (track, rate, first, late) in [(0, 48_000, 1000, 0), (1, 90_000, 9000, 120)] {
            for step in 0..50u32 {
                let arrival = Duration::from_millis(u64::from(step) * 40 + late);
                let packet = packet(u64::from(step), first + step * rate / 25);
                let packet = plain.packet((start + arrival, wallclock.plus(arrival)), track, packet);
                captured.push(packet.expect("a packet").capture_time);
            }
        }
        assert_eq!(captured[49], captured[99]);
        let delay = plain.stats(start).picture_delay.expect("both have reported");
        assert!((delay - 0.12).abs() < 0.02, "{delay}");
    }
}
