//! What a record is called: a collection and an id.

use std::fmt;
use std::str::FromStr;

use model::{IdError, RecordId};

macro_rules! collections {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The kinds of records. Each has its own index, its own watches and its own order of writes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Collection {
            $($(#[$doc])* $variant,)*
        }

        impl Collection {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word for it in keys and paths.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

collections! {
    /// Trees and what they should look like.
    Trees = "trees",
    /// Nodes and their load, written by each node itself.
    Nodes = "nodes",
    /// What a node is told to do.
    Assignments = "assignments",
    /// Broadcasts, their origin and epoch.
    Broadcasts = "broadcasts",
    /// Broadcasts that an operator has made ahead of their first publisher, with their sealed keys.
    Declared = "declared",
    /// Leases of the controllers' leader.
    Leaders = "leaders",
    /// What controllers decided lately.
    Decisions = "decisions",
    /// Slots that trees grow by, as the leading controller keeps them.
    Slots = "slots",
    /// How many watch each broadcast, as the leading controller counts them.
    Audience = "audience",
    /// Which nodes take viewers and publishers, as the leading controller sees them.
    Places = "places",
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word is no collection of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such collection")]
pub struct UnknownCollection;

impl FromStr for Collection {
    type Err = UnknownCollection;
    fn from_str(text: &str) -> Result<Self, UnknownCollection> {
        Self::ALL.iter().copied().find(|known| known.as_str() == text).ok_or(UnknownCollection)
    }
}

/// The name of one record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub collection: Collection,
    /// Its name among its kind.
    pub id: RecordId,
}

impl Key {
    /// Checks `id` against the grammar of ids.
    ///
    /// # Errors
    /// [`IdError`] names the rule that `id` breaks.
    pub fn new(collection: Collection, id: &str) -> Result<Self, IdError> {
        Ok(Self { collection, id: RecordId::new(id)? })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection, self.id)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collections_round_trip_through_their_words() {
        for collection in Collection::ALL {
            assert_eq!(collection.to_string().parse(), Ok(*collection));
        }
        assert_eq!("Nodes".parse::<Collection>(), Err(UnknownCollection));
    }

    #[test]
    fn a_key_has_an_id_of_the_grammar() {
        assert_eq!(Key::new(Collection::Nodes, "egress-1").expect("good").to_string(), "nodes/egress-1");
        assert!(Key::new(Collection::Nodes, "../trees/a").is_err());
    }
}
