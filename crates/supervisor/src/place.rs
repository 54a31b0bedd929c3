//! Where session records go if nobody says so: memory-backed, private, and this supervisor's alone.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Directories tried for one name: nodes in several network namespaces have the same ports.
const NAMES_MAX: usize = 16;

/// A directory; removed with the value, if it was made for it.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    is_ours: bool,
    /// Held as long as the supervisor lives.
    _lock: Option<File>,
}

impl Place {
    /// The directory that the configuration names.
    #[must_use]
    pub const fn given(path: PathBuf) -> Self {
        Self { path, is_ours: false, _lock: None }
    }

    /// A directory of this user's on memory-backed storage, told from those of other nodes by `name`. What an earlier
    /// supervisor left in it is removed: its key is gone with it.
    ///
    /// # Errors
    /// If there is none to be had.
    pub fn temporary(name: &str) -> anyhow::Result<Self> {
        for candidate in candidates(name) {
            let opened = Self::open(&candidate);
            if let Some(lock) = opened.with_context(|| format!("use {}", candidate.display()))? {
                return Ok(Self { path: candidate, is_ours: true, _lock: Some(lock) });
            }
        }
        bail!("{NAMES_MAX} other nodes named {name} run here: set node.state_dir (--state-dir)")
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a directory; `None` if another supervisor has it.
    fn open(path: &Path) -> anyhow::Result<Option<File>> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Anybody may have made it in a directory that all users share.
                let found = fs::symlink_metadata(path)?;
                let is_private = found.is_dir()
                    && found.uid() == rustix::process::geteuid().as_raw()
                    && found.mode() & 0o077 == 0;
                anyhow::ensure!(is_private, "it is not a private directory of this user");
            }
            Err(error) => return Err(error.into()),
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        for entry in path.read_dir()? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => fs::remove_dir_all(entry.path())?,
                _ if entry.file_name() == "lock" => {}
                _ => fs::remove_file(entry.path())?,
            }
        }
        Ok(Some(lock))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Where the directory of this name may be, best first.
pub(crate) fn candidates(name: &str) -> impl Iterator<Item = PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    let shared = Path::new("/dev/shm");
    let root =
        runtime.or_else(|| shared.is_dir().then(|| shared.to_owned())).unwrap_or_else(std::env::temp_dir);
    let base = root.join(format!("media-tree-{user}-{name}"));
    (0..NAMES_MAX).map(move |count| match count {
        0 => base.clone(),
        _ => base.with_extension(count.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn every_supervisor_has_a_directory_of_its_own_and_leaves_nothing() {
        let name = format!("test-of-places-{}", std::process::id());
        let first = Place::temporary(&name).expect("a place");
        let second = Place::temporary(&name).expect("another one");
        assert_ne!(first.path(), second.path());
        let path = first.path().to_owned();
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o700);
        fs::create_dir(path.join("shard-0")).expect("a store");
        drop(first);
        assert!(!path.exists());
        let third = Place::temporary(&name).expect("the first one's");
        assert_eq!(third.path(), path);
    }

    #[test]
    fn what_a_killed_supervisor_left_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("left");
        drop(Place::open(&path).expect("opened").expect("free"));
        fs::create_dir(path.join("shard-0")).expect("a store");
        fs::write(path.join("shard-0/records-1k"), "sealed").expect("a file");
        fs::write(path.join("control"), "").expect("a file");
        assert!(Place::open(&path).expect("opened").is_some());
        let left: Vec<_> = path.read_dir().expect("there").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["lock"]);
    }

    #[test]
    fn a_directory_that_others_can_read_is_not_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("shared");
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("shared");
        assert!(Place::open(&path).is_err());
    }
}
