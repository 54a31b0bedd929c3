//! The media-tree program: parse, resolve, check, run.
#![forbid(unsafe_code)]

mod conformance;
mod healthcheck;
mod load;
mod operator;
mod process;
mod reachability;

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use config::{Config, EXIT_BAD_CONFIGURATION, LogFormat, Sources};
use model::Role;
use supervisor::Child;

/// Live video to tens of thousands of viewers in under half a second, on machines of your own.
#[derive(Parser)]
#[command(name = "media-tree", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything in one process: publishers in, viewers out. The place to begin.
    Up {
        /// Also publish a built-in moving clip with sound as the broadcast `demo`. Not where the listener speaks HTTPS.
        #[arg(long)]
        demo: bool,
        #[command(flatten)]
        settings: NodeSettings,
    },
    /// An injection node: takes publishers, feeds the tree.
    Injection(NodeSettings),
    /// A relay node: takes media from parents, forwards it to children.
    Relay(NodeSettings),
    /// An egress node: takes media from parents, serves viewers.
    Egress(NodeSettings),
    /// A controller: nodes with the same store find each other, and it decides who takes media from whom.
    Controller(NodeSettings),
    /// Replaces the program of a supervised node on this machine, under its publishers and viewers. Give the flags or the
    /// file that it runs with, so that it is found.
    Upgrade {
        /// The new program. Default: this one.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// A crowd of viewers, and publishers, to try a server with: any WHEP and WHIP server, over plain HTTP.
    Load(Box<load::Arguments>),
    /// Tries a WHIP or WHEP server of any make, line by line of what the standards demand.
    Conformance(Box<conformance::Arguments>),
    /// Whether viewers and publishers reach a server from here, and what to do where they do not.
    Check(Box<reachability::Arguments>),
    #[command(flatten)]
    Operator(operator::Command),
    /// What the configuration is made of.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Asks a running node on this machine whether it is well; for images without a shell. Exit code 0 or 1.
    Healthcheck {
        /// Ask whether it is ready for work, not only whether it is alive.
        #[arg(long)]
        ready: bool,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Judges file, environment and flags together, tells every problem, starts nothing.
    Check {
        /// For which subcommand.
        #[arg(long, value_enum, default_value_t = RoleName::Up)]
        role: RoleName,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Prints the documented example file: every setting with its default.
    Example,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleName {
    Up,
    Injection,
    Relay,
    Egress,
    Controller,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Up => Self::All,
            RoleName::Injection => Self::Injection,
            RoleName::Relay => Self::Relay,
            RoleName::Egress => Self::Egress,
            RoleName::Controller => Self::Controller,
        }
    }
}

#[derive(clap::Args)]
struct Settings {
    /// Configuration file, TOML; see `media-tree config example`. [variable: MEDIA_TREE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: config::Flags,
}

#[derive(clap::Args)]
struct NodeSettings {
    /// If such a node runs already, under a supervisor, have it go on with this program, and exit.
    #[arg(long)]
    take_over: bool,
    #[command(flatten)]
    settings: Settings,
}

const NO_SUPERVISED_NODE: &str = "no supervised node with this configuration runs here: give the flags or the file \
                                  that it runs with";

/// Why the program ends badly: with which code, and what it says.
struct Failure(u8, String);

fn bad_configuration(error: impl Display) -> Failure {
    Failure(EXIT_BAD_CONFIGURATION, error.to_string())
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_BAD_CONFIGURATION } else { 0 });
        }
    };
    match perform(arguments.command) {
        Ok(code) => code,
        Err(Failure(code, message)) => {
            eprintln!("media-tree: {message}");
            ExitCode::from(code)
        }
    }
}

fn perform(command: Command) -> Result<ExitCode, Failure> {
    let done = match command {
        Command::Up { demo, settings } => return run(Role::All, settings, demo),
        Command::Injection(settings) => return run(Role::Injection, settings, false),
        Command::Relay(settings) => return run(Role::Relay, settings, false),
        Command::Egress(settings) => return run(Role::Egress, settings, false),
        Command::Controller(settings) => return run(Role::Controller, settings, false),
        Command::Upgrade { program, settings } => match process::upgrade(&resolve(*settings)?, program) {
            Ok(Some(done)) => {
                println!("{done}");
                Ok(())
            }
            Ok(None) => Err(Failure(1, NO_SUPERVISED_NODE.into())),
            Err(error) => Err(Failure(1, format!("{error:#}"))),
        },
        Command::Load(arguments) => load::run(*arguments).map_err(|error| Failure(1, format!("{error:#}"))),
        Command::Conformance(arguments) => {
            return match conformance::run(*arguments) {
                Ok(is_conforming) => Ok(ExitCode::from(u8::from(!is_conforming))),
                Err(error) => Err(Failure(1, format!("{error:#}"))),
            };
        }
        Command::Check(arguments) => {
            return match reachability::run(*arguments) {
                Ok(is_good) => Ok(ExitCode::from(u8::from(!is_good))),
                Err(error) => Err(Failure(1, format!("{error:#}"))),
            };
        }
        Command::Operator(command) => operator::run(command),
        Command::Config(ConfigCommand::Check { role, settings }) => {
            check(role.into(), &resolve(*settings)?)?;
            println!("the configuration is good");
            Ok(())
        }
        Command::Config(ConfigCommand::Example) => {
            print!("{}", Config::example());
            Ok(())
        }
        Command::Healthcheck { ready, settings } => {
            let path = if ready { "/readyz" } else { "/healthz" };
            healthcheck::ask(resolve(settings)?.ops.listen, path)
                .map_err(|error| Failure(1, format!("{error:#}")))
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn resolve(settings: Settings) -> Result<Config, Failure> {
    Config::resolve(Sources::of_process(settings.config, settings.flags)).map_err(bad_configuration)
}

fn check(role: Role, config: &Config) -> Result<(), Failure> {
    config.check(role).map_err(bad_configuration)?;
    if role.is_injection() {
        node::check(config).map_err(|error| bad_configuration(format!("{error:#}")))?;
    }
    telemetry::log::check_filter(&config.log.filter).map_err(bad_configuration)
}

fn run(role: Role, settings: NodeSettings, demo: bool) -> Result<ExitCode, Failure> {
    let NodeSettings { take_over, settings } = settings;
    let config = Config { demo, ..resolve(settings)? };
    check(role, &config)?;
    if take_over && !Child::is_this_process() {
        let outcome = process::upgrade(&config, None).map_err(|error| Failure(1, format!("{error:#}")))?;
        if let Some(done) = outcome {
            println!("{done}");
            return Ok(ExitCode::SUCCESS);
        }
    }
    let format = match config.log.format {
        LogFormat::Auto => telemetry::log::Format::Auto,
        LogFormat::Human => telemetry::log::Format::Human,
        LogFormat::Json => telemetry::log::Format::Json,
    };
    telemetry::log::init(format, &config.log.filter).map_err(bad_configuration)?;
    process::run(role, config).map_err(|error| Failure(1, format!("{error:#}")))
}
