//! Trees that are drawn at random, and what befalls them.

use model::Role;
use proptest::prelude::*;
use tree::Health;

use super::{World, node};

const REGIONS: [&str; 3] = ["eu", "us", "asia"];

/// One node.
#[derive(Debug, Clone)]
pub struct Drawn {
    pub role: u8,
    pub region: usize,
    pub host: u8,
    pub children_max: u32,
}

pub fn drawn() -> impl Strategy<Value = Drawn> {
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

pub fn world(nodes: &[Drawn]) -> World {
    let mut world = World::new(1, 0, 0);
    nodes.iter().enumerate().for_each(|(number, drawn)| add(&mut world, number + 1, drawn));
    world
}

/// What may happen to a tree.
#[derive(Debug, Clone)]
pub enum Event {
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

pub fn event() -> impl Strategy<Value = Event> {
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

pub fn apply(world: &mut World, event: &Event, number: usize) {
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
