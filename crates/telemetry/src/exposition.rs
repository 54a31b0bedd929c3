//! The text in which metrics are handed out: OpenMetrics, or the older one of Prometheus, as the scraper wishes.

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

/// Finishes what the registry has encoded: gives every sample the labels of its node, written once for all of them since
/// the encoder would escape them for each, and turns the text into the format that is wanted.
///
/// Prometheus describes counters and infos under the names of their samples, calls an info a gauge, and has no mark at the
/// end.
pub(crate) fn finish(encoded: &str, labels: &str, exposition: Exposition) -> String {
    let samples = encoded.len() / 60;
    let mut text = String::with_capacity(encoded.len() + samples * (labels.len() + 3));
    let mut help = None;
    for line in encoded.lines() {
        if !line.starts_with('#') {
            sample(&mut text, line, labels);
        } else if exposition == Exposition::OpenMetrics {
            push(&mut text, &[line]);
        } else if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                push(&mut text, &["# HELP ", name, suffix, " ", help]);
            }
            push(&mut text, &["# TYPE ", name, suffix, " ", kind]);
        }
    }
    text
}

/// `name{its="labels"} 1` or `name 1`: a name has neither a brace nor a space.
fn sample(text: &mut String, line: &str, labels: &str) {
    let Some(end) = line.bytes().position(|byte| byte == b'{' || byte == b' ') else { return };
    let (name, rest) = line.split_at(end);
    match rest.strip_prefix('{') {
        Some(rest) if labels.is_empty() || rest.starts_with('}') => push(text, &[name, "{", labels, rest]),
        Some(rest) => push(text, &[name, "{", labels, ",", rest]),
        None if labels.is_empty() => push(text, &[line]),
        None => push(text, &[name, "{", labels, "}", rest]),
    }
}

fn push(text: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| text.push_str(part));
    text.push('\n');
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn what_the_older_format_says_otherwise_is_changed_and_the_samples_are_not() {
        let open_metrics = "# HELP a Of a kind\n# TYPE a counter\n# UNIT a seconds\na_total{x=\"# HELP\"} 1\n\
                            # HELP b What it is\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                            # HELP c_seconds Times\n# TYPE c_seconds histogram\nc_seconds_sum 0.5\n# EOF\n";
        let expected = "# HELP a_total Of a kind\n# TYPE a_total counter\na_total{x=\"# HELP\"} 1\n\
                        # HELP b_info What it is\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
                        # HELP c_seconds Times\n# TYPE c_seconds histogram\nc_seconds_sum 0.5\n";
        assert_eq!(finish(open_metrics, "", Exposition::Prometheus), expected);
        assert_eq!(finish(open_metrics, "", Exposition::OpenMetrics), open_metrics);
    }

    #[test]
    fn every_sample_gets_the_labels_of_its_node_and_nothing_else_does() {
        let encoded = "# HELP a With {braces}\na_total 1\nb{x=\"{ }\"} 2\nc{} 3\n# EOF\n";
        let expected =
            "# HELP a With {braces}\na_total{n=\"1\"} 1\nb{n=\"1\",x=\"{ }\"} 2\nc{n=\"1\"} 3\n# EOF\n";
        assert_eq!(finish(encoded, "n=\"1\"", Exposition::OpenMetrics), expected);
    }
}
