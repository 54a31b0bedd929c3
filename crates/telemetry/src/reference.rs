//! The reference of all metrics for operators, made from the very registry that is scraped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use model::{Bitrate, BroadcastId, Codec, Kind, NodeId};
use prometheus_client::registry::Registry;

use crate::exposition::{self, Exposition};
use crate::publishers::{Layer, LayerNow, LayerTotals, Publisher};
use crate::{access, controller, egress, injection, link, node, player, rtmp, store, traces};

/// Labels whose values are not a closed set, or too many to list.
const OPEN_LABELS: [&str; 8] =
    ["broadcast", "code", "parent", "shard", "version", "codec", "profile", "level"];
/// Stands for the reasons of a core, which the core lists.
const ANY: &str = "any";

const INTRODUCTION: &str = "\
# Metrics

Made by `cargo xtask metrics`; a test compares it with what the program registers.

Every process shows these at `/metrics` of its operations listener (`--ops`), as OpenMetrics where the `Accept` header asks
for it, else as Prometheus text. All series carry `tree_id`, `node_id` and `node_type`. Labels are closed sets, listed here,
or the name of a broadcast or of a parent node; viewers, addresses and SSRCs never are. Counters are there at 0 from the
start. What belongs to a broadcast ends with it. Nothing is looked up or locked for a packet: threads keep plain numbers,
which a scrape reads.

A node shows the series of all media sections whatever its role; those that do not concern it stay at 0 or have no value.
";

/// Title, what it is of, and what registers its metrics and moves those that would have no series otherwise.
type Section = (&'static str, &'static str, fn(&mut Registry));

/// The document.
#[must_use]
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    let sections: [Section; 10] = [
        ("Process and node", "Every process.", node_section),
        (
            "Publishers",
            "Injection nodes. Counters of a broadcast are of all publishers that it has had.",
            publishers,
        ),
        (
            "RTMP",
            "Injection nodes. What has a broadcast is of all its publishers over RTMP, and there from the first one on.",
            over_rtmp,
        ),
        ("Links and relays", "Every node that carries media.", links),
        ("Viewers", "Egress nodes.", viewers),
        (
            "What players report",
            "Egress nodes. The player POSTs a few numbers to `{session}/beacon` after 5 s, then twice a minute, and when \
             it ends: at most 1 KiB, one report in 5 s of one session (3 at once), 20 a second of one address, 1000 a \
             second in all. What cannot be true is refused. Whoever has no session cannot report.",
            players,
        ),
        ("Who is let in", "Every process that answers clients.", access_section),
        ("Store", "Every process that shares a store.", store_section),
        ("Traces", "Every process; see `[traces]`.", traces_section),
        ("Controller", "Controllers, and `up`, which has one.", controller_section),
    ];
    for (title, about, fill) in sections {
        let mut registry = Registry::default();
        fill(&mut registry);
        let _ = write!(text, "\n## {title}\n\n{about}\n\n{}", table(&registry));
    }
    text
}

fn node_section(registry: &mut Registry) {
    let metrics = node::Metrics::register(registry);
    metrics.pipelines([(broadcast(), true)].into());
    metrics.broadcasts(1, 0);
    metrics.certificate_expires(Duration::ZERO);
}

fn publishers(registry: &mut Registry) {
    let now = LayerNow {
        jitter: Duration::ZERO,
        bitrate: Bitrate::kbps(0),
        keyframe_interval: Some(Duration::ZERO),
        keyframe_at: Some(Instant::now()),
        codec: Some(Codec::H264),
        profile_level_id: Some([0; 3]),
        profile: None,
        size: Some((0, 0)),
        had_b_frames: false,
    };
    let sound = LayerNow { keyframe_interval: None, keyframe_at: None, size: None, ..now.clone() };
    let layer = |kind, layer, now: &LayerNow| Layer {
        kind,
        layer,
        totals: LayerTotals::default(),
        now: Some(now.clone()),
    };
    let publisher = Publisher {
        broadcast: broadcast(),
        round_trip: Some(Duration::ZERO),
        picture_delay: Some(0.0),
        layers: std::iter::once(layer(Kind::Audio, 0, &sound))
            .chain((0..4).map(|place| layer(Kind::Video, place, &now)))
            .collect(),
    };
    let metrics = injection::Metrics::register(registry, &[ANY]);
    metrics.published().set(vec![publisher]);
    let advised = crate::advice::Advised { broadcast: broadcast(), codes: vec![(ANY, true)] };
    metrics.advice().set(vec![advised]);
}

fn over_rtmp(registry: &mut Registry) {
    let _shown_from_now_on = rtmp::Metrics::register(registry).publisher(&broadcast());
}

fn links(registry: &mut Registry) {
    let totals = link::RtpTotals { ring_since: Some(Instant::now()), ..link::RtpTotals::default() };
    let (audio, video) = (totals, totals);
    let broadcast =
        link::BroadcastTotals { id: broadcast(), destinations: 0, parents: 0, streams: 0, audio, video };
    let parent = link::ParentTotals { round_trip: Some(Duration::ZERO), ..link::ParentTotals::default() };
    let name = NodeId::new("parent").expect("this is a name");
    link::Metrics::register(registry, &[ANY]).publish(link::Snapshot {
        broadcasts: vec![broadcast],
        parents: [(name, parent)].into(),
        parent_round_trip: Some(Duration::ZERO),
        child_round_trip: Some(Duration::ZERO),
        ..link::Snapshot::default()
    });
}

fn viewers(registry: &mut Registry) {
    let metrics = egress::Metrics::register(registry, &[ANY]);
    let _shown_until_scraped = metrics.shard();
    metrics.viewers(&broadcast(), 0);
}

fn players(registry: &mut Registry) {
    player::Metrics::register(registry);
}

fn access_section(registry: &mut Registry) {
    access::Metrics::register(registry);
}

fn store_section(registry: &mut Registry) {
    store::Metrics::register(registry).publish(store::Snapshot::default());
}

fn traces_section(registry: &mut Registry) {
    traces::Metrics::register(registry);
}

fn controller_section(registry: &mut Registry) {
    let metrics = controller::Metrics::register(registry);
    metrics.looked(controller::Snapshot::default(), Duration::ZERO);
    metrics.scaled(Some(controller::ScalingSnapshot::default()));
}

fn broadcast() -> BroadcastId {
    BroadcastId::new("any").expect("this is a name")
}

/// One metric as the text has it.
#[derive(Default)]
struct Described<'a> {
    help: &'a str,
    kind: &'a str,
    /// Values of each label.
    labels: BTreeMap<&'a str, Vec<&'a str>>,
}

fn table(registry: &Registry) -> String {
    let text = exposition::written(registry, "", Exposition::Prometheus, 0);
    let mut metrics: BTreeMap<&str, Described<'_>> = BTreeMap::new();
    let mut current = "";
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|it| it.split_once(' ')) {
            current = name;
            metrics.entry(name).or_default().help = help.trim_end_matches('.');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' ')) {
            metrics.entry(name).or_default().kind = kind;
        } else if let Some(metric) = metrics.get_mut(current) {
            let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
            for (name, value) in labels.iter().flat_map(|(labels, _)| labels.split(',')).filter_map(label) {
                let values = metric.labels.entry(name).or_default();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
    }
    let mut table = "| Name | Type | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    for (name, metric) in metrics {
        let labels: Vec<String> = metric.labels.iter().map(|(name, values)| listed(name, values)).collect();
        let _ = writeln!(table, "| `{name}` | {} | {} | {} |", metric.kind, labels.join("; "), metric.help);
    }
    table
}

/// `name="value"`
fn label(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    Some((name, value.trim_matches('"')))
}

fn listed(name: &str, values: &[&str]) -> String {
    if OPEN_LABELS.contains(&name) || values == [ANY] {
        return format!("`{name}`");
    }
    let mut values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    if name != "le" {
        values.sort();
    }
    format!("`{name}`: {}", values.join(" "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_says_what_is_registered() {
        let written = include_str!("../../../docs/operating/metrics.md");
        let differs = written.lines().zip(super::reference().lines()).position(|(old, new)| old != new);
        assert!(
            written == super::reference(),
            "docs/operating/metrics.md is not what the program registers (first in line {differs:?}); make it anew \
             with `cargo xtask metrics`"
        );
    }
}
