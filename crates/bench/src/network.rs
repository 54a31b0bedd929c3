//! Two hosts on one machine: the server's namespace and the viewers', joined by a veth pair. Every server is measured
//! across it, so that all pay the same kernel the same price.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Which host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where servers run.
    Server,
    /// Where publishers and viewers run.
    Viewers,
}

impl Side {
    /// Where the other side reaches it (RFC 2544, appendix C.2.2).
    #[must_use]
    pub const fn address(self) -> IpAddr {
        match self {
            Self::Server => IpAddr::V4(Ipv4Addr::new(198, 19, 0, 1)),
            Self::Viewers => IpAddr::V4(Ipv4Addr::new(198, 19, 0, 2)),
        }
    }

    const fn letter(self) -> char {
        match self {
            Self::Server => 's',
            Self::Viewers => 'v',
        }
    }
}

const SIDES: [Side; 2] = [Side::Server, Side::Viewers];
/// What the names of all namespaces of all benches begin with; the process id follows.
const PREFIX: &str = "mtbench";

/// The two namespaces. They end with the value.
pub struct Network {
    owner: u32,
}

impl Network {
    /// Makes the namespaces, and removes those of benches that were killed.
    ///
    /// # Errors
    /// If this process may not make namespaces.
    pub fn new() -> anyhow::Result<Self> {
        forget_leftovers()?;
        let network = Self { owner: std::process::id() };
        for side in SIDES {
            ip(&["netns", "add", &network.namespace(side)])?;
        }
        let [server, viewers] = SIDES.map(|side| network.namespace(side));
        ip(&[
            "link", "add", "media", "netns", &server, "type", "veth", "peer", "name", "media", "netns",
            &viewers,
        ])?;
        for side in SIDES {
            let namespace = network.namespace(side);
            let inside = |arguments: &[&str]| ip(&[&["-n", namespace.as_str()], arguments].concat());
            inside(&["address", "add", &format!("{}/24", side.address()), "dev", "media"])?;
            inside(&["link", "set", "media", "up"])?;
            inside(&["link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    fn namespace(&self, side: Side) -> String {
        format!("{PREFIX}{}{}", self.owner, side.letter())
    }

    /// A command that runs `program` on this side and does not outlive this process.
    #[must_use]
    pub fn command(&self, side: Side, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(side)]);
        // A socket for each of 10 000 viewers; what a process may have at once is often a tenth of that.
        command
            .args([
                "prlimit",
                &format!("--nofile={}:", open_files_max()),
                "setpriv",
                "--pdeathsig",
                "KILL",
                "--",
            ])
            .arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for side in SIDES {
            if let Err(error) = ip(&["netns", "delete", &self.namespace(side)]) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// What this process may raise its own limit to.
fn open_files_max() -> String {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("1024").to_owned()
}

/// A bench that was killed leaves its namespaces.
fn forget_leftovers() -> anyhow::Result<()> {
    let list = Command::new("ip").args(["netns", "list"]).output().context("run ip")?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let owner = name.strip_prefix(PREFIX).map(|rest| rest.trim_end_matches(char::is_alphabetic));
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            ip(&["netns", "delete", name])?;
        }
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("run ip")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), complaint.trim());
    Ok(())
}
