//! Broadcasts that an operator has made ahead of their first publisher.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use model::{BroadcastId, TreeId};
use serde::{Deserialize, Serialize};
use store::{Collection, Key, SealError, Sealer};
use zeroize::Zeroizing;

use crate::{Stored, text};

/// One broadcast and the key that opens it to publishers. It stays until an operator deletes it, whoever publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredRecord {
    /// Its name.
    #[serde(with = "text")]
    pub broadcast: BroadcastId,
    /// The tree that carries it.
    #[serde(with = "text")]
    pub tree: TreeId,
    /// Seconds since 1970.
    pub created: u64,
    /// The publish key, sealed with the cluster key for this record, base64.
    publish_key: String,
}

impl DeclaredRecord {
    /// A broadcast with this publish key.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn new(
        broadcast: BroadcastId,
        tree: TreeId,
        created: u64,
        (key, sealer): (&str, &Sealer),
    ) -> Result<Self, SealError> {
        let sealed = sealer.seal(&name(&broadcast), key.as_bytes())?;
        Ok(Self { broadcast, tree, created, publish_key: BASE64.encode(sealed) })
    }

    /// The publish key.
    ///
    /// # Errors
    /// If it was sealed with another cluster key, or changed.
    pub fn publish_key(&self, sealer: &Sealer) -> Result<Zeroizing<String>, SealError> {
        let sealed = BASE64.decode(&self.publish_key).map_err(|_| SealError::Forged)?;
        let opened = sealer.open(&name(&self.broadcast), &sealed)?;
        let key = std::str::from_utf8(&opened).map_err(|_| SealError::Forged)?;
        Ok(Zeroizing::new(key.to_owned()))
    }
}

/// The record that a key is sealed for.
fn name(broadcast: &BroadcastId) -> Key {
    Key::new(Collection::Declared, broadcast.as_str()).expect("broadcasts and records share one grammar")
}

impl Stored for DeclaredRecord {
    const COLLECTION: Collection = Collection::Declared;
    const SCHEMA: u32 = 1;
    fn id(&self) -> &str {
        self.broadcast.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_with_the_cluster_key_and_for_its_own_broadcast_only() {
        let id = |name: &str| BroadcastId::new(name).expect("id");
        let sealer = Sealer::new(b"cluster");
        let tree = TreeId::new("main").expect("id");
        let record = DeclaredRecord::new(id("friday"), tree, 1, ("a-publish-key", &sealer)).expect("sealed");
        let json = String::from_utf8(crate::encode(&record)).expect("text");
        assert!(!json.contains("a-publish-key"), "{json}");
        assert_eq!(record.publish_key(&sealer).expect("opened").as_str(), "a-publish-key");
        assert_eq!(record.publish_key(&Sealer::new(b"other")), Err(SealError::Forged));
        let moved = DeclaredRecord { broadcast: id("monday"), ..record };
        assert_eq!(moved.publish_key(&sealer), Err(SealError::Forged));
    }
}
