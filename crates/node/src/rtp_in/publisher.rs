//! The task of one session description: reads its sockets, publishes what comes.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use ingest::{CloseReason, Identity, Output, PublisherId, Stats};
use model::BroadcastId;
use rtp_in::{Event, RETRY, Receiver};
use tokio::sync::oneshot;

use super::Input;
use super::listen::Port;
use crate::clock::wallclock;
use crate::http::App;
use crate::random;
use crate::sessions::WithoutUrl;
use crate::tree::{PublishEncoded, TreeHandle};

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Datagrams of one socket that are read before the others are looked at.
const BATCH: usize = 64;
/// How often dropped datagrams are told.
const DROPS_EVERY: Duration = Duration::from_secs(1);
/// How often the log names somebody who is not listened to.
const STRANGERS_EVERY: Duration = Duration::from_secs(60);

/// A run that the tree has taken.
struct Run {
    id: PublisherId,
    /// The tree has ended it.
    closed: oneshot::Receiver<()>,
}

/// Publishes one session description.
pub(super) struct Publisher {
    app: Arc<App>,
    tree: TreeHandle,
    broadcast: BroadcastId,
    receiver: Receiver,
    run: Option<Run>,
    /// Another publisher has taken the place of the last run: it is not driven out again.
    is_displaced: bool,
    /// Why it was last not let in.
    refused: Option<String>,
    told_drops_at: Instant,
    named_stranger_at: Option<Instant>,
}

impl Publisher {
    pub fn new(app: Arc<App>, tree: TreeHandle, input: Input) -> Self {
        let Input { broadcast, description, allowed, .. } = input;
        Self {
            app,
            tree,
            broadcast,
            receiver: Receiver::new(description, allowed),
            run: None,
            is_displaced: false,
            refused: None,
            told_drops_at: Instant::now(),
            named_stranger_at: None,
        }
    }

    /// Receives for ever.
    pub async fn run(mut self, ports: Vec<Port>) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let drops_at = self.told_drops_at + DROPS_EVERY;
            let wake = self.receiver.poll_timeout().map_or(drops_at, |wake| wake.min(drops_at));
            let closed = async {
                match &mut self.run {
                    Some(run) => drop((&mut run.closed).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = readable(&ports) => self.read(&ports, &mut buffer),
                () = tokio::time::sleep_until(wake.into()) => {}
                () = closed => self.displaced(),
            }
            self.receiver.handle_timeout(Instant::now());
            self.carry_out().await;
            self.tell_drops().await;
        }
    }

    fn read(&mut self, ports: &[Port], buffer: &mut [u8]) {
        let arrived = (Instant::now(), wallclock());
        for port in ports {
            for _ in 0..BATCH {
                let Ok((length, from)) = port.socket.try_recv_from(buffer) else { break };
                let datagram = &buffer[..length];
                if port.is_control {
                    self.receiver.handle_control(arrived, port.track, from, datagram);
                } else {
                    self.receiver.handle_media(arrived, port.track, from, datagram);
                }
            }
        }
    }

    /// The tree has ended the run: another publisher has its place, or an operator wants it so.
    fn displaced(&mut self) {
        tracing::info!(broadcast = %self.broadcast, "plain RTP is not published any more, though it comes");
        self.run = None;
        self.is_displaced = true;
        self.receiver.refuse(Instant::now());
    }

    async fn carry_out(&mut self) {
        let mut outputs = Vec::new();
        while let Some(event) = self.receiver.poll_event() {
            match event {
                Event::Output(output) => outputs.push(output),
                Event::PublishRequested => match self.begin().await {
                    Ok(identity) => {
                        (self.is_displaced, self.refused) = (false, None);
                        self.receiver.publish(identity);
                    }
                    Err(reason) => {
                        self.tell_refused(reason);
                        self.receiver.refuse(Instant::now());
                    }
                },
                Event::Ended { reason, stats } => {
                    outputs.push(Output::Closed(CloseReason::Connection { reason }));
                    self.send(std::mem::take(&mut outputs), *stats).await;
                    self.run = None;
                }
            }
        }
        if !outputs.is_empty() {
            let stats = self.receiver.stats(Instant::now());
            self.send(outputs, stats).await;
        }
    }

    async fn send(&self, outputs: Vec<Output>, stats: Stats) {
        if let Some(run) = &self.run {
            self.tree.encoded(run.id, outputs, stats).await;
        }
    }

    /// Asks the tree to take a run; gives what names its streams.
    async fn begin(&mut self) -> Result<Identity, String> {
        if self.app.is_draining.load(Ordering::Relaxed) {
            return Err("this server is about to stop".into());
        }
        if self.is_displaced && self.app.is_live(&self.broadcast) {
            return Err("another publisher has the broadcast".into());
        }
        // Nothing may fail once the tree has taken it.
        let identity = random::bytes().map_err(|error| error.to_string())?;
        let names = WithoutUrl::draw(None).map_err(|error| error.to_string())?;
        let id = PublisherId(self.app.next_id.fetch_add(1, Ordering::Relaxed));
        let (close, closed) = oneshot::channel();
        let (reply, outcome) = oneshot::channel();
        let control = self.app.control.as_ref();
        let publish = PublishEncoded {
            publisher: id,
            broadcast: self.broadcast.clone(),
            known_epoch: control.and_then(|control| control.front_door.epoch(&self.broadcast)),
            close,
            reply,
        };
        self.tree.publish_encoded(publish).await;
        match outcome.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_gone) => return Err("the server stops".into()),
        }
        self.run = Some(Run { id, closed });
        let join = self.app.sessions.insert_without_url(id, &self.broadcast, names, None);
        tracing::info!(broadcast = %self.broadcast, publisher = id.0, %join, "plain RTP is published");
        Ok(Identity(identity))
    }

    /// Once for each reason: it asks again every two seconds.
    fn tell_refused(&mut self, reason: String) {
        if self.refused.as_ref() != Some(&reason) {
            let (broadcast, retry) = (&self.broadcast, RETRY);
            tracing::info!(%broadcast, reason, ?retry, "plain RTP comes and is not published");
            self.refused = Some(reason);
        }
    }

    async fn tell_drops(&mut self) {
        let now = Instant::now();
        if now < self.told_drops_at + DROPS_EVERY {
            return;
        }
        self.told_drops_at = now;
        let drops = self.receiver.take_drops();
        if drops != ingest::Drops::default() {
            self.tree.dropped(drops).await;
        }
        let may_name = self.named_stranger_at.is_none_or(|at| at + STRANGERS_EVERY <= now);
        if let Some(stranger) = self.receiver.take_stranger().filter(|_| may_name) {
            self.named_stranger_at = Some(now);
            self.name_stranger(stranger);
        }
    }

    fn name_stranger(&self, stranger: SocketAddr) {
        let broadcast = &self.broadcast;
        tracing::info!(%broadcast, %stranger, "plain RTP from an address that is not listened to");
    }
}

/// Waits until one of the sockets has something.
async fn readable(ports: &[Port]) {
    poll_fn(|context| {
        let mut is_ready = false;
        // All of them are to wake the task.
        for port in ports {
            is_ready |= port.socket.poll_recv_ready(context).is_ready();
        }
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
