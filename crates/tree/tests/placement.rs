//! Viewers and publishers go where there is room, and bursts spread.

mod support;

use std::time::{Duration, Instant};

use model::{Bitrate, NodeId, Role};
use proptest::prelude::*;
use support::{World, broadcast_id, node_id, tree_id};
use tree::placement::{Answer, Nowhere, Placement, RESERVATION, Request};
use tree::{Health, Incarnation, Rate};

/// A front door with its randomness and its clock.
struct Door {
    placement: Placement,
    now: Instant,
    random: u64,
    here: Option<NodeId>,
    region: Option<&'static str>,
    lost: Option<NodeId>,
}

impl Door {
    fn new(seed: u64, here: Option<&str>) -> Self {
        Self {
            placement: Placement::new(),
            now: Instant::now(),
            random: seed,
            here: here.map(node_id),
            region: Some("eu"),
            lost: None,
        }
    }

    fn see(&mut self, world: &World) {
        self.placement.update(self.now, &world.0);
    }

    fn ask(&mut self, is_viewer: bool, broadcast: &str) -> Answer {
        let (tree, broadcast) = (tree_id(), broadcast_id(broadcast));
        let request = Request {
            tree: &tree,
            broadcast: &broadcast,
            region: self.region,
            here: self.here.as_ref(),
            lost: self.lost.as_ref(),
        };
        let random = &mut self.random;
        let mut draw = || {
            *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (*random ^ (*random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ (mixed >> 31)
        };
        match is_viewer {
            true => self.placement.place_viewer(self.now, &request, &mut draw),
            false => self.placement.place_publisher(self.now, &request, &mut draw),
        }
    }

    fn view(&mut self) -> Answer {
        self.ask(true, "demo")
    }

    fn publish(&mut self) -> Answer {
        self.ask(false, "demo")
    }

    /// Where a viewer ends, by name.
    fn place(&mut self) -> Option<String> {
        self.place_for("demo")
    }

    fn place_for(&mut self, broadcast: &str) -> Option<String> {
        match self.ask(true, broadcast) {
            Answer::Here => self.here.as_ref().map(ToString::to_string),
            Answer::Redirect(node) => Some(node.to_string()),
            Answer::Nowhere(_) => None,
        }
    }
}

/// A settled tree whose egress nodes take so many viewers.
fn world(egress: usize, viewers_max: u32) -> World {
    let mut world = World::new(1, 3, egress);
    world.each("e", |node| node.capacity.viewers_max = viewers_max);
    world.settle();
    world
}

fn load(world: &mut World, name: &str, change: impl FnOnce(&mut tree::Load)) {
    change(world.get(name).load.as_mut().expect("a load"));
}

fn spread(counts: &std::collections::BTreeMap<String, u32>) -> (u32, u32) {
    (*counts.values().min().expect("a node"), *counts.values().max().expect("a node"))
}

#[test]
fn a_thousand_joins_at_once_spread_within_few_percent_over_one_door_or_many() {
    let world = world(20, 2000);
    // Doors that take viewers themselves prefer themselves, a little: within two in a hundred of their places.
    for (count, takes_viewers, slack) in
        [(1, false, 8), (20, false, 25), (1, true, 40), (5, true, 40), (20, true, 40)]
    {
        let door = |number: u64| Door::new(number, takes_viewers.then_some(&*format!("e{number:03}")));
        let mut doors: Vec<Door> = (0..count).map(door).collect();
        doors.iter_mut().for_each(|door| door.see(&world));
        let mut counts = std::collections::BTreeMap::new();
        for join in 0..1000 {
            let node = doors[join % count as usize].place().expect("room");
            *counts.entry(node).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 20);
        let (least, most) = spread(&counts);
        println!("{count} doors (egress: {takes_viewers}): 1000 joins on 20 nodes, {least} to {most} each");
        assert!(most - least <= slack, "{least} to {most}");
    }
}

#[test]
fn many_doors_with_the_same_old_reports_do_not_all_send_to_the_emptiest_node() {
    let mut world = world(20, 2000);
    for number in 1..20 {
        load(&mut world, &format!("e{number:03}"), |load| load.viewers = 200);
    }
    let mut doors: Vec<Door> = (0..50).map(|number| Door::new(number, None)).collect();
    doors.iter_mut().for_each(|door| door.see(&world));
    let at_emptiest = (0..1000).filter(|join| doors[join % 50].place().as_deref() == Some("e000")).count();
    assert!((50..200).contains(&at_emptiest), "{at_emptiest} of 1000 at the node with 200 viewers less");
}

#[test]
fn nobody_goes_to_a_node_that_is_full_draining_silent_dead_or_unknown() {
    let mut world = world(6, 100);
    load(&mut world, "e000", |load| load.viewers = 100);
    world.get("e001").health = Health::Draining;
    world.get("e002").health = Health::Suspect;
    world.get("e003").health = Health::Dead;
    world.get("e004").load = None;
    for here in [None, Some("e000"), Some("e001"), Some("e004")] {
        let mut door = Door::new(3, here);
        door.see(&world);
        for _ in 0..100 {
            assert_eq!(door.view(), Answer::Redirect(node_id("e005")));
        }
        assert_eq!(door.view(), Answer::Nowhere(Nowhere::Full), "all its 100 places are promised");
    }
}

#[test]
fn the_reason_says_what_is_missing() {
    let ask = |world: &World| {
        let mut door = Door::new(1, None);
        door.see(world);
        door.view()
    };
    let mut world = world(2, 100);
    world.each("e", |node| node.load = None);
    assert_eq!(ask(&world), Answer::Nowhere(Nowhere::LoadUnknown));
    world.each("e", |node| node.health = Health::Suspect);
    assert_eq!(ask(&world), Answer::Nowhere(Nowhere::NotReady));
    assert_eq!(ask(&World::new(1, 0, 0)), Answer::Nowhere(Nowhere::NoNode));
    assert_eq!(ask(&World::new(1, 0, 1)), Answer::Nowhere(Nowhere::OutOfReach), "no link yet");
}

#[test]
fn nobody_is_sent_to_a_node_that_does_not_answer_him_unless_there_is_no_other() {
    let mut world = world(3, 100);
    for name in ["e001", "e002"] {
        load(&mut world, name, |load| load.viewers = 50);
    }
    let mut door = Door::new(3, None);
    door.lost = Some(node_id("e000"));
    door.see(&world);
    for _ in 0..50 {
        assert!(matches!(door.view(), Answer::Redirect(node) if node != node_id("e000")));
    }
    // The only one there is may answer again by then.
    world.get("e001").health = Health::Dead;
    world.get("e002").health = Health::Dead;
    door.see(&world);
    assert_eq!(door.view(), Answer::Redirect(node_id("e000")));
}

#[test]
fn a_publisher_does_not_come_back_to_a_node_that_does_not_answer_him_unless_there_is_no_other() {
    let mut world = World::new(2, 0, 1);
    world.settle();
    let mut door = Door::new(1, None);
    door.lost = Some(node_id("i000"));
    door.see(&world);
    assert_eq!(door.publish(), Answer::Redirect(node_id("i001")));
    world.get("i001").health = Health::Draining;
    door.see(&world);
    assert_eq!(door.publish(), Answer::Redirect(node_id("i000")));
}

#[test]
fn each_of_the_limits_counts() {
    let mut world = world(5, 1000);
    world.each("e", |node| {
        node.capacity.egress_max = Some(Bitrate::kbps(1_000_000));
        node.capacity.packets_per_second_max = Some(100_000);
    });
    load(&mut world, "e000", |load| (load.viewers, load.sent) = (399, Bitrate::kbps(999_000)));
    load(&mut world, "e001", |load| (load.viewers, load.packets_per_second) = (100, 100_000));
    load(&mut world, "e002", |load| load.shard_percent = 91);
    load(&mut world, "e003", |load| load.viewers = 1000);
    let mut door = Door::new(1, None);
    door.see(&world);
    // The one that is left has room for 400 at the broadcast's 2.5 Mbit/s.
    let places: Vec<_> = std::iter::from_fn(|| door.place()).collect();
    assert_eq!(places.len(), 400);
    assert!(places.iter().all(|place| place == "e004"));
}

#[test]
fn what_viewers_may_take_counts_before_it_is_sent_and_beside_what_children_may_take() {
    let mut world = world(2, 1000);
    world.each("e", |node| node.capacity.egress_max = Some(Bitrate::kbps(25_000)));
    let mut door = Door::new(1, None);
    door.see(&world);
    // All have come, and nothing flows to them yet.
    load(&mut world, "e000", |load| {
        (load.viewers, load.promised) = (10, Rate { bits: Bitrate::kbps(25_000), packets: 2500 });
    });
    door.see(&world);
    let places: Vec<_> = std::iter::from_fn(|| door.place()).collect();
    assert_eq!(places, ["e001"; 10]);
    assert_eq!(door.view(), Answer::Nowhere(Nowhere::NetworkFull));

    let mut world = World::new(0, 0, 0);
    world.add("a", Role::All, 3);
    world.publish("demo", "a000");
    world.settle();
    world.get("a000").capacity.egress_max = Some(Bitrate::kbps(10_000));
    for name in ["a001", "a002"] {
        world.get(name).health = Health::Draining;
    }
    let mut door = Door::new(1, Some("a000"));
    door.see(&world);
    let count = std::iter::from_fn(|| door.place()).count();
    assert_eq!(count, 2, "two children may take as much as two viewers");
}

#[test]
fn a_promise_lasts_until_the_report_includes_it_or_for_a_while() {
    let mut world = world(1, 10);
    let mut door = Door::new(1, None);
    door.see(&world);
    for _ in 0..10 {
        assert_eq!(door.place().as_deref(), Some("e000"));
    }
    assert_eq!(door.view(), Answer::Nowhere(Nowhere::Full));
    load(&mut world, "e000", |load| load.viewers = 4);
    door.see(&world);
    assert_eq!(door.placement.stats().reserved, 6, "four have come");
    assert_eq!(door.view(), Answer::Nowhere(Nowhere::Full));
    door.now += RESERVATION;
    assert_eq!(door.place().as_deref(), Some("e000"), "the others are not coming");
    door.see(&world);
    assert_eq!((door.placement.stats().reserved, door.placement.stats().expired), (1, 6));
}

#[test]
fn without_reports_promises_stay() {
    let world = world(1, 10);
    let mut door = Door::new(1, None);
    door.see(&world);
    for _ in 0..10 {
        door.place().expect("room");
    }
    door.placement.store_lost();
    door.now += Duration::from_secs(600);
    assert_eq!(door.view(), Answer::Nowhere(Nowhere::Full));
    door.placement.store_returned(door.now);
    assert_eq!(door.view(), Answer::Nowhere(Nowhere::Full));
    door.now += RESERVATION;
    assert_eq!(door.place().as_deref(), Some("e000"));
}

#[test]
fn a_restart_ends_the_promises_of_the_run_before() {
    let mut world = world(1, 10);
    let mut door = Door::new(1, None);
    door.see(&world);
    for _ in 0..10 {
        door.place().expect("room");
    }
    world.get("e000").incarnation = Incarnation { counter: 2, random: 1 };
    door.see(&world);
    assert!(door.place().is_some());
}

#[test]
fn viewers_stay_in_their_region_until_it_is_full() {
    let mut world = world(4, 10);
    world.region("e002", "us");
    world.region("e003", "us");
    world.settle();
    let mut door = Door::new(1, None);
    door.region = Some("us");
    door.see(&world);
    let places: Vec<_> = (0..40).map(|_| door.place().expect("room")).collect();
    assert!(places[..20].iter().all(|place| ["e002", "e003"].contains(&place.as_str())), "{places:?}");
    assert!(places[20..].iter().all(|place| ["e000", "e001"].contains(&place.as_str())), "{places:?}");
}

#[test]
fn the_node_that_was_asked_is_taken_where_it_is_no_worse() {
    let mut world = world(10, 1000);
    let mut door = Door::new(1, Some("e003"));
    door.see(&world);
    assert_eq!(door.view(), Answer::Here);
    load(&mut world, "e003", |load| load.viewers = 500);
    door.see(&world);
    assert!(matches!(door.view(), Answer::Redirect(_)));
}

#[test]
fn viewers_go_only_where_the_broadcast_gets_to() {
    let mut world = World::new(0, 0, 0);
    world.add("a", Role::All, 3);
    world.publish("first", "a001");
    world.settle();
    world.publish("demo", "a000");
    world.settle();
    // a001 feeds the others, so what is published on a000 does not get to it.
    let mut door = Door::new(1, Some("a001"));
    door.see(&world);
    for _ in 0..50 {
        assert!(matches!(door.view(), Answer::Redirect(node) if node != node_id("a001")));
    }
}

#[test]
fn a_publisher_comes_back_to_where_its_broadcast_is() {
    let mut world = World::new(4, 2, 4);
    world.publish("demo", "i002");
    world.settle();
    load(&mut world, "i002", |load| load.publishers = 10);
    let mut door = Door::new(1, Some("i000"));
    door.see(&world);
    assert_eq!(door.publish(), Answer::Redirect(node_id("i002")), "its place is its own");
    world.get("i002").health = Health::Dead;
    door.see(&world);
    assert_eq!(door.publish(), Answer::Here);
    world.get("i002").health = Health::Draining;
    world.get("i000").health = Health::Draining;
    door.see(&world);
    assert!(matches!(door.publish(), Answer::Redirect(node) if ["i001", "i003"].contains(&node.as_str())));
}

#[test]
fn publishers_spread_over_injection_nodes() {
    let mut world = World::new(4, 2, 4);
    world.0.broadcasts.clear();
    world.settle();
    let mut door = Door::new(1, None);
    door.see(&world);
    let mut counts = std::collections::BTreeMap::new();
    let mut nowhere = 0;
    for _ in 0..44 {
        match door.publish() {
            Answer::Redirect(node) => *counts.entry(node.to_string()).or_insert(0) += 1,
            answer => nowhere += usize::from(answer == Answer::Nowhere(Nowhere::Full)),
        }
    }
    assert_eq!(spread(&counts), (10, 10));
    assert_eq!((counts.len(), nowhere), (4, 4));
}

#[test]
fn publishers_prefer_nodes_that_feed_everybody() {
    let mut world = World::new(0, 0, 0);
    world.add("a", Role::All, 4);
    world.publish("other", "a002");
    world.settle();
    let mut door = Door::new(1, Some("a001"));
    door.see(&world);
    for _ in 0..10 {
        assert_eq!(door.publish(), Answer::Redirect(node_id("a002")));
    }
    assert!(matches!(door.publish(), Answer::Here | Answer::Redirect(_)), "that one is full now");
}

/// What one viewer of each broadcast takes: kbit/s, packets.
const RATES: [(u64, u64); 3] = [(800, 90), (2500, 260), (6000, 640)];

/// What is promised at one node.
#[derive(Clone, Copy, Default)]
struct Taken {
    viewers: u32,
    kbps: u64,
    packets: u64,
}

impl Taken {
    fn with(self, (kbps, packets): (u64, u64)) -> Self {
        Self { viewers: self.viewers + 1, kbps: self.kbps + kbps, packets: self.packets + packets }
    }

    const fn fits(self, (kbps, packets): (u64, u64)) -> bool {
        self.kbps <= kbps && self.packets <= packets
    }
}

proptest! {
    #[test]
    fn no_network_is_promised_more_than_it_carries(
        limits in prop::collection::vec((0u64..40_000, 100u64..4000), 1..8),
        steps in prop::collection::vec((0usize..RATES.len(), 0u8..8, 0u64..3), 1..300),
        seed: u64,
    ) {
        let mut world = world(limits.len(), 1000);
        for (number, (kbps, packets)) in limits.iter().enumerate() {
            let capacity = &mut world.get(&format!("e{number:03}")).capacity;
            capacity.egress_max = Some(Bitrate::kbps(*kbps));
            capacity.packets_per_second_max = Some(*packets);
        }
        for (number, (kbps, packets)) in RATES.into_iter().enumerate() {
            let name = format!("b{number}");
            world.publish(&name, "i000");
            let broadcast = world.0.broadcasts.last_mut().expect("just published");
            broadcast.viewer = Some(Rate { bits: Bitrate::kbps(kbps), packets });
        }
        let mut door = Door::new(seed, None);
        door.see(&world);
        let mut taken = vec![Taken::default(); limits.len()];
        for (broadcast, report, flowing) in steps {
            if report == 0 {
                for (number, taken) in taken.iter().enumerate() {
                    load(&mut world, &format!("e{number:03}"), |load| {
                        load.viewers = taken.viewers;
                        load.promised = Rate { bits: Bitrate::kbps(taken.kbps), packets: taken.packets };
                        // Of some it flows already, of some it flows less than it may.
                        load.sent = Bitrate::kbps(taken.kbps * flowing / 3);
                        load.packets_per_second = taken.packets * flowing / 3;
                    });
                }
                door.see(&world);
            }
            let rate = RATES[broadcast];
            match door.place_for(&format!("b{broadcast}")) {
                Some(node) => {
                    let number: usize = node[1..].parse().expect("a number");
                    taken[number] = taken[number].with(rate);
                    prop_assert!(taken[number].fits(limits[number]), "{node} carries too much");
                }
                None => {
                    let mut pairs = taken.iter().zip(&limits);
                    prop_assert!(!pairs.any(|(taken, limit)| taken.with(rate).fits(*limit)), "one has room");
                }
            }
        }
    }

    #[test]
    fn no_place_is_given_twice(
        places in prop::collection::vec((0u32..30, 0u32..30), 1..12),
        joins in 1usize..400,
        seed: u64,
    ) {
        let mut world = world(places.len(), 0);
        for (number, (viewers, viewers_max)) in places.iter().enumerate() {
            let name = format!("e{number:03}");
            world.get(&name).capacity.viewers_max = *viewers_max;
            load(&mut world, &name, |load| load.viewers = *viewers);
        }
        let mut door = Door::new(seed, None);
        door.see(&world);
        let mut counts = std::collections::BTreeMap::new();
        let placed = (0..joins).filter_map(|_| door.place()).map(|node| *counts.entry(node).or_insert(0) += 1).count();
        let free = |(viewers, viewers_max): &(u32, u32)| viewers_max.saturating_sub(*viewers);
        for (node, count) in counts {
            let number: usize = node[1..].parse().expect("a number");
            prop_assert!(count <= free(&places[number]), "{node} got {count}");
        }
        let room: u32 = places.iter().map(free).sum();
        prop_assert_eq!(placed, joins.min(room as usize), "everybody gets a place while there is one");
    }
}
