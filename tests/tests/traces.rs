//! One join is one trace, whatever nodes have to do with it; and a collector disturbs nobody.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::StatusCode;
use tests::collector::{Collector, Span};
use tests::installation::{Installation, Viewer, until_live, until_parents};
use tests::offers;
use tests::program::{Builder, node, until};
use tests::source::{Shape, Source};
use tokio::net::TcpListener;

type Result = anyhow::Result<()>;

/// As the W3C recommendation has it.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn traced(builder: Builder, collector: &Collector) -> Builder {
    builder.with(&["--traces-otlp", &collector.url()])
}

/// The first span of this name at this node.
fn find<'a>(spans: &'a [Span], node: &str, name: &str) -> Option<&'a Span> {
    spans.iter().find(|span| span.node == node && span.name == name)
}

/// Waits until all of them are there, and gives all that are.
async fn until_spans(collector: &Collector, wanted: &[(&str, &str)]) -> anyhow::Result<Vec<Span>> {
    let waited = until("the spans", async || {
        let spans = collector.spans();
        Ok(wanted.iter().all(|(node, name)| find(&spans, node, name).is_some()))
    });
    waited.await.with_context(|| format!("{:#?}", collector.spans()))?;
    Ok(collector.spans())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_who_is_sent_on_is_one_trace_through_the_whole_tree() -> Result {
    let collector = Collector::start().await?;
    let controller = traced(node("controller").with(&["--node-id", "door"]), &collector).start().await?;
    let installation = Installation::of(&controller);
    let _injection =
        traced(installation.node("injection", "in").with(&["--region", "here"]), &collector).start().await?;
    let there = ["--region", "there"];
    let mut relays = Vec::new();
    for name in ["relay-1", "relay-2"] {
        relays.push(traced(installation.node("relay", name).with(&there), &collector).start().await?);
    }
    let egress = traced(installation.node("egress", "out").with(&there), &collector).start().await?;
    until_parents(&controller, "out", &["relay-1", "relay-2"]).await?;
    let source = Source::publish(&controller.url("/whip/show"), Shape::TINY).await?;
    until_live(&egress, "show").await?;
    let mut viewer = Viewer::join(&controller.url("/whep/show")).await?;
    viewer.watch(10).await?;

    let (whip, whep) = ("POST /whip/{broadcast}", "POST /whep/{broadcast}");
    let publishing = [("door", whip), ("in", whip), ("in", "publisher connect")];
    let watching = [
        ("door", whep),
        ("out", whep),
        ("out", "viewer connect"),
        ("out", "viewer first frame"),
        ("relay-1", "link join"),
        ("relay-2", "link join"),
        ("in", "link join"),
    ];
    let wanted = [&publishing[..], &watching].concat();
    let spans = until_spans(&collector, &wanted).await?;
    for parts in [&publishing[..], &watching] {
        let parts: Vec<&Span> = parts.iter().filter_map(|(node, name)| find(&spans, node, name)).collect();
        let [door, answer, more @ ..] = &parts[..] else { anyhow::bail!("{parts:#?}") };
        ensure!(door.parent.is_empty() && door.attributes["http.response.status_code"] == "307", "{door:#?}");
        ensure!(
            answer.parent == door.id && answer.attributes["http.response.status_code"] == "201",
            "{answer:#?}"
        );
        ensure!(more.iter().all(|part| part.parent == answer.id), "{parts:#?}");
        ensure!(parts.iter().all(|part| part.trace == door.trace && part.error.is_empty()), "{parts:#?}");
        // The name that the logs have.
        let join = &door.attributes["media_tree.join"];
        ensure!(parts.iter().all(|part| &part.attributes["media_tree.join"] == join), "{parts:#?}");
        ensure!(controller.log().contains(join.as_str()), "{join}");
    }
    let traces: Vec<&str> =
        [whip, whep].iter().filter_map(|name| Some(&*find(&spans, "door", name)?.trace)).collect();
    ensure!(traces[0] != traces[1], "a publisher's and a viewer's are two");
    let told: Vec<&String> = spans.iter().flat_map(|span| span.attributes.values()).collect();
    ensure!(told.iter().all(|text| !text.contains("127.0.0.1")), "nobody's address: {told:#?}");
    drop((source, viewer));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_traces_is_the_parent_and_decides() -> Result {
    let collector = Collector::start().await?;
    let node = node("up").with(&["--broadcasts", "show", "--traces-sample", "0", "--node-id", "one"]);
    let node = traced(node, &collector).start().await?;
    let url = node.url("/whep/show");
    let post = async |flags: &str| {
        let request = reqwest::Client::new().post(&url).header("Content-Type", "application/sdp");
        let request = request.header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"));
        anyhow::Ok(request.body(offers::crlf(offers::CHROMIUM_VIEWER)).send().await?.status())
    };
    ensure!(post("00").await? == StatusCode::CREATED);
    ensure!(post("no-flags").await? == StatusCode::CREATED, "what is no traceparent is nobody's");
    ensure!(post("01").await? == StatusCode::CREATED);
    // The viewer never connects, which is what people look for in traces.
    let wanted = [("one", "POST /whep/{broadcast}"), ("one", "viewer connect")];
    let spans = until_spans(&collector, &wanted).await?;
    let [answer, connect] = &spans[..] else { anyhow::bail!("only the last one is traced: {spans:#?}") };
    ensure!(answer.trace == TRACE && answer.parent == SPAN, "{answer:#?}");
    ensure!(
        connect.trace == TRACE && connect.parent == answer.id && !connect.error.is_empty(),
        "{connect:#?}"
    );
    until("both are counted", async || {
        Ok(node.metric_with("media_tree_trace_spans_total{", r#"result="exported""#).await? == 2.0)
    })
    .await
}

/// Joins one viewer after the other, for as long as the collector is tried.
async fn viewers_join_as_ever(collector: &str) -> Result {
    let node = node("up").with(&["--traces-otlp", collector]).start().await?;
    let source = Source::publish(&node.url("/whip/show"), Shape::TINY).await?;
    until_live(&node, "show").await?;
    let began = Instant::now();
    let failed = async || node.metric_with("media_tree_trace_spans_total{", r#"result="failed""#).await;
    let (mut viewers, mut quickest) = (Vec::new(), Duration::MAX);
    // At each look some spans are lost.
    let mut before = 0.0;
    let mut losses = 0;
    while losses < 3 {
        let asked = Instant::now();
        let mut viewer = Viewer::join(&node.url("/whep/show")).await?;
        viewer.watch(2).await?;
        quickest = quickest.min(asked.elapsed());
        viewers.push(viewer);
        let now = failed().await?;
        losses += u32::from(now > before);
        before = now;
        ensure!(began.elapsed() < Duration::from_secs(60), "{now} spans have failed");
    }
    let log = node.log();
    let lines = log.matches("the collector of traces does not take spans").count();
    println!(
        "{collector}: {} viewers in {:?}, {before} spans lost, {lines} lines",
        viewers.len(),
        began.elapsed()
    );
    ensure!(lines == 1, "{lines} lines");
    ensure!(quickest < Duration::from_secs(1), "every viewer waited, {quickest:?} or more");
    ensure!(node.metric_with("media_tree_trace_spans_total{", r#"result="exported""#).await? == 0.0);
    for viewer in &mut viewers {
        viewer.watch(2).await?;
    }
    drop((source, viewers));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_dead_disturbs_nobody() -> Result {
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    viewers_join_as_ever(&format!("http://{port}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_disturbs_nobody() -> Result {
    // It takes connections and never says a word.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let collector = format!("http://{}", listener.local_addr()?);
    let hanging = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    viewers_join_as_ever(&collector).await?;
    hanging.abort();
    Ok(())
}
