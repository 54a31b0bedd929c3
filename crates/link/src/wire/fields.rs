//! Fields of messages: tag (8 bits), length (16 bits, big-endian), value. Integers are big-endian.
//!
//! Rules: a field with an unknown tag is skipped; of a field that should stand once the last one counts; a missing
//! required field, a value of the wrong length or outside its grammar, and a list above its bound are errors.

use model::{BroadcastId, NodeId, SeqNo, Ssrc};

/// Longest id, bytes; the grammar itself is checked by the id's type.
const ID_BYTES_MAX: usize = 63;

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No byte at all.
    #[error("the message is empty")]
    Empty,
    /// Longer than any message may be.
    #[error("the message has {length} bytes, more than any message")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// A field's length points beyond the end.
    #[error("the message ends {missing} bytes before the length that a field claims")]
    Truncated {
        /// How many bytes are missing.
        missing: usize,
    },
    /// A required field does not stand in the message.
    #[error("the {structure} has no field {field}")]
    Missing {
        /// Message, or part of it.
        structure: &'static str,
        /// What is missing.
        field: &'static str,
    },
    /// A field's value has the wrong length or breaks its grammar.
    #[error("field {tag} has a value outside its grammar")]
    Value {
        /// Tag of the field.
        tag: u8,
    },
    /// A list has more entries than allowed.
    #[error("field {tag} has more entries than the bound")]
    TooMany {
        /// Tag of the field.
        tag: u8,
    },
}

/// Writes fields.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    pub(super) fn bytes(&mut self, tag: u8, value: &[u8]) -> &mut Self {
        self.nested(tag, |writer| writer.out.extend_from_slice(value))
    }

    pub(super) fn u8(&mut self, tag: u8, value: u8) -> &mut Self {
        self.bytes(tag, &[value])
    }

    pub(super) fn u32(&mut self, tag: u8, value: u32) -> &mut Self {
        self.bytes(tag, &value.to_be_bytes())
    }

    pub(super) fn u64(&mut self, tag: u8, value: u64) -> &mut Self {
        self.bytes(tag, &value.to_be_bytes())
    }

    pub(super) fn two_u64(&mut self, tag: u8, first: u64, second: u64) -> &mut Self {
        self.nested(tag, |writer| {
            writer.out.extend_from_slice(&first.to_be_bytes());
            writer.out.extend_from_slice(&second.to_be_bytes());
        })
    }

    /// A field whose value is written by `inner`, usually fields again.
    pub(super) fn nested(&mut self, tag: u8, inner: impl FnOnce(&mut Writer<'_>)) -> &mut Self {
        self.out.push(tag);
        let at = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        inner(&mut Writer { out: self.out });
        let length = u16::try_from(self.out.len() - at - 2)
            .expect("lists and texts are bounded before they are written");
        self.out[at..at + 2].copy_from_slice(&length.to_be_bytes());
        self
    }
}

/// One field as it was read.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) tag: u8,
    pub(super) value: &'a [u8],
}

impl<'a> Field<'a> {
    pub(super) const fn outside(self) -> DecodeError {
        DecodeError::Value { tag: self.tag }
    }

    pub(super) fn array<const N: usize>(self) -> Result<[u8; N], DecodeError> {
        self.value.try_into().map_err(|_| self.outside())
    }

    pub(super) fn u8(self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u32(self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn two_u64(self) -> Result<(u64, u64), DecodeError> {
        let both = u128::from_be_bytes(self.array()?);
        Ok(((both >> 64) as u64, both as u64))
    }

    pub(super) fn text(self, length_max: usize) -> Result<&'a str, DecodeError> {
        if self.value.len() > length_max {
            return Err(self.outside());
        }
        std::str::from_utf8(self.value).map_err(|_| self.outside())
    }

    pub(super) fn broadcast_id(self) -> Result<BroadcastId, DecodeError> {
        BroadcastId::new(self.text(ID_BYTES_MAX)?).map_err(|_| self.outside())
    }

    pub(super) fn node_id(self) -> Result<NodeId, DecodeError> {
        NodeId::new(self.text(ID_BYTES_MAX)?).map_err(|_| self.outside())
    }

    pub(super) fn ssrc(self) -> Result<Ssrc, DecodeError> {
        self.u32().map(Ssrc::new)
    }

    pub(super) fn seq_no(self) -> Result<SeqNo, DecodeError> {
        seq_no(self.u64()?).ok_or(self.outside())
    }
}

/// A sequence number that SRTP can seal.
pub(super) fn seq_no(index: u64) -> Option<SeqNo> {
    let seq_no = SeqNo::new(index);
    (seq_no <= SeqNo::MAX).then_some(seq_no)
}

/// Reads fields one after the other.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn pop(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Some((&[tag, high, low], body)) = self.rest.split_first_chunk::<3>() else {
            return Err(DecodeError::Truncated { missing: 3 - self.rest.len() });
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, rest)) = body.split_at_checked(length) else {
            return Err(DecodeError::Truncated { missing: length - body.len() });
        };
        self.rest = rest;
        Ok(Some(Field { tag, value }))
    }
}

/// Adds to a bounded list.
pub(super) fn push<T>(list: &mut Vec<T>, max: usize, tag: u8, entry: T) -> Result<(), DecodeError> {
    if list.len() == max {
        return Err(DecodeError::TooMany { tag });
    }
    list.push(entry);
    Ok(())
}

/// What a required field held.
pub(super) fn required<T>(
    value: Option<T>,
    structure: &'static str,
    field: &'static str,
) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing { structure, field })
}
