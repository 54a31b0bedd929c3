//! Server-sent events of viewers' sessions (draft-ietf-wish-whep, "Server Sent Events extension").

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Url};

use super::{Pair, Trouble, Verdict, applies_if, ensure};
use crate::checks::negotiation::LAYERS;
use crate::event_stream::{Event, EventStream, Next};
use crate::http::Reply;
use crate::peer::Peer;
use crate::publish::Publisher;
use crate::side::{Session, Side};

/// The relation of the extension.
pub(crate) const RELATION: &str = "urn:ietf:params:whep:ext:core:server-sent-events";
/// The types that the draft knows.
const KINDS: [&str; 6] = ["active", "inactive", "layers", "reconnect", "viewercount", "scte35"];
/// Long enough for what does not come.
pub(crate) const MOMENT: Duration = Duration::from_millis(1500);
/// How long an event may take that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Where a session makes event streams, and of which types.
pub(crate) struct Entry {
    pub(crate) url: Url,
    pub(crate) kinds: Vec<String>,
}

impl Entry {
    pub(crate) fn of(session: &Session) -> Result<Self, Trouble> {
        let link = session.links().into_iter().find(|link| link.relation() == RELATION);
        let link = link.ok_or_else(|| Trouble::Skipped("the server offers no server-sent events".into()))?;
        let kinds =
            link.parameter("events").unwrap_or_default().split(',').map(|kind| kind.trim().to_owned());
        Ok(Self {
            url: session.resolve(&link.target)?,
            kinds: kinds.filter(|kind| !kind.is_empty()).collect(),
        })
    }

    /// Skips what needs types that the server does not offer; without a list every type may be asked for.
    pub(crate) fn needs(&self, kinds: &[&str]) -> Result<(), Trouble> {
        let is_known = |kind: &str| self.kinds.is_empty() || self.kinds.iter().any(|known| known == kind);
        match kinds.iter().find(|kind| !is_known(kind)) {
            Some(lacking) => Err(Trouble::Skipped(format!("the server offers no {lacking} events"))),
            None => Ok(()),
        }
    }
}

async fn subscribe(side: &Side, entry: &Entry, body: String) -> Result<Reply, Trouble> {
    let request = side.request(Method::POST, &entry.url).header(CONTENT_TYPE, "application/json");
    side.send(request.body(body)).await
}

/// A new stream of these types; its URL.
pub(crate) async fn create(side: &Side, entry: &Entry, kinds: &[&str]) -> Result<Url, Trouble> {
    let reply = subscribe(side, entry, serde_json::json!(kinds).to_string()).await?;
    ensure!(reply.status == 201, "a stream of {kinds:?} is answered {}", reply.said());
    let location = reply.header("location");
    ensure!(!location.is_empty(), "the 201 of a stream has no Location");
    reply.url.join(location).map_err(|_| Trouble::Failed(format!("{location} is no URL")))
}

/// Begins to read as an `EventSource` does, which cannot send a token.
pub(crate) async fn listen(side: &Side, url: &Url) -> Result<EventStream, Trouble> {
    let request = side.http.request(Method::GET, url).header("accept", "text/event-stream");
    // Streams are longer than answers.
    let response = side.http.open(request.timeout(Duration::from_secs(120))).await?;
    ensure!(response.status() == 200, "GET on a stream is answered {}", response.status());
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ensure!(kind.starts_with("text/event-stream"), "a stream has Content-Type {kind:?}");
    Ok(EventStream::new(response))
}

pub(crate) async fn the_answer_names_the_entry(side: &Side) -> Verdict {
    let session = side.session().await?;
    let entry = Entry::of(&session)?;
    let unknown = entry.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str()));
    ensure!(unknown.is_none(), "the events parameter names {unknown:?}, which the draft does not know");
    create(side, &entry, &[]).await?;
    Ok(format!("events {}", entry.kinds.join(",")))
}

pub(crate) async fn streams_are_made_for_known_types(side: &Side) -> Verdict {
    let session = side.session().await?;
    let entry = Entry::of(&session)?;
    for body in [r#"["no-such-event"]"#, r#"{"active":true}"#, "[[", "[1]"] {
        let reply = subscribe(side, &entry, body.to_owned()).await?;
        ensure!(reply.status == 400, "{body} is answered {}", reply.said());
        ensure!(reply.header("location").is_empty(), "{body} is refused with a Location");
    }
    let kind = entry.kinds.first().map_or("active", String::as_str);
    create(side, &entry, &[kind]).await?;
    Ok("unknown types and malformed lists get 400, a known one a stream".into())
}

/// Somebody is on air when this is asked, and nothing else happens.
pub(crate) async fn only_what_was_asked_for_is_told(side: &Side) -> Verdict {
    let (_peer, session) = Peer::connect(side).await?;
    let entry = Entry::of(&session)?;
    entry.needs(&["active", "inactive"])?;
    let wanted = create(side, &entry, &["active"]).await?;
    match listen(side, &wanted).await?.next_within(PATIENCE).await? {
        Next::Event(Event { kind, data_lines, .. }) => {
            ensure!(kind == "active", "a stream of active alone brings {kind}");
            ensure!(data_lines == 1, "an event has {data_lines} lines of data");
        }
        Next::End | Next::Nothing => {
            return Err(Trouble::Skipped("nobody is on air, so no event comes by itself".into()));
        }
    }
    let other = create(side, &entry, &["inactive"]).await?;
    let mut reader = listen(side, &other).await?;
    let next = reader.next_within(MOMENT).await?;
    ensure!(next == Next::Nothing, "a stream of inactive alone brings {next:?} while somebody is on air");
    let deleted = side.delete(&other).await?;
    ensure!(deleted.is_success(), "DELETE of a stream is answered {}", deleted.said());
    let next = reader.next_within(PATIENCE).await?;
    ensure!(next == Next::End, "after DELETE a stream goes on with {next:?}");
    let after = side.get(&other).await?;
    ensure!(after.status == 404, "GET on a deleted stream is answered {}", after.said());
    side.delete(&session.url).await?;
    let after = side.get(&wanted).await?;
    ensure!(after.is_gone(), "GET on a stream of an ended session is answered {}", after.said());
    Ok("only subscribed types, one data line each; streams end by DELETE and with the session".into())
}

/// Nobody is on air when this is asked.
pub(crate) async fn a_stream_follows_the_publisher(pair: &Pair) -> Verdict {
    let (whep, whip) = (pair.whep()?, pair.whip()?);
    let reply = whep.post(&whep.offer()).await?;
    applies_if!(reply.status != 409, "viewers may not wait for the publisher here");
    whep.end_sessions().await;
    let (_peer, session) = Peer::connect(whep).await?;
    let entry = Entry::of(&session)?;
    entry.needs(&["active", "inactive"])?;
    let mut reader = listen(whep, &create(whep, &entry, &["active", "inactive"]).await?).await?;
    let first = reader.next_within(MOMENT).await?;
    ensure!(first == Next::Nothing, "with nobody on air a stream begins with {first:?}");
    for round in ["a publisher begins", "a publisher begins again"] {
        let publisher = Publisher::start(whip, &[]).await?;
        expect(&mut reader, "active", round).await?;
        publisher.stop().await;
        expect(&mut reader, "inactive", "the publisher ends").await?;
    }
    Ok("nothing first, then active and inactive with each publisher".into())
}

async fn expect(reader: &mut EventStream, kind: &str, when: &str) -> Result<(), Trouble> {
    match reader.next_within(PATIENCE).await? {
        Next::Event(event) => {
            ensure!(event.kind == kind, "when {when}, {} comes instead of {kind}", event.kind)
        }
        Next::End => return Err(Trouble::Failed(format!("the stream ends when {when}"))),
        Next::Nothing => return Err(Trouble::Failed(format!("no {kind} comes when {when}"))),
    }
    Ok(())
}

/// A viewer of a publisher with layers, and what it hears of them.
pub(crate) struct OfLayers {
    pub(crate) publisher: Publisher,
    pub(crate) session: Session,
    /// The first event that names a layer.
    pub(crate) first: Event,
    pub(crate) reader: EventStream,
    _peer: Peer,
}

/// Waits for the first `layers` event.
pub(crate) async fn layers_event(pair: &Pair) -> Result<OfLayers, Trouble> {
    let (whep, whip) = (pair.whep()?, pair.whip()?);
    // What is offered stands in any session.
    let session = match whep.session().await {
        Ok(session) => session,
        Err(Trouble::Failed(why) | Trouble::Skipped(why)) => {
            return Err(Trouble::Skipped(format!("nothing is known of events with nobody on air: {why}")));
        }
    };
    Entry::of(&session)?.needs(&["layers"])?;
    let publisher = Publisher::start(whip, &LAYERS).await?;
    match first_layers(whep).await {
        Ok((_peer, session, reader, first)) => Ok(OfLayers { publisher, session, first, reader, _peer }),
        Err(trouble) => {
            publisher.stop().await;
            Err(trouble)
        }
    }
}

async fn first_layers(whep: &Side) -> Result<(Peer, Session, EventStream, Event), Trouble> {
    let (peer, session) = Peer::connect(whep).await?;
    let entry = Entry::of(&session)?;
    let mut reader = listen(whep, &create(whep, &entry, &["layers"]).await?).await?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        match reader.next_within(left).await? {
            Next::Event(event) if is_told(&event) => return Ok((peer, session, reader, event)),
            // The first layers may be told one by one.
            Next::Event(_) => {}
            Next::End => return Err(Trouble::Failed("the stream of layers ends".into())),
            Next::Nothing => {
                let why = "no layers event comes that names a layer, with a simulcast publisher on air";
                return Err(Trouble::Failed(why.into()));
            }
        }
    }
}

fn is_told(event: &Event) -> bool {
    let sections = event.data.as_object();
    sections.is_some_and(|sections| {
        sections.values().any(|layers| layers.as_array().is_some_and(|list| !list.is_empty()))
    })
}
