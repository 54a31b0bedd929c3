//! Whether it is connected at all, and whether there is something to see and to hear.

use std::time::{Duration, Instant};

use ingest::Connection;
use model::Kind;

use crate::code::Code;
use crate::finding::Signs;
use crate::history::History;
use crate::sign::Sign;

/// Opus below it, in bit/s of payload, codes silence.
const SILENCE_BPS_MAX: u64 = 6000;
/// A connection of this age has had the time to send.
const SETTLED: Duration = Duration::from_secs(4);
/// In so many seconds of silence there is not one packet that is heard.
const SILENT_SECONDS: u64 = 5;

/// A publisher that is not connected yet.
pub(crate) fn unconnected(history: &History, now: Instant, signs: &mut Signs) {
    let seconds = history.age(now).as_secs();
    let connection = history.newest().map(|(_, stats)| stats.connection);
    if connection == Some(Connection::Awaited) {
        let what =
            format!("The server has waited {seconds} s for the publisher and has got nothing over UDP.");
        signs.insert(Code::UdpBlocked, Sign::from(what).number("waited", seconds as f64));
    } else {
        let what = format!("UDP comes from the publisher, but after {seconds} s there is no connection.");
        signs.insert(Code::HandshakeStuck, Sign::from(what).number("waited", seconds as f64));
    }
}

/// A publisher that is connected.
pub(crate) fn check(history: &History, now: Instant, signs: &mut Signs) {
    let flows = |kind| history.changes_of(kind, 3).any(|change| change.is_flowing());
    if history.connected_for(now).is_none_or(|age| age < SETTLED) {
        return;
    }
    let (has_sound, has_picture) = (flows(Kind::Audio), flows(Kind::Video));
    match (has_sound, has_picture) {
        (false, false) => {
            signs.insert(Code::NoMedia, "Neither sound nor picture comes from the publisher.".into());
        }
        (true, false) if history.has(Kind::Video) => {
            signs.insert(Code::NoPicture, "Sound comes from the publisher and no picture.".into());
        }
        (false, true) if history.has(Kind::Audio) => {
            signs.insert(Code::NoAudio, "The picture comes from the publisher and no sound.".into());
        }
        (false, true) => {
            signs.insert(Code::NoAudioTrack, "The publisher sends a picture and no sound.".into());
        }
        (true, _) => {}
    }
    if history.changes_of(Kind::Audio, SILENT_SECONDS).any(|change| {
        let levels = change.of(|layer| layer.facts.levels);
        let is_quiet = if levels > 0 {
            change.of(|layer| layer.facts.audible) == 0
        } else {
            model::Bitrate::of(change.of(|layer| layer.bytes), change.elapsed).as_bps() < SILENCE_BPS_MAX
        };
        change.is_flowing() && is_quiet
    }) {
        signs.insert(Code::Silence, "The publisher sends sound, and nothing is to be heard in it.".into());
    }
}
