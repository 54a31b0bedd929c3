//! Whatever the tree and whatever happens to it: no loop, no node beyond its places, two hosts where there are two,
//! and nothing moves without need.

mod support;

use std::collections::BTreeSet;

use model::Role;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::{World, node};
use tree::topology::{Action, decide};
use tree::{Assigned, Health};

const REGIONS: [&str; 3] = ["eu", "us", "asia"];

#[derive(Debug, Clone)]
struct Drawn {
    role: u8,
    region: usize,
    host: u8,
    children_max: u32,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let role = prop_oneof![1 => Just(0u8), 4 => Just(1), 12 => Just(2), 1 => Just(3)];
    (role, 0usize..3, 0u8..40, 0u32..24).prop_map(|(role, region, host, children_max)| Drawn {
        role,
        region,
        host,
        children_max,
    })
}

fn add(world: &mut World, number: usize, drawn: &Drawn) {
    let (prefix, role) = match drawn.role {
        0 => ('i', Role::Injection),
        1 => ('r', Role::Relay),
        2 => ('e', Role::Egress),
        _ => ('a', Role::All),
    };
    let mut view = node(&format!("{prefix}{number:03}"), role);
    view.place.region = REGIONS[drawn.region].into();
    view.place.host = format!("host-{}", drawn.host).into();
    view.capacity.children_max = drawn.children_max;
    world.0.nodes.push(view);
}

fn world(nodes: &[Drawn]) -> World {
    let mut world = World::new(1, 0, 0);
    nodes.iter().enumerate().for_each(|(number, drawn)| add(&mut world, number + 1, drawn));
    world
}

/// What may happen to a tree.
#[derive(Debug, Clone)]
enum Event {
    Dies(usize),
    CutOff(usize),
    Drains(usize),
    Returns(usize),
    Silent(usize),
    Joins(Drawn),
    Publishes(usize),
    Shrinks(usize, u32),
    /// Only some carry out what they were told.
    LinksHalf(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0usize..1000).prop_map(Event::Dies),
        (0usize..1000).prop_map(Event::CutOff),
        (0usize..1000).prop_map(Event::Drains),
        (0usize..1000).prop_map(Event::Returns),
        (0usize..1000).prop_map(Event::Silent),
        drawn().prop_map(Event::Joins),
        (0usize..1000).prop_map(Event::Publishes),
        (0usize..1000, 0u32..20).prop_map(|(node, children_max)| Event::Shrinks(node, children_max)),
        (1usize..5).prop_map(Event::LinksHalf),
    ]
}

fn apply(world: &mut World, event: &Event, number: usize) {
    let count = world.0.nodes.len();
    let health = |world: &mut World, node: usize, health| world.0.nodes[node % count].health = health;
    match event {
        Event::Dies(node) => {
            let name = world.0.nodes[node % count].id.to_string();
            world.kill(&name);
        }
        Event::CutOff(node) => health(world, *node, Health::Dead),
        Event::Drains(node) => health(world, *node, Health::Draining),
        Event::Returns(node) => health(world, *node, Health::Ready),
        Event::Silent(node) => health(world, *node, Health::Suspect),
        Event::Joins(drawn) => add(world, 500 + number, drawn),
        Event::Publishes(node) => {
            let origins = world.0.nodes.iter().filter(|node| node.role.is_injection());
            let origins: Vec<String> = origins.map(|node| node.id.to_string()).collect();
            world.publish(&format!("b{}", node % 4), &origins[node % origins.len()]);
        }
        Event::Shrinks(node, children_max) => {
            // The controller cannot be blamed for children that a node had before it shrank: they go at the next decision.
            world.0.nodes[node % count].capacity.children_max = *children_max;
        }
        Event::LinksHalf(step) => {
            let before = world.clone();
            world.connect();
            for (index, node) in world.0.nodes.iter_mut().enumerate().filter(|(index, _)| index % step == 0) {
                node.connected.clone_from(&before.0.nodes[index].connected);
            }
        }
    }
}

/// Links that are up and links that are stored, together, make no loop and fill nobody beyond its places, whoever
/// follows first.
fn check_meanwhile(before: &World, after: &World) {
    let mut both = after.clone();
    for (node, old) in both.0.nodes.iter_mut().zip(&before.0.nodes) {
        let old = old.assigned.iter().flat_map(|assigned| &assigned.parents);
        let mut parents: Vec<_> =
            node.assigned.iter().flat_map(|assigned| assigned.parents.clone()).collect();
        for parent in old.filter(|_| node.health.is_alive()) {
            let is_alive = after.0.nodes.iter().any(|other| other.id == *parent && other.health.is_alive());
            if is_alive && !parents.contains(parent) {
                parents.push(parent.clone());
            }
        }
        parents.truncate(tree::PARENTS_MAX);
        node.assigned = Some(Assigned { parents, paths: 2 });
    }
    both.check();
}

/// Two hosts carry relays with a way to the sources and places for one more child.
fn other_choice(world: &World, child: &str) -> bool {
    let children = world.children();
    let has_place = |node: &&tree::NodeView| {
        node.role == Role::Relay
            && node.health == Health::Ready
            && !world.parents(node.id.as_str()).is_empty()
            && world.depth(node.id.as_str()).is_some()
            && children.get(&node.id).map_or(0, Vec::len) < node.capacity.children_max as usize
    };
    let first = world.hosts_of_parents(child);
    world.alive().filter(has_place).any(|node| !first.contains(&*node.place.host))
}

/// The same cases each time: about one drawn tree in a thousand is known not to settle (docs/decisions/013), which must
/// be mended and not be met by chance.
fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: 300,
        rng_seed: RngSeed::Fixed(13),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn trees_hold_through_whatever_happens(
        nodes in prop::collection::vec(drawn(), 1..60),
        events in prop::collection::vec(prop::collection::vec(event(), 1..4), 0..25),
    ) {
        let mut world = world(&nodes);
        let settled = world.settle();
        prop_assert!(settled.len() <= 6, "{} decisions", settled.len());
        for (number, events) in events.iter().enumerate() {
            let mut shrinks = false;
            for (place, event) in events.iter().enumerate() {
                shrinks |= matches!(event, Event::Shrinks(..) | Event::Returns(_) | Event::Publishes(_));
                apply(&mut world, event, number * 10 + place);
            }
            let before = world.clone();
            world.store(&decide(&world.0));
            world.check();
            if !shrinks {
                check_meanwhile(&before, &world);
            }
        }
        world.connect();
        world.settle();
    }

    #[test]
    fn the_order_of_what_is_seen_does_not_matter(
        nodes in prop::collection::vec(drawn(), 1..40),
        shuffle in prop::collection::vec(0usize..1000, 60),
    ) {
        let mut world = world(&nodes);
        let mut shuffled = world.clone();
        for (index, other) in shuffle.iter().enumerate() {
            let count = shuffled.0.nodes.len();
            shuffled.0.nodes.swap(index % count, other % count);
        }
        prop_assert_eq!(decide(&world.0), decide(&shuffled.0));
        world.settle();
        let mut settled = world.clone();
        settled.0.nodes.reverse();
        prop_assert_eq!(decide(&settled.0).actions, []);
    }

    #[test]
    fn two_parents_share_no_host_where_there_is_another_choice(nodes in prop::collection::vec(drawn(), 10..60)) {
        let mut world = world(&nodes);
        world.settle();
        let egress = world.alive().filter(|node| node.role == Role::Egress).map(|node| node.id.to_string());
        for name in egress.collect::<Vec<_>>() {
            let is_relayed = world.parents(&name).first().is_some_and(|parent| parent.starts_with('r'));
            if is_relayed && world.hosts_of_parents(&name).len() < 2 {
                prop_assert!(!other_choice(&world, &name), "{name} has {:?}", world.parents(&name));
            }
        }
    }

    #[test]
    fn nobody_is_without_a_parent_while_places_are_left(
        relays in 2usize..8, egress in 1usize..60, children_max in 2u32..40,
    ) {
        let mut world = World::new(1, relays, egress);
        world.each("r", |node| node.capacity.children_max = children_max);
        world.settle();
        let places = relays * children_max as usize;
        let without = (0..egress).filter(|number| world.parents(&format!("e{number:03}")).is_empty()).count();
        prop_assert!(without == 0 || without <= egress.saturating_sub(places), "{without} of {egress} at {places}");
    }

    #[test]
    fn one_death_moves_its_children_and_nobody_else(
        relays in 3usize..12, egress in 17usize..120, dead in 0usize..12,
    ) {
        let mut world = World::new(1, relays, egress);
        world.settle();
        let dead = format!("r{:03}", dead % relays);
        let before = world.clone();
        world.kill(&dead);
        let mut touched = BTreeSet::new();
        for plan in world.settle() {
            touched.extend(plan.actions.iter().map(Action::node).map(ToString::to_string));
        }
        for name in touched.iter().filter(|name| name.starts_with('e')) {
            prop_assert!(before.parents(name).contains(&dead.as_str()), "{name} was no child of {dead}");
        }
        let relays = touched.iter().filter(|name| name.starts_with('r')).count();
        prop_assert!(relays <= 2, "the dead one and one from the reserve: {touched:?}");
    }
}
