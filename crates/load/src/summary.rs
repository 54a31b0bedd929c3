//! What a run came to: in words and as JSON. The names of the JSON fields are fixed; other programs read them.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::histogram::Percentiles;
use crate::ledger::Delivery;

/// The whole result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// When the figures were taken.
    pub window: Window,
    /// What became of the viewers.
    pub viewers: Viewers,
    /// POST begun to DTLS done, of all viewers of the run.
    pub join_ms: Option<Percentiles>,
    /// POST begun to the first whole keyframe, of all viewers of the run.
    pub first_frame_ms: Option<Percentiles>,
    /// RTP of all viewers in the window.
    pub packets: Packets,
    /// Of them, sound: browsers ask for no repair of it.
    pub audio: Delivery,
    /// Of them, picture.
    pub video: Delivery,
    /// Bytes of RTP datagrams in the window, those sent again included.
    pub bytes: u64,
    /// RTP datagrams a second in the window.
    pub packets_per_second: f64,
    /// Of those datagrams, in 10^6 bits a second.
    pub mbps: f64,
    /// Pauses in the video.
    pub stalls: Stalls,
    /// Capture to arrival, of each packet that tells its capture time.
    pub latency_ms: Option<Percentiles>,
    /// The same, of the last packet of each frame.
    pub latency_frame_ms: Option<Percentiles>,
    /// From our own publisher's sending to arrival, of each packet that is decrypted.
    pub transit_ms: Option<Percentiles>,
    /// Processor time of this process in the window.
    pub cpu_seconds: CpuSeconds,
    /// Memory of this process at the end of the window.
    pub rss_bytes: u64,
    /// Datagrams that the whole machine (or namespace) dropped in the window for want of receive buffer. Where it is not
    /// zero, losses may be this program's fault.
    pub receive_buffer_overflows: u64,
    /// What became of the publishers.
    pub publishers: Publishers,
}

/// The steady window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Milliseconds since 1970.
    pub start_unix_ms: u64,
    /// Milliseconds since 1970.
    pub end_unix_ms: u64,
}

/// What became of the viewers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Viewers {
    /// Asked for.
    pub wanted: u64,
    /// Connected, replacements included.
    pub joined: u64,
    /// Never connected, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Connected and no longer served before the end of the window, not by their own will.
    pub left_early: u64,
    /// Left by their own will and replaced.
    pub churned: u64,
    /// Connected, and never saw a whole keyframe though the session has video.
    pub without_keyframe: u64,
    /// Sessions whose DELETE the server refused or did not answer.
    pub delete_failed: u64,
}

/// RTP in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Packets {
    /// Owed to all viewers.
    pub expected: u64,
    /// Of them, arrived, repaired ones included.
    pub delivered: u64,
    /// Missing at first.
    pub lost_before_repair: u64,
    /// Missing for good.
    pub lost_after_repair: u64,
    /// Datagrams decrypted and authenticated.
    pub verified: u64,
    /// Datagrams counted by their header.
    pub unverified: u64,
    /// Datagrams that were not authentic.
    pub failed_verification: u64,
    /// Datagrams dropped on arrival, as asked for.
    pub injected_losses: u64,
}

/// No frame for longer than 150 ms and three frame intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Stalls {
    /// Viewers with at least one.
    pub viewers: u64,
    /// Of all viewers.
    pub count: u64,
    /// In milliseconds.
    pub longest_ms: u64,
}

/// Processor time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct CpuSeconds {
    /// In the program.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

/// What became of the publishers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Publishers {
    /// Asked for; all of them connected, or there would have been no run.
    pub wanted: u64,
    /// Ended before the end of the run, by reason.
    pub ended: BTreeMap<String, u64>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Viewers { wanted, joined, failed, left_early, churned, without_keyframe, delete_failed } =
            &self.viewers;
        let seconds = (self.window.end_unix_ms - self.window.start_unix_ms) as f64 / 1000.0;
        if self.publishers.wanted > 0 {
            writeln!(f, "publishers      {}", self.publishers.wanted)?;
            reasons(f, "ended", &self.publishers.ended)?;
        }
        if *wanted > 0 {
            write!(
                f,
                "viewers         {wanted} wanted, {joined} joined, {} failed",
                failed.values().sum::<u64>()
            )?;
            writeln!(f, ", {left_early} lost, {churned} replaced")?;
            reasons(f, "failed", failed)?;
        }
        if *without_keyframe > 0 {
            writeln!(f, "                {without_keyframe} never saw a whole keyframe")?;
        }
        if *delete_failed > 0 {
            writeln!(f, "                {delete_failed} sessions could not be deleted")?;
        }
        percentiles(f, "join", self.join_ms)?;
        percentiles(f, "first frame", self.first_frame_ms)?;
        if *wanted > 0 {
            self.write_media(f, seconds)?;
        }
        let CpuSeconds { user, system } = self.cpu_seconds;
        write!(
            f,
            "own cost        {:.2} processors ({user:.2} s user,",
            (user + system) / seconds.max(0.001)
        )?;
        writeln!(f, " {system:.2} s system), {:.0} MB", self.rss_bytes as f64 / 1e6)?;
        if self.receive_buffer_overflows > 0 {
            let count = self.receive_buffer_overflows;
            writeln!(
                f,
                "                {count} datagrams dropped by this machine: its receive buffers were full"
            )?;
        }
        Ok(())
    }
}

impl Summary {
    fn write_media(&self, f: &mut fmt::Formatter<'_>, seconds: f64) -> fmt::Result {
        let packets = &self.packets;
        let share = |part: u64| 100.0 * part as f64 / packets.expected.max(1) as f64;
        writeln!(f, "window          {seconds:.1} s")?;
        writeln!(
            f,
            "packets         {} of {} expected ({:.4} %), {:.0} a second, {:.1} Mbit/s",
            packets.delivered,
            packets.expected,
            share(packets.delivered),
            self.packets_per_second,
            self.mbps
        )?;
        let (before, after) = (packets.lost_before_repair, packets.lost_after_repair);
        write!(f, "lost            {before} before repair ({:.3} %), ", share(before))?;
        writeln!(f, "{after} after ({:.4} %), {} dropped on purpose", share(after), packets.injected_losses)?;
        let of_kind = |track: Delivery| (track.lost_after_repair, track.expected);
        let ((audio, of_audio), (video, of_video)) = (of_kind(self.audio), of_kind(self.video));
        writeln!(f, "                for good: {audio} of {of_audio} audio, {video} of {of_video} video")?;
        write!(f, "verified        {}, {} by header only", packets.verified, packets.unverified)?;
        writeln!(f, ", {} not authentic", packets.failed_verification)?;
        let Stalls { viewers, count, longest_ms } = self.stalls;
        writeln!(f, "stalls          {count} of {viewers} viewers, longest {longest_ms} ms")?;
        percentiles(f, "latency", self.latency_ms)?;
        percentiles(f, "  of frames", self.latency_frame_ms)?;
        percentiles(f, "  on the way", self.transit_ms)
    }
}

fn reasons(f: &mut fmt::Formatter<'_>, what: &str, counts: &BTreeMap<String, u64>) -> fmt::Result {
    counts.iter().try_for_each(|(reason, count)| writeln!(f, "                {count} {what}: {reason}"))
}

fn percentiles(f: &mut fmt::Formatter<'_>, what: &str, found: Option<Percentiles>) -> fmt::Result {
    let Some(Percentiles { p50, p95, p99, max }) = found else { return Ok(()) };
    writeln!(f, "{what:<15} {p50:.1} ms half, {p95:.1} ms 95 %, {p99:.1} ms 99 %, {max:.1} ms longest")
}
