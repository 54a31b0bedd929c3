//! The real program as a child process.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// A node gets this many consecutive ports: HTTP, operations, link, publishers, then viewers' shards.
const PORTS_A_NODE: u16 = 12;

/// Of them, the place of the UDP port of links.
pub const LINK_PORT: u16 = 2;

/// Long enough for a loaded machine; nothing waits that long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running node. Ends with its value.
pub struct Program {
    child: Child,
    /// Public listener.
    pub http: SocketAddr,
    /// Operations listener.
    pub ops: SocketAddr,
    /// UDP port of links.
    pub link_port: u16,
    /// UDP port of publishers' media.
    pub ingest_port: u16,
    /// UDP port of the first shard.
    pub media_port: u16,
    /// RTMP listener, of nodes that take publishers.
    pub rtmp: SocketAddr,
    log: PathBuf,
}

/// How to start a node.
pub struct Builder {
    role: &'static str,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    namespace: Option<String>,
    address: IpAddr,
    /// The first of its ports, if it is not to take free ones.
    base: Option<u16>,
    /// Port of its only shard, if it is not to have two on ports of `base`.
    media_port: Option<u16>,
    is_supervised: bool,
    outlives_file_limit: bool,
}

/// A node of this role (`up`, `injection`, `relay`, `egress`) on loopback.
#[must_use]
pub fn node(role: &'static str) -> Builder {
    let address = Ipv4Addr::LOCALHOST.into();
    Builder {
        role,
        arguments: Vec::new(),
        environment: Vec::new(),
        namespace: None,
        address,
        base: None,
        media_port: None,
        is_supervised: false,
        outlives_file_limit: false,
    }
}

impl Builder {
    /// Adds command-line arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Starts it inside a network namespace, HTTP and operations on `address`.
    #[must_use]
    pub fn within(mut self, namespace: &str, address: Ipv4Addr) -> Self {
        self.namespace = Some(namespace.to_owned());
        self.address = address.into();
        self
    }

    /// Starts it with HTTP, operations and RTMP on another address of this host.
    #[must_use]
    pub const fn at(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// Sets variables of its environment.
    #[must_use]
    pub fn environment(mut self, variables: &[(&'static str, String)]) -> Self {
        self.environment.extend_from_slice(variables);
        self
    }

    /// Lets it run under a supervisor: the process that is started is not the one that works.
    #[must_use]
    pub const fn supervised(mut self) -> Self {
        self.is_supervised = true;
        self
    }

    /// Lets it go on when it writes beyond what [`Program::limit_files`] allows: the write fails, as on a broken disk.
    #[must_use]
    pub const fn outlives_file_limit(mut self) -> Self {
        self.outlives_file_limit = true;
        self
    }

    /// Gives it the ports from this one on, which nobody uses: see [`free_ports`].
    #[must_use]
    pub const fn from_port(mut self, base: u16) -> Self {
        self.base = Some(base);
        self
    }

    /// Serves all viewers on this port.
    #[must_use]
    pub const fn with_media_port(mut self, port: u16) -> Self {
        self.media_port = Some(port);
        self
    }

    /// Gives it the ports of a node that has ended.
    #[must_use]
    pub const fn in_place_of(mut self, ended: &Program) -> Self {
        self.base = Some(ended.http.port());
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// If it does not start or is not ready in time; the error carries its log.
    pub async fn start(self) -> anyhow::Result<Program> {
        let program = self.spawn()?;
        program.until_ready().await?;
        Ok(program)
    }

    /// Starts it; it may refuse its configuration.
    ///
    /// # Errors
    /// If the program is not built or cannot be started.
    pub fn spawn(self) -> anyhow::Result<Program> {
        let base = match self.base {
            Some(base) => base,
            None if self.namespace.is_some() => 40_000,
            None => free_ports()?,
        };
        let http = SocketAddr::new(self.address, base);
        let ops = SocketAddr::new(self.address, base + 1);
        let rtmp = SocketAddr::new(self.address, base + 6);
        let (media_port, shards) = self.media_port.map_or((base + 4, "2"), |port| (port, "1"));
        let log = std::env::temp_dir().join(format!(
            "media-tree-test-{}-{base}-{}.log",
            std::process::id(),
            unique()
        ));
        let output = File::create(&log).context("create the log of a node")?;
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(path()?);
                command
            }
            None if self.outlives_file_limit => {
                // What a shell ignores is ignored by what it becomes.
                let mut command = Command::new("sh");
                command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(path()?);
                command
            }
            None => Command::new(path()?),
        };
        command
            .arg(self.role)
            .args(["--http", &http.to_string(), "--ops", &ops.to_string()])
            .args(["--link-port", &(base + LINK_PORT).to_string(), "--ingest-port", &(base + 3).to_string()])
            .args(["--media-port", &media_port.to_string(), "--shards", shards])
            .args(["--rtmp", &rtmp.to_string(), "--insecure-rtmp"])
            .arg(format!("--supervise={}", self.is_supervised))
            .args(&self.arguments)
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command.spawn().context("start the program")?;
        Ok(Program {
            child,
            http,
            ops,
            link_port: base + LINK_PORT,
            ingest_port: base + 3,
            media_port,
            rtmp,
            log,
        })
    }
}

impl Program {
    /// A URL of the public listener.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The id of the process that works for it, where it is a supervisor.
    #[must_use]
    pub fn worker_id(&self) -> Option<u32> {
        let own = self.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).ok()?;
        children.split_whitespace().next_back()?.parse().ok()
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// CPU that all its threads have used, user and system, in steps of 10 ms.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        // `utime` and `stime` are the 12th and 13th field behind the name.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
        Duration::from_millis(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
    }

    /// Sends a signal such as `TERM` or `KILL`.
    ///
    /// # Errors
    /// If `kill` cannot be run.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").args([format!("-{signal}"), self.id().to_string()]).status()?;
        ensure!(status.success(), "kill -{signal} failed");
        Ok(())
    }

    /// Lets it write nothing at and above this offset of any file, or anywhere again.
    ///
    /// # Errors
    /// If `prlimit` cannot be run.
    pub fn limit_files(&self, bytes: Option<u64>) -> anyhow::Result<()> {
        let soft = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let (process, limit) = (format!("--pid={}", self.id()), format!("--fsize={soft}:unlimited"));
        let status = Command::new("prlimit").args([process, limit]).status()?;
        ensure!(status.success(), "prlimit failed");
        Ok(())
    }

    /// Waits for its end; the exit code, if it was not killed.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn exit_code(&mut self) -> anyhow::Result<Option<i32>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            ensure!(Instant::now() < deadline, "the node does not end: {}", self.log());
            pause().await;
        }
    }

    /// Whether the process is no more, or only waits to be buried.
    fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
    }

    /// Waits until `/readyz` says so.
    ///
    /// # Errors
    /// If the node ends before, or is not ready in time.
    pub async fn until_ready(&self) -> anyhow::Result<()> {
        let url = format!("http://{}/readyz", self.ops);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(response) = reqwest::get(&url).await
                && response.status().is_success()
            {
                return Ok(());
            }
            if self.has_ended() || Instant::now() > deadline {
                bail!("the node is not ready: {}", self.log());
            }
            pause().await;
        }
    }

    /// The value of one series of `/metrics`: the sum over all whose line begins with `prefix`.
    ///
    /// # Errors
    /// If the operations listener does not answer.
    pub async fn metric(&self, prefix: &str) -> anyhow::Result<f64> {
        self.metric_with(prefix, "").await
    }

    /// The same, for those series only that have `label`, written as `name="value"`.
    ///
    /// # Errors
    /// If the operations listener does not answer.
    pub async fn metric_with(&self, prefix: &str, label: &str) -> anyhow::Result<f64> {
        let text = reqwest::get(format!("http://{}/metrics", self.ops)).await?.text().await?;
        let lines = text.lines().filter(|line| line.starts_with(prefix) && line.contains(label));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// What the process says that it dropped since it began, and why.
    ///
    /// # Errors
    /// If the operations listener does not answer.
    pub async fn drops(&self) -> anyhow::Result<String> {
        let text = reqwest::get(format!("http://{}/metrics", self.ops)).await?.text().await?;
        let counted = text.lines().filter(|line| line.contains("drops_total{") && !line.ends_with(" 0"));
        Ok(counted.collect::<Vec<_>>().join("; "))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of a node ---\n{}", self.log());
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

/// Waits for `condition`.
///
/// # Errors
/// If it does not hold in time; `what` says what was waited for.
pub async fn until<F>(what: &str, mut condition: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<bool>>,
{
    let deadline = Instant::now() + PATIENCE;
    while !condition().await? {
        ensure!(Instant::now() < deadline, "waited in vain: {what}");
        pause().await;
    }
    Ok(())
}

/// The step at which conditions are looked at again.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// The program, built by `cargo xtask test` or `cargo build`: it lies above the tests, beside other programs.
///
/// # Errors
/// If it is not built.
pub fn path() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find this test")?;
    let mut candidates = own.ancestors().skip(1).take(2).map(|folder| folder.join("media-tree"));
    candidates
        .find(|program| program.is_file())
        .context("the program is not built: run `cargo build -p media-tree` first")
}

fn unique() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The first of [`PORTS_A_NODE`] ports that nobody uses, different for each call in this process and, by the process
/// id, mostly different for others.
///
/// # Errors
/// If none are left.
pub fn free_ports() -> anyhow::Result<u16> {
    let slots = 20_000 / PORTS_A_NODE;
    let start = (std::process::id() as u16 % slots).wrapping_mul(7);
    for _ in 0..slots {
        let slot = start.wrapping_add(unique()) % slots;
        let base = 12_000 + slot * PORTS_A_NODE;
        let is_free = (base..base + PORTS_A_NODE).all(|port| {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        if is_free {
            return Ok(base);
        }
    }
    bail!("no free ports")
}
