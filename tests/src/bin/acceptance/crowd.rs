//! A thousand viewers: what each costs in memory.

use std::time::Duration;

use anyhow::Context as _;
use tests::load_run::load;
use tests::program::{self, until};

use crate::report::Section;

const VIEWERS: u64 = 1000;
const BYTES_MAX: u64 = 40_000;
/// All come from one address.
const LIMITS: [&str; 12] = [
    "--request-rate",
    "100000",
    "--request-burst",
    "100000",
    "--pending-sessions-max",
    "2000",
    "--client-pending-sessions-max",
    "2000",
    "--viewers-max",
    "2000",
    "--shard-load-max-percent",
    "101",
];

pub async fn run() -> anyhow::Result<Section> {
    let node = program::node("up").with(&LIMITS).start().await?;
    let (whip, whep) = (node.url("/whip/show"), node.url("/whep/show"));
    let publishing = tokio::spawn(async move {
        load(&[
            "--publish",
            &whip,
            "--bitrate",
            "150kbps",
            "--fps",
            "15",
            "--viewers",
            "0",
            "--duration",
            "60s",
        ])
        .await
    });
    until("the broadcast is live", || async { Ok(node.metric("pipeline_up{").await? == 1.0) }).await?;
    // Buffers that are made once, whoever comes.
    load(&[&whep, "--viewers", "20", "--duration", "2s"]).await?;
    let empty = node.resident_bytes();
    let viewers = VIEWERS.to_string();
    let arguments = [&whep, "--viewers", &viewers, "--join-rate", "100", "--duration", "10s"];
    let mut full = 0;
    let results = {
        let watching = load(&arguments);
        tokio::pin!(watching);
        let mut timer = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                results = &mut watching => break results?,
                _ = timer.tick() => full = full.max(node.resident_bytes()),
            }
        }
    };
    publishing.abort();
    let each = full.saturating_sub(empty) / VIEWERS;
    let count = |path: &str| results.count(path).context("results of the crowd");
    let (joined, expected, delivered) =
        (count("/viewers/joined")?, count("/packets/expected")?, count("/packets/delivered")?);
    let (verified, failed) = (count("/packets/verified")?, count("/packets/failed_verification")?);
    let text = format!(
        "\n## A thousand viewers\n\n{joined} of {VIEWERS} viewers of 150 kbit/s and sound joined, 100 a second; {delivered} of \
         {expected} packets came, {verified} datagrams were verified, {failed} failed. Join p50 {:.1} ms, p95 {:.1} ms; \
         first picture p95 {:.1} ms. Resident memory of the whole process {:.1} MB before, {:.1} MB with them: **{:.1} KB \
         for each viewer**.\n",
        results.number("/join_ms/p50")?,
        results.number("/join_ms/p95")?,
        results.number("/first_frame_ms/p95")?,
        empty as f64 / 1e6,
        full as f64 / 1e6,
        each as f64 / 1e3
    );
    let mut failures = Vec::new();
    if each > BYTES_MAX || joined != VIEWERS || failed != 0 || delivered * 1000 < expected * 999 {
        failures
            .push(format!("crowd: {joined} joined, {each} bytes each, {delivered} of {expected} packets"));
    }
    Ok(Section { text, failures })
}
