//! The runbook: one page for people, `docs/operating/runbook.md`, and the same page as a dashboard, so that a link to it
//! leads somewhere wherever Grafana runs.

use serde_json::json;

use crate::alert::Alert;

/// Uid of the dashboard.
pub const UID: &str = "media-tree-runbook";

/// The page. A section for each alert: `### Name`.
const PAGE: &str = include_str!("../../../docs/operating/runbook.md");
const HEADING: &str = "\n### ";

#[cfg(test)]
/// Names of the sections, in their order.
pub fn sections() -> impl Iterator<Item = &'static str> {
    PAGE.split(HEADING).skip(1).map(|section| section.lines().next().unwrap_or_default())
}

/// What to do about an alert.
pub fn section(name: &str) -> Option<&'static str> {
    let (_, rest) = PAGE.split_once(&format!("{HEADING}{name}\n"))?;
    let end = ["\n### ", "\n## "].iter().filter_map(|heading| rest.find(heading)).min();
    Some(rest[..end.unwrap_or(rest.len())].trim())
}

/// The panel of the alert at this place of the list.
pub const fn panel_of(index: usize) -> u32 {
    index as u32 + 1
}

/// The panel, as a path of Grafana.
pub fn path(panel: u32) -> String {
    format!("/d/{UID}?viewPanel={panel}")
}

/// What to do about an alert, as a path of Grafana.
pub fn path_of(alert: &str) -> String {
    let index = crate::alerts().iter().position(|one| one.name == alert);
    path(panel_of(index.expect("a panel links to an alert that exists")))
}

/// The text of its file.
pub fn dashboard(alerts: &[Alert]) -> String {
    const ROWS: u32 = 9;
    let panels = alerts.iter().enumerate().map(|(index, alert)| {
        json!({
            "id": panel_of(index),
            "type": "text",
            "title": format!("{} ({})", alert.name, alert.severity.as_str()),
            "description": format!("What to do when {} fires.", alert.name),
            "gridPos": {"x": index as u32 % 2 * 12, "y": index as u32 / 2 * ROWS, "w": 12, "h": ROWS},
            "options": {"mode": "markdown", "content": section(alert.name).unwrap_or_default()},
            "links": [{"title": "Dashboard", "url": format!("/d/{}", alert.dashboard()), "targetBlank": true}],
        })
    });
    let value = json!({
        "uid": UID,
        "title": "Media-Tree: Runbook",
        "description": "What each alert means and what to do about it.",
        "tags": ["media-tree"],
        "schemaVersion": crate::dashboard::SCHEMA_VERSION,
        "editable": false,
        "links": [],
        "templating": {"list": []},
        "annotations": {"list": []},
        "panels": panels.collect::<Vec<_>>(),
    });
    let mut text = serde_json::to_string_pretty(&value).expect("a tree of JSON values is JSON");
    text.push('\n');
    text
}
