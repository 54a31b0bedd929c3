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
mod words;

use std::collections::BTreeMap;

use But::{At, Over, Well, With};
use doctor::Code::{self, self as C};
use doctor::Finding;
use film::Film;
use model::Codec;
use stage::By::{self, Browser, Obs, Rtmp};
use stage::{Act, Pace, Sound, Way};

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
        ("60 fps", H264, 60, 20, x264("-g 60 -profile:v high -level 4.2")),
        ("on demand", H264, 30, 20, x264("-g 9999 -profile:v baseline")),
        ("vp8", Codec::Vp8, 30, 20, "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 500k -g 9999".into()),
        ("vp9", Codec::Vp9, 30, 20, "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 500k -g 60".into()),
        (
            "vp9 10 bits",
            Codec::Vp9,
            30,
            20,
            "-pix_fmt yuv420p10le -c:v libvpx-vp9 -profile:v 2 -deadline realtime -cpu-used 8 -b:v 500k -g 60".into(),
        ),
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
        ("250 at 60 fps", H264, 60, 20, x264("-g 250 -sc_threshold 0")),
        ("no keyframes", H264, 30, 25, x264("-g 9999 -sc_threshold 0")),
        ("two b-frames", H264, 30, 20, x264("-bf 2")),
        ("default", H264, 30, 30, "-c:v libx264 -pix_fmt yuv420p".into()),
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

/// What is not as it should be beside the encoder's settings.
#[derive(Debug, Clone, Copy)]
enum But {
    Well,
    With(Sound),
    Over(Way),
    At(Pace),
}

/// What it is, its encoder (none: sound alone), how it is published, what else is the matter, and what is advised.
type Case = (&'static str, &'static str, By, But, &'static [Code]);

#[rustfmt::skip]
const SET_WELL: &[Case] = &[
    ("OBS as the README says",            "obs",           Obs,     Well,                       &[]),
    ("the same over RTMP",                "obs",           Rtmp,    Well,                       &[]),
    ("ffmpeg -tune zerolatency",          "zerolatency",   Obs,     Well,                       &[]),
    ("ffmpeg over RTMP",                  "zerolatency",   Rtmp,    Well,                       &[]),
    ("50 pictures per second",            "50 fps",        Obs,     Well,                       &[]),
    ("60 pictures per second, High 4.2",  "60 fps",        Obs,     Well,                       &[]),
    ("a browser's camera in H.264",       "on demand",     Browser, Well,                       &[]),
    ("a browser's camera in VP8",         "vp8",           Browser, Well,                       &[]),
    ("VP9",                               "vp9",           Obs,     Well,                       &[]),
    ("AV1",                               "av1",           Obs,     Well,                       &[]),
    ("sound alone",                       "",              Browser, Well,                       &[]),
    ("sound alone over RTMP",             "",              Rtmp,    Well,                       &[]),
    ("Wi-Fi that loses one percent",      "obs",           Browser, Over(Way::Loses(1)),        &[]),
    ("a line that just suffices",         "obs",           Obs,     Over(Way::Thin(1500, 500)), &[]),
    ("the same over RTMP",                "obs",           Rtmp,    Over(Way::Thin(1500, 0)),   &[]),
];

#[rustfmt::skip]
const SET_BADLY: &[Case] = &[
    ("keyframes 10 s apart",              "10 s apart",    Obs,     Well,                       &[C::KeyframeInterval]),
    ("the same over RTMP",                "10 s apart",    Rtmp,    Well,                       &[C::KeyframeInterval]),
    ("keyframe interval 0 at 60 fps",     "250 at 60 fps", Obs,     Well,                       &[C::KeyframeInterval]),
    ("keyframes on demand, none heard",   "no keyframes",  Obs,     Well,                       &[C::NoKeyframe]),
    ("-bf 2",                             "two b-frames",  Obs,     Well,                       &[C::BFrames]),
    ("x264 left alone",                   "default",       Obs,     Well,                       &[C::BFrames, C::KeyframeInterval]),
    ("color format I444",                 "4:4:4",         Obs,     Well,                       &[C::H264Profile]),
    ("color format I444 over RTMP",       "4:4:4",         Rtmp,    Well,                       &[C::H264Profile]),
    ("4:2:2 of a capture card",           "4:2:2",         Obs,     Well,                       &[C::H264Profile]),
    ("10 bits, P010",                     "10 bits",       Obs,     Well,                       &[C::H264Profile]),
    ("level 5.1",                         "level 5.1",     Obs,     Well,                       &[C::H264Level]),
    ("level 6.0",                         "level 6.0",     Obs,     Well,                       &[C::H264LevelTooHigh]),
    ("interlaced",                        "interlaced",    Obs,     Well,                       &[C::Interlaced]),
    ("H.265",                             "h265",          Obs,     Well,                       &[C::CodecSupport]),
    ("VP9 in 10 bits",                    "vp9 10 bits",   Obs,     Well,                       &[C::CodecSupport]),
    ("global headers",                    "bare",          Obs,     Well,                       &[C::ParameterSets]),
    ("120 pictures per second",           "120 fps",       Obs,     Well,                       &[C::FrameRateHigh]),
    ("constant quality for a recording",  "20 Mbit/s",     Obs,     Well,                       &[C::BitrateHigh]),
    ("-an",                               "obs",           Obs,     With(Sound::None),          &[C::NoAudioTrack]),
    ("-an over RTMP",                     "obs",           Rtmp,    With(Sound::None),          &[C::NoAudioTrack]),
    ("a track without sound",             "obs",           Obs,     With(Sound::Missing),       &[C::NoAudio]),
    ("the mixer is muted",                "obs for long",  Obs,     With(Sound::Silent),        &[C::Silence]),
    ("the browser's microphone is muted", "obs for long",  Browser, With(Sound::Muted),         &[C::Silence]),
    ("Wi-Fi that loses six percent",      "obs",           Browser, Over(Way::Loses(6)),        &[C::UplinkLoss]),
    ("the same without repair",           "obs",           Obs,     Over(Way::LosesForGood(6)), &[C::UplinkDamage]),
    ("a line too thin, with a queue",     "obs",           Obs,     Over(Way::Thin(700, 1000)), &[C::BitrateBeyondLink]),
    ("a line too thin, almost without",   "obs",           Browser, Over(Way::Thin(700, 150)),  &[C::BitrateBeyondLink]),
    ("a line too thin for RTMP",          "obs",           Rtmp,    Over(Way::Thin(700, 0)),    &[C::FallsBehind]),
    ("packets that come unevenly",        "obs",           Obs,     Over(Way::Uneven(160)),     &[C::UplinkJitter]),
    ("an encoder at 0.7 of its speed",    "obs",           Obs,     At(Pace::Speed(70)),        &[C::FallsBehind]),
    ("a file without -re",                "obs for long",  Obs,     At(Pace::Speed(200)),       &[C::AheadOfTime]),
    ("every third picture skipped",       "obs",           Obs,     At(Pace::Skips(33)),        &[C::FrameRateUnsteady]),
    ("the camera is unplugged",           "obs",           Obs,     At(Pace::PictureStops),     &[C::NoPicture]),
    ("the encoder hangs",                 "obs",           Obs,     At(Pace::AllStops),         &[C::NoMedia]),
    ("x264 that looks ahead",             "obs",           Obs,     With(Sound::Early(700)),    &[C::AvSkew]),
    ("UDP is blocked",                    "obs",           Obs,     Over(Way::Blocked),         &[C::UdpBlocked]),
    ("a firewall that knows STUN only",   "obs",           Obs,     Over(Way::ChecksOnly),      &[C::HandshakeStuck]),
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

/// The languages in which pages have no sentence for a finding's figures.
fn unsaid(finding: &Finding) -> Vec<String> {
    let can_be_said =
        |what: &String| words::placeholders(what).into_iter().all(|name| finding.figures.contains_key(name));
    let mute = words::tables().into_iter().filter(|(_, table)| {
        let said = &table[finding.code.as_str()];
        !said.what.iter().any(can_be_said) || said.remedy.is_empty()
    });
    mute.map(|(language, _)| format!("{language} has no words for {:?}", finding.figures)).collect()
}

/// Plays all of them; what was not as it should be, in lines of a table.
fn play(films: &BTreeMap<&'static str, Film>, cases: &[Case]) -> Vec<String> {
    let names = |codes: &[Code]| codes.iter().map(|code| code.as_str()).collect::<Vec<_>>().join(", ");
    let mut wrong = Vec::new();
    for (name, encoder, by, but, expected) in cases {
        let film = (!encoder.is_empty()).then(|| &films[encoder]);
        let well = Act { film, by: *by, sound: Sound::Music, way: Way::Good, pace: Pace::Live };
        let act = match *but {
            Well => well,
            With(sound) => Act { sound, ..well },
            Over(way) => Act { way, ..well },
            At(pace) => Act { pace, ..well },
        };
        let (findings, ever) = act.play();
        let mut told: Vec<Code> = findings.iter().map(|finding| finding.code).collect();
        told.sort();
        let line = format!("{name:36} {:8} {:40} [ever: {}]", format!("{by:?}"), names(&told), names(&ever));
        println!("{line}");
        for finding in &findings {
            println!("    {}", finding.what);
            wrong.extend(unsaid(finding).into_iter().map(|what| format!("{line}: {what}")));
        }
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
