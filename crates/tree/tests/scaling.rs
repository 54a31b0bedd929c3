//! Trees that grow and shrink, second by second, under a virtual clock.

mod support;

use std::time::Duration;

use model::Role;
use proptest::prelude::*;
use support::growing::{Growing, Provisioning};
use tree::scaling::{Action, Blocked, Change, Finding, Mode, Slot, State, hold_back};

/// A tree at rest, with its reserve.
fn at_rest() -> Growing {
    let mut tree = Growing::new(4);
    tree.crowd = 100;
    assert!(tree.until(30, |tree| tree.in_state(State::Warm).len() == 1), "{:?}", tree.slots);
    tree.pass(5);
    tree
}

/// A tree that has grown by one sub-tree.
fn grown() -> Growing {
    let mut tree = at_rest();
    tree.swell(310, 240);
    assert!(tree.until(120, |tree| !tree.in_state(State::Attached).is_empty()), "{:?}", tree.slots);
    tree
}

/// Lets the crowd grow until that begins a sub-tree; the crowd needs it. Its number.
fn until_growing(tree: &mut Growing) -> u32 {
    for _ in 0..400 {
        tree.crowd += 1;
        tree.pass(1);
        if let Some(number) = tree.in_state(State::Growing).first() {
            tree.crowd = 330;
            return *number;
        }
    }
    panic!("{:?} {:?}", tree.slots, tree.last);
}

fn actions(tree: &Growing) -> Vec<&Action> {
    tree.last.actions.iter().map(|decision| &decision.action).collect()
}

fn blocked(tree: &Growing) -> Vec<Blocked> {
    let blocked = |finding: &Finding| match finding {
        Finding::CannotGrow { blocked, .. } => Some(blocked.clone()),
        Finding::NoReserve { .. }
        | Finding::ProvisionerSilent { .. }
        | Finding::LoadUnknown { .. }
        | Finding::CannotStop { .. } => None,
    };
    tree.last.findings.iter().filter_map(blocked).collect()
}

#[test]
fn a_tree_keeps_one_warm_and_two_cold_slots() {
    let mut tree = at_rest();
    assert_eq!((tree.in_state(State::Warm).len(), tree.in_state(State::Cold).len()), (1, 2));
    assert_eq!(tree.starts.len(), 1, "the warm relay");
    tree.pass(100);
    assert_eq!(actions(&tree), Vec::<&Action>::new());
    assert_eq!(tree.slots.len(), 3);
}

#[test]
fn a_tree_that_nobody_uses_keeps_no_reserve() {
    let mut tree = at_rest();
    tree.abandon();
    tree.pass(20);
    assert_eq!((tree.slots.len(), tree.nodes()), (0, 0), "{:?}", tree.slots);
}

#[test]
fn a_template_without_slots_is_left_alone() {
    let mut tree = Growing::new(1);
    (tree.template.slots_warm, tree.template.slots_cold) = (0, 0);
    tree.crowd = 100;
    tree.pass(60);
    assert_eq!(tree.slots, []);
}

#[test]
fn a_flash_crowd_gets_sub_trees_before_the_places_are_taken_and_each_need_one_start() {
    let mut tree = at_rest();
    let mut taken = Vec::new();
    for second in 0..240 {
        tree.crowd = 100 + second * 5;
        tree.pass(1);
        taken.push(tree.last.places.saturating_sub(u64::from(tree.crowd)));
    }
    assert!(taken[60..].iter().all(|left| *left > 0), "there is always a place: {taken:?}");
    // 1300 viewers at 75 % of 100 each are 18 egress nodes; four were there. 300 a minute are expected beyond.
    let attached = tree.in_state(State::Attached).len();
    assert!((4..=6).contains(&attached), "{attached} sub-trees");
    let mut names: Vec<_> = tree.starts.iter().map(|(_, id)| id.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), tree.starts.len(), "nothing was started twice");
    assert!(tree.until(60, |tree| tree.in_state(State::Warm).len() == 1), "the reserve is filled again");
}

#[test]
fn one_need_starts_one_sub_tree_while_it_is_on_its_way() {
    let mut tree = at_rest();
    tree.provisioning = Provisioning::Hangs;
    let number = until_growing(&mut tree);
    tree.pass(80);
    assert_eq!(tree.in_state(State::Growing), [number]);
}

#[test]
fn nodes_are_no_part_of_the_tree_before_all_of_them_are_healthy() {
    let mut tree = at_rest();
    let number = until_growing(&mut tree);
    let mut nodes: Vec<_> = tree.nodes_of(number, Role::Egress);
    nodes.extend(tree.nodes_of(number, Role::Relay));
    assert_eq!(nodes.len(), 5);
    let mut views: Vec<_> = nodes.iter().map(|id| support::node(id.as_str(), Role::Egress)).collect();
    hold_back(&mut views, nodes.iter().map(|id| (State::Growing, id)));
    assert_eq!(views, []);
    assert!(tree.until(30, |tree| tree.in_state(State::Attached) == [number]));
    tree.pass(3);
    assert!(tree.viewers_of(&nodes[0]) > 0, "placement uses it now");
}

#[test]
fn when_the_crowd_has_gone_sub_trees_go_one_by_one_and_nobody_is_cut() {
    let mut tree = at_rest();
    tree.swell(900, 120);
    assert!(tree.until(200, |tree| tree.in_state(State::Attached).len() >= 2), "{:?}", tree.slots);
    tree.pass(120);
    tree.crowd = 100;
    tree.pass(290);
    assert!(tree.in_state(State::Draining).is_empty(), "not before the cool-down is over");
    assert!(tree.until(2000, |tree| tree.in_state(State::Attached).is_empty()), "{:?}", tree.slots);
    assert!(tree.until(200, |tree| tree.slots.len() == 3), "{:?}", tree.slots);
    assert_eq!(tree.cut, 0, "who was told to go had left");
    assert_eq!(tree.nodes(), 6, "an injection node, four egress nodes, one warm relay");
}

#[test]
fn a_draining_sub_tree_is_kept_before_a_new_one_is_started() {
    let mut tree = grown();
    tree.crowd = 100;
    assert!(tree.until(1000, |tree| !tree.in_state(State::Draining).is_empty()), "{:?}", tree.slots);
    let (draining, starts) = (tree.in_state(State::Draining), tree.starts.len());
    tree.crowd = 330;
    assert!(tree.until(60, |tree| tree.in_state(State::Attached) == draining), "{:?}", tree.slots);
    tree.pass(30);
    assert_eq!(tree.starts.len(), starts, "nothing new was started");
    assert_eq!(tree.nodes_of(draining[0], Role::Egress).len(), 4);
    assert!(tree.slots.iter().flat_map(|slot| &slot.nodes).all(|node| node.order == Default::default()));
}

#[test]
fn noise_neither_grows_nor_shrinks_a_tree() {
    let mut tree = grown();
    // A load between both thresholds, in a reserve that is full.
    tree.swell(430, 240);
    let (slots, starts) = (tree.in_state(State::Attached), tree.starts.len());
    for second in 0..3000_u32 {
        tree.crowd = 400 + (second * 37) % 60;
        tree.noise = if second % 13 == 0 { 85 } else { (second % 5) as u8 };
        tree.pass(1);
    }
    assert_eq!(tree.in_state(State::Attached), slots);
    assert_eq!(tree.starts.len(), starts);
}

#[test]
fn load_that_is_not_known_neither_grows_nor_shrinks_a_tree() {
    let mut tree = grown();
    tree.crowd = 0;
    tree.pass(10);
    let slots = tree.in_state(State::Attached);
    let unknown = |tree: &mut Growing| {
        tree.each(|node| {
            if node.id.as_str() == "e000" {
                node.load = None;
            }
        });
    };
    for _ in 0..1500 {
        unknown(&mut tree);
        tree.pass(1);
    }
    assert_eq!(tree.in_state(State::Attached), slots);
    assert!(tree.last.findings.iter().any(|finding| matches!(finding, Finding::LoadUnknown { .. })));
}

#[test]
fn a_restarted_controller_decides_nothing_that_was_not_under_way() {
    let mut tree = at_rest();
    tree.pass(400);
    tree.restart_controller();
    for _ in 0..60 {
        tree.pass(1);
        assert_eq!(actions(&tree), Vec::<&Action>::new());
    }
    let mut tree = grown();
    tree.crowd = 100;
    tree.pass(250);
    tree.restart_controller();
    tree.pass(290);
    assert_eq!(tree.in_state(State::Draining), Vec::<u32>::new(), "it has not seen a whole cool-down");
    assert!(tree.until(30, |tree| !tree.in_state(State::Draining).is_empty()));
}

#[test]
fn a_restarted_controller_goes_on_with_what_was_under_way() {
    let mut tree = at_rest();
    let number = until_growing(&mut tree);
    tree.restart_controller();
    let names = tree.nodes_of(number, Role::Egress);
    assert!(tree.until(60, |tree| tree.in_state(State::Attached) == [number]), "{:?}", tree.slots);
    assert_eq!(tree.nodes_of(number, Role::Egress), names);
}

#[test]
fn nodes_that_the_store_forgot_are_taken_up_again() {
    let mut tree = grown();
    tree.pass(10);
    let (number, nodes) = (tree.in_state(State::Attached)[0], tree.nodes());
    let mut names = tree.nodes_of(number, Role::Egress);
    tree.lose_store();
    tree.pass(20);
    assert_eq!(tree.in_state(State::Attached), [number]);
    let mut found = tree.nodes_of(number, Role::Egress);
    names.sort();
    found.sort();
    assert_eq!(found, names);
    assert_eq!((tree.nodes(), tree.in_state(State::Warm).len(), tree.cut), (nodes, 1, 0));
}

#[test]
fn nodes_of_which_the_store_has_only_an_old_word_are_taken_up_again() {
    let mut tree = at_rest();
    let old = tree.slots.clone();
    tree.swell(310, 240);
    assert!(tree.until(120, |tree| !tree.in_state(State::Attached).is_empty()), "{:?}", tree.slots);
    tree.pass(10);
    let (number, nodes) = (tree.in_state(State::Attached)[0], tree.nodes());
    tree.slots = old;
    tree.restart_controller();
    tree.pass(20);
    assert_eq!(tree.in_state(State::Attached), [number]);
    assert_eq!((tree.nodes(), tree.cut), (nodes, 0), "nobody is cut");
}

#[test]
fn a_provisioner_that_fails_is_asked_less_and_less_and_the_tree_says_so() {
    for provisioning in [Provisioning::Fails, Provisioning::Hangs] {
        let mut tree = at_rest();
        tree.provisioning = provisioning;
        let number = until_growing(&mut tree);
        assert!(tree.until(100, |tree| tree.in_state(State::Stopping).contains(&number)));
        assert!(tree.until(60, |tree| {
            blocked(tree).iter().any(|blocked| matches!(blocked, Blocked::BackingOff { .. }))
        }));
        tree.pass(3000);
        let failures = tree.slots.iter().map(|slot| slot.failures).max();
        assert!(failures.is_some_and(|failures| (3..=8).contains(&failures)), "{failures:?}");
        assert!(tree.nodes() <= 11, "what hangs is taken away again: {}", tree.nodes());
        tree.provisioning = Provisioning::Works;
        assert!(tree.until(1500, |tree| !tree.in_state(State::Attached).is_empty()), "{:?}", tree.slots);
    }
}

#[test]
fn after_a_failure_nothing_else_is_tried_at_once() {
    let mut tree = Growing::new(4);
    tree.crowd = 100;
    tree.provisioning = Provisioning::Hangs;
    assert!(tree.until(120, |tree| !tree.in_state(State::Stopping).is_empty()), "{:?}", tree.slots);
    tree.pass(20);
    assert_eq!(tree.starts.len(), 1, "{:?}", tree.starts);
}

#[test]
fn the_part_of_a_sub_tree_that_came_in_time_is_taken() {
    let mut tree = at_rest();
    tree.provisioning = Provisioning::HangsForHalf;
    let number = until_growing(&mut tree);
    assert!(tree.until(100, |tree| tree.in_state(State::Attached) == [number]), "{:?}", tree.slots);
    assert_eq!(tree.nodes_of(number, Role::Egress).len(), 2);
}

#[test]
fn a_silent_provisioner_is_told_and_nothing_is_decided() {
    let mut tree = grown();
    tree.provisioner_answers = false;
    tree.crowd = 2000;
    tree.pass(60);
    assert_eq!(actions(&tree), Vec::<&Action>::new());
    assert!(matches!(tree.last.findings[..], [Finding::ProvisionerSilent { .. }]));
}

#[test]
fn a_node_of_a_sub_tree_that_crashes_is_started_again_and_one_that_does_not_come_is_given_up() {
    let mut tree = grown();
    tree.pass(10);
    let number = tree.in_state(State::Attached)[0];
    let victim = tree.nodes_of(number, Role::Egress)[0].clone();
    tree.crash(&victim);
    tree.pass(10);
    assert!(tree.viewers_of(&victim) > 0, "it is back under its name");
    tree.crash(&victim);
    tree.provisioning = Provisioning::Hangs;
    assert!(tree.until(120, |tree| tree.nodes_of(number, Role::Egress).len() == 3), "{:?}", tree.slots);
}

#[test]
fn a_warm_relay_that_dies_is_started_again() {
    let mut tree = at_rest();
    let number = tree.in_state(State::Warm)[0];
    let relay = tree.nodes_of(number, Role::Relay)[0].clone();
    tree.crash(&relay);
    tree.pass(1);
    assert_eq!(tree.in_state(State::Warming), [number]);
    assert!(tree.until(10, |tree| tree.in_state(State::Warm) == [number]));
}

#[test]
fn the_template_and_the_budget_bound_what_is_started() {
    let mut tree = at_rest();
    tree.template.limits.max_nodes = 12;
    tree.crowd = 4000;
    tree.pass(400);
    assert!(tree.nodes() <= 12, "{}", tree.nodes());
    assert!(tree.nodes() >= 10, "a smaller sub-tree is better than none: {}", tree.nodes());
    assert_eq!(blocked(&tree), [Blocked::MaxNodes { limit: 12 }]);

    let mut tree = at_rest();
    tree.policy.starts_per_hour = 8;
    tree.crowd = 4000;
    tree.pass(600);
    assert!(tree.starts.len() <= 8, "{}", tree.starts.len());
    assert_eq!(blocked(&tree), [Blocked::Budget { limit: 8 }]);
    assert!(tree.until(3600, |tree| tree.starts.len() > 8), "an hour later there is a new one");
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let mut tree = Growing::new(4);
    tree.policy.mode = Mode::DryRun;
    tree.swell(310, 240);
    tree.pass(30);
    assert_eq!((tree.starts.len(), tree.slots.len()), (0, 0));
    let grows =
        tree.last.withheld.iter().any(|decision| matches!(decision.action, Action::Grow { egress: 4 }));
    assert!(grows, "{:?}", tree.last);
}

#[test]
fn with_approval_a_sub_tree_comes_and_goes_only_when_an_operator_lets_it() {
    let mut tree = at_rest();
    tree.policy.mode = Mode::Approve;
    tree.swell(310, 240);
    let proposals = |tree: &Growing| -> Vec<(u32, Change)> {
        tree.slots.iter().filter_map(|slot| Some((slot.number, slot.proposal?.change))).collect()
    };
    let warm = tree.in_state(State::Warm)[0];
    assert_eq!(proposals(&tree), [(warm, Change::Grow)]);
    assert_eq!(blocked(&tree), [Blocked::Approval { slot: warm }]);
    tree.approve();
    assert!(tree.until(30, |tree| tree.in_state(State::Attached) == [warm]));
    assert_eq!(proposals(&tree), []);
    tree.crowd = 100;
    assert!(tree.until(700, |tree| proposals(tree) == [(warm, Change::Shrink)]), "{:?}", tree.slots);
    tree.pass(100);
    assert_eq!(tree.in_state(State::Attached), [warm]);
    tree.swell(310, 240);
    assert!(tree.until(60, |tree| proposals(tree).is_empty()), "what nobody needs is asked for no more");
    tree.crowd = 100;
    assert!(tree.until(700, |tree| proposals(tree) == [(warm, Change::Shrink)]));
    tree.approve();
    assert!(tree.until(200, |tree| tree.in_state(State::Attached).is_empty()));
    assert_eq!(tree.cut, 0);
}

#[test]
fn another_controllers_slots_are_left_alone_until_its_nodes_are_gone() {
    let mut tree = grown();
    let number = tree.in_state(State::Attached)[0];
    let foreign = |slots: &mut Vec<Slot>| {
        slots.iter_mut().filter(|slot| slot.number == number).for_each(|slot| slot.is_ours = false);
    };
    foreign(&mut tree.slots);
    tree.crowd = 50;
    tree.pass(900);
    assert_eq!(tree.in_state(State::Attached), [number], "nobody here could stop its nodes");
    let mut nodes = tree.nodes_of(number, Role::Egress);
    nodes.extend(tree.nodes_of(number, Role::Relay));
    nodes.iter().for_each(|node| tree.crash(node));
    tree.pass(5);
    assert!(tree.slots.iter().all(|slot| slot.number != number), "{:?}", tree.slots);
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Crowd(u32),
    Provisioning(Provisioning),
    Restart,
    LoseStore,
    Crash(prop::sample::Index),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0_u32..3000).prop_map(Event::Crowd),
        2 => prop::sample::select(vec![
            Provisioning::Works,
            Provisioning::Fails,
            Provisioning::Hangs,
            Provisioning::HangsForHalf,
        ])
        .prop_map(Event::Provisioning),
        1 => Just(Event::Restart),
        1 => Just(Event::LoseStore),
        2 => any::<prop::sample::Index>().prop_map(Event::Crash),
        6 => (1_u64..300).prop_map(Event::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_limits_hold_and_the_tree_comes_to_rest(events in prop::collection::vec(event(), 1..25)) {
        let mut tree = at_rest();
        tree.policy.starts_per_hour = 60;
        for event in events {
            match event {
                Event::Crowd(viewers) => tree.crowd = viewers,
                Event::Provisioning(provisioning) => tree.provisioning = provisioning,
                Event::Restart => tree.restart_controller(),
                Event::LoseStore => tree.lose_store(),
                Event::Crash(which) => {
                    let nodes: Vec<_> = tree.slots.iter().flat_map(|slot| slot.nodes.clone()).collect();
                    if !nodes.is_empty() {
                        tree.crash(&which.get(&nodes).id);
                    }
                }
                Event::Pass(seconds) => tree.pass(seconds),
            }
            prop_assert!(tree.nodes() <= 60);
            let lately = |at: std::time::Instant| at + Duration::from_secs(3600) > tree.now;
            let replaced = tree.starts.iter().filter(|(at, _)| lately(*at)).map(|(_, id)| id);
            let mut names: Vec<_> = replaced.collect();
            names.sort();
            names.dedup();
            prop_assert!(names.len() <= 60, "{} nodes in an hour", names.len());
        }
        tree.provisioning = Provisioning::Works;
        tree.crowd = 100;
        tree.pass(3600 + 900);
        prop_assert!(tree.until(9000, |tree| tree.slots.len() == 3), "{:?} {:?}", tree.slots, tree.last);
        prop_assert_eq!((tree.in_state(State::Warm).len(), tree.in_state(State::Cold).len()), (1, 2));
        prop_assert_eq!(tree.nodes(), 6);
    }
}
