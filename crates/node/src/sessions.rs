//! WHIP and WHEP sessions as HTTP resources: which URL is whose, until it ends.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use egress::ViewerId;
use ingest::PublisherId;
use model::BroadcastId;
use signaling::SessionId;
use signaling::http::EntityTag;
use signaling::sdp::IceCredentials;

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

/// All sessions of this node.
#[derive(Debug, Default)]
pub struct Sessions {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    by_id: HashMap<SessionId, Session>,
    publishers: HashMap<PublisherId, SessionId>,
    viewers: HashMap<ViewerId, SessionId>,
    endings: VecDeque<Ending>,
    /// The latest ended sessions, oldest first.
    ended_ids: VecDeque<SessionId>,
}

impl Tables {
    fn end(&mut self, id: SessionId) -> Option<Session> {
        if self.ended_ids.len() == ENDED_IDS_MAX {
            self.ended_ids.pop_front();
        }
        self.ended_ids.push_back(id);
        self.by_id.remove(&id)
    }
}

impl Sessions {
    /// A session begins.
    pub fn insert(&self, resource: &Resource, peer: Peer) {
        let Resource { id, broadcast, entity_tag, peer_ice } = resource.clone();
        let mut tables = self.lock();
        match peer {
            Peer::Publisher(publisher) => tables.publishers.insert(publisher, id),
            Peer::Viewer(viewer, _) => tables.viewers.insert(viewer, id),
        };
        tables.by_id.insert(id, Session { broadcast, entity_tag, peer_ice, peer });
    }

    /// The session with this URL.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<Session> {
        self.lock().by_id.get(&id).cloned()
    }

    /// Whether this session has ended a short while ago.
    #[must_use]
    pub fn has_ended(&self, id: SessionId) -> bool {
        self.lock().ended_ids.contains(&id)
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

    /// Everybody who has a session.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.lock().by_id.values().map(|session| session.peer).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
