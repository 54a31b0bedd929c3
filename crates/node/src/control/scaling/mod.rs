//! How this process's controller starts nodes, configured as it is itself: as processes of this machine, or as containers.

mod recipe;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use config::{Config, EngineUrl, ScalingMode};
use controller::{Mode, Policy, Scaling};
use provision::docker::{self, Address, Containers};
use provision::process::{self, Processes};
use recipe::Recipe;

/// A node that is told to stop sends its viewers elsewhere first, which takes it ten seconds at most.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// What the configuration says of scaling; `None` if trees do not grow by themselves.
///
/// # Errors
/// If this program cannot be found, or the certificates for engines.
pub fn of_config(config: &Config, host: &str) -> anyhow::Result<Option<Scaling>> {
    let mode = match config.scaling.mode {
        ScalingMode::Off => return Ok(None),
        ScalingMode::DryRun => Mode::DryRun,
        ScalingMode::Approve => Mode::Approve,
        ScalingMode::On => Mode::Automatic,
    };
    let scaling = &config.scaling;
    let policy = Policy {
        mode,
        out_permille: scaling.out_percent.saturating_mul(10),
        in_permille: scaling.in_percent.saturating_mul(10),
        lead: scaling.lead.get(),
        cool_down: scaling.cool_down.get(),
        healthy_within: scaling.healthy_within.get(),
        drain_within: scaling.drain_within.get(),
        starts_per_hour: scaling.starts_per_hour,
    };
    let provisioner: Arc<dyn provision::Provisioner> = match scaling.provisioner {
        config::Provisioner::Process => Arc::new(processes(config, host)?),
        config::Provisioner::Docker => Arc::new(containers(config, host)?),
    };
    Ok(Some(Scaling { policy, provisioner }))
}

fn processes(config: &Config, host: &str) -> anyhow::Result<Processes> {
    let recipe = Recipe::new(config, host);
    let directory = config.scaling.directory.clone().unwrap_or_else(|| default_directory(config));
    let directory = std::env::current_dir().unwrap_or_default().join(directory);
    Ok(Processes::new(process::Options {
        place: place("process", host, directory.as_os_str().as_encoded_bytes()),
        directory,
        program: std::env::current_exe().context("find this program")?,
        first_port: config.scaling.port,
        shards: recipe.shards(),
        stop_within: STOP_WITHIN,
        configure: Box::new(move |spec, ports, home| recipe.of_process(spec, ports, home)),
    }))
}

fn containers(config: &Config, host: &str) -> anyhow::Result<Containers> {
    let recipe = Recipe::new(config, host);
    let (scaling, engines) = (&config.scaling, config.scaling.docker_engines());
    let engine = |engine: &config::Engine| docker::Engine {
        name: engine.name(host).to_owned(),
        address: address(&engine.url, scaling.engine_certificates.as_deref()),
        nodes_max: engine.nodes_max,
    };
    let mut names = BTreeSet::new();
    if let Some(twice) = engines.iter().find(|engine| !names.insert(engine.name(host))) {
        bail!("scaling.engines has two that are called {}: write NAME=URL", twice.name(host));
    }
    let place = match &scaling.owner {
        Some(owner) => {
            if let Some(local) = engines.iter().find(|engine| engine.url.is_here()) {
                tracing::warn!(
                    engine = %local,
                    "controllers of other machines that have this scaling.owner would take engines of their own for \
                     this one: name it by an address that all of them reach"
                );
            }
            place("docker", owner.as_str(), &[])
        }
        // The same for a controller that starts again, and for no other one on this machine.
        None => place("docker", host, config.ops.listen.port().to_string().as_bytes()),
    };
    let options = docker::Options {
        engines: engines.iter().map(engine).collect(),
        image: scaling.image.clone(),
        first_port: scaling.port,
        shards: recipe.shards(),
        stop_within: STOP_WITHIN,
        place,
        configure: Box::new(move |spec, ports, name| {
            let engine = engines.iter().find(|engine| engine.name(recipe.host()) == name);
            recipe.of_container(engine.ok_or("no such engine")?, spec, ports)
        }),
    };
    Containers::new(options).context("use scaling.engines")
}

fn address(url: &EngineUrl, certificates: Option<&Path>) -> Address {
    match (url, certificates) {
        (EngineUrl::Unix(path), _) => Address::Unix(path.clone()),
        (EngineUrl::Tcp(host), Some(certificates)) => {
            Address::Tls { host: host.to_string(), certificates: certificates.to_owned() }
        }
        (EngineUrl::Tcp(host) | EngineUrl::Http(host), _) => Address::Plain(host.to_string()),
    }
}

/// The same for a controller that starts again, and for no other one on this machine.
fn default_directory(config: &Config) -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    let shared = Some(PathBuf::from("/dev/shm")).filter(|path| path.is_dir());
    let root = runtime.or(shared).unwrap_or_else(std::env::temp_dir);
    root.join(format!("media-tree-nodes-{}", config.ops.listen.port()))
}

/// A word for where nodes are started, in the grammar of ids: `more` tells apart those of one host, or owner.
fn place(kind: &str, host: &str, more: &[u8]) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    // FNV-1a: the same in every version of the program. Of the whole name of the host: what follows is only its beginning.
    let bytes = host.as_bytes().iter().chain(more);
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let host: String = host.to_lowercase().chars().map(allowed).take(40).collect();
    format!("{kind}.{host}.{hash:08x}")
}

#[cfg(test)]
mod tests {
    use model::NodeId;

    use super::*;

    #[test]
    fn the_word_for_a_directory_follows_the_grammar_and_is_its_own() {
        let directory = b"/dev/shm/media-tree-nodes-9600";
        for host in ["rack7-blade3", "Föhn PC", &"x".repeat(200), ""] {
            for kind in ["process", "docker"] {
                assert!(NodeId::new(&place(kind, host, directory)).is_ok(), "{host}");
            }
        }
        let other = b"/dev/shm/media-tree-nodes-9601";
        let ours = place("process", "rack7", directory);
        assert_ne!(ours, place("process", "rack7", other), "two controllers of one machine");
        let pods =
            ["a", "b"].map(|last| place("process", &format!("{}{last}", "pod-".repeat(12)), directory));
        assert_ne!(pods[0], pods[1], "names that differ in their ends");
        assert_eq!(place("process", "rack7", b""), "process.rack7.d08e199f");
    }

    #[test]
    fn containers_are_found_again_by_their_owner_whatever_engines_there_are() {
        let place = |text: &str, host: &str| {
            let text = format!("[scaling]\nmode = \"on\"\nprovisioner = \"docker\"\n{text}");
            let scaling = of_config(&Config::parse(&text).expect("a configuration"), host);
            let scaling = scaling.expect("no certificates are needed").expect("it is on");
            scaling.provisioner.place().to_owned()
        };
        assert_eq!(place("", "rack7"), place("engines = [\"http://127.0.0.1:2375\"]\n", "rack7"));
        assert_ne!(place("", "rack7"), place("", "rack8"));
        assert_ne!(place("", "rack7"), place("[ops]\nlisten = \"127.0.0.1:9700\"\n", "rack7"));
        let owner = "owner = \"live\"\n";
        assert_eq!(place(owner, "rack7"), place(owner, "rack8"), "each goes on with the other's");
        assert_ne!(place(owner, "rack7"), place("", "rack7"));
    }

    #[test]
    fn an_engine_is_asked_with_certificates_where_there_are_some() {
        let url = |text: &str| text.parse::<EngineUrl>().expect("an URL");
        let certificates = Some(Path::new("/etc/docker"));
        assert!(
            matches!(address(&url("unix:///a"), certificates), Address::Unix(path) if path == Path::new("/a"))
        );
        assert!(matches!(
            address(&url("tcp://[::1]:2376"), certificates),
            Address::Tls { host, certificates } if host == "[::1]:2376" && certificates == Path::new("/etc/docker")
        ));
        for plain in ["tcp://10.0.0.8:2375", "http://10.0.0.8:2375"] {
            let certificates = certificates.filter(|_| plain.starts_with("http"));
            assert!(
                matches!(address(&url(plain), certificates), Address::Plain(host) if host == "10.0.0.8:2375")
            );
        }
    }
}
