//! Messages to bytes and back. Numbers of types and tags are part of the wire and never used twice.

use model::{Bitrate, BroadcastId, Epoch, JoinName, KeyGeneration, NtpTime, Role, SeqNo, Ssrc, TraceParent};

use super::broadcast;
use super::fields::{Field, Fields, Writer, push, required, seq_no};
use super::message::{
    CUE_BYTES_MAX, Cue, Echo, Heartbeat, Held, Hello, Incarnation, Join, JoinAnswer, JoinRefusal, KEYS_MAX,
    Keys, MESSAGE_BYTES_MAX, Message, NACK_SEQ_NOS_MAX, Nack, Rates, Report, STREAMS_MAX, StreamRange,
    StreamRate,
};
use super::{DecodeError, GroupKey, KEY_BYTES, SALT_BYTES, Version};

const HELLO: u8 = 1;
const ANNOUNCE: u8 = 2;
const RETIRE: u8 = 3;
const JOIN: u8 = 4;
const JOIN_ANSWER: u8 = 5;
const JOIN_REFUSED: u8 = 6;
const LEAVE: u8 = 7;
const KEYS: u8 = 8;
const NACK: u8 = 9;
const KEYFRAME_REQUEST: u8 = 10;
const HEARTBEAT: u8 = 11;
const REPORT: u8 = 12;
const RATES: u8 = 13;
const CUE: u8 = 14;

/// Bytes of an encoded [`GroupKey`]: generation, key, salt.
const GROUP_KEY_BYTES: usize = 8 + KEY_BYTES + SALT_BYTES;

pub(super) fn encode(message: &Message, out: &mut Vec<u8>) {
    out.push(message_type(message));
    let mut writer = Writer::new(out);
    let writer = &mut writer;
    match message {
        Message::Hello(hello) => encode_hello(hello, writer),
        Message::Announce(broadcast) => broadcast::encode(broadcast, writer),
        Message::Retire(id) | Message::Leave(id) => {
            writer.bytes(1, id.as_str().as_bytes());
        }
        Message::Join(join) => encode_join(join, writer),
        Message::JoinAnswer(answer) => encode_join_answer(answer, writer),
        Message::JoinRefused { broadcast, reason } => {
            let reason = match reason {
                JoinRefusal::Other => 0,
                JoinRefusal::UnknownBroadcast => 1,
                JoinRefusal::Full => 2,
            };
            writer.bytes(1, broadcast.as_str().as_bytes()).u8(2, reason);
        }
        Message::Keys(keys) => {
            writer.bytes(1, keys.broadcast.as_str().as_bytes());
            if let Some(epoch) = keys.epoch {
                writer.two_u64(2, epoch.counter, epoch.random);
            }
            writer.bytes(3, &group_key_bytes(&keys.key));
        }
        Message::Nack(nack) => {
            let seq_nos = nack.seq_nos.iter().take(NACK_SEQ_NOS_MAX);
            let list: Vec<u8> = seq_nos.flat_map(|seq_no| seq_no.get().to_be_bytes()).collect();
            writer.u32(1, nack.ssrc.get()).bytes(2, &list);
        }
        Message::KeyframeRequest(ssrc) => {
            writer.u32(1, ssrc.get());
        }
        Message::Heartbeat(heartbeat) => {
            writer.u64(1, heartbeat.sent_micros);
            if let Some(echo) = heartbeat.echo {
                writer.two_u64(2, echo.sent_micros, echo.held_micros);
            }
        }
        Message::Report(report) => {
            writer.u64(1, report.received).u64(2, report.lost).u64(3, report.recovered);
        }
        Message::Rates(rates) => {
            writer.bytes(1, rates.broadcast.as_str().as_bytes());
            for stream in rates.streams.iter().take(STREAMS_MAX) {
                writer.nested(2, |inner| {
                    inner.u32(1, stream.ssrc.get()).u64(2, stream.rate.as_bps());
                });
            }
        }
        Message::Cue(cue) => encode_cue(cue, writer),
    }
}

const fn message_type(message: &Message) -> u8 {
    match message {
        Message::Hello(_) => HELLO,
        Message::Announce(_) => ANNOUNCE,
        Message::Retire(_) => RETIRE,
        Message::Join(_) => JOIN,
        Message::JoinAnswer(_) => JOIN_ANSWER,
        Message::JoinRefused { .. } => JOIN_REFUSED,
        Message::Leave(_) => LEAVE,
        Message::Keys(_) => KEYS,
        Message::Nack(_) => NACK,
        Message::KeyframeRequest(_) => KEYFRAME_REQUEST,
        Message::Heartbeat(_) => HEARTBEAT,
        Message::Report(_) => REPORT,
        Message::Rates(_) => RATES,
        Message::Cue(_) => CUE,
    }
}

fn encode_hello(hello: &Hello, writer: &mut Writer<'_>) {
    let role = match hello.role {
        Role::Injection => 1,
        Role::Relay => 2,
        Role::Egress => 3,
        Role::All => 4,
        Role::Controller => 5,
    };
    writer
        .bytes(1, &[hello.version.major, hello.version.minor])
        .bytes(2, hello.node.as_str().as_bytes())
        .u8(3, role)
        .two_u64(4, hello.incarnation.counter, hello.incarnation.random);
}

fn encode_join(join: &Join, writer: &mut Writer<'_>) {
    writer.bytes(1, join.broadcast.as_str().as_bytes());
    for held in join.resume.iter().take(STREAMS_MAX) {
        writer.nested(2, |inner| {
            inner.u32(1, held.ssrc.get()).u64(2, held.newest.get());
        });
    }
    if let Some(JoinName { id, span }) = join.cause {
        writer.u64(3, id);
        if let Some(span) = span {
            writer.bytes(4, &span.to_bytes());
        }
    }
    if !join.without.is_empty() {
        let without = join.without.iter().take(STREAMS_MAX);
        let list: Vec<u8> = without.flat_map(|ssrc| ssrc.get().to_be_bytes()).collect();
        writer.bytes(5, &list);
    }
}

fn encode_join_answer(answer: &JoinAnswer, writer: &mut Writer<'_>) {
    writer.nested(1, |inner| broadcast::encode(&answer.broadcast, inner));
    for key in answer.keys.iter().take(KEYS_MAX) {
        writer.bytes(2, &group_key_bytes(key));
    }
    for range in answer.streams.iter().take(STREAMS_MAX) {
        writer.nested(3, |inner| {
            inner.u32(1, range.ssrc.get()).u64(2, range.oldest.get()).u64(3, range.newest.get());
            if let Some(keyframe) = range.keyframe {
                inner.u64(4, keyframe.get());
            }
            inner.u64(5, range.start.get());
        });
    }
}

fn encode_cue(cue: &Cue, writer: &mut Writer<'_>) {
    writer
        .bytes(1, cue.broadcast.as_str().as_bytes())
        .two_u64(2, cue.epoch.counter, cue.epoch.random)
        .u64(3, cue.number)
        .u64(4, cue.captured.to_bits())
        .bytes(5, cue.body.as_bytes());
}

fn group_key_bytes(key: &GroupKey) -> [u8; GROUP_KEY_BYTES] {
    let mut bytes = [0; GROUP_KEY_BYTES];
    bytes[..4].copy_from_slice(&key.generation.counter.to_be_bytes());
    bytes[4..8].copy_from_slice(&key.generation.random.to_be_bytes());
    bytes[8..8 + KEY_BYTES].copy_from_slice(&key.key);
    bytes[8 + KEY_BYTES..].copy_from_slice(&key.salt);
    bytes
}

fn group_key(field: Field<'_>) -> Result<GroupKey, DecodeError> {
    let bytes: [u8; GROUP_KEY_BYTES] = field.array()?;
    let (generation, rest) = bytes.split_at(8);
    let (key, salt) = rest.split_at(KEY_BYTES);
    let generation = u64::from_be_bytes(generation.try_into().map_err(|_| field.outside())?);
    Ok(GroupKey {
        generation: KeyGeneration { counter: (generation >> 32) as u32, random: generation as u32 },
        key: key.try_into().map_err(|_| field.outside())?,
        salt: salt.try_into().map_err(|_| field.outside())?,
    })
}

pub(super) fn decode(bytes: &[u8]) -> Result<Option<Message>, DecodeError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(DecodeError::TooLong { length: bytes.len() });
    }
    let (&message_type, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    let fields = Fields::new(body);
    let message = match message_type {
        HELLO => Message::Hello(decode_hello(fields)?),
        ANNOUNCE => Message::Announce(broadcast::decode(fields)?),
        RETIRE => Message::Retire(decode_id(fields, "Retire")?),
        JOIN => Message::Join(decode_join(fields)?),
        JOIN_ANSWER => Message::JoinAnswer(decode_join_answer(fields)?),
        JOIN_REFUSED => decode_join_refused(fields)?,
        LEAVE => Message::Leave(decode_id(fields, "Leave")?),
        KEYS => Message::Keys(decode_keys(fields)?),
        NACK => Message::Nack(decode_nack(fields)?),
        KEYFRAME_REQUEST => Message::KeyframeRequest(decode_keyframe_request(fields)?),
        HEARTBEAT => Message::Heartbeat(decode_heartbeat(fields)?),
        REPORT => Message::Report(decode_report(fields)?),
        RATES => Message::Rates(decode_rates(fields)?),
        CUE => Message::Cue(decode_cue(fields)?),
        _later_version => return Ok(None),
    };
    Ok(Some(message))
}

fn decode_id(mut fields: Fields<'_>, structure: &'static str) -> Result<BroadcastId, DecodeError> {
    let mut id = None;
    while let Some(field) = fields.pop()? {
        if field.tag == 1 {
            id = Some(field.broadcast_id()?);
        }
    }
    required(id, structure, "broadcast")
}

fn decode_hello(mut fields: Fields<'_>) -> Result<Hello, DecodeError> {
    let (mut version, mut node, mut role, mut incarnation) = (None, None, None, None);
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => version = Some(field.array().map(|[major, minor]| Version { major, minor })?),
            2 => node = Some(field.node_id()?),
            3 => {
                role = Some(match field.u8()? {
                    1 => Role::Injection,
                    2 => Role::Relay,
                    3 => Role::Egress,
                    4 => Role::All,
                    5 => Role::Controller,
                    _ => return Err(field.outside()),
                });
            }
            4 => {
                incarnation = Some(field.two_u64().map(|(counter, random)| Incarnation { counter, random })?)
            }
            _later_version => {}
        }
    }
    Ok(Hello {
        version: required(version, "Hello", "version")?,
        node: required(node, "Hello", "node")?,
        role: required(role, "Hello", "role")?,
        incarnation: required(incarnation, "Hello", "incarnation")?,
    })
}

fn decode_join(mut fields: Fields<'_>) -> Result<Join, DecodeError> {
    let (mut broadcast, mut resume, mut id, mut span, mut without) =
        (None, Vec::new(), None, None, Vec::new());
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => broadcast = Some(field.broadcast_id()?),
            2 => push(&mut resume, STREAMS_MAX, 2, decode_held(Fields::new(field.value))?)?,
            3 => id = Some(field.u64()?),
            4 => span = TraceParent::from_bytes(&field.array()?),
            5 => without = decode_ssrcs(field)?,
            _later_version => {}
        }
    }
    let cause = id.map(|id| JoinName { id, span });
    Ok(Join { broadcast: required(broadcast, "Join", "broadcast")?, resume, cause, without })
}

fn decode_ssrcs(field: Field<'_>) -> Result<Vec<Ssrc>, DecodeError> {
    let (entries, rest) = field.value.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(field.outside());
    }
    if entries.len() > STREAMS_MAX {
        return Err(DecodeError::TooMany { tag: field.tag });
    }
    Ok(entries.iter().map(|entry| Ssrc::new(u32::from_be_bytes(*entry))).collect())
}

fn decode_held(mut fields: Fields<'_>) -> Result<Held, DecodeError> {
    let (mut ssrc, mut newest) = (None, None);
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => ssrc = Some(field.ssrc()?),
            2 => newest = Some(field.seq_no()?),
            _later_version => {}
        }
    }
    Ok(Held { ssrc: required(ssrc, "Join", "ssrc")?, newest: required(newest, "Join", "newest")? })
}

fn decode_join_answer(mut fields: Fields<'_>) -> Result<JoinAnswer, DecodeError> {
    let (mut broadcast, mut keys, mut streams) = (None, Vec::new(), Vec::new());
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => broadcast = Some(broadcast::decode(Fields::new(field.value))?),
            2 => push(&mut keys, KEYS_MAX, 2, group_key(field)?)?,
            3 => push(&mut streams, STREAMS_MAX, 3, decode_range(Fields::new(field.value))?)?,
            _later_version => {}
        }
    }
    if keys.is_empty() {
        return Err(DecodeError::Missing { structure: "JoinAnswer", field: "key" });
    }
    Ok(JoinAnswer { broadcast: required(broadcast, "JoinAnswer", "broadcast")?, keys, streams })
}

fn decode_range(mut fields: Fields<'_>) -> Result<StreamRange, DecodeError> {
    let mut ssrc: Option<Ssrc> = None;
    let mut places: [Option<SeqNo>; 4] = [None; 4];
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => ssrc = Some(field.ssrc()?),
            2..=5 => places[usize::from(field.tag - 2)] = Some(field.seq_no()?),
            _later_version => {}
        }
    }
    let [oldest, newest, keyframe, start] = places;
    Ok(StreamRange {
        ssrc: required(ssrc, "JoinAnswer", "ssrc")?,
        oldest: required(oldest, "JoinAnswer", "oldest")?,
        newest: required(newest, "JoinAnswer", "newest")?,
        keyframe,
        start: required(start, "JoinAnswer", "start")?,
    })
}

fn decode_join_refused(mut fields: Fields<'_>) -> Result<Message, DecodeError> {
    let (mut broadcast, mut reason) = (None, None);
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => broadcast = Some(field.broadcast_id()?),
            2 => {
                reason = Some(match field.u8()? {
                    1 => JoinRefusal::UnknownBroadcast,
                    2 => JoinRefusal::Full,
                    _later_version => JoinRefusal::Other,
                });
            }
            _later_version => {}
        }
    }
    Ok(Message::JoinRefused {
        broadcast: required(broadcast, "JoinRefused", "broadcast")?,
        reason: required(reason, "JoinRefused", "reason")?,
    })
}

fn decode_keys(mut fields: Fields<'_>) -> Result<Keys, DecodeError> {
    let (mut broadcast, mut epoch, mut key) = (None, None, None);
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => broadcast = Some(field.broadcast_id()?),
            2 => epoch = Some(field.two_u64().map(|(counter, random)| Epoch { counter, random })?),
            3 => key = Some(group_key(field)?),
            _later_version => {}
        }
    }
    Ok(Keys {
        broadcast: required(broadcast, "Keys", "broadcast")?,
        epoch,
        key: required(key, "Keys", "key")?,
    })
}

fn decode_nack(mut fields: Fields<'_>) -> Result<Nack, DecodeError> {
    let (mut ssrc, mut seq_nos) = (None, Vec::new());
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => ssrc = Some(field.ssrc()?),
            2 => {
                let (entries, rest) = field.value.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(field.outside());
                }
                for entry in entries {
                    let missing = seq_no(u64::from_be_bytes(*entry)).ok_or(field.outside())?;
                    push(&mut seq_nos, NACK_SEQ_NOS_MAX, 2, missing)?;
                }
            }
            _later_version => {}
        }
    }
    if seq_nos.is_empty() {
        return Err(DecodeError::Missing { structure: "Nack", field: "seq_no" });
    }
    Ok(Nack { ssrc: required(ssrc, "Nack", "ssrc")?, seq_nos })
}

fn decode_keyframe_request(mut fields: Fields<'_>) -> Result<Ssrc, DecodeError> {
    let mut ssrc = None;
    while let Some(field) = fields.pop()? {
        if field.tag == 1 {
            ssrc = Some(field.ssrc()?);
        }
    }
    required(ssrc, "KeyframeRequest", "ssrc")
}

fn decode_heartbeat(mut fields: Fields<'_>) -> Result<Heartbeat, DecodeError> {
    let (mut sent_micros, mut echo) = (None, None);
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => sent_micros = Some(field.u64()?),
            2 => {
                echo = Some(
                    field.two_u64().map(|(sent_micros, held_micros)| Echo { sent_micros, held_micros })?,
                )
            }
            _later_version => {}
        }
    }
    Ok(Heartbeat { sent_micros: required(sent_micros, "Heartbeat", "sent")?, echo })
}

fn decode_report(mut fields: Fields<'_>) -> Result<Report, DecodeError> {
    let mut totals: [Option<u64>; 3] = [None; 3];
    while let Some(field) = fields.pop()? {
        match field.tag {
            1..=3 => totals[usize::from(field.tag - 1)] = Some(field.u64()?),
            _later_version => {}
        }
    }
    let [received, lost, recovered] = totals;
    Ok(Report {
        received: required(received, "Report", "received")?,
        lost: required(lost, "Report", "lost")?,
        recovered: required(recovered, "Report", "recovered")?,
    })
}

fn decode_rates(mut fields: Fields<'_>) -> Result<Rates, DecodeError> {
    let (mut broadcast, mut streams) = (None, Vec::new());
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => broadcast = Some(field.broadcast_id()?),
            2 => push(&mut streams, STREAMS_MAX, 2, decode_rate(Fields::new(field.value))?)?,
            _later_version => {}
        }
    }
    Ok(Rates { broadcast: required(broadcast, "Rates", "broadcast")?, streams })
}

fn decode_rate(mut fields: Fields<'_>) -> Result<StreamRate, DecodeError> {
    let (mut ssrc, mut rate) = (None, None);
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => ssrc = Some(field.ssrc()?),
            2 => rate = Some(field.u64().map(Bitrate::bps)?),
            _later_version => {}
        }
    }
    Ok(StreamRate { ssrc: required(ssrc, "Rates", "ssrc")?, rate: required(rate, "Rates", "rate")? })
}

fn decode_cue(mut fields: Fields<'_>) -> Result<Cue, DecodeError> {
    let (mut broadcast, mut epoch, mut number, mut captured, mut body) = (None, None, None, None, None);
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => broadcast = Some(field.broadcast_id()?),
            2 => epoch = Some(field.two_u64().map(|(counter, random)| Epoch { counter, random })?),
            3 => number = Some(field.u64()?),
            4 => captured = Some(field.u64().map(NtpTime::from_bits)?),
            5 => body = Some(field.text(CUE_BYTES_MAX)?.into()),
            _later_version => {}
        }
    }
    Ok(Cue {
        broadcast: required(broadcast, "Cue", "broadcast")?,
        epoch: required(epoch, "Cue", "epoch")?,
        number: required(number, "Cue", "number")?,
        captured: required(captured, "Cue", "captured")?,
        body: required(body, "Cue", "body")?,
    })
}
