//! WHIP and WHEP sessions as HTTP resources: which URL is whose, until it ends.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use egress::ViewerId;
use ingest::PublisherId;
use model::{BroadcastId, JoinName, Mid, ObsVersion, TraceParent};
use signaling::SessionId;
use signaling::http::EntityTag;
use signaling::sdp::IceCredentials;

use crate::event_streams::EventStreams;
use crate::random;
use crate::session_records::Resource;

/// Endings remembered for the API.
const ENDINGS_MAX: usize = 100;
/// Ended sessions whose URLs are remembered: OBS says goodbye over DTLS first, then sends DELETE, and wants 200 for it.
const ENDED_IDS_MAX: usize = 4096;

/// Who is at the other end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A publisher.
    Publisher(PublisherId),
    /// A viewer, on this shard.
    Viewer(ViewerId, usize),
}

/// How somebody came in. Of sessions of an earlier process nothing is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Came {
    /// What the way in is called.
    pub join: Option<JoinName>,
    /// Whence, if the log is to say so: see [`Sessions::shown`].
    pub client: Option<IpAddr>,
    /// What publishes, if it says that it is OBS.
    pub obs: Option<ObsVersion>,
}

/// What changes at an ICE restart.
#[derive(Debug, Clone)]
pub struct IceRestart {
    /// Our credentials.
    pub local: ice_dtls::IceCredentials,
    /// The peer's.
    pub remote: IceCredentials,
    /// Names the new ICE session.
    pub entity_tag: EntityTag,
}

/// One session.
#[derive(Debug, Clone)]
pub struct Session {
    /// What it publishes or watches.
    pub broadcast: BroadcastId,
    /// Names its ICE session.
    pub entity_tag: EntityTag,
    /// The peer's ICE credentials.
    pub peer_ice: IceCredentials,
    /// Who it is.
    pub peer: Peer,
    /// The media id of its first m-line, whose transport is everybody's.
    pub first_mid: Option<Mid>,
    /// How it came in.
    pub came: Came,
    /// When it began, in this process.
    pub began: Instant,
    /// What it tells a viewer's player; ends with it.
    pub events: Arc<EventStreams>,
    /// How often its player may report.
    pub reports: Arc<ReportAllowance>,
    /// One PATCH at a time: of two restarts the later one holds, for its peer as for its URL.
    pub patches: Arc<tokio::sync::Mutex<()>>,
}

/// A viewer, for those who have something to tell to all.
#[derive(Debug)]
pub struct Watching {
    /// Its session.
    pub session: SessionId,
    /// What it watches.
    pub broadcast: BroadcastId,
    /// Its shard.
    pub shard: usize,
    /// Its event streams.
    pub events: Arc<EventStreams>,
}

/// Reports of one player: at first and at last, and seldom in between.
const REPORTS_BURST: f64 = 3.0;
const REPORTS_PER_SECOND: f64 = 0.2;

/// How often one player may report.
#[derive(Debug)]
pub struct ReportAllowance(Mutex<(f64, Option<Instant>)>);

impl Default for ReportAllowance {
    fn default() -> Self {
        Self(Mutex::new((REPORTS_BURST, None)))
    }
}

impl ReportAllowance {
    /// Takes one; false if there were too many.
    pub fn take(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, at) = &mut *state;
        let since = at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        *left = (*left + since.as_secs_f64() * REPORTS_PER_SECOND).min(REPORTS_BURST);
        let is_taken = *left >= 1.0;
        if is_taken {
            *left -= 1.0;
        }
        is_taken
    }
}

/// How a session ended, for the API: the one place where a peer that never connected learns why.
#[derive(Debug, Clone)]
pub struct Ending {
    /// When.
    pub at: SystemTime,
    /// `publisher` or `viewer`.
    pub role: &'static str,
    /// What it published or watched.
    pub broadcast: BroadcastId,
    /// Why, in words.
    pub reason: String,
}

/// The names of a session whose URL is told to nobody.
#[derive(Debug)]
pub struct WithoutUrl {
    join: JoinName,
    id: SessionId,
    entity_tag: EntityTag,
}

impl WithoutUrl {
    /// Draws them. The parts of the join are children of `span`.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn draw(span: Option<TraceParent>) -> anyhow::Result<Self> {
        Ok(Self {
            join: JoinName { id: u64::from_be_bytes(random::bytes()?), span },
            id: SessionId::from_random(random::bytes()?),
            entity_tag: EntityTag::from_random(random::bytes()?),
        })
    }
}

/// All sessions of this node.
#[derive(Debug, Default)]
pub struct Sessions {
    tables: Mutex<Tables>,
    /// Whether the log says whence clients came.
    shows_clients: bool,
}

#[derive(Debug, Default)]
struct Tables {
    by_id: HashMap<SessionId, Session>,
    publishers: HashMap<PublisherId, SessionId>,
    viewers: HashMap<ViewerId, SessionId>,
    /// Viewers of each broadcast.
    watched: BTreeMap<BroadcastId, u64>,
    endings: VecDeque<Ending>,
    /// The latest ended sessions, oldest first, and whether their players may still say their last words.
    ended_ids: VecDeque<(SessionId, bool)>,
}

impl Tables {
    fn end(&mut self, id: SessionId) -> Option<Session> {
        if self.ended_ids.len() == ENDED_IDS_MAX {
            self.ended_ids.pop_front();
        }
        self.ended_ids.push_back((id, true));
        let ended = self.by_id.remove(&id)?;
        self.count(&ended, -1);
        ended.events.end();
        Some(ended)
    }

    /// One more or less who watches what this session is about, if it is a viewer's.
    fn count(&mut self, session: &Session, by: i64) {
        if matches!(session.peer, Peer::Publisher(_)) {
            return;
        }
        let viewers = self.watched.entry(session.broadcast.clone()).or_default();
        *viewers = viewers.saturating_add_signed(by);
        if *viewers == 0 {
            self.watched.remove(&session.broadcast);
        }
    }
}

impl Sessions {
    /// None yet. With `shows_clients` the log says whence clients came (`log.client_addresses`).
    #[must_use]
    pub fn new(shows_clients: bool) -> Self {
        Self { tables: Mutex::default(), shows_clients }
    }

    /// The address of a client as the log may have it: not at all, unless an operator wants it.
    #[must_use]
    pub fn shown(&self, client: IpAddr) -> Option<IpAddr> {
        self.shows_clients.then(|| client.to_canonical())
    }

    /// A session begins.
    pub fn insert(&self, resource: &Resource, peer: Peer, came: Came, first_mid: Option<Mid>) {
        let Resource { id, broadcast, entity_tag, peer_ice, picture_line } = resource.clone();
        let mut tables = self.lock();
        match peer {
            Peer::Publisher(publisher) => tables.publishers.insert(publisher, id),
            Peer::Viewer(viewer, _) => tables.viewers.insert(viewer, id),
        };
        let events = Arc::new(EventStreams::new(picture_line));
        let reports = Arc::default();
        let (began, patches) = (Instant::now(), Arc::default());
        let session = Session {
            broadcast,
            entity_tag,
            peer_ice,
            peer,
            first_mid,
            came,
            began,
            events,
            reports,
            patches,
        };
        tables.count(&session, 1);
        if let Some(replaced) = tables.by_id.insert(id, session) {
            tables.count(&replaced, -1);
        }
    }

    /// A publisher's session begins that did not come over HTTP. Gives its name in logs and traces.
    pub fn insert_without_url(
        &self,
        publisher: PublisherId,
        broadcast: &BroadcastId,
        WithoutUrl { join, id, entity_tag }: WithoutUrl,
        client: Option<IpAddr>,
    ) -> JoinName {
        let resource = Resource {
            id,
            broadcast: broadcast.clone(),
            entity_tag,
            peer_ice: IceCredentials { ufrag: String::new(), pwd: String::new() },
            picture_line: None,
        };
        self.insert(
            &resource,
            Peer::Publisher(publisher),
            Came { join: Some(join), client, obs: None },
            None,
        );
        join
    }

    /// A session has other ICE credentials.
    pub fn restarted(&self, id: SessionId, restart: IceRestart) {
        if let Some(session) = self.lock().by_id.get_mut(&id) {
            (session.entity_tag, session.peer_ice) = (restart.entity_tag, restart.remote);
        }
    }

    /// The session with this URL.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<Session> {
        self.lock().by_id.get(&id).cloned()
    }

    /// Whether this session has ended a short while ago.
    #[must_use]
    pub fn has_ended(&self, id: SessionId) -> bool {
        self.lock().ended_ids.iter().any(|(ended, _)| *ended == id)
    }

    /// Takes the last words of a session that has ended a short while ago; false if they were said.
    pub fn take_last_words(&self, id: SessionId) -> bool {
        let mut tables = self.lock();
        let ended = tables.ended_ids.iter_mut().find(|(ended, _)| *ended == id);
        ended.is_some_and(|(_, has_words)| std::mem::take(has_words))
    }

    /// A viewer's session, while there is one.
    #[must_use]
    pub fn of_viewer(&self, viewer: ViewerId) -> Option<Session> {
        let tables = self.lock();
        tables.viewers.get(&viewer).and_then(|id| tables.by_id.get(id)).cloned()
    }

    /// How a viewer came in.
    #[must_use]
    pub fn viewer_came(&self, viewer: ViewerId) -> Came {
        let tables = self.lock();
        let session = tables.viewers.get(&viewer).and_then(|id| tables.by_id.get(id));
        session.map(|session| session.came).unwrap_or_default()
    }

    /// A viewer's connection carries sound alone, or a picture again: its player is told.
    pub fn sound_only(&self, viewer: ViewerId, is_sound_only: bool) {
        let tables = self.lock();
        let session = tables.viewers.get(&viewer).and_then(|id| tables.by_id.get(id));
        if let Some(session) = session {
            session.events.set_sound_only(is_sound_only);
        }
    }

    /// How a publisher came in.
    #[must_use]
    pub fn publisher_came(&self, publisher: PublisherId) -> Came {
        let tables = self.lock();
        let session = tables.publishers.get(&publisher).and_then(|id| tables.by_id.get(id));
        session.map(|session| session.came).unwrap_or_default()
    }

    /// A publisher's session ends; `None` if it had ended already.
    pub fn end_publisher(&self, publisher: PublisherId) -> Option<Session> {
        let mut tables = self.lock();
        let id = tables.publishers.remove(&publisher)?;
        tables.end(id)
    }

    /// A viewer's session ends; `None` if it had ended already.
    pub fn end_viewer(&self, viewer: ViewerId) -> Option<Session> {
        let mut tables = self.lock();
        let id = tables.viewers.remove(&viewer)?;
        tables.end(id)
    }

    /// Remembers how a session ended.
    pub fn ended(&self, ending: Ending) {
        let mut tables = self.lock();
        if tables.endings.len() == ENDINGS_MAX {
            tables.endings.pop_front();
        }
        tables.endings.push_back(ending);
    }

    /// The latest endings, newest first.
    #[must_use]
    pub fn endings(&self) -> Vec<Ending> {
        self.lock().endings.iter().rev().cloned().collect()
    }

    /// Publishers and viewers that have a session.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let tables = self.lock();
        (tables.publishers.len(), tables.viewers.len())
    }

    /// Whether somebody has a session to publish this broadcast.
    #[must_use]
    pub fn publishes(&self, broadcast: &BroadcastId) -> bool {
        let tables = self.lock();
        let is_of_it = |id| tables.by_id.get(id).is_some_and(|session| session.broadcast == *broadcast);
        tables.publishers.values().any(is_of_it)
    }

    /// Everybody who has a session.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.lock().by_id.values().map(|session| session.peer).collect()
    }

    /// How many have sessions to watch each broadcast, connected or not yet.
    #[must_use]
    pub fn watched(&self) -> Vec<(BroadcastId, u64)> {
        self.lock().watched.iter().map(|(broadcast, viewers)| (broadcast.clone(), *viewers)).collect()
    }

    /// Every viewer.
    #[must_use]
    pub fn viewers(&self) -> Vec<Watching> {
        let watching = |(id, session): (&SessionId, &Session)| match session.peer {
            Peer::Publisher(_) => None,
            Peer::Viewer(_, shard) => {
                let (broadcast, events) = (session.broadcast.clone(), session.events.clone());
                Some(Watching { session: *id, broadcast, shard, events })
            }
        };
        self.lock().by_id.iter().filter_map(watching).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(sessions: &Sessions, number: u8, broadcast: &str, peer: Peer) -> SessionId {
        let id = SessionId::from_random([number; 16]);
        let resource = Resource {
            id,
            broadcast: BroadcastId::new(broadcast).expect("an id"),
            entity_tag: EntityTag::from_random([number; 8]),
            peer_ice: IceCredentials { ufrag: "u".into(), pwd: "p".into() },
            picture_line: None,
        };
        sessions.insert(&resource, peer, Came::default(), None);
        id
    }

    #[test]
    fn viewers_are_counted_by_what_they_watch_until_they_end() {
        let sessions = Sessions::default();
        begin(&sessions, 1, "show", Peer::Publisher(PublisherId(1)));
        for number in 2..5 {
            let broadcast = if number == 2 { "other" } else { "show" };
            begin(&sessions, number, broadcast, Peer::Viewer(ViewerId::new(number.into()), 0));
        }
        let watched = |sessions: &Sessions| {
            sessions.watched().into_iter().map(|(id, viewers)| (id.to_string(), viewers)).collect::<Vec<_>>()
        };
        assert_eq!(watched(&sessions), [("other".to_owned(), 1), ("show".to_owned(), 2)]);
        let mut tables = sessions.lock();
        for number in [1, 2, 3] {
            tables.end(SessionId::from_random([number; 16]));
            tables.end(SessionId::from_random([number; 16]));
        }
        drop(tables);
        assert_eq!(watched(&sessions), [("show".to_owned(), 1)]);
    }

    #[test]
    fn the_log_has_addresses_of_clients_only_if_it_is_to() {
        let client: IpAddr = "::ffff:198.51.100.1".parse().expect("an address");
        assert_eq!(Sessions::default().shown(client), None);
        let shown = Sessions::new(true).shown(client).map(|address| address.to_string());
        assert_eq!(shown.as_deref(), Some("198.51.100.1"));
    }

    #[test]
    fn a_player_reports_now_and_then() {
        let allowance = ReportAllowance::default();
        let start = Instant::now();
        let taken = |at: u64| (0..10).filter(|_| allowance.take(start + Duration::from_secs(at))).count();
        assert_eq!([taken(0), taken(4), taken(5), taken(1000)], [3, 0, 1, 3]);
    }
}
