//! Offers in the style of real clients, shared by the tests of this crate.

use signaling::sdp::Session;

macro_rules! offers {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../corpus/", $name, ".sdp")))),*] };
}

pub const PUBLISHERS: [(&str, &str); 10] = offers![
    "chromium-publisher",
    "chromium-publisher-sendrecv",
    "chromium-publisher-simulcast",
    "ffmpeg-publisher",
    "firefox-publisher",
    "gstreamer-publisher",
    "libdatachannel-publisher",
    "obs-publisher",
    "obs-publisher-av1",
    "obs-publisher-simulcast",
];

pub const VIEWERS: [(&str, &str); 5] = offers![
    "chromium-viewer",
    "chromium-viewer-sendrecv-data",
    "firefox-viewer",
    "gstreamer-viewer",
    "libdatachannel-viewer",
];

/// An offer as its client sends it: with CRLF.
pub fn text(name: &str) -> String {
    let (_, text) =
        PUBLISHERS.into_iter().chain(VIEWERS).find(|(known, _)| *known == name).expect("known offer");
    text.replace('\n', "\r\n")
}

pub fn parsed(name: &str) -> Session {
    Session::parse(&text(name)).expect("the corpus can be read")
}
