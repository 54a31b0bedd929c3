//! By which of a parent's addresses a child tries to reach it, and in which order.

use std::net::{IpAddr, SocketAddr};

use registry::{AssignedParent, Assignment, NodeRecord};

use crate::observer::Observer;

/// The ways from `child` to `parent`: private addresses first where both stand in one place, last elsewhere, where the same
/// address may even be somebody else's. `None` if the parent has no link port.
pub fn to(parent: &NodeRecord, child: Option<&NodeRecord>) -> Option<AssignedParent> {
    let link = parent.link.clone()?;
    if parent.links.len() < 2 {
        return Some(AssignedParent { node: parent.node.clone(), link, links: Vec::new() });
    }
    let mut links = parent.links.clone();
    let is_near = child.is_some_and(|child| is_same_place(parent, child));
    // The sort is stable: what is alike stays in the order of the node.
    links.sort_by_cached_key(|link| is_private(link) != is_near);
    Some(AssignedParent { node: parent.node.clone(), link, links })
}

/// An assignment with the addresses that its parents tell now; `None` if it has them.
pub fn renewed(observer: &Observer, assignment: &Assignment) -> Option<Assignment> {
    let child = observer.nodes.get(&assignment.node)?;
    let renewed = |told: &AssignedParent| {
        let known = observer.nodes.get(&told.node).and_then(|parent| to(parent, Some(child)));
        known.unwrap_or_else(|| told.clone())
    };
    let parents: Vec<AssignedParent> = assignment.parents.iter().map(renewed).collect();
    (parents != assignment.parents).then(|| Assignment { parents, ..assignment.clone() })
}

/// In one zone, or in one region where zones are not told.
fn is_same_place(parent: &NodeRecord, child: &NodeRecord) -> bool {
    let is_same_zone = match (&parent.zone, &child.zone) {
        (Some(parent), Some(child)) => parent == child,
        (None, _) | (_, None) => true,
    };
    parent.region == child.region && is_same_zone
}

/// An address that means something within one network only. Names are taken for public.
fn is_private(link: &str) -> bool {
    let Ok(address) = link.parse::<SocketAddr>() else { return false };
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            // 100.64.0.0/10 is between a provider and its customers (RFC 6598).
            let is_shared = first == 100 && second & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || is_shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(place: (&str, Option<&str>), links: &[&str]) -> NodeRecord {
        let record = json!({
            "node": "n", "tree": "main", "role": "relay", "incarnation": { "counter": 1, "random": 1 }, "report": 1,
            "region": place.0, "zone": place.1, "host": "h", "link": links.first(), "links": links, "url": null,
            "ops": null, "state": "ready", "capacity": { "viewers": 0, "publishers": 0, "children": 64 },
            "load": { "viewers": 0, "publishers": 0, "children": 0 }, "parents": [], "broadcasts": [], "version": "1"
        });
        serde_json::from_value(record).expect("a record")
    }

    const PUBLIC: [&str; 2] = ["198.51.100.7:1", "[2001:db8::7]:1"];
    const PRIVATE: [&str; 2] = ["10.0.0.5:1", "[fd00::5]:1"];

    #[test]
    fn private_addresses_are_tried_first_within_a_zone_and_last_elsewhere() {
        let mixed = [PUBLIC[0], PRIVATE[0], PUBLIC[1], PRIVATE[1]];
        let parent = node(("eu", Some("a")), &mixed);
        let links = |place| to(&parent, Some(&node(place, &[]))).expect("ways").links;
        let (near, far) = ([PRIVATE, PUBLIC].concat(), [PUBLIC, PRIVATE].concat());
        assert_eq!(links(("eu", Some("a"))), near);
        assert_eq!(links(("eu", None)), near, "where the zone is not told the region says it");
        assert_eq!(links(("eu", Some("b"))), far);
        assert_eq!(links(("us", Some("a"))), far);
        assert_eq!(to(&parent, None).expect("ways").links, far, "a child that was never seen");
        assert_eq!(to(&parent, None).expect("ways").link, mixed[0], "for children of earlier versions");
    }

    #[test]
    fn a_parent_that_has_moved_is_told_anew_and_one_that_is_not_known_stays() {
        let mut observer = Observer::new(std::time::Instant::now());
        let (gone, relay) = (named("gone", &[]), named("relay", &["10.0.0.5:1"]));
        let assignment = Assignment {
            node: named("child", &[]).node,
            parents: vec![
                AssignedParent { node: gone.node, link: "10.0.0.9:1".into(), links: Vec::new() },
                AssignedParent { node: relay.node.clone(), link: "10.0.0.4:1".into(), links: Vec::new() },
            ],
            paths: 2,
            term: 7,
            drain: None,
        };
        assert_eq!(renewed(&observer, &assignment), None, "a child that is not known");
        for node in [named("child", &[]), relay] {
            observer.nodes.insert(node.node.clone(), node);
        }
        let renewed_once = renewed(&observer, &assignment).expect("another address");
        let links = |assignment: &Assignment| {
            assignment.parents.iter().map(|parent| parent.link.clone()).collect::<Vec<_>>()
        };
        assert_eq!(links(&renewed_once), ["10.0.0.9:1", "10.0.0.5:1"]);
        assert_eq!((renewed_once.paths, renewed_once.term), (2, 7));
        assert_eq!(renewed(&observer, &renewed_once), None);
    }

    fn named(name: &str, links: &[&str]) -> NodeRecord {
        let node = model::NodeId::new(name).expect("a name");
        NodeRecord { node, ..self::node(("eu", None), links) }
    }

    #[test]
    fn one_address_is_told_as_ever_and_none_is_no_parent() {
        let assigned = to(&node(("eu", None), &["r.example.net:1"]), None).expect("a way");
        assert_eq!((assigned.link.as_str(), assigned.links.len()), ("r.example.net:1", 0));
        assert_eq!(to(&node(("eu", None), &[]), None), None);
    }

    #[test]
    fn what_means_something_in_one_network_only_is_private() {
        for link in [
            "10.1.1.1:1",
            "172.31.0.1:1",
            "192.168.0.1:1",
            "100.64.0.1:1",
            "127.0.0.1:1",
            "[::1]:1",
            "[fe80::1]:1",
        ] {
            assert!(is_private(link), "{link}");
        }
        for link in
            ["172.32.0.1:1", "100.128.0.1:1", "8.8.8.8:1", "[2001:db8::1]:1", "r.example.net:1", "nonsense"]
        {
            assert!(!is_private(link), "{link}");
        }
    }
}
