//! What the answers look like for people.

use super::table::{Align, Table, facts, number, time};
use super::views::{
    Advice, Audience, Broadcast, Capacity, Decision, Installation, Load, Node, Parent, PublishKey, Shape,
    Slot, Tree,
};

const LEFT: Align = Align::Left;
const RIGHT: Align = Align::Right;

/// Where nothing is to be listed.
fn or_none(table: &Table, is_empty: bool, nothing: &str) -> String {
    if is_empty { format!("{nothing}\n") } else { table.render() }
}

/// All trees.
pub fn trees(trees: &[Tree]) -> String {
    let columns = [
        ("TREE", LEFT),
        ("TEMPLATE", LEFT),
        ("NODES", RIGHT),
        ("VIEWERS", RIGHT),
        ("BROADCASTS", RIGHT),
        ("CREATED", LEFT),
    ];
    let mut table = Table::new(&columns);
    for tree in trees {
        table.row([
            tree.id.clone(),
            tree.template.clone(),
            format!("{}/{}", tree.nodes, tree.shape.nodes_max),
            tree.viewers.to_string(),
            tree.broadcasts.to_string(),
            time(tree.created),
        ]);
    }
    or_none(&table, trees.is_empty(), "There are no trees.")
}

/// One tree and its nodes.
pub fn tree(tree: &Tree, all_nodes: &[Node]) -> String {
    let shape = &tree.shape;
    let own: Vec<&Node> = all_nodes.iter().filter(|node| node.tree == tree.id).collect();
    // A node with all roles counts for each.
    let wanted = |role: &str, wanted: u32| {
        let plays = |node: &&&Node| {
            node.health != "dead" && (node.role == role || role != "relay" && node.role == "all")
        };
        format!("{} of {wanted} {role}", own.iter().filter(plays).count())
    };
    let about = facts(&[
        ("tree", tree.id.clone()),
        ("template", tree.template.clone()),
        ("created", time(tree.created)),
        (
            "wanted",
            [("injection", shape.injection), ("relay", shape.relay), ("egress", shape.egress)]
                .map(|(role, count)| wanted(role, count))
                .join(", "),
        ),
        (
            "slots",
            format!(
                "{} warm, {} cold, {} egress each",
                shape.warm_slots, shape.cold_slots, shape.sub_tree_egress
            ),
        ),
        ("parents", format!("{} at once, {} on standby", shape.paths, shape.standbys)),
        ("relays", relays(shape)),
        ("nodes", format!("{} of at most {}", tree.nodes, shape.nodes_max)),
        ("broadcasts", tree.broadcasts.to_string()),
        ("viewers", tree.viewers.to_string()),
    ]);
    format!("{about}\n{}", nodes(&own))
}

fn relays(shape: &Shape) -> String {
    if shape.relay_levels_max == Some(0) {
        return "none".into();
    }
    let from = match shape.direct_children_max {
        0 => "always".into(),
        most => format!("from more than {most} egress nodes on"),
    };
    let levels = shape.relay_levels_max.map(|levels| format!("at most {levels} in a row"));
    let children = shape.relay_children_max.map(|most| format!("at most {most} children each"));
    [Some(from), levels, children].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Slots.
pub fn slots(slots: &[&Slot]) -> String {
    let columns = [
        ("TREE", LEFT),
        ("SLOT", RIGHT),
        ("STATE", LEFT),
        ("SINCE", LEFT),
        ("NODES", RIGHT),
        ("FAILURES", RIGHT),
        ("WAITS FOR APPROVAL", LEFT),
    ];
    let mut table = Table::new(&columns);
    for slot in slots {
        let waits = slot.proposal.as_ref().filter(|proposal| !proposal.is_approved);
        table.row([
            slot.tree.clone(),
            slot.number.to_string(),
            slot.state.clone(),
            time(slot.since),
            slot.nodes.len().to_string(),
            slot.failures.to_string(),
            waits.map_or_else(String::new, |waits| format!("{}: {}", waits.change, waits.reason)),
        ]);
    }
    or_none(&table, slots.is_empty(), "There are no slots.")
}

/// Nodes.
pub fn nodes(nodes: &[&Node]) -> String {
    let columns = [
        ("NODE", LEFT),
        ("TREE", LEFT),
        ("ROLE", LEFT),
        ("STATE", LEFT),
        ("REGION", LEFT),
        ("HOST", LEFT),
        ("VIEWERS", RIGHT),
        ("PUBLISHERS", RIGHT),
        ("CHILDREN", RIGHT),
        ("CPU", RIGHT),
        ("SENDS", RIGHT),
        ("PARENTS", LEFT),
    ];
    let mut table = Table::new(&columns);
    for node in nodes {
        let (load, capacity) = (&node.load, &node.capacity);
        let parents: Vec<String> = node.parents.iter().map(parent).collect();
        table.row([
            node.id.clone(),
            node.tree.clone(),
            node.role.clone(),
            node.health.clone(),
            node.region.clone(),
            node.host.clone(),
            of(load.viewers, capacity.viewers),
            of(load.publishers, capacity.publishers),
            of(load.children, capacity.children),
            number(load.cpu_percent, " %"),
            number(load.transmit_mbps, " Mbit/s"),
            parents.join(", "),
        ]);
    }
    or_none(&table, nodes.is_empty(), "There are no nodes.")
}

/// Slots used and there; a node without such slots has none to tell of.
fn of(used: u32, there: u32) -> String {
    if there == 0 && used == 0 { "–".into() } else { format!("{used}/{there}") }
}

/// What its viewers may take of what the network carries.
fn network(load: &Load, capacity: &Capacity) -> String {
    let part = |promised: Option<f64>, there: Option<u32>, unit: &str| {
        there.map(|there| format!("{:.1} of {there} {unit}", promised.unwrap_or(0.0)))
    };
    let parts = [
        part(load.promised_mbps, capacity.egress_mbps, "Mbit/s"),
        part(load.promised_packets_per_second, capacity.packets_per_second, "packets/s"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "not limited".into() } else { format!("viewers may take {}", parts.join(", ")) }
}

/// What a link is for, in words.
const fn link_state(parent: &Parent) -> &'static str {
    match (parent.is_alive, parent.is_assigned, parent.joined) {
        (false, ..) => "down",
        (true, true, 0) => "standby",
        (true, true, _) => "carries media",
        (true, false, 0) => "connected, not assigned",
        (true, false, _) => "carries media, not assigned",
    }
}

fn parent(parent: &Parent) -> String {
    match link_state(parent) {
        "carries media" => parent.node.clone(),
        state => format!("{} ({state})", parent.node),
    }
}

/// One node.
pub fn node(node: &Node) -> String {
    let (load, capacity) = (&node.load, &node.capacity);
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".into());
    let drain =
        node.drain.as_ref().map_or_else(|| "–".into(), |drain| format!("within {} s", drain.deadline_secs));
    let mut text = facts(&[
        ("node", node.id.clone()),
        ("tree", node.tree.clone()),
        ("role", node.role.clone()),
        ("state", node.health.clone()),
        ("drain ordered", drain),
        ("region", node.region.clone()),
        ("zone", or_unknown(&node.zone)),
        ("host", node.host.clone()),
        ("url", or_unknown(&node.url)),
        ("link", if node.links.len() > 1 { node.links.join(", ") } else { or_unknown(&node.link) }),
        ("operations", or_unknown(&node.ops)),
        ("version", node.version.clone()),
        ("viewers", of(load.viewers, capacity.viewers)),
        ("publishers", of(load.publishers, capacity.publishers)),
        ("children", of(load.children, capacity.children)),
        ("cpu", number(load.cpu_percent, " %")),
        ("busiest shard", number(load.shard_percent, " %")),
        ("sends", number(load.transmit_mbps, " Mbit/s")),
        ("packets", number(load.packets_per_second, " packets/s")),
        ("network", network(load, capacity)),
    ]);
    if !node.parents.is_empty() {
        let columns = [
            ("PARENT", LEFT),
            ("LINK", LEFT),
            ("BROADCASTS", RIGHT),
            ("ROUND TRIP", RIGHT),
            ("PACKETS", RIGHT),
            ("REPAIRED", RIGHT),
        ];
        let mut table = Table::new(&columns);
        for parent in &node.parents {
            table.row([
                parent.node.clone(),
                link_state(parent).into(),
                parent.joined.to_string(),
                number(parent.round_trip_ms, " ms"),
                parent.packets.to_string(),
                parent.repaired.to_string(),
            ]);
        }
        text = format!("{text}\n{}", table.render());
    }
    if !node.broadcasts.is_empty() {
        let mut table = Table::new(&[("BROADCAST", LEFT), ("VIEWERS HERE", RIGHT)]);
        for watched in &node.broadcasts {
            table.row([watched.broadcast.clone(), watched.viewers.to_string()]);
        }
        text = format!("{text}\n{}", table.render());
    }
    text
}

/// Broadcasts.
pub fn broadcasts(broadcasts: &[Broadcast]) -> String {
    let columns =
        [("BROADCAST", LEFT), ("TREE", LEFT), ("STATE", LEFT), ("ORIGIN", LEFT), ("VIEWERS", RIGHT)];
    let mut table = Table::new(&columns);
    for broadcast in broadcasts {
        table.row([
            broadcast.id.clone(),
            broadcast.tree.clone(),
            broadcast.state.clone(),
            broadcast.origin.clone().unwrap_or_else(|| "–".into()),
            broadcast.viewers.to_string(),
        ]);
    }
    or_none(&table, broadcasts.is_empty(), "There are no broadcasts.")
}

/// One broadcast.
pub fn broadcast(broadcast: &Broadcast) -> String {
    let made = broadcast.created.map_or_else(|| "by its first publisher".into(), time);
    let takes = broadcast.rates.as_ref().map_or_else(
        || "–".into(),
        |rates| format!("{} kbit/s, {} packets/s", rates.viewer_kbps, rates.viewer_packets),
    );
    let facts = facts(&[
        ("broadcast", broadcast.id.clone()),
        ("tree", broadcast.tree.clone()),
        ("state", broadcast.state.clone()),
        ("published at", broadcast.origin.clone().unwrap_or_else(|| "–".into())),
        ("viewers", broadcast.viewers.to_string()),
        ("a viewer takes", takes),
        ("made", made),
    ]);
    if broadcast.advice.is_empty() {
        return facts;
    }
    let advice =
        |one: &Advice| format!("\n{} ({}): {}\n  {}\n", one.severity, one.code, one.what, one.remedy);
    format!("{facts}\nWhat could be better:\n{}", broadcast.advice.iter().map(advice).collect::<String>())
}

/// What a broadcast's publisher has to be given.
pub fn publish_key(made: &PublishKey) -> String {
    let about = facts(&[
        ("broadcast", made.id.clone()),
        ("publish at", format!("{} of any node", made.whip_path)),
        ("publish key", made.publish_key.clone()),
    ]);
    format!("{about}In OBS: service WHIP, the URL as server, the key as Bearer Token.\n")
}

/// Who watches what: a line for each broadcast as a whole, then one for each node that serves it.
pub fn viewers(audiences: &[Audience]) -> String {
    let mut table = Table::new(&[("BROADCAST", LEFT), ("TREE", LEFT), ("NODE", LEFT), ("VIEWERS", RIGHT)]);
    for audience in audiences {
        let (broadcast, tree) = (&audience.broadcast, &audience.tree);
        table.row([broadcast.clone(), tree.clone(), "(all nodes)".into(), audience.viewers.to_string()]);
        for node in &audience.nodes {
            table.row([broadcast.clone(), tree.clone(), node.node.clone(), node.viewers.to_string()]);
        }
    }
    or_none(&table, audiences.is_empty(), "There are no broadcasts.")
}

/// Decisions.
pub fn decisions(decisions: &[Decision]) -> String {
    let mut table = Table::new(&[("TIME", LEFT), ("TREE", LEFT), ("KIND", LEFT), ("WHAT AND WHY", LEFT)]);
    for decision in decisions {
        table.row([time(decision.at), decision.tree.clone(), decision.kind.clone(), decision.reason.clone()]);
    }
    or_none(&table, decisions.is_empty(), "Nothing was decided yet.")
}

/// How the installation is.
pub fn status(installation: &Installation) -> String {
    let count = |health| installation.nodes.iter().filter(|node| node.health == health).count();
    let states = ["ready", "draining", "suspect", "dead"].map(|health| format!("{} {health}", count(health)));
    let live = installation.broadcasts.iter().filter(|broadcast| broadcast.state == "live").count();
    let viewers: u64 = installation.broadcasts.iter().map(|broadcast| broadcast.viewers).sum();
    let about = facts(&[
        ("controller", installation.controller.clone()),
        ("leader", installation.leader.clone().unwrap_or_else(|| "none".into())),
        (
            "store",
            if installation.is_store_up { "up" } else { "away: media goes on, nothing is decided" }.into(),
        ),
        ("decides", if installation.is_settled { "yes" } else { "not yet: it looks first" }.into()),
        ("last decision", format!("took {:.1} ms", installation.decide_micros as f64 / 1000.0)),
        ("trees", installation.trees.len().to_string()),
        ("nodes", states.join(", ")),
        ("broadcasts", format!("{live} live, {} waiting", installation.broadcasts.len() - live)),
        ("viewers", viewers.to_string()),
    ]);
    if installation.findings.is_empty() {
        return about;
    }
    let mut findings = Table::new(&[("WHAT MORE OR OTHER NODES WOULD MEND", LEFT)]);
    for finding in &installation.findings {
        findings.row([finding.clone()]);
    }
    format!("{about}\n{}", findings.render())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn egress() -> serde_json::Value {
        json!({
            "id": "egress-1", "tree": "main", "role": "egress", "health": "draining", "region": "eu", "zone": null,
            "host": "rack7", "url": "https://egress-1.example.net", "link": null, "ops": null,
            "capacity": { "viewers": 1000, "publishers": 0, "children": 0 },
            "load": {
                "viewers": 412, "publishers": 0, "children": 0, "cpu_percent": 31.4, "shard_percent": null,
                "transmit_mbps": 1030.2, "packets_per_second": null
            },
            "parents": [
                { "node": "relay-1", "is_assigned": true, "is_alive": true, "joined": 2, "round_trip_ms": 1.24, "packets": 9, "repaired": 3 },
                { "node": "relay-2", "is_assigned": true, "is_alive": true, "joined": 0, "round_trip_ms": null, "packets": 0, "repaired": 0 },
                { "node": "relay-3", "is_assigned": false, "is_alive": false, "joined": 1, "round_trip_ms": null, "packets": 0, "repaired": 0 }
            ],
            "broadcasts": [{ "broadcast": "demo", "viewers": 412 }],
            "drain": { "id": 1, "deadline_secs": 60 }, "version": "0.1.0", "added_later": [1]
        })
    }

    #[test]
    fn a_node_shows_what_its_network_carries_and_how_much_of_it_is_promised() {
        let mut egress = egress();
        egress["capacity"]["egress_mbps"] = json!(1000);
        egress["load"]["promised_mbps"] = json!(437.25);
        let all = node(&serde_json::from_value(egress.clone()).expect("a node"));
        assert!(all.contains("viewers may take 437.2 of 1000 Mbit/s\n"), "{all}");
        egress["capacity"]["packets_per_second"] = json!(90_000);
        let all = node(&serde_json::from_value(egress).expect("a node"));
        assert!(all.contains("1000 Mbit/s, 0.0 of 90000 packets/s\n"), "{all}");
    }

    #[test]
    fn a_node_shows_its_links_in_words_and_what_it_does_not_know_as_unknown() {
        let egress: Node = serde_json::from_value(egress()).expect("a node");
        let line = nodes(&[&egress]);
        let line = line.lines().nth(1).expect("a row");
        for part in
            ["draining", "412/1000", "31 %", "1030 Mbit/s", "relay-1, relay-2 (standby), relay-3 (down)"]
        {
            assert!(line.contains(part), "{part} in {line}");
        }
        let all = node(&egress);
        assert!(all.contains("network        not limited\n"), "{all}");
        for part in
            ["drain ordered  within 60 s\n", "busiest shard  –\n", "relay-1  carries media", "1.2 ms", "demo"]
        {
            assert!(all.contains(part), "{part} in {all}");
        }
    }

    #[test]
    fn empty_lists_say_so() {
        assert_eq!(trees(&[]), "There are no trees.\n");
        assert_eq!(nodes(&[]), "There are no nodes.\n");
        assert_eq!(decisions(&[]), "Nothing was decided yet.\n");
    }
}
