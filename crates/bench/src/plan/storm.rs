//! A join storm: many viewers at once on a broadcast that costs next to nothing to send, while others watch.

use super::{ON_AIR, SPARSE};
use crate::load::{self, Audience};
use crate::machine;
use crate::process::Place;
use crate::record::{Record, Storm};
use crate::servers::{self, Kind};

/// Who watches before they come.
const INSIDE: Audience = Audience { viewers: 100, join_rate: 100, seconds: 0, takes_trains: false };
/// Who comes, as fast as the load generator can ask.
const STORM: Audience = Audience { viewers: 2000, join_rate: 5000, seconds: 2, takes_trains: false };

/// Lets them come.
///
/// # Errors
/// If server or load fail.
pub async fn measure(place: &Place, seconds: u32) -> anyhow::Result<Record> {
    let on_air = servers::on_air(place, Kind::MediaTree, SPARSE).await?;
    let measured = storm(place, &on_air, seconds).await;
    on_air.end().await;
    Ok(Record::Storm(Box::new(measured?)))
}

async fn storm(place: &Place, on_air: &servers::OnAir, seconds: u32) -> anyhow::Result<Storm> {
    tokio::time::sleep(ON_AIR).await;
    let url = std::slice::from_ref(&on_air.whep);
    let inside = load::watch(place, url, Audience { seconds, ..INSIDE })?;
    // Those inside have joined, and their window has begun.
    tokio::time::sleep(ON_AIR).await;
    let from = machine::unix_ms();
    let (seen, _) = load::watch(place, url, STORM)?.finished().await?;
    let until = seen.window.start_unix_ms;
    let cpu_seconds = on_air.server.meter.cpu_seconds((from, until));
    let (inside, _) = inside.finished().await?;
    let took = (until - from) / 1000.0;
    let load_average = machine::load_average();
    let storm = Storm { audience: STORM, cpu_seconds, seconds: took, seen, inside, load_average };
    println!("join storm: {:.0} joins/s for each core", storm.joins_per_core());
    Ok(storm)
}
