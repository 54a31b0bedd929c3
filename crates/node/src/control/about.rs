//! What this node says of itself that does not change while it runs.

use std::net::IpAddr;

use config::Config;
use model::{NodeId, Role, TreeId};
use registry::{Capacity, Incarnation};

/// Who this node is and where others reach it.
#[derive(Debug, Clone)]
pub struct About {
    /// Its name.
    pub node: NodeId,
    /// Its tree.
    pub tree: TreeId,
    /// Its role.
    pub role: Role,
    /// This run of its process.
    pub incarnation: Incarnation,
    /// Where in the world it is.
    pub region: String,
    /// Which part of it.
    pub zone: Option<String>,
    /// The machine.
    pub host: String,
    /// Where children reach its link port.
    pub link: Option<String>,
    /// Where clients reach its HTTP listener.
    pub url: String,
    /// Where its operations listener is.
    pub ops: String,
    /// What it takes.
    pub capacity: Capacity,
}

impl About {
    /// From the configuration, and from the machine where that says nothing.
    #[must_use]
    pub fn new(role: Role, config: &Config, node: &NodeId, (counter, random): (u64, u64)) -> Self {
        let control = &config.control;
        let viewers = if role.is_egress() { config.limits.viewers_max } else { 0 };
        let publishers = if role.is_injection() { config.limits.publishers_max } else { 0 };
        let children = if role == Role::Controller { 0 } else { link::exchange::CHILDREN_MAX as u32 };
        Self {
            node: node.clone(),
            tree: config.node.tree_id.clone(),
            role,
            incarnation: Incarnation { counter, random },
            region: control.region.clone(),
            zone: control.zone.clone(),
            host: control.host.clone().unwrap_or_else(host_name),
            link: (role != Role::Controller).then(|| link_address(config)),
            url: control.public_url.clone().unwrap_or_else(|| url(config)),
            // Private: never the address that the world is told.
            ops: address(config.ops.listen.ip(), None).map_or_else(
                || config.ops.listen.to_string(),
                |ip| std::net::SocketAddr::new(ip, config.ops.listen.port()).to_string(),
            ),
            capacity: Capacity { viewers, publishers, children },
        }
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn link_address(config: &Config) -> String {
    if let Some(public) = &config.control.link_public {
        return public.to_string();
    }
    let listen = config.link_listen();
    let ip = address(listen.ip(), config.media.public_ip).unwrap_or(listen.ip());
    std::net::SocketAddr::new(ip, listen.port()).to_string()
}

fn url(config: &Config) -> String {
    let scheme = if config.http.tls_certificate.is_some() { "https" } else { "http" };
    let listen = config.http.listen;
    let ip = config.media.public_ip.or_else(|| address(listen.ip(), None)).unwrap_or(listen.ip());
    format!("{scheme}://{}", std::net::SocketAddr::new(ip, listen.port()))
}

/// The address that a listener on `bound` can be reached on, `public` if there is such a one; `None` if that is `bound`
/// itself.
fn address(bound: IpAddr, public: Option<IpAddr>) -> Option<IpAddr> {
    if !bound.to_canonical().is_unspecified() {
        return None;
    }
    let known = public.into_iter().chain(crate::http::host_addresses());
    let usable =
        |ip: &IpAddr| !ip.is_loopback() && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    known.into_iter().find(usable).or(Some(IpAddr::from([127, 0, 0, 1])))
}
