//! Frames of no picture: parameter sets and slice headers are real, the rest is filling. What matters is how they are
//! packetised (RFC 6184): as those of an encoder with three slices a frame.

use std::time::Duration;

use model::{Bitrate, NtpTime};

use crate::chance::Chance;
use crate::stamp;

/// Bytes of one RTP payload at most.
pub(crate) const PAYLOAD_MAX: usize = 1180;
/// Length of one Opus packet.
pub(crate) const SOUND_INTERVAL: Duration = Duration::from_millis(20);
/// 64 kbit/s.
const SOUND_BYTES: usize = 160;
/// Slices of a frame that takes more than a packet for each.
const SLICES: u32 = 3;
/// 1280 by 720.
const MACROBLOCKS: u32 = 80 * 45;
/// How much larger a keyframe is.
const KEYFRAME_WEIGHT: f64 = 8.0;
/// Frames are that much larger or smaller than the average.
const VARIATION: f64 = 0.25;
/// The smallest frame: its headers and a stamp.
const FRAME_MIN: f64 = 64.0;
const FILLING: u8 = 0x5a;

/// Constrained baseline, level 3.1, 1280 by 720.
const SEQUENCE_PARAMETERS: [u8; 9] = [0x67, 0x42, 0xe0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe4];
const PICTURE_PARAMETERS: [u8; 4] = [0x68, 0xce, 0x38, 0x80];
const NAL_SLICE: u8 = 0x41;
const NAL_IDR: u8 = 0x65;
const STAP_A: u8 = 0x78;
const TYPE_FU_A: u8 = 28;
/// Bits of `frame_num`, as the parameter sets say.
const FRAME_NUM_BITS: u32 = 4;

/// Makes frames of the right size.
#[derive(Debug)]
pub(crate) struct Encoder {
    delta_bytes: f64,
    keyframe_bytes: f64,
    frames_a_keyframe: u32,
    /// Since the last keyframe.
    frame: u32,
    keyframes: u32,
    chance: Chance,
}

impl Encoder {
    pub(crate) fn new(bitrate: Bitrate, frame_rate: f64, keyframe_interval: Duration, seed: u64) -> Self {
        let average = bitrate.as_bps() as f64 / 8.0 / frame_rate;
        let frames = (keyframe_interval.as_secs_f64() * frame_rate).round().max(1.0);
        // Where a frame is one packet, its keyframe is one packet too: the count of packets is what such a stream is for.
        let one_packet = (PAYLOAD_MAX - 80) as f64;
        let wanted = average * KEYFRAME_WEIGHT;
        let keyframe_bytes = if average < one_packet / 2.0 { wanted.min(one_packet) } else { wanted };
        let keyframe_bytes = keyframe_bytes.min(average * frames / 2.0).max(average);
        let delta_bytes = (average * frames - keyframe_bytes) / (frames - 1.0).max(1.0);
        Self {
            delta_bytes: delta_bytes.max(FRAME_MIN),
            keyframe_bytes: keyframe_bytes.max(FRAME_MIN),
            frames_a_keyframe: frames as u32,
            frame: 0,
            keyframes: 0,
            chance: Chance::new(0x6d74, seed),
        }
    }

    /// The next frame will be one.
    pub(crate) fn force_keyframe(&mut self) {
        self.frame = 0;
    }

    /// Whether it is a keyframe, and the payloads of its packets.
    pub(crate) fn frame(&mut self) -> (bool, Vec<Vec<u8>>) {
        let is_keyframe = self.frame == 0;
        let bytes = if is_keyframe {
            self.keyframes += 1;
            self.keyframe_bytes
        } else {
            self.delta_bytes * (1.0 - VARIATION + 2.0 * VARIATION * self.chance.fraction())
        };
        let number = self.frame;
        self.frame = (self.frame + 1) % self.frames_a_keyframe;
        let bytes = bytes as usize;
        let slices = if bytes > SLICES as usize * PAYLOAD_MAX { SLICES } else { 1 };
        let units: Vec<Vec<u8>> = (0..slices)
            .map(|slice| {
                self.slice(is_keyframe, number, MACROBLOCKS / slices * slice, bytes / slices as usize)
            })
            .collect();
        (is_keyframe, packetise(is_keyframe, units))
    }

    /// One NAL unit.
    fn slice(&self, is_keyframe: bool, number: u32, first_macroblock: u32, bytes: usize) -> Vec<u8> {
        let mut bits = Bits::default();
        bits.exp_golomb(first_macroblock);
        bits.exp_golomb(if is_keyframe { 7 } else { 5 }); // all slices I, or all P
        bits.exp_golomb(0); // picture parameter set
        bits.put(number, FRAME_NUM_BITS);
        if is_keyframe {
            bits.exp_golomb(self.keyframes & 0xff); // idr_pic_id
            bits.put(0, 2); // no_output_of_prior_pics, long_term_reference
        } else {
            bits.put(0, 3); // no override of references, no reordering, sliding window
        }
        bits.exp_golomb(0); // slice_qp_delta
        let mut unit = vec![if is_keyframe { NAL_IDR } else { NAL_SLICE }];
        unit.extend(bits.bytes());
        unit.resize(unit.len().max(bytes), FILLING);
        unit
    }
}

/// Parameter sets go with a keyframe that fits beside them, else before it.
fn packetise(is_keyframe: bool, units: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut units = units.as_slice();
    if is_keyframe {
        let mut aggregate = vec![STAP_A];
        let mut add = |unit: &[u8]| {
            aggregate.extend((unit.len() as u16).to_be_bytes());
            aggregate.extend(unit);
        };
        add(&SEQUENCE_PARAMETERS);
        add(&PICTURE_PARAMETERS);
        if let [only] = units
            && only.len() + 24 <= PAYLOAD_MAX
        {
            add(only);
            units = &[];
        }
        packets.push(aggregate);
    }
    for unit in units {
        if unit.len() <= PAYLOAD_MAX {
            packets.push(unit.clone());
        } else {
            fragment(unit, &mut packets);
        }
    }
    packets
}

/// FU-A (RFC 6184, section 5.8).
fn fragment(unit: &[u8], packets: &mut Vec<Vec<u8>>) {
    let Some((&header, body)) = unit.split_first() else { return };
    let count = body.chunks(PAYLOAD_MAX - 2).len();
    for (index, part) in body.chunks(PAYLOAD_MAX - 2).enumerate() {
        let start = u8::from(index == 0) << 7;
        let end = u8::from(index + 1 == count) << 6;
        let mut packet = vec![(header & 0x60) | TYPE_FU_A, start | end | (header & 0x1f)];
        packet.extend(part);
        packets.push(packet);
    }
}

/// Where a stamp does not harm: behind the headers of fragment and slice.
const STAMP_OFFSET: usize = 12;

/// Writes the time of sending into a packet of video, if it is filling there.
pub(crate) fn stamp(payload: &mut [u8], at: NtpTime) {
    if let Some(room) = payload.get_mut(STAMP_OFFSET..STAMP_OFFSET + stamp::LENGTH)
        && room[1..].iter().all(|byte| *byte == FILLING)
    {
        stamp::write(room, at);
    }
}

/// A packet of sound: what its first byte says (RFC 6716, section 3.1: CELT, 20 ms, stereo), a stamp, filling.
pub(crate) fn sound(at: NtpTime) -> Vec<u8> {
    let mut payload = vec![FILLING; SOUND_BYTES];
    payload[0] = 0xfc;
    stamp::write(&mut payload[1..], at);
    payload
}

/// Writes what H.264 headers are made of.
#[derive(Debug, Default)]
struct Bits {
    bits: Vec<bool>,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        self.bits.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
    }

    fn exp_golomb(&mut self, value: u32) {
        let length = u32::BITS - (value + 1).leading_zeros();
        self.put(0, length - 1);
        self.put(value + 1, length);
    }

    /// Filled up with ones, which are no start code.
    fn bytes(&self) -> Vec<u8> {
        let byte =
            |bits: &[bool]| (0..8).fold(0, |byte, bit| byte << 1 | u8::from(*bits.get(bit).unwrap_or(&true)));
        self.bits.chunks(8).map(byte).collect()
    }
}

#[cfg(test)]
mod tests;
