//! Whether the settings make sense together, for one role.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZero;

use model::Role;

use crate::engine::{Engine, EngineUrl};
use crate::secret::Secret;
use crate::sections::Config;
use crate::sources::ConfigError;
use crate::values::{KeySource, Parent, Provisioner, ScalingMode};

/// The shortest cluster key, in characters.
const CLUSTER_KEY_LENGTH_MIN: usize = 16;
/// The shortest secret of JSON Web Tokens, in characters: RFC 7518, section 3.2, asks for as many bits as the hash has.
const JWT_SECRET_LENGTH_MIN: usize = 32;
/// The shortest secret of webhooks, in characters.
const WEBHOOK_SECRET_LENGTH_MIN: usize = 16;

/// Something that does not make sense, in words that name the setting and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Plain HTTP where others can listen.
    #[error(
        "http.listen is {address}, which others can reach, and there is no certificate: set http.tls_certificate and \
         http.tls_key, or http.insecure = true (--insecure-http) if a proxy before it speaks TLS"
    )]
    InsecureHttp {
        /// Where it would listen.
        address: std::net::SocketAddr,
    },
    /// One half of a certificate.
    #[error("http.tls_certificate and http.tls_key belong together, and only {present} is set")]
    HalfACertificate {
        /// The one that is there.
        present: &'static str,
    },
    /// A relay or egress node without anybody to take media from.
    #[error(
        "the role {role} takes its media from parents: set control.store (--store) to have them found, or link.parents \
         (--parents host:port)"
    )]
    NoParents {
        /// The role.
        role: Role,
    },
    /// An injection node with parents.
    #[error("the role injection has no parents, it takes its media from publishers: remove link.parents")]
    ParentsOfInjection,
    /// Parents both given and to be found.
    #[error("control.store finds parents and link.parents gives them: keep one of the two")]
    ParentsTwice,
    /// A store that nobody else can see.
    #[error(
        "control.store is embedded, and the role {role} is nothing by itself: give it the store of a controller, \
         http://HOST:PORT, or Redis"
    )]
    LonelyStore {
        /// The role.
        role: Role,
    },
    /// Links that leave the machine without authentication.
    #[error(
        "links reach beyond this machine ({why}), so they need the secret of the cluster: set link.cluster_key_file, \
         or link.cluster_key"
    )]
    NoClusterKey {
        /// What reaches beyond.
        why: String,
    },
    /// A secret is given twice.
    #[error("{setting} and {setting}_file are both set: keep one")]
    SecretTwice {
        /// Which.
        setting: &'static str,
    },
    /// A secret can be guessed.
    #[error("{setting} has {length} characters; it needs at least {minimum}")]
    ShortSecret {
        /// Which.
        setting: &'static str,
        /// Its length.
        length: usize,
        /// How long it must be.
        minimum: usize,
    },
    /// Requests that nobody could tell from forged ones.
    #[error("{setting} is set, so requests must be signed: set webhooks.secret_file, or webhooks.secret")]
    Unsigned {
        /// Which.
        setting: &'static str,
    },
    /// Nobody could publish there.
    #[error(
        "ingest.rtmp is {address}, which others can reach, and there is no certificate for RTMPS: set http.tls_certificate \
         and http.tls_key, or ingest.insecure_rtmp = true (--insecure-rtmp) if nobody can listen on the way"
    )]
    InsecureRtmp {
        /// Where it would listen.
        address: std::net::SocketAddr,
    },
    /// A TURN server that would refuse everybody.
    #[error(
        "ice.servers has {server}, which wants credentials: set ice.turn_secret_file, or ice.turn_secret"
    )]
    TurnWithoutSecret {
        /// The first such server.
        server: String,
    },
    /// Plain HTTP to another machine.
    #[error(
        "{setting} leads to {origin} without TLS: use https, or set access.insecure_urls = true (--insecure-urls) if \
         nobody can listen on the way"
    )]
    InsecureUrl {
        /// Which.
        setting: &'static str,
        /// Where it leads.
        origin: String,
    },
    /// Two listeners want the same port.
    #[error("{first} and {second} both want {protocol} port {port}")]
    PortClash {
        /// The one.
        first: String,
        /// The other.
        second: String,
        /// UDP or TCP.
        protocol: &'static str,
        /// The port.
        port: u16,
    },
    /// Shards beyond the last port.
    #[error("media.port {port} leaves no room for {shards} shards below port 65536")]
    PortsBeyondTheLast {
        /// The first port.
        port: u16,
        /// How many there would be.
        shards: u16,
    },
    /// A number that must not be zero.
    #[error("{setting} must not be 0")]
    Zero {
        /// Which.
        setting: &'static str,
    },
    /// A public address that nobody can send to.
    #[error("media.public_ip has {address}, which is no address that others can send to")]
    PublicIp {
        /// The address.
        address: IpAddr,
    },
    /// A sealing key without a place for records.
    #[error("node.state_key_file is set and node.state_dir is not: set both, or neither")]
    KeyWithoutStateDirectory,
    /// A supervisor for what keeps no sessions.
    #[error(
        "node.supervise keeps sessions of a node over its restarts, and a controller has none: take it away"
    )]
    SupervisedController,
    /// A tree would grow and shrink at once.
    #[error("scaling.in_percent is {shrinks}, it must be less than scaling.out_percent, which is {grows}")]
    ScalingThresholds {
        /// `in_percent`.
        shrinks: u32,
        /// `out_percent`.
        grows: u32,
    },
    /// A time that is too short or too long.
    #[error("{setting} must be from {least} to {most}")]
    OutOfRange {
        /// Which.
        setting: &'static str,
        /// The shortest.
        least: &'static str,
        /// The longest.
        most: &'static str,
    },
    /// Nodes that are started could not reach the store of their controller.
    #[error(
        "scaling.mode is not off, and nodes that are started here could not use the embedded store: set {remedy}, or a \
         store that they share (control.store)"
    )]
    ScalingStore {
        /// What is missing.
        remedy: &'static str,
    },
    /// Who decides is somebody else.
    #[error(
        "scaling.mode is not off, and control.store is another controller, which decides: set scaling.mode there"
    )]
    ScalingElsewhere,
    /// Engines that nobody asks.
    #[error(
        "scaling.engines has {engine}, and scaling.provisioner is process: make it docker, or take them away"
    )]
    UnusedEngines {
        /// The first of them.
        engine: String,
    },
    /// Two engines that could not be told apart.
    #[error("scaling.engines has two engines that are called {name}: write NAME=URL")]
    EngineTwice {
        /// Their name.
        name: String,
    },
    /// Whoever listens on the way has the machine.
    #[error(
        "scaling.engines has {engine}, which is asked without TLS: set scaling.engine_certificates and use tcp://, or \
         scaling.insecure_engines = true (--insecure-engines) if nobody can listen on the way"
    )]
    InsecureEngine {
        /// Which.
        engine: String,
    },
    /// Nodes on another machine could not have what they are configured with.
    #[error("scaling.engines has {engine} on another machine, and nodes there {reason}: set {remedy}")]
    FarEngine {
        /// Which.
        engine: String,
        /// What does not work.
        reason: String,
        /// What is to be set.
        remedy: &'static str,
    },
    /// The built-in clip on a node that takes no publishers.
    #[error("--demo publishes on this node, and the role {role} takes no publishers")]
    DemoWithoutIngest {
        /// The role.
        role: Role,
    },
}

/// Shows problems as one line, or as a list.
pub struct Problems<'a>(pub &'a [Problem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = self.0 {
            return problem.fmt(f);
        }
        write!(f, "the configuration has {} problems:", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl Config {
    /// Judges the whole for a node of this role.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] with all of them.
    pub fn check(&self, role: Role) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        self.check_http(&mut problems);
        self.check_links(role, &mut problems);
        self.check_ports(role, &mut problems);
        self.check_numbers(&mut problems);
        self.check_access(&mut problems);
        let rtmp = self.ingest.rtmp.address().filter(|_| role.is_injection() && !self.ingest.insecure_rtmp);
        if let Some(address) = rtmp
            && !address.ip().to_canonical().is_loopback()
            && self.http.tls_certificate.is_none()
        {
            problems.push(Problem::InsecureRtmp { address });
        }
        let turn = self.ice.servers.iter().find(|server| server.is_turn());
        if let (Some(server), None) = (turn, &self.ice.turn_secret) {
            problems.push(Problem::TurnWithoutSecret { server: server.to_string() });
        }
        let nobodys = |address: &&IpAddr| address.is_unspecified() || address.is_multicast();
        let nobodys = self.media.public_ip.iter().filter(nobodys);
        problems.extend(nobodys.map(|address| Problem::PublicIp { address: *address }));
        if self.node.state_key_file.is_some() && self.node.state_dir.is_none() && !self.supervises(role) {
            problems.push(Problem::KeyWithoutStateDirectory);
        }
        if self.supervises(role) && role == Role::Controller {
            problems.push(Problem::SupervisedController);
        }
        if self.demo && !role.is_injection() {
            problems.push(Problem::DemoWithoutIngest { role });
        }
        if self.scales(role) {
            if !self.decides(role) {
                problems.push(Problem::ScalingElsewhere);
            }
            self.check_scaling(&mut problems);
            self.check_engines(&mut problems);
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Problems(problems)) }
    }

    /// Whether a node of this role runs under a supervisor.
    #[must_use]
    pub fn supervises(&self, role: Role) -> bool {
        self.node.supervise.unwrap_or(role == Role::All)
    }

    /// Whether a node of this role is a controller: `up` in the store of another one leaves decisions to that.
    #[must_use]
    pub fn decides(&self, role: Role) -> bool {
        let store = self.control.store.as_ref().map(Secret::expose);
        let is_at_another = store.is_some_and(|store| store.starts_with("http"));
        role == Role::Controller || role == Role::All && !is_at_another
    }

    /// Whether a node of this role may start and stop others.
    #[must_use]
    pub fn scales(&self, role: Role) -> bool {
        self.scaling.mode != ScalingMode::Off && matches!(role, Role::All | Role::Controller)
    }

    /// Threads that serve viewers: the setting, or one for each core that the process may use.
    #[must_use]
    pub fn shards(&self) -> u16 {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        self.node.shards.unwrap_or_else(|| u16::try_from(cores()).unwrap_or(u16::MAX))
    }

    /// Where the link listener binds: all addresses only if a cluster key guards it.
    #[must_use]
    pub fn link_listen(&self) -> std::net::SocketAddr {
        let guarded: IpAddr = std::net::Ipv6Addr::UNSPECIFIED.into();
        let unguarded: IpAddr = std::net::Ipv4Addr::LOCALHOST.into();
        let default = if self.link.cluster_key.is_some() { guarded } else { unguarded };
        (self.link.address.unwrap_or(default), self.link.port).into()
    }

    fn check_http(&self, problems: &mut Vec<Problem>) {
        let (certificate, key) = (&self.http.tls_certificate, &self.http.tls_key);
        let has_tls = certificate.is_some() && key.is_some();
        if certificate.is_some() != key.is_some() {
            let present = if key.is_some() { "http.tls_key" } else { "http.tls_certificate" };
            problems.push(Problem::HalfACertificate { present });
        } else if !has_tls && !self.http.insecure && !self.http.listen.ip().to_canonical().is_loopback() {
            problems.push(Problem::InsecureHttp { address: self.http.listen });
        }
    }

    fn check_links(&self, role: Role, problems: &mut Vec<Problem>) {
        match role {
            Role::Relay | Role::Egress if self.link.parents.is_empty() && self.control.store.is_none() => {
                problems.push(Problem::NoParents { role });
            }
            Role::Injection if !self.link.parents.is_empty() => problems.push(Problem::ParentsOfInjection),
            Role::Injection | Role::Relay | Role::Egress | Role::All | Role::Controller => {}
        }
        let is_embedded =
            self.control.store.as_ref().is_some_and(|store| store.expose().starts_with("embedded"));
        if is_embedded && !matches!(role, Role::All | Role::Controller) {
            problems.push(Problem::LonelyStore { role });
        }
        if self.control.store.is_some() && !self.link.parents.is_empty() {
            problems.push(Problem::ParentsTwice);
        }
        if let Some(key) = &self.link.cluster_key {
            problems.extend(short_secret("link.cluster_key", key, CLUSTER_KEY_LENGTH_MIN));
            return;
        }
        let address = self.link.address.filter(|address| !address.to_canonical().is_loopback());
        let far = self.link.parents.iter().find(|parent| !Parent::is_loopback(parent));
        let why = match (address, far) {
            (Some(address), _) => format!("link.address is {address}"),
            (None, Some(parent)) => format!("a parent is {parent}"),
            (None, None) => return,
        };
        problems.push(Problem::NoClusterKey { why });
    }

    fn check_access(&self, problems: &mut Vec<Problem>) {
        let (access, webhooks) = (&self.access, &self.webhooks);
        let jwks = access.jwt_jwks.as_ref().and_then(|source| match source {
            KeySource::Url(url) => Some(url),
            KeySource::File(_) => None,
        });
        let urls = [
            ("access.jwt_jwks", jwks),
            ("webhooks.access", webhooks.access.as_ref()),
            ("webhooks.events", webhooks.events.as_ref()),
        ];
        for (setting, url) in urls.into_iter().filter_map(|(setting, url)| Some((setting, url?))) {
            if !url.is_private() && !access.insecure_urls {
                problems.push(Problem::InsecureUrl { setting, origin: url.origin().to_owned() });
            }
            if setting.starts_with("webhooks") && webhooks.secret.is_none() {
                problems.push(Problem::Unsigned { setting });
            }
        }
        let secrets = [
            ("access.jwt_secret", access.jwt_secret.as_ref(), JWT_SECRET_LENGTH_MIN),
            ("webhooks.secret", webhooks.secret.as_ref(), WEBHOOK_SECRET_LENGTH_MIN),
        ];
        problems.extend(
            secrets.into_iter().filter_map(|(setting, secret, least)| short_secret(setting, secret?, least)),
        );
    }

    fn check_ports(&self, role: Role, problems: &mut Vec<Problem>) {
        let shards = if role.is_egress() { self.shards() } else { 0 };
        let mut udp = vec![("link.port".to_owned(), self.link.port)];
        if role.is_injection() {
            udp.push(("ingest.port".into(), self.ingest.port));
        }
        // Port 0 asks the kernel for a free one, for each shard anew.
        if self.media.port > 0 {
            if u32::from(self.media.port) + u32::from(shards) > 65_536 {
                problems.push(Problem::PortsBeyondTheLast { port: self.media.port, shards });
            }
            for shard in 0..shards {
                let Some(port) = self.media.port.checked_add(shard) else { break };
                let name = if shard == 0 { "media.port".into() } else { format!("media.port + {shard}") };
                udp.push((name, port));
            }
        }
        clashes("UDP", &udp, problems);
        let (http, ops) = (self.http.listen, self.ops.listen);
        if http.ip() == ops.ip() || http.ip().is_unspecified() || ops.ip().is_unspecified() {
            let tcp = [("http.listen".to_owned(), http.port()), ("ops.listen".to_owned(), ops.port())];
            clashes("TCP", &tcp, problems);
        }
    }

    fn check_scaling(&self, problems: &mut Vec<Problem>) {
        let scaling = &self.scaling;
        let (grows, shrinks) = (scaling.out_percent, scaling.in_percent);
        if shrinks >= grows {
            problems.push(Problem::ScalingThresholds { shrinks, grows });
        }
        let (second, hour, day) = (1, 3600, 24 * 3600);
        let times = [
            ("scaling.lead", &scaling.lead, hour, "1h"),
            ("scaling.cool_down", &scaling.cool_down, hour, "1h"),
            ("scaling.healthy_within", &scaling.healthy_within, hour, "1h"),
            ("scaling.drain_within", &scaling.drain_within, day, "24h"),
        ];
        for (setting, time, longest, most) in times {
            if !(second..=longest).contains(&time.get().as_secs()) {
                problems.push(Problem::OutOfRange { setting, least: "1s", most });
            }
        }
        let zeros = [
            ("scaling.out_percent", grows == 0),
            ("scaling.starts_per_hour", scaling.starts_per_hour == 0),
            ("scaling.port", scaling.port == 0),
        ];
        problems.extend(
            zeros.into_iter().filter(|(_, is_zero)| *is_zero).map(|(setting, _)| Problem::Zero { setting }),
        );
        let store = self.control.store.as_ref().map(Secret::expose);
        if store.is_none_or(|store| store.starts_with("embedded")) {
            if self.link.cluster_key.is_none() && !self.http.listen.ip().is_loopback() {
                problems.push(Problem::ScalingStore { remedy: "link.cluster_key_file" });
            }
            if self.http.tls_certificate.is_some() && self.control.public_url.is_none() {
                problems.push(Problem::ScalingStore { remedy: "control.public_url" });
            }
        }
    }

    fn check_engines(&self, problems: &mut Vec<Problem>) {
        let scaling = &self.scaling;
        if scaling.provisioner == Provisioner::Process {
            let unused = |engine: &Engine| Problem::UnusedEngines { engine: engine.to_string() };
            problems.extend(scaling.engines.first().map(unused));
            return;
        }
        let engines = scaling.docker_engines();
        for (index, engine) in engines.iter().enumerate() {
            let name = engine.name("this machine");
            if engines[..index].iter().any(|other| other.name("this machine") == name) {
                problems.push(Problem::EngineTwice { name: name.to_owned() });
            }
            if engine.nodes_max == 0 {
                problems.push(Problem::Zero { setting: "nodes_max of scaling.engines" });
            }
            let is_plain = match engine.url {
                EngineUrl::Unix(_) => false,
                EngineUrl::Tcp(_) => scaling.engine_certificates.is_none(),
                EngineUrl::Http(_) => true,
            };
            if !engine.url.is_here() {
                if is_plain && !scaling.insecure_engines {
                    problems.push(Problem::InsecureEngine { engine: engine.to_string() });
                }
                self.check_far_engine(engine, problems);
            }
        }
    }

    /// What is told of this machine is of no use on another one.
    fn check_far_engine(&self, engine: &Engine, problems: &mut Vec<Problem>) {
        let mut far = |reason: String, remedy: &'static str| {
            problems.push(Problem::FarEngine { engine: engine.to_string(), reason, remedy });
        };
        if self.link.cluster_key.is_none() {
            far("need the secret of the cluster".into(), "link.cluster_key_file");
        }
        let store = self.control.store.as_ref().map(Secret::expose);
        let own = store.filter(|store| !store.starts_with("embedded"));
        let (url, setting) = match own {
            Some(store) => (Some(store), "control.store"),
            None => (self.control.public_url.as_deref(), "control.public_url"),
        };
        match url {
            None => far("do not know where this store is".into(), setting),
            Some(url) if is_on_loopback(url) => {
                far("would look for the store on their own machine".into(), setting);
            }
            Some(_) => {}
        }
        if self.http.listen.ip().to_canonical().is_loopback() {
            far("would be reached by nobody".into(), "http.listen");
        }
        let listens = [
            ("http.listen", Some(self.http.listen.ip())),
            ("ops.listen", Some(self.ops.listen.ip())),
            ("link.address", self.link.address),
        ];
        let is_own = |ip: &IpAddr| !ip.to_canonical().is_loopback() && !ip.is_unspecified();
        let own = listens.into_iter().filter_map(|(setting, ip)| Some((setting, ip.filter(is_own)?)));
        for (setting, ip) in own.filter(|_| engine.private_ip.is_none()) {
            far(format!("do not have the address {ip} of {setting}"), "private_ip of the engine");
        }
    }

    fn check_numbers(&self, problems: &mut Vec<Problem>) {
        let zeros = [
            ("node.shards", self.node.shards == Some(0)),
            ("egress.ring_size", self.egress.ring_size.bytes() == 0),
            ("egress.ring_time", self.egress.ring_time.get().is_zero()),
            ("egress.replay_factor", self.egress.replay_factor == 0),
            ("egress.replay_rate_mbps", self.egress.replay_rate_mbps == 0),
            ("capacity.egress_mbps", self.capacity.egress_mbps == Some(0)),
            ("capacity.packets_per_second", self.capacity.packets_per_second == Some(0)),
            ("limits.viewers_max", self.limits.viewers_max == 0),
            ("limits.pending_sessions_max", self.limits.pending_sessions_max == 0),
            ("limits.shard_load_max_percent", self.limits.shard_load_max_percent == 0),
            ("limits.publishers_max", self.limits.publishers_max == 0),
            ("limits.request_rate", self.limits.request_rate == 0),
            ("limits.request_burst", self.limits.request_burst == 0),
            ("limits.client_pending_sessions_max", self.limits.client_pending_sessions_max == 0),
            ("limits.connections_max", self.limits.connections_max == 0),
            ("limits.client_connections_max", self.limits.client_connections_max == 0),
        ];
        problems.extend(
            zeros.into_iter().filter(|(_, is_zero)| *is_zero).map(|(setting, _)| Problem::Zero { setting }),
        );
    }
}

/// Whether one of the hosts of a store's URL is this machine under a name that every machine calls itself by.
fn is_on_loopback(store: &str) -> bool {
    let rest = store.split_once("://").map_or(store, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    hosts.split(',').any(|host| {
        let in_brackets = host.strip_prefix('[').and_then(|host| host.split_once(']'));
        let name = in_brackets.map_or_else(|| host.split(':').next().unwrap_or_default(), |(ip, _)| ip);
        let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
    })
}

fn short_secret(setting: &'static str, secret: &Secret, minimum: usize) -> Option<Problem> {
    let length = secret.expose().chars().count();
    (length < minimum).then_some(Problem::ShortSecret { setting, length, minimum })
}

fn clashes(protocol: &'static str, ports: &[(String, u16)], problems: &mut Vec<Problem>) {
    for (index, (second, port)) in ports.iter().enumerate() {
        if let Some((first, _)) = ports[..index].iter().find(|(_, other)| other == port && *port != 0) {
            problems.push(Problem::PortClash {
                first: first.clone(),
                second: second.clone(),
                protocol,
                port: *port,
            });
        }
    }
}
