//! The key that records are sealed with, and what is derived from it.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::{aead, hkdf};
use zeroize::Zeroizing;

/// Bytes of a sealing key.
pub const KEY_BYTES: usize = 32;
/// Bytes of the salt of one opening of a store.
pub const SALT_BYTES: usize = 16;
/// Bytes that tell whether a record was sealed with this key, without opening it.
pub const CHECK_BYTES: usize = 8;

/// Why there is no sealing key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the sealing key {}: {source}; make one with: openssl rand -hex 32", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{} holds no sealing key: 32 bytes are needed, as 64 hexadecimal digits, base64 or raw", .path.display())]
    Format {
        /// Which file.
        path: PathBuf,
    },
}

/// The secret of the records. Whoever has it and the directory can take over every session. Wiped when dropped.
#[derive(Clone)]
pub struct SealingKey(Zeroizing<[u8; KEY_BYTES]>);

impl SealingKey {
    /// Reads a key: 64 hexadecimal digits, base64 (either alphabet), or 32 raw bytes.
    ///
    /// # Errors
    /// If the file cannot be read or holds something else.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let read = std::fs::read(path).map(Zeroizing::new);
        let content = read.map_err(|source| KeyError::Read { path: path.into(), source })?;
        Self::parse(&content).ok_or_else(|| KeyError::Format { path: path.into() })
    }

    /// A key made of fresh random bytes, for a process that hands it to its successor itself.
    #[must_use]
    pub fn generate(random: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(random))
    }

    /// Another secret of whoever has this key, the same each time; `purpose` tells it from others.
    #[must_use]
    pub fn secret<const N: usize>(&self, purpose: &[u8]) -> [u8; N] {
        let mut secret = [0; N];
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"media-tree")
            .extract(&self.0[..])
            .expand(&[purpose], Length(N))
            .and_then(|okm| okm.fill(&mut secret))
            .expect("HKDF gives up to 8160 bytes");
        secret
    }

    fn parse(content: &[u8]) -> Option<Self> {
        if content.len() == KEY_BYTES {
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            key.copy_from_slice(content);
            return Some(Self(key));
        }
        let text = content.trim_ascii();
        let bits = match text.len() {
            64 => 4,
            43 => 6,
            44 if text[43] == b'=' => 6,
            _ => return None,
        };
        let digit = if bits == 4 { hexadecimal } else { base64 };
        let digits = text.strip_suffix(b"=").unwrap_or(text);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let (mut waiting, mut waiting_bits, mut written) = (0u32, 0, 0);
        for byte in digits {
            waiting = waiting << bits | digit(*byte)?;
            waiting_bits += bits;
            if waiting_bits >= 8 && written < KEY_BYTES {
                waiting_bits -= 8;
                key[written] = (waiting >> waiting_bits) as u8;
                waiting &= (1 << waiting_bits) - 1;
                written += 1;
            }
        }
        (written == KEY_BYTES && waiting == 0).then_some(Self(key))
    }

    /// What one opening of a store, known by its salt, seals with.
    pub(crate) fn derive(&self, salt: &[u8; SALT_BYTES]) -> Derived {
        let pseudo_random = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.0[..]);
        let expand = |label: &[u8], bytes: &mut [u8]| {
            pseudo_random
                .expand(&[label], Length(bytes.len()))
                .and_then(|okm| okm.fill(bytes))
                .expect("HKDF gives up to 8160 bytes");
        };
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        expand(b"media-tree session record 1: key", &mut key[..]);
        let mut check = [0; CHECK_BYTES];
        expand(b"media-tree session record 1: check", &mut check);
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, &key[..]).expect("32 bytes are a key");
        Derived { key: aead::LessSafeKey::new(key), check }
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(***)")
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The key of one opening of a store.
#[derive(Debug)]
pub struct Derived {
    pub key: aead::LessSafeKey,
    pub check: [u8; CHECK_BYTES],
}

fn hexadecimal(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}

fn base64(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `openssl rand 32`, and what `xxd`, `base64` and `basenc --base64url` make of it.
    const RAW: [u8; 32] = [
        0xfb, 0xef, 0xff, 0x3e, 0x00, 0x01, 0x80, 0x7f, 0x10, 0x92, 0x54, 0xa6, 0xe8, 0xc1, 0x37, 0x5d, 0x66,
        0x21, 0x0a, 0x0d, 0x09, 0x20, 0xdd, 0x4b, 0x99, 0x72, 0x3c, 0xb0, 0x8e, 0x6f, 0xa3, 0xff,
    ];
    const HEX: &str = "fbefff3e0001807f109254a6e8c1375d66210a0d0920dd4b99723cb08e6fa3ff";
    const BASE64: &str = "++//PgABgH8QklSm6ME3XWYhCg0JIN1LmXI8sI5vo/8=";

    #[test]
    fn a_key_is_read_in_every_form_that_tools_write() {
        let url = BASE64.replace('+', "-").replace('/', "_");
        for content in [
            RAW.to_vec(),
            HEX.into(),
            format!("{}\n", HEX.to_uppercase()).into(),
            format!("{BASE64}\n").into(),
            url.trim_end_matches('=').into(),
        ] {
            let key = SealingKey::parse(&content).unwrap_or_else(|| panic!("{content:?}"));
            assert_eq!(*key.0, RAW);
        }
    }

    #[test]
    fn anything_else_is_no_key() {
        let wrong = [
            &HEX[1..],
            "",
            "password",
            &HEX.replace('f', "g"),
            &BASE64.replace('g', "!"),
            &BASE64.replace("8=", "9="),
        ];
        for content in wrong {
            assert!(SealingKey::parse(content.as_bytes()).is_none(), "{content}");
        }
    }

    #[test]
    fn a_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", SealingKey::generate(RAW)), "SealingKey(***)");
    }

    #[test]
    fn a_missing_file_is_told_with_the_remedy() {
        let error = SealingKey::from_file(Path::new("/nowhere/state.key")).expect_err("missing").to_string();
        assert!(error.contains("/nowhere/state.key") && error.contains("openssl rand"), "{error}");
    }

    proptest! {
        #[test]
        fn no_content_panics(content in prop::collection::vec(any::<u8>(), 0..70)) {
            let _ = SealingKey::parse(&content);
        }
    }

    #[test]
    fn a_secret_is_the_same_each_time_and_another_for_each_purpose() {
        let key = SealingKey::generate([1; KEY_BYTES]);
        let secret: [u8; 16] = key.secret(b"one");
        assert_eq!(secret, key.secret(b"one"));
        assert_ne!(secret, key.secret(b"two"));
        assert_ne!(secret, SealingKey::generate([2; KEY_BYTES]).secret(b"one"));
    }
}
