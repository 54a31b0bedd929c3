//! The publisher that checks of viewers need: the clip of `client`, on every layer that was asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::demo::{Clip, FRAME_RATE, play};
use client::{Ending, Outgoing, WhipPeer};
use model::{Kind, Rid};
use reqwest::Url;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::checks::Trouble;
use crate::peer::{Manner, Peer};
use crate::side::Side;

/// Ticks of the video's clock in a second.
const CLOCK_RATE: u32 = 90_000;

/// A publisher on air.
pub(crate) struct Publisher {
    side: Arc<Side>,
    url: Url,
    layers: watch::Sender<Vec<Rid>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Publisher {
    /// Connects and begins to send, with simulcast layers of these names or without.
    pub(crate) async fn start(side: &Arc<Side>, layers: &[&str]) -> Result<Self, Trouble> {
        let layers: Vec<Rid> = layers.iter().filter_map(|rid| Rid::new(rid).ok()).collect();
        let manner = Manner { layers: layers.clone(), ..Manner::default() };
        let (peer, session) = Peer::connect_in(side, &manner).await?;
        let Peer::Publisher(peer) = peer else {
            return Err(Trouble::Skipped("this is no endpoint to publish to".into()));
        };
        Ok(Self::of(side, (peer, session.url), layers))
    }

    /// Begins to send on a connection.
    pub(crate) fn of(side: &Arc<Side>, (peer, url): (WhipPeer, Url), layers: Vec<Rid>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (layers, sent) = watch::channel(layers);
        let task = tokio::spawn(async move {
            tokio::select! {
                _ending = on_air(&peer, &sent) => {}
                _ = stopped => {}
            }
            peer.say_goodbye().await;
        });
        Self { side: side.clone(), url, layers, stop, task }
    }

    /// From now on one of its layers is not sent.
    pub(crate) fn leave_out(&self, layer: &str) {
        self.layers.send_modify(|layers| layers.retain(|rid| rid.as_str() != layer));
    }

    /// Says goodbye and ends the session.
    pub(crate) async fn stop(self) {
        // It may have ended by itself.
        let _ = self.stop.send(());
        let _ = self.task.await;
        let _ = self.side.delete(&self.url).await;
    }
}

async fn on_air(peer: &WhipPeer, layers: &watch::Receiver<Vec<Rid>>) -> Ending {
    let clip = Clip::built_in();
    if layers.borrow().is_empty() {
        return play(&clip, peer).await;
    }
    let started = Instant::now();
    for (count, picture) in (0u32..).zip(clip.pictures.iter().cycle()) {
        tokio::time::sleep_until((started + Duration::from_secs(1) * count / FRAME_RATE).into()).await;
        let payloads = picture.payloads();
        let layers = layers.borrow().clone();
        for rid in &layers {
            for (index, payload) in payloads.iter().enumerate() {
                let packet = Outgoing {
                    kind: Kind::Video,
                    rid: Some(rid.clone()),
                    timestamp: count.wrapping_mul(CLOCK_RATE / FRAME_RATE),
                    marker: index + 1 == payloads.len(),
                    captured: Instant::now(),
                    payload: payload.clone(),
                };
                if let Err(ending) = peer.send(packet).await {
                    return ending;
                }
            }
        }
    }
    Ending::ClosedHere
}
