//! 40 000 viewers in a minute, while a relay and an egress die.

use std::time::Duration;

use model::Role;
use tree::{Capacity, Place};

use super::World;
use crate::Violation;

/// Viewers that come.
pub const VIEWERS: u64 = 40_000;
/// In so long.
pub const RUSH: Duration = Duration::from_secs(60);
const EGRESS: usize = 288;
const RELAYS: usize = 24;
const VIEWERS_MAX: u32 = 200;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Nodes of all roles.
    pub nodes: usize,
    /// Viewers with a place in the end.
    pub viewers: u64,
    /// From asking to having a place, milliseconds: median, of 99 in 100, longest.
    pub waits: [u32; 3],
    /// Came to a node that was dead or full when they came.
    pub turned_away: u64,
    /// Were told that there is no place.
    pub nowhere: u64,
    /// Viewers on the least and on the most used egress.
    pub spread: [u32; 2],
    /// Children that the dead relay had.
    pub children_lost: usize,
    /// Viewers that the dead egress had.
    pub viewers_lost: u32,
    /// The longest time that an egress with viewers had no path.
    pub dark: Duration,
    /// Assignments written because of the two deaths.
    pub written: u64,
}

/// A host of its own, and what a node on it takes.
fn site(number: usize) -> (Place, Capacity) {
    let place = Place { region: "eu".into(), zone: "".into(), host: format!("host-{number}").into() };
    let capacity = Capacity {
        viewers_max: VIEWERS_MAX,
        publishers_max: 10,
        children_max: 64,
        egress_max: None,
        packets_per_second_max: None,
    };
    (place, capacity)
}

/// Plays it.
///
/// # Errors
/// The invariant that broke.
pub fn play(seed: u64) -> Result<Summary, Violation> {
    let mut world = World::new(seed, 8);
    let counts = [("i", Role::Injection, 2), ("r", Role::Relay, RELAYS), ("e", Role::Egress, EGRESS)];
    let mut hosts = 0;
    for (prefix, role, count) in counts {
        for number in 0..count {
            hosts += 1;
            world.add_node(&format!("{prefix}{number:03}"), role, site(hosts));
        }
    }
    world.publish("demo");
    world.run(Duration::from_secs(20))?;

    let start = world.now;
    let first_egress = 2 + RELAYS;
    for viewer in 0..VIEWERS {
        let at = start + RUSH.mul_f64(viewer as f64 / VIEWERS as f64);
        world.join(at);
    }
    world.run(RUSH / 3)?;
    let written = world.assignments_written();
    let relay = (2..first_egress).max_by_key(|relay| world.children(*relay)).unwrap_or(2);
    let children_lost = world.children(relay);
    world.crash(relay);
    world.run(RUSH / 3)?;
    let viewers_lost = world.viewers_of(first_egress + 7);
    world.crash(first_egress + 7);
    world.run(RUSH / 3 + Duration::from_secs(15))?;
    let written = world.assignments_written() - written;
    world.check_healed()?;

    let alive = (first_egress..first_egress + EGRESS).filter(|node| *node != first_egress + 7);
    let loads: Vec<u32> = alive.map(|node| world.viewers_of(node)).collect();
    let spread = [loads.iter().copied().min().unwrap_or(0), loads.iter().copied().max().unwrap_or(0)];
    let (viewers, dark) = (world.viewers(), world.dark().longest);
    let tally = world.tally();
    let wait =
        |permille: usize| tally.waits.get((tally.waits.len() * permille / 1000).min(tally.waits.len() - 1));
    Ok(Summary {
        nodes: hosts,
        viewers,
        waits: [wait(500), wait(990), wait(1000)].map(|wait| wait.copied().unwrap_or(0)),
        turned_away: tally.turned_away,
        nowhere: tally.nowhere,
        spread,
        children_lost,
        viewers_lost,
        dark,
        written,
    })
}
