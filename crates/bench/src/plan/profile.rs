//! Where the CPU time of our server goes, by `perf`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::{Extent, ON_AIR, text};
use crate::load::{self, Audience, Media, Pacing};
use crate::process::Place;
use crate::record::{Profile, Record};
use crate::servers::{self, Kind};

/// Samples each second; prime, so that it does not beat with frames.
const FREQUENCY: &str = "997";
/// So many functions are told.
const FUNCTIONS: usize = 30;

/// Takes a profile with so many viewers.
///
/// # Errors
/// If there is no `perf`, or it may not look.
pub async fn measure(place: &Place, extent: Extent, viewers: u32) -> anyhow::Result<Record> {
    let on_air = servers::on_air(place, Kind::MediaTree, Media::usual(Pacing::Burst)).await?;
    let measured = profile(place, &on_air, (extent.seconds, viewers)).await;
    on_air.end().await;
    Ok(Record::Profile(measured?))
}

async fn profile(
    place: &Place,
    on_air: &servers::OnAir,
    (seconds, viewers): (u32, u32),
) -> anyhow::Result<Profile> {
    tokio::time::sleep(ON_AIR).await;
    let joining = Duration::from_secs(2);
    let seconds_watched = seconds + 2 * joining.as_secs() as u32;
    let audience = Audience { viewers, join_rate: viewers, seconds: seconds_watched, takes_trains: false };
    let watching = load::watch(place, std::slice::from_ref(&on_air.whep), audience)?;
    tokio::time::sleep(joining).await;
    let process = on_air.server.id().context("the server has ended")?.to_string();
    let file = place.folder.path().join("perf.data");
    let recorded = perf(&[
        "record",
        "-e",
        "cpu-clock",
        "-F",
        FREQUENCY,
        "-p",
        &process,
        "-o",
        &text(&file),
        "--",
        "sleep",
        &seconds.to_string(),
    ])
    .await;
    watching.finished().await?;
    recorded?;
    let functions = functions(&file).await?;
    Ok(Profile { during: format!("{viewers} viewers, burst"), functions })
}

async fn functions(file: &Path) -> anyhow::Result<Vec<(f64, String)>> {
    let report = perf(&["report", "-i", &text(file), "--stdio", "--no-children", "--sort", "symbol"]).await?;
    let functions: Vec<(f64, String)> = report.lines().filter_map(function).take(FUNCTIONS).collect();
    ensure!(!functions.is_empty(), "perf has seen nothing");
    Ok(functions)
}

/// `  12.34%  [k] name  ` → share and name; `[k]` stays as the mark of the kernel.
fn function(line: &str) -> Option<(f64, String)> {
    let (share, name) = line.trim().split_once('%')?;
    let share: f64 = share.trim().parse().ok()?;
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    Some((share / 100.0, name))
}

async fn perf(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("perf").args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.context("there is no perf (package linux-perf)")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "perf: {}", complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_profile_are_told_from_its_head() {
        let line = "    12.50%  [k] copy_user_generic         ";
        assert_eq!(function(line), Some((0.125, "[k] copy_user_generic".to_owned())));
        assert_eq!(function("# Overhead  Symbol"), None);
        assert_eq!(function("# 100% of what"), None);
    }
}
