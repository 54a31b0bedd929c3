//! One side's ICE as it stands in SDP: what a client trickles, and what a restart exchanges (RFC 8839, RFC 8840).

use str0m::Candidate;

/// Credentials and candidates of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceDescription {
    /// `a=ice-ufrag`
    pub ufrag: String,
    /// `a=ice-pwd`
    pub pwd: String,
    /// The values of `a=candidate` lines.
    pub candidates: Vec<String>,
}

impl IceDescription {
    /// What stands behind `a=candidate:`.
    pub(crate) fn value_of(candidate: &Candidate) -> String {
        let line = candidate.to_sdp_string();
        line.trim_start_matches("a=").trim_start_matches("candidate:").trim_end().to_owned()
    }

    /// The same description with this ICE in place of its own; candidates stand where the first ones stood.
    pub(crate) fn in_place_of(&self, description: &str) -> String {
        let mut text = String::new();
        let mut are_candidates_told = false;
        for line in description.lines() {
            if line.starts_with("a=ice-ufrag:") {
                text += &format!("a=ice-ufrag:{}\r\n", self.ufrag);
            } else if line.starts_with("a=ice-pwd:") {
                text += &format!("a=ice-pwd:{}\r\n", self.pwd);
            } else if line.starts_with("a=candidate:") {
                if !std::mem::replace(&mut are_candidates_told, true) {
                    self.candidates.iter().for_each(|value| text += &format!("a=candidate:{value}\r\n"));
                }
            } else {
                text += &format!("{}\r\n", line.trim_end());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_changes_the_ice_of_a_description_and_nothing_else() {
        let before =
            "v=0\r\na=ice-ufrag:old\r\na=ice-pwd:older\r\na=candidate:1 a\r\na=candidate:2 b\r\na=mid:0\r\n";
        let ice = IceDescription {
            ufrag: "new".to_owned(),
            pwd: "newer".to_owned(),
            candidates: vec!["3 c".to_owned()],
        };
        let after = "v=0\r\na=ice-ufrag:new\r\na=ice-pwd:newer\r\na=candidate:3 c\r\na=mid:0\r\n";
        assert_eq!(ice.in_place_of(before), after);
    }
}
