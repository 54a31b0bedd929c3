//! Payload types: what an offer can carry of what the tree carries.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use model::{Codec, Kind};

use crate::coding::{H264Profile, parameter, plain_name};
use crate::sdp::{Media, RtpMap};

/// Most payload types taken from one section: Chromium's largest offer has 14 usable ones for video, 1 for
/// audio.
const fn payloads_max(kind: Kind) -> usize {
    match kind {
        Kind::Audio => 3,
        Kind::Video => 14,
    }
}
/// Longest format parameters of a viewer, in bytes. They are echoed, and this keeps answers below
/// [`crate::ANSWER_BYTES_MAX`]; real ones have at most 80.
const ECHOED_FMTP_BYTES_MAX: usize = 120;
/// Most names listed in a refusal, so that its text stays readable.
const NAMES_MAX: usize = 12;

/// One payload type of an offer that the tree can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// What it is coded with.
    pub codec: Codec,
    /// 0 to 127.
    pub payload_type: u8,
    /// Format parameters as offered; `None` if there are none.
    pub fmtp: Option<String>,
    /// Payload type of its RTX stream (RFC 4588), if offered; video only.
    pub rtx_payload_type: Option<u8>,
    /// The feedback messages offered.
    pub feedback: Feedback,
}

impl Payload {
    /// The value of one format parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        parameter(self.fmtp.as_deref().unwrap_or(""), name)
    }

    /// What the format parameters say about H264.
    pub(crate) fn h264_profile(&self) -> H264Profile {
        H264Profile::of(self.fmtp.as_deref().unwrap_or(""))
    }

    fn is_fragmented_h264(&self) -> bool {
        self.codec == Codec::H264 && self.parameter("packetization-mode") == Some("1")
    }
}

/// RTCP feedback that an offer has and that the tree understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Feedback {
    /// `nack` (RFC 4585).
    pub nack: bool,
    /// `nack pli` (RFC 4585).
    pub pli: bool,
    /// `ccm fir` (RFC 5104).
    pub fir: bool,
    /// `goog-remb`.
    pub remb: bool,
    /// `transport-cc`: instead of `goog-remb`, never beside it.
    pub transport_cc: bool,
}

impl Feedback {
    fn of(media: &Media, payload_type: u8) -> Self {
        let mut feedback = Self::default();
        for offered in media.rtcp_feedback(payload_type) {
            match offered {
                "nack" => feedback.nack = true,
                "nack pli" => feedback.pli = true,
                "ccm fir" => feedback.fir = true,
                "goog-remb" => feedback.remb = true,
                "transport-cc" => feedback.transport_cc = true,
                _ => {}
            }
        }
        feedback
    }

    /// Leaves one of the two that tell what a connection carries.
    pub(crate) const fn settle(&mut self, is_transport_wide: bool) {
        self.transport_cc &= is_transport_wide;
        self.remb &= !is_transport_wide;
    }

    /// The values for `a=rtcp-fb`.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        let named = [
            (self.nack, "nack"),
            (self.pli, "nack pli"),
            (self.fir, "ccm fir"),
            (self.remb, "goog-remb"),
            (self.transport_cc, "transport-cc"),
        ];
        named.into_iter().filter_map(|(offered, name)| offered.then_some(name))
    }
}

/// Who made the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Party {
    /// May send H264 as whole units only: viewers understand that too.
    Publisher,
    /// Must take H264 fragments, so packetization mode 1 (RFC 6184, section 6.2 and 6.3). Who names no mode has not said that he
    /// cannot, though that stands for 0: GStreamer names none where its caps were made by hand, and takes fragments.
    Viewer,
}

/// The payload types of `media` whose codec is among `codecs`, in the order of the offer. Where there are too many, those
/// of the first of `codecs` are kept.
pub(crate) fn usable(media: &Media, kind: Kind, codecs: &[Codec], party: Party) -> Vec<Payload> {
    let lines = Lines::of(media);
    let mut payloads: Vec<Payload> = media
        .payload_types()
        .filter_map(|payload_type| payload(&lines, codecs, party, payload_type))
        .filter(|payload| payload.codec.kind() == kind)
        .collect();
    // Whole units only is the poorer choice: larger frames would be cut into more slices.
    let has_fragments = payloads.iter().any(Payload::is_fragmented_h264);
    payloads.retain(|payload| !has_fragments || payload.codec != Codec::H264 || payload.is_fragmented_h264());
    if payloads.len() > payloads_max(kind) {
        payloads.sort_by_key(|payload| codecs.first() != Some(&payload.codec));
        payloads.truncate(payloads_max(kind));
    }
    payloads
}

/// What the lines of a section say of its payload types, found once: a browser offers sixty of them in three hundred
/// lines. The first line of each counts.
struct Lines<'a> {
    media: &'a Media,
    maps: BTreeMap<u8, RtpMap<'a>>,
    parameters: BTreeMap<u8, &'a str>,
    /// RTX payload types by the one that they repeat.
    repeats: BTreeMap<u8, u8>,
}

impl<'a> Lines<'a> {
    fn of(media: &'a Media) -> Self {
        let mut lines =
            Self { media, maps: BTreeMap::new(), parameters: BTreeMap::new(), repeats: BTreeMap::new() };
        for map in media.rtpmaps() {
            lines.maps.entry(map.payload_type).or_insert(map);
        }
        for (payload_type, fmtp) in media.fmtps() {
            lines.parameters.entry(payload_type).or_insert(fmtp);
        }
        for payload_type in media.payload_types() {
            if let Some(primary) = lines.repeated(payload_type) {
                lines.repeats.entry(primary).or_insert(payload_type);
            }
        }
        lines
    }

    /// What an RTX payload type repeats.
    fn repeated(&self, payload_type: u8) -> Option<u8> {
        let is_rtx = self.maps.get(&payload_type)?.encoding.eq_ignore_ascii_case("rtx");
        let apt = is_rtx.then(|| self.parameters.get(&payload_type)).flatten()?;
        parameter(apt, "apt")?.parse().ok()
    }
}

fn payload(lines: &Lines<'_>, codecs: &[Codec], party: Party, payload_type: u8) -> Option<Payload> {
    let map = lines.maps.get(&payload_type)?;
    let codec = Codec::from_encoding_name(map.encoding)?;
    let fmtp = lines.parameters.get(&payload_type).copied().filter(|fmtp| !fmtp.is_empty());
    let fits = codecs.contains(&codec)
        && map_fits(codec, map)
        && fmtp.is_none_or(|fmtp| party == Party::Publisher || fmtp.len() <= ECHOED_FMTP_BYTES_MAX)
        && parameters_fit(codec, fmtp.unwrap_or(""), party);
    fits.then(|| Payload {
        codec,
        payload_type,
        fmtp: fmtp.map(str::to_owned),
        // Audio is repeated by other means, if at all.
        rtx_payload_type: lines.repeats.get(&payload_type).copied().filter(|_| codec.kind() == Kind::Video),
        feedback: Feedback::of(lines.media, payload_type),
    })
}

fn map_fits(codec: Codec, map: &RtpMap<'_>) -> bool {
    let channels_fit = match codec.kind() {
        // RFC 7587, section 7: Opus is always announced with two. Who makes caps for GStreamer by hand often says nothing of
        // them, and means the same.
        Kind::Audio => (1..=2).contains(&map.channels),
        Kind::Video => map.channels == 1,
    };
    map.clock_rate == codec.clock_rate() && channels_fit
}

/// The value of `a=rtpmap` after the payload type.
pub(crate) fn rtpmap(codec: Codec) -> String {
    let channels = match codec.kind() {
        Kind::Audio => "/2",
        Kind::Video => "",
    };
    format!("{}/{}{channels}", codec.encoding_name(), codec.clock_rate())
}

fn parameters_fit(codec: Codec, fmtp: &str, party: Party) -> bool {
    let is_or_missing = |name: &str, wanted: &str| parameter(fmtp, name).is_none_or(|value| value == wanted);
    match codec {
        Codec::Opus | Codec::Vp8 => true,
        Codec::H264 => match (party, parameter(fmtp, "packetization-mode")) {
            (Party::Viewer, mode) => matches!(mode, Some("1") | None),
            // What no viewer can decode is not worth taking.
            (Party::Publisher, Some("0" | "1") | None) => H264Profile::of(fmtp).may_be_common(),
            (Party::Publisher, Some(_)) => false,
        },
        // Profile 0 is 8-bit 4:2:0: what every decoder has, and so what publishers are to send.
        Codec::Vp9 => party == Party::Viewer || is_or_missing("profile-id", "0"),
        Codec::Av1 => party == Party::Viewer || is_or_missing("profile", "0"),
        // Main profile, single stream (RFC 7798, section 7.1).
        Codec::H265 => {
            (party == Party::Viewer || is_or_missing("profile-id", "1")) && is_or_missing("tx-mode", "SRST")
        }
    }
}

/// What carries no media of its own.
const HELPERS: [&str; 7] = ["rtx", "red", "ulpfec", "flexfec", "flexfec-03", "CN", "telephone-event"];

/// The codecs of a section by the names that people know, each once, for a refusal.
pub(crate) fn codec_names(media: &Media) -> Vec<String> {
    let mut names = Vec::new();
    let lines = Lines::of(media);
    let is_fragmented = |payload_type: u8| {
        let fmtp = lines.parameters.get(&payload_type).copied().unwrap_or("");
        parameter(fmtp, "packetization-mode") != Some("0")
    };
    let of_codec = |payload_type: u8| Codec::from_encoding_name(lines.maps.get(&payload_type)?.encoding);
    let has_fragments =
        media.payload_types().any(|number| of_codec(number) == Some(Codec::H264) && is_fragmented(number));
    for payload_type in media.payload_types() {
        let Some(map) = lines.maps.get(&payload_type) else { continue };
        if HELPERS.iter().any(|helper| helper.eq_ignore_ascii_case(map.encoding)) {
            continue;
        }
        let name = match of_codec(payload_type) {
            Some(Codec::H264) if !has_fragments => "H.264 with packetization-mode=0".to_owned(),
            Some(codec) => plain_name(codec).to_owned(),
            None => map.encoding.chars().take(20).collect(),
        };
        if names.len() < NAMES_MAX && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The payload type that suits a track best: for H264 the same profile, else the smallest that does more, else
/// the most capable one; for other codecs the first.
pub(crate) fn best_for<'a>(payloads: &'a [Payload], codec: Codec, fmtp: &str) -> Option<&'a Payload> {
    let mut of_codec = payloads.iter().filter(|payload| payload.codec == codec);
    if codec != Codec::H264 {
        return of_codec.next();
    }
    let wanted = H264Profile::of(fmtp);
    of_codec.min_by_key(|payload| {
        let offered = H264Profile::of(payload.fmtp.as_deref().unwrap_or(""));
        let does_less = offered < wanted;
        let distance = (offered as i8 - wanted as i8).abs();
        (does_less, distance, Reverse(offered))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h264(payload_type: u8, profile_level_id: &str) -> Payload {
        Payload {
            codec: Codec::H264,
            payload_type,
            fmtp: Some(format!("packetization-mode=1;profile-level-id={profile_level_id}")),
            rtx_payload_type: None,
            feedback: Feedback::default(),
        }
    }

    #[test]
    fn the_payload_type_with_the_true_profile_is_chosen() {
        let offered = [h264(103, "42001f"), h264(107, "42e01f"), h264(112, "4d001f"), h264(116, "64001f")];
        let chosen = |id: &str| {
            let fmtp = format!("profile-level-id={id};packetization-mode=1");
            best_for(&offered, Codec::H264, &fmtp).map(|payload| payload.payload_type)
        };
        assert_eq!(chosen("42e01f"), Some(107));
        assert_eq!(chosen("42c028"), Some(107));
        assert_eq!(chosen("420028"), Some(103));
        assert_eq!(chosen("4d0028"), Some(112));
        assert_eq!(chosen("640c28"), Some(116), "constrained high is played by a high decoder");
        assert_eq!(chosen("640028"), Some(116));
        assert_eq!(chosen("f40028"), Some(116), "nothing does it all: the most capable one");
        assert_eq!(best_for(&offered, Codec::Vp8, ""), None);
    }
}
