//! What a viewer got, and what it lacks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::{ReceivedPacket, WhepSession};
use model::{Codec, Kind, Ssrc};

use crate::program::PATIENCE;

/// A picture that comes this much later than the one before is a freeze.
const FREEZE: Duration = Duration::from_millis(500);

/// Everything that one viewer received.
#[derive(Default)]
pub struct Recording {
    audio: Track,
    video: Track,
}

/// One track of a recording.
#[derive(Default)]
pub struct Track {
    /// By extended sequence number.
    packets: BTreeMap<u64, Packet>,
    newest: u64,
    /// Packets that came after one with a higher sequence number.
    pub late: u64,
    /// Streams, in order of appearance.
    pub ssrcs: Vec<Ssrc>,
    /// Codecs, in order of appearance.
    pub codecs: Vec<Codec>,
    /// Packets that start a keyframe.
    pub keyframes: u64,
}

struct Packet {
    timestamp: u32,
    arrival: Instant,
}

/// A timestamp that goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackwardStep {
    /// How many packets after the first one.
    pub after_packets: usize,
    /// How far, in ticks of the codec's clock; negative.
    pub ticks: i32,
}

/// How fluently the pictures came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fluency {
    /// Pictures that came, whole or not.
    pub pictures: usize,
    /// Pauses of more than half a second.
    pub freezes: usize,
    /// The longest time between a picture's last packet and that of the one before.
    pub longest_pause: Duration,
}

impl Recording {
    /// The track of this kind.
    #[must_use]
    pub fn track(&self, kind: Kind) -> &Track {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }

    /// Records until `is_enough`, then until everything before that moment is there or has not come for long.
    ///
    /// # Errors
    /// If the session ends, or nothing comes for [`PATIENCE`].
    pub async fn record(
        &mut self,
        viewer: &mut WhepSession,
        mut is_enough: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_enough(self) {
            ensure!(Instant::now() < deadline, "too little came: {}", self.summary());
            self.receive(viewer, PATIENCE).await?;
        }
        let ends = [self.audio.newest, self.video.newest];
        // A browser has given up by then.
        let deadline = Instant::now() + Duration::from_secs(3);
        while self.audio.missing_until(ends[0]) + self.video.missing_until(ends[1]) > 0
            && Instant::now() < deadline
        {
            self.receive(viewer, PATIENCE).await?;
        }
        self.audio.forget_after(ends[0]);
        self.video.forget_after(ends[1]);
        ensure!(viewer.stats().unread == 0, "this test did not read fast enough");
        Ok(())
    }

    /// Notes the next packet.
    ///
    /// # Errors
    /// If none comes in time, or the session ends.
    pub async fn receive(&mut self, viewer: &mut WhepSession, patience: Duration) -> anyhow::Result<()> {
        let packet = tokio::time::timeout(patience, viewer.receive()).await;
        let packet = packet.with_context(|| format!("no packet any more: {}", self.summary()))?;
        let packet = packet.with_context(|| format!("the session ended: {}", self.summary()))?;
        match packet.kind {
            Kind::Audio => self.audio.add(&packet),
            Kind::Video => self.video.add(&packet),
        }
        Ok(())
    }

    /// One line.
    #[must_use]
    pub fn summary(&self) -> String {
        let Fluency { pictures, freezes, longest_pause } = self.video.fluency();
        let part = |track: &Track| {
            format!("{} packets, {} missing, {} late", track.count(), track.missing().len(), track.late)
        };
        format!(
            "video {}; audio {}; {pictures} pictures, {freezes} freezes, longest pause {} ms",
            part(&self.video),
            part(&self.audio),
            longest_pause.as_millis()
        )
    }
}

impl Track {
    fn add(&mut self, packet: &ReceivedPacket) {
        let seq_no = packet.seq_no.get();
        if seq_no < self.newest {
            self.late += 1;
        }
        self.newest = self.newest.max(seq_no);
        self.packets.insert(seq_no, Packet { timestamp: packet.timestamp, arrival: packet.arrival });
        if self.ssrcs.last() != Some(&packet.ssrc) {
            self.ssrcs.push(packet.ssrc);
        }
        if self.codecs.last() != Some(&packet.codec) {
            self.codecs.push(packet.codec);
        }
        self.keyframes += u64::from(packet.kind == Kind::Video && packet.starts_keyframe);
    }

    /// Different packets received.
    #[must_use]
    pub fn count(&self) -> usize {
        self.packets.len()
    }

    /// Sequence numbers between the first and the last that never came, counted from the first.
    #[must_use]
    pub fn missing(&self) -> Vec<u64> {
        let Some(&first) = self.packets.keys().next() else { return Vec::new() };
        (first..=self.newest)
            .filter(|seq_no| !self.packets.contains_key(seq_no))
            .map(|seq_no| seq_no - first)
            .collect()
    }

    fn missing_until(&self, end: u64) -> usize {
        let Some(&first) = self.packets.keys().next() else { return 0 };
        (end + 1 - first) as usize - self.packets.range(..=end).count()
    }

    /// What came after `end` while older packets were waited for is not judged: its own repairs are under way.
    fn forget_after(&mut self, end: u64) {
        self.packets.split_off(&(end + 1));
        self.newest = end;
    }

    /// Packets whose timestamp is less than the one of the packet before them, in order of sequence numbers.
    #[must_use]
    pub fn backward_steps(&self) -> Vec<BackwardStep> {
        let packets: Vec<(&u64, &Packet)> = self.packets.iter().collect();
        let steps = packets.windows(2).map(|pair| {
            let ticks = pair[1].1.timestamp.wrapping_sub(pair[0].1.timestamp).cast_signed();
            BackwardStep { after_packets: (pair[1].0 - packets[0].0) as usize, ticks }
        });
        steps.filter(|step| step.ticks < 0).collect()
    }

    /// How fluently samples came, each when its last packet had come and all before it.
    #[must_use]
    pub fn fluency(&self) -> Fluency {
        let mut ready: Vec<(u32, Instant)> = Vec::new();
        for Packet { timestamp, arrival } in self.packets.values() {
            match ready.last_mut() {
                Some((last, at)) if last == timestamp => *at = (*at).max(*arrival),
                Some((_, at)) => {
                    let at = (*at).max(*arrival);
                    ready.push((*timestamp, at));
                }
                None => ready.push((*timestamp, *arrival)),
            }
        }
        let pauses: Vec<Duration> = ready.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
        Fluency {
            pictures: ready.len(),
            freezes: pauses.iter().filter(|pause| **pause > FREEZE).count(),
            longest_pause: pauses.into_iter().max().unwrap_or_default(),
        }
    }
}
