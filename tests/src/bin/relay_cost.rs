//! What a relay costs: CPU of the complete process for each packet and child, beside what the kernel alone takes for
//! as many packets in as many trains in the same minute.
//!
//! `relay_cost [CHILDREN] [BROADCASTS] [SECONDS]`: real injection, real relay, children that hold real link channels;
//! each broadcast is 2.5 Mbit/s at 30 pictures a second, with sound. All on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use model::BroadcastId;
use tests::lean_child::{LeanChild, Received};
use tests::program::{self, Program, until};
use tests::source::{Shape, Source};
use udp_batch::{Options, ReceiveBatch, SendQueue, Socket};

const CLUSTER_KEY: &str = "a-cluster-of-one-machine";
/// A link datagram of [`Shape::OBS`], padded and sealed.
const PACKET_BYTES: usize = 1244;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (children, broadcasts, seconds) = (number(0, 64), number(1, 1), number(2, 10));
    let length = Duration::from_secs(seconds as u64);
    ensure!(children > 0 && broadcasts > 0 && seconds > 0, "nothing to measure");

    let tree = Tree::grow(children, broadcasts).await?;
    let relay = tree.measure(length).await?;
    drop(tree);
    let (relay, floor) = tokio::task::spawn_blocking(move || {
        let floor = floor(children, &relay, length)?;
        anyhow::Ok((relay, floor))
    })
    .await??;
    println!("{children} children, {broadcasts} broadcasts of 2.5 Mbit/s, {seconds} s");
    println!("relay, complete process  {:>5.0} ns CPU a packet and child", relay.nanos_a_packet());
    for (thread, nanos) in &relay.threads {
        println!("    {thread:<20} {:>5.0}", *nanos as f64 / relay.packets as f64);
    }
    println!("bare sending in trains   {:>5.0}", floor.nanos_a_packet());
    println!("ratio                    {:>5.2}", relay.nanos_a_packet() / floor.nanos_a_packet());
    println!("packets a train          {:>5.1}", relay.packets as f64 / relay.trains as f64);
    println!("packets: {} forwarded, {} missing, {} twice", relay.packets, relay.missing, relay.repeated);
    Ok(())
}

/// CPU time of threads, and what was sent in it.
#[derive(Debug, Default)]
struct Cost {
    threads: Vec<(String, u64)>,
    packets: u64,
    trains: u64,
    missing: u64,
    repeated: u64,
}

impl Cost {
    fn nanos_a_packet(&self) -> f64 {
        self.threads.iter().map(|(_, nanos)| *nanos as f64).sum::<f64>() / self.packets as f64
    }
}

/// CPU time of each thread of a process so far, nanoseconds, those of one name together.
fn cpu_nanos(process: u32) -> anyhow::Result<Vec<(String, u64)>> {
    let mut threads = std::collections::BTreeMap::new();
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let path = thread?.path();
        let name = std::fs::read_to_string(path.join("comm"))?.trim().to_owned();
        *threads.entry(name).or_insert(0) += thread_nanos(&path.join("schedstat"))?;
    }
    Ok(threads.into_iter().collect())
}

fn thread_nanos(schedstat: &Path) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(schedstat)?;
    Ok(text.split(' ').next().context("an empty schedstat")?.parse()?)
}

struct Tree {
    children: Vec<LeanChild>,
    _sources: Vec<Source>,
    relay: Program,
    _injection: Program,
}

impl Tree {
    async fn grow(children: usize, broadcasts: usize) -> anyhow::Result<Self> {
        let key = ["--cluster-key", CLUSTER_KEY, "--link-address", "127.0.0.1"];
        let injection = program::node("injection").with(&key).start().await?;
        let parent = format!("127.0.0.1:{}", injection.link_port);
        let relay = program::node("relay").with(&key).with(&["--parents", &parent]).start().await?;
        let mut sources = Vec::new();
        let mut names = Vec::new();
        for number in 0..broadcasts {
            let url = injection.url(&format!("/whip/show-{number}"));
            sources.push(Source::publish(&url, Shape::OBS).await?);
            names.push(BroadcastId::new(&format!("show-{number}"))?);
        }
        until("the relay knows the broadcasts", async || {
            let text = reqwest::get(format!("http://{}/metrics", relay.ops)).await?.text().await?;
            Ok(text.matches("media_tree_link_destinations{").count() == broadcasts)
        })
        .await?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, relay.link_port));
        let mut lean = Vec::new();
        for number in 0..children {
            lean.push(LeanChild::join((address, CLUSTER_KEY), &format!("child-{number}"), &names).await?);
        }
        let tree = Self { children: lean, _sources: sources, relay, _injection: injection };
        until("all children follow all broadcasts", async || {
            Ok(tree.children.iter().all(|child| child.received().streams == 2 * broadcasts))
        })
        .await?;
        Ok(tree)
    }

    async fn measure(&self, length: Duration) -> anyhow::Result<Cost> {
        // Replays of the join are over then.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (before, cpu_before) = (self.received(), cpu_nanos(self.relay.id())?);
        tokio::time::sleep(length).await;
        let (after, cpu_after) = (self.received(), cpu_nanos(self.relay.id())?);
        ensure!(after.refused == 0, "{} datagrams did not verify", after.refused);
        let threads = cpu_after.into_iter().map(|(name, nanos)| {
            let earlier = cpu_before.iter().find(|(other, _)| *other == name).map_or(0, |(_, nanos)| *nanos);
            (name, nanos - earlier)
        });
        Ok(Cost {
            threads: threads.collect(),
            packets: after.packets - before.packets,
            trains: after.trains - before.trains,
            missing: after.missing,
            repeated: after.repeated,
        })
    }

    fn received(&self) -> Received {
        self.children.iter().map(LeanChild::received).fold(Received::default(), |sum, one| Received {
            streams: sum.streams + one.streams,
            packets: sum.packets + one.packets,
            missing: sum.missing + one.missing,
            repeated: sum.repeated + one.repeated,
            refused: sum.refused + one.refused,
            trains: sum.trains + one.trains,
        })
    }
}

/// Sends as many packets in as many trains to as many sockets, evenly over the time, and nothing else.
fn floor(children: usize, relay: &Cost, length: Duration) -> anyhow::Result<Cost> {
    let bind = |is_coalescing| {
        Socket::bind((Ipv4Addr::LOCALHOST, 0).into(), &Options { is_coalescing, ..Options::default() })
    };
    let sender = bind(false)?;
    let receivers = (0..children).map(|_| bind(true)).collect::<Result<Vec<_>, _>>()?;
    let remotes: Vec<SocketAddr> = receivers.iter().map(Socket::local_addr).collect();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let reader = std::thread::spawn(move || {
        let mut batch = ReceiveBatch::new();
        while stopped.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
            for receiver in &receivers {
                while receiver.receive(&mut batch).is_ok_and(|count| count > 0) {}
            }
        }
    });
    let (trains, packets) = (relay.trains / children as u64, relay.packets / children as u64);
    let (mut queue, payload) = (SendQueue::new(), [0x5a; PACKET_BYTES]);
    let (began, schedstat) = (Instant::now(), Path::new("/proc/thread-self/schedstat"));
    let (cpu_before, mut cost) = (thread_nanos(schedstat)?, Cost::default());
    for train in 0..trains {
        std::thread::sleep((length.mul_f64(train as f64 / trains as f64)).saturating_sub(began.elapsed()));
        let count = (train + 1) * packets / trains - train * packets / trains;
        queue.push_to_all(&vec![payload; count as usize], &remotes);
        cost.packets += queue.flush(&sender)?.sent;
    }
    cost.threads.push(("sender".into(), thread_nanos(schedstat)? - cpu_before));
    drop(stop);
    let _ = reader.join();
    Ok(cost)
}
