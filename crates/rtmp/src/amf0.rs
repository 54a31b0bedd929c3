//! AMF0, the form of commands and metadata (Action Message Format, version 0).
//!
//! Values are owned and bounded in depth and number. References and AMF3 values are refused: no encoder needs them.

/// How deep objects and arrays may lie in one another.
pub const DEPTH_MAX: usize = 8;
/// Values that one message may have, members of objects included.
pub const VALUES_MAX: usize = 1024;

mod marker {
    pub(super) const NUMBER: u8 = 0;
    pub(super) const BOOLEAN: u8 = 1;
    pub(super) const STRING: u8 = 2;
    pub(super) const OBJECT: u8 = 3;
    pub(super) const NULL: u8 = 5;
    pub(super) const UNDEFINED: u8 = 6;
    pub(super) const ECMA_ARRAY: u8 = 8;
    pub(super) const OBJECT_END: u8 = 9;
    pub(super) const STRICT_ARRAY: u8 = 10;
    pub(super) const DATE: u8 = 11;
    pub(super) const LONG_STRING: u8 = 12;
    pub(super) const UNSUPPORTED: u8 = 13;
    pub(super) const XML: u8 = 15;
    pub(super) const TYPED_OBJECT: u8 = 16;
    pub(super) const AMF3: u8 = 17;
}

/// Why bytes are not AMF0 values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmfError {
    /// The bytes end within a value.
    #[error("an AMF0 value ends too early")]
    Truncated,
    /// A type that is not read here.
    #[error("an AMF0 value of type {marker}, which is not understood here")]
    Marker {
        /// Its type.
        marker: u8,
    },
    /// AMF3.
    #[error("an AMF3 value; set the encoder to AMF0 (objectEncoding 0)")]
    Amf3,
    /// Text that is not UTF-8.
    #[error("an AMF0 text is not UTF-8")]
    Text,
    /// Too deep.
    #[error("AMF0 values lie more than {DEPTH_MAX} deep in one another")]
    TooDeep,
    /// Too many.
    #[error("more than {VALUES_MAX} AMF0 values in one message")]
    TooMany,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number, or a date as its milliseconds.
    Number(f64),
    /// A truth value.
    Boolean(bool),
    /// A text of any length, XML included.
    String(String),
    /// Names and values in their order: an object, with or without a class, or an associative array.
    Object(Vec<(String, Value)>),
    /// A list.
    Array(Vec<Value>),
    /// Null, undefined or unsupported.
    Null,
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::String(text.to_owned())
    }

    /// An object.
    #[must_use]
    pub fn object<const N: usize>(members: [(&str, Self); N]) -> Self {
        Self::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The member of an object with this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }
}

/// Reads all values of a message.
///
/// # Errors
/// [`AmfError`] at the first thing that is not one.
pub fn read(bytes: &[u8]) -> Result<Vec<Value>, AmfError> {
    let mut reader = Reader { rest: bytes, values_left: VALUES_MAX };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.value(DEPTH_MAX)?);
    }
    Ok(values)
}

struct Reader<'a> {
    rest: &'a [u8],
    values_left: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], AmfError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(AmfError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(AmfError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<f64, AmfError> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    fn text(&mut self, length: usize) -> Result<String, AmfError> {
        let text = str::from_utf8(self.take(length)?).map_err(|_| AmfError::Text)?;
        Ok(text.to_owned())
    }

    fn short_text(&mut self) -> Result<String, AmfError> {
        let length = u16::from_be_bytes(self.array()?);
        self.text(usize::from(length))
    }

    fn value(&mut self, depth_left: usize) -> Result<Value, AmfError> {
        let deeper = || depth_left.checked_sub(1).ok_or(AmfError::TooDeep);
        self.values_left = self.values_left.checked_sub(1).ok_or(AmfError::TooMany)?;
        let [marker] = self.array()?;
        Ok(match marker {
            marker::NUMBER => Value::Number(self.number()?),
            marker::BOOLEAN => Value::Boolean(self.array::<1>()? != [0]),
            marker::STRING => Value::String(self.short_text()?),
            marker::LONG_STRING | marker::XML => {
                let length = u32::from_be_bytes(self.array()?);
                Value::String(self.text(length as usize)?)
            }
            marker::OBJECT => self.members(deeper()?)?,
            marker::TYPED_OBJECT => {
                self.short_text()?;
                self.members(deeper()?)?
            }
            marker::ECMA_ARRAY => {
                // The count is a hint, and often wrong.
                self.take(4)?;
                self.members(deeper()?)?
            }
            marker::STRICT_ARRAY => {
                let count = u32::from_be_bytes(self.array()?) as usize;
                let depth_left = deeper()?;
                if count > self.values_left {
                    return Err(AmfError::TooMany);
                }
                Value::Array((0..count).map(|_| self.value(depth_left)).collect::<Result<_, _>>()?)
            }
            marker::DATE => {
                let millis = self.number()?;
                self.take(2)?; // a time zone, which the format reserves
                Value::Number(millis)
            }
            marker::NULL | marker::UNDEFINED | marker::UNSUPPORTED => Value::Null,
            marker::AMF3 => return Err(AmfError::Amf3),
            marker => return Err(AmfError::Marker { marker }),
        })
    }

    fn members(&mut self, depth_left: usize) -> Result<Value, AmfError> {
        let mut members = Vec::new();
        loop {
            let name = self.short_text()?;
            if name.is_empty() && self.rest.first() == Some(&marker::OBJECT_END) {
                self.take(1)?;
                return Ok(Value::Object(members));
            }
            // Metadata may end with the message, without the mark of its end.
            members.push((name, self.value(depth_left)?));
            if self.rest.is_empty() {
                return Ok(Value::Object(members));
            }
        }
    }
}

/// Adds a value. Texts above 65 535 bytes take the long form.
///
/// # Panics
/// If the name of a member has more than 65 535 bytes.
pub fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Number(number) => {
            out.push(marker::NUMBER);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Boolean(truth) => out.extend_from_slice(&[marker::BOOLEAN, u8::from(*truth)]),
        Value::String(text) => match u16::try_from(text.len()) {
            Ok(length) => {
                out.push(marker::STRING);
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            Err(_) => {
                out.push(marker::LONG_STRING);
                out.extend_from_slice(&(text.len() as u32).to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        },
        Value::Object(members) => {
            out.push(marker::OBJECT);
            for (name, value) in members {
                let length = u16::try_from(name.len()).expect("a name of at most 65 535 bytes");
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(name.as_bytes());
                write(out, value);
            }
            out.extend_from_slice(&[0, 0, marker::OBJECT_END]);
        }
        Value::Array(values) => {
            out.push(marker::STRICT_ARRAY);
            out.extend_from_slice(&(values.len() as u32).to_be_bytes());
            for value in values {
                write(out, value);
            }
        }
        Value::Null => out.push(marker::NULL),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            (-1e9f64..1e9).prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            ".{0,20}".prop_map(Value::String),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec((".{1,9}", inner.clone()), 0..6).prop_map(Value::Object),
                prop::collection::vec(inner, 0..6).prop_map(Value::Array),
            ]
        })
    }

    #[test]
    fn an_associative_array_is_an_object_whatever_its_count_and_end() {
        let array = [8, 0, 0, 0, 9, 0, 1, b'w', 0, 0x40, 0x94, 0, 0, 0, 0, 0, 0];
        let expected = [Value::object([("w", Value::Number(1280.0))])];
        assert_eq!(read(&array), Ok(expected.to_vec()));
        assert_eq!(read(&[&array[..], &[0, 0, 9]].concat()), Ok(expected.to_vec()));
    }

    #[test]
    fn what_is_too_deep_or_too_much_is_refused() {
        let nested = [10, 0, 0, 0, 1].repeat(DEPTH_MAX + 1);
        assert_eq!(read(&nested), Err(AmfError::TooDeep));
        assert_eq!(read(&[10, 0xff, 0xff, 0xff, 0xff]), Err(AmfError::TooMany));
        assert_eq!(read(&[5; VALUES_MAX + 1]), Err(AmfError::TooMany));
        assert_eq!(read(&[17, 1]), Err(AmfError::Amf3));
        assert_eq!(read(&[7, 0, 0]), Err(AmfError::Marker { marker: 7 }));
        assert_eq!(read(&[2, 0, 1, 0xff]), Err(AmfError::Text));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in prop::collection::vec(any_value(), 0..5)) {
            let mut bytes = Vec::new();
            for value in &values {
                write(&mut bytes, value);
            }
            prop_assert_eq!(read(&bytes), Ok(values));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![0u8..18, any::<u8>()], 0..200)) {
            let _ = read(&bytes);
        }
    }
}
