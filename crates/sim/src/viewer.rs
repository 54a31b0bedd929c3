//! A model viewer: a browser as far as RTP goes.
//!
//! It puts packets in order, asks again for what is missing (NACK), gives up after a while, asks for a keyframe when
//! its decoder is stuck (PLI), and reports each second (RR). And it knows what must hold of what it gets.

mod keys;
mod track;

use std::rc::Rc;
use std::time::{Duration, Instant};

use egress::{ViewerId, ViewerSetup};
use media_core::rtcp::{self, ReportBlock};
use model::{Bitrate, BroadcastId, Kind, NtpTime, SeqNo, Ssrc};
use srtp::{RtcpIndex, RtcpKey};

use crate::network::{Conditions, NodeIndex};
use crate::random::Random;
use crate::tap::{Media, Opened, Streams, Tap};
pub use keys::Style;
use track::Track;

/// Time between two receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// SSRC that viewers send from.
const OWN_SSRC: Ssrc = Ssrc::new(1);

/// Where the numbers of a viewer begin that is about to wrap: far enough below that a burst of loss cannot hide it.
pub const ABOUT_TO_WRAP: u64 = 65_300;

/// Whether it still watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It does.
    Watching,
    /// Its machine is gone without a word; the egress goes on until consent expires.
    Vanished,
    /// It said goodbye.
    Left,
}

/// One viewer.
pub struct Viewer {
    /// Its name.
    pub id: ViewerId,
    /// The egress that serves it.
    pub node: NodeIndex,
    /// What it watches.
    pub broadcast: BroadcastId,
    /// What its datagrams suffer.
    pub conditions: Conditions,
    /// Whether it still watches.
    pub presence: Presence,
    /// The tap on what is sent to it.
    pub tap: Tap,
    style: Style,
    rtcp: RtcpKey,
    next_index: Option<RtcpIndex>,
    audio: Track,
    video: Track,
    report_at: Instant,
}

impl Viewer {
    /// A viewer that joins now, and what its egress must know of it.
    ///
    /// # Panics
    /// If the cryptographic library is out of memory.
    #[must_use]
    pub fn new(
        now: Instant,
        id: ViewerId,
        (node, broadcast): (NodeIndex, BroadcastId),
        style: Style,
        random: &mut Random,
    ) -> (Self, ViewerSetup) {
        let setup = keys::setup(now, id, &style, random);
        let ssrc = |kind| keys::ssrc(id, kind);
        let rtx = style.rtx.then(|| keys::rtx_ssrc(id));
        let streams = Streams { audio: ssrc(Kind::Audio), video: ssrc(Kind::Video), rtx };
        let highest = style.is_about_to_wrap.then(|| SeqNo::new(ABOUT_TO_WRAP - 1));
        let viewer = Self {
            id,
            node,
            broadcast,
            conditions: style.conditions,
            presence: Presence::Watching,
            tap: Tap::new(&setup.send, streams, highest),
            rtcp: RtcpKey::derive(&setup.receive).expect("a key of the right length"),
            next_index: Some(RtcpIndex::ZERO),
            audio: Track::new(now, Kind::Audio, streams.audio, highest),
            video: Track::new(now, Kind::Video, streams.video, highest),
            report_at: now + REPORT_INTERVAL,
            style,
        };
        (viewer, setup)
    }

    /// A datagram has come.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn receive(&mut self, now: Instant, opened: &Opened) -> Result<(), String> {
        match opened {
            Opened::Media(media) => self.media(now, media),
            Opened::Reports(_) => Ok(()),
        }
    }

    fn media(&mut self, now: Instant, media: &Media) -> Result<(), String> {
        let track = self.track_mut(media.kind);
        track.receive(now, media)?;
        track.release(now)
    }

    /// When it does something by itself.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let tracks = [self.audio.poll_timeout(), self.video.poll_timeout()];
        let is_watching = self.presence == Presence::Watching;
        tracks.into_iter().flatten().chain([self.report_at]).min().filter(|_| is_watching)
    }

    /// Does what is due; gives the datagrams to send.
    ///
    /// # Errors
    /// What is wrong with what it got.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<Vec<Rc<[u8]>>, String> {
        let mut datagrams = Vec::new();
        self.audio.give_up(now);
        self.audio.release(now)?;
        self.video.give_up(now);
        self.video.release(now)?;
        let missing = self.video.poll_nack(now);
        if !missing.is_empty() {
            let mut compound = Vec::new();
            rtcp::write::nack(&mut compound, OWN_SSRC, self.video.ssrc, missing);
            datagrams.extend(self.seal(&compound));
        }
        if self.video.poll_keyframe_request(now) {
            datagrams.extend(self.keyframe_request());
        }
        if self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            let blocks: Vec<_> = [&self.audio, &self.video].into_iter().filter_map(block).collect();
            let mut compound = Vec::new();
            rtcp::write::receiver_report(&mut compound, OWN_SSRC, &blocks);
            if let Some(estimate) = self.style.estimate {
                let sources = [self.video.ssrc];
                rtcp::write::receiver_estimate(&mut compound, OWN_SSRC, estimate, &sources);
            }
            datagrams.extend(self.seal(&compound));
        }
        Ok(datagrams)
    }

    /// A wish for a keyframe.
    pub fn keyframe_request(&mut self) -> Option<Rc<[u8]>> {
        let mut compound = Vec::new();
        rtcp::write::picture_loss_indication(&mut compound, OWN_SSRC, self.video.ssrc);
        self.seal(&compound)
    }

    /// A goodbye.
    pub fn goodbye(&mut self) -> Option<Rc<[u8]>> {
        let mut compound = Vec::new();
        rtcp::write::receiver_report(&mut compound, OWN_SSRC, &[]);
        rtcp::write::goodbye(&mut compound, &[OWN_SSRC]);
        self.seal(&compound)
    }

    /// Whether it can show pictures of this codec.
    #[must_use]
    pub fn decodes(&self, codec: model::Codec) -> bool {
        keys::FORMATS.iter().any(|(format, _)| *format == codec)
    }

    /// When the newest thing that it played was captured.
    #[must_use]
    pub const fn newest_played(&self, kind: Kind) -> Option<NtpTime> {
        match kind {
            Kind::Audio => self.audio.played(),
            Kind::Video => self.video.played(),
        }
    }

    /// Numbers that it gave up.
    #[must_use]
    pub const fn given_up(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Audio => self.audio.given_up,
            Kind::Video => self.video.given_up,
        }
    }

    /// Whole pictures and sounds that it played.
    #[must_use]
    pub const fn played_count(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Audio => self.audio.played_count,
            Kind::Video => self.video.played_count,
        }
    }

    const fn track_mut(&mut self, kind: Kind) -> &mut Track {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }

    fn seal(&mut self, compound: &[u8]) -> Option<Rc<[u8]>> {
        let index = self.next_index?;
        self.next_index = index.next();
        let mut bytes = compound.to_vec();
        bytes.resize(compound.len() + self.rtcp.profile().rtcp_overhead(), 0);
        self.rtcp.seal_in_place(&mut bytes, compound.len(), index).ok()?;
        Some(bytes.into())
    }
}

fn block(track: &Track) -> Option<ReportBlock> {
    let highest = track.highest()?;
    Some(ReportBlock {
        ssrc: track.ssrc,
        fraction_lost: 0,
        lost: i32::try_from(track.given_up).unwrap_or(i32::MAX),
        highest_seq: highest.get() as u32,
        jitter: 0,
        last_report: 0,
        delay: 0,
    })
}

/// What a slow viewer says it can take.
pub const SLOW: Bitrate = Bitrate::kbps(300);
