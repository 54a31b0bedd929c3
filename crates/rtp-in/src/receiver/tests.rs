//! A receiver and its senders under a virtual clock.

use media_core::TreePacket;
use proptest::prelude::*;

use super::*;

const TEXT: &str = "v=0\no=- 0 0 IN IP4 192.0.2.1\ns=-\nt=0 0\n\
                    m=video 5004 RTP/AVP 96\na=rtpmap:96 VP8/90000\n\
                    m=audio 5006 RTP/AVP 97\na=rtpmap:97 opus/48000/2\n";
const VIDEO: usize = 0;
const AUDIO: usize = 1;

/// One that sends.
#[derive(Clone, Copy)]
struct Gear {
    host: u8,
    ssrc: u32,
    /// Of the next packet of each track.
    seq: [u16; 2],
    timestamp: [u32; 2],
}

impl Gear {
    fn new(host: u8, ssrc: u32) -> Self {
        Self { host, ssrc, seq: [65_530, 10], timestamp: [u32::MAX - 9000; 2] }
    }

    fn address(&self, track: usize) -> SocketAddr {
        ([192, 0, 2, self.host], 40_000 + track as u16).into()
    }

    fn ssrc(&self, track: usize) -> Ssrc {
        Ssrc::new(self.ssrc + track as u32)
    }

    fn packet(&mut self, track: usize) -> Vec<u8> {
        let seq = self.seq[track];
        self.seq[track] = seq.wrapping_add(1);
        let timestamp = self.timestamp[track];
        let (payload_type, clock_rate) = [(96, 90_000), (97, 48_000)][track];
        self.timestamp[track] = timestamp.wrapping_add(clock_rate / 50);
        let mut bytes = vec![0; rtp::FIXED_HEADER_BYTES];
        rtp::write_header(
            &mut bytes,
            &rtp::HeaderFields {
                marker: true,
                padding: false,
                payload_type,
                seq,
                timestamp,
                ssrc: self.ssrc(track),
                extensions: &[],
            },
        );
        bytes.extend([0x10, 0, 0]);
        bytes.extend(seq.to_be_bytes());
        bytes
    }
}

/// What a receiver has told.
#[derive(Debug, Default)]
struct Told {
    asked: usize,
    ended: Vec<String>,
    tracks: Vec<usize>,
    packets: Vec<TreePacket>,
}

struct Studio {
    receiver: Receiver,
    start: Instant,
    now: Instant,
    told: Told,
    runs: u8,
    /// Whether it may publish.
    is_open: bool,
}

impl Studio {
    fn new(text: &str, allowed: &[&str]) -> Self {
        let allowed = allowed.iter().map(|net| net.parse().expect("a network")).collect();
        let now = Instant::now();
        let receiver = Receiver::new(Description::parse(text).expect("a description"), allowed);
        Self { receiver, start: now, now, told: Told::default(), runs: 0, is_open: true }
    }

    fn arrived(&self) -> (Instant, NtpTime) {
        let start = NtpTime::from_unix(Duration::from_secs(1_800_000_000));
        (self.now, start.plus(self.now - self.start))
    }

    fn send(&mut self, track: usize, from: SocketAddr, bytes: &[u8]) {
        self.receiver.handle_media(self.arrived(), track, from, bytes);
        self.listen();
    }

    fn control(&mut self, track: usize, from: SocketAddr, bytes: &[u8]) {
        self.receiver.handle_control(self.arrived(), track, from, bytes);
        self.listen();
    }

    fn listen(&mut self) {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                Event::PublishRequested => {
                    self.told.asked += 1;
                    self.runs += 1;
                    let mut identity = [self.runs; 64];
                    identity[32] = 99;
                    if self.is_open {
                        self.receiver.publish(Identity(identity));
                    } else {
                        self.receiver.refuse(self.now);
                    }
                }
                Event::Output(Output::Tracks(tracks)) => self.told.tracks.push(tracks.len()),
                Event::Output(Output::Packet(packet)) => self.told.packets.push(packet),
                Event::Output(output) => panic!("{output:?}"),
                Event::Ended { reason, .. } => self.told.ended.push(reason),
            }
        }
    }

    /// Time passes, with all that is due in it.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.receiver.poll_timeout().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.receiver.handle_timeout(self.now);
            self.listen();
        }
        self.now = until;
    }

    /// Both tracks of a sender, for so many packets each 20 ms.
    fn play(&mut self, gear: &mut Gear, packets: usize) {
        for _ in 0..packets {
            for track in [VIDEO, AUDIO] {
                let bytes = gear.packet(track);
                self.send(track, gear.address(track), &bytes);
            }
            self.pass(Duration::from_millis(20));
        }
    }

    fn places(&self, ssrc: Ssrc) -> Vec<u64> {
        let of_stream = self.told.packets.iter().filter(|packet| packet.ssrc == ssrc);
        of_stream.map(|packet| packet.seq_no.get()).collect()
    }
}

fn are_consecutive(places: &[u64]) -> bool {
    places.windows(2).all(|pair| pair[0] + 1 == pair[1])
}

#[test]
fn both_tracks_are_published_from_their_first_packet_on_over_wraps() {
    let (mut studio, mut gear) = (Studio::new(TEXT, &[]), Gear::new(1, 7));
    studio.play(&mut gear, 50);
    assert_eq!((studio.told.asked, &studio.told.tracks[..1]), (1, &[2][..]));
    assert_eq!(studio.told.packets.len(), 100);
    let ssrcs = [studio.told.packets[0].ssrc, studio.told.packets[1].ssrc];
    for ssrc in ssrcs {
        assert!(are_consecutive(&studio.places(ssrc)), "{:?}", studio.places(ssrc));
    }
    let frame = Duration::from_millis(20);
    for track in ssrcs {
        let captured = studio.told.packets.iter().filter(|packet| packet.ssrc == track);
        let captured: Vec<NtpTime> = captured.map(|packet| packet.capture_time).collect();
        let steps = captured.windows(2).map(|pair| pair[1].saturating_since(pair[0]));
        assert!(
            steps.into_iter().all(|step| step.abs_diff(frame) < Duration::from_micros(1)),
            "{captured:?}"
        );
    }
    assert_eq!(studio.receiver.take_drops(), Drops::default());
}

#[test]
fn one_track_is_published_without_the_other_after_a_while_and_the_other_joins() {
    let (mut studio, mut gear) = (Studio::new(TEXT, &[]), Gear::new(1, 7));
    let mut play = |studio: &mut Studio, time: Duration| {
        let end = studio.now + time;
        while studio.now < end {
            let bytes = gear.packet(AUDIO);
            studio.send(AUDIO, gear.address(AUDIO), &bytes);
            studio.pass(Duration::from_millis(20));
        }
    };
    play(&mut studio, OTHER_WITHIN - Duration::from_millis(100));
    assert_eq!(studio.told.asked, 0);
    play(&mut studio, Duration::from_millis(200));
    assert_eq!((studio.told.asked, &studio.told.tracks[..]), (1, &[1][..]));
    let mut gear = Gear::new(1, 70);
    for _ in 0..2 {
        let bytes = gear.packet(VIDEO);
        studio.send(VIDEO, gear.address(VIDEO), &bytes);
    }
    assert_eq!((studio.told.asked, studio.told.ended.len()), (1, 0));
    assert_eq!(studio.told.tracks.last(), Some(&2));
}

#[test]
fn a_sender_that_begins_anew_is_another_run_with_all_its_tracks() {
    let mut studio = Studio::new(TEXT, &[]);
    studio.play(&mut Gear::new(1, 7), 50);
    let before = studio.told.packets.len();
    // Another process on the same host, at once: its first second is not taken.
    studio.play(&mut Gear::new(1, 1000), 150);
    assert_eq!(
        (studio.told.asked, &studio.told.ended[..]),
        (2, &["the sender has begun anew".to_owned()][..])
    );
    let (old, new) = studio.told.packets.split_at(before);
    assert!(new.iter().all(|packet| old.iter().all(|other| other.ssrc != packet.ssrc)));
    assert!((180..=210).contains(&new.len()), "{}", new.len());
    assert!(studio.receiver.take_drops().unauthentic > 0);
}

#[test]
fn a_run_ends_with_silence_or_goodbye_and_comes_back_by_itself() {
    let (mut studio, mut gear) = (Studio::new(TEXT, &[]), Gear::new(1, 7));
    studio.play(&mut gear, 10);
    studio.pass(SILENCE);
    assert_eq!(studio.told.ended.len(), 1);
    assert_eq!(studio.receiver.poll_timeout(), None);
    studio.play(&mut gear, 10);
    assert_eq!(studio.told.asked, 2);

    // What waits for a lost packet is no beginning of another run.
    gear.seq[VIDEO] = gear.seq[VIDEO].wrapping_add(1);
    let bytes = gear.packet(VIDEO);
    studio.send(VIDEO, gear.address(VIDEO), &bytes);
    for track in [VIDEO, AUDIO] {
        assert_eq!(studio.told.ended.len(), 1);
        let mut bytes = vec![0x81, 203, 0, 1];
        bytes.extend(gear.ssrc(track).get().to_be_bytes());
        let stranger = Gear::new(9, 7).address(track);
        studio.control(track, stranger, &bytes);
        studio.control(track, gear.address(track), &bytes);
    }
    assert_eq!(studio.told.ended[1], "the sender has said goodbye");
    studio.pass(OTHER_WITHIN + SILENCE);
    assert_eq!((studio.told.asked, studio.receiver.poll_timeout()), (2, None));
    studio.play(&mut Gear::new(1, 1000), 10);
    assert_eq!(studio.told.asked, 3, "nobody's place is held");
}

#[test]
fn who_may_not_publish_is_dropped_and_asks_again() {
    let (mut studio, mut gear) = (Studio::new(TEXT, &[]), Gear::new(1, 7));
    studio.is_open = false;
    studio.play(&mut gear, 250);
    assert!((2..=3).contains(&studio.told.asked), "{}", studio.told.asked);
    assert!(studio.told.packets.is_empty());
    assert!(studio.receiver.take_drops().not_published > 400);
    studio.is_open = true;
    studio.play(&mut gear, 150);
    assert!(!studio.told.packets.is_empty());
}

#[test]
fn strangers_disturb_nobody_and_are_counted() {
    let (mut studio, mut gear) = (Studio::new(TEXT, &[]), Gear::new(1, 7));
    studio.play(&mut gear, 10);
    // From its own address, streams without end; from another one, the very stream; and what is no RTP.
    for ssrc in 0..5000 {
        let bytes = Gear::new(1, 10_000 + ssrc).packet(VIDEO);
        studio.send(VIDEO, gear.address(VIDEO), &bytes);
        let bytes = Gear { ..gear }.packet(AUDIO);
        studio.send(AUDIO, Gear::new(2, 7).address(AUDIO), &bytes);
        studio.send(VIDEO, gear.address(VIDEO), &[0x12; 40]);
    }
    assert!(
        studio.receiver.take_stranger().is_some_and(|stranger| stranger.ip() == IpAddr::from([192, 0, 2, 2]))
    );
    studio.play(&mut gear, 10);
    assert_eq!((studio.told.asked, studio.told.ended.len(), studio.told.packets.len()), (1, 0, 40));
    let drops = studio.receiver.take_drops();
    assert_eq!((drops.unauthentic, drops.unknown_source, drops.malformed), (5000, 5000, 5000));
}

#[test]
fn only_those_who_are_named_are_taken() {
    let mut studio = Studio::new(TEXT, &["192.0.2.0/29", "2001:db8::/32"]);
    studio.play(&mut Gear::new(9, 7), 100);
    assert_eq!(studio.told.asked, 0);
    assert_eq!(studio.receiver.take_drops().unknown_source, 200);
    studio.play(&mut Gear::new(5, 7), 10);
    assert_eq!(studio.told.asked, 1);
    let filter = "a=source-filter:incl IN IP4 * 192.0.2.4\n";
    let mut studio = Studio::new(&format!("{TEXT}{filter}"), &[]);
    studio.play(&mut Gear::new(5, 7), 150);
    assert_eq!(studio.told.tracks[..1], [1], "the filter is the sound's");
}

#[test]
fn reports_align_sound_and_picture_whatever_their_way_here() {
    let mut studio = Studio::new(TEXT, &[]);
    let gear = Gear::new(1, 7);
    for (track, timestamp) in [(VIDEO, 5000u32), (AUDIO, 77)] {
        let mut bytes = vec![0x80, 200, 0, 6];
        bytes.extend(gear.ssrc(track).get().to_be_bytes());
        bytes.extend(NtpTime::from_unix(Duration::from_secs(1000)).to_bits().to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend([0; 8]);
        studio.control(track, gear.address(track), &bytes);
    }
    let send = |studio: &mut Studio, track: usize, seq: u16, timestamp: u32| {
        let mut bytes = Gear { seq: [seq; 2], ..gear }.packet(track);
        bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
        studio.send(track, gear.address(track), &bytes);
    };
    // Each picture comes with the sound of 100 ms later.
    for step in 0..60u16 {
        send(&mut studio, VIDEO, step, 5000 + u32::from(step) * 1800);
        send(&mut studio, AUDIO, step, 77 + u32::from(step + 5) * 960);
        studio.pass(Duration::from_millis(20));
    }
    let packets = &studio.told.packets;
    let captured = |timestamp: u32| {
        packets.iter().find(|packet| packet.timestamp == timestamp).expect("a packet").capture_time
    };
    assert_eq!(captured(5000 + 59 * 1800), captured(77 + 59 * 960));
}

#[test]
fn a_packet_that_cannot_be_cut_is_a_gap() {
    let (mut studio, mut gear) = (Studio::new(TEXT, &[]), Gear::new(1, 7));
    studio.play(&mut gear, 5);
    let mut bytes = gear.packet(AUDIO);
    bytes.resize(1300, 0);
    studio.send(AUDIO, gear.address(AUDIO), &bytes);
    studio.play(&mut gear, 5);
    assert_eq!(studio.receiver.take_drops().too_large, 1);
    let audio = studio.told.packets[studio.told.packets.len() - 1].ssrc;
    let places = studio.places(audio);
    assert_eq!((places.len() as u64, places[9] - places[0]), (10, 10));
}

proptest! {
    #[test]
    fn no_datagrams_panic(
        datagrams in prop::collection::vec(
            (0usize..3, 0u8..3, 0u64..3000, any::<bool>(), prop::collection::vec(any::<u8>(), 0..60), 0u8..4),
            0..80,
        ),
    ) {
        let mut studio = Studio::new(TEXT, &[]);
        let mut gear = Gear::new(1, 7);
        for (track, host, wait, is_control, mut bytes, form) in datagrams {
            let from = Gear::new(host, 0).address(track);
            match form {
                0 => bytes = [&[0x80, 96 + track as u8][..], &bytes].concat(),
                1 => bytes = gear.packet(track.min(1)),
                2 => bytes = [&[0x81, 200 + (host % 4)][..], &bytes].concat(),
                _ => {}
            }
            if is_control {
                studio.control(track, from, &bytes);
            } else {
                studio.send(track, from, &bytes);
            }
            studio.pass(Duration::from_millis(wait));
        }
        studio.pass(SILENCE + RETRY);
        prop_assert!(studio.receiver.waiting.is_empty());
    }

    #[test]
    fn order_and_gaps_survive_a_network_that_shuffles_and_loses(
        order in Just((0..60usize).collect::<Vec<_>>()).prop_shuffle(),
        lost in prop::collection::btree_set(1usize..59, 0..10),
    ) {
        let (mut studio, mut gear) = (Studio::new(TEXT, &[]), Gear::new(1, 7));
        studio.play(&mut gear, 5);
        let audio = studio.told.packets[studio.told.packets.len() - 1].ssrc;
        let before = studio.places(audio).len();
        let packets: Vec<Vec<u8>> = (0..60).map(|_| gear.packet(AUDIO)).collect();
        for index in order.into_iter().filter(|index| !lost.contains(index)) {
            studio.send(AUDIO, gear.address(AUDIO), &packets[index]);
        }
        studio.pass(Duration::from_secs(1));
        let places = studio.places(audio);
        let first = places[before - 1] + 1;
        let expected: Vec<u64> =
            (0..60).filter(|index| !lost.contains(index)).map(|index| first + index as u64).collect();
        prop_assert_eq!(&places[before..], &expected[..]);
    }
}
