//! Session descriptions (RFC 8866) as WebRTC (RFC 8829) and senders of plain RTP write them: reading, typed access,
//! writing.
//!
//! Reading is tolerant and bounded: line ends may be CRLF or LF, unknown lines are skipped, unknown
//! attributes are kept. Writing always uses CRLF. What an offer must contain is policy and left to
//! [`crate::whip`] and [`crate::whep`].

mod attribute;
mod candidate;
mod parse;
mod write;

pub use attribute::{
    Attribute, Connection, Direction, ExtensionMap, Fingerprint, HashAlgorithm, IceCredentials, RidDirection,
    RidLine, RtpMap, Setup, Simulcast, SsrcLine,
};
pub use candidate::{Candidate, CandidateKind};
pub use parse::ParseError;
pub(crate) use parse::{attribute_line, media_line};

/// Longest description read, in bytes; also the limit of HTTP bodies.
pub const BYTES_MAX: usize = 64 * 1024;
/// Most media sections of one description.
pub const MEDIA_MAX: usize = 32;
/// Most attributes of one description, all sections together. Chromium's largest offer has about 300.
pub const ATTRIBUTES_MAX: usize = 2000;
/// Most formats of one media section; RTP has 128 payload types.
pub const FORMATS_MAX: usize = 128;

/// One session description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The value of the `o=` line.
    pub origin: String,
    /// The value of the `s=` line; `-` where there was none.
    pub name: String,
    /// Where media goes of which the sections do not say it.
    pub connection: Option<Connection>,
    /// The attributes before the first media section.
    pub attributes: Vec<Attribute>,
    /// The media sections, in order.
    pub media: Vec<Media>,
}

/// One media section: an `m=` line and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, `application` or another word.
    pub kind: String,
    /// The port of the `m=` line; 0 marks a section as unused or rejected.
    pub port: u16,
    /// The transport, for instance `UDP/TLS/RTP/SAVPF`.
    pub protocol: String,
    /// The formats: payload types where the protocol is RTP.
    pub formats: Vec<String>,
    /// Where it goes, if the section says so.
    pub connection: Option<Connection>,
    /// The attributes of the section.
    pub attributes: Vec<Attribute>,
}

impl Session {
    /// Reads a description.
    ///
    /// # Errors
    /// [`ParseError`] if the text is no session description or exceeds a limit of this module.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::session(text)
    }

    /// The mids of the first group with these semantics (RFC 5888), in the order of the line.
    #[must_use]
    pub fn group(&self, semantics: &str) -> Option<Vec<&str>> {
        attribute::values(&self.attributes, "group").find_map(|value| {
            let mut words = value.split_ascii_whitespace();
            (words.next() == Some(semantics)).then(|| words.collect())
        })
    }

    /// Whether the peer says that it is an ICE-lite agent.
    #[must_use]
    pub fn is_ice_lite(&self) -> bool {
        attribute::is_present(&self.attributes, "ice-lite")
    }

    /// ICE user name fragment and password of a section, or of the session.
    #[must_use]
    pub fn ice_credentials(&self, media: &Media) -> Option<IceCredentials> {
        attribute::ice_credentials(&media.attributes).or_else(|| attribute::ice_credentials(&self.attributes))
    }

    /// Certificate fingerprints of a section, or of the session. Lines with unknown hash algorithms or wrong
    /// lengths are left out.
    #[must_use]
    pub fn fingerprints(&self, media: &Media) -> Vec<Fingerprint> {
        let of_media = attribute::fingerprints(&media.attributes);
        if of_media.is_empty() { attribute::fingerprints(&self.attributes) } else { of_media }
    }

    /// Whether there is any fingerprint line for the section, readable or not.
    #[must_use]
    pub fn has_fingerprint_line(&self, media: &Media) -> bool {
        [&media.attributes, &self.attributes]
            .into_iter()
            .any(|list| attribute::is_present(list, "fingerprint"))
    }

    /// The DTLS role the peer offers for a section, or for the session.
    #[must_use]
    pub fn setup(&self, media: &Media) -> Option<Setup> {
        attribute::setup(&media.attributes).or_else(|| attribute::setup(&self.attributes))
    }

    /// The direction of a section; `sendrecv` where neither section nor session says any (RFC 8866,
    /// section 6.7).
    #[must_use]
    pub fn direction(&self, media: &Media) -> Direction {
        attribute::direction(&media.attributes)
            .or_else(|| attribute::direction(&self.attributes))
            .unwrap_or(Direction::SendRecv)
    }

    /// Where the media of a section goes; `None` with ICE, whose candidates say it.
    #[must_use]
    pub fn connection(&self, media: &Media) -> Option<Connection> {
        media.connection.or(self.connection)
    }

    /// The words of `a=ice-options` of a section or of the session.
    #[must_use]
    pub fn ice_options<'a>(&'a self, media: &'a Media) -> Vec<&'a str> {
        attribute::value(&media.attributes, "ice-options")
            .or_else(|| attribute::value(&self.attributes, "ice-options"))
            .map(|value| value.split_ascii_whitespace().collect())
            .unwrap_or_default()
    }
}

impl Media {
    /// The media id (RFC 5888), as it stands.
    #[must_use]
    pub fn mid(&self) -> Option<&str> {
        attribute::value(&self.attributes, "mid")
    }

    /// The formats that are RTP payload types.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> + '_ {
        self.formats.iter().filter_map(|format| attribute::payload_type(format))
    }

    /// Encoding of a payload type; the first line counts.
    #[must_use]
    pub fn rtpmap(&self, payload_type: u8) -> Option<RtpMap<'_>> {
        self.rtpmaps().find(|map| map.payload_type == payload_type)
    }

    /// Encodings of all payload types.
    pub(crate) fn rtpmaps(&self) -> impl Iterator<Item = RtpMap<'_>> {
        attribute::values(&self.attributes, "rtpmap").filter_map(RtpMap::parse)
    }

    /// Format parameters of all payload types, as they stand.
    pub(crate) fn fmtps(&self) -> impl Iterator<Item = (u8, &str)> {
        attribute::values(&self.attributes, "fmtp").filter_map(|value| {
            let (format, parameters) = value.split_once(' ')?;
            Some((attribute::payload_type(format)?, parameters.trim()))
        })
    }

    /// Format parameters of a payload type, as they stand.
    #[must_use]
    pub fn fmtp(&self, payload_type: u8) -> Option<&str> {
        self.fmtps().find(|(described, _)| *described == payload_type).map(|(_, parameters)| parameters)
    }

    /// Feedback messages offered for a payload type, those for `*` included (RFC 4585).
    pub fn rtcp_feedback(&self, payload_type: u8) -> impl Iterator<Item = &str> {
        attribute::for_payload_type(&self.attributes, "rtcp-fb", payload_type)
    }

    /// RTP header extensions (RFC 8285).
    pub fn extension_maps(&self) -> impl Iterator<Item = ExtensionMap<'_>> {
        attribute::values(&self.attributes, "extmap").filter_map(ExtensionMap::parse)
    }

    /// ICE candidates; lines that cannot be read are left out.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate> {
        attribute::values(&self.attributes, "candidate").filter_map(|value| value.parse().ok())
    }

    /// Restriction identifiers (RFC 8851).
    pub fn rids(&self) -> impl Iterator<Item = RidLine<'_>> {
        attribute::values(&self.attributes, "rid").filter_map(RidLine::parse)
    }

    /// The simulcast offer (RFC 8853); the first line counts.
    #[must_use]
    pub fn simulcast(&self) -> Option<Simulcast> {
        attribute::value(&self.attributes, "simulcast").and_then(Simulcast::parse)
    }

    /// Attributes of RTP streams (RFC 5576).
    pub fn ssrcs(&self) -> impl Iterator<Item = SsrcLine<'_>> {
        attribute::values(&self.attributes, "ssrc").filter_map(SsrcLine::parse)
    }

    /// Groups of RTP streams with these semantics, for instance `FID` (RFC 5576).
    pub fn ssrc_groups(&self, semantics: &str) -> impl Iterator<Item = Vec<u32>> {
        attribute::values(&self.attributes, "ssrc-group").filter_map(move |value| {
            let mut words = value.split_ascii_whitespace();
            (words.next() == Some(semantics)).then(|| words.filter_map(|word| word.parse().ok()).collect())
        })
    }

    /// Stream and track id (RFC 8830); the track id may be missing.
    #[must_use]
    pub fn msid(&self) -> Option<(&str, Option<&str>)> {
        let mut words = attribute::value(&self.attributes, "msid")?.split_ascii_whitespace();
        Some((words.next()?, words.next()))
    }

    /// Whether the attribute is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        attribute::is_present(&self.attributes, name)
    }
}
