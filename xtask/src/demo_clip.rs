//! Makes the demo clip with ffmpeg: ten seconds that loop without a seam, in picture and in sound.
//!
//! Everything that moves returns to its start after ten seconds. The sound is coded twice in a row and the second
//! run kept, so that the coder's start is not heard at the seam. The result lies in `crates/client/assets`.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::run;

/// Length of the loop.
const SECONDS: f64 = 10.0;
/// What the files may weigh together, in bytes: they are part of the program.
const TOTAL_BYTES_MAX: u64 = 1_200_000;

/// Makes `crates/client/assets/demo.h264` and `demo.ogg` again.
///
/// # Errors
/// If ffmpeg is missing or fails, or the files come out too large.
pub fn run() -> anyhow::Result<()> {
    let assets = run::root().join("crates/client/assets");
    std::fs::create_dir_all(&assets).context("make the assets' folder")?;
    let (video, audio) = (assets.join("demo.h264"), assets.join("demo.ogg"));
    run::command(
        ffmpeg()
            .args(["-f", "lavfi", "-i", &picture()])
            .args(["-c:v", "libx264", "-profile:v", "baseline", "-level", "3.0", "-preset", "veryslow"])
            .args(["-bf", "0", "-g", "60", "-keyint_min", "60", "-sc_threshold", "0"])
            .args(["-b:v", "380k", "-maxrate", "420k", "-bufsize", "420k", "-threads", "1"])
            .args(["-x264-params", "aud=1:repeat-headers=1", "-f", "h264"])
            .arg(&video),
    )?;
    let twice = std::env::temp_dir().join(format!("media-tree-demo-{}.ogg", std::process::id()));
    run::command(
        ffmpeg()
            .args(["-f", "lavfi", "-i", &melody(), "-c:a", "libopus", "-b:a", "48k", "-vbr", "on"])
            .args(["-frame_duration", "20", "-application", "audio"])
            .arg(&twice),
    )?;
    let second_run = SECONDS.to_string();
    let cut = run::command(
        ffmpeg()
            .args(["-ss", &second_run, "-t", &second_run, "-i"])
            .arg(&twice)
            .args(["-c", "copy"])
            .arg(&audio),
    );
    std::fs::remove_file(&twice).context("remove the longer sound file")?;
    cut?;
    let mut total = 0;
    for file in [&video, &audio] {
        let bytes = std::fs::metadata(file).with_context(|| format!("look at {}", file.display()))?.len();
        println!("{}: {bytes} bytes", file.display());
        total += bytes;
    }
    ensure!(total <= TOTAL_BYTES_MAX, "{total} bytes are more than {TOTAL_BYTES_MAX}");
    Ok(())
}

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args([
        "-hide_banner",
        "-loglevel",
        "warning",
        "-y",
        "-fflags",
        "+bitexact",
        "-flags",
        "+bitexact",
    ]);
    command
}

/// An evening by the sea: sky, a sun that wanders, four rows of waves, a title and a running clock.
fn picture() -> String {
    let [red, green, blue] = [0, 1, 2].map(channel);
    let title = "drawtext=font=DejaVu Sans:text=Media-Tree:fontsize=40:fontcolor=white@0.92:x=32:y=28";
    let clock = "drawtext=font=DejaVu Sans Mono:fontsize=22:fontcolor=white@0.85:x=w-tw-32:y=38:\
                 text='%{eif\\:floor(t)\\:d\\:2}.%{eif\\:mod(floor(t*100+0.5)\\,100)\\:d\\:2} s'";
    format!(
        "color=size=640x360:rate=30:duration={SECONDS},format=gbrp,geq=r='{red}':g='{green}':b='{blue}',\
         {title},{clock},format=yuv420p"
    )
}

/// The geq expression of one colour channel (0 red, 1 green, 2 blue). Drawn from back to front in variable 0.
fn channel(index: usize) -> String {
    let top = [38, 42, 92][index];
    let horizon = [246, 168, 128][index];
    let sun = [255, 238, 200][index];
    let waves: [(f64, f64, f64, f64, [u32; 3]); 4] = [
        // Height of the crest line (0 top, 1 bottom), crest to trough, crests across, turns in ten seconds, colour.
        (0.60, 0.018, 1.5, 1.0, [196, 118, 124]),
        (0.69, 0.026, 1.2, -1.0, [134, 84, 122]),
        (0.79, 0.034, 0.9, 2.0, [82, 60, 108]),
        (0.90, 0.040, 0.7, -2.0, [44, 42, 84]),
    ];
    let turn = format!("2*PI*T/{SECONDS}");
    // 1: how far down the sky, 2: distance from the sun.
    let mut expression = format!(
        "st(1,clip(Y/H/0.62,0,1));\
         st(2,hypot(X-W*(0.56+0.16*sin({turn})),Y-H*(0.40+0.05*cos({turn}))));\
         st(0,{top}+({horizon}-{top})*pow(ld(1),1.4));\
         st(0,ld(0)+({sun}-ld(0))*0.55*exp(-ld(2)/70));\
         st(0,ld(0)+({sun}-ld(0))*clip((38-ld(2))/3,0,1));"
    );
    for (height, swing, across, turns, colour) in waves {
        let colour = colour[index];
        let _ = write!(
            expression,
            "st(3,H*({height}+{swing}*sin(2*PI*({across}*X/W+{turns}*T/{SECONDS}))\
             +{swing}*0.4*sin(2*PI*(2.3*{across}*X/W-{turns}*T/{SECONDS}))));\
             st(0,ld(0)+({colour}-ld(0))*clip((Y-ld(3))/2,0,1));"
        );
    }
    expression.push_str("ld(0)");
    expression.replace(',', "\\,")
}

/// A slow arpeggio over four chords, as if plucked, above a quiet pad. Twice.
fn melody() -> String {
    const CHORDS: [[f64; 4]; 4] = [
        [261.63, 329.63, 392.00, 523.25],
        [220.00, 261.63, 329.63, 440.00],
        [174.61, 261.63, 349.23, 440.00],
        [196.00, 246.94, 293.66, 392.00],
    ];
    const ORDER: [usize; 8] = [0, 1, 2, 3, 2, 1, 2, 1];
    let chord_seconds = SECONDS / CHORDS.len() as f64;
    let note_seconds = chord_seconds / ORDER.len() as f64;
    let mut sides = [String::new(), String::new()];
    for (chord_index, chord) in CHORDS.iter().enumerate() {
        for (step, note) in ORDER.iter().enumerate() {
            let frequency = chord[*note];
            let start = chord_index as f64 * chord_seconds + step as f64 * note_seconds;
            // Time since the note was plucked, round the loop.
            let age = format!("mod(t-{start:.4}+{SECONDS},{SECONDS})");
            for (side, text) in sides.iter_mut().enumerate() {
                let volume = if (step + side) % 2 == 0 { 0.13 } else { 0.08 };
                let _ = write!(
                    text,
                    "st(0,{age});st(1,ld(1)+{volume}*(1-exp(-160*ld(0)))*(exp(-2.6*ld(0))*sin(2*PI*{frequency}*ld(0))\
                     +0.25*exp(-5*ld(0))*sin(4*PI*{frequency}*ld(0))));"
                );
            }
        }
        let (from, root) = (chord_index as f64 * chord_seconds, chord[0] / 2.0);
        for text in &mut sides {
            let _ = write!(
                text,
                "st(0,mod(t,{SECONDS})-{from});\
                 st(1,ld(1)+0.07*between(ld(0),0,{chord_seconds})*sin(PI*ld(0)/{chord_seconds})\
                 *sin(2*PI*{root}*ld(0)));"
            );
        }
    }
    let [left, right] = sides.map(|text| format!("st(1,0);{text}ld(1)").replace(',', "\\,"));
    format!("aevalsrc=exprs='{left}|{right}':sample_rate=48000:duration={}", 2.0 * SECONDS + 0.1)
}
