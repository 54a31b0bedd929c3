//! Where CPU time goes, by `perf`: ours beside the floor.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::{ON_AIR, Part, floor};
use crate::load::{self, Audience, Media};
use crate::parts::floor::Way;
use crate::process::{Place, Running};
use crate::record::{Profile, Record};
use crate::servers::{self, Kind};

/// Samples each second; prime, so that it does not beat with frames.
const FREQUENCY: &str = "997";
/// Time to join, and to let `perf` begin and end within the run.
pub const MARGIN: Duration = Duration::from_secs(3);

/// A profile of our server.
///
/// # Errors
/// If there is no `perf`, or it may not look.
pub async fn of_server(place: &Place, media: Media, audience: Audience) -> anyhow::Result<Record> {
    let on_air = servers::on_air(place, Kind::MediaTree, media).await?;
    let measured = server(place, &on_air, audience).await;
    on_air.end().await;
    let (packet_ns, functions) = measured?;
    let of = format!("media-tree, {} viewers, {}", audience.viewers, media.pacing.name());
    Ok(Record::Profile(Profile { part: Part::Profiles, of, packet_ns, functions }))
}

/// A profile of the floor under the same load.
///
/// # Errors
/// If there is no `perf`, or it may not look.
pub async fn of_floor(place: &Place, mix: &Path, audience: Audience) -> anyhow::Result<Record> {
    let at_work = floor::start(place, mix, longer(audience), Way::Gso).await?;
    let functions = perf(place, &at_work.floor, audience.seconds).await;
    let (packet_ns, _) = at_work.finished().await?;
    let of = format!("The floor, {} viewers", audience.viewers);
    Ok(Record::Profile(Profile { part: Part::Profiles, of, packet_ns, functions: functions? }))
}

/// An audience that stays while a profile is taken.
pub fn longer(audience: Audience) -> Audience {
    Audience {
        seconds: audience.seconds + 2 * MARGIN.as_secs() as u32,
        join_rate: audience.viewers,
        ..audience
    }
}

/// Share and name, most expensive first.
pub type Functions = Vec<(f64, String)>;

async fn server(
    place: &Place,
    on_air: &servers::OnAir,
    audience: Audience,
) -> anyhow::Result<(f64, Functions)> {
    tokio::time::sleep(ON_AIR).await;
    let watching = load::watch(place, std::slice::from_ref(&on_air.whep), longer(audience))?;
    tokio::time::sleep(MARGIN).await;
    let functions = perf(place, &on_air.server, audience.seconds).await;
    let (seen, _) = watching.finished().await?;
    let spent = on_air.server.meter.cpu_seconds((seen.window.start_unix_ms, seen.window.end_unix_ms));
    Ok((spent * 1e9 / seen.packets.delivered.max(1) as f64, functions?))
}

/// The functions of a running process, over so many seconds.
///
/// # Errors
/// If there is no `perf`, or it may not look.
pub async fn perf(place: &Place, running: &Running, seconds: u32) -> anyhow::Result<Functions> {
    let process = running.id().context("it has ended")?.to_string();
    let file = place.folder.path().join("perf.data").display().to_string();
    let seconds = seconds.to_string();
    let record = ["record", "-e", "cpu-clock", "-F", FREQUENCY, "-p", &process, "-o", &file];
    said(&[&record[..], &["--", "sleep", &seconds]].concat()).await?;
    let report = said(&["report", "-i", &file, "--stdio", "--no-children", "--sort", "symbol"]).await?;
    let functions: Functions = report.lines().filter_map(function).collect();
    ensure!(!functions.is_empty(), "perf has seen nothing");
    Ok(functions)
}

/// `  12.34%  [k] name  -  -` → share and name; `[k]` stays as the mark of the kernel.
fn function(line: &str) -> Option<(f64, String)> {
    let (share, name) = line.trim().split_once('%')?;
    let share: f64 = share.trim().parse().ok()?;
    let name = name.trim_end_matches([' ', '-']).split_whitespace().collect::<Vec<_>>().join(" ");
    Some((share / 100.0, name))
}

async fn said(arguments: &[&str]) -> anyhow::Result<String> {
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
        let line = "    12.50%  [k] copy_user_generic      -      -   ";
        assert_eq!(function(line), Some((0.125, "[k] copy_user_generic".to_owned())));
        assert_eq!(function("# Overhead  Symbol"), None);
        assert_eq!(function("# 100% of what"), None);
    }
}
