//! How this process's controller starts nodes: as processes of this machine, configured as it is itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use config::{Config, LogFormat, ScalingMode, Secret};
use controller::{Mode, Policy, Scaling};
use provision::process::{Options, Processes};
use provision::{NodeSpec, Ports};

/// A node that is told to stop sends its viewers elsewhere first, which takes it ten seconds at most.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// What the configuration says of scaling; `None` if trees do not grow by themselves.
///
/// # Errors
/// If this program cannot be found.
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
    let recipe = Recipe::new(config, host);
    let directory = scaling.directory.clone().unwrap_or_else(|| default_directory(config));
    let directory = std::env::current_dir().unwrap_or_default().join(directory);
    let processes = Processes::new(Options {
        place: place(host, &directory),
        directory,
        program: std::env::current_exe().context("find this program")?,
        first_port: scaling.port,
        shards: recipe.shards,
        stop_within: STOP_WITHIN,
        configure: Box::new(move |spec, ports, home| recipe.configuration(spec, ports, home)),
    });
    Ok(Some(Scaling { policy, provisioner: Arc::new(processes) }))
}

/// The same for a controller that starts again, and for no other one on this machine.
fn default_directory(config: &Config) -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    let shared = Some(PathBuf::from("/dev/shm")).filter(|path| path.is_dir());
    let root = runtime.or(shared).unwrap_or_else(std::env::temp_dir);
    root.join(format!("media-tree-nodes-{}", config.ops.listen.port()))
}

/// A word for the directory of nodes on this machine, in the grammar of ids: another controller here has another one.
fn place(host: &str, directory: &Path) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    // FNV-1a: the same in every version of the program. Of the whole name of the host: what follows is only its beginning.
    let bytes = host.as_bytes().iter().chain(directory.as_os_str().as_encoded_bytes());
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let host: String = host.to_lowercase().chars().map(allowed).take(40).collect();
    format!("process.{host}.{hash:08x}")
}

/// From the configuration of a controller to those of the nodes that it starts.
struct Recipe {
    config: Config,
    shards: u16,
}

impl Recipe {
    fn new(config: &Config, host: &str) -> Self {
        let mut config = config.clone();
        let store = config.control.store.clone().filter(|store| !store.expose().starts_with("embedded"));
        config.control.store = store.or_else(|| own_store(&config));
        // Many nodes share the machine: one thread each, unless somebody says otherwise.
        let shards = config.node.shards.unwrap_or(1);
        config.node.shards = Some(shards);
        config.node.supervise = Some(true);
        config.node.state_key_file = None;
        config.control.host = Some(host.to_owned());
        // Those of the controller itself.
        (config.control.public_url, config.control.link_public) = (None, Vec::new());
        config.scaling.mode = ScalingMode::Off;
        config.log.format = LogFormat::Human;
        config.demo = false;
        // They have been read.
        config.link.cluster_key_file = None;
        config.access.jwt_secret_file = None;
        config.webhooks.secret_file = None;
        config.ice.turn_secret_file = None;
        // Files are named from where this process stands.
        let here = std::env::current_dir().unwrap_or_default();
        for file in [&mut config.http.tls_certificate, &mut config.http.tls_key].into_iter().flatten() {
            *file = here.join(&*file);
        }
        if let Some(config::KeySource::File(file)) = &mut config.access.jwt_jwks {
            *file = here.join(&*file);
        }
        Self { config, shards }
    }

    fn configuration(&self, spec: &NodeSpec, ports: &Ports, home: &Path) -> String {
        let mut config = self.config.clone();
        config.node.id = Some(spec.node.clone());
        config.node.tree_id = spec.tree.clone();
        config.node.state_dir = Some(home.join("state"));
        config.http.listen.set_port(ports.http);
        config.ops.listen.set_port(ports.ops);
        config.link.port = ports.link;
        config.media.port = ports.media;
        config.to_toml()
    }
}

/// Where nodes on this machine reach the store that this process keeps.
fn own_store(config: &Config) -> Option<Secret> {
    let listen = config.http.listen;
    let ip = listen.ip();
    // The certificate is good for its name, not for an address.
    let url = match (&config.http.tls_certificate, &config.control.public_url) {
        (Some(_), Some(url)) => url.trim_end_matches('/').to_owned(),
        (Some(_) | None, _) if ip.is_unspecified() => {
            format!("http://{}", SocketAddr::new([127, 0, 0, 1].into(), listen.port()))
        }
        (Some(_) | None, _) => format!("http://{listen}"),
    };
    url.parse().ok()
}

#[cfg(test)]
mod tests {
    use model::{NodeId, Role, TreeId};

    use super::*;

    fn node_of(controller: &Config) -> Config {
        let spec = NodeSpec {
            node: NodeId::new("egress-1").expect("a name"),
            tree: TreeId::new("other").expect("a name"),
            slot: 0,
            role: Role::Egress,
        };
        let ports = Ports { http: 20_000, ops: 20_001, link: 20_002, media: 20_003 };
        let text =
            Recipe::new(controller, "here").configuration(&spec, &ports, Path::new("/run/nodes/egress-1"));
        Config::parse(&text).expect("a configuration")
    }

    #[test]
    fn a_node_is_configured_as_its_controller_with_ports_and_a_name_of_its_own() {
        let mut controller = Config::default();
        controller.access.view_tokens = vec!["a-secret-token".parse().expect("a token")];
        controller.limits.viewers_max = 77;
        controller.scaling.mode = ScalingMode::On;
        controller.control.public_url = Some("https://controller.example.net".into());
        let node = node_of(&controller);
        assert_eq!(node.check(Role::Egress).map_err(|error| error.to_string()), Ok(()));
        assert_eq!(node.node.id, Some(NodeId::new("egress-1").expect("a name")));
        assert_eq!(
            node.control.store.map(|store| store.expose().to_owned()),
            Some("http://127.0.0.1:8080".into())
        );
        assert_eq!((node.http.listen.port(), node.media.port, node.link.port), (20_000, 20_003, 20_002));
        assert_eq!((node.limits.viewers_max, node.access.view_tokens.len()), (77, 1));
        assert_eq!((node.scaling.mode, node.control.public_url), (ScalingMode::Off, None));
    }

    #[test]
    fn a_store_that_others_share_is_theirs_too_and_a_name_goes_with_a_certificate() {
        let mut controller = Config::default();
        controller.control.store = "redis://10.0.0.1".parse().ok();
        assert_eq!(node_of(&controller).control.store, controller.control.store);
        controller.control.store = "embedded:/var/lib/media-tree".parse().ok();
        controller.http.listen = ([0, 0, 0, 0], 443).into();
        assert_eq!(node_of(&controller).control.store, "http://127.0.0.1:443".parse().ok());
        controller.http.tls_certificate = Some("tls.crt".into());
        controller.control.public_url = Some("https://live.example.net/".into());
        assert_eq!(node_of(&controller).control.store, "https://live.example.net".parse().ok());
        assert!(node_of(&controller).http.tls_certificate.is_some_and(|file| file.is_absolute()));
    }

    #[test]
    fn the_word_for_a_directory_follows_the_grammar_and_is_its_own() {
        let directory = Path::new("/dev/shm/media-tree-nodes-9600");
        for host in ["rack7-blade3", "Föhn PC", &"x".repeat(200), ""] {
            assert!(NodeId::new(&place(host, directory)).is_ok(), "{host}");
        }
        let other = Path::new("/dev/shm/media-tree-nodes-9601");
        assert_ne!(place("rack7", directory), place("rack7", other), "two controllers of one machine");
        let pods = ["a", "b"].map(|last| place(&format!("{}{last}", "pod-".repeat(12)), directory));
        assert_ne!(pods[0], pods[1], "names that differ in their ends");
        assert_eq!(place("rack7", Path::new("")), "process.rack7.d08e199f");
    }
}
