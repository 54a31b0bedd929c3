//! HTTP requests that this node makes: of servers that its operator names.

use std::time::Duration;

use anyhow::Context as _;
use config::HttpUrl;

/// Longest answer that anybody waits for.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// A client for these URLs. It follows no redirect, and it trusts the certificates of the system where it has to.
///
/// # Errors
/// If one of them is `https` and the system has no certificates.
pub fn client(urls: &[&HttpUrl]) -> anyhow::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .user_agent(concat!("Media-Tree/", env!("CARGO_PKG_VERSION")));
    let needs_certificates = urls.iter().any(|url| url.as_str().starts_with("https:"));
    let builder = if needs_certificates { builder } else { builder.tls_certs_only([]) };
    builder.build().context(
        "no certificates to check https servers with: install the package ca-certificates, or name a file in the \
         environment variable SSL_CERT_FILE",
    )
}

/// What went wrong, without the URL, which may carry a secret.
pub fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
