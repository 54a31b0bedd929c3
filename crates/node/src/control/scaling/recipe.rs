//! From the configuration of a controller to those of the nodes that it starts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::{Config, Engine, KeySource, LogFormat, Scaling, Secret};
use provision::docker::{File, HOME};
use provision::{NodeSpec, Ports};

/// What all nodes have in common.
pub struct Recipe {
    config: Config,
    shards: u16,
    host: String,
    log_format: LogFormat,
    /// Where nodes on other machines reach the store.
    store_from_afar: Option<Secret>,
}

impl Recipe {
    /// For nodes of the controller that has this configuration and runs on this host.
    pub fn new(config: &Config, host: &str) -> Self {
        let mut config = config.clone();
        let log_format = config.log.format;
        let store = config.control.store.clone().filter(|store| !store.expose().starts_with("embedded"));
        let public = config.control.public_url.as_deref().map(|url| url.trim_end_matches('/').parse());
        let store_from_afar = store.clone().or_else(|| public.and_then(Result::ok));
        config.control.store = store.or_else(|| own_store(&config));
        // Many nodes share the machine: one thread each, unless somebody says otherwise.
        let shards = config.node.shards.unwrap_or(1);
        config.node.shards = Some(shards);
        config.node.supervise = Some(true);
        config.node.state_key_file = None;
        config.control.host = Some(host.to_owned());
        // Those of the controller itself.
        (config.control.public_url, config.control.link_public) = (None, Vec::new());
        config.scaling = Scaling::default();
        config.demo = false;
        // They have been read.
        config.link.cluster_key_file = None;
        config.access.jwt_secret_file = None;
        config.webhooks.secret_file = None;
        config.ice.turn_secret_file = None;
        // Files are named from where this process stands.
        let here = std::env::current_dir().unwrap_or_default();
        for (_, file) in files(&mut config) {
            *file = here.join(&*file);
        }
        Self { config, shards, host: host.to_owned(), log_format, store_from_afar }
    }

    /// UDP ports of viewers' media, of each node.
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The name of the controller's own machine.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The file of a node that is a process of this machine and has this directory.
    pub fn of_process(&self, spec: &NodeSpec, ports: &Ports, home: &Path) -> String {
        let mut config = self.node(spec, ports);
        config.node.state_dir = Some(home.join("state"));
        // This process passes it on, in its own format.
        config.log.format = LogFormat::Human;
        config.to_toml()
    }

    /// The files of a node that is a container of this engine.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn of_container(&self, engine: &Engine, spec: &NodeSpec, ports: &Ports) -> Result<Vec<File>, String> {
        let mut config = self.node(spec, ports);
        config.log.format = self.log_format;
        // Its supervisor takes a place in the container's own memory.
        config.node.state_dir = None;
        self.adapt(&mut config, engine);
        let mut all = Vec::new();
        for (name, file) in files(&mut config) {
            let bytes = std::fs::read(&*file).map_err(|error| format!("{}: {error}", file.display()))?;
            all.push(File { name, bytes });
            *file = Path::new(HOME).join(name);
        }
        all.push(File { name: "node.toml", bytes: config.to_toml().into_bytes() });
        Ok(all)
    }

    /// A node with a name and ports of its own.
    fn node(&self, spec: &NodeSpec, ports: &Ports) -> Config {
        let mut config = self.config.clone();
        config.node.id = Some(spec.node.clone());
        config.node.tree_id = spec.tree.clone();
        config.http.listen.set_port(ports.http);
        config.ops.listen.set_port(ports.ops);
        config.link.port = ports.link;
        config.media.port = ports.media;
        config
    }

    /// To the machine of an engine.
    fn adapt(&self, config: &mut Config, engine: &Engine) {
        config.control.host = Some(engine.name(&self.host).to_owned());
        if let Some(zone) = &engine.zone {
            config.control.zone = Some(zone.clone());
        }
        if let Some(name) = &engine.public_name {
            let scheme = if config.http.tls_certificate.is_some() { "https" } else { "http" };
            config.control.public_url = Some(format!("{scheme}://{name}:{}", config.http.listen.port()));
        }
        if !engine.url.is_here() {
            config.media.public_ip = Vec::new();
            config.control.store.clone_from(&self.store_from_afar);
        }
        if !engine.public_ip.is_empty() {
            config.media.public_ip.clone_from(&engine.public_ip);
        }
        let Some(ip) = engine.private_ip else { return };
        let is_own =
            |listen: &SocketAddr| !listen.ip().to_canonical().is_loopback() && !listen.ip().is_unspecified();
        for listen in [&mut config.http.listen, &mut config.ops.listen] {
            if is_own(listen) {
                listen.set_ip(ip);
            }
        }
        let link = config.link.address.filter(|address| is_own(&SocketAddr::new(*address, 0)));
        config.link.address = link.map(|_| ip).or(config.link.address);
    }
}

/// The files that a configuration names, each with the name that it has in a container.
fn files(config: &mut Config) -> Vec<(&'static str, &mut PathBuf)> {
    let keys = match &mut config.access.jwt_jwks {
        Some(KeySource::File(file)) => Some(file),
        Some(KeySource::Url(_)) | None => None,
    };
    let named = [
        ("tls.crt", config.http.tls_certificate.as_mut()),
        ("tls.key", config.http.tls_key.as_mut()),
        ("jwks.json", keys),
    ];
    named.into_iter().filter_map(|(name, file)| Some((name, file?))).collect()
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
    use config::ScalingMode;
    use model::{NodeId, Role, TreeId};

    use super::*;

    const PORTS: Ports = Ports { http: 20_000, ops: 20_001, link: 20_002, media: 20_003 };

    fn spec() -> NodeSpec {
        NodeSpec {
            node: NodeId::new("egress-1").expect("a name"),
            tree: TreeId::new("other").expect("a name"),
            slot: 0,
            role: Role::Egress,
        }
    }

    fn node_of(controller: &Config) -> Config {
        let recipe = Recipe::new(controller, "here");
        let text = recipe.of_process(&spec(), &PORTS, Path::new("/run/nodes/egress-1"));
        Config::parse(&text).expect("a configuration")
    }

    /// The files of a node on the only engine of a controller, its configuration first.
    fn files_of(controller: &str) -> Result<(Config, Vec<File>), String> {
        let controller = Config::parse(controller).expect("a configuration");
        let engine = &controller.scaling.docker_engines()[0];
        let mut files = Recipe::new(&controller, "here").of_container(engine, &spec(), &PORTS)?;
        let node = files.pop().filter(|file| file.name == "node.toml").expect("its configuration");
        let text = String::from_utf8(node.bytes).expect("text");
        Ok((Config::parse(&text).expect("a configuration"), files))
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
        assert_eq!(node.node.state_dir, Some("/run/nodes/egress-1/state".into()));
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
    fn a_container_on_this_machine_is_reached_as_the_controller_is() {
        let (node, files) =
            files_of("[media]\npublic_ip = \"203.0.113.5\"\n[log]\nformat = \"json\"\n").expect("files");
        assert_eq!(node.check(Role::Egress).map_err(|error| error.to_string()), Ok(()));
        assert_eq!(node.control.store, "http://127.0.0.1:8080".parse().ok(), "by the machine's own network");
        assert_eq!(node.media.public_ip, ["203.0.113.5".parse::<std::net::IpAddr>().expect("an address")]);
        assert_eq!((node.control.host.as_deref(), node.log.format), (Some("here"), LogFormat::Json));
        assert_eq!((node.node.supervise, node.node.state_dir), (Some(true), None));
        assert!(files.is_empty());
    }

    #[test]
    fn a_container_on_another_machine_has_addresses_of_that_machine() {
        let base = "[link]\ncluster_key = \"0123456789abcdef\"\naddress = \"10.0.0.5\"\n[ops]\nlisten = \"10.0.0.5:9600\"\n\
                    [http]\nlisten = \"0.0.0.0:80\"\ninsecure = true\n[media]\npublic_ip = \"203.0.113.5\"\n\
                    [control]\npublic_url = \"http://live.example.net/\"\nzone = \"a\"\n\
                    [scaling]\nprovisioner = \"docker\"\n[[scaling.engines]]\nurl = \"tcp://rack8:2376\"\nprivate_ip = \"10.0.0.8\"\n";
        let (node, _) = files_of(base).expect("files");
        assert_eq!(node.check(Role::Egress).map_err(|error| error.to_string()), Ok(()));
        assert_eq!(node.control.store, "http://live.example.net".parse().ok());
        assert_eq!((node.control.host.as_deref(), node.control.zone.as_deref()), (Some("rack8"), Some("a")));
        assert_eq!(
            (node.media.public_ip.len(), &node.control.public_url),
            (0, &None),
            "it has those it finds"
        );
        assert_eq!(
            (node.http.listen, node.ops.listen),
            (([0, 0, 0, 0], 20_000).into(), ([10, 0, 0, 8], 20_001).into())
        );
        assert_eq!(node.link.address, Some([10, 0, 0, 8].into()));

        let more = "public_ip = [\"203.0.113.8\"]\npublic_name = \"r8.example.net\"\nzone = \"b\"\nname = \"blade8\"\n";
        let (node, _) = files_of(&format!("{base}{more}")).expect("files");
        assert_eq!(node.media.public_ip, ["203.0.113.8".parse::<std::net::IpAddr>().expect("an address")]);
        assert_eq!(node.control.public_url.as_deref(), Some("http://r8.example.net:20000"));
        assert_eq!((node.control.host.as_deref(), node.control.zone.as_deref()), (Some("blade8"), Some("b")));
    }

    #[test]
    fn the_files_that_a_configuration_names_go_along() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let controller = format!(
            "[http]\ntls_certificate = \"{}\"\ntls_key = \"{}\"\n[access]\njwt_jwks = \"{}\"\n",
            path("a.crt"),
            path("a.key"),
            path("keys")
        );
        for (name, text) in [("a.crt", "chain"), ("a.key", "key"), ("keys", "set")] {
            let missing = files_of(&controller).map(|_| ()).expect_err("not all are there");
            assert!(missing.starts_with(&path(name)), "{missing}");
            std::fs::write(path(name), text).expect("written");
        }
        let (node, files) = files_of(&controller).expect("files");
        assert_eq!(node.http.tls_key, Some("/media-tree/tls.key".into()));
        assert_eq!(node.access.jwt_jwks, Some(KeySource::File("/media-tree/jwks.json".into())));
        let files: Vec<_> = files.iter().map(|file| (file.name, &file.bytes[..])).collect();
        assert_eq!(files, [("tls.crt", &b"chain"[..]), ("tls.key", &b"key"[..]), ("jwks.json", &b"set"[..])]);
    }
}
