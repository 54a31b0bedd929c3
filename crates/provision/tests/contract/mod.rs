//! What every adapter of the port promises. Each test file that has an adapter includes this one and runs [`all`].

use std::time::{Duration, Instant};

use model::{NodeId, Role, TreeId};
use provision::{NodeSpec, Phase, Provisioner, StartError};

/// Anything that is to happen happens within this time, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn spec(name: &str, role: Role) -> NodeSpec {
    NodeSpec {
        node: NodeId::new(name).expect("a name"),
        tree: TreeId::new("main").expect("a name"),
        slot: 3,
        role,
    }
}

/// Waits for a condition of the list.
pub async fn until(provisioner: &dyn Provisioner, what: &str, is_so: impl Fn(&[provision::Listed]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listed = provisioner.list().await.expect("it answers");
        if is_so(&listed) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {listed:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Stops a node and waits until it is gone.
pub async fn stop(provisioner: &dyn Provisioner, spec: &NodeSpec) {
    provisioner.stop_node(&spec.node).await.expect("it answers");
    until(provisioner, "it stops", |listed| listed.iter().all(|one| one.spec != *spec)).await;
}

/// All promises. Nodes that are started run until they are told to stop; those named `crash...` end at once.
pub async fn all(provisioner: &dyn Provisioner) {
    assert!(NodeId::new(provisioner.place()).is_ok(), "{}", provisioner.place());
    what_is_started_is_listed_until_it_is_stopped(provisioner).await;
    starting_twice_is_starting_once(provisioner).await;
    stopping_what_is_not_there_does_nothing(provisioner).await;
    what_ends_by_itself_is_started_again_later_and_later(provisioner).await;
}

async fn what_is_started_is_listed_until_it_is_stopped(provisioner: &dyn Provisioner) {
    let (relay, egress) = (spec("relay-a", Role::Relay), spec("egress-a", Role::Egress));
    for spec in [&relay, &egress] {
        provisioner.start_node(spec).await.expect("started");
    }
    let listed = provisioner.list().await.expect("it answers");
    let specs: Vec<&NodeSpec> = listed.iter().map(|one| &one.spec).collect();
    assert_eq!(specs, [&egress, &relay], "by name");
    assert!(listed.iter().all(|one| one.phase == Phase::Running && one.failures == 0), "{listed:?}");
    stop(provisioner, &egress).await;
    let listed = provisioner.list().await.expect("it answers");
    assert_eq!(listed.len(), 1, "the other one is left alone");
    stop(provisioner, &relay).await;
}

async fn starting_twice_is_starting_once(provisioner: &dyn Provisioner) {
    let node = spec("egress-b", Role::Egress);
    let (one, other) = tokio::join!(provisioner.start_node(&node), provisioner.start_node(&node));
    one.and(other).expect("started");
    assert_eq!(provisioner.list().await.expect("it answers").len(), 1);
    stop(provisioner, &node).await;
    provisioner.start_node(&node).await.expect("a node that was stopped may come again");
    stop(provisioner, &node).await;
}

async fn stopping_what_is_not_there_does_nothing(provisioner: &dyn Provisioner) {
    let node = spec("egress-never", Role::Egress);
    provisioner.stop_node(&node.node).await.expect("it answers");
    assert_eq!(provisioner.list().await.expect("it answers"), []);
}

async fn what_ends_by_itself_is_started_again_later_and_later(provisioner: &dyn Provisioner) {
    let node = spec("crash-1", Role::Egress);
    let mut waits = Vec::new();
    for failures in 1..=2 {
        let deadline = Instant::now() + PATIENCE;
        // Not listed any more, it may be started again.
        until(provisioner, "it may start", |listed| listed.iter().all(|one| one.spec != node)).await;
        provisioner.start_node(&node).await.expect("started");
        let refused = loop {
            assert!(Instant::now() < deadline, "it is started again and again");
            match provisioner.start_node(&node).await {
                Ok(()) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => break error,
            }
        };
        match refused {
            StartError::BackingOff { failures: counted, wait, .. } => {
                assert_eq!(counted, failures);
                waits.push(wait);
            }
            other => panic!("{other}"),
        }
        let listed = provisioner.list().await.expect("it answers");
        assert_eq!((listed[0].phase, listed[0].failures), (Phase::BackingOff, failures));
    }
    assert!(waits[1] > waits[0], "{waits:?}");
    stop(provisioner, &node).await;
}
