//! Offers in the manner of real clients, and small changes to them.

/// Chromium as publisher.
pub const CHROMIUM_PUBLISHER: &str =
    include_str!("../../crates/signaling/tests/corpus/chromium-publisher.sdp");
/// Chromium as viewer.
pub const CHROMIUM_VIEWER: &str = include_str!("../../crates/signaling/tests/corpus/chromium-viewer.sdp");
/// Firefox as viewer.
pub const FIREFOX_VIEWER: &str = include_str!("../../crates/signaling/tests/corpus/firefox-viewer.sdp");
/// OBS 30.2 and later: no candidates.
pub const OBS_PUBLISHER: &str = include_str!("../../crates/signaling/tests/corpus/obs-publisher.sdp");
/// OBS 32.1 and later with three layers.
pub const OBS_SIMULCAST: &str =
    include_str!("../../crates/signaling/tests/corpus/obs-publisher-simulcast.sdp");
/// libdatachannel as viewer: H264 and Opus alone.
pub const LIBDATACHANNEL_VIEWER: &str =
    include_str!("../../crates/signaling/tests/corpus/libdatachannel-viewer.sdp");
/// ffmpeg: `setup:passive`, no feedback lines.
pub const FFMPEG_PUBLISHER: &str = include_str!("../../crates/signaling/tests/corpus/ffmpeg-publisher.sdp");

/// `offer` with CRLF line ends, whatever it is stored with.
#[must_use]
pub fn crlf(offer: &str) -> String {
    offer.lines().map(|line| format!("{line}\r\n")).collect()
}

/// The values of `a=name:value` lines, or of `a=name` flags, in order.
#[must_use]
pub fn attributes<'a>(sdp: &'a str, name: &str) -> Vec<&'a str> {
    sdp.lines()
        .filter_map(|line| line.trim_end().strip_prefix("a=")?.strip_prefix(name))
        .filter_map(|rest| if rest.is_empty() { Some("") } else { rest.strip_prefix(':') })
        .collect()
}

/// The media sections, each from its `m=` line on.
#[must_use]
pub fn sections(sdp: &str) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for line in sdp.lines() {
        if line.starts_with("m=") {
            sections.push(String::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push_str(line);
            section.push('\n');
        }
    }
    sections
}
