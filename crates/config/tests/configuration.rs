//! The configuration as an operator meets it: files, environment, flags, problems.

use std::path::PathBuf;

use clap::{Args as _, Command, FromArgMatches as _};
use config::{Config, ConfigError, Flags, HumanDuration, Problem, PublisherConflict, Size, Sources};
use model::Role;

fn flags(arguments: &[&str]) -> Flags {
    let command = Flags::augment_args(Command::new("test").no_binary_name(true));
    let matches = command.try_get_matches_from(arguments).expect("the flags are understood");
    Flags::from_arg_matches(&matches).expect("the flags are read")
}

fn environment(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

fn from_file(text: &str) -> Config {
    Config::parse(text).expect("the file is understood")
}

fn problems(config: &Config, role: Role) -> Vec<Problem> {
    match config.check(role) {
        Ok(()) => Vec::new(),
        Err(ConfigError::Problems(problems)) => problems,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_example_file_is_current_and_says_the_defaults() {
    let committed = include_str!("../../../media-tree.example.toml");
    assert_eq!(
        committed,
        Config::example(),
        "write it anew: media-tree config example > media-tree.example.toml"
    );
    assert_eq!(from_file(committed), Config::default());
}

#[test]
fn what_the_example_shows_for_settings_without_default_is_valid_too() {
    let uncommented: String = Config::example()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = from_file(&uncommented);
    assert_eq!(config.node.id.expect("set").as_str(), "egress-fra-3");
    assert_eq!(config.capacity.egress_mbps, Some(8000));
}

#[test]
fn what_the_example_shows_for_lists_is_valid_too() {
    let instances = Config::example()
        .lines()
        .filter_map(|line| line.strip_prefix("# For instance ").map(str::to_owned))
        .collect::<Vec<_>>();
    assert_eq!(instances.len(), 13);
    for (instance, key) in instances.iter().zip([
        "node.broadcasts",
        "http.trusted_proxies",
        "http.page_origins",
        "media.public_ip",
        "ice.servers",
        "ingest.rtp_in",
        "ingest.rtp_in_sources",
        "link.parents",
        "control.link_public",
        "control.operator_tokens",
        "scaling.engines",
        "access.publish_tokens",
        "access.view_tokens",
    ]) {
        let (table, key) = key.split_once('.').expect("table and key");
        assert_ne!(from_file(&format!("[{table}]\n{key} = {instance}")), Config::default(), "{key}");
    }
}

#[test]
fn one_of_several_need_not_stand_in_brackets() {
    let one =
        from_file("[media]\npublic_ip = \"203.0.113.7\"\n[control]\nlink_public = \"10.0.0.5:51000\"\n");
    let list = "[media]\npublic_ip = [\"203.0.113.7\"]\n[control]\nlink_public = [\"10.0.0.5:51000\"]\n";
    assert_eq!(one, from_file(list));
    assert_eq!(one.media.public_ip, ["203.0.113.7".parse::<std::net::IpAddr>().expect("an address")]);
    let wrong = Config::parse("[media]\npublic_ip = [\"203.0.113.7\", \"nowhere\"]\n").map(|_| ());
    assert!(wrong.expect_err("no address").to_string().contains("public_ip"));
}

#[test]
fn what_a_network_carries_is_a_number_above_zero() {
    let config = from_file("[capacity]\negress_mbps = 800\npackets_per_second = 90000\n");
    assert_eq!((config.capacity.egress_mbps, config.capacity.packets_per_second), (Some(800), Some(90_000)));
    assert_eq!(problems(&config, Role::All), []);
    let nothing = from_file("[capacity]\negress_mbps = 0\npackets_per_second = 0\n");
    let zero = |setting| Problem::Zero { setting };
    let expected = [zero("capacity.egress_mbps"), zero("capacity.packets_per_second")];
    assert_eq!(problems(&nothing, Role::All), expected);
}

#[test]
fn parents_are_given_or_found_but_not_both() {
    let alone = Config::default();
    assert_eq!(problems(&alone, Role::Relay), [Problem::NoParents { role: Role::Relay }]);
    let found = from_file("[control]\nstore = \"redis://127.0.0.1\"\n");
    assert_eq!(problems(&found, Role::Relay), []);
    let alone = from_file("[control]\nstore = \"embedded\"\n");
    assert_eq!(problems(&alone, Role::Relay), [Problem::LonelyStore { role: Role::Relay }]);
    assert_eq!(problems(&alone, Role::Controller), []);
    let both = from_file("[control]\nstore = \"redis://127.0.0.1\"\n[link]\nparents = [\"127.0.0.1:1\"]\n");
    assert_eq!(problems(&both, Role::Egress), [Problem::ParentsTwice]);
}

#[test]
fn defaults_are_those_that_scripts_rely_on() {
    let config = Config::default();
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.ops.listen.to_string(), "127.0.0.1:9600");
    assert_eq!((config.media.port, config.link.port, config.ingest.port), (50_000, 51_000, 52_000));
    assert_eq!(config.ingest.grace_period, HumanDuration::secs(60));
    assert_eq!(problems(&config, Role::All), []);
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let folder = Folder::new();
    let file = folder.file("c.toml", "[media]\nport = 1000\n[link]\nport = 2000\n[ingest]\nport = 3000\n");
    let sources = Sources {
        file: Some(file),
        environment: environment(&[("MEDIA_TREE_LINK_PORT", "2001"), ("MEDIA_TREE_INGEST_PORT", "3001")]),
        flags: flags(&["--ingest-port", "3002"]),
    };
    let config = Config::resolve(sources).expect("resolved");
    assert_eq!((config.media.port, config.link.port, config.ingest.port), (1000, 2001, 3002));
    assert_eq!(config.http, Config::default().http);
}

#[test]
fn flags_that_are_not_given_do_not_clobber_the_file() {
    let folder = Folder::new();
    let text = "[http]\ninsecure = true\n[link]\nparents = [\"127.0.0.1:1\"]\n[egress]\nring_size = \"16MiB\"\n\
                [ingest]\npublisher_conflict = \"refuse\"\n[node]\nbroadcasts = [\"a\", \"b\"]\nshards = 3\n";
    let sources = Sources {
        file: Some(folder.file("c.toml", text)),
        flags: flags(&["--shards=5"]),
        ..Sources::default()
    };
    let config = Config::resolve(sources).expect("resolved");
    assert!(config.http.insecure);
    assert_eq!(config.link.parents.len(), 1);
    assert_eq!(config.egress.ring_size, Size::mebibytes(16));
    assert_eq!(config.ingest.publisher_conflict, PublisherConflict::Refuse);
    assert_eq!((config.node.broadcasts.len(), config.node.shards), (2, Some(5)));
}

#[test]
fn every_setting_can_be_given_in_all_three_ways() {
    let example = Config::example();
    let settings =
        example.lines().filter_map(|line| line.strip_prefix("# Flag --")?.split_once(", variable "));
    let mut count = 0;
    for (flag, variable) in settings {
        let text = match flag {
            "insecure-http"
            | "insecure-urls"
            | "insecure-rtmp"
            | "insecure-engines"
            | "supervise"
            | "log-client-addresses" => "true",
            "viewers-wait" | "media-tcp" => "false",
            "trusted-proxies" | "rtp-in-sources" => "10.0.0.0/8",
            "ice-servers" => "stun:stun.example.net",
            "node-id" | "tree-id" | "broadcasts" => "x",
            "http" | "ops" | "rtmp" => "198.51.100.1:1",
            "public-ip" | "link-address" | "rtp-in-address" => "198.51.100.1",
            "rtp-in" => "live=studio.sdp",
            "page-origins" | "public-url" => "https://egress-2.example.net",
            "parents" | "link-public" => "127.0.0.1:7",
            "log-format" => "json",
            "publisher-conflict" => "refuse",
            "scaling" => "on",
            "scaling-provisioner" => "docker",
            "scaling-engines" => "rack8=tcp://10.0.0.8:2376",
            "scaling-lead" | "scaling-cool-down" | "scaling-healthy-within" | "scaling-drain-within" => "7s",
            "publish-tokens" | "view-tokens" | "cluster-key" => "a-long-enough-secret",
            "jwt-for" | "webhooks-access-for" => "view",
            "traces-sample" => "0.7",
            "webhooks-access" | "webhooks-events" | "traces-otlp" => "https://hooks.example.net/",
            "jwt-leeway" | "webhooks-access-cache" | "webhooks-viewers-interval" | "turn-lifetime" => "7s",
            "grace-period" | "ring-time" => "7s",
            "media-receive-buffer" | "media-send-buffer" | "ring-size" => "7MiB",
            // Read at once; they have a test of their own.
            "cluster-key-file" | "jwt-secret-file" | "webhooks-secret-file" | "turn-secret-file" => continue,
            _ => "7",
        };
        let by_flag = Sources { flags: flags(&[&format!("--{flag}={text}")]), ..Sources::default() };
        let by_variable = Sources { environment: environment(&[(variable, text)]), ..Sources::default() };
        let by_flag = Config::resolve(by_flag).expect(flag);
        assert_eq!(by_flag, Config::resolve(by_variable).expect(variable), "{flag}");
        assert_ne!(by_flag, Config::default(), "{flag} changes nothing");
        count += 1;
    }
    assert_eq!(count, example.matches("# Flag --").count() - 4, "settings");
}

#[test]
fn lists_are_repeated_flags_or_commas() {
    for arguments in [
        &["--parents", "127.0.0.1:1", "--parents", "127.0.0.1:2"][..],
        &["--parents=127.0.0.1:1,127.0.0.1:2"],
    ] {
        let config =
            Config::resolve(Sources { flags: flags(arguments), ..Sources::default() }).expect("resolved");
        assert_eq!(config.link.parents.iter().map(config::Parent::port).collect::<Vec<_>>(), [1, 2]);
    }
}

#[test]
fn a_switch_stands_alone() {
    let config = Config::resolve(Sources {
        flags: flags(&["--insecure-http", "--shards", "2"]),
        ..Sources::default()
    });
    assert!(config.expect("resolved").http.insecure);
}

#[test]
fn foreign_and_empty_variables_are_left_alone() {
    let variables = environment(&[
        ("MEDIA_TREE_LINK_PORT", "udp://10.96.0.9:51000"),
        ("MEDIA_TREE_SERVICE_HOST", "10.96.0.9"),
        ("MEDIA_TREE_PUBLIC_IP", ""),
        ("PATH", "/bin"),
    ]);
    let config = Config::resolve(Sources { environment: variables, ..Sources::default() }).expect("resolved");
    assert_eq!(config, Config::default());
}

#[test]
fn a_bad_variable_is_named() {
    let variables = environment(&[("MEDIA_TREE_GRACE_PERIOD", "60")]);
    let error =
        Config::resolve(Sources { environment: variables, ..Sources::default() }).expect_err("no unit");
    assert!(
        error.to_string().contains("MEDIA_TREE_GRACE_PERIOD") && error.to_string().contains("500ms"),
        "{error}"
    );
}

#[test]
fn the_environment_may_name_the_file() {
    let folder = Folder::new();
    let path = folder.file("c.toml", "[media]\nport = 1000\n");
    let variables = environment(&[("MEDIA_TREE_CONFIG", path.to_str().expect("text"))]);
    let config = Config::resolve(Sources { environment: variables, ..Sources::default() }).expect("resolved");
    assert_eq!(config.media.port, 1000);
}

#[test]
fn a_misspelt_key_is_an_error_with_its_line() {
    let folder = Folder::new();
    for (text, expected) in [
        ("[media]\nprot = 1\n", "prot"),
        ("[medai]\nport = 1\n", "medai"),
        ("[media]\nport = \"x\"\n", "line 2"),
        ("[egress]\nring_size = \"16MB\"\n", "16MiB"),
        ("demo = true\n", "demo"),
    ] {
        let sources = Sources { file: Some(folder.file("c.toml", text)), ..Sources::default() };
        let message = Config::resolve(sources).expect_err(text).to_string();
        assert!(message.contains(expected) && message.contains("c.toml"), "{message}");
    }
    let sources = Sources { file: Some("/nowhere/c.toml".into()), ..Sources::default() };
    assert!(Config::resolve(sources).expect_err("missing").to_string().contains("/nowhere/c.toml"));
}

#[test]
fn the_cluster_key_comes_from_its_file() {
    let folder = Folder::new();
    let path = folder.file("key", "a-secret-of-the-cluster\n");
    let argument = format!("--cluster-key-file={}", path.display());
    let config =
        Config::resolve(Sources { flags: flags(&[&argument]), ..Sources::default() }).expect("resolved");
    assert_eq!(config.link.cluster_key.as_ref().expect("read").expose(), "a-secret-of-the-cluster");
    assert!(config.link_listen().ip().is_unspecified());
    assert!(!format!("{config:?}").contains("a-secret-of"), "a secret is shown");
    let both = flags(&[&argument, "--cluster-key=another-secret-of-it"]);
    let error = Config::resolve(Sources { flags: both, ..Sources::default() }).expect_err("twice");
    assert!(
        matches!(error, ConfigError::Problems(problems) if problems == [Problem::SecretTwice { setting: "link.cluster_key" }])
    );
}

#[test]
fn every_secret_may_stand_in_a_file_of_its_own() {
    let folder = Folder::new();
    let path = folder.file("key", "a-secret-of-thirty-two-characters\n");
    let arguments =
        ["jwt-secret-file", "webhooks-secret-file"].map(|flag| format!("--{flag}={}", path.display()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let config =
        Config::resolve(Sources { flags: flags(&arguments), ..Sources::default() }).expect("resolved");
    for secret in [&config.access.jwt_secret, &config.webhooks.secret] {
        assert_eq!(secret.as_ref().expect("read").expose(), "a-secret-of-thirty-two-characters");
    }
    assert_eq!(problems(&config, Role::All), []);
    for flag in ["jwt-secret", "webhooks-secret"] {
        let twice =
            flags(&[&format!("--{flag}=another-secret-of-it"), &format!("--{flag}-file={}", path.display())]);
        let error = Config::resolve(Sources { flags: twice, ..Sources::default() }).expect_err("twice");
        assert!(
            matches!(&error, ConfigError::Problems(problems) if matches!(problems[..], [Problem::SecretTwice { .. }]))
        );
    }
}

#[test]
fn whoever_is_asked_and_told_hears_it_signed_and_in_private() {
    let secret = "secret = \"0123456789abcdef\"\n";
    let hook = |url: &str| format!("[webhooks]\naccess = \"{url}\"\nevents = \"{url}\"\n");
    let config = from_file(&format!("{}{secret}", hook("https://shop.example.net/hook")));
    assert_eq!(problems(&config, Role::All), []);
    let unsigned = problems(&from_file(&hook("http://127.0.0.1:9000/hook")), Role::All);
    let expected = ["webhooks.access", "webhooks.events"].map(|setting| Problem::Unsigned { setting });
    assert_eq!(unsigned, expected);
    let open = format!(
        "{}{secret}[access]\njwt_jwks = \"http://id.example.net/keys\"\n",
        hook("http://10.0.0.7/hook")
    );
    let found = problems(&from_file(&open), Role::All);
    assert!(
        found.len() == 3 && found.iter().all(|problem| matches!(problem, Problem::InsecureUrl { .. })),
        "{found:?}"
    );
    assert!(!found[0].to_string().contains("/hook"), "paths may be secrets: {}", found[0]);
    assert_eq!(problems(&from_file(&format!("{open}insecure_urls = true\n")), Role::All), []);
    let short =
        from_file("[webhooks]\nsecret = \"too-short\"\n[access]\njwt_secret = \"0123456789abcdef\"\n");
    assert_eq!(
        problems(&short, Role::All),
        [
            Problem::ShortSecret { setting: "access.jwt_secret", length: 16, minimum: 32 },
            Problem::ShortSecret { setting: "webhooks.secret", length: 9, minimum: 16 },
        ]
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let config = from_file(
        "[http]\nlisten = \"0.0.0.0:80\"\n[link]\nparents = [\"198.51.100.1:51000\"]\nport = 50001\n\
         [node]\nshards = 2\n[limits]\nviewers_max = 0\n",
    );
    let found = problems(&config, Role::Egress);
    assert_eq!(found.len(), 4, "{found:?}");
    let error = config.check(Role::Egress).expect_err("problems").to_string();
    for words in ["4 problems", "--insecure-http", "cluster_key", "media.port + 1", "50001", "viewers_max"] {
        assert!(error.contains(words), "{words} is not in:\n{error}");
    }
}

#[test]
fn http_beyond_this_machine_needs_tls_or_a_word() {
    let base = "[http]\nlisten = \"0.0.0.0:8080\"\n";
    assert!(matches!(problems(&from_file(base), Role::All)[..], [Problem::InsecureHttp { .. }]));
    assert_eq!(problems(&from_file(&format!("{base}insecure = true\n")), Role::All), []);
    assert_eq!(
        problems(&from_file(&format!("{base}tls_certificate = \"a\"\ntls_key = \"b\"\n")), Role::All),
        []
    );
    let half = problems(&from_file(&format!("{base}tls_key = \"b\"\n")), Role::All);
    assert_eq!(half, [Problem::HalfACertificate { present: "http.tls_key" }]);
    assert_eq!(problems(&from_file("[http]\nlisten = \"[::1]:8080\"\n"), Role::All), []);
}

#[test]
fn each_role_has_the_parents_it_needs() {
    let with_parents = from_file("[link]\nparents = [\"localhost:51000\"]\n");
    for role in [Role::Relay, Role::Egress] {
        assert_eq!(problems(&Config::default(), role), [Problem::NoParents { role }]);
        assert_eq!(problems(&with_parents, role), []);
    }
    assert_eq!(problems(&with_parents, Role::Injection), [Problem::ParentsOfInjection]);
    assert_eq!(problems(&with_parents, Role::All), []);
}

#[test]
fn links_beyond_this_machine_need_a_cluster_key_that_cannot_be_guessed() {
    for link in ["parents = [\"198.51.100.1:51000\"]", "address = \"198.51.100.2\"", "address = \"0.0.0.0\""]
    {
        let without = from_file(&format!("[link]\n{link}\n"));
        assert!(matches!(problems(&without, Role::All)[..], [Problem::NoClusterKey { .. }]), "{link}");
        let with = from_file(&format!("[link]\n{link}\ncluster_key = \"0123456789abcdef\"\n"));
        assert_eq!(problems(&with, Role::All), [], "{link}");
        let short = from_file(&format!("[link]\n{link}\ncluster_key = \"0123456789\"\n"));
        assert_eq!(
            problems(&short, Role::All),
            [Problem::ShortSecret { setting: "link.cluster_key", length: 10, minimum: 16 }],
            "{link}"
        );
    }
    assert!(Config::default().link_listen().ip().is_loopback());
}

#[test]
fn ports_clash_only_where_the_role_opens_them() {
    let config = from_file("[media]\nport = 51999\n[node]\nshards = 2\n");
    assert!(matches!(
        problems(&config, Role::All)[..],
        [Problem::PortClash { port: 52_000, protocol: "UDP", .. }]
    ));
    assert_eq!(problems(&config, Role::Injection), []);
    let tcp = from_file("[ops]\nlisten = \"127.0.0.1:8080\"\n");
    assert!(matches!(
        problems(&tcp, Role::All)[..],
        [Problem::PortClash { port: 8080, protocol: "TCP", .. }]
    ));
    let last = from_file("[media]\nport = 65535\n[node]\nshards = 2\n");
    assert_eq!(problems(&last, Role::All), [Problem::PortsBeyondTheLast { port: 65_535, shards: 2 }]);
    let free = from_file(
        "[media]\nport = 0\n[link]\nport = 0\n[ingest]\nport = 0\n[http]\nlisten = \"127.0.0.1:0\"\n[ops]\nlisten = \"127.0.0.1:0\"\n",
    );
    assert_eq!(problems(&free, Role::All), []);
}

#[test]
fn the_demo_needs_a_node_that_takes_publishers() {
    let mut config = from_file("[link]\nparents = [\"localhost:51000\"]\n");
    config.demo = true;
    assert_eq!(problems(&config, Role::Egress), [Problem::DemoWithoutIngest { role: Role::Egress }]);
    assert_eq!(problems(&config, Role::All), []);
}

#[test]
fn a_controller_has_no_sessions_to_keep() {
    let config = from_file("[node]\nsupervise = true\n");
    assert_eq!(problems(&config, Role::Controller), [Problem::SupervisedController]);
    assert_eq!(problems(&config, Role::Injection), []);
}

#[test]
fn a_configuration_that_is_written_down_comes_back_with_its_secrets() {
    let shown: String = Config::example()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let mut config = from_file(&shown);
    config.access.publish_tokens = vec!["show=secret-of-the-show".parse().expect("a token")];
    let written = config.to_toml();
    assert_eq!(from_file(&written), config);
    assert!(written.contains("secret-of-the-show"));
    assert_eq!(from_file(&Config::default().to_toml()), Config::default());
}

#[test]
fn scaling_that_could_not_work_is_refused_where_it_would_run() {
    let scaling = |text: &str| from_file(&format!("[scaling]\nmode = \"on\"\n{text}"));
    assert_eq!(problems(&scaling(""), Role::Controller), []);
    let found = problems(&scaling("out_percent = 40\ncool_down = \"2h\"\nstarts_per_hour = 0\n"), Role::All);
    assert_eq!(
        found,
        [
            Problem::ScalingThresholds { shrinks: 40, grows: 40 },
            Problem::OutOfRange { setting: "scaling.cool_down", least: "1s", most: "1h" },
            Problem::Zero { setting: "scaling.starts_per_hour" },
        ]
    );
    let open = "[http]\nlisten = \"0.0.0.0:80\"\ninsecure = true\n";
    let remedy = "link.cluster_key_file";
    assert_eq!(problems(&scaling(open), Role::Controller), [Problem::ScalingStore { remedy }]);
    let redis = scaling(&format!("{open}[control]\nstore = \"redis://127.0.0.1\"\n"));
    assert_eq!(problems(&redis, Role::Controller), []);
    let elsewhere = scaling("[control]\nstore = \"http://10.0.0.5:8080\"\n");
    assert_eq!(problems(&elsewhere, Role::All), [Problem::ScalingElsewhere]);
    let tls = scaling("[http]\ntls_certificate = \"a\"\ntls_key = \"b\"\n");
    assert_eq!(problems(&tls, Role::All), [Problem::ScalingStore { remedy: "control.public_url" }]);
    assert_eq!(problems(&scaling("out_percent = 10\n"), Role::Egress).len(), 1, "it has no parents, either");
}

#[test]
fn engines_that_could_not_work_are_refused() {
    let base = "[link]\ncluster_key = \"0123456789abcdef\"\n[control]\nstore = \"redis://10.0.0.1\"\n\
                [http]\nlisten = \"0.0.0.0:80\"\ninsecure = true\n";
    let on = "[scaling]\nmode = \"on\"\n";
    let docker = |text: &str| from_file(&format!("{base}{on}provisioner = \"docker\"\n{text}"));
    let far = "engines = [\"unix:///run/docker.sock\", \"rack8=tcp://10.0.0.8:2376\"]\n";
    assert_eq!(problems(&docker(""), Role::Controller), []);
    let good = docker(&format!("{far}engine_certificates = \"/etc/media-tree/docker\"\n"));
    assert_eq!(problems(&good, Role::Controller), []);
    let engine = || "rack8=tcp://10.0.0.8:2376".to_owned();
    let insecure = [Problem::InsecureEngine { engine: engine() }];
    assert_eq!(problems(&docker(far), Role::Controller), insecure);
    assert_eq!(problems(&docker(&format!("{far}insecure_engines = true\n")), Role::Controller), []);
    assert_eq!(problems(&docker("engines = [\"http://127.0.0.1:2375\"]\n"), Role::Controller), []);
    let twice = docker("engines = [\"unix:///a\", \"unix:///b\"]\n");
    assert_eq!(problems(&twice, Role::Controller), [Problem::EngineTwice { name: "this machine".into() }]);
    let none = docker("engines = [{ url = \"unix:///a\", nodes_max = 0 }]\n");
    assert_eq!(problems(&none, Role::All), [Problem::Zero { setting: "nodes_max of scaling.engines" }]);
    let unused = from_file(&format!("{on}engines = [\"rack8=tcp://10.0.0.8:2376\"]\n"));
    assert_eq!(problems(&unused, Role::Controller), [Problem::UnusedEngines { engine: engine() }]);
    assert_eq!(problems(&docker(far), Role::Injection), [], "it starts none");
}

#[test]
fn nodes_on_other_machines_need_addresses_of_theirs() {
    let far = |text: &str, more: &str| {
        let scaling = format!(
            "[scaling]\nmode = \"on\"\nprovisioner = \"docker\"\ninsecure_engines = true\n\
             [[scaling.engines]]\nurl = \"tcp://10.0.0.8:2375\"\n{more}"
        );
        let found = problems(&from_file(&format!("{text}{scaling}")), Role::Controller);
        let remedy = |problem: &Problem| match problem {
            Problem::FarEngine { remedy, .. } => *remedy,
            other => panic!("{other}"),
        };
        found.iter().map(remedy).collect::<Vec<_>>()
    };
    assert_eq!(far("", ""), ["link.cluster_key_file", "control.public_url", "http.listen"]);
    let own = "[link]\ncluster_key = \"0123456789abcdef\"\naddress = \"10.0.0.5\"\n\
               [control]\npublic_url = \"http://10.0.0.5\"\n\
               [http]\nlisten = \"0.0.0.0:80\"\ninsecure = true\n[ops]\nlisten = \"10.0.0.5:9600\"\n";
    assert_eq!(far(own, ""), ["private_ip of the engine"; 2]);
    assert_eq!(far(own, "private_ip = \"10.0.0.8\"\n"), [""; 0]);
    let with_store = |store: &str| own.replace("[control]", &format!("[control]\nstore = \"{store}\""));
    let on_loopback = [
        "redis://127.0.0.1:6379",
        "rediss://user:secret@Localhost",
        "redis://[::1]:6379/2",
        "redis+sentinel://10.0.0.5,127.0.0.1/media-tree",
    ];
    for store in on_loopback {
        assert_eq!(far(&with_store(store), "private_ip = \"10.0.0.8\"\n"), ["control.store"], "{store}");
    }
    for store in ["redis://10.0.0.5:6379", "redis://localhost.example.net"] {
        assert_eq!(far(&with_store(store), "private_ip = \"10.0.0.8\"\n"), [""; 0], "{store}");
    }
    let own_url = own.replace("http://10.0.0.5", "http://localhost:8080");
    assert_eq!(far(&own_url, "private_ip = \"10.0.0.8\"\n"), ["control.public_url"]);
}

#[test]
fn small_things_that_never_work_are_found() {
    let config = from_file(
        "[media]\npublic_ip = \"0.0.0.0\"\n[node]\nstate_key_file = \"k\"\n[limits]\nrequest_rate = 0\n",
    );
    let found = problems(&config, Role::Injection);
    assert!(found.contains(&Problem::PublicIp { address: [0, 0, 0, 0].into() }));
    assert!(found.contains(&Problem::KeyWithoutStateDirectory));
    assert!(found.contains(&Problem::Zero { setting: "limits.request_rate" }));
    assert_eq!(found.len(), 3);
}

mod any_text {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_makes_the_file_reader_panic(text in "\\PC{0,60}", table in "(media|node|link|egress)", key in "(port|id|parents|ring_size)") {
            let _ = config::Config::parse(&text);
            let _ = config::Config::parse(&format!("[{table}]\n{key} = {text}\n"));
        }
    }
}
