//! `bench`: measures whole processes and writes what it saw.
#![forbid(unsafe_code)]

mod load;
mod machine;
mod meter;
mod micro;
mod network;
mod parts;
mod plan;
mod process;
mod record;
mod report;
mod servers;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use plan::{Extent, Part};
use record::Record;

#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures, and writes or prints the report.
    Run {
        /// Only what compares with the floor and with Janus; prints, writes nothing.
        #[arg(long)]
        quick: bool,
        /// Seconds of each window.
        #[arg(long, default_value_t = 12)]
        seconds: u32,
        /// Measure this anew and keep what else the last report is made of. May be given more than once.
        #[arg(long = "only")]
        parts: Vec<Part>,
        /// Where the report goes, as `benchmarks.md` and `benchmarks.raw.jsonl`.
        #[arg(long)]
        folder: PathBuf,
    },
    /// Writes the report anew from the raw data.
    Report {
        /// Where both lie.
        #[arg(long)]
        folder: PathBuf,
    },
    /// A part of a measurement: one str0m for each viewer; can also feed other servers.
    Oracle(parts::oracle::Arguments),
    /// A part of a measurement: WHEP in front of Janus.
    Facade(parts::facade::Arguments),
    /// A part of a measurement: what no server can do without.
    Floor(parts::floor::Arguments),
    /// A part of a measurement: sockets that take what the floor sends.
    Sink {
        /// Address of the sockets.
        #[arg(long)]
        address: IpAddr,
        /// How many.
        #[arg(long)]
        sockets: u16,
        /// Take trains whole (UDP GRO).
        #[arg(long)]
        coalesce: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run { quick, seconds, parts, folder } => {
            run(Extent { is_quick: quick, seconds, parts }, &folder)
        }
        Command::Report { folder } => report_again(&folder),
        Command::Oracle(arguments) => parts::oracle::run(&arguments),
        Command::Facade(arguments) => parts::facade::run(&arguments),
        Command::Floor(arguments) => parts::floor::run(&arguments),
        Command::Sink { address, sockets, coalesce } => parts::sink::run(address, sockets, coalesce),
    }
}

/// On one thread: the kernel ends the children with the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn run(extent: Extent, folder: &Path) -> anyhow::Result<()> {
    let (is_quick, parts) = (extent.is_quick, extent.parts.clone());
    let mut terminate = signal(SignalKind::terminate())?;
    let new = tokio::select! {
        records = plan::measure(extent) => records?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    };
    if is_quick {
        println!("\n{}", report::write(&new));
        return Ok(());
    }
    let mut records = if parts.is_empty() { Vec::new() } else { read(folder)? };
    records.retain(|record| record.part().is_none_or(|part| !parts.contains(&part)));
    records.extend(new);
    let text = report::write(&records);
    let lines: Result<Vec<String>, _> = records.iter().map(serde_json::to_string).collect();
    write(&folder.join("benchmarks.raw.jsonl"), &(lines?.join("\n") + "\n"))?;
    write(&folder.join("benchmarks.md"), &text)
}

fn report_again(folder: &Path) -> anyhow::Result<()> {
    write(&folder.join("benchmarks.md"), &report::write(&read(folder)?))
}

fn read(folder: &Path) -> anyhow::Result<Vec<Record>> {
    let raw = folder.join("benchmarks.raw.jsonl");
    let raw = std::fs::read_to_string(&raw).with_context(|| format!("read {}", raw.display()))?;
    let records: Result<Vec<Record>, _> = raw.lines().map(serde_json::from_str).collect();
    Ok(records?)
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
