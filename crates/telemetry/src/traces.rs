//! Spans of joins, for a collector of OpenTelemetry.
//!
//! A span is made where a join begins or something of it is done, a handful for each join and never one for a packet. It
//! waits in a [`Queue`] until somebody takes a batch of the bytes of OTLP and sends them; how is left to him. Nothing here
//! waits: a full queue drops, and counts what it drops.
//!
//! Parents come as [`TraceParent`], from HTTP or from another node. Whether a join is traced is decided once, where its
//! trace begins, and kept by all others (W3C Trace Context, section 3.2.2.5.1).

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use model::{BroadcastId, JoinName, TraceParent};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan, SpanData, SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use prost::Message as _;

use crate::Identity;
use crate::labels::{Closed, Label, closed, counters};
use crate::own_names;

/// Spans that wait at most: some seconds of a storm of joins, about 4 MB.
const QUEUE_MAX: usize = 4096;
/// Spans of one batch at most, as the batch processor of OpenTelemetry has it.
const BATCH_MAX: usize = 512;

closed! {
    /// What became of a span.
    SpanFate, "result" {
        /// A collector took it.
        Exported = "exported",
        /// Too many waited.
        Dropped = "dropped",
        /// The collector could not be reached, or did not take it.
        Failed = "failed",
    }
}

/// Handles of these metrics. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    spans: Family<Label<SpanFate>, Counter>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { spans: counters() };
        let help = "Spans for a collector of OpenTelemetry, by what became of them";
        own_names(registry).register("trace_spans", help, metrics.spans.clone());
        metrics
    }

    /// Something became of so many spans.
    pub fn became(&self, fate: SpanFate, spans: u64) {
        self.spans.get_or_create(&Label(fate)).inc_by(spans);
    }
}

/// Makes spans. Cloning shares the queue. The default makes none and costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    tracer: Option<SdkTracer>,
}

impl Traces {
    /// Makes spans of the part `sample` of all traces that begin here, and of what others sample; gives where they wait.
    #[must_use]
    pub fn new(identity: &Identity, sample: f64, metrics: Metrics) -> (Self, Arc<Queue>) {
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "media-tree"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.namespace", identity.tree.to_string()),
                KeyValue::new("service.instance.id", identity.node.to_string()),
                KeyValue::new("media_tree.node_type", identity.role.to_string()),
            ])
            .build();
        let queue = Arc::new(Queue {
            spans: Mutex::default(),
            resource: ResourceAttributesWithSchema::from(&resource),
            metrics,
        });
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample)));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(sampler)
            .with_span_processor(Enqueue(queue.clone()))
            .build();
        (Self { tracer: Some(provider.tracer("media-tree")) }, queue)
    }

    /// Begins a span that answers somebody, now. It ends when it is dropped.
    #[must_use]
    pub fn answer(&self, name: &'static str, parent: Option<TraceParent>) -> Span {
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server);
        Span { span: self.start(builder, parent), parent }
    }

    /// Makes a span of what has taken this long and is over now, as a part of a join; none if nobody traces the join.
    pub fn over(&self, name: &'static str, join: JoinName, after: Duration) -> Span {
        // A join without a span is not worth a trace of its own: it would have one part.
        let Some(parent) = join.span else { return Span { span: None, parent: None } };
        let start = SystemTime::now().checked_sub(after).unwrap_or(SystemTime::UNIX_EPOCH);
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Internal).with_start_time(start);
        let mut span = Span { span: self.start(builder, Some(parent)), parent: Some(parent) };
        span.join(join);
        span
    }

    fn start(&self, builder: SpanBuilder, parent: Option<TraceParent>) -> Option<SdkSpan> {
        let tracer = self.tracer.as_ref()?;
        let context = Context::new();
        let context = match parent {
            Some(parent) => context.with_remote_span_context(to_context(parent)),
            None => context,
        };
        Some(tracer.build_with_context(builder, &context))
    }
}

fn to_context(parent: TraceParent) -> SpanContext {
    let flags = if parent.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    SpanContext::new(
        TraceId::from(parent.trace_id.get()),
        SpanId::from(parent.span_id.get()),
        flags,
        true,
        TraceState::NONE,
    )
}

fn from_context(context: &SpanContext) -> Option<TraceParent> {
    Some(TraceParent {
        trace_id: NonZeroU128::new(u128::from_be_bytes(context.trace_id().to_bytes()))?,
        span_id: NonZeroU64::new(u64::from_be_bytes(context.span_id().to_bytes()))?,
        is_sampled: context.is_sampled(),
    })
}

/// One span. It ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    /// `None` if there are no traces here.
    span: Option<SdkSpan>,
    parent: Option<TraceParent>,
}

impl Span {
    /// What its children are told. Where there are no traces, what this one was told.
    #[must_use]
    pub fn context(&self) -> Option<TraceParent> {
        match &self.span {
            Some(span) => from_context(span.span_context()),
            None => self.parent,
        }
    }

    /// Says which join it is of, as the logs call it.
    pub fn join(&mut self, join: JoinName) {
        self.text("media_tree.join", join);
    }

    /// Says which broadcast it is of.
    pub fn broadcast(&mut self, broadcast: &BroadcastId) {
        self.text("media_tree.broadcast", broadcast);
    }

    /// Says something of it. No secrets, and nobody's address.
    pub fn text(&mut self, key: &'static str, value: impl fmt::Display) {
        if let Some(span) = self.span.as_mut().filter(|span| span.is_recording()) {
            span.set_attribute(KeyValue::new(key, value.to_string()));
        }
    }

    /// Says a number of it.
    pub fn number(&mut self, key: &'static str, value: i64) {
        if let Some(span) = &mut self.span {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// It did not end well, for a reason in words.
    pub fn failed(&mut self, reason: impl fmt::Display) {
        if let Some(span) = self.span.as_mut().filter(|span| span.is_recording()) {
            span.set_status(Status::error(reason.to_string()));
        }
    }
}

/// Puts every span that has ended into the queue.
#[derive(Debug)]
struct Enqueue(Arc<Queue>);

impl SpanProcessor for Enqueue {
    fn on_start(&self, _span: &mut SdkSpan, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Spans that have ended and wait to be sent.
#[derive(Debug)]
pub struct Queue {
    spans: Mutex<Vec<SpanData>>,
    resource: ResourceAttributesWithSchema,
    metrics: Metrics,
}

/// Spans on their way.
#[derive(Debug)]
pub struct Batch {
    /// How many.
    pub spans: u64,
    /// An `ExportTraceServiceRequest`: the body of `POST /v1/traces` (OTLP 1.x, section OTLP/HTTP).
    pub bytes: Vec<u8>,
}

impl Queue {
    fn push(&self, span: SpanData) {
        let mut spans = self.lock();
        if spans.len() < QUEUE_MAX {
            spans.push(span);
        } else {
            self.metrics.became(SpanFate::Dropped, 1);
        }
    }

    /// The oldest spans, if there are any.
    #[must_use]
    pub fn take(&self) -> Option<Batch> {
        let batch: Vec<SpanData> = {
            let mut spans = self.lock();
            let count = spans.len().min(BATCH_MAX);
            spans.drain(..count).collect()
        };
        if batch.is_empty() {
            return None;
        }
        let spans = batch.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        Some(Batch { spans, bytes: ExportTraceServiceRequest { resource_spans }.encode_to_vec() })
    }

    /// Counts what became of spans that were taken.
    pub fn became(&self, fate: SpanFate, spans: u64) {
        self.metrics.became(fate, spans);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SpanData>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
