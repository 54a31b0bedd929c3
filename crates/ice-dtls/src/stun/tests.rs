//! Checks against the vectors of RFC 5769, what clients leave out, and arbitrary bytes.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

const PWD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
const TRANSACTION: Transaction =
    Transaction([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);

/// RFC 5769, section 2.1.
const REQUEST: [u8; 108] = [
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa,
    0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73, 0x74, 0x20,
    0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff, 0x80, 0x29, 0x00,
    0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a,
    0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20, 0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf,
    0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28,
    0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
];

/// RFC 5769, section 2.2.
const SUCCESS: [u8; 80] = [
    0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa,
    0x87, 0xdf, 0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f,
    0x72, 0x20, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43, 0x00, 0x08, 0x00,
    0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd, 0x9e, 0x90, 0xc3, 0x8c, 0x74, 0x89, 0xf9, 0x2a, 0xf9, 0xba, 0x53,
    0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00, 0x04, 0xc0, 0x7d, 0x4c, 0x96,
];

fn check(controlling: Option<(u64, bool)>) -> Check<'static> {
    let (remote_ufrag, local_ufrag) = ("server", "client");
    Check { transaction: TRANSACTION, remote_ufrag, local_ufrag, priority: 0x6e00_01ff, controlling }
}

fn request(controlling: Option<(u64, bool)>) -> Vec<u8> {
    let mut out = vec![0xee; 200];
    let length = write_request(&mut out, &check(controlling), PWD);
    out.truncate(length);
    out
}

/// Leaves attributes out and signs again, as a client that never writes them would.
fn without(message: &[u8], kinds: &[u16]) -> Vec<u8> {
    let mut out = vec![0; message.len()];
    let mut writer = Writer::begin(&mut out, BINDING_REQUEST, TRANSACTION);
    for attribute in Attributes::of(message) {
        let is_trailer = [MESSAGE_INTEGRITY, FINGERPRINT].contains(&attribute.kind);
        if !is_trailer && !kinds.contains(&attribute.kind) {
            writer.attribute(attribute.kind, attribute.value);
        }
    }
    let length = writer.finish(PWD);
    out.truncate(length);
    out
}

#[test]
fn the_messages_of_rfc_5769_are_understood_and_authentic() {
    let parsed = BindingRequest::parse(&REQUEST).expect("a request");
    assert_eq!((parsed.local_ufrag(), parsed.remote_ufrag()), ("evtj", "h6vY"));
    assert_eq!(parsed.transaction(), TRANSACTION);
    assert!(!parsed.use_candidate());
    assert!(verify(&REQUEST, PWD) && verify(&SUCCESS, PWD));
    assert!(!verify(&REQUEST, "VOkJxbRl1RmTxUk/WvJxBu"));
    assert!(BindingRequest::parse(&SUCCESS).is_none());
}

#[test]
fn an_answer_tells_the_mapped_address_as_in_rfc_5769() {
    let mut out = [0; SUCCESS_LENGTH_MAX];
    let length = write_success(&mut out, TRANSACTION, "192.0.2.1:32853".parse().unwrap(), PWD);
    assert_eq!(out[HEADER_LEN..HEADER_LEN + 12], SUCCESS[36..48]);
    assert!(verify(&out[..length], PWD));
    assert!(!verify(&out[..length], "another"));

    let length = write_success(
        &mut out,
        TRANSACTION,
        "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap(),
        PWD,
    );
    let address = [
        0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc,
        0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
    ];
    assert_eq!(out[HEADER_LEN..HEADER_LEN + 24], address, "RFC 5769, section 2.3");
    assert_eq!(length, SUCCESS_LENGTH_MAX);
    assert!(verify(&out, PWD));
}

#[test]
fn an_ipv4_peer_of_a_dual_stack_socket_sees_its_ipv4_address() {
    let (mut mapped, mut plain) = ([0; SUCCESS_LENGTH_MAX], [0; SUCCESS_LENGTH_MAX]);
    let length = write_success(&mut mapped, TRANSACTION, "[::ffff:192.0.2.1]:5000".parse().unwrap(), PWD);
    assert_eq!(write_success(&mut plain, TRANSACTION, "192.0.2.1:5000".parse().unwrap(), PWD), length);
    assert_eq!(mapped, plain);
}

#[test]
fn a_check_round_trips_with_and_without_nomination() {
    for (controlling, nominates) in [(None, false), (Some((7, false)), false), (Some((7, true)), true)] {
        let bytes = request(controlling);
        let parsed = BindingRequest::parse(&bytes).expect("a request");
        assert_eq!((parsed.local_ufrag(), parsed.remote_ufrag()), ("server", "client"));
        assert_eq!(parsed.use_candidate(), nominates);
        assert!(verify(&bytes, PWD));
        assert!(bytes.len() <= check(controlling).length_max());
    }
}

#[test]
fn a_check_without_priority_and_role_is_taken() {
    let bytes = without(&request(Some((7, true))), &[PRIORITY, ICE_CONTROLLING]);
    assert!(verify(&bytes, PWD));
    assert!(BindingRequest::parse(&bytes).expect("a request").use_candidate());
}

#[test]
fn a_check_without_user_name_or_integrity_is_none() {
    assert_eq!(BindingRequest::parse(&without(&REQUEST, &[USERNAME])), None);
    let mut bare = REQUEST[..76].to_vec();
    bare[3] = 56;
    assert!(is_stun(&bare));
    assert_eq!(BindingRequest::parse(&bare), None);
    assert!(!verify(&bare, PWD));
}

#[test]
fn a_nomination_behind_the_integrity_is_not_believed() {
    let mut forged = REQUEST[..100].to_vec();
    forged.extend([0x00, 0x25, 0x00, 0x00]);
    forged[3] = 84;
    assert!(verify(&forged, PWD), "the part that is signed is authentic");
    assert!(!BindingRequest::parse(&forged).expect("a request").use_candidate());
}

#[test]
fn a_wrong_fingerprint_is_refused_and_a_missing_one_is_not() {
    let mut wrong = REQUEST;
    wrong[107] ^= 1;
    assert!(!verify(&wrong, PWD));
    let mut bare = REQUEST[..100].to_vec();
    bare[3] = 80;
    assert!(verify(&bare, PWD));
}

#[test]
fn nothing_is_written_where_there_is_no_room() {
    let mut out = [0; SUCCESS_LENGTH_MAX - 1];
    assert_eq!(write_success(&mut out, TRANSACTION, "192.0.2.1:1".parse().unwrap(), PWD), 0);
    assert_eq!(write_request(&mut out[..60], &check(None), PWD), 0);
    assert_eq!(out, [0; SUCCESS_LENGTH_MAX - 1]);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), place: Index) {
        prop_assert!(!verify(&bytes, PWD));
        let _ = BindingRequest::parse(&bytes);
        // The same behind a header that lets the attributes be read.
        let mut message = REQUEST[..HEADER_LEN].to_vec();
        message.extend(&bytes[..bytes.len() / 4 * 4]);
        message[3] = (message.len() - HEADER_LEN) as u8;
        prop_assert!(!verify(&message, PWD));
        let _ = BindingRequest::parse(&message);
        let mut cut = REQUEST[..place.index(REQUEST.len())].to_vec();
        prop_assert!(!verify(&cut, PWD));
        cut.extend(&bytes);
        let _ = BindingRequest::parse(&cut);
    }

    #[test]
    fn a_message_altered_anywhere_but_in_the_header_of_the_fingerprint_is_refused(place: Index, flip in 1u8..) {
        let mut bytes = request(Some((7, true)));
        let place = place.index(bytes.len() - 4);
        let place = if place >= bytes.len() - 8 { place + 4 } else { place };
        bytes[place] ^= flip;
        prop_assert!(!verify(&bytes, PWD), "byte {}", place);
    }
}
