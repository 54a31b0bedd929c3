//! A recording that browsers can decode, on air: real pictures, a keyframe every eight seconds (OBS's default), and a
//! publisher that is deaf to keyframe requests.
//!
//! Every picture has its place in the recording painted along its top edge, as `web/timecode.js` reads it: so a page
//! knows which picture it shows, and with [`OnAir::began`] how old that is.

pub mod layers;
mod payloads;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use client::demo::Clip as DemoClip;
use client::{Outgoing, Whip, WhipSession, whip};
use client::{h264, ogg};
use model::{Codec, Kind};
use tokio::task::JoinHandle;

/// Where Debian puts the encoder.
pub const FFMPEG: &str = "/usr/bin/ffmpeg";
/// Pictures in a second.
pub const FRAME_RATE: u32 = 30;
/// From one keyframe to the next.
pub const GROUP: Duration = Duration::from_secs(8);
/// How long one turn of the recording takes. Two groups, so that a viewer who is a whole one behind is seen to be.
pub const LENGTH: Duration = Duration::from_secs(16);

const FRAMES_A_GROUP: u32 = FRAME_RATE * GROUP.as_secs() as u32;
const FRAMES: u32 = FRAME_RATE * LENGTH.as_secs() as u32;
/// Blocks of the time code: white, black, time, check.
pub(crate) const CODE_BLOCKS: usize = 52;
/// White and black of it differ by so much at least, of 255.
const CONTRAST_MIN: u8 = 64;
/// 12 pixels for each block, a twelfth of the height for their row.
pub(crate) const PICTURE: &str = "624x352";
const ROW: &str = "624:30";
const BITRATE: &str = "1500k";
const SOUND_PACKET: Duration = Duration::from_millis(20);

/// The recording: RTP payloads by picture.
pub struct Clip {
    codec: Codec,
    pictures: Vec<Vec<Vec<u8>>>,
}

impl Clip {
    /// Encodes it, which takes seconds.
    ///
    /// # Errors
    /// If the encoder fails, does not know the codec (it does not do H265), or makes other pictures than it was told
    /// to.
    pub fn encode(codec: Codec) -> anyhow::Result<Self> {
        let (is_keyframe, pictures) = packetize(codec, encoded(codec)?)?;
        let keyframes: Vec<u32> =
            (0..).zip(&is_keyframe).filter(|(_, is)| **is).map(|(frame, _)| frame).collect();
        ensure!(
            pictures.len() == FRAMES as usize && keyframes == [0, FRAMES_A_GROUP],
            "{} pictures, keyframes at {keyframes:?}",
            pictures.len()
        );
        Ok(Self { codec, pictures })
    }

    /// Publishes it to the WHIP endpoint `url`, over and over, with the sound of the built-in clip.
    ///
    /// # Errors
    /// If it cannot connect.
    pub async fn publish(self, url: &str) -> anyhow::Result<OnAir> {
        let tracks = [Codec::Opus, self.codec];
        let session = Arc::new(Whip::connect(url, None, &tracks, whip::Options::default()).await?);
        let (began, start) = (SystemTime::now(), Instant::now());
        let sounds = DemoClip::built_in().sounds;
        let playing = session.clone();
        let publishing = tokio::spawn(async move {
            let sounds: Vec<Vec<Vec<u8>>> = sounds.iter().map(|sound| vec![sound.to_vec()]).collect();
            // Both end with the session only.
            tokio::join!(
                play(&playing, Kind::Video, &self.pictures, start, Duration::from_secs(1) / FRAME_RATE),
                play(&playing, Kind::Audio, &sounds, start, SOUND_PACKET)
            );
        });
        Ok(OnAir { began, session, publishing })
    }
}

/// A recording on air. Vanishes with its value.
pub struct OnAir {
    /// When its first picture, a keyframe, was due.
    pub began: SystemTime,
    session: Arc<WhipSession>,
    publishing: JoinHandle<()>,
}

impl OnAir {
    /// How long it is until the next moment that comes `since_keyframe` after a keyframe.
    #[must_use]
    pub fn until(&self, since_keyframe: Duration) -> Duration {
        let since = self.began.elapsed().unwrap_or_default().as_nanos() % GROUP.as_nanos();
        let ahead = (GROUP.as_nanos() + since_keyframe.as_nanos() - since) % GROUP.as_nanos();
        Duration::from_nanos(ahead as u64)
    }

    /// Keyframe requests that it heard and left alone.
    #[must_use]
    pub fn keyframe_requests(&self) -> u64 {
        self.session.keyframe_requests()
    }

    /// How old a picture with this code is when it is shown at `now` (both in ms, `now` since 1970).
    #[must_use]
    pub fn age_ms(&self, code: f64, now: f64) -> f64 {
        let began = self.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        (now - began.as_secs_f64() * 1000.0 - code).rem_euclid(LENGTH.as_secs_f64() * 1000.0)
    }
}

impl Drop for OnAir {
    fn drop(&mut self) {
        self.publishing.abort();
    }
}

/// Sends samples in real time until the session ends.
async fn play(
    session: &WhipSession,
    kind: Kind,
    samples: &[Vec<Vec<u8>>],
    start: Instant,
    interval: Duration,
) {
    let clock_rate = if kind == Kind::Video { 90_000 } else { Codec::Opus.clock_rate() };
    let ticks = (interval.as_secs_f64() * f64::from(clock_rate)).round() as u32;
    for (sample, index) in samples.iter().cycle().zip(0u32..) {
        let rate = (1.0 / interval.as_secs_f64()).round();
        let captured = start + Duration::from_secs_f64(f64::from(index) / rate);
        tokio::time::sleep_until(captured.into()).await;
        let last = sample.len() - 1;
        for (position, payload) in sample.iter().enumerate() {
            let marker = kind == Kind::Video && position == last;
            let timestamp = index.wrapping_mul(ticks);
            let payload = payload.clone().into();
            let packet = Outgoing { kind, rid: None, timestamp, marker, captured, payload };
            if session.send(packet).await.is_err() {
                return;
            }
        }
    }
}

/// The pictures of the recording in H264, each as byte stream (ITU-T H.264, annex B), for encoders that packetize it.
///
/// # Errors
/// If the encoder fails.
pub fn h264_pictures() -> anyhow::Result<Vec<Vec<u8>>> {
    let units = h264::access_units(&encoded(Codec::H264)?.into());
    let start_code = [0, 0, 0, 1];
    let picture = |unit: &h264::AccessUnit| {
        unit.nal_units.iter().flat_map(|nal| start_code.iter().chain(nal).copied()).collect()
    };
    Ok(units.iter().map(picture).collect())
}

/// The recording as it comes from the encoder: H264 as byte stream, the others as IVF.
fn encoded(codec: Codec) -> anyhow::Result<Vec<u8>> {
    let rows: Vec<u8> = (0..FRAMES).flat_map(|frame| code_row(frame_time(frame))).collect();
    let group = FRAMES_A_GROUP.to_string();
    let rate = FRAME_RATE.to_string();
    let picture = format!("testsrc2=s={PICTURE}:r={FRAME_RATE}");
    let paint = format!("{};[painted]format=yuv420p", paint_code("painted"));
    let size = format!("{CODE_BLOCKS}x1");
    let mut ffmpeg = Command::new(FFMPEG);
    ffmpeg
        .args(["-v", "error", "-f", "rawvideo", "-pix_fmt", "gray", "-s", &size, "-r", &rate, "-i", "pipe:0"])
        .args(["-f", "lavfi", "-i", &picture, "-filter_complex", &paint])
        .args(["-b:v", BITRATE, "-g", &group, "-keyint_min", &group, "-c:v"])
        .args(encoder(codec)?)
        .arg("pipe:1");
    output_of(ffmpeg, rows)
}

/// ffmpeg's filters that paint rows of its first input over the picture of its second one.
pub(crate) fn paint_code(output: &str) -> String {
    format!("[0]scale={ROW}:flags=neighbor,format=yuv420p[row];[1][row]overlay=shortest=1[{output}]")
}

/// A source of ffmpeg: a soft tone, and a beep at each full second, without end.
pub(crate) fn beeps(sample_rate: &str) -> String {
    let tones = "0.06*sin(2*PI*220*t)+0.2*sin(2*PI*880*t)*lt(mod(t,1),0.1)";
    format!("aevalsrc='{tones}':s={sample_rate}")
}

/// The sound of the recording: Opus packets of 20 ms for one turn, with a beep at each of its full seconds.
///
/// # Errors
/// If the encoder fails.
pub fn sounds() -> anyhow::Result<Vec<Bytes>> {
    let mut ffmpeg = Command::new(FFMPEG);
    // A little more than is needed: what the coder delays would be missing at the end.
    let seconds = (LENGTH + Duration::from_secs(1)).as_secs().to_string();
    ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", &beeps("48000"), "-t", &seconds]).args([
        "-c:a",
        "libopus",
        "-ac",
        "2",
        "-b:a",
        "96k",
        "-frame_duration",
        "20",
        "-f",
        "ogg",
        "pipe:1",
    ]);
    let mut packets = ogg::opus_packets(&output_of(ffmpeg, Vec::new())?.into()).context("the sound")?;
    let wanted = (LENGTH.as_millis() / SOUND_PACKET.as_millis()) as usize;
    ensure!(packets.len() >= wanted, "{} packets of sound", packets.len());
    packets.truncate(wanted);
    Ok(packets)
}

/// The encoder's arguments.
fn encoder(codec: Codec) -> anyhow::Result<&'static [&'static str]> {
    Ok(match codec {
        Codec::H264 => &[
            "libx264",
            "-preset",
            "superfast",
            "-tune",
            "zerolatency",
            "-profile:v",
            "baseline",
            "-sc_threshold",
            "0",
            "-bf",
            "0",
            "-x264-params",
            "aud=1:sliced-threads=0",
            "-maxrate",
            BITRATE,
            "-bufsize",
            BITRATE,
            "-f",
            "h264",
        ],
        Codec::Vp8 => &[
            "libvpx",
            "-deadline",
            "realtime",
            "-cpu-used",
            "8",
            "-auto-alt-ref",
            "0",
            "-lag-in-frames",
            "0",
            "-f",
            "ivf",
        ],
        Codec::Vp9 => &[
            "libvpx-vp9",
            "-deadline",
            "realtime",
            "-cpu-used",
            "8",
            "-auto-alt-ref",
            "0",
            "-lag-in-frames",
            "0",
            "-f",
            "ivf",
        ],
        Codec::Av1 => {
            &["libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0", "-f", "ivf"]
        }
        Codec::Opus | Codec::H265 => bail!("no recording is made with {codec}"),
    })
}

/// The RTP payloads of one picture.
type Picture = Vec<Vec<u8>>;

/// RTP payloads by picture, and which pictures are keyframes.
fn packetize(codec: Codec, stream: Vec<u8>) -> anyhow::Result<(Vec<bool>, Vec<Picture>)> {
    if codec == Codec::H264 {
        let units = h264::access_units(&stream.into());
        let of = |unit: &h264::AccessUnit| unit.payloads().iter().map(|payload| payload.to_vec()).collect();
        return Ok(units.iter().map(|unit| (unit.is_keyframe(), of(unit))).unzip());
    }
    let frames = payloads::ivf_frames(&stream).context("the encoder's IVF is broken")?;
    let picture = |(frame, number): (&&[u8], u16)| {
        Ok(match codec {
            Codec::Vp8 => (payloads::is_vp8_keyframe(frame), payloads::vp8(frame)),
            Codec::Vp9 => (payloads::is_vp9_keyframe(frame), payloads::vp9(frame, number)),
            Codec::Av1 => {
                let obus = payloads::obus(frame).context("the encoder's OBUs are broken")?;
                (payloads::is_av1_keyframe(&obus), payloads::av1(&obus))
            }
            Codec::Opus | Codec::H264 | Codec::H265 => bail!("{codec} does not come as IVF"),
        })
    };
    frames.iter().zip(0..).map(picture).collect()
}

fn output_of(mut command: Command, input: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the encoder")?;
    let mut stdin = child.stdin.take().context("the encoder's input")?;
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().context("run the encoder")?;
    let written = writing.join().map_err(|_| anyhow::anyhow!("writing to the encoder panicked"))?;
    ensure!(output.status.success(), "the encoder failed: {}", String::from_utf8_lossy(&output.stderr));
    written.context("give the encoder its time codes")?;
    Ok(output.stdout)
}

/// Place of a picture in the recording, in ms.
fn frame_time(frame: u32) -> u64 {
    u64::from(frame) * 1000 / u64::from(FRAME_RATE)
}

/// One row of pixels, one for each block of the code that `web/timecode.js` reads.
pub(crate) fn code_row(time: u64) -> [u8; CODE_BLOCKS] {
    let mut row = [0; CODE_BLOCKS];
    row[0] = 255;
    // CRC-8, polynomial x^8 + x^2 + x + 1, start value 0xff.
    let mut check = 0xffu8;
    for (index, place) in (0..42).rev().enumerate() {
        let bit = (time >> place) as u8 & 1;
        row[2 + index] = bit * 255;
        let is_out = check >> 7 != bit;
        check <<= 1;
        if is_out {
            check ^= 0x07;
        }
    }
    for (index, place) in (0..8).rev().enumerate() {
        row[44 + index] = (check >> place & 1) * 255;
    }
    row
}

/// The time in a row of pixels, one for each block of the code; `None` if there is none that can be trusted.
pub(crate) fn time_of_row(row: &[u8; CODE_BLOCKS]) -> Option<u64> {
    let [white, black] = [row[0], row[1]];
    let middle = black + white.checked_sub(black).filter(|contrast| *contrast >= CONTRAST_MIN)? / 2;
    let bits = row.map(|pixel| if pixel > middle { 255 } else { 0 });
    let time = bits[2..44].iter().fold(0, |time, bit| time << 1 | u64::from(*bit & 1));
    (code_row(time) == bits).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_was_coded_badly_is_read_and_one_that_was_not_whole_is_not() {
        let row = code_row(1_700_000_000_123);
        let pale = row.map(|pixel| if pixel == 255 { 200 } else { 40 });
        assert_eq!(time_of_row(&pale), Some(1_700_000_000_123));
        let mut torn = pale;
        torn[20] = 240 - torn[20];
        assert_eq!(time_of_row(&torn), None);
        assert_eq!(time_of_row(&row.map(|pixel| pixel / 8)), None, "too little contrast");
        assert_eq!(time_of_row(&[128; CODE_BLOCKS]), None);
    }

    #[test]
    fn a_code_is_what_the_page_reads() {
        let blocks: String =
            code_row(5033).iter().map(|pixel| if *pixel == 255 { '1' } else { '0' }).collect();
        // 5033 is 0b1001110101001; the check was computed with web/timecode.js.
        assert_eq!(&blocks[..2], "10");
        assert_eq!(&blocks[2..44], format!("{:042b}", 5033));
        assert_eq!(&blocks[44..], "11011010");
    }
}
