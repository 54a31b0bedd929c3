//! Behaviour of the module `svc`.

use std::collections::BTreeMap;

use model::SeqNo;
use proptest::prelude::*;

use super::*;

fn points(spatial: u8, temporal: u8) -> Vec<(u8, u8)> {
    let structure = Structure::new(spatial, temporal);
    let points = (0..structure.points()).map(|index| structure.point(index));
    points.map(|point| (point.spatial, point.temporal)).collect()
}

#[test]
fn a_picture_gets_smaller_before_it_gets_rarer() {
    assert_eq!(points(1, 1), [(0, 0)]);
    assert_eq!(points(1, 3), [(0, 2), (0, 1), (0, 0)]);
    assert_eq!(points(3, 1), [(2, 0), (1, 0), (0, 0)]);
    assert_eq!(points(2, 2), [(1, 1), (0, 1), (0, 0)]);
    assert_eq!(points(3, 3), [(2, 2), (1, 2), (0, 2), (0, 0)]);
    assert_eq!(points(9, 0), [(3, 0), (2, 0), (1, 0), (0, 0)], "no more are told apart");
}

#[test]
fn a_frame_is_needed_by_all_points_that_reach_up_to_it() {
    let structure = Structure::new(3, 3);
    let worst = |spatial, temporal| structure.worst(Layer { spatial, temporal });
    assert_eq!([worst(0, 0), worst(0, 1), worst(0, 2)], [3, 2, 2]);
    assert_eq!([worst(1, 0), worst(1, 2), worst(2, 0), worst(7, 7)], [1, 1, 0, 0]);
    assert_eq!(Structure::SINGLE.worst(Layer { spatial: 0, temporal: 0 }), 3);
}

fn svc() -> impl Strategy<Value = Svc> {
    any::<[u8; BYTES]>().prop_map(Svc::from_bytes)
}

/// A packet of VP9 in non-flexible mode.
fn payload(layer: Layer, begins: bool, ends: bool, is_key: bool) -> Vec<u8> {
    let mut descriptor = 0xa0 | if is_key { 0 } else { 0x40 };
    descriptor |= if begins { 0x08 } else { 0 } | if ends { 0x04 } else { 0 };
    vec![descriptor, 0x81, 0x01, layer.temporal << 5 | 0x10 | layer.spatial << 1, 9, 1, 2, 3]
}

#[test]
fn the_descriptor_of_vp9_tells_layers_and_structure() {
    let mut reader = vp9::Reader::default();
    // I, L, B, V; a long picture id; TID 0, U, SID 0; TL0PICIDX; two spatial layers with sizes, a group of two pictures,
    // the second of TID 1 with one reference.
    let mut key = vec![0xaa, 0x80, 7, 0x10, 1, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0x10, 0x34, 1];
    key.extend([0x82, 0x49, 0x83]);
    let frame = reader.read(&key).expect("a descriptor");
    assert_eq!(frame.structure, Some(Structure::new(2, 2)));
    assert_eq!(frame.layer, Layer { spatial: 0, temporal: 0 });
    assert_eq!((frame.begins, frame.ends, frame.is_switch, frame.is_entry), (true, false, true, false));
    for length in 0..18 {
        assert_eq!(vp9::Reader::default().read(&key[..length]), None, "{length}");
    }
    let inter = reader.read(&payload(Layer { spatial: 1, temporal: 1 }, false, true, false));
    let inter = inter.expect("a descriptor");
    assert_eq!((inter.layer, inter.structure), (Layer { spatial: 1, temporal: 1 }, None));
    assert_eq!((inter.begins, inter.ends), (false, true));
    let single = reader.read(&[0x0c, 0x82]).expect("a descriptor");
    assert_eq!(single.structure, Some(Structure::SINGLE), "a keyframe that names no layers");
}

#[test]
fn in_flexible_mode_an_entry_refers_to_lower_frame_rates_only() {
    // I, P, L, F, B, E; a short picture id; the layer with U; references.
    let picture = |id: u8, temporal: u8, references: &[u8]| {
        let mut payload = vec![0xfc, id, temporal << 5 | 0x10];
        payload.extend(references);
        payload
    };
    let mut reader = vp9::Reader::default();
    let mut read = |payload: &[u8]| reader.read(payload).expect("a descriptor").is_entry;
    assert!(!read(&picture(10, 0, &[1 << 1])), "there is no lower one");
    assert!(read(&picture(11, 2, &[1 << 1])));
    assert!(read(&picture(12, 1, &[2 << 1])));
    assert!(!read(&picture(13, 2, &[2 << 1 | 1, 1 << 1])), "11 is of the same");
    assert_eq!(reader.read(&picture(14, 1, &[1 << 1 | 1])), None, "cut short");
}

/// What a viewer of a point gets: out numbers and the packets that they stand for, by the rule of the wire.
fn follow(stamped: &[(u64, Svc)], point: u8) -> BTreeMap<u16, u64> {
    let mut numbers = BTreeMap::new();
    for (seq_no, svc) in stamped {
        if svc.has_number(point) {
            assert_eq!(numbers.insert(svc.count(point), *seq_no), None, "{seq_no}: a number was given twice");
        }
    }
    numbers
}

/// Bits of a dependency descriptor.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(mut self, values: &[u32], count: u32) -> Self {
        let bits = values.iter().flat_map(|value| (0..count).rev().map(move |bit| value >> bit & 1 == 1));
        self.0.extend(bits);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let byte =
            |bits: &[bool]| (0..8).fold(0, |byte, bit| byte << 1 | u8::from(bits.get(bit) == Some(&true)));
        self.0.chunks(8).map(byte).collect()
    }
}

/// A whole frame of this template.
fn descriptor(template: u32) -> Bits {
    Bits::default().put(&[1, 1], 1).put(&[template], 6).put(&[77], 16)
}

/// One size and three frame rates: templates 60 to 63 of a keyframe and of frames of each rate; one chain.
fn three_rates(template: u32) -> Bits {
    let dtis = [[2, 2, 2], [2, 2, 2], [0, 1, 2], [0, 0, 1]].concat();
    descriptor(template)
        .put(&[1, 0, 0, 0, 0], 1)
        .put(&[60], 6)
        .put(&[2], 5)
        .put(&[0, 1, 1, 3], 2)
        .put(&dtis, 2)
        // References of each template: none, 4 back, 2 back, 1 back.
        .put(&[0, 1], 1)
        .put(&[3], 4)
        .put(&[0, 1], 1)
        .put(&[1], 4)
        .put(&[0, 1], 1)
        .put(&[0], 4)
        .put(&[0], 1)
        // One chain, by which each target is protected without a word; how far back it goes for each template.
        .put(&[1], 2)
        .put(&[0, 4, 2, 1], 4)
        // The size.
        .put(&[1], 1)
        .put(&[639, 359], 16)
}

#[test]
fn the_dependency_descriptor_tells_layers_by_templates() {
    let key = three_rates(60).bytes();
    let mut reader = dependency::Reader::default();
    assert_eq!(reader.read(&descriptor(61).bytes()), None, "no template has come");
    let frame = reader.read(&key).expect("a descriptor");
    assert_eq!((frame.begins, frame.ends, frame.structure), (true, true, Some(Structure::new(1, 3))));
    assert_eq!((frame.layer, frame.is_switch), (Layer { spatial: 0, temporal: 0 }, true));
    let mut of = |template| {
        let frame = reader.read(&descriptor(template).bytes()).expect("a template");
        assert_eq!(frame.structure, None);
        (frame.layer.temporal, frame.is_switch)
    };
    assert_eq!([of(61), of(62), of(63)], [(0, true), (1, true), (2, false)]);
    assert_eq!(reader.read(&descriptor(0).bytes()), None, "there are four");
    for length in 0..key.len() {
        assert_eq!(dependency::Reader::default().read(&key[..length]), None, "{length}");
    }
    // A frame that says for itself that the highest rate cannot begin here.
    let own = descriptor(61).put(&[0, 1, 1, 0, 0], 1).put(&[7], 3).put(&[2, 2, 3], 2);
    assert!(!reader.read(&own.bytes()).expect("a descriptor").is_switch);
}

proptest! {
    #[test]
    fn no_descriptor_panics(
        descriptors in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..10),
        at in any::<proptest::sample::Index>(), bit in 0u8..8,
    ) {
        let mut reader = dependency::Reader::default();
        let mut broken = three_rates(60).bytes();
        let at = at.index(broken.len());
        broken[at] ^= 1 << bit;
        for descriptor in std::iter::once(&broken).chain(&descriptors) {
            let frame = reader.read(descriptor);
            let within = |frame: &Frame| frame.layer.spatial < 4 && frame.layer.temporal < 8;
            prop_assert!(frame.as_ref().is_none_or(within));
        }
    }

    #[test]
    fn what_is_said_of_a_packet_comes_back_from_its_bytes(svc in svc()) {
        prop_assert_eq!(Svc::from_bytes(svc.to_bytes()), svc);
    }

    #[test]
    fn points_are_nested_and_counted(svc in svc(), point in 1u8..4) {
        prop_assert!(svc.needs(point - 1) || !svc.needs(point));
        prop_assert!(!svc.ends_picture(point) || svc.needs(point));
        let own = u16::from(svc.has_number(point));
        prop_assert_eq!(svc.count_after(point), svc.count(point).wrapping_add(own));
    }

    /// Whatever is lost, late or for ever: every point's numbers are given once, in order, and without a gap but for
    /// packets that never came.
    #[test]
    fn numbers_of_a_point_go_on_without_a_gap(
        layers in proptest::collection::vec((0u8..3, 0u8..3), 1..400),
        fates in proptest::collection::vec(0u8..20, 400),
    ) {
        let (mut reader, mut stamper) = (vp9::Reader::default(), Stamper::new(0));
        let mut stamp = |seq_no: u64, (spatial, temporal): (u8, u8)| {
            let frame = reader.read(&payload(Layer { spatial, temporal }, true, true, false));
            stamper.stamp(SeqNo::new(seq_no), frame.as_ref(), true)
        };
        // Both kinds of layers are known from the first packet on.
        let mut stamped = vec![(1000, stamp(1000, (2, 2)).expect("it has layers"))];
        let mut never = Vec::new();
        let mut late = Vec::new();
        for ((seq_no, layer), fate) in (1001..).zip(layers.iter().copied()).zip(&fates) {
            match fate {
                0 => never.push(seq_no),
                1 => late.push((seq_no, layer)),
                _ => stamped.push((seq_no, stamp(seq_no, layer).expect("in order"))),
            }
        }
        let end = 1001 + layers.len() as u64;
        stamped.push((end, stamp(end, (0, 0)).expect("in order")));
        for (seq_no, layer) in late {
            let svc = stamp(seq_no, layer).expect("not too late");
            prop_assert!(svc.is_late);
            stamped.push((seq_no, svc));
        }
        for point in 1..POINTS_MAX as u8 {
            let numbers = follow(&stamped, point);
            let in_order: Vec<u64> = numbers.values().copied().collect();
            prop_assert!(in_order.is_sorted());
            let highest = *numbers.keys().next_back().expect("the last packet is of every point");
            prop_assert_eq!(numbers.len() + never.len(), usize::from(highest) + 1);
        }
    }

    #[test]
    fn no_bytes_panic(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let (mut reader, mut stamper) = (vp9::Reader::default(), Stamper::new(!GENERATION_BESIDE));
        for (seq_no, payload) in (0..).zip(&payloads) {
            let frame = reader.read(payload);
            let svc = stamper.stamp(SeqNo::new(seq_no), frame.as_ref(), seq_no % 3 == 0);
            if let Some(svc) = svc {
                prop_assert_eq!(Svc::from_bytes(svc.to_bytes()), svc);
            }
        }
    }
}

#[test]
fn a_stream_of_one_layer_costs_nothing() {
    let (mut reader, mut stamper) = (vp9::Reader::default(), Stamper::new(0));
    for seq_no in 0..10 {
        let frame = reader.read(&[0x4c, 1, 2]).expect("a descriptor");
        assert_eq!(stamper.stamp(SeqNo::new(seq_no), Some(&frame), true), None);
    }
}

#[test]
fn a_packet_that_is_later_than_anybody_remembers_has_no_number() {
    let (mut reader, mut stamper) = (vp9::Reader::default(), Stamper::new(3));
    let frame = reader.read(&payload(Layer { spatial: 0, temporal: 2 }, true, true, false));
    let mut stamp = |seq_no| stamper.stamp(SeqNo::new(seq_no), frame.as_ref(), true);
    assert_eq!(stamp(10_000).map(|svc| svc.counts), Some([0; COUNTS]));
    let jumped = stamp(80_000).expect("in order");
    assert_eq!(
        jumped.counts,
        [(69_999 % 65_536) as u16; COUNTS],
        "everything in between may be of any point"
    );
    assert_eq!(stamp(79_999).map(|svc| svc.counts), Some([(69_998 % 65_536) as u16; COUNTS]));
    assert_eq!(stamp(20_000), None);
    assert_eq!(stamp(9_999), None, "from before the first one");
}

#[test]
fn a_better_point_begins_where_nothing_before_is_needed() {
    let picture = Svc {
        structure: Structure::new(1, 3),
        spatial: 0,
        worst: 2,
        begins_picture: true,
        ends_frame: false,
        is_switch: false,
        is_entry: false,
        is_late: false,
        generation: 0,
        counts: [0; COUNTS],
    };
    assert!(picture.can_change(0, 2, false), "less can be had at any picture");
    assert!(!picture.can_change(2, 0, false));
    assert!(picture.can_change(2, 0, true));
    let switch = Svc { is_switch: true, ..picture };
    assert!(switch.can_change(2, 0, false));
    assert!(!Svc { worst: 0, ..switch }.can_change(2, 0, false), "who gets less does not get this one");
    let entry = Svc { is_entry: true, worst: 0, ..picture };
    assert!(entry.can_change(2, 0, false) && !entry.can_change(2, 1, false));
    assert!(!Svc { begins_picture: false, ..switch }.can_change(0, 2, true));
    let spatial = Svc { structure: Structure::new(3, 1), ..switch };
    assert!(!spatial.can_change(2, 0, false), "a larger picture needs a keyframe");
}
