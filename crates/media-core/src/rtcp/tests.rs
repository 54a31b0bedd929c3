//! Behaviour of the module `rtcp`.

use std::time::Duration;

use model::{Bitrate, NtpTime, Ssrc};
use proptest::prelude::*;

use super::*;

const ME: Ssrc = Ssrc::new(0x0102_0304);
const MEDIA: Ssrc = Ssrc::new(0xa1a2_a3a4);

fn only(bytes: &[u8]) -> Packet<'_> {
    let mut packets = parse(bytes);
    let packet = packets.next().expect("one packet").expect("well formed");
    assert_eq!(packets.next(), None);
    packet
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0x55]; // writers append
    write(&mut out);
    out.remove(0);
    out
}

#[test]
fn a_picture_loss_indication_has_the_bytes_of_rfc_4585() {
    let bytes = written(|out| write::picture_loss_indication(out, ME, MEDIA));
    assert_eq!(bytes, [0x81, 206, 0, 2, 1, 2, 3, 4, 0xa1, 0xa2, 0xa3, 0xa4]);
    let Packet::PictureLossIndication(indication) = only(&bytes) else { panic!("another packet") };
    assert_eq!((indication.sender, indication.media), (ME, MEDIA));
}

#[test]
fn a_nack_packs_seventeen_numbers_into_one_entry() {
    let seqs = [0xfffe, 0xffff, 0, 14, 15];
    let bytes = written(|out| assert_eq!(write::nack(out, ME, MEDIA, seqs), 1));
    let entries = &bytes[12..];
    assert_eq!(entries, [0xff, 0xfe, 0x80, 0x03, 0, 15, 0, 0]);
    let Packet::Nack(nack) = only(&bytes) else { panic!("another packet") };
    assert_eq!(nack.seqs().collect::<Vec<_>>(), seqs);
    assert_eq!((nack.sender, nack.media), (ME, MEDIA));
}

#[test]
fn a_nack_for_nothing_is_not_written() {
    let bytes = written(|out| assert_eq!(write::nack(out, ME, MEDIA, []), 0));
    assert!(bytes.is_empty());
}

#[test]
fn a_nack_for_very_many_is_split_into_packets_that_fit_a_datagram() {
    let seqs: Vec<u16> = (0..600).map(|index| index * 20).collect();
    let bytes = written(|out| assert_eq!(write::nack(out, ME, MEDIA, seqs.iter().copied()), 3));
    let mut read = Vec::new();
    for packet in parse(&bytes) {
        let Ok(Packet::Nack(nack)) = packet else { panic!("another packet") };
        read.extend(nack.seqs());
    }
    assert_eq!(read, seqs);
}

#[test]
fn a_receiver_estimate_of_a_browser_is_read() {
    // 0x3 << 18 | 0x1e848 is 125 000 * 8 bit/s.
    let bytes = [
        0x8f, 206, 0, 6, 1, 2, 3, 4, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 2, 0x0d, 0xe8, 0x48, 0, 0, 0, 7, 0,
        0, 0, 8,
    ];
    let Packet::ReceiverEstimate(estimate) = only(&bytes) else { panic!("another packet") };
    assert_eq!(estimate.bitrate, Bitrate::bps(1_000_000));
    assert_eq!(estimate.ssrcs().map(Ssrc::get).collect::<Vec<_>>(), [7, 8]);
}

#[test]
fn an_estimate_beyond_64_bits_saturates() {
    let bytes = [0x8f, 206, 0, 4, 1, 2, 3, 4, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 0, 0xff, 0xff, 0xff];
    let Packet::ReceiverEstimate(estimate) = only(&bytes) else { panic!("another packet") };
    assert_eq!(estimate.bitrate, Bitrate::bps(u64::MAX));
}

#[test]
fn negative_loss_keeps_its_sign() {
    let block = ReportBlock {
        ssrc: MEDIA,
        fraction_lost: 3,
        lost: -2,
        highest_seq: 9,
        jitter: 8,
        last_report: 7,
        delay: 6,
    };
    let bytes = written(|out| write::receiver_report(out, ME, &[block]));
    assert_eq!(bytes[12..16], [3, 0xff, 0xff, 0xfe]);
    let Packet::ReceiverReport(report) = only(&bytes) else { panic!("another packet") };
    assert_eq!((report.ssrc, report.blocks().collect::<Vec<_>>()), (ME, vec![block]));
}

#[test]
fn round_trip_is_what_passed_since_the_report_without_the_receivers_delay() {
    let sent = NtpTime::from_unix(Duration::new(1_700_000_000, 250_000_000));
    let block = ReportBlock {
        ssrc: MEDIA,
        fraction_lost: 0,
        lost: 0,
        highest_seq: 0,
        jitter: 0,
        last_report: sent.middle(),
        delay: 65_536 / 2,
    };
    let round_trip = block.round_trip(sent.plus(Duration::from_millis(540))).expect("a report came");
    assert!(round_trip.abs_diff(Duration::from_millis(40)) < Duration::from_micros(50), "{round_trip:?}");
    assert_eq!(block.round_trip(sent.plus(Duration::from_millis(400))), None, "more delay than time");
    assert_eq!(ReportBlock { last_report: 0, ..block }.round_trip(sent), None, "no report came");
}

#[test]
fn a_compound_of_everything_is_read_in_order_and_the_unknown_is_skipped() {
    let info = SenderInfo {
        ssrc: ME,
        ntp: NtpTime::from_bits(0x0123_4567_89ab_cdef),
        rtp_timestamp: 11,
        packets: 12,
        bytes: 13,
    };
    let mut bytes = written(|out| {
        write::sender_report(out, &info, &[]);
        write::source_description(out, ME, "media-tree");
        out.extend([0x80, 207, 0, 1, 1, 2, 3, 4]); // XR
        out.extend([0x81, 204, 0, 2, 1, 2, 3, 4, b'T', b'E', b'S', b'T']); // APP
        out.extend([0x8f, 206, 0, 3, 1, 2, 3, 4, 0, 0, 0, 0, b'O', b'T', b'H', b'R']);
        out.extend([0x8f, 205, 0, 4, 1, 2, 3, 4, 0xa1, 0xa2, 0xa3, 0xa4, 0, 5, 0, 1, 2, 3, 4, 5]); // TWCC
        write::full_intra_request(out, ME, &[(MEDIA, 200)]);
    });
    // BYE with four bytes of padding.
    bytes.extend([0xa1, 203, 0, 2, 1, 2, 3, 4, 0, 0, 0, 4]);

    let packets: Vec<_> = parse(&bytes).map(|packet| packet.expect("well formed")).collect();
    let [
        Packet::SenderReport(report),
        Packet::SourceDescription(description),
        Packet::TransportFeedback(feedback),
        Packet::FullIntraRequest(request),
        Packet::Goodbye(goodbye),
    ] = packets[..]
    else {
        panic!("{packets:?}")
    };
    assert_eq!((report.info, report.blocks().count()), (info, 0));
    assert!(description.cnames().eq([(ME, &b"media-tree"[..])]));
    assert_eq!((feedback.media, feedback.control), (MEDIA, &[0, 5, 0, 1, 2, 3, 4, 5][..]));
    assert!(request.entries().eq([(MEDIA, 200)]));
    assert!(goodbye.ssrcs().eq([ME]));
}

#[test]
fn a_broken_packet_does_not_hide_the_next_one_but_a_broken_frame_ends_all() {
    let mut bytes = vec![0x81, 201, 0, 1, 1, 2, 3, 4]; // RR that claims a block and has none
    bytes.extend([0xa0, 203, 0, 1, 0, 0, 0, 9]); // BYE with more padding than bytes
    write::picture_loss_indication(&mut bytes, ME, MEDIA);
    bytes.extend([0x80, 200, 0, 9, 1]);
    let packets: Vec<_> = parse(&bytes).collect();
    assert_eq!(
        packets,
        [
            Err(ParseError::Content { packet_type: 201, missing: 24 }),
            Err(ParseError::Padding { padding: 9, available: 4 }),
            Ok(Packet::PictureLossIndication(PictureLossIndication { sender: ME, media: MEDIA })),
            Err(ParseError::Truncated { missing: 35 }),
        ]
    );
    assert_eq!(parse(&[0; 8]).collect::<Vec<_>>(), [Err(ParseError::Version { version: 0 })]);
}

#[test]
fn rtcp_is_told_from_rtp_on_a_shared_port() {
    assert!(is_rtcp(&[0x80, 200]) && is_rtcp(&[0x8f, 206]));
    assert!(!is_rtcp(&[0x80, 96]) && !is_rtcp(&[0x80, 0x80 | 111]), "media with and without marker");
    assert!(!is_rtcp(&[0x16, 200]) && !is_rtcp(&[0x80]), "DTLS, too short");
}

#[test]
fn a_long_canonical_name_is_cut_between_characters() {
    let bytes = written(|out| write::source_description(out, ME, &"é".repeat(200)));
    let Packet::SourceDescription(description) = only(&bytes) else { panic!("another packet") };
    assert!(description.cnames().eq([(ME, "é".repeat(127).as_bytes())]));
}

fn any_block() -> impl Strategy<Value = ReportBlock> {
    (any::<(u32, u8, u32, u32, u32, u32)>(), -0x80_0000..0x80_0000).prop_map(|(fields, lost)| ReportBlock {
        ssrc: Ssrc::new(fields.0),
        fraction_lost: fields.1,
        lost,
        highest_seq: fields.2,
        jitter: fields.3,
        last_report: fields.4,
        delay: fields.5,
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), packet_type in 200u8..=207, length in 0u8..30) {
        let mut bytes = bytes;
        if let [first, second, high, low, ..] = bytes.as_mut_slice() {
            (*first, *second, *high, *low) = (0x80 | (*first & 0x3f), packet_type, 0, length);
        }
        for packet in parse(&bytes).flatten() {
            let items = match packet {
                Packet::SenderReport(report) => report.blocks().count() * 24,
                Packet::ReceiverReport(report) => report.blocks().count() * 24,
                Packet::SourceDescription(description) => description.cnames().map(|(_, name)| name.len()).sum(),
                Packet::Goodbye(goodbye) => goodbye.ssrcs().count() * 4,
                Packet::Nack(nack) => nack.seqs().count() / 17 * 4,
                Packet::PictureLossIndication(_) => 0,
                Packet::FullIntraRequest(request) => request.entries().count() * 8,
                Packet::ReceiverEstimate(estimate) => estimate.ssrcs().count() * 4,
                Packet::TransportFeedback(feedback) => feedback.control.len(),
            };
            prop_assert!(items <= bytes.len());
        }
    }

    #[test]
    fn a_nack_asks_for_what_was_given(start in any::<u16>(), steps in prop::collection::vec(1u16..40, 0..400)) {
        let seqs: Vec<u16> = steps.iter().scan(start, |seq, step| {
            *seq = seq.wrapping_add(*step);
            Some(*seq)
        }).collect();
        let bytes = written(|out| { write::nack(out, ME, MEDIA, seqs.iter().copied()); });
        let read: Vec<u16> = parse(&bytes).flat_map(|packet| match packet {
            Ok(Packet::Nack(nack)) => nack.seqs(),
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(read, seqs);
    }

    #[test]
    fn reports_read_back_however_many_blocks_they_have(
        (ntp, rtp_timestamp, packets, octets) in any::<(u64, u32, u32, u32)>(),
        blocks in prop::collection::vec(any_block(), 0..70),
    ) {
        let info = SenderInfo { ssrc: ME, ntp: NtpTime::from_bits(ntp), rtp_timestamp, packets, bytes: octets };
        let bytes = written(|out| write::sender_report(out, &info, &blocks));
        let mut read = Vec::new();
        for (index, packet) in parse(&bytes).enumerate() {
            match packet {
                Ok(Packet::SenderReport(report)) if index == 0 => {
                    prop_assert_eq!(report.info, info);
                    read.extend(report.blocks());
                }
                Ok(Packet::ReceiverReport(report)) if index > 0 => {
                    prop_assert_eq!(report.ssrc, ME);
                    read.extend(report.blocks());
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!(read, blocks);
    }

    #[test]
    fn a_goodbye_names_every_source(sources in prop::collection::vec(any::<u32>().prop_map(Ssrc::new), 0..70)) {
        let bytes = written(|out| write::goodbye(out, &sources));
        let read: Vec<Ssrc> = parse(&bytes).flat_map(|packet| match packet {
            Ok(Packet::Goodbye(goodbye)) => goodbye.ssrcs(),
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(read, sources);
    }

    #[test]
    fn a_canonical_name_reads_back(name in ".{0,63}") {
        let bytes = written(|out| write::source_description(out, ME, &name));
        prop_assert_eq!(bytes.len() % 4, 0);
        let Packet::SourceDescription(description) = only(&bytes) else { panic!("another packet") };
        prop_assert!(description.cnames().eq([(ME, name.as_bytes())]));
    }

    #[test]
    fn an_estimate_loses_less_than_one_part_in_a_hundred_thousand(
        bits_per_second in 0u64..1 << 50,
        sources in prop::collection::vec(any::<u32>().prop_map(Ssrc::new), 0..5),
    ) {
        let bytes = written(|out| write::receiver_estimate(out, ME, Bitrate::bps(bits_per_second), &sources));
        let Packet::ReceiverEstimate(estimate) = only(&bytes) else { panic!("another packet") };
        let read = estimate.bitrate.as_bps();
        prop_assert!(read <= bits_per_second && bits_per_second - read <= bits_per_second / 100_000);
        prop_assert!(estimate.ssrcs().eq(sources));
    }
}
