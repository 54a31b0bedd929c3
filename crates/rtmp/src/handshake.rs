//! The handshake (RTMP specification 1.0, section 5.2), in both forms.
//!
//! The simple form is the specification's. The other one, which Flash and what speaks like it uses, hides an HMAC-SHA256
//! digest in C1 and wants one in S1 and S2. It proves nothing, since its keys are known to everybody; encoders that
//! send a digest may still end a connection whose server sends none. So the answer has the form of the question.

use aws_lc_rs::hmac;
use bytes::{Buf as _, BytesMut};

const VERSION: u8 = 3;
/// Bytes of C1, C2, S1 and S2 each.
const PART_BYTES: usize = 1536;
const DIGEST_BYTES: usize = 32;
/// Where each of the two layouts says how far into its block the digest stands, and where that block's content begins.
const LAYOUTS: [(usize, usize); 2] = [(8, 12), (772, 776)];
/// Places that a digest may have within its block.
const DIGEST_PLACES: usize = 728;

const CLIENT_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001";
/// Follows the server's key where the digest of S2 is keyed.
const KEY_SUFFIX: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e,
    0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];
/// What S1 gives as the server's version in the digest form; clients look for digests from 3 on.
const DIGEST_VERSION: [u8; 4] = [4, 5, 0, 1];

/// Why bytes are not an RTMP handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// A TLS record.
    #[error("this is RTMPS (RTMP over TLS), but the port speaks plain RTMP: use an rtmp:// address")]
    Tls,
    /// A letter: HTTP, probably.
    #[error("this is not RTMP but a protocol of text, such as HTTP")]
    Text,
    /// Another version.
    #[error("RTMP version {version} is not spoken here, only {VERSION}")]
    Version {
        /// The byte C0.
        version: u8,
    },
}

/// How far the handshake is.
#[derive(Debug)]
pub(crate) enum Handshake {
    /// C0 and C1 are awaited; the random bytes go into S1.
    Hello {
        /// Seed of the random parts.
        random: [u8; 32],
    },
    /// C2 is awaited.
    Echo,
    /// It is over.
    Done,
}

impl Handshake {
    /// Takes what is there of the client's part and adds ours to `out`. Gives whether the handshake is over.
    pub(crate) fn advance(
        &mut self,
        unread: &mut BytesMut,
        out: &mut Vec<u8>,
    ) -> Result<bool, HandshakeError> {
        if let Self::Hello { random } = self {
            if let Some(&version) = unread.first() {
                check_version(version)?;
            }
            if unread.len() < 1 + PART_BYTES {
                return Ok(false);
            }
            unread.advance(1);
            let c1 = unread.split_to(PART_BYTES);
            out.push(VERSION);
            answer(&c1, random, out);
            *self = Self::Echo;
        }
        if let Self::Echo = self {
            if unread.len() < PART_BYTES {
                return Ok(false);
            }
            // C2 should repeat S1. Encoders get that wrong, and nothing follows from it.
            unread.advance(PART_BYTES);
            *self = Self::Done;
        }
        Ok(true)
    }
}

fn check_version(version: u8) -> Result<(), HandshakeError> {
    match version {
        VERSION => Ok(()),
        0x16 => Err(HandshakeError::Tls),
        b' '..=b'~' => Err(HandshakeError::Text),
        version => Err(HandshakeError::Version { version }),
    }
}

/// Adds S1 and S2.
fn answer(c1: &[u8], random: &[u8; 32], out: &mut Vec<u8>) {
    let mut s1 = noise(random, 1);
    s1[..8].fill(0);
    // A client of the simple form leaves four zeros where others put their version.
    let found = if c1[4..8] == [0; 4] { None } else { find_digest(c1) };
    let Some((layout, digest)) = found else {
        out.extend_from_slice(&s1);
        out.extend_from_slice(c1);
        return;
    };
    s1[4..8].copy_from_slice(&DIGEST_VERSION);
    let place = digest_place(&s1, layout);
    let signed = sign_around(SERVER_KEY, &s1, place);
    s1[place..place + DIGEST_BYTES].copy_from_slice(&signed);
    out.extend_from_slice(&s1);
    let mut s2 = noise(random, 2);
    let key = sign(&[SERVER_KEY, &KEY_SUFFIX].concat(), &[&digest]);
    let end = PART_BYTES - DIGEST_BYTES;
    let signed = sign(&key, &[&s2[..end]]);
    s2[end..].copy_from_slice(&signed);
    out.extend_from_slice(&s2);
}

/// The layout in which the part has a valid digest of a client, and the digest.
fn find_digest(c1: &[u8]) -> Option<((usize, usize), [u8; DIGEST_BYTES])> {
    LAYOUTS.into_iter().find_map(|layout| {
        let place = digest_place(c1, layout);
        let digest: [u8; DIGEST_BYTES] = c1[place..place + DIGEST_BYTES].try_into().ok()?;
        (sign_around(CLIENT_KEY, c1, place) == digest).then_some((layout, digest))
    })
}

/// Where the digest stands: the sum of four bytes says it.
fn digest_place(part: &[u8], (pointer, content): (usize, usize)) -> usize {
    let sum: usize = part[pointer..pointer + 4].iter().map(|byte| usize::from(*byte)).sum();
    content + sum % DIGEST_PLACES
}

/// Signs a part without its digest.
fn sign_around(key: &[u8], part: &[u8], place: usize) -> [u8; DIGEST_BYTES] {
    sign(key, &[&part[..place], &part[place + DIGEST_BYTES..]])
}

fn sign(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = [0; DIGEST_BYTES];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// Bytes that look random, out of a few that are.
fn noise(random: &[u8; 32], part: u8) -> [u8; PART_BYTES] {
    let mut out = [0; PART_BYTES];
    for (index, block) in out.chunks_mut(DIGEST_BYTES).enumerate() {
        block.copy_from_slice(&sign(random, &[&[part, index as u8]]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(c1: &[u8]) -> BytesMut {
        BytesMut::from(&[&[VERSION][..], c1].concat()[..])
    }

    fn shake(input: &mut BytesMut) -> (Handshake, Vec<u8>) {
        let mut handshake = Handshake::Hello { random: [7; 32] };
        let mut out = Vec::new();
        assert_eq!(handshake.advance(input, &mut out), Ok(false));
        (handshake, out)
    }

    #[test]
    fn the_simple_form_gets_its_own_bytes_back() {
        let c1: Vec<u8> = (0..PART_BYTES).map(|index| if index < 8 { 0 } else { index as u8 }).collect();
        let mut input = hello(&c1);
        let (mut handshake, mut out) = shake(&mut input);
        assert_eq!(out.len(), 1 + 2 * PART_BYTES);
        assert_eq!((out[0], &out[1..9], &out[1 + PART_BYTES..]), (3, &[0; 8][..], &c1[..]));
        input.extend_from_slice(&[1; PART_BYTES + 5]);
        out.clear();
        assert_eq!(handshake.advance(&mut input, &mut out), Ok(true));
        assert_eq!((input.len(), out.len()), (5, 0), "what follows C2 is left");
    }

    #[test]
    fn a_client_with_a_digest_gets_one_in_its_own_layout() {
        for layout in LAYOUTS {
            let mut c1 = noise(&[9; 32], 0);
            c1[4..8].copy_from_slice(&[9, 0, 124, 2]);
            let place = digest_place(&c1, layout);
            let digest = sign_around(CLIENT_KEY, &c1, place);
            c1[place..place + DIGEST_BYTES].copy_from_slice(&digest);
            let (_, out) = shake(&mut hello(&c1));
            let (s1, s2) = out[1..].split_at(PART_BYTES);
            let place = digest_place(s1, layout);
            assert_eq!(s1[place..place + DIGEST_BYTES], sign_around(SERVER_KEY, s1, place));
            let key = sign(&[SERVER_KEY, &KEY_SUFFIX].concat(), &[&digest]);
            assert_eq!(s2[PART_BYTES - DIGEST_BYTES..], sign(&key, &[&s2[..PART_BYTES - DIGEST_BYTES]]));
        }
    }

    #[test]
    fn a_version_without_a_digest_gets_the_simple_form() {
        let mut c1 = [5; PART_BYTES];
        c1[4..8].copy_from_slice(&[9, 0, 124, 2]);
        let (_, out) = shake(&mut hello(&c1));
        assert_eq!(out[1 + PART_BYTES..], c1);
    }

    #[test]
    fn other_protocols_are_known_by_their_first_byte() {
        let refused = |first: u8| {
            Handshake::Hello { random: [0; 32] }.advance(&mut BytesMut::from(&[first][..]), &mut Vec::new())
        };
        assert_eq!(refused(0x16), Err(HandshakeError::Tls));
        assert_eq!(refused(b'G'), Err(HandshakeError::Text));
        assert_eq!(refused(6), Err(HandshakeError::Version { version: 6 }));
    }
}
