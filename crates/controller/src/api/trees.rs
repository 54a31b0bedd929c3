//! Trees: made from a template, looked at, deleted.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use model::TreeId;
use registry::{RegistryError, SlotsRecord, TreeRecord};
use serde::Deserialize;
use serde_json::{Map, Value};
use store::{Expect, Write};
use tree::template::Template;

use super::{Api, Problem, unprocessable};
use crate::run::tree_record;
use crate::view::TreeView;

/// Templates that the program has.
const TEMPLATES: [&str; 2] = ["minimal", "standard"];
/// The one that counts where none is named.
const USUAL: &str = "standard";

pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/api/v1/trees", get(trees).post(create_tree))
        .route("/api/v1/trees/{tree}", get(tree).delete(delete_tree))
}

async fn trees(State(api): State<Api>) -> Json<Vec<TreeView>> {
    Json(api.controller.view().trees.clone())
}

async fn tree(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<TreeView>, Problem> {
    let view = api.controller.view();
    let found = view.trees.iter().find(|tree| tree.id == id).cloned();
    found.map(Json).ok_or_else(|| Problem::not_found("tree", &id))
}

/// What differs from a template.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Changes {
    injection: Option<u32>,
    relay: Option<u32>,
    egress: Option<u32>,
    nodes_max: Option<u32>,
    sub_tree_egress: Option<u32>,
    warm_slots: Option<u32>,
    cold_slots: Option<u32>,
    paths: Option<u8>,
    standbys: Option<u8>,
    direct_children_max: Option<u32>,
    relay_levels_max: Option<u8>,
    relay_children_max: Option<u32>,
}

impl Changes {
    fn of(fields: Map<String, Value>, whose: &str) -> Result<Self, Problem> {
        serde_json::from_value(fields.into()).map_err(|error| unprocessable(format!("{whose}: {error}.")))
    }

    fn apply(&self, template: &mut Template) {
        fn set<T: Copy>(wanted: Option<T>, field: &mut T) {
            *field = wanted.unwrap_or(*field);
        }
        set(self.injection, &mut template.injection);
        set(self.relay, &mut template.relay);
        set(self.egress, &mut template.egress);
        set(self.sub_tree_egress, &mut template.egress_per_relay);
        set(self.warm_slots, &mut template.slots_warm);
        set(self.cold_slots, &mut template.slots_cold);
        let limits = &mut template.limits;
        set(self.nodes_max, &mut limits.max_nodes);
        set(self.paths, &mut limits.paths);
        set(self.standbys, &mut limits.standbys);
        set(self.direct_children_max, &mut limits.direct_children_max);
        set(self.relay_levels_max, &mut limits.relay_levels_max);
        limits.relay_children_max = self.relay_children_max.or(limits.relay_children_max);
    }
}

/// The text of a field that is taken out, or `usual` where there is none.
fn text(fields: &mut Map<String, Value>, key: &str, usual: Option<&str>) -> Result<String, Problem> {
    match (fields.remove(key), usual) {
        (Some(Value::String(text)), _) => Ok(text),
        (None, Some(usual)) => Ok(usual.to_owned()),
        (Some(_) | None, _) => Err(unprocessable(format!("\"{key}\" is a text that is needed."))),
    }
}

fn named(name: &str) -> Result<Template, Problem> {
    Template::by_name(name).ok_or_else(|| {
        let there = TEMPLATES.join(" and ");
        unprocessable(format!("There is no template {name}: {there} are. One of your own is given whole."))
    })
}

/// A template by its name, or one of the operator's own: with a name, and what differs from the one it is based on.
fn template(wanted: Option<Value>) -> Result<(String, Template), Problem> {
    match wanted {
        None => Ok((USUAL.into(), named(USUAL)?)),
        Some(Value::String(name)) => named(&name).map(|template| (name, template)),
        Some(Value::Object(mut own)) => {
            let name = text(&mut own, "name", None)?;
            if TEMPLATES.contains(&&*name) {
                let detail = format!("{name} is a template of the program: give your own another name.");
                return Err(unprocessable(detail));
            }
            // Of the same grammar as all names.
            TreeId::new(&name)
                .map_err(|error| unprocessable(format!("The template's name {name:?}: {error}.")))?;
            let mut template = named(&text(&mut own, "based_on", Some(USUAL))?)?;
            Changes::of(own, &format!("The template {name}"))?.apply(&mut template);
            Ok((name, template))
        }
        Some(_) => Err(unprocessable("\"template\" is a name, or a template of your own.".into())),
    }
}

async fn create_tree(
    State(api): State<Api>,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(mut new) = body?;
    let id = text(&mut new, "id", None)?;
    let id = TreeId::new(&id).map_err(|error| unprocessable(format!("{id}: {error}.")))?;
    let (name, mut template) = template(new.remove("template"))?;
    Changes::of(new, "The tree")?.apply(&mut template);
    template.check().map_err(|error| unprocessable(format!("{error}.")))?;
    let record = tree_record(id, &name, &template);
    match api.controller.registry().put(&record, Write::if_absent().durable()).await {
        // Unconfirmed: a failover in this very moment may lose it, and whoever looks sees whether it did.
        Ok(_) | Err(RegistryError::Put(store::PutError::Unconfirmed { .. })) => {
            let location = [(header::LOCATION, format!("/api/v1/trees/{}", record.tree))];
            Ok((StatusCode::CREATED, location, Json(TreeView::empty(&record))).into_response())
        }
        Err(error) if error.is_conflict() => {
            let detail = format!("There is a tree named {} already.", record.tree);
            Err(Problem::new(StatusCode::CONFLICT, "exists", detail))
        }
        Err(error) => Err(error.into()),
    }
}

async fn delete_tree(State(api): State<Api>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let view = api.controller.view();
    let nodes = view.trees.iter().find(|tree| tree.id == id).map_or(0, |tree| tree.nodes);
    if nodes > 0 {
        let detail = format!("{nodes} nodes belong to the tree {id}: stop them first.");
        return Err(Problem::new(StatusCode::CONFLICT, "in use", detail));
    }
    let declared = api.controller.declared().list();
    if let Some((broadcast, _)) = declared.iter().find(|(_, declared)| declared.tree.as_str() == id) {
        let detail = format!("The broadcast {broadcast} was made for the tree {id}: delete it first.");
        return Err(Problem::new(StatusCode::CONFLICT, "in use", detail));
    }
    let is_deleted = api.controller.registry().delete::<TreeRecord>(&id, Expect::Any).await?;
    // Its slots are empty: their nodes would be nodes of the tree.
    api.controller.registry().delete::<SlotsRecord>(&id, Expect::Any).await?;
    if is_deleted { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("tree", &id)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(wanted: Value) -> Result<(String, Template), String> {
        template(Some(wanted)).map_err(|problem| problem.detail)
    }

    #[test]
    fn a_template_of_ones_own_differs_from_the_one_it_is_based_on_in_what_it_says() {
        let (name, gala) = made(json!({
            "name": "gala", "based_on": "minimal", "egress": 4, "paths": 3, "standbys": 2, "direct_children_max": 0,
            "relay_levels_max": 1, "relay_children_max": 24
        }))
        .expect("a template");
        let mut expected = Template { egress: 4, ..Template::minimal() };
        (expected.limits.paths, expected.limits.standbys) = (3, 2);
        (expected.limits.direct_children_max, expected.limits.relay_levels_max) = (0, 1);
        expected.limits.relay_children_max = Some(24);
        assert_eq!((name.as_str(), gala), ("gala", expected));
        assert_eq!(made(json!("standard")), Ok(("standard".into(), Template::standard())));
        assert_eq!(made(json!({"name": "gala"})), Ok(("gala".into(), Template::standard())));
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said() {
        for (wanted, words) in [
            (json!("huge"), "There is no template huge"),
            (json!(7), "a name, or a template of your own"),
            (json!({"paths": 1}), "\"name\" is a text that is needed"),
            (json!({"name": "minimal"}), "give your own another name"),
            (json!({"name": "No Name"}), "The template's name \"No Name\""),
            (json!({"name": "gala", "based_on": "huge"}), "There is no template huge"),
            (json!({"name": "gala", "path": 1}), "The template gala: unknown field `path`, expected one of"),
            (json!({"name": "gala", "paths": "two"}), "The template gala: invalid type"),
            (json!({"name": "gala", "egress": -1}), "The template gala: invalid value"),
        ] {
            let told = made(wanted.clone()).expect_err("refused");
            assert!(told.contains(words), "{wanted}: {told}");
        }
    }
}
