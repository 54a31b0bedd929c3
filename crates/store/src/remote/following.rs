//! Follows one scope of a controller's store as long as somebody watches it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use tokio::time::{Instant, timeout};

use super::{Shared, malformed, path, unexpected, unreachable};
use crate::feed::Feed;
use crate::feeds::Scope;
use crate::stats::Meter;
use crate::wire::{ALIVE_EVERY, Line, Lines};
use crate::{Collection, Key, RECORDS_MAX, Record, Unavailable, pause};

/// A controller that says nothing for so long is gone.
const SILENT_AFTER: Duration = ALIVE_EVERY.saturating_mul(3);

/// Follows until nobody watches.
pub async fn follow(shared: Arc<Shared>, scope: Scope, feed: Weak<Feed>) {
    let mut lost = Instant::now();
    while feed.strong_count() > 0 {
        match listen(&shared, &scope, &feed, &mut lost).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(collection = %scope.0, %error, "a watch is interrupted"),
        }
        tokio::time::sleep(pause::after(lost.elapsed())).await;
    }
}

/// Listens until nobody watches or something is wrong.
async fn listen(
    shared: &Shared,
    (collection, key): &Scope,
    feed: &Weak<Feed>,
    lost: &mut Instant,
) -> Result<(), Unavailable> {
    let path = key.as_ref().map_or_else(|| format!("/{collection}"), path);
    let response = shared.answer(shared.request(Method::GET, &format!("{path}?watch=true"))).await?;
    if response.status() != StatusCode::OK {
        return Err(unexpected(response.status()));
    }
    let mut listener = Listener { shared, collection: *collection, lines: Lines::default(), snapshot: None };
    let outcome = listener.run(response, feed).await;
    *lost = Instant::now();
    outcome
}

struct Listener<'a> {
    shared: &'a Shared,
    collection: Collection,
    lines: Lines,
    /// A snapshot that is coming, and how many records of it are still to come.
    snapshot: Option<(Vec<Record>, usize)>,
}

impl Listener<'_> {
    async fn run(&mut self, mut response: Response, feed: &Weak<Feed>) -> Result<(), Unavailable> {
        loop {
            let piece = timeout(SILENT_AFTER, response.chunk()).await;
            let piece = piece.map_err(|_| Unavailable::TimedOut { within: SILENT_AFTER })?;
            let piece = piece.map_err(|error| unreachable(&error))?;
            let piece =
                piece.ok_or_else(|| Unavailable::Unreachable("the controller ended the watch".into()))?;
            let Some(feed) = feed.upgrade() else { return Ok(()) };
            self.lines.feed(&piece);
            while let Some(line) = self.lines.next().map_err(|_| malformed("a line that is too long"))? {
                self.take(line, &feed)?;
            }
        }
    }

    fn take(&mut self, line: Option<Line>, feed: &Feed) -> Result<(), Unavailable> {
        match line {
            Some(Line::Snapshot(0)) => feed.replace(Vec::new()),
            Some(Line::Snapshot(count)) if count <= RECORDS_MAX => self.snapshot = Some((Vec::new(), count)),
            Some(Line::Snapshot(_)) => return Err(malformed("a snapshot of more records than there may be")),
            Some(Line::Put(entry)) => self.put(entry.record(self.collection), feed),
            Some(Line::Gone(id)) => match Key::new(self.collection, &id) {
                Ok(key) => {
                    feed.remove(&key);
                }
                Err(_) => Meter::count(&self.shared.meter.malformed),
            },
            Some(Line::Alive) => {}
            None => Meter::count(&self.shared.meter.malformed),
        }
        Ok(())
    }

    fn put(&mut self, record: Option<Record>, feed: &Feed) {
        if record.is_none() {
            Meter::count(&self.shared.meter.malformed);
        }
        let Some((records, missing)) = &mut self.snapshot else {
            if let Some(record) = record {
                feed.put(record);
            }
            return;
        };
        records.extend(record);
        *missing -= 1;
        if *missing == 0
            && let Some((records, _)) = self.snapshot.take()
        {
            feed.replace(records);
        }
    }
}
