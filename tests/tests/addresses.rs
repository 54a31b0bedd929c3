//! Nodes have several addresses: private and public ones, IPv4 and IPv6. Links, media and HTTP find their way.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::time::Instant;

use anyhow::ensure;
use client::Whep;
use serde_json::json;
use tests::installation::{self, Installation, Viewer, receive, until_live, until_parents};
use tests::network::{Hosts, PUBLISH_TOKEN};
use tests::program::{self, Program};
use tests::source::{Shape, Source};
use tests::tools;

type Result = anyhow::Result<()>;

const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// Two seconds of pictures.
const PICTURES: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_found_fed_and_watched_over_ipv6_alone() -> Result {
    let controller = program::node("controller").at(V6).start().await?;
    let installation = Installation::of(&controller);
    let node = |role, name| installation.node(role, name).at(V6).with(&["--link-address", "::1"]);
    let injection = node("injection", "in").start().await?;
    let egress = node("egress", "out").start().await?;
    until_parents(&controller, "out", &["in"]).await?;
    let known = installation::node(&controller, "in").await?;
    assert_eq!(known["link"], format!("[::1]:{}", injection.link_port));
    assert_eq!(known["url"], injection.url(""));

    // The sockets of this client are bound to the address that faces the server: its media goes over IPv6, or nowhere.
    let source = Source::publish(&controller.url("/whip/show"), Shape::OBS).await?;
    until_live(&controller, "show").await?;
    let mut viewer = Viewer::join(&controller.url("/whep/show")).await?;
    ensure!(viewer.url().starts_with(&egress.url("/whep/show/")), "led to {}", viewer.url());
    viewer.watch(PICTURES).await?;
    println!("over IPv6: {}", viewer.summary());
    assert_eq!(viewer.seens.missing(), 0);
    drop(source);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_links_carries_media_over_ipv6() -> Result {
    let link = |parent: &Program| format!("[::1]:{}", parent.link_port);
    let node = |role| program::node(role).at(V6).with(&["--link-address", "::1"]);
    let injection = node("injection").start().await?;
    let relay = node("relay").with(&["--parents", &link(&injection)]).start().await?;
    let egress = node("egress").with(&["--parents", &link(&relay)]).start().await?;
    let source = Source::publish(&injection.url("/whip/show"), Shape::OBS).await?;
    until_live(&egress, "show").await?;
    let mut viewer = Viewer::join(&egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;
    println!("over two links: {}", viewer.summary());
    assert_eq!(viewer.seens.missing(), 0);
    drop(source);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_private_address_leads_nowhere_is_joined_by_its_public_one() -> Result {
    let controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    // Takes everything and answers nothing.
    let hole = UdpSocket::bind("127.0.0.1:0")?;
    let ports = program::free_ports()?;
    let links = [hole.local_addr()?.to_string(), format!("127.0.0.1:{}", ports + 2)];
    let injection = installation.node("injection", "in").from_port(ports);
    let injection = injection.with(&["--link-public", &links.join(",")]).start().await?;
    let began = Instant::now();
    let egress = installation.node("egress", "out").start().await?;
    until_parents(&controller, "out", &["in"]).await?;
    println!("joined {:?} after the child's start", began.elapsed());
    assert_eq!(installation::node(&controller, "in").await?["links"], json!(links));

    let source = Source::publish(&injection.url("/whip/show"), Shape::TINY).await?;
    until_live(&egress, "show").await?;
    let mut viewer = Whep::connect(&egress.url("/whep/show"), None).await?;
    receive(&mut viewer, PICTURES).await?;
    assert_eq!(egress.log().matches("parent assigned").count(), 1, "{}", egress.log());
    assert_eq!(egress.log().matches("dialling on").count(), 0, "one way worked: {}", egress.log());
    let mut sent = [0; 2048];
    hole.set_nonblocking(true)?;
    ensure!(hole.recv(&mut sent).is_ok(), "the private address was tried");
    drop(source);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_behind_one_to_one_nat_is_published_to_and_watched_at_its_public_address() -> Result {
    let name = "a_node_behind_one_to_one_nat_is_published_to_and_watched_at_its_public_address";
    if !tools::is_root(name) {
        return Ok(());
    }
    let hosts = Hosts::new(67, &["node"])?;
    let host = hosts.host("node");
    let public = hosts.translate(host).to_string();
    let node = hosts.node("up", "node", &[]).with(&["--public-ip", &public]).start().await?;
    let whip = node.url("/whip/show");
    let source = Source::publish_as(&whip, Some(PUBLISH_TOKEN), Shape::OBS).await?;
    until_live(&node, "show").await?;
    let mut viewer = Whep::connect(&node.url("/whep/show"), None).await?;
    receive(&mut viewer, PICTURES).await?;
    drop(source);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_address_with_another_node_behind_it_disturbs_nobody() -> Result {
    let controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    let other = installation.node("injection", "in-2").start().await?;
    // As in two networks that use the same private addresses.
    let ports = program::free_ports()?;
    let links = format!("127.0.0.1:{},127.0.0.1:{}", other.link_port, ports + 2);
    let injection = installation.node("injection", "in-1").from_port(ports).with(&["--link-public", &links]);
    let injection = injection.start().await?;
    let egress = installation.node("egress", "out").start().await?;
    until_parents(&controller, "out", &["in-1", "in-2"]).await?;

    let first = Source::publish(&injection.url("/whip/show"), Shape::TINY).await?;
    let second = Source::publish(&other.url("/whip/second"), Shape::TINY).await?;
    for broadcast in ["show", "second"] {
        until_live(&egress, broadcast).await?;
        let mut viewer = Whep::connect(&egress.url(&format!("/whep/{broadcast}")), None).await?;
        receive(&mut viewer, PICTURES).await?;
    }
    let log = egress.log();
    assert!(log.contains("is another node, in-2"), "{log}");
    assert_eq!(log.matches("dialling on").count(), 1, "and nobody was dialled for ever: {log}");
    drop((first, second));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_comes_back_at_another_address_is_found_there() -> Result {
    let controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").start().await?;
    let egress = installation.node("egress", "out").start().await?;
    until_parents(&controller, "out", &["in"]).await?;
    injection.signal("KILL")?;
    drop(injection);
    let injection = installation.node("injection", "in").start().await?;
    let source = Source::publish(&injection.url("/whip/show"), Shape::TINY).await?;
    until_live(&egress, "show").await?;
    let mut viewer = Whep::connect(&egress.url("/whep/show"), None).await?;
    receive(&mut viewer, PICTURES).await?;
    drop(source);
    Ok(())
}
