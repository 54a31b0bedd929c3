//! Where nodes go, and what is believed of engines that say nothing, something else, or too late.

use model::{Role, TreeId};

use super::*;

const PLAN: PortPlan = PortPlan { first: 20_000, shards: 1 };
const HERE: &str = "docker.here";

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a name")
}

fn spec(name: &str) -> NodeSpec {
    NodeSpec { node: node(name), tree: TreeId::new("main").expect("a name"), slot: 0, role: Role::Egress }
}

fn container(name: &str, first: u16, state: State) -> Container {
    Container {
        id: format!("id-of-{name}"),
        place: HERE.into(),
        spec: spec(name),
        ports: first..=first + 3,
        state,
        status: "as it is".into(),
    }
}

/// A clock, and engines of which each may run so many nodes, all of which have answered.
struct World {
    now: Instant,
    known: Known,
}

impl World {
    fn new(nodes_max: &[u16]) -> Self {
        let mut world = Self { now: Instant::now(), known: Known::new(nodes_max.iter().copied()) };
        for engine in 0..nodes_max.len() {
            world.hear(engine, Vec::new());
        }
        world
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn hear(&mut self, engine: usize, containers: Vec<Container>) -> Vec<Ended> {
        self.pass(1);
        self.known.heard((engine, self.now), (containers, HERE), &BTreeSet::new()).0
    }

    fn choose(&mut self, name: &str) -> Result<(usize, u16), NoPlace> {
        self.known.choose(&spec(name), None, PLAN).map(|(engine, ports)| (engine, ports.http))
    }

    fn listed(&self) -> Vec<(String, Phase)> {
        let listed = self.known.list(self.now).into_iter();
        listed.map(|one| (one.spec.node.to_string(), one.phase)).collect()
    }

    fn leftovers(&self) -> Vec<String> {
        let leftovers = self.known.leftovers(self.now, &BTreeSet::new()).into_iter();
        leftovers.map(|leftover| format!("{} of {}", leftover.id, leftover.engine)).collect()
    }
}

#[test]
fn nodes_are_spread_by_how_many_each_engine_has_up_to_its_bound() {
    let mut world = World::new(&[2, 3]);
    let places: Vec<_> = ["a", "b", "c", "d", "e"].map(|name| world.choose(name)).into();
    let place = |engine: usize, first: u16| Ok::<_, NoPlace>((engine, first));
    assert_eq!(
        places,
        [place(0, 20_000), place(1, 20_000), place(0, 20_004), place(1, 20_004), place(1, 20_008)]
    );
    assert_eq!(world.choose("f"), Err(NoPlace::Full));
    world.known.gone(0, &node("a"));
    assert_eq!(world.choose("f"), place(0, 20_000));
}

#[test]
fn nodes_of_others_count_and_keep_their_ports() {
    let mut world = World::new(&[3]);
    let others = Container { place: "docker.there".into(), ..container("x", 20_002, State::Running) };
    world.hear(0, vec![others]);
    assert_eq!(world.listed(), [], "it is not ours to list");
    assert_eq!(world.choose("a"), Ok((0, 20_008)), "the first two blocks overlap with it");
    assert_eq!(world.choose("b"), Err(NoPlace::Ports));
    assert_eq!(world.leftovers(), [""; 0]);
}

#[test]
fn an_engine_that_falls_silent_keeps_its_nodes_and_gets_no_new_ones() {
    let mut world = World::new(&[4, 4]);
    world.hear(0, vec![container("a", 20_000, State::Running)]);
    assert_eq!(world.known.silent(0, "connection refused"), Some(1), "told once");
    assert_eq!(world.known.silent(0, "connection refused"), None);
    world.pass(3600);
    assert_eq!(world.listed(), [("a".to_owned(), Phase::Running)]);
    assert_eq!(world.known.located(&node("a")), Some(0), "so it is not started elsewhere");
    for first in [20_000, 20_004] {
        assert_eq!(world.choose(&format!("b{first}")), Ok((1, first)), "though the silent one has fewer");
    }
    assert_eq!(world.known.silence(), None, "one answers");
    world.known.silent(1, "no answer in time");
    assert_eq!(world.known.silence(), Some("connection refused"));
    assert_eq!(world.choose("c"), Err(NoPlace::Silence("connection refused".into())));
    let (_, is_back) = world.known.heard((0, world.now), (Vec::new(), HERE), &BTreeSet::new());
    assert!(is_back);
    assert_eq!(world.known.located(&node("a")), None, "it says that the node is gone");
}

#[test]
fn an_engine_that_never_answered_may_run_anything() {
    let mut known = Known::new([1, 1].into_iter());
    known.heard((0, Instant::now()), (Vec::new(), HERE), &BTreeSet::new());
    assert_eq!(known.unknown(), Some("an engine has not been asked yet"));
    known.silent(1, "no route");
    assert_eq!(known.unknown(), Some("no route"));
    known.heard((1, Instant::now()), (Vec::new(), HERE), &BTreeSet::new());
    assert_eq!(known.unknown(), None);
}

#[test]
fn what_was_known_before_others_were_in_charge_is_not_believed() {
    let mut world = World::new(&[4]);
    for _ in 0..100 {
        world.pass(1);
        world.known.asks(world.now);
    }
    world.known.silent(0, "no route");
    assert_eq!(world.known.unknown(), None, "silence changes nothing for whoever goes on asking");
    world.pass(60);
    world.known.asks(world.now);
    assert_eq!(world.known.unknown(), Some("no route"));
    world.hear(0, Vec::new());
    assert_eq!(world.known.unknown(), None);
}

#[test]
fn a_list_says_nothing_of_what_was_done_since_it_was_asked_for() {
    let mut world = World::new(&[4]);
    let asked = world.now;
    world.pass(1);
    world.choose("a").expect("a place");
    world.known.made(0, &node("a"), "id-of-a");
    world.known.runs(world.now, 0, &node("a"));
    world.known.touch(world.now, &node("a"));
    world.known.heard((0, asked), (Vec::new(), HERE), &BTreeSet::new());
    assert_eq!(world.listed(), [("a".to_owned(), Phase::Running)], "asked before it was made");

    let busy = BTreeSet::from([node("a")]);
    world.pass(1);
    world.known.heard((0, world.now), (Vec::new(), HERE), &busy);
    assert_eq!(world.listed().len(), 1, "somebody is at it");
    world.pass(1);
    world.hear(0, Vec::new());
    assert_eq!(world.listed(), [], "now it is believed");
}

#[test]
fn a_node_that_ends_is_told_once_waits_and_is_forgotten_if_nobody_wants_it() {
    let mut world = World::new(&[4]);
    assert_eq!(world.hear(0, vec![container("a", 20_000, State::Running)]), []);
    let ended = world.hear(0, vec![container("a", 20_000, State::Ended)]);
    assert_eq!(ended.len(), 1);
    assert_eq!((&ended[0].id[..], ended[0].failures, ended[0].pause.as_secs()), ("id-of-a", 1, 1));
    assert_eq!(world.listed(), [("a".to_owned(), Phase::BackingOff)]);
    assert_eq!(world.hear(0, vec![container("a", 20_000, State::Ended)]), [], "told once");
    assert_eq!(world.listed(), [], "it may be started");
    assert_eq!(world.leftovers(), [""; 0]);
    world.pass(600);
    assert_eq!(world.leftovers(), ["id-of-a of 0"]);
}

#[test]
fn the_next_start_takes_the_next_ports_of_those_that_the_engine_has() {
    let mut world = World::new(&[3]);
    world.hear(0, vec![container("b", 20_004, State::Running)]);
    let mut next = |before: u16| {
        let before = Some((0, before..=before + 3));
        let chosen = world.known.choose(&spec("a"), before, PLAN).map(|(_, ports)| ports.http);
        world.known.gone(0, &node("a"));
        chosen
    };
    assert_eq!(next(20_000), Ok(20_008), "the second block is taken");
    assert_eq!(next(20_008), Ok(20_000), "after the last comes the first");
}

#[test]
fn what_is_left_of_starts_and_stops_is_removed() {
    let mut world = World::new(&[4, 4]);
    world.hear(0, vec![container("half", 20_000, State::Created), container("told", 20_004, State::Running)]);
    assert_eq!(world.leftovers(), ["id-of-half of 0"]);
    assert_eq!(world.known.leftovers(world.now, &BTreeSet::from([node("half")])), [], "somebody is at it");
    assert_eq!(world.known.tell(&node("told")), Some(0));
    assert_eq!(world.hear(0, vec![container("told", 20_004, State::Ended)]), [], "it was told to");
    assert_eq!((world.leftovers(), world.listed()), (vec!["id-of-told of 0".to_owned()], Vec::new()));
    world.known.forget(0, &node("told"));
    assert_eq!(world.leftovers(), [""; 0]);
}

#[test]
fn a_node_that_runs_twice_is_left_once() {
    let mut world = World::new(&[4, 4]);
    world.hear(0, vec![container("a", 20_000, State::Ended)]);
    let other = |state| Container { id: "another".into(), ..container("a", 20_000, state) };
    world.hear(1, vec![other(State::Running)]);
    assert_eq!(world.listed(), [("a".to_owned(), Phase::Running)]);
    assert_eq!(world.leftovers(), ["id-of-a of 0"], "the one that runs is kept");
    world.hear(0, vec![container("a", 20_000, State::Running)]);
    assert_eq!(world.leftovers(), ["another of 1"]);
    world.known.silent(0, "no route");
    assert_eq!(world.leftovers(), [""; 0], "nobody knows whether the other one still runs");
}

#[test]
fn what_is_known_of_nodes_goes_with_them_but_for_how_often_they_failed() {
    let mut world = World::new(&[4]);
    world.hear(0, vec![container("a", 20_000, State::Running), container("b", 20_004, State::Running)]);
    world.known.tell(&node("b"));
    world.hear(0, vec![container("a", 20_000, State::Ended)]);
    world.hear(0, Vec::new());
    world.known.asks(world.now);
    assert_eq!((world.known.told.len(), world.known.restarts.len()), (0, 1), "it may be started again");
    world.pass(600);
    world.known.asks(world.now);
    assert!(world.known.restarts.is_empty());
}

#[test]
fn an_engine_that_is_named_twice_has_its_nodes_once() {
    let mut world = World::new(&[4, 4]);
    for engine in [0, 1] {
        world.hear(engine, vec![container("a", 20_000, State::Running)]);
    }
    assert_eq!(world.listed(), [("a".to_owned(), Phase::Running)]);
    assert_eq!(world.leftovers(), [""; 0], "it is one container");
}
