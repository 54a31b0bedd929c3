//! What needs the keys: retransmissions whose own sequence numbers have wrapped.

use std::time::Duration;

use str0m::RtcConfig;
use str0m::format::Codec as EngineCodec;

use super::*;

#[path = "../../../tests/harness/mod.rs"]
mod harness;

use harness::{Media, Offer, VP8_DELTA, World};

fn publish(world: &mut World, seq: u64) {
    let (mid, payload_type) = (world.video.unwrap(), world.payload_type(EngineCodec::Vp8));
    let timestamp = (seq * 3000) as u32;
    world.publish(&Media { mid, rid: None, payload_type, seq, timestamp, marker: true, payload: &VP8_DELTA });
    world.run(Duration::from_millis(20));
}

#[test]
fn repair_goes_on_where_the_repair_streams_own_numbers_have_wrapped() {
    let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs();
    config.codec_config().enable_vp8(true);
    let mut world = World::connected(Offer { config, audio: false, ..Offer::new() });
    (0..20).for_each(|seq| publish(&mut world, seq));
    // Nothing is repaired, so that the publisher's own RTX does not interfere.
    world.loses = |bytes| bytes[0] >= 128 && (bytes[3] == 21 || bytes[1] & 0x7f == 97);
    (20..24).for_each(|seq| publish(&mut world, seq));

    let mut record = world.kill();
    let rtx_ssrc = 0x1234_5678;
    let at = SeqNo::from_parts(7, 65_530);
    record.streams[0].repair = Some((rtx_ssrc, at.get()));
    let record = PublisherRecord::decode(&record.encode()).unwrap();
    world.resume(&record);
    let tree_seq = |world: &World, index: usize| world.packets[index].seq_no.get();
    let (first, before) = (tree_seq(&world, 0), world.packets.len());

    let server = world.server.as_ref().unwrap();
    let (_, remote) = server.master_keys(&record.keys).unwrap();
    let key = srtp::RtpKey::derive(&remote).unwrap();
    let repair = |index: SeqNo, original: u16| {
        let mut header = [0; 12];
        header[0] = 0x80;
        header[1] = 97;
        header[2..4].copy_from_slice(&index.seq().to_be_bytes());
        header[4..8].copy_from_slice(&(21u32 * 3000).to_be_bytes());
        header[8..12].copy_from_slice(&rtx_ssrc.to_be_bytes());
        let payload = [&original.to_be_bytes()[..], &VP8_DELTA].concat();
        let mut packet = vec![0; 100];
        let length = key.seal(&header, &payload, index, &mut packet).unwrap();
        packet.truncate(length);
        packet
    };
    let client = harness::CLIENT.parse().unwrap();
    world.give_to_server(client, &repair(SeqNo::from_parts(0, 65_531), 21));
    assert_eq!(world.packets.len(), before, "an index of the first cycle is not authentic any more");
    world.give_to_server(client, &repair(SeqNo::from_parts(8, 2), 21));
    assert_eq!(world.packets.len(), before + 1);
    assert_eq!(tree_seq(&world, before), first + 21);
    let recorded = world.server.as_ref().unwrap().record().unwrap().streams[0].repair;
    assert_eq!(recorded, Some((rtx_ssrc, SeqNo::from_parts(8, 2).get())));
}

#[test]
fn records_that_do_not_fit_together_are_refused() {
    let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs();
    config.codec_config().enable_vp8(true);
    let mut world = World::connected(Offer { config, audio: false, ..Offer::new() });
    (0..5).for_each(|seq| publish(&mut world, seq));
    let record = world.kill();
    let resume =
        |record: &PublisherRecord| Publisher::resume(record, world.now, world.wallclock()).map(|_| ());
    assert_eq!(resume(&record), Ok(()));

    let mut other = record.clone();
    other.streams.clear();
    assert_eq!(resume(&other), Err(inconsistent("streams")));
    let mut other = record.clone();
    other.order = vec![vec![3]];
    assert_eq!(resume(&other), Err(inconsistent("order of layers")));
    let mut other = record.clone();
    other.local_addresses.clear();
    assert_eq!(resume(&other), Err(ResumeError::Offer(AcceptError::LocalAddress)));
    let mut other = record;
    other.offer.clear();
    assert_eq!(resume(&other), Err(ResumeError::Offer(AcceptError::NothingToReceive)));
}
