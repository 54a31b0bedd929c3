//! What the media threads tell the rest of the node: the fate of sessions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use egress::ViewerId;
use ice_dtls::FailureReason;
use ingest::PublisherId;
use model::{BroadcastId, JoinName, NodeId};
use signaling::whep::layers::Layer;
use tokio::sync::mpsc;
use tracing::field::{DisplayValue, display};

use crate::http::App;
use crate::sessions::{Came, Ending, Session};

/// Something happened to a session or a broadcast.
#[derive(Debug)]
pub enum NodeEvent {
    /// ICE and DTLS are done, media flows.
    ViewerConnected {
        /// Who.
        viewer: ViewerId,
        /// What it watches.
        broadcast: BroadcastId,
        /// Since its POST.
        after: Duration,
    },
    /// A viewer of an earlier process goes on.
    ViewerResumed {
        /// Who.
        viewer: ViewerId,
        /// What it watches.
        broadcast: BroadcastId,
    },
    /// The first whole keyframe has been sent.
    FirstFrame {
        /// To whom.
        viewer: ViewerId,
        /// Since its POST.
        after: Duration,
    },
    /// A viewer's connection carries no picture: it gets sound alone from now on, or its picture has come back.
    SoundOnly {
        /// Who.
        viewer: ViewerId,
        /// Whether it does without a picture.
        is_sound_only: bool,
    },
    /// The viewer is gone, or never came.
    ViewerEnded {
        /// Who.
        viewer: ViewerId,
        /// What it watched.
        broadcast: BroadcastId,
        /// Its shard.
        shard: usize,
        /// Whether it ever got media.
        was_connected: bool,
        /// Why.
        ending: ViewerEnding,
    },
    /// The layers of the pictures that a shard's viewers watch are others than they were.
    Layers {
        /// Which shard.
        shard: usize,
        /// Of each broadcast, best first.
        pictures: BTreeMap<BroadcastId, Arc<[Layer]>>,
    },
    /// ICE and DTLS are done, media may come.
    PublisherConnected {
        /// Who.
        publisher: PublisherId,
        /// Since its POST.
        after: Duration,
    },
    /// A publisher replaces another one of the same broadcast.
    PublisherTookOver,
    /// A child that takes a broadcast has what it needs to begin. Told only if its join is traced.
    ChildAnswered {
        /// What it takes.
        broadcast: BroadcastId,
        /// Its name, once it has said hello.
        child: Option<NodeId>,
        /// What whoever made it join is called.
        join: JoinName,
        /// Since it joined.
        after: Duration,
    },
    /// A broadcast is no more.
    BroadcastRetired(BroadcastId),
    /// The publisher is gone, or never came.
    PublisherEnded {
        /// Who.
        publisher: PublisherId,
        /// What it published.
        broadcast: BroadcastId,
        /// Whether media could ever flow.
        was_connected: bool,
        /// Why, in words for the log.
        reason: String,
    },
}

/// Why a viewer is gone.
#[derive(Debug, thiserror::Error)]
pub enum ViewerEnding {
    /// Its handshake failed.
    #[error(transparent)]
    Handshake(FailureReason),
    /// Its keys cannot be used.
    #[error(transparent)]
    Keys(egress::AddError),
    /// Its session was deleted over HTTP, by itself or because the node stops.
    #[error("the session was deleted")]
    Deleted,
    /// It said goodbye over DTLS or RTCP.
    #[error("the viewer said goodbye")]
    Closed,
    /// It has not been heard for too long (RFC 7675).
    #[error("the viewer fell silent")]
    ConsentExpired,
    /// A new publishing run uses a codec that it cannot take: it has to make a new session.
    #[error("the {0} codec changed to one that was not negotiated")]
    CodecNotNegotiated(model::Kind),
    /// The broadcast is no more.
    #[error("the broadcast is no more")]
    BroadcastEnded,
}

/// Makes a span of a part of a join that went well.
fn part(app: &App, name: &'static str, join: Option<JoinName>, after: Duration) {
    if let Some(join) = join {
        drop(app.traces.over(name, join, after));
    }
}

/// Makes a span of a session that was answered and then came to nothing.
fn never_connected(app: &App, name: &'static str, session: Option<Session>, reason: &str) {
    if let Some(Session { came: Came { join: Some(join), .. }, began, broadcast, .. }) = session {
        let mut span = app.traces.over(name, join, began.elapsed());
        span.broadcast(&broadcast);
        span.failed(reason);
    }
}

/// As the log has it: the name of the way in, and whence, where the log is to say so.
fn logged(came: Came) -> (Option<DisplayValue<JoinName>>, Option<DisplayValue<IpAddr>>) {
    (came.join.map(display), came.client.map(display))
}

/// Keeps sessions, directory and metrics in step with what the media threads tell.
pub async fn follow(mut events: mpsc::UnboundedReceiver<NodeEvent>, app: Arc<App>) {
    while let Some(event) = events.recv().await {
        match event {
            NodeEvent::ViewerConnected { viewer, broadcast, after } => {
                let came = app.sessions.viewer_came(viewer);
                let ((join, client_address), after_ms) = (logged(came), after.as_millis() as u64);
                tracing::info!(
                    %broadcast, viewer = viewer.get(), join, client_address, after_ms, "viewer connected"
                );
                app.pending.end(viewer);
                app.directory.viewers_changed(&broadcast, 1);
                app.metrics.viewer_connected(after);
                part(&app, "viewer connect", came.join, after);
            }
            NodeEvent::ViewerResumed { viewer, broadcast } => {
                tracing::debug!(%broadcast, viewer = viewer.get(), "viewer goes on");
                app.directory.viewers_changed(&broadcast, 1);
            }
            NodeEvent::FirstFrame { viewer, after } => {
                let session = app.sessions.of_viewer(viewer);
                let broadcast = session.as_ref().map(|session| display(&session.broadcast));
                let came = session.as_ref().map(|session| session.came).unwrap_or_default();
                let (join, after_ms) = (came.join.map(display), after.as_millis() as u64);
                tracing::info!(broadcast, viewer = viewer.get(), join, after_ms, "first frame");
                app.metrics.first_frame(after);
                part(&app, "viewer first frame", came.join, after);
            }
            NodeEvent::SoundOnly { viewer, is_sound_only } => {
                tracing::debug!(viewer = viewer.get(), is_sound_only, "what the connection carries");
                app.sessions.sound_only(viewer, is_sound_only);
            }
            NodeEvent::ViewerEnded { viewer, broadcast, shard, was_connected, ending } => {
                let (join, client_address) = logged(app.sessions.viewer_came(viewer));
                tracing::info!(
                    %broadcast, viewer = viewer.get(), join, client_address, was_connected, reason = %ending,
                    "viewer gone"
                );
                if was_connected {
                    app.directory.viewers_changed(&broadcast, -1);
                } else {
                    app.pending.end(viewer);
                    app.metrics.viewer_not_connected(match &ending {
                        ViewerEnding::Handshake(reason) => Some(reason),
                        _ => None,
                    });
                }
                app.shards[shard].occupied.fetch_sub(1, Ordering::Relaxed);
                let session = app.sessions.end_viewer(viewer);
                let reason = ending.to_string();
                if !was_connected {
                    never_connected(&app, "viewer connect", session, &reason);
                }
                app.sessions.ended(Ending { at: SystemTime::now(), role: "viewer", broadcast, reason });
            }
            NodeEvent::Layers { shard, pictures } => app.layers_changed(shard, pictures),
            NodeEvent::PublisherConnected { publisher, after } => {
                let came = app.sessions.publisher_came(publisher);
                let ((join, client_address), after_ms) = (logged(came), after.as_millis() as u64);
                tracing::info!(
                    publisher = publisher.0,
                    join,
                    client_address,
                    after_ms,
                    "publisher connected"
                );
                app.metrics.publisher_connected(after);
                part(&app, "publisher connect", came.join, after);
            }
            NodeEvent::PublisherTookOver => app.metrics.publisher_took_over(),
            NodeEvent::ChildAnswered { broadcast, child, join, after } => {
                let mut span = app.traces.over("link join", join, after);
                span.broadcast(&broadcast);
                if let Some(child) = child {
                    span.text("media_tree.child", child);
                }
            }
            NodeEvent::BroadcastRetired(broadcast) => {
                app.metrics.broadcast_retired(&broadcast, app.sessions.publishes(&broadcast));
            }
            NodeEvent::PublisherEnded { publisher, broadcast, was_connected, reason } => {
                publisher_ended(&app, publisher, broadcast, (was_connected, reason));
            }
        }
    }
}

fn publisher_ended(
    app: &App,
    publisher: PublisherId,
    broadcast: BroadcastId,
    (was_connected, reason): (bool, String),
) {
    let (join, client_address) = logged(app.sessions.publisher_came(publisher));
    tracing::info!(
        %broadcast, publisher = publisher.0, join, client_address, was_connected, reason,
        "publisher gone"
    );
    if !was_connected {
        app.metrics.publisher_not_connected();
    }
    let session = app.sessions.end_publisher(publisher);
    if !was_connected {
        never_connected(app, "publisher connect", session, &reason);
    }
    // One that never began leaves no broadcast, whose end would end its series.
    if app.directory.get(&broadcast).is_none() && !app.sessions.publishes(&broadcast) {
        app.metrics.broadcast_retired(&broadcast, false);
    }
    app.sessions.ended(Ending { at: SystemTime::now(), role: "publisher", broadcast, reason });
}
