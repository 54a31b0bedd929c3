//! How long a session lives that nobody keeps alive (RFC 7675; RFC 9725, section 5).

use std::time::{Duration, Instant};

use super::sessions::is_gone;
use super::{Trouble, Verdict, applies_if, ensure};
use crate::peer::Peer;
use crate::side::{Session, Side};

/// Consent lasts 30 s; a server looks from time to time.
pub(crate) const DEAD_MAX: Duration = Duration::from_secs(45);
/// A session may wait 15 s for its peer; to see that it is gone takes longer.
const UNCONNECTED_MAX: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Whether a session that lives can be told from one that does not.
async fn can_be_asked(side: &Side, session: &Session) -> Result<(), Trouble> {
    let reply = side.get(&session.url).await?;
    applies_if!(
        reply.is_success(),
        "GET on a session that lives is answered {}, so its end cannot be seen",
        reply.status
    );
    Ok(())
}

/// Waits until its URL is gone.
pub(crate) async fn gone_within(side: &Side, session: &Session, patience: Duration) -> Verdict {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if is_gone(side, session).await? {
            return Ok(format!("gone after {:.0} s", begun.elapsed().as_secs_f64()));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    ensure!(false, "still there after {} s", patience.as_secs());
    Ok(String::new())
}

pub(crate) async fn a_silent_peer_is_freed(side: &Side) -> Verdict {
    // W27 waits for the same, with a peer whose restart was refused before.
    if let Some(seen) = side.end_of_silence() {
        return Ok(seen);
    }
    let (peer, session) = Peer::connect(side).await?;
    can_be_asked(side, &session).await?;
    // Without a word: no DELETE, no close_notify.
    drop(peer);
    gone_within(side, &session, DEAD_MAX).await
}

pub(crate) async fn an_unconnected_session_expires(side: &Side) -> Verdict {
    let session = side.session().await?;
    can_be_asked(side, &session).await?;
    gone_within(side, &session, UNCONNECTED_MAX).await
}
