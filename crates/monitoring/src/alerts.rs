//! Every alert, with the reason for its threshold.

mod control;
mod nodes;
mod pipelines;
mod publishers;
mod viewers;

use crate::alert::Alert;

/// All of them. The place of an alert is that of its page in the runbook's dashboard.
#[must_use]
pub fn all() -> Vec<Alert> {
    [nodes::all(), pipelines::all(), publishers::all(), viewers::all(), control::all()].concat()
}
