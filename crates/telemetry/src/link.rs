//! Links between nodes, and the media of each broadcast in the tree.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{BroadcastId, Kind, NodeId};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use crate::collect::{Labels, Name, Written, counter, gauge, plain};
use crate::drops::{DropCollector, DropCounters};
use crate::own_names;

/// RTP of one kind of one broadcast; totals since the broadcast is known, but for the ring of this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RtpTotals {
    /// Packets taken from the publisher or from parents, each once.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Packets sent to children, each copy.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets given up.
    pub lost: u64,
    /// Packets that came after they had been asked for.
    pub recovered: u64,
    /// Packets asked for upstream.
    pub nacked_out: u64,
    /// Packets that children asked for.
    pub nacked_in: u64,
    /// Packets sent again to children.
    pub resent: u64,
    /// Keyframe requests from viewers here and from children.
    pub keyframe_requests_in: u64,
    /// Keyframe requests passed on upstream.
    pub keyframe_requests_out: u64,
    /// Packets in the rings.
    pub ring_packets: u64,
    /// Bytes in the rings.
    pub ring_bytes: u64,
    /// When the oldest of them came.
    pub ring_since: Option<Instant>,
}

/// One parent; totals since its link was connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParentTotals {
    /// Its link is connected and it is heard.
    pub is_alive: bool,
    /// Broadcasts that come from it now.
    pub broadcasts: u64,
    /// The round trip, if measured.
    pub round_trip: Option<Duration>,
    /// Packets that came from it first.
    pub packets: u64,
    /// Packets that came from it after they had come before.
    pub duplicates: u64,
    /// Gaps that its packets filled.
    pub recovered: u64,
    /// Packets asked of it.
    pub nacked: u64,
}

/// One broadcast on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastTotals {
    /// Its name.
    pub id: BroadcastId,
    /// Children that it is forwarded to.
    pub destinations: u64,
    /// Parents that it comes from.
    pub parents: u64,
    /// RTP streams that come.
    pub streams: u64,
    /// Its sound.
    pub audio: RtpTotals,
    /// Its picture, all layers.
    pub video: RtpTotals,
}

/// What the tree thread knows of links and broadcasts. A broadcast that is missing has ended, and so do its series.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The broadcasts that are known here.
    pub broadcasts: Vec<BroadcastTotals>,
    /// Parents with a live link channel.
    pub parents_alive: u64,
    /// Children with a live link channel.
    pub children: u64,
    /// The parents that are connected, by name.
    pub parents: BTreeMap<NodeId, ParentTotals>,
    /// The longest round trip to a live parent, if measured.
    pub parent_round_trip: Option<Duration>,
    /// The longest round trip to a child, if measured.
    pub child_round_trip: Option<Duration>,
}

/// Handles of the links' metrics.
#[derive(Debug)]
pub struct Metrics {
    snapshot: Arc<Mutex<Snapshot>>,
    drops: Arc<DropCounters>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry, drop_reasons: &[&'static str]) -> Self {
        let help = "Link media and messages that were not processed";
        let drops = DropCounters::new(Name("link_drops", help), drop_reasons);
        let snapshot = Arc::default();
        let own = own_names(registry);
        own.register_collector(Box::new(Links(Arc::clone(&snapshot))));
        own.register_collector(Box::new(DropCollector(drops.clone())));
        Self { snapshot, drops }
    }

    /// Shows the state of all links and broadcasts; to be called about once a second.
    pub fn publish(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    /// Where the link core says what it dropped.
    #[must_use]
    pub fn drops(&self) -> Arc<DropCounters> {
        self.drops.clone()
    }
}

#[derive(Debug)]
struct Links(Arc<Mutex<Snapshot>>);

/// How a value is taken out of the totals of a parent.
type ReadParent = fn(&ParentTotals) -> u64;

/// How a value is taken out of the totals of a kind.
type Read<T> = fn(&RtpTotals) -> T;

impl Snapshot {
    /// One series for each parent.
    fn by_parent<T>(
        &self,
        value: impl Fn(&ParentTotals) -> Option<T>,
    ) -> impl Iterator<Item = (Labels<'_>, T)> {
        self.parents.iter().filter_map(move |(parent, totals)| {
            Some((Labels(vec![("parent", parent.as_str())]), value(totals)?))
        })
    }
}

/// Broadcasts with the labels of their series, which are the same in many metrics.
struct Broadcasts<'a>(Vec<(BroadcastLabels, &'a BroadcastTotals)>);

/// The labels of one broadcast's series.
struct BroadcastLabels {
    broadcast: String,
    /// Sound, picture.
    kinds: [KindLabels; 2],
}

struct KindLabels {
    kind: String,
    /// In, out.
    directions: [String; 2],
}

impl BroadcastLabels {
    fn new(id: &BroadcastId) -> Self {
        let broadcast = ("broadcast", id.as_str());
        let of_kind = |kind: Kind| {
            let kind = ("kind", kind.as_str());
            let of_direction = |direction: &str| Written::text(&[broadcast, kind, ("direction", direction)]);
            KindLabels {
                kind: Written::text(&[broadcast, kind]),
                directions: [of_direction("in"), of_direction("out")],
            }
        };
        Self { broadcast: Written::text(&[broadcast]), kinds: [of_kind(Kind::Audio), of_kind(Kind::Video)] }
    }
}

impl<'a> Broadcasts<'a> {
    fn new(broadcasts: &'a [BroadcastTotals]) -> Self {
        Self(broadcasts.iter().map(|one| (BroadcastLabels::new(&one.id), one)).collect())
    }

    /// One series for each broadcast.
    fn by_broadcast(&self, value: fn(&BroadcastTotals) -> u64) -> impl Iterator<Item = (Written<'_>, f64)> {
        self.0.iter().map(move |(labels, totals)| (Written(&labels.broadcast), value(totals) as f64))
    }

    /// Each kind of each broadcast.
    fn kinds(&self) -> impl Iterator<Item = (&KindLabels, &RtpTotals)> {
        self.0.iter().flat_map(|(labels, totals)| labels.kinds.iter().zip([&totals.audio, &totals.video]))
    }

    /// One series for each kind of each broadcast.
    fn by_kind(&self, value: Read<u64>) -> impl Iterator<Item = (Written<'_>, u64)> {
        self.kinds().map(move |(labels, totals)| (Written(&labels.kind), value(totals)))
    }

    /// One series for each direction of each kind of each broadcast.
    fn by_direction(&self, value: Read<[u64; 2]>) -> impl Iterator<Item = (Written<'_>, u64)> {
        self.kinds().flat_map(move |(labels, totals)| {
            labels.directions.iter().map(|labels| Written(labels)).zip(value(totals))
        })
    }
}

/// Counters for each kind of each broadcast.
const BY_KIND: [(Name, Read<u64>); 4] = [
    (Name("rtp_duplicates", "RTP packets received again that were held already"), |totals| totals.duplicates),
    (Name("rtp_lost", "RTP packets given up: neither parent nor publisher sent them in time"), |totals| {
        totals.lost
    }),
    (Name("rtp_recovered", "RTP packets that came after they had been asked for"), |totals| totals.recovered),
    (Name("rtp_resent", "RTP packets sent again to children"), |totals| totals.resent),
];

/// Counters for each direction of each kind of each broadcast: in, out.
const BY_DIRECTION: [(Name, Read<[u64; 2]>); 4] = [
    (
        Name(
            "rtp_packets",
            "RTP packets taken from publisher or parents, each once (in), or sent to children (out)",
        ),
        |totals| [totals.packets_in, totals.packets_out],
    ),
    (Name("rtp_bytes", "Bytes of those packets, UDP payload"), |totals| [totals.bytes_in, totals.bytes_out]),
    (
        Name(
            "nacked_packets",
            "RTP packets that children asked for (in), or that were asked for upstream (out)",
        ),
        |totals| [totals.nacked_in, totals.nacked_out],
    ),
    (
        Name(
            "keyframe_requests",
            "Keyframe requests from viewers and children (in), or passed on upstream (out)",
        ),
        |totals| [totals.keyframe_requests_in, totals.keyframe_requests_out],
    ),
];

impl Collector for Links {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let snapshot = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let e = &mut encoder;
        gauge(e, Name("link_parents", "Parents with a live link"), plain(snapshot.parents_alive as f64))?;
        gauge(e, Name("link_children", "Children with a live link"), plain(snapshot.children as f64))?;
        let round_trips =
            [("upstream", snapshot.parent_round_trip), ("downstream", snapshot.child_round_trip)];
        gauge(
            e,
            Name("link_round_trip_seconds", "The longest round trip to a live parent (upstream) or child"),
            round_trips.into_iter().filter_map(|(direction, round_trip)| {
                Some((Labels(vec![("direction", direction)]), round_trip?.as_secs_f64()))
            }),
        )?;
        let destinations = Name("link_destinations", "Children that the broadcast is forwarded to");
        let broadcasts = Broadcasts::new(&snapshot.broadcasts);
        gauge(e, destinations, broadcasts.by_broadcast(|broadcast| broadcast.destinations))?;
        let sources = Name("link_sources", "Parents that the broadcast comes from");
        gauge(e, sources, broadcasts.by_broadcast(|broadcast| broadcast.parents))?;
        let help = "RTP streams of the broadcast that come here, from publisher or parents: layers that nobody here or below \
                    watches do not";
        let streams = Name("link_streams", help);
        gauge(e, streams, broadcasts.by_broadcast(|broadcast| broadcast.streams))?;
        for (name, value) in BY_KIND {
            counter(e, name, broadcasts.by_kind(value))?;
        }
        for (name, value) in BY_DIRECTION {
            counter(e, name, broadcasts.by_direction(value))?;
        }
        let as_gauge = |(labels, value): (_, u64)| (labels, value as f64);
        let bytes = Name("ring_bytes", "Bytes in the rings of the broadcast");
        gauge(e, bytes, broadcasts.by_kind(|totals| totals.ring_bytes).map(as_gauge))?;
        let packets = Name("ring_packets", "RTP packets in the rings of the broadcast");
        gauge(e, packets, broadcasts.by_kind(|totals| totals.ring_packets).map(as_gauge))?;
        let now = Instant::now();
        let age = |totals: &RtpTotals| Some(now.saturating_duration_since(totals.ring_since?).as_secs_f64());
        let ages =
            broadcasts.kinds().filter_map(|(labels, totals)| Some((Written(&labels.kind), age(totals)?)));
        let help = "How long ago the oldest RTP packet in the rings of the broadcast came";
        gauge(e, Name("ring_age_seconds", help), ages)?;
        encode_parents(e, &snapshot)
    }
}

/// Each parent, by its name: there is a handful.
fn encode_parents(e: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> Result<(), Error> {
    let help = "1 if the link to a connected parent is heard, 0 if it is silent";
    gauge(
        e,
        Name("parent_up", help),
        snapshot.by_parent(|parent| Some(f64::from(u8::from(parent.is_alive)))),
    )?;
    let help = "Broadcasts that come from a parent";
    gauge(e, Name("parent_broadcasts", help), snapshot.by_parent(|parent| Some(parent.broadcasts as f64)))?;
    let help = "Round trip to a parent";
    let round_trips = snapshot.by_parent(|parent| Some(parent.round_trip?.as_secs_f64()));
    gauge(e, Name("parent_round_trip_seconds", help), round_trips)?;
    let counters: [(Name, ReadParent); 4] = [
        (
            Name("parent_rtp_packets", "RTP packets that came from a parent first, since it was connected"),
            |parent| parent.packets,
        ),
        (
            Name("parent_rtp_duplicates", "RTP packets that came from a parent and were held already"),
            |parent| parent.duplicates,
        ),
        (Name("parent_rtp_recovered", "Gaps that RTP packets of a parent filled"), |parent| parent.recovered),
        (Name("parent_nacked_packets", "RTP packets asked of a parent"), |parent| parent.nacked),
    ];
    for (name, value) in counters {
        counter(e, name, snapshot.by_parent(|parent| Some(value(parent))))?;
    }
    Ok(())
}
