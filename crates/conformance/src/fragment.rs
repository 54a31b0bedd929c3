//! SDP fragments (RFC 8840): what the suite sends with a PATCH, and what comes back from a restart.

use client::IceDescription;

use crate::description::{attribute, attributes};

/// Media type of fragments.
pub(crate) const MEDIA_TYPE: &str = "application/trickle-ice-sdpfrag";

/// A fragment for the first section of `offer`.
pub(crate) fn of(offer: &str, ice: &IceDescription) -> String {
    let group = attribute(offer, "group").map(|group| format!("a=group:{group}\r\n")).unwrap_or_default();
    let mid = attribute(offer, "mid").unwrap_or("0");
    let media = offer.lines().find(|line| line.starts_with("m=")).unwrap_or("m=audio 9 UDP/TLS/RTP/SAVPF 0");
    let candidates: String =
        ice.candidates.iter().map(|candidate| format!("a=candidate:{candidate}\r\n")).collect();
    format!(
        "a=ice-options:trickle ice2\r\n{group}{media}\r\na=mid:{mid}\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n\
         {candidates}a=end-of-candidates\r\n",
        ice.ufrag,
        ice.pwd,
        media = media.trim_end()
    )
}

/// The ICE of a description or fragment: its first credentials and all of its candidates.
pub(crate) fn ice_of(text: &str) -> Option<IceDescription> {
    Some(IceDescription {
        ufrag: attribute(text, "ice-ufrag")?.to_owned(),
        pwd: attribute(text, "ice-pwd")?.to_owned(),
        candidates: attributes(text, "candidate").into_iter().map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_carries_the_ice_of_one_section() {
        let ice = IceDescription {
            ufrag: "abcd".to_owned(),
            pwd: "0123456789012345678901".to_owned(),
            candidates: vec!["1 1 udp 1 192.0.2.1 5 typ host".to_owned()],
        };
        let fragment =
            of("v=0\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n", &ice);
        assert!(fragment.contains("a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"));
        assert_eq!(ice_of(&fragment), Some(ice));
        assert_eq!(ice_of("a=ice-ufrag:x\r\n"), None);
    }
}
