//! The directory of a store: nobody else's, and one store's at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory or a file in it cannot be had.
    #[error("cannot use {}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the directory, and it is not ours to change.
    #[error("{} can be read by others (mode {mode:o}) and belongs to somebody else: give a directory of our own", .path.display())]
    Shared {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Another process has the store open.
    #[error("{} is in use by another process", .path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The machine gave no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
}

/// The files of one store, ours alone.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Locked as long as the store is open; the lock ends with the process, however it ends.
    _lock: File,
}

impl Folder {
    /// Makes or tightens the directory (0700) and locks it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))?;
        let mode = fs::metadata(path).map_err(at(path))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 && fs::set_permissions(path, Permissions::from_mode(0o700)).is_err() {
            return Err(OpenError::Shared { path: path.into(), mode });
        }
        let lock_path = path.join("lock");
        let lock = open_private(&lock_path).map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.into() }),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { path: lock_path, source }),
        }
    }

    /// Opens or makes a file (0600).
    pub fn file(&self, name: &str) -> Result<File, OpenError> {
        let path = self.path.join(name);
        open_private(&path).map_err(|source| OpenError::Io { path, source })
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}
