//! What an injection node knows beside its publishers' sessions, and must not forget with its process: that a broadcast
//! without publisher is known, and which numbers are used.

use link::wire::{GroupKey, KEY_BYTES, SALT_BYTES};
use model::{BroadcastId, Epoch, KeyGeneration};
use octets::{Reader, Writer};
use zeroize::Zeroizing;

/// Layout of the bytes.
const VERSION: u8 = 2;
/// Broadcasts that fit into a record; a node knows hardly more.
const BROADCASTS_MAX: usize = 255;
const NAME_BYTES_MAX: usize = 63;

/// Beside the publishers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The counter of the latest key generation.
    pub generation: u32,
    /// The broadcasts that publishers of this node have or had, with their latest run.
    pub broadcasts: Vec<(BroadcastId, Epoch)>,
    /// What the packets are sealed with that this process left to the next, if it did.
    pub handed_over: Option<GroupKey>,
}

impl Memory {
    /// The bytes of its record.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.u32(self.generation);
        let broadcasts = &self.broadcasts[..self.broadcasts.len().min(BROADCASTS_MAX)];
        out.list(broadcasts, |out, (id, epoch)| {
            out.bytes(id.as_str().as_bytes());
            out.u64(epoch.counter);
            out.u64(epoch.random);
        });
        out.option(self.handed_over.as_ref(), |out, GroupKey { generation, key, salt }| {
            out.u32(generation.counter);
            out.u32(generation.random);
            out.bytes(key);
            out.bytes(salt);
        });
        out.finish()
    }

    /// Reads what [`Memory::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(bytes);
        input.u8().filter(|version| *version == VERSION)?;
        let generation = input.u32()?;
        let broadcasts = input.list(BROADCASTS_MAX, |input| {
            let id = BroadcastId::new(&input.text(NAME_BYTES_MAX)?).ok()?;
            Some((id, Epoch { counter: input.u64()?, random: input.u64()? }))
        })?;
        let handed_over = input.option(|input| {
            Some(GroupKey {
                generation: KeyGeneration { counter: input.u32()?, random: input.u32()? },
                key: input.bytes(KEY_BYTES)?.try_into().ok()?,
                salt: input.bytes(SALT_BYTES)?.try_into().ok()?,
            })
        })?;
        input.is_empty().then_some(Self { generation, broadcasts, handed_over })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_comes_back_and_a_cut_one_does_not(
            generation: u32,
            broadcasts in prop::collection::vec(("[a-z0-9][a-z0-9._-]{0,62}", any::<u64>(), any::<u64>()), 0..20),
            handed_over in prop::option::of(any::<(u32, u32, [u8; 16], [u8; 12])>()),
            keep in any::<prop::sample::Index>(),
        ) {
            let broadcast = |(id, counter, random): (String, u64, u64)| {
                (BroadcastId::new(&id).expect("an id"), Epoch { counter, random })
            };
            let broadcasts = broadcasts.into_iter().map(broadcast).collect();
            let handed_over = handed_over.map(|(counter, random, key, salt)| {
                GroupKey { generation: KeyGeneration { counter, random }, key, salt }
            });
            let memory = Memory { generation, broadcasts, handed_over };
            let bytes = memory.encode();
            prop_assert_eq!(Memory::decode(&bytes), Some(memory));
            prop_assert_eq!(Memory::decode(&bytes[..keep.index(bytes.len())]), None);
        }
    }
}
