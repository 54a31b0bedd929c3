//! Session descriptions read as text: what is checked is what stands there.

/// The values of `a=name:value` lines, or of `a=name` flags, in order.
pub(crate) fn attributes<'a>(sdp: &'a str, name: &str) -> Vec<&'a str> {
    sdp.lines()
        .filter_map(|line| line.trim_end().strip_prefix("a=")?.strip_prefix(name))
        .filter_map(|rest| if rest.is_empty() { Some("") } else { rest.strip_prefix(':') })
        .collect()
}

/// The first of them.
pub(crate) fn attribute<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    attributes(sdp, name).first().copied()
}

/// The media sections, each from its `m=` line on.
pub(crate) fn sections(sdp: &str) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for line in sdp.lines() {
        if line.starts_with("m=") {
            sections.push(String::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push_str(line.trim_end());
            section.push('\n');
        }
    }
    sections
}

/// `audio` or `video`, as a section's media line says.
pub(crate) fn kind(section: &str) -> &str {
    section.strip_prefix("m=").and_then(|rest| rest.split(' ').next()).unwrap_or_default()
}

/// Whether a section is refused: port 0 without `bundle-only` (RFC 9143).
pub(crate) fn is_rejected(section: &str) -> bool {
    let port = section.split(' ').nth(1).unwrap_or_default();
    port == "0" && attributes(section, "bundle-only").is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=sendonly\r\n\
        m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n";

    #[test]
    fn a_description_is_cut_into_its_sections_and_attributes() {
        let sections = sections(SDP);
        assert_eq!(sections.iter().map(|section| kind(section)).collect::<Vec<_>>(), ["audio", "video"]);
        assert_eq!(attributes(SDP, "mid"), ["0", "1"]);
        assert_eq!((attribute(SDP, "sendonly"), attribute(SDP, "send")), (Some(""), None));
        assert_eq!((is_rejected(&sections[0]), is_rejected(&sections[1])), (false, true));
        assert!(!is_rejected("m=video 0 UDP/TLS/RTP/SAVPF 96\na=bundle-only\n"));
    }
}
