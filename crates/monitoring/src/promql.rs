//! As much of PromQL as is needed to know which metrics an expression names.

use std::collections::BTreeSet;

/// A list of labels follows these.
const LABELLED: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Other words that are no metrics, where no bracket follows them: an aggregation may have its labels first.
const WORDS: [&str; 19] = [
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "inf",
    "nan",
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "quantile",
    "count_values",
];

/// The metrics that `expression` names.
#[must_use]
pub fn metrics(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = expression;
    // After `by` and its like a list of labels follows.
    let mut expects_labels = false;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '{' | '[' => closing(rest),
            '"' | '\'' | '`' => string(rest),
            '(' if expects_labels => closing(rest),
            first if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            first => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if is_word(first) {
            let lower = token.to_ascii_lowercase();
            let is_function = after.trim_start().starts_with('(');
            let is_number = first.is_ascii_digit() || first == '.';
            expects_labels = LABELLED.contains(&lower.as_str());
            let is_word = expects_labels || WORDS.contains(&lower.as_str());
            if !is_function && !is_number && !is_word {
                names.insert(token.to_owned());
            }
        } else if !first.is_whitespace() {
            expects_labels = false;
        }
        rest = after;
    }
    names
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.')
}

/// Length up to the bracket that closes the first one, strings in between skipped.
fn closing(text: &str) -> usize {
    let close = match text.as_bytes()[0] {
        b'{' => '}',
        b'[' => ']',
        _ => ')',
    };
    let mut at = 1;
    while let Some(next) = text[at..].chars().next() {
        if next == '"' || next == '\'' {
            at += string(&text[at..]);
            continue;
        }
        at += next.len_utf8();
        if next == close {
            break;
        }
    }
    at
}

/// Length of the string at the beginning.
fn string(text: &str) -> usize {
    let quote = text.chars().next().unwrap_or_default();
    let mut is_escaped = false;
    for (at, next) in text.char_indices().skip(1) {
        match next {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if next == quote => return at + next.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The series of a histogram or a counter belong to one metric: the name without what its series add.
#[must_use]
pub fn family(series: &str) -> &str {
    ["_bucket", "_sum", "_count", "_total", "_info"]
        .iter()
        .find_map(|suffix| series.strip_suffix(suffix))
        .unwrap_or(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(expression: &str) -> Vec<String> {
        metrics(expression).into_iter().collect()
    }

    #[test]
    fn metrics_are_told_from_functions_labels_and_words() {
        let expression = r#"sum by (tree_id, le) (rate(a_bucket{le="0.5",b=~"c(d)"}[$__rate_interval])) / on (x) group_left (y) (e offset 5m) > bool 0.1"#;
        assert_eq!(named(expression), ["a_bucket", "e"]);
        assert_eq!(named("(count(up) or vector(0)) < 1 and on () count(b) > 1e3"), ["b", "up"]);
        assert_eq!(named(r#"a{b="}\"c"} - time() unless d"#), ["a", "d"]);
        assert_eq!(named("sum(a) without (b) * 14 * 86400"), ["a"]);
        assert_eq!(named("label_values(a{b=~\"$c\"}, d)"), ["a", "d"]);
    }

    #[test]
    fn series_of_one_metric_have_one_family() {
        assert_eq!(family("a_seconds_bucket"), "a_seconds");
        assert_eq!(family("a_total"), "a");
        assert_eq!(family("a"), "a");
    }
}
