//! Random lives of random trees: a seed decides the tree, its network, and what befalls it.

use std::fmt;
use std::time::Duration;

use model::{Bitrate, BroadcastId, Codec, Role};
use srtp::Profile;

use crate::network::{Conditions, NodeIndex};
use crate::node::Setup;
use crate::publisher;
use crate::random::Random;
use crate::tree::Tree;
use crate::viewer::{self, SLOW};
use crate::violation::Violation;

/// Steps of one life.
const STEPS: u64 = 30;
/// Longest time between two steps, milliseconds.
const STEP_MAX: u64 = 900;
/// When everybody must be live again after everything has healed: links are dialled within a second, old joins
/// forgotten within [`link::exchange::JOIN_AGE_MAX`], and a stuck viewer starts again each five seconds.
const RECOVERY: Duration = Duration::from_secs(12);
/// Time in which the last losses are counted and the last repeats sent.
const AFTERMATH: Duration = Duration::from_millis(2500);

/// What befalls a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Pass,
    /// Somebody joins, somewhere.
    Join,
    /// Somebody leaves, with or without a goodbye.
    Leave,
    /// Somebody's decoder wants a keyframe.
    WishKeyframe,
    /// A publisher goes, if one is there; comes back, if not; perhaps with another codec.
    Republish,
    /// A process that is no injection dies, or comes back.
    CrashOrRevive,
    /// An egress dies while it sends.
    Doom,
    /// The injection process dies; it and its publishers come back at once.
    CrashInjection,
    /// A link is cut, or heals.
    Partition,
    /// Links get better or worse.
    Weather,
}

/// A broken invariant, and when and how it broke.
#[derive(Debug)]
pub struct Failure {
    /// Which life.
    pub seed: u64,
    /// Which step of it, from 1.
    pub step: u64,
    /// What was done in that step.
    pub what: Step,
    /// What is wrong.
    pub violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, step, what, violation } = self;
        write!(f, "seed {seed}, step {step} ({what:?}), {violation}; play it again with SIM_SEED={seed}")
    }
}

impl std::error::Error for Failure {}

/// One life of one tree.
pub struct Life {
    tree: Tree,
    random: Random,
    injection: NodeIndex,
    relays: Vec<NodeIndex>,
    egresses: Vec<NodeIndex>,
    links: Vec<(NodeIndex, NodeIndex)>,
    broadcasts: Vec<BroadcastId>,
}

/// Plays a seed from beginning to end. Gives the trace.
///
/// # Errors
/// [`Failure`] with the step at which an invariant broke.
pub fn play(seed: u64) -> Result<u64, Failure> {
    let mut life = Life::new(seed);
    let (mut step, mut what) = (0, Step::Pass);
    let result = life.live(&mut step, &mut what);
    result.map_err(|violation| Failure { seed, step, what, violation })?;
    Ok(life.tree.trace())
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let weather = random.pick(&[Conditions::PERFECT, Conditions::LOSSY, Conditions::HOME]);
        let mut tree = Tree::new(random.draw(), weather.unwrap_or(Conditions::PERFECT));
        let role = if random.happens(0.15) { Role::All } else { Role::Injection };
        let injection = tree.add(Setup::new(role));
        let mut life = Self {
            tree,
            random,
            injection,
            relays: Vec::new(),
            egresses: Vec::new(),
            links: Vec::new(),
            broadcasts: Vec::new(),
        };
        life.grow();
        for number in 0..life.random.within(1, 2) {
            let id = BroadcastId::new(&format!("programme-{number}")).expect("letters and digits");
            life.broadcasts.push(id.clone());
            let style = life.publisher();
            life.tree.publish(injection, &id, style);
        }
        if role == Role::All {
            life.egresses.push(injection);
        }
        for _ in 0..life.random.within(1, 6) {
            life.join();
        }
        life
    }

    fn grow(&mut self) {
        let (tree, random) = (&mut self.tree, &mut self.random);
        for _ in 0..random.below(4) {
            let relay = tree.add(Setup { parents_active: 1, ..Setup::new(Role::Relay) });
            // Below injection or below an earlier relay, so that there is no loop.
            let parent = match random.happens(0.3) {
                true => random.pick(&self.relays).unwrap_or(self.injection),
                false => self.injection,
            };
            self.links.push((relay, parent));
            if parent != self.injection && random.happens(0.5) {
                self.links.push((relay, self.injection));
            }
            self.relays.push(relay);
        }
        for _ in 0..random.within(1, 3) {
            let parents_active = random.within(1, 2) as usize;
            let replay_rate = if random.happens(0.2) { Bitrate::kbps(3000) } else { Bitrate::kbps(600_000) };
            let egress = tree.add(Setup { parents_active, replay_rate, ..Setup::new(Role::Egress) });
            let first = random.pick(&self.relays).unwrap_or(self.injection);
            self.links.push((egress, first));
            for parent in self.relays.iter().copied().chain([self.injection]) {
                if parent != first && random.happens(0.5) {
                    self.links.push((egress, parent));
                }
            }
            self.egresses.push(egress);
        }
        for (child, parent) in &self.links {
            tree.link(*child, *parent);
        }
    }

    fn publisher(&mut self) -> publisher::Style {
        let random = &mut self.random;
        publisher::Style {
            codec: if random.happens(0.2) { Codec::Vp8 } else { Codec::H264 },
            gop: random.within(15, 90),
            keyframe_packets: random.within(1, 14),
            delta_packets_max: random.within(1, 5),
            answers_requests: random.happens(0.5),
            loss: if random.happens(0.3) { 0.002 } else { 0.0 },
        }
    }

    fn join(&mut self) {
        let random = &mut self.random;
        let style = viewer::Style {
            profile: random.pick(&Profile::ALL).unwrap_or(Profile::AeadAes128Gcm),
            rtx: random.happens(0.8),
            estimate: random.happens(0.2).then_some(SLOW),
            conditions: random
                .pick(&[Conditions::PERFECT, Conditions::LOSSY, Conditions::HOME, Conditions::BAD])
                .unwrap_or(Conditions::PERFECT),
            is_about_to_wrap: random.happens(0.4),
        };
        let place = random.pick(&self.egresses);
        let index = random.below(self.broadcasts.len() as u64) as usize;
        if let (Some(node), Some(id)) = (place, self.broadcasts.get(index)) {
            self.tree.join(node, id, style);
        }
    }

    fn live(&mut self, step: &mut u64, what: &mut Step) -> Result<(), Violation> {
        while *step < STEPS {
            *step += 1;
            *what = self.draw_step();
            self.take(*what);
            let pause = Duration::from_millis(self.random.below(STEP_MAX));
            self.tree.run(pause)?;
            self.tree.check()?;
        }
        (*step, *what) = (*step + 1, Step::Pass);
        self.tree.heal();
        for id in self.broadcasts.clone() {
            if !self.tree.is_published(&id) {
                self.tree.publish_again(&id, Codec::H264);
            }
        }
        self.tree.run(Duration::from_millis(700))?;
        self.tree.run_until_everybody_is_live(RECOVERY)?;
        self.tree.run(AFTERMATH)?;
        self.tree.run_until_everybody_is_live(RECOVERY)?;
        self.tree.check_to_the_end()
    }

    fn draw_step(&mut self) -> Step {
        match self.random.below(100) {
            0..=17 => Step::Pass,
            18..=39 => Step::Join,
            40..=54 => Step::Leave,
            55..=61 => Step::WishKeyframe,
            62..=69 => Step::Republish,
            70..=79 => Step::CrashOrRevive,
            80..=85 => Step::Doom,
            86..=87 => Step::CrashInjection,
            88..=95 => Step::Partition,
            _ => Step::Weather,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Pass => {}
            Step::Join => self.join(),
            Step::Leave => {
                if let Some(viewer) = self.random.pick(&self.tree.watching()) {
                    let says_goodbye = self.random.happens(0.7);
                    self.tree.leave(viewer, says_goodbye);
                }
            }
            Step::WishKeyframe => {
                if let Some(viewer) = self.random.pick(&self.tree.watching()) {
                    self.tree.wish_keyframe(viewer);
                }
            }
            Step::Republish => self.republish(),
            Step::CrashOrRevive => {
                let nodes: Vec<_> = self.relays.iter().chain(&self.egresses).copied().collect();
                let Some(node) = self.random.pick(&nodes).filter(|node| *node != self.injection) else {
                    return;
                };
                if self.tree.node(node).is_alive { self.tree.crash(node) } else { self.tree.revive(node) }
            }
            Step::Doom => {
                if let Some(node) = self.random.pick(&self.egresses).filter(|node| *node != self.injection) {
                    let outputs = self.random.within(1, 60) as usize;
                    self.tree.doom(node, outputs);
                }
            }
            Step::CrashInjection => {
                self.tree.crash(self.injection);
                self.tree.revive(self.injection);
                self.broadcasts.clone().iter().for_each(|id| self.tree.publish_again(id, Codec::H264));
            }
            Step::Partition => self.partition(),
            Step::Weather => {
                let weather = [Conditions::PERFECT, Conditions::LOSSY, Conditions::HOME, Conditions::BAD];
                if let Some(weather) = self.random.pick(&weather) {
                    self.tree.set_conditions(weather);
                }
            }
        }
    }

    fn republish(&mut self) {
        let index = self.random.below(self.broadcasts.len() as u64) as usize;
        let Some(id) = self.broadcasts.get(index).cloned() else { return };
        if self.tree.is_published(&id) && self.random.happens(0.5) {
            self.tree.unpublish(&id);
            return;
        }
        let codec = self.random.pick(&[Codec::H264, Codec::H264, Codec::Vp8, Codec::Av1]);
        self.tree.publish_again(&id, codec.unwrap_or(Codec::H264));
    }

    fn partition(&mut self) {
        let cut = self.tree.partitions();
        if let Some((one, other)) = self.random.pick(&cut)
            && self.random.happens(0.6)
        {
            self.tree.reunite(one, other);
        } else if let Some((child, parent)) = self.random.pick(&self.links) {
            self.tree.partition(child, parent);
        }
    }
}
