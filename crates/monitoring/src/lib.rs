//! What operators look at: Grafana's dashboards, Prometheus' alerts and the trials of those, as typed definitions, and
//! the files that are made of them (`cargo xtask monitoring`).
//!
//! This crate knows metrics by name only. That the names exist, that every panel and every alert has data on a running
//! tree, and that no metric is forgotten, is for the end-to-end test to see (`tests/tests/monitoring.rs`).
#![forbid(unsafe_code)]

mod alert;
mod alerts;
mod dashboard;
mod dashboards;
pub mod lint;
pub mod promql;
mod runbook;

pub use alert::Alert;
pub use alerts::all as alerts;

/// Stands at the top of files that allow comments.
const GENERATED: &str = "# Made by `cargo xtask monitoring` from crates/monitoring: change it there.\n";

/// A file that is made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it lies, from the root of the repository.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// All of them.
#[must_use]
pub fn files() -> Vec<File> {
    let alerts = alerts();
    let all = dashboards::all();
    let file = |path: &str, text: String| File { path: format!("deploy/monitoring/{path}"), text };
    let mut files: Vec<File> = all
        .iter()
        .map(|one| {
            file(&format!("grafana/dashboards/{}.json", one.uid), one.text(&dashboards::ANNOTATIONS, &all))
        })
        .collect();
    files.push(file(&format!("grafana/dashboards/{}.json", runbook::UID), runbook::dashboard(&alerts)));
    files.push(file("prometheus/alerts.yml", alert::rules(&alerts)));
    files.push(file("prometheus/alerts.test.yml", alert::trials(&alerts)));
    files
}

/// Metrics that no panel and no alert shows, with the reason: they are for whoever looks into one node.
pub const DEBUG: &[(&str, &str)] = &[
    ("media_tree_publish_connect_seconds", "publishers are few, and their joining is seen in `publishes`"),
    ("media_tree_handshakes_held", "memory that handshakes take, for whoever looks for a leak"),
    ("media_tree_ring_packets", "`ring_bytes` and `ring_age_seconds` say more"),
    ("media_tree_viewer_rtcp_packets_sent", "grows with viewers"),
    ("media_tree_viewer_rtcp_packets_received", "grows with viewers"),
    ("media_tree_publishers_waiting", "for seconds; what comes of it is shown"),
    ("media_tree_viewer_transport_feedback", "grows with viewers of layers"),
    (
        "media_tree_cues",
        "who sends captions sees them in the player; why some are missing is asked of one node",
    ),
    ("media_tree_cues_told", "grows with viewers and with `cues`"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn root() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/monitoring").to_path_buf()
    }

    #[test]
    fn the_files_are_what_is_defined_here() {
        for file in files() {
            let committed = std::fs::read_to_string(root().join(&file.path)).unwrap_or_default();
            assert!(committed == file.text, "{} is not up to date: run `cargo xtask monitoring`", file.path);
        }
    }

    #[test]
    fn nothing_lies_beside_them() {
        let made: BTreeSet<String> = files().into_iter().map(|file| file.path).collect();
        let folder = root().join("deploy/monitoring/grafana/dashboards");
        for entry in std::fs::read_dir(folder).expect("dashboards") {
            let name = entry.expect("a file").file_name().into_string().expect("a name");
            assert!(
                made.contains(&format!("deploy/monitoring/grafana/dashboards/{name}")),
                "{name} is made by nobody"
            );
        }
    }

    #[test]
    fn dashboards_keep_the_rules() {
        let mut uids = BTreeSet::new();
        for file in files().iter().filter(|file| file.path.ends_with(".json")) {
            let dashboard = serde_json::from_str(&file.text).expect("JSON");
            let findings = lint::dashboard(&dashboard);
            assert!(findings.is_empty(), "{}: {findings:#?}", file.path);
            assert!(uids.insert(dashboard["uid"].to_string()), "{}: the uid is another's", file.path);
        }
    }

    #[test]
    fn alerts_name_codes_that_the_broadcaster_doctor_has() {
        // Made from the doctor's own table.
        let page = include_str!("../../../docs/operating/broadcasters.md");
        let codes: Vec<String> = alerts()
            .iter()
            .filter_map(|alert| {
                let expression = alert.expression();
                let (_, rest) = expression.split_once("media_tree_publisher_advice{code=\"")?;
                Some(rest.split('"').next().unwrap_or_default().to_owned())
            })
            .collect();
        assert_eq!(codes.len(), 3, "{codes:?}");
        for code in codes {
            assert!(page.contains(&format!("\n## `{code}`\n")), "{code}");
        }
    }

    /// Every page for people: `docs` and what is below, and those beside it.
    fn pages() -> Vec<std::path::PathBuf> {
        let (mut folders, mut pages) = (vec![root().join("docs")], vec![root().join("README.md")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("a file").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "md") {
                    pages.push(path);
                }
            }
        }
        pages
    }

    #[test]
    fn pages_name_metrics_that_exist() {
        // Made from the registry.
        let reference = include_str!("../../../docs/operating/metrics.md");
        let known: BTreeSet<&str> =
            reference.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert!(known.contains("media_tree_viewers"), "{known:?}");
        let mut count = 0;
        for page in pages() {
            let text = std::fs::read_to_string(&page).expect("a page");
            let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            // Of several at once the beginning is named: `media_tree_slots_*`.
            for word in words.filter(|word| word.starts_with("media_tree_") && !word.ends_with('_')) {
                let parts = ["_bucket", "_sum", "_count"];
                let whole = parts.iter().find_map(|part| word.strip_suffix(*part)).unwrap_or(word);
                assert!(known.contains(word) || known.contains(whole), "{}: {word}", page.display());
                count += 1;
            }
        }
        assert!(count > 100, "{count} names were looked at");
    }

    #[test]
    fn every_alert_has_a_trial_a_page_of_the_runbook_and_a_dashboard() {
        let alerts = alerts();
        let names: BTreeSet<_> = alerts.iter().map(|alert| alert.name).collect();
        assert_eq!(names.len(), alerts.len(), "two alerts have one name");
        let uids: BTreeSet<_> = dashboards::all().iter().map(|one| one.uid).collect();
        for alert in &alerts {
            assert!(alert.has_trial(), "{} has no trial", alert.name);
            assert!(uids.contains(alert.dashboard()), "{}: no dashboard {}", alert.name, alert.dashboard());
            assert!(runbook::section(alert.name).is_some(), "{} has no section in the runbook", alert.name);
        }
        let sections: BTreeSet<_> = runbook::sections().collect();
        assert_eq!(sections, names, "sections of the runbook and alerts");
    }
}
