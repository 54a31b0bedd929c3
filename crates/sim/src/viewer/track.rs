//! One stream at a viewer: jitter buffer, requests to repeat, decoder, and what must hold of all that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::{Kind, NtpTime, SeqNo, Ssrc};

use crate::tap::Media;

/// A packet may be this late before it is asked for.
const REORDER: Duration = Duration::from_millis(15);
/// Time between two requests for one packet.
const ASK_INTERVAL: Duration = Duration::from_millis(60);
/// Most missing packets; beyond that a browser starts anew.
const MISSING_MAX: u64 = 1000;
/// What comes within this time of the very first packet may belong before it.
const FIRST_WAIT: Duration = Duration::from_millis(30);
/// When a missing picture packet is given up.
const VIDEO_PATIENCE: Duration = Duration::from_millis(1000);
/// When a missing sound packet is given up.
const AUDIO_PATIENCE: Duration = Duration::from_millis(120);
/// Time between two requests for a keyframe, and until the first one.
const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(1000);

/// How far timestamps may step back where a resumed process begins a piece, ticks: what a ring holds.
const REPLAYED_MAX: i32 = 12 * 90_000;

/// A number that has not come.
#[derive(Debug)]
struct Missing {
    since: Instant,
    ask_at: Instant,
}

/// One stream.
#[derive(Debug)]
pub struct Track {
    pub ssrc: Ssrc,
    /// Numbers that were given up.
    pub given_up: u64,
    /// Whole frames or sounds that were played.
    pub played_count: u64,
    kind: Kind,
    highest: Option<SeqNo>,
    rtx_highest: Option<SeqNo>,
    /// What has come and waits for something before it.
    buffer: BTreeMap<SeqNo, Media>,
    missing: BTreeMap<SeqNo, Missing>,
    /// When the first packet came.
    first_at: Option<Instant>,
    /// The next to hand to the decoder.
    next: Option<SeqNo>,
    last: Option<Media>,
    /// The decoder has everything that it needs.
    is_decoding: bool,
    played: Option<NtpTime>,
    request_keyframe_at: Instant,
}

impl Track {
    pub const fn new(now: Instant, kind: Kind, ssrc: Ssrc, highest: Option<SeqNo>) -> Self {
        Self {
            ssrc,
            given_up: 0,
            played_count: 0,
            kind,
            highest,
            rtx_highest: highest,
            buffer: BTreeMap::new(),
            missing: BTreeMap::new(),
            first_at: None,
            next: None,
            last: None,
            is_decoding: false,
            played: None,
            request_keyframe_at: now,
        }
    }

    pub const fn highest(&self) -> Option<SeqNo> {
        self.highest
    }

    /// When the newest thing that was played was captured.
    pub const fn played(&self) -> Option<NtpTime> {
        self.played
    }

    /// A packet, or its repetition.
    pub fn receive(&mut self, now: Instant, media: &Media) -> Result<(), String> {
        let is_repeat = media.ssrc != self.ssrc;
        let highest = if is_repeat { &mut self.rtx_highest } else { &mut self.highest };
        // A browser begins with rollover counter zero and guesses from there (RFC 3711, section 3.3.1).
        let seq = media.seq_no.seq();
        let guess = highest.map_or(SeqNo::from_parts(0, seq), |highest| highest.nearest(seq));
        if guess != media.seq_no {
            let highest = *highest;
            return Err(format!("takes {:?} for {guess:?} after {highest:?}: cannot open it", media.seq_no));
        }
        let before = self.highest;
        if is_repeat {
            self.rtx_highest = self.rtx_highest.max(Some(media.seq_no));
            let original = self.highest.map(|highest| highest.nearest(media.media_seq_no.seq()));
            if original != Some(media.media_seq_no) {
                return Err(format!("takes the repeated {:?} for {original:?}", media.media_seq_no));
            }
        } else {
            self.highest = before.max(Some(media.seq_no));
            self.note_gap(now, before, media.seq_no);
        }
        let seq_no = media.media_seq_no;
        self.missing.remove(&seq_no);
        if self.next.is_some_and(|next| seq_no < next) {
            return Ok(());
        }
        self.first_at.get_or_insert(now);
        let held = self.buffer.entry(seq_no).or_insert_with(|| media.clone());
        if held.packet != media.packet || held.timestamp != media.timestamp {
            return Err(format!("got two different packets {seq_no:?}"));
        }
        Ok(())
    }

    fn note_gap(&mut self, now: Instant, before: Option<SeqNo>, seq_no: SeqNo) {
        let Some(before) = before.filter(|before| *before < seq_no) else { return };
        let count = seq_no.get() - before.get() - 1;
        if self.missing.len() as u64 + count > MISSING_MAX {
            // A browser forgets everything and asks for a keyframe.
            self.given_up += self.missing.len() as u64;
            self.missing.clear();
            self.buffer.clear();
            self.next = Some(seq_no);
            self.is_decoding = self.kind == Kind::Audio;
            return;
        }
        for number in before.get() + 1..seq_no.get() {
            self.missing.insert(SeqNo::new(number), Missing { since: now, ask_at: now + REORDER });
        }
    }

    const fn patience(&self) -> Duration {
        match self.kind {
            Kind::Audio => AUDIO_PATIENCE,
            Kind::Video => VIDEO_PATIENCE,
        }
    }

    /// Gives up what is missing for too long.
    pub fn give_up(&mut self, now: Instant) {
        let patience = self.patience();
        let before = self.missing.len();
        self.missing.retain(|_, missing| now < missing.since + patience);
        self.given_up += (before - self.missing.len()) as u64;
    }

    /// What to ask for now.
    pub fn poll_nack(&mut self, now: Instant) -> Vec<u16> {
        let mut seqs = Vec::new();
        for (seq_no, missing) in &mut self.missing {
            if missing.ask_at <= now {
                missing.ask_at = now + ASK_INTERVAL;
                seqs.push(seq_no.seq());
            }
        }
        seqs
    }

    /// Whether to ask for a keyframe now: packets come, and the decoder can make nothing of them.
    pub fn poll_keyframe_request(&mut self, now: Instant) -> bool {
        let is_due = !self.is_decoding && self.last.is_some() && self.request_keyframe_at <= now;
        if is_due {
            self.request_keyframe_at = now + KEYFRAME_REQUEST_INTERVAL;
        }
        is_due
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let patience = self.patience();
        let is_asking = self.kind == Kind::Video;
        let deadlines = self.missing.values().map(|missing| {
            let give_up_at = missing.since + patience;
            if is_asking { missing.ask_at.min(give_up_at) } else { give_up_at }
        });
        let is_stuck = is_asking && !self.is_decoding && self.last.is_some();
        let first = self.first_at.filter(|_| self.next.is_none()).map(|at| at + FIRST_WAIT);
        deadlines.chain(is_stuck.then_some(self.request_keyframe_at)).chain(first).min()
    }

    /// Hands to the decoder what is in order.
    pub fn release(&mut self, now: Instant) -> Result<(), String> {
        if self.next.is_none() && self.first_at.is_some_and(|at| at + FIRST_WAIT <= now) {
            self.next = self.buffer.keys().next().copied();
        }
        while let Some(next) = self.next {
            if let Some(media) = self.buffer.remove(&next) {
                self.next = Some(next.plus(1));
                self.decode(now, media)?;
            } else if self.missing.contains_key(&next) {
                break;
            } else if let Some(first) = self.buffer.keys().next().copied() {
                // Given up: the decoder goes on behind the hole, and needs a keyframe.
                self.next =
                    self.missing.keys().next().map_or(Some(first), |missing| Some(first.min(*missing)));
                if self.is_decoding && self.kind == Kind::Video {
                    self.is_decoding = false;
                    self.request_keyframe_at = now;
                }
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Takes the next packet in the order of numbers, and checks that it may follow the one before.
    fn decode(&mut self, now: Instant, media: Media) -> Result<(), String> {
        if let Some(last) = &self.last {
            check_order(self.kind, last, &media)?;
        }
        let packet = &media.packet;
        match self.kind {
            Kind::Audio => {
                self.played = Some(packet.capture_time);
                self.played_count += 1;
            }
            Kind::Video => {
                self.is_decoding |= packet.starts_keyframe;
                if self.last.is_none() && !packet.starts_keyframe {
                    self.request_keyframe_at = now + KEYFRAME_REQUEST_INTERVAL;
                }
                if self.is_decoding && packet.marker {
                    self.played = Some(packet.capture_time);
                    self.played_count += 1;
                }
            }
        }
        self.last = Some(media);
        Ok(())
    }
}

/// In the order of a viewer's numbers: sources go forward, but for a picture that starts again at a keyframe; numbers
/// without a gap are packets without a gap; timestamps never go back and are one for each frame.
fn check_order(kind: Kind, last: &Media, next: &Media) -> Result<(), String> {
    let (from, to) = (&last.packet, &next.packet);
    let describe = || {
        let of = |media: &Media| {
            let packet = &media.packet;
            let (ssrc, number, timestamp) = (packet.ssrc, packet.seq_no.get(), media.timestamp);
            format!("{ssrc} {number} as {} at {timestamp}", media.media_seq_no.get())
        };
        format!("{} after {}", of(next), of(last))
    };
    let is_contiguous = next.media_seq_no == last.media_seq_no.plus(1);
    let is_same_source = from.ssrc == to.ssrc;
    let starts = kind == Kind::Video && to.starts_keyframe;
    // The head of a picture that starts again may be lost on the way.
    let may_restart = starts || (kind == Kind::Video && !is_contiguous);
    let goes_back = is_same_source && to.seq_no <= from.seq_no;
    if goes_back && !may_restart {
        return Err(format!("{kind} goes back: {}", describe()));
    }
    let hides_gap = is_contiguous && to.seq_no != from.seq_no.plus(1);
    if hides_gap && !starts && (is_same_source || kind == Kind::Video) {
        return Err(format!("{kind} hides a gap: {}", describe()));
    }
    let step = next.timestamp.wrapping_sub(last.timestamp) as i32;
    // A process that resumes a viewer knows where a replay or a piece began, not how far it came.
    let is_new_piece = starts || (!is_contiguous && (may_restart || !is_same_source));
    if next.run > 1 && is_new_piece && step > -REPLAYED_MAX {
        return Ok(());
    }
    let is_same_frame = is_same_source && from.timestamp == to.timestamp && !starts && !goes_back;
    let is_good = if is_same_frame { step == 0 } else { step > 0 };
    if !is_good {
        return Err(format!("{kind} timestamps step by {step}: {}", describe()));
    }
    Ok(())
}
