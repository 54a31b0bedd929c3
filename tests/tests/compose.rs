//! `deploy/compose/` as it is shipped, started with Docker: the program and what belongs to it in containers of their own.
//!
//! Foreign images cannot be had everywhere, so Debian's programs of the same names stand in for them. Grafana has none. The
//! program's own image is made by the last stage of the shipped Dockerfile; what it is compiled in, and stands on, is made here.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use client::{Whep, Whip, demo, whip};
use model::Codec;
use reqwest::StatusCode;
use serde_json::Value;
use tests::deployed::Deployed;
use tests::docker::{self, Docker, run};
use tests::installation::receive;
use tests::program::{self, until};
use tests::{prometheus, tools};

type Result = anyhow::Result<()>;

const PICTURES: usize = 60;

/// What is started of the services.
const SERVICES: [&str; 7] =
    ["controller", "injection", "relay", "egress", "redis", "prometheus", "alertmanager"];

/// The program's own image, and how it is called here: nobody's own images are touched.
const OWN: (&str, &str) = ("media-tree:${MEDIA_TREE_VERSION:-0.1.0}", "media-tree-test/media-tree");
/// What stands for the first stage of its Dockerfile, and for what the last one begins from.
const BUILT: &str = "media-tree-test/built";
const BASE: &str = "media-tree-test/base";
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Foreign images, the programs that stand in for them, and how those are called.
const IMAGES: [(&str, &str, &str); 3] = [
    ("redis:8.0.3-alpine", "/usr/bin/redis-server", "media-tree-test/redis"),
    ("prom/prometheus:v3.5.0", "/usr/bin/prometheus", "media-tree-test/prometheus"),
    ("prom/alertmanager:v0.28.1", "/usr/bin/prometheus-alertmanager", "media-tree-test/alertmanager"),
];

/// What Debian's does not start without.
const ALERTMANAGER_FILES: [&str; 2] =
    ["/usr/share/prometheus/alertmanager/default.tmpl", "/usr/share/prometheus/alertmanager/email.tmpl"];

/// What is shipped, with secrets of its own. Ends with its value.
struct Project {
    deployed: Deployed,
}

impl Project {
    fn new() -> anyhow::Result<Self> {
        let project = Self { deployed: Deployed::new()? };
        let images = IMAGES.map(|(image, _, stand_in)| (image, stand_in));
        let text = project.deployed.text("compose.yaml")?;
        let text = prometheus::adapted(&text, &[&images[..], &[OWN]].concat())?;
        std::fs::write(project.deployed.path("compose.yaml"), text)?;
        // Some machines allow no more.
        let settings = "COMPOSE_PROJECT_NAME=media-tree-test\nOPEN_FILES_MAX=1024\n";
        std::fs::write(project.deployed.path(".env"), settings)?;
        project.deployed.setup()?;
        Ok(project)
    }

    fn compose(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(docker::PARTS[1]);
        run(command.args(arguments).current_dir(self.deployed.path("")))
    }

    fn up(&self, relays: usize) -> Result {
        let scale = format!("relay={relays}");
        let arguments = ["up", "--detach", "--no-build", "--scale", &scale];
        self.compose(&[&arguments[..], &SERVICES].concat()).map(|_| ())
    }

    /// The value of a setting that was made for this installation.
    fn setting(&self, name: &str) -> anyhow::Result<String> {
        let text = self.deployed.text("media-tree.env")?;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        Ok(line.with_context(|| name.to_owned())?.to_owned())
    }

    async fn until_number(&self, expression: &str, wanted: f64) -> Result {
        let what = format!("{expression} is {wanted}");
        let waited = until(&what, async || Ok(number(expression).await? == Some(wanted)));
        let Err(error) = waited.await else { return Ok(()) };
        let targets = reqwest::Client::new().get("http://127.0.0.1:8080/api/v1/targets");
        let targets = targets.bearer_auth(self.setting("MEDIA_TREE_OPERATOR_TOKENS")?).send().await?;
        Err(error.context(format!(
            "it is {:?}; targets: {}",
            number(expression).await?,
            targets.text().await?
        )))
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = self.compose(&["down", "--volumes", "--timeout", "5"]);
    }
}

/// As the last stage of the Dockerfile makes it, from what its first stage would have compiled.
fn make_own_image(docker: &Docker) -> Result {
    let program = program::path()?;
    let built = [
        (program.clone(), "/source/target/release/media-tree".to_owned()),
        (CERTIFICATES.into(), CERTIFICATES.to_owned()),
    ];
    docker.image_of(BUILT, &built, "")?;
    docker.image_of(BASE, &docker::libraries(&program)?, "")?;
    let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/docker/Dockerfile");
    let dockerfile = std::fs::read_to_string(dockerfile)?;
    let (_, last) = dockerfile.split_once("\nFROM ${BASE}\n").context("the last stage")?;
    let last = prometheus::adapted(last, &[("--from=build ", &format!("--from={BUILT} "))])?;
    docker.image_by(OWN.1, &format!("ARG BASE\nFROM ${{BASE}}\n{last}"), &[("BASE", BASE)])
}

/// The number that Prometheus has for an expression.
async fn number(expression: &str) -> anyhow::Result<Option<f64>> {
    let mut url = reqwest::Url::parse("http://127.0.0.1:9090/api/v1/query")?;
    url.query_pairs_mut().append_pair("query", expression);
    let Ok(answer) = reqwest::get(url).await else { return Ok(None) };
    if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
        // It listens before it is ready.
        return Ok(None);
    }
    let answer: Value = answer.json().await?;
    Ok(answer["data"]["result"][0]["value"][1].as_str().and_then(|value| value.parse().ok()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_in_containers_plays_and_is_watched() -> Result {
    const NAME: &str = "an_installation_in_containers_plays_and_is_watched";
    let programs = IMAGES.iter().map(|(_, program, _)| *program);
    for part in docker::PARTS.into_iter().chain(programs).chain([CERTIFICATES]) {
        if !tools::has(NAME, part) {
            return Ok(());
        }
    }
    if !tools::is_root(NAME) {
        return Ok(());
    }
    let ports = docker::Reserved::new(&[50000..=50003, 52000..=52000])?;
    let docker = Docker::start().await?;
    make_own_image(&docker)?;
    for (_, program, name) in IMAGES {
        // As the real ones: that of Redis names its program in the command.
        let more = match name {
            "media-tree-test/redis" => String::new(),
            _ => {
                let program =
                    Path::new(program).file_name().and_then(|name| name.to_str()).context("a name")?;
                format!("ENTRYPOINT [\"{program}\"]")
            }
        };
        let files: &[&str] = if name.ends_with("alertmanager") { &ALERTMANAGER_FILES } else { &[] };
        docker.image(name, Path::new(program), (files, &more))?;
    }

    let project = Project::new()?;
    project.compose(&["config", "--quiet"])?;
    ports.until_free().await?;
    project.up(1)?;
    if let Err(error) = plays_and_is_watched(&project).await {
        let logs = project.compose(&["logs", "--no-color", "--tail", "40"]).unwrap_or_default();
        return Err(error.context(logs));
    }
    Ok(())
}

async fn plays_and_is_watched(project: &Project) -> Result {
    // Controller, injection, relay and egress, by the controller's list, which wants the operator's token.
    project.until_number(r#"count(up{job="media-tree"} == 1)"#, 4.0).await?;
    project.until_number("prometheus_notifications_alertmanagers_discovered", 1.0).await?;
    project
        .until_number("max(media_tree_controller_findings)", 0.0)
        .await
        .context("what is shipped is a good tree")?;

    // From outside, through the ports that are published, led by the controller.
    let token = project.setting("MEDIA_TREE_PUBLISH_TOKENS")?;
    let codecs = [Codec::Opus, Codec::H264];
    let publisher =
        Whip::connect("http://127.0.0.1:8080/whip/show", Some(&token), &codecs, whip::Options::default());
    let publisher = publisher.await.context("publish")?;
    let playing = tokio::spawn(async move { demo::play(&demo::Clip::built_in(), &publisher).await });
    project.until_number(r#"max(pipeline_up{node_type="egress",broadcast="show"})"#, 1.0).await?;
    let mut viewer = Whep::connect("http://127.0.0.1:8080/whep/show", None).await.context("watch")?;
    ensure!(viewer.url().starts_with("http://127.0.0.1:8082/"), "led to {}", viewer.url());
    receive(&mut viewer, PICTURES).await?;

    // Nodes appear and vanish by themselves.
    project.up(2)?;
    project.until_number(r#"count(up{job="media-tree"} == 1)"#, 5.0).await?;
    project.up(1)?;
    project.until_number(r#"count(up{job="media-tree"} == 1)"#, 4.0).await?;
    // It is down, and then no target any more, which Prometheus shows two scrapes after it knows.
    project.until_number(r#"count(up{job="media-tree"})"#, 4.0).await?;
    receive(&mut viewer, PICTURES).await?;
    playing.abort();
    Ok(())
}
