//! Prometheus and Alertmanager as processes on loopback, with the configuration that is shipped. End with their values.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{self, Program};
use crate::redis::free_port;

/// The programs that tests of monitoring need.
pub const PARTS: [&str; 4] =
    ["/usr/bin/prometheus", "/usr/bin/prometheus-alertmanager", "/usr/bin/promtool", "/usr/bin/amtool"];

/// A file or folder of `deploy/monitoring/`.
#[must_use]
pub fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring").join(path)
}

/// The text of a file of `deploy/monitoring/`.
///
/// # Errors
/// If there is none.
pub fn shipped_text(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(shipped(path)).with_context(|| format!("read {path}"))
}

/// Puts what a test needs in the place of what operators change. Each must be there.
///
/// # Errors
/// If something is not in the text.
pub fn adapted(text: &str, changes: &[(&str, &str)]) -> anyhow::Result<String> {
    changes.iter().try_fold(text.to_owned(), |text, (from, to)| {
        ensure!(text.contains(from), "{from} is not in\n{text}");
        Ok(text.replace(from, to))
    })
}

/// In a configuration: the folder that it lies in.
const FOLDER: &str = "{folder}";

/// One of the two, and its folder.
struct Server {
    port: u16,
    folder: TempDir,
    child: Child,
}

impl Server {
    async fn start(program: &str, files: &[(&str, String)], more: &[String]) -> anyhow::Result<Self> {
        let (port, folder) = (free_port()?, tempfile::tempdir()?);
        for (name, text) in files {
            let text = text.replace(FOLDER, &folder.path().display().to_string());
            std::fs::write(folder.path().join(name), text)?;
        }
        let log = std::fs::File::create(folder.path().join("log"))?;
        let config = folder.path().join(files.first().context("a configuration")?.0);
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(more)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let server = Self { port, folder, child };
        let ready = server.url("/-/ready");
        let waited = program::until("it is ready", async || {
            Ok(reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success()))
        });
        waited.await.with_context(|| server.log())?;
        Ok(server)
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Alertmanager.
pub struct Alertmanager(Server);

impl Alertmanager {
    /// Starts it with the shipped routes and template, and none of their patience; messages go to `slack`.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(slack: &str) -> anyhow::Result<Self> {
        let config = adapted(
            &shipped_text("alertmanager/alertmanager.yml")?,
            &[
                ("/run/secrets", FOLDER),
                ("group_wait: 30s", "group_wait: 0s"),
                ("group_wait: 5s", "group_wait: 0s"),
                ("group_interval: 5m", "group_interval: 1s"),
                ("group_interval: 30s", "group_interval: 1s"),
            ],
        )?;
        let template = shipped_text("alertmanager/slack.tmpl")?;
        let files =
            [("alertmanager.yml", config), ("slack.tmpl", template), ("slack_webhook", slack.to_owned())];
        let more = ["--storage.path=data", "--cluster.listen-address="].map(Into::into);
        Ok(Self(Server::start(PARTS[1], &files, &more).await?))
    }

    /// Tells it of these alerts, which fire from now on, as Prometheus would.
    ///
    /// # Errors
    /// If it does not take them.
    pub async fn fire(&self, labels: &[Value]) -> anyhow::Result<()> {
        let alerts: Vec<Value> =
            labels.iter().map(|labels| serde_json::json!({ "labels": labels })).collect();
        let answer = reqwest::Client::new().post(self.0.url("/api/v2/alerts")).json(&alerts).send().await?;
        ensure!(answer.status().is_success(), "{}: {}", answer.status(), answer.text().await?);
        Ok(())
    }

    /// All that it knows of, each with what it does about it.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn alerts(&self) -> anyhow::Result<Vec<Value>> {
        Ok(reqwest::get(self.0.url("/api/v2/alerts")).await?.error_for_status()?.json().await?)
    }
}

/// Prometheus.
pub struct Prometheus {
    server: Server,
    client: reqwest::Client,
}

/// What the shipped configuration leaves to the operator.
pub struct Setting<'a> {
    /// Where the list of targets is.
    pub controller: &'a Program,
    /// Whom alerts are sent to.
    pub alertmanager: &'a Alertmanager,
    /// What differs from the shipped rules: those that take minutes cannot be waited for.
    pub rules: &'a [(&'a str, &'a str)],
}

impl Prometheus {
    /// Starts it with the shipped configuration and rules, looking each second.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(setting: Setting<'_>) -> anyhow::Result<Self> {
        let alertmanager = format!("127.0.0.1:{}", setting.alertmanager.0.port);
        let config = adapted(
            &shipped_text("prometheus/prometheus.yml")?,
            &[
                ("http://controller:8080", &setting.controller.url("")),
                ("alertmanager:9093", &alertmanager),
                ("/run/secrets", FOLDER),
                ("scrape_interval: 10s", "scrape_interval: 1s"),
                ("scrape_timeout: 5s", "scrape_timeout: 1s"),
                ("evaluation_interval: 10s", "evaluation_interval: 1s"),
                ("refresh_interval: 10s", "refresh_interval: 1s"),
            ],
        )?;
        let rules = adapted(&shipped_text("prometheus/alerts.yml")?, setting.rules)?;
        let files = [
            ("prometheus.yml", config),
            ("alerts.yml", rules),
            ("operator_token", "not asked for here".into()),
        ];
        let server = Server::start(PARTS[0], &files, &["--storage.tsdb.path=data".into()]).await?;
        Ok(Self { server, client: reqwest::Client::new() })
    }

    /// What its API answers.
    ///
    /// # Errors
    /// If it refuses; the error says why.
    pub async fn ask(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let mut url = reqwest::Url::parse(&self.server.url(path))?;
        url.query_pairs_mut().extend_pairs(query);
        let answer: Value = self.client.get(url).send().await?.json().await?;
        ensure!(answer["status"] == "success", "{}", answer["error"]);
        Ok(answer["data"].clone())
    }

    /// Whether the expression has had a value in the latest five minutes: as a graph, or now.
    ///
    /// # Errors
    /// If it is not valid.
    pub async fn has_data(&self, expression: &str) -> anyhow::Result<bool> {
        Ok(self.most(expression).await?.is_some())
    }

    /// The largest value that the expression has had in the latest five minutes, if it has had one.
    ///
    /// # Errors
    /// If it is not valid.
    pub async fn most(&self, expression: &str) -> anyhow::Result<Option<f64>> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
        let (start, end) = ((now - 300.0).to_string(), now.to_string());
        let query = [("query", expression), ("start", &start), ("end", &end), ("step", "1")];
        let data = self.ask("/api/v1/query_range", &query).await?;
        let series = data["result"].as_array().cloned().unwrap_or_default();
        let number = |sample: &Value| sample[1].as_str()?.parse::<f64>().ok().filter(|value| !value.is_nan());
        let samples = series.iter().filter_map(|one| one["values"].as_array()).flatten();
        Ok(samples.filter_map(number).reduce(f64::max))
    }

    /// The rules whose conditions hold, whether long enough to fire or not.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn alarmed(&self) -> anyhow::Result<BTreeSet<String>> {
        let data = self.ask("/api/v1/rules", &[]).await?;
        let groups = data["groups"].as_array().into_iter().flatten();
        let rules = groups.filter_map(|group| group["rules"].as_array()).flatten();
        let alarmed = rules.filter(|rule| rule["state"] == "pending" || rule["state"] == "firing");
        Ok(alarmed.filter_map(|rule| Some(rule["name"].as_str()?.to_owned())).collect())
    }

    /// Every name of a metric that it has.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn names(&self) -> anyhow::Result<BTreeSet<String>> {
        Ok(serde_json::from_value(self.ask("/api/v1/label/__name__/values", &[]).await?)?)
    }
}
