//! SDP fragments (RFC 8840): what a client trickles after its offer, or the credentials of an ICE restart.

use std::net::IpAddr;

use crate::sdp::{self, Attribute, BYTES_MAX, Candidate, MEDIA_MAX};

/// Most candidates of one fragment; hosts have a few dozen at most.
const CANDIDATES_MAX: usize = 200;

/// One fragment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fragment {
    /// The ICE user fragment that it belongs to, if it says.
    pub ice_ufrag: Option<String>,
    /// The password beside it.
    pub ice_pwd: Option<String>,
    /// The candidates that could be used, in order.
    pub candidates: Vec<Candidate>,
    /// How many candidates were left out: other transports, names that only the client can resolve,
    /// unreadable ones (RFC 9725, section 4.3.2: skipped, not refused).
    pub candidates_skipped: usize,
    /// Whether no more candidates will come.
    pub is_end_of_candidates: bool,
}

/// Why a text is no fragment. Line numbers start at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Longer than a description may be.
    #[error("the fragment has more than {BYTES_MAX} bytes")]
    TooLong,
    /// Neither `a=` nor `m=`.
    #[error("line {line} is neither an attribute nor a media line")]
    Line {
        /// Where.
        line: usize,
    },
    /// More than a fragment needs.
    #[error("the fragment has too many media sections or candidates")]
    TooMany,
    /// Nothing that ICE could use.
    #[error("the fragment has neither ICE credentials nor candidates nor a=end-of-candidates")]
    Empty,
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// [`ParseError`] if it is none. Candidates that cannot be used are skipped, not an error.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > BYTES_MAX {
            return Err(ParseError::TooLong);
        }
        let mut fragment = Self::default();
        let mut sections = 0;
        for (index, line) in text.split('\n').enumerate() {
            let error = ParseError::Line { line: index + 1 };
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            if line.chars().any(|character| character.is_control() && character != '\t') {
                return Err(error);
            }
            if let Some(value) = line.strip_prefix("m=") {
                sdp::media_line(value).ok_or(error)?;
                sections += 1;
            } else {
                let value = line.strip_prefix("a=").ok_or(error)?;
                fragment.add(&sdp::attribute_line(value).ok_or(error)?);
            }
            if sections > MEDIA_MAX
                || fragment.candidates.len() + fragment.candidates_skipped > CANDIDATES_MAX
            {
                return Err(ParseError::TooMany);
            }
        }
        if fragment == Self::default() { Err(ParseError::Empty) } else { Ok(fragment) }
    }

    fn add(&mut self, attribute: &Attribute) {
        match (attribute.name.as_str(), attribute.value.as_deref()) {
            // With one bundled transport every section has the same credentials: the first ones count.
            ("ice-ufrag", Some(value)) => {
                self.ice_ufrag.get_or_insert_with(|| value.to_owned());
            }
            ("ice-pwd", Some(value)) => {
                self.ice_pwd.get_or_insert_with(|| value.to_owned());
            }
            ("candidate", value) => match value.and_then(usable) {
                Some(candidate) => self.candidates.push(candidate),
                None => self.candidates_skipped += 1,
            },
            ("end-of-candidates", _) => self.is_end_of_candidates = true,
            // RFC 8840, section 9: what is not known is ignored.
            _ => {}
        }
    }
}

/// A candidate that a server could send to: UDP, with an address.
fn usable(value: &str) -> Option<Candidate> {
    let candidate: Candidate = value.parse().ok()?;
    let is_usable =
        candidate.transport.eq_ignore_ascii_case("udp") && candidate.address.parse::<IpAddr>().is_ok();
    is_usable.then_some(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRICKLE: &str = "a=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
        a=mid:0\r\n\
        a=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
        a=candidate:2 1 udp 2122194687 0b1ea1b5-41f1-4a0e-8f8a-7d2a6a5a3c11.local 61765 typ host\r\n\
        a=candidate:3 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\n\
        a=candidate:? nonsense\r\n\
        a=candidate:4 1 UDP 1 2001:db8::1 61766 typ srflx raddr :: rport 0\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn w21_what_cannot_be_used_is_skipped_and_the_rest_is_taken() {
        let fragment = Fragment::parse(TRICKLE).expect("fragment");
        let addresses: Vec<&str> =
            fragment.candidates.iter().map(|candidate| candidate.address.as_str()).collect();
        assert_eq!(addresses, ["192.0.2.1", "2001:db8::1"]);
        assert_eq!((fragment.candidates_skipped, fragment.is_end_of_candidates), (3, true));
        assert_eq!(fragment.ice_ufrag.as_deref(), Some("EsAw"));
        assert_eq!(Fragment::parse(&TRICKLE.replace("\r\n", "\n")), Ok(fragment));
    }

    #[test]
    fn w15_what_is_no_fragment_is_refused() {
        assert_eq!(Fragment::parse(""), Err(ParseError::Empty));
        assert_eq!(Fragment::parse("a=mid:0\r\n"), Err(ParseError::Empty));
        assert_eq!(Fragment::parse("hello"), Err(ParseError::Line { line: 1 }));
        assert_eq!(Fragment::parse("a=end-of-candidates\r\nm=audio\r\n"), Err(ParseError::Line { line: 2 }));
        assert_eq!(Fragment::parse("a=ice-ufrag:a\u{0}b\r\n"), Err(ParseError::Line { line: 1 }));
        let many = "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n".repeat(201);
        assert_eq!(Fragment::parse(&many), Err(ParseError::TooMany));
        assert_eq!(Fragment::parse(&"a=x\r\n".repeat(20_000)), Err(ParseError::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "((a=|m=|)(ice-ufrag|candidate|mid|audio|)[:a-z0-9 ]{0,20}(\r\n|\n|))*|.{0,100}") {
            let _ = Fragment::parse(&text);
        }
    }
}
