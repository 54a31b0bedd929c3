//! OBS Studio itself: under a virtual X server, with a profile and a scene of its own, and told what to do over its websocket.
//!
//! Three releases of it: the one of Debian 12, which is too old for WHIP and publishes over RTMP, the one of Debian 13 with its
//! WHIP plugin, which `tests/encoders/obs-studio/debian13.sh` makes, and that of Debian 14, which knows layers and has to be made
//! by hand. Their settings are those of `docs/obs.md`; what they film is [`Camera`], so a viewer can read off the picture how long
//! everything took, OBS included.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_lc_rs::digest::{self, SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::live_encoder::{Camera, Container};
use crate::program;

/// What must be there beside OBS: an X server without a screen.
const XVFB: &str = "/usr/bin/Xvfb";
/// Where `cargo xtask clients --install` puts [`Release::Debian13`].
const DEBIAN_13: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/encoders/obs-studio");
/// Where [`Release::Debian14`] is looked for.
const DEBIAN_14: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/encoders/obs-studio-32");
/// Where those two find their user's folder.
const HOME_INSIDE: &str = "/mnt";

const GLOBAL: &str = include_str!("../encoders/obs-studio/global.ini");
const PROFILE: &str = include_str!("../encoders/obs-studio/basic.ini");
const ENCODER: &str = include_str!("../encoders/obs-studio/streamEncoder.json");
const RTMP: &str = include_str!("../encoders/obs-studio/rtmp.json");
const WHIP: &str = include_str!("../encoders/obs-studio/whip.json");
const SCENES: &str = include_str!("../encoders/obs-studio/scenes.json");

/// Opens its websocket on this machine for as long as a test lasts.
const PASSWORD: &str = "websocket-secret-of-tests";
/// How long the X server may take to come up on a busy machine.
const START_MAX: Duration = Duration::from_secs(30);
/// While it starts on a busy machine, OBS sends pictures that are late by most of a second, and then many at once. A browser
/// that watches that takes a minute to get over it.
const STARTING_PICTURES: u64 = 300;
/// An answer that takes longer has gone astray.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Which OBS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// 29: RTMP alone.
    Debian12,
    /// 30, with WHIP, in a root folder of its own.
    Debian13,
    /// 32, with layers, likewise.
    Debian14,
}

impl Release {
    /// What must be on this machine.
    pub const fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Debian12 => &["/usr/bin/obs", XVFB],
            Self::Debian13 => &[DEBIAN_13, XVFB],
            Self::Debian14 => &[DEBIAN_14, XVFB],
        }
    }

    /// Its program, with `home` as its user's folder.
    pub fn command(self, home: &Path) -> Command {
        let (mut command, home) = match self {
            Self::Debian12 => (Command::new("obs"), home),
            Self::Debian13 => inside(DEBIAN_13, home),
            Self::Debian14 => inside(DEBIAN_14, home),
        };
        // Nobody else's settings, and a picture without a graphics card.
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
            command.env(variable, home);
        }
        command.env("LIBGL_ALWAYS_SOFTWARE", "1").kill_on_drop(true);
        command
    }
}

/// The OBS of this root folder, and where it finds `home`.
fn inside(root: &str, home: &Path) -> (Command, &'static Path) {
    // What is mounted goes with the process, which is the same from first to last.
    let script =
        r#"mount --bind /proc "$0/proc" && mount --bind "$1" "$0$2" && shift 2 && exec chroot "$0" obs "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, root]).arg(home).arg(HOME_INSIDE);
    (command, Path::new(HOME_INSIDE))
}

/// OBS at work. Ends with its value.
pub struct ObsStudio {
    obs: Child,
    websocket: SocketAddr,
    // In the order in which they end, after OBS.
    screen: Child,
    _camera: Camera,
    folder: TempDir,
}

/// What OBS says of its stream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Status {
    /// Whether it streams.
    #[serde(rename = "outputActive")]
    pub is_active: bool,
    /// Pictures since it began to.
    #[serde(rename = "outputTotalFrames")]
    pub pictures: u64,
    /// Of them, those that it left out because its connection was too slow.
    #[serde(rename = "outputSkippedFrames")]
    pub left_out: u64,
}

impl ObsStudio {
    /// This release publishes to the RTMP listener at `address`; `stream` is name and key, as its field *Stream Key* wants them. Gives it
    /// when it is live.
    ///
    /// # Errors
    /// If it does not come up or does not connect; the error carries its log.
    pub async fn rtmp(release: Release, address: SocketAddr, stream: &str) -> anyhow::Result<Self> {
        let service = RTMP.replace("{server}", &format!("rtmp://{address}/live")).replace("{key}", stream);
        Self::start(release, &service, "ffmpeg_aac").await
    }

    /// Publishes to the WHIP endpoint at `url` with this token. Gives it when it is live.
    ///
    /// # Errors
    /// As for [`ObsStudio::rtmp`].
    pub async fn whip(release: Release, url: &str, token: &str) -> anyhow::Result<Self> {
        let service = WHIP.replace("{server}", url).replace("{token}", token);
        Self::start(release, &service, "ffmpeg_opus").await
    }

    async fn start(release: Release, service: &str, audio_encoder: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder for OBS")?;
        let camera = Camera::start(Container::Nut).await?;
        let websocket = free_address()?;
        let values = [
            ("{service}", service.to_owned()),
            ("{audio_encoder}", audio_encoder.to_owned()),
            ("{camera}", camera.address.to_string()),
            ("{port}", websocket.port().to_string()),
            ("{password}", PASSWORD.to_owned()),
        ];
        write_settings(folder.path(), &values)?;
        let (screen, display) = screen().await?;
        let obs = start(release, folder.path(), &display)?;
        let started = Self { obs, websocket, screen, _camera: camera, folder };
        match started.until_live().await {
            Ok(()) => Ok(started),
            Err(error) => Err(error.context(started.log())),
        }
    }

    async fn until_live(&self) -> anyhow::Result<()> {
        program::until("OBS is live", async || {
            // It refuses connections until it has come up.
            Ok(self
                .status()
                .await
                .is_ok_and(|status| status.is_active && status.pictures > STARTING_PICTURES))
        })
        .await
    }

    /// What it says of its stream.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn status(&self) -> anyhow::Result<Status> {
        let status = ask(self.websocket, "GetStreamStatus").await?;
        serde_json::from_value(status).context("the state of the stream")
    }

    /// Whether its process is no more.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.obs.try_wait().context("look for OBS")?.is_some())
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Stops the stream as its button does, and ends it; gives what it said of the stream before.
    ///
    /// # Errors
    /// If it does not stop; its log is shown then.
    pub async fn close(mut self) -> anyhow::Result<Status> {
        let status = match self.stop().await {
            Ok(status) => status,
            Err(error) => {
                eprintln!("{}", self.log());
                return Err(error);
            }
        };
        self.obs.kill().await.context("end OBS")?;
        // It goes with its last client, and takes its lock with it.
        tokio::time::timeout(ANSWER_MAX, self.screen.wait()).await.context("Xvfb does not end")??;
        Ok(status)
    }

    async fn stop(&self) -> anyhow::Result<Status> {
        let status = self.status().await?;
        ask(self.websocket, "StopStream").await?;
        program::until("OBS stops", async || Ok(!self.status().await?.is_active)).await?;
        Ok(status)
    }
}

/// Profile, scene and the rest of a user's folder, with these values in their places.
fn write_settings(folder: &Path, values: &[(&str, String)]) -> anyhow::Result<()> {
    let settings = folder.join("obs-studio");
    let (profile, scenes) = (settings.join("basic/profiles/Test"), settings.join("basic/scenes"));
    std::fs::create_dir_all(&profile).context("a folder for the profile")?;
    std::fs::create_dir_all(&scenes).context("a folder for the scene")?;
    let files = [
        (settings.join("global.ini"), GLOBAL),
        // Where 31 and later look for most of it.
        (settings.join("user.ini"), GLOBAL),
        (profile.join("basic.ini"), PROFILE),
        (profile.join("streamEncoder.json"), ENCODER),
        (profile.join("service.json"), "{service}"),
        (scenes.join("Test.json"), SCENES),
    ];
    for (path, template) in files {
        let text = values.iter().fold(template.to_owned(), |text, (place, value)| text.replace(place, value));
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// An X server that shows nobody anything, and the display that it chose.
async fn screen() -> anyhow::Result<(Child, String)> {
    let mut command = Command::new("Xvfb");
    command.args(["-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-terminate"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut screen = command.spawn().context("start Xvfb")?;
    let mut lines = BufReader::new(screen.stdout.take().context("its output")?).lines();
    let line =
        tokio::time::timeout(START_MAX, lines.next_line()).await.context("Xvfb does not come up")??;
    let number = line.context("Xvfb has ended")?;
    Ok((screen, format!(":{}", number.trim())))
}

fn start(release: Release, folder: &Path, display: &str) -> anyhow::Result<Child> {
    let log = std::fs::File::create(folder.join("log")).context("a log for OBS")?;
    let mut command = release.command(folder);
    command
        .args(["--multi", "--disable-updater", "--minimize-to-tray", "--startstreaming"])
        .args(["--profile", "Test", "--collection", "Test"])
        .env("DISPLAY", display)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command.spawn().context("start OBS")
}

fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port for OBS's websocket")?;
    listener.local_addr().context("the port of OBS's websocket")
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Asks OBS for something over a connection of its own (obs-websocket 5).
async fn ask(address: SocketAddr, request: &str) -> anyhow::Result<Value> {
    let exchange = async {
        let (mut socket, _response) =
            tokio_tungstenite::connect_async(format!("ws://{address}")).await.context("connect to OBS")?;
        let hello = receive(&mut socket).await?;
        let mut identify = json!({ "rpcVersion": 1, "eventSubscriptions": 0 });
        if let (Some(salt), Some(challenge)) =
            (hello["authentication"]["salt"].as_str(), hello["authentication"]["challenge"].as_str())
        {
            identify["authentication"] = proof(PASSWORD, salt, challenge).into();
        }
        send(&mut socket, 1, &identify).await?;
        receive(&mut socket).await?;
        send(&mut socket, 6, &json!({ "requestType": request, "requestId": request })).await?;
        let mut answer = receive(&mut socket).await?;
        if answer["requestStatus"]["result"] != true {
            bail!("OBS does not {request}: {}", answer["requestStatus"]);
        }
        Ok(answer["responseData"].take())
    };
    tokio::time::timeout(ANSWER_MAX, exchange).await.context("OBS does not answer")?
}

/// That the password is known, as obs-websocket wants it.
fn proof(password: &str, salt: &str, challenge: &str) -> String {
    let hashed = |text: String| BASE64_STANDARD.encode(digest::digest(&SHA256, text.as_bytes()));
    hashed(format!("{}{challenge}", hashed(format!("{password}{salt}"))))
}

async fn send(socket: &mut Socket, operation: u32, content: &Value) -> anyhow::Result<()> {
    let message = json!({ "op": operation, "d": content }).to_string();
    socket.send(Message::text(message)).await.context("send to OBS")
}

/// The content of the next message.
async fn receive(socket: &mut Socket) -> anyhow::Result<Value> {
    while let Some(message) = socket.next().await {
        if let Message::Text(text) = message.context("receive from OBS")? {
            let mut message: Value = serde_json::from_str(&text).context("a message of OBS")?;
            return Ok(message["d"].take());
        }
    }
    bail!("OBS has closed the connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_whole_and_those_of_the_documentation() {
        let folder = tempfile::tempdir().expect("a folder");
        let values = [
            (
                "{service}",
                RTMP.replace("{server}", "rtmp://127.0.0.1:1935/live").replace("{key}", "show?key=secret"),
            ),
            ("{audio_encoder}", "ffmpeg_aac".to_owned()),
            ("{camera}", "127.0.0.1:4456".to_owned()),
            ("{port}", "4455".to_owned()),
            ("{password}", PASSWORD.to_owned()),
        ];
        write_settings(folder.path(), &values).expect("written");
        let read =
            |name: &str| std::fs::read_to_string(folder.path().join("obs-studio").join(name)).expect(name);
        let service: Value = serde_json::from_str(&read("basic/profiles/Test/service.json")).expect("JSON");
        assert_eq!(service["settings"]["server"], "rtmp://127.0.0.1:1935/live");
        assert_eq!(service["settings"]["key"], "show?key=secret");
        let scenes: Value = serde_json::from_str(&read("basic/scenes/Test.json")).expect("JSON");
        assert_eq!(scenes["sources"][1]["settings"]["input"], "tcp://127.0.0.1:4456");
        assert!(read("global.ini").contains("ServerPort=4455\n"));
        let encoder: Value =
            serde_json::from_str(&read("basic/profiles/Test/streamEncoder.json")).expect("JSON");
        let page = include_str!("../../docs/obs.md");
        for (setting, value) in [
            ("Rate Control", &encoder["rate_control"]),
            ("CPU Usage Preset", &encoder["preset"]),
            ("Profile", &encoder["profile"]),
            ("Tune", &encoder["tune"]),
        ] {
            let row =
                page.lines().find(|line| line.starts_with(&format!("   | {setting} |"))).expect(setting);
            assert!(row.contains(value.as_str().expect("a word")), "{row}");
        }
    }

    #[test]
    fn the_password_is_proved_as_obs_websocket_wants_it() {
        // The base64 of SHA-256 of that of password and salt, and of the challenge: computed with other tools.
        assert_eq!(
            proof("supersecretpassword", "salt", "challenge"),
            "mIHHpjpK6WDg6ZJBtVx3D2nKe13YKJYtVx9NBIlEt6g="
        );
    }
}
