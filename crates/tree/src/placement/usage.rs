//! How used a node is, in permille of what it takes.

use model::Bitrate;

use super::Nowhere;
use super::directory::Entry;
use super::reservations::Promised;
use crate::{Health, Rate};

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

/// What one more viewer takes: as its broadcast's origin says, else as much as those that are there.
pub(super) fn cost(entry: &Entry, viewer: Option<Rate>) -> Rate {
    let mean = || {
        let load = entry.load?;
        let viewers = Some(u64::from(load.viewers)).filter(|viewers| *viewers >= VIEWERS_MEASURED)?;
        let Rate { bits, packets } = load.sent();
        Some(Rate { bits: Bitrate::bps(bits.as_bps() / viewers), packets: packets / viewers })
    };
    viewer.or_else(mean).unwrap_or_default()
}

/// With one viewer more than reported and promised, which takes `cost`.
pub(super) fn viewer(entry: &Entry, promised: Promised, cost: Rate) -> Result<u64, Nowhere> {
    let load = common(entry)?;
    let capacity = &entry.capacity;
    let viewers = u64::from(load.viewers);
    let new = promised.count + 1;
    let places = permille(viewers + new, u64::from(capacity.viewers_max));
    let shard = u64::from(load.shard_percent) * 10;
    let shard = match viewers >= VIEWERS_MEASURED {
        true => shard.saturating_mul(viewers + new) / viewers,
        false => shard,
    };
    if places > 1000 || shard >= BUSY_PERMILLE {
        return Err(Nowhere::Full);
    }
    // What is sent lags behind who has come, and may be less than what they may take.
    let taken = load.sent().or_more(load.promised.plus(entry.children)).plus(promised.rate).plus(cost);
    let rate = capacity.egress_max.map_or(0, |most| permille(taken.bits.as_bps(), most.as_bps()));
    let packets = capacity.packets_per_second_max.map_or(0, |most| permille(taken.packets, most));
    // A part of a thousandth is too much, too.
    if capacity.egress_max.is_some_and(|most| taken.bits > most)
        || capacity.packets_per_second_max.is_some_and(|most| taken.packets > most)
    {
        return Err(Nowhere::NetworkFull);
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
