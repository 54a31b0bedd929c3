//! Binding requests (RFC 8489, RFC 8445): whose they are, and writing them ourselves.
//!
//! Two needs: ffmpeg's requests lack PRIORITY, which the engine insists on, so they are verified here and written
//! anew; and a resumed session nominates its pair with a request of its own making.

use str0m::crypto::from_feature_flags;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_BYTES: usize = 20;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const INTEGRITY_BYTES: usize = 20;
/// Of a peer-reflexive candidate with the highest preferences (RFC 8445, section 5.1.2).
const PRIORITY_PEER_REFLEXIVE: u32 = (110 << 24) | (65_535 << 8) | 255;

/// A binding request, as far as it matters here. Not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BindingRequest<'a> {
    transaction: &'a [u8; 12],
    username: &'a str,
    pub(super) has_priority: bool,
    pub(super) use_candidate: bool,
    /// Everything before MESSAGE-INTEGRITY, and its value.
    integrity: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> BindingRequest<'a> {
    /// `None` if `datagram` is something else.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let header = datagram.first_chunk::<HEADER_BYTES>()?;
        let transaction = datagram.get(8..20)?.first_chunk::<12>()?;
        let body_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if u16::from_be_bytes([header[0], header[1]]) != BINDING_REQUEST
            || header[4..8] != MAGIC_COOKIE
            || HEADER_BYTES + body_bytes != datagram.len()
        {
            return None;
        }
        let mut request =
            Self { transaction, username: "", has_priority: false, use_candidate: false, integrity: None };
        let mut offset = HEADER_BYTES;
        while let Some(&[t0, t1, l0, l1]) =
            datagram.get(offset..offset + 4).and_then(<[u8]>::first_chunk::<4>)
        {
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let value = datagram.get(offset + 4..offset + 4 + length)?;
            match u16::from_be_bytes([t0, t1]) {
                USERNAME => request.username = str::from_utf8(value).ok()?,
                PRIORITY => request.has_priority = true,
                USE_CANDIDATE => request.use_candidate = true,
                MESSAGE_INTEGRITY => {
                    request.integrity = Some((&datagram[..offset], value));
                    break;
                }
                _ => {}
            }
            offset += 4 + length.next_multiple_of(4);
        }
        Some(request)
    }

    /// The user fragment of the agent that is asked: before the colon (RFC 8445, section 7.2.2).
    pub(super) fn local_ufrag(&self) -> &'a str {
        self.username.split(':').next().unwrap_or_default()
    }

    /// Whether it was made by someone who knows `password`.
    pub(super) fn is_authentic(&self, password: &str) -> bool {
        let Some((before, value)) = self.integrity else { return false };
        value.len() == INTEGRITY_BYTES && integrity(before, password) == value
    }

    /// The same request, PRIORITY included.
    pub(super) fn with_priority(&self, password: &str) -> Vec<u8> {
        write(self.transaction, self.username, password, self.use_candidate)
    }
}

/// A request that nominates the pair it comes over.
pub(super) fn nomination(transaction: &[u8; 12], username: &str, password: &str) -> Vec<u8> {
    write(transaction, username, password, true)
}

/// Whether `datagram` answers a binding request with success, which we do to authentic ones only.
pub(super) fn is_success(datagram: &[u8]) -> bool {
    datagram.first_chunk::<2>().is_some_and(|bytes| u16::from_be_bytes(*bytes) == BINDING_SUCCESS)
}

fn write(transaction: &[u8; 12], username: &str, password: &str, use_candidate: bool) -> Vec<u8> {
    let mut message = Vec::with_capacity(128);
    message.extend_from_slice(&BINDING_REQUEST.to_be_bytes());
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(&MAGIC_COOKIE);
    message.extend_from_slice(transaction);
    push(&mut message, USERNAME, username.as_bytes());
    push(&mut message, PRIORITY, &PRIORITY_PEER_REFLEXIVE.to_be_bytes());
    if use_candidate {
        push(&mut message, USE_CANDIDATE, &[]);
    }
    let tag = integrity(&message, password);
    push(&mut message, MESSAGE_INTEGRITY, &tag);
    set_length(&mut message, 0);
    message
}

fn push(message: &mut Vec<u8>, attribute: u16, value: &[u8]) {
    message.extend_from_slice(&attribute.to_be_bytes());
    message.extend_from_slice(&(value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn set_length(message: &mut [u8], more: usize) {
    let length = (message.len() - HEADER_BYTES + more) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// Over `before`, whose length field counts MESSAGE-INTEGRITY in (RFC 8489, section 14.5).
fn integrity(before: &[u8], password: &str) -> [u8; INTEGRITY_BYTES] {
    let mut before = before.to_vec();
    set_length(&mut before, 4 + INTEGRITY_BYTES);
    from_feature_flags().sha1_hmac_provider.sha1_hmac(password.as_bytes(), &[&before])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_without_priority_gets_one_and_stays_authentic() {
        let complete = nomination(&[7; 12], "local:remote", "password-of-22-letters");
        let priority_at = complete.windows(2).position(|pair| pair == PRIORITY.to_be_bytes()).unwrap();
        let mut bare = complete[..complete.len() - 24].to_vec();
        bare.drain(priority_at..priority_at + 8);
        let tag = integrity(&bare, "password-of-22-letters");
        push(&mut bare, MESSAGE_INTEGRITY, &tag);
        set_length(&mut bare, 0);

        let request = BindingRequest::parse(&bare).unwrap();
        assert!(!request.has_priority && request.use_candidate);
        assert!(request.is_authentic("password-of-22-letters"));
        assert!(!request.is_authentic("another"));
        assert_eq!(request.local_ufrag(), "local");
        assert_eq!(request.with_priority("password-of-22-letters"), complete);
    }

    proptest! {
        #[test]
        fn no_datagram_panics(datagram in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = BindingRequest::parse(&datagram);
            let mut framed = vec![0, 1];
            framed.extend_from_slice(&(datagram.len() as u16).to_be_bytes());
            framed.extend_from_slice(&MAGIC_COOKIE);
            framed.extend_from_slice(&[0; 12]);
            framed.extend_from_slice(&datagram);
            if let Some(request) = BindingRequest::parse(&framed) {
                prop_assert!(!request.is_authentic("x"));
            }
        }
    }
}
