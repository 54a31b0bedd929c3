//! From a URL to a store.

pub(crate) mod address;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use crate::redis::{Redis, Target};
use crate::remote::{Remote, reason};
use crate::{AccessKey, Embedded, FileError, Store};
use address::Address;
pub use address::{UrlError, redacted};

/// What a store elsewhere needs besides its URL.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The right to use a controller's store.
    pub access_key: Option<AccessKey>,
    /// Talk to a controller that is not on this machine without TLS: whoever listens can take the right.
    pub allows_plain_http: bool,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL names none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A controller's store without cluster key.
    #[error("a controller's store needs the cluster key")]
    NoAccessKey,
    /// Plain HTTP to another machine.
    #[error(
        "a controller on another machine is reached by https://, or by http:// where that is explicitly allowed"
    )]
    PlainHttp,
    /// The system's certificates cannot be used.
    #[error("cannot prepare HTTP requests: {0}")]
    Client(String),
}

/// Opens the store that `url` names. Needs a tokio runtime.
///
/// A store that is somewhere else need not be there yet: it is looked for in the background.
///
/// # Errors
/// If the URL names no store, an option that it needs is missing, or the file cannot be used.
pub fn open(url: &str, options: &Options) -> Result<Arc<dyn Store>, OpenError> {
    if url == "embedded" {
        return Ok(Arc::new(Embedded::in_memory()));
    }
    if let Some(path) = url.strip_prefix("embedded:").filter(|path| !path.is_empty()) {
        return Ok(Arc::new(Embedded::with_file(Path::new(path))?));
    }
    let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
    let target = match scheme {
        "redis" => Target::single(rest, false)?,
        "rediss" => Target::single(rest, true)?,
        "redis+sentinel" => Target::sentinel(rest, false)?,
        "rediss+sentinel" => Target::sentinel(rest, true)?,
        "http" => return controller(scheme, &Address::parse(rest, 80)?, options),
        "https" => return controller(scheme, &Address::parse(rest, 443)?, options),
        _ => return Err(UrlError::Scheme.into()),
    };
    Ok(Arc::new(Redis::start(target)))
}

fn controller(scheme: &str, address: &Address, options: &Options) -> Result<Arc<dyn Store>, OpenError> {
    let (host, port) = address.only_host()?;
    if !address.path.is_empty() {
        return Err(UrlError::Path { expected: "empty" }.into());
    }
    if !address.options.is_empty() {
        return Err(UrlError::Option { position: 1, known: "(none)" }.into());
    }
    if address.credentials != address::Credentials::default() {
        return Err(UrlError::Credentials.into());
    }
    let key = options.access_key.as_ref().ok_or(OpenError::NoAccessKey)?;
    let ip = host.parse::<IpAddr>().ok();
    let is_here = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
    if scheme == "http" && !is_here && !options.allows_plain_http {
        return Err(OpenError::PlainHttp);
    }
    let base = match ip {
        Some(IpAddr::V6(ip)) => format!("{scheme}://[{ip}]:{port}"),
        Some(IpAddr::V4(_)) | None => format!("{scheme}://{host}:{port}"),
    };
    let remote = Remote::start(base, key).map_err(|error| OpenError::Client(reason(&error)))?;
    Ok(Arc::new(remote))
}
