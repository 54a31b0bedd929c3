//! Spans as a collector gets them.

use model::{NodeId, Role, TreeId};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span as Received;

use super::*;

fn identity() -> Identity {
    Identity {
        tree: TreeId::new("t1").expect("an id"),
        node: NodeId::new("n1").expect("an id"),
        role: Role::Egress,
    }
}

fn traces(sample: f64) -> (Traces, Arc<Queue>, Registry) {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let (traces, queue) = Traces::new(&identity(), sample, metrics);
    (traces, queue, registry)
}

fn received(queue: &Queue) -> Vec<Received> {
    let Some(batch) = queue.take() else { return Vec::new() };
    let request = ExportTraceServiceRequest::decode(&*batch.bytes).expect("OTLP");
    let spans = request.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans);
    let spans: Vec<_> = spans.collect();
    assert_eq!(spans.len() as u64, batch.spans);
    spans
}

fn text(span: &Received, key: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => panic!("{other:?}"),
    }
}

fn parent(is_sampled: bool) -> TraceParent {
    let flags = u8::from(is_sampled);
    format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0{flags}").parse().expect("good")
}

#[test]
fn parts_of_a_join_are_one_trace() {
    let (traces, queue, _registry) = traces(1.0);
    let answer = traces.answer("POST /whep/{broadcast}", None);
    let context = answer.context().expect("a trace begins");
    assert!(context.is_sampled);
    drop(answer);
    let join = JoinName { id: 7, span: Some(context) };
    let mut part = traces.over("viewer connect", join, Duration::from_millis(250));
    part.broadcast(&BroadcastId::new("show").expect("an id"));
    part.failed("no check came");
    drop(part);

    let [answer, part] = &received(&queue)[..] else { panic!("two spans") };
    assert_eq!(answer.name, "POST /whep/{broadcast}");
    assert_eq!(answer.trace_id, part.trace_id);
    assert_eq!(answer.trace_id, context.trace_id.get().to_be_bytes());
    assert_eq!((&answer.parent_span_id[..], &part.parent_span_id), (&[][..], &answer.span_id));
    let lasted = Duration::from_nanos(part.end_time_unix_nano - part.start_time_unix_nano);
    assert!((250..1000).contains(&lasted.as_millis()), "{lasted:?}");
    assert_eq!(text(part, "media_tree.join").as_deref(), Some("0000000000000007"));
    assert_eq!(text(part, "media_tree.broadcast").as_deref(), Some("show"));
    assert_eq!(part.status.as_ref().map(|status| status.message.as_str()), Some("no check came"));
    assert!(queue.take().is_none(), "each is taken once");
}

#[test]
fn who_began_the_trace_decides_whether_it_is_recorded() {
    for (sample, is_sampled) in [(0.0, true), (1.0, false)] {
        let (traces, queue, _registry) = traces(sample);
        let answer = traces.answer("POST /whep/{broadcast}", Some(parent(is_sampled)));
        let context = answer.context().expect("its own span");
        assert_eq!((context.trace_id, context.is_sampled), (parent(true).trace_id, is_sampled));
        assert_ne!(context.span_id, parent(true).span_id);
        drop(answer);
        drop(traces.over("viewer connect", JoinName { id: 1, span: Some(context) }, Duration::ZERO));
        let spans = received(&queue);
        assert_eq!(spans.len(), if is_sampled { 2 } else { 0 });
        assert!(
            spans.first().is_none_or(|span| span.parent_span_id == parent(true).span_id.get().to_be_bytes())
        );
    }
}

#[test]
fn a_part_of_the_traces_that_begin_here_is_recorded() {
    let (traces, queue, _registry) = traces(0.1);
    for _ in 0..3000 {
        drop(traces.answer("POST /whep/{broadcast}", None));
    }
    let count = received(&queue).len();
    assert!((150..450).contains(&count), "{count} of 3000");
}

#[test]
fn without_a_collector_there_are_no_spans_and_parents_go_on_as_they_came() {
    let traces = Traces::default();
    let answer = traces.answer("POST /whep/{broadcast}", Some(parent(true)));
    assert_eq!(answer.context(), Some(parent(true)));
    assert_eq!(traces.answer("POST /whep/{broadcast}", None).context(), None);
    let (traces, queue, _registry) = self::traces(1.0);
    drop(traces.over("viewer connect", JoinName { id: 1, span: None }, Duration::ZERO));
    assert!(queue.take().is_none(), "a join that nobody traces");
}

#[test]
fn a_full_queue_drops_and_counts() {
    let (traces, queue, registry) = traces(1.0);
    for _ in 0..QUEUE_MAX + 3 {
        drop(traces.answer("POST /whep/{broadcast}", None));
    }
    let text = crate::exposition::written(&registry, "", crate::Exposition::OpenMetrics, 0);
    assert!(text.contains("media_tree_trace_spans_total{result=\"dropped\"} 3\n"), "{text}");
    assert!(text.contains("media_tree_trace_spans_total{result=\"exported\"} 0\n"), "{text}");
    let mut batches = 0;
    while let Some(batch) = queue.take() {
        assert!(batch.spans as usize <= BATCH_MAX);
        batches += 1;
    }
    assert_eq!(batches, QUEUE_MAX / BATCH_MAX);
}

#[test]
fn a_collector_is_told_who_reports() {
    let (traces, queue, _registry) = traces(1.0);
    drop(traces.answer("POST /whip/{broadcast}", None));
    let batch = queue.take().expect("a batch");
    let request = ExportTraceServiceRequest::decode(&*batch.bytes).expect("OTLP");
    let resource = request.resource_spans[0].resource.as_ref().expect("a resource");
    for (key, value) in [
        ("service.name", "media-tree"),
        ("service.namespace", "t1"),
        ("service.instance.id", "n1"),
        ("media_tree.node_type", "egress"),
    ] {
        let found = resource.attributes.iter().find(|attribute| attribute.key == key).expect(key);
        let found = found.value.as_ref().and_then(|value| value.value.clone());
        assert_eq!(found, Some(Value::StringValue(value.to_owned())), "{key}");
    }
}
