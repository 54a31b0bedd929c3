//! What we send.

use bytes::Bytes;

use super::{CHUNK_BYTES, Connection, WINDOW_BYTES, message_type};
use crate::amf0::{self, Value};
use crate::chunk::{self, CHUNK_BYTES_DEFAULT, Message};
use crate::flv::FourCc;

/// Chunk streams of our messages, as servers use them.
const CONTROL_CHUNKS: u8 = 2;
const CONNECTION_CHUNKS: u8 = 3;
const STREAM_CHUNKS: u8 = 5;
/// Events of user control messages (section 7.1.7).
const STREAM_BEGIN: u16 = 0;
const PING_REQUEST: u16 = 6;
const PING_RESPONSE: u16 = 7;
/// The limit of "Set Peer Bandwidth" may be raised and lowered.
const LIMIT_DYNAMIC: u8 = 2;
/// What can be done with a codec (`FourCcInfoMask`): be decoded, be forwarded.
const DECODE_AND_FORWARD: f64 = 5.0;
/// What else is understood (`CapsExMask`): modifiers, nanoseconds.
const CAPABILITIES: f64 = 12.0;

impl Connection {
    /// Answers `connect`, after our side's settings.
    pub(super) fn connected(&mut self, transaction: f64, is_enhanced: bool) {
        self.control(message_type::WINDOW_SIZE, &WINDOW_BYTES.to_be_bytes());
        let mut bandwidth = WINDOW_BYTES.to_be_bytes().to_vec();
        bandwidth.push(LIMIT_DYNAMIC);
        self.control(message_type::PEER_BANDWIDTH, &bandwidth);
        self.control(message_type::SET_CHUNK_SIZE, &(CHUNK_BYTES as u32).to_be_bytes());
        let mut properties = vec![
            // Encoders of the Flash age ask for a version of Adobe's server.
            ("fmsVer".to_owned(), Value::text("FMS/3,5,7,7009")),
            ("capabilities".to_owned(), Value::Number(31.0)),
        ];
        if is_enhanced {
            let codes = FourCc::TAKEN.map(Value::text).to_vec();
            let abilities = FourCc::TAKEN.map(|code| (code, Value::Number(DECODE_AND_FORWARD)));
            properties.push(("fourCcList".to_owned(), Value::Array(codes)));
            let (video, audio) = abilities.split_at(4);
            let map = |codecs: &[(&str, Value)]| {
                Value::Object(
                    codecs.iter().map(|(code, value)| ((*code).to_owned(), value.clone())).collect(),
                )
            };
            properties.push(("videoFourCcInfoMap".to_owned(), map(video)));
            properties.push(("audioFourCcInfoMap".to_owned(), map(audio)));
            properties.push(("capsEx".to_owned(), Value::Number(CAPABILITIES)));
        }
        let Value::Object(mut information) =
            information("status", "NetConnection.Connect.Success", "connected")
        else {
            return;
        };
        information.push(("objectEncoding".to_owned(), Value::Number(0.0)));
        let result = Value::Object(information);
        self.command(
            0,
            &[Value::text("_result"), Value::Number(transaction), Value::Object(properties), result],
        );
    }

    /// Refuses `connect`.
    pub(super) fn not_connected(&mut self, transaction: f64, reason: &str) {
        let information = information("error", "NetConnection.Connect.Rejected", reason);
        self.command(0, &[Value::text("_error"), Value::Number(transaction), Value::Null, information]);
    }

    /// Answers a call with a value; calls with transaction 0 want none.
    pub(super) fn result(&mut self, transaction: f64, value: Value) {
        if transaction != 0.0 {
            self.command(0, &[Value::text("_result"), Value::Number(transaction), Value::Null, value]);
        }
    }

    /// Answers a call that is not known here.
    pub(super) fn unknown_call(&mut self, transaction: f64) {
        if transaction != 0.0 {
            let information = information("error", "NetConnection.Call.Failed", "there is no such call here");
            self.command(0, &[Value::text("_error"), Value::Number(transaction), Value::Null, information]);
        }
    }

    /// Tells encoders of the Flash age that they may go on to `createStream`.
    pub(super) fn publishing_announced(&mut self) {
        let information = information("status", "NetStream.Publish.Start", "go on");
        self.command(0, &[Value::text("onFCPublish"), Value::Number(0.0), Value::Null, information]);
    }

    /// Tells the state of a message stream.
    pub(super) fn status(&mut self, stream: u32, level: &str, code: &str, description: &str) {
        let information = information(level, code, description);
        self.command(stream, &[Value::text("onStatus"), Value::Number(0.0), Value::Null, information]);
    }

    pub(super) fn stream_begins(&mut self, stream: u32) {
        self.user_control(STREAM_BEGIN, &stream.to_be_bytes());
    }

    pub(super) fn handle_user_control(&mut self, payload: &[u8]) {
        if let Some((event, data)) = payload.split_first_chunk::<2>()
            && u16::from_be_bytes(*event) == PING_REQUEST
            && let Some(time) = data.first_chunk::<4>()
        {
            self.user_control(PING_RESPONSE, time);
        }
    }

    /// Acknowledges what has come, if the peer's window is full.
    pub(super) fn acknowledge(&mut self) {
        let received = self.stats.received_bytes;
        if received - self.acknowledged >= u64::from(self.window_bytes) {
            self.acknowledged = received;
            self.control(message_type::ACKNOWLEDGEMENT, &(received as u32).to_be_bytes());
        }
    }

    fn user_control(&mut self, event: u16, data: &[u8; 4]) {
        let mut payload = event.to_be_bytes().to_vec();
        payload.extend_from_slice(data);
        self.control(message_type::USER_CONTROL, &payload);
    }

    fn control(&mut self, message_type: u8, payload: &[u8]) {
        self.send(CONTROL_CHUNKS, 0, message_type, Bytes::copy_from_slice(payload));
    }

    fn command(&mut self, stream_id: u32, values: &[Value]) {
        let mut payload = Vec::new();
        for value in values {
            amf0::write(&mut payload, value);
        }
        let chunks = if stream_id == 0 { CONNECTION_CHUNKS } else { STREAM_CHUNKS };
        self.send(chunks, stream_id, message_type::COMMAND, payload.into());
    }

    fn send(&mut self, chunk_stream: u8, stream_id: u32, message_type: u8, payload: Bytes) {
        // The size counts from the message after the one that tells it.
        let chunk_bytes = if self.has_told_chunk_size { CHUNK_BYTES } else { CHUNK_BYTES_DEFAULT };
        self.has_told_chunk_size |= message_type == message_type::SET_CHUNK_SIZE;
        let mut bytes = Vec::new();
        chunk::write(
            &mut bytes,
            chunk_bytes,
            chunk_stream,
            &Message { timestamp: 0, message_type, stream_id, payload },
        );
        self.output.extend_from_slice(&bytes);
    }
}

fn information(level: &str, code: &str, description: &str) -> Value {
    Value::object([
        ("level", Value::text(level)),
        ("code", Value::text(code)),
        ("description", Value::text(description)),
    ])
}
