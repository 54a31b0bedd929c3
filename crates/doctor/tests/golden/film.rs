//! Real bitstreams: ffmpeg encodes a moving test picture, and its pictures are cut into RTP payloads.

use std::process::Command;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use model::{Codec, MediaTime};
use packetize::{Picture, Video};
use rtmp::flv::{self, VideoBody};

pub const FFMPEG: &str = "/usr/bin/ffmpeg";
/// As browsers send.
const PAYLOAD_BYTES_MAX: usize = 1200;

/// What an encoder has made.
pub struct Film {
    pub codec: Codec,
    pub pictures: Vec<Coded>,
}

/// One picture.
pub struct Coded {
    /// When it is sent, from the beginning of the film.
    pub time: Duration,
    /// RTP payloads and whether they start a keyframe.
    pub payloads: Vec<(Bytes, bool)>,
}

/// How ffmpeg writes what it has coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Flv,
    Ivf,
    /// NAL units with start codes between them.
    AnnexB,
}

/// Encodes `seconds` of a test picture of `rate` pictures per second with these options of ffmpeg.
pub fn encode(codec: Codec, (rate, seconds): (u32, u32), options: &str) -> Film {
    let container = match codec {
        Codec::H264 => Container::Flv,
        Codec::H265 => Container::AnnexB,
        Codec::Vp8 | Codec::Vp9 | Codec::Av1 => Container::Ivf,
        Codec::Opus => panic!("no picture"),
    };
    let format = match container {
        Container::Flv => "flv",
        Container::Ivf => "ivf",
        Container::AnnexB => "hevc",
    };
    let source = format!("testsrc2=size=192x108:rate={rate}:duration={seconds}");
    let mut command = Command::new(FFMPEG);
    command.args(["-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", &source]);
    command.args(options.split_whitespace()).args(["-an", "-f", format, "-"]);
    let output = command.output().expect("ffmpeg runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !output.stdout.is_empty(), "{options}: {complaint}");
    let bytes = Bytes::from(output.stdout);
    let pictures = match container {
        Container::Flv => from_flv(bytes),
        Container::Ivf => from_ivf(codec, bytes),
        Container::AnnexB => from_annex_b(bytes, rate),
    };
    assert!(pictures.len() as u32 >= rate * seconds / 2, "{options}: {} pictures", pictures.len());
    Film { codec, pictures }
}

fn packets(video: &mut Video, time: Duration, is_keyframe: bool, data: Bytes) -> Coded {
    // Sent at the time of decoding, as encoders over WHIP do, whatever the order in which they are shown.
    let decode_time = MediaTime::from_micros(time.as_micros() as i64);
    let picture = Picture { decode_time, composition_millis: 0, is_keyframe, data };
    let packets = video.picture(picture).expect("a picture");
    Coded {
        time,
        payloads: packets.into_iter().map(|packet| (packet.payload, packet.starts_keyframe)).collect(),
    }
}

/// Adobe Flash Video File Format, annex E.
fn from_flv(mut bytes: Bytes) -> Vec<Coded> {
    const HEADER_BYTES: usize = 9;
    const TAG_VIDEO: u8 = 9;
    let mut video = Video::new(PAYLOAD_BYTES_MAX);
    let mut pictures = Vec::new();
    bytes.advance(HEADER_BYTES);
    while bytes.len() > 4 + 11 {
        bytes.advance(4);
        let kind = bytes.get_u8();
        let length = bytes.get_uint(3) as usize;
        let millis = bytes.get_uint(3) | u64::from(bytes.get_u8()) << 24;
        bytes.advance(3);
        let body = bytes.split_to(length);
        let Some(tag) = (kind == TAG_VIDEO).then(|| flv::video(body).expect("a video tag")).flatten() else {
            continue;
        };
        match tag.body {
            VideoBody::Config(record) => video.configure(tag.codec, record).expect("a record"),
            VideoBody::Frame { is_keyframe, data, .. } => {
                pictures.push(packets(&mut video, Duration::from_millis(millis), is_keyframe, data));
            }
            VideoBody::End => {}
        }
    }
    pictures
}

/// IVF: a header of 32 bytes, then each frame with its length and its time in units of the header.
fn from_ivf(codec: Codec, mut bytes: Bytes) -> Vec<Coded> {
    let mut video = Video::new(PAYLOAD_BYTES_MAX);
    match codec {
        // Version 1, and nothing of the sequence, which stands in the stream.
        Codec::Av1 => video.configure(codec, Bytes::from_static(&[0x81, 0, 0, 0])).expect("a record"),
        Codec::Vp9 => video.configure(codec, Bytes::new()).expect("a record"),
        Codec::Opus | Codec::H264 | Codec::H265 | Codec::Vp8 => {}
    }
    bytes.advance(16);
    let (ticks_per_second, scale) = (bytes.get_u32_le(), bytes.get_u32_le());
    bytes.advance(8);
    let mut pictures = Vec::new();
    while bytes.len() > 12 {
        let length = bytes.get_u32_le() as usize;
        let time = Duration::from_micros(
            bytes.get_u64_le() * 1_000_000 * u64::from(scale) / u64::from(ticks_per_second),
        );
        let frame = bytes.split_to(length);
        // Of AV1: a sequence header behind the temporal delimiter. The others' frames are asked themselves.
        let is_keyframe = frame.get(2).is_some_and(|header| header >> 3 & 0x0f == 1);
        pictures.push(match codec {
            Codec::Vp8 => Coded { time, payloads: vp8(&frame) },
            _ => packets(&mut video, time, is_keyframe, frame),
        });
    }
    pictures
}

/// RFC 7741: one byte before each part, with a bit on the first.
fn vp8(frame: &Bytes) -> Vec<(Bytes, bool)> {
    let is_keyframe = frame.first().is_some_and(|byte| byte & 1 == 0);
    let payload = |(index, part): (usize, &[u8])| {
        let descriptor = [if index == 0 { 0x10 } else { 0 }];
        (Bytes::from([&descriptor, part].concat()), is_keyframe && index == 0)
    };
    frame.chunks(PAYLOAD_BYTES_MAX - 1).enumerate().map(payload).collect()
}

/// H.265 with start codes and an access unit delimiter before each picture.
fn from_annex_b(bytes: Bytes, rate: u32) -> Vec<Coded> {
    const DELIMITER: u8 = 35;
    let mut video = Video::new(PAYLOAD_BYTES_MAX);
    let mut record = vec![0; 23];
    (record[0], record[21]) = (1, 3);
    video.configure(Codec::H265, record.into()).expect("a record without parameter sets");
    let mut pictures: Vec<Vec<u8>> = Vec::new();
    let starts: Vec<usize> =
        bytes.windows(3).enumerate().filter(|(_, it)| *it == [0, 0, 1]).map(|(at, _)| at).collect();
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(bytes.len());
        let unit = bytes.slice(start + 3..end);
        if unit[0] >> 1 & 0x3f == DELIMITER {
            pictures.push(Vec::new());
        }
        let picture = pictures.last_mut().expect("a delimiter comes first");
        picture.extend_from_slice(&(unit.len() as u32).to_be_bytes());
        picture.extend_from_slice(&unit);
    }
    let coded = |(index, data): (usize, Vec<u8>)| {
        let time = Duration::from_secs(index as u64) / rate;
        packets(&mut video, time, false, data.into())
    };
    pictures.into_iter().enumerate().map(coded).collect()
}
