//! The control socket: how another process asks the supervisor for a new child.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::place;

/// Its name in the state directory.
const NAME: &str = "control";
/// Longest request: a path.
const REQUEST_BYTES_MAX: u64 = 4096;
/// A client that says nothing.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// A new child needs less to be ready.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The socket, in a directory that nobody else can enter.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

/// Somebody who wants the child replaced.
#[derive(Debug)]
pub struct Request {
    /// The program of the next child.
    pub program: PathBuf,
    stream: UnixStream,
}

impl Control {
    /// Listens in `directory`.
    ///
    /// # Errors
    /// If the socket cannot be made, for instance since the path is too long for one.
    pub fn listen(directory: &Path) -> std::io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(NAME);
        if BlockingStream::connect(&path).is_ok() {
            return Err(std::io::Error::new(
                ErrorKind::AddrInUse,
                "another supervisor uses the state directory",
            ));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// The next request. Cancel safe.
    pub async fn next(&self) -> Request {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            match tokio::time::timeout(REQUEST_TIMEOUT, read(stream)).await {
                Ok(Ok(request)) => return request,
                Ok(Err(error)) => tracing::warn!(%error, "a request to the supervisor was not understood"),
                Err(_late) => {}
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn read(stream: UnixStream) -> std::io::Result<Request> {
    let own = rustix::process::geteuid().as_raw();
    if ![own, 0].contains(&stream.peer_cred()?.uid()) {
        return Err(std::io::Error::new(ErrorKind::PermissionDenied, "it came from another user"));
    }
    let mut bytes = Vec::new();
    let mut limited = stream.take(REQUEST_BYTES_MAX);
    limited.read_to_end(&mut bytes).await?;
    let program = bytes.strip_prefix(b"upgrade ").filter(|path| !path.is_empty());
    let program = program.ok_or(std::io::Error::new(ErrorKind::InvalidData, "it is no upgrade"))?;
    let program = PathBuf::from(std::ffi::OsString::from_vec(program.to_vec()));
    Ok(Request { program, stream: limited.into_inner() })
}

impl Request {
    /// Tells what became of it.
    pub async fn answer(mut self, outcome: Result<String, String>) {
        let text = match outcome {
            Ok(text) => format!("ok {text}\n"),
            Err(text) => format!("error {text}\n"),
        };
        // Whoever asked may have gone.
        let _ = self.stream.write_all(text.as_bytes()).await;
    }
}

/// Asks the supervisor with this state directory, or the one with the temporary directory of this name, to replace its
/// child by one of `program`; gives what it answers, or `None` if there is no supervisor.
///
/// # Errors
/// If the new child does not come to serve; the old one serves on then.
pub fn ask(directory: Option<&Path>, name: &str, program: &Path) -> anyhow::Result<Option<String>> {
    let places: Vec<PathBuf> =
        directory.map_or_else(|| place::candidates(name).collect(), |path| vec![path.into()]);
    let connected = places.iter().find_map(|place| BlockingStream::connect(place.join(NAME)).ok());
    let Some(mut stream) = connected else { return Ok(None) };
    stream.write_all(b"upgrade ")?;
    stream.write_all(program.as_os_str().as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut line = String::new();
    BufReader::new(stream.take(REQUEST_BYTES_MAX)).read_line(&mut line).context("wait for the supervisor")?;
    match line.trim_end().split_once(' ') {
        Some(("ok", text)) => Ok(Some(text.to_owned())),
        Some(("error", text)) => bail!("{text}"),
        _ => bail!("the supervisor gave no answer"),
    }
}
