//! The Debian packages that tests and benches use as real parts.

use std::path::Path;
use std::process::Command;

use crate::run;

/// A program or file that is needed, and the package that brings it.
pub struct Part {
    /// A file that is there when the part is.
    file: &'static str,
    package: &'static str,
}

/// What the tests use.
pub const TESTS: &[Part] = &[
    Part { file: "/usr/bin/chromium", package: "chromium" },
    Part { file: "/usr/bin/firefox-esr", package: "firefox-esr" },
    Part { file: "/usr/bin/ffmpeg", package: "ffmpeg" },
    Part { file: "/usr/bin/gst-launch-1.0", package: "gstreamer1.0-tools" },
    Part { file: "/usr/share/doc/gstreamer1.0-plugins-base", package: "gstreamer1.0-plugins-base" },
    Part { file: "/usr/share/doc/gstreamer1.0-plugins-good", package: "gstreamer1.0-plugins-good" },
    Part { file: "/usr/share/doc/gstreamer1.0-plugins-bad", package: "gstreamer1.0-plugins-bad" },
    Part { file: "/usr/share/doc/gstreamer1.0-plugins-ugly", package: "gstreamer1.0-plugins-ugly" },
    Part { file: "/usr/share/doc/gstreamer1.0-libav", package: "gstreamer1.0-libav" },
    Part { file: "/usr/share/doc/gstreamer1.0-nice", package: "gstreamer1.0-nice" },
    Part { file: "/usr/share/doc/python3-gi", package: "python3-gi" },
    Part { file: "/usr/share/doc/gir1.2-gst-plugins-bad-1.0", package: "gir1.2-gst-plugins-bad-1.0" },
    Part { file: "/usr/bin/node", package: "nodejs" },
    Part { file: "/usr/bin/npm", package: "npm" },
    Part { file: "/usr/share/doc/python3-venv", package: "python3-venv" },
    Part { file: "/usr/bin/openssl", package: "openssl" },
    Part { file: "/usr/include/mbedtls/ssl.h", package: "libmbedtls-dev" },
    Part { file: "/usr/bin/redis-server", package: "redis-server" },
    Part { file: "/usr/bin/turnserver", package: "coturn" },
    Part { file: "/usr/bin/faketime", package: "faketime" },
    Part { file: "/usr/bin/prometheus", package: "prometheus" },
    Part { file: "/usr/bin/prometheus-alertmanager", package: "prometheus-alertmanager" },
    Part { file: "/usr/bin/curl", package: "curl" },
    Part { file: "/usr/sbin/dockerd", package: "docker.io" },
    Part { file: "/usr/bin/docker-compose", package: "docker-compose" },
    Part { file: "/usr/share/doc/python3-yaml", package: "python3-yaml" },
    Part { file: "/etc/ssl/certs/ca-certificates.crt", package: "ca-certificates" },
    Part { file: "/bin/cgroupfs-mount", package: "cgroupfs-mount" },
    Part { file: "/usr/sbin/nft", package: "nftables" },
    Part { file: "/usr/sbin/iptables", package: "iptables" },
    Part { file: "/usr/share/doc/iproute2", package: "iproute2" },
];

/// What `clients` uses beside what the tests do.
pub const CLIENTS: &[Part] = &[
    Part { file: "/usr/bin/obs", package: "obs-studio" },
    Part { file: "/usr/bin/Xvfb", package: "xvfb" },
    Part { file: "/usr/bin/pulseaudio", package: "pulseaudio" },
    Part { file: "/usr/bin/parec", package: "pulseaudio-utils" },
    Part { file: "/usr/share/doc/gstreamer1.0-pulseaudio", package: "gstreamer1.0-pulseaudio" },
    Part { file: "/usr/sbin/debootstrap", package: "debootstrap" },
];

/// What the benches use: a peer to compare with, a profiler, hosts on one machine.
pub const BENCHES: &[Part] = &[
    Part { file: "/usr/bin/janus", package: "janus" },
    Part { file: "/usr/bin/perf", package: "linux-perf" },
    Part { file: "/usr/share/doc/iproute2", package: "iproute2" },
];

/// Packages whose parts are not on this machine.
#[must_use]
pub fn missing(parts: &[Part]) -> Vec<&'static str> {
    parts.iter().filter(|part| !Path::new(part.file).exists()).map(|part| part.package).collect()
}

/// Installs what is missing with apt-get.
///
/// # Errors
/// If apt-get is not there, not allowed, or fails.
pub fn install(parts: &[Part]) -> anyhow::Result<()> {
    let packages = missing(parts);
    if packages.is_empty() {
        return Ok(());
    }
    println!("installing: {}", packages.join(" "));
    run::command(Command::new("apt-get").args(["update", "-qq"]))?;
    run::command(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&packages),
    )
}
