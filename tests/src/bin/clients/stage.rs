//! One publisher and those who watch it, through an injection and an egress node: minutes of streaming, then cuts of the
//! publisher's network.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use futures_util::future::{join_all, try_join_all};
use tests::network::{Hosts, Path};
use tests::probe::quantile;
use tests::program::{Program, until};
use tests::tools;

use crate::publishers::{Publisher, Publishing};
use crate::viewers::{Seen, Viewer, Watching};

/// How long the publisher has no network.
pub const CUTS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];
/// Who does not play by then does not come back.
const RETURN_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether the publisher's program has ended.
const REVIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How long pictures are looked at after a return.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// What is tried.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    /// As the command line calls it.
    pub name: &'static str,
    pub publisher: Publisher,
    pub viewers: &'static [Viewer],
}

impl Stage {
    /// Whether its clients are on this machine; if not, that is said.
    pub fn can_run(&self) -> bool {
        let viewers = self.viewers.iter().flat_map(|viewer| viewer.parts());
        self.publisher.parts().iter().chain(viewers).all(|part| tools::has(self.name, part))
    }
}

/// What came of one viewer of it.
pub struct Outcome {
    pub publisher: Publisher,
    pub viewer: Viewer,
    pub seen: Seen,
    /// Pictures a second that the publisher made meanwhile, if it says.
    pub made: Option<f64>,
    /// In the order of [`CUTS`].
    pub returns: Vec<Return>,
}

/// After a cut.
#[derive(Debug, Clone, Default)]
pub struct Return {
    /// From the network's return to the first picture; `None` if none came.
    pub after: Option<Duration>,
    /// Sessions that the publisher began.
    pub publisher_sessions: u64,
    /// Sessions that viewers of the node began.
    pub viewer_sessions: u64,
    /// Whether the publisher's process had ended and was started again.
    pub was_restarted: bool,
    /// How old pictures were afterwards, in ms, in the middle.
    pub age: Option<f64>,
}

/// A stage that was played.
pub struct Played {
    pub outcomes: Vec<Outcome>,
    /// Whether everybody went when told to.
    pub end: anyhow::Result<()>,
}

/// Plays the stage with `length` of streaming.
pub async fn run(stage: Stage, length: Duration) -> anyhow::Result<Played> {
    let hosts = Hosts::new(63, &["in", "out"])?;
    let injection = hosts.node("injection", "in", &[]).start().await?;
    let egress = hosts.node("egress", "out", &["in"]).with(&["--broadcasts", "show"]).start().await?;
    let prepared = try_join_all(stage.viewers.iter().map(|viewer| viewer.prepare())).await?;
    let publishing = stage.publisher.start(&injection).await.context("publish")?;
    until("the broadcast is live", async || Ok(egress.metric("pipeline_up{").await? == 1.0)).await?;
    let watching = try_join_all(prepared.into_iter().map(|viewer| viewer.watch(&egress))).await;
    let mut scene = Scene { hosts, injection, egress, publishing, watching: watching.context("watch")? };
    let clock = scene.publishing.clock;
    let (begun, before) = (Instant::now(), scene.publishing.encoded().await?);
    let seens = try_join_all(scene.watching.iter().map(|watching| watching.watch(length, clock))).await?;
    let made = before.zip(scene.publishing.encoded().await?);
    let made =
        made.map(|(before, after)| after.saturating_sub(before) as f64 / begun.elapsed().as_secs_f64());
    let outcome = |(viewer, seen): (&Viewer, Seen)| Outcome {
        publisher: stage.publisher,
        viewer: *viewer,
        seen,
        made,
        returns: Vec::new(),
    };
    let mut outcomes: Vec<Outcome> = stage.viewers.iter().zip(seens).map(outcome).collect();
    for cut in CUTS {
        let returns = scene.cut(cut).await.with_context(|| format!("a cut of {cut:?}"))?;
        for (outcome, returned) in outcomes.iter_mut().zip(returns) {
            outcome.returns.push(returned);
        }
    }
    Ok(Played { outcomes, end: scene.close().await })
}

/// Sessions of publishers of one node, and of viewers of another, that were connected so far.
pub async fn sessions(injection: &Program, egress: &Program) -> anyhow::Result<(f64, f64)> {
    let connected = r#"result="connected""#;
    let publishers = injection.metric_with("media_tree_publishes_total{", connected).await?;
    Ok((publishers, egress.metric_with("media_tree_joins_total{", connected).await?))
}

/// In the order in which it ends.
struct Scene {
    watching: Vec<Watching>,
    publishing: Publishing,
    egress: Program,
    injection: Program,
    hosts: Hosts,
}

impl Scene {
    /// Takes the publisher's network away for so long; what came of each viewer.
    async fn cut(&mut self, length: Duration) -> anyhow::Result<Vec<Return>> {
        let (publishers, viewers) = sessions(&self.injection, &self.egress).await?;
        let starts = self.publishing.starts();
        let (here, there) = (self.hosts.here(), self.hosts.host("in").address);
        self.hosts.join(here, there, Path { loss: 1.0, ..Path::default() });
        tokio::time::sleep(length).await;
        try_join_all(self.watching.iter().map(Watching::arm)).await?;
        self.hosts.join(here, there, Path::default());
        let healed = SystemTime::now();
        let first_pictures = self.until_playing().await?;
        let (publishers_now, viewers_now) = sessions(&self.injection, &self.egress).await?;
        let mut returns = Vec::new();
        for (watching, first) in self.watching.iter().zip(first_pictures) {
            let ages = match first {
                Ok(_) => watching.ages(AFTERWARDS, self.publishing.clock).await?,
                Err(_) => Vec::new(),
            };
            returns.push(Return {
                after: first.ok().map(|first| first.duration_since(healed).unwrap_or_default()),
                publisher_sessions: (publishers_now - publishers) as u64,
                viewer_sessions: (viewers_now - viewers) as u64,
                was_restarted: self.publishing.starts() > starts,
                age: quantile(&ages, 0.5),
            });
        }
        Ok(returns)
    }

    /// When each viewer had its first picture. A publisher whose process has ended is started again meanwhile.
    async fn until_playing(&mut self) -> anyhow::Result<Vec<anyhow::Result<SystemTime>>> {
        let playing = join_all(self.watching.iter().map(|watching| watching.until_playing(RETURN_MAX)));
        tokio::pin!(playing);
        let mut looks = tokio::time::interval(REVIVE_INTERVAL);
        loop {
            tokio::select! {
                first_pictures = &mut playing => return Ok(first_pictures),
                _ = looks.tick() => self.publishing.revive(&self.injection).await?,
            }
        }
    }

    async fn close(self) -> anyhow::Result<()> {
        for watching in self.watching {
            watching.close().await.context("a viewer's end")?;
        }
        self.publishing.close().await.context("the publisher's end")
    }
}
