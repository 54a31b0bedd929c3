//! The addresses of a parent, and what has been learned about them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use anyhow::Context as _;
use config::Parent;
use model::NodeId;
use tokio::sync::watch;

/// At this address is another node, or one that does not say who it is: a private address means something else in each
/// network.
#[derive(Debug, thiserror::Error)]
#[error("at an address of the parent {what}")]
pub struct NotThere {
    /// What is there.
    pub what: String,
}

/// How a parent is reached.
pub struct Way {
    /// Which node it is, where that is known.
    pub node: Option<NodeId>,
    addresses: watch::Receiver<Vec<Parent>>,
    /// Where it was reached last.
    there: Option<SocketAddr>,
    /// Where somebody else was, and how often.
    elsewhere: BTreeMap<SocketAddr, u32>,
}

impl Way {
    /// By these addresses, best first.
    #[must_use]
    pub fn to(addresses: Vec<Parent>) -> Self {
        Self::following(None, watch::channel(addresses).1)
    }

    /// To this node, by the addresses that are told last.
    #[must_use]
    pub const fn following(node: Option<NodeId>, addresses: watch::Receiver<Vec<Parent>>) -> Self {
        Self { node, addresses, there: None, elsewhere: BTreeMap::new() }
    }

    /// All addresses, in the order in which they are tried: the one that led there last, then those that led nowhere else.
    ///
    /// # Errors
    /// If none of its names has an address.
    pub async fn resolve(&mut self) -> anyhow::Result<Vec<SocketAddr>> {
        let addresses = self.addresses.borrow_and_update().clone();
        let mut resolved: Vec<SocketAddr> = Vec::new();
        let mut failure = None;
        for parent in addresses {
            match tokio::net::lookup_host((parent.host(), parent.port())).await {
                Ok(found) => {
                    for address in found {
                        if !resolved.contains(&address) {
                            resolved.push(address);
                        }
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        if let (Some(error), true) = (failure, resolved.is_empty()) {
            return Err(error).context("resolve the parent's name");
        }
        self.elsewhere.retain(|address, _| resolved.contains(address));
        self.order(&mut resolved);
        Ok(resolved)
    }

    fn order(&self, addresses: &mut [SocketAddr]) {
        addresses.sort_by_key(|address| {
            (Some(*address) != self.there, self.elsewhere.get(address).copied().unwrap_or(0))
        });
    }

    /// The parent was there.
    pub fn leads_there(&mut self, address: SocketAddr) {
        self.elsewhere.remove(&address);
        self.there = Some(address);
    }

    /// Somebody else was there.
    pub fn leads_elsewhere(&mut self, address: SocketAddr) {
        *self.elsewhere.entry(address).or_insert(0) += 1;
        if self.there == Some(address) {
            self.there = None;
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses.borrow().iter().map(ToString::to_string).collect();
        match &self.node {
            Some(node) => write!(f, "{node} at {}", addresses.join(", ")),
            None => f.write_str(&addresses.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(addresses: &[&str]) -> (Way, watch::Sender<Vec<Parent>>) {
        let (told, addresses) = watch::channel(list(addresses));
        (Way::following(NodeId::new("relay").ok(), addresses), told)
    }

    fn list(addresses: &[&str]) -> Vec<Parent> {
        addresses.iter().map(|text| text.parse().expect("an address")).collect()
    }

    async fn resolved(way: &mut Way) -> Vec<String> {
        way.resolve().await.expect("addresses").iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn the_address_that_led_there_is_tried_first_and_one_with_another_node_last() {
        let (mut way, told) = way(&["10.0.0.5:1", "198.51.100.7:1", "[2001:db8::7]:1"]);
        assert_eq!(resolved(&mut way).await, ["10.0.0.5:1", "198.51.100.7:1", "[2001:db8::7]:1"]);
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        way.leads_elsewhere(at("10.0.0.5:1"));
        assert_eq!(resolved(&mut way).await, ["198.51.100.7:1", "[2001:db8::7]:1", "10.0.0.5:1"]);
        way.leads_there(at("[2001:db8::7]:1"));
        assert_eq!(resolved(&mut way).await, ["[2001:db8::7]:1", "198.51.100.7:1", "10.0.0.5:1"]);
        way.leads_elsewhere(at("[2001:db8::7]:1"));
        way.leads_elsewhere(at("198.51.100.7:1"));
        way.leads_elsewhere(at("198.51.100.7:1"));
        assert_eq!(
            resolved(&mut way).await,
            ["10.0.0.5:1", "[2001:db8::7]:1", "198.51.100.7:1"],
            "each has its turn, however often somebody else was there"
        );
        told.send_replace(list(&["192.0.2.1:1", "10.0.0.5:1", "10.0.0.5:1"]));
        assert_eq!(resolved(&mut way).await, ["192.0.2.1:1", "10.0.0.5:1"], "what is told last counts");
    }

    #[tokio::test]
    async fn a_name_that_is_none_costs_nothing_where_there_are_other_ways() {
        let (mut way, _told) = way(&["no-such-name.invalid:1", "198.51.100.7:1"]);
        assert_eq!(resolved(&mut way).await, ["198.51.100.7:1"]);
        let (mut way, _told) = self::way(&["no-such-name.invalid:1"]);
        assert!(way.resolve().await.is_err());
    }
}
