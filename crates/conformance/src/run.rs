//! The order of a run: first what needs an idle broadcast, then each endpoint, viewers with somebody on air, then what
//! takes long, and last what a server may hold against its guest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Url};

use crate::checks::{Pair, SideCheck, Trouble, Verdict};
use crate::http::{Http, Trust};
use crate::line::{Check, Line, Stage};
use crate::publish::Publisher;
use crate::report::{LineReport, Outcome, Report, selected};
use crate::side::{Protocol, Side};

/// Longest time for one check on one endpoint; none needs as much.
const CHECK_TIME_MAX: Duration = Duration::from_secs(120);

/// What is asked, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A WHIP or WHEP endpoint; where its path has a segment `whip` or `whep`, the other endpoint is guessed.
    pub url: Option<String>,
    /// The WHIP endpoint.
    pub whip: Option<String>,
    /// The WHEP endpoint.
    pub whep: Option<String>,
    /// Bearer token for publishing.
    pub token: Option<String>,
    /// Bearer token for watching.
    pub view_token: Option<String>,
    /// Certificates of authorities to trust over HTTPS, PEM, in place of the system's.
    pub trusted: Option<Vec<u8>>,
    /// The lines to try; all if there are none.
    pub only: Vec<String>,
}

/// What a run is busy with.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The line that was tried.
    pub line: &'a str,
    /// Where; `None` for a line that takes both endpoints.
    pub protocol: Option<Protocol>,
    /// How it came out.
    pub outcome: &'a Outcome,
}

/// Why there was nothing to report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Not a URL, or not of HTTP.
    #[error("{url} is not an http or https URL with a host")]
    Url {
        /// What was given.
        url: String,
    },
    /// A URL that tells neither protocol.
    #[error("{url} has neither whip nor whep in its path: say which with --whip or --whep")]
    Protocol {
        /// What was given.
        url: String,
    },
    /// No URL at all.
    #[error("give the URL of a WHIP or WHEP endpoint")]
    NoUrl,
    /// A name that no line has.
    #[error("there is no line {id}")]
    Line {
        /// What was given.
        id: String,
    },
    /// The certificates to trust are none.
    #[error("the certificates to trust cannot be used")]
    Trust(#[source] reqwest::Error),
    /// Nobody answers.
    #[error("{url} does not answer")]
    Unreachable {
        /// Who was asked.
        url: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// Somebody answers, and it is no endpoint.
    #[error("{url} answers an offer with {status}: there is no {protocol} endpoint")]
    NoEndpoint {
        /// Who was asked.
        url: String,
        /// Which protocol.
        protocol: Protocol,
        /// What came.
        status: u16,
    },
}

/// Tries every line that was asked for; tells each as it is done.
///
/// # Errors
/// [`RunError`] if there is no server to try.
pub async fn run(options: Options, tell: impl Fn(Progress<'_>)) -> Result<Report, RunError> {
    let lines = selected(&options.only).map_err(|id| RunError::Line { id })?;
    let (pair, notes) = prepare(&options).await?;
    let mut run = Run { pair, found: BTreeMap::new(), tell: &tell };
    run.idle(&lines).await;
    run.sides(&lines, Protocol::Whip).await;
    let publisher = run.on_air(&lines).await;
    run.sides(&lines, Protocol::Whep).await;
    if let Some(publisher) = publisher {
        publisher.stop().await;
    }
    run.pairs(&lines, Stage::Usual).await;
    run.slow(&lines).await;
    run.last(&lines).await;
    run.end_sessions().await;
    let url = |side: &Option<Arc<Side>>| side.as_ref().map(|side| side.url.to_string());
    let lines = lines.iter().map(|line| LineReport::new(line, run.found.remove(line.id).unwrap_or_default()));
    Ok(Report { whip: url(&run.pair.whip), whep: url(&run.pair.whep), notes, lines: lines.collect() })
}

struct Run<'a, T: Fn(Progress<'_>)> {
    pair: Pair,
    found: BTreeMap<&'static str, BTreeMap<Protocol, Outcome>>,
    tell: &'a T,
}

impl<T: Fn(Progress<'_>)> Run<'_, T> {
    fn side(&self, protocol: Protocol) -> Option<Arc<Side>> {
        match protocol {
            Protocol::Whip => self.pair.whip.clone(),
            Protocol::Whep => self.pair.whep.clone(),
        }
    }

    fn record(&mut self, line: &Line, protocol: Option<Protocol>, outcome: Outcome) {
        (self.tell)(Progress { line: line.id, protocol, outcome: &outcome });
        // What takes both is told of viewers, whom it is about.
        self.found.entry(line.id).or_default().insert(protocol.unwrap_or(Protocol::Whep), outcome);
    }

    /// What needs nobody on air.
    async fn idle(&mut self, lines: &[&'static Line]) {
        for line in lines {
            if let Check::Unseen(why) = line.check {
                self.record(line, None, Outcome::Skipped(why.to_owned()));
            }
        }
        self.pairs(lines, Stage::Idle).await;
    }

    async fn pairs(&mut self, lines: &[&'static Line], stage: Stage) {
        for line in lines.iter().filter(|line| line.stage == stage) {
            if let Check::Pair(check) = line.check {
                let outcome = outcome(check(&self.pair)).await;
                self.end_sessions().await;
                self.record(line, None, outcome);
            }
        }
    }

    async fn sides(&mut self, lines: &[&'static Line], protocol: Protocol) {
        for line in lines.iter().filter(|line| line.stage == Stage::Usual) {
            self.ask(line, protocol).await;
        }
    }

    async fn ask(&mut self, line: &'static Line, protocol: Protocol) {
        let Some(check) = line.check.of(protocol) else { return };
        let outcome = match self.side(protocol) {
            Some(side) => ask_side(&side, check).await,
            None => Outcome::Skipped(format!("there is no {protocol} endpoint")),
        };
        self.record(line, Some(protocol), outcome);
    }

    /// Viewers are asked with somebody on air, where that can be had.
    async fn on_air(&self, lines: &[&'static Line]) -> Option<Publisher> {
        let is_needed = lines.iter().any(|line| line.check.of(Protocol::Whep).is_some());
        let side = self.pair.whip.as_ref().filter(|_| is_needed && self.pair.whep.is_some())?;
        Publisher::start(side, &[]).await.ok()
    }

    /// What waits for time to pass waits together; one endpoint has one guest at a time.
    async fn slow(&mut self, lines: &[&'static Line]) {
        let slow: Vec<&'static Line> =
            lines.iter().copied().filter(|line| line.stage == Stage::Slow).collect();
        let whip = one_by_one(self.side(Protocol::Whip), &slow);
        // Viewers do not get into each other's way, but one check may not end the sessions of another.
        let whep = one_by_one(self.side(Protocol::Whep), &slow);
        let (whip, whep) = tokio::join!(whip, whep);
        for (protocol, outcomes) in [(Protocol::Whip, whip), (Protocol::Whep, whep)] {
            for (line, outcome) in slow.iter().zip(outcomes) {
                self.record(line, Some(protocol), outcome);
            }
        }
    }

    async fn last(&mut self, lines: &[&'static Line]) {
        for line in lines.iter().filter(|line| line.stage == Stage::Last) {
            for protocol in [Protocol::Whip, Protocol::Whep] {
                self.ask(line, protocol).await;
            }
        }
    }

    async fn end_sessions(&self) {
        for side in [&self.pair.whip, &self.pair.whep].into_iter().flatten() {
            side.end_sessions().await;
        }
    }
}

async fn one_by_one(side: Option<Arc<Side>>, lines: &[&'static Line]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for line in lines {
        outcomes.push(match (&side, &line.check) {
            (Some(side), Check::Each(check)) => ask_side(side, *check).await,
            _ => Outcome::Skipped("there is no such endpoint".into()),
        });
    }
    outcomes
}

async fn ask_side(side: &Side, check: SideCheck) -> Outcome {
    let outcome = outcome(check(side)).await;
    side.end_sessions().await;
    outcome
}

async fn outcome(check: impl Future<Output = Verdict>) -> Outcome {
    match tokio::time::timeout(CHECK_TIME_MAX, check).await {
        Ok(Ok(seen)) => Outcome::Passed(seen),
        Ok(Err(Trouble::Failed(seen))) => Outcome::Failed(seen),
        Ok(Err(Trouble::Skipped(why))) => Outcome::Skipped(why),
        Err(_elapsed) => Outcome::Failed(format!("no end after {} s", CHECK_TIME_MAX.as_secs())),
    }
}

/// The endpoints, of which at least one takes offers.
async fn prepare(options: &Options) -> Result<(Pair, Vec<String>), RunError> {
    let mut named = BTreeMap::new();
    for (protocol, url) in [(Protocol::Whip, &options.whip), (Protocol::Whep, &options.whep)] {
        if let Some(url) = url {
            named.insert(protocol, (parse(url)?, true));
        }
    }
    if let Some(url) = &options.url {
        let parsed = parse(url)?;
        let protocol = protocol_of(&parsed).ok_or_else(|| RunError::Protocol { url: url.clone() })?;
        named.entry(protocol).or_insert((parsed.clone(), true));
        let (other, guessed) = other_of(&parsed, protocol);
        named.entry(other).or_insert((guessed, false));
    }
    if named.is_empty() {
        return Err(RunError::NoUrl);
    }
    let servers: Vec<&Url> = named.values().map(|(url, _)| url).collect();
    let trust = options.trusted.as_deref().map_or(Trust::System, Trust::Only);
    let http = Arc::new(Http::new(trust, &servers).map_err(RunError::Trust)?);
    let (mut pair, mut notes) = (Pair { whip: None, whep: None }, Vec::new());
    for (protocol, (url, is_named)) in named {
        let token = match protocol {
            Protocol::Whip => options.token.clone(),
            Protocol::Whep => options.view_token.clone(),
        };
        let side = Arc::new(Side::new(protocol, url, token, http.clone()));
        match (takes_offers(&side).await, is_named) {
            (Ok(()), true) => {}
            (Ok(()), false) => notes.push(format!("{} was guessed from the URL that was given", side.url)),
            (Err(error), true) => return Err(error),
            (Err(error), false) => {
                notes.push(format!("only one endpoint is tried: {error}"));
                continue;
            }
        }
        match protocol {
            Protocol::Whip => pair.whip = Some(side),
            Protocol::Whep => pair.whep = Some(side),
        }
    }
    Ok((pair, notes))
}

pub(crate) fn parse(url: &str) -> Result<Url, RunError> {
    let parsed = Url::parse(url).ok();
    let usable = parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    usable.ok_or_else(|| RunError::Url { url: url.to_owned() })
}

fn protocol_of(url: &Url) -> Option<Protocol> {
    let has =
        |word: &str| url.path_segments().is_some_and(|mut segments| segments.any(|segment| segment == word));
    match (has("whip"), has("whep")) {
        (true, false) => Some(Protocol::Whip),
        (false, true) => Some(Protocol::Whep),
        (true, true) | (false, false) => None,
    }
}

/// The endpoint on the other side, where a server names both in the same manner.
fn other_of(url: &Url, protocol: Protocol) -> (Protocol, Url) {
    let (other, from, to) = match protocol {
        Protocol::Whip => (Protocol::Whep, "whip", "whep"),
        Protocol::Whep => (Protocol::Whip, "whep", "whip"),
    };
    let path: Vec<&str> = url.path().split('/').map(|part| if part == from { to } else { part }).collect();
    let mut guessed = url.clone();
    guessed.set_path(&path.join("/"));
    (other, guessed)
}

/// Whether there is an endpoint at all: whatever it says of an offer, it knows POST.
async fn takes_offers(side: &Side) -> Result<(), RunError> {
    let url = side.url.to_string();
    let request = side.request(Method::POST, &side.url).header("content-type", crate::side::SDP);
    let reply = side.http.send(request.body(side.offer())).await;
    let reply = reply.map_err(|source| RunError::Unreachable { url: url.clone(), source })?;
    side.remember(&reply);
    side.end_sessions().await;
    match reply.status {
        // Some servers know a broadcast only while somebody publishes it, and answer preflights all the same.
        404 if is_asked_for_posts(side).await => Ok(()),
        status @ (404 | 405 | 501) => Err(RunError::NoEndpoint { url, protocol: side.protocol, status }),
        _ => Ok(()),
    }
}

async fn is_asked_for_posts(side: &Side) -> bool {
    let Ok(reply) = side.http.send(side.http.request(Method::OPTIONS, &side.url)).await else { return false };
    let names_post = |header| reply.header(header).contains("POST");
    reply.is_success()
        && (reply.header("accept-post").contains("sdp") || names_post("access-control-allow-methods"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_endpoint_is_guessed_by_its_name() {
        let url = parse("https://a.example/live/whep/show?x=1").expect("a URL");
        assert_eq!(protocol_of(&url), Some(Protocol::Whep));
        let (other, guessed) = other_of(&url, Protocol::Whep);
        assert_eq!((other, guessed.as_str()), (Protocol::Whip, "https://a.example/live/whip/show?x=1"));
        assert_eq!(protocol_of(&parse("http://a.example/show").expect("a URL")), None);
        assert!(parse("ftp://a.example/whip").is_err());
    }
}
