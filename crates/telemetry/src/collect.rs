//! Writing series whose values are read at scrape time.

use std::fmt::{Error, Write as _};

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::MetricType;

use crate::labels::write_label;

/// Labels of one series, as they are written.
#[derive(Debug, Clone)]
pub struct Labels<'a>(pub Vec<(&'static str, &'a str)>);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        self.0.iter().try_for_each(|(name, value)| write_label(encoder, name, value))
    }
}

impl LabelSet for Labels<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Labels as they stand in the text: for what has many series, which are told apart in the same way.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a>(pub &'a str);

impl Written<'_> {
    /// Writes them. Their values are ids and words of closed sets, in which nothing needs an escape.
    pub fn text(labels: &[(&str, &str)]) -> String {
        let pairs = labels.iter().map(|(name, value)| format!("{name}=\"{value}\""));
        pairs.collect::<Vec<_>>().join(",")
    }
}

impl EncodeLabelSet for Written<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        encoder.encode_label().encode_label_key()?.write_str(self.0)
    }
}

impl LabelSet for Written<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What tells one series from another.
pub trait LabelSet: EncodeLabelSet {
    /// There is one series only.
    fn is_empty(&self) -> bool;
}

/// The name and help of a metric, without prefix and suffix.
#[derive(Debug, Clone, Copy)]
pub struct Name(pub &'static str, pub &'static str);

/// Writes a counter with all its series.
pub fn counter<L: LabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    Name(name, help): Name,
    series: impl IntoIterator<Item = (L, u64)>,
) -> Result<(), Error> {
    let mut series = series.into_iter().peekable();
    if series.peek().is_none() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        if labels.is_empty() {
            metric.encode_counter::<Labels<'_>, _, f64>(&value, None)?;
        } else {
            metric.encode_family(&labels)?.encode_counter::<Labels<'_>, _, f64>(&value, None)?;
        }
    }
    Ok(())
}

/// Writes a gauge with all its series.
pub fn gauge<L: LabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    Name(name, help): Name,
    series: impl IntoIterator<Item = (L, f64)>,
) -> Result<(), Error> {
    let mut series = series.into_iter().peekable();
    if series.peek().is_none() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        if labels.is_empty() {
            metric.encode_gauge(&value)?;
        } else {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

/// A histogram that is counted elsewhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    /// Upper bounds, ascending and the last one infinite, and how many values are at most as large but larger than the
    /// bound before.
    pub buckets: Vec<(f64, u64)>,
    /// All values added up.
    pub sum: f64,
}

impl Distribution {
    /// From bounds and the counts of the buckets below them; one more count is of what is above all of them.
    #[must_use]
    pub fn new(
        bounds: impl IntoIterator<Item = f64>,
        counts: impl IntoIterator<Item = u64>,
        sum: f64,
    ) -> Self {
        Self { buckets: bounds.into_iter().chain([f64::INFINITY]).zip(counts).collect(), sum }
    }
}

/// Writes a histogram with all its series.
pub fn histogram<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    Name(name, help): Name,
    series: impl IntoIterator<Item = (Labels<'a>, Distribution)>,
) -> Result<(), Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, Distribution { buckets, sum }) in series {
        let count = buckets.iter().map(|(_, count)| count).sum();
        if labels.0.is_empty() {
            metric.encode_histogram::<Labels<'_>>(sum, count, &buckets, None)?;
        } else {
            metric.encode_family(&labels)?.encode_histogram::<Labels<'_>>(sum, count, &buckets, None)?;
        }
    }
    Ok(())
}

/// No labels of its own.
pub const fn plain<T>(value: T) -> [(Labels<'static>, T); 1] {
    [(Labels(Vec::new()), value)]
}
