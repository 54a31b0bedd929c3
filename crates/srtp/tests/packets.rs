//! What holds for every profile, packet and index.

use model::SeqNo;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use srtp::{MasterKey, OpenError, Profile, RtcpIndex, RtcpKey, RtpKey, SealError};

fn profile() -> impl Strategy<Value = Profile> {
    select(Profile::ALL.to_vec())
}

fn master(profile: Profile, seed: u8) -> MasterKey {
    let key: Vec<u8> = (0..profile.key_len() as u8).map(|byte| byte.wrapping_mul(31) ^ seed).collect();
    MasterKey::new(profile, &key, &vec![seed; profile.salt_len()]).expect("fitting lengths")
}

fn seq_no() -> impl Strategy<Value = SeqNo> {
    (0..=SeqNo::MAX.get()).prop_map(SeqNo::new)
}

/// A header of 12 bytes and more with the sequence number in its place.
fn header(seq_no: SeqNo, ssrc: u32, extra: &[u8]) -> Vec<u8> {
    let mut header = vec![0x80, 96];
    header.extend(seq_no.seq().to_be_bytes());
    header.extend(7u32.to_be_bytes());
    header.extend(ssrc.to_be_bytes());
    header.extend(extra);
    header
}

proptest! {
    #[test]
    fn rtp_round_trips_and_both_ways_of_sealing_and_opening_agree(
        profile in profile(), seq_no in seq_no(), ssrc: u32,
        extra in proptest::collection::vec(any::<u8>(), 0..40),
        payload in proptest::collection::vec(any::<u8>(), 0..1400),
    ) {
        let key = RtpKey::derive(&master(profile, 1)).unwrap();
        let header = header(seq_no, ssrc, &extra);
        let plain = [&header[..], &payload].concat();
        let mut sealed = vec![0; plain.len() + 40];
        let length = key.seal(&header, &payload, seq_no, &mut sealed).unwrap();
        sealed.truncate(length);
        prop_assert_eq!(length, plain.len() + profile.rtp_tag_len());

        let mut in_place = plain.clone();
        in_place.resize(length, 0xee);
        prop_assert_eq!(key.seal_in_place(&mut in_place, header.len(), plain.len(), seq_no), Ok(length));
        prop_assert_eq!(&in_place, &sealed);

        let mut opened = Vec::new();
        key.open_into(&sealed, header.len(), seq_no, &mut opened).unwrap();
        prop_assert_eq!(&opened, &payload);
        prop_assert_eq!(key.open_in_place(&mut in_place, header.len(), seq_no), Ok(plain.len()));
        prop_assert_eq!(&in_place[..plain.len()], &plain[..]);
    }

    #[test]
    fn rtp_altered_anywhere_is_refused(
        profile in profile(), seq_no in seq_no(), place: Index, flip in 1u8..,
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let key = RtpKey::derive(&master(profile, 1)).unwrap();
        let header = header(seq_no, 0xfeed_beef, &[1, 2, 3, 4]);
        let mut sealed = vec![0; header.len() + payload.len() + profile.rtp_tag_len()];
        key.seal(&header, &payload, seq_no, &mut sealed).unwrap();
        let place = place.index(sealed.len());
        sealed[place] ^= flip;
        let error = if (2..4).contains(&place) { OpenError::SequenceMismatch } else { OpenError::NotAuthentic };
        prop_assert_eq!(key.open_into(&sealed, header.len(), seq_no, &mut Vec::new()), Err(error));
        prop_assert_eq!(key.open_in_place(&mut sealed, header.len(), seq_no), Err(error));
    }

    #[test]
    fn rtp_under_another_key_or_rollover_counter_is_refused(profile in profile(), seq: u16, roc in 0u32..u32::MAX) {
        let seq_no = SeqNo::from_parts(roc, seq);
        let header = header(seq_no, 1, &[]);
        let mut sealed = vec![0; 12 + 5 + profile.rtp_tag_len()];
        RtpKey::derive(&master(profile, 1)).unwrap().seal(&header, b"hello", seq_no, &mut sealed).unwrap();
        let other_roc = SeqNo::from_parts(roc + 1, seq);
        let (right, wrong) = (RtpKey::derive(&master(profile, 1)).unwrap(), RtpKey::derive(&master(profile, 2)).unwrap());
        let mut opened = Vec::new();
        prop_assert_eq!(right.open_into(&sealed, 12, other_roc, &mut opened), Err(OpenError::NotAuthentic));
        prop_assert_eq!(wrong.open_into(&sealed, 12, seq_no, &mut opened), Err(OpenError::NotAuthentic));
        prop_assert_eq!(right.open_into(&sealed, 12, seq_no, &mut opened), Ok(()));
    }

    #[test]
    fn rtcp_round_trips(
        profile in profile(), index in 0..=RtcpIndex::MAX.get(), packet in proptest::collection::vec(any::<u8>(), 8..1400),
    ) {
        let key = RtcpKey::derive(&master(profile, 1)).unwrap();
        let index = RtcpIndex::new(index).unwrap();
        let mut sealed = packet.clone();
        sealed.resize(packet.len() + profile.rtcp_overhead(), 0xee);
        prop_assert_eq!(key.seal_in_place(&mut sealed, packet.len(), index), Ok(packet.len() + profile.rtcp_overhead()));
        prop_assert_eq!(key.open_in_place(&mut sealed), Ok((packet.len(), index)));
        prop_assert_eq!(&sealed[..packet.len()], &packet[..]);
    }

    #[test]
    fn rtcp_altered_anywhere_is_refused(
        profile in profile(), place: Index, flip in 1u8.., packet in proptest::collection::vec(any::<u8>(), 8..200),
    ) {
        let key = RtcpKey::derive(&master(profile, 1)).unwrap();
        let mut sealed = packet.clone();
        sealed.resize(packet.len() + profile.rtcp_overhead(), 0);
        key.seal_in_place(&mut sealed, packet.len(), RtcpIndex::ZERO).unwrap();
        let place = place.index(sealed.len());
        sealed[place] ^= flip;
        let error = key.open_in_place(&mut sealed).unwrap_err();
        prop_assert!(matches!(error, OpenError::NotAuthentic | OpenError::NotEncrypted), "{}", error);
    }

    #[test]
    fn no_bytes_and_no_lengths_panic(
        profile in profile(), seq_no: u64, header_len in 0usize..80, plain_len in 0usize..80,
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let rtp = RtpKey::derive(&master(profile, 1)).unwrap();
        let rtcp = RtcpKey::derive(&master(profile, 1)).unwrap();
        let seq_no = SeqNo::new(seq_no);
        let refused = |result: Result<(), OpenError>| result.is_err();
        prop_assert!(refused(rtp.open_into(&bytes, header_len, seq_no, &mut Vec::new())));
        prop_assert!(refused(rtp.open_in_place(&mut bytes.clone(), header_len, seq_no).map(drop)));
        prop_assert!(refused(rtcp.open_in_place(&mut bytes.clone()).map(drop)));
        let _: Result<usize, SealError> = rtp.seal_in_place(&mut bytes.clone(), header_len, plain_len, seq_no);
        let _: Result<usize, SealError> = rtcp.seal_in_place(&mut bytes.clone(), plain_len, RtcpIndex::ZERO);
        let _: Result<usize, SealError> = rtp.seal(&bytes, &bytes, seq_no, &mut vec![0; plain_len]);
    }
}

#[test]
fn a_packet_that_nobody_could_open_is_not_sealed() {
    let key = RtpKey::derive(&master(Profile::AeadAes128Gcm, 1)).unwrap();
    let seq_no = SeqNo::from_parts(1, 2);
    let mut out = [0; 64];
    let header = header(seq_no, 1, &[]);
    assert_eq!(key.seal(&header, b"", SeqNo::from_parts(1, 3), &mut out), Err(SealError::SequenceMismatch));
    assert_eq!(key.seal(&header[..11], b"", seq_no, &mut out), Err(SealError::HeaderTooShort { length: 11 }));
    let room = SealError::NoRoom { needed: 28, available: 27 };
    assert_eq!(key.seal(&header, b"", seq_no, &mut out[..27]), Err(room));
    let past_the_end = SeqNo::new((1 << 48) + 2);
    assert_eq!(key.seal(&header, b"", past_the_end, &mut out), Err(SealError::IndexExhausted));
}
