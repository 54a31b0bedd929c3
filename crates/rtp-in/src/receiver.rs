//! One description's publisher: its runs begin with media, go on while there is any, and end with it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ingest::{Drops, Identity, Output, Plain, PlainPacket, PlainTrack, Stats};
use ipnet::IpNet;
use media_core::{rtcp, rtp};
use model::{NtpTime, SeqNo, Ssrc};
use packetize::{Payload, Received};

use crate::description::{Description, Track};
use crate::reorder::Reorder;
use crate::sender::{Header, Lock, Verdict};

/// Once one track is heard, the others are waited for so long before those that are there are published: longer than a
/// sender holds its place, so that one that begins anew comes with all its tracks.
pub const OTHER_WITHIN: Duration = Duration::from_secs(2);
/// Without any media for so long, the broadcast has no publisher.
pub const SILENCE: Duration = Duration::from_secs(5);
/// Whoever may not publish asks again after this.
pub const RETRY: Duration = Duration::from_secs(2);
/// What fits every path with the headers of a viewer's packet: as much as browsers send.
const PAYLOAD_BYTES_MAX: usize = 1200;
/// Packets that wait until it is known what is published: two seconds of 40 Mbit/s.
const WAITING_MAX: usize = 8192;

/// What a receiver wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Media comes: answer with [`Receiver::publish`] or [`Receiver::refuse`].
    PublishRequested,
    /// Something of the present run, which has been asked for.
    Output(Output),
    /// The present run has ended, or what was asked for is not wanted any more.
    Ended {
        /// Why, in words for the log.
        reason: String,
        /// What it has sent.
        stats: Box<Stats>,
    },
}

/// A packet in its order.
#[derive(Debug)]
struct Packet {
    arrived: (Instant, NtpTime),
    payload: Payload,
}

/// A packet with its place among those that go out.
#[derive(Debug)]
struct Placed {
    track: usize,
    place: u64,
    packet: Packet,
}

/// What a sender said of its clock: when that came, its time, and the RTP timestamp of it.
#[derive(Debug, Clone, Copy)]
struct Report {
    came: (Instant, NtpTime),
    from: IpAddr,
    ssrc: Ssrc,
    told: (NtpTime, u32),
}

/// One track.
#[derive(Debug)]
struct Input {
    track: Track,
    lock: Lock,
    order: Reorder<Packet>,
    received: Received,
    report: Option<Report>,
    /// In the present run.
    has_spoken: bool,
    /// Of the next packet, in the present run.
    place: u64,
}

#[derive(Debug)]
enum State {
    /// Nothing is heard.
    Idle,
    /// The other tracks are waited for.
    Collecting { until: Instant },
    /// Whether it may publish is being decided.
    Asking,
    /// It publishes.
    Publishing(Box<Plain>),
    /// It may not publish at present.
    Refused { until: Instant },
}

/// Receives what one description announces.
#[derive(Debug)]
pub struct Receiver {
    inputs: Vec<Input>,
    /// Nobody else may send, unless it is empty.
    allowed: Vec<IpNet>,
    state: State,
    heard_at: Option<Instant>,
    waiting: VecDeque<Placed>,
    events: VecDeque<Event>,
    drops: Drops,
    stranger: Option<SocketAddr>,
}

impl Input {
    fn new(track: Track) -> Self {
        let received = received(&track);
        Self {
            track,
            lock: Lock::default(),
            order: Reorder::new(),
            received,
            report: None,
            has_spoken: false,
            place: 0,
        }
    }

    fn plain(&self) -> PlainTrack {
        PlainTrack { codec: self.track.codec, profile_level_id: self.track.profile_level_id }
    }

    /// Its report, if it is of the present sender.
    fn report(&self) -> Option<Report> {
        let present = self.lock.present()?;
        self.report.filter(|report| (report.from, report.ssrc) == (present.from.ip(), present.ssrc))
    }
}

fn received(track: &Track) -> Received {
    let mut received = Received::new(track.codec, PAYLOAD_BYTES_MAX);
    received.learn(track.parameter_sets.iter().cloned());
    received
}

impl Receiver {
    /// A receiver that takes nothing but from these networks, if there are any.
    #[must_use]
    pub fn new(description: Description, allowed: Vec<IpNet>) -> Self {
        Self {
            inputs: description.tracks.into_iter().map(Input::new).collect(),
            allowed,
            state: State::Idle,
            heard_at: None,
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            drops: Drops::default(),
            stranger: None,
        }
    }

    /// A datagram came now to the port of a track's media, when our wallclock showed `wallclock`.
    pub fn handle_media(
        &mut self,
        arrived: (Instant, NtpTime),
        track: usize,
        from: SocketAddr,
        bytes: &[u8],
    ) {
        if rtcp::is_rtcp(bytes) {
            return self.handle_control(arrived, track, from, bytes);
        }
        let now = arrived.0;
        let Ok(packet) = rtp::Packet::parse(bytes) else {
            self.drops.malformed += 1;
            return;
        };
        if !self.admits(now, track, from.ip()) {
            return self.foreign(from);
        }
        let Some(input) = self.inputs.get_mut(track) else { return };
        if packet.payload_type != input.track.payload_type {
            self.drops.payload_type += 1;
            return;
        }
        let header = Header { from, ssrc: packet.ssrc, seq: packet.seq };
        match input.lock.judge(now, header, bytes) {
            Verdict::Taken(number) => self.take(arrived, track, number, bytes),
            Verdict::Begun { number, first: (came_at, first) } => {
                if input.has_spoken {
                    self.end("the sender has begun anew");
                }
                self.begin(track);
                let came = (came_at, arrived.1.minus(now.saturating_duration_since(came_at)));
                self.take(came, track, SeqNo::new(number.get() - 1), &first);
                self.take(arrived, track, number, bytes);
            }
            Verdict::Waits => {}
            Verdict::Foreign => self.foreign(from),
            Verdict::OtherStream => self.drops.unauthentic += 1,
        }
    }

    /// A datagram came to the port of a track's RTCP.
    pub fn handle_control(
        &mut self,
        arrived: (Instant, NtpTime),
        track: usize,
        from: SocketAddr,
        bytes: &[u8],
    ) {
        if !self.admits(arrived.0, track, from.ip()) {
            return self.foreign(from);
        }
        for packet in rtcp::parse(bytes) {
            match packet {
                Ok(rtcp::Packet::SenderReport(report)) => {
                    let told = (report.info.ntp, report.info.rtp_timestamp);
                    let report = Report { came: arrived, from: from.ip(), ssrc: report.info.ssrc, told };
                    self.reported(track, report);
                }
                Ok(rtcp::Packet::Goodbye(goodbye)) => self.goodbye(track, from.ip(), goodbye.ssrcs()),
                Ok(_) => {}
                Err(_) => self.drops.malformed += 1,
            }
        }
    }

    /// The present run is published under this identity.
    pub fn publish(&mut self, identity: Identity) {
        if !matches!(self.state, State::Asking) {
            return;
        }
        let tracks: Vec<PlainTrack> = self.inputs.iter().map(Input::plain).collect();
        let mut plain = Box::new(Plain::new(identity, &tracks));
        for (track, input) in self.inputs.iter().enumerate() {
            if let Some(report) = input.report() {
                plain.sender_report(report.came, track, report.told);
            }
        }
        let waiting = std::mem::take(&mut self.waiting);
        let packets: Vec<Output> = waiting.iter().filter_map(|placed| output(&mut plain, placed)).collect();
        plain.take_news();
        self.state = State::Publishing(plain);
        // What waited has shown what the tracks really are.
        self.announce();
        self.events.extend(packets.into_iter().map(Event::Output));
    }

    /// The present run may not be published, or not any more: nothing is told of it until it asks again.
    pub fn refuse(&mut self, now: Instant) {
        self.drops.not_published += self.waiting.len() as u64;
        self.waiting.clear();
        self.events.clear();
        self.state = State::Refused { until: now + RETRY };
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        for track in 0..self.inputs.len() {
            self.drain(now, track);
        }
        match self.state {
            State::Collecting { until } if until <= now => self.ask(),
            State::Refused { until } if until <= now => self.rest(),
            State::Idle
            | State::Collecting { .. }
            | State::Asking
            | State::Publishing(_)
            | State::Refused { .. } => {}
        }
        if self.heard_at.is_some_and(|at| at + SILENCE <= now) {
            self.stop(&format!("no media has come for {} seconds", SILENCE.as_secs()));
            self.inputs.iter_mut().for_each(|input| input.lock.release());
        }
    }

    /// When [`Receiver::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_state = match self.state {
            State::Collecting { until } | State::Refused { until } => Some(until),
            State::Idle | State::Asking | State::Publishing(_) => None,
        };
        let silent_at = self.heard_at.map(|at| at + SILENCE);
        self.inputs.iter().filter_map(|input| input.order.due_at()).chain(of_state).chain(silent_at).min()
    }

    /// What to do next; call until `None` after every change.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What the present run has sent.
    #[must_use]
    pub fn stats(&mut self, now: Instant) -> Stats {
        let State::Publishing(plain) = &mut self.state else { return Stats::default() };
        let mut stats = plain.stats(now);
        for (layer, input) in stats.layers.iter_mut().zip(&self.inputs) {
            layer.recovered += input.order.reordered();
        }
        stats
    }

    /// Datagrams that led to nothing since the last call.
    #[must_use]
    pub fn take_drops(&mut self) -> Drops {
        std::mem::take(&mut self.drops)
    }

    /// Somebody who was not listened to since the last call.
    pub const fn take_stranger(&mut self) -> Option<SocketAddr> {
        self.stranger.take()
    }

    /// Whether the address may send this track. Where nobody is named, all tracks come from one address.
    fn admits(&self, now: Instant, track: usize, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let Some(input) = self.inputs.get(track) else { return false };
        let is_allowed = self.allowed.is_empty() || self.allowed.iter().any(|net| net.contains(&address));
        if !is_allowed || !input.track.sources.admit(address) {
            return false;
        }
        let is_named = !self.allowed.is_empty() || !input.track.sources.included.is_empty();
        is_named || {
            let mut others = self.inputs.iter().enumerate().filter(|(index, _)| *index != track);
            others.all(|(_, other)| {
                let held = other.lock.present().filter(|present| present.holds(now));
                held.is_none_or(|present| present.from.ip().to_canonical() == address)
            })
        }
    }

    fn foreign(&mut self, from: SocketAddr) {
        self.drops.unknown_source += 1;
        self.stranger = Some(from);
    }

    /// A sender of the track begins; its numbers have nothing to do with those of the one before.
    fn begin(&mut self, track: usize) {
        let input = &mut self.inputs[track];
        input.order = Reorder::new();
        input.received = received(&input.track);
    }

    fn take(&mut self, arrived: (Instant, NtpTime), track: usize, number: SeqNo, bytes: &[u8]) {
        let Ok(packet) = rtp::Packet::parse(bytes) else { return };
        self.heard_at = Some(arrived.0);
        let payload = Payload {
            timestamp: packet.timestamp,
            marker: packet.marker,
            bytes: Bytes::copy_from_slice(packet.payload),
        };
        if !self.inputs[track].order.push(arrived.0, number, Packet { arrived, payload }) {
            self.drops.late += 1;
        }
        self.drain(arrived.0, track);
    }

    /// Hands on what is in order.
    fn drain(&mut self, now: Instant, track: usize) {
        while let Some((missing, packet)) = self.inputs[track].order.pop(now) {
            let Packet { arrived, payload } = packet;
            let mut payloads = Vec::new();
            if missing > 0 {
                self.inputs[track].received.lost(&mut payloads);
                self.deliver(arrived, track, payloads.drain(..));
                self.inputs[track].place += missing;
            }
            if self.inputs[track].received.payload(payload, &mut payloads).is_err() {
                self.drops.too_large += 1;
                // To viewers it is lost.
                self.inputs[track].place += 1;
            }
            self.deliver(arrived, track, payloads.drain(..));
        }
    }

    fn deliver(
        &mut self,
        arrived: (Instant, NtpTime),
        track: usize,
        payloads: impl Iterator<Item = Payload>,
    ) {
        for payload in payloads {
            let input = &mut self.inputs[track];
            let placed = Placed { track, place: input.place, packet: Packet { arrived, payload } };
            input.place += 1;
            let is_first = !std::mem::replace(&mut input.has_spoken, true);
            match &mut self.state {
                State::Publishing(plain) => {
                    let packet = output(plain, &placed);
                    if plain.take_news() || is_first {
                        self.announce();
                    }
                    self.events.extend(packet.map(Event::Output));
                }
                State::Refused { .. } => self.drops.not_published += 1,
                State::Idle | State::Collecting { .. } | State::Asking => self.wait(placed),
            }
        }
    }

    fn wait(&mut self, placed: Placed) {
        let now = placed.packet.arrived.0;
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(placed);
        } else {
            self.drops.not_published += 1;
        }
        if matches!(self.state, State::Idle) {
            self.state = State::Collecting { until: now + OTHER_WITHIN };
        }
        let is_complete = self.inputs.iter().all(|input| input.has_spoken);
        if matches!(self.state, State::Collecting { .. })
            && (is_complete || self.waiting.len() == WAITING_MAX)
        {
            self.ask();
        }
    }

    fn ask(&mut self) {
        self.state = State::Asking;
        self.events.push_back(Event::PublishRequested);
    }

    /// Tells what is published.
    fn announce(&mut self) {
        let State::Publishing(plain) = &self.state else { return };
        let tracks = plain.tracks(|track| self.inputs[track].has_spoken);
        self.events.push_back(Event::Output(Output::Tracks(tracks)));
    }

    fn end(&mut self, reason: &str) {
        let heard_at = self.heard_at.take();
        if let (Some(at), State::Asking | State::Publishing(_)) = (heard_at, &self.state) {
            let stats = Box::new(self.stats(at));
            self.events.push_back(Event::Ended { reason: reason.to_owned(), stats });
        }
        self.rest();
    }

    /// Nothing comes any more: what waits for a gap is no beginning either.
    fn stop(&mut self, reason: &str) {
        self.end(reason);
        self.inputs.iter_mut().for_each(|input| input.order = Reorder::new());
    }

    /// The next packet begins another run.
    fn rest(&mut self) {
        self.state = State::Idle;
        self.waiting.clear();
        for input in &mut self.inputs {
            input.received = received(&input.track);
            input.has_spoken = false;
            input.place = 0;
        }
    }

    fn reported(&mut self, track: usize, report: Report) {
        let Some(input) = self.inputs.get_mut(track) else { return };
        // A sender that begins reports before its first packet.
        input.report = Some(report);
        if let (Some(report), State::Publishing(plain)) = (input.report(), &mut self.state) {
            plain.sender_report(report.came, track, report.told);
        }
    }

    fn goodbye(&mut self, track: usize, from: IpAddr, mut ssrcs: impl Iterator<Item = Ssrc>) {
        let Some(input) = self.inputs.get_mut(track) else { return };
        let Some(present) = input.lock.present() else { return };
        if present.from.ip() != from || !ssrcs.any(|ssrc| ssrc == present.ssrc) {
            return;
        }
        input.lock.gone();
        if self.inputs.iter().all(|input| !input.has_spoken || input.lock.is_gone()) {
            self.stop("the sender has said goodbye");
        }
    }
}

fn output(plain: &mut Plain, placed: &Placed) -> Option<Output> {
    let Placed { track, place, packet: Packet { arrived, payload } } = placed;
    let Payload { timestamp, marker, bytes } = payload;
    let packet = PlainPacket { place: *place, timestamp: *timestamp, marker: *marker, payload: bytes };
    plain.packet(*arrived, *track, packet).map(Output::Packet)
}

#[cfg(test)]
mod tests;
