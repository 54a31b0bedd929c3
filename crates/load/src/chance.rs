//! A generator of chances that costs eight bytes a viewer and tells the same story for the same seed (SplitMix64).

/// Chances of one viewer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chance(u64);

impl Chance {
    /// Of this viewer in this run.
    pub(crate) const fn new(seed: u64, viewer: u64) -> Self {
        let mut chance = Self(seed ^ viewer.wrapping_mul(0xd134_2543_de82_ef95));
        chance.next();
        chance
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// In 0.0 .. 1.0.
    pub(crate) const fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True for a share of `probability` of all calls.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.fraction() < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_in_a_hundred_happen_and_the_same_ones_for_the_same_seed() {
        let story = |seed, viewer| {
            let mut chance = Chance::new(seed, viewer);
            (0..100_000).map(|_| chance.happens(0.02)).collect::<Vec<_>>()
        };
        let told = story(1, 1);
        let count = told.iter().filter(|happened| **happened).count();
        assert!((1800..2200).contains(&count), "{count}");
        assert_eq!(told, story(1, 1));
        assert_ne!(told, story(2, 1));
        assert_ne!(told, story(1, 2));
        assert!(!Chance::new(1, 1).happens(0.0));
    }
}
