//! What publishers send, and how it arrives: each layer of each broadcast that is published at this node.

use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{Bitrate, BroadcastId, Codec, Kind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use crate::collect::{Labels, Name, Written, counter, gauge};

/// Totals of one layer of one broadcast, of all publishers that it has had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerTotals {
    /// Packets that became tree packets.
    pub packets: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Packets that were waited for in vain.
    pub lost: u64,
    /// Packets that came after a later one.
    pub recovered: u64,
    /// NACK messages sent to the publisher.
    pub nacks: u64,
    /// Keyframe requests sent to the publisher.
    pub keyframe_requests: u64,
}

/// The profile of H.265, VP9 and AV1; that of H.264 is read from its own three bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamProfile {
    /// As the standard calls it.
    pub name: &'static str,
    /// As people write it; `None` where the stream says none.
    pub level: Option<String>,
}

/// How one layer arrives now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerNow {
    /// Interarrival jitter.
    pub jitter: Duration,
    /// Payload bitrate of the last two seconds.
    pub bitrate: Bitrate,
    /// Media time between the last two keyframes.
    pub keyframe_interval: Option<Duration>,
    /// When the newest keyframe came, or the first packet if none has come.
    pub keyframe_at: Option<Instant>,
    /// What it is coded with.
    pub codec: Option<Codec>,
    /// H.264: the three bytes of the sequence parameter set.
    pub profile_level_id: Option<[u8; 3]>,
    /// H.265, VP9, AV1: what the bitstream says.
    pub profile: Option<StreamProfile>,
    /// H.264: width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// Frames that depend on later ones have come since the publisher did.
    pub had_b_frames: bool,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Sound or picture.
    pub kind: Kind,
    /// Its place among the layers of its kind.
    pub layer: u8,
    /// Until now.
    pub totals: LayerTotals,
    /// `None` while nobody publishes it.
    pub now: Option<LayerNow>,
}

/// One broadcast.
#[derive(Debug, Clone, PartialEq)]
pub struct Publisher {
    /// Its name.
    pub broadcast: BroadcastId,
    /// Round trip to the publisher, where it can be measured.
    pub round_trip: Option<Duration>,
    /// By how many seconds the picture arrives later than sound that was captured at the same moment.
    pub picture_delay: Option<f64>,
    /// Its layers. No kind has two with the same place.
    pub layers: Vec<Layer>,
}

/// Everything that is published at this node. A broadcast that is missing has ended, and so do its series.
#[derive(Debug, Default)]
pub struct Published(Mutex<Arc<Vec<Publisher>>>);

impl Published {
    /// Shows this; to be called about once a second. Nobody holds the lock for longer than it takes to count a reference.
    pub fn set(&self, publishers: Vec<Publisher>) {
        let publishers = Arc::new(publishers);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = publishers;
    }

    fn get(&self) -> Arc<Vec<Publisher>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads them at scrape time.
#[derive(Debug)]
pub(crate) struct PublishedCollector(pub Arc<Published>);

/// How a value is taken out of a layer.
type ReadTotal = fn(&LayerTotals) -> u64;
type ReadNow = fn(Instant, &LayerNow) -> Option<f64>;

/// Counters of each layer.
const TOTALS: [(Name, ReadTotal); 6] = [
    (Name("publisher_rtp_packets", "RTP packets of publishers that the tree took"), |totals| totals.packets),
    (Name("publisher_rtp_bytes", "Bytes of their payloads"), |totals| totals.bytes),
    (Name("publisher_rtp_lost", "RTP packets of publishers that were waited for in vain"), |totals| {
        totals.lost
    }),
    (
        Name(
            "publisher_rtp_recovered",
            "RTP packets of publishers that filled a gap: sent again, or only late",
        ),
        |totals| totals.recovered,
    ),
    (Name("publisher_nacks", "NACK messages sent to publishers"), |totals| totals.nacks),
    (Name("publisher_keyframe_requests", "Keyframe requests (PLI, FIR) sent to publishers"), |totals| {
        totals.keyframe_requests
    }),
];

/// Gauges of each layer that is published now.
const NOW: [(Name, ReadNow); 6] = [
    (
        Name("publisher_jitter_seconds", "Interarrival jitter of what a publisher sends (RFC 3550)"),
        |_, layer| Some(layer.jitter.as_secs_f64()),
    ),
    (
        Name("publisher_bitrate_bits_per_second", "Payload bitrate of a publisher in the last two seconds"),
        |_, layer| Some(layer.bitrate.as_bps() as f64),
    ),
    (
        Name("publisher_keyframe_interval_seconds", "Media time between a publisher's last two keyframes"),
        |_, layer| Some(layer.keyframe_interval?.as_secs_f64()),
    ),
    (
        Name(
            "publisher_keyframe_age_seconds",
            "Time since a publisher's newest keyframe came, or its first packet if none has come",
        ),
        |now, layer| Some(now.saturating_duration_since(layer.keyframe_at?).as_secs_f64()),
    ),
    (
        Name("publisher_picture_width_pixels", "Width of the picture, where its bitstream says so (H.264)"),
        |_, layer| Some(layer.size?.0.into()),
    ),
    (
        Name("publisher_picture_height_pixels", "Height of the picture, where its bitstream says so (H.264)"),
        |_, layer| Some(layer.size?.1.into()),
    ),
];

impl Collector for PublishedCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let (now, publishers) = (Instant::now(), self.0.get());
        let e = &mut encoder;
        // The same in many metrics.
        let layers: Vec<(String, &Layer)> =
            layers(&publishers).map(|(labels, layer)| (Written::text(&labels.0), layer)).collect();
        let layers = || layers.iter().map(|(labels, layer)| (Written(labels), *layer));
        for (name, value) in TOTALS {
            counter(e, name, layers().map(|(labels, layer)| (labels, value(&layer.totals))))?;
        }
        for (name, value) in NOW {
            let series =
                layers().filter_map(|(labels, layer)| Some((labels, value(now, layer.now.as_ref()?)?)));
            gauge(e, name, series)?;
        }
        let pictures = layers().filter(|(_, layer)| layer.kind == Kind::Video);
        gauge(
            e,
            Name(
                "publisher_b_frames",
                "1 if the picture has had frames that depend on later ones since its publisher came; whether it still has \
                 is told by the advice b-frames",
            ),
            pictures.filter_map(|(labels, layer)| {
                Some((labels, f64::from(u8::from(layer.now.as_ref()?.had_b_frames))))
            }),
        )?;
        encode_streams(e, &publishers)?;
        let broadcasts = |value: fn(&Publisher) -> Option<f64>| {
            publishers.iter().filter_map(move |publisher| {
                Some((Labels(vec![("broadcast", publisher.broadcast.as_str())]), value(publisher)?))
            })
        };
        gauge(
            e,
            Name(
                "publisher_round_trip_seconds",
                "Round trip to the publisher, where it lets that be measured",
            ),
            broadcasts(|publisher| Some(publisher.round_trip?.as_secs_f64())),
        )?;
        gauge(
            e,
            Name(
                "publisher_av_skew_seconds",
                "By how much the picture arrives later than sound captured at the same moment; negative if earlier",
            ),
            broadcasts(|publisher| publisher.picture_delay),
        )
    }
}

fn layers(publishers: &[Publisher]) -> impl Iterator<Item = (Labels<'_>, &Layer)> {
    publishers.iter().flat_map(|publisher| {
        publisher.layers.iter().map(move |layer| {
            let labels = vec![
                ("broadcast", publisher.broadcast.as_str()),
                ("kind", layer.kind.as_str()),
                ("layer", place(layer.layer)),
            ];
            (Labels(labels), layer)
        })
    })
}

/// What each layer is coded with.
fn encode_streams(encoder: &mut DescriptorEncoder<'_>, publishers: &[Publisher]) -> Result<(), Error> {
    let levels: Vec<_> = layers(publishers)
        .filter_map(|(labels, layer)| {
            let now = layer.now.as_ref()?;
            Some((labels, now.codec?, now))
        })
        .collect();
    if levels.is_empty() {
        return Ok(());
    }
    let help = "What a layer of a broadcast is coded with, as its bitstream says";
    let mut metric = encoder.encode_descriptor("publisher_stream", help, None, MetricType::Info)?;
    for (mut labels, codec, now) in levels {
        let (profile, level) = match (now.profile_level_id, &now.profile) {
            (Some(id), _) => (profile(id), Some(level(id))),
            (None, Some(stream)) => (stream.name, stream.level.clone()),
            (None, None) => ("", None),
        };
        labels.0.push(("codec", codec.encoding_name()));
        labels.0.push(("profile", profile));
        labels.0.push(("level", level.as_deref().unwrap_or("")));
        metric.encode_info(&labels)?;
    }
    Ok(())
}

const fn place(layer: u8) -> &'static str {
    match layer {
        0 => "0",
        1 => "1",
        2 => "2",
        _ => "3",
    }
}

/// The H.264 profile (ITU-T H.264, annex A) that the first two bytes of a `profile-level-id` name.
const fn profile([profile, constraints, _]: [u8; 3]) -> &'static str {
    // constraint_set1_flag, and constraint_set4_flag with constraint_set5_flag.
    match (profile, constraints & 0x40 != 0, constraints & 0x0c == 0x0c) {
        (66, true, _) => "constrained_baseline",
        (66, false, _) => "baseline",
        (77, ..) => "main",
        (88, ..) => "extended",
        (100, _, true) => "constrained_high",
        (100, _, false) => "high",
        (110, ..) => "high_10",
        (122, ..) => "high_422",
        (244, ..) => "high_444",
        _ => "other",
    }
}

/// The level that its last byte names.
fn level([_, constraints, level]: [u8; 3]) -> String {
    // Level 1b of the older profiles is 11 with constraint_set3_flag.
    if level == 11 && constraints & 0x10 != 0 || level == 9 {
        return "1b".to_owned();
    }
    format!("{}.{}", level / 10, level % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_and_levels_have_their_names() {
        for (bytes, name, number) in [
            ([0x42, 0xe0, 0x1f], "constrained_baseline", "3.1"),
            ([0x42, 0x00, 0x0b], "baseline", "1.1"),
            ([0x42, 0x10, 0x0b], "baseline", "1b"),
            ([0x4d, 0x40, 0x28], "main", "4.0"),
            ([0x64, 0x00, 0x2a], "high", "4.2"),
            ([0x64, 0x0c, 0x34], "constrained_high", "5.2"),
            ([0x2c, 0x00, 0x1e], "other", "3.0"),
        ] {
            assert_eq!((profile(bytes), level(bytes).as_str()), (name, number), "{bytes:x?}");
        }
    }
}
