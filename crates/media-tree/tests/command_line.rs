//! The program as a shell meets it: exit codes, what is printed where.

use std::net::TcpListener;
use std::process::{Command, Output};

fn media_tree(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_media-tree"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MEDIA_TREE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).output().expect("the program runs")
}

fn says(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[test]
fn bad_configuration_ends_with_64_and_says_why() {
    for (arguments, words) in [
        (&["relay"][..], "--parents"),
        (&["up", "--http", "0.0.0.0:8080"], "--insecure-http"),
        (&["up", "--http", "nonsense"], "nonsense"),
        (&["up", "--no-such-flag"], "--no-such-flag"),
        (&["up", "--config", "/nowhere.toml"], "/nowhere.toml"),
        (&["up", "--log-filter", "a=b=c"], "log filter"),
        (&["config", "check", "--role", "egress"], "link.parents"),
        (&[], "Usage"),
    ] {
        let output = media_tree(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(says(&output.stderr).contains(words), "{arguments:?}: {}", says(&output.stderr));
        assert_eq!(says(&output.stdout), "", "{arguments:?}");
    }
}

#[test]
fn bad_configuration_is_found_before_any_port_is_bound() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("address").to_string();
    let output = media_tree(&["up", "--http", &address, "--ops", &address]);
    assert_eq!(output.status.code(), Some(64), "{}", says(&output.stderr));
}

#[test]
fn a_good_configuration_is_called_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("media-tree.toml");
    let example = media_tree(&["config", "example"]);
    assert_eq!(example.status.code(), Some(0));
    std::fs::write(&file, &example.stdout).expect("written");
    let output = media_tree(&["config", "check", "--config", file.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(0), "{}", says(&output.stderr));
    assert_eq!(says(&output.stdout), "the configuration is good\n");
}

#[test]
fn help_and_version_are_no_errors() {
    let help = media_tree(&["up", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    for flag in ["--http <listen>", "--media-port", "--demo", "--insecure-http", "[link]"] {
        assert!(says(&help.stdout).contains(flag), "{flag} is not in:\n{}", says(&help.stdout));
    }
    let version = media_tree(&["--version"]);
    assert_eq!(says(&version.stdout), format!("media-tree {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_health_of_a_node_that_is_not_there_is_bad() {
    let free = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    let output = media_tree(&["healthcheck", "--ops", &free.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(says(&output.stderr).contains("no node answers"));
}
