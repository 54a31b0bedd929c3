//! H.264 (RFC 6184) and H.265 (RFC 7798): NAL units with their lengths before them into payloads.
//!
//! Parameter sets stand in the configuration record, or in the stream as well. They are taken out of the stream and put
//! before every keyframe, once, so that a viewer can begin there. Delimiters and filler are left out: RTP has its own.

use bytes::{Bytes, BytesMut};

use crate::record::{NalRecord, SET_BYTES_MAX, SETS_MAX};
use crate::video::PictureError;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    H264,
    H265,
}

/// What a NAL unit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A parameter set; sets go out in the order of this number.
    ParameterSet(usize),
    /// Part of a picture that needs no other.
    RandomAccess,
    /// Delimiter or filler.
    Superfluous,
    Other,
}

/// Kinds of parameter sets that H.265 has; H.264 has one less.
pub(crate) const SET_KINDS: usize = 3;

impl Syntax {
    /// Bytes of a NAL unit's header, which is also that of a payload.
    pub(crate) const fn header_bytes(self) -> usize {
        match self {
            Self::H264 => 1,
            Self::H265 => 2,
        }
    }

    pub(crate) const fn set_kinds(self) -> usize {
        match self {
            Self::H264 => 2,
            Self::H265 => 3,
        }
    }

    /// Role by type (ITU-T H.264, table 7-1; ITU-T H.265, table 7-1).
    pub(crate) const fn role(self, unit: &[u8]) -> Role {
        let first = unit[0];
        match self {
            Self::H264 => match first & 0x1f {
                7 => Role::ParameterSet(0),
                8 => Role::ParameterSet(1),
                5 => Role::RandomAccess,
                9 | 12 => Role::Superfluous,
                _ => Role::Other,
            },
            Self::H265 => match (first >> 1) & 0x3f {
                32 => Role::ParameterSet(0),
                33 => Role::ParameterSet(1),
                34 => Role::ParameterSet(2),
                16..=21 => Role::RandomAccess,
                35 | 38 => Role::Superfluous,
                _ => Role::Other,
            },
        }
    }

    /// Header of an aggregation packet (RFC 6184, section 5.7; RFC 7798, section 4.4.2): of each field the value that
    /// matters most among the units.
    fn aggregate_header(self, units: &[Bytes], out: &mut BytesMut) {
        match self {
            Self::H264 => {
                let forbidden = units.iter().fold(0, |bit, unit| bit | (unit[0] & 0x80));
                let importance = units.iter().map(|unit| unit[0] & 0x60).max().unwrap_or(0);
                out.extend_from_slice(&[forbidden | importance | 24]);
            }
            Self::H265 => {
                let header = |unit: &Bytes| u16::from_be_bytes([unit[0], unit[1]]);
                let forbidden = units.iter().fold(0, |bit, unit| bit | (header(unit) & 0x8000));
                let layer = units.iter().map(|unit| header(unit) & 0x01f8).min().unwrap_or(0);
                let temporal = units.iter().map(|unit| header(unit) & 0x0007).min().unwrap_or(1);
                out.extend_from_slice(&(forbidden | (48 << 9) | layer | temporal).to_be_bytes());
            }
        }
    }

    /// Headers of a fragment (RFC 6184, section 5.8; RFC 7798, section 4.4.3).
    pub(crate) fn fragment_headers(self, unit: &[u8], is_first: bool, is_last: bool, out: &mut BytesMut) {
        let ends = (u8::from(is_first) << 7) | (u8::from(is_last) << 6);
        match self {
            Self::H264 => out.extend_from_slice(&[(unit[0] & 0xe0) | 28, ends | (unit[0] & 0x1f)]),
            Self::H265 => {
                let unit_type = (unit[0] >> 1) & 0x3f;
                out.extend_from_slice(&[(unit[0] & 0x81) | (49 << 1), unit[1], ends | unit_type]);
            }
        }
    }

    /// Header of the unit of this type that a fragment belongs to.
    pub(crate) fn header_of(self, fragment: &[u8], unit_type: u8) -> Bytes {
        match self {
            Self::H264 => Bytes::copy_from_slice(&[(fragment[0] & 0xe0) | unit_type]),
            Self::H265 => Bytes::copy_from_slice(&[(fragment[0] & 0x81) | (unit_type << 1), fragment[1]]),
        }
    }

    /// Small units share a payload, large ones are cut.
    pub(crate) fn payloads(self, units: &[Bytes], max: usize) -> Vec<Bytes> {
        let mut payloads = Vec::new();
        let mut group: Vec<Bytes> = Vec::new();
        let header_bytes = self.header_bytes();
        let mut group_bytes = header_bytes;
        for unit in units {
            let added = 2 + unit.len();
            if !group.is_empty() && (group_bytes + added > max || unit.len() > max) {
                payloads.push(self.join(&std::mem::take(&mut group)));
                group_bytes = header_bytes;
            }
            if unit.len() > max {
                self.cut(unit, max, &mut payloads);
            } else {
                group.push(unit.clone());
                group_bytes += added;
            }
        }
        if !group.is_empty() {
            payloads.push(self.join(&group));
        }
        payloads
    }

    fn join(self, units: &[Bytes]) -> Bytes {
        if let [unit] = units {
            return unit.clone();
        }
        let bytes: usize = units.iter().map(|unit| 2 + unit.len()).sum();
        let mut payload = BytesMut::with_capacity(self.header_bytes() + bytes);
        self.aggregate_header(units, &mut payload);
        for unit in units {
            payload.extend_from_slice(&(unit.len() as u16).to_be_bytes());
            payload.extend_from_slice(unit);
        }
        payload.freeze()
    }

    fn cut(self, unit: &Bytes, max: usize, payloads: &mut Vec<Bytes>) {
        let header_bytes = self.header_bytes();
        let body = &unit[header_bytes..];
        let fragment_bytes = max - header_bytes - 1;
        let count = body.len().div_ceil(fragment_bytes);
        for (index, fragment) in body.chunks(fragment_bytes).enumerate() {
            let mut payload = BytesMut::with_capacity(header_bytes + 1 + fragment.len());
            self.fragment_headers(unit, index == 0, index + 1 == count, &mut payload);
            payload.extend_from_slice(fragment);
            payloads.push(payload.freeze());
        }
    }
}

/// Parameter sets of one stream, by kind.
#[derive(Debug, Default)]
pub(crate) struct ParameterSets([Vec<Bytes>; SET_KINDS]);

impl ParameterSets {
    /// Whether there is one of each kind.
    fn are_complete(&self, syntax: Syntax) -> bool {
        self.0[..syntax.set_kinds()].iter().all(|sets| !sets.is_empty())
    }

    /// All of them, in the order in which they go out.
    fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter().flatten()
    }

    /// Those of this kind.
    pub(crate) fn of(&self, kind: usize) -> &[Bytes] {
        &self.0[kind]
    }

    /// Takes parameter sets that came together; gives whether they say anything new.
    pub(crate) fn learn(&mut self, sets: [Vec<Bytes>; SET_KINDS]) -> bool {
        let mut is_changed = false;
        for (known, mut new) in self.0.iter_mut().zip(sets) {
            if new.iter().all(|set| known.contains(set)) {
                continue;
            }
            is_changed = true;
            if new.len() < known.len() {
                // Which of the known ones they replace is not looked into: decoders take the later one.
                known.retain(|set| !new.contains(set));
                known.drain(..(known.len() + new.len()).saturating_sub(SETS_MAX));
                known.append(&mut new);
            } else {
                *known = new;
            }
        }
        is_changed
    }
}

/// The state of one stream.
#[derive(Debug)]
pub(crate) struct NalStream {
    syntax: Syntax,
    length_bytes: usize,
    sets: ParameterSets,
}

impl NalStream {
    pub(crate) fn new(syntax: Syntax, record: NalRecord) -> Self {
        let mut stream = Self { syntax, length_bytes: record.length_bytes, sets: Default::default() };
        for unit in record.units {
            if unit.len() > syntax.header_bytes()
                && let Role::ParameterSet(kind) = syntax.role(&unit)
            {
                stream.sets.0[kind].push(unit);
            }
        }
        stream
    }

    /// Payloads of one picture, and whether it is a keyframe.
    pub(crate) fn picture(
        &mut self,
        data: Bytes,
        is_keyframe: bool,
        payload_bytes_max: usize,
    ) -> Result<(Vec<Bytes>, bool), PictureError> {
        let mut coded = Vec::new();
        let mut sets: [Vec<Bytes>; SET_KINDS] = Default::default();
        let mut is_keyframe = is_keyframe;
        for unit in self.units(data)? {
            match self.syntax.role(&unit) {
                Role::ParameterSet(kind) => {
                    if unit.len() > SET_BYTES_MAX || sets[kind].len() >= SETS_MAX {
                        return Err(PictureError::ParameterSets);
                    }
                    sets[kind].push(unit);
                }
                Role::Superfluous => {}
                Role::RandomAccess => {
                    is_keyframe = true;
                    coded.push(unit);
                }
                Role::Other => coded.push(unit),
            }
        }
        let is_changed = self.sets.learn(sets);
        if coded.is_empty() {
            return Ok((Vec::new(), false));
        }
        if is_keyframe && !self.sets.are_complete(self.syntax) {
            return Err(PictureError::NoParameterSets);
        }
        let mut units = Vec::new();
        if is_keyframe || is_changed {
            units.extend(self.sets.iter().cloned());
        }
        units.append(&mut coded);
        Ok((self.syntax.payloads(&units, payload_bytes_max), is_keyframe))
    }

    /// The NAL units of a picture. Empty ones are skipped.
    fn units(&self, mut data: Bytes) -> Result<Vec<Bytes>, PictureError> {
        let mut units = Vec::new();
        while !data.is_empty() {
            if data.len() < self.length_bytes {
                return Err(PictureError::Truncated);
            }
            let length = data.split_to(self.length_bytes);
            let length = length.iter().fold(0usize, |length, byte| (length << 8) | usize::from(*byte));
            if length > data.len() {
                return Err(PictureError::Truncated);
            }
            let unit = data.split_to(length);
            if unit.len() > self.syntax.header_bytes() {
                units.push(unit);
            }
        }
        Ok(units)
    }
}

#[cfg(test)]
pub(crate) mod tests;
