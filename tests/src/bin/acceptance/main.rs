//! The long runs: minutes instead of seconds, a thousand viewers instead of a few, a machine of their own. What was seen
//! goes, dated, into `docs/acceptance.md`.

mod abandoned;
mod crowd;
mod hop;
mod hosts;
mod kills;
mod report;
mod soak;
mod store_away;
mod thousand_nodes;
mod viewings;

use anyhow::ensure;
use report::Report;

/// All runs, or those alone that are named (`viewings`, `crowd`, `hop`, `abandoned`, `soak`,
/// `kills`, `hosts`, `store_away`, `thousand_nodes`); then nothing is written.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let mut report = Report::begin();
    let is_wanted = |name: &str| named.is_empty() || named.iter().any(|wanted| wanted == name);
    if is_wanted("hop") {
        report.add("hop", hop::run().await);
    }
    if is_wanted("crowd") {
        report.add("crowd", crowd::run().await);
    }
    if is_wanted("abandoned") {
        report.add("abandoned", abandoned::run().await);
    }
    if is_wanted("soak") {
        report.add("soak", soak::run().await);
    }
    if is_wanted("kills") {
        report.add("kills", kills::run().await);
    }
    if is_wanted("hosts") {
        report.add("hosts", hosts::run().await);
    }
    if is_wanted("store_away") {
        report.add("store_away", store_away::run().await);
    }
    if is_wanted("thousand_nodes") {
        report.add("thousand_nodes", thousand_nodes::run().await);
    }
    if is_wanted("viewings") {
        report.add("viewings", viewings::run().await);
    }
    if named.is_empty() {
        report.write()?;
    }
    ensure!(report.failures().is_empty(), "not as it should be: {}", report.failures().join("; "));
    Ok(())
}
