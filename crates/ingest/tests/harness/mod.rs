//! A publisher (str0m, untouched) and an `ingest::Publisher`, joined by a network in memory under a virtual clock.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ingest::{Certificate, CloseReason, IceCredentials, Identity, Output, Publisher, PublisherRecord, Setup};
use media_core::TreePacket;
use model::{NtpTime, Track};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::channel::ChannelId;
use str0m::media::{Direction, KeyframeRequest, MediaKind, Mid, Pt, Rid, Simulcast, SimulcastLayer};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpWrite};
use str0m::{Candidate, Event, Input, Output as ClientOutput, Rtc, RtcConfig};

pub const SERVER: &str = "192.0.2.1:51000";
pub const CLIENT: &str = "198.51.100.7:40000";
pub const LATENCY: Duration = Duration::from_millis(10);

/// One RTP packet to publish.
pub struct Media<'a> {
    pub mid: Mid,
    pub rid: Option<Rid>,
    pub payload_type: Pt,
    pub seq: u64,
    pub timestamp: u32,
    pub marker: bool,
    pub payload: &'a [u8],
}

/// What the client offers.
pub struct Offer {
    pub config: RtcConfig,
    pub audio: bool,
    pub video: bool,
    /// A data channel.
    pub data: bool,
    pub rids: Vec<&'static str>,
    /// Changes the offer's text on its way.
    pub rewrite: fn(String) -> String,
}

impl Offer {
    pub fn new() -> Self {
        let config = RtcConfig::new().set_rtp_mode(true);
        Self { config, audio: true, video: true, data: false, rids: Vec::new(), rewrite: |offer| offer }
    }
}

/// A line that takes so much, with a queue before it that takes so much of its time; what comes then is lost.
#[derive(Debug, Clone, Copy)]
pub struct Bottleneck {
    pub bits_per_second: u64,
    pub queue_max: Duration,
    free_at: Instant,
}

impl Bottleneck {
    pub const fn new(now: Instant, bits_per_second: u64, queue_max: Duration) -> Self {
        Self { bits_per_second, queue_max, free_at: now }
    }

    /// How long a datagram takes that comes now; `None` if it is lost.
    fn pass(&mut self, now: Instant, bytes: usize) -> Option<Duration> {
        let begins_at = self.free_at.max(now);
        if begins_at - now > self.queue_max {
            return None;
        }
        self.free_at = begins_at + Duration::from_nanos(bytes as u64 * 8_000_000_000 / self.bits_per_second);
        Some(self.free_at - now)
    }
}

pub struct World {
    pub now: Instant,
    pub start: Instant,
    pub client: Rtc,
    pub audio: Option<Mid>,
    pub video: Option<Mid>,
    pub channel: Option<ChannelId>,
    pub server: Option<Publisher>,
    pub server_address: SocketAddr,
    /// Where the server sees the client.
    pub client_address: SocketAddr,
    pub offer: String,
    pub answer: String,
    to_server: VecDeque<(Instant, Vec<u8>)>,
    to_client: VecDeque<(Instant, Vec<u8>)>,
    /// Percent of the publisher's RTP that is lost.
    pub loss_percent: u64,
    /// The narrowest part of the publisher's way, if it has one.
    pub bottleneck: Option<Bottleneck>,
    /// Datagrams of the publisher arrive together, at multiples of this from the beginning.
    pub bunches: Option<Duration>,
    /// So long before it is sent was captured what is published.
    pub captured_ago: Duration,
    /// So many of the publisher's next RTP packets are lost.
    pub lose_next: u32,
    random: u64,
    /// Datagrams of the publisher are dropped while this says so.
    pub loses: fn(&[u8]) -> bool,
    /// How much longer than others a datagram of the publisher takes.
    pub late: fn(&[u8]) -> Duration,
    pub packets: Vec<TreePacket>,
    pub tracks: Vec<Vec<Track>>,
    /// When it was sent, and what came over data channels.
    pub cues: Vec<(NtpTime, Vec<u8>)>,
    pub connected: usize,
    pub closed: Option<CloseReason>,
    pub keyframe_requests: Vec<KeyframeRequest>,
    pub client_closed: bool,
    /// Everything the server has sent, in order.
    pub sent_by_server: Vec<Vec<u8>>,
    /// Where to, but for answers to checks.
    pub sent_to: Vec<SocketAddr>,
    /// Everything the client has sent.
    pub sent_by_client: Vec<Vec<u8>>,
}

pub fn certificate() -> Certificate {
    let generated = str0m::crypto::from_feature_flags().dtls_provider.generate_certificate().unwrap();
    Certificate::new(&generated.certificate, &generated.private_key)
}

pub fn setup(now: Instant) -> Setup {
    Setup {
        ice: IceCredentials {
            ufrag: "srvr".to_owned(),
            password: "a-password-of-some-length".to_owned().into(),
        },
        certificate: certificate(),
        local_addresses: vec![SERVER.parse().unwrap()],
        identity: Identity(std::array::from_fn(|index| (index * 37 + 11) as u8)),
        now,
    }
}

impl World {
    /// Offer and answer are exchanged; nothing has been sent.
    pub fn new(offer: Offer) -> Self {
        let now = Instant::now();
        let mut client = offer.config.build(now);
        client.add_local_candidate(Candidate::host(CLIENT.parse().unwrap(), "udp").unwrap());
        let mut api = client.sdp_api();
        let mut add = |kind, simulcast| api.add_media(kind, Direction::SendOnly, None, None, simulcast);
        let audio = offer.audio.then(|| add(MediaKind::Audio, None));
        let simulcast = (!offer.rids.is_empty()).then(|| {
            let mut simulcast = Simulcast::new();
            offer.rids.iter().for_each(|rid| simulcast.add_send_layer(SimulcastLayer::new(rid)));
            simulcast
        });
        let video = offer.video.then(|| add(MediaKind::Video, simulcast));
        let channel = offer.data.then(|| api.add_channel("cues".to_owned()));
        let (sdp, pending): (_, SdpPendingOffer) = api.apply().unwrap();
        let text = (offer.rewrite)(sdp.to_sdp_string());
        let (server, answer) = Publisher::accept(&text, setup(now)).unwrap();
        let parsed = SdpAnswer::from_sdp_string(&answer).unwrap();
        client.sdp_api().accept_answer(pending, parsed).unwrap();
        Self {
            now,
            start: now,
            client,
            audio,
            video,
            channel,
            server: Some(server),
            server_address: SERVER.parse().unwrap(),
            client_address: CLIENT.parse().unwrap(),
            offer: text,
            answer,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            loss_percent: 0,
            bottleneck: None,
            bunches: None,
            captured_ago: Duration::ZERO,
            lose_next: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            loses: |_| false,
            late: |_| Duration::ZERO,
            packets: Vec::new(),
            tracks: Vec::new(),
            cues: Vec::new(),
            connected: 0,
            closed: None,
            keyframe_requests: Vec::new(),
            client_closed: false,
            sent_by_server: Vec::new(),
            sent_to: Vec::new(),
            sent_by_client: Vec::new(),
        }
    }

    /// Connected, by as many round trips as it takes.
    pub fn connected(offer: Offer) -> Self {
        let mut world = Self::new(offer);
        world.run_until(|world| world.connected > 0 && world.client.is_connected());
        world
    }

    pub fn wallclock(&self) -> NtpTime {
        NtpTime::from_unix(Duration::from_secs(1_800_000_000) + (self.now - self.start))
    }

    pub fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..2000 {
            if done(self) {
                return;
            }
            self.run(Duration::from_millis(5));
        }
        panic!("not reached within 10 s: closed {:?}", self.closed);
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.drain_client();
            self.drain_server();
            let due = [&self.to_server, &self.to_client]
                .into_iter()
                .filter_map(|queue| queue.front())
                .map(|(at, _)| *at);
            let next = due.fold(end, Instant::min).max(self.now);
            let step = (self.now + Duration::from_millis(5)).min(next);
            self.now = step;
            self.deliver();
            self.client.handle_input(Input::Timeout(self.now)).unwrap();
            self.drain_client();
            if let Some(server) = &mut self.server
                && server.poll_timeout().is_some_and(|at| at <= self.now)
            {
                server.handle_timeout(self.now);
            }
            self.drain_server();
            if self.now >= end {
                return;
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(bytes) = due(&mut self.to_server, self.now) {
            self.give_to_server(self.client_address, &bytes);
        }
        while let Some(bytes) = due(&mut self.to_client, self.now) {
            let receive =
                Receive::new(Protocol::Udp, self.server_address, CLIENT.parse().unwrap(), &bytes).unwrap();
            self.client.handle_input(Input::Receive(self.now, receive)).unwrap();
            self.drain_client();
        }
    }

    /// A datagram from anywhere reaches the server; lost while there is none.
    pub fn give_to_server(&mut self, source: SocketAddr, bytes: &[u8]) {
        let (now, wallclock, destination) = (self.now, self.wallclock(), self.server_address);
        if let Some(server) = &mut self.server
            && server.accepts(source, bytes)
        {
            server.handle_datagram(now, wallclock, (source, destination), bytes);
        }
        self.drain_server();
    }

    fn drain_client(&mut self) {
        loop {
            match self.client.poll_output().unwrap() {
                ClientOutput::Timeout(_) => return,
                ClientOutput::Transmit(transmit) => {
                    self.sent_by_client.push(transmit.contents.to_vec());
                    let is_media =
                        transmit.contents[0] >= 128 && !(64..96).contains(&(transmit.contents[1] & 0x7f));
                    let mut is_lost = is_media && self.draw() % 100 < self.loss_percent;
                    if is_media && self.lose_next > 0 {
                        self.lose_next -= 1;
                        is_lost = true;
                    }
                    let (now, bytes) = (self.now, transmit.contents.len());
                    let queued =
                        self.bottleneck.as_mut().map_or(Some(Duration::ZERO), |it| it.pass(now, bytes));
                    if let Some(queued) = queued.filter(|_| !is_lost && !(self.loses)(&transmit.contents)) {
                        let at = self.now + LATENCY + queued + (self.late)(&transmit.contents);
                        let at = self.bunches.map_or(at, |length| {
                            let number = (at - self.start).as_nanos().div_ceil(length.as_nanos());
                            self.start + length * number as u32
                        });
                        let place = self.to_server.partition_point(|(other, _)| *other <= at);
                        self.to_server.insert(place, (at, transmit.contents.to_vec()));
                    }
                }
                ClientOutput::Event(Event::KeyframeRequest(request)) => self.keyframe_requests.push(request),
                ClientOutput::Event(Event::Closed) => self.client_closed = true,
                ClientOutput::Event(_) => {}
            }
        }
    }

    pub fn drain_server(&mut self) {
        let Some(server) = &mut self.server else { return };
        while let Some(output) = server.poll_output() {
            match output {
                Output::Transmit { bytes, destination, .. } => {
                    if bytes[0] >= 2 {
                        self.sent_to.push(destination);
                    }
                    self.sent_by_server.push(bytes.clone());
                    self.to_client.push_back((self.now + LATENCY, bytes));
                }
                Output::Connected => self.connected += 1,
                Output::Tracks(tracks) => self.tracks.push(tracks),
                Output::Packet(packet) => self.packets.push(packet),
                Output::Cue { captured, document } => self.cues.push((captured, document)),
                Output::Closed(reason) => self.closed = Some(reason),
            }
        }
    }

    const fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    /// The payload type that the offer has for `codec`, first one.
    pub fn payload_type(&self, codec: str0m::format::Codec) -> Pt {
        self.client.codec_config().params().iter().find(|params| params.spec().codec == codec).unwrap().pt()
    }

    /// Sends a message over the data channel; false while it takes none.
    pub fn say(&mut self, message: &[u8]) -> bool {
        let id = self.channel.expect("a data channel was offered");
        let is_taken = match self.client.channel(id) {
            Some(mut channel) => channel.write(false, message).unwrap(),
            None => return false,
        };
        self.drain_client();
        is_taken
    }

    pub fn publish(&mut self, media: &Media<'_>) {
        self.publish_with(media, ExtensionValues::default());
    }

    pub fn publish_with(&mut self, media: &Media<'_>, extensions: ExtensionValues) {
        let mut api = self.client.direct_api();
        let stream = api.stream_tx_by_mid(media.mid, media.rid).unwrap();
        let captured_at = self.now - self.captured_ago;
        let write =
            RtpWrite::new(media.payload_type, media.seq.into(), media.timestamp, captured_at, media.payload)
                .marker(media.marker)
                .nackable(true)
                .ext_vals(extensions);
        stream.write_rtp(write);
        self.client.handle_input(Input::Timeout(self.now)).unwrap();
        self.drain_client();
    }

    /// The server process dies without a word; what it knew is the record.
    pub fn kill(&mut self) -> PublisherRecord {
        let record = self.server.as_ref().unwrap().record().unwrap();
        self.server = None;
        PublisherRecord::decode(&record.encode()).unwrap()
    }

    pub fn resume(&mut self, record: &PublisherRecord) {
        self.server = Some(Publisher::resume(record, self.now, self.wallclock()).unwrap());
        self.drain_server();
    }

    /// Tree sequence numbers of what has come of the stream of the track's layer.
    pub fn seq_nos(&self, ssrc: model::Ssrc) -> Vec<u64> {
        self.packets.iter().filter(|packet| packet.ssrc == ssrc).map(|packet| packet.seq_no.get()).collect()
    }
}

fn due(queue: &mut VecDeque<(Instant, Vec<u8>)>, now: Instant) -> Option<Vec<u8>> {
    queue.front().filter(|(at, _)| *at <= now)?;
    queue.pop_front().map(|(_, bytes)| bytes)
}

/// An H.264 SPS of 1280x720, constrained baseline 3.1, as x264 writes it, then a PPS: one STAP-A.
pub const H264_PARAMETER_SETS: [u8; 24] = [
    0x78, 0x00, 0x0d, 0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xba, 0x10, 0x00, 0x00, 0x03, 0x00,
    0x04, 0x68, 0xce, 0x38, 0x80, 0x00, 0x00,
];
/// A VP8 payload that starts a key frame: descriptor, then the frame tag of a key frame.
pub const VP8_KEYFRAME: [u8; 12] = [0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02, 0x00];
pub const VP8_DELTA: [u8; 6] = [0x10, 0x11, 0x02, 0x00, 0x00, 0x00];
