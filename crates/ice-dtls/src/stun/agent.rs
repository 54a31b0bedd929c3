//! What a full agent needs beyond a lite one: roles in requests, answers read, role conflicts (RFC 8445, section 7).

use super::{
    ATTRIBUTE_HEADER_LEN, Attributes, BINDING_REQUEST, BINDING_SUCCESS, Check, HEADER_LEN, ICE_CONTROLLING,
    MESSAGE_INTEGRITY, PRIORITY, TRAILER_LEN, Transaction, USERNAME, Writer, is_stun,
};

const BINDING_ERROR: u16 = 0x0111;
const ERROR_CODE: u16 = 0x0009;
const ICE_CONTROLLED: u16 = 0x8029;

/// Both agents claim the same role (RFC 8445, section 7.3.1.1).
pub const ROLE_CONFLICT: u16 = 487;

/// Room that [`write_role_conflict`] needs, in bytes.
pub const ROLE_CONFLICT_LENGTH_MAX: usize = HEADER_LEN + ATTRIBUTE_HEADER_LEN + 20 + TRAILER_LEN;

/// The role that the sender of a request claims, with its tie-breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimedRole {
    /// It nominates.
    Controlling(u64),
    /// It waits to be told.
    Controlled(u64),
}

/// What the request says of its sender's role. Only what MESSAGE-INTEGRITY covers counts.
#[must_use]
pub fn claimed_role(request: &[u8]) -> Option<ClaimedRole> {
    if !is_stun(request) {
        return None;
    }
    let covered = Attributes::of(request).take_while(|attribute| attribute.kind != MESSAGE_INTEGRITY);
    let mut roles = covered.filter_map(|attribute| {
        let tie_breaker = || attribute.value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        match attribute.kind {
            ICE_CONTROLLING => tie_breaker().map(ClaimedRole::Controlling),
            ICE_CONTROLLED => tie_breaker().map(ClaimedRole::Controlled),
            _ => None,
        }
    });
    roles.next()
}

/// An answer to a check of ours, not yet verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Of the check.
    pub transaction: Transaction,
    /// `None` for success.
    pub error_code: Option<u16>,
}

impl Answer {
    /// `None` if the datagram is no answer to a Binding request. For its authenticity see [`super::verify`], with the
    /// password of the peer.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        if !is_stun(datagram) {
            return None;
        }
        let error_code = match u16::from_be_bytes([datagram[0], datagram[1]]) {
            BINDING_SUCCESS => None,
            BINDING_ERROR => {
                let code = Attributes::of(datagram).find(|attribute| attribute.kind == ERROR_CODE)?;
                let &[_, _, class, number] = code.value.first_chunk()?;
                Some(u16::from(class & 7) * 100 + u16::from(number))
            }
            _ => return None,
        };
        let mut transaction = Transaction([0; 12]);
        transaction.0.copy_from_slice(&datagram[8..20]);
        Some(Self { transaction, error_code })
    }
}

/// As [`super::write_request`], for the controlled agent: `check.controlling` is not looked at.
pub fn write_controlled_request(
    out: &mut [u8],
    check: &Check<'_>,
    tie_breaker: u64,
    remote_pwd: &str,
) -> usize {
    if out.len() < check.length_max() {
        return 0;
    }
    let mut writer = Writer::begin(out, BINDING_REQUEST, check.transaction);
    writer.joined_attribute(USERNAME, [check.remote_ufrag.as_bytes(), b":", check.local_ufrag.as_bytes()]);
    writer.attribute(PRIORITY, &check.priority.to_be_bytes());
    writer.attribute(ICE_CONTROLLED, &tie_breaker.to_be_bytes());
    writer.finish(remote_pwd)
}

/// Writes the answer to a check whose sender has to change its role, authenticated with our own password. Gives its
/// length; 0, and nothing written, if `out` is shorter than [`ROLE_CONFLICT_LENGTH_MAX`].
pub fn write_role_conflict(out: &mut [u8], transaction: Transaction, pwd: &str) -> usize {
    if out.len() < ROLE_CONFLICT_LENGTH_MAX {
        return 0;
    }
    let mut writer = Writer::begin(out, BINDING_ERROR, transaction);
    writer.joined_attribute(ERROR_CODE, [&[0, 0, 4, 87], b"Role Conflict", b""]);
    writer.finish(pwd)
}

#[cfg(test)]
mod tests {
    use super::super::{BindingRequest, verify, write_request, write_success};
    use super::*;
    use proptest::prelude::*;

    const CHECK: Check<'static> = Check {
        transaction: Transaction([7; 12]),
        remote_ufrag: "them",
        local_ufrag: "we",
        priority: 1,
        controlling: Some((9, true)),
    };

    #[test]
    fn requests_tell_the_role_of_their_sender() {
        let mut out = [0; 200];
        let length = write_request(&mut out, &CHECK, "password");
        assert_eq!(claimed_role(&out[..length]), Some(ClaimedRole::Controlling(9)));
        let length = write_controlled_request(&mut out, &CHECK, 5, "password");
        let request = &out[..length];
        assert!(verify(request, "password"));
        assert_eq!(claimed_role(request), Some(ClaimedRole::Controlled(5)));
        assert!(!BindingRequest::parse(request).unwrap().use_candidate());
        assert_eq!(write_controlled_request(&mut [0; 40], &CHECK, 5, "password"), 0);
    }

    #[test]
    fn answers_are_told_apart() {
        let mut out = [0; 200];
        let mapped = ([127, 0, 0, 1], 9).into();
        let length = write_success(&mut out, CHECK.transaction, mapped, "password");
        let success = Answer { transaction: CHECK.transaction, error_code: None };
        assert_eq!(Answer::parse(&out[..length]), Some(success));
        let length = write_role_conflict(&mut out[..ROLE_CONFLICT_LENGTH_MAX], CHECK.transaction, "password");
        assert!(verify(&out[..length], "password"));
        let conflict = Answer { transaction: CHECK.transaction, error_code: Some(ROLE_CONFLICT) };
        assert_eq!(Answer::parse(&out[..length]), Some(conflict));
        let length = write_request(&mut out, &CHECK, "password");
        assert_eq!(Answer::parse(&out[..length]), None, "a request is no answer");
        assert_eq!(write_role_conflict(&mut [0; 20], CHECK.transaction, "password"), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut datagram = vec![1, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42];
            datagram.extend([0; 12]);
            datagram.extend(&body[..body.len() / 4 * 4]);
            datagram[3] = (datagram.len() - 20) as u8;
            let _ = Answer::parse(&datagram);
            let _ = claimed_role(&datagram);
        }
    }
}
