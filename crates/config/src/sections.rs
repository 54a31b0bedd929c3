//! Every setting of the program.
//!
//! A documentation line ends up in the example file and its first sentence in `--help`: write for operators.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{ArgMatches, Command};
use model::{BroadcastId, NodeId, Right, TreeId};

use crate::engine::Engine;
use crate::rtp_in::RtpIn;
use crate::secret::{Secret, Token};
use crate::section::{Documented, section};
use crate::values::{
    HttpUrl, HumanDuration, IceServer, KeySource, LogFormat, Network, OptionalListen, Parent, Part,
    Provisioner, PublisherConflict, ScalingMode, Size,
};

section! {
    /// Who this node is and what it keeps.
    Node, NodeFlags, "node" {
        /// Name of this node, unique for ever: `[a-z0-9][a-z0-9._-]{0,62}`. Default: made at random at every start;
        /// where `state_dir` and `state_key_file` are set, at the first one.
        id: Option<NodeId> = None, "node-id", r#""egress-fra-3""#;
        /// Name of the tree that this node belongs to. The value of the label `tree_id` of every metric.
        tree_id: TreeId = TreeId::new("main").expect("follows the grammar"), "tree-id", r#""main""#;
        /// Threads that serve viewers, each with its own UDP port. Default: one for each core.
        shards: Option<u16> = None, "shards", "4";
        /// Hold the node's sockets in a small process of its own, which starts the node again when it dies. Publishers and
        /// viewers then go on in their sessions, and `media-tree upgrade` replaces the program under them.
        /// Default: on for `up`, off for the other roles. Not for `controller`, which has no sessions.
        supervise: Option<bool> = None, "supervise", "true";
        /// Directory of sealed records, from which a node that starts again goes on with the sessions of the process before
        /// it, and, while the store is away, with the parents and publish keys that it was told last. Put it on memory-backed
        /// storage, for instance `/run/media-tree`. Default: none is written, or, with `supervise`, a private directory below
        /// `XDG_RUNTIME_DIR` or `/dev/shm`.
        state_dir: Option<PathBuf> = None, "state-dir", r#""/run/media-tree""#;
        /// File with the key that session records are sealed with. 32 bytes, as 64 hexadecimal digits, base64 or raw.
        /// Without it no records are written; with `supervise` a key is made at random and kept in memory, so that
        /// sessions outlive the node's process but not its supervisor.
        state_key_file: Option<PathBuf> = None, "state-key-file", r#""/etc/media-tree/state.key""#;
        /// Broadcasts that are known before anybody publishes them. Their viewers may come early and wait.
        /// Other broadcasts are known from their first publisher on.
        broadcasts: Vec<BroadcastId> = Vec::new(), "broadcasts", r#"["friday-night", "stage-2"]"#;
        /// Let viewers of a known broadcast in while nobody publishes it: they wait and see the first picture. If not, they
        /// are answered with 409 and told when to come again.
        viewers_wait: bool = true, "viewers-wait", "false";
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
        /// Proxies before this listener, addresses or networks, whose `X-Forwarded-For` is believed. Without them everybody
        /// who comes through a proxy counts as one client, with the limits of one.
        trusted_proxies: Vec<Network> = Vec::new(), "trusted-proxies", r#"["127.0.0.1", "10.0.0.0/8"]"#;
        /// Other servers that the pages of this node may talk to: where its viewers are sent when it is emptied.
        page_origins: Vec<HttpUrl> = Vec::new(), "page-origins", r#"["https://egress-2.example.net"]"#;
    }
}

section! {
    /// Where operators and Prometheus look. Private: it shows everything, can send viewers away, and asks nobody who he is.
    Ops, OpsFlags, "ops" {
        /// Address and port of `/metrics`, `/healthz`, `/readyz` and `/viewers/move`.
        listen: SocketAddr = loopback(9600), "ops", r#""10.0.0.5:9600""#;
    }
}

section! {
    /// Media to and from viewers.
    Media, MediaFlags, "media" {
        /// First UDP port of the viewers. Shard k uses this port + k. Open them all in the firewall.
        port: u16 = 50_000, "media-port", "50000";
        /// Listen on TCP, too, on the ports of viewers' and publishers' media, for those whose network lets no UDP out
        /// (ICE-TCP, RFC 6544). Open them in the firewall as well.
        tcp: bool = true, "media-tcp", "false";
        /// Addresses that peers are told to send media to, best first. For hosts behind NAT 1:1, as most clouds have it; the
        /// host's own addresses are told after them, so an IPv6 address that is not translated need not stand here.
        /// Default: the address that the HTTP request arrived on, then the host's others.
        public_ip: Vec<IpAddr> = Vec::new(), "public-ip", r#"["203.0.113.7", "2001:db8::7"]"#;
        /// What the kernel may hold of received datagrams, for each socket. More than `net.core.rmem_max` needs
        /// CAP_NET_ADMIN.
        receive_buffer: Size = Size::mebibytes(4), "media-receive-buffer", r#""4MiB""#;
        /// What the kernel may hold of datagrams on their way out, for each socket. More than `net.core.wmem_max`
        /// needs CAP_NET_ADMIN.
        send_buffer: Size = Size::mebibytes(4), "media-send-buffer", r#""4MiB""#;
    }
}

section! {
    /// What helps clients through their networks. Media goes straight to the addresses of a node; who cannot send UDP there
    /// needs a TURN server, which is not part of this program.
    Ice, IceFlags, "ice" {
        /// STUN and TURN servers that publishers and viewers are told of with each answer.
        servers: Vec<IceServer> = Vec::new(), "ice-servers",
            r#"["stun:stun.example.net", "turns:turn.example.net:443?transport=tcp"]"#;
        /// Secret that the TURN server shares (coturn: `use-auth-secret`, `static-auth-secret`). Each client gets credentials
        /// of its own, made of it, that end by themselves. Better kept in a file.
        turn_secret: Option<Secret> = None, "turn-secret", r#""SECRET-5""#;
        /// File with that secret, on one line.
        turn_secret_file: Option<PathBuf> = None, "turn-secret-file", r#""/etc/media-tree/turn.key""#;
        /// How long such credentials are good for.
        turn_lifetime: HumanDuration = HumanDuration::secs(12 * 3600), "turn-lifetime", r#""24h""#;
    }
}

section! {
    /// Publishers.
    Ingest, IngestFlags, "ingest" {
        /// UDP port of the publishers' media.
        port: u16 = 52_000, "ingest-port", "52000";
        /// Address and port of the RTMP listener, or `off`: for encoders without WHIP, `rtmp://HOST/live` with the stream
        /// key `BROADCAST?key=SECRET`. With a certificate it speaks RTMPS, too.
        rtmp: OptionalListen = OptionalListen::At(loopback(1935)), "rtmp", r#""0.0.0.0:1935""#;
        /// Take RTMP without TLS from other machines. Keys then cross the network in clear.
        insecure_rtmp: bool = false, "insecure-rtmp", "true";
        /// Plain RTP to listen to, as broadcast gear sends it: a broadcast and the file of its session description (SDP),
        /// which says ports, addresses and codecs. As a table, `[[ingest.rtp_in]]` with `broadcast`, `file` or `sdp`
        /// (the description itself) and `sources`. It is not authenticated: name who may send.
        rtp_in: Vec<RtpIn> = Vec::new(), "rtp-in", r#"["live=/etc/media-tree/studio.sdp"]"#;
        /// Addresses and networks that plain RTP is taken from. Default: whoever is heard first is stayed with.
        rtp_in_sources: Vec<Network> = Vec::new(), "rtp-in-sources", r#"["10.0.7.0/24"]"#;
        /// Address of this machine that plain RTP comes to, and whose interface joins its groups of multicast. Default:
        /// the address in the session description, and the interface that the routes say.
        rtp_in_address: Option<IpAddr> = None, "rtp-in-address", r#""10.0.7.5""#;
        /// How long a broadcast stays after its publisher is gone. Its viewers stay connected and see the last frame.
        grace_period: HumanDuration = HumanDuration::secs(60), "grace-period", r#""60s""#;
        /// What happens to a second publisher of a broadcast: `take_over`, `refuse`, or `backup`. An encoder that restarts is
        /// the second publisher until its first connection is given up, so `refuse` keeps it out for up to half a minute.
        /// With `backup` it stays connected, and goes on when the first one goes or sends nothing for 2 s; viewers stay. Nodes
        /// that share a store send it to another node than the first one's, where it goes on when the first one or its
        /// node is gone: say so on all of them, controllers too.
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
    /// How nodes find each other: the store that they share, and what this one says of itself there.
    Control, ControlFlags, "control" {
        /// Where the state of the installation is kept: `embedded` (this process; `embedded:FILE` outlives it),
        /// `redis://HOST`, `rediss://HOST`, `redis+sentinel://HOST,HOST/NAME`, or `http://HOST:PORT` of a controller or of
        /// `up`. With a store a node finds its parents by itself. Default: embedded for `up` and `controller`, none
        /// for others, whose parents are then given by `link.parents`.
        store: Option<Secret> = None, "store", r#""redis+sentinel://10.0.0.1,10.0.0.2,10.0.0.3/media-tree""#;
        /// Where in the world this node is. Viewers and parents are looked for in the same region first.
        region: String = "default".into(), "region", r#""eu-central""#;
        /// Which part of the region shares power and network. Default: none.
        zone: Option<String> = None, "zone", r#""fra1""#;
        /// The machine it runs on: nodes of one host are not each other's replacement. Default: the host's name.
        host: Option<String> = None, "host-name", r#""rack7-blade3""#;
        /// Where browsers and encoders reach this node, for those that are sent here by others.
        /// Default: made of the scheme, `media.public_ip` or the first address of this host, and the port of `http.listen`.
        public_url: Option<String> = None, "public-url", r#""https://egress-3.example.net""#;
        /// Where children reach the link port of this node: several addresses, private and public, IPv4 and IPv6. A child in
        /// the same zone, or in the same region where that has none, tries private ones first, others try them last. Default:
        /// `link.address`, else `media.public_ip` and this host's first address of each family, and `link.port`.
        link_public: Vec<Parent> = Vec::new(), "link-public", r#"["10.0.0.5:51000", "198.51.100.7:51000"]"#;
        /// Tokens that may use `/api/v1` and the dashboard. With none, only this machine may.
        operator_tokens: Vec<Secret> = Vec::new(), "operator-tokens", r#"["SECRET-4"]"#;
    }
}

section! {
    /// Whether trees grow by themselves: a controller, or `up`, then starts relay and egress nodes when places run short, on its
    /// own machine or in containers of Docker engines, and takes them away when they have long been idle. A tree has a
    /// reserve of slots if its template says so, as `standard` does. See docs/operating/scaling.md.
    Scaling, ScalingFlags, "scaling" {
        /// `off`; `dry_run`: what would be done is told and not done; `approve`: an operator allows each sub-tree that comes
        /// or goes; `on`.
        mode: ScalingMode = ScalingMode::Off, "scaling", r#""on""#;
        /// From which part of all places of a tree on, taken or expected to be, it grows, in percent.
        out_percent: u32 = 75, "scaling-out-percent", "60";
        /// A sub-tree is taken away when the others carry all viewers with no more than this part of their places, in percent.
        in_percent: u32 = 40, "scaling-in-percent", "30";
        /// How far ahead viewers are counted on who come at the present rate: as long as a sub-tree takes to be there.
        lead: HumanDuration = HumanDuration::secs(60), "scaling-lead", r#""90s""#;
        /// How long few have to have watched, and no sub-tree to have come or gone, before one is taken away. An hour at most.
        cool_down: HumanDuration = HumanDuration::secs(300), "scaling-cool-down", r#""15m""#;
        /// Nodes that are not healthy so long after they were started are given up.
        healthy_within: HumanDuration = HumanDuration::secs(90), "scaling-healthy-within", r#""60s""#;
        /// How long viewers get to leave a sub-tree that is taken away, before those who are still there are closed.
        drain_within: HumanDuration = HumanDuration::secs(300), "scaling-drain-within", r#""1h""#;
        /// Most nodes that are started in an hour.
        starts_per_hour: u32 = 100, "scaling-starts-per-hour", "40";
        /// First port of the nodes that are started. Each takes 3 and one for each shard: HTTP, operations, links, media.
        port: u16 = 20_000, "scaling-port", "20000";
        /// How nodes are started: `process`, on this machine, or `docker`, as containers.
        provisioner: Provisioner = Provisioner::Process, "scaling-provisioner", r#""docker""#;
        /// Processes only: private directory of their configurations, outputs and session records. Put it on memory-backed
        /// storage. Default: one below `XDG_RUNTIME_DIR` or `/dev/shm`, named after the port of `ops.listen`.
        directory: Option<PathBuf> = None, "scaling-directory", r#""/run/media-tree/nodes""#;
        /// Containers only, as all that follows: the Docker engines, `URL` or `NAME=URL`, where NAME is the host that their nodes
        /// say they run on. As a table, `[[scaling.engines]]` with `url`, `name`, `nodes_max` (32: most nodes there),
        /// `public_ip`, `public_name`, `private_ip` and `zone` of that machine. Whoever reaches an engine has its machine.
        /// Without any it is `unix:///var/run/docker.sock`.
        engines: Vec<Engine> = Vec::new(), "scaling-engines",
            r#"["unix:///var/run/docker.sock", "rack8=tcp://10.0.0.8:2376"]"#;
        /// Directory with `ca.pem`, `cert.pem` and `key.pem` for engines at `tcp://`, as Docker's own client has it. Without it
        /// they are asked without TLS, as those at `http://` are.
        engine_certificates: Option<PathBuf> = None, "engine-certificates", r#""/etc/media-tree/docker""#;
        /// Ask engines of other machines without TLS. Whoever can listen on the way then has those machines.
        insecure_engines: bool = false, "insecure-engines", "true";
        /// The image, which each engine has to have: it is not pulled.
        image: String = concat!("media-tree:", env!("CARGO_PKG_VERSION")).into(), "scaling-image",
            r#""registry.example.net/media-tree:0.1.0""#;
        /// Whose containers they are: controllers with the same word go on with each other's nodes, those with another word
        /// leave them alone. Default: made of this host's name and the port of `ops.listen`.
        owner: Option<NodeId> = None, "scaling-owner", r#""live""#;
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
        /// Secret that JSON Web Tokens are signed with (HS256); at least 32 characters. Whoever has it can make tokens for
        /// everything. Better kept in a file.
        jwt_secret: Option<Secret> = None, "jwt-secret", r#""made-with-openssl-rand-hex-32-or-longer""#;
        /// File with the secret of JSON Web Tokens, on one line.
        jwt_secret_file: Option<PathBuf> = None, "jwt-secret-file", r#""/etc/media-tree/jwt.key""#;
        /// Public keys of JSON Web Tokens (RS256, ES256, EdDSA): the URL of a JWK set, or a file with one. It is read again
        /// every five minutes and when a token names a key that is not in it; the last good one is kept.
        jwt_jwks: Option<KeySource> = None, "jwt-jwks", r#""https://id.example.net/.well-known/jwks.json""#;
        /// Issuer (`iss`) that a JSON Web Token must name. Default: any.
        jwt_issuer: Option<String> = None, "jwt-issuer", r#""https://id.example.net""#;
        /// Audience (`aud`) that a JSON Web Token must name. Default: any, also none.
        jwt_audience: Option<String> = None, "jwt-audience", r#""media-tree""#;
        /// How far the clocks of this node and of whoever signs may be apart.
        jwt_leeway: HumanDuration = HumanDuration::secs(60), "jwt-leeway", r#""10s""#;
        /// What a JSON Web Token is asked for, once there is a key for them: `publish`, `view` or both. With `publish` alone
        /// watching stays as open as it was.
        jwt_for: Vec<Right> = vec![Right::Publish, Right::View], "jwt-for", r#"["publish"]"#;
        /// Allow URLs of keys and webhooks without TLS that lead to other machines. Tokens cross the network in clear, and
        /// whoever stands between can let in anybody.
        insecure_urls: bool = false, "insecure-urls", "true";
    }
}

section! {
    /// Servers of yours that this node asks and tells by POST. What is sent is told in docs/operating/access.md.
    Webhooks, WebhooksFlags, "webhooks" {
        /// URL that is asked who may publish and watch: 2xx lets in, 401 and 403 refuse, no answer within 2 s lets nobody
        /// in. A token of `[access]` lets in without asking.
        access: Option<HttpUrl> = None, "webhooks-access", r#""https://shop.example.net/may""#;
        /// What it is asked for: `publish`, `view` or both.
        access_for: Vec<Right> = vec![Right::Publish, Right::View], "webhooks-access-for", r#"["view"]"#;
        /// How long an answer holds for the same request of the same client.
        access_cache: HumanDuration = HumanDuration::secs(10), "webhooks-access-cache", r#""1m""#;
        /// URL that is told when a broadcast begins and ends, and how many watch it.
        events: Option<HttpUrl> = None, "webhooks-events", r#""https://shop.example.net/events""#;
        /// The least time between two counts of one broadcast's viewers.
        viewers_interval: HumanDuration = HumanDuration::secs(10), "webhooks-viewers-interval", r#""1m""#;
        /// Secret that requests to these URLs are signed with; at least 16 characters. Better kept in a file.
        secret: Option<Secret> = None, "webhooks-secret", r#""made-with-openssl-rand-hex-32""#;
        /// File with that secret, on one line.
        secret_file: Option<PathBuf> = None, "webhooks-secret-file", r#""/etc/media-tree/webhooks.key""#;
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
    /// What the network of this node carries, for those who send viewers and children to nodes: none comes that it would not
    /// carry, each at the rate that its broadcast's injection node measures. Nodes that share a network have a part each.
    /// Without a store nobody is sent anywhere, and these say nothing.
    Capacity, CapacityFlags, "capacity" {
        /// Most that is sent to viewers and children in all, in Mbit/s. Viewers are counted at the largest picture; a child
        /// is counted at everything that is published. Default: not limited.
        egress_mbps: Option<u32> = None, "egress-mbps", "8000";
        /// Most packets that are sent to them in a second. Default: not limited.
        packets_per_second: Option<u32> = None, "packets-per-second", "900000";
    }
}

section! {
    /// What the program says, on standard error.
    Log, LogFlags, "log" {
        /// How lines look: `human`, `json`, or `auto`: human on a terminal, JSON otherwise.
        format: LogFormat = LogFormat::Auto, "log-format", r#""json""#;
        /// What is logged: a level, or levels for parts, as in `info,link=debug`.
        filter: String = "info".into(), "log-filter", r#""info,egress=debug""#;
        /// Whether lines about a publisher or viewer have the address that it came from, as the field `client_address`. Off
        /// by default: then who watches stands in no log.
        client_addresses: bool = false, "log-client-addresses", "true";
    }
}

section! {
    /// Spans of joins, for a collector of OpenTelemetry; see docs/operating/logs.md.
    Traces, TracesFlags, "traces" {
        /// URL of the collector, for OTLP over HTTP: `/v1/traces` is put behind it, unless it names a path itself. Spans name
        /// broadcasts and nodes, and nobody's address. Default: there are no spans.
        otlp: Option<HttpUrl> = None, "traces-otlp", r#""http://127.0.0.1:4318""#;
        /// The part of the joins that is traced, from 0 to 1. Who asks with a `traceparent` of his own decides for his join.
        sample: Part = Part::ALL, "traces-sample", "0.01";
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

            /// All settings as a file, with every secret: for a private one.
            #[must_use]
            pub fn to_toml(&self) -> String {
                let mut text = String::new();
                for (table, settings) in [$(($section::TABLE, self.$field.written())),+] {
                    text.push_str(&format!("[{table}]\n"));
                    for (key, value) in settings {
                        text.push_str(&format!("{key} = {value}\n"));
                    }
                }
                text
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
    ice: Ice, IceFlags;
    ingest: Ingest, IngestFlags;
    link: Link, LinkFlags;
    control: Control, ControlFlags;
    scaling: Scaling, ScalingFlags;
    access: Access, AccessFlags;
    webhooks: Webhooks, WebhooksFlags;
    egress: Egress, EgressFlags;
    limits: Limits, LimitsFlags;
    capacity: Capacity, CapacityFlags;
    log: Log, LogFlags;
    traces: Traces, TracesFlags;
}
