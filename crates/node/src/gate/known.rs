//! With which token each session was made.

use std::collections::{HashMap, VecDeque};

use access::Credential;
use signaling::SessionId;

/// Sessions remembered; of older ones the token is checked as if it were new.
const SESSIONS_MAX: usize = 65_536;

/// The latest sessions.
#[derive(Default)]
pub struct KnownSessions {
    credentials: HashMap<SessionId, Credential>,
    order: VecDeque<SessionId>,
}

impl KnownSessions {
    /// A session was made.
    pub fn insert(&mut self, session: SessionId, credential: Credential) {
        if self.order.len() >= SESSIONS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.credentials.remove(&oldest);
        }
        self.order.push_back(session);
        self.credentials.insert(session, credential);
    }

    /// What it was made with.
    pub fn get(&self, session: SessionId) -> Option<Credential> {
        self.credentials.get(&session).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_sessions_are_remembered_and_no_more() {
        let credential = access::tickets::Tickets::new(b"secret").credentials().credential("token");
        let session = |number: usize| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&(number as u32).to_be_bytes());
            SessionId::from_random(bytes)
        };
        let mut known = KnownSessions::default();
        for number in 0..=SESSIONS_MAX {
            known.insert(session(number), credential);
        }
        assert_eq!((known.get(session(0)), known.get(session(1))), (None, Some(credential)));
        assert_eq!((known.credentials.len(), known.order.len()), (SESSIONS_MAX, SESSIONS_MAX));
    }
}
