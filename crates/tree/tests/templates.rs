//! What a template says is what a tree does.

mod support;

use model::Role;
use support::{World, node_id};
use tree::template::Limits;
use tree::topology::{Finding, decide};

/// A world whose template is the one of trees that nobody has made, with other limits.
fn with(mut world: World, change: impl FnOnce(&mut Limits)) -> World {
    world.template(|template| change(&mut template.limits));
    world.settle();
    world
}

fn egress(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("e{number:03}"))
}

#[test]
fn every_egress_has_as_many_parents_in_use_and_standing_by_as_the_template_says() {
    for (paths, standbys) in [(1, 0), (1, 2), (2, 0), (2, 1), (3, 2), (4, 4)] {
        let world = with(World::new(1, 12, 40), |limits| {
            (limits.paths, limits.standbys) = (paths, standbys);
        });
        for name in egress(40) {
            let assigned = world.0.nodes.iter().find(|node| node.id == node_id(&name));
            let assigned = assigned.and_then(|node| node.assigned.clone()).expect("an assignment");
            assert_eq!(assigned.paths, paths, "{name}");
            assert_eq!(assigned.parents.len(), usize::from(paths + standbys), "{name}: {assigned:?}");
            assert!(assigned.parents.iter().all(|parent| parent.as_str().starts_with('r')), "{assigned:?}");
        }
    }
}

#[test]
fn relays_come_between_from_as_many_egress_nodes_on_as_the_template_says() {
    let always = with(World::new(1, 3, 1), |limits| limits.direct_children_max = 0);
    assert!(always.parents("e000").iter().all(|parent| parent.starts_with('r')), "even for one egress");
    assert_eq!(always.depth("e000"), Some(2));
    let late = with(World::new(1, 3, 30), |limits| limits.direct_children_max = 40);
    assert!(egress(30).all(|name| late.parents(&name) == ["i000"]));
}

#[test]
fn there_are_no_more_relays_in_a_row_than_the_template_says() {
    let crowded = || {
        let mut world = World::new(1, 40, 200);
        world.each("i", |node| node.capacity.children_max = 4);
        world.each("r", |node| node.capacity.children_max = 24);
        world
    };
    let deepest = |world: &World| egress(200).filter_map(|name| world.depth(&name)).max();
    let deep = with(crowded(), |_| {});
    assert_eq!(deepest(&deep), Some(3), "relays stand below relays");
    let shallow = with(crowded(), |limits| limits.relay_levels_max = 1);
    assert_eq!(deepest(&shallow), Some(2));
    let used = (0..40).filter(|number| !shallow.parents(&format!("r{number:03}")).is_empty()).count();
    assert_eq!(used, 4, "as many as the injection node has places for");
    let unplaced = |finding: &Finding| matches!(finding, Finding::NoParent { .. });
    assert!(decide(&shallow.0).findings.iter().any(unplaced), "who has no place is told of");

    let flat = with(World::new(1, 3, 30), |limits| limits.relay_levels_max = 0);
    assert!(egress(30).all(|name| flat.parents(&name) == ["i000"]));
    assert!(flat.parents("r000").is_empty());
}

#[test]
fn a_relay_has_no_more_children_than_the_template_says() {
    let world = with(World::new(1, 10, 40), |limits| limits.relay_children_max = Some(8));
    let children = world.children();
    let most = (0..10).filter_map(|number| children.get(&node_id(&format!("r{number:03}")))).map(Vec::len);
    assert_eq!(most.max(), Some(8));
    assert!(egress(40).all(|name| !world.parents(&name).is_empty()));
    assert!(children[&node_id("i000")].len() >= 10, "others are not bounded by it");
}

#[test]
fn nodes_that_the_template_wants_and_nobody_has_started_are_told_of() {
    let mut world = World::new(1, 1, 2);
    world.add("a", Role::All, 1);
    world.template(|template| (template.injection, template.relay, template.egress) = (3, 2, 3));
    world.settle();
    let found: Vec<String> = decide(&world.0).findings.iter().map(ToString::to_string).collect();
    let wants = |there: &str| format!("tree main has {there} nodes that its template wants");
    assert_eq!(
        found,
        [wants("2 of the 3 injection"), wants("1 of the 2 relay")],
        "a node counts for each role"
    );
    world.kill("a000");
    world.kill("i000");
    let found = decide(&world.0).findings;
    assert!(found.contains(&Finding::NoInjection { tree: support::tree_id() }), "{found:?}");
    let missing = |role| move |finding: &Finding| matches!(finding, Finding::NodesMissing { role: of, .. } if *of == role);
    assert!(!found.iter().any(missing(Role::Injection)), "that is said once: {found:?}");
    assert!(found.iter().any(missing(Role::Egress)), "{found:?}");
}
