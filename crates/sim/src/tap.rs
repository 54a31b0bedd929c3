//! The tap at the egress: every datagram to a viewer is opened with that viewer's key as it leaves, and held against
//! what was published and against everything that left before.
//!
//! - Nothing is invented: every payload is one that was published on the viewer's broadcast.
//! - No nonce (key, SSRC, index) serves two contents, whatever crashed and was resumed in between.
//! - A sender report tells the truth about the packets around it, so that sound and picture stay aligned.
//!
//! A receiver decrypts the same bytes to the same packet, so what travels on is the opened packet; a player only
//! checks that it would have found the same rollover counter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use media_core::rtcp::{self, Packet as Rtcp, SenderInfo};
use media_core::{TreePacket, rtp};
use model::{Kind, NtpTime, SeqNo, Ssrc};
use srtp::{MasterKey, RtcpKey, RtpKey};

use crate::published::Published;
use crate::trace;

/// Id of the capture time extension that every viewer negotiates.
pub const CAPTURE_TIME_ID: u8 = 2;
/// How far a sender report may be from the capture times of packets: rounding on the way.
const ALIGNMENT_MAX: Duration = Duration::from_millis(3);
/// What a resumed viewer's numbers may jump: the rest of a reserved block, one block more if its first number was
/// never seen.
const RESUME_JUMP_MAX: u64 = 2 * 128;

/// A packet of media as a viewer gets it.
#[derive(Debug, Clone)]
pub struct Media {
    /// Its stream to the viewer; the RTX stream for a repeat.
    pub ssrc: Ssrc,
    /// Extended sequence number in that stream.
    pub seq_no: SeqNo,
    /// Extended sequence number in the media stream.
    pub media_seq_no: SeqNo,
    /// Sound or picture.
    pub kind: Kind,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The packet of the tree that it carries.
    pub packet: Arc<TreePacket>,
    /// Which run of the egress process sent it.
    pub run: u32,
}

/// A datagram to a viewer, opened.
#[derive(Debug, Clone)]
pub enum Opened {
    /// RTP.
    Media(Media),
    /// Compound RTCP.
    Reports(Vec<SenderInfo>),
}

/// What left under one number.
#[derive(Debug, Clone)]
struct Sent {
    fingerprint: u64,
    timestamp: u32,
    packet: Arc<TreePacket>,
    /// Which run of the egress process sent it first.
    run: u32,
}

/// One stream to a viewer.
#[derive(Debug, Default)]
struct Stream {
    first: u64,
    sent: Vec<Option<Sent>>,
    highest: Option<SeqNo>,
    /// The highest number before each run of the egress process that went on with the viewer.
    resumed_after: Vec<(u32, u64)>,
}

impl Stream {
    fn guess(&self, seq: u16) -> SeqNo {
        self.highest.map_or(SeqNo::from_parts(0, seq), |highest| highest.nearest(seq))
    }

    fn get(&self, seq_no: SeqNo) -> Option<&Sent> {
        let index = seq_no.get().checked_sub(self.first)?;
        self.sent.get(usize::try_from(index).ok()?)?.as_ref()
    }

    /// Whether the numbers after this one may have been used by a process that died, as far as the next one knows.
    fn may_be_used(&self, number: u64) -> bool {
        let blocks = self.resumed_after.iter().map(|(_, highest)| *highest..highest + RESUME_JUMP_MAX);
        blocks.into_iter().any(|block| block.contains(&number))
    }

    /// Notes a packet; `Err` if another one left under its number.
    fn put(&mut self, seq_no: SeqNo, sent: Sent) -> Result<(), String> {
        if let Some(before) = self.get(seq_no) {
            if before.fingerprint != sent.fingerprint || before.packet != sent.packet {
                return Err(format!("{seq_no:?} served {} and {}", name(&before.packet), name(&sent.packet)));
            }
            return Ok(());
        }
        if self.sent.is_empty() {
            self.first = seq_no.get();
        }
        // What a dying process did not send any more may be sent by the next one.
        let before_first = self.first.saturating_sub(seq_no.get()) as usize;
        if before_first > 0 && sent.run == 1 {
            return Err(format!("{seq_no:?} is before the first number {}", self.first));
        }
        self.sent.splice(0..0, std::iter::repeat_n(None, before_first));
        self.first -= before_first as u64;
        let last_run = self.resumed_after.last().map_or(1, |(run, _)| *run);
        if sent.run > last_run {
            self.resumed_after.push((sent.run, self.highest.map_or(0, SeqNo::get)));
        }
        let index = seq_no.get() - self.first;
        let index = index as usize;
        if index >= self.sent.len() {
            self.sent.resize(index + 1, None);
        }
        self.sent[index] = Some(sent);
        self.highest = self.highest.max(Some(seq_no));
        Ok(())
    }
}

/// Which streams a viewer has.
#[derive(Debug, Clone, Copy)]
pub struct Streams {
    /// Sound.
    pub audio: Ssrc,
    /// Picture.
    pub video: Ssrc,
    /// Repeats of picture, if negotiated.
    pub rtx: Option<Ssrc>,
}

/// The tap on one viewer's datagrams.
pub struct Tap {
    rtp: RtpKey,
    rtcp: RtcpKey,
    streams: Streams,
    sent: BTreeMap<Ssrc, Stream>,
    /// Fingerprints of SRTCP by index.
    reports: BTreeMap<u32, u64>,
}

impl Tap {
    /// A tap that knows the viewer's receiving key; `highest` is the number before the first, if the viewer has watched
    /// before.
    ///
    /// # Panics
    /// If the cryptographic library is out of memory.
    #[must_use]
    pub fn new(key: &MasterKey, streams: Streams, highest: Option<SeqNo>) -> Self {
        let Streams { audio, video, rtx } = streams;
        let ssrcs = [Some(audio), Some(video), rtx].into_iter().flatten();
        Self {
            rtp: RtpKey::derive(key).expect("a key of the right length"),
            rtcp: RtcpKey::derive(key).expect("a key of the right length"),
            streams,
            sent: ssrcs.map(|ssrc| (ssrc, Stream { highest, ..Stream::default() })).collect(),
            reports: BTreeMap::new(),
        }
    }

    /// Opens a datagram that run `run` of the egress process sent.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(&mut self, published: &Published, run: u32, datagram: Vec<u8>) -> Result<Opened, String> {
        if rtcp::is_rtcp(&datagram) {
            self.open_reports(datagram)
        } else {
            self.open_media(published, run, datagram)
        }
    }

    fn open_media(&mut self, published: &Published, run: u32, mut bytes: Vec<u8>) -> Result<Opened, String> {
        let fingerprint = trace::tag(&bytes);
        let header = bytes.first_chunk::<12>().ok_or("a datagram shorter than an RTP header")?;
        let ssrc = Ssrc::new(u32::from_be_bytes([header[8], header[9], header[10], header[11]]));
        let Streams { audio, video, rtx } = self.streams;
        let kind = if ssrc == audio { Kind::Audio } else { Kind::Video };
        if ssrc != audio && ssrc != video && Some(ssrc) != rtx {
            return Err(format!("stream {ssrc} was never promised"));
        }
        let seq = u16::from_be_bytes([header[2], header[3]]);
        let header_len = header_len(&bytes).ok_or("an RTP header that is cut")?;
        let seq_no = self.sent.entry(ssrc).or_default().guess(seq);
        let length = self
            .rtp
            .open_in_place(&mut bytes, header_len, seq_no)
            .map_err(|error| format!("{ssrc} {seq_no:?} does not open: {error}"))?;
        let parsed = rtp::Packet::parse(&bytes[..length]).map_err(|error| error.to_string())?;
        let is_rtx = Some(ssrc) == rtx;
        let (media_seq_no, payload) = match parsed.payload.split_first_chunk::<2>() {
            Some((original, payload)) if is_rtx => {
                (self.sent.entry(video).or_default().guess(u16::from_be_bytes(*original)), payload)
            }
            _ if is_rtx => return Err("an RTX packet without its original number".into()),
            _ => (seq_no, parsed.payload),
        };
        let packet = published
            .by_payload(payload)
            .ok_or_else(|| format!("{ssrc} {seq_no:?} carries a payload that was never published"))?;
        let capture_time = packet.capture_time.to_bits().to_be_bytes();
        if parsed.extension(CAPTURE_TIME_ID) != Some(&capture_time[..]) || parsed.marker != packet.marker {
            return Err(format!("{ssrc} {seq_no:?} does not say what {} said", name(packet)));
        }
        let timestamp = parsed.timestamp;
        let sent = Sent { fingerprint, timestamp, packet: packet.clone(), run };
        if is_rtx {
            let original = self.sent.get(&video).and_then(|stream| stream.get(media_seq_no));
            // One that was missing when its place came may be repeated without ever having been sent.
            let is_good = original.is_none_or(|sent| sent.packet == *packet && sent.timestamp == timestamp);
            if !is_good {
                return Err(format!("{media_seq_no:?} is repeated as {}, which it was not", name(packet)));
            }
        }
        self.sent.entry(ssrc).or_default().put(seq_no, sent)?;
        let packet = packet.clone();
        Ok(Opened::Media(Media { ssrc, seq_no, media_seq_no, kind, timestamp, packet, run }))
    }

    fn open_reports(&mut self, mut bytes: Vec<u8>) -> Result<Opened, String> {
        let fingerprint = trace::hash(&bytes);
        let (length, index) =
            self.rtcp.open_in_place(&mut bytes).map_err(|error| format!("SRTCP does not open: {error}"))?;
        if self.reports.insert(index.get(), fingerprint).is_some_and(|before| before != fingerprint) {
            return Err(format!("SRTCP index {} served two packets", index.get()));
        }
        let mut infos = Vec::new();
        for packet in rtcp::parse(&bytes[..length]) {
            match packet.map_err(|error| error.to_string())? {
                Rtcp::SenderReport(report) => infos.push(report.info),
                Rtcp::SourceDescription(_) => {}
                _ => return Err("RTCP that an egress does not send".into()),
            }
        }
        infos.iter().try_for_each(|info| self.check_report(info))?;
        Ok(Opened::Reports(infos))
    }

    /// The report's line through capture time and timestamp must go through the newest packet, too.
    fn check_report(&self, info: &SenderInfo) -> Result<(), String> {
        let Some(stream) = self.sent.get(&info.ssrc) else {
            return Err(format!("a report on {} before its first packet", info.ssrc));
        };
        let Some(newest) = stream.highest.and_then(|highest| stream.get(highest)) else { return Ok(()) };
        let clock_rate = if info.ssrc == self.streams.audio { 48_000 } else { 90_000 };
        let ticks = info.rtp_timestamp.wrapping_sub(newest.timestamp) as i32;
        let length = Duration::from_micros(u64::from(ticks.unsigned_abs()) * 1_000_000 / clock_rate);
        let reported = if ticks < 0 { info.ntp.plus(length) } else { info.ntp.minus(length) };
        let captured = newest.packet.capture_time;
        if distance(reported, captured) > ALIGNMENT_MAX {
            return Err(format!(
                "a report on {} is {:?} off the capture time of {}",
                info.ssrc,
                distance(reported, captured),
                name(&newest.packet)
            ));
        }
        Ok(())
    }

    /// How many different numbers left in the media stream of this kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        let stream = self.sent.get(&self.ssrc(kind));
        stream.map_or(0, |stream| stream.sent.iter().flatten().count())
    }

    /// The packets of the tree that left, in the order of the viewer's numbers.
    pub fn packets(&self, kind: Kind) -> impl Iterator<Item = (SeqNo, &Arc<TreePacket>)> {
        let stream = self.sent.get(&self.ssrc(kind));
        let numbered = stream.map(|stream| (stream.first..).zip(&stream.sent));
        let present = numbered.into_iter().flatten();
        present.filter_map(|(seq_no, sent)| Some((SeqNo::new(seq_no), &sent.as_ref()?.packet)))
    }

    /// Every number that was left out must stand for a packet that never came to the egress, which `came` tells, or came
    /// so late that a newer piece had taken it over, or be one that a dead process may have used.
    ///
    /// # Errors
    /// The first gap that has no reason.
    pub fn check_gaps(&self, kind: Kind, came: impl Fn(Ssrc, SeqNo) -> bool) -> Result<(), String> {
        let Some(stream) = self.sent.get(&self.ssrc(kind)) else { return Ok(()) };
        let place = |packet: &TreePacket| (packet.ssrc, packet.seq_no);
        let sent: BTreeSet<_> = stream.sent.iter().flatten().map(|sent| place(&sent.packet)).collect();
        let numbered = (stream.first..).zip(&stream.sent);
        let mut present = numbered.filter_map(|(number, sent)| Some((number, sent.as_ref()?)));
        let Some(mut before) = present.next() else { return Ok(()) };
        for after in present {
            let numbers = after.0 - before.0;
            let (from, to) = (&before.1.packet, &after.1.packet);
            let is_one_piece =
                from.ssrc == to.ssrc && to.seq_no.get().checked_sub(from.seq_no.get()) == Some(numbers);
            if is_one_piece {
                let missing = (1..numbers).map(|step| from.seq_no.plus(step));
                let is_left_out =
                    |seq_no: &SeqNo| came(from.ssrc, *seq_no) && !sent.contains(&(from.ssrc, *seq_no));
                let is_taken_over = |seq_no: SeqNo| {
                    let later = stream.sent.iter().skip((after.0 - stream.first) as usize).flatten();
                    let mut later = later.map(|sent| &sent.packet).filter(|packet| packet.ssrc == from.ssrc);
                    later.any(|packet| packet.seq_no <= seq_no)
                };
                let mut missing = missing.into_iter();
                let left_out = missing.find(|seq_no| is_left_out(seq_no) && !is_taken_over(*seq_no));
                if let Some(seq_no) = left_out
                    && !stream.may_be_used(before.0)
                {
                    return Err(format!("{} {seq_no:?} came and was never sent on", from.ssrc));
                }
            } else if numbers > 1 {
                let is_resumed = after.1.run > 1 && numbers <= RESUME_JUMP_MAX;
                if !is_resumed {
                    return Err(format!("{numbers} numbers lie between {} and {}", name(from), name(to)));
                }
            }
            before = after;
        }
        Ok(())
    }

    const fn ssrc(&self, kind: Kind) -> Ssrc {
        match kind {
            Kind::Audio => self.streams.audio,
            Kind::Video => self.streams.video,
        }
    }
}

fn distance(one: NtpTime, other: NtpTime) -> Duration {
    one.saturating_since(other).max(other.saturating_since(one))
}

fn name(packet: &TreePacket) -> String {
    format!("{} {:?}{}", packet.ssrc, packet.seq_no, if packet.starts_keyframe { " (keyframe)" } else { "" })
}

/// The length of an RTP header with its extension; its payload may be sealed.
fn header_len(bytes: &[u8]) -> Option<usize> {
    if bytes.first()? & 0x10 == 0 {
        return Some(rtp::FIXED_HEADER_BYTES);
    }
    let words = u16::from_be_bytes([*bytes.get(14)?, *bytes.get(15)?]);
    let length = rtp::FIXED_HEADER_BYTES + 4 + usize::from(words) * 4;
    (length <= bytes.len()).then_some(length)
}
