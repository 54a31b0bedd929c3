//! What fuzzing demands of every parser of outside bytes: a function for each, which panics where a demand is not met.
//!
//! The targets in `fuzz/` hand it what libFuzzer makes up; the tests of this crate hand it `fuzz/corpus/`, so that
//! every input that once reached something new is played again with a stable compiler and without libFuzzer.
//!
//! A demand is more than not to panic: what is read and written again is the same, and two readers of one text agree.
#![forbid(unsafe_code)]

mod access;
mod encoders;
mod http;
mod links;
mod media;
mod peers;
mod plain;
mod records;
mod sdp;

/// Tries one input.
pub type Demand = fn(&[u8]);

/// Every target: its name, which is that of its file in `fuzz/fuzz_targets/` and of its folder in `fuzz/corpus/`.
pub const TARGETS: [(&str, Demand); 25] = [
    ("access", access::attempt),
    ("codec", media::codec),
    ("fingerprint", sdp::fingerprint),
    ("handshake", peers::handshake),
    ("http", http::headers),
    ("link_frames", links::frames),
    ("link_media", links::media),
    ("link_message", links::message),
    ("octets", records::octets),
    ("pictures", encoders::pictures),
    ("publisher", peers::publisher),
    ("publisher_record", records::publisher),
    ("record_file", records::file),
    ("rtcp", media::rtcp),
    ("rtmp", encoders::connection),
    ("rtp", media::rtp),
    ("rtp_in", plain::rtp),
    ("sdp", sdp::offer),
    ("sdpfrag", sdp::fragment),
    ("session_record", records::session),
    ("sound", encoders::sound),
    ("srtp", media::srtp),
    ("stun", peers::stun),
    ("svc", media::svc),
    ("viewer_record", records::viewer),
];

/// Tries one input on the target of this name.
///
/// # Panics
/// If the target does not exist or a demand is not met.
pub fn run(target: &str, input: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, demand) = found.expect("a target of TARGETS");
    demand(input);
}
