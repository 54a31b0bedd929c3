//! Decoder configuration records: `avcC` and `hvcC` (ISO/IEC 14496-15, sections 5.3.3 and 8.3.3), `av1C` (AV1 Codec ISO
//! Media File Format Binding, section 2.3).

use bytes::{Buf as _, Bytes};
use model::Codec;

/// Parameter sets of one kind that a stream may have.
pub(crate) const SETS_MAX: usize = 64;
/// Largest parameter set, in bytes; with every scaling list it has about 1000.
pub(crate) const SET_BYTES_MAX: usize = 8192;

/// Why a configuration record cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It ends too early.
    #[error("the codec's configuration record ends too early")]
    Truncated,
    /// It has another version than the only one there is.
    #[error("the codec's configuration record has version {version}")]
    Version {
        /// What stands in its place.
        version: u8,
    },
    /// It has more, or larger, parameter sets than a sane stream needs.
    #[error(
        "the codec's configuration record has more than {SETS_MAX} parameter sets, or one above {SET_BYTES_MAX} bytes"
    )]
    TooLarge,
    /// A codec that is not cut into payloads here.
    #[error("{codec} is not cut into payloads here")]
    Codec {
        /// Which.
        codec: Codec,
    },
}

/// What `avcC` and `hvcC` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NalRecord {
    /// Bytes of the length before each NAL unit, 1 to 4.
    pub(crate) length_bytes: usize,
    /// Parameter sets and whatever else stands there, each with its header.
    pub(crate) units: Vec<Bytes>,
}

/// Reads `avcC`. Extensions for the higher profiles are not needed.
pub(crate) fn avc(mut record: Bytes) -> Result<NalRecord, RecordError> {
    check_version(take_u8(&mut record)?, 1)?;
    skip(&mut record, 3)?; // profile, constraints, level
    let length_bytes = usize::from(take_u8(&mut record)? & 3) + 1;
    let mut units = Vec::new();
    let sequence_sets = take_u8(&mut record)? & 0x1f;
    take_units(&mut record, usize::from(sequence_sets), &mut units)?;
    let picture_sets = take_u8(&mut record)?;
    take_units(&mut record, usize::from(picture_sets), &mut units)?;
    Ok(NalRecord { length_bytes, units })
}

/// Reads `hvcC`.
pub(crate) fn hevc(mut record: Bytes) -> Result<NalRecord, RecordError> {
    // Some encoders left version 0 standing from a draft.
    let version = take_u8(&mut record)?;
    if version > 1 {
        return Err(RecordError::Version { version });
    }
    skip(&mut record, 20)?; // profile, level, parallelism, format, frame rate
    let length_bytes = usize::from(take_u8(&mut record)? & 3) + 1;
    let mut units = Vec::new();
    for _ in 0..take_u8(&mut record)? {
        skip(&mut record, 1)?; // type of the array's units, which they have themselves
        let count = record.try_get_u16().map_err(|_| RecordError::Truncated)?;
        take_units(&mut record, usize::from(count), &mut units)?;
    }
    Ok(NalRecord { length_bytes, units })
}

/// Gives the OBUs of `av1C`.
pub(crate) fn av1(mut record: Bytes) -> Result<Bytes, RecordError> {
    const MARKER: u8 = 0x80;
    check_version(take_u8(&mut record)?, MARKER | 1)?;
    skip(&mut record, 3)?; // profile, level, format, delay
    if record.len() > SET_BYTES_MAX {
        return Err(RecordError::TooLarge);
    }
    Ok(record)
}

fn check_version(version: u8, expected: u8) -> Result<(), RecordError> {
    if version == expected { Ok(()) } else { Err(RecordError::Version { version }) }
}

fn take_u8(record: &mut Bytes) -> Result<u8, RecordError> {
    record.try_get_u8().map_err(|_| RecordError::Truncated)
}

fn skip(record: &mut Bytes, count: usize) -> Result<(), RecordError> {
    if count > record.len() {
        return Err(RecordError::Truncated);
    }
    record.advance(count);
    Ok(())
}

fn take_units(record: &mut Bytes, count: usize, units: &mut Vec<Bytes>) -> Result<(), RecordError> {
    for _ in 0..count {
        let length = usize::from(record.try_get_u16().map_err(|_| RecordError::Truncated)?);
        if length > record.len() {
            return Err(RecordError::Truncated);
        }
        if length > SET_BYTES_MAX || units.len() >= SETS_MAX {
            return Err(RecordError::TooLarge);
        }
        units.push(record.split_to(length));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameter_sets_are_found_in_records() {
        let avcc = [1, 0x64, 0, 31, 0xff, 0xe1, 0, 2, 0x67, 7, 1, 0, 1, 0x68, 0xfd, 0xf8];
        let record = avc(Bytes::copy_from_slice(&avcc)).expect("a record");
        assert_eq!(
            (record.length_bytes, &record.units[..]),
            (4, &[Bytes::from_static(&[0x67, 7]), Bytes::from_static(&[0x68])][..])
        );
        let mut hvcc = vec![1];
        hvcc.extend([0; 20]);
        hvcc.extend([0xf1, 2, 0x20, 0, 1, 0, 3, 0x40, 1, 5, 0x21, 0, 1, 0, 2, 0x42, 1]);
        let record = hevc(hvcc.into()).expect("a record");
        assert_eq!((record.length_bytes, record.units.len()), (2, 2));
        assert_eq!(record.units[1][..], [0x42, 1]);
        assert_eq!(
            av1(Bytes::from_static(&[0x81, 0, 0, 0, 0x0a, 1, 7])),
            Ok(Bytes::from_static(&[0x0a, 1, 7]))
        );
    }

    #[test]
    fn other_versions_and_short_records_are_refused() {
        assert_eq!(avc(Bytes::from_static(&[2])), Err(RecordError::Version { version: 2 }));
        assert_eq!(
            avc(Bytes::from_static(&[1, 0x64, 0, 31, 0xff, 0xe1, 0, 2, 0x67])),
            Err(RecordError::Truncated)
        );
        assert_eq!(av1(Bytes::from_static(&[1, 0, 0, 0])), Err(RecordError::Version { version: 1 }));
        let many = [&[1, 0x64, 0, 31, 0xff, 0xe0, 255][..], &[0; 510]].concat();
        assert_eq!(avc(many.into()), Err(RecordError::TooLarge));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..80)) {
            let bytes = Bytes::from(bytes);
            let _ = (avc(bytes.clone()), hevc(bytes.clone()), av1(bytes));
        }
    }
}
