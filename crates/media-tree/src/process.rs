//! The process of a node: the node itself, or the supervisor above it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use config::{Config, EXIT_BAD_CONFIGURATION};
use model::Role;
use supervisor::{Child, Estate, Place};

/// Runs a node of this role, under a supervisor if the configuration wants one.
pub fn run(role: Role, config: Config) -> anyhow::Result<ExitCode> {
    if let Some((child, inheritance)) = Child::of_process()? {
        node::run(role, config, node::Start::supervised(child, inheritance))?;
    } else if config.supervises(role) {
        let ended = supervisor::supervise(estate(role, &config)?)?;
        return Ok(ExitCode::from(ended.0));
    } else {
        node::run(role, config, node::Start::default())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Has the supervised node that runs with this configuration go on with another program; gives what became of it, or
/// `None` if there is no such node.
pub fn upgrade(config: &Config, program: Option<PathBuf>) -> anyhow::Result<Option<String>> {
    let program = program.map_or_else(std::env::current_exe, Ok).context("find this program")?;
    let program = program.canonicalize().with_context(|| format!("find {}", program.display()))?;
    supervisor::ask(config.node.state_dir.as_deref(), &name(config), &program)
}

/// What tells this node's supervisor from others on the machine.
fn name(config: &Config) -> String {
    config.ops.listen.port().to_string()
}

fn estate(role: Role, config: &Config) -> anyhow::Result<Estate> {
    let random = || -> anyhow::Result<[u8; 32]> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        Ok(bytes)
    };
    // Where the ports are taken, one clear line, and nothing is started.
    let sockets = node::Ports::bind(role, config)?.into_sockets()?;
    let mut environment = Vec::new();
    let place = match &config.node.state_dir {
        Some(directory) => Place::given(directory.clone()),
        None => {
            let place = Place::temporary(&name(config))?;
            environment.push(("MEDIA_TREE_STATE_DIR".to_owned(), Path::as_os_str(place.path()).to_owned()));
            place
        }
    };
    // Where sessions outlive the supervisor, too, the node keeps its name itself.
    let is_kept = config.node.state_dir.is_some() && config.node.state_key_file.is_some();
    if config.node.id.is_none() && !is_kept {
        let suffix: String = random()?[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        environment.push(("MEDIA_TREE_NODE_ID".to_owned(), format!("{role}-{suffix}").into()));
    }
    let key = if config.node.state_key_file.is_none() { Some(random()?.into()) } else { None };
    Ok(Estate { sockets, key, place, environment, bad_configuration: EXIT_BAD_CONFIGURATION })
}
