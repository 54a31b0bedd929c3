//! Typed access to the records.

use std::sync::Arc;

use model::IdError;
use store::{Expect, Key, PutError, Record, Store, Unavailable, Version, Watch, Write};

use crate::record::{DecodeError, Stored, decode, encode};

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The store does not answer, or refuses.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The write did not happen.
    #[error(transparent)]
    Put(#[from] PutError),
    /// What is there is not for this program.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The name is none.
    #[error(transparent)]
    Id(#[from] IdError),
}

impl RegistryError {
    /// Somebody else wrote first: read again.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Put(PutError::Conflict { .. }))
    }
}

/// A record with the version it has in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// What it says.
    pub record: T,
    /// The write that made it.
    pub version: Version,
}

/// The records of one installation. Cloning shares the store.
#[derive(Debug, Clone)]
pub struct Registry {
    store: Arc<dyn Store>,
}

impl Registry {
    /// Over a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The store itself.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// One record, or that there is none.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn get<T: Stored>(&self, id: &str) -> Result<Option<Versioned<T>>, RegistryError> {
        let found = self.store.get(&Key::new(T::COLLECTION, id)?).await?;
        found.map(|record| versioned(&record)).transpose().map_err(RegistryError::from)
    }

    /// All records of a kind that this program understands.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn list<T: Stored>(&self) -> Result<Vec<Versioned<T>>, RegistryError> {
        let records = self.store.list(T::COLLECTION).await?;
        Ok(records.iter().filter_map(|record| versioned(record).ok()).collect())
    }

    /// Writes a record.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn put<T: Stored>(&self, record: &T, write: Write) -> Result<Version, RegistryError> {
        let key = Key::new(T::COLLECTION, record.id())?;
        Ok(self.store.put(&key, encode(record).into(), write).await?)
    }

    /// Changes a record, or makes it, whoever else writes at the same time. `change` sees what is there and gives what
    /// shall be there, or `None` to leave it. True if something was written.
    ///
    /// # Errors
    /// [`RegistryError`]; a conflict only after several lost races.
    pub async fn update<T: Stored + PartialEq>(
        &self,
        id: &str,
        mut change: impl FnMut(Option<&T>) -> Option<T>,
    ) -> Result<bool, RegistryError> {
        let mut races = 0;
        loop {
            let found = self.get::<T>(id).await?;
            let present = found.as_ref().map(|found| &found.record);
            let Some(wanted) = change(present) else { return Ok(false) };
            if present == Some(&wanted) {
                return Ok(false);
            }
            let expect = found.as_ref().map_or(Expect::Absent, |found| Expect::Version(found.version));
            match self.put(&wanted, Write::expecting(expect)).await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_conflict() && races < RACES_MAX => races += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes a record, if it is still this version. False if it was not there.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn delete<T: Stored>(&self, id: &str, expect: Expect) -> Result<bool, RegistryError> {
        Ok(self.store.delete(&Key::new(T::COLLECTION, id)?, expect).await?)
    }

    /// Changes of all records of a kind; see [`Versioned::of`].
    #[must_use]
    pub fn watch<T: Stored>(&self) -> Watch {
        self.store.watch(T::COLLECTION)
    }

    /// Changes of one record.
    ///
    /// # Errors
    /// If `id` is no name.
    pub fn watch_one<T: Stored>(&self, id: &str) -> Result<Watch, IdError> {
        Ok(self.store.watch_one(&Key::new(T::COLLECTION, id)?))
    }
}

/// Races that an update loses before it gives up.
const RACES_MAX: u32 = 8;

impl<T: Stored> Versioned<T> {
    /// The record that a watch brought.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn of(record: &Record) -> Result<Self, DecodeError> {
        versioned(record)
    }
}

fn versioned<T: Stored>(record: &Record) -> Result<Versioned<T>, DecodeError> {
    Ok(Versioned { record: decode(&record.value)?, version: record.version })
}
