//! Behaviour of the module `record`.

use super::*;
use proptest::prelude::*;

fn times() -> impl Strategy<Value = NtpTime> {
    any::<u64>().prop_map(NtpTime::from_bits)
}

fn addresses() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
        (any::<[u16; 8]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
    ]
}

fn mappings() -> impl Strategy<Value = (Mapping, u64, u128)> {
    (any::<u32>(), 0u64..1 << 40, 0u64..1 << 40, any::<u32>(), any::<u128>()).prop_map(
        |(remote, base, floor, extended, received)| {
            (Mapping { remote, base: base as i64, floor }, base + u64::from(extended), received)
        },
    )
}

prop_compose! {
    fn streams()(
        ssrc in any::<u32>(),
        first_base in 0u64..1 << 20,
        mapping in proptest::option::of(mappings()),
        repair in proptest::option::of((any::<u32>(), 0u64..1 << 48)),
        payload_type in proptest::option::of(0u8..128),
        report in proptest::option::of((times(), any::<u32>())),
        capture in proptest::option::of((times(), any::<u32>())),
        picture in proptest::option::of((any::<[u8; 3]>(), any::<u32>(), any::<u32>())),
        counts in any::<u8>(),
    ) -> StreamRecord {
        StreamRecord {
            ssrc,
            first_base,
            mapping,
            repair,
            payload_type,
            report: report.map(|(sender, timestamp)| Report { sender, timestamp }),
            capture,
            picture: picture.map(|(profile_level_id, width, height)| Picture { profile_level_id, width, height }),
            counts,
        }
    }
}

prop_compose! {
    fn records()(
        offer in ".{0,300}",
        (ufrag, password) in ("[a-z]{4,20}", "[a-z]{22,40}"),
        certificate in proptest::collection::vec(any::<u8>(), 0..500),
        profile in proptest::sample::select(Profile::ALL.to_vec()),
        byte in any::<u8>(),
        (local, remote) in (addresses(), addresses()),
        local_addresses in proptest::collection::vec(addresses(), 0..16),
        rtcp_ssrcs in proptest::collection::vec(any::<u32>(), 0..RTCP_SSRCS_MAX),
        streams in proptest::collection::vec(streams(), 0..9),
        order in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..=2),
        clock in proptest::option::of((times(), times())),
        round_trip in proptest::option::of(any::<u64>().prop_map(Duration::from_nanos)),
    ) -> PublisherRecord {
        let material = Zeroizing::new(vec![byte; profile.keying_material_len()]);
        PublisherRecord {
            offer,
            ice: IceCredentials { ufrag, password: Zeroizing::new(password) },
            certificate: Certificate::new(&certificate, &certificate),
            keys: Keys { profile, material },
            local,
            remote,
            local_addresses,
            rtcp_ssrcs,
            streams,
            order,
            clock,
            round_trip,
        }
    }
}

proptest! {
    #[test]
    fn a_record_comes_back_from_its_bytes(record in records()) {
        prop_assert_eq!(PublisherRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn a_record_from_before_layers_were_counted_is_read(record in records(), stream in streams()) {
        let stream = StreamRecord { counts: 0, ..stream };
        let record = PublisherRecord { streams: vec![stream], order: Vec::new(), clock: None, round_trip: None, ..record };
        let mut bytes = record.encode().to_vec();
        // Behind the count: no order, no clock, no round trip.
        let count = bytes.len() - 3 - 1;
        prop_assert_eq!(bytes.remove(count), 0);
        bytes[0] = VERSION_WITHOUT_COUNTS;
        prop_assert_eq!(PublisherRecord::decode(&bytes), Ok(record));
    }

    #[test]
    fn a_cut_record_is_refused(record in records(), keep in any::<proptest::sample::Index>()) {
        let bytes = record.encode();
        let cut = &bytes[..keep.index(bytes.len())];
        prop_assert_eq!(PublisherRecord::decode(cut), Err(DecodeError::Malformed));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = bytes;
        let _ = PublisherRecord::decode(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
            let _ = PublisherRecord::decode(&bytes);
        }
    }
}

#[test]
fn another_version_is_refused() {
    assert_eq!(PublisherRecord::decode(&[9, 0, 0]), Err(DecodeError::Version { version: 9 }));
}

#[test]
fn bytes_behind_the_record_are_refused() {
    let mut bytes = PublisherRecord {
        offer: String::new(),
        ice: IceCredentials { ufrag: String::new(), password: Zeroizing::default() },
        certificate: Certificate::new(&[], &[]),
        keys: Keys { profile: Profile::AeadAes128Gcm, material: Zeroizing::new(vec![0; 56]) },
        local: ([0, 0, 0, 0], 0).into(),
        remote: ([0, 0, 0, 0], 0).into(),
        local_addresses: Vec::new(),
        rtcp_ssrcs: Vec::new(),
        streams: Vec::new(),
        order: Vec::new(),
        clock: None,
        round_trip: None,
    }
    .encode();
    assert!(PublisherRecord::decode(&bytes).is_ok());
    bytes.push(0);
    assert_eq!(PublisherRecord::decode(&bytes), Err(DecodeError::Malformed));
}
