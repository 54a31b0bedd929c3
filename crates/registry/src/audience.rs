//! How many watch each broadcast, as the leading controller counts them: for the nodes that tell it on.
//!
//! Read now and then by whoever has somebody to tell, never watched, like [`PlacesRecord`](crate::PlacesRecord).

use model::BroadcastId;
use serde::{Deserialize, Serialize};
use store::Collection;

use crate::{Stored, text};

/// Broadcasts in one record: with the longest names they fit it.
pub const AUDIENCE_MAX: usize = 500;

/// A part of the count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceRecord {
    /// Its number, from 0, as text.
    pub part: String,
    /// How many parts there are: later ones are left over from when there were more broadcasts.
    pub parts: u32,
    /// Those that somebody watches, by name.
    pub broadcasts: Vec<Audience>,
}

/// The viewers of one broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audience {
    /// Its name.
    #[serde(with = "text")]
    pub broadcast: BroadcastId,
    /// In the whole installation.
    pub viewers: u64,
}

impl AudienceRecord {
    /// A count in parts; one empty part says that nobody watches anything.
    #[must_use]
    pub fn parts_of(audience: &[Audience]) -> Vec<Self> {
        let parts = audience.len().div_ceil(AUDIENCE_MAX).max(1);
        let part = |number: usize| Self {
            part: number.to_string(),
            parts: parts as u32,
            broadcasts: audience.iter().skip(number * AUDIENCE_MAX).take(AUDIENCE_MAX).cloned().collect(),
        };
        (0..parts).map(part).collect()
    }

    /// The whole of these parts.
    pub fn whole(parts: impl IntoIterator<Item = Self>) -> impl Iterator<Item = Audience> {
        let is_valid = |part: &Self| part.part.parse::<u32>().is_ok_and(|number| number < part.parts);
        parts.into_iter().filter(is_valid).flat_map(|part| part.broadcasts)
    }
}

impl Stored for AudienceRecord {
    const COLLECTION: Collection = Collection::Audience;
    const SCHEMA: u32 = 1;
    fn id(&self) -> &str {
        &self.part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_of_any_size_comes_whole_out_of_its_parts() {
        for count in [0, 1, AUDIENCE_MAX, AUDIENCE_MAX + 1, 3 * AUDIENCE_MAX] {
            let broadcast = |number| BroadcastId::new(&format!("{number:0>63}")).expect("id");
            let all: Vec<Audience> = (0..count)
                .map(|number| Audience { broadcast: broadcast(number), viewers: u64::from(u32::MAX) })
                .collect();
            let mut parts = AudienceRecord::parts_of(&all);
            assert!(parts.iter().all(|part| crate::encode(part).len() <= store::VALUE_BYTES_MAX));
            parts.push(AudienceRecord { part: "9".into(), ..parts[0].clone() });
            assert_eq!(
                AudienceRecord::whole(parts).collect::<Vec<_>>(),
                all,
                "what is left over does not count"
            );
        }
    }
}
