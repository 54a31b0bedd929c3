//! `cargo xtask`: the one door to every task of this repository.
#![forbid(unsafe_code)]

mod bench;
mod demo_clip;
mod encoders;
mod fuzz;
mod monitoring;
mod packages;
mod run;
mod suite;
mod test_binaries;
mod tidy;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Every task of this repository, as CI runs it.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Format, lints, tidiness: what can be judged without running anything.
    Check,
    /// Every test: units, simulation, fuzz corpora, real browsers and encoders.
    Test {
        /// Install missing Debian packages first (as root).
        #[arg(long)]
        install: bool,
    },
    /// The seeded simulation of whole trees, with more seeds than `test` plays.
    Sim {
        /// How many seeds to play.
        #[arg(long, default_value_t = 6000)]
        seeds: u64,
        /// Play this seed only.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Fuzz the parsers of outside bytes with cargo-fuzz, one target after another.
    Fuzz(fuzz::Arguments),
    /// Measures speeds beside the program's peers and writes `docs/benchmarks.md`.
    Bench(bench::Arguments),
    /// Three nodes on this machine: injection, relay, egress, with the demo clip.
    Dev,
    /// Only the end-to-end tests: real program, browsers, encoders, network namespaces.
    E2e {
        /// Only tests whose name contains this.
        filter: Option<String>,
    },
    /// The long runs: crowds, floods, kills; writes dated results into `docs/acceptance.md`.
    Acceptance,
    /// Minutes of streaming from and to each real client, cuts, narrow links (as root); writes `docs/compatibility.md`.
    Clients {
        /// How long each pair of clients streams: 5, and 60 for those of an hour, unless this says otherwise.
        #[arg(long)]
        minutes: Option<f64>,
        /// Install missing Debian packages first (as root): OBS Studio among them.
        #[arg(long)]
        install: bool,
        /// Try these only, and write nothing: `direct`, `obs`, `obs29`, `ffmpeg-rtmp`, `abr` ... `rtmp-hour-ffmpeg` and
        /// `rtmp-hour-obs` are tried only if they are named: RTMP minute by minute, for drift; a whole hour is written down.
        names: Vec<String>,
    },
    /// Takes the pictures of `docs/images/` from the running program.
    Screenshots,
    /// Makes the demo clip again with ffmpeg.
    DemoClip,
    /// Writes the references of all metrics and of all advice, `docs/operating/metrics.md` and `broadcasters.md`.
    Metrics,
    /// Writes dashboards, alerts and their trials into `deploy/monitoring/`.
    Monitoring,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Check => check(),
        Task::Test { install } => suite::test(install),
        Task::Sim { seeds, seed } => suite::sim(seeds, seed),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Dev => suite::dev(),
        Task::E2e { filter } => suite::e2e(filter.as_deref()),
        Task::Acceptance => suite::acceptance(),
        Task::Clients { minutes, install, names } => suite::clients(minutes, install, &names),
        Task::Screenshots => suite::screenshots(),
        Task::DemoClip => demo_clip::run(),
        Task::Metrics => metrics(),
        Task::Monitoring => monitoring::run(),
    }
}

fn metrics() -> anyhow::Result<()> {
    for (name, text) in [("metrics.md", telemetry::reference()), ("broadcasters.md", doctor::reference())] {
        let file = run::root().join("docs/operating").join(name);
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

fn check() -> anyhow::Result<()> {
    run::cargo(&["fmt", "--all", "--check"])?;
    run::cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    tidy::run()
}
