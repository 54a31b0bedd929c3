//! Behaviour of the module `encoding`.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

fn keys() -> impl Strategy<Value = MasterKey> {
    (select(Profile::ALL.to_vec()), any::<[u8; 46]>()).prop_map(|(profile, bytes)| {
        let (key, salt) = bytes.split_at(profile.key_len());
        MasterKey::new(profile, key, &salt[..profile.salt_len()]).expect("lengths of the profile")
    })
}

fn counters() -> impl Strategy<Value = CounterBlock> {
    (0..INDEX_END, 0u64..5000)
        .prop_map(|(next, ahead)| CounterBlock { next, reserved_until: (next + ahead).min(INDEX_END - 1) })
}

fn formats() -> impl Strategy<Value = Format> {
    (select(Codec::ALL.to_vec()), "[a-z=;0-9]{0,90}", 0u8..128, proptest::option::of(0u8..128)).prop_map(
        |(codec, fmtp, payload_type, rtx_payload_type)| Format {
            codec,
            fmtp: fmtp.into(),
            payload_type,
            rtx_payload_type,
        },
    )
}

fn segments() -> impl Strategy<Value = Segment> {
    let part = (1..POINTS_MAX as u8, any::<u8>(), any::<u16>()).prop_map(|(point, generation, count)| Part {
        point,
        generation,
        count,
    });
    let places = (0..INDEX_END, any::<u32>(), 0..INDEX_END);
    let scale = (any::<u16>(), 1..=u16::MAX);
    (places, any::<(u32, u32)>(), scale, 0u8..128, proptest::option::of(part)).prop_map(
        |(places, timestamps, scale, payload_type, part)| Segment {
            first_out: SeqNo::new(places.0),
            source: Ssrc::new(places.1),
            source_base: SeqNo::new(places.2),
            source_timestamp: timestamps.0,
            out_timestamp: timestamps.1,
            scale: Scale { numerator: scale.0, denominator: scale.1 },
            payload_type,
            part,
        },
    )
}

prop_compose! {
    fn out_tracks()(
        mid in "[a-zA-Z0-9_-]{1,16}",
        ssrc in any::<u32>(),
        rtx_ssrc in any::<Option<u32>>(),
        formats in proptest::collection::vec(formats(), 0..20),
        ids in proptest::array::uniform5(proptest::option::of(1u8..=14)),
        nack in any::<bool>(),
    ) -> OutTrack {
        let [mid_id, abs_capture_time, audio_level, video_orientation, transport_sequence] = ids;
        OutTrack {
            mid: Mid::new(&mid).expect("a mid"),
            ssrc: Ssrc::new(ssrc),
            rtx_ssrc: rtx_ssrc.map(Ssrc::new),
            formats,
            extensions: Extensions {
                mid: mid_id,
                abs_capture_time,
                audio_level,
                video_orientation,
                transport_sequence,
            },
            nack,
        }
    }
}

fn selections() -> impl Strategy<Value = Selection> {
    prop_oneof![
        Just(Selection::Auto),
        any::<u8>().prop_map(Selection::Layer),
        "[a-zA-Z0-9_-]{1,16}".prop_map(|rid| Selection::Rid(Rid::new(&rid).expect("a rid"))),
        "[a-zA-Z0-9_-]{1,16}".prop_map(|rid| Selection::UpTo(Rid::new(&rid).expect("a rid"))),
    ]
}

prop_compose! {
    fn tracks()(
        out in out_tracks(),
        layer in any::<u8>(),
        selection in selections(),
        segments in proptest::collection::vec(segments(), 0..=SEGMENTS_MAX),
        line in any::<Option<(u64, u32)>>(),
        first_timestamp in any::<u32>(),
        (sent, rtx) in (counters(), counters()),
    ) -> TrackRecord {
        let line = line.map(|(time, timestamp)| Line { capture_time: NtpTime::from_bits(time), timestamp });
        TrackRecord { out, layer, selection, segments, line, first_timestamp, sent, rtx }
    }
}

prop_compose! {
    fn records()(
        id in any::<u64>(),
        broadcast in "[a-z0-9][a-z0-9._-]{0,62}",
        (local, remote) in any::<(std::net::IpAddr, (std::net::IpAddr, u16))>(),
        (send, receive) in (keys(), keys()),
        (audio, video) in (proptest::option::of(tracks()), proptest::option::of(tracks())),
        cname in "[a-z0-9]{0,255}",
        srtcp_index in counters(),
        srtcp_received in proptest::option::of(0..INDEX_END),
    ) -> ViewerRecord {
        ViewerRecord {
            id: ViewerId::new(id),
            broadcast: BroadcastId::new(&broadcast).expect("an id"),
            path: Path { local, remote: remote.into() },
            send,
            receive,
            audio,
            video,
            cname,
            srtcp_index,
            srtcp_received,
        }
    }
}

/// A record of this picture alone, and its bytes as they were before anybody told when packets arrived: but for the version.
fn without_transport_sequence(record: ViewerRecord, mut track: TrackRecord) -> (ViewerRecord, Vec<u8>) {
    track.out.extensions.transport_sequence = None;
    let record = ViewerRecord { audio: None, video: Some(track), ..record };
    let mut bytes = record.encode().to_vec();
    assert_eq!(bytes.pop(), Some(0), "it has none");
    (record, bytes)
}

fn is_same_key(one: &MasterKey, other: &MasterKey) -> bool {
    (one.profile(), one.key(), one.salt()) == (other.profile(), other.key(), other.salt())
}

proptest! {
    #[test]
    fn a_record_comes_back_from_its_bytes(record in records()) {
        let back = ViewerRecord::decode(&record.encode()).expect("its own bytes");
        prop_assert!(is_same_key(&back.send, &record.send) && is_same_key(&back.receive, &record.receive));
        prop_assert_eq!((back.id, back.broadcast, back.path), (record.id, record.broadcast, record.path));
        prop_assert_eq!((back.audio, back.video, back.cname), (record.audio, record.video, record.cname));
        prop_assert_eq!((back.srtcp_index, back.srtcp_received), (record.srtcp_index, record.srtcp_received));
    }

    #[test]
    fn a_record_from_before_layers_could_be_chosen_is_read(record in records(), track in tracks()) {
        let track = TrackRecord { selection: Selection::Auto, segments: Vec::new(), line: None, ..track };
        let (record, mut bytes) = without_transport_sequence(record, track);
        // Behind the selection: no segments, no line, the first timestamp, two counters.
        let selection = bytes.len() - (1 + 1 + 4 + 2 * 16) - 1;
        prop_assert_eq!(bytes.remove(selection), 0);
        bytes[0] = VERSION_WITHOUT_SELECTION;
        let back = ViewerRecord::decode(&bytes).expect("an older record");
        prop_assert_eq!(back.video, record.video);
        prop_assert_eq!(back.id, record.id);
    }

    #[test]
    fn a_record_from_before_streams_were_divided_is_read(record in records(), track in tracks(), segment in segments()) {
        let segments = vec![Segment { part: None, ..segment }];
        let track = TrackRecord { segments, line: None, ..track };
        let (record, mut bytes) = without_transport_sequence(record, track);
        // Behind the part: no line, the first timestamp, two counters.
        let part = bytes.len() - (1 + 4 + 2 * 16) - 1;
        prop_assert_eq!(bytes.remove(part), 0);
        bytes[0] = VERSION_WITHOUT_PARTS;
        prop_assert_eq!(ViewerRecord::decode(&bytes).expect("an older record").video, record.video);
    }

    #[test]
    fn a_record_from_before_arrivals_were_told_is_read(record in records(), track in tracks()) {
        let (record, mut bytes) = without_transport_sequence(record, track);
        bytes[0] = VERSION_WITHOUT_TRANSPORT_SEQUENCE;
        prop_assert_eq!(ViewerRecord::decode(&bytes).expect("an older record").video, record.video);
    }

    #[test]
    fn a_cut_record_is_refused(record in records(), keep in any::<Index>()) {
        let bytes = record.encode();
        let cut = &bytes[..keep.index(bytes.len())];
        prop_assert_eq!(ViewerRecord::decode(cut).err(), Some(DecodeError::Malformed));
    }

    #[test]
    fn bytes_behind_a_record_are_refused(record in records()) {
        let mut bytes = record.encode();
        bytes.push(0);
        prop_assert_eq!(ViewerRecord::decode(&bytes).err(), Some(DecodeError::Malformed));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = bytes;
        let _ = ViewerRecord::decode(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
            let _ = ViewerRecord::decode(&bytes);
        }
    }

    /// What opens is within bounds: nobody has to check it again.
    #[test]
    fn a_changed_byte_gives_a_record_within_bounds_or_none(
        record in records(), at in any::<Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = record.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let Ok(changed) = ViewerRecord::decode(&bytes) else { return Ok(()) };
        for track in [changed.audio, changed.video].into_iter().flatten() {
            prop_assert!(track.sent.next <= track.sent.reserved_until && track.sent.reserved_until < INDEX_END);
            prop_assert!(track.rtx.next <= track.rtx.reserved_until && track.rtx.reserved_until < INDEX_END);
            prop_assert!(track.segments.len() <= SEGMENTS_MAX);
            prop_assert!(track.segments.iter().all(|segment| segment.scale.denominator > 0));
            prop_assert!(track.out.extensions.ids().all(|id| (1..=14).contains(&id)));
        }
    }
}

#[test]
fn another_version_is_refused() {
    assert_eq!(ViewerRecord::decode(&[9, 0]).err(), Some(DecodeError::Version { version: 9 }));
}
