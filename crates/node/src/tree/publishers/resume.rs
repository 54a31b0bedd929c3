//! Going on where an earlier process stopped.

use std::time::Instant;

use ingest::{Origin, Publisher};
use link::exchange::Exchange;
use link::wire::GroupKey;
use model::KeyGeneration;
use telemetry::RecordRefusal;

use super::peer::Peer;
use super::{Publishers, Session};
use crate::clock::{unix_time, wallclock};
use crate::random;
use crate::session_records::{EarlierPublisher, Memory, PublisherRecords};
use crate::sessions::{self, Sessions};

impl Publishers {
    /// Draws the group key of this process, goes on with the publishers of an earlier one, whose URLs go into `sessions`,
    /// and announces the broadcasts that are known without a publisher.
    pub(in crate::tree) fn begin(
        &mut self,
        now: Instant,
        exchange: &mut Exchange,
        out: &mut udp_batch::SendQueue,
        sessions: &Sessions,
    ) -> anyhow::Result<()> {
        let before = self.records.as_ref().map(|records| records.memory().clone()).unwrap_or_default();
        let handover = self.records.as_mut().and_then(PublisherRecords::take_handover);
        // Later processes have later generations, whatever the clock says.
        let counter = before.generation.wrapping_add(1).max(unix_time().as_secs() as u32);
        let generation = KeyGeneration { counter, random: u32::from_be_bytes(random::bytes()?) };
        self.generation = counter;
        for (id, epoch) in &before.broadcasts {
            let origin = Origin::new(id.clone(), self.origin_config(id), now).with_epoch(*epoch);
            self.origins.insert(id.clone(), origin);
        }
        self.remember_broadcasts(now);
        exchange
            .begin_generation(now, GroupKey { generation, key: random::bytes()?, salt: random::bytes()? });
        let earlier = self.records.as_mut().map(|records| records.take_earlier()).unwrap_or_default();
        for publisher in earlier {
            let id = publisher.id;
            let resumed = self.resume(now, publisher, sessions);
            let Some(records) = &mut self.records else { continue };
            match resumed {
                Ok(()) => records.resumed(),
                Err((reason, error)) => records.refuse(id, reason, &error),
            }
        }
        self.drain(now, exchange, out);
        if let Some(handover) = handover {
            exchange.take_over(now, handover);
        }
        for id in self.config.declared.clone() {
            self.origin(now, &id);
        }
        // Those that nobody publishes at the moment have told nobody of themselves.
        for origin in self.origins.values().filter(|origin| origin.publisher().is_none()) {
            let broadcast = origin.broadcast();
            if let Err(error) = exchange.publish_changed(now, broadcast.clone()) {
                tracing::warn!(broadcast = %broadcast.id, %error, "the tree does not take a broadcast that waits");
            }
        }
        Ok(())
    }

    fn resume(
        &mut self,
        now: Instant,
        earlier: EarlierPublisher,
        sessions: &Sessions,
    ) -> Result<(), (RecordRefusal, String)> {
        let EarlierPublisher { id, session, record } = earlier;
        if session.epoch.is_none() && record.has_media() {
            return Err((RecordRefusal::Superseded, "another publisher had taken over".into()));
        }
        let peer = Publisher::resume(&record, now, wallclock())
            .map_err(|error| (RecordRefusal::Unusable, error.to_string()))?;
        let broadcast = session.resource.broadcast.clone();
        tracing::info!(%broadcast, publisher = id.0, "publisher goes on");
        let came = sessions::Came::default();
        sessions.insert(&session.resource, sessions::Peer::Publisher(id), came, peer.first_mid());
        self.by_remote.insert(record.path().1, id);
        let session = Session {
            epoch: session.epoch,
            is_connected: true,
            ..Session::new(now, broadcast, Peer::WebRtc(Box::new(peer)))
        };
        self.sessions.insert(id, session);
        Ok(())
    }

    /// Writes down which broadcasts are known, if that changed.
    pub(super) fn remember_broadcasts(&mut self, now: Instant) {
        let Some(records) = &mut self.records else { return };
        let known = self.origins.iter();
        let broadcasts =
            known.filter_map(|(id, origin)| Some((id.clone(), origin.broadcast().epoch?))).collect();
        records.put_memory(now, Memory { generation: self.generation, broadcasts, handed_over: None });
    }
}
