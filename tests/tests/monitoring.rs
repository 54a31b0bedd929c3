//! What operators look at, held to a running tree by the real Prometheus and Alertmanager: every panel and every alert has
//! data, no metric is forgotten, and a crash is told to people, and its end too.

#[path = "monitoring/tree.rs"]
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, stream};
use monitoring::promql;
use serde_json::Value;
use tests::installation::Installation;
use tests::program::{self, Program, until};
use tests::prometheus::{self, Alertmanager, PARTS, Prometheus, Setting, shipped, shipped_text};
use tests::questions::{Question, chosen, dashboards, list, of_alerts, of_dashboard};
use tests::slack::Slack;
use tests::tools;
use tree::{OPENSSL, Tree};

type Result = anyhow::Result<()>;

fn has_all(name: &str) -> bool {
    PARTS.iter().all(|part| tools::has(name, part))
}

/// What a program says on its standard output.
fn succeeds(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    let [said, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    ensure!(output.status.success(), "{program} {arguments:?}: {said}{error}");
    Ok(said.into_owned())
}

#[test]
fn every_alert_fires_when_it_should_not_before_and_ends() -> Result {
    if !has_all("every_alert_fires_when_it_should_not_before_and_ends") {
        return Ok(());
    }
    let rules = shipped("prometheus/alerts.yml").display().to_string();
    println!("{}", succeeds(PARTS[2], &["check", "rules", &rules])?);
    let trials = shipped("prometheus/alerts.test.yml").display().to_string();
    println!("{}", succeeds(PARTS[2], &["test", "rules", &trials])?);
    Ok(())
}

#[test]
fn the_configurations_are_valid() -> Result {
    if !has_all("the_configurations_are_valid") {
        return Ok(());
    }
    // The secret is a file, which must be there for the check.
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("operator_token"), "secret")?;
    let text = prometheus::adapted(
        &shipped_text("prometheus/prometheus.yml")?,
        &[("/run/secrets", &folder.path().display().to_string())],
    )?;
    let config = folder.path().join("prometheus.yml");
    std::fs::write(&config, text)?;
    std::fs::copy(shipped("prometheus/alerts.yml"), folder.path().join("alerts.yml"))?;
    println!("{}", succeeds(PARTS[2], &["check", "config", &config.display().to_string()])?);
    let alertmanager = shipped("alertmanager/alertmanager.yml").display().to_string();
    println!("{}", succeeds(PARTS[3], &["check-config", &alertmanager])?);
    Ok(())
}

#[test]
fn alerts_are_told_to_those_they_are_for() -> Result {
    if !has_all("alerts_are_told_to_those_they_are_for") {
        return Ok(());
    }
    let config = format!("--config.file={}", shipped("alertmanager/alertmanager.yml").display());
    let routes = shipped_text("alertmanager/routes.test")?;
    let lines = routes.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let (labels, receiver) = line.split_once(" -> ").with_context(|| line.to_owned())?;
        let mut arguments = vec!["config", "routes", "test", &config];
        arguments.extend(labels.split(' '));
        assert_eq!(succeeds(PARTS[3], &arguments)?.trim(), receiver, "{labels}");
        count += 1;
    }
    ensure!(count > 5, "only {count} routes were asked for");
    Ok(())
}

/// A cause, what follows from it, and the label that both must share; empty: none.
const INHIBITED: [[&str; 3]; 6] = [
    ["MediaTreeNodeDown", "MediaTreePipelineInterrupted", "node_id"],
    ["MediaTreeNodeCrashLooping", "MediaTreePipelineCrashed", "node_id"],
    ["MediaTreeLatencyBurnsFast", "MediaTreeLatencyBurnsSlowly", "tree_id"],
    ["MediaTreePublisherNoKeyframe", "MediaTreePublisherLongGop", "broadcast"],
    ["MediaTreeStoreUnreachable", "MediaTreeNoControllerLeader", ""],
    ["MediaTreeStoreUnreachable", "MediaTreeDecisionsFail", ""],
];

#[tokio::test]
async fn people_are_told_of_causes_and_not_of_what_follows() -> Result {
    if !has_all("people_are_told_of_causes_and_not_of_what_follows") {
        return Ok(());
    }
    let slack = Slack::start().await?;
    let alertmanager = Alertmanager::start(&slack.url()).await?;
    // Each case has a tree of its own.
    let labels = |name: &str, tree: &str, changed: &str| {
        ensure!(monitoring::alerts().iter().any(|alert| alert.name == name), "no alert {name}");
        let mut labels = serde_json::json!({
            "alertname": name, "tree_id": tree, "node_id": "here", "broadcast": "show",
        });
        if !changed.is_empty() {
            labels[changed] = "another".into();
        }
        Ok(labels)
    };
    let (mut told, mut untold) = (Vec::new(), Vec::new());
    for [cause, effect, shared] in INHIBITED {
        let tree = format!("tree of {effect}");
        told.push(labels(cause, &tree, "")?);
        untold.push(labels(effect, &tree, "")?);
        if !shared.is_empty() {
            told.push(labels(effect, &tree, shared)?);
        }
    }
    alertmanager.fire(&[&told[..], &untold[..]].concat()).await?;
    until("what follows is not told, and all else is", async || {
        let known = alertmanager.alerts().await?;
        let is_so = |labels: &Value, is_inhibited: bool| {
            let alert = known.iter().find(|alert| alert["labels"] == *labels);
            alert.is_some_and(|alert| list(alert, "/status/inhibitedBy").is_empty() != is_inhibited)
        };
        Ok(told.iter().all(|it| is_so(it, false)) && untold.iter().all(|it| is_so(it, true)))
    })
    .await
}

/// What is asked of these is more than nothing: packets are lost here, on links, of a publisher and of a viewer.
const LOSSES: [&str; 6] = [
    "media_tree_rtp_lost_total",
    "media_tree_rtp_recovered_total",
    "media_tree_publisher_rtp_lost_total",
    "media_tree_publisher_rtp_recovered_total",
    "media_tree_viewer_loss_ratio_sum",
    "media_tree_viewer_loss_ratio_bucket",
];

/// The conditions of these hold here, as Prometheus finds.
const ALARMED: [&str; 5] = [
    "MediaTreeLossHigh",
    "MediaTreePublisherUplinkLoss",
    "MediaTreeViewerLossHigh",
    "MediaTreeNoWarmSlot",
    "MediaTreeProvisioningFailed",
];

/// Why this question has no answer, if it has none.
async fn finding(prometheus: &Prometheus, names: &BTreeSet<String>, question: &Question) -> Option<String> {
    let Question { place, expression } = question;
    let named = promql::metrics(expression);
    // Prometheus' own: there is none until an alert fires.
    let unknown: Vec<_> = named.iter().filter(|name| !names.contains(*name) && *name != "ALERTS").collect();
    if named.is_empty() || !unknown.is_empty() {
        return Some(format!("{place}: no such metrics: {unknown:?} in {expression}"));
    }
    let is_of_loss = LOSSES.iter().any(|loss| named.contains(*loss));
    match prometheus.most(expression).await {
        Ok(Some(most)) if most > 0.0 || !is_of_loss => None,
        Ok(Some(_)) => Some(format!("{place}: never more than nothing: {expression}")),
        Ok(None) => Some(format!("{place}: no data for {expression}")),
        Err(error) => Some(format!("{place}: {expression}: {error}")),
    }
}

async fn findings(prometheus: &Prometheus, questions: &[Question]) -> anyhow::Result<Vec<String>> {
    let names = prometheus.names().await?;
    let mut findings = Vec::new();
    for question in questions {
        findings.extend(finding(prometheus, &names, question).await);
    }
    Ok(findings)
}

/// So many questions are asked at once.
const TOGETHER: usize = 8;

/// Waits until all of them have been answered.
async fn until_answered(prometheus: &Prometheus, questions: Vec<Question>) -> Result {
    let (count, began) = (questions.len(), Instant::now());
    let mut left = questions;
    while !left.is_empty() && began.elapsed() < program::PATIENCE {
        let names = &prometheus.names().await?;
        let asked = left
            .into_iter()
            .map(async |question| finding(prometheus, names, &question).await.is_some().then_some(question));
        left = stream::iter(asked).buffered(TOGETHER).filter_map(std::future::ready).collect().await;
    }
    let findings = findings(prometheus, &left).await?;
    ensure!(findings.is_empty(), "{} of {count} questions have no answer: {findings:#?}", findings.len());
    println!(
        "{count} questions of panels, annotations and alerts have answers, after {:.1?}",
        began.elapsed()
    );
    Ok(())
}

/// The families that a node exports, from the text itself.
async fn families(node: &Program) -> anyhow::Result<BTreeSet<String>> {
    let text = reqwest::get(format!("http://{}/metrics", node.ops)).await?.text().await?;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    Ok(types.filter_map(|line| Some(promql::family(line.split(' ').next()?).to_owned())).collect())
}

/// Prometheus, Alertmanager and a fake of Slack around a tree.
struct Watch {
    prometheus: Prometheus,
    _alertmanager: Alertmanager,
    slack: Slack,
}

impl Watch {
    async fn begin(controller: &Program) -> anyhow::Result<Self> {
        let slack = Slack::start().await?;
        let alertmanager = Alertmanager::start(&slack.url()).await?;
        // What takes minutes for people takes seconds here; that the minutes are kept is for the trials to see.
        let rules = [
            (
                "increase(media_tree_pipeline_crashes_total[5m])",
                "increase(media_tree_pipeline_crashes_total[10s])",
            ),
            ("for: 30s", "for: 3s"),
        ];
        let setting = Setting { controller, alertmanager: &alertmanager, rules: &rules };
        let prometheus = Prometheus::start(setting).await?;
        Ok(Self { prometheus, _alertmanager: alertmanager, slack })
    }

    /// Waits until so many nodes have been scraped, and twice, so that there are rates.
    async fn until_scraped(&self, count: usize) -> Result {
        let job = r#"{job="media-tree"}"#;
        let all = format!("count(count_over_time(up{job}[1m]) > 1) == {count}");
        until("all nodes are scraped", async || self.prometheus.has_data(&all).await).await
    }

    /// Waits until Prometheus finds that the conditions of all these rules hold.
    async fn until_alarmed(&self, rules: &[&str]) -> Result {
        for rule in rules {
            let what = format!("the condition of {rule} holds");
            until(&what, async || Ok(self.prometheus.alarmed().await?.contains(*rule))).await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_shown_or_watched_has_data_and_crashes_are_told() -> Result {
    const NAME: &str = "everything_that_is_shown_or_watched_has_data_and_crashes_are_told";
    if !has_all(NAME) || !tools::has(NAME, OPENSSL) {
        return Ok(());
    }
    let began = Instant::now();
    let homes = tempfile::tempdir()?;
    let controller = Tree::controller(homes.path()).await?;
    let (nodes, mut watch) = tokio::try_join!(tree::Nodes::start(&controller), Watch::begin(&controller))?;
    let mut tree = Tree::new(controller, nodes);
    tokio::try_join!(watch.until_scraped(tree.all().len()), tree.play())?;
    tree.lose(true);
    println!("everything runs after {:.1?}", began.elapsed());

    // Each is waited for while the others take their time.
    let killed = crash_is_told(&tree, &mut watch).await?;
    // The session went on.
    tree.player_reports().await?;
    let down = node_down_is_told(&mut tree, &mut watch).await?;
    tree.drain().await?;
    tree.until_all_is_moved().await?;
    tree.lose(false);
    tree.another_comes().await?;
    watch.until_alarmed(&ALARMED).await?;
    println!("everything was moved after {:.1?}", began.elapsed());
    // All that is shown and watched.
    let mut questions = of_alerts();
    for dashboard in dashboards()? {
        questions.extend(of_dashboard(&dashboard));
    }
    questions.retain(|question| !question.is_of_growth());
    until_answered(&watch.prometheus, questions).await?;
    variables_have_values(&watch.prometheus).await?;
    wrong_panels_are_found(&watch.prometheus).await?;
    rules_are_well(&watch.prometheus).await?;
    nothing_is_forgotten(&tree).await?;
    node_is_back(down, &mut tree, &mut watch).await?;
    end_of_crash_is_told(killed, &mut watch).await?;
    println!("all of it took {:.1?}", began.elapsed());
    Ok(())
}

/// A pipeline is killed: people are told. Gives when it was killed.
async fn crash_is_told(tree: &Tree, watch: &mut Watch) -> anyhow::Result<Instant> {
    let worker = tree.nodes.egress.worker_id().context("a process that works")?;
    succeeds("kill", &["-KILL", &worker.to_string()])?;
    let killed = Instant::now();
    let told = watch.slack.message(["CRITICAL", "MediaTreePipelineCrashed"]).await?;
    println!(
        "a pipeline was killed; Slack was told after {:.1?}: {}\n{}",
        killed.elapsed(),
        told.title(),
        told.text()
    );
    assert_eq!((told.channel(), told.color()), ("#media-tree-critical", "danger"));
    for part in ["tree main", "MediaTreePipelineCrashed"] {
        ensure!(told.title().contains(part), "{part} in {}", told.title());
    }
    for part in [
        "Node `out`",
        "value 1",
        "/d/media-tree-nodes?var-tree=main&var-node=out",
        "/d/media-tree-runbook?viewPanel=",
    ] {
        // Slack has & and < written as entities.
        ensure!(told.text().replace("&amp;", "&").contains(part), "{part} in {}", told.text());
    }
    Ok(killed)
}

/// It is over: people are told that, too.
async fn end_of_crash_is_told(killed: Instant, watch: &mut Watch) -> Result {
    let over = watch.slack.message(["RESOLVED", "MediaTreePipelineCrashed"]).await?;
    println!("and after {:.1?} (10 s instead of five minutes): {}", killed.elapsed(), over.title());
    assert_eq!((over.channel(), over.color()), ("#media-tree-critical", "good"));
    Ok(())
}

/// A node is killed: people are told, though the tree has forgotten it by then. Gives its name.
async fn node_down_is_told(tree: &mut Tree, watch: &mut Watch) -> anyhow::Result<&'static str> {
    let relay = &mut tree.nodes.relays[1];
    relay.signal("KILL")?;
    relay.exit_code().await?;
    let killed = Instant::now();
    let told = watch.slack.message(["CRITICAL", "MediaTreeNodeDown"]).await?;
    println!("a node was killed; Slack was told after {:.1?}: {}", killed.elapsed(), told.title());
    ensure!(told.text().contains("Node `relay-2`"), "{}", told.text());
    Ok("relay-2")
}

/// The killed node starts again, and people are told.
async fn node_is_back(name: &'static str, tree: &mut Tree, watch: &mut Watch) -> Result {
    let installation = Installation::of(&tree.controller);
    let relay = &mut tree.nodes.relays[1];
    let again = installation.node("relay", name).with(&["--region", "there"]).in_place_of(relay);
    *relay = again.start().await?;
    let over = watch.slack.message(["RESOLVED", "MediaTreeNodeDown"]).await?;
    println!("it is back: {}", over.title());
    // One that is stopped as it should be is missed by nobody.
    relay.signal("TERM")?;
    relay.exit_code().await?;
    let targets = tree.controller.url("/api/v1/targets");
    until("it is a target no more", async || Ok(!reqwest::get(&targets).await?.text().await?.contains(name)))
        .await
}

/// Every choice at the top of every dashboard has something to choose.
async fn variables_have_values(prometheus: &Prometheus) -> Result {
    let mut seen = BTreeMap::new();
    for dashboard in dashboards()? {
        for variable in list(&dashboard, "/templating/list").iter().filter(|it| it["type"] == "query") {
            let query = variable["query"].as_str().unwrap_or_default();
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (series, label) =
                inside.and_then(|it| it.rsplit_once(", ")).context("label_values(SERIES, LABEL)")?;
            let path = format!("/api/v1/label/{label}/values");
            let values = prometheus.ask(&path, &[("match[]", &chosen(series))]).await?;
            ensure!(values.as_array().is_some_and(|values| !values.is_empty()), "{query} has no values");
            seen.insert(query.to_owned(), values.to_string());
        }
    }
    println!("variables: {seen:#?}");
    ensure!(seen.len() == 3, "tree, node and broadcast");
    Ok(())
}

/// The check itself can fail: of these panels each is wrong in its own way.
async fn wrong_panels_are_found(prometheus: &Prometheus) -> Result {
    let mut dashboard =
        dashboards()?.into_iter().find(|it| it["uid"] == "media-tree-rtp").context("a dashboard")?;
    let panels = dashboard["panels"].as_array_mut().context("panels")?;
    let asking: Vec<&mut Value> = panels.iter_mut().filter(|panel| panel.get("targets").is_some()).collect();
    let wrong = [
        "sum(rate(media_tree_rtp_packet_total[$__rate_interval]))",
        r#"media_tree_rtp_packets_total{kind="smell"}"#,
        "sum(media_tree_viewers",
    ];
    let mut places = Vec::new();
    for (panel, expression) in asking.into_iter().zip(wrong) {
        panel["targets"][0]["expr"] = expression.into();
        places.push(panel["title"].as_str().unwrap_or_default().to_owned());
    }
    let findings = findings(prometheus, &of_dashboard(&dashboard)).await?;
    println!("planted panels: {findings:#?}");
    assert_eq!(findings.len(), wrong.len(), "{findings:#?}");
    for (finding, place) in findings.iter().zip(places) {
        ensure!(finding.contains(&place), "{place}: {finding}");
    }
    Ok(())
}

/// Prometheus evaluates every rule without an error.
async fn rules_are_well(prometheus: &Prometheus) -> Result {
    let groups = prometheus.ask("/api/v1/rules", &[]).await?;
    let rules: Vec<&Value> =
        list(&groups, "/groups").iter().flat_map(|group| list(group, "/rules")).collect();
    assert_eq!(rules.len(), monitoring::alerts().len());
    for rule in &rules {
        ensure!(rule["health"] == "ok", "{rule:#}");
    }
    let firing: BTreeSet<_> =
        rules.iter().filter(|rule| rule["state"] == "firing").map(|rule| rule["name"].to_string()).collect();
    println!("firing while one relay is down: {firing:?}");
    Ok(())
}

/// What nodes export is shown, watched, or said to be for debugging; and what is said to be exported is.
async fn nothing_is_forgotten(tree: &Tree) -> Result {
    let mut exported = BTreeSet::new();
    for node in [&tree.controller, &tree.nodes.injection, &tree.nodes.relays[0], &tree.nodes.egress] {
        exported.extend(families(node).await?);
    }
    let mut used = BTreeSet::new();
    let mut questions = of_alerts();
    for dashboard in dashboards()? {
        questions.extend(of_dashboard(&dashboard));
    }
    for question in &questions {
        used.extend(promql::metrics(&question.expression).iter().map(|name| promql::family(name).to_owned()));
    }
    let debug: BTreeSet<String> = monitoring::DEBUG.iter().map(|(name, _)| (*name).to_owned()).collect();
    let forgotten: Vec<_> =
        exported.iter().filter(|name| !used.contains(*name) && !debug.contains(*name)).collect();
    ensure!(forgotten.is_empty(), "neither shown nor watched nor for debugging: {forgotten:#?}");
    let stale: Vec<_> =
        debug.iter().filter(|name| !exported.contains(*name) || used.contains(*name)).collect();
    ensure!(stale.is_empty(), "for debugging, but not exported or in use: {stale:#?}");
    println!(
        "{} metrics: {} in use, {} for debugging",
        exported.len(),
        exported.len() - debug.len(),
        debug.len()
    );
    Ok(())
}
