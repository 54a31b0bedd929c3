//! RTP, RTCP, codecs: what publishers and viewers send.

use media_core::codec::{self as codecs, KeyframeDetector};
use media_core::rtcp::{self as control, Packet as Control};
use media_core::rtp::{HeaderFields, Packet, write_header};
use media_core::svc::{self, Stamper, Svc, dependency, vp9};
use model::{Codec, SeqNo};
use srtp::{MasterKey, Profile, RtcpIndex, RtcpKey, RtpKey};

/// A packet is read; its header is written again from what was read.
pub fn rtp(bytes: &[u8]) {
    let Ok(packet) = Packet::parse(bytes) else { return };
    assert_eq!(packet.header_len + packet.payload.len() + packet.padding_len, bytes.len());
    assert!(packet.csrcs().count() <= 15);
    let extensions: Vec<(u8, &[u8])> = packet.extensions().into_iter().collect();
    for id in 0..=255 {
        let first = extensions.iter().find(|(found, _)| *found == id).map(|(_, data)| *data);
        assert_eq!(packet.extension(id), first);
    }
    let fields = HeaderFields {
        marker: packet.marker,
        padding: false,
        payload_type: packet.payload_type,
        seq: packet.seq,
        timestamp: packet.timestamp,
        ssrc: packet.ssrc,
        extensions: &extensions,
    };
    let mut written = vec![0; fields.header_len()];
    assert_eq!(write_header(&mut written, &fields), written.len());
    let again = Packet::parse(&written).expect("what we write, we read");
    assert_eq!(
        (again.marker, again.payload_type, again.seq, again.timestamp, again.ssrc),
        (packet.marker, packet.payload_type, packet.seq, packet.timestamp, packet.ssrc)
    );
    assert!(again.extensions().into_iter().eq(extensions), "{packet:?} became {again:?}");
}

/// Every packet of a compound is read; what we write too comes back as it was.
pub fn rtcp(bytes: &[u8]) {
    let _ = control::is_rtcp(bytes);
    for packet in control::parse(bytes) {
        let mut written = Vec::new();
        match packet {
            Ok(Control::Nack(nack)) => {
                let mut seqs: Vec<u16> = nack.seqs().collect();
                assert!(seqs.len() <= bytes.len() / 4 * 17);
                seqs.sort_unstable();
                seqs.dedup();
                control::write::nack(&mut written, nack.sender, nack.media, seqs.iter().copied());
                let mut again = Vec::new();
                for packet in control::parse(&written) {
                    let Ok(Control::Nack(nack)) = packet else { panic!("a NACK was written: {packet:?}") };
                    again.extend(nack.seqs());
                }
                assert_eq!(again, seqs);
            }
            Ok(Control::ReceiverReport(report)) => {
                let blocks: Vec<_> = report.blocks().collect();
                control::write::receiver_report(&mut written, report.ssrc, &blocks);
                let again = control::parse(&written).next();
                let Some(Ok(Control::ReceiverReport(again))) = again else { panic!("an RR was written") };
                assert!(again.ssrc == report.ssrc && again.blocks().eq(blocks));
            }
            Ok(Control::SenderReport(report)) => {
                let blocks: Vec<_> = report.blocks().collect();
                control::write::sender_report(&mut written, &report.info, &blocks);
                let again = control::parse(&written).next();
                let Some(Ok(Control::SenderReport(again))) = again else { panic!("an SR was written") };
                assert!(again.info == report.info && again.blocks().eq(blocks));
            }
            Ok(Control::FullIntraRequest(request)) => {
                let entries: Vec<_> = request.entries().collect();
                control::write::full_intra_request(&mut written, request.sender, &entries);
                let read = control::parse(&written).flatten().flat_map(|packet| match packet {
                    Control::FullIntraRequest(request) => request.entries().collect::<Vec<_>>(),
                    other => panic!("a FIR was written: {other:?}"),
                });
                assert!(read.eq(entries));
            }
            Ok(Control::SourceDescription(description)) => {
                assert!(description.cnames().all(|(_, name)| name.len() <= 255));
            }
            Ok(Control::ReceiverEstimate(estimate)) => assert!(estimate.ssrcs().count() <= 255),
            Ok(Control::Goodbye(goodbye)) => assert!(goodbye.ssrcs().count() <= 31),
            Ok(Control::TransportFeedback(feedback)) => transport_feedback(&feedback, bytes.len()),
            Ok(Control::PictureLossIndication(_)) | Err(_) => {}
        }
    }
}

/// Every packet that arrived has its place among those that are spoken of, and comes back with its time.
fn transport_feedback(feedback: &control::TransportFeedback<'_>, bytes: usize) {
    let arrivals: Vec<_> = feedback.arrivals().collect();
    assert!(arrivals.len() <= bytes, "each has a delta");
    let mut told = vec![None; usize::from(feedback.status_count)];
    for arrival in &arrivals {
        let place = usize::from(arrival.seq.wrapping_sub(feedback.base_seq));
        assert_eq!(told[place].replace(arrival.at), None, "a packet arrives once");
    }
    let mut written = Vec::new();
    let (ssrcs, numbers) = ((feedback.sender, feedback.media), (feedback.base_seq, feedback.count));
    control::write::transport_feedback(&mut written, ssrcs, numbers, &told);
    let again = control::parse(&written).next();
    let Some(Ok(Control::TransportFeedback(again))) = again else {
        panic!("feedback was written: {again:?}")
    };
    assert!(again.arrivals().eq(arrivals));
    assert_eq!((again.base_seq, again.status_count), (feedback.base_seq, feedback.status_count));
}

/// Payloads of every codec: keyframes over several packets, sequence parameters, slice types.
pub fn codec(bytes: &[u8]) {
    for codec in Codec::ALL {
        let _ = codecs::starts_keyframe(codec, bytes);
        let _ = codecs::Profile::read(codec, bytes);
        let mut detector = KeyframeDetector::new(codec);
        for (index, payload) in bytes.chunks(64).enumerate() {
            let _ = detector.inspect(SeqNo::new(index as u64), (index / 3) as u32, payload);
        }
    }
    let _ = codecs::h264::slice_type(bytes);
    let _ = codecs::h264::sequence_parameters(bytes);
}

/// Payload descriptors of VP9, or dependency descriptors, in a row, each with a byte before it that tells its length and fate: whatever they say, no
/// number of a point is given twice, and what is said of a packet comes back from its bytes.
pub fn svc(bytes: &[u8]) {
    let (mut reader, mut stamper) = (vp9::Reader::default(), Stamper::new(0));
    let mut dependencies = dependency::Reader::default();
    let mut numbers = std::collections::BTreeSet::new();
    let (mut rest, mut seq_no, mut late) = (bytes, 1u64, Vec::new());
    let mut stamp = |seq_no: u64, payload: &[u8]| {
        let frame = dependencies.read(payload).or_else(|| reader.read(payload));
        let Some(svc) = stamper.stamp(SeqNo::new(seq_no), frame.as_ref(), seq_no.is_multiple_of(2)) else {
            return;
        };
        assert_eq!(Svc::from_bytes(svc.to_bytes()), svc);
        for point in 1..svc::POINTS_MAX as u8 {
            assert!(svc.needs(point - 1) || !svc.needs(point), "points are nested");
            assert!(
                !svc.has_number(point) || numbers.insert((point, svc.count(point))),
                "a number was given twice"
            );
        }
    };
    // Beyond 2^16 packets numbers come again.
    while let Some((&head, after)) = rest.split_first().filter(|_| seq_no < 20_000) {
        let (payload, after) = after.split_at(usize::from(head & 0x1f).min(after.len()));
        match head >> 6 {
            0 => late.push((seq_no, payload)),
            _ => stamp(seq_no, payload),
        }
        (rest, seq_no) = (after, seq_no + 1);
    }
    late.into_iter().for_each(|(seq_no, payload)| stamp(seq_no, payload));
}

/// What nobody with the key has sealed does not open; what is sealed opens as it was.
pub fn srtp(bytes: &[u8]) {
    for profile in Profile::ALL {
        let (key, salt) = ([1; 64], [2; 64]);
        let master = MasterKey::new(profile, &key[..profile.key_len()], &salt[..profile.salt_len()]);
        let master = master.expect("lengths of the profile");
        let (rtp, rtcp) = (RtpKey::derive(&master).expect("a key"), RtcpKey::derive(&master).expect("a key"));
        assert!(rtcp.open_in_place(&mut bytes.to_vec()).is_err(), "nobody sealed it");
        let mut compound = bytes.to_vec();
        compound.resize(bytes.len() + profile.rtcp_overhead(), 0);
        let index = RtcpIndex::new(7).expect("below the end");
        if rtcp.seal_in_place(&mut compound, bytes.len(), index).is_ok() {
            let (length, opened) = rtcp.open_in_place(&mut compound).expect("what we seal, we open");
            assert_eq!((&compound[..length], opened), (bytes, index));
        }
        let Ok(packet) = Packet::parse(bytes) else { continue };
        let seq_no = SeqNo::from_parts(3, packet.seq);
        let forged = rtp.open_in_place(&mut bytes.to_vec(), packet.header_len, seq_no);
        assert!(forged.is_err(), "nobody sealed it");
        let mut sealed = bytes.to_vec();
        sealed.resize(bytes.len() + profile.rtp_tag_len(), 0);
        let length = rtp.seal_in_place(&mut sealed, packet.header_len, bytes.len(), seq_no);
        assert_eq!(length, Ok(sealed.len()));
        let opened = rtp.open_in_place(&mut sealed, packet.header_len, seq_no);
        assert_eq!((opened, &sealed[..bytes.len()]), (Ok(bytes.len()), bytes));
    }
}
