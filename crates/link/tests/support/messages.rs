//! Any message: strategies for property tests.

use link::wire::message::*;
use link::wire::{GroupKey, Version};
use model::{
    Bitrate, Broadcast, BroadcastId, BroadcastState, Codec, Epoch, JoinName, KeyGeneration, Layer, NodeId,
    NtpTime, Rid, Role, SeqNo, Ssrc, TraceParent, Track,
};
use proptest::prelude::*;

pub fn broadcast_id() -> impl Strategy<Value = BroadcastId> {
    "[a-z0-9][a-z0-9._-]{0,62}".prop_map(|text| BroadcastId::new(&text).expect("follows the grammar"))
}

fn node_id() -> impl Strategy<Value = NodeId> {
    "[a-z0-9][a-z0-9._-]{0,62}".prop_map(|text| NodeId::new(&text).expect("follows the grammar"))
}

fn ssrc() -> impl Strategy<Value = Ssrc> {
    any::<u32>().prop_map(Ssrc::new)
}

fn seq_no() -> impl Strategy<Value = SeqNo> {
    (0..=SeqNo::MAX.get()).prop_map(SeqNo::new)
}

fn epoch() -> impl Strategy<Value = Epoch> {
    any::<(u64, u64)>().prop_map(|(counter, random)| Epoch { counter, random })
}

fn group_key() -> impl Strategy<Value = GroupKey> {
    any::<(u32, u32, [u8; 16], [u8; 12])>().prop_map(|(counter, random, key, salt)| GroupKey {
        generation: KeyGeneration { counter, random },
        key,
        salt,
    })
}

fn track() -> impl Strategy<Value = Track> {
    let rid = prop::option::of(
        "[A-Za-z0-9_-]{1,16}".prop_map(|text| Rid::new(&text).expect("follows the grammar")),
    );
    let layer = (ssrc(), rid).prop_map(|(ssrc, rid)| Layer { ssrc, rid });
    let layers = prop::collection::vec(layer, 0..=LAYERS_MAX);
    (prop::sample::select(Codec::ALL.to_vec()), ".{0,200}", layers, any::<bool>())
        .prop_map(|(codec, fmtp, layers, was_heard)| Track { codec, fmtp: fmtp.into(), layers, was_heard })
}

pub fn broadcast() -> impl Strategy<Value = Broadcast> {
    let state = prop::sample::select(vec![BroadcastState::Waiting, BroadcastState::Live]);
    let tracks = prop::collection::vec(track(), 0..=TRACKS_MAX);
    (broadcast_id(), state, prop::option::of(epoch()), tracks)
        .prop_map(|(id, state, epoch, tracks)| Broadcast { id, state, epoch, tracks })
}

fn hello() -> impl Strategy<Value = Hello> {
    let role = prop::sample::select(vec![Role::Injection, Role::Relay, Role::Egress, Role::All]);
    (any::<(u8, u8)>(), node_id(), role, any::<(u64, u64)>()).prop_map(
        |((major, minor), node, role, (counter, random))| Hello {
            version: Version { major, minor },
            node,
            role,
            incarnation: Incarnation { counter, random },
        },
    )
}

fn range() -> impl Strategy<Value = StreamRange> {
    (ssrc(), seq_no(), seq_no(), prop::option::of(seq_no()), seq_no()).prop_map(
        |(ssrc, oldest, newest, keyframe, start)| StreamRange { ssrc, oldest, newest, keyframe, start },
    )
}

fn join_answer() -> impl Strategy<Value = JoinAnswer> {
    let keys = prop::collection::vec(group_key(), 1..=KEYS_MAX);
    let streams = prop::collection::vec(range(), 0..=STREAMS_MAX);
    (broadcast(), keys, streams).prop_map(|(broadcast, keys, streams)| JoinAnswer {
        broadcast,
        keys,
        streams,
    })
}

fn join() -> impl Strategy<Value = Join> {
    let held = (ssrc(), seq_no()).prop_map(|(ssrc, newest)| Held { ssrc, newest });
    let resume = prop::collection::vec(held, 0..=STREAMS_MAX);
    let span = prop::option::of(any::<[u8; TraceParent::BYTES]>());
    let cause = (any::<u64>(), span).prop_map(|(id, span)| {
        let span = span.and_then(|bytes| TraceParent::from_bytes(&bytes));
        JoinName { id, span }
    });
    let without = prop::collection::vec(ssrc(), 0..=STREAMS_MAX);
    (broadcast_id(), resume, prop::option::of(cause), without)
        .prop_map(|(broadcast, resume, cause, without)| Join { broadcast, resume, cause, without })
}

fn rates() -> impl Strategy<Value = Rates> {
    let rate = any::<u64>().prop_map(Bitrate::bps);
    let stream = (ssrc(), rate).prop_map(|(ssrc, rate)| StreamRate { ssrc, rate });
    let streams = prop::collection::vec(stream, 0..=STREAMS_MAX);
    (broadcast_id(), streams).prop_map(|(broadcast, streams)| Rates { broadcast, streams })
}

fn cue() -> impl Strategy<Value = Cue> {
    (broadcast_id(), epoch(), any::<(u64, u64)>(), ".{0,200}").prop_map(
        |(broadcast, epoch, (number, captured), body)| Cue {
            broadcast,
            epoch,
            number,
            captured: NtpTime::from_bits(captured),
            body: body.into(),
        },
    )
}

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    let echo = any::<(u64, u64)>().prop_map(|(sent_micros, held_micros)| Echo { sent_micros, held_micros });
    (any::<u64>(), prop::option::of(echo)).prop_map(|(sent_micros, echo)| Heartbeat { sent_micros, echo })
}

pub fn message() -> impl Strategy<Value = Message> {
    let refusals = vec![JoinRefusal::Full, JoinRefusal::UnknownBroadcast, JoinRefusal::Other];
    let refused = (broadcast_id(), prop::sample::select(refusals));
    let keys = (broadcast_id(), prop::option::of(epoch()), group_key());
    let nack = (ssrc(), prop::collection::vec(seq_no(), 1..=NACK_SEQ_NOS_MAX));
    prop_oneof![
        hello().prop_map(Message::Hello),
        broadcast().prop_map(Message::Announce),
        broadcast_id().prop_map(Message::Retire),
        join().prop_map(Message::Join),
        join_answer().prop_map(Message::JoinAnswer),
        refused.prop_map(|(broadcast, reason)| Message::JoinRefused { broadcast, reason }),
        broadcast_id().prop_map(Message::Leave),
        keys.prop_map(|(broadcast, epoch, key)| Message::Keys(Keys { broadcast, epoch, key })),
        nack.prop_map(|(ssrc, seq_nos)| Message::Nack(Nack { ssrc, seq_nos })),
        ssrc().prop_map(Message::KeyframeRequest),
        heartbeat().prop_map(Message::Heartbeat),
        any::<(u64, u64, u64)>().prop_map(|(received, lost, recovered)| Message::Report(Report {
            received,
            lost,
            recovered
        })),
        rates().prop_map(Message::Rates),
        cue().prop_map(Message::Cue),
    ]
}
