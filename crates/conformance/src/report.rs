//! What a run has seen, in words, as JSON and as a table.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::line::{Group, Level, Line};
use crate::lines::LINES;
use crate::side::Protocol;

/// How a line came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "seen", rename_all = "lowercase")]
pub enum Outcome {
    /// Kept; what was seen.
    Passed(String),
    /// Broken; what was seen.
    Failed(String),
    /// It could not be seen, or does not apply; why.
    Skipped(String),
}

impl Outcome {
    /// Its word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Passed(_) => "passed",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
        }
    }

    /// What was seen, or why it was not.
    #[must_use]
    pub fn seen(&self) -> &str {
        match self {
            Self::Passed(seen) | Self::Failed(seen) | Self::Skipped(seen) => seen,
        }
    }

    /// One outcome of both sides: broken on one side is broken, kept on one side and not seen on the other is kept.
    pub(crate) fn of(sides: &BTreeMap<Protocol, Self>) -> Self {
        let pick = |is_it: fn(&Self) -> bool| {
            let picked: Vec<(&Protocol, &Self)> =
                sides.iter().filter(|(_, outcome)| is_it(outcome)).collect();
            let seen: Vec<&str> = picked.iter().map(|(_, outcome)| outcome.seen()).collect();
            if seen.windows(2).all(|pair| pair[0] == pair[1]) && seen.len() == sides.len() {
                return seen.first().copied().unwrap_or_default().to_owned();
            }
            let told = picked.iter().map(|(protocol, outcome)| format!("{protocol}: {}", outcome.seen()));
            told.collect::<Vec<_>>().join("; ")
        };
        if sides.values().any(|outcome| matches!(outcome, Self::Failed(_))) {
            Self::Failed(pick(|outcome| matches!(outcome, Self::Failed(_))))
        } else if sides.values().any(|outcome| matches!(outcome, Self::Passed(_))) {
            Self::Passed(pick(|outcome| matches!(outcome, Self::Passed(_))))
        } else {
            Self::Skipped(pick(|outcome| matches!(outcome, Self::Skipped(_))))
        }
    }
}

/// One line and how it came out.
#[derive(Debug, Clone, Serialize)]
pub struct LineReport {
    /// Its name, such as `W01`.
    pub id: &'static str,
    /// What it is about.
    pub group: Group,
    /// How much weight it has.
    pub level: Level,
    /// Where it comes from.
    pub source: &'static str,
    /// What a server does that keeps it.
    pub requires: &'static str,
    /// Both sides together.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Each side that was asked.
    pub sides: BTreeMap<Protocol, Outcome>,
}

impl LineReport {
    pub(crate) fn new(line: &Line, sides: BTreeMap<Protocol, Outcome>) -> Self {
        let Line { id, group, level, source, requires, .. } = *line;
        Self { id, group, level, source, requires, outcome: Outcome::of(&sides), sides }
    }
}

/// How many lines came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Kept.
    pub passed: usize,
    /// Broken.
    pub failed: usize,
    /// Of the broken ones, those that a server must keep.
    pub musts_failed: usize,
    /// Not seen.
    pub skipped: usize,
}

/// What a run has seen.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The WHIP endpoint that was asked.
    pub whip: Option<String>,
    /// The WHEP endpoint that was asked.
    pub whep: Option<String>,
    /// What is to be known of the run.
    pub notes: Vec<String>,
    /// Every line that was asked, in order.
    pub lines: Vec<LineReport>,
}

impl Report {
    /// The line of this name.
    #[must_use]
    pub fn line(&self, id: &str) -> Option<&LineReport> {
        self.lines.iter().find(|line| line.id == id)
    }

    /// How many lines came out how.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for line in &self.lines {
            match line.outcome {
                Outcome::Passed(_) => totals.passed += 1,
                Outcome::Failed(_) => {
                    totals.failed += 1;
                    totals.musts_failed += usize::from(line.level == Level::Must);
                }
                Outcome::Skipped(_) => totals.skipped += 1,
            }
        }
        totals
    }

    /// A Markdown table of every line and its state.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text =
            String::from("| Line | | A server that keeps it | Source | State |\n|---|---|---|---|---|\n");
        for line in &self.lines {
            let state = match &line.outcome {
                Outcome::Passed(_) => "passed".to_owned(),
                Outcome::Failed(seen) => format!("**failed**: {}", cell(seen)),
                Outcome::Skipped(seen) => format!("skipped: {}", cell(seen)),
            };
            text += &format!(
                "| {} | {} | {} | {} | {state} |\n",
                line.id,
                line.level,
                cell(line.requires),
                cell(line.source)
            );
        }
        text
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ").replace('<', "&lt;")
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, url) in [("WHIP", &self.whip), ("WHEP", &self.whep)] {
            if let Some(url) = url {
                writeln!(formatter, "{name}: {url}")?;
            }
        }
        for note in &self.notes {
            writeln!(formatter, "Note: {note}.")?;
        }
        let mut group = None;
        for line in &self.lines {
            if group != Some(line.group) {
                writeln!(formatter, "\n{}", line.group)?;
                group = Some(line.group);
            }
            let word = match &line.outcome {
                Outcome::Passed(_) => "passed ",
                Outcome::Failed(_) => "FAILED ",
                Outcome::Skipped(_) => "skipped",
            };
            writeln!(formatter, "  {} {word} {:<6} {}", line.id, line.level.to_string(), line.requires)?;
            match &line.outcome {
                Outcome::Passed(_) => {}
                Outcome::Failed(seen) => {
                    writeln!(formatter, "                     seen: {seen}")?;
                    writeln!(formatter, "                     from: {}", line.source)?;
                }
                Outcome::Skipped(why) => writeln!(formatter, "                     since: {why}")?,
            }
        }
        let Totals { passed, failed, musts_failed, skipped } = self.totals();
        writeln!(
            formatter,
            "\n{passed} of {} lines passed, {failed} failed ({musts_failed} of them musts), {skipped} skipped",
            self.lines.len()
        )
    }
}

/// Every line that exists, unless some are named; an unknown name is given back.
pub(crate) fn selected(only: &[String]) -> Result<Vec<&'static Line>, String> {
    let is_known = |id: &&String| !LINES.iter().any(|line| line.id.eq_ignore_ascii_case(id));
    if let Some(unknown) = only.iter().find(is_known) {
        return Err(unknown.clone());
    }
    let is_wanted = |line: &&Line| only.is_empty() || only.iter().any(|id| line.id.eq_ignore_ascii_case(id));
    Ok(LINES.iter().filter(is_wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(whip: Outcome, whep: Outcome) -> Outcome {
        Outcome::of(&BTreeMap::from([(Protocol::Whip, whip), (Protocol::Whep, whep)]))
    }

    #[test]
    fn a_line_broken_on_one_side_is_broken() {
        let (passed, skipped) = (Outcome::Passed("yes".into()), Outcome::Skipped("no".into()));
        let failed = Outcome::Failed("405".into());
        assert_eq!(both(passed.clone(), failed), Outcome::Failed("WHEP: 405".into()));
        assert_eq!(both(passed.clone(), skipped.clone()), Outcome::Passed("WHIP: yes".into()));
        assert_eq!(both(passed.clone(), passed), Outcome::Passed("yes".into()));
        assert_eq!(both(skipped.clone(), skipped), Outcome::Skipped("no".into()));
    }

    #[test]
    fn lines_are_chosen_by_name() {
        assert_eq!(selected(&[]).map(|lines| lines.len()), Ok(LINES.len()));
        let chosen = selected(&["w11".into(), "E03".into()]).expect("known");
        assert_eq!(chosen.iter().map(|line| line.id).collect::<Vec<_>>(), ["W11", "E03"]);
        assert_eq!(selected(&["W99".into()]).map(|lines| lines.len()), Err("W99".into()));
    }
}
