//! Which programs took part.

use std::path::Path;

use ::tests::browser::Browser;
use ::tests::encoders;
use ::tests::obs_studio::Release;
use anyhow::Context as _;
use tokio::process::Command;

/// One program.
pub struct Version {
    /// Its name.
    pub program: &'static str,
    /// What it says of itself.
    pub version: String,
}

/// Asks all of them.
pub async fn all() -> anyhow::Result<Vec<Version>> {
    let [node, ..] = encoders::parts_of_libdatachannel();
    let [_, python] = encoders::parts_of_ffmpeg();
    let library = "process.stdout.write(require('node-datachannel').getLibraryVersion())";
    let muxer = "import av; print(av.__version__ + ', libavformat', '.'.join(map(str, av.library_versions['libavformat'])))";
    let debian = Path::new("/usr/bin");
    let mut ask = vec![
        ("Chromium", Command::new(debian.join("chromium")), vec!["--version"], 0),
        ("Firefox", Command::new(debian.join("firefox-esr")), vec!["--version"], 0),
        ("libdatachannel", Command::new(node), vec!["-e", library], 0),
        ("PyAV", Command::new(python), vec!["-c", muxer], 0),
        ("ffmpeg", Command::new(debian.join("ffmpeg")), vec!["-version"], 0),
        ("GStreamer", Command::new(debian.join("gst-inspect-1.0")), vec!["--version"], 1),
    ];
    let home = tempfile::tempdir().context("a folder for OBS")?;
    for (program, release) in [
        ("OBS Studio", Release::Debian12),
        ("OBS Studio, WHIP", Release::Debian13),
        ("OBS Studio, WHIP in layers", Release::Debian14),
    ] {
        if release.parts().iter().all(|part| Path::new(part).exists()) {
            ask.push((program, release.command(home.path()), vec!["--version"], 0));
        }
    }
    let mut versions = vec![Version { program: "Media-Tree", version: media_tree() }];
    for (program, mut command, arguments, line) in ask {
        let output = command.args(arguments).current_dir(encoders::folder()).output().await;
        let output = output.with_context(|| format!("run {program}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = said.lines().nth(line).unwrap_or("unknown");
        versions.push(Version { program, version: bare(version).to_owned() });
    }
    Ok(versions)
}

/// This program's own version. It is built as the program that tries it is.
pub fn media_tree() -> String {
    let build = if cfg!(debug_assertions) { "development" } else { "release" };
    format!("{}, {build} build", env!("CARGO_PKG_VERSION"))
}

/// Without what is around it: who built it, whose rights it has.
fn bare(version: &str) -> &str {
    let end = [" Copyright", " built on"].iter().filter_map(|word| version.find(word)).min();
    version[..end.unwrap_or(version.len())].trim()
}

/// Video codecs that Firefox receives here.
pub async fn codecs_of_firefox() -> anyhow::Result<Vec<String>> {
    let browser = Browser::firefox().await?;
    let page = browser.open("about:blank").await?;
    let names =
        "[...new Set(RTCRtpReceiver.getCapabilities('video').codecs.map(({ mimeType }) => mimeType))]";
    let listed: Vec<String> = serde_json::from_value(page.evaluate(names).await?)?;
    let is_codec = |name: &str| !["rtx", "red", "ulpfec", "flexfec-03"].contains(&name);
    let bare = listed.iter().filter_map(|name| name.split_once('/')).map(|(_, name)| name);
    Ok(bare.filter(|name| is_codec(name)).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn a_version_goes_without_its_builder() {
        assert_eq!(
            bare("ffmpeg version 5.1.9-0+deb12u1 Copyright (c) 2000-2026"),
            "ffmpeg version 5.1.9-0+deb12u1"
        );
        assert_eq!(bare("Chromium 156.0.1 built on Debian GNU/Linux 12"), "Chromium 156.0.1");
        assert_eq!(bare("0.24.5"), "0.24.5");
    }
}
