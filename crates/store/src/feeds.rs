//! The feeds of a store that is elsewhere: one for each scope that somebody watches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::feed::Feed;
use crate::stats::Meter;
use crate::{Collection, Key, Watch};

/// A collection, or one record of it.
pub(crate) type Scope = (Collection, Option<Key>);

/// Feeds by scope, held by their watches alone.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    feeds: Mutex<BTreeMap<Scope, Weak<Feed>>>,
    /// There is a new one.
    pub added: Notify,
}

impl Feeds {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Scope, Weak<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A watch of `scope`, and its feed if nobody watched it before.
    pub fn watch(&self, scope: Scope, meter: &Arc<Meter>) -> (Watch, Option<Weak<Feed>>) {
        let only = scope.1.clone();
        let mut feeds = self.lock();
        if let Some(feed) = feeds.get(&scope).and_then(Weak::upgrade) {
            return (feed.watch(only), None);
        }
        let feed = Feed::new(meter.clone());
        feeds.insert(scope, Arc::downgrade(&feed));
        self.added.notify_one();
        (feed.watch(only), Some(Arc::downgrade(&feed)))
    }

    /// Those that somebody watches.
    pub fn held(&self) -> BTreeMap<Scope, Weak<Feed>> {
        let mut feeds = self.lock();
        feeds.retain(|_, feed| feed.strong_count() > 0);
        feeds.clone()
    }

    /// The store is closed.
    pub fn close(&self) {
        self.lock().values().filter_map(Weak::upgrade).for_each(|feed| feed.close());
    }
}
