//! What dashboards and alerts ask Prometheus, read from what is shipped.

use anyhow::ensure;
use monitoring::promql;
use serde_json::Value;

use crate::prometheus::shipped;

/// Only a tree that grows moves these.
const OF_GROWTH: [&str; 1] = ["media_tree_provision_seconds_bucket"];

/// A query of a dashboard, or what an alert watches.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who asks.
    pub place: String,
    /// What is asked, with nothing left to choose.
    pub expression: String,
}

impl Question {
    /// Whether it has an answer only where a tree grows.
    #[must_use]
    pub fn is_of_growth(&self) -> bool {
        let names = promql::metrics(&self.expression);
        OF_GROWTH.iter().any(|name| names.contains(*name))
    }
}

/// Puts everything where Grafana puts what is chosen.
#[must_use]
pub fn chosen(expression: &str) -> String {
    [("$__rate_interval", "1m"), ("$__range", "5m"), ("$tree", ".*"), ("$node", ".*"), ("$broadcast", ".*")]
        .iter()
        .fold(expression.to_owned(), |text, (variable, value)| text.replace(variable, value))
}

/// The dashboards as they are shipped.
///
/// # Errors
/// If one cannot be read, or there are too few.
pub fn dashboards() -> anyhow::Result<Vec<Value>> {
    let mut dashboards = Vec::new();
    for entry in std::fs::read_dir(shipped("grafana/dashboards"))? {
        dashboards.push(serde_json::from_slice(&std::fs::read(entry?.path())?)?);
    }
    ensure!(dashboards.len() > 5, "{} dashboards", dashboards.len());
    Ok(dashboards)
}

/// A list in a JSON document; none where there is no such list.
#[must_use]
pub fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Everything that a dashboard asks.
#[must_use]
pub fn of_dashboard(dashboard: &Value) -> Vec<Question> {
    let name = dashboard["title"].as_str().unwrap_or_default();
    let question = |place: &Value, expression: &Value| Question {
        place: format!("{name}, {}", place.as_str().unwrap_or_default()),
        expression: chosen(expression.as_str().unwrap_or_default()),
    };
    let panels = list(dashboard, "/panels").iter().flat_map(|panel| {
        list(panel, "/targets").iter().map(|target| question(&panel["title"], &target["expr"]))
    });
    let annotations =
        list(dashboard, "/annotations/list").iter().map(|one| question(&one["name"], &one["expr"]));
    panels.chain(annotations).collect()
}

/// Everything that alerts compare.
#[must_use]
pub fn of_alerts() -> Vec<Question> {
    let alerts = monitoring::alerts();
    let of = |alert: &monitoring::Alert| {
        let measures = alert.measures().into_iter().map(ToOwned::to_owned).collect::<Vec<_>>();
        let place = alert.name;
        measures.into_iter().map(move |expression| Question { place: place.to_owned(), expression })
    };
    alerts.iter().flat_map(of).collect()
}
