//! Publishers of this node: their peers, and the broadcasts they keep going.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest::{Origin, OriginConfig, OriginOutput, Publisher, PublisherId, SecondPublisher};
use link::exchange::Exchange;
use model::{BroadcastId, Epoch, Kind, NtpTime, Ssrc};
use tokio::sync::mpsc;

use super::handle::{Publish, PublishEncoded, PublishError};
use crate::advice::Patient;
use crate::clock::unix_time;
use crate::control::Published;
use crate::events::NodeEvent;
use crate::random;
use crate::session_records::PublisherRecords;
use crate::sessions::IceRestart;

mod cues;
mod peer;
mod resume;
mod stats;

use cues::Intake;
use peer::Peer;
pub use stats::Stats;
use stats::{Past, Present};

/// Rules for publishers.
pub struct Config {
    /// Broadcasts known before anybody publishes them.
    pub declared: Vec<BroadcastId>,
    /// How long a broadcast without publisher is kept.
    pub grace: Duration,
    /// What a second publisher meets.
    pub second_publisher: SecondPublisher,
    /// Publishers at once.
    pub publishers_max: usize,
    /// The certificate of their DTLS associations.
    pub certificate: ingest::Certificate,
    /// Who tells the installation what is published here.
    pub published: Arc<Published>,
}

impl Config {
    /// From the configuration of the node, and its certificate.
    #[must_use]
    pub fn new(
        config: &config::Config,
        certificate: &ice_dtls::Certificate,
        published: Arc<Published>,
    ) -> Self {
        Self {
            published,
            declared: config.node.broadcasts.clone(),
            grace: config.ingest.grace_period.get(),
            second_publisher: match config.ingest.publisher_conflict {
                config::PublisherConflict::TakeOver => SecondPublisher::TakesOver,
                config::PublisherConflict::Refuse => SecondPublisher::Refused,
                config::PublisherConflict::Backup => SecondPublisher::StandsBy,
            },
            publishers_max: config.limits.publishers_max as usize,
            certificate: ingest::Certificate::new(
                certificate.certificate_der(),
                certificate.private_key_der(),
            ),
        }
    }
}

struct Session {
    broadcast: BroadcastId,
    peer: Peer,
    /// Kinds of its streams, for counters.
    kinds: BTreeMap<Ssrc, Kind>,
    since: Instant,
    is_connected: bool,
    /// The latest publishing run that the store knew when the session began.
    known_epoch: Option<Epoch>,
    /// The publishing run that it was in an earlier process, until its tracks are told again.
    epoch: Option<Epoch>,
}

impl Session {
    const fn new(now: Instant, broadcast: BroadcastId, peer: Peer) -> Self {
        Self {
            broadcast,
            peer,
            kinds: BTreeMap::new(),
            since: now,
            is_connected: false,
            known_epoch: None,
            epoch: None,
        }
    }
}

impl Session {
    fn request_keyframes(&mut self) {
        for (ssrc, _) in self.kinds.iter().filter(|(_, kind)| **kind == Kind::Video) {
            self.peer.request_keyframe(*ssrc);
        }
    }
}

/// All publishers of this node.
pub(super) struct Publishers {
    config: Config,
    sessions: BTreeMap<PublisherId, Session>,
    by_remote: HashMap<SocketAddr, PublisherId>,
    origins: BTreeMap<BroadcastId, Origin>,
    /// What other nodes publish, and in which runs; told only where second publishers stand by.
    elsewhere: BTreeMap<BroadcastId, Epoch>,
    /// They have goodbyes to say.
    closing: Vec<PublisherId>,
    /// Of publishers that are gone.
    past: Past,
    /// What publishers say beside their media.
    cues: Intake,
    events: mpsc::UnboundedSender<NodeEvent>,
    records: Option<PublisherRecords>,
    /// The counter of this process's key generation.
    generation: u32,
}

impl Publishers {
    pub(super) fn new(
        config: Config,
        events: mpsc::UnboundedSender<NodeEvent>,
        records: Option<PublisherRecords>,
        cues: telemetry::injection::Cues,
    ) -> Self {
        Self {
            records,
            cues: Intake::new(cues),
            generation: 0,
            config,
            sessions: BTreeMap::new(),
            by_remote: HashMap::new(),
            origins: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            closing: Vec::new(),
            past: Past::default(),
            events,
        }
    }

    /// Takes a publisher, or says why not.
    pub(super) fn publish(&mut self, now: Instant, publish: Publish, exchange: &mut Exchange) {
        let reply = match self.accept(now, &publish) {
            Ok(answer) => Ok(answer),
            Err(error) => {
                // Whoever finds no place may wait and try again; what becomes of that is logged there.
                if !matches!(error, PublishError::Full) {
                    tracing::info!(broadcast = %publish.resource.broadcast, %error, "publisher not taken");
                }
                Err(error)
            }
        };
        self.drain_origins(now, exchange);
        if publish.reply.send(reply).is_err() {
            // Whoever asked has gone: nobody knows the session's URL.
            self.unpublish(now, publish.publisher);
        }
    }

    /// Takes a publisher whose media a task beside this thread makes packets of, or says why not.
    pub(super) fn publish_encoded(&mut self, now: Instant, publish: PublishEncoded) {
        let PublishEncoded { publisher, broadcast, known_epoch, close, reply } = publish;
        let room = self.room(&broadcast);
        if let Err(error) = &room {
            tracing::info!(%broadcast, %error, "publisher not taken");
        } else {
            let session = Session { known_epoch, ..Session::new(now, broadcast, Peer::encoded(close)) };
            self.sessions.insert(publisher, session);
        }
        if reply.send(room).is_err() {
            self.unpublish(now, publisher);
        }
    }

    /// The task of a publisher has more of it.
    pub(super) fn encoded(
        &mut self,
        publisher: PublisherId,
        outputs: Vec<ingest::Output>,
        stats: ingest::Stats,
    ) {
        if let Some(session) = self.sessions.get_mut(&publisher) {
            session.peer.take(outputs, stats);
        }
    }

    /// Datagrams came that belonged to no publisher.
    pub(super) const fn dropped(&mut self, drops: &ingest::Drops) {
        self.past.dropped(drops);
    }

    /// Whether there is room for one more publisher of this broadcast.
    fn room(&self, broadcast: &BroadcastId) -> Result<(), PublishError> {
        if self.sessions.len() >= self.config.publishers_max {
            return Err(PublishError::Full);
        }
        self.origins
            .get(broadcast)
            .map_or(Ok(()), |origin| origin.check().map_err(|_| PublishError::Occupied))
    }

    fn accept(&mut self, now: Instant, publish: &Publish) -> Result<String, PublishError> {
        self.room(&publish.resource.broadcast)?;
        let random = random::bytes().map_err(|_| PublishError::Full)?;
        let setup = ingest::Setup {
            ice: ingest::IceCredentials {
                ufrag: publish.ice.ufrag().to_owned(),
                password: publish.ice.pwd().to_owned().into(),
            },
            certificate: self.config.certificate.clone(),
            local_addresses: publish.local_addresses.clone(),
            identity: ingest::Identity(random),
            now,
        };
        let (peer, answer) = Publisher::accept(&publish.offer, setup)
            .map_err(|error| PublishError::Offer(error.to_string()))?;
        let session = Session {
            known_epoch: publish.known_epoch,
            ..Session::new(now, publish.resource.broadcast.clone(), Peer::WebRtc(Box::new(peer)))
        };
        self.sessions.insert(publish.publisher, session);
        if let Some(records) = &mut self.records {
            records.expect(publish.publisher, publish.resource.clone());
        }
        Ok(answer)
    }

    fn origin_config(&self, id: &BroadcastId) -> OriginConfig {
        OriginConfig {
            grace: self.config.grace,
            is_declared: self.config.declared.contains(id),
            second_publisher: self.config.second_publisher,
            ..OriginConfig::default()
        }
    }

    fn origin(&mut self, now: Instant, id: &BroadcastId) -> &mut Origin {
        let (config, elsewhere) = (self.origin_config(id), self.elsewhere.get(id).copied());
        self.origins.entry(id.clone()).or_insert_with(|| {
            let mut origin = Origin::new(id.clone(), config, now);
            origin.published_elsewhere(elsewhere);
            origin
        })
    }

    /// Other nodes publish these broadcasts now, and no others.
    pub(super) fn published_elsewhere(&mut self, elsewhere: BTreeMap<BroadcastId, Epoch>) {
        for (id, origin) in &mut self.origins {
            origin.published_elsewhere(elsewhere.get(id).copied());
        }
        self.elsewhere = elsewhere;
    }

    /// Ends a publisher's session.
    pub(super) fn unpublish(&mut self, now: Instant, publisher: PublisherId) {
        if let Some(session) = self.sessions.get_mut(&publisher) {
            session.peer.close(now);
            self.closing.push(publisher);
        }
    }

    /// From now on a publisher's checks are made with other credentials. False if there is none that makes checks.
    pub(super) fn restart_ice(&mut self, now: Instant, id: PublisherId, restart: IceRestart) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        if !session.peer.restart_ice(&restart) {
            return false;
        }
        if let Some(records) = &mut self.records {
            records.restarted(id, restart.remote, restart.entity_tag);
            put_record(now, records, id, session, &self.origins);
        }
        true
    }

    /// Ends all sessions.
    pub(super) fn close_all(&mut self, now: Instant) {
        for session in self.sessions.values_mut() {
            session.peer.close(now);
        }
    }

    /// Hands a datagram to the peer it belongs to; false if there is none.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        wallclock: NtpTime,
        source: SocketAddr,
        destination: SocketAddr,
        bytes: &[u8],
    ) -> bool {
        let known = self.by_remote.get(&source).copied();
        let known = known
            .filter(|id| self.sessions.get(id).is_some_and(|session| session.peer.accepts(source, bytes)));
        let id = known.or_else(|| {
            self.sessions.iter().find(|(_, session)| session.peer.accepts(source, bytes)).map(|(id, _)| *id)
        });
        let Some((id, session)) = id.and_then(|id| Some((id, self.sessions.get_mut(&id)?))) else {
            return false;
        };
        session.peer.handle_datagram(now, wallclock, (source, destination), bytes);
        // Only an address that has proved itself is remembered.
        if session.peer.accepts(source, &[]) && self.by_remote.insert(source, id) != Some(id) {
            let peer = &session.peer;
            self.by_remote.retain(|address, publisher| *publisher != id || peer.accepts(*address, &[]));
        }
        true
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for session in self.sessions.values_mut() {
            if session.peer.poll_timeout().is_some_and(|at| at <= now) {
                session.peer.handle_timeout(now);
            }
        }
        for origin in self.origins.values_mut() {
            origin.handle_timeout(now);
        }
        if self.records.as_mut().is_some_and(|records| records.handle_timeout(now)) {
            self.put_records(now);
        }
    }

    /// Brings all records up to date.
    pub(super) fn put_records(&mut self, now: Instant) {
        let Self { records: Some(records), sessions, origins, .. } = self else { return };
        for (id, session) in sessions {
            put_record(now, records, *id, session, origins);
        }
    }

    /// Leaves publishers and rings to the next process.
    pub(super) fn hand_over(&mut self, now: Instant, exchange: &Exchange) {
        self.put_records(now);
        if let Some((records, handover)) = self.records.as_mut().zip(exchange.hand_over()) {
            records.hand_over(now, &handover);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.sessions.values().filter_map(|session| session.peer.poll_timeout());
        let origins = self.origins.values().filter_map(Origin::poll_timeout);
        let records = self.records.as_ref().and_then(PublisherRecords::poll_timeout);
        peers.chain(origins).chain(records).min()
    }

    /// Asks the publisher of this stream for a keyframe.
    pub(super) fn request_keyframe(&mut self, ssrc: Ssrc) {
        if let Some(session) = self.sessions.values_mut().find(|session| session.kinds.contains_key(&ssrc)) {
            session.peer.request_keyframe(ssrc);
        }
    }

    /// Carries out all that peers and origins want.
    pub(super) fn drain(&mut self, now: Instant, exchange: &mut Exchange, out: &mut udp_batch::SendQueue) {
        let ids: Vec<PublisherId> = self.sessions.keys().copied().collect();
        for id in ids {
            self.drain_peer(now, id, exchange, out);
        }
        while let Some(id) = self.closing.pop() {
            self.drain_peer(now, id, exchange, out);
        }
        self.drain_origins(now, exchange);
    }

    fn drain_peer(
        &mut self,
        now: Instant,
        id: PublisherId,
        exchange: &mut Exchange,
        out: &mut udp_batch::SendQueue,
    ) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        let mut end = None;
        while let Some(output) = session.peer.poll_output() {
            match output {
                ingest::Output::Transmit { source, destination, bytes } => {
                    out.push(source.ip(), destination, bytes.len(), |buffer| {
                        buffer[..bytes.len()].copy_from_slice(&bytes);
                        bytes.len()
                    });
                }
                ingest::Output::Connected => {
                    if !std::mem::replace(&mut session.is_connected, true) {
                        let after = now.saturating_duration_since(session.since);
                        let _ = self.events.send(NodeEvent::PublisherConnected { publisher: id, after });
                    }
                    self.put_record(now, id, &session);
                }
                ingest::Output::Tracks(tracks) => {
                    session.kinds = tracks
                        .iter()
                        .flat_map(|track| track.layers.iter().map(|layer| (layer.ssrc, track.kind())))
                        .collect();
                    if let Err(error) = self.started(now, id, &mut session, tracks) {
                        tracing::info!(broadcast = %session.broadcast, %error, "publisher refused");
                        session.peer.close(now);
                    }
                    // The tree must know the streams before their packets.
                    self.drain_origins(now, exchange);
                    self.put_record(now, id, &session);
                }
                ingest::Output::Packet(packet) => {
                    let origin = self.origins.get_mut(&session.broadcast);
                    if origin.is_some_and(|origin| origin.heard(id, now)) {
                        exchange.published(now, packet);
                    }
                }
                ingest::Output::Cue { captured, document } => {
                    let broadcast = session.broadcast.clone();
                    self.cue(now, (&broadcast, Some(id)), (captured, &document), exchange);
                }
                ingest::Output::Closed(reason) => end = Some(reason.to_string()),
            }
        }
        match end {
            None => {
                self.sessions.insert(id, session);
            }
            Some(reason) => self.ended(now, id, session, reason),
        }
    }

    fn put_record(&mut self, now: Instant, id: PublisherId, session: &Session) {
        if let Some(records) = &mut self.records {
            put_record(now, records, id, session, &self.origins);
        }
    }

    fn started(
        &mut self,
        now: Instant,
        id: PublisherId,
        session: &mut Session,
        tracks: Vec<model::Track>,
    ) -> anyhow::Result<()> {
        if let Some(epoch) = session.epoch.take() {
            let origin = self.origin(now, &session.broadcast);
            anyhow::ensure!(origin.broadcast().epoch <= Some(epoch), "a later publisher goes on");
            origin.publisher_resumed(id, epoch, tracks);
            return Ok(());
        }
        let least = session.known_epoch.map_or(0, |known| known.counter.saturating_add(1));
        let drawn = Epoch {
            counter: least.max(unix_time().as_millis() as u64),
            random: u64::from_be_bytes(random::bytes()?),
        };
        let origin = self.origin(now, &session.broadcast);
        if origin.publisher() == Some(id) && origin.broadcast().state == model::BroadcastState::Live {
            origin.tracks_changed(id, tracks);
        } else {
            origin.publisher_started(id, tracks, drawn)?;
        }
        Ok(())
    }

    fn ended(&mut self, now: Instant, id: PublisherId, session: Session, reason: String) {
        let Session { broadcast, peer, is_connected, .. } = session;
        let published = self.origins.contains_key(&broadcast).then_some(&broadcast);
        self.past.add(published, &peer.stats());
        self.by_remote.retain(|_, publisher| *publisher != id);
        if let Some(origin) = self.origins.get_mut(&broadcast) {
            origin.publisher_gone(id, now);
        }
        if let Some(records) = &mut self.records {
            records.remove(id);
        }
        let _ = self.events.send(NodeEvent::PublisherEnded {
            publisher: id,
            broadcast,
            was_connected: is_connected,
            reason,
        });
    }

    fn drain_origins(&mut self, now: Instant, exchange: &mut Exchange) {
        let (mut ended, mut refused) = (Vec::new(), Vec::new());
        let mut is_changed = false;
        for (id, origin) in &mut self.origins {
            while let Some(output) = origin.poll_output() {
                is_changed = true;
                match output {
                    OriginOutput::Changed(broadcast) => {
                        match exchange.publish_changed(now, broadcast.clone()) {
                            Ok(()) => self.config.published.changed(broadcast),
                            Err(error) => {
                                tracing::warn!(broadcast = %id, %error, "the tree does not take the broadcast");
                                refused.extend(origin.publisher());
                            }
                        }
                    }
                    OriginOutput::PublisherReplaced { old } => {
                        tracing::info!(broadcast = %id, publisher = old.0, "another publisher takes over");
                        let _ = self.events.send(NodeEvent::PublisherTookOver);
                        if let Some(session) = self.sessions.get_mut(&old) {
                            session.peer.close(now);
                            self.closing.push(old);
                        }
                    }
                    OriginOutput::StandbyGoesOn { publisher } => {
                        tracing::info!(broadcast = %id, publisher = publisher.0, "the publisher that stood by goes on");
                        let _ = self.events.send(NodeEvent::PublisherTookOver);
                        if let Some(session) = self.sessions.get_mut(&publisher) {
                            session.request_keyframes();
                        }
                    }
                    OriginOutput::Ended => {
                        exchange.publish_retired(id);
                        self.config.published.ended(id);
                        ended.push(id.clone());
                    }
                }
            }
        }
        for id in ended {
            self.origins.remove(&id);
            self.past.forget(&id);
            self.cues.forget(&id);
        }
        if is_changed {
            self.remember_broadcasts(now);
            self.put_records(now);
        }
        for publisher in refused {
            self.unpublish(now, publisher);
        }
    }

    /// A run later than `run`, or than whatever there is, is published elsewhere: whoever publishes it here publishes into
    /// the void. A publisher that came since then has begun a later one.
    pub(super) fn superseded(&mut self, now: Instant, broadcast: &BroadcastId, run: Option<Epoch>) {
        let Some(origin) = self.origins.get(broadcast) else { return };
        let is_this_run = run.is_none() || origin.broadcast().epoch == run;
        if let (true, Some(publisher)) = (is_this_run, origin.publisher()) {
            self.unpublish(now, publisher);
        }
    }

    /// Every publisher, for the doctor.
    pub(super) fn patients(&self) -> Vec<Patient> {
        let patient = |(id, session): (&PublisherId, &Session)| Patient {
            publisher: *id,
            broadcast: session.broadcast.clone(),
            is_current: self.origins.get(&session.broadcast).and_then(Origin::publisher) == Some(*id),
            stats: session.peer.stats(),
        };
        self.sessions.iter().map(patient).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        let present = self.sessions.iter().map(|(id, session)| {
            let origin = self.origins.get(&session.broadcast);
            Present {
                broadcast: origin.map(|_| &session.broadcast),
                is_current: origin.and_then(Origin::publisher) == Some(*id),
                stats: session.peer.stats(),
            }
        });
        self.past.with(present)
    }
}

/// Writes the record of a publisher, if it is connected and the record changed.
fn put_record(
    now: Instant,
    records: &mut PublisherRecords,
    id: PublisherId,
    session: &Session,
    origins: &BTreeMap<BroadcastId, Origin>,
) {
    let origin = origins.get(&session.broadcast).filter(|origin| origin.publisher() == Some(id));
    let epoch = origin.and_then(|origin| origin.broadcast().epoch);
    records.put(now, id, session.peer.record(), epoch);
}
