//! The recent past of one RTP stream: a bounded ring indexed by extended sequence number.
//!
//! Retransmissions, late joiners and new children are served from it. It knows nothing of what it holds but size and
//! place; keyframe starts are marked by the caller.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};
use std::time::{Duration, Instant};

use model::SeqNo;

/// How much a [`Ring`] may hold. Whatever is exceeded first evicts the oldest items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sum of the items' sizes, bytes. The newest item is kept even if it alone is larger.
    pub bytes_max: usize,
    /// Age since insertion.
    pub age_max: Duration,
    /// Sequence numbers from the oldest to the newest item, gaps included; at least 1 is taken.
    pub span_max: usize,
}

impl Default for Limits {
    /// 8 MiB, 12 s, 16 384 packets: a GOP of 8 s at 6 Mbit/s with room to spare.
    fn default() -> Self {
        Self { bytes_max: 8 << 20, age_max: Duration::from_secs(12), span_max: 16_384 }
    }
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The ring holds it now, as the newest or in a gap.
    New,
    /// The ring holds an item with this sequence number already; the new one is dropped.
    Duplicate,
    /// Its place has been evicted, or would be at once; the item is dropped.
    TooOld,
}

/// Where a joiner can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyframes {
    /// The ring holds the start of the newest keyframe, and perhaps of the one before.
    Held {
        /// Start of the newest.
        newest: SeqNo,
        /// Start of the one before, if it is still held.
        previous: Option<SeqNo>,
    },
    /// No keyframe has started yet.
    NotYet,
    /// The newest GOP outgrew the limits and its start is gone: joiners wait for the next keyframe, or ask for one.
    Evicted,
}

#[derive(Debug)]
struct Entry<T> {
    inserted_at: Instant,
    bytes: usize,
    item: T,
}

/// Bounded ring of items indexed by [`SeqNo`].
#[derive(Debug)]
pub struct Ring<T> {
    limits: Limits,
    /// Slots from `base` on; if there are any, the first and the last are filled.
    slots: VecDeque<Option<Entry<T>>>,
    base: SeqNo,
    /// Lower numbers are not taken: they were evicted or jumped over.
    floor: SeqNo,
    bytes: usize,
    filled: usize,
    /// Marked starts that are still held, ascending.
    keyframes: VecDeque<SeqNo>,
    keyframe_evicted: bool,
}

impl<T> Ring<T> {
    /// An empty ring.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: Limits { span_max: limits.span_max.max(1), ..limits },
            slots: VecDeque::new(),
            base: SeqNo::new(0),
            floor: SeqNo::new(0),
            bytes: 0,
            filled: 0,
            keyframes: VecDeque::new(),
            keyframe_evicted: false,
        }
    }

    /// Puts `item` in its place and evicts what exceeds the limits. A number beyond the span of the whole ring clears it.
    pub fn insert(&mut self, now: Instant, seq_no: SeqNo, bytes: usize, item: T) -> Inserted {
        self.expire(now);
        if seq_no < self.floor {
            return Inserted::TooOld;
        }
        if !self.make_room(seq_no) {
            return Inserted::TooOld;
        }
        let index = (seq_no.get() - self.base.get()) as usize;
        let slot = &mut self.slots[index];
        if slot.is_some() {
            return Inserted::Duplicate;
        }
        *slot = Some(Entry { inserted_at: now, bytes, item });
        self.bytes += bytes;
        self.filled += 1;
        self.enforce();
        if seq_no < self.floor { Inserted::TooOld } else { Inserted::New }
    }

    /// Marks a held item as the start of a keyframe. Says whether it is held.
    pub fn mark_keyframe(&mut self, seq_no: SeqNo) -> bool {
        if self.get(seq_no).is_none() {
            return false;
        }
        // Repaired packets come late, so the place is nearly always the end.
        let place = self.keyframes.iter().rposition(|held| *held <= seq_no).map_or(0, |index| index + 1);
        if place == 0 || self.keyframes[place - 1] != seq_no {
            self.keyframes.insert(place, seq_no);
        }
        true
    }

    /// The item with this number.
    #[must_use]
    pub fn get(&self, seq_no: SeqNo) -> Option<&T> {
        self.entry(seq_no).map(|entry| &entry.item)
    }

    /// When the item with this number was put in.
    #[must_use]
    pub fn inserted_at(&self, seq_no: SeqNo) -> Option<Instant> {
        self.entry(seq_no).map(|entry| entry.inserted_at)
    }

    fn entry(&self, seq_no: SeqNo) -> Option<&Entry<T>> {
        let index = usize::try_from(seq_no.get().checked_sub(self.base.get())?).ok()?;
        self.slots.get(index)?.as_ref()
    }

    /// Number of the oldest item.
    #[must_use]
    pub fn oldest(&self) -> Option<SeqNo> {
        (!self.slots.is_empty()).then_some(self.base)
    }

    /// Number of the newest item.
    #[must_use]
    pub fn newest(&self) -> Option<SeqNo> {
        let last = self.slots.len().checked_sub(1)?;
        Some(self.base.plus(last as u64))
    }

    /// Every number in `range` from the oldest to the newest item, in order; a gap is `None`.
    pub fn range(
        &self,
        range: impl RangeBounds<SeqNo>,
    ) -> impl DoubleEndedIterator<Item = (SeqNo, Option<&T>)> + ExactSizeIterator {
        let base = self.base.get();
        let place = |seq_no: u64| (seq_no.saturating_sub(base) as usize).min(self.slots.len());
        let start = match range.start_bound() {
            Bound::Included(first) => place(first.get()),
            Bound::Excluded(before) => place(before.get().saturating_add(1)),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => place(last.get().saturating_add(1)),
            Bound::Excluded(after) => place(after.get()),
            Bound::Unbounded => self.slots.len(),
        };
        (start..end.max(start)).map(move |index| {
            (self.base.plus(index as u64), self.slots[index].as_ref().map(|entry| &entry.item))
        })
    }

    /// The first item from `from` on that is not before what is looked for. Of items in the order of their numbers
    /// `is_before` holds for some, and for none after those.
    #[must_use]
    pub fn first_from(&self, from: SeqNo, is_before: impl Fn(&T) -> bool) -> Option<(SeqNo, &T)> {
        let mut low = from.get().saturating_sub(self.base.get()) as usize;
        let (mut high, mut found) = (self.slots.len(), None);
        while low < high {
            let middle = low + (high - low) / 2;
            // Across a gap to the next item.
            let next = (middle..high).find_map(|index| Some((index, &self.slots[index].as_ref()?.item)));
            match next {
                Some((index, item)) if is_before(item) => low = index + 1,
                Some((index, item)) => {
                    found = Some((self.base.plus(index as u64), item));
                    high = middle;
                }
                None => high = middle,
            }
        }
        found
    }

    /// Where a joiner can begin.
    #[must_use]
    pub fn keyframes(&self) -> Keyframes {
        let mut newest_first = self.keyframes.iter().rev().copied();
        match newest_first.next() {
            Some(newest) => Keyframes::Held { newest, previous: newest_first.next() },
            None if self.keyframe_evicted => Keyframes::Evicted,
            None => Keyframes::NotYet,
        }
    }

    /// Start of the newest keyframe, if it is held.
    #[must_use]
    pub fn newest_keyframe(&self) -> Option<SeqNo> {
        self.keyframes.back().copied()
    }

    /// Sum of the sizes of all items.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many items it holds, gaps not counted.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.filled
    }

    /// Whether it holds nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Evicts what is older than the limit. [`insert`](Self::insert) does it too; call this where nothing arrives.
    pub fn expire(&mut self, now: Instant) {
        while let Some(Some(entry)) = self.slots.front() {
            if now.saturating_duration_since(entry.inserted_at) <= self.limits.age_max {
                return;
            }
            self.evict_oldest();
        }
    }

    /// Drops everything and takes any number again: the stream begins anew.
    pub fn clear(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Grows the slots so that `seq_no` has one. `false` if it lies further back than the span allows.
    fn make_room(&mut self, seq_no: SeqNo) -> bool {
        let span_max = self.limits.span_max as u64;
        let Some(newest) = self.newest() else {
            self.base = seq_no;
            self.slots.push_back(None);
            return true;
        };
        if seq_no < self.base {
            let distance = newest.get() - seq_no.get();
            if distance >= span_max {
                return false;
            }
            for _ in 0..self.base.get() - seq_no.get() {
                self.slots.push_front(None);
            }
            self.base = seq_no;
        } else if seq_no > newest {
            if seq_no.get() - newest.get() >= span_max {
                while !self.slots.is_empty() {
                    self.evict_oldest();
                }
                self.base = seq_no;
                self.slots.push_back(None);
                return true;
            }
            while seq_no.get() - self.base.get() >= span_max {
                self.evict_oldest();
            }
            let wanted = (seq_no.get() - self.base.get()) as usize + 1;
            self.slots.resize_with(wanted, || None);
        }
        true
    }

    fn enforce(&mut self) {
        while self.bytes > self.limits.bytes_max && self.filled > 1 {
            self.evict_oldest();
        }
    }

    /// Drops the oldest item and the gap behind it.
    fn evict_oldest(&mut self) {
        let mut evicted = false;
        while let Some(slot) = self.slots.front() {
            if slot.is_some() && evicted {
                break;
            }
            if let Some(Some(entry)) = self.slots.pop_front() {
                self.bytes -= entry.bytes;
                self.filled -= 1;
                evicted = true;
                self.floor = self.base.plus(1);
            }
            self.base = self.base.plus(1);
        }
        while self.keyframes.front().is_some_and(|start| *start < self.floor) {
            self.keyframes.pop_front();
            self.keyframe_evicted = true;
        }
    }
}

#[cfg(test)]
mod tests;
