//! The recording in several sizes at once, as OBS codes it: an encoder for each, whose keyframes come when they come. Only
//! the first picture is one in all of them.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::h264;

use super::{CODE_BLOCKS, FFMPEG, FRAME_RATE, FRAMES, PICTURE, code_row, frame_time, output_of, paint_code};

/// From one keyframe of a layer to its next.
pub const GROUP: Duration = Duration::from_secs(2);

const FRAMES_A_GROUP: u32 = FRAME_RATE * GROUP.as_secs() as u32;
/// Bitrate of the best layer, in kbit/s.
const KBPS: u32 = 900;

/// One size.
pub struct Layer {
    /// What OBS calls it.
    pub rid: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// RTP payloads by picture, of one turn of the recording.
    pub pictures: Vec<Vec<Vec<u8>>>,
    /// The first keyframe after the one that begins the recording.
    first_keyframe: u32,
}

/// So many layers, best first, in even steps of width, height and bitrate; their keyframes lie as far apart as they can.
///
/// # Errors
/// If the encoder fails, or makes other pictures than it was told to.
pub fn layers(count: u32) -> anyhow::Result<Vec<Layer>> {
    (0..count).map(|index| Layer::encode(index, count)).collect()
}

impl Layer {
    fn encode(index: u32, count: u32) -> anyhow::Result<Self> {
        let (width, height) = PICTURE.split_once('x').context("a size")?;
        let side = |whole: &str| -> anyhow::Result<u32> {
            let whole: u32 = whole.parse()?;
            let part = whole / count * (count - index);
            Ok(if index == 0 { whole } else { part - part % 2 })
        };
        let size = (side(width)?, side(height)?);
        let first_keyframe = FRAMES_A_GROUP * index / count;
        let stream = encoded(size, first_keyframe, KBPS * (count - index) / count)?;
        let units = h264::access_units(&stream.into());
        let mut layer = Self { rid: index.to_string(), size, pictures: Vec::new(), first_keyframe };
        ensure!(units.len() == FRAMES as usize, "{} pictures", units.len());
        for (unit, frame) in units.iter().zip(0..) {
            ensure!(unit.is_keyframe() == layer.is_keyframe(frame), "picture {frame} of layer {index}");
            layer.pictures.push(unit.payloads().iter().map(|payload| payload.to_vec()).collect());
        }
        Ok(layer)
    }

    /// Whether the picture of this number is a keyframe, counted in the recording.
    #[must_use]
    pub const fn is_keyframe(&self, frame: u32) -> bool {
        frame == 0 || frame % FRAMES_A_GROUP == self.first_keyframe
    }
}

/// H264 as byte stream, in this size and with keyframes from this picture on, at so many kbit/s.
fn encoded((width, height): (u32, u32), first_keyframe: u32, kbps: u32) -> anyhow::Result<Vec<u8>> {
    let rows: Vec<u8> = (0..FRAMES).flat_map(|frame| code_row(frame_time(frame))).collect();
    let (rate, bits) = (FRAME_RATE.to_string(), format!("{kbps}k"));
    let (code, picture) = (format!("{CODE_BLOCKS}x1"), format!("testsrc2=s={PICTURE}:r={FRAME_RATE}"));
    let paint = format!("{};[painted]scale={width}:{height},format=yuv420p", paint_code("painted"));
    let keyframes = format!("expr:eq(n,0)+eq(mod(n,{FRAMES_A_GROUP}),{first_keyframe})");
    let mut ffmpeg = Command::new(FFMPEG);
    ffmpeg
        .args(["-v", "error", "-f", "rawvideo", "-pix_fmt", "gray", "-s", &code, "-r", &rate, "-i", "pipe:0"])
        .args(["-f", "lavfi", "-i", &picture, "-filter_complex", &paint])
        .args(["-c:v", "libx264", "-preset", "superfast", "-tune", "zerolatency", "-profile:v", "baseline"])
        .args(["-b:v", &bits, "-maxrate", &bits, "-bufsize", &bits, "-bf", "0", "-sc_threshold", "0"])
        .args(["-g", &FRAMES.to_string(), "-forced-idr", "1", "-force_key_frames", &keyframes])
        .args(["-x264-params", "aud=1:sliced-threads=0", "-f", "h264", "pipe:1"]);
    output_of(ffmpeg, rows)
}

/// Where a payload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its layer, the best one being 0.
    pub layer: usize,
    /// Its picture, counted in the recording.
    pub frame: u32,
}

/// Tells where payloads stand.
pub struct Places(HashMap<Vec<u8>, Option<Place>>);

impl Places {
    /// All of these layers.
    #[must_use]
    pub fn of(layers: &[Layer]) -> Self {
        let mut places = HashMap::new();
        for (layer, index) in layers.iter().zip(0..) {
            for (picture, frame) in layer.pictures.iter().zip(0..) {
                for payload in picture {
                    let place = Place { layer: index, frame };
                    // Parameter sets come again and again, and tell nothing.
                    places.entry(payload.clone()).and_modify(|known| *known = None).or_insert(Some(place));
                }
            }
        }
        Self(places)
    }

    /// Where this one stands, if it stands in one place.
    #[must_use]
    pub fn find(&self, payload: &[u8]) -> Option<Place> {
        self.0.get(payload).copied().flatten()
    }
}
