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
        write::transport_feedback(out, (ME, MEDIA), (5, 6), &[Some(0x0203_0410)]);
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
    assert_eq!((feedback.media, feedback.base_seq, feedback.count), (MEDIA, 5, 6));
    assert!(feedback.arrivals().eq([Arrival { seq: 5, at: 0x0203_0410 }]));
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

/// Feedback of `ME` on `MEDIA`, whatever follows both.
fn transport_feedback(control: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x8f, 205, 0, (control.len() / 4 + 2) as u8, 1, 2, 3, 4, 0xa1, 0xa2, 0xa3, 0xa4];
    bytes.extend(control);
    bytes
}

fn arrivals(bytes: &[u8]) -> Vec<(u16, u32)> {
    let Packet::TransportFeedback(feedback) = only(bytes) else { panic!("another packet") };
    feedback.arrivals().map(|Arrival { seq, at }| (seq, at)).collect()
}

#[test]
fn a_run_of_arrivals_is_read() {
    let bytes = transport_feedback(&[0, 5, 0, 3, 0, 1, 2, 9, 0x20, 3, 4, 8, 12, 0, 0, 0]);
    let Packet::TransportFeedback(feedback) = only(&bytes) else { panic!("another packet") };
    assert_eq!((feedback.sender, feedback.media), (ME, MEDIA));
    assert_eq!((feedback.base_seq, feedback.status_count, feedback.count), (5, 3, 9));
    assert_eq!(arrivals(&bytes), [(5, 0x1_0204), (6, 0x1_020c), (7, 0x1_0218)]);
}

#[test]
fn vectors_of_both_kinds_are_read_over_the_end_of_numbers_and_times() {
    // Of 14 one-bit statuses the first and the third; of seven two-bit ones three count: late, lost, in time.
    let bytes = transport_feedback(&[
        0xff, 0xfe, 0, 17, 0xff, 0xff, 0xff, 7, 0xa8, 0, 0xe1, 0, 255, 1, 0xff, 0xff, 2, 0, 0, 0,
    ]);
    assert_eq!(arrivals(&bytes), [(0xfffe, u32::MAX), (0, 0), (12, u32::MAX), (14, 1)]);
}

#[test]
fn what_is_beyond_the_count_is_not_looked_at() {
    // A run of 8191 that arrived, of which two count; and statuses that mean nothing, behind the last one.
    let bytes = transport_feedback(&[0, 0, 0, 2, 0, 0, 0, 0, 0x3f, 0xff, 1, 1]);
    assert_eq!(arrivals(&bytes), [(0, 1), (1, 2)]);
    let bytes = transport_feedback(&[0, 0, 0, 1, 0, 0, 0, 0, 0xd3, 0xff, 1, 0]);
    assert_eq!(arrivals(&bytes), [(0, 1)]);
    assert!(arrivals(&transport_feedback(&[0, 0, 0, 0, 0, 0, 0, 0])).is_empty());
}

#[test]
fn a_long_silence_is_read_in_few_steps() {
    // Eight runs of 8191 losses, the last status of which is none.
    let mut control = vec![0, 7, 0xff, 0xf9, 0, 0, 0, 0];
    (0..8).for_each(|_| control.extend([0x1f, 0xff]));
    control.extend([0x20, 1, 3, 0]);
    assert_eq!(arrivals(&transport_feedback(&control)), [(7u16.wrapping_add(65_528), 3)]);
}

#[test]
fn transport_feedback_without_what_it_promises_is_refused() {
    let refused = |control: &[u8]| {
        let bytes = transport_feedback(control);
        parse(&bytes).next()?.err()
    };
    let content = |missing| Some(ParseError::Content { packet_type: 205, missing });
    assert_eq!(refused(&[0, 0, 0, 1]), content(4));
    assert_eq!(refused(&[0, 0, 0, 1, 0, 0, 0, 0]), content(2), "no chunk");
    assert_eq!(refused(&[0, 0, 0, 3, 0, 0, 0, 0, 0, 1, 0, 1]), content(2), "one chunk too few");
    assert_eq!(refused(&[0, 0, 0, 4, 0, 0, 0, 0, 0x20, 4, 1, 1]), content(2), "two deltas too few");
    assert_eq!(refused(&[0, 0, 0, 1, 0, 0, 0, 0, 0x60, 1, 1, 1]), Some(ParseError::Status));
    assert_eq!(refused(&[0, 0, 0, 1, 0, 0, 0, 0, 0xf0, 0, 1, 1]), Some(ParseError::Status));
    // Chunks that say nothing come to an end, too.
    assert_eq!(refused(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), content(2));
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
                Packet::TransportFeedback(feedback) => feedback.arrivals().count(),
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
    fn arrivals_read_back_as_they_were_told(
        (base_seq, count, start) in any::<(u16, u8, u32)>(),
        steps in prop::collection::vec(prop::option::weighted(0.8, any::<i16>()), 0..200),
    ) {
        let mut at = start;
        let told: Vec<Option<u32>> = steps
            .iter()
            .map(|step| {
                at = at.wrapping_add_signed((*step)?.into());
                Some(at)
            })
            .collect();
        let bytes = written(|out| write::transport_feedback(out, (ME, MEDIA), (base_seq, count), &told));
        prop_assert_eq!(bytes.len() % 4, 0);
        let Packet::TransportFeedback(feedback) = only(&bytes) else { panic!("another packet") };
        prop_assert_eq!((feedback.base_seq, feedback.count), (base_seq, count));
        prop_assert_eq!(usize::from(feedback.status_count), told.len());
        let expected = told.iter().zip(0u16..).filter_map(|(at, index)| {
            Some(Arrival { seq: base_seq.wrapping_add(index), at: (*at)? })
        });
        prop_assert!(feedback.arrivals().eq(expected));
    }

    #[test]
    fn any_transport_feedback_is_read_to_its_end_or_refused(control in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut control = control;
        control.resize(control.len().next_multiple_of(4), 0);
        for packet in parse(&transport_feedback(&control)) {
            let Ok(Packet::TransportFeedback(feedback)) = packet else { continue };
            let seqs: Vec<u16> = feedback.arrivals().map(|arrival| arrival.seq.wrapping_sub(feedback.base_seq)).collect();
            prop_assert!(seqs.is_sorted_by(|before, after| before < after));
            prop_assert!(seqs.last().is_none_or(|last| *last < feedback.status_count));
        }
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
