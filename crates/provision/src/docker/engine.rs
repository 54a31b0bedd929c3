//! One engine, asked over its HTTP API. <https://docs.docker.com/reference/api/engine/>

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::container::{Container, Create, Entry, Inspected, PLACE, name};
use super::{Address, Engine, EngineError};

/// Between a question and its answer, where nothing is made. A list has to be there before a controller stops waiting.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// A container is made, or started, within; less than a controller waits for the whole.
const DONE_WITHIN: Duration = Duration::from_secs(20);
/// Idle connections are closed before an engine or something between closes them.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// No answer is that long: a list of thousands of containers is less.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Lines of a node that ended.
const LAST_LINES: &str = "20";

/// What is asked here is the same from this version (Docker 20.10) on.
const OLDEST: Version = Version(1, 41);
/// What an engine is spoken to in, if it has it; else its own nearest. Docker 29 has none before it.
const SPOKEN: Version = Version(1, 44);

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// It may or may not have done it.
    #[error("{0}")]
    Unanswered(String),
    /// It has not done it.
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versions {
    api_version: String,
    #[serde(rename = "MinAPIVersion", default)]
    least: String,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

/// How an engine is asked.
pub(super) struct Api {
    client: Client,
    base: String,
    /// Beginning of all paths, as far as it is known.
    root: Mutex<Option<Arc<str>>>,
}

impl Api {
    /// Reads its certificates; connects to nobody.
    pub fn new(engine: &Engine) -> Result<Self, EngineError> {
        let failed = |reason: String| EngineError { engine: engine.name.clone(), reason };
        let builder = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(ANSWER_WITHIN)
            .pool_idle_timeout(IDLE_MAX);
        let (builder, base) = match &engine.address {
            Address::Unix(path) => {
                (builder.tls_certs_only([]).unix_socket(path.clone()), "http://localhost".to_owned())
            }
            Address::Plain(host) => (builder.tls_certs_only([]), format!("http://{host}")),
            Address::Tls { host, certificates } => {
                let read = |name: &str| read(certificates, name).map_err(failed);
                let authority = Certificate::from_pem_bundle(&read("ca.pem")?);
                let identity = [read("cert.pem")?, b"\n".to_vec(), read("key.pem")?].concat();
                let identity = Identity::from_pem(&identity);
                let authority = authority.map_err(|error| failed(format!("ca.pem: {}", reason(&error))))?;
                let identity =
                    identity.map_err(|error| failed(format!("cert.pem, key.pem: {}", reason(&error))))?;
                (builder.tls_certs_only(authority).identity(identity), format!("https://{host}"))
            }
        };
        let client = builder.build().map_err(|error| failed(reason(&error)))?;
        Ok(Self { client, base, root: Mutex::new(None) })
    }

    /// The containers that were made for nodes, by whomever.
    pub async fn list(&self) -> Result<Vec<Container>, ApiError> {
        let filters = format!(r#"{{"label":["{PLACE}"]}}"#);
        let query = [("all", "true"), ("filters", filters.as_str())];
        let listed = async {
            let request = self.request(Method::GET, "/containers/json", &query).await?;
            self.json::<Vec<Entry>>(request, ANSWER_WITHIN).await
        };
        let listed = tokio::time::timeout(ANSWER_WITHIN, listed).await;
        let listed = listed.unwrap_or_else(|_| Err(ApiError::Unanswered("no answer in time".into())))?;
        Ok(listed.into_iter().filter_map(Entry::container).collect())
    }

    /// The container of a node; an error if somebody else's has its name.
    pub async fn inspect(&self, node: &model::NodeId) -> Result<Option<Container>, ApiError> {
        let name = name(node);
        let request = self.request(Method::GET, &format!("/containers/{name}/json"), &[]).await?;
        let inspected = match self.json::<Inspected>(request, ANSWER_WITHIN).await {
            Err(ApiError::Refused { status: StatusCode::NOT_FOUND, .. }) => return Ok(None),
            other => other?,
        };
        let container = inspected.container().filter(|container| container.spec.node == *node);
        let message = || format!("the container {name} was not made for this node, or is being removed");
        let refused = || ApiError::Refused { status: StatusCode::CONFLICT, message: message() };
        container.ok_or_else(refused).map(Some)
    }

    /// Makes the container of a node; its id.
    pub async fn create(&self, node: &model::NodeId, create: &Create<'_>) -> Result<String, ApiError> {
        let request =
            self.request(Method::POST, "/containers/create", &[("name", name(node).as_str())]).await?;
        let created: Created = self.json(request.json(create), DONE_WITHIN).await?;
        let is_id = !created.id.is_empty() && created.id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_id { Ok(created.id) } else { Err(ApiError::Unanswered("it tells no id".into())) }
    }

    /// Unpacks an archive at the root of a container.
    pub async fn upload(&self, id: &str, archive: Vec<u8>) -> Result<(), ApiError> {
        let path = format!("/containers/{id}/archive");
        let request = self.request(Method::PUT, &path, &[("path", "/")]).await?;
        let request = request.header(reqwest::header::CONTENT_TYPE, "application/x-tar").body(archive);
        self.send(request, DONE_WITHIN).await.map(|_| ())
    }

    /// Starts it; one that runs already stays as it is.
    pub async fn start(&self, id: &str) -> Result<(), ApiError> {
        let request = self.request(Method::POST, &format!("/containers/{id}/start"), &[]).await?;
        self.send(request, DONE_WITHIN).await.map(|_| ())
    }

    /// Tells it to stop, and returns when it has: the engine kills it after `within`.
    pub async fn stop(&self, id: &str, within: Duration) -> Result<(), ApiError> {
        let seconds = within.as_secs().max(1).to_string();
        let path = format!("/containers/{id}/stop");
        let request = self.request(Method::POST, &path, &[("t", seconds.as_str())]).await?;
        self.send(request, within + 2 * ANSWER_WITHIN).await.map(|_| ()).or_else(is_gone)
    }

    /// Removes it with all that it wrote, whatever it does.
    pub async fn remove(&self, id: &str) -> Result<(), ApiError> {
        let query = [("force", "true"), ("v", "true")];
        let request = self.request(Method::DELETE, &format!("/containers/{id}"), &query).await?;
        self.send(request, DONE_WITHIN).await.map(|_| ()).or_else(is_gone)
    }

    /// What it printed last.
    pub async fn last_words(&self, id: &str) -> Result<String, ApiError> {
        let query = [("stdout", "true"), ("stderr", "true"), ("tail", LAST_LINES)];
        let request = self.request(Method::GET, &format!("/containers/{id}/logs"), &query).await?;
        Ok(unframed(&self.send(request, ANSWER_WITHIN).await?))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<RequestBuilder, ApiError> {
        let url = format!("{}{path}", self.root().await?);
        let url = if query.is_empty() { Url::parse(&url) } else { Url::parse_with_params(&url, query) };
        let url = url.map_err(|error| ApiError::Unanswered(format!("{path}: {error}")))?;
        Ok(self.client.request(method, url))
    }

    /// Where the version lies that is spoken.
    async fn root(&self) -> Result<Arc<str>, ApiError> {
        if let Some(root) = self.known_root().clone() {
            return Ok(root);
        }
        let request = self.client.get(format!("{}/version", self.base));
        let versions: Versions = self.json(request, ANSWER_WITHIN).await?;
        let newest = Version::parse(&versions.api_version).filter(|newest| *newest >= OLDEST);
        let Some(newest) = newest else {
            let Version(major, minor) = OLDEST;
            let (has, wants) = (versions.api_version, format!("{major}.{minor}"));
            return Err(ApiError::Unanswered(format!("it speaks API {has}; at least {wants} is needed")));
        };
        let least = Version::parse(&versions.least).unwrap_or(OLDEST);
        let Version(major, minor) = SPOKEN.min(newest).max(least);
        let root: Arc<str> = format!("{}/v{major}.{minor}", self.base).into();
        *self.known_root() = Some(root.clone());
        Ok(root)
    }

    fn known_root(&self) -> std::sync::MutexGuard<'_, Option<Arc<str>>> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        within: Duration,
    ) -> Result<T, ApiError> {
        let body = self.send(request, within).await?;
        serde_json::from_slice(&body).map_err(|error| {
            ApiError::Unanswered(format!("its answer is not what an engine answers: {error}"))
        })
    }

    /// The body of a good answer.
    async fn send(&self, request: RequestBuilder, within: Duration) -> Result<Vec<u8>, ApiError> {
        let answer = answer(request.timeout(within)).await;
        let is_other = match &answer {
            Err(ApiError::Unanswered(_)) => true,
            Err(ApiError::Refused { status, .. }) => *status == StatusCode::BAD_REQUEST,
            Ok(_) => false,
        };
        if is_other {
            // One that comes back may be another version of itself.
            *self.known_root() = None;
        }
        answer
    }
}

async fn answer(request: RequestBuilder) -> Result<Vec<u8>, ApiError> {
    let unanswered = |error: reqwest::Error| ApiError::Unanswered(reason(&error));
    let mut response = request.send().await.map_err(unanswered)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ApiError::Unanswered("its answer is too long".into()));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Ok(body);
    }
    let message = serde_json::from_slice(&body).map(|Message { message }| message);
    let message = message.unwrap_or_else(|_| status.to_string());
    match status {
        // Something between here and the engine.
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Err(ApiError::Unanswered(message))
        }
        _ => Err(ApiError::Refused { status, message }),
    }
}

/// What is not there, or just being removed, need neither be stopped nor removed.
fn is_gone(error: ApiError) -> Result<(), ApiError> {
    match error {
        ApiError::Refused { status: StatusCode::NOT_FOUND | StatusCode::CONFLICT, .. } => Ok(()),
        other => Err(other),
    }
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>, String> {
    let path = folder.join(name);
    std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The outer message is "error sending request" or the like; the reason is further in.
fn reason(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

/// The text of a log: frames of which the header says the stream and, in its last four bytes, the length.
fn unframed(mut log: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((header, rest)) = log.split_at_checked(8) {
        let length = header.last_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length)) as usize;
        let (frame, rest) = rest.split_at(length.min(rest.len()));
        text.extend_from_slice(frame);
        log = rest;
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_its_frames_and_one_that_is_cut_off_is_no_harm() {
        let log = b"\x01\0\0\0\0\0\0\x04one\n\x02\0\0\0\0\0\0\x04two\n\x01\0\0\0\0\0\xff\xffthr";
        assert_eq!(unframed(log), "one\ntwo\nthr");
        assert_eq!(unframed(&log[..15]), "one\n");
        assert_eq!(unframed(b""), "");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |text| Version::parse(text).expect("a version");
        assert!(version("1.9") < OLDEST && version("1.100") > SPOKEN && version("2.0") > SPOKEN);
        assert_eq!((Version::parse("1"), Version::parse("1.x"), Version::parse("")), (None, None, None));
    }
}
