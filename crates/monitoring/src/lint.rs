//! Rules that every dashboard keeps, read from its JSON: what was committed is what is looked at.

use std::collections::BTreeSet;

use serde_json::Value;

/// What must be chosen at the top of a dashboard that asks Prometheus.
const VARIABLES: [&str; 4] = ["datasource", "tree", "node", "broadcast"];

/// What is not as it should be, in words.
#[must_use]
pub fn dashboard(dashboard: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    for key in ["uid", "title", "description"] {
        if text(dashboard, key).is_empty() {
            findings.push(format!("the dashboard has no {key}"));
        }
    }
    let panels = list(&dashboard["panels"]);
    let asks = panels.iter().any(|panel| !list(&panel["targets"]).is_empty());
    if asks {
        let variables: Vec<_> =
            list(&dashboard["templating"]["list"]).iter().map(|it| text(it, "name")).collect();
        for name in VARIABLES.iter().filter(|name| !variables.contains(name)) {
            findings.push(format!("there is no variable {name}"));
        }
        if list(&dashboard["annotations"]["list"]).is_empty() {
            findings.push("nothing that happens is drawn over the panels".into());
        }
    }
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for (index, panel) in panels.iter().enumerate() {
        let title = text(panel, "title");
        if !ids.insert(panel["id"].as_u64()) {
            findings.push(format!("{title}: the id is another panel's"));
        }
        for other in panels[..index].iter().filter(|other| overlap(panel, other)) {
            findings.push(format!("{title}: lies over {}", text(other, "title")));
        }
        if text(panel, "type") != "row" {
            judge(panel, title, &mut findings);
            let section =
                panels[..index].iter().rfind(|it| text(it, "type") == "row").map(|it| text(it, "title"));
            if !titles.insert((section, title)) {
                findings.push(format!("{title}: the section has another panel of this title"));
            }
        }
    }
    findings
}

fn judge(panel: &Value, title: &str, findings: &mut Vec<String>) {
    let mut find = |what: &str| findings.push(format!("{title}: {what}"));
    if title.is_empty() {
        find("no title");
    }
    if text(panel, "description").is_empty() {
        find("no description");
    }
    if text(panel, "type") == "text" {
        return;
    }
    if text(&panel["fieldConfig"]["defaults"], "unit").is_empty() {
        find("no unit");
    }
    if list(&panel["fieldConfig"]["defaults"]["thresholds"]["steps"]).is_empty() {
        find("no thresholds");
    }
    let targets = list(&panel["targets"]);
    if targets.is_empty() {
        find("asks nothing");
    }
    let mut references = BTreeSet::new();
    for place in std::iter::once(panel).chain(targets) {
        if text(&place["datasource"], "uid") != "${datasource}" {
            find("the data source is not the variable");
        }
    }
    for target in targets {
        if !references.insert(text(target, "refId")) {
            find("two queries have one name");
        }
        let expression = text(target, "expr");
        for (at, function) in ["rate(", "increase("].iter().flat_map(|word| expression.match_indices(word)) {
            let window =
                expression[at..].split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(it, _)| it);
            if !matches!(window, Some("$__rate_interval" | "$__range")) {
                find(&format!("{function} of something else than [$__rate_interval]"));
            }
        }
        if expression.contains('<') && expression.contains(">{") {
            find("a placeholder is left");
        }
    }
}

fn overlap(one: &Value, other: &Value) -> bool {
    let place = |panel: &Value| ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap_or(0));
    let ([x1, y1, w1, h1], [x2, y2, w2, h2]) = (place(one), place(other));
    x1 < x2 + w2 && x2 < x1 + w1 && y1 < y2 + h2 && y2 < y1 + h1
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        let source = json!({"type": "prometheus", "uid": "${datasource}"});
        let panel = |id: u32, x: u32, title: &str| {
            json!({
                "id": id, "type": "timeseries", "title": title, "description": "d", "datasource": source,
                "gridPos": {"x": x, "y": 0, "w": 8, "h": 8},
                "fieldConfig": {"defaults": {"unit": "s", "thresholds": {"steps": [{"color": "blue", "value": null}]}}},
                "targets": [{"refId": "A", "datasource": source, "expr": "sum(rate(a[$__rate_interval]))"}],
            })
        };
        json!({
            "uid": "u", "title": "t", "description": "d",
            "templating": {"list": VARIABLES.map(|name| json!({"name": name}))},
            "annotations": {"list": [{"name": "a"}]},
            "panels": [panel(1, 0, "one"), panel(2, 8, "two")],
        })
    }

    /// A finding of the good dashboard after `change`.
    fn finding(change: impl FnOnce(&mut Value)) -> String {
        let mut value = good();
        change(&mut value);
        let findings = dashboard(&value);
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings[0].clone()
    }

    #[test]
    fn a_good_dashboard_passes() {
        assert_eq!(dashboard(&good()), Vec::<String>::new());
    }

    #[test]
    fn what_breaks_a_rule_is_found() {
        assert!(finding(|it| it["panels"][1]["id"] = json!(1)).contains("id"));
        assert!(finding(|it| it["panels"][1]["gridPos"]["x"] = json!(7)).contains("lies over one"));
        assert!(finding(|it| it["panels"][0]["description"] = json!("")).contains("description"));
        assert!(
            finding(|it| it["panels"][0]["fieldConfig"]["defaults"]["unit"] = json!(null)).contains("unit")
        );
        assert!(finding(|it| it["panels"][0]["datasource"]["uid"] = json!("prom-1")).contains("data source"));
        assert!(
            finding(|it| it["panels"][0]["targets"][0]["expr"] = json!("rate(a[5m])"))
                .contains("rate_interval")
        );
        assert!(finding(|it| it["panels"][0]["targets"] = json!([])).contains("asks nothing"));
        assert!(finding(|it| it["panels"][1]["title"] = json!("one")).contains("of this title"));
        assert!(
            finding(|it| it["templating"]["list"] =
                json!([{"name": "datasource"}, {"name": "tree"}, {"name": "node"}]))
            .contains("broadcast")
        );
        assert!(finding(|it| it["annotations"]["list"] = json!([])).contains("happens"));
    }
}
