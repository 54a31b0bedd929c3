//! Hosts on one machine: network namespaces joined by a network that this process plays.
//!
//! The only interface of a host is a TUN device whose other end a thread here holds. The thread takes every IPv4 packet
//! from its sender's device, decides by a seeded generator whether and when it arrives, and writes it to its
//! receiver's. So loss, delay and reordering are the same in each run as far as packets come in the same order, and
//! need nothing of the kernel but `/dev/net/tun` and namespaces.

mod weather;

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, bail, ensure};
use mio::{Poll, Token, Waker};
use tun_rs::{DeviceBuilder, SyncDevice};

pub use weather::{Carried, Path};
use weather::{Weather, run};

use crate::program;

/// Networks of all test processes of this machine at once: each takes 198.18.`slot`.0/24 (RFC 2544).
const SLOTS: u32 = 256;

/// What opens publishing on every node of a network.
pub const PUBLISH_TOKEN: &str = "publish-secret-of-tests";

/// The secret of every tree in these networks.
const CLUSTER_KEY: &str = "one-secret-for-all-nodes-of-a-test";
/// Where [`program`] puts the link listener of a node within a namespace.
const LINK_PORT: u16 = 40_002;

/// One host: a namespace with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// For `ip netns exec`.
    pub namespace: String,
    /// Where the others reach it.
    pub address: Ipv4Addr,
}

/// A network of hosts. Ends with its value, and so does every process on its hosts.
pub struct Hosts {
    slot: u32,
    weather: Arc<Weather>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
    hosts: Vec<Host>,
}

impl Hosts {
    /// A network of the hosts `names` and this process, all joined by clean paths.
    ///
    /// # Errors
    /// If this process may not make namespaces or TUN devices.
    pub fn new(seed: u64, names: &[&str]) -> anyhow::Result<Self> {
        let (slot, here) = claim()?;
        forget_leftovers(slot)?;
        let network = Ipv4Addr::new(198, 18, slot as u8, 0);
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Token(usize::MAX))?);
        let weather = Arc::new(Weather::new(seed));
        let mut built = Self { slot, weather, waker, thread: None, hosts: Vec::new() };
        let mut devices = vec![(address(network, 1), here)];
        let here = device_name(slot, 1);
        ip(&["address", "add", &format!("{}/24", address(network, 1)), "dev", &here])?;
        ip(&["link", "set", &here, "up"])?;
        for (name, number) in names.iter().zip(2..) {
            let host =
                Host { namespace: format!("{}{name}", prefix(slot)), address: address(network, number) };
            let interface = device_name(slot, number);
            let device = device(&interface)?;
            ip(&["netns", "add", &host.namespace])?;
            built.hosts.push(host.clone());
            ip(&["link", "set", &interface, "netns", &host.namespace])?;
            let inside = ["-n", host.namespace.as_str()];
            let cidr = format!("{}/24", host.address);
            ip(&[&inside[..], &["address", "add", &cidr, "dev", &interface]].concat())?;
            ip(&[&inside[..], &["link", "set", &interface, "up"]].concat())?;
            ip(&[&inside[..], &["link", "set", "lo", "up"]].concat())?;
            devices.push((host.address, device));
        }
        let weather = built.weather.clone();
        let thread = std::thread::Builder::new().name("network".into());
        built.thread =
            Some(thread.spawn(move || run(poll, &devices, &weather)).context("start the network")?);
        Ok(built)
    }

    /// The host of this name.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn host(&self, name: &str) -> &Host {
        let namespace = format!("{}{name}", prefix(self.slot));
        self.hosts.iter().find(|host| host.namespace == namespace).expect("the test made this host")
    }

    /// A node of this role on the host `name`, with the nodes on the hosts `parents` as its parents.
    ///
    /// # Panics
    /// If there is no such host.
    #[must_use]
    pub fn node(&self, role: &'static str, name: &str, parents: &[&str]) -> program::Builder {
        let host = self.host(name);
        let parents: Vec<String> =
            parents.iter().map(|parent| format!("{}:{LINK_PORT}", self.host(parent).address)).collect();
        let node = program::node(role).within(&host.namespace, host.address);
        let node =
            node.with(&["--insecure-http", "--cluster-key", CLUSTER_KEY, "--publish-tokens", PUBLISH_TOKEN]);
        if parents.is_empty() { node } else { node.with(&["--parents", &parents.join(",")]) }
    }

    /// The address of this process in the network.
    #[must_use]
    pub fn here(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.slot as u8, 1)
    }

    /// From now on packets between these two take `path`, in both directions.
    pub fn join(&self, one: Ipv4Addr, other: Ipv4Addr, path: Path) {
        self.weather.set(one, other, path);
        self.weather.set(other, one, path);
    }

    /// From now on packets from the one to the other take `path`; the way back stays as it is.
    pub fn one_way(&self, from: Ipv4Addr, to: Ipv4Addr, path: Path) {
        self.weather.set(from, to, path);
    }

    /// From now on no packet reaches or leaves this host; what is under way still arrives.
    pub fn partition(&self, host: &Host) {
        self.weather.cut(host.address, true);
    }

    /// Undoes [`Hosts::partition`].
    pub fn heal(&self, host: &Host) {
        self.weather.cut(host.address, false);
    }

    /// From now on the UDP of this host goes by another address, as behind one-to-one NAT: it comes from there, and what is
    /// sent to the host's own address goes nowhere. Gives that address. TCP is as it was.
    #[must_use]
    pub fn translate(&self, host: &Host) -> Ipv4Addr {
        let [a, b, c, number] = host.address.octets();
        let public = Ipv4Addr::new(a, b, c, number + 100);
        self.weather.translate(host.address, public);
        public
    }

    /// What the path from one to the other has carried.
    #[must_use]
    pub fn carried(&self, from: Ipv4Addr, to: Ipv4Addr) -> Carried {
        self.weather.carried(from, to)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in &self.hosts {
            remove_namespace(&host.namespace);
        }
        self.weather.stop();
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A slot that nobody else has: the kernel gives the name of a device to one owner only.
fn claim() -> anyhow::Result<(u32, SyncDevice)> {
    let start = std::process::id();
    for slot in (0..SLOTS).map(|offset| start.wrapping_add(offset) % SLOTS) {
        match DeviceBuilder::new().name(device_name(slot, 1)).inherit_enable_state().build_sync() {
            Ok(device) => {
                device.set_nonblocking(true)?;
                return Ok((slot, device));
            }
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {}
            Err(error) => return Err(error).context("make a TUN device"),
        }
    }
    bail!("all {SLOTS} networks are taken")
}

/// A test process that was killed leaves its namespaces, not its devices.
fn forget_leftovers(slot: u32) -> anyhow::Result<()> {
    let list = Command::new("ip").args(["netns", "list"]).output().context("run ip")?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| name.starts_with(&prefix(slot))).for_each(remove_namespace);
    Ok(())
}

fn remove_namespace(namespace: &str) {
    if let Ok(inside) = Command::new("ip").args(["netns", "pids", namespace]).output() {
        let inside = String::from_utf8_lossy(&inside.stdout).into_owned();
        for process in inside.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", process]).output();
        }
    }
    let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
}

fn device(name: &str) -> anyhow::Result<SyncDevice> {
    let device = DeviceBuilder::new().name(name).inherit_enable_state().build_sync();
    let device = device.context("make a TUN device")?;
    device.set_nonblocking(true)?;
    Ok(device)
}

fn device_name(slot: u32, number: u8) -> String {
    format!("mt{slot}.{number}")
}

/// What the names of a network's namespaces begin with.
fn prefix(slot: u32) -> String {
    format!("mt{slot}-")
}

fn address(network: Ipv4Addr, number: u8) -> Ipv4Addr {
    let [a, b, c, _] = network.octets();
    Ipv4Addr::new(a, b, c, number)
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("run ip")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), complaint.trim());
    Ok(())
}
