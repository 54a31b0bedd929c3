//! Sends spans to a collector, over the HTTP that is here already. Nobody waits for it: a collector that is gone or hangs
//! costs the spans, a count of them, and a line in the log now and then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use config::HttpUrl;
use reqwest::header::CONTENT_TYPE;
use telemetry::Identity;
use telemetry::traces::{Metrics, Queue, SpanFate, Traces};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::outbound;

/// Between two looks whether there are spans.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often it is logged that the collector takes nothing.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// What the last spans of a process may take.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// Where collectors take spans (OTLP/HTTP, section Request).
const PATH: &str = "/v1/traces";

/// The way to a collector, if there is one.
#[derive(Debug)]
pub struct Exporting {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Begins to make spans and to send them, if there is where to.
///
/// # Errors
/// If the system has no certificates to check the collector's with.
pub fn start(
    config: &config::Traces,
    identity: &Identity,
    metrics: Metrics,
) -> anyhow::Result<(Traces, Option<Exporting>)> {
    let Some(collector) = &config.otlp else { return Ok((Traces::default(), None)) };
    let client = outbound::client(&[collector]).context("traces.otlp")?;
    let (traces, queue) = Traces::new(identity, config.sample.get(), metrics);
    let exporter =
        Exporter { client, url: url(collector), origin: collector.origin().to_owned(), queue, quiet: None };
    let (end, ended) = watch::channel(false);
    let task = tokio::spawn(exporter.run(ended));
    Ok((traces, Some(Exporting { end, task })))
}

impl Exporting {
    /// Sends what is left before the process ends, for as long as that is worth waiting for.
    pub async fn flush(self) {
        let _ = self.end.send(true);
        let _ = tokio::time::timeout(FLUSH_MAX, self.task).await;
    }
}

/// The collector's, or, where it names no path, that of the standard.
fn url(collector: &HttpUrl) -> String {
    let path = collector.as_str().strip_prefix(collector.origin()).unwrap_or_default();
    if path.is_empty() || path == "/" {
        format!("{}{PATH}", collector.origin())
    } else {
        collector.as_str().to_owned()
    }
}

struct Exporter {
    client: reqwest::Client,
    url: String,
    /// What may be logged.
    origin: String,
    queue: Arc<Queue>,
    /// Since when nothing was logged, and the spans that were lost since.
    quiet: Option<(Instant, u64)>,
}

impl Exporter {
    async fn run(mut self, mut ended: watch::Receiver<bool>) {
        let mut looks = tokio::time::interval(INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_last = false;
        while !is_last {
            tokio::select! {
                _ = looks.tick() => {}
                _ = ended.wait_for(|has_ended| *has_ended) => is_last = true,
            }
            // While it takes nothing, one attempt at each look is enough.
            while let Some(batch) = self.queue.take() {
                let sent = self.send(batch.bytes).await;
                let fate = if sent.is_ok() { SpanFate::Exported } else { SpanFate::Failed };
                self.queue.became(fate, batch.spans);
                if let Err(reason) = sent {
                    self.log(Instant::now(), batch.spans, &reason);
                    break;
                }
            }
        }
    }

    async fn send(&self, bytes: Vec<u8>) -> Result<(), String> {
        let request = self.client.post(&self.url).header(CONTENT_TYPE, "application/x-protobuf").body(bytes);
        let answer = request.send().await.map_err(outbound::reason)?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }

    fn log(&mut self, now: Instant, spans: u64, reason: &str) {
        let (since, lost) = self.quiet.map_or((None, spans), |(since, lost)| (Some(since), lost + spans));
        if since.is_none_or(|since| now >= since + LOG_INTERVAL) {
            let collector = &self.origin;
            tracing::warn!(collector, spans = lost, reason, "the collector of traces does not take spans");
            self.quiet = Some((now, 0));
        } else {
            self.quiet = since.map(|since| (since, lost));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_standard_is_put_behind_a_collector_without_one() {
        for (collector, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://collect.example.net/otlp/v1/traces", "https://collect.example.net/otlp/v1/traces"),
        ] {
            assert_eq!(url(&collector.parse().expect("a URL")), expected);
        }
    }
}
