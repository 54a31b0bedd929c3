//! Where the nodes of one provisioner live: a private directory, and one below it for each node.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use model::{NodeId, Role, TreeId};
use serde::{Deserialize, Serialize};

use super::output;
use super::running::{Running, marked};
use crate::{NodeSpec, Ports};

/// In the environment of each node's process: its directory. Settings begin otherwise.
const MARK: &str = "PROVISIONED_BY_MEDIA_TREE";
/// Variables that are settings of this process; a node's are all in its file.
const SETTINGS: &str = "MEDIA_TREE_";

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Nobody else starts or stops nodes here.
    _lock: File,
}

/// What is written down of a node.
#[derive(Serialize, Deserialize)]
struct About {
    node: String,
    tree: String,
    slot: u32,
    role: String,
    first_port: u16,
}

impl Directory {
    /// Opens it, and makes it if it is not there. One process has it at a time.
    pub fn open(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).recursive(true).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // Anybody may have made it in a directory that all users share, and nodes' files hold secrets.
        let found = fs::symlink_metadata(path)?;
        let is_private =
            found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
        if !is_private {
            return Err(io::Error::other("it is not a private directory of this user (mode 0700)"));
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.canonicalize()?, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(io::Error::other("another process starts nodes there")),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// A node's own directory.
    pub fn home(&self, node: &NodeId) -> PathBuf {
        self.path.join(node.as_str())
    }

    /// The nodes that run already. What is left of others is removed, and nothing that was never a node's.
    pub fn found(&self) -> Vec<(NodeSpec, Ports, Running)> {
        let running = marked(MARK);
        let mut found = Vec::new();
        let Ok(entries) = self.path.read_dir() else { return found };
        for home in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
            let process = running.iter().find(|(_, of)| Path::new(of) == home);
            let process = process.and_then(|(pid, _)| Running::adopted(*pid).ok());
            let about = About::of(&home);
            let about = about.filter(|(spec, _)| home.file_name() == Some(OsStr::new(spec.node.as_str())));
            match (about, process) {
                (Some((spec, ports)), Some(process)) => found.push((spec, ports, process)),
                (Some(_), None) => remove(&home),
                (None, _) => {}
            }
        }
        found
    }

    /// Writes down who a node is and how it is configured.
    pub fn prepare(&self, spec: &NodeSpec, ports: &Ports, configuration: &str) -> io::Result<()> {
        let home = self.home(&spec.node);
        DirBuilder::new().mode(0o700).recursive(true).create(home.join("state"))?;
        let about = About {
            node: spec.node.to_string(),
            tree: spec.tree.to_string(),
            slot: spec.slot,
            role: spec.role.to_string(),
            first_port: ports.http,
        };
        write(&home.join("node.toml"), configuration.as_bytes())?;
        write(&home.join("node.json"), &serde_json::to_vec(&about).map_err(io::Error::other)?)
    }

    /// Starts the process of a node that was prepared.
    pub fn run(&self, program: &Path, spec: &NodeSpec) -> io::Result<Running> {
        let home = self.home(&spec.node);
        let output = OpenOptions::new().create(true).append(true).mode(0o600).open(output::file(&home))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(SETTINGS))
        {
            command.env_remove(name);
        }
        command
            .arg(spec.role.as_str())
            .arg("--config")
            .arg(home.join("node.toml"))
            .env(MARK, &home)
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A terminal's interrupt is for this process alone.
            .process_group(0);
        Running::own(command.spawn()?)
    }

    /// Removes what is left of a node.
    pub fn remove(&self, node: &NodeId) {
        remove(&self.home(node));
    }
}

fn remove(home: &Path) {
    if let Err(error) = fs::remove_dir_all(home)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(directory = %home.display(), %error, "what is left of a node cannot be removed");
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

impl About {
    fn of(home: &Path) -> Option<(NodeSpec, Ports)> {
        let about: Self = serde_json::from_slice(&fs::read(home.join("node.json")).ok()?).ok()?;
        let role = Role::EVERY.into_iter().find(|role| role.as_str() == about.role)?;
        let spec = NodeSpec {
            node: NodeId::new(&about.node).ok()?,
            tree: TreeId::new(&about.tree).ok()?,
            slot: about.slot,
            role,
        };
        Some((spec, Ports::at(about.first_port)))
    }
}
