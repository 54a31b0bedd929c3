//! Minutes of coming and going, with loss: memory stays flat.

use std::time::Duration;

use tests::load_run::load;
use tests::program::until;

use crate::report::Section;

const LENGTH: Duration = Duration::from_secs(150);
/// Until the allocator has found its shape.
const SETTLING: Duration = Duration::from_secs(45);
const INTERVAL: Duration = Duration::from_secs(1);
/// From the first third of what follows to its last third.
const GROWTH_BYTES_MAX: u64 = 1 << 20;
/// All come from one address.
const LIMITS: [&str; 4] = ["--request-rate", "100000", "--request-burst", "100000"];

pub async fn run() -> anyhow::Result<Section> {
    let [injection, relay, egress] = super::viewings::three_with(&LIMITS).await?;
    let (whip, whep) = (injection.url("/whip/show"), egress.url("/whep/show"));
    let length = format!("{}s", LENGTH.as_secs());
    let publishing_length = format!("{}s", LENGTH.as_secs() + 60);
    let publishing = tokio::spawn(async move {
        load(&["--publish", &whip, "--viewers", "0", "--duration", &publishing_length]).await
    });
    until("the broadcast is live", || async { Ok(egress.metric("pipeline_up{").await? == 1.0) }).await?;
    let arguments = [&whep, "--viewers", "50", "--churn", "10s", "--loss", "0.01", "--duration", &length];
    let nodes = [("injection", &injection), ("relay", &relay), ("egress", &egress)];
    let mut resident: [Vec<u64>; 3] = Default::default();
    let watching = load(&arguments);
    tokio::pin!(watching);
    let mut timer = tokio::time::interval(INTERVAL);
    let results = loop {
        tokio::select! {
            results = &mut watching => break results?,
            _ = timer.tick() => {
                for (series, (_, node)) in resident.iter_mut().zip(nodes) {
                    series.push(node.resident_bytes());
                }
            }
        }
    };
    let left = async || anyhow::Ok(egress.metric("media_tree_whep_sessions{").await? == 0.0);
    until("every session is gone", left).await?;
    publishing.abort();
    let (joined, lost) = (results.count("/viewers/joined")?, results.count("/video/lost_after_repair")?);
    let mut text = format!(
        "\n## Minutes of coming and going\n\nFor {} s, 50 viewers of 2.5 Mbit/s and sound, each replaced about every 10 s \
         ({joined} joined in all), 1 % of their packets thrown away, through injection, relay and egress. {lost} packets of \
         picture were missing after repair. Resident memory:\n\n| Node | Once settled, MB | Middle | End | Most |\n\
         |---|---|---|---|---|\n",
        LENGTH.as_secs()
    );
    let mut failures = Vec::new();
    for ((name, _), series) in nodes.iter().zip(&resident) {
        let settled = series.get(SETTLING.as_secs() as usize..).unwrap_or_default();
        let thirds: Vec<u64> = settled.chunks(settled.len().div_ceil(3).max(1)).map(median).collect();
        let [first, middle, last] = thirds[..] else { anyhow::bail!("the run was too short") };
        let most = settled.iter().max().copied().unwrap_or(0);
        let megabytes = [first, middle, last, most].map(|bytes| format!("{:.1}", bytes as f64 / 1e6));
        text.push_str(&format!("| {name} | {} |\n", megabytes.join(" | ")));
        if last > first + GROWTH_BYTES_MAX {
            failures.push(format!("soak: the {name} node grew from {first} to {last} bytes"));
        }
    }
    if lost > 0 || joined < 100 {
        failures.push(format!("soak: {joined} joined, {lost} packets missing after repair"));
    }
    Ok(Section { text, failures })
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}
