//! `deploy/` as it is shipped, read: the Compose file is what the specification says and Compose takes it, images are pinned, and
//! whatever one file names another one has. Nothing is started here; `compose.rs` does that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::deployed::{self, Deployed, yaml};
use tests::docker::run;
use tests::questions::list;
use tests::tools;

type Result = anyhow::Result<()>;

const COMPOSE: &str = "compose.yaml";
const FIRST_GENERATION: &str = "/usr/bin/docker-compose";
/// The one place of the machine itself that a service sees.
const DOCKER: &str = "/var/run/docker.sock";

fn has_all(name: &str) -> bool {
    deployed::PARTS.iter().all(|part| tools::has(name, part))
}

/// The schema of the Compose specification.
fn specification() -> anyhow::Result<jsonschema::Validator> {
    let text = include_str!("../../third_party/compose-spec/compose-spec.json");
    let mut schema: Value = serde_json::from_str(text)?;
    // A name that is relative to nothing here.
    schema.as_object_mut().context("an object")?.remove("$id");
    Ok(jsonschema::validator_for(&schema)?)
}

fn faults(specification: &jsonschema::Validator, file: &Value) -> Vec<String> {
    let faults = specification.iter_errors(file);
    faults.map(|fault| format!("{}: {fault}", fault.instance_path())).collect()
}

#[test]
fn the_compose_file_is_what_the_specification_says() -> Result {
    if !has_all("the_compose_file_is_what_the_specification_says") {
        return Ok(());
    }
    let faults = faults(&specification()?, &Deployed::new()?.yaml(COMPOSE)?);
    ensure!(faults.is_empty(), "{faults:#?}");
    Ok(())
}

#[test]
fn a_slip_in_the_compose_file_is_found() -> Result {
    if !has_all("a_slip_in_the_compose_file_is_found") {
        return Ok(());
    }
    let (specification, good) = (specification()?, Deployed::new()?.yaml(COMPOSE)?);
    for (place, word, value) in [
        ("/services/relay", "restarts", json!("always")),
        ("/services/prometheus", "port", json!(["9090:9090"])),
        ("/services/loki", "profiles", json!("logs")),
        ("/services/egress/healthcheck", "period", json!("5s")),
        ("/networks/tree", "ipam", json!([])),
        ("", "service", json!({})),
    ] {
        let mut bad = good.clone();
        bad.pointer_mut(place).with_context(|| place.to_owned())?[word] = value;
        ensure!(!faults(&specification, &bad).is_empty(), "{place}/{word} is taken");
    }
    Ok(())
}

#[test]
fn compose_takes_the_file_with_all_its_profiles() -> Result {
    const NAME: &str = "compose_takes_the_file_with_all_its_profiles";
    if !has_all(NAME) || !tools::has(NAME, FIRST_GENERATION) {
        return Ok(());
    }
    let deployed = Deployed::new()?;
    deployed.setup()?;
    let (specification, folder) = (specification()?, deployed.path(""));
    // Debian has the first generation, users the second, which is a plugin of docker.
    let is_plugged_in = Command::new("docker").args(["compose", "version"]).output();
    let is_plugged_in = is_plugged_in.is_ok_and(|output| output.status.success());
    let generations: &[&[&str]] = if is_plugged_in {
        &[&[FIRST_GENERATION], &["docker", "compose"]]
    } else {
        println!("docker has no plugin `compose` here: its second generation was not asked");
        &[&[FIRST_GENERATION]]
    };
    for generation in generations {
        let [program, more @ ..] = generation else { continue };
        let mut command = Command::new(program);
        let resolved = run(command.args(more).args(["--profile", "logs", "config"]).current_dir(&folder))?;
        let resolved = yaml(&resolved)?;
        let services = resolved["services"].as_object().context("services")?.len();
        ensure!(
            services == services_of(&deployed.yaml(COMPOSE)?)?.len(),
            "{generation:?}: {services} services"
        );
        // What is made of it with all variables put in place, too.
        let faults = faults(&specification, &resolved);
        ensure!(faults.is_empty(), "{generation:?}: {faults:#?}");
    }
    Ok(())
}

fn services_of(compose: &Value) -> anyhow::Result<&serde_json::Map<String, Value>> {
    compose["services"].as_object().context("services")
}

fn texts<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a str> {
    list(value, path).iter().filter_map(Value::as_str)
}

/// Places of the host that a service sees, by where it sees them.
fn mounts(service: &Value) -> BTreeMap<&str, &str> {
    let sides = |text| {
        let mut sides = str::split(text, ':');
        sides.next().zip(sides.next())
    };
    texts(service, "/volumes").filter_map(sides).map(|(host, inside)| (inside, host)).collect()
}

/// All that a service is told: its command, its environment, and the files that are given to it.
fn told(deployed: &Deployed, service: &Value) -> anyhow::Result<String> {
    let mut told = format!("{}\n{}\n", service["command"], service["environment"]);
    let mut places: Vec<PathBuf> = mounts(service)
        .into_values()
        .filter(|host| host.starts_with('.'))
        .map(|host| deployed.path(host))
        .collect();
    while let Some(place) = places.pop() {
        if place.is_dir() {
            for entry in std::fs::read_dir(&place)? {
                places.push(entry?.path());
            }
        } else {
            told += &std::fs::read_to_string(&place).with_context(|| place.display().to_string())?;
        }
    }
    Ok(told)
}

#[test]
fn what_is_mounted_or_secret_is_there() -> Result {
    if !has_all("what_is_mounted_or_secret_is_there") {
        return Ok(());
    }
    let deployed = Deployed::new()?;
    deployed.setup()?;
    let compose = deployed.yaml(COMPOSE)?;
    for (name, service) in services_of(&compose)? {
        for (inside, host) in mounts(service) {
            let is_there = match host.chars().next() {
                Some('.') => deployed.path(host).exists(),
                // The machine's own.
                Some('/') => host == DOCKER,
                _ => compose["volumes"].get(host).is_some(),
            };
            ensure!(is_there, "{name}: {host} for {inside}");
        }
        let secrets: BTreeSet<&str> = texts(service, "/secrets").collect();
        for secret in &secrets {
            let file = compose["secrets"][secret]["file"].as_str();
            let file = file.with_context(|| format!("{name}: no secret {secret}"))?;
            ensure!(deployed.path(file).exists(), "{name}: setup.sh makes no {file}");
        }
        let told = told(&deployed, service)?;
        let named = told.split("/run/secrets/").skip(1);
        let named: BTreeSet<&str> = named
            .filter_map(|rest| rest.split(|c: char| !(c.is_ascii_lowercase() || c == '_')).next())
            .collect();
        ensure!(named.is_subset(&secrets), "{name} is told of {named:?} and given {secrets:?}");
    }
    Ok(())
}

/// Who is told to reach whom, and what makes that one listen there; where nothing does, it does so by itself.
const REACHED: [(&str, &str, &str, &str); 8] = [
    ("prometheus", "http://controller:8080/api/v1/targets", "controller", "0.0.0.0:8080"),
    ("prometheus", "[alertmanager:9093]", "alertmanager", ""),
    ("grafana", "http://prometheus:9090", "prometheus", ""),
    ("grafana", "http://loki:3100", "loki", "http_listen_port: 3100"),
    ("alloy", "http://loki:3100/loki/api/v1/push", "loki", "http_listen_port: 3100"),
    ("controller", "redis://redis", "redis", ""),
    ("injection", "redis://redis", "redis", ""),
    ("egress", "redis://redis", "redis", ""),
];

/// Files that a service is told to read, or to look into.
const READ: [(&str, &str); 7] = [
    ("prometheus", "/etc/prometheus/prometheus.yml"),
    ("alertmanager", "/etc/alertmanager/alertmanager.yml"),
    ("grafana", "/var/lib/grafana/dashboards/media-tree-overview.json"),
    ("grafana", "/var/lib/grafana/dashboards"),
    ("loki", "/etc/loki/loki.yml"),
    ("alloy", "/etc/alloy/config.alloy"),
    ("alloy", DOCKER),
];

#[test]
fn services_find_each_other_and_their_files() -> Result {
    if !has_all("services_find_each_other_and_their_files") {
        return Ok(());
    }
    let deployed = Deployed::new()?;
    let compose = deployed.yaml(COMPOSE)?;
    let services = services_of(&compose)?;
    let service = |name: &str| services.get(name).with_context(|| format!("no service {name}"));
    let networks = |service: &Value| match &service["networks"] {
        Value::Object(networks) => networks.keys().cloned().collect::<BTreeSet<_>>(),
        other => texts(other, "").map(str::to_owned).collect(),
    };
    for (client, address, server, listens) in REACHED {
        let (from, to) = (service(client)?, service(server)?);
        ensure!(told(&deployed, from)?.contains(address), "{client} is not told of {address}");
        ensure!(told(&deployed, to)?.contains(listens), "{server} is not told {listens}");
        ensure!(!networks(from).is_disjoint(&networks(to)), "{client} and {server} share no network");
    }
    for (reader, path) in READ {
        let (reads, told) = (service(reader)?, told(&deployed, service(reader)?)?);
        ensure!(told.contains(path), "{reader} is not told of {path}");
        // The longest comes first of those that one of them contains.
        let host = mounts(reads).into_iter().rev().find_map(|(inside, host)| {
            let below = Path::new(path).strip_prefix(inside).ok()?;
            Some(if below.as_os_str().is_empty() { PathBuf::from(host) } else { Path::new(host).join(below) })
        });
        let host = host.with_context(|| format!("{reader}: {path} is not given to it"))?;
        let is_there = host == Path::new(DOCKER) || deployed.path("").join(&host).exists();
        ensure!(is_there, "{reader}: {} for {path}", host.display());
    }
    Ok(())
}

/// Whether an image is one certain version: two numbers or more.
fn is_pinned(image: &str) -> bool {
    let Some((_, tag)) = image.trim_end_matches('}').rsplit_once(':') else { return false };
    let version = tag.trim_start_matches(['v', '-']).split('-').next().unwrap_or_default();
    let numbers: Vec<&str> = version.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    numbers.len() >= 2 && numbers.iter().all(is_number)
}

#[test]
fn images_are_pinned() -> Result {
    if !has_all("images_are_pinned") {
        return Ok(());
    }
    for (image, expected) in [
        ("grafana/loki:3.5.3", true),
        ("redis:8.0.3-alpine", true),
        ("media-tree:${MEDIA_TREE_VERSION:-0.1.0}", true),
        ("debian:12.11-slim", true),
        ("grafana/grafana:latest", false),
        ("grafana/grafana", false),
        ("redis:alpine", false),
        ("redis:8", false),
    ] {
        assert_eq!(is_pinned(image), expected, "{image}");
    }
    let deployed = Deployed::new()?;
    for (name, service) in services_of(&deployed.yaml(COMPOSE)?)? {
        let image = service["image"].as_str().with_context(|| format!("{name} has no image"))?;
        ensure!(is_pinned(image), "{name}: {image}");
    }
    let dockerfile = deployed.text("../docker/Dockerfile")?;
    let bases = dockerfile.lines().filter_map(|line| {
        let from = line.strip_prefix("FROM ").and_then(|rest| rest.split(' ').next());
        from.or_else(|| line.strip_prefix("ARG BASE="))
    });
    let bases: Vec<&str> = bases.filter(|base| *base != "${BASE}").collect();
    ensure!(bases.len() == 2 && bases.iter().all(|base| is_pinned(base)), "{bases:?}");
    Ok(())
}

#[test]
fn the_image_is_built_by_a_compiler_that_is_new_enough_from_all_that_it_needs() -> Result {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).with_context(|| name.to_owned());
    let (dockerfile, manifest) = (read("deploy/docker/Dockerfile")?, read("Cargo.toml")?);
    let between = |text: &str, before: &str, after: char| -> anyhow::Result<String> {
        let (_, rest) = text.split_once(before).with_context(|| format!("no {before}"))?;
        Ok(rest.split(after).next().unwrap_or_default().to_owned())
    };
    let numbers = |text: &str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    let (compiler, wanted) =
        (between(&dockerfile, "FROM rust:", '-')?, between(&manifest, "rust-version = \"", '"')?);
    ensure!(numbers(&compiler) >= numbers(&wanted), "the compiler is {compiler}, and {wanted} is wanted");
    // The program is linked to the glibc of what it is built on: bookworm is Debian 12.
    ensure!(
        dockerfile.contains("-bookworm AS build\n") && dockerfile.contains("ARG BASE=debian:12."),
        "{dockerfile}"
    );
    // What is left out is nothing that a build reads.
    for left_out in read(".dockerignore")?.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let is_read = ["Cargo", "crates", "tests", "third_party", "web", "xtask", "docs", "fuzz/Cargo"]
            .iter()
            .any(|needed| left_out.starts_with(needed) || left_out.contains('*'));
        ensure!(!is_read, "{left_out} is left out");
    }
    Ok(())
}

/// Components of an Alloy configuration, and the names that each refers to.
fn components(text: &str) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut depth, mut current) = (0_usize, String::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")) {
        if depth == 0 {
            let header = line.strip_suffix("\" {").and_then(|header| header.split_once(" \""));
            let (kind, label) = header.with_context(|| format!("no component begins with {line}"))?;
            current = format!("{kind}.{label}");
            ensure!(found.insert(current.clone(), BTreeSet::new()).is_none(), "two are named {current}");
        }
        // Outside quotes.
        let code: String = line.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        depth += code.matches('{').count();
        depth = depth
            .checked_sub(code.matches('}').count())
            .with_context(|| format!("one }} too many: {line}"))?;
        let words = code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_'));
        // `kind.of.label.export`
        let named =
            words.filter(|word| word.matches('.').count() >= 3).filter_map(|word| word.rsplit_once('.'));
        found.entry(current.clone()).or_default().extend(named.map(|(component, _)| component.to_owned()));
    }
    ensure!(depth == 0, "a }} is missing");
    Ok(found)
}

#[test]
fn logs_find_their_way_to_loki() -> Result {
    if !has_all("logs_find_their_way_to_loki") {
        return Ok(());
    }
    let deployed = Deployed::new()?;
    deployed.setup()?;
    let alloy = deployed.text("logs/config.alloy")?;
    let components = components(&alloy)?;
    let named: BTreeSet<&String> = components.values().flatten().collect();
    for name in &named {
        ensure!(components.contains_key(*name), "there is no {name}: {components:#?}");
    }
    let unnamed: Vec<&String> = components.keys().filter(|name| !named.contains(*name)).collect();
    ensure!(unnamed == ["loki.source.docker.containers"], "nobody uses {unnamed:?}");
    // Only containers of this project are read: it has the name that setup.sh gives it.
    let environment = deployed.text(".env")?;
    let project = environment.trim().strip_prefix("COMPOSE_PROJECT_NAME=").context("a project")?;
    ensure!(alloy.contains(&format!("com.docker.compose.project={project}\"")), "{project} is not read");

    let loki = deployed.yaml("logs/loki.yml")?;
    let text = |path: &str| {
        let value = loki.pointer(path).and_then(Value::as_str);
        value.with_context(|| format!("Loki is not told {path}"))
    };
    let hours = |path: &str| -> anyhow::Result<u32> {
        Ok(text(path)?.strip_suffix('h').with_context(|| format!("{path} in hours"))?.parse()?)
    };
    // Loki keeps its index by days, and throws away whole ones; it does not start without a place for what is to go.
    let (kept, period) =
        (hours("/limits_config/retention_period")?, hours("/schema_config/configs/0/index/period")?);
    ensure!(period == 24 && kept.is_multiple_of(period), "{kept} h are kept, in pieces of {period} h");
    ensure!(loki["compactor"]["retention_enabled"] == true, "logs are kept for ever");
    assert_eq!(text("/compactor/delete_request_store")?, text("/schema_config/configs/0/object_store")?);
    let compose = deployed.yaml(COMPOSE)?;
    let kept_at: BTreeSet<&str> = mounts(&compose["services"]["loki"]).into_keys().collect();
    for path in
        ["/common/path_prefix", "/common/storage/filesystem/chunks_directory", "/compactor/working_directory"]
    {
        let folder = text(path)?;
        ensure!(
            kept_at.iter().any(|place| Path::new(folder).starts_with(place)),
            "{folder} ends with the container"
        );
    }
    Ok(())
}

#[test]
fn a_broken_way_of_logs_is_found() {
    let good = "loki.source.docker \"all\" {\n  forward_to = [loki.write.out.receiver]\n}\nloki.write \"out\" {\n}\n";
    let found = components(good).expect("good");
    assert_eq!(found["loki.source.docker.all"], BTreeSet::from(["loki.write.out".to_owned()]));
    for (from, to) in [
        ("\n}\nloki", "\nloki"),
        ("}\n", "}}\n"),
        ("loki.write \"out\"", "loki.write"),
        ("\"out\" {\n}\n", "\"out\" {\n"),
    ] {
        assert!(components(&good.replacen(from, to, 1)).is_err(), "{to} for {from}");
    }
}

#[test]
fn data_sources_are_what_dashboards_choose_from() -> Result {
    if !has_all("data_sources_are_what_dashboards_choose_from") {
        return Ok(());
    }
    let deployed = Deployed::new()?;
    let mut sources = Vec::new();
    for name in ["prometheus", "loki"] {
        let file = deployed.yaml(&format!("../monitoring/grafana/provisioning/datasources/{name}.yml"))?;
        sources.extend(list(&file, "/datasources").iter().cloned());
    }
    let uids: BTreeSet<&str> = sources.iter().filter_map(|source| source["uid"].as_str()).collect();
    assert_eq!(uids, BTreeSet::from(["loki", "prometheus"]));
    let default: Vec<&Value> = sources.iter().filter(|source| source["isDefault"] == true).collect();
    ensure!(default.len() == 1 && default[0]["type"] == "prometheus", "{default:#?}");
    // `$__rate_interval` is four of these: as often as Prometheus scrapes.
    let prometheus = deployed.yaml("../monitoring/prometheus/prometheus.yml")?;
    assert_eq!(default[0]["jsonData"]["timeInterval"], prometheus["global"]["scrape_interval"]);
    Ok(())
}
