//! Random comings, goings and changes of mind, then calm: in the end everybody has what they want, layer by layer, and
//! nobody carries anything else.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use link::exchange::{PeerId, UNWATCHED_MAX};
use model::{Role, Ssrc};
use support::Random;
use support::network::{Conditions, Network};
use support::source::{Source, id};

const RELAYS: std::ops::Range<usize> = 1..4;
const EGRESS: std::ops::Range<usize> = 4..9;

/// Child, parent, and the channel between them while there is one.
type Edge = (usize, usize, Option<(PeerId, PeerId)>);

struct Churn {
    network: Network,
    random: Random,
    edges: Vec<Edge>,
    wants: [bool; 9],
    /// The layer that viewers of each egress need.
    layers: [usize; 9],
    epoch: u64,
}

impl Churn {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut network = Network::new(seed, Conditions::BAD);
        network.allows_repeats = true;
        network.add(Role::Injection);
        RELAYS.for_each(|_| _ = network.add(Role::Relay));
        let mut edges: Vec<_> = RELAYS.map(|relay| (relay, 0)).collect();
        for egress in EGRESS {
            let parents_active = 1 + random.below(2) as usize;
            network.add_with(Role::Egress, |config| config.parents_active = parents_active);
            edges.extend(RELAYS.map(|relay| (egress, relay)));
        }
        let edges =
            edges.into_iter().map(|(child, parent)| (child, parent, Some(network.connect(child, parent))));
        let edges = edges.collect();
        network.publish(0, Source::layered("friday", 1));
        Self { network, random, edges, wants: [false; 9], layers: [0; 9], epoch: 1 }
    }

    fn step(&mut self) {
        let changes = EGRESS.start + self.random.below(EGRESS.len() as u64) as usize;
        self.layers[changes] = self.random.below(3) as usize;
        match self.random.below(10) {
            0..4 => {
                let egress = EGRESS.start + self.random.below(EGRESS.len() as u64) as usize;
                self.wants[egress] = !self.wants[egress];
                let is_wanted = self.wants[egress];
                self.network.with(egress, |exchange, now| exchange.want(now, &id("friday"), is_wanted));
            }
            4..8 => {
                let edge = self.random.below(self.edges.len() as u64) as usize;
                self.toggle(edge);
            }
            8 => {
                self.epoch += 1;
                self.network.stop_publishing();
                self.network.publish(0, Source::layered("friday", self.epoch));
            }
            _ => self.network.conditions.loss = [0.0, 0.05, 0.3][self.random.below(3) as usize],
        }
        let layers = Source::layered("friday", self.epoch).layers();
        self.network.needs = EGRESS.map(|egress| (egress, vec![layers[self.layers[egress]]])).collect();
        let pause = self.random.below(1400);
        self.network.run_millis(pause);
    }

    fn toggle(&mut self, edge: usize) {
        let (child, parent, channel) = self.edges[edge];
        self.edges[edge].2 = match channel {
            Some(channel) => {
                self.network.disconnect(channel);
                None
            }
            None => Some(self.network.connect(child, parent)),
        };
    }

    fn calm(&mut self) {
        self.network.conditions = Conditions::BAD;
        for edge in 0..self.edges.len() {
            if self.edges[edge].2.is_none() {
                self.toggle(edge);
            }
        }
        self.network.run(UNWATCHED_MAX + Duration::from_secs(8));
    }
}

#[test]
fn after_any_churn_everybody_has_what_they_want_and_no_more() {
    for seed in 0..24 {
        let mut churn = Churn::new(seed);
        for _ in 0..40 {
            churn.step();
        }
        churn.calm();
        let network = &mut churn.network;
        let layers = Source::layered("friday", churn.epoch).layers();
        let newest = |ssrc: &Ssrc| {
            let mut published = network.published.iter().rev().filter(|packet| packet.ssrc == *ssrc);
            published.next().expect("published").seq_no
        };
        let from: Vec<_> = layers.iter().map(newest).collect();
        network.run_millis(3000);
        network.stop_publishing();
        network.run_millis(4000);
        for egress in EGRESS {
            let carried = network.stats(egress).broadcasts[&id("friday")];
            if churn.wants[egress] {
                let place = churn.layers[egress];
                let missing = network.missing(egress, layers[place]);
                assert!(
                    missing.iter().all(|seq_no| *seq_no < from[place]),
                    "seed {seed}, egress {egress}: {missing:?}"
                );
                assert_eq!(carried.streams, 2, "seed {seed}, egress {egress}: sound and one layer");
            } else {
                assert_eq!(
                    (carried.parents, carried.video.ring_packets),
                    (0, 0),
                    "seed {seed}, egress {egress}"
                );
            }
        }
        let joins = |nodes: std::ops::Range<usize>| -> (usize, usize) {
            let stats = nodes.map(|node| network.stats(node).broadcasts[&id("friday")]);
            stats.fold((0, 0), |sum, stats| (sum.0 + stats.parents, sum.1 + stats.destinations))
        };
        let ((up_of_egress, _), (up_of_relays, down_of_relays), (_, down_of_injection)) =
            (joins(EGRESS), joins(RELAYS), joins(0..1));
        assert_eq!((up_of_egress, up_of_relays), (down_of_relays, down_of_injection), "seed {seed}");
        // Relays carry what their children need: at most all layers, and none that no egress watches.
        let watched: BTreeSet<_> =
            EGRESS.filter(|egress| churn.wants[*egress]).map(|egress| churn.layers[egress]).collect();
        for relay in RELAYS {
            let relay = network.stats(relay).broadcasts[&id("friday")];
            assert_eq!(relay.parents, relay.destinations.min(1), "seed {seed}: carried only for somebody");
            let is_exact = if relay.destinations == 0 { relay.streams == 0 } else { relay.streams >= 2 };
            assert!(is_exact && relay.streams <= 1 + watched.len(), "seed {seed}: {relay:?}, {watched:?}");
        }
    }
}
