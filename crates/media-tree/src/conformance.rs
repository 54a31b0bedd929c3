//! `media-tree conformance`: the flags of the conformance suite, its progress and its report.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use ::conformance::{LINES, Options, Progress, Report};
use anyhow::Context as _;
use clap::Args;

/// Tries a WHIP or WHEP server of any make, line by line of what the standards demand. It takes about two minutes,
/// makes a few sessions at a time and deletes each. Exit code 1 if the server breaks a line that it must keep.
#[derive(Args)]
pub struct Arguments {
    /// A WHIP or WHEP endpoint. If its path says `whip` or `whep`, the other endpoint is guessed from it.
    #[arg(value_name = "URL", required_unless_present_any = ["whip", "whep", "list"])]
    url: Option<String>,
    /// The WHIP endpoint, where it cannot be guessed.
    #[arg(long, value_name = "URL")]
    whip: Option<String>,
    /// The WHEP endpoint, where it cannot be guessed.
    #[arg(long, value_name = "URL")]
    whep: Option<String>,
    /// Bearer token for publishing. [variable: MEDIA_TREE_CONFORMANCE_TOKEN]
    #[arg(long)]
    token: Option<String>,
    /// Bearer token for watching. [variable: MEDIA_TREE_CONFORMANCE_VIEW_TOKEN]
    #[arg(long)]
    view_token: Option<String>,
    /// Certificates to trust over HTTPS in place of the system's, PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Try these lines only, such as `W11 W12`.
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    only: Vec<String>,
    /// Write the report as JSON to this file, or to standard output for `-`.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the lines and their state as a Markdown table to this file, or to standard output for `-`.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Print every line and what it demands, try nothing.
    #[arg(long)]
    list: bool,
}

/// Runs it: progress on standard error, the report on standard output, unless something else goes there. Whether the
/// server keeps every line that it must keep.
///
/// # Errors
/// If there is no server to try, or the report cannot be written.
pub fn run(arguments: Arguments) -> anyhow::Result<bool> {
    if arguments.list {
        for line in LINES {
            println!("{} {:<6} {} ({})", line.id, line.level.to_string(), line.requires, line.source);
        }
        return Ok(true);
    }
    let Arguments { url, whip, whep, token, view_token, ca, only, json, markdown, list: _ } = arguments;
    let read = |path: PathBuf| std::fs::read(&path).with_context(|| format!("read {}", path.display()));
    let options = Options {
        url,
        whip,
        whep,
        token: token.or_else(|| std::env::var("MEDIA_TREE_CONFORMANCE_TOKEN").ok()),
        view_token: view_token.or_else(|| std::env::var("MEDIA_TREE_CONFORMANCE_VIEW_TOKEN").ok()),
        trusted: ca.map(read).transpose()?,
        only,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let is_watched = io::stderr().is_terminal();
    let report = runtime.block_on(::conformance::run(options, |progress| tell(&progress, is_watched)))?;
    if is_watched {
        eprint!("\r\x1b[K");
    }
    write(&report, json, markdown)?;
    Ok(report.totals().musts_failed == 0)
}

/// One line that is written anew; nothing where nobody looks.
fn tell(progress: &Progress<'_>, is_watched: bool) {
    if is_watched {
        let protocol = progress.protocol.map(|protocol| format!(" {protocol}")).unwrap_or_default();
        // Nobody is left to tell if the terminal is gone.
        let _ = write!(io::stderr(), "\r\x1b[K{}{protocol} {}", progress.line, progress.outcome.word());
    }
}

fn write(report: &Report, json: Option<PathBuf>, markdown: Option<PathBuf>) -> anyhow::Result<()> {
    let mut is_printed = false;
    let documents = [
        json.map(|path| serde_json::to_string_pretty(report).map(|text| (path, format!("{text}\n"))))
            .transpose()?,
        markdown.map(|path| (path, report.markdown())),
    ];
    for (path, text) in documents.into_iter().flatten() {
        if path.as_os_str() == "-" {
            print!("{text}");
            is_printed = true;
        } else {
            let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
            file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))?;
        }
    }
    if is_printed {
        eprint!("{report}");
    } else {
        print!("{report}");
    }
    Ok(())
}
