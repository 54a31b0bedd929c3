//! Nodes as processes: the promises of every adapter, and what only processes have.

mod contract;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::{all, spec, stop, until};
use model::Role;
use provision::Provisioner;
use provision::process::{Options, Processes};

/// Stands for the program: `ROLE --config FILE`. Prints, and waits to be told to stop; crashes, or is deaf, if its name
/// says so.
const PROGRAM: &str = "#!/bin/sh
echo \"$1 with $(cat \"$3\")\"
case \"$3\" in
  */crash-*) exit 7 ;;
  */deaf-*) trap '' TERM ;;
esac
while :; do sleep 0.05; done
";

struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("program");
        std::fs::write(&program, PROGRAM).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
        Self(folder)
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join("nodes")
    }

    fn processes(&self) -> Processes {
        Processes::new(Options {
            directory: self.directory(),
            program: self.0.path().join("program"),
            first_port: 24_000,
            shards: 2,
            configure: Box::new(|spec, ports, home| {
                let is_home = home.ends_with(spec.node.as_str());
                format!("{} at {} in its own home: {is_home}", spec.node, ports.http)
            }),
            stop_within: Duration::from_millis(300),
            place: "process.here".into(),
        })
    }

    fn output(&self, node: &str) -> String {
        std::fs::read_to_string(self.directory().join(node).join("output")).unwrap_or_default()
    }
}

/// Nodes of this test that run in this directory.
fn running(home: &Path) -> usize {
    let processes = Path::new("/proc");
    let is_shell = |process: &Path| {
        std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(home))
            && std::fs::read(process.join("cmdline")).is_ok_and(|line| line.starts_with(b"/bin/sh"))
    };
    // A shell that starts a program is two for a moment.
    let is_of_shell = |process: &Path| {
        let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
        parent.is_some_and(|parent| is_shell(&processes.join(parent)))
    };
    let all = processes.read_dir().expect("Linux").flatten().map(|entry| entry.path());
    all.filter(|process| is_shell(process) && !is_of_shell(process)).count()
}

#[tokio::test]
async fn processes_keep_the_promises_of_every_adapter() {
    let machine = Machine::new();
    all(&machine.processes()).await;
    let left: Vec<_> = machine.directory().read_dir().expect("there").flatten().collect();
    assert_eq!(left.len(), 1, "only the lock is left: {left:?}");
}

#[tokio::test]
async fn a_node_has_a_private_home_and_ports_of_its_own() {
    let machine = Machine::new();
    let processes = machine.processes();
    let (one, two) = (spec("egress-1", Role::Egress), spec("relay-1", Role::Relay));
    processes.start_node(&one).await.expect("started");
    processes.start_node(&two).await.expect("started");
    until(&processes, "they print", |_| {
        !machine.output("egress-1").is_empty() && !machine.output("relay-1").is_empty()
    })
    .await;
    let (first, second) = (machine.output("egress-1"), machine.output("relay-1"));
    assert!(first.starts_with("egress with egress-1 at ") && first.contains("own home: true"), "{first}");
    assert!(second.starts_with("relay with relay-1 at "), "{second}");
    let port = |text: &str| text.split(' ').nth(4).and_then(|word| word.parse::<u16>().ok()).expect("a port");
    assert!(port(&first).abs_diff(port(&second)) >= 5);
    let file = machine.directory().join("egress-1/node.toml");
    assert_eq!(file.metadata().expect("there").mode() & 0o777, 0o600);
    stop(&processes, &one).await;
    stop(&processes, &two).await;
}

#[tokio::test]
async fn nodes_outlive_whoever_started_them_and_the_next_one_goes_on_with_them() {
    let machine = Machine::new();
    let node = spec("egress-1", Role::Egress);
    let first = machine.processes();
    first.start_node(&node).await.expect("started");
    let stranger = Machine::new();
    let strangers = stranger.processes();
    strangers.start_node(&node).await.expect("started under the same name elsewhere");

    let second = machine.processes();
    let refused = second.list().await.expect_err("the first one has the directory");
    assert!(refused.to_string().contains("another process"), "{refused}");
    drop(first);
    let listed = second.list().await.expect("it is free now");
    assert_eq!(listed.iter().map(|one| &one.spec).collect::<Vec<_>>(), [&node]);
    assert_eq!(running(&machine.directory()), 1);
    second.start_node(&node).await.expect("it runs");
    assert_eq!(running(&machine.directory()), 1, "nothing was started");
    stop(&second, &node).await;
    assert_eq!((running(&machine.directory()), running(&stranger.directory())), (0, 1));
    stop(&strangers, &node).await;
}

#[tokio::test]
async fn a_node_that_does_not_stop_is_killed() {
    let machine = Machine::new();
    let (processes, node) = (machine.processes(), spec("deaf-1", Role::Egress));
    processes.start_node(&node).await.expect("started");
    until(&processes, "it prints", |_| !machine.output("deaf-1").is_empty()).await;
    processes.stop_node(&node.node).await.expect("it answers");
    let deadline = std::time::Instant::now() + contract::PATIENCE;
    while !processes.list().await.expect("it answers").is_empty() {
        assert!(std::time::Instant::now() < deadline, "it still runs");
        processes.stop_node(&node.node).await.expect("it answers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(running(&machine.directory()), 0);
}

#[tokio::test]
async fn what_is_left_of_nodes_that_ended_meanwhile_is_removed() {
    let machine = Machine::new();
    for made in ["egress-old/state", "somebody-else/state"] {
        std::fs::create_dir_all(machine.directory().join(made)).expect("made");
    }
    let about = r#"{"node":"egress-old","tree":"main","slot":0,"role":"egress","first_port":20000}"#;
    for home in ["egress-old", "somebody-else"] {
        std::fs::write(machine.directory().join(home).join("node.json"), about).expect("written");
    }
    std::fs::set_permissions(machine.directory(), std::fs::Permissions::from_mode(0o700)).expect("private");
    assert_eq!(machine.processes().list().await.expect("it answers"), []);
    assert!(!machine.directory().join("egress-old").exists());
    assert!(machine.directory().join("somebody-else/state").exists(), "what is no node's home stays");
}

#[tokio::test]
async fn a_directory_that_others_can_read_is_not_taken() {
    let machine = Machine::new();
    std::fs::create_dir_all(machine.directory()).expect("made");
    std::fs::set_permissions(machine.directory(), std::fs::Permissions::from_mode(0o755)).expect("shared");
    assert!(machine.processes().list().await.is_err());
}
