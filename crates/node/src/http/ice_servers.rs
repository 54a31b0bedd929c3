//! The STUN and TURN servers that clients are told of with a new session (RFC 9725, section 4.6).

use std::time::Duration;

use access::turn::TurnSecret;
use config::{Ice, IceServer};
use signaling::SessionId;
use signaling::http::Link;

/// All of them.
#[derive(Debug, Default)]
pub struct IceServers {
    servers: Vec<IceServer>,
    turn: Option<TurnSecret>,
}

impl IceServers {
    /// As configured.
    pub fn new(config: &Ice) -> Self {
        let secret = config.turn_secret.as_ref();
        let turn = secret.map(|secret| TurnSecret::new(secret.expose(), config.turn_lifetime.get()));
        Self { servers: config.servers.clone(), turn }
    }

    /// For a session that begins at `wallclock`, since 1970: TURN servers with credentials that are this session's alone.
    pub fn links(&self, wallclock: Duration, session: SessionId) -> Vec<Link> {
        let credentials = self.turn.as_ref().map(|turn| turn.credentials(wallclock, &session.to_string()));
        let link = |server: &IceServer| match credentials.as_ref().filter(|_| server.is_turn()) {
            Some(turn) => Link::turn_server(server.as_str(), &turn.username, &turn.credential),
            None => Link::ice_server(server.as_str()),
        };
        // The grammar of a server and of credentials fits a header.
        self.servers.iter().filter_map(|server| link(server).ok()).collect()
    }
}
