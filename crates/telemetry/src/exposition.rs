//! The text in which metrics are handed out: OpenMetrics, or the older one of Prometheus, as the scraper wishes.

use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
}

impl Exposition {
    /// What an `Accept` header asks for: OpenMetrics where it is named and nothing is liked better.
    #[must_use]
    pub fn accepted(header: Option<&str>) -> Self {
        let (mut open_metrics, mut plain) = (0.0_f32, 0.0_f32);
        for range in header.unwrap_or("*/*").split(',') {
            let mut parts = range.split(';').map(str::trim);
            let quality = |part: &str| part.strip_prefix("q=")?.trim().parse::<f32>().ok();
            let (media_type, parameters) = (parts.next().unwrap_or_default(), parts);
            let weight = parameters.filter_map(quality).next().unwrap_or(1.0);
            match media_type.to_ascii_lowercase().as_str() {
                "application/openmetrics-text" => open_metrics = open_metrics.max(weight),
                "text/plain" | "text/*" => plain = plain.max(weight),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Everything in the registry, in this format, every sample with the labels of its node. `capacity` is how many bytes that
/// will be, as far as is known.
pub(crate) fn written(registry: &Registry, labels: &str, exposition: Exposition, capacity: usize) -> String {
    let mut writer = Writer {
        text: String::with_capacity(capacity),
        labels,
        exposition,
        place: Place::Beginning,
        comment: String::new(),
        help: String::new(),
    };
    encode(&mut writer, registry).expect("writing to a string does not fail");
    writer.text
}

/// Takes what the encoder writes, piece by piece, and makes the text that is wanted of it at once: a full node has megabytes
/// of it. The labels of the node are written here since the encoder would escape them for each sample.
///
/// Prometheus describes counters and infos under the names of their samples, calls an info a gauge, and has no mark at the
/// end.
struct Writer<'a> {
    text: String,
    labels: &'a str,
    exposition: Exposition,
    place: Place,
    /// The comment up to here.
    comment: String,
    /// Name and help of the metric whose type comes next.
    help: String,
}

/// Where in a line the next piece belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Beginning,
    Comment,
    Name,
    /// Behind the brace.
    Labels,
    Rest,
}

impl fmt::Write for Writer<'_> {
    #[inline]
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if piece.is_empty() {
            return Ok(());
        }
        match self.place {
            Place::Rest => {
                self.text.push_str(piece);
                if piece.ends_with('\n') {
                    self.place = Place::Beginning;
                }
            }
            Place::Name => self.name(piece),
            Place::Labels => {
                // A name has neither a brace nor a space, so the node's labels come first, if there are others.
                if !self.labels.is_empty() && !piece.starts_with('}') {
                    self.text.push(',');
                }
                self.text.push_str(piece);
                self.place = Place::Rest;
            }
            Place::Beginning if !piece.starts_with('#') => {
                self.place = Place::Name;
                self.name(piece);
            }
            Place::Beginning | Place::Comment => {
                self.place = Place::Comment;
                self.comment.push_str(piece);
                if piece.ends_with('\n') {
                    self.place = Place::Beginning;
                    self.comment_ends();
                }
            }
        }
        Ok(())
    }
}

impl Writer<'_> {
    /// A part of the name, or what follows it: `{` or the space before the value.
    #[inline]
    fn name(&mut self, piece: &str) {
        if piece == "{" {
            self.text.push('{');
            self.text.push_str(self.labels);
            self.place = Place::Labels;
            return;
        }
        if piece.starts_with(' ') {
            if !self.labels.is_empty() {
                push(&mut self.text, &["{", self.labels, "}"]);
            }
            self.place = Place::Rest;
        }
        self.text.push_str(piece);
    }

    fn comment_ends(&mut self) {
        let comment = std::mem::take(&mut self.comment);
        if self.exposition == Exposition::OpenMetrics {
            self.text.push_str(&comment);
            return;
        }
        let line = comment.trim_end_matches('\n');
        if let Some(described) = line.strip_prefix("# HELP ") {
            described.clone_into(&mut self.help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            let help = std::mem::take(&mut self.help);
            if let Some((_, help)) = help.split_once(' ').filter(|(of, _)| *of == name) {
                push(&mut self.text, &["# HELP ", name, suffix, " ", help, "\n"]);
            }
            push(&mut self.text, &["# TYPE ", name, suffix, " ", kind, "\n"]);
        }
    }
}

fn push(text: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| text.push_str(part));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::Unit;

    use super::*;

    #[test]
    fn a_scraper_gets_what_it_likes_best() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (header, expected) in [
            (Some(prometheus), Exposition::OpenMetrics),
            (Some("Application/OpenMetrics-Text"), Exposition::OpenMetrics),
            (Some("text/plain;q=0.9, application/openmetrics-text;q=0.1"), Exposition::Prometheus),
            (Some("application/openmetrics-text;q=0"), Exposition::Prometheus),
            (Some("text/plain;version=0.0.4"), Exposition::Prometheus),
            (Some("*/*"), Exposition::Prometheus),
            (Some(";;q=,"), Exposition::Prometheus),
            (None, Exposition::Prometheus),
        ] {
            assert_eq!(Exposition::accepted(header), expected, "{header:?}");
        }
    }

    /// The encoder's text, made into what is wanted line by line.
    fn line_by_line(encoded: &str, labels: &str, exposition: Exposition) -> String {
        let (mut text, mut help) = (String::new(), None);
        for line in encoded.lines() {
            let described = line.strip_prefix("# HELP ").and_then(|it| it.split_once(' '));
            let kind = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' '));
            match (exposition, described, kind) {
                _ if !line.starts_with('#') => {
                    let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a sample"));
                    text += &match rest.strip_prefix('{') {
                        Some(rest) if rest.starts_with('}') => format!("{name}{{{labels}{rest}\n"),
                        Some(rest) => format!("{name}{{{labels},{rest}\n"),
                        None => format!("{name}{{{labels}}}{rest}\n"),
                    };
                }
                (Exposition::OpenMetrics, ..) => text += &format!("{line}\n"),
                (Exposition::Prometheus, Some((_, words)), _) => help = Some(words),
                (Exposition::Prometheus, None, Some((name, kind))) => {
                    let (suffix, kind) = match kind {
                        "counter" => ("_total", "counter"),
                        "info" => ("_info", "gauge"),
                        kind => ("", kind),
                    };
                    let help = help.take().expect("help");
                    text += &format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
                }
                (Exposition::Prometheus, None, None) => {}
            }
        }
        text
    }

    /// One of each kind, with labels that are hard to read.
    fn registry() -> Registry {
        type Labelled = Vec<(&'static str, &'static str)>;
        let mut registry = Registry::with_prefix("own");
        let counters = Family::<Labelled, Counter>::default();
        for labels in [vec![("x", "# HELP \"{ }\" \\")], vec![("x", "{"), ("y", "} 1\n")], vec![]] {
            counters.get_or_create(&labels).inc_by(7);
        }
        registry.register("counted", "Of a kind, with {braces} and # marks", counters);
        registry.register("plain", "Without labels", Counter::<u64>::default());
        let gauge: Gauge<f64, AtomicU64> = Gauge::default();
        gauge.set(-0.5);
        registry.register_with_unit("taken", "Times", Unit::Seconds, gauge);
        registry.register("made", "What it is", Info::new(vec![("version", "1 {x}")]));
        let histogram = Histogram::new([0.1, 1.0]);
        histogram.observe(0.5);
        registry.register("long", "How long", histogram);
        registry
    }

    #[test]
    fn what_is_written_at_once_is_what_the_encoder_writes_made_over_line_by_line() {
        let registry = registry();
        let mut encoded = String::new();
        encode(&mut encoded, &registry).expect("text");
        assert!(encoded.lines().count() > 15, "{encoded}");
        assert_eq!(written(&registry, "", Exposition::OpenMetrics, 0), encoded);
        for exposition in [Exposition::OpenMetrics, Exposition::Prometheus] {
            let labels = r#"n="1",m="{ }""#;
            assert_eq!(
                written(&registry, labels, exposition, 0),
                line_by_line(&encoded, labels, exposition),
                "{exposition:?}"
            );
        }
    }

    #[test]
    fn the_older_format_describes_samples_under_their_own_names() {
        let text = written(&registry(), r#"n="1""#, Exposition::Prometheus, 0);
        for part in [
            "# HELP own_plain_total Without labels.\n# TYPE own_plain_total counter\nown_plain_total{n=\"1\"} 0\n",
            "# HELP own_made_info What it is.\n# TYPE own_made_info gauge\nown_made_info{n=\"1\",version=\"1 {x}\"} 1\n",
            "# TYPE own_taken_seconds gauge\nown_taken_seconds{n=\"1\"} -0.5\n",
            "# TYPE own_long histogram\nown_long_sum{n=\"1\"} 0.5\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    }
}
