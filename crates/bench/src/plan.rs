//! What is measured, in which order.

mod floor;
mod profile;
mod relay;
mod storm;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::load::{self, Audience, Media, Pacing};
use crate::machine::{self, Machine};
use crate::meter::Meter;
use crate::micro;
use crate::parts::mix::Mix;
use crate::process::Place;
use crate::record::{Missing, Record, Run, Session, Surroundings};
use crate::servers::{self, Kind, OnAir};

/// From the start of a publisher until its first picture has passed every server.
const ON_AIR: Duration = Duration::from_secs(2);
/// Viewers at which servers are compared.
pub const COMPARED: u32 = 200;
/// Viewers under rising load, to where the machine is more than full.
const LADDER: [u32; 8] = [100, 300, 400, 500, 600, 800, 1000, 2000];
/// Pictures each second of the broadcast that most can watch: 10 packets with those that a keyframe adds.
const SPARSE: Media = Media { bitrate_kbps: 40, fps: 5, pacing: Pacing::Burst, has_audio: false };

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Servers with viewers.
    Servers,
    /// Many viewers at once.
    Storm,
    /// A relay and its children.
    Relay,
    /// Where CPU time goes.
    Profiles,
    /// The benches beside hot paths.
    Micro,
}

/// How long and how much.
#[derive(Debug, Clone)]
pub struct Extent {
    /// Only what compares with the floor and with Janus.
    pub is_quick: bool,
    /// Seconds of each window.
    pub seconds: u32,
    /// These alone; all if there are none.
    pub parts: Vec<Part>,
}

impl Extent {
    /// Whether this is to be measured.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

/// What is under way.
struct Bench {
    place: Place,
    extent: Extent,
    mixes: Mixes,
    records: Vec<Record>,
    /// The whole machine.
    machine: Meter,
}

/// Recordings of what the publisher sends, made when first asked for.
#[derive(Default)]
struct Mixes(Vec<(Media, PathBuf)>);

impl Mixes {
    /// The recording of these media.
    async fn of(&mut self, place: &Place, media: Media) -> anyhow::Result<PathBuf> {
        if let Some((_, file)) = self.0.iter().find(|(recorded, _)| *recorded == media) {
            return Ok(file.clone());
        }
        let file = place.folder.path().join(format!("mix{}.json", self.0.len()));
        servers::record_mix(place, media, &file).await.context("record the mix")?;
        self.0.push((media, file.clone()));
        Ok(file)
    }
}

/// Measures everything.
///
/// # Errors
/// If namespaces or the recording of the mix fail. A measurement that fails is told in the records instead.
pub async fn measure(extent: Extent) -> anyhow::Result<Vec<Record>> {
    let place = Place::new()?;
    let mut mixes = Mixes::default();
    let usual = mixes.of(&place, Media::usual(Pacing::Burst)).await?;
    let session = Session {
        date: machine::date(),
        machine: Machine::here(),
        is_quick: extent.is_quick,
        parts: extent.parts.clone(),
        mix_packets_per_second: Mix::read(&usual)?.packets_per_second(),
    };
    println!("the mix has {:.0} packets/s", session.mix_packets_per_second);
    let records = vec![Record::Session(session)];
    let mut bench = Bench { place, extent, mixes, records, machine: Meter::of_machine() };
    bench.all().await;
    Ok(bench.records)
}

impl Bench {
    async fn all(&mut self) {
        if self.extent.has(Part::Servers) {
            self.servers().await;
        }
        if self.extent.is_quick {
            return;
        }
        if self.extent.has(Part::Storm) {
            let storm = storm::measure(&self.place, self.extent.seconds).await;
            self.note(Part::Storm, "join storm", storm.map(|storm| vec![storm]));
        }
        if self.extent.has(Part::Relay) {
            let relay = relay::measure(&self.place, self.extent.seconds).await;
            self.note(Part::Relay, "relay children", relay);
        }
        if self.extent.has(Part::Profiles) {
            let profiles = self.profiles().await;
            self.note(Part::Profiles, "profiles", profiles);
        }
        if self.extent.has(Part::Micro) {
            self.note(Part::Micro, "micro benches", micro::medians(&self.place.programs));
        }
    }

    async fn servers(&mut self) {
        let burst = Media::usual(Pacing::Burst);
        let paced = Media::usual(Pacing::Paced);
        self.compare(Kind::MediaTree, burst, COMPARED).await;
        self.compare(Kind::Janus, burst, COMPARED).await;
        self.compare(Kind::MediaTree, paced, COMPARED).await;
        self.compare(Kind::Janus, paced, COMPARED).await;
        if self.extent.is_quick {
            return;
        }
        self.compare(Kind::Oracle, burst, COMPARED).await;
        self.compare_whole(burst, COMPARED).await;
        for viewers in LADDER {
            self.compare(Kind::MediaTree, burst, viewers).await;
        }
        for kind in [Kind::Janus, Kind::Oracle] {
            self.compare(kind, burst, 100).await;
        }
        for kind in [Kind::MediaTree, Kind::Janus] {
            self.compare(kind, paced, 100).await;
        }
        self.compare(Kind::MediaTree, Media { bitrate_kbps: 1500, ..burst }, 1000).await;
        self.compare(Kind::MediaTree, SPARSE, 10_000).await;
    }

    async fn profiles(&mut self) -> anyhow::Result<Vec<Record>> {
        let media = Media::usual(Pacing::Burst);
        let mix = self.mixes.of(&self.place, media).await?;
        let audience = self.audience(COMPARED);
        let ours = profile::of_server(&self.place, media, audience).await?;
        Ok(vec![ours, profile::of_floor(&self.place, &mix, audience).await?])
    }

    /// Keeps what was measured, or why it was not.
    fn note(&mut self, part: Part, what: &str, measured: anyhow::Result<Vec<Record>>) {
        match measured {
            Ok(records) => self.records.extend(records),
            Err(error) => {
                eprintln!("{what}: {error:#}");
                let reason = format!("{error:#}");
                self.records.push(Record::Missing(Missing { part, measurement: what.to_owned(), reason }));
            }
        }
    }

    /// Measures a server, and the floor in the same minute.
    async fn compare(&mut self, kind: Kind, media: Media, viewers: u32) {
        self.measure(kind, media, self.audience(viewers)).await;
    }

    /// The same of ours with viewers that take trains whole.
    async fn compare_whole(&mut self, media: Media, viewers: u32) {
        let audience = Audience { takes_trains: true, ..self.audience(viewers) };
        self.measure(Kind::MediaTree, media, audience).await;
    }

    fn audience(&self, viewers: u32) -> Audience {
        let join_rate = (viewers / 4).clamp(25, 500);
        Audience { viewers, join_rate, seconds: self.extent.seconds, takes_trains: false }
    }

    async fn measure(&mut self, kind: Kind, media: Media, audience: Audience) {
        let what = format!(
            "{}, {} viewers, {} kbit/s, {}",
            kind.name(),
            audience.viewers,
            media.bitrate_kbps,
            media.pacing.name()
        );
        let measured = self.run(kind, media, audience).await;
        if let Ok(run) = &measured {
            println!("{what}: {}", crate::report::line(run));
        }
        self.note(Part::Servers, &what, measured.map(|run| vec![Record::Run(Box::new(run))]));
    }

    async fn run(&mut self, kind: Kind, media: Media, audience: Audience) -> anyhow::Result<Run> {
        let mix = self.mixes.of(&self.place, media).await?;
        let floor = floor::measure(&self.place, &mix, audience).await.context("the floor")?;
        let on_air = servers::on_air(&self.place, kind, media).await?;
        let measured = self.watch(&on_air, audience).await;
        let said = on_air.server.log();
        on_air.end().await;
        let (cpu_seconds, resident_before, resident_after, surroundings, seen) =
            measured.with_context(|| format!("{} says: {said}", kind.name()))?;
        Ok(Run {
            server: kind,
            media,
            audience,
            cpu_seconds,
            resident_before,
            resident_after,
            floor,
            surroundings,
            seen,
        })
    }

    async fn watch(
        &self,
        on_air: &OnAir,
        audience: Audience,
    ) -> anyhow::Result<(f64, u64, u64, Surroundings, load::Seen)> {
        tokio::time::sleep(ON_AIR).await;
        let resident_before = on_air.server.meter.resident_bytes_at(machine::unix_ms());
        let watching = load::watch(&self.place, std::slice::from_ref(&on_air.whep), audience)?;
        let (seen, viewers_cpu_seconds) = watching.finished().await?;
        let window = (seen.window.start_unix_ms, seen.window.end_unix_ms);
        let surroundings = Surroundings {
            load_average: machine::load_average(),
            viewers_cpu_seconds,
            feeding_cpu_seconds: on_air.others_cpu_seconds(window),
            machine_cpu_seconds: self.machine.cpu_seconds(window),
        };
        let meter = &on_air.server.meter;
        Ok((
            meter.cpu_seconds(window),
            resident_before,
            meter.resident_bytes_at(window.1),
            surroundings,
            seen,
        ))
    }
}
