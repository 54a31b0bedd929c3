//! What an alert is made of, the rules that Prometheus reads, and the trials that `promtool test rules` plays.

use std::fmt::Write as _;

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Viewers suffer, or will at the next thing that fails: somebody acts now.
    Critical,
    /// Somebody looks today.
    Warning,
}

impl Severity {
    /// The value of the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// How a value is told to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// As a number.
    Number,
    /// Percent that is percent already.
    Percent,
    /// A part of one, as percent.
    Share,
    /// Seconds, as a duration.
    Duration,
}

impl Shown {
    const fn template(self) -> &'static str {
        match self {
            Self::Number => r#"{{ printf "%.0f" $value }}"#,
            Self::Percent => r#"{{ printf "%.0f" $value }} %"#,
            Self::Share => "{{ $value | humanizePercentage }}",
            Self::Duration => "{{ $value | humanizeDuration }}",
        }
    }
}

/// What a series does in a trial.
#[derive(Debug, Clone, Copy)]
enum Course {
    /// These values while all is well, and in trouble.
    Gauge(f64, f64),
    /// So much more at each step.
    Counter(f64, f64),
    /// This value while all is well, no sample in trouble.
    Gone(f64),
}

/// One series of a trial.
#[derive(Debug, Clone)]
pub struct Series {
    name: String,
    course: Course,
}

/// A gauge with these values while all is well, and in trouble.
#[must_use]
pub fn gauge(name: impl Into<String>, well: f64, trouble: f64) -> Series {
    Series { name: name.into(), course: Course::Gauge(well, trouble) }
}

/// A counter that grows by so much every ten seconds while all is well, and in trouble.
#[must_use]
pub fn counter(name: impl Into<String>, well: f64, trouble: f64) -> Series {
    Series { name: name.into(), course: Course::Counter(well, trouble) }
}

/// A gauge that is not there in trouble.
#[must_use]
pub fn gone(name: impl Into<String>, well: f64) -> Series {
    Series { name: name.into(), course: Course::Gone(well) }
}

/// Time between two samples and between two looks at the rules, in seconds.
const STEP: i32 = 10;
/// Samples of each phase: well for 5 minutes, trouble for 10, well again for 15.
const WELL: i32 = 30;
const TROUBLE: i32 = 60;
const AFTER: i32 = 90;

impl Series {
    fn values(&self) -> String {
        let run = |start: f64, step: f64, count: i32| format!("{start}{step:+}x{}", count - 1);
        match self.course {
            Course::Gauge(well, trouble) => {
                format!("{} {} {}", run(well, 0.0, WELL), run(trouble, 0.0, TROUBLE), run(well, 0.0, AFTER))
            }
            Course::Counter(well, trouble) => {
                let begin = well * f64::from(WELL - 1) + trouble;
                let end = begin + trouble * f64::from(TROUBLE - 1) + well;
                format!("{} {} {}", run(0.0, well, WELL), run(begin, trouble, TROUBLE), run(end, well, AFTER))
            }
            Course::Gone(well) => {
                format!("{} stale _x{} {}", run(well, 0.0, WELL), TROUBLE - 1, run(well, 0.0, AFTER))
            }
        }
    }
}

/// What `promtool test rules` plays: all is well for five minutes, then there is trouble for ten, then all is well.
#[derive(Debug, Clone)]
pub struct Trial {
    series: Vec<Series>,
    /// After so many seconds of trouble it does not fire yet; below 0: before it.
    silent: i32,
    /// After so many seconds of trouble it fires.
    fires: i32,
    /// So many seconds after the trouble it fires no more.
    resolved: i32,
}

/// One alert.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Its name, and that of its section in the runbook.
    pub name: &'static str,
    /// How urgent it is.
    pub severity: Severity,
    /// What is watched.
    measure: String,
    /// When it is too much, or too little: an operator and a number.
    condition: &'static str,
    /// What stands for a part of it that has no series on a healthy installation; empty: each stands for itself.
    stand_in: &'static str,
    /// It is watched only where this has a series; empty: always.
    only_while: String,
    /// How long it must be so.
    lasting: Option<&'static str>,
    summary: &'static str,
    description: &'static str,
    shown: Shown,
    /// Dashboard that shows it.
    dashboard: &'static str,
    /// What its trial is.
    trial: Option<Trial>,
}

impl Alert {
    /// An alert of this name that fires when `measure` meets `condition`.
    #[must_use]
    pub fn new(name: &'static str, severity: Severity, measure: &str, condition: &'static str) -> Self {
        Self {
            name,
            severity,
            measure: one_line(measure),
            condition,
            stand_in: "",
            only_while: String::new(),
            lasting: None,
            summary: "",
            description: "",
            shown: Shown::Number,
            dashboard: "",
            trial: None,
        }
    }

    /// Watches only where this has a series too; begins with how the two are matched.
    #[must_use]
    pub fn only_while(mut self, expression: &str) -> Self {
        self.only_while = one_line(expression);
        self
    }

    /// What is watched, or looked at beside it, and begins with this has a series in trouble only; this has one before.
    #[must_use]
    pub const fn measured_by(mut self, whole: &'static str) -> Self {
        self.stand_in = whole;
        self
    }

    /// Fires only when it has been so for this time.
    #[must_use]
    pub const fn lasting(mut self, time: &'static str) -> Self {
        self.lasting = Some(time);
        self
    }

    /// What people read: one line, and what it means; how the value is told.
    #[must_use]
    pub const fn says(mut self, summary: &'static str, description: &'static str, shown: Shown) -> Self {
        self.summary = summary;
        self.description = description;
        self.shown = shown;
        self
    }

    /// The dashboard that shows it.
    #[must_use]
    pub const fn seen_on(mut self, dashboard: &'static str) -> Self {
        self.dashboard = dashboard;
        self
    }

    /// Its trial: silent, firing after so many seconds of trouble, resolved so many seconds after it.
    #[must_use]
    pub fn trial(mut self, series: impl Into<Vec<Series>>, [silent, fires, resolved]: [i32; 3]) -> Self {
        self.trial = Some(Trial { series: series.into(), silent, fires, resolved });
        self
    }

    /// The dashboard that shows it.
    #[must_use]
    pub const fn dashboard(&self) -> &'static str {
        self.dashboard
    }

    /// Expressions that have a series on every healthy installation that is in use; the alert compares them.
    #[must_use]
    pub fn measures(&self) -> Vec<&str> {
        let words = self.only_while.strip_prefix("and on ").unwrap_or(&self.only_while);
        let watched = words.split_once(") ").map_or(words, |(_, expression)| expression);
        let compared = watched.rsplit_once(" > ").or_else(|| watched.rsplit_once(" == "));
        let watched = compared.map_or(watched, |(measure, _)| measure);
        let stands_in = |it: &str| !self.stand_in.is_empty() && it.starts_with(self.stand_in);
        let measures = [self.measure.as_str(), watched].into_iter().filter(|it| !it.is_empty());
        measures.map(|it| if stands_in(it) { self.stand_in } else { it }).collect()
    }

    /// The whole expression.
    #[must_use]
    pub fn expression(&self) -> String {
        let mut expression = format!("{} {}", self.measure, self.condition);
        if !self.only_while.is_empty() {
            let _ = write!(expression, " {}", self.only_while);
        }
        expression
    }

    fn rule(&self, panel: u32) -> String {
        let mut text =
            format!("      - alert: {}\n        expr: {}\n", self.name, quoted(&self.expression()));
        if let Some(time) = self.lasting {
            let _ = writeln!(text, "        for: {time}");
        }
        let place = "var-tree={{ $labels.tree_id }}&var-node={{ or $labels.node_id \"$__all\" }}\
                     &var-broadcast={{ or $labels.broadcast \"$__all\" }}";
        let dashboard = format!("{{{{ $externalLabels.grafana }}}}/d/{}?{place}", self.dashboard);
        let runbook = format!("{{{{ $externalLabels.grafana }}}}{}", crate::runbook::path(panel));
        let _ = write!(
            text,
            "        labels:\n          severity: {}\n        annotations:\n          summary: {}\n          description: {}\n\
             \x20         value: {}\n          dashboard_url: {}\n          runbook_url: {}\n",
            self.severity.as_str(),
            quoted(self.summary),
            quoted(self.description),
            quoted(self.shown.template()),
            quoted(&dashboard),
            quoted(&runbook),
        );
        text
    }

    fn trial_text(&self) -> String {
        let Some(trial) = &self.trial else { return String::new() };
        let mut text = format!("  - name: {}\n    interval: {STEP}s\n    input_series:\n", self.name);
        for series in &trial.series {
            let _ = writeln!(
                text,
                "      - series: {}\n        values: {}",
                quoted(&series.name),
                quoted(&series.values())
            );
        }
        text.push_str("    promql_expr_test:\n");
        let (begin, end) = (WELL * STEP, (WELL + TROUBLE) * STEP);
        let looks =
            [(begin + trial.silent, false), (begin + trial.fires, true), (end + trial.resolved, false)];
        for (at, fires) in looks {
            let _ = write!(
                text,
                "      - expr: max(ALERTS{{alertname=\"{}\",alertstate=\"firing\"}})\n        eval_time: {at}s\n",
                self.name
            );
            text.push_str(if fires {
                "        exp_samples:\n          - labels: \"{}\"\n            value: 1\n"
            } else {
                "        exp_samples: []\n"
            });
        }
        text
    }

    /// Whether it has a trial.
    #[must_use]
    pub const fn has_trial(&self) -> bool {
        self.trial.is_some()
    }
}

/// The file of rules.
#[must_use]
pub fn rules(alerts: &[Alert]) -> String {
    let mut text = format!("{}groups:\n  - name: media-tree\n    rules:\n", crate::GENERATED);
    for (index, alert) in alerts.iter().enumerate() {
        text.push_str(&alert.rule(crate::runbook::panel_of(index)));
    }
    text
}

/// The file that `promtool test rules` plays.
#[must_use]
pub fn trials(alerts: &[Alert]) -> String {
    let mut text = format!(
        "{}# Each alert: all is well for 5 minutes, then trouble for 10, then all is well.\n\
         rule_files:\n  - alerts.yml\nevaluation_interval: {STEP}s\ntests:\n",
        crate::GENERATED
    );
    for alert in alerts {
        text.push_str(&alert.trial_text());
    }
    text
}

/// A JSON string is a double-quoted scalar of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
