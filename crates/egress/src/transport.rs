//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01): which packets of a viewer it speaks of, and
//! when those were sent.
//!
//! The transport-wide number of a packet is its own, so nothing is remembered of what was sent as it came: the mapping leads from the
//! number to the packet of the tree, and that was sent when it came, give or take the shard's turn, or when its pace let it. What
//! was sent at another time is left out: replays, and what another process may have sent.

use media_core::rtcp::{Arrival, TransportFeedback};

use crate::broadcast::Fan;
use crate::estimator::{Arrived, Sent};
use crate::pace::Pace;
use crate::send::Sending;
use crate::track::Track;
use crate::viewer::Viewer;

/// Takes what a viewer says of the packets that arrived.
pub fn handle<B>(
    viewer: &mut Viewer,
    fan: &Fan,
    feedback: &TransportFeedback<'_>,
    sending: &mut Sending<'_, B>,
) {
    if !viewer.tells_arrivals() {
        return;
    }
    sending.stats.transport_feedback += 1;
    let Viewer { video: Some(track), layering: Some(layering), estimate, pace, .. } = viewer else { return };
    let sent = Sent { once: track.payload_bytes, again: track.repeated_bytes };
    let packets = feedback.arrivals().filter_map(|arrival| arrived(track, pace.as_deref(), fan, arrival));
    if let Some(bitrate) = layering.arrived(sending.now, sent, packets) {
        *estimate = Some(bitrate);
    }
}

fn arrived(track: &Track, pace: Option<&Pace>, fan: &Fan, Arrival { seq, at }: Arrival) -> Option<Arrived> {
    let seq_no = track.meant(seq);
    let segment = track.mapping.owner(seq_no).filter(|segment| segment.is_live())?;
    let ring = &fan.stream(segment.source)?.ring;
    let packet = segment.find(seq_no, ring)?;
    let sent_at = track.sent_at(seq_no, ring.inserted_at(packet.seq_no)?)?;
    let sent_at = pace.and_then(|pace| pace.sent_at(seq_no)).unwrap_or(sent_at);
    let bytes = if segment.wants(packet) { packet.payload.len() } else { 0 };
    Some(Arrived { seq_no, sent_at, at, bytes })
}
