//! Commands of the peer (RTMP specification 1.0, section 7.2, and what encoders use beyond it).

use super::{Connection, Error, Event, Phase};
use crate::amf0::{self, Value};
use crate::publish::Application;

/// Message streams of one connection. Encoders make one.
pub(super) const STREAMS_MAX: u32 = 8;

/// Members of `connect` that only encoders with Enhanced RTMP send.
const ENHANCED_MEMBERS: [&str; 4] = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"];

impl Connection {
    pub(super) fn handle_command(&mut self, stream_id: u32, payload: &[u8]) -> Result<(), Error> {
        let values = amf0::read(payload)?;
        let [Value::String(name), transaction, arguments @ ..] = &values[..] else {
            return Err(Error::Malformed { what: "command" });
        };
        let transaction = transaction.as_number().unwrap_or(0.0);
        if self.phase == Phase::Opening && name != "connect" {
            return Err(Error::Unexpected { what: "command before \"connect\"" });
        }
        match name.as_str() {
            "connect" => return self.connect(transaction, arguments),
            "FCPublish" => {
                self.publishing_announced();
                self.result(transaction, Value::Null);
            }
            "releaseStream" | "_checkbw" => self.result(transaction, Value::Null),
            "getStreamLength" => self.result(transaction, Value::Number(0.0)),
            "createStream" => return self.create_stream(transaction),
            "publish" => return self.publish(stream_id, arguments),
            "FCUnpublish" => {
                self.unpublish(None);
                self.result(transaction, Value::Null);
            }
            "closeStream" => self.unpublish(Some(stream_id)),
            "deleteStream" => {
                let stream = arguments.get(1).and_then(Value::as_number);
                self.unpublish(stream.map(|stream| stream as u32));
            }
            "play" | "play2" | "receiveAudio" | "receiveVideo" | "seek" | "pause" => {
                let reason = Error::Play.to_string();
                self.status(stream_id, "error", "NetStream.Play.Failed", &reason);
                return Err(Error::Play);
            }
            // Answers to what we never asked, and news.
            "_result" | "_error" | "onStatus" => {}
            _ => self.unknown_call(transaction),
        }
        Ok(())
    }

    fn connect(&mut self, transaction: f64, arguments: &[Value]) -> Result<(), Error> {
        if self.phase != Phase::Opening {
            return Err(Error::Unexpected { what: "second \"connect\"" });
        }
        let Some(object @ Value::Object(_)) = arguments.first() else {
            return Err(Error::Malformed { what: "\"connect\"" });
        };
        let text = |name| object.member(name).and_then(Value::as_text);
        let application = Application::new(text("app").unwrap_or_default(), text("tcUrl"), text("flashVer"));
        match application {
            Ok(application) => self.application = application,
            Err(error) => {
                self.not_connected(transaction, &error.to_string());
                return Err(error.into());
            }
        }
        self.phase = Phase::Open;
        self.connected(transaction, ENHANCED_MEMBERS.iter().any(|name| object.member(name).is_some()));
        Ok(())
    }

    fn create_stream(&mut self, transaction: f64) -> Result<(), Error> {
        if self.streams >= STREAMS_MAX {
            return Err(Error::TooManyStreams);
        }
        self.streams += 1;
        self.result(transaction, Value::Number(f64::from(self.streams)));
        Ok(())
    }

    fn publish(&mut self, stream: u32, arguments: &[Value]) -> Result<(), Error> {
        if self.phase != Phase::Open || !(1..=self.streams).contains(&stream) {
            return Err(Error::Unexpected { what: "request to publish" });
        }
        // The name may be missing; then there is nothing to publish.
        let name = arguments.get(1).and_then(Value::as_text).unwrap_or_default();
        match self.application.request(name) {
            Ok(request) => {
                self.phase = Phase::Deciding { stream };
                self.events.push_back(Event::PublishRequested(request));
                Ok(())
            }
            Err(error) => {
                self.status(stream, "error", "NetStream.Publish.BadName", &error.to_string());
                Err(error.into())
            }
        }
    }

    /// The broadcast ends, if it is that of this message stream.
    fn unpublish(&mut self, of: Option<u32>) {
        let Phase::Publishing { stream } = self.phase else { return };
        if of.is_some_and(|of| of != stream) {
            return;
        }
        self.status(stream, "status", "NetStream.Unpublish.Success", "the broadcast has ended");
        self.phase = Phase::Open;
        self.deadline = Some((self.now + super::PUBLISH_TIMEOUT, Error::NeverPublished));
        self.events.push_back(Event::Unpublished);
    }
}
