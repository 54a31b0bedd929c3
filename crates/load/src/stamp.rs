//! The time of sending, written into the payloads of our own publisher as text: it survives servers that strip header
//! extensions, and can imitate no start code.

use model::NtpTime;

const MAGIC: &[u8; 8] = b"mtstamp:";
/// Bytes of a stamp.
pub(crate) const LENGTH: usize = MAGIC.len() + 16;
/// How far into a payload a stamp begins at most: behind the headers of fragment and slice.
const OFFSET_MAX: usize = 24;

/// Writes a stamp to the start of `out`, which is at least [`LENGTH`] bytes long.
pub(crate) fn write(out: &mut [u8], at: NtpTime) {
    out[..MAGIC.len()].copy_from_slice(MAGIC);
    out[MAGIC.len()..LENGTH].copy_from_slice(format!("{:016x}", at.to_bits()).as_bytes());
}

/// The stamp near the start of `payload`.
pub(crate) fn find(payload: &[u8]) -> Option<NtpTime> {
    let near = &payload[..payload.len().min(OFFSET_MAX + LENGTH)];
    let start = near.windows(MAGIC.len()).position(|window| window == MAGIC)? + MAGIC.len();
    let digits = str::from_utf8(near.get(start..start + 16)?).ok()?;
    u64::from_str_radix(digits, 16).ok().map(NtpTime::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_stamp_is_found_behind_headers(bits: u64, offset in 0..OFFSET_MAX, rest in 0usize..40) {
            let mut payload = vec![0x5a; offset + LENGTH + rest];
            write(&mut payload[offset..], NtpTime::from_bits(bits));
            prop_assert_eq!(find(&payload), Some(NtpTime::from_bits(bits)));
            prop_assert_eq!(find(&payload[..offset + LENGTH - 1]), None);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = find(&[&MAGIC[..], &bytes].concat());
        }
    }
}
