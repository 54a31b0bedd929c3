//! The store of the installation, as this process meets it.

use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use crate::collect::{Distribution, Labels, Name, counter, gauge, histogram, plain};
use crate::own_names;

/// How the store fares; totals since it was opened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// It answers.
    pub is_up: bool,
    /// Gets, lists, puts and deletes that ended, however they did.
    pub operations: u64,
    /// Those of them that it did not answer.
    pub failures: u64,
    /// Times that it went from up to down.
    pub outages: u64,
    /// Times that it was looked for: at first, and after each loss.
    pub resolutions: u64,
    /// Values that are no records of this program.
    pub malformed: u64,
    /// Watches that fell so far behind that they were given everything anew.
    pub watch_overflows: u64,
    /// How long operations took.
    pub operation_seconds: Distribution,
}

/// Handle of these metrics.
#[derive(Debug)]
pub struct Metrics {
    snapshot: Arc<Mutex<Option<Snapshot>>>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let snapshot = Arc::default();
        own_names(registry).register_collector(Box::new(Store(Arc::clone(&snapshot))));
        Self { snapshot }
    }

    /// Shows how the store fares. A process without a store never calls it, and has none of the series.
    pub fn publish(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }
}

#[derive(Debug)]
struct Store(Arc<Mutex<Option<Snapshot>>>);

impl Collector for Store {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let snapshot = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(store) = snapshot else { return Ok(()) };
        let e = &mut encoder;
        let is_up = Name("store_up", "1 if the store of the installation answers, 0 if it does not");
        gauge(e, is_up, plain(f64::from(u8::from(store.is_up))))?;
        for (name, help, value) in [
            ("store_operations", "Operations on the store that ended, however they did", store.operations),
            ("store_failures", "Operations that the store did not answer", store.failures),
            ("store_outages", "Times that the store went from up to down", store.outages),
            (
                "store_resolutions",
                "Times that the store was looked for: at first, and after each loss",
                store.resolutions,
            ),
            ("store_malformed", "Stored values that are no records of this program", store.malformed),
            (
                "store_watch_overflows",
                "Watches that fell so far behind that they were given everything anew",
                store.watch_overflows,
            ),
        ] {
            counter(e, Name(name, help), plain(value))?;
        }
        let help = "How long operations on the store took, answered or not";
        histogram(e, Name("store_operation_seconds", help), [(Labels(Vec::new()), store.operation_seconds)])
    }
}
