//! Numbers, strings and lists as bytes: big-endian, lengths in front.

use zeroize::Zeroizing;

/// Collects bytes.
#[derive(Default)]
pub(super) struct Writer {
    out: Zeroizing<Vec<u8>>,
}

impl Writer {
    pub(super) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// At most 65 535 of them.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.u16(bytes.len() as u16);
        self.out.extend_from_slice(&bytes[..usize::from(bytes.len() as u16)]);
    }

    /// At most 255 items.
    pub(super) fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.u8(items.len() as u8);
        for item in &items[..usize::from(items.len() as u8)] {
            write(self, item);
        }
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl Fn(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(super) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.out
    }
}

/// Takes bytes apart; `None` wherever they end too early or break a bound.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn bytes(&mut self, max: usize) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        let (taken, rest) = self.rest.split_at_checked(length).filter(|_| length <= max)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn text(&mut self, max: usize) -> Option<String> {
        Some(str::from_utf8(self.bytes(max)?).ok()?.to_owned())
    }

    pub(super) fn list<T>(&mut self, max: usize, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = usize::from(self.u8()?);
        if length > max {
            return None;
        }
        (0..length).map(|_| read(self)).collect()
    }

    /// The outer `None` is for broken bytes.
    #[expect(clippy::option_option, reason = "one level says broken, the other absent")]
    pub(super) fn option<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { Some(Some(read(self)?)) } else { Some(None) }
    }
}
