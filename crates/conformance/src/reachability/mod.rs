//! Whether clients reach a server: HTTP, certificate, CORS, the addresses for media, UDP, TCP, TURN and a whole
//! connection, each tried from here as a client would, with advice in plain words for what does not work.
//!
//! It disturbs nobody: it publishes the built-in clip under a name of its own for a few seconds, watches as one viewer, and
//! ends both sessions. What others than this machine see it cannot know, and says so where that matters.

mod addresses;
mod certificate;
mod finding;
mod media;
mod target;
mod turn;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::WhepPeer;
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::addresses::Between;
pub use self::finding::{Check, Finding, Reachability, State};
use self::target::Target;
use crate::checks::Trouble;
use crate::checks::browsers::{check_preflight, preflight};
use crate::http::{Http, Reply, Trust};
use crate::peer::{Manner, Peer, PeerOffer};
use crate::publish::Publisher;
use crate::run::RunError;
use crate::side::{Protocol, Session, Side};

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(6);
/// Between two looks at what comes by itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// What is asked, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The server: its address, or the URL of a WHIP or WHEP endpoint.
    pub url: String,
    /// The broadcast that is published to and watched. Without it one that the URL names is watched, or one of the check's
    /// own, which it publishes.
    pub broadcast: Option<String>,
    /// Bearer token for publishing.
    pub token: Option<String>,
    /// Bearer token for watching.
    pub view_token: Option<String>,
    /// Certificates of authorities to trust over HTTPS, PEM, in place of the system's.
    pub trusted: Option<Vec<u8>>,
}

/// Tries everything, and tells what was found.
///
/// # Errors
/// [`RunError`] if the URL is none.
pub async fn check(options: Options) -> Result<Reachability, RunError> {
    let target = Target::parse(&options.url, options.broadcast.as_deref())?;
    let mut found =
        Reachability { url: options.url.clone(), from: None, is_good: false, findings: Vec::new() };
    if let Some(server) = reach(&target, &mut found).await {
        let from = media::facing(server).await.unwrap_or_else(|_| server.ip());
        found.from = Some(from);
        let is_trusted = secure(&target, server, options.trusted.as_deref(), &mut found).await;
        let trust = match &options.trusted {
            _ if !is_trusted => Trust::Anybody,
            Some(pem) => Trust::Only(pem),
            None => Trust::System,
        };
        let http = Arc::new(Http::new(trust, &[&target.whip, &target.whep]).map_err(RunError::Trust)?);
        let between = Between { server: server.ip(), from };
        let side = |protocol, url: &Url, token: &Option<String>| {
            Arc::new(Side::new(protocol, url.clone(), token.clone(), http.clone()))
        };
        let whip = side(Protocol::Whip, &target.whip, &options.token);
        let whep = side(Protocol::Whep, &target.whep, &options.view_token);
        found.findings.extend(both(&whip, &whep, between).await);
    }
    let has = |state| found.findings.iter().any(|finding| finding.state == state);
    let is_connected = |finding: &Finding| finding.check == Check::Connection && finding.state == State::Good;
    found.is_good = !has(State::Bad) && found.findings.iter().any(is_connected);
    Ok(found)
}

/// Resolves the name and connects to each of its addresses. Gives the first that takes a connection.
async fn reach(target: &Target, found: &mut Reachability) -> Option<SocketAddr> {
    let (host, port) = (target.host(), target.port());
    let resolved: Vec<SocketAddr> = match tokio::net::lookup_host((host.as_str(), port)).await {
        Ok(resolved) => resolved.take(ADDRESSES_MAX).collect(),
        Err(_) => Vec::new(),
    };
    if resolved.is_empty() {
        let said = format!("the name {host} has no address");
        let advice = format!(
            "Make an A record (and AAAA for IPv6) for {host} in the DNS, or look for a slip in the name."
        );
        found.findings.push(Finding::bad(Check::Name, said).advise(advice));
        return None;
    }
    let connecting = resolved.iter().map(|address| async move {
        let begun = Instant::now();
        let connected = timeout(PATIENCE, TcpStream::connect(address)).await;
        let connected = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        (*address, connected.map(|_| begun.elapsed()))
    });
    let connected = futures_util::future::join_all(connecting).await;
    let first = connected.iter().find(|(_, outcome)| outcome.is_ok()).map(|(address, _)| *address);
    for (address, outcome) in &connected {
        let finding = match outcome {
            Ok(time) => {
                let said =
                    format!("{address} takes connections, after {:.0} ms", time.as_secs_f64() * 1000.0);
                Finding::good(Check::Http, said)
            }
            Err(error) => unreached(*address, error, first.is_some()),
        };
        found.findings.push(finding);
    }
    first
}

fn unreached(address: SocketAddr, error: &std::io::Error, is_another_reached: bool) -> Finding {
    let port = address.port();
    let (said, advice) = if error.kind() == std::io::ErrorKind::ConnectionRefused {
        (
            format!("{address} refuses connections"),
            format!(
                "Nothing listens there: is the node running, on this port, and not on 127.0.0.1 alone? (--http 0.0.0.0:{port})"
            ),
        )
    } else {
        (
            format!("{address} does not answer ({error})"),
            format!("Open TCP port {port} in the machine's firewall and in the provider's (security group)."),
        )
    };
    if is_another_reached {
        let family = if address.is_ipv6() { "AAAA" } else { "A" };
        let advice =
            format!("{advice} Or take the {family} record out of the DNS: clients try it first and wait.");
        return Finding::warning(Check::Http, said).advise(advice);
    }
    Finding::bad(Check::Http, said).advise(advice)
}

/// The certificate, or its lack. Gives whether clients trust it.
async fn secure(
    target: &Target,
    server: SocketAddr,
    trusted: Option<&[u8]>,
    found: &mut Reachability,
) -> bool {
    if target.is_tls() {
        let finding = certificate::judge(&target.host(), server, trusted).await;
        let is_trusted = finding.state != State::Bad;
        found.findings.push(finding);
        return is_trusted;
    }
    if !server.ip().is_loopback() {
        let said = "plain HTTP: tokens can be read on the way, and browsers let nobody publish from a page";
        found.findings.push(
            Finding::warning(Check::Certificate, said)
                .advise("Give the node --tls-certificate and --tls-key, or let a proxy in front speak TLS."),
        );
    }
    true
}

/// A publisher, and a viewer while it is on air.
async fn both(whip: &Arc<Side>, whep: &Arc<Side>, between: Between) -> Vec<Finding> {
    let (publishing, peer) = endpoint(whip, between, false).await;
    let publisher = match peer {
        Some((Peer::Publisher(peer), session)) => Some(Publisher::of(whip, (peer, session.url), Vec::new())),
        Some((Peer::Viewer(_), _)) | None => None,
    };
    let is_on_air =
        publisher.is_some() && whip.url.path().rsplit('/').next() == whep.url.path().rsplit('/').next();
    let (mut watching, peer) = endpoint(whep, between, is_on_air).await;
    if let Some((Peer::Viewer(viewer), _)) = peer {
        watching.push(media_arrives(&viewer, is_on_air).await);
    }
    if let Some(publisher) = publisher {
        publisher.stop().await;
    }
    for side in [whip, whep] {
        side.end_sessions().await;
    }
    let of = |protocol| move |finding| Finding { side: Some(protocol), ..finding };
    let publishing = publishing.into_iter().map(of(Protocol::Whip));
    publishing.chain(watching.into_iter().map(of(Protocol::Whep))).collect()
}

/// Whether packets of a broadcast come that is on air, or may be.
async fn media_arrives(viewer: &WhepPeer, is_on_air: bool) -> Finding {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let stats = viewer.stats();
        if stats.video.packets > 0 && stats.audio.packets > 0 {
            return Finding::good(Check::Media, format!("picture and sound come, {} later", millis(begun)));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let stats = viewer.stats();
    let said = match (stats.video.packets > 0, stats.audio.packets > 0) {
        (true, _) => "a picture comes, and no sound",
        (false, true) => "sound comes, and no picture",
        (false, false) if is_on_air => {
            return Finding::bad(Check::Media, "a viewer is connected and nothing comes of what is published").advise(
                "Look at the tree (media-tree tree, media-tree node list): has the viewers' node a parent that lives?",
            );
        }
        (false, false) => "a viewer is connected; nobody seems to be on air",
    };
    Finding::note(Check::Media, said)
}

/// What was found at one endpoint, and the connection that came of it.
type Endpoint = (Vec<Finding>, Option<(Peer, Session)>);

/// CORS, a session, its addresses, and what gets through.
async fn endpoint(side: &Side, between: Between, is_on_air: bool) -> Endpoint {
    let mut findings = vec![cors(side).await];
    if findings[0].state == State::Bad {
        return (findings, None);
    }
    let (offer, session, begun) = match session(side, is_on_air).await {
        Ok(answered) => answered,
        Err(finding) => {
            findings.push(finding);
            return (findings, None);
        }
    };
    let between = moved(side, &session, between, &mut findings).await;
    let peer = through(side, (offer, &session, begun), between, &mut findings).await;
    (findings, peer.map(|peer| (peer, session)))
}

async fn cors(side: &Side) -> Finding {
    let url = &side.url;
    let methods = ["POST"];
    match preflight(side, url, "POST").await {
        Ok(reply) if matches!(reply.status, 404 | 405 | 501) => {
            let said = format!("{url} answers {}: there is no {} endpoint", reply.status, side.protocol);
            Finding::bad(Check::Browsers, said)
                .advise("Look for a slip in the URL; a proxy in front has to pass /whip/ and /whep/ on, OPTIONS, too.")
        }
        Ok(reply) => match check_preflight(&reply, "the endpoint", &methods) {
            Ok(()) => Finding::good(Check::Browsers, "pages of other origins may ask (CORS)"),
            Err(Trouble::Failed(why) | Trouble::Skipped(why)) => Finding::warning(Check::Browsers, why).advise(
                "Pages of other sites cannot use this server: a proxy in front has to pass OPTIONS on and to leave the \
                 Access-Control headers as they are.",
            ),
        },
        Err(Trouble::Failed(why) | Trouble::Skipped(why)) => Finding::bad(Check::Http, why)
            .advise("Something takes connections there and speaks no HTTP: is it the right port, and http or https?"),
    }
}

/// A session with an offer of a real peer, and when it was asked for. What has just gone on air is known to all nodes soon.
async fn session(side: &Side, is_on_air: bool) -> Result<(PeerOffer, Session, Instant), Finding> {
    let told = |trouble: Trouble| match trouble {
        Trouble::Failed(why) => Finding::bad(Check::Session, why),
        Trouble::Skipped(why) => Finding::skipped(Check::Session, why),
    };
    let offer = PeerOffer::new(side, &Manner::default()).await.map_err(told)?;
    let first = Instant::now();
    let (mut begun, mut reply) = (first, side.post(&offer.description()).await.map_err(told)?);
    while is_on_air && matches!(reply.status, 404 | 409) && first.elapsed() < PATIENCE {
        tokio::time::sleep(LOOK_INTERVAL).await;
        (begun, reply) = (Instant::now(), side.post(&offer.description()).await.map_err(told)?);
    }
    if reply.status != 201 {
        return Err(refused(side, &reply));
    }
    let session = side.session_of(reply, offer.description()).map_err(told)?;
    Ok((offer, session, begun))
}

fn refused(side: &Side, reply: &Reply) -> Finding {
    let said = format!("the offer is answered {}", reply.said());
    let (flag, verb) = match side.protocol {
        Protocol::Whip => ("--token", "publish"),
        Protocol::Whep => ("--view-token", "watch"),
    };
    match reply.status {
        401 | 403 if side.token.is_some() => {
            Finding::bad(Check::Session, said).advise(format!("This token does not let {verb}: give another with {flag}."))
        }
        401 | 403 => Finding::skipped(Check::Session, "a token is asked for")
            .advise(format!("Give one that lets {verb}, with {flag}.")),
        404 | 409 => Finding::skipped(Check::Session, said).advise(
            "Give a token to publish with, or name a broadcast: to watch one that is on air, with its WHEP URL; to publish, \
             one that the server takes and that nobody publishes, with --broadcast NAME.",
        ),
        429 | 503 => Finding::bad(Check::Session, said)
            .advise("The server is too busy, or draining, or no node takes part: look at its status and try again."),
        _ => Finding::bad(Check::Session, said).advise("Look into the log of the node: it says why."),
    }
}

/// Between whom media goes, where HTTP has sent the client on to another node.
async fn moved(side: &Side, session: &Session, between: Between, findings: &mut Vec<Finding>) -> Between {
    if session.reply.redirects.is_empty() {
        return between;
    }
    let url = &session.reply.url;
    let place = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let said = format!("{} was sent on to {}", side.protocol, url.origin().ascii_serialization());
    findings.push(Finding::note(Check::Session, said));
    let port = url.port_or_known_default().unwrap_or(443);
    let Ok(mut resolved) = tokio::net::lookup_host((place.as_str(), port)).await else { return between };
    let Some(server) = resolved.next() else { return between };
    let from: IpAddr = media::facing(server).await.unwrap_or(between.from);
    Between { server: server.ip(), from }
}

/// The addresses, and what gets through to them.
async fn through(
    side: &Side,
    (mut offer, session, begun): (PeerOffer, &Session, Instant),
    between: Between,
    findings: &mut Vec<Finding>,
) -> Option<Peer> {
    let Some(server) = crate::fragment::ice_of(session.answer()) else {
        findings.push(Finding::bad(Check::Session, "the answer has no ICE credentials"));
        return None;
    };
    findings.push(Finding::good(Check::Session, format!("an offer is answered after {}", millis(begun))));
    findings.extend(addresses::judge(between, &server.candidates));
    let ufrag = offer.ice().ufrag;
    let ((udp, is_through), tcp) =
        tokio::join!(media::over_udp(between, &server, &ufrag), media::over_tcp(&server, &ufrag));
    findings.extend([udp, tcp]);
    // They are the same for everybody.
    if side.protocol == Protocol::Whep {
        findings.extend(turn::servers(&session.links()).await);
    }
    if !is_through {
        findings.push(Finding::skipped(Check::Connection, "not tried, since nothing gets through over UDP"));
        return None;
    }
    let asked = Instant::now();
    match offer.accept(session.answer()).await {
        Ok(peer) => {
            let said = format!("connected {} after the answer (ICE and DTLS)", millis(asked));
            findings.push(Finding::good(Check::Connection, said));
            Some(peer)
        }
        Err(Trouble::Failed(why) | Trouble::Skipped(why)) => {
            findings.push(Finding::bad(Check::Connection, why).advise(
                "Checks get through and DTLS does not: is there a firewall that looks into UDP, or drops large packets?",
            ));
            None
        }
    }
}

fn millis(since: Instant) -> String {
    format!("{:.0} ms", since.elapsed().as_secs_f64() * 1000.0)
}

impl Target {
    fn host(&self) -> String {
        host(&self.whep)
    }

    fn port(&self) -> u16 {
        self.whep.port_or_known_default().unwrap_or(443)
    }

    fn is_tls(&self) -> bool {
        self.whep.scheme() == "https"
    }
}

/// The host of a URL, an IPv6 address without its brackets.
fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned()
}
