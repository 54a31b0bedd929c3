//! Redis servers and Sentinels as processes on loopback, each in a folder of its own. End with their values.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::program;

/// The programs that tests of stores need.
pub const PARTS: [&str; 2] = ["/usr/bin/redis-server", "/usr/bin/redis-cli"];

/// What the Sentinels call the group of servers.
pub const MASTER: &str = "media-tree";

/// One process of Redis, server or Sentinel.
pub struct Redis {
    address: Ipv4Addr,
    /// Where it listens.
    pub port: u16,
    folder: TempDir,
    arguments: Vec<String>,
    child: Child,
}

impl Redis {
    /// A server that keeps nothing on disk.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn server() -> anyhow::Result<Self> {
        Self::server_at(Ipv4Addr::LOCALHOST).await
    }

    /// A server that keeps nothing on disk and listens on this address, to whoever asks.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn server_at(address: Ipv4Addr) -> anyhow::Result<Self> {
        let arguments = ["--save", "", "--appendonly", "no", "--protected-mode", "no"];
        Self::start(address, free_port()?, &arguments).await
    }

    /// A server that takes writes only while a replica follows it; one of a group if it is given its master's port.
    async fn of_a_group(master: Option<u16>) -> anyhow::Result<Self> {
        let mut arguments = vec!["--appendonly", "yes", "--save", "", "--repl-diskless-sync-delay", "0"];
        arguments.extend(["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"]);
        let master = master.map(|port| format!("127.0.0.1 {port}"));
        if let Some(master) = &master {
            arguments.extend(["--replicaof", master]);
        }
        Self::start(Ipv4Addr::LOCALHOST, free_port()?, &arguments).await
    }

    async fn sentinel(master: u16) -> anyhow::Result<Self> {
        let port = free_port()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 5000\n"
        );
        std::fs::write(&file, text)?;
        let arguments = vec![file.display().to_string(), "--sentinel".into()];
        Self::spawn(Ipv4Addr::LOCALHOST, port, folder, arguments).await
    }

    async fn start(address: Ipv4Addr, port: u16, more: &[&str]) -> anyhow::Result<Self> {
        let (number, bind) = (port.to_string(), address.to_string());
        let mut arguments: Vec<String> = ["--port", &number, "--bind", &bind].map(Into::into).to_vec();
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        Self::spawn(address, port, tempfile::tempdir()?, arguments).await
    }

    async fn spawn(
        address: Ipv4Addr,
        port: u16,
        folder: TempDir,
        arguments: Vec<String>,
    ) -> anyhow::Result<Self> {
        let child = process(folder.path(), &arguments)?;
        let redis = Self { address, port, folder, arguments, child };
        redis.until_it_answers().await?;
        Ok(redis)
    }

    async fn until_it_answers(&self) -> anyhow::Result<()> {
        program::until("Redis answers", || async { Ok(self.ask(&["PING"]).is_ok_and(|pong| pong == "PONG")) })
            .await
    }

    /// The URL of a store in it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}:{}", self.address, self.port)
    }

    /// What the server answers to a command, as text.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn ask(&self, command: &[&str]) -> anyhow::Result<String> {
        // A frozen server answers nobody; this redis-cli has no bound of its own.
        let mut client = Command::new("timeout");
        client
            .args(["2", PARTS[1], "-h", &self.address.to_string(), "-p", &self.port.to_string()])
            .args(command);
        let output = client.output().context("run redis-cli")?;
        ensure!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Sends the process a signal.
    ///
    /// # Errors
    /// If that fails.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &id]).status()?;
        ensure!(status.success(), "kill -{name} failed");
        Ok(())
    }

    /// Kills the process, as a power cut would.
    ///
    /// # Errors
    /// If that fails.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts a killed process again, with what it left on disk.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.child = process(self.folder.path(), &self.arguments)?;
        self.until_it_answers().await
    }

    /// Processor time that the process has used.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = text.rsplit(')').next().context("a name in brackets")?.split_whitespace();
        let ticks: Vec<u64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        // USER_HZ is 100 on every Linux of today.
        Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn process(folder: &Path, arguments: &[String]) -> anyhow::Result<Child> {
    Command::new(PARTS[0])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start redis-server")
}

/// A port below those that the system gives to clients, different for each call and mostly for each process.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 1000) as u16;
    for _ in 0..1000 {
        let port = 7000 + (start * 7 + NEXT.fetch_add(1, Ordering::Relaxed)) % 5000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port")
}

/// A master, two replicas, three Sentinels.
pub struct Group {
    /// The first began as master.
    pub servers: Vec<Redis>,
    sentinels: Vec<Redis>,
}

impl Group {
    /// Starts all, and waits until the Sentinels know each other and the replicas.
    ///
    /// # Errors
    /// If something does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let master = Redis::of_a_group(None).await?;
        let mut group = Self { servers: vec![], sentinels: vec![] };
        for _ in 0..2 {
            group.servers.push(Redis::of_a_group(Some(master.port)).await?);
        }
        for _ in 0..3 {
            group.sentinels.push(Redis::sentinel(master.port).await?);
        }
        group.servers.insert(0, master);
        program::until("two replicas follow", || async {
            Ok(group.servers[0].ask(&["INFO", "replication"])?.matches("state=online").count() == 2)
        })
        .await?;
        program::until("the Sentinels know all", || async { group.is_known() }).await?;
        Ok(group)
    }

    fn is_known(&self) -> anyhow::Result<bool> {
        for sentinel in &self.sentinels {
            let master = sentinel.ask(&["SENTINEL", "master", MASTER])?;
            let lines: Vec<&str> = master.lines().collect();
            let value =
                |name| lines.iter().position(|line| *line == name).and_then(|at| lines.get(at + 1).copied());
            if (value("num-slaves"), value("num-other-sentinels")) != (Some("2"), Some("2")) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The URL of a store that asks the Sentinels.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
        format!("redis+sentinel://{}/{MASTER}", hosts.join(","))
    }

    /// Asks a Sentinel for a planned failover.
    ///
    /// # Errors
    /// If it refuses.
    pub fn fail_over(&self) -> anyhow::Result<()> {
        let answer = self.sentinels[0].ask(&["SENTINEL", "FAILOVER", MASTER])?;
        ensure!(answer == "OK", "{answer}");
        Ok(())
    }

    /// The port that a Sentinel names as the master's.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn master_port(&self) -> anyhow::Result<u16> {
        let answer = self.sentinels[1].ask(&["SENTINEL", "get-master-addr-by-name", MASTER])?;
        Ok(answer.lines().nth(1).context("a port")?.parse()?)
    }
}

/// The longest time in which nothing succeeded.
#[derive(Debug)]
pub struct Gaps {
    last: Instant,
    /// The longest so far.
    pub worst: Duration,
}

impl Default for Gaps {
    fn default() -> Self {
        Self { last: Instant::now(), worst: Duration::ZERO }
    }
}

impl Gaps {
    /// Something succeeded now.
    pub fn success(&mut self) {
        self.worst = self.worst.max(self.last.elapsed());
        self.last = Instant::now();
    }
}
