//! Whole connections, as encoders lead them.

use proptest::prelude::*;

use super::*;
use crate::amf0;
use crate::chunk::CHUNK_BYTES_DEFAULT;

/// An encoder at the other end.
struct Encoder {
    connection: Connection,
    start: Instant,
    /// Time of the connection, in milliseconds.
    elapsed: u64,
    replies: Reader,
    unread: BytesMut,
}

type Reply = (u32, Vec<Value>);

impl Encoder {
    fn new() -> Self {
        let start = Instant::now();
        let connection = Connection::new([3; 32], start);
        Self { connection, start, elapsed: 0, replies: Reader::default(), unread: BytesMut::new() }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.elapsed)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.connection.handle_input(self.now(), bytes)
    }

    fn shake_hands(&mut self) {
        self.send(&hello()).expect("a handshake");
        assert_eq!(self.connection.output().len(), 1 + 2 * 1536);
        self.connection.output_written(1 + 2 * 1536);
    }

    /// Commands that were answered, with their message stream.
    fn replies(&mut self) -> Vec<Reply> {
        let output = self.connection.output().to_vec();
        self.connection.output_written(output.len());
        self.unread.extend_from_slice(&output);
        let mut replies = Vec::new();
        while let Some(message) = self.replies.poll(&mut self.unread).expect("our own chunks") {
            match message.message_type {
                message_type::SET_CHUNK_SIZE => {
                    let size = number(&message.payload, "chunk size").expect("a size");
                    self.replies.set_chunk_bytes(size).expect("a size");
                }
                message_type::COMMAND => {
                    replies.push((message.stream_id, amf0::read(&message.payload).expect("our own values")));
                }
                _ => {}
            }
        }
        replies
    }

    /// The code of the latest answer.
    fn code(&mut self) -> String {
        let replies = self.replies();
        let (_, values) = replies.last().expect("an answer");
        values.last().and_then(|value| value.member("code")?.as_text()).expect("a code").to_owned()
    }

    fn event(&mut self) -> Option<Event> {
        self.connection.poll_event()
    }

    /// Up to the request to publish, which is returned.
    fn request(&mut self) -> PublishRequest {
        self.shake_hands();
        self.send(&connect("live", &[])).expect("connect");
        self.send(&announce("show?key=s3cret")).expect("publish");
        match self.event() {
            Some(Event::PublishRequested(request)) => request,
            other => panic!("a request was made: {other:?}"),
        }
    }

    fn publishing() -> Self {
        let mut encoder = Self::new();
        encoder.request();
        encoder.connection.accept_publish(encoder.now()).expect("nothing came since");
        assert_eq!(encoder.code(), "NetStream.Publish.Start");
        encoder
    }
}

fn hello() -> Vec<u8> {
    [&[3][..], &[0; 8], &[1; 1528], &[2; 1536]].concat()
}

fn message(chunk_stream: u8, stream_id: u32, message_type: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let message = Message { timestamp, message_type, stream_id, payload: Bytes::copy_from_slice(payload) };
    crate::chunk::write(&mut out, CHUNK_BYTES_DEFAULT, chunk_stream, &message);
    out
}

fn command(stream_id: u32, values: &[Value]) -> Vec<u8> {
    let mut payload = Vec::new();
    for value in values {
        amf0::write(&mut payload, value);
    }
    message(3, stream_id, message_type::COMMAND, 0, &payload)
}

fn connect(application: &str, more: &[(&str, Value)]) -> Vec<u8> {
    let mut members = vec![
        ("app".to_owned(), Value::text(application)),
        ("flashVer".to_owned(), Value::text("FMLE/3.0 (compatible; FMSc/1.0)")),
        ("tcUrl".to_owned(), Value::text("rtmp://host/live")),
    ];
    members.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    command(0, &[Value::text("connect"), Value::Number(1.0), Value::Object(members)])
}

/// What an encoder sends after `connect`, up to the request.
fn announce(name: &str) -> Vec<u8> {
    let call = |call: &str, transaction, argument: &[Value]| {
        let values = [&[Value::text(call), Value::Number(transaction), Value::Null][..], argument].concat();
        command(0, &values)
    };
    let publish =
        [Value::text("publish"), Value::Number(5.0), Value::Null, Value::text(name), Value::text("live")];
    [
        call("releaseStream", 2.0, &[Value::text(name)]),
        call("FCPublish", 3.0, &[Value::text(name)]),
        call("createStream", 4.0, &[]),
        command(1, &publish),
    ]
    .concat()
}

fn metadata() -> Vec<u8> {
    let mut payload = Vec::new();
    let described = Value::object([("width", Value::Number(1280.0)), ("encoder", Value::text("Lavf59"))]);
    for value in [Value::text("@setDataFrame"), Value::text("onMetaData"), described] {
        amf0::write(&mut payload, &value);
    }
    message(4, 1, message_type::DATA, 0, &payload)
}

fn media() -> Vec<u8> {
    [
        metadata(),
        message(6, 1, message_type::VIDEO, 0, &[0x17, 0, 0, 0, 0, 1, 2]),
        message(4, 1, message_type::AUDIO, 0, &[0xaf, 0, 0x11, 0x90]),
        message(6, 1, message_type::VIDEO, 40, &[&[0x17, 1, 0, 0, 80][..], &[9; 500]].concat()),
        message(4, 1, message_type::AUDIO, 43, &[0xaf, 1, 5]),
    ]
    .concat()
}

fn media_events() -> Vec<Event> {
    let bytes = Bytes::from_static;
    let frame = VideoBody::Frame { composition_millis: 80, is_keyframe: true, data: vec![9; 500].into() };
    let described =
        Metadata { encoder: Some("Lavf59".into()), width: Some(1280.0), height: None, frame_rate: None };
    let time = MediaTime::from_millis;
    vec![
        Event::Metadata(described),
        Event::Video { time: time(0), codec: Codec::H264, body: VideoBody::Config(bytes(&[1, 2])) },
        Event::Audio { time: time(0), codec: AudioCodec::Aac, body: AudioBody::Config(bytes(&[0x11, 0x90])) },
        Event::Video { time: time(40), codec: Codec::H264, body: frame },
        Event::Audio { time: time(43), codec: AudioCodec::Aac, body: AudioBody::Frame(bytes(&[5])) },
    ]
}

#[test]
fn an_encoder_is_let_in_and_its_media_comes_out() {
    let mut encoder = Encoder::new();
    let request = encoder.request();
    assert_eq!(
        (request.broadcast.as_str(), request.key.as_ref().map(|key| key.expose())),
        ("show", Some("s3cret"))
    );
    assert_eq!(request.encoder.as_deref(), Some("FMLE/3.0 (compatible; FMSc/1.0)"));
    let replies = encoder.replies();
    let names: Vec<&str> = replies.iter().filter_map(|(_, values)| values[0].as_text()).collect();
    assert_eq!(names, ["_result", "_result", "onFCPublish", "_result", "_result"]);
    assert_eq!(replies[4].1[3], Value::Number(1.0), "the message stream");
    assert_eq!(replies[0].1[2].member("fourCcList"), None, "nobody asked");
    encoder.connection.accept_publish(encoder.now()).expect("nothing came since");
    let replies = encoder.replies();
    assert_eq!((replies.len(), replies[0].0), (1, 1));
    encoder.send(&media()).expect("media");
    assert_eq!(std::iter::from_fn(|| encoder.event()).collect::<Vec<_>>(), media_events());
    encoder.send(&metadata()).expect("metadata");
    assert_eq!(encoder.event(), None, "nothing new");
    let end = [Value::text("deleteStream"), Value::Number(6.0), Value::Null, Value::Number(1.0)];
    encoder.send(&command(0, &end)).expect("an end");
    assert_eq!((encoder.event(), encoder.event()), (Some(Event::Unpublished), None));
    assert_eq!(encoder.code(), "NetStream.Unpublish.Success");
}

#[test]
fn media_sent_before_the_decision_waits_for_it() {
    let mut encoder = Encoder::new();
    encoder.request();
    encoder.send(&media()).expect("media");
    assert_eq!((encoder.event(), encoder.connection.wants_input()), (None, false));
    encoder.connection.accept_publish(encoder.now()).expect("media");
    assert_eq!(std::iter::from_fn(|| encoder.event()).collect::<Vec<_>>(), media_events());
    let mut eager = Encoder::new();
    eager.request();
    let much = message(6, 1, message_type::VIDEO, 0, &vec![0; UNREAD_BYTES_MAX]);
    assert_eq!(eager.send(&much), Err(Error::TooEager));
    assert!(eager.connection.is_closing());
}

#[test]
fn a_refused_encoder_is_told_why() {
    for (refusal, code) in
        [(Refusal::Denied, "NetStream.Publish.Denied"), (Refusal::BadName, "NetStream.Publish.BadName")]
    {
        let mut encoder = Encoder::new();
        encoder.request();
        encoder.replies();
        encoder.connection.refuse_publish(refusal, "the key is wrong");
        let replies = encoder.replies();
        let information = &replies[0].1[3];
        let text = |name| information.member(name).and_then(Value::as_text);
        assert_eq!((text("code"), text("level")), (Some(code), Some("error")));
        assert_eq!(text("description"), Some("the key is wrong"));
        assert!(encoder.connection.is_closing());
        assert_eq!(encoder.send(&media()), Ok(()));
        assert_eq!(encoder.event(), None, "nothing more is read");
    }
}

#[test]
fn wrong_addresses_are_refused_with_the_right_one() {
    let mut encoder = Encoder::new();
    encoder.shake_hands();
    assert_eq!(encoder.send(&connect("other", &[])), Err(AddressError::Application.into()));
    assert_eq!(encoder.code(), "NetConnection.Connect.Rejected");
    let mut encoder = Encoder::new();
    encoder.shake_hands();
    encoder.send(&connect("live", &[])).expect("connect");
    assert_eq!(encoder.send(&announce("")), Err(AddressError::Name.into()));
    assert_eq!(encoder.code(), "NetStream.Publish.BadName");
}

#[test]
fn who_wants_to_watch_is_told_where() {
    let mut encoder = Encoder::new();
    encoder.shake_hands();
    encoder.send(&connect("live", &[])).expect("connect");
    let play = [Value::text("play"), Value::Number(0.0), Value::Null, Value::text("show")];
    assert_eq!(encoder.send(&command(1, &play)), Err(Error::Play));
    assert_eq!(encoder.code(), "NetStream.Play.Failed");
}

#[test]
fn enhanced_encoders_learn_which_codecs_are_taken() {
    let mut encoder = Encoder::new();
    encoder.shake_hands();
    let codes = Value::Array(vec![Value::text("hvc1")]);
    encoder.send(&connect("live", &[("fourCcList", codes)])).expect("connect");
    let replies = encoder.replies();
    let properties = &replies[0].1[2];
    let Some(Value::Array(codes)) = properties.member("fourCcList") else { panic!("{properties:?}") };
    assert!(["avc1", "hvc1", "av01", "vp09", "Opus"].iter().all(|code| codes.contains(&Value::text(code))));
    assert_eq!(
        properties.member("videoFourCcInfoMap").and_then(|map| map.member("av01")),
        Some(&Value::Number(5.0))
    );
    assert_eq!(properties.member("capsEx"), Some(&Value::Number(12.0)));
}

#[test]
fn commands_in_the_form_of_amf3_are_read() {
    let mut encoder = Encoder::new();
    encoder.shake_hands();
    let mut payload = vec![0];
    for value in [Value::text("connect"), Value::Number(1.0), Value::object([("app", Value::text("live"))])] {
        amf0::write(&mut payload, &value);
    }
    encoder.send(&message(3, 0, message_type::COMMAND_AMF3, 0, &payload)).expect("connect");
    assert_eq!(encoder.code(), "NetConnection.Connect.Success");
}

#[test]
fn windows_are_acknowledged_and_pings_answered() {
    let mut encoder = Encoder::publishing();
    encoder.send(&message(2, 0, message_type::WINDOW_SIZE, 0, &[0, 0, 0, 50])).expect("a window");
    encoder.replies();
    encoder.send(&message(2, 0, message_type::USER_CONTROL, 0, &[0, 6, 1, 2, 3, 4])).expect("a ping");
    encoder.send(&metadata()).expect("more than a window");
    let received = encoder.connection.stats().received_bytes;
    let mut unread = BytesMut::from(encoder.connection.output());
    let mut found = Vec::new();
    while let Some(message) = encoder.replies.poll(&mut unread).expect("our own chunks") {
        found.push((message.message_type, message.payload.to_vec()));
    }
    let answer = (message_type::USER_CONTROL, vec![0, 7, 1, 2, 3, 4]);
    let acknowledgement = (message_type::ACKNOWLEDGEMENT, (received as u32).to_be_bytes().to_vec());
    assert_eq!(found, [answer, acknowledgement]);
}

#[test]
fn who_does_not_read_answers_is_cut_off() {
    let mut encoder = Encoder::publishing();
    let ping = message(2, 0, message_type::USER_CONTROL, 0, &[0, 6, 1, 2, 3, 4]);
    assert_eq!(encoder.send(&ping.repeat(10_000)), Err(Error::AnswersNotRead));
}

#[test]
fn bad_media_ends_the_broadcast_and_the_encoder_is_told_why() {
    let mut encoder = Encoder::publishing();
    let error = encoder.send(&message(6, 1, message_type::VIDEO, 0, &[0x22, 0])).expect_err("Sorenson H.263");
    assert_eq!(error, TagError::VideoCodec { codec: 2 }.into());
    let replies = encoder.replies();
    let description = replies[0].1[3].member("description").and_then(Value::as_text).expect("a description");
    assert!(description.contains("H.264"), "{description}");
}

#[test]
fn media_of_other_streams_and_other_messages_are_skipped() {
    let mut encoder = Encoder::publishing();
    for bytes in [
        message(6, 2, message_type::VIDEO, 0, &[0x17, 0, 0, 0, 0, 1]),
        message(6, 1, 19, 0, &[1]),
        message(6, 1, message_type::DATA, 0, &[0xff]),
    ] {
        encoder.send(&bytes).expect("nothing wrong");
    }
    assert_eq!((encoder.event(), encoder.connection.stats().skipped_messages), (None, 3));
    assert_eq!(encoder.send(&message(6, 1, message_type::AGGREGATE, 0, &[0])), Err(Error::Aggregate));
}

#[test]
fn what_the_network_held_back_is_left_out_and_counted() {
    let mut encoder = Encoder::publishing();
    for (elapsed, timestamp, is_keyframe) in [
        (0, 0, true),
        (1000, 1000, false),
        // After a cut of twenty seconds.
        (21_000, 2000, true),
        (21_020, 6500, false),
        (21_040, 11_000, false),
        (21_060, 15_500, false),
        (21_080, 20_000, false),
        (21_100, 20_900, false),
        (21_200, 21_150, true),
    ] {
        encoder.elapsed = elapsed;
        let first = if is_keyframe { 0x17 } else { 0x27 };
        let picture = message(6, 1, message_type::VIDEO, timestamp, &[first, 1, 0, 0, 0, 9]);
        encoder.send(&picture).expect("media");
    }
    let events = std::iter::from_fn(|| encoder.event());
    let times: Vec<i64> = events
        .map(|event| match event {
            Event::Video { time, .. } => time.as_micros() / 1000,
            other => panic!("a picture: {other:?}"),
        })
        .collect();
    assert_eq!(times, [0, 1000, 21_150]);
    let stats = encoder.connection.stats();
    assert_eq!((stats.late_messages, stats.clock_jumps), (6, 0));
}

#[test]
fn things_out_of_their_order_are_refused() {
    let mut encoder = Encoder::new();
    encoder.shake_hands();
    let create = command(0, &[Value::text("createStream"), Value::Number(1.0), Value::Null]);
    assert!(matches!(encoder.send(&create), Err(Error::Unexpected { .. })));
    let mut encoder = Encoder::publishing();
    assert!(matches!(encoder.send(&connect("live", &[])), Err(Error::Unexpected { .. })));
    let mut encoder = Encoder::publishing();
    assert_eq!(encoder.send(&create.repeat(STREAMS_TOO_MANY)), Err(Error::TooManyStreams));
}

const STREAMS_TOO_MANY: usize = command::STREAMS_MAX as usize;

#[test]
fn the_slow_and_the_silent_are_let_go() {
    let mut encoder = Encoder::new();
    encoder.elapsed = 14_999;
    assert_eq!(encoder.connection.handle_timeout(encoder.now()), Ok(()));
    encoder.elapsed = 15_000;
    assert_eq!(encoder.connection.poll_timeout(), Some(encoder.now()));
    assert_eq!(encoder.connection.handle_timeout(encoder.now()), Err(Error::NeverPublished));
    let mut encoder = Encoder::new();
    encoder.request();
    assert_eq!(encoder.connection.poll_timeout(), None, "the shell decides in its own time");
    encoder.connection.accept_publish(encoder.now()).expect("nothing came since");
    encoder.elapsed = 20_000;
    encoder.send(&media()).expect("media");
    encoder.elapsed = 50_000;
    assert_eq!(encoder.connection.handle_timeout(encoder.now()), Err(Error::Silent));
    assert_eq!(encoder.code(), "NetStream.Failed");
}

/// Plays a whole session cut in pieces of these lengths; gives all events and all that was sent.
fn play(session: &[u8], cuts: &[usize]) -> (Vec<Event>, Vec<u8>, Result<(), Error>) {
    let now = Instant::now();
    let mut connection = Connection::new([3; 32], now);
    let (mut events, mut sent, mut rest, mut result) = (Vec::new(), Vec::new(), session, Ok(()));
    for cut in cuts.iter().cycle() {
        let (piece, later) = rest.split_at((*cut).min(rest.len()));
        result = connection.handle_input(now, piece);
        while let Some(event) = connection.poll_event() {
            if let Event::PublishRequested(_) = event {
                result = result.and(connection.accept_publish(now));
            }
            events.push(event);
        }
        sent.extend_from_slice(connection.output());
        connection.output_written(connection.output().len());
        rest = later;
        if rest.is_empty() || result.is_err() {
            break;
        }
    }
    (events, sent, result)
}

fn session() -> Vec<u8> {
    [hello(), connect("live", &[]), announce("show?key=s3cret"), media()].concat()
}

proptest! {
    #[test]
    fn every_cut_of_the_input_gives_the_same(cuts in prop::collection::vec(1usize..700, 1..40)) {
        let whole = play(&session(), &[usize::MAX]);
        prop_assert_eq!(whole.0.len(), 1 + media_events().len());
        prop_assert_eq!(play(&session(), &cuts), whole);
    }

    #[test]
    fn no_damage_panics(
        cuts in prop::collection::vec(1usize..2000, 1..9),
        damage in prop::collection::vec((3073usize..5000, any::<u8>()), 0..9),
        more in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut session = session();
        for (place, byte) in damage {
            if let Some(slot) = session.get_mut(place) {
                *slot = byte;
            }
        }
        session.extend(more);
        let (whole, cut) = (play(&session, &[usize::MAX]), play(&session, &cuts));
        // Acknowledgements go out once for each read.
        prop_assert_eq!((whole.0, whole.2), (cut.0, cut.2));
    }
}

#[test]
fn captions_are_told_and_what_is_none_is_skipped() {
    let said = |name: &str, said: Value| {
        let mut payload = Vec::new();
        for value in [Value::text(name), said] {
            amf0::write(&mut payload, &value);
        }
        message(4, 1, message_type::DATA, 0, &payload)
    };
    let caption = |text: &str| {
        let members =
            [("type", Value::text("Text")), ("text", Value::text(text)), ("language", Value::text("eng"))];
        said("onTextData", Value::object(members))
    };
    let mut encoder = Encoder::publishing();
    let skipped = encoder.connection.stats().skipped_messages;
    let bytes = [
        caption("Grüezi"),
        caption(&"a".repeat(TEXT_BYTES_MAX + 1)),
        said("onTextData", Value::Null),
        said("onCuePoint", Value::object([("text", Value::text("no caption"))])),
    ];
    encoder.send(&bytes.concat()).expect("nothing breaks a rule");
    let text = Event::Text { text: "Grüezi".into(), language: Some("eng".into()) };
    assert_eq!(std::iter::from_fn(|| encoder.event()).collect::<Vec<_>>(), [text]);
    assert_eq!(encoder.connection.stats().skipped_messages, skipped + 3);
}
