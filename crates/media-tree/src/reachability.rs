//! `media-tree check`: the flags of the self-test of reachability, and its report.

use std::path::PathBuf;

use ::conformance::reachability::{Options, check};
use anyhow::Context as _;
use clap::Args;

/// Tries from here what clients need to reach a server: HTTP, certificate, CORS, media over UDP and TCP, TURN, and a whole
/// connection each way. Says in plain words what does not work and what to do. It disturbs nobody: it publishes a clip for a
/// few seconds under a name of its own, and watches as one viewer. Run it from where your viewers are, not on the server.
///
/// Exit code 1 if something does not work.
#[derive(Args)]
pub struct Arguments {
    /// The server, such as `https://live.example`, or the URL of a WHIP or WHEP endpoint of any make.
    #[arg(value_name = "URL")]
    url: String,
    /// Publish to this broadcast, where nobody may be on air, and watch it. Without it one that the URL names is watched, or
    /// what is published under a name of the check's own.
    #[arg(long, value_name = "NAME")]
    broadcast: Option<String>,
    /// Bearer token for publishing. [variable: MEDIA_TREE_CHECK_TOKEN]
    #[arg(long)]
    token: Option<String>,
    /// Bearer token for watching. [variable: MEDIA_TREE_CHECK_VIEW_TOKEN]
    #[arg(long)]
    view_token: Option<String>,
    /// Certificates to trust over HTTPS in place of the system's, PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it. Whether everything works.
///
/// # Errors
/// If there is no server to try.
pub fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let Arguments { url, broadcast, token, view_token, ca, json } = arguments;
    let read = |path: PathBuf| std::fs::read(&path).with_context(|| format!("read {}", path.display()));
    let options = Options {
        url,
        broadcast,
        token: token.or_else(|| std::env::var("MEDIA_TREE_CHECK_TOKEN").ok()),
        view_token: view_token.or_else(|| std::env::var("MEDIA_TREE_CHECK_VIEW_TOKEN").ok()),
        trusted: ca.map(read).transpose()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let found = runtime.block_on(check(options))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        print!("{found}");
    }
    Ok(found.is_good)
}
