//! Browsers as child processes: flags, preferences, fresh profiles, and their end.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::sound_card::SoundCard;

/// How long a browser may take to come up on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// A browser's process, profile and sound card; all end with the value.
pub(super) struct Process {
    child: Child,
    _profile: TempDir,
    pub sound_card: Option<SoundCard>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process leads a group with its helpers in it; the group goes as one.
        if let Some(pid) = self.child.id() {
            let group = format!("-{pid}");
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &group]).status();
        }
    }
}

const CHROMIUM_FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-port=0",
    "--window-size=1280,800",
    // Whatever this machine speaks.
    "--accept-lang=en-US",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--auto-accept-this-tab-capture",
    // Tabs in the background play on.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    // Nothing calls home.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-pings",
    "--password-store=basic",
    // Real candidates instead of mDNS names, which nobody here resolves.
    "--disable-features=WebRtcHideLocalIpsWithMdns,MediaRouter,OptimizationHints,Translate,DialMediaRouteProvider",
];

/// Starts Chromium, perhaps with a sound card and a key whose certificate it believes; gives the address of its DevTools websocket.
pub(super) async fn chromium(
    sound_card: Option<SoundCard>,
    key_hash: Option<&str>,
) -> anyhow::Result<(Process, String)> {
    let profile = tempfile::tempdir().context("make a profile")?;
    let mut command = Command::new("chromium");
    command
        .args(CHROMIUM_FLAGS)
        .args(key_hash.map(|hash| format!("--ignore-certificate-errors-spki-list={hash}")))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg("about:blank");
    start(command, profile, sound_card, "DevTools listening on ").await
}

const FIREFOX_PREFERENCES: &[(&str, &str)] = &[
    // Fake camera and microphone, sound at once, candidates on loopback too.
    ("media.navigator.streams.fake", "true"),
    ("media.navigator.permission.disabled", "true"),
    ("media.autoplay.default", "0"),
    ("media.autoplay.blocking_policy", "0"),
    ("media.peerconnection.ice.loopback", "true"),
    ("media.peerconnection.ice.obfuscate_host_addresses", "false"),
    // Whatever this machine speaks.
    ("intl.accept_languages", "\"en-US\""),
    // Nothing calls home.
    ("app.normandy.enabled", "false"),
    ("app.update.enabled", "false"),
    ("app.update.auto", "false"),
    ("browser.aboutHomeSnippets.updateUrl", "\"\""),
    ("browser.newtabpage.enabled", "false"),
    ("browser.region.network.url", "\"\""),
    ("browser.safebrowsing.malware.enabled", "false"),
    ("browser.safebrowsing.phishing.enabled", "false"),
    ("browser.safebrowsing.blockedURIs.enabled", "false"),
    ("browser.safebrowsing.downloads.enabled", "false"),
    ("browser.search.update", "false"),
    ("browser.shell.checkDefaultBrowser", "false"),
    ("browser.startup.page", "0"),
    ("browser.topsites.contile.enabled", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("datareporting.healthreport.uploadEnabled", "false"),
    ("dom.push.enabled", "false"),
    ("extensions.getAddons.cache.enabled", "false"),
    ("extensions.systemAddon.update.enabled", "false"),
    ("extensions.update.enabled", "false"),
    ("media.gmp-manager.updateEnabled", "false"),
    ("media.gmp-manager.url", "\"\""),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("network.dns.disablePrefetch", "true"),
    ("network.prefetch-next", "false"),
    ("services.settings.server", "\"data:,\""),
    ("toolkit.telemetry.enabled", "false"),
    ("toolkit.telemetry.server", "\"\""),
];

/// Without a sound card the audio graph would stand still.
const WITHOUT_SOUND_CARD: (&str, &str) = ("media.cubeb.force_mock_context", "true");

/// Starts Firefox, perhaps with a sound card; gives the address of its WebDriver BiDi websocket.
pub(super) async fn firefox(sound_card: Option<SoundCard>) -> anyhow::Result<(Process, String)> {
    let profile = tempfile::tempdir().context("make a profile")?;
    let preferences: String = FIREFOX_PREFERENCES
        .iter()
        .chain(sound_card.is_none().then_some(&WITHOUT_SOUND_CARD))
        .map(|(name, value)| format!("user_pref(\"{name}\", {value});\n"))
        .collect();
    std::fs::write(profile.path().join("user.js"), preferences).context("write the preferences")?;
    let mut command = Command::new("firefox-esr");
    command.args(["--headless", "--no-remote", "--remote-debugging-port=0", "--profile"]).arg(profile.path());
    command.env("HOME", profile.path()).env("MOZ_CRASHREPORTER_DISABLE", "1");
    start(command, profile, sound_card, "WebDriver BiDi listening on ").await
}

/// Starts a browser and waits for the line in which it tells its address.
async fn start(
    mut command: Command,
    profile: TempDir,
    sound_card: Option<SoundCard>,
    announcement: &str,
) -> anyhow::Result<(Process, String)> {
    let runtime_folder = profile.path().join("runtime");
    create_private(&runtime_folder)?;
    if let Some(card) = &sound_card {
        command.env("PULSE_SERVER", card.address());
    }
    command
        .env("XDG_RUNTIME_DIR", runtime_folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("start {:?}", command.as_std().get_program()))?;
    let stderr = child.stderr.take().context("stderr is piped")?;
    let process = Process { child, _profile: profile, sound_card };
    let mut lines = BufReader::new(stderr).lines();
    let mut said = Vec::new();
    let announced = tokio::time::timeout(START_MAX, async {
        while let Some(line) = lines.next_line().await? {
            if let Some((_, address)) = line.split_once(announcement) {
                return Ok(address.trim().to_owned());
            }
            said.push(line);
        }
        bail!("it ended; it said: {said:?}")
    });
    let address = announced.await.context("the browser does not come up")??;
    // Its further words are read, so that it never waits for us, and dropped.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((process, address))
}

fn create_private(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("make {}", folder.display()))
}
