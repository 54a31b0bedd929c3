//! RTP payloads of a sender, as browsers take them: none beyond a size, and parameter sets before every keyframe.
//!
//! Payloads that fit pass as they are. Larger ones are cut: a fragment of a NAL unit is filled up from the next one, so
//! that a sender with slightly larger packets does not cost twice as many. Payloads come in the order in which they were
//! sent; [`Received::lost`] says where some are missing.

use bytes::{Bytes, BytesMut};
use model::Codec;

use crate::nal::{ParameterSets, Role, SET_KINDS, Syntax};
use crate::record::{SET_BYTES_MAX, SETS_MAX};
use crate::{av1, vp8, vp9};

/// One payload with what its packet says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Ticks of the codec's clock.
    pub timestamp: u32,
    /// Last packet of the picture.
    pub marker: bool,
    /// The payload itself.
    pub bytes: Bytes,
}

/// Why a payload cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// Above the limit, and of a form that cannot be cut.
    #[error("a payload of {bytes} bytes cannot be cut into ones of at most {max}")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

/// One stream.
#[derive(Debug)]
pub struct Received {
    codec: Codec,
    max: usize,
    /// H.264 and H.265.
    units: Option<Units>,
}

impl Received {
    /// A stream whose payloads shall have at most so many bytes.
    ///
    /// # Panics
    /// If that is less than [`crate::PAYLOAD_BYTES_MIN`].
    #[must_use]
    pub fn new(codec: Codec, payload_bytes_max: usize) -> Self {
        assert!(payload_bytes_max >= crate::PAYLOAD_BYTES_MIN, "{payload_bytes_max} bytes leave no room");
        let syntax = match codec {
            Codec::H264 => Some(Syntax::H264),
            Codec::H265 => Some(Syntax::H265),
            Codec::Opus | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => None,
        };
        Self { codec, max: payload_bytes_max, units: syntax.map(Units::new) }
    }

    /// The sender has told these parameter sets elsewhere (`sprop-parameter-sets` and the like). What is none is skipped.
    pub fn learn(&mut self, sets: impl IntoIterator<Item = Bytes>) {
        if let Some(units) = &mut self.units {
            sets.into_iter().for_each(|set| units.note(&set));
            units.learn();
        }
    }

    /// Packets are missing before the next one.
    pub fn lost(&mut self, out: &mut Vec<Payload>) {
        if let Some(units) = &mut self.units {
            units.flush(false, out);
        }
    }

    /// Appends what goes out for a payload that came in.
    ///
    /// # Errors
    /// [`PayloadError`]; the next one may be right.
    pub fn payload(&mut self, payload: Payload, out: &mut Vec<Payload>) -> Result<(), PayloadError> {
        if let Some(units) = &mut self.units {
            return units.payload(payload, self.max, out);
        }
        let Payload { timestamp, marker, bytes } = payload;
        if bytes.len() <= self.max {
            out.push(Payload { timestamp, marker, bytes });
            return Ok(());
        }
        let parts = match self.codec {
            Codec::Vp8 => vp8::cut(&bytes, self.max),
            Codec::Vp9 => vp9::cut(&bytes, self.max),
            Codec::Av1 => av1::cut(bytes.clone(), self.max),
            Codec::Opus | Codec::H264 | Codec::H265 => None,
        };
        let parts = parts.ok_or(PayloadError::TooLarge { bytes: bytes.len(), max: self.max })?;
        push(parts, timestamp, marker, out);
        Ok(())
    }
}

/// The marker belongs to the last of them.
fn push(parts: Vec<Bytes>, timestamp: u32, marker: bool, out: &mut Vec<Payload>) {
    let last = parts.len().saturating_sub(1);
    let payload = |(index, bytes)| Payload { timestamp, marker: marker && index == last, bytes };
    out.extend(parts.into_iter().enumerate().map(payload));
}

/// The state of an H.264 or H.265 stream.
#[derive(Debug)]
struct Units {
    syntax: Syntax,
    known: ParameterSets,
    /// Of the present picture.
    timestamp: Option<u32>,
    /// Parameter sets that came with it.
    sets: [Vec<Bytes>; SET_KINDS],
    /// Its parameter sets are out, whoever sent them.
    is_led: bool,
    /// A unit that comes in fragments and is cut anew.
    open: Option<Fragments>,
}

#[derive(Debug)]
struct Fragments {
    timestamp: u32,
    /// The unit's header.
    header: Bytes,
    /// Nothing of it is out.
    is_first: bool,
    /// What is not out.
    rest: BytesMut,
}

/// What a payload is (RFC 6184, section 5.2; RFC 7798, section 4.4).
enum Form {
    Unit,
    Aggregate,
    Fragment {
        is_first: bool,
        is_last: bool,
        unit_type: u8,
    },
    /// Interleaved and other forms that are not negotiated; or cut.
    Other,
}

impl Units {
    fn new(syntax: Syntax) -> Self {
        let (known, sets) = (ParameterSets::default(), Default::default());
        Self { syntax, known, timestamp: None, sets, is_led: false, open: None }
    }

    fn payload(&mut self, payload: Payload, max: usize, out: &mut Vec<Payload>) -> Result<(), PayloadError> {
        let Payload { timestamp, marker, bytes } = payload;
        if self.timestamp != Some(timestamp) {
            self.flush(false, out);
            self.learn();
            self.timestamp = Some(timestamp);
            self.is_led = false;
        }
        match self.form(&bytes) {
            Form::Fragment { is_first, is_last, unit_type } => {
                self.fragment((timestamp, marker), (is_first, is_last, unit_type), bytes, max, out);
                return Ok(());
            }
            Form::Unit => {
                self.flush(false, out);
                self.note(&bytes);
                self.lead(&bytes, timestamp, max, out);
                push(self.syntax.payloads(&[bytes], max), timestamp, marker, out);
            }
            Form::Aggregate => {
                self.flush(false, out);
                let units = self.units_of(&bytes);
                if bytes.len() > max && units.is_empty() {
                    return Err(PayloadError::TooLarge { bytes: bytes.len(), max });
                }
                units.iter().for_each(|unit| self.note(unit));
                units.iter().for_each(|unit| self.lead(unit, timestamp, max, out));
                let parts = if bytes.len() <= max { vec![bytes] } else { self.syntax.payloads(&units, max) };
                push(parts, timestamp, marker, out);
            }
            Form::Other if bytes.len() > max => {
                return Err(PayloadError::TooLarge { bytes: bytes.len(), max });
            }
            Form::Other => {
                self.flush(false, out);
                out.push(Payload { timestamp, marker, bytes });
            }
        }
        Ok(())
    }

    fn form(&self, payload: &[u8]) -> Form {
        let header_bytes = self.syntax.header_bytes();
        if payload.len() <= header_bytes {
            return Form::Other;
        }
        let unit_type = match self.syntax {
            Syntax::H264 => payload[0] & 0x1f,
            Syntax::H265 => (payload[0] >> 1) & 0x3f,
        };
        match (self.syntax, unit_type) {
            (Syntax::H264, 24) | (Syntax::H265, 48) => Form::Aggregate,
            (Syntax::H264, 28) | (Syntax::H265, 49) => {
                let fragment = payload[header_bytes];
                let unit_type = fragment & if self.syntax == Syntax::H264 { 0x1f } else { 0x3f };
                Form::Fragment { is_first: fragment & 0x80 != 0, is_last: fragment & 0x40 != 0, unit_type }
            }
            (Syntax::H264, 1..=23) | (Syntax::H265, 0..=47) => Form::Unit,
            _ => Form::Other,
        }
    }

    /// The units of an aggregate, as far as they are whole.
    fn units_of(&self, aggregate: &Bytes) -> Vec<Bytes> {
        let header_bytes = self.syntax.header_bytes();
        let mut rest = aggregate.slice(header_bytes..);
        let mut units = Vec::new();
        while let Some(length) = rest.first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if rest.len() < 2 + length {
                break;
            }
            let unit = rest.split_to(2 + length).slice(2..);
            if unit.len() > header_bytes {
                units.push(unit);
            }
        }
        units
    }

    /// Keeps a parameter set of the present picture; more, or larger ones, than a sane stream has are not kept.
    fn note(&mut self, unit: &Bytes) {
        if unit.len() > self.syntax.header_bytes()
            && let Role::ParameterSet(kind) = self.syntax.role(unit)
            && unit.len() <= SET_BYTES_MAX
            && self.sets[kind].len() < SETS_MAX
        {
            // A small part of a packet would hold all of it in memory.
            self.sets[kind].push(Bytes::copy_from_slice(unit));
        }
    }

    fn learn(&mut self) {
        self.known.learn(std::mem::take(&mut self.sets));
    }

    /// Before the first slice of a keyframe go the parameter sets that did not come with it.
    fn lead(&mut self, unit: &[u8], timestamp: u32, max: usize, out: &mut Vec<Payload>) {
        // The first bit behind the header: first_mb_in_slice is zero, first_slice_segment_in_pic_flag is set.
        let is_first_slice = unit.get(self.syntax.header_bytes()).is_some_and(|byte| byte & 0x80 != 0);
        if self.is_led || !is_first_slice || self.syntax.role(unit) != Role::RandomAccess {
            return;
        }
        self.is_led = true;
        let missing = (0..SET_KINDS).filter(|kind| self.sets[*kind].is_empty());
        let missing: Vec<Bytes> = missing.flat_map(|kind| self.known.of(kind).iter().cloned()).collect();
        push(self.syntax.payloads(&missing, max), timestamp, false, out);
    }

    fn fragment(
        &mut self,
        (timestamp, marker): (u32, bool),
        (is_first, is_last, unit_type): (bool, bool, u8),
        payload: Bytes,
        max: usize,
        out: &mut Vec<Payload>,
    ) {
        let header_bytes = self.syntax.header_bytes();
        let header = self.syntax.header_of(&payload, unit_type);
        let body = payload.slice(header_bytes + 1..);
        if is_first {
            self.flush(false, out);
            let start = [&header[..], body.get(..1).unwrap_or_default()].concat();
            self.lead(&start, timestamp, max, out);
        }
        if self.open.is_none() {
            if payload.len() <= max {
                out.push(Payload { timestamp, marker, bytes: payload });
                return;
            }
            self.open = Some(Fragments { timestamp, header, is_first, rest: BytesMut::new() });
        }
        let Some(open) = &mut self.open else { return };
        open.rest.extend_from_slice(&body);
        let room = max - header_bytes - 1;
        while open.rest.len() > room {
            let part = open.rest.split_to(room);
            out.push(open.payload(self.syntax, &part, false));
        }
        if is_last || marker {
            let before = out.len();
            self.flush(is_last, out);
            if let Some(last) = out[before..].last_mut() {
                last.marker = marker;
            }
        }
    }

    /// Sends what is left of a unit; `is_last` if that is all of it.
    fn flush(&mut self, is_last: bool, out: &mut Vec<Payload>) {
        if let Some(mut open) = self.open.take()
            && !open.rest.is_empty()
        {
            let rest = open.rest.split();
            out.push(open.payload(self.syntax, &rest, is_last));
        }
    }
}

impl Fragments {
    fn payload(&mut self, syntax: Syntax, part: &[u8], is_last: bool) -> Payload {
        let mut bytes = BytesMut::with_capacity(syntax.header_bytes() + 1 + part.len());
        let is_first = std::mem::take(&mut self.is_first);
        // A unit in one fragment is none: both bits must not be set (RFC 6184, section 5.8).
        if is_first && is_last {
            bytes.extend_from_slice(&self.header);
        } else {
            syntax.fragment_headers(&self.header, is_first, is_last, &mut bytes);
        }
        bytes.extend_from_slice(part);
        Payload { timestamp: self.timestamp, marker: false, bytes: bytes.freeze() }
    }
}

#[cfg(test)]
mod tests;
