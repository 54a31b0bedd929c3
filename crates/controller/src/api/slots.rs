//! Slots that trees grow by, and changes of them that wait for an operator.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use model::TreeId;
use registry::{Proposal, SlotsRecord};
use serde::{Deserialize, Serialize};

use super::{Api, Problem};
use crate::view::SlotView;

pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/api/v1/slots", get(slots))
        .route("/api/v1/approvals", get(approvals))
        .route("/api/v1/approvals/{tree}/{slot}", post(approve))
}

async fn slots(State(api): State<Api>) -> Json<Vec<SlotView>> {
    Json(api.controller.view().slots.clone())
}

/// A change that waits for an operator.
#[derive(Serialize)]
struct Approval {
    tree: String,
    slot: u32,
    #[serde(flatten)]
    proposal: Proposal,
}

async fn approvals(State(api): State<Api>) -> Json<Vec<Approval>> {
    let view = api.controller.view();
    let approval = |slot: &SlotView| {
        let proposal = slot.proposal.clone()?;
        Some(Approval { tree: slot.tree.clone(), slot: slot.number, proposal })
    };
    Json(view.slots.iter().filter_map(approval).collect())
}

/// What is allowed: named, so that nobody allows what has meanwhile become something else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approve {
    /// `grow` or `shrink`.
    change: String,
}

async fn approve(
    State(api): State<Api>,
    Path((tree, slot)): Path<(String, String)>,
    body: Result<Json<Approve>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let Json(Approve { change }) = body?;
    let id = TreeId::new(&tree).map_err(|_| Problem::not_found("tree", &tree))?;
    let number: u32 = slot.parse().map_err(|_| Problem::not_found("slot", &slot))?;
    let mut is_proposed = false;
    let allow = |found: Option<&SlotsRecord>| {
        let mut record = found.cloned()?;
        let slot = record.slots.iter_mut().find(|entry| entry.number == number)?;
        let proposal = slot.proposal.as_mut().filter(|proposal| proposal.change == change)?;
        is_proposed = true;
        proposal.is_approved = true;
        Some(record)
    };
    api.controller.registry().update(id.as_str(), allow).await?;
    if is_proposed {
        return Ok(StatusCode::ACCEPTED);
    }
    let detail = format!("Slot {number} of the tree {tree} does not wait for an approval to {change}.");
    Err(Problem::new(StatusCode::NOT_FOUND, "not found", detail))
}
