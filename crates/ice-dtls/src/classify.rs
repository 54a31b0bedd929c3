//! What a datagram on a media port is, by its first bytes (RFC 7983, RFC 5761).

use crate::stun;

/// Kind of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// STUN: a connectivity or consent check, or an answer to one.
    Stun,
    /// DTLS records.
    Dtls,
    /// SRTP.
    Rtp,
    /// SRTCP.
    Rtcp,
    /// None of these, or shorter than the header of what it starts like.
    Unknown,
}

/// Looks at the first bytes only: says what to try, not that it is well-formed.
#[must_use]
pub fn classify(datagram: &[u8]) -> Datagram {
    match *datagram {
        [0..=3, ..] if stun::is_stun(datagram) => Datagram::Stun,
        [20..=63, ..] if datagram.len() >= DTLS_HEADER_LEN => Datagram::Dtls,
        // RFC 5761, section 4: payload types 64 to 95 are left to RTCP, whose types are 192 to 223.
        [128..=191, 192..=223, ..] if datagram.len() >= RTCP_HEADER_LEN => Datagram::Rtcp,
        [128..=191, 0..=191 | 224..=255, ..] if datagram.len() >= RTP_HEADER_LEN => Datagram::Rtp,
        _ => Datagram::Unknown,
    }
}

const DTLS_HEADER_LEN: usize = 13;
const RTCP_HEADER_LEN: usize = 8;
const RTP_HEADER_LEN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn datagram(first: [u8; 2]) -> Vec<u8> {
        let mut datagram = vec![first[0], first[1], 0, 0, 0x21, 0x12, 0xa4, 0x42];
        datagram.resize(40, 0);
        datagram[3] = 20;
        datagram
    }

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        assert_eq!(classify(&datagram([0, 1])), Datagram::Stun);
        assert_eq!(classify(&datagram([22, 254])), Datagram::Dtls);
        assert_eq!(classify(&datagram([128, 96])), Datagram::Rtp);
        assert_eq!(classify(&datagram([144, 96 | 128])), Datagram::Rtp);
        assert_eq!(classify(&datagram([128, 200])), Datagram::Rtcp);
        assert_eq!(classify(&datagram([129, 206])), Datagram::Rtcp);
        for unknown in [4, 19, 64, 127, 192, 255] {
            assert_eq!(classify(&datagram([unknown, 0])), Datagram::Unknown);
        }
    }

    #[test]
    fn a_datagram_shorter_than_its_header_is_unknown() {
        for (first, header) in [([22, 254], 13), ([128, 96], 12), ([128, 200], 8), ([0, 1], 20)] {
            assert_eq!(classify(&datagram(first)[..header - 1]), Datagram::Unknown);
        }
        assert_eq!(classify(&[]), Datagram::Unknown);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let kind = classify(&bytes);
            prop_assert_eq!(kind == Datagram::Stun, stun::is_stun(&bytes));
        }
    }
}
