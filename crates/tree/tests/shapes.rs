//! The shape of a tree follows from its nodes.

mod support;

use model::{Bitrate, Role};
use support::{World, node_id};
use tree::topology::{Action, Cause, Finding, Reason, decide};
use tree::{Health, Observation};

#[test]
fn a_small_event_needs_no_relay() {
    let mut world = World::new(1, 3, 5);
    world.settle();
    for number in 0..5 {
        assert_eq!(world.parents(&format!("e00{number}")), ["i000"]);
    }
    assert!(world.parents("r000").is_empty());
}

#[test]
fn a_large_event_has_two_relays_on_two_hosts_and_one_standing_by_for_each_egress() {
    let mut world = World::new(1, 6, 40);
    world.settle();
    for number in 0..40 {
        let name = format!("e{number:03}");
        assert_eq!(world.parents(&name).len(), 3, "{name}");
        assert_eq!(world.hosts_of_parents(&name).len(), 2, "{name}");
        assert_eq!(world.depth(&name), Some(2), "{name}");
    }
    // 40 egress with 3 places each, 48 of them on a relay: three relays, the others stay in reserve.
    let used = (0..6).filter(|number| !world.parents(&format!("r00{number}")).is_empty()).count();
    assert_eq!(used, 3);
}

#[test]
fn where_a_source_carries_few_children_relays_take_them_and_nobody_is_without_meanwhile() {
    let mut world = World::new(1, 4, 10);
    world.settle();
    assert_eq!(world.children()[&node_id("i000")].len(), 10, "all of them directly");
    // Five children at 2.5 Mbit/s each.
    world.get("i000").capacity.egress_max = Some(Bitrate::kbps(12_500));
    world.store(&decide(&world.0));
    assert!((0..10).all(|number| world.parents(&format!("e{number:03}")).contains(&"i000")), "not yet left");
    world.connect();
    world.settle();
    let children = &world.children()[&node_id("i000")];
    assert!(
        children.len() <= 5 && children.iter().all(|child| child.as_str().starts_with('r')),
        "{children:?}"
    );
    assert!((0..10).all(|number| world.depth(&format!("e{number:03}")) == Some(2)));
    assert_eq!(decide(&world.0).findings, []);
}

#[test]
fn another_region_is_reached_through_its_own_relays() {
    let mut world = World::new(1, 2, 4);
    world.add("s", Role::Relay, 2);
    world.add("u", Role::Egress, 3);
    world.region("s", "us");
    world.region("u", "us");
    world.settle();
    assert_eq!(world.parents("e000"), ["i000"]);
    for name in ["u000", "u001", "u002"] {
        let mut first: Vec<_> = world.parents(name).into_iter().take(2).collect();
        first.sort_unstable();
        assert_eq!(first, ["s000", "s001"], "{name}");
    }
}

#[test]
fn every_relay_takes_every_injection_node() {
    let mut world = World::new(3, 3, 30);
    world.publish("second", "i002");
    world.settle();
    for relay in ["r000", "r001", "r002"] {
        assert_eq!(world.parents(relay), ["i000", "i002", "i001"]);
    }
}

#[test]
fn relays_stand_below_relays_where_the_injection_node_has_no_place() {
    let mut world = World::new(1, 40, 200);
    world.each("i", |node| node.capacity.children_max = 4);
    world.each("r", |node| node.capacity.children_max = 24);
    world.settle();
    let depths: Vec<_> = (0..200).map(|number| world.depth(&format!("e{number:03}"))).collect();
    assert!(depths.iter().all(|depth| matches!(depth, Some(2 | 3))), "{depths:?}");
    let without = (0..200).filter(|number| world.parents(&format!("e{number:03}")).len() < 2).count();
    assert_eq!(without, 0);
}

#[test]
fn a_dead_relay_is_replaced_and_nobody_else_moves() {
    let mut world = World::new(1, 6, 60);
    world.settle();
    let before = world.clone();
    world.kill("r001");
    let plan = decide(&world.0);
    let touched =
        plan.actions.iter().filter(|action| matches!(action, Action::Assign { .. })).map(Action::node);
    for node in touched {
        let name = node.as_str();
        let had_it = before.parents(name).contains(&"r001");
        assert!(had_it || name.starts_with('r'), "{name} had {:?}", before.parents(name));
    }
    world.settle();
    for number in 0..60 {
        let name = format!("e{number:03}");
        assert!(!world.parents(&name).contains(&"r001"));
        assert_eq!(world.hosts_of_parents(&name).len(), 2, "{name}");
    }
}

#[test]
fn draining_relays_lose_their_children_only_after_those_have_two_other_parents() {
    let mut world = World::new(1, 5, 30);
    world.settle();
    let has_both = |name: &String| {
        let parents = world.parents(name);
        parents.contains(&"r000") && parents.contains(&"r001")
    };
    let mut names = (0..30).map(|number| format!("e{number:03}"));
    let child = names.find(has_both).expect("a child of both");
    for relay in ["r000", "r001"] {
        world.get(relay).health = Health::Draining;
    }
    world.store(&decide(&world.0));
    let parents = world.parents(&child);
    assert!(parents.len() == 5 && parents[3..] == ["r000", "r001"], "new ones first: {parents:?}");
    assert_eq!(decide(&world.0).actions, [], "nothing more before the new links are up");

    world.connect();
    world.settle();
    let children = world.children();
    assert_eq!((children.get(&node_id("r000")), children.get(&node_id("r001"))), (None, None));
    assert!(world.parents("r000").is_empty());
}

#[test]
fn a_node_that_only_the_store_does_not_hear_goes_on_feeding() {
    let mut world = World::new(1, 4, 30);
    world.settle();
    world.cut_off("i000");
    assert_eq!(decide(&world.0).actions, [], "its children have media from it");
    world.cut_off("r000");
    world.settle();
    assert_eq!(world.children().get(&node_id("r000")), None, "others take over");
    assert_eq!(world.parents("r001"), ["i000"]);
    world.kill("i000");
    world.settle();
    assert_eq!(world.parents("r001"), Vec::<&str>::new());
}

#[test]
fn a_draining_relay_is_kept_where_there_is_no_other() {
    let mut world = World::new(1, 1, 30);
    world.each("i", |node| node.capacity.children_max = 2);
    world.settle();
    assert_eq!(world.parents("e029"), ["r000"]);
    world.get("r000").health = Health::Draining;
    world.settle();
    assert_eq!(world.parents("e000"), ["i000"], "it finds a place at the injection node");
    assert_eq!(world.parents("e029"), ["r000"], "it does not");
    assert_eq!(world.parents("r000"), ["i000"]);
}

#[test]
fn a_place_that_a_forgotten_node_still_holds_is_not_given_away() {
    let mut world = World::new(1, 1, 40);
    world.each("i", |node| node.capacity.children_max = 2);
    world.get("r000").capacity.children_max = 20;
    world.settle();
    let children = |world: &World| world.children().remove(&node_id("r000")).unwrap_or_default();
    let report = |world: &mut World, count| {
        world.get("r000").load.as_mut().expect("told").children = count;
    };
    let before = children(&world);
    assert_eq!(before.len(), 20);
    report(&mut world, 20);
    assert_eq!(decide(&world.0).actions, [], "what it reports are these");
    // Cut off from the store for so long that its record is gone, it keeps its links.
    world.0.nodes.retain(|node| node.id != before[0]);
    world.settle();
    assert_eq!(children(&world), before[1..], "nobody is promised its place");
    report(&mut world, 19);
    world.settle();
    assert_eq!(children(&world).len(), 20, "it has gone");
}

#[test]
fn a_store_that_lost_everything_moves_nobody() {
    let mut world = World::new(2, 6, 60);
    world.region("r005", "us");
    world.settle();
    let before = world.children();
    world.each("", |node| node.assigned = None);
    let plan = decide(&world.0);
    let is_kept = |reason: &Reason| !matches!(reason, Reason::Leaves { .. });
    for action in &plan.actions {
        let Action::Assign { reasons, .. } = action else { panic!("{action:?}") };
        assert!(reasons.iter().all(is_kept), "{action:?}");
    }
    world.store(&plan);
    assert_eq!(world.children(), before, "the links are the memory");
    assert_eq!(decide(&world.0).actions, []);
}

#[test]
fn a_parent_that_has_no_media_itself_is_none() {
    let mut world = World::new(2, 0, 1);
    world.publish("demo", "i001");
    world.get("i001").capacity.children_max = 0;
    world.get("i000").health = Health::Draining;
    world.get("e000").assigned = Some(tree::Assigned { parents: vec![node_id("i000")], paths: 2 });
    world.connect();
    world.settle();
    assert_eq!(world.parents("e000"), ["i000"], "there is no other");
    assert_eq!(decide(&world.0).findings, [Finding::NoParent { node: node_id("e000") }]);
}

#[test]
fn one_relay_and_the_injection_node_are_two_ways() {
    let mut world = World::new(1, 1, 20);
    world.settle();
    assert_eq!(world.parents("e000"), ["r000", "i000"]);
    assert_eq!(decide(&world.0).findings, []);
}

#[test]
fn growth_brings_relays_in_and_decline_takes_them_out() {
    let mut world = World::new(1, 3, 16);
    world.settle();
    assert_eq!(world.parents("e000"), ["i000"]);
    world.add("e", Role::Egress, 1);
    world.settle();
    assert!(world.parents("e000")[0].starts_with('r'));
    for number in 11..17 {
        world.kill(&format!("e{number:03}"));
    }
    world.settle();
    assert_eq!(world.parents("e000"), ["i000"], "well below the limit");
    assert!(world.parents("r000").is_empty());
}

#[test]
fn nodes_with_all_roles_feed_each_other_one_way() {
    let mut world = World::new(0, 0, 0);
    world.add("a", Role::All, 3);
    world.publish("demo", "a001");
    world.settle();
    assert_eq!(world.parents("a000"), ["a001"]);
    assert!(world.parents("a001").is_empty());
    world.publish("second", "a000");
    world.settle();
    let findings = decide(&world.0).findings;
    let unreached = Finding::OutOfReach { injection: node_id("a000"), node: node_id("a001") };
    assert_eq!(findings, [unreached]);
    assert_eq!(world.parents("a002"), ["a001", "a000"]);
}

#[test]
fn nothing_is_decided_before_the_view_has_settled() {
    let mut world = World::new(1, 3, 40);
    world.0.is_settled = false;
    assert_eq!(decide(&world.0).actions, []);
    assert_eq!(decide(&Observation::default()).actions, []);
}

#[test]
fn a_decision_says_why() {
    let mut world = World::new(1, 4, 20);
    world.settle();
    let lost = world.parents("e000")[0].to_owned();
    world.kill(&lost);
    let plan = decide(&world.0);
    let action =
        plan.actions.iter().find(|action| action.node().as_str() == "e000").expect("e000 needs another");
    let Action::Assign { reasons, .. } = action else { panic!("{action:?}") };
    assert!(reasons.contains(&Reason::Leaves { parent: node_id(&lost), cause: Cause::Dead }), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.to_string() == format!("leaves {lost}, which is dead")));
    assert!(plan.actions.contains(&Action::Forget { node: node_id(&lost) }));
}
