//! Sender reports to viewers.
//!
//! Their NTP time is the time of capture, in the injection node's clock, carried on by the local one between packets: so
//! sound and picture stay together whatever way they took, and a player can tell how old a frame is.

use std::time::{Duration, Instant};

use media_core::rtcp::{ReportBlock, SenderInfo, write};

use crate::broadcast::Fan;
use crate::track::{self, Phase, Track};
use crate::viewer::Viewer;

/// Appends an SR and an SDES with the CNAME for each track that is live; a picture that is still catching up would
/// mislead lip sync.
pub fn write_compound(out: &mut Vec<u8>, now: Instant, viewer: &mut Viewer, fan: &Fan) {
    let Viewer { audio, video, cname, .. } = viewer;
    for track in [audio, video].into_iter().flatten() {
        if let Some(info) = sender_info(now, track, fan) {
            write::sender_report(out, &info, &[]);
            write::source_description(out, info.ssrc, cname);
            track.reports = [Some((info.ntp, now)), track.reports[0]];
        }
    }
}

fn sender_info(now: Instant, track: &Track, fan: &Fan) -> Option<SenderInfo> {
    let Phase::Live = track.phase else { return None };
    let source = track.source?;
    let segment = track.mapping.current().filter(|segment| segment.source == source.ssrc)?;
    let newest = fan.stream(source.ssrc)?.newest?;
    let elapsed = now.saturating_duration_since(newest.at);
    Some(SenderInfo {
        ssrc: track.out.ssrc,
        ntp: newest.capture_time.plus(elapsed),
        rtp_timestamp: segment
            .timestamp(newest.timestamp)
            .wrapping_add(track::ticks(elapsed, source.clock_rate)),
        packets: track.packets,
        bytes: track.payload_bytes,
    })
}

/// Round trip by a viewer's answer to one of the last two reports (RFC 3550, section 6.4.1), in the local clock, and when
/// that report was sent.
pub fn round_trip(now: Instant, track: &Track, block: &ReportBlock) -> Option<(Duration, Instant)> {
    let mut reports = track.reports.iter().flatten();
    let (ntp, sent_at) = reports.find(|(ntp, _)| ntp.middle() == block.last_report)?;
    let round_trip = block.round_trip(ntp.plus(now.saturating_duration_since(*sent_at)))?;
    Some((round_trip, *sent_at))
}
