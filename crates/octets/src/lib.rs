//! Numbers, texts and lists as bytes: big-endian, lengths in front. For session records, which hold keys: what is
//! collected is wiped when dropped.
//!
//! Layouts, their versions and what a value may be are the caller's; so is the order, which is all that tells fields
//! apart.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use zeroize::Zeroizing;

/// Collects bytes.
#[derive(Default)]
pub struct Writer {
    out: Zeroizing<Vec<u8>>,
}

impl Writer {
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.push(&[value]);
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.push(&value.to_be_bytes());
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.push(&value.to_be_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.push(&value.to_be_bytes());
    }

    /// Bytes with their length in front; at most 65 535 of them.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u16(bytes.len() as u16);
        self.push(&bytes[..usize::from(bytes.len() as u16)]);
    }

    /// An address without a port: its version, then its bytes.
    pub fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                self.u8(4);
                self.u32(ip.to_bits());
            }
            IpAddr::V6(ip) => {
                self.u8(6);
                self.u64((ip.to_bits() >> 64) as u64);
                self.u64(ip.to_bits() as u64);
            }
        }
    }

    /// An address with its port; of IPv6, neither flow nor scope.
    pub fn address(&mut self, address: SocketAddr) {
        self.ip(address.ip());
        self.u16(address.port());
    }

    /// All that follows: no length, so nothing may come after it.
    pub fn rest(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }

    /// Items with their number in front; at most 255 of them.
    pub fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.u8(items.len() as u8);
        for item in &items[..usize::from(items.len() as u8)] {
            write(self, item);
        }
    }

    /// A flag, and the value if there is one.
    pub fn option<T>(&mut self, value: Option<T>, write: impl Fn(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// What was collected.
    #[must_use]
    pub fn finish(self) -> Zeroizing<Vec<u8>> {
        self.out
    }

    /// A vector that grows leaves its old bytes behind: grow into a wiped one.
    fn push(&mut self, bytes: &[u8]) {
        let length = self.out.len() + bytes.len();
        if length > self.out.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(length.next_power_of_two().max(1024)));
            larger.extend_from_slice(&self.out);
            self.out = larger;
        }
        self.out.extend_from_slice(bytes);
    }
}

/// Takes bytes apart; `None` wherever they end too early or break a bound.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the first of `bytes` on.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all is read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    /// As [`Writer::u8`] wrote it.
    pub fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// A byte that is 0 or 1.
    pub fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// As [`Writer::u16`] wrote it.
    pub fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// As [`Writer::u32`] wrote it.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// As [`Writer::u64`] wrote it.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// As [`Writer::bytes`] wrote it, at most `max` bytes.
    pub fn bytes(&mut self, max: usize) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        let (taken, rest) = self.rest.split_at_checked(length).filter(|_| length <= max)?;
        self.rest = rest;
        Some(taken)
    }

    /// The same, if it is UTF-8.
    pub fn text(&mut self, max: usize) -> Option<String> {
        Some(str::from_utf8(self.bytes(max)?).ok()?.to_owned())
    }

    /// As [`Writer::ip`] wrote it.
    pub fn ip(&mut self) -> Option<IpAddr> {
        match self.u8()? {
            4 => Some(Ipv4Addr::from_bits(self.u32()?).into()),
            6 => {
                let bits = (u128::from(self.u64()?) << 64) | u128::from(self.u64()?);
                Some(Ipv6Addr::from_bits(bits).into())
            }
            _ => None,
        }
    }

    /// As [`Writer::address`] wrote it.
    pub fn address(&mut self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.ip()?, self.u16()?))
    }

    /// All that is not read yet.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// As [`Writer::list`] wrote it, at most `max` items.
    pub fn list<T>(&mut self, max: usize, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = usize::from(self.u8()?);
        if length > max {
            return None;
        }
        (0..length).map(|_| read(self)).collect()
    }

    /// As [`Writer::option`] wrote it. The outer `None` is for broken bytes.
    pub fn option<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { Some(Some(read(self)?)) } else { Some(None) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in any::<(u8, u16, u32, u64)>(),
            text in ".{0,3000}",
            list in proptest::collection::vec(any::<u16>(), 0..=255),
            option in any::<Option<u32>>(),
            addresses in any::<(std::net::Ipv4Addr, std::net::Ipv6Addr, u16)>(),
            rest in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let mut out = Writer::default();
            out.u8(numbers.0);
            out.u16(numbers.1);
            out.u32(numbers.2);
            out.u64(numbers.3);
            out.bytes(text.as_bytes());
            out.list(&list, |out, item| out.u16(*item));
            out.option(option, Writer::u32);
            let (v4, v6, port) = addresses;
            out.address((v4, port).into());
            out.address((v6, port).into());
            out.rest(&rest);
            let bytes = out.finish();
            let mut input = Reader::new(&bytes);
            prop_assert_eq!(input.u8(), Some(numbers.0));
            prop_assert_eq!(input.u16(), Some(numbers.1));
            prop_assert_eq!(input.u32(), Some(numbers.2));
            prop_assert_eq!(input.u64(), Some(numbers.3));
            prop_assert_eq!(input.text(65_535), Some(text));
            prop_assert_eq!(input.list(255, Reader::u16), Some(list));
            prop_assert_eq!(input.option(Reader::u32), Some(option));
            prop_assert_eq!(input.address(), Some((v4, port).into()));
            prop_assert_eq!(input.address(), Some((v6, port).into()));
            prop_assert_eq!(input.rest(), &rest[..]);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn more_than_the_bound_is_refused(text in "[a-z]{2,40}", list in proptest::collection::vec(any::<u8>(), 2..9)) {
            let mut out = Writer::default();
            out.bytes(text.as_bytes());
            out.list(&list, |out, item| out.u8(*item));
            let bytes = out.finish();
            prop_assert_eq!(Reader::new(&bytes).bytes(text.len() - 1), None);
            let mut input = Reader::new(&bytes);
            prop_assert_eq!(input.bytes(text.len()), Some(text.as_bytes()));
            prop_assert_eq!(input.list(list.len() - 1, Reader::u8), None);
        }
    }

    #[test]
    fn a_flag_is_0_or_1_and_text_is_utf_8() {
        assert_eq!(Reader::new(&[1]).flag(), Some(true));
        assert_eq!(Reader::new(&[2]).flag(), None);
        assert_eq!(Reader::new(&[2]).option(Reader::u8), None);
        assert_eq!(Reader::new(&[0, 1, 0xff]).text(1), None);
    }
}
