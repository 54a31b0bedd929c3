//! What viewers say: reports, requests to repeat, requests for a keyframe, estimates, arrivals, goodbyes.

use std::time::{Duration, Instant};

use media_core::rtcp::{self, Nack, Packet, ReportBlock};
use model::{Bitrate, Kind, Ssrc};

use crate::broadcast::Fan;
use crate::controller;
use crate::record::ViewerId;
use crate::replay::Replay;
use crate::report;
use crate::send::{SendBatch, Sending};
use crate::shard::{Config, Event, Shard};
use crate::stats::DropReason;
use crate::stream::Stream;
use crate::ticks::want_keyframe;
use crate::track::{Holding, Phase, Place};
use crate::transport;
use crate::viewer::Viewer;

/// What a viewer may ask for again at its start, as far as [the burst of its layer](RTX_BURST_BYTES_MIN) goes: a burst of loss in
/// the keyframe it starts with.
pub const RTX_BYTES_AT_START: u64 = 64 << 10;
/// Beyond what a second brings, a layer may be asked for again in a burst of so much, however slow it is: a keyframe.
const RTX_BURST_BYTES_MIN: u64 = 24 << 10;
/// Repeats a viewer may always have, however slow its layer is.
const RTX_RATE_MIN: Bitrate = Bitrate::kbps(64);
/// A keyframe on its way answers a request that crossed it; a publisher that answers needs no longer for a new one.
const KEYFRAME_GRACE: Duration = Duration::from_millis(500);
/// A viewer that still asks so long after the keyframe of its replay did not get that one. Firefox drops what comes within
/// some 20 ms of the end of the handshake, cannot know that anything is missing, and asks 200 ms later.
const REPLAY_GRACE: Duration = Duration::from_millis(150);
/// A publisher that will send a keyframe by itself within this time is waited for.
const KEYFRAME_SOON: Duration = Duration::from_secs(1);
/// Who asks so long after the last packet of its replay, while nothing comes, asks because nothing comes: browsers do after
/// three seconds without a picture. Who lost something asks at once, and again and again.
const LACK: Duration = Duration::from_secs(1);

/// A shard that is behind leaves viewers this part of their budget for repeats, so that live media goes on for all: the
/// worst connections feel it first.
const BEHIND_SHARE: u64 = 4;

/// What decides how far a viewer's wishes are met.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    pub config: &'a Config,
    /// Packets wait for the shard.
    pub is_behind: bool,
    /// So many of the best layers are left out, because the shard cannot keep up.
    pub layers_left_out: u8,
}

/// Why a datagram of a viewer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtcpError {
    /// No such viewer.
    #[error("the viewer is not known")]
    UnknownViewer,
    /// The datagram is not authentic.
    #[error("the SRTCP packet does not authenticate")]
    NotAuthentic,
    /// The datagram came before.
    #[error("the SRTCP packet was seen before")]
    Replayed,
}

/// What a viewer last reported of a track (RFC 3550, section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    /// Share of packets lost since the report before, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost in all.
    pub lost: i32,
    /// Interarrival jitter, in ticks of the clock.
    pub jitter: u32,
    /// Round trip, once a sender report was answered.
    pub round_trip: Option<Duration>,
}

impl Shard {
    /// Takes an SRTCP datagram of a viewer, which is opened in place. It proves consent too.
    ///
    /// # Errors
    /// [`RtcpError`] if it is not the viewer's; it is counted, and harms nobody. What is broken inside an authentic one
    /// is skipped and counted.
    pub fn handle_rtcp(
        &mut self,
        now: Instant,
        viewer: ViewerId,
        datagram: &mut [u8],
        out: &mut impl SendBatch,
    ) -> Result<(), RtcpError> {
        let slot = self.by_id.get(&viewer).copied().ok_or(RtcpError::UnknownViewer)?;
        let Some(viewer) = self.viewers.get_mut(slot).and_then(Option::as_mut) else {
            return Err(RtcpError::UnknownViewer);
        };
        let length = viewer.open_rtcp(datagram).map_err(|reason| {
            self.stats.drop(reason);
            if reason == DropReason::RtcpReplay { RtcpError::Replayed } else { RtcpError::NotAuthentic }
        })?;
        self.stats.rtcp_received += 1;
        viewer.heard(now);
        let Some(fan) = self.fans.get_mut(viewer.fan).and_then(Option::as_mut) else { return Ok(()) };
        let rules = Rules {
            config: &self.config,
            is_behind: self.behind_until.is_some_and(|at| now < at),
            layers_left_out: self.overload.layers(),
        };
        let mut sending = Sending {
            now,
            out,
            stats: &mut self.stats,
            events: &mut self.events,
            payload: &mut self.payload,
        };
        for packet in rtcp::parse(&datagram[..length]) {
            match packet {
                Ok(packet) => handle_packet(rules, viewer, fan, &packet, &mut sending),
                Err(_) => sending.stats.drop(DropReason::RtcpMalformed),
            }
        }
        // Not at once: a train may be at work, whose packets are in the rings already. Where there is nothing to choose it has
        // time until the viewer's next turn.
        let has_news = viewer.layering.as_mut().is_some_and(|layering| layering.take_news());
        if has_news && fan.has_choice() {
            self.wake(now, slot);
        } else {
            self.schedule(slot);
        }
        Ok(())
    }

    /// What a viewer last reported of a track.
    #[must_use]
    pub fn reception(&self, viewer: ViewerId, kind: Kind) -> Option<Reception> {
        self.viewer(viewer)?.track(kind)?.reception
    }

    /// What a viewer can take: by its own estimate (REMB), or by when packets arrive where it tells that; `None` while nobody
    /// knows.
    #[must_use]
    pub fn estimate(&self, viewer: ViewerId) -> Option<Bitrate> {
        self.viewer(viewer)?.estimate
    }
}

fn handle_packet<B: SendBatch>(
    rules: Rules<'_>,
    viewer: &mut Viewer,
    fan: &mut Fan,
    packet: &Packet<'_>,
    sending: &mut Sending<'_, B>,
) {
    match packet {
        Packet::ReceiverReport(report) => {
            report.blocks().for_each(|block| handle_block(viewer, &block, sending));
        }
        // A player that sends nothing has no reason for an SR, but blocks are blocks.
        Packet::SenderReport(report) => {
            report.blocks().for_each(|block| handle_block(viewer, &block, sending));
        }
        Packet::Nack(nack) => handle_nack(rules, viewer, fan, nack, sending),
        Packet::PictureLossIndication(request) => {
            handle_keyframe_request(rules.config, viewer, fan, request.media, sending);
        }
        Packet::FullIntraRequest(request) => {
            request
                .entries()
                .for_each(|(media, _)| handle_keyframe_request(rules.config, viewer, fan, media, sending));
        }
        // Who tells when packets arrive estimates by repeats alone, if at all: the others have a number.
        Packet::ReceiverEstimate(_) if viewer.tells_arrivals() => {}
        Packet::ReceiverEstimate(estimate) => {
            viewer.estimate = Some(estimate.bitrate);
            if let Some(layering) = &mut viewer.layering {
                layering.estimated(sending.now, estimate.bitrate);
            }
        }
        Packet::Goodbye(_) => sending.events.push_back(Event::Bye { viewer: viewer.id }),
        Packet::TransportFeedback(feedback) => transport::handle(viewer, fan, feedback, sending),
        Packet::SourceDescription(_) => {}
    }
}

/// Which of a viewer's tracks has this SSRC.
fn kind_of(viewer: &Viewer, ssrc: Ssrc) -> Option<Kind> {
    let is_of = |kind: &Kind| viewer.track(*kind).is_some_and(|track| track.out.ssrc == ssrc);
    [Kind::Audio, Kind::Video].into_iter().find(is_of)
}

fn handle_block<B>(viewer: &mut Viewer, block: &ReportBlock, sending: &mut Sending<'_, B>) {
    let Some(kind) = kind_of(viewer, block.ssrc) else { return };
    let Some(track) = viewer.track_mut(kind) else { return };
    let answer = report::round_trip(sending.now, track, block);
    let round_trip = answer.map(|(round_trip, _)| round_trip);
    track.reception = Some(Reception {
        fraction_lost: block.fraction_lost,
        lost: block.lost,
        jitter: block.jitter,
        round_trip,
    });
    if let Some(source) = track.source {
        let jitter = ticks_time(block.jitter, source.clock_rate);
        sending.stats.reports(kind).record(block.fraction_lost, jitter, round_trip);
    }
    let ReportBlock { fraction_lost, lost, highest_seq, .. } = *block;
    let sent = track.payload_sent();
    match (viewer.layering.as_mut(), kind) {
        (Some(layering), Kind::Video) => {
            let report = controller::Report { fraction_lost, lost, highest_seq, sent, round_trip: answer };
            layering.reported(sending.now, report);
        }
        (Some(layering), Kind::Audio) => layering.hold.sound_reported(sending.now, fraction_lost, round_trip),
        (None, _) => {}
    }
}

fn ticks_time(ticks: u32, clock_rate: u32) -> Duration {
    Duration::from_nanos(u64::from(ticks) * 1_000_000_000 / u64::from(clock_rate.max(1)))
}

/// Repeats what the ring still has, within the viewer's budget: a share of its layer's rate.
fn handle_nack<B: SendBatch>(
    rules: Rules<'_>,
    viewer: &mut Viewer,
    fan: &mut Fan,
    nack: &Nack<'_>,
    sending: &mut Sending<'_, B>,
) {
    let Some(kind) = kind_of(viewer, nack.media) else { return };
    let Some(track) = viewer.track(kind).filter(|track| track.out.nack) else { return };
    // What a held picture lacks would be missing from the sound, and what a connection has no room for, from the layer that it
    // has room for.
    let is_held = track.holding == Holding::Held || track.withholds_repeats(sending.now);
    let (outdated, round_trip) =
        (track.outdated_before, track.reception.and_then(|reception| reception.round_trip));
    // Which is of a second ago; what grows since then makes it longer.
    let queue = viewer.layering.as_ref().map_or(Duration::ZERO, |layering| layering.controller.queue());
    let round_trip = round_trip.map(|round_trip| round_trip + queue);
    let stream = track.source.and_then(|source| fan.stream_mut(source.ssrc));
    let layer_rate = stream.map_or(Bitrate::default(), |stream| stream.rate(sending.now));
    let rate =
        Bitrate::bps(layer_rate.as_bps() * u64::from(rules.config.rtx_percent) / 100).max(RTX_RATE_MIN);
    let burst = rate.bytes_in(Duration::from_secs(1)).max(RTX_BURST_BYTES_MIN);
    let share = if rules.is_behind { BEHIND_SHARE } else { 1 };
    let (rate, burst) = (Bitrate::bps(rate.as_bps() / share), burst / share);
    viewer.rtx_budget.refill(sending.now, rate, burst);
    for seq in nack.seqs() {
        sending.stats.nacked += 1;
        let found = viewer.track(kind).and_then(|track| {
            let seq_no = track.meant(seq);
            let segment = track.mapping.owner(seq_no)?;
            let packet = segment.find(seq_no, &fan.stream(segment.source)?.ring)?;
            // Only what was sent: a replay may not have come so far, and the rest is on its way anyway.
            let place = Place { seq_no, segment: *segment };
            let is_current = track.mapping.current() == Some(segment);
            let is_to_come =
                matches!(track.phase, Phase::Replaying(replay) if is_current && packet.seq_no >= replay.next);
            (track.is_sent(&place) && !is_to_come).then_some((place, packet))
        });
        match found {
            None => sending.stats.drop(DropReason::NackUnknown),
            Some((place, _)) if place.seq_no < outdated => sending.stats.drop(DropReason::NackOutdated),
            Some(_) if is_held || !viewer.rtx_budget.has_any() => sending.stats.drop(DropReason::NackBudget),
            Some(_) if kind == Kind::Video && viewer.is_repeated(sending.now, seq, round_trip) => {
                sending.stats.drop(DropReason::NackEarly);
            }
            Some((place, packet)) => {
                let bytes = viewer.resend(sending, kind, &place, packet);
                sending.stats.rtx.add(bytes);
                viewer.rtx_budget.spend(bytes);
            }
        }
    }
}

/// A viewer's decoder cannot go on.
///
/// The publisher is asked, and never waited for: it may be deaf. Unless a keyframe is just passing, or comes within
/// [`KEYFRAME_GRACE`] (or is due within [`KEYFRAME_SOON`] by the publisher's habit), the viewer starts again from the
/// cached one, more and more seldom ([`Track::may_restart_at`]): a storm of requests costs few replays. Who is still waiting gets a
/// keyframe anyway. Who is catching up got one already, so it starts again at once, and the publisher is left alone.
///
/// While a publisher is silent nobody starts again for want of a picture: it would see what it has seen. Who cannot decode
/// what comes after that asks then. Nor does who is about to get a worse layer, with a keyframe that there is room for.
fn handle_keyframe_request<B: SendBatch>(
    config: &Config,
    viewer: &mut Viewer,
    fan: &mut Fan,
    media: Ssrc,
    sending: &mut Sending<'_, B>,
) {
    sending.stats.keyframe_requests_received += 1;
    let now = sending.now;
    let Some(track) = viewer.video.as_mut().filter(|track| track.out.ssrc == media) else { return };
    let Some(source) = track.source.filter(|_| !track.gives_way(now)) else { return };
    let grace = match track.phase {
        Phase::Live => KEYFRAME_GRACE,
        Phase::Replaying(replay) if replay.has_keyframe => REPLAY_GRACE,
        Phase::Idle | Phase::Waiting | Phase::Replaying(_) => return,
    };
    let is_passing = |at: Instant| now.saturating_duration_since(at) < grace;
    if track.restart_at.is_some() || track.keyframe_at.is_some_and(is_passing) {
        return;
    }
    let is_silent = fan.stream(source.ssrc).is_none_or(|stream| !stream.is_active(now));
    let lacks = |replay: Replay| now.saturating_duration_since(replay.sent_at) >= LACK;
    if is_silent && matches!(track.phase, Phase::Replaying(replay) if lacks(replay)) {
        return;
    }
    let mut at = now;
    if matches!(track.phase, Phase::Live) {
        want_keyframe(config, fan, source.ssrc, sending);
        if is_silent {
            return;
        }
        at = now + KEYFRAME_GRACE;
        let next = fan.stream(source.ssrc).and_then(Stream::next_keyframe_at);
        if let Some(next) = next.filter(|next| (now..now + KEYFRAME_SOON).contains(next)) {
            at = next + KEYFRAME_GRACE;
        }
    }
    track.restart_at = Some(track.may_restart_at().map_or(at, |earliest| at.max(earliest)));
}
