//! What a dashboard is made of, and the JSON that Grafana reads.

use serde_json::{Value, json};

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;
/// Rows of the grid that a panel is high.
const PANEL_ROWS: u32 = 8;
/// Version of Grafana's dashboard format: what Grafana 10 to 13 read and migrate by themselves.
pub const SCHEMA_VERSION: u32 = 39;
/// Every query asks the data source that the operator chose.
const DATASOURCE: &str = "${datasource}";

/// In a query: the chosen trees and nodes.
const NODE: (&str, &str) = ("<node>", r#"tree_id=~"$tree",node_id=~"$node""#);
/// In a query: the chosen trees, nodes and broadcasts.
const BROADCAST: (&str, &str) =
    ("<broadcast>", r#"tree_id=~"$tree",node_id=~"$node",broadcast=~"$broadcast""#);
/// In a query: the chosen trees.
const TREE: (&str, &str) = ("<tree>", r#"tree_id=~"$tree""#);

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Percent from 0 to 100.
    Percent,
    /// A part from 0 to 1, shown as percent.
    Share,
    /// Seconds, shown as ms or min where that reads better.
    Seconds,
    /// Bytes.
    Bytes,
    /// Bits a second.
    BitRate,
    /// Packets a second.
    PacketRate,
    /// Events a second.
    EventRate,
    /// A moment, in milliseconds since 1970.
    Moment,
}

impl Unit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "short",
            Self::Percent => "percent",
            Self::Share => "percentunit",
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::BitRate => "bps",
            Self::PacketRate => "pps",
            Self::EventRate => "ops",
            Self::Moment => "dateTimeFromNow",
        }
    }
}

/// How a panel looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Lines over time.
    Lines,
    /// The latest value, large.
    Number,
    /// The latest value of each series as a bar.
    Bars,
    /// A row for each series with its latest value.
    Table,
}

impl Look {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "timeseries",
            Self::Number => "stat",
            Self::Bars => "bargauge",
            Self::Table => "table",
        }
    }
}

/// One question to Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Query {
    expression: String,
    legend: &'static str,
}

/// One panel.
#[derive(Debug, Clone)]
pub struct Panel {
    title: &'static str,
    description: &'static str,
    look: Look,
    unit: Unit,
    columns: u32,
    queries: Vec<Query>,
    /// From where on a value is doubtful, and from where on it is bad.
    thresholds: Option<(f64, f64)>,
    /// The alert that watches the same thing.
    alert: Option<&'static str>,
    maximum: Option<f64>,
    /// Values below 0 mean something: the axis does not end there.
    is_signed: bool,
}

impl Panel {
    const fn new(
        look: Look,
        columns: u32,
        title: &'static str,
        unit: Unit,
        description: &'static str,
    ) -> Self {
        Self {
            title,
            description,
            look,
            unit,
            columns,
            queries: Vec::new(),
            thresholds: None,
            alert: None,
            maximum: None,
            is_signed: false,
        }
    }

    /// Lines over time, a third of the width.
    #[must_use]
    pub const fn lines(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(Look::Lines, 8, title, unit, description)
    }

    /// the latest value, a sixth of the width.
    #[must_use]
    pub const fn number(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(Look::Number, 4, title, unit, description)
    }

    /// A bar for each series, a third of the width.
    #[must_use]
    pub const fn bars(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(Look::Bars, 8, title, unit, description)
    }

    /// A row for each series, a third of the width.
    #[must_use]
    pub const fn table(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(Look::Table, 8, title, unit, description)
    }

    /// Asks this; `legend` names the series, with `{{label}}` for the value of a label. `<tree>`, `<node>` and
    /// `<broadcast>` stand for what is chosen at the top of the dashboard.
    #[must_use]
    pub fn asks(mut self, expression: &str, legend: &'static str) -> Self {
        let words = expression.split_whitespace().collect::<Vec<_>>().join(" ");
        let expression = [NODE, BROADCAST, TREE]
            .iter()
            .fold(words, |text, (placeholder, selector)| text.replace(placeholder, selector));
        self.queries.push(Query { expression, legend });
        self
    }

    /// From where on a value is doubtful (yellow), and from where on it is bad (red).
    #[must_use]
    pub const fn limits(mut self, doubtful: f64, bad: f64) -> Self {
        self.thresholds = Some((doubtful, bad));
        self
    }

    /// The largest value that there can be.
    #[must_use]
    pub const fn maximum(mut self, value: f64) -> Self {
        self.maximum = Some(value);
        self
    }

    /// Values below 0 mean something, and are drawn.
    #[must_use]
    pub const fn signed(mut self) -> Self {
        self.is_signed = true;
        self
    }

    /// The alert that watches the same thing: its page of the runbook is linked.
    #[must_use]
    pub const fn alert(mut self, name: &'static str) -> Self {
        self.alert = Some(name);
        self
    }

    fn json(&self, id: u32, (x, y): (u32, u32)) -> Value {
        let steps = match self.thresholds {
            None => json!([{"color": "blue", "value": null}]),
            // Falling limits mean that little is bad.
            Some((doubtful, bad)) if doubtful > bad => json!([
                {"color": "red", "value": null}, {"color": "yellow", "value": bad}, {"color": "green", "value": doubtful}
            ]),
            Some((doubtful, bad)) => json!([
                {"color": "green", "value": null}, {"color": "yellow", "value": doubtful}, {"color": "red", "value": bad}
            ]),
        };
        let is_judged = self.thresholds.is_some();
        let color = if is_judged && self.look != Look::Lines { "thresholds" } else { "palette-classic" };
        let mut defaults = json!({
            "unit": self.unit.as_str(),
            "color": {"mode": color},
            "thresholds": {"mode": "absolute", "steps": steps},
            "custom": match self.look {
                Look::Lines => json!({
                    "drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": false,
                    "thresholdsStyle": {"mode": if is_judged { "line" } else { "off" }},
                }),
                Look::Number | Look::Bars | Look::Table => json!({}),
            },
        });
        if self.look != Look::Table && self.unit != Unit::Moment && !self.is_signed {
            defaults["min"] = json!(0);
        }
        if let Some(maximum) = self.maximum {
            defaults["max"] = json!(maximum);
        }
        let links = self.alert.map(|alert| {
            json!({"title": format!("What to do: {alert}"), "url": crate::runbook::path_of(alert), "targetBlank": true})
        });
        let mut panel = json!({
            "id": id,
            "type": self.look.as_str(),
            "title": self.title,
            "description": self.description,
            "datasource": datasource(),
            "gridPos": {"x": x, "y": y, "w": self.columns, "h": self.rows()},
            "targets": self.queries.iter().enumerate().map(|(index, query)| self.target(index, query)).collect::<Vec<_>>(),
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "links": links.into_iter().collect::<Vec<_>>(),
            "options": self.options(),
        });
        if self.look == Look::Table {
            panel["transformations"] =
                json!([{"id": "organize", "options": {"excludeByName": {"Time": true}}}]);
        }
        panel
    }

    const fn rows(&self) -> u32 {
        match self.look {
            Look::Number => PANEL_ROWS / 2,
            Look::Lines | Look::Bars | Look::Table => PANEL_ROWS,
        }
    }

    fn target(&self, index: usize, query: &Query) -> Value {
        let is_latest = self.look != Look::Lines;
        json!({
            "refId": char::from(b'A' + index as u8).to_string(),
            "datasource": datasource(),
            "expr": query.expression,
            "legendFormat": query.legend,
            "instant": is_latest,
            "range": !is_latest,
            "format": if self.look == Look::Table { "table" } else { "time_series" },
        })
    }

    fn options(&self) -> Value {
        let reduced = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
        match self.look {
            Look::Lines => json!({
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            Look::Number => json!({
                "reduceOptions": reduced, "colorMode": "value", "graphMode": "none", "textMode": "auto",
                "justifyMode": "auto", "orientation": "auto",
            }),
            Look::Bars => {
                json!({"reduceOptions": reduced, "displayMode": "basic", "orientation": "horizontal"})
            }
            Look::Table => json!({"showHeader": true, "cellHeight": "sm"}),
        }
    }
}

/// Panels under one heading.
#[derive(Debug, Clone)]
pub struct Section {
    title: &'static str,
    panels: Vec<Panel>,
}

/// What has happened, drawn over every panel.
#[derive(Debug, Clone, Copy)]
pub struct Annotation {
    /// What it shows.
    pub name: &'static str,
    /// Non-zero when it happened.
    pub expression: &'static str,
    /// What is said, with `{{label}}`.
    pub text: &'static str,
    /// A colour that Grafana knows.
    pub color: &'static str,
}

/// One dashboard.
#[derive(Debug, Clone)]
pub struct Dashboard {
    /// Its name in URLs, and the name of its file.
    pub uid: &'static str,
    title: &'static str,
    description: &'static str,
    sections: Vec<Section>,
}

impl Dashboard {
    /// An empty one.
    #[must_use]
    pub const fn new(uid: &'static str, title: &'static str, description: &'static str) -> Self {
        Self { uid, title, description, sections: Vec::new() }
    }

    /// Adds panels under a heading, from left to right, top to bottom.
    #[must_use]
    pub fn section(mut self, title: &'static str, panels: impl Into<Vec<Panel>>) -> Self {
        self.sections.push(Section { title, panels: panels.into() });
        self
    }

    /// The text of its file.
    #[must_use]
    pub fn text(&self, annotations: &[Annotation], others: &[Self]) -> String {
        let links = others.iter().filter(|other| other.uid != self.uid).map(|other| {
            json!({
                "title": other.title, "url": format!("/d/{}", other.uid), "type": "link", "icon": "dashboard",
                "includeVars": true, "keepTime": true, "targetBlank": false, "asDropdown": false, "tags": [],
                "tooltip": other.description,
            })
        });
        let value = json!({
            "uid": self.uid,
            "title": format!("Media-Tree: {}", self.title),
            "description": self.description,
            "tags": ["media-tree"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": false,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "links": links.collect::<Vec<_>>(),
            "templating": {"list": variables()},
            "annotations": {"list": annotations.iter().map(Annotation::json).collect::<Vec<_>>()},
            "panels": self.placed(),
        });
        let mut text = serde_json::to_string_pretty(&value).expect("a tree of JSON values is JSON");
        text.push('\n');
        text
    }

    /// The panels with their places: a heading over each section, then rows as full as they get.
    fn placed(&self) -> Vec<Value> {
        let mut placed = Vec::new();
        let mut y = 0;
        for section in &self.sections {
            let id = placed.len() as u32 + 1;
            placed.push(json!({
                "id": id, "type": "row", "title": section.title, "collapsed": false, "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }));
            y += 1;
            let (mut x, mut height) = (0, 0);
            for panel in &section.panels {
                if x + panel.columns > COLUMNS {
                    (x, y, height) = (0, y + height, 0);
                }
                placed.push(panel.json(placed.len() as u32 + 1, (x, y)));
                x += panel.columns;
                height = height.max(panel.rows());
            }
            y += height;
        }
        placed
    }
}

impl Annotation {
    fn json(&self) -> Value {
        json!({
            "name": self.name, "enable": true, "hide": false, "iconColor": self.color, "datasource": datasource(),
            "expr": self.expression.replace(TREE.0, TREE.1), "step": "10s", "titleFormat": self.name,
            "textFormat": self.text, "useValueForTime": false,
        })
    }
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": DATASOURCE})
}

/// What can be chosen at the top: the data source, trees, nodes and broadcasts.
fn variables() -> Value {
    let chosen = |name: &str, label: &str, query: &str| {
        json!({
            "name": name, "label": label, "type": "query", "datasource": datasource(), "query": query,
            "definition": query, "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
            "current": {"text": "All", "value": "$__all"}, "hide": 0,
        })
    };
    json!([
        {
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0,
            "refresh": 1, "multi": false, "includeAll": false,
        },
        chosen("tree", "Tree", "label_values(node_cpu_usage_percent, tree_id)"),
        chosen("node", "Node", r#"label_values(node_cpu_usage_percent{tree_id=~"$tree"}, node_id)"#),
        chosen("broadcast", "Broadcast", r#"label_values(pipeline_up{tree_id=~"$tree"}, broadcast)"#),
    ])
}
