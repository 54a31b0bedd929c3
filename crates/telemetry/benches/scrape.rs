//! What metrics cost: a scrape of a full node, and what threads do for them while they work.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::{Bitrate, BroadcastId, Codec, Kind, NodeId, Role, TreeId};
use telemetry::egress::{LATENCY_SECONDS, ShardTotals};
use telemetry::link::{BroadcastTotals, RtpTotals, Snapshot};
use telemetry::publishers::{Layer, LayerNow, LayerTotals, Publisher};
use telemetry::{DropReasons, Exposition, Identity, NodeDrop, Telemetry};

/// A node that carries as many broadcasts as one may.
const BROADCASTS: usize = 200;
const SHARDS: usize = 8;

fn telemetry() -> Telemetry {
    let identity = Identity {
        tree: TreeId::new("production").expect("an id"),
        node: NodeId::new("node-0123456789").expect("an id"),
        role: Role::All,
    };
    let reasons = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    Telemetry::new(&identity, DropReasons { egress: &reasons, link: &reasons, injection: &reasons })
}

fn names() -> Vec<BroadcastId> {
    (0..BROADCASTS).map(|index| BroadcastId::new(&format!("broadcast-{index}")).expect("an id")).collect()
}

fn publisher(broadcast: BroadcastId) -> Publisher {
    let now = LayerNow {
        jitter: Duration::from_micros(1234),
        bitrate: Bitrate::kbps(2500),
        keyframe_interval: Some(Duration::from_secs(2)),
        keyframe_at: Some(Instant::now()),
        codec: Some(Codec::H264),
        profile_level_id: Some([0x64, 0, 0x1f]),
        profile: None,
        size: Some((1280, 720)),
        had_b_frames: false,
    };
    let totals = LayerTotals { packets: 123_456_789, bytes: 123_456_789_000, ..LayerTotals::default() };
    let layer = |kind, layer| Layer { kind, layer, totals, now: Some(now.clone()) };
    Publisher {
        broadcast,
        round_trip: Some(Duration::from_millis(30)),
        picture_delay: Some(0.012),
        layers: vec![layer(Kind::Audio, 0), layer(Kind::Video, 0), layer(Kind::Video, 1)],
    }
}

fn full_node() -> Telemetry {
    let telemetry = telemetry();
    let totals = RtpTotals {
        packets_in: 123_456_789,
        bytes_in: 123_456_789_000,
        ring_since: Some(Instant::now()),
        ..RtpTotals::default()
    };
    telemetry.node.pipelines(names().into_iter().map(|id| (id, true)).collect());
    let broadcasts = names().into_iter().map(|id| {
        telemetry.egress.viewers(&id, 250);
        BroadcastTotals { id, destinations: 16, parents: 2, streams: 2, audio: totals, video: totals }
    });
    telemetry.link.publish(Snapshot { broadcasts: broadcasts.collect(), ..Snapshot::default() });
    telemetry.injection.published().set(names().into_iter().map(publisher).collect());
    for _ in 0..SHARDS {
        let shard = telemetry.egress.shard();
        shard.publish(&ShardTotals { video_packets: 123_456_789, ..ShardTotals::default() });
    }
    telemetry
}

fn scrape(criterion: &mut Criterion) {
    let telemetry = full_node();
    let mut group = criterion.benchmark_group("metrics");
    for (name, exposition) in
        [("scrape_openmetrics", Exposition::OpenMetrics), ("scrape_prometheus", Exposition::Prometheus)]
    {
        group.bench_function(name, |bencher| bencher.iter(|| black_box(telemetry.encode_as(exposition))));
    }
    group.finish();
}

/// What the runtime counts for a packet, beside the plain numbers of the cores: its bytes when it comes, its share of a
/// flush when it goes.
fn packet(criterion: &mut Criterion) {
    let telemetry = telemetry();
    let (network, dropped) = (telemetry.node.network(), telemetry.node.drops(NodeDrop::Stranger));
    let mut group = criterion.benchmark_group("metrics");
    group.throughput(Throughput::Elements(1));
    group.bench_function("packet_received", |bencher| bencher.iter(|| network.received(black_box(1200))));
    group.bench_function("packet_dropped", |bencher| {
        bencher.iter(|| {
            black_box(&dropped).inc();
        });
    });
    group.bench_function("flush_sent", |bencher| {
        bencher.iter(|| network.sent(black_box(64), black_box(76_800)));
    });
    group.finish();
}

/// Five times a second each shard copies its numbers.
fn publish(criterion: &mut Criterion) {
    let telemetry = telemetry();
    let shard = telemetry.egress.shard();
    criterion.bench_function("metrics/shard_publish", |bencher| {
        bencher.iter(|| {
            shard.publish(black_box(&ShardTotals::default()));
            shard.publish_drops([0; 10]);
            shard.publish_latency([0; LATENCY_SECONDS.len() + 1], Duration::ZERO);
            for kind in [Kind::Audio, Kind::Video] {
                shard.publish_loss(kind, [0; 10], 0.0);
                shard.publish_jitter(kind, [0; 11], Duration::ZERO);
            }
            shard.publish_round_trip([0; 12], Duration::ZERO);
        });
    });
}

criterion_group!(benches, scrape, packet, publish);
criterion_main!(benches);
