//! Media packets: sealing, opening, versions, golden packets.

mod support;

use bytes::Bytes;
use link::wire::media::*;
use link::wire::{Keyring, Version};
use media_core::TreePacket;
use media_core::svc::{self, Svc};
use model::{Epoch, NtpTime, SeqNo, Ssrc};
use proptest::prelude::*;
use support::golden;
use support::source::key;

fn packet() -> TreePacket {
    TreePacket {
        ssrc: Ssrc::new(0x1111_1111),
        seq_no: SeqNo::from_parts(0x0001_0002, 0xfffe),
        timestamp: 0x0bad_cafe,
        marker: false,
        starts_keyframe: true,
        capture_time: NtpTime::from_bits(0xe8d4_a510_8000_0000),
        audio_level: None,
        orientation: 2,
        svc: None,
        payload: Bytes::from((0..45).collect::<Vec<u8>>()),
    }
}

fn any_packet() -> impl Strategy<Value = TreePacket> {
    let flags = any::<(bool, bool, Option<u8>, u8)>();
    let payload = prop::collection::vec(any::<u8>(), 0..1500);
    let svc = any::<Option<([u8; svc::BYTES], u8)>>();
    (any::<u32>(), 0..=SeqNo::MAX.get(), any::<u32>(), flags, (any::<u64>(), svc), payload).prop_map(
        |(
            ssrc,
            seq_no,
            timestamp,
            (marker, starts_keyframe, audio_level, orientation),
            (time, svc),
            payload,
        )| {
            TreePacket {
                ssrc: Ssrc::new(ssrc),
                seq_no: SeqNo::new(seq_no),
                timestamp,
                marker,
                starts_keyframe,
                capture_time: NtpTime::from_bits(time),
                audio_level,
                orientation,
                svc: svc.map(|(bytes, generation)| Svc { generation, ..Svc::from_bytes(bytes) }),
                payload: payload.into(),
            }
        },
    )
}

fn open(wire: &[u8]) -> Result<TreePacket, OpenError> {
    let header = Header::parse(wire).expect("a tree packet");
    let mut payload = Vec::new();
    GroupOpener::new(&key(1)).open(&header, wire, &mut payload)?;
    Ok(header.tree_packet(payload.into()))
}

proptest! {
    #[test]
    fn a_packet_round_trips_and_sealing_is_a_pure_function(packet in any_packet()) {
        let wire = GroupSealer::new(&key(1)).seal(&packet).expect("sealable");
        prop_assert_eq!(&wire, &GroupSealer::new(&key(1)).seal(&packet).expect("sealable"));
        prop_assert_eq!(open(&wire), Ok(packet));
    }

    #[test]
    fn a_single_changed_bit_never_verifies(packet in any_packet(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut wire = GroupSealer::new(&key(1)).seal(&packet).expect("sealable").to_vec();
        let at = at.index(wire.len());
        wire[at] ^= 1 << bit;
        let mut payload = Vec::new();
        let opened = Header::parse(&wire).map(|header| GroupOpener::new(&key(1)).open(&header, &wire, &mut payload));
        prop_assert!(!matches!(opened, Ok(Ok(()))));
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), header in any::<bool>()) {
        if header && bytes.len() > 17 {
            bytes[0] = 0xb0;
            bytes[12..17].copy_from_slice(&[0x4d, 0x54, 0, 7, 0x10]);
        }
        if let Ok(header) = Header::parse(&bytes) {
            prop_assert!(GroupOpener::new(&key(1)).open(&header, &bytes, &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn all_packets_of_a_frame_but_the_last_are_multiples_of_16_longer(length in 0usize..=1392) {
        let packet = TreePacket { payload: vec![1; length].into(), ..packet() };
        let wire = GroupSealer::new(&key(1)).seal(&packet).expect("sealable");
        prop_assert_eq!((wire.len() - HEADER_BYTES - TAG_BYTES) % 16, 0);
        let last = GroupSealer::new(&key(1)).seal(&TreePacket { marker: true, ..packet }).expect("sealable");
        prop_assert_eq!(last.len(), HEADER_BYTES + length + TAG_BYTES);
    }
}

#[test]
fn packets_stay_the_same_on_the_wire() {
    let sound = TreePacket {
        marker: true,
        starts_keyframe: false,
        audio_level: Some(0x9f),
        orientation: 0,
        payload: Bytes::from_static(b"opus"),
        ..packet()
    };
    let empty = TreePacket { payload: Bytes::new(), ..packet() };
    for (file, packet) in
        [("media-padded.hex", packet()), ("media-sound.hex", sound), ("media-empty.hex", empty)]
    {
        golden::check(file, &GroupSealer::new(&key(1)).seal(&packet).expect("sealable"));
        assert_eq!(open(&golden::read(file)), Ok(packet), "{file}");
    }
}

#[test]
fn another_major_version_is_a_typed_error_and_another_minor_one_is_not() {
    let mut wire = GroupSealer::new(&key(1)).seal(&packet()).expect("sealable").to_vec();
    wire[16] = 0x2f;
    assert_eq!(Header::parse(&wire), Err(HeaderError::Version(Version { major: 2, minor: 15 })));
    wire[16] = 0x1f;
    assert!(Header::parse(&wire).is_ok());
}

#[test]
fn unknown_flags_and_reserved_bytes_are_ignored() {
    let mut wire = GroupSealer::new(&key(1)).seal(&packet()).expect("sealable").to_vec();
    let header = Header::parse(&wire);
    wire[17] |= 0xf8;
    wire[36..44].fill(0xff);
    assert_eq!(Header::parse(&wire), header);
}

#[test]
fn what_cannot_be_sealed_is_refused() {
    let sealer = GroupSealer::new(&key(1));
    let long = TreePacket { payload: vec![0; PAYLOAD_BYTES_MAX + 1].into(), ..packet() };
    assert_eq!(sealer.seal(&long), Err(SealError::TooLong { length: PAYLOAD_BYTES_MAX + 1 }));
    let late = TreePacket { seq_no: SeqNo::new(1 << 48), ..packet() };
    assert_eq!(sealer.seal(&late), Err(SealError::Exhausted));
}

#[test]
fn a_keyring_opens_two_generations_and_forgets_the_third() {
    let epoch = Some(Epoch { counter: 1, random: 1 });
    let mut keyring = Keyring::default();
    let opens = |keyring: &Keyring, generation| {
        let wire = GroupSealer::new(&key(generation)).seal(&packet()).expect("sealable");
        keyring.open(&Header::parse(&wire).expect("a tree packet"), &wire, &mut Vec::new())
    };
    assert!(keyring.install(epoch, &key(1)));
    assert!(!keyring.install(epoch, &key(1)), "held already");
    assert!(keyring.install(epoch, &key(2)));
    assert_eq!((opens(&keyring, 1), opens(&keyring, 2)), (Ok(()), Ok(())));
    assert!(keyring.install(epoch, &key(3)));
    assert_eq!(opens(&keyring, 1), Err(OpenError::UnknownGeneration));
    assert_eq!((opens(&keyring, 2), opens(&keyring, 3)), (Ok(()), Ok(())));
    assert!(!keyring.install(epoch, &key(1)), "older than both");
    // A lower counter of a later run: another process has taken over.
    assert!(keyring.install(Some(Epoch { counter: 2, random: 0 }), &key(1)));
    assert_eq!(keyring.keys().next(), Some(&key(1)));
}

/// Nodes of before the counts read the packet as it was, and pass on every byte of it.
#[test]
fn layers_stand_where_reserved_bytes_were() {
    let plain = packet();
    let layered = TreePacket { svc: Some(Svc::from_bytes([1, 2, 3, 4, 5, 6, 0x96, 0x5b])), ..plain.clone() };
    let seal = |packet: &TreePacket| GroupSealer::new(&key(1)).seal(packet).expect("sealable");
    let (before, after) = (seal(&plain), seal(&layered));
    assert_eq!((before[17], after[17]), (0x01, 0x05));
    assert_eq!((&before[36..44], &after[36..44]), (&[0; 8][..], &[1, 2, 3, 4, 5, 6, 0x96, 0x5b][..]));
    assert_eq!((before.len(), &before[..17], &before[18..36]), (after.len(), &after[..17], &after[18..36]));
    assert_eq!(open(&after), Ok(layered.clone()));

    // Its counts in a later generation.
    let svc = layered.svc.map(|svc| Svc { generation: 0xa0 | svc.generation, ..svc });
    let later = TreePacket { svc, ..layered };
    let after = seal(&later);
    assert_eq!((after[17], &after[36..44]), (0xa5, &[1, 2, 3, 4, 5, 6, 0x96, 0x5b][..]));
    assert_eq!(open(&after), Ok(later));
}
