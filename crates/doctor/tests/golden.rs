//! Encoders set badly get exactly the advice they need, encoders set well get none.
//!
//! The bitstreams are real: ffmpeg makes them with x264, x265, libvpx and SVT-AV1, and they are published through the
//! very code that takes publishers, over a network in virtual time or as an RTMP encoder would. Conditions of lines and
//! machines are simulated.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that meets what cannot be may panic"
)]

#[path = "golden/film.rs"]
mod film;
#[path = "../../ingest/tests/harness/mod.rs"]
mod harness;
#[path = "golden/stage.rs"]
mod stage;

use std::collections::BTreeMap;

use doctor::Code;
use film::Film;
use model::Codec;
use stage::{Act, By, Pace, Sound, Way};

/// As the README has OBS set: High profile although its offer says Baseline, two seconds between keyframes.
const OBS: &str = "-vf scale=640:360 -c:v libx264 -preset veryfast -tune zerolatency -profile:v high -pix_fmt yuv420p \
                   -g 60 -b:v 800k -maxrate 800k -bufsize 800k";
/// The least that a setting is added to.
const X264: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 30";

const H264: Codec = Codec::H264;

/// Name, codec, pictures per second, seconds and the options of ffmpeg.
type Encoder = (&'static str, Codec, u32, u32, String);

fn encoders() -> Vec<Encoder> {
    let x264 = |more: &str| format!("{X264} {more}");
    vec![
        ("obs", H264, 30, 20, OBS.into()),
        ("obs for long", H264, 30, 42, OBS.into()),
        ("zerolatency", H264, 30, 20, x264("")),
        ("50 fps", H264, 50, 20, x264("-g 100")),
        ("60 fps, level 4.2", H264, 60, 20, x264("-g 60 -profile:v high -level 4.2")),
        ("baseline on demand", H264, 30, 20, x264("-g 9999 -profile:v baseline")),
        (
            "vp8 on demand",
            Codec::Vp8,
            30,
            20,
            "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 500k -g 9999".into(),
        ),
        ("vp9", Codec::Vp9, 30, 20, "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 500k -g 60".into()),
        (
            "av1",
            Codec::Av1,
            30,
            20,
            "-pix_fmt yuv420p -c:v libsvtav1 -preset 12 -svtav1-params pred-struct=1 -g 60".into(),
        ),
        (
            "h265",
            Codec::H265,
            30,
            20,
            "-c:v libx265 -preset ultrafast -tune zerolatency -pix_fmt yuv420p \
          -x265-params keyint=60:repeat-headers=1:aud=1:log-level=none"
                .into(),
        ),
        ("10 s apart", H264, 30, 40, x264("-g 300 -sc_threshold 0")),
        ("250 pictures at 60 fps", H264, 60, 20, x264("-g 250 -sc_threshold 0")),
        ("no keyframes", H264, 30, 25, x264("-g 9999 -sc_threshold 0")),
        ("two b-frames", H264, 30, 20, x264("-bf 2")),
        ("x264 by default", H264, 30, 30, "-c:v libx264 -pix_fmt yuv420p".into()),
        ("4:4:4", H264, 30, 20, x264("-pix_fmt yuv444p")),
        ("4:2:2", H264, 30, 20, x264("-pix_fmt yuv422p")),
        ("10 bits", H264, 30, 20, x264("-pix_fmt yuv420p10le")),
        ("level 5.1", H264, 30, 20, x264("-profile:v high -level 5.1")),
        ("level 6.0", H264, 30, 20, x264("-profile:v high -level 6.0")),
        ("interlaced", H264, 30, 20, x264("-flags +ilme+ildct")),
        ("120 fps", H264, 120, 20, x264("-g 120")),
        ("20 Mbit/s", H264, 30, 20, x264("-vf scale=640:360,noise=alls=60:allf=t -qp 26")),
    ]
}

const GOOD: Way = Way::Good;
const LIVE: Pace = Pace::Live;
const MUSIC: Sound = Sound::Music;

/// What it is, its encoder (none: sound alone), how it is published, its sound, its way, its pace, and what is advised.
type Case = (&'static str, &'static str, By, Sound, Way, Pace, &'static [Code]);

#[rustfmt::skip]
const SET_WELL: &[Case] = &[
    ("OBS as the README says",            "obs",                By::Obs,     MUSIC,        GOOD,              LIVE, &[]),
    ("the same over RTMP",                "obs",                By::Rtmp,    MUSIC,        GOOD,              LIVE, &[]),
    ("ffmpeg -tune zerolatency",          "zerolatency",        By::Obs,     MUSIC,        GOOD,              LIVE, &[]),
    ("ffmpeg over RTMP",                  "zerolatency",        By::Rtmp,    MUSIC,        GOOD,              LIVE, &[]),
    ("50 pictures per second",            "50 fps",             By::Obs,     MUSIC,        GOOD,              LIVE, &[]),
    ("60 pictures per second, High 4.2",  "60 fps, level 4.2",  By::Obs,     MUSIC,        GOOD,              LIVE, &[]),
    ("a browser's camera in H.264",       "baseline on demand", By::Browser, MUSIC,        GOOD,              LIVE, &[]),
    ("a browser's camera in VP8",         "vp8 on demand",      By::Browser, MUSIC,        GOOD,              LIVE, &[]),
    ("VP9",                               "vp9",                By::Obs,     MUSIC,        GOOD,              LIVE, &[]),
    ("AV1",                               "av1",                By::Obs,     MUSIC,        GOOD,              LIVE, &[]),
    ("sound alone",                       "",                   By::Browser, MUSIC,        GOOD,              LIVE, &[]),
    ("sound alone over RTMP",             "",                   By::Rtmp,    MUSIC,        GOOD,              LIVE, &[]),
    ("Wi-Fi that loses one percent",      "obs",                By::Browser, MUSIC,        Way::Loses(1),     LIVE, &[]),
    ("a line that just suffices",         "obs",                By::Obs,     MUSIC,        Way::Thin(1500, 500), LIVE, &[]),
    ("the same over RTMP",                "obs",                By::Rtmp,    MUSIC,        Way::Thin(1500, 0),   LIVE, &[]),
];

#[rustfmt::skip]
const SET_BADLY: &[Case] = &[
    ("keyframes 10 s apart",              "10 s apart",         By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::KeyframeInterval]),
    ("the same over RTMP",                "10 s apart",         By::Rtmp,    MUSIC,        GOOD,              LIVE, &[Code::KeyframeInterval]),
    ("keyframe interval 0 at 60 fps",     "250 pictures at 60 fps", By::Obs, MUSIC,        GOOD,              LIVE, &[Code::KeyframeInterval]),
    ("keyframes on demand, none heard",   "no keyframes",       By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::NoKeyframe]),
    ("-bf 2",                             "two b-frames",       By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::BFrames]),
    ("x264 left alone",                   "x264 by default",    By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::BFrames, Code::KeyframeInterval]),
    ("color format I444",                 "4:4:4",              By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::H264Profile]),
    ("color format I444 over RTMP",       "4:4:4",              By::Rtmp,    MUSIC,        GOOD,              LIVE, &[Code::H264Profile]),
    ("4:2:2 of a capture card",           "4:2:2",              By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::H264Profile]),
    ("10 bits, P010",                     "10 bits",            By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::H264Profile]),
    ("level 5.1",                         "level 5.1",          By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::H264Level]),
    ("level 6.0",                         "level 6.0",          By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::H264LevelTooHigh]),
    ("interlaced",                        "interlaced",         By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::Interlaced]),
    ("H.265",                             "h265",               By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::CodecSupport]),
    ("global headers",                    "bare",               By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::ParameterSets]),
    ("120 pictures per second",           "120 fps",            By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::FrameRateHigh]),
    ("constant quality for a recording",  "20 Mbit/s",          By::Obs,     MUSIC,        GOOD,              LIVE, &[Code::BitrateHigh]),
    ("-an",                               "obs",                By::Obs,     Sound::None,  GOOD,              LIVE, &[Code::NoAudioTrack]),
    ("-an over RTMP",                     "obs",                By::Rtmp,    Sound::None,  GOOD,              LIVE, &[Code::NoAudioTrack]),
    ("a track without sound",             "obs",                By::Obs,     Sound::Missing, GOOD,            LIVE, &[Code::NoAudio]),
    ("the mixer is muted",                "obs for long",       By::Obs,     Sound::Silent, GOOD,             LIVE, &[Code::Silence]),
    ("the browser's microphone is muted", "obs for long",       By::Browser, Sound::Muted, GOOD,              LIVE, &[Code::Silence]),
    ("Wi-Fi that loses six percent",      "obs",                By::Browser, MUSIC,        Way::Loses(6),     LIVE, &[Code::UplinkLoss]),
    ("the same without repair",           "obs",                By::Obs,     MUSIC,        Way::LosesForGood(6), LIVE, &[Code::UplinkDamage]),
    ("a line too thin, with a queue",     "obs",                By::Obs,     MUSIC,        Way::Thin(700, 1000), LIVE, &[Code::BitrateBeyondLink]),
    ("a line too thin, almost without",   "obs",                By::Browser, MUSIC,        Way::Thin(700, 150), LIVE, &[Code::BitrateBeyondLink]),
    ("a line too thin for RTMP",          "obs",                By::Rtmp,    MUSIC,        Way::Thin(700, 0), LIVE, &[Code::FallsBehind]),
    ("packets that come unevenly",        "obs",                By::Obs,     MUSIC,        Way::Uneven(600),  LIVE, &[Code::UplinkJitter]),
    ("an encoder at 0.7 of its speed",    "obs",                By::Obs,     MUSIC,        GOOD,              Pace::Speed(70), &[Code::FallsBehind]),
    ("a file without -re",                "obs for long",       By::Obs,     MUSIC,        GOOD,              Pace::Speed(200), &[Code::AheadOfTime]),
    ("every third picture skipped",       "obs",                By::Obs,     MUSIC,        GOOD,              Pace::Skips(33), &[Code::FrameRateUnsteady]),
    ("the camera is unplugged",           "obs",                By::Obs,     MUSIC,        GOOD,              Pace::PictureStops, &[Code::NoPicture]),
    ("the encoder hangs",                 "obs",                By::Obs,     MUSIC,        GOOD,              Pace::AllStops, &[Code::NoMedia]),
    ("x264 that looks ahead",             "obs",                By::Obs,     Sound::Early(700), GOOD,         LIVE, &[Code::AvSkew]),
    ("UDP is blocked",                    "obs",                By::Obs,     MUSIC,        Way::Blocked,      LIVE, &[Code::UdpBlocked]),
    ("a firewall that knows STUN only",   "obs",                By::Obs,     MUSIC,        Way::ChecksOnly,   LIVE, &[Code::HandshakeStuck]),
];

/// The film without its parameter sets, as an encoder sends it that thinks of files.
fn bare(film: &Film) -> Film {
    let has_set = |payload: &[u8]| media_core::codec::h264::sequence_parameters(payload).is_some();
    let pictures = film.pictures.iter().map(|picture| {
        let payloads = picture.payloads.iter().filter(|(payload, _)| !has_set(payload)).cloned().collect();
        film::Coded { time: picture.time, payloads }
    });
    Film { codec: film.codec, pictures: pictures.collect() }
}

fn films() -> BTreeMap<&'static str, Film> {
    let encoded = encoders()
        .into_iter()
        .map(|(name, codec, rate, seconds, options)| (name, film::encode(codec, (rate, seconds), &options)));
    let mut films: BTreeMap<&str, Film> = encoded.collect();
    let bare = bare(&films["obs"]);
    assert!(
        bare.pictures.iter().all(|picture| !picture.payloads.is_empty()),
        "keyframes are larger than a packet"
    );
    films.insert("bare", bare);
    films
}

/// Plays all of them; what was not as it should be, in lines of a table.
fn play(films: &BTreeMap<&'static str, Film>, cases: &[Case]) -> Vec<String> {
    let names = |codes: &[Code]| codes.iter().map(|code| code.as_str()).collect::<Vec<_>>().join(", ");
    let mut wrong = Vec::new();
    for (name, encoder, by, sound, way, pace, expected) in cases {
        let film = (!encoder.is_empty()).then(|| &films[encoder]);
        let act = Act { film, by: *by, sound: *sound, way: *way, pace: *pace };
        let (findings, ever) = act.play();
        let mut told: Vec<Code> = findings.iter().map(|finding| finding.code).collect();
        told.sort();
        let line = format!("{name:36} {:8} {:40} [ever: {}]", format!("{by:?}"), names(&told), names(&ever));
        println!("{line}");
        findings.iter().for_each(|finding| println!("    {}", finding.what));
        let is_right = told == *expected && (!expected.is_empty() || ever.is_empty());
        if !is_right {
            wrong.push(format!("{line}, not {}", names(expected)));
        }
    }
    wrong
}

#[test]
fn bad_settings_get_exactly_the_right_advice_and_good_ones_get_none() {
    if !std::path::Path::new(film::FFMPEG).exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is not on this machine", film::FFMPEG);
        eprintln!("skipped: {} is not on this machine", film::FFMPEG);
        return;
    }
    let films = films();
    let wrong = [play(&films, SET_WELL), play(&films, SET_BADLY)].concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
