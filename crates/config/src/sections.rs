//! Every setting of the program.
//!
//! A documentation line ends up in the example file and its first sentence in `--help`: write for operators.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{ArgMatches, Command};
use model::{BroadcastId, NodeId, TreeId};

use crate::secret::{Secret, Token};
use crate::section::{Documented, section};
use crate::values::{HumanDuration, LogFormat, Parent, PublisherConflict, Size};

section! {
    /// Who this node is and what it keeps.
    Node, NodeFlags, "node" {
        /// Name of this node, unique for ever: `[a-z0-9][a-z0-9._-]{0,62}`. Default: made at random at every start.
        id: Option<NodeId> = None, "node-id", r#""egress-fra-3""#;
        /// Name of the tree that this node belongs to. The value of the label `tree_id` of every metric.
        tree_id: TreeId = TreeId::new("main").expect("follows the grammar"), "tree-id", r#""main""#;
        /// Threads that serve viewers, each with its own UDP port. Default: one for each core.
        shards: Option<u16> = None, "shards", "4";
        /// Directory of sealed session records, written with the key of `state_key_file`. Default: none is written.
        /// Put it on memory-backed storage, for instance `/run/media-tree`. Sessions are not resumed from them yet: a
        /// node that starts says what an earlier process left there and erases it.
        state_dir: Option<PathBuf> = None, "state-dir", r#""/run/media-tree""#;
        /// File with the key that session records are sealed with. 32 bytes, as 64 hexadecimal digits, base64 or raw.
        /// Without it no records are written.
        state_key_file: Option<PathBuf> = None, "state-key-file", r#""/etc/media-tree/state.key""#;
        /// Broadcasts that are known before anybody publishes them. Their viewers may come early and wait.
        /// Other broadcasts are known from their first publisher on.
        broadcasts: Vec<BroadcastId> = Vec::new(), "broadcasts", r#"["friday-night", "stage-2"]"#;
    }
}

section! {
    /// Where publishers (WHIP), viewers (WHEP) and people with browsers come in.
    Http, HttpFlags, "http" {
        /// Address and port of the public HTTP listener.
        listen: SocketAddr = loopback(8080), "http", r#""0.0.0.0:443""#;
        /// File with the certificate chain, PEM. With it and its key the listener speaks HTTPS.
        tls_certificate: Option<PathBuf> = None, "tls-certificate", r#""/etc/media-tree/tls.crt""#;
        /// File with the private key of the certificate, PEM.
        tls_key: Option<PathBuf> = None, "tls-key", r#""/etc/media-tree/tls.key""#;
        /// Allow HTTP without TLS on an address that others can reach. Only behind a proxy that speaks TLS: browsers
        /// give no camera to such a page, and tokens cross the network in clear.
        insecure: bool = false, "insecure-http", "true";
    }
}

section! {
    /// Where operators and Prometheus look. Private: it shows everything and asks nobody who he is.
    Ops, OpsFlags, "ops" {
        /// Address and port of `/metrics`, `/healthz` and `/readyz`.
        listen: SocketAddr = loopback(9600), "ops", r#""10.0.0.5:9600""#;
    }
}

section! {
    /// Media to and from viewers.
    Media, MediaFlags, "media" {
        /// First UDP port of the viewers. Shard k uses this port + k. Open them all in the firewall.
        port: u16 = 50_000, "media-port", "50000";
        /// Address that peers are told to send media to. For hosts behind NAT 1:1, as most clouds have it.
        /// Default: the address that the HTTP request arrived on, then the host's others.
        public_ip: Option<IpAddr> = None, "public-ip", r#""203.0.113.7""#;
        /// What the kernel may hold of received datagrams, for each socket. More than `net.core.rmem_max` needs
        /// CAP_NET_ADMIN.
        receive_buffer: Size = Size::mebibytes(4), "media-receive-buffer", r#""4MiB""#;
        /// What the kernel may hold of datagrams on their way out, for each socket. More than `net.core.wmem_max`
        /// needs CAP_NET_ADMIN.
        send_buffer: Size = Size::mebibytes(4), "media-send-buffer", r#""4MiB""#;
    }
}

section! {
    /// Publishers.
    Ingest, IngestFlags, "ingest" {
        /// UDP port of the publishers' media.
        port: u16 = 52_000, "ingest-port", "52000";
        /// How long a broadcast stays after its publisher is gone. Its viewers stay connected and see the last frame.
        grace_period: HumanDuration = HumanDuration::secs(60), "grace-period", r#""60s""#;
        /// What happens to a second publisher of a broadcast: `take_over` or `refuse`. An encoder that restarts is the
        /// second publisher until its first connection is given up, so `refuse` keeps it out for up to half a minute.
        publisher_conflict: PublisherConflict = PublisherConflict::TakeOver, "publisher-conflict", r#""refuse""#;
    }
}

section! {
    /// Links between nodes: parents and children of the tree.
    Link, LinkFlags, "link" {
        /// UDP port of links.
        port: u16 = 51_000, "link-port", "51000";
        /// Address that links are bound to. Default: all addresses if there is a cluster key, else loopback.
        address: Option<IpAddr> = None, "link-address", r#""10.0.0.5""#;
        /// Nodes that this one may take media from, best first: `host:port` of their link listeners.
        parents: Vec<Parent> = Vec::new(), "parents", r#"["relay-1.example.net:51000", "198.51.100.9:51000"]"#;
        /// Secret that all nodes of the cluster share; at least 16 characters. It authenticates links, and whoever has
        /// it can read and forge media. Needed unless all links stay on this machine. Better kept in a file.
        cluster_key: Option<Secret> = None, "cluster-key", r#""made-with-openssl-rand-hex-32""#;
        /// File with the cluster key, on one line.
        cluster_key_file: Option<PathBuf> = None, "cluster-key-file", r#""/etc/media-tree/cluster.key""#;
    }
}

section! {
    /// Who may publish and who may watch.
    Access, AccessFlags, "access" {
        /// Tokens that may publish: `SECRET` for every broadcast or `BROADCAST=SECRET` for one. With none, everybody on
        /// this machine may; if the HTTP listener can be reached by others, the program makes one and tells it.
        /// A flag is seen by all users of the machine, the file and the environment are not.
        publish_tokens: Vec<Token> = Vec::new(), "publish-tokens", r#"["friday-night=SECRET-1", "SECRET-2"]"#;
        /// Tokens that may watch, written likewise. With none, everybody who reaches the listener may watch.
        view_tokens: Vec<Token> = Vec::new(), "view-tokens", r#"["friday-night=SECRET-3"]"#;
    }
}

section! {
    /// What each RTP stream's recent past may cost, and how late viewers catch up from it.
    Egress, EgressFlags, "egress" {
        /// Most bytes kept of one RTP stream. It must hold the whole current group of pictures, or viewers wait for the
        /// next keyframe: 8 s at 6 Mbit/s are 6 MiB. Paid once for each stream, never for each viewer.
        ring_size: Size = Size::mebibytes(8), "ring-size", r#""16MiB""#;
        /// Most time kept of one RTP stream. Longer than the longest keyframe interval of your encoders; OBS takes 8.3 s
        /// if nobody tells it otherwise.
        ring_time: HumanDuration = HumanDuration::secs(12), "ring-time", r#""20s""#;
        /// How fast a new viewer is fed the current group of pictures, as a multiple of the stream's own rate.
        replay_factor: u16 = 4, "replay-factor", "2";
        /// Most that one shard sends to catching-up viewers, in Mbit/s. When it is used up they get the keyframe and
        /// wait their turn; live media goes first.
        replay_rate_mbps: u32 = 600, "replay-rate-mbps", "1000";
    }
}

section! {
    /// Bounds that keep a crowd or a flood from hurting those inside.
    Limits, LimitsFlags, "limits" {
        /// Most viewers of this node. More are refused with 503.
        viewers_max: u32 = 10_000, "viewers-max", "3000";
        /// Most sessions that were POSTed and have not connected yet. They expire after 15 s.
        pending_sessions_max: u32 = 2_000, "pending-sessions-max", "500";
        /// Most of them from one client address, or one /64 of IPv6; more are answered with 429. An audience behind one
        /// NAT address or one proxy shares it, as it does the other limits of a client.
        client_pending_sessions_max: u32 = 500, "client-pending-sessions-max", "100";
        /// How busy the threads that serve viewers may be before new viewers are refused with 503, in percent of the
        /// latest second; one that the kernel takes no more from counts as 100. Above 100 nobody is refused for it.
        shard_load_max_percent: u32 = 85, "shard-load-max-percent", "70";
        /// Most publishers of this node.
        publishers_max: u32 = 64, "publishers-max", "8";
        /// POST, PATCH and DELETE requests that one client address may make per second in the long run. An audience
        /// behind one NAT address shares it.
        request_rate: u32 = 50, "request-rate", "10";
        /// POST, PATCH and DELETE requests that one client address may make at once.
        request_burst: u32 = 500, "request-burst", "100";
        /// Most connections of the public HTTP listener; more are closed at once. Each is an open file, so `ulimit -n`
        /// bounds them too.
        connections_max: u32 = 16_384, "connections-max", "2000";
        /// Most of them from one client address.
        client_connections_max: u32 = 4_096, "client-connections-max", "200";
    }
}

section! {
    /// What the program says, on standard error.
    Log, LogFlags, "log" {
        /// How lines look: `human`, `json`, or `auto`: human on a terminal, JSON otherwise.
        format: LogFormat = LogFormat::Auto, "log-format", r#""json""#;
        /// What is logged: a level, or levels for parts, as in `info,link=debug`.
        filter: String = "info".into(), "log-filter", r#""info,egress=debug""#;
    }
}

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Puts the sections together.
macro_rules! config {
    ($($field:ident: $section:ident, $flags:ident;)+) => {
        /// The whole configuration. See the sections; what is not said here is said there.
        #[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Config {
            $(
                #[doc = concat!("`[", stringify!($field), "]`")]
                pub $field: $section,
            )+
            /// Also publish the built-in moving clip as broadcast `demo`. Only a flag of `up`, never in a file.
            #[serde(skip)]
            pub demo: bool,
        }

        /// The flags that override settings. Flatten it into a command: `#[command(flatten)]`.
        #[derive(Debug, Clone, Default)]
        pub struct Flags {
            $($field: $flags,)+
        }

        impl Flags {
            /// Sets one setting from text; `None` if there is no such flag.
            pub(crate) fn set(&mut self, flag: &str, text: &str) -> Option<Result<(), String>> {
                None$(.or_else(|| self.$field.set(flag, text)))+
            }
        }

        impl clap::FromArgMatches for Flags {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Self::from_arg_matches_mut(&mut matches.clone())
            }
            fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self { $($field: $flags::from_matches(matches)),+ })
            }
            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }

        impl clap::Args for Flags {
            fn augment_args(command: Command) -> Command {
                $(let command = $flags::args(command);)+
                command
            }
            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }

        impl Config {
            pub(crate) fn apply(&mut self, flags: Flags) {
                $(self.$field.apply(flags.$field);)+
            }

            /// Each section: its name, its documentation, its settings.
            pub(crate) fn documented() -> Vec<(&'static str, &'static [&'static str], Vec<Documented>)> {
                vec![$(($section::TABLE, $section::LINES, $section::documented())),+]
            }
        }
    };
}

config! {
    node: Node, NodeFlags;
    http: Http, HttpFlags;
    ops: Ops, OpsFlags;
    media: Media, MediaFlags;
    ingest: Ingest, IngestFlags;
    link: Link, LinkFlags;
    access: Access, AccessFlags;
    egress: Egress, EgressFlags;
    limits: Limits, LimitsFlags;
    log: Log, LogFlags;
}
