//! From one process to the next: viewers go on, and what the rings held is there for them.

use std::sync::Arc;
use std::time::Instant;

use media_core::TreePacket;

use crate::fan_out::RESUMED;
use crate::pace;
use crate::record::ViewerRecord;
use crate::send::{SendBatch, Sending};
use crate::shard::{AddError, Shard};
use crate::viewer::Viewer;

impl Shard {
    /// Leaves every viewer to another process: sends what is held and what waits, and writes records that reserve nothing
    /// beyond what was used. Nothing may be sent after it.
    pub fn hand_over(&mut self, now: Instant, out: &mut impl SendBatch) {
        self.fan_out_held(now, out);
        let mut sending = Sending {
            now,
            out: &mut *out,
            stats: &mut self.stats,
            events: &mut self.events,
            payload: &mut self.payload,
        };
        for viewer in self.viewers.iter_mut().flatten().filter(|viewer| viewer.is_consenting) {
            if let Some(fan) = self.fans.get(viewer.fan).and_then(Option::as_ref) {
                pace::finish(viewer, fan, &mut sending);
            }
        }
        self.viewers.iter_mut().flatten().for_each(|viewer| viewer.hand_over(out));
    }

    /// Goes on with a viewer from the record that another process left. It gets what it would have got from that one;
    /// what it missed it asks for.
    ///
    /// # Errors
    /// [`AddError`] as for [`Shard::add_viewer`].
    pub fn resume_viewer(&mut self, now: Instant, record: ViewerRecord) -> Result<(), AddError> {
        self.check(record.id, record.audio.iter().chain(&record.video).map(|track| &track.out))?;
        let fan = self.fan_index(&record.broadcast);
        let viewer = Viewer::from_record(now, fan, record);
        self.insert(now, fan, viewer)?;
        self.resumed_until = Some(now + RESUMED);
        Ok(())
    }

    /// Puts packets into the rings that the process before this one has sent: to repair from, and to start viewers with.
    pub fn restore(&mut self, now: Instant, packets: &[Arc<TreePacket>]) {
        packets.iter().for_each(|packet| self.keep(now, packet));
        // Those who wait for a keyframe may have one now.
        let slots: Vec<usize> = self.by_id.values().copied().collect();
        slots.into_iter().for_each(|slot| self.wake(now, slot));
    }
}
