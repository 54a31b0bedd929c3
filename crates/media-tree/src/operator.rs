//! Commands for operators: they speak `/api/v1` of a controller and hold no state of their own.
//!
//! Exit codes: 0 done, 1 refused or no answer, 64 the command line makes no sense.

mod create;
mod http;
mod show;
mod table;
mod views;

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use config::{EXIT_BAD_CONFIGURATION, HumanDuration};
use hyper::Method;
use model::{BroadcastId, NodeId, TreeId};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::Failure;
use create::NewTree;
use http::{CallError, Client};
use views::{Audience, Decision, Installation, Node, PublishKey, Slot, Tree};

/// What an operator may ask and order.
#[derive(Subcommand)]
pub enum Command {
    /// Whether the installation is well: controller, store, nodes, and what more nodes would mend.
    Status {
        #[command(flatten)]
        connection: Connection,
    },
    /// Trees: make, look at, delete.
    Tree {
        #[command(subcommand)]
        command: TreeCommand,
        #[command(flatten)]
        connection: Connection,
    },
    /// Nodes: look at, drain.
    Node {
        #[command(subcommand)]
        command: NodeCommand,
        #[command(flatten)]
        connection: Connection,
    },
    /// Broadcasts of the whole installation: look at, make ahead of their publisher, get the key to publish.
    Broadcast {
        #[command(subcommand)]
        command: BroadcastCommand,
        #[command(flatten)]
        connection: Connection,
    },
    /// How many watch what, and at which node.
    Viewer {
        #[command(subcommand)]
        command: ListCommand,
        #[command(flatten)]
        connection: Connection,
    },
    /// What the controller did lately, and why; latest first.
    Decisions {
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Subcommand)]
pub enum TreeCommand {
    /// Makes a tree from a template of the program, or from one of your own.
    Create(NewTree),
    /// All trees.
    List,
    /// Slots that trees grow by: reserve and sub-trees, and what waits for an operator.
    Slots {
        /// Of this tree alone.
        name: Option<TreeId>,
    },
    /// Lets a sub-tree come or go that waits for it (`scaling.mode = "approve"`).
    Approve {
        /// The tree.
        name: TreeId,
        /// The number of the slot.
        slot: u32,
        /// What is allowed.
        #[arg(value_enum)]
        change: ChangeName,
    },
    /// One tree and its nodes.
    Show {
        /// Its name.
        name: TreeId,
    },
    /// Deletes a tree that has no nodes any more.
    Delete {
        /// Its name.
        name: TreeId,
    },
}

#[derive(Subcommand)]
pub enum NodeCommand {
    /// All nodes.
    List {
        /// Of this tree alone.
        #[arg(long, value_name = "NAME")]
        tree: Option<TreeId>,
    },
    /// One node.
    Show {
        /// Its name.
        name: NodeId,
    },
    /// Has a node take nobody new and send its viewers elsewhere.
    Drain {
        /// Its name.
        name: NodeId,
        /// When those who are still there are closed, counted from when the node hears of it.
        #[arg(long, value_name = "DURATION", default_value = "60s")]
        deadline: HumanDuration,
    },
    /// Takes the order to drain back.
    Undrain {
        /// Its name.
        name: NodeId,
    },
}

#[derive(Subcommand)]
pub enum BroadcastCommand {
    /// All of them.
    List,
    /// Makes a broadcast before anybody publishes it, and prints the key that its publisher needs from then on.
    Create {
        /// Its name.
        name: BroadcastId,
        /// The tree that carries it, if not the usual one.
        #[arg(long, value_name = "NAME")]
        tree: Option<TreeId>,
    },
    /// One broadcast.
    Show {
        /// Its name.
        name: BroadcastId,
    },
    /// Prints the publish key.
    Key {
        /// Its name.
        name: BroadcastId,
        /// Make another key first: the old one opens nothing any more. Whoever publishes at the moment goes on.
        #[arg(long)]
        change: bool,
    },
    /// Takes back that it was made: its key opens nothing any more. Whoever publishes at the moment goes on.
    Delete {
        /// Its name.
        name: BroadcastId,
    },
}

#[derive(Clone, Copy, Subcommand)]
pub enum ListCommand {
    /// All of them.
    List,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum ChangeName {
    Grow,
    Shrink,
}

/// Whom to ask, and how to print what he says.
#[derive(Args)]
pub struct Connection {
    /// A controller or `up` [default: http://127.0.0.1:8080]. [variable: MEDIA_TREE_API]
    #[arg(long, value_name = "URL", global = true)]
    api: Option<String>,
    /// Operator token; a flag is seen by all users of the machine. [variable: MEDIA_TREE_OPERATOR_TOKEN]
    #[arg(long, global = true)]
    token: Option<String>,
    /// Certificates (PEM) to trust instead of those that this machine trusts.
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// Print JSON as the controller gives it.
    #[arg(long, global = true)]
    json: bool,
}

impl Connection {
    fn client(&self) -> Result<Client, CallError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let api = self.api.clone().or_else(|| variable("MEDIA_TREE_API"));
        let token = self.token.clone().or_else(|| variable("MEDIA_TREE_OPERATOR_TOKEN"));
        Client::new(api.as_deref().unwrap_or("http://127.0.0.1:8080"), token.as_deref(), self.ca_file.clone())
    }
}

/// Does what is asked for and prints it.
pub fn run(command: Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure(1, format!("the program cannot start: {error}")))?;
    let text = runtime.block_on(perform(command)).map_err(|error| {
        let code = if error.is_usage() { EXIT_BAD_CONFIGURATION } else { 1 };
        Failure(code, error.to_string())
    })?;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure(1, format!("the answer cannot be printed: {error}"))),
    }
}

async fn perform(command: Command) -> Result<String, CallError> {
    match command {
        Command::Status { connection } => look(&connection, "/api/v1/installation", show::status).await,
        Command::Tree { command, connection } => tree(command, &connection).await,
        Command::Node { command, connection } => node(command, &connection).await,
        Command::Broadcast { command, connection } => broadcast(command, &connection).await,
        Command::Viewer { command: ListCommand::List, connection } => {
            look(&connection, "/api/v1/viewers", |audiences: &Vec<Audience>| show::viewers(audiences)).await
        }
        Command::Decisions { connection } => {
            look(&connection, "/api/v1/decisions", |decisions: &Vec<Decision>| show::decisions(decisions))
                .await
        }
    }
}

async fn tree(command: TreeCommand, connection: &Connection) -> Result<String, CallError> {
    match command {
        TreeCommand::Create(new) => {
            let print = |_: &Value| format!("The tree {} is made.\n", new.name);
            order(connection, "/api/v1/trees", &new.body()?, print).await
        }
        TreeCommand::List => look(connection, "/api/v1/trees", |trees: &Vec<Tree>| show::trees(trees)).await,
        TreeCommand::Show { name } => {
            let path = format!("/api/v1/trees/{name}");
            if connection.json {
                return look(connection, &path, |_: &Value| String::new()).await;
            }
            let client = connection.client()?;
            let tree: Tree = parse(&client, &client.get(&path).await?)?;
            let nodes: Vec<Node> = parse(&client, &client.get("/api/v1/nodes").await?)?;
            Ok(show::tree(&tree, &nodes))
        }
        TreeCommand::Slots { name } => {
            let client = connection.client()?;
            let body = client.get("/api/v1/slots").await?;
            let is_wanted = |of: &str| name.as_ref().is_none_or(|tree| tree.as_str() == of);
            if connection.json {
                let mut slots: Vec<Value> = parse(&client, &body)?;
                slots.retain(|slot| slot["tree"].as_str().is_some_and(is_wanted));
                return Ok(pretty(&slots.into()));
            }
            let slots: Vec<Slot> = parse(&client, &body)?;
            Ok(show::slots(&slots.iter().filter(|slot| is_wanted(&slot.tree)).collect::<Vec<_>>()))
        }
        TreeCommand::Approve { name, slot, change } => {
            let change = match change {
                ChangeName::Grow => "grow",
                ChangeName::Shrink => "shrink",
            };
            let (path, body) = (format!("/api/v1/approvals/{name}/{slot}"), json!({ "change": change }));
            connection.client()?.call(Method::POST, &path, Some(body.to_string())).await?;
            Ok(told(connection, format!("Slot {slot} of {name} may {change}.\n")))
        }
        TreeCommand::Delete { name } => {
            let path = format!("/api/v1/trees/{name}");
            connection.client()?.call(Method::DELETE, &path, None).await?;
            Ok(told(connection, format!("The tree {name} is deleted.\n")))
        }
    }
}

async fn broadcast(command: BroadcastCommand, connection: &Connection) -> Result<String, CallError> {
    let print_key = |made: &PublishKey| format!("{}\n", made.publish_key);
    match command {
        BroadcastCommand::List => {
            let client = connection.client()?;
            if connection.json {
                let mut installation: Map<String, Value> =
                    parse(&client, &client.get("/api/v1/installation").await?)?;
                return Ok(pretty(&installation.remove("broadcasts").unwrap_or_default()));
            }
            let installation: Installation = parse(&client, &client.get("/api/v1/installation").await?)?;
            Ok(show::broadcasts(&installation.broadcasts))
        }
        BroadcastCommand::Create { name, tree } => {
            let mut body = json!({ "id": name.as_str() });
            if let Some(tree) = tree {
                body["tree"] = tree.as_str().into();
            }
            order(connection, "/api/v1/broadcasts", &body, show::publish_key).await
        }
        BroadcastCommand::Show { name } => {
            look(connection, &format!("/api/v1/broadcasts/{name}"), show::broadcast).await
        }
        BroadcastCommand::Key { name, change: false } => {
            look(connection, &format!("/api/v1/broadcasts/{name}/publish-key"), print_key).await
        }
        BroadcastCommand::Key { name, change: true } => {
            let path = format!("/api/v1/broadcasts/{name}/publish-key");
            order(connection, &path, &json!({}), print_key).await
        }
        BroadcastCommand::Delete { name } => {
            let path = format!("/api/v1/broadcasts/{name}");
            connection.client()?.call(Method::DELETE, &path, None).await?;
            Ok(told(connection, format!("The broadcast {name} has no key any more.\n")))
        }
    }
}

async fn node(command: NodeCommand, connection: &Connection) -> Result<String, CallError> {
    match command {
        NodeCommand::List { tree } => {
            let client = connection.client()?;
            let body = client.get("/api/v1/nodes").await?;
            let is_wanted = |of: &str| tree.as_ref().is_none_or(|tree| tree.as_str() == of);
            if connection.json {
                let mut nodes: Vec<Value> = parse(&client, &body)?;
                nodes.retain(|node| node["tree"].as_str().is_some_and(is_wanted));
                return Ok(pretty(&nodes.into()));
            }
            let nodes: Vec<Node> = parse(&client, &body)?;
            Ok(show::nodes(&nodes.iter().filter(|node| is_wanted(&node.tree)).collect::<Vec<_>>()))
        }
        NodeCommand::Show { name } => look(connection, &format!("/api/v1/nodes/{name}"), show::node).await,
        NodeCommand::Drain { name, deadline } => {
            // A part of a second is more time, not less.
            let seconds = deadline.get().as_millis().div_ceil(1000);
            let body = json!({ "deadline_secs": seconds as u64 }).to_string();
            let path = format!("/api/v1/nodes/{name}/drain");
            connection.client()?.call(Method::POST, &path, Some(body)).await?;
            let text = format!(
                "{name} is told to drain within {seconds} s. `media-tree node show {name}` tells how far it is.\n"
            );
            Ok(told(connection, text))
        }
        NodeCommand::Undrain { name } => {
            let path = format!("/api/v1/nodes/{name}/undrain");
            connection.client()?.call(Method::POST, &path, Some("{}".into())).await?;
            Ok(told(connection, format!("{name} is told to take viewers again.\n")))
        }
    }
}

/// Prints what is at `path`.
async fn look<T: DeserializeOwned>(
    connection: &Connection,
    path: &str,
    print: impl FnOnce(&T) -> String,
) -> Result<String, CallError> {
    let client = connection.client()?;
    let body = client.get(path).await?;
    if connection.json { reprint(&client, &body) } else { Ok(print(&parse(&client, &body)?)) }
}

/// Orders something and prints what came of it.
async fn order<T: DeserializeOwned>(
    connection: &Connection,
    path: &str,
    body: &Value,
    print: impl FnOnce(&T) -> String,
) -> Result<String, CallError> {
    let client = connection.client()?;
    let made = client.call(Method::POST, path, Some(body.to_string())).await?;
    if connection.json { reprint(&client, &made) } else { Ok(print(&parse(&client, &made)?)) }
}

/// Machines read the exit code of an order.
fn told(connection: &Connection, text: String) -> String {
    if connection.json { String::new() } else { text }
}

fn parse<T: DeserializeOwned>(client: &Client, body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|error| client.answer(error.to_string()))
}

fn reprint(client: &Client, body: &[u8]) -> Result<String, CallError> {
    Ok(pretty(&parse(client, body)?))
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
