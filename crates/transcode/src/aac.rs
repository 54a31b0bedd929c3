//! The configuration of AAC (`AudioSpecificConfig`; ISO/IEC 14496-3, section 1.6.2.1).

/// Audio object types (table 1.17).
const TYPE_LC: u32 = 2;
const TYPE_SBR: u32 = 5;
const TYPE_PS: u32 = 29;
/// The value that says that the type follows in six bits.
const TYPE_ESCAPE: u32 = 31;
/// The value that says that the sampling rate follows in 24 bits.
const RATE_ESCAPE: u32 = 15;
/// By `samplingFrequencyIndex` (table 1.18).
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350];
/// What announces SBR behind a configuration that old decoders understand (section 1.6.5).
const SYNC_EXTENSION: u32 = 0x2b7;

/// Why AAC is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AacError {
    /// The configuration ends too early.
    #[error("the configuration of AAC ends too early")]
    Truncated,
    /// HE-AAC, version 1 or 2.
    #[error("the sound is HE-AAC: set the encoder to AAC-LC (plain \"AAC\") at 128 kbit/s or more")]
    HighEfficiency,
    /// Another profile.
    #[error("the sound is AAC of object type {object_type}: set the encoder to AAC-LC")]
    Profile {
        /// Its number.
        object_type: u32,
    },
    /// More than two channels, or an arrangement of its own.
    #[error("the sound has AAC channel configuration {channels}: set the encoder to mono or stereo")]
    Channels {
        /// Its number; 0 is an arrangement of its own.
        channels: u32,
    },
    /// A sampling rate that no decoder has.
    #[error("the configuration of AAC has no usual sampling rate")]
    Rate,
    /// Frames of 960 samples.
    #[error("AAC in frames of 960 samples is not taken")]
    ShortFrames,
}

/// What matters of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AacConfig {
    /// Samples in a second.
    pub(crate) rate: u32,
    /// Place of the rate in the table.
    rate_index: u8,
    /// 1 or 2.
    pub(crate) channels: u8,
}

impl AacConfig {
    /// Reads a configuration; gives only what can be decoded.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, AacError> {
        let mut bits = Bits { bytes, position: 0 };
        let object_type = object_type(&mut bits)?;
        let rate = rate(&mut bits)?;
        let channels = bits.take(4)?;
        match object_type {
            TYPE_LC => {}
            TYPE_SBR | TYPE_PS => return Err(AacError::HighEfficiency),
            object_type => return Err(AacError::Profile { object_type }),
        }
        let short_frames = bits.take(1)? != 0;
        let depends_on_core = bits.take(1)? != 0;
        if depends_on_core {
            bits.take(14)?;
        }
        bits.take(1)?;
        if announces_sbr(&mut bits) {
            return Err(AacError::HighEfficiency);
        }
        if short_frames {
            return Err(AacError::ShortFrames);
        }
        let rate_index = RATES.iter().position(|known| *known == rate).ok_or(AacError::Rate)? as u8;
        match channels {
            1 | 2 => Ok(Self { rate, rate_index, channels: channels as u8 }),
            channels => Err(AacError::Channels { channels }),
        }
    }

    /// The same as plain AAC-LC.
    pub(crate) const fn plain(self) -> [u8; 2] {
        let type_and_rate = ((TYPE_LC as u8) << 3) | (self.rate_index >> 1);
        [type_and_rate, (self.rate_index << 7) | (self.channels << 3)]
    }
}

fn object_type(bits: &mut Bits<'_>) -> Result<u32, AacError> {
    match bits.take(5)? {
        TYPE_ESCAPE => Ok(32 + bits.take(6)?),
        object_type => Ok(object_type),
    }
}

fn rate(bits: &mut Bits<'_>) -> Result<u32, AacError> {
    match bits.take(4)? {
        RATE_ESCAPE => bits.take(24),
        index => RATES.get(index as usize).copied().ok_or(AacError::Rate),
    }
}

/// Whether what stands behind the configuration says that there is SBR.
fn announces_sbr(bits: &mut Bits<'_>) -> bool {
    let found = bits.take(11) == Ok(SYNC_EXTENSION) && object_type(bits) == Ok(TYPE_SBR);
    found && bits.take(1) == Ok(1)
}

struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Result<u32, AacError> {
        (0..count).try_fold(0, |value, _| {
            let byte = self.bytes.get(self.position / 8).ok_or(AacError::Truncated)?;
            let bit = byte >> (7 - self.position % 8) & 1;
            self.position += 1;
            Ok((value << 1) | u32::from(bit))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn configurations_of_real_encoders() {
        let lc = AacConfig::parse(&[0x11, 0x90]).expect("48 kHz stereo");
        assert_eq!((lc.rate, lc.channels, lc.plain()), (48_000, 2, [0x11, 0x90]));
        // ffmpeg says behind it that there is no SBR.
        let lc = AacConfig::parse(&[0x12, 0x08, 0x56, 0xe5, 0x00]).expect("44.1 kHz mono");
        assert_eq!((lc.rate, lc.channels, lc.plain()), (44_100, 1, [0x12, 0x08]));
        let escaped = AacConfig::parse(&[0x17, 0x80, 0x56, 0x22, 0x10]).expect("44.1 kHz in 24 bits");
        assert_eq!((escaped.rate, escaped.plain()), (44_100, [0x12, 0x10]));
    }

    #[test]
    fn what_cannot_be_decoded_is_refused_with_advice() {
        assert_eq!(AacConfig::parse(&[0x2b, 0x92, 0x08, 0x00]), Err(AacError::HighEfficiency));
        assert_eq!(AacConfig::parse(&[0x13, 0x10, 0x56, 0xe5, 0x98]), Err(AacError::HighEfficiency));
        assert_eq!(AacConfig::parse(&[0x09, 0x90]), Err(AacError::Profile { object_type: 1 }));
        assert_eq!(AacConfig::parse(&[0x11, 0xb0]), Err(AacError::Channels { channels: 6 }));
        assert_eq!(AacConfig::parse(&[0x11, 0x94]), Err(AacError::ShortFrames));
        assert_eq!(AacConfig::parse(&[0x11]), Err(AacError::Truncated));
        assert!(AacError::HighEfficiency.to_string().contains("AAC-LC"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(config) = AacConfig::parse(&bytes) {
                prop_assert_eq!(AacConfig::parse(&config.plain()), Ok(config));
            }
        }
    }
}
