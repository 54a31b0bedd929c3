//! The floor: what sealing and sending alone cost here and now.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::load::Audience;
use crate::machine;
use crate::network::Side;
use crate::parts::floor::{Played, Way};
use crate::process::{Place, Running};
use crate::record::Floor;

/// A second is 361 packets for each viewer, and CPU time is told to 10 ms.
const SECONDS_MAX: u32 = 4;
/// How much longer than asked for a floor may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Plays the mix both ways.
///
/// # Errors
/// If a part fails, or nothing arrives.
pub async fn measure(place: &Place, mix: &Path, audience: Audience) -> anyhow::Result<Floor> {
    let audience = Audience { seconds: audience.seconds.min(SECONDS_MAX), ..audience };
    let gso = start(place, mix, audience, Way::Gso).await?.finished().await?;
    let sendto = start(place, mix, audience, Way::Sendto).await?.finished().await?;
    Ok(Floor {
        gso_ns: gso.0,
        sendto_ns: sendto.0,
        delivered: gso.1.min(sendto.1),
        load_average: machine::load_average(),
    })
}

/// A floor at work, and who takes what it sends.
pub struct AtWork {
    /// What is measured.
    pub floor: Running,
    sink: Running,
}

/// Begins to play.
///
/// # Errors
/// If a part does not start.
pub async fn start(place: &Place, mix: &Path, audience: Audience, way: Way) -> anyhow::Result<AtWork> {
    let address = Side::Viewers.address().to_string();
    let sockets = audience.viewers.to_string();
    let mut arguments = vec!["sink", "--address", &address, "--sockets", &sockets];
    if audience.takes_trains {
        arguments.push("--coalesce");
    }
    let mut sink = place.start(Side::Viewers, "bench", &arguments)?;
    sink.until_ready().await?;
    let name = match way {
        Way::Gso => "gso",
        Way::Sendto => "sendto",
    };
    let (mix, seconds) = (mix.display().to_string(), audience.seconds.to_string());
    let mut arguments = vec!["floor", "--mix", &mix, "--to", &address, "--viewers", &sockets];
    arguments.extend(["--seconds", &seconds, "--way", name]);
    let mut floor = place.start(Side::Server, "bench", &arguments)?;
    floor.until_ready().await?;
    Ok(AtWork { floor, sink })
}

impl AtWork {
    /// Waits for the end: CPU nanoseconds for each packet received, and the share that was.
    ///
    /// # Errors
    /// If a part fails, or nothing arrives.
    pub async fn finished(mut self) -> anyhow::Result<(f64, f64)> {
        let played: Played =
            serde_json::from_str(&self.floor.line().await?).context("parse what the floor says")?;
        // It waits for the end of its input, so that it is seen once more after its work.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let spent = self.floor.meter.cpu_seconds(played.window);
        self.floor.close_input();
        self.floor.finished(PATIENCE).await?;
        self.sink.close_input();
        let received: u64 = self.sink.line().await?.trim().parse().context("parse what the sink says")?;
        self.sink.finished(PATIENCE).await?;
        ensure!(received > 0, "nothing arrives");
        let offered = played.sent + played.dropped;
        Ok((spent * 1e9 / received as f64, received as f64 / offered as f64))
    }
}
