//! Link channel messages: round trips, arbitrary bytes, bounds, versions, golden bytes.

mod support;

use link::wire::message::*;
use link::wire::{DecodeError, GroupKey, Version};
use model::{
    Bitrate, Broadcast, BroadcastId, BroadcastState, Codec, Epoch, JoinName, KeyGeneration, Layer, NodeId,
    NtpTime, Rid, Role, SeqNo, Ssrc, Track,
};
use proptest::prelude::*;
use support::{golden, messages};

/// What a QUIC datagram can carry on a path of 1200 bytes: less 42 bytes of QUIC and frame headers and tag.
const DATAGRAM_BYTES_MAX: usize = 1158;

fn encoded(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn a_message_round_trips_within_its_bounds(message in messages::message()) {
        let bytes = encoded(&message);
        prop_assert!(bytes.len() <= MESSAGE_BYTES_MAX);
        prop_assert!(message.is_reliable() || bytes.len() <= DATAGRAM_BYTES_MAX, "{} bytes", bytes.len());
        prop_assert_eq!(Message::decode(&bytes), Ok(Some(message)));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn damaged_messages_never_panic(message in messages::message(), at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut bytes = encoded(&message);
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn what_a_later_version_adds_is_skipped(message in messages::message(), extra in prop::collection::vec(any::<u8>(), 0..50)) {
        let mut bytes = encoded(&message);
        bytes.extend_from_slice(&[200, 0, extra.len() as u8]);
        bytes.extend_from_slice(&extra);
        prop_assert_eq!(Message::decode(&bytes), Ok(Some(message)));
    }

    #[test]
    fn a_message_cut_short_is_an_error(message in messages::message(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&message);
        let cut = cut.index(bytes.len() - 1) + 1;
        // A cut between two fields leaves a shorter message, never one that says something else of the rest.
        if let Ok(decoded) = Message::decode(&bytes[..bytes.len() - cut]) {
            prop_assert_ne!(decoded, Some(message));
        }
    }
}

#[test]
fn a_message_of_a_later_version_is_ignored() {
    assert_eq!(Message::decode(&[99, 1, 0, 1, 7]), Ok(None));
}

#[test]
fn a_missing_required_field_is_named() {
    assert_eq!(
        Message::decode(&[10]),
        Err(DecodeError::Missing { structure: "KeyframeRequest", field: "ssrc" })
    );
    assert_eq!(Message::decode(&[]), Err(DecodeError::Empty));
}

#[test]
fn a_list_above_its_bound_is_refused() {
    let nack = Message::Nack(Nack { ssrc: Ssrc::new(1), seq_nos: vec![SeqNo::new(7); NACK_SEQ_NOS_MAX] });
    let mut bytes = encoded(&nack);
    bytes.extend_from_slice(&[2, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!(Message::decode(&bytes), Err(DecodeError::TooMany { tag: 2 }));
}

#[test]
fn a_list_of_streams_that_is_too_long_or_cut_is_refused() {
    let most = vec![Ssrc::new(7); STREAMS_MAX];
    let join = |without| Message::Join(Join { broadcast: friday(), resume: vec![], cause: None, without });
    let mut bytes = encoded(&join(most.clone()));
    assert_eq!(Message::decode(&bytes), Ok(Some(join(most))));
    let mut one_more = encoded(&join(Vec::new()));
    one_more.extend_from_slice(&[5, 0, 4 * (STREAMS_MAX as u8 + 1)]);
    one_more.resize(one_more.len() + 4 * (STREAMS_MAX + 1), 7);
    assert_eq!(Message::decode(&one_more), Err(DecodeError::TooMany { tag: 5 }));
    bytes.extend_from_slice(&[5, 0, 3, 1, 2, 3]);
    assert_eq!(Message::decode(&bytes), Err(DecodeError::Value { tag: 5 }));
}

#[test]
fn a_cue_has_a_body_of_bounded_length() {
    let cue = |length: usize| {
        Message::Cue(Cue {
            broadcast: friday(),
            epoch: Epoch { counter: 3, random: 4 },
            number: 1,
            captured: NtpTime::from_bits(0),
            body: "a".repeat(length).into(),
        })
    };
    assert_eq!(Message::decode(&encoded(&cue(CUE_BYTES_MAX))), Ok(Some(cue(CUE_BYTES_MAX))));
    assert_eq!(Message::decode(&encoded(&cue(CUE_BYTES_MAX + 1))), Err(DecodeError::Value { tag: 5 }));
}

#[test]
fn a_sequence_number_that_srtp_cannot_seal_is_refused() {
    let mut bytes = encoded(&Message::Nack(Nack { ssrc: Ssrc::new(1), seq_nos: vec![SeqNo::new(7)] }));
    let at = bytes.len() - 8;
    bytes[at] = 1;
    assert_eq!(Message::decode(&bytes), Err(DecodeError::Value { tag: 2 }));
}

#[test]
fn secrets_are_not_printed() {
    let key =
        GroupKey { generation: KeyGeneration { counter: 1, random: 2 }, key: [0xab; 16], salt: [0xcd; 12] };
    let text = format!("{key:?}");
    assert!(!text.contains("171") && !text.contains("205") && !text.contains("ab"), "{text}");
}

fn friday() -> BroadcastId {
    BroadcastId::new("friday").expect("good id")
}

fn example() -> Broadcast {
    let layer = |ssrc, rid: &str| Layer { ssrc: Ssrc::new(ssrc), rid: Rid::new(rid).ok() };
    Broadcast {
        id: friday(),
        state: BroadcastState::Live,
        epoch: Some(Epoch { counter: 3, random: 0x0123_4567_89ab_cdef }),
        tracks: vec![
            Track {
                codec: Codec::Opus,
                fmtp: "".into(),
                layers: vec![layer(0x0a0b_0c0d, "")],
                was_heard: true,
            },
            Track {
                codec: Codec::H264,
                fmtp: "packetization-mode=1".into(),
                layers: vec![layer(0x1111_1111, "hi"), layer(0x2222_2222, "lo")],
                was_heard: true,
            },
        ],
    }
}

#[test]
fn a_track_that_nobody_has_heard_says_so_in_a_field_that_others_need_not_know() {
    let mut broadcast = example();
    let heard = encoded(&Message::Announce(broadcast.clone()));
    broadcast.tracks[1].was_heard = false;
    let unheard = encoded(&Message::Announce(broadcast));
    // Tag, length, value.
    assert!(unheard.len() > heard.len() && unheard.len() <= heard.len() + 4, "{unheard:x?}");
    let Ok(Some(Message::Announce(decoded))) = Message::decode(&unheard) else { panic!("{unheard:x?}") };
    assert_eq!(decoded.tracks.iter().map(|track| track.was_heard).collect::<Vec<_>>(), [true, false]);
}

fn example_key() -> GroupKey {
    GroupKey {
        generation: KeyGeneration { counter: 5, random: 0xfeed_f00d },
        key: *b"0123456789abcdef",
        salt: *b"saltsaltsalt",
    }
}

fn examples() -> Vec<(&'static str, Message)> {
    let answer = JoinAnswer {
        broadcast: example(),
        keys: vec![example_key()],
        streams: vec![StreamRange {
            ssrc: Ssrc::new(0x1111_1111),
            oldest: SeqNo::new(100),
            newest: SeqNo::new(70_000),
            keyframe: Some(SeqNo::new(65_536)),
            start: SeqNo::new(65_536),
        }],
    };
    let hello = Hello {
        version: Version::CURRENT,
        node: NodeId::new("relay-1").expect("good id"),
        role: Role::Relay,
        incarnation: Incarnation { counter: 9, random: 0x1020_3040_5060_7080 },
    };
    let resume = vec![Held { ssrc: Ssrc::new(0x1111_1111), newest: SeqNo::new(69_999) }];
    let id = 0x0123_4567_89ab_cdef;
    let span = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
    let heartbeat = Heartbeat {
        sent_micros: 1_234_567,
        echo: Some(Echo { sent_micros: 7_654_321, held_micros: 40_000 }),
    };
    let keys = Keys { broadcast: friday(), epoch: example().epoch, key: example_key() };
    let nack = Nack { ssrc: Ssrc::new(0x1111_1111), seq_nos: vec![SeqNo::new(65_535), SeqNo::new(65_540)] };
    let streams = vec![
        StreamRate { ssrc: Ssrc::new(0x1111_1111), rate: Bitrate::kbps(2500) },
        StreamRate { ssrc: Ssrc::new(0x2222_2222), rate: Bitrate::bps(0) },
    ];
    let rates = Rates { broadcast: friday(), streams };
    let cue = Cue {
        broadcast: friday(),
        epoch: Epoch { counter: 3, random: 0x0123_4567_89ab_cdef },
        number: 7,
        captured: NtpTime::from_bits(0xe9a8_7654_8000_0000),
        body: "{}".into(),
    };
    vec![
        ("hello", Message::Hello(hello)),
        ("announce", Message::Announce(example())),
        ("retire", Message::Retire(friday())),
        (
            "join",
            Message::Join(Join {
                broadcast: friday(),
                resume: resume.clone(),
                cause: None,
                without: Vec::new(),
            }),
        ),
        (
            "join-traced",
            Message::Join(Join {
                broadcast: friday(),
                resume: resume.clone(),
                cause: Some(JoinName { id, span: None }),
                without: Vec::new(),
            }),
        ),
        (
            "join-in-a-trace",
            Message::Join(Join {
                broadcast: friday(),
                resume: resume.clone(),
                cause: Some(JoinName { id, span }),
                without: Vec::new(),
            }),
        ),
        (
            "join-without-a-layer",
            Message::Join(Join {
                broadcast: friday(),
                resume,
                cause: None,
                without: vec![Ssrc::new(0x1111_1111)],
            }),
        ),
        ("join-answer", Message::JoinAnswer(answer)),
        ("join-refused", Message::JoinRefused { broadcast: friday(), reason: JoinRefusal::Full }),
        ("leave", Message::Leave(friday())),
        ("keys", Message::Keys(keys)),
        ("nack", Message::Nack(nack)),
        ("keyframe-request", Message::KeyframeRequest(Ssrc::new(0x1111_1111))),
        ("heartbeat", Message::Heartbeat(heartbeat)),
        ("report", Message::Report(Report { received: 1000, lost: 1, recovered: 49 })),
        ("rates", Message::Rates(rates)),
        ("cue", Message::Cue(cue)),
    ]
}

#[test]
fn messages_stay_the_same_on_the_wire() {
    for (name, message) in examples() {
        let file = format!("message-{name}.hex");
        golden::check(&file, &encoded(&message));
        assert_eq!(Message::decode(&golden::read(&file)), Ok(Some(message)), "{name}");
    }
}
