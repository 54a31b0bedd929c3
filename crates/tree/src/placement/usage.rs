//! How used a node is, in permille of what it takes.

use super::Nowhere;
use super::directory::Entry;
use crate::Health;

/// A shard that is so busy takes nobody new; a node whose processor is so busy takes no publisher.
const BUSY_PERMILLE: u64 = 900;

/// With fewer viewers, what one costs cannot be told from what the node costs anyway.
const VIEWERS_MEASURED: u64 = 16;

const fn permille(part: u64, whole: u64) -> u64 {
    match part.saturating_mul(1000).checked_div(whole) {
        Some(permille) => permille,
        None => u64::MAX,
    }
}

/// With one viewer more than reported and promised.
pub(super) fn viewer(entry: &Entry, promised: u64, viewer_bps: Option<u64>) -> Result<u64, Nowhere> {
    let load = common(entry)?;
    let capacity = &entry.capacity;
    let viewers = u64::from(load.viewers);
    let new = promised + 1;
    let grown = |measured: u64| match viewers >= VIEWERS_MEASURED {
        true => measured.saturating_mul(viewers + new) / viewers,
        false => measured,
    };
    let places = permille(viewers + new, u64::from(capacity.viewers_max));
    let per_viewer = match load.sent.as_bps().checked_div(viewers) {
        Some(bps) if viewers >= VIEWERS_MEASURED => Some(bps),
        _ => viewer_bps,
    };
    let sent = load.sent.as_bps().saturating_add(per_viewer.unwrap_or(0).saturating_mul(new));
    let rate = capacity.egress_max.map_or(0, |most| permille(sent, most.as_bps()));
    let packets =
        capacity.packets_per_second_max.map_or(0, |most| permille(grown(load.packets_per_second), most));
    let shard = grown(u64::from(load.shard_percent) * 10);
    if places > 1000 || rate > 1000 || packets > 1000 || shard >= BUSY_PERMILLE {
        return Err(Nowhere::Full);
    }
    Ok(places.max(rate).max(packets).max(shard))
}

/// With one publisher more than reported and promised.
pub(super) fn publisher(entry: &Entry, promised: u64) -> Result<u64, Nowhere> {
    let load = common(entry)?;
    let places =
        permille(u64::from(load.publishers) + promised + 1, u64::from(entry.capacity.publishers_max));
    let processor = u64::from(load.cpu_percent) * 10;
    if places > 1000 || processor >= BUSY_PERMILLE {
        return Err(Nowhere::Full);
    }
    Ok(places.max(processor))
}

fn common(entry: &Entry) -> Result<crate::Load, Nowhere> {
    if entry.health != Health::Ready {
        return Err(Nowhere::NotReady);
    }
    entry.load.ok_or(Nowhere::LoadUnknown)
}
