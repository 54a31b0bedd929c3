//! A collector of spans as small as one can be: OTLP over HTTP, protobuf.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One span, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The node that it is of.
    pub node: String,
    /// What it is.
    pub name: String,
    /// Its trace, in hexadecimal digits.
    pub trace: String,
    /// Its number, in hexadecimal digits.
    pub id: String,
    /// That of its parent; empty if it has none.
    pub parent: String,
    /// What it says of itself.
    pub attributes: BTreeMap<String, String>,
    /// Why it did not end well; empty if it did.
    pub error: String,
}

type Spans = Arc<Mutex<Vec<Span>>>;

/// The collector; ends with its value.
pub struct Collector {
    address: SocketAddr,
    spans: Spans,
    server: JoinHandle<()>,
}

impl Collector {
    /// Listens.
    ///
    /// # Errors
    /// If there is no port for it.
    pub async fn start() -> anyhow::Result<Self> {
        let spans = Spans::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(spans.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port")?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, spans, server })
    }

    /// What nodes are told of it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that has come.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(spans): State<Spans>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let is_protobuf = headers.get(header::CONTENT_TYPE).is_some_and(|it| it == "application/x-protobuf");
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    if !is_protobuf {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    for of_resource in request.resource_spans {
        let resource = texts(of_resource.resource.map(|resource| resource.attributes).unwrap_or_default());
        let node = resource.get("service.instance.id").cloned().unwrap_or_default();
        for span in of_resource.scope_spans.into_iter().flat_map(|of| of.spans) {
            let span = Span {
                node: node.clone(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                attributes: texts(span.attributes),
                error: span.status.map(|status| status.message).unwrap_or_default(),
            };
            spans.lock().unwrap_or_else(PoisonError::into_inner).push(span);
        }
    }
    StatusCode::OK
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |attribute: KeyValue| match attribute.value?.value? {
        Value::StringValue(text) => Some((attribute.key, text)),
        Value::IntValue(number) => Some((attribute.key, number.to_string())),
        other => Some((attribute.key, format!("{other:?}"))),
    };
    attributes.into_iter().filter_map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
