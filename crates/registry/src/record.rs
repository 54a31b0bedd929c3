//! What every record has in common: a collection, an id, a schema number.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use store::Collection;

/// A record of the control plane.
pub trait Stored: Serialize + DeserializeOwned {
    /// Where it is kept.
    const COLLECTION: Collection;
    /// Its schema. A field that older programs may ignore does not raise it; anything else does.
    const SCHEMA: u32;

    /// Its name in the collection.
    fn id(&self) -> &str;
}

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A later version of the program wrote it; it must be left alone.
    #[error("the record has schema {found}, this program understands {known} and earlier ones")]
    Newer {
        /// The record's schema.
        found: u32,
        /// The latest that is understood.
        known: u32,
    },
    /// Not what this program writes.
    #[error("the record is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    schema: u32,
    #[serde(flatten)]
    record: T,
}

#[derive(Deserialize)]
struct SchemaOnly {
    schema: u32,
}

/// The bytes of a record.
#[must_use]
pub fn encode<T: Stored>(record: &T) -> Vec<u8> {
    let envelope = Envelope { schema: T::SCHEMA, record };
    serde_json::to_vec(&envelope).expect("records are maps with text keys, which JSON always takes")
}

/// The record in these bytes.
///
/// # Errors
/// [`DecodeError`].
pub fn decode<T: Stored>(bytes: &[u8]) -> Result<T, DecodeError> {
    let SchemaOnly { schema } = serde_json::from_slice(bytes)?;
    if schema > T::SCHEMA {
        return Err(DecodeError::Newer { found: schema, known: T::SCHEMA });
    }
    Ok(serde_json::from_slice::<Envelope<T>>(bytes)?.record)
}
