//! The servers that are measured, each started from nothing for each measurement.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::load::{self, Media, Pacing};
use crate::network::Side;
use crate::process::{Place, Running};

/// The broadcast that everybody publishes and watches.
pub const BROADCAST: &str = "bench";
/// Where servers take HTTP.
const HTTP_PORT: u16 = 8080;
/// Where a bridge on the publisher's side takes WHIP.
const BRIDGE_PORT: u16 = 8090;
/// Ports of Janus' mountpoint: audio, control of audio, video, control of video.
const RTP_PORT: u16 = 5002;
const JANUS_PROGRAM: &str = "/usr/bin/janus";
const JANUS_MOUNTPOINT: &str = "1";
/// 2–3 times cheaper than Janus' default of one thread for each viewer.
const JANUS_EVENT_LOOPS: u32 = 2;
/// Operations listener of a node under test, within its namespace.
const OPS: &str = "127.0.0.1:9600";

/// So long packets of a paced frame may wait for each other, here as at the floor.
const HOLD_MS: &str = "3";

/// How long the recording of a mix may take.
const RECORDING: Duration = Duration::from_secs(60);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `media-tree up`.
    MediaTree,
    /// Janus with its streaming plugin.
    Janus,
    /// One str0m for each viewer.
    Oracle,
}

impl Kind {
    /// As the report calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MediaTree => "media-tree",
            Self::Janus => "Janus",
            Self::Oracle => "str0m per viewer",
        }
    }

    /// Whether it can be measured here.
    #[must_use]
    pub fn is_installed(self) -> bool {
        !matches!(self, Self::Janus) || Path::new(JANUS_PROGRAM).exists()
    }
}

/// A server with a publisher on it.
pub struct OnAir {
    /// What is measured.
    pub server: Running,
    /// Who publishes.
    pub publisher: Running,
    /// What stands between, and is not measured.
    between: Vec<Running>,
    /// Where viewers go.
    pub whep: String,
}

impl OnAir {
    /// CPU seconds of everything but the server, between two moments.
    #[must_use]
    pub fn others_cpu_seconds(&self, window: (f64, f64)) -> f64 {
        let others = self.between.iter().chain([&self.publisher]);
        others.map(|running| running.meter.cpu_seconds(window)).sum()
    }

    /// Ends everything.
    pub async fn end(self) {
        for running in self.between.into_iter().chain([self.publisher, self.server]) {
            running.end().await;
        }
    }
}

/// Starts a server and puts a publisher on the air.
///
/// # Errors
/// If one of them does not start; the error carries its log.
pub async fn on_air(place: &Place, kind: Kind, media: Media) -> anyhow::Result<OnAir> {
    ensure!(kind.is_installed(), "{} is not installed", kind.name());
    let base = format!("http://{}:{HTTP_PORT}", Side::Server.address());
    let mut whip = format!("{base}/whip/{BROADCAST}");
    let whep = format!("{base}/whep/{BROADCAST}");
    let mut between = Vec::new();
    let server = match kind {
        Kind::MediaTree => media_tree(place).await?,
        Kind::Oracle => oracle(place, Side::Server, HTTP_PORT, &[]).await?,
        Kind::Janus => {
            let (janus, facade) = janus(place).await?;
            let rtp = format!("{}:{RTP_PORT}", Side::Server.address());
            let bridge = oracle(place, Side::Viewers, BRIDGE_PORT, &["--rtp-to", &rtp]).await?;
            whip = format!("http://{}:{BRIDGE_PORT}/whip/{BROADCAST}", Side::Viewers.address());
            between.extend([facade, bridge]);
            janus
        }
    };
    let publisher = load::publish(place, &whip, media)?;
    Ok(OnAir { server, publisher, between, whep })
}

/// Takes down what a publisher sends in a few seconds.
///
/// # Errors
/// If nothing is published in time.
pub async fn record_mix(place: &Place, media: Media, file: &Path) -> anyhow::Result<()> {
    let path = file.to_str().context("a path that is text")?;
    let mut more = vec!["--mix", path];
    if media.pacing == Pacing::Paced {
        more.extend(["--mix-hold-ms", HOLD_MS]);
    }
    let mut recorder = oracle(place, Side::Server, HTTP_PORT, &more).await?;
    let whip = format!("http://{}:{HTTP_PORT}/whip/{BROADCAST}", Side::Server.address());
    let mut publisher = load::publish(place, &whip, media)?;
    let recorded = tokio::select! {
        recorded = recorder.finished(RECORDING) => recorded,
        ended = publisher.finished(RECORDING) => ended.and(Err(anyhow::anyhow!("the publisher ended"))),
    };
    let log = publisher.log();
    publisher.end().await;
    recorded.with_context(|| format!("the publisher says: {log}"))
}

async fn media_tree(place: &Place) -> anyhow::Result<Running> {
    let http = format!("{}:{HTTP_PORT}", Side::Server.address());
    let arguments = [
        "up",
        "--supervise=false",
        "--http",
        &http,
        "--ops",
        OPS,
        "--insecure-http",
        "--broadcasts",
        BROADCAST,
    ];
    let mut node = place.start(Side::Server, "media-tree", &[&arguments[..], &LIMITS].concat())?;
    place.until_ready(Side::Server, OPS, &mut node).await?;
    Ok(node)
}

/// All viewers come from one address: what protects against floods would protect against the load generator. And
/// saturation is what is looked for, so nobody is refused for being near it.
pub const LIMITS: [&str; 20] = [
    "--publish-tokens",
    load::TOKEN,
    "--request-rate",
    "100000",
    "--request-burst",
    "100000",
    "--viewers-max",
    "20000",
    "--pending-sessions-max",
    "20000",
    "--client-pending-sessions-max",
    "20000",
    "--connections-max",
    "40000",
    "--client-connections-max",
    "40000",
    "--shard-load-max-percent",
    "101",
    "--log-filter",
    "warn",
];

async fn oracle(place: &Place, side: Side, port: u16, more: &[&str]) -> anyhow::Result<Running> {
    let (address, port) = (side.address().to_string(), port.to_string());
    let arguments = ["oracle", "--address", &address, "--port", &port];
    let mut oracle = place.start(side, "bench", &[&arguments[..], more].concat())?;
    oracle.until_ready().await?;
    Ok(oracle)
}

/// Janus and the WHEP facade before it.
async fn janus(place: &Place) -> anyhow::Result<(Running, Running)> {
    let folder = tempfile::Builder::new().prefix("janus").tempdir_in(place.folder.path())?.keep();
    for (name, text) in janus_configuration() {
        std::fs::write(folder.join(name), text).context("write the configuration of Janus")?;
    }
    let folder = folder.display().to_string();
    let main = format!("{folder}/janus.jcfg");
    let arguments = ["--configs-folder", &folder, "--config", &main];
    let janus = place.start_other(Side::Server, Path::new(JANUS_PROGRAM), &arguments)?;
    let listen = format!("{}:{HTTP_PORT}", Side::Server.address());
    let arguments =
        ["facade", "--listen", &listen, "--janus", "ws://127.0.0.1:8188", "--mountpoint", JANUS_MOUNTPOINT];
    let mut facade = place.start(Side::Server, "bench", &arguments)?;
    let started = facade.until_ready().await;
    started.with_context(|| format!("Janus says: {}", janus.log()))?;
    Ok((janus, facade))
}

/// Only what a broadcast needs, everything else as Debian ships it.
fn janus_configuration() -> [(&'static str, String); 3] {
    let library = Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)).join("janus");
    let library = library.display();
    let main = format!(
        r#"general: {{
  plugins_folder = "{library}/plugins"
  transports_folder = "{library}/transports"
  events_folder = "{library}/events"
  loggers_folder = "{library}/loggers"
  debug_level = 3
  event_loops = {JANUS_EVENT_LOOPS}
}}
nat: {{
  ice_enforce_list = "media"
}}
plugins: {{ disable = "{unused_plugins}" }}
transports: {{ disable = "{unused_transports}" }}
"#,
        unused_plugins = unused(&format!("{library}/plugins"), "libjanus_streaming.so"),
        unused_transports = unused(&format!("{library}/transports"), "libjanus_websockets.so"),
    );
    let websockets = "general: { json = \"compact\", ws = true, ws_port = 8188, wss = false }\n".to_owned();
    let video_port = RTP_PORT + 2;
    let streaming = format!(
        r#"broadcast: {{
  type = "rtp"
  id = {JANUS_MOUNTPOINT}
  media = (
    {{ type = "audio", mid = "a", port = {RTP_PORT}, pt = 111, codec = "opus" }},
    {{ type = "video", mid = "v", port = {video_port}, pt = 96, codec = "h264",
      fmtp = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f" }}
  )
}}
"#
    );
    [
        ("janus.jcfg", main),
        ("janus.transport.websockets.jcfg", websockets),
        ("janus.plugin.streaming.jcfg", streaming),
    ]
}

/// All libraries of a folder but one, as Janus wants them listed.
fn unused(folder: &str, used: &str) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".so") && name != used).collect();
    names.sort();
    names.join(",")
}
