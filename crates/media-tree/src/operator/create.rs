//! `tree create`: what a new tree is to be, from a template and from what differs.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use model::TreeId;
use serde_json::{Value, json};

use super::http::CallError;

/// A tree that is to be made. Whether it can be is for the controller to say.
#[derive(Args)]
pub struct NewTree {
    /// Its name.
    pub name: TreeId,
    /// Its shape [default: standard].
    #[arg(long, value_enum, conflicts_with = "template_file")]
    template: Option<TemplateName>,
    /// Its shape, by a file (TOML) of your own.
    #[arg(long, value_name = "FILE")]
    template_file: Option<PathBuf>,
    /// Injection nodes wanted, if not as many as in the template.
    #[arg(long, value_name = "N")]
    injection: Option<u32>,
    /// Relay nodes wanted.
    #[arg(long, value_name = "N")]
    relay: Option<u32>,
    /// Egress nodes wanted.
    #[arg(long, value_name = "N")]
    egress: Option<u32>,
    /// The most nodes that it may have.
    #[arg(long, value_name = "N")]
    nodes_max: Option<u32>,
    /// Egress nodes of each sub-tree that it grows by, and that a relay is meant for.
    #[arg(long, value_name = "N")]
    sub_tree_egress: Option<u32>,
    /// Relays that run in reserve.
    #[arg(long, value_name = "N")]
    warm_slots: Option<u32>,
    /// Slots beyond those that are made and not started.
    #[arg(long, value_name = "N")]
    cold_slots: Option<u32>,
    /// From how many parents each broadcast is taken at once, 1 to 4.
    #[arg(long, value_name = "N")]
    paths: Option<u32>,
    /// Parents beyond those, connected and silent.
    #[arg(long, value_name = "N")]
    standbys: Option<u32>,
    /// The most egress nodes that take media from injection nodes without a relay between; 0: always relays.
    #[arg(long, value_name = "N")]
    direct_children_max: Option<u32>,
    /// The most relays in a row, 0 to 4; 0: none at all.
    #[arg(long, value_name = "N")]
    relay_levels_max: Option<u32>,
    /// The most children of a relay, if not as many as it takes by itself.
    #[arg(long, value_name = "N")]
    relay_children_max: Option<u32>,
}

/// Templates of the program.
#[derive(Clone, Copy, ValueEnum)]
enum TemplateName {
    Minimal,
    Standard,
}

impl NewTree {
    /// As the API wants it.
    ///
    /// # Errors
    /// If the file of the template cannot be read.
    pub fn body(&self) -> Result<Value, CallError> {
        let template = match (&self.template_file, self.template) {
            (Some(file), _) => of_file(file)?,
            (None, Some(TemplateName::Minimal)) => "minimal".into(),
            (None, Some(TemplateName::Standard) | None) => "standard".into(),
        };
        let mut body = json!({ "id": self.name.as_str(), "template": template });
        let differs = [
            ("injection", self.injection),
            ("relay", self.relay),
            ("egress", self.egress),
            ("nodes_max", self.nodes_max),
            ("sub_tree_egress", self.sub_tree_egress),
            ("warm_slots", self.warm_slots),
            ("cold_slots", self.cold_slots),
            ("paths", self.paths),
            ("standbys", self.standbys),
            ("direct_children_max", self.direct_children_max),
            ("relay_levels_max", self.relay_levels_max),
            ("relay_children_max", self.relay_children_max),
        ];
        for (key, value) in differs {
            if let Some(value) = value {
                body[key] = value.into();
            }
        }
        Ok(body)
    }
}

fn of_file(file: &Path) -> Result<Value, CallError> {
    let because =
        |reason: String| CallError::TemplateFile { file: file.into(), reason: reason.trim_end().into() };
    let text = std::fs::read_to_string(file).map_err(|error| because(error.to_string()))?;
    // One line: where it is and what is wrong.
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = text.bytes().take(error.span().map_or(0, |span| span.start));
        let line = 1 + before.filter(|byte| *byte == b'\n').count();
        because(format!("line {line}: {}", error.message()))
    })?;
    serde_json::to_value(table).map_err(|error| because(error.to_string()))
}
