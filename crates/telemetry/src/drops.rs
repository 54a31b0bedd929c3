//! What a core drops, by reason.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::collect::{Labels, Name, counter};

/// Counters by reason, stored by the thread that drives a core.
#[derive(Debug)]
pub struct DropCounters {
    name: Name,
    reasons: Vec<(&'static str, AtomicU64)>,
}

impl DropCounters {
    pub(crate) fn new(name: Name, reasons: &[&'static str]) -> Arc<Self> {
        Arc::new(Self { name, reasons: reasons.iter().map(|reason| (*reason, 0.into())).collect() })
    }

    /// Stores how often something was dropped so far, for each reason in the order in which the reasons were declared.
    pub fn publish(&self, totals: impl IntoIterator<Item = u64>) {
        for ((_, cell), total) in self.reasons.iter().zip(totals) {
            cell.store(total, Ordering::Relaxed);
        }
    }
}

/// Reads them at scrape time.
#[derive(Debug)]
pub struct DropCollector(pub Arc<DropCounters>);

impl Collector for DropCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let series = self
            .0
            .reasons
            .iter()
            .map(|(reason, cell)| (Labels(vec![("reason", reason)]), cell.load(Ordering::Relaxed)));
        counter(&mut encoder, self.0.name, series)
    }
}
