//! Bits of headers: of a raw byte sequence payload (ITU-T H.264, section 7.2) with emulation prevention taken out on the
//! way, or as they stand.

/// Reads from the most significant bit on. Every method returns `None` once the bits have ended.
pub(crate) struct BitReader<'a> {
    rest: &'a [u8],
    /// A 3 after two zero bytes is none of the bits.
    has_emulation_prevention: bool,
    /// Zero bytes just read: a 3 after two of them is emulation prevention.
    zeros: u8,
    current: u8,
    /// Bits of `current` not read yet.
    left: u8,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, has_emulation_prevention: true, zeros: 0, current: 0, left: 0 }
    }

    /// Of a format without emulation prevention.
    pub(crate) const fn plain(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, has_emulation_prevention: false, zeros: 0, current: 0, left: 0 }
    }

    /// u(1).
    pub(crate) fn flag(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.next_byte()?;
        }
        self.left -= 1;
        Some(self.current >> self.left & 1 == 1)
    }

    /// u(count), at most 32.
    pub(crate) fn bits(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |value, _| Some((value << 1) | u32::from(self.flag()?)))
    }

    /// ue(v); `None` also for codes above 32 bits.
    pub(crate) fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let suffix = self.bits(zeros)?;
        Some(((1u64 << zeros) - 1) as u32 + suffix)
    }

    /// se(v).
    pub(crate) fn signed_exp_golomb(&mut self) -> Option<i32> {
        let code = self.exp_golomb()?;
        let magnitude = code.div_ceil(2) as i32;
        Some(if code % 2 == 1 { magnitude } else { -magnitude })
    }

    fn next_byte(&mut self) -> Option<()> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        if self.has_emulation_prevention && byte == 3 && self.zeros >= 2 {
            self.zeros = 0;
            return self.next_byte();
        }
        self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        self.current = byte;
        self.left = 8;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exp_golomb_codes_of_the_standard() {
        // 1 | 010 | 011 | 00100 | 00111, filled with ones.
        let bytes = [0b1010_0110, 0b0100_0011, 0b1111_1111];
        let mut bits = BitReader::new(&bytes);
        let codes: Vec<_> = (0..5).map(|_| bits.exp_golomb()).collect();
        assert_eq!(codes, [Some(0), Some(1), Some(2), Some(3), Some(6)]);
        let mut bits = BitReader::new(&bytes);
        let codes: Vec<_> = (0..5).map(|_| bits.signed_exp_golomb()).collect();
        assert_eq!(codes, [Some(0), Some(1), Some(-1), Some(2), Some(-3)]);
    }

    #[test]
    fn emulation_prevention_is_taken_out() {
        let mut bits = BitReader::new(&[0, 0, 3, 1, 0, 0, 3, 3, 3]);
        let bytes: Vec<_> = std::iter::from_fn(|| bits.bits(8)).collect();
        assert_eq!(bytes, [0, 0, 1, 0, 0, 3, 3]);
        let mut bits = BitReader::plain(&[0, 0, 3, 1]);
        assert_eq!(bits.bits(32), Some(0x0301), "where there is none, nothing is taken out");
    }

    proptest! {
        #[test]
        fn every_code_reads_back(value in 0u32..u32::MAX) {
            let zeros = 31 - (value + 1).leading_zeros();
            let code = u128::from(value + 1) << (127 - 2 * zeros);
            prop_assume!(!code.to_be_bytes().windows(3).any(|window| window == [0, 0, 3]));
            prop_assert_eq!(BitReader::new(&code.to_be_bytes()).exp_golomb(), Some(value));
        }

        #[test]
        fn no_bits_panic(bytes in prop::collection::vec(0u8..4, 0..40)) {
            let mut bits = BitReader::new(&bytes);
            let mut codes = 0;
            while bits.signed_exp_golomb().is_some() {
                codes += 1;
            }
            prop_assert!(codes <= bytes.len() * 8);
        }
    }
}
