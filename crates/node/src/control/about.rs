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
    /// Where children reach its link port, best first; none of a controller.
    pub links: Vec<String>,
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
            links: if role == Role::Controller { Vec::new() } else { link_addresses(config) },
            url: control.public_url.clone().unwrap_or_else(|| url(config)),
            // Private: never the address that the world is told.
            ops: address(config.ops.listen.ip(), None).map_or_else(
                || config.ops.listen.to_string(),
                |ip| std::net::SocketAddr::new(ip, config.ops.listen.port()).to_string(),
            ),
            capacity: Capacity {
                viewers,
                publishers,
                children,
                egress_mbps: config.capacity.egress_mbps,
                packets_per_second: config.capacity.packets_per_second,
            },
        }
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Those that are told, or those that there are: a host may have many, of which the first of each family is the one that
/// others most probably reach.
fn link_addresses(config: &Config) -> Vec<String> {
    let public = &config.control.link_public;
    if !public.is_empty() {
        return public.iter().take(registry::LINKS_MAX).map(ToString::to_string).collect();
    }
    let listen = config.link_listen();
    let told = &config.media.public_ip;
    let Some(best) = address(listen.ip(), told.first().copied()) else { return vec![listen.to_string()] };
    let of_host: Vec<IpAddr> = crate::http::host_addresses().into_iter().filter(is_usable).collect();
    let first = |is_wanted: fn(&IpAddr) -> bool| of_host.iter().copied().find(is_wanted);
    let others = told.iter().copied().chain(first(IpAddr::is_ipv4)).chain(first(IpAddr::is_ipv6));
    let mut ips = vec![best];
    for other in others {
        if !ips.contains(&other) && ips.len() < registry::LINKS_MAX {
            ips.push(other);
        }
    }
    ips.into_iter().map(|ip| std::net::SocketAddr::new(ip, listen.port()).to_string()).collect()
}

fn url(config: &Config) -> String {
    let scheme = if config.http.tls_certificate.is_some() { "https" } else { "http" };
    let listen = config.http.listen;
    let ip =
        config.media.public_ip.first().copied().or_else(|| address(listen.ip(), None)).unwrap_or(listen.ip());
    format!("{scheme}://{}", std::net::SocketAddr::new(ip, listen.port()))
}

/// The address that a listener on `bound` can be reached on, `public` if there is such a one; `None` if that is `bound`
/// itself.
fn address(bound: IpAddr, public: Option<IpAddr>) -> Option<IpAddr> {
    if !bound.to_canonical().is_unspecified() {
        return None;
    }
    let known = public.into_iter().chain(crate::http::host_addresses());
    known.into_iter().find(is_usable).or(Some(IpAddr::from([127, 0, 0, 1])))
}

/// Others may reach it.
fn is_usable(ip: &IpAddr) -> bool {
    !ip.is_loopback() && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(text: &str) -> Vec<String> {
        link_addresses(&Config::parse(text).expect("a configuration"))
    }

    #[test]
    fn a_node_tells_all_addresses_that_it_is_given_and_else_those_that_it_has() {
        let told =
            "[control]\nlink_public = [\"10.0.0.5:51000\", \"[2001:db8::5]:51000\", \"r.example.net:1\"]";
        assert_eq!(links(told), ["10.0.0.5:51000", "[2001:db8::5]:51000", "r.example.net:1"]);
        assert_eq!(links("[control]\nlink_public = \"10.0.0.5:51000\""), ["10.0.0.5:51000"]);
        assert_eq!(links("[link]\naddress = \"10.0.0.5\"\nport = 7"), ["10.0.0.5:7"], "bound to one");
        let key = "[link]\ncluster_key = \"0123456789abcdef\"\n";
        let behind_nat = links(&format!("{key}[media]\npublic_ip = [\"203.0.113.7\", \"2001:db8::7\"]"));
        assert_eq!(behind_nat[..2], ["203.0.113.7:51000", "[2001:db8::7]:51000"], "then the host's own");
        let all = links(key);
        assert!(!all.is_empty() && all.len() <= 3, "{all:?}");
    }
}
