//! What the bitstream shows of the encoder's settings, and whether the encoder keeps up.

use media_core::codec::Profile;
use model::{Codec, Kind, ObsVersion};

use crate::code::Code;
use crate::finding::Signs;
use crate::history::{Change, History};
use crate::sign::Sign;

/// What browsers decode (ITU-T H.264, annex A): baseline, main, high.
const PROFILES: [u8; 3] = [66, 77, 100];
/// Ten times the highest level that phones of the last years decode, and that browsers promise.
const LEVEL_COMMON: u8 = 42;
const LEVEL_MAX: u8 = 52;
/// Pictures in a second of media that are still about 60.
const FRAME_RATE_MAX: f64 = 70.0;
/// A rate that a stream claims above this is the resolution of its clock.
const FRAME_RATE_CLAIM_MAX: f64 = 240.0;
/// Pictures that may be missing of those claimed.
const FRAMES_MISSING_MAX: f64 = 0.1;
/// Shares that show a stream that counts fields, not pictures missing.
const FIELD_RATES: std::ops::Range<f64> = 0.48..0.52;
/// Media time in a second of ours: above it a file is read too fast, below it the encoder does not keep up.
const SPEED_MAX: f64 = 1.3;
const SPEED_MIN: f64 = 0.9;
/// The first version of OBS that answers NACKs as it should (issue 10564 of OBS).
const OBS_THAT_REPAIRS: ObsVersion = ObsVersion { major: 30, minor: 2, patch: 0 };
/// Over which speed and rates are measured.
const SPAN_SECONDS: u64 = 10;

pub(crate) fn check(history: &History, signs: &mut Signs) {
    for change in history.changes_of(Kind::Video, 3).filter(Change::is_flowing) {
        bitstream(&change, signs);
    }
    for change in history.changes_of(Kind::Video, SPAN_SECONDS) {
        if history.is_flowing(change.now.ssrc) {
            frame_rate(&change, signs);
        }
    }
    speed(history, signs);
}

/// What the encoder says of itself.
pub(crate) fn version(obs: Option<ObsVersion>, signs: &mut Signs) {
    if let Some(version) = obs.filter(|version| *version < OBS_THAT_REPAIRS) {
        let what = format!("The publisher is OBS {version}, which does not send all again that was lost.");
        signs.insert(Code::EncoderOld, Sign::from(what).name("version", version.to_string()));
    }
}

fn bitstream(change: &Change<'_>, signs: &mut Signs) {
    let layer = change.now;
    if layer.codec == Some(Codec::H265) {
        let what = "The picture is coded in H.265, which Firefox and many older devices do not decode.";
        signs.insert(Code::CodecSupport, what.into());
    }
    if let Some(name) = layer.profile.and_then(seldom_decoded) {
        let what = format!("The picture is coded in {name}, which many browsers do not decode.");
        signs.insert(Code::CodecSupport, Sign::from(what).name("coding", name));
    }
    if change.of(|layer| layer.facts.b_frames) > 1 {
        signs.insert(Code::BFrames, "The picture has B-frames.".into());
    }
    if layer.facts.is_interlaced {
        signs.insert(Code::Interlaced, "The picture is coded as interlaced.".into());
    }
    let Some([profile, _, level]) = layer.profile_level_id else { return };
    if !PROFILES.contains(&profile) {
        signs.insert(Code::H264Profile, unknown_profile(profile));
    }
    let code = match level {
        _ if level > LEVEL_MAX => Code::H264LevelTooHigh,
        _ if level > LEVEL_COMMON => Code::H264Level,
        _ => return,
    };
    let level = format!("{}.{}", level / 10, level % 10);
    let sign = match layer.size {
        Some((width, height)) => {
            let size = format!("{width}x{height}");
            Sign::from(format!("The H.264 level is {level} at {size}.")).name("size", size)
        }
        None => Sign::from(format!("The H.264 level is {level}.")),
    };
    signs.insert(code, sign.name("level", level));
}

/// A profile of a codec that is decoded widely in its first profile only: more than 8 bits (VP9), or more colour than 4:2:0.
/// H.265 is a codec that is not decoded widely, whatever its profile.
const fn seldom_decoded(profile: Profile) -> Option<&'static str> {
    match profile {
        Profile::H265 { .. } | Profile::Vp9 { profile: 0 } | Profile::Av1 { profile: 0, .. } => None,
        Profile::Vp9 { profile: 1 } => Some("VP9, profile 1"),
        Profile::Vp9 { profile: 2 } => Some("VP9, profile 2"),
        Profile::Vp9 { .. } => Some("VP9, profile 3"),
        Profile::Av1 { profile: 1, .. } => Some("AV1, profile High"),
        Profile::Av1 { .. } => Some("AV1, profile Professional"),
    }
}

fn unknown_profile(profile: u8) -> Sign {
    let name = match profile {
        88 => "Extended",
        110 => "High 10",
        122 => "High 4:2:2",
        244 => "High 4:4:4",
        other => {
            let what = format!("The picture is in the H.264 profile number {other}.");
            return Sign::from(what).number("profile_number", other.into());
        }
    };
    Sign::from(format!("The picture is in the H.264 profile {name}.")).name("profile", name)
}

fn frame_rate(change: &Change<'_>, signs: &mut Signs) {
    let Some(rate) = change.frame_rate() else { return };
    if rate > FRAME_RATE_MAX {
        let what = format!("The publisher sends {rate:.0} pictures per second.");
        signs.insert(Code::FrameRateHigh, Sign::from(what).number("rate", rate.round()));
    }
    let claimed = change.now.facts.frame_rate.filter(|claimed| *claimed <= FRAME_RATE_CLAIM_MAX);
    // A browser's camera takes fewer pictures in the dark, by itself, whatever its encoder was told.
    let Some(claimed) = claimed.filter(|_| !change.now.facts.has_retransmissions) else { return };
    let share = rate / claimed;
    if share < 1.0 - FRAMES_MISSING_MAX && !FIELD_RATES.contains(&share) {
        let what = format!("Of {claimed:.0} pictures per second that the stream claims, {rate:.0} come.");
        let sign = Sign::from(what).number("claimed", claimed.round()).number("rate", rate.round());
        signs.insert(Code::FrameRateUnsteady, sign);
    }
}

/// Media time against ours. All that flows must agree: one stream may stop, or have a strange clock.
fn speed(history: &History, signs: &mut Signs) {
    let slowest = speeds(history, SPAN_SECONDS).fold(f64::INFINITY, f64::min);
    if slowest.is_finite() && slowest > SPEED_MAX {
        let what = format!("Media comes {slowest:.1} times as fast as it plays.");
        signs.insert(Code::AheadOfTime, Sign::from(what).number("speed", slowest));
    }
    let fastest = speed_max(history, SPAN_SECONDS);
    if fastest > 0.0 && fastest < SPEED_MIN {
        let media = fastest * 10.0;
        let what = format!("In ten seconds come {media:.1} s of media.");
        signs.insert(Code::FallsBehind, Sign::from(what).number("media", media));
    }
}

/// Media time in a second of ours, of the fastest stream in the last `seconds`; 0 if nothing flows.
pub(crate) fn speed_max(history: &History, seconds: u64) -> f64 {
    speeds(history, seconds).fold(0.0, f64::max)
}

/// Of each stream that flows at present.
fn speeds(history: &History, seconds: u64) -> impl Iterator<Item = f64> {
    let changes = history.changes(seconds).filter(|change| history.is_flowing(change.now.ssrc));
    changes.map(|change| change.media().as_secs_f64() / change.elapsed.as_secs_f64().max(0.1))
}
