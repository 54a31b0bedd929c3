//! What a connected viewer receives and says: SRTP opened, streams followed, NACK, PLI and reports as a browser sends
//! them.

use std::time::{Duration, Instant};

use ice_dtls::Keys;
use media_core::rtcp::{self, write};
use media_core::rtp;
use model::{Kind, NtpTime, SeqNo, Ssrc};
use rand::RngExt as _;
use srtp::{KeyError, RtcpIndex, RtcpKey, RtpKey};

use crate::chance::Chance;
use crate::description::{Format, Remote};
use crate::frames::Stalls;
use crate::ledger::Account;
use crate::stamp;
use crate::stream::{Head, Stream};
use crate::turn::{Turn, since};

/// Receiver reports (RFC 3550, section 6.2, with the interval of browsers).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Video without a keyframe for so long, and one is asked for.
const KEYFRAME_PATIENCE: Duration = Duration::from_millis(200);
/// Pause between requests for a keyframe.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);
/// Streams of one viewer at most: two tracks, and what a server that changes SSRCs leaves behind.
const STREAMS_MAX: usize = 8;
/// From joining to figures of latency, and from the last join to the window: replays are over, streams run.
pub(crate) const SETTLING: Duration = Duration::from_secs(3);
const CNAME: &str = "media-tree-load";

/// How much of it is looked into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scrutiny {
    /// Every packet is decrypted; else only those before the first keyframe, and RTX.
    pub(crate) is_verifying: bool,
    /// Share of RTP packets dropped on arrival.
    pub(crate) loss: f64,
}

/// The readable part of a sealed RTP packet.
struct Header {
    payload_type: u8,
    seq: u16,
    timestamp: u32,
    ssrc: Ssrc,
    marker: bool,
    length: usize,
    capture_time: Option<NtpTime>,
}

impl Header {
    fn read(packet: &mut [u8], capture_time_id: Option<u8>) -> Option<Self> {
        // The count of padding is still encrypted.
        let first = *packet.first()?;
        packet[0] = first & !0x20;
        let header = rtp::Packet::parse(packet).ok().map(|parsed| {
            let extension = capture_time_id.and_then(|id| parsed.extension(id));
            let bits = extension.and_then(|data| data.first_chunk::<8>());
            Self {
                payload_type: parsed.payload_type,
                seq: parsed.seq,
                timestamp: parsed.timestamp,
                ssrc: parsed.ssrc,
                marker: parsed.marker,
                length: parsed.header_len,
                capture_time: bits.map(|bits| NtpTime::from_bits(u64::from_be_bytes(*bits))),
            }
        });
        packet[0] = first;
        header
    }
}

/// The media of one viewer.
pub(crate) struct Reception {
    rtp: RtpKey,
    rtcp_in: RtcpKey,
    rtcp_out: RtcpKey,
    rtcp_index: RtcpIndex,
    ssrc: Ssrc,
    formats: Box<[Format]>,
    capture_time: Option<u8>,
    is_reduced_size: bool,
    scrutiny: Scrutiny,
    chance: Chance,
    streams: Vec<Stream>,
    /// Newest packet of each RTX stream.
    rtx: Vec<(Ssrc, SeqNo)>,
    report_at: Instant,
    /// When to ask for a keyframe, while one is missing.
    keyframe_at: Option<Instant>,
    began: Instant,
    joined: Instant,
    has_picture: bool,
    /// When the viewer began to leave.
    left: Option<Instant>,
    is_accounted: bool,
}

impl Reception {
    /// # Errors
    /// If the cryptographic library refuses the keys.
    pub(crate) fn new(
        keys: &Keys,
        remote: &Remote,
        (scrutiny, chance): (Scrutiny, Chance),
        began: Instant,
        turn: &mut Turn<'_>,
    ) -> Result<Self, KeyError> {
        turn.tally.joins.record(turn.now.saturating_duration_since(began));
        Ok(Self {
            rtp: RtpKey::derive(&keys.receive)?,
            rtcp_in: RtcpKey::derive(&keys.receive)?,
            rtcp_out: RtcpKey::derive(&keys.send)?,
            rtcp_index: RtcpIndex::ZERO,
            ssrc: Ssrc::new(turn.random.random_range(1..=u32::MAX)),
            formats: remote.formats.clone().into(),
            capture_time: remote.capture_time,
            is_reduced_size: remote.is_reduced_size,
            scrutiny,
            chance,
            streams: Vec::new(),
            rtx: Vec::new(),
            report_at: turn.now + REPORT_INTERVAL.mul_f64(turn.random.random_range(0.2..1.0)),
            keyframe_at: None,
            began,
            joined: turn.now,
            has_picture: false,
            left: None,
            is_accounted: false,
        })
    }

    pub(crate) const fn has_picture(&self) -> bool {
        self.has_picture
    }

    pub(crate) fn expects_picture(&self) -> bool {
        self.formats.iter().any(Format::is_video)
    }

    pub(crate) fn handle_rtp(&mut self, turn: &mut Turn<'_>, packet: &mut [u8]) {
        if self.left.is_some() {
            return;
        }
        if self.chance.happens(self.scrutiny.loss) {
            turn.tally.in_window(|traffic| traffic.injected_losses += 1);
            return;
        }
        turn.tally.received(packet.len());
        let Some(header) = Header::read(packet, self.capture_time) else { return };
        let formats = self.formats.iter();
        let Some(format) = formats.copied().find(|format| {
            format.payload_type == header.payload_type || format.rtx == Some(header.payload_type)
        }) else {
            return;
        };
        if format.payload_type == header.payload_type {
            self.handle_original(turn, packet, &header, format);
        } else {
            self.handle_rtx(turn, packet, &header, format);
        }
    }

    fn handle_original(&mut self, turn: &mut Turn<'_>, packet: &mut [u8], header: &Header, format: Format) {
        let known = self.streams.iter().position(|stream| stream.ssrc == header.ssrc);
        let stream = known.map(|index| &self.streams[index]);
        let seq_no = stream.map_or(SeqNo::from_parts(0, header.seq), |stream| stream.seq_no(header.seq));
        let is_opened = self.scrutiny.is_verifying || stream.is_none_or(Stream::awaits_keyframe);
        let mut length = None;
        if is_opened {
            match self.rtp.open_in_place(packet, header.length, seq_no) {
                Ok(plain) => length = Some(plain),
                Err(_) => {
                    turn.tally.in_window(|traffic| traffic.failed_verification += 1);
                    return;
                }
            }
        }
        turn.tally.in_window(|traffic| match is_opened {
            true => traffic.verified += 1,
            false => traffic.unverified += 1,
        });
        let payload = length.and_then(|length| Some(rtp::Packet::parse(&packet[..length]).ok()?.payload));
        let index = match known {
            Some(index) => index,
            None if self.streams.len() < STREAMS_MAX => {
                let is_window_open = turn.tally.window.is_some();
                self.streams.push(Stream::new(turn.now, header.ssrc, format, is_window_open));
                self.streams.len() - 1
            }
            None => return,
        };
        let head = Head { seq_no, timestamp: header.timestamp, marker: header.marker, via_rtx: false };
        self.take(turn, index, head, payload);
        self.measure(turn, header, format, payload);
    }

    /// RFC 4588: the original sequence number stands before the payload.
    fn handle_rtx(&mut self, turn: &mut Turn<'_>, packet: &mut [u8], header: &Header, format: Format) {
        let known = self.rtx.iter().position(|(ssrc, _)| *ssrc == header.ssrc);
        let newest = known.map(|index| self.rtx[index].1);
        let rtx_seq_no = newest.map_or(SeqNo::from_parts(0, header.seq), |newest| newest.nearest(header.seq));
        let Ok(length) = self.rtp.open_in_place(packet, header.length, rtx_seq_no) else {
            turn.tally.in_window(|traffic| traffic.failed_verification += 1);
            return;
        };
        turn.tally.in_window(|traffic| traffic.verified += 1);
        match known {
            Some(index) => self.rtx[index].1 = self.rtx[index].1.max(rtx_seq_no),
            None if self.rtx.len() < STREAMS_MAX => self.rtx.push((header.ssrc, rtx_seq_no)),
            None => return,
        }
        let Ok(plain) = rtp::Packet::parse(&packet[..length]) else { return };
        let Some((original, payload)) = plain.payload.split_first_chunk() else { return };
        // The latest stream of the format: an SSRC that replaced another comes after it.
        let of_format = |stream: &Stream| stream.format.payload_type == format.payload_type;
        let Some(index) = self.streams.iter().rposition(of_format) else { return };
        let seq_no = self.streams[index].seq_no(u16::from_be_bytes(*original));
        let head = Head { seq_no, timestamp: header.timestamp, marker: header.marker, via_rtx: true };
        self.take(turn, index, head, Some(payload));
    }

    fn take(&mut self, turn: &mut Turn<'_>, index: usize, head: Head, payload: Option<&[u8]>) {
        let stream = &mut self.streams[index];
        // Probes repeat old packets, or packets from before the first: nothing is known of those.
        if head.via_rtx && stream.gaps.newest().is_none_or(|newest| head.seq_no > newest) {
            return;
        }
        let (_, is_keyframe_whole) = stream.received(turn.now, head, payload);
        if is_keyframe_whole && !self.has_picture {
            self.has_picture = true;
            turn.tally.first_frames.record(turn.now.saturating_duration_since(self.began));
        }
        if self.streams.iter().any(Stream::awaits_keyframe) {
            self.keyframe_at.get_or_insert(turn.now + KEYFRAME_PATIENCE);
        } else {
            self.keyframe_at = None;
        }
    }

    /// Capture time and stamp against the clock. Viewers that have just joined are not asked: what they get first may be
    /// a recording of the last seconds.
    fn measure(&self, turn: &mut Turn<'_>, header: &Header, format: Format, payload: Option<&[u8]>) {
        if turn.tally.window.is_none() || turn.now < self.joined + SETTLING {
            return;
        }
        let stamp = payload.and_then(stamp::find);
        let latencies = &mut turn.tally.latencies;
        if let Some(transit) = stamp.and_then(|sent| since(turn.wallclock, sent)) {
            latencies.transit.record(transit);
        }
        let captured = if self.capture_time.is_some() { header.capture_time } else { stamp };
        if let Some(latency) = captured.and_then(|captured| since(turn.wallclock, captured)) {
            latencies.packet.record(latency);
            if format.is_video() && header.marker {
                latencies.frame.record(latency);
            }
        }
    }

    pub(crate) fn handle_rtcp(&mut self, now: Instant, packet: &mut [u8]) {
        let Ok((length, _)) = self.rtcp_in.open_in_place(packet) else { return };
        for report in rtcp::parse(&packet[..length]).filter_map(Result::ok) {
            if let rtcp::Packet::SenderReport(report) = report
                && let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == report.info.ssrc)
            {
                stream.sender_report(now, report.info.ntp);
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.left.is_some() {
            return None;
        }
        let gaps = self.streams.iter().filter_map(Stream::poll_timeout);
        gaps.chain(self.keyframe_at).chain([self.report_at]).min()
    }

    /// Appends the sealed RTCP that is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, round_trip: Duration, out: &mut Vec<u8>) {
        out.clear();
        let is_report_due = now >= self.report_at;
        if is_report_due || !self.is_reduced_size {
            let streams = self.streams.iter_mut().filter(|_| is_report_due);
            let blocks: Vec<_> = streams.filter_map(|stream| stream.report(now)).collect();
            write::receiver_report(out, self.ssrc, &blocks);
            write::source_description(out, self.ssrc, CNAME);
        }
        let preamble = if is_report_due { 0 } else { out.len() };
        if is_report_due {
            self.report_at = now + REPORT_INTERVAL;
        }
        for stream in &mut self.streams {
            let mut asks = Vec::new();
            if stream.poll(now, round_trip, &mut asks) {
                self.keyframe_at.get_or_insert(now);
            }
            write::nack(out, self.ssrc, stream.ssrc, asks.into_iter().map(SeqNo::seq));
        }
        if self.keyframe_at.is_some_and(|at| now >= at) {
            self.keyframe_at = Some(now + KEYFRAME_INTERVAL);
            for stream in self.streams.iter().filter(|stream| stream.awaits_keyframe()) {
                write::picture_loss_indication(out, self.ssrc, stream.ssrc);
            }
        }
        if out.len() == preamble {
            out.clear();
        } else {
            self.seal(out);
        }
    }

    fn seal(&mut self, out: &mut Vec<u8>) {
        let plain = out.len();
        out.resize(plain + self.rtcp_out.profile().rtcp_overhead(), 0);
        let sealed = self.rtcp_out.seal_in_place(out, plain, self.rtcp_index);
        // The index ends after 2^31 packets; nothing is said from then on.
        match (sealed, self.rtcp_index.next()) {
            (Ok(length), Some(next)) => {
                self.rtcp_index = next;
                out.truncate(length);
            }
            _ => out.clear(),
        }
    }

    pub(crate) fn begin_window(&mut self, now: Instant) {
        self.streams.iter_mut().for_each(|stream| stream.begin_window(now));
    }

    pub(crate) fn end_window(&mut self, now: Instant) -> Stalls {
        if self.left.is_some() {
            return Stalls::default();
        }
        let stalls = self.streams.iter_mut().filter_map(|stream| stream.end_window(now));
        stalls.reduce(worse).unwrap_or_default()
    }

    /// The viewer goes of its own will; its share of the window ends here.
    pub(crate) fn leave(&mut self, now: Instant, is_window_open: bool) -> Stalls {
        self.left = Some(now);
        if !is_window_open {
            return Stalls::default();
        }
        let stalls = self.streams.iter_mut().filter_map(|stream| stream.end_window_at_frontier(now));
        stalls.reduce(worse).unwrap_or_default()
    }

    /// Appends an account for each track.
    pub(crate) fn close_accounts(
        &mut self,
        broadcast: usize,
        (window, end): (Instant, Instant),
        accounts: &mut Vec<Account>,
    ) {
        if self.is_accounted || self.joined > end || self.left.is_some_and(|left| left <= window) {
            return;
        }
        self.is_accounted = true;
        let since_window = |at: Instant| at.saturating_duration_since(window);
        for kind in [Kind::Audio, Kind::Video] {
            if !self.formats.iter().any(|format| format.codec.kind() == kind) {
                continue;
            }
            let mut account = Account {
                broadcast,
                kind,
                present_from: since_window(self.joined),
                present_to: since_window(self.left.unwrap_or(end).min(end)),
                seen: None,
                expected: 0,
                lost_before_repair: 0,
                lost_after_repair: 0,
            };
            for stream in self.streams.iter_mut().filter(|stream| stream.format.codec.kind() == kind) {
                let share = stream.close_account();
                account.expected += share.expected();
                account.lost_before_repair += share.lost_before_repair;
                account.lost_after_repair += share.lost_after_repair;
                let seen = share.seen.map(|(first, last)| (since_window(first), since_window(last)));
                account.seen = match (account.seen, seen) {
                    (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
                    (known, new) => known.or(new),
                };
            }
            accounts.push(account);
        }
    }
}

/// Of one viewer's streams.
fn worse(one: Stalls, other: Stalls) -> Stalls {
    Stalls { count: one.count + other.count, longest: one.longest.max(other.longest) }
}
