//! What each stage came to when it was last tried: `docs/compatibility.json`, of which the page is made. All of them take more than
//! an hour, so they need not be tried on one day.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::versions::Version;

/// What one stage came to. Lines are those of the page's tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its name.
    pub stage: String,
    /// Year, month and day.
    pub day: String,
    /// Cores and processor.
    pub place: String,
    /// How long it streamed, in seconds.
    pub seconds: u64,
    /// One for each viewer.
    pub streaming: Vec<String>,
    /// The same of cuts.
    pub cuts: Vec<String>,
    /// Of a link that gets narrow, what it says.
    pub narrowing: String,
    /// What was not as it should be.
    pub failures: Vec<String>,
    /// Its publisher is not on the machine.
    pub is_left_out: bool,
}

/// What is known of all of them.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trials {
    /// Programs that took part in the latest, and their versions.
    pub programs: Vec<(String, String)>,
    /// What the Firefox among them decodes.
    pub firefox: Vec<String>,
    /// In the order of the page.
    pub trials: Vec<Trial>,
}

impl Trials {
    /// Of trials of today.
    pub fn of_today(versions: &[Version], firefox: &[String], trials: Vec<Trial>) -> Self {
        let programs = versions.iter().map(|it| (it.program.to_owned(), it.version.clone())).collect();
        Self { programs, firefox: firefox.to_vec(), trials }
    }

    /// What was kept; nothing if there is no such file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        match std::fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("read {}", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
        }
    }

    /// Keeps them.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn save(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
    }

    /// Puts newer ones in the place of those of the same stages. What could not be tried does away with nothing. `order` has the
    /// names of all stages; those of others are forgotten.
    pub fn replace(&mut self, newer: Self, order: &[&str]) {
        let of = |trial: &Trial| order.iter().position(|name| *name == trial.stage);
        for trial in newer.trials {
            match self.trials.iter_mut().find(|before| before.stage == trial.stage) {
                Some(_) if trial.is_left_out => {}
                Some(before) => *before = trial,
                None => self.trials.push(trial),
            }
        }
        self.trials.retain(|trial| of(trial).is_some());
        self.trials.sort_by_key(of);
        (self.programs, self.firefox) = (newer.programs, newer.firefox);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(stage: &str, day: &str, is_left_out: bool) -> Trial {
        Trial { stage: stage.to_owned(), day: day.to_owned(), is_left_out, ..Trial::default() }
    }

    #[test]
    fn the_latest_trial_of_each_stage_counts() {
        let mut kept = Trials {
            trials: vec![trial("b", "1st", false), trial("c", "1st", false), trial("gone", "1st", false)],
            ..Trials::default()
        };
        let newer = vec![trial("c", "2nd", false), trial("a", "2nd", true), trial("b", "2nd", true)];
        kept.replace(
            Trials { firefox: vec!["VP8".to_owned()], trials: newer, ..Trials::default() },
            &["a", "b", "c"],
        );
        let seen: Vec<_> = kept.trials.iter().map(|it| (it.stage.as_str(), it.day.as_str())).collect();
        assert_eq!(seen, [("a", "2nd"), ("b", "1st"), ("c", "2nd")]);
        assert_eq!(kept.firefox, ["VP8"]);
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("kept.json");
        assert_eq!(Trials::load(&file).expect("nothing yet"), Trials::default());
        let kept = Trials { trials: vec![trial("a", "1st", false)], ..Trials::default() };
        kept.save(&file).expect("saved");
        assert_eq!(Trials::load(&file).expect("found"), kept);
        std::fs::write(&file, "[").expect("written");
        assert!(Trials::load(&file).is_err());
    }
}
