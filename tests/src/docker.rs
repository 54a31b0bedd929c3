//! Docker: the daemon that runs here, or one of our own while a test needs it; images of programs of this machine.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::exclusive::{Exclusive, Taken};
use crate::program;

/// The programs that tests of containers need.
pub const PARTS: [&str; 3] = ["/usr/sbin/dockerd", "/usr/bin/docker-compose", "/usr/sbin/iptables"];

/// Connections that have ended keep their ports for a minute; sockets of other tests end with these.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(180);

/// A daemon that answers. Ends with its value if it is our own.
pub struct Docker {
    own: Option<(Child, tempfile::TempDir)>,
    _taken: Taken,
}

impl Docker {
    /// Uses the daemon that is there; with none, starts one. Needs root. Other tests wait for their turn.
    ///
    /// # Errors
    /// If none starts.
    pub async fn start() -> anyhow::Result<Self> {
        let taken = Exclusive::Docker.take().await?;
        if is_there() {
            return Ok(Self { own: None, _taken: taken });
        }
        // Where the system has not mounted them, as in a plain container.
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
            && !Path::new("/sys/fs/cgroup/memory").exists()
        {
            let _ = Command::new("cgroupfs-mount").status();
        }
        let folder = tempfile::tempdir()?;
        let log = fs::File::create(folder.path().join("log"))?;
        let child = Command::new(PARTS[0])
            .arg("--data-root")
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start dockerd")?;
        let docker = Self { own: Some((child, folder)), _taken: taken };
        let waited = program::until("dockerd answers", async || Ok(is_there())).await;
        waited.with_context(|| docker.log())?;
        Ok(docker)
    }

    fn log(&self) -> String {
        let folder = self.own.as_ref().map(|(_, folder)| folder.path().join("log"));
        folder.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default()
    }

    /// Makes an image that has this program, what it is linked to, these files, and nothing else.
    ///
    /// # Errors
    /// If the program is not there, or docker refuses.
    pub fn image(&self, name: &str, program: &Path, (files, more): (&[&str], &str)) -> anyhow::Result<()> {
        let own = program.file_name().and_then(|name| name.to_str()).context("a name")?;
        let mut content = libraries(program)?;
        content.extend(files.iter().map(|file| ((*file).into(), (*file).to_owned())));
        content.push((program.to_owned(), format!("/usr/local/bin/{own}")));
        self.image_of(name, &content, more)
    }

    /// Makes an image that has these files, each at its place, and nothing else.
    ///
    /// # Errors
    /// If one of them is not there, or docker refuses.
    pub fn image_of(&self, name: &str, files: &[(PathBuf, String)], more: &str) -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().join("root");
        for (from, to) in files {
            let to = root.join(to.trim_start_matches('/'));
            fs::create_dir_all(to.parent().context("a folder")?)?;
            fs::copy(from, to).with_context(|| from.display().to_string())?;
        }
        let text = format!("FROM scratch\nCOPY root /\nENV PATH=/usr/local/bin\n{more}\n");
        build(name, folder.path(), &text, &[])
    }

    /// Makes an image as these instructions say, with no files of this machine.
    ///
    /// # Errors
    /// If docker refuses.
    pub fn image_by(&self, name: &str, text: &str, arguments: &[(&str, &str)]) -> anyhow::Result<()> {
        build(name, tempfile::tempdir()?.path(), text, arguments)
    }
}

fn build(name: &str, folder: &Path, text: &str, arguments: &[(&str, &str)]) -> anyhow::Result<()> {
    fs::write(folder.join("Dockerfile"), text)?;
    let mut build = Command::new("docker");
    build.args(["build", "--quiet", "--tag", name]).env("DOCKER_BUILDKIT", "0");
    for (argument, value) in arguments {
        build.arg("--build-arg").arg(format!("{argument}={value}"));
    }
    run(build.arg(folder)).map(|_| ())
}

/// What a program is linked to, and where that belongs.
///
/// # Errors
/// If it is not there, or linked to nothing.
pub fn libraries(program: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)`, and the loader alone.
    let libraries = run(Command::new("ldd").arg(program))?;
    let files = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(files.map(|file| (file.into(), file.to_owned())).collect())
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.own {
            // As asked politely it ends its containers and its containerd.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }
}

/// Ports that the kernel gives to nobody who connects somewhere. Otherwise one of them may be taken by a connection of
/// another test when a container wants to listen there. As before when the value ends.
pub struct Reserved {
    before: String,
    ports: Vec<RangeInclusive<u16>>,
}

impl Reserved {
    const FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

    /// Reserves these.
    ///
    /// # Errors
    /// If this process may not.
    pub fn new(ports: &[RangeInclusive<u16>]) -> anyhow::Result<Self> {
        let before = fs::read_to_string(Self::FILE)?.trim().to_owned();
        let ranges = ports.iter().map(|range| format!("{}-{}", range.start(), range.end()));
        let already = (!before.is_empty()).then(|| before.clone());
        let all: Vec<String> = already.into_iter().chain(ranges).collect();
        fs::write(Self::FILE, all.join(",")).context("reserve ports")?;
        Ok(Self { before, ports: ports.to_vec() })
    }

    /// Waits until whoever had one of them before they were reserved has given it back.
    ///
    /// # Errors
    /// If that is not in time.
    pub async fn until_free(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + GIVEN_BACK_WITHIN;
        while let Some(port) = self.ports.iter().cloned().flatten().find(|port| !is_free(*port)) {
            ensure!(Instant::now() < deadline, "port {port} is still taken");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // An empty write changes nothing, a line does.
        let _ = fs::write(Self::FILE, format!("{}\n", self.before));
    }
}

/// For every protocol and family that containers publish ports with.
fn is_free(port: u16) -> bool {
    let is_taken = |error: io::Error| error.kind() == io::ErrorKind::AddrInUse;
    let families: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    !families.into_iter().any(|address| {
        TcpListener::bind((address, port)).is_err_and(is_taken)
            || UdpSocket::bind((address, port)).is_err_and(is_taken)
    })
}

fn is_there() -> bool {
    Command::new("docker").arg("info").output().is_ok_and(|output| output.status.success())
}

/// What a command says.
///
/// # Errors
/// If it fails; the error has what it said.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
