//! WHIP: judging a publisher's offer, and finishing the answer that the ingest engine makes (RFC 9725).
//!
//! The engine (str0m) is a WebRTC stack with its own reading of SDP. [`check`] decides beforehand whether the
//! offer is taken; [`prepare_offer`] rewrites it into the plain form that the engine reads without
//! surprises; [`finish_answer`] turns the engine's answer into one that conforms to WHIP and that real
//! encoders understand. What the engine negotiates itself, codecs and header extensions, stays its own.

use model::{Codec, Kind, Mid, Rid};

use crate::answer::{self, ANSWER_BYTES_MAX, Transport};
use crate::payload::{self, Party};
use crate::sdp::{self, Attribute, Candidate, Direction, Media, RidDirection, Session, Setup, Simulcast};
use crate::{OfferError, Payload, Peer, peer};

mod format_parameters;
mod prepare;

/// What the transport of data channels is called (RFC 8841, section 4.2); all mean DTLS over ICE.
const DATA_PROTOCOLS: [&str; 2] = ["UDP/DTLS/SCTP", "TCP/DTLS/SCTP"];
/// The only format of a section of data channels.
const DATA_CHANNEL: &str = "webrtc-datachannel";

use format_parameters::answer_fmtp;
pub use prepare::prepare_offer;

/// The attribute of sessions that mix one-byte and two-byte header extensions.
const MIXING: &str = "extmap-allow-mixed";
/// How the name of the one header extension ends that may need the two-byte form.
const LONG_EXTENSION: &str = "#dependency-descriptor-rtp-header-extension";

/// What publishers may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The codecs that are taken; all that the tree can carry by default.
    pub codecs: Vec<Codec>,
    /// Most simulcast layers; 4 by default, the most that OBS sends.
    pub layers_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { codecs: Codec::ALL.to_vec(), layers_max: 4 }
    }
}

/// An offer that is taken as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedOffer {
    /// The publisher's end of the transport.
    pub peer: Peer,
    /// Its sections of media, in order: at most one audio and one video.
    pub media: Vec<CheckedMedia>,
    /// Its data channels, if it has any.
    pub data: Option<CheckedData>,
    is_bundle_offered: bool,
    /// Header extensions of one packet may have ids of either form (RFC 8285, section 6).
    is_mixing_offered: bool,
}

impl CheckedOffer {
    /// The media ids of all sections, in order.
    #[must_use]
    pub fn mids(&self) -> Vec<&Mid> {
        let mut mids: Vec<&Mid> = self.media.iter().map(|media| &media.mid).collect();
        if let Some(data) = &self.data {
            mids.insert(data.index, &data.mid);
        }
        mids
    }
}

/// The section of a checked offer that data channels go over (RFC 8841).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedData {
    /// Its media id.
    pub mid: Mid,
    /// Its place among all sections, counted from 0: it is the only one beside those of media.
    index: usize,
    offered: Media,
}

/// One section of a checked offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedMedia {
    /// Audio or video.
    pub kind: Kind,
    /// Its media id.
    pub mid: Mid,
    /// What it may send, in its order of preference; at least one.
    pub payloads: Vec<Payload>,
    /// Its simulcast layers, best first; empty if it does not simulcast.
    pub rids: Vec<Rid>,
    offered: Media,
}

/// Judges a publisher's offer. There is no partial success: either every section is of use or none is taken.
///
/// # Errors
/// [`OfferError`] with the reason.
pub fn check(offer: &Session, policy: &Policy) -> Result<CheckedOffer, OfferError> {
    peer::check_count(offer)?;
    let data = check_data(offer)?;
    let media = (0..offer.media.len())
        .zip(&offer.media)
        .filter(|(index, _)| data.as_ref().is_none_or(|data| data.index != *index))
        .map(|(index, media)| check_media(offer, index, media, policy))
        .collect::<Result<Vec<_>, _>>()?;
    if media.is_empty() {
        return Err(OfferError::Empty);
    }
    let tagged = offer.media.first().ok_or(OfferError::Empty)?;
    let peer = Peer::of(offer, tagged)?;
    let is_bundle_offered = offer.group("BUNDLE").is_some();
    let is_mixing_offered = offer.attributes.iter().any(|attribute| attribute.name == MIXING);
    Ok(CheckedOffer { peer, media, data, is_bundle_offered, is_mixing_offered })
}

/// The first section of data channels; a second one is judged as media is, and refused.
fn check_data(offer: &Session) -> Result<Option<CheckedData>, OfferError> {
    let is_data = |media: &Media| {
        media.kind == "application"
            && peer::is_offered(media)
            && DATA_PROTOCOLS.contains(&media.protocol.as_str())
            && media.formats.iter().any(|format| format == DATA_CHANNEL)
    };
    let Some(index) = offer.media.iter().position(is_data) else { return Ok(None) };
    let mid = peer::mid(offer, index)?;
    peer::check_bundle(offer, &mid)?;
    Ok(Some(CheckedData { mid, index, offered: offer.media[index].clone() }))
}

fn check_media(
    offer: &Session,
    index: usize,
    media: &Media,
    policy: &Policy,
) -> Result<CheckedMedia, OfferError> {
    let kind = peer::kind(media)
        .filter(|_| peer::is_offered(media))
        .ok_or_else(|| OfferError::Unusable { kind: media.kind.chars().take(20).collect() })?;
    let mid = peer::mid(offer, index)?;
    match offer.direction(media) {
        Direction::SendOnly | Direction::SendRecv => {}
        direction @ (Direction::RecvOnly | Direction::Inactive) => {
            return Err(OfferError::NotSending { mid: mid.to_string(), direction });
        }
    }
    peer::check_transport(offer, media, &mid)?;
    let wanted: Vec<Codec> = policy.codecs.iter().copied().filter(|codec| codec.kind() == kind).collect();
    let payloads = payload::usable(media, kind, &wanted, Party::Publisher);
    if payloads.is_empty() {
        return Err(OfferError::NoUsableCodec { kind, wanted, offered: payload::codec_names(media) });
    }
    let rids = rids(media, policy.layers_max)?;
    Ok(CheckedMedia { kind, mid, payloads, rids, offered: media.clone() })
}

/// The layers of a simulcast offer (RFC 8853, section 5.3).
fn rids(media: &Media, layers_max: usize) -> Result<Vec<Rid>, OfferError> {
    if media.ssrc_groups("SIM").next().is_some() {
        return Err(OfferError::SimulcastBySsrc);
    }
    let Some(Simulcast { send, .. }) = media.simulcast() else { return Ok(Vec::new()) };
    if send.len() > layers_max {
        return Err(OfferError::TooManyLayers { offered: send.len(), max: layers_max });
    }
    let mut rids: Vec<Rid> = Vec::new();
    for id in &send {
        let is_declared = media.rids().any(|rid| rid.id == id && rid.direction == RidDirection::Send);
        // The engine reads letters and digits only, as RFC 8851's authors use them.
        let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let rid = Rid::new(id).ok().filter(|rid| is_declared && is_plain && !rids.contains(rid));
        rids.push(rid.ok_or_else(|| OfferError::Rid { rid: id.chars().take(20).collect() })?);
    }
    Ok(rids)
}

/// What the finished answer says beside what the engine's answer has.
#[derive(Debug, Clone, Copy)]
pub struct AnswerParameters<'a> {
    /// Ours, best first: see [`crate::candidates::order`].
    pub candidates: &'a [Candidate],
    /// For the origin line; the upper two bits are not used.
    pub session_id: u64,
}

/// Why an engine's answer cannot be used: a fault on this side, not in the offer, but for
/// [`AnswerError::Refused`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is no session description.
    #[error("the engine's answer cannot be read: {0}")]
    Parse(#[from] sdp::ParseError),
    /// Other sections than the offer's.
    #[error("the engine's answer has other sections than the offer")]
    Sections,
    /// A section has no codec left: the engine takes less than the policy.
    #[error("the engine takes none of the codecs of section '{mid}'")]
    Refused {
        /// Which section.
        mid: Mid,
    },
    /// It lacks ICE credentials, fingerprint or DTLS role.
    #[error("the engine's answer lacks its transport: ICE credentials, fingerprint or setup")]
    Transport,
    /// It would not fit the buffers of clients.
    #[error("the answer has {bytes} bytes; it must stay below {ANSWER_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Turns the engine's answer into the one that is sent: `recvonly`, every candidate in our order,
/// `rtcp-mux-only`, the format parameters and simulcast layers of the offer. ICE credentials, fingerprint, DTLS
/// role, the choice of payload types, feedback and header extensions stay the engine's.
///
/// # Errors
/// [`AnswerError`] if it does not fit the offer.
pub fn finish_answer(
    checked: &CheckedOffer,
    engine_answer: &str,
    parameters: &AnswerParameters<'_>,
) -> Result<String, AnswerError> {
    let engine = Session::parse(engine_answer)?;
    let sections = checked.media.len() + usize::from(checked.data.is_some());
    if engine.media.len() != sections {
        return Err(AnswerError::Sections);
    }
    let tagged = engine.media.first().ok_or(AnswerError::Sections)?;
    let transport = Transport {
        ice: &engine.ice_credentials(tagged).ok_or(AnswerError::Transport)?,
        fingerprint: engine.fingerprints(tagged).first().ok_or(AnswerError::Transport)?.to_string(),
        setup: engine.setup(tagged).filter(|setup| *setup != Setup::ActPass).ok_or(AnswerError::Transport)?,
        candidates: parameters.candidates,
    };
    let mids: Vec<&str> = checked.mids().into_iter().map(Mid::as_str).collect();
    let mut session = answer::session(parameters.session_id, &mids, checked.is_bundle_offered);
    // Only where it is needed: a dependency descriptor with its templates is too long for the one-byte form.
    let mut maps = engine.media.iter().flat_map(Media::extension_maps);
    if checked.is_mixing_offered && maps.any(|map| map.uri.ends_with(LONG_EXTENSION)) {
        session.attributes.push(Attribute::flag(MIXING));
    }
    let mut media = checked.media.iter();
    for (index, engine) in engine.media.iter().enumerate() {
        if let Some(data) = checked.data.as_ref().filter(|data| data.index == index) {
            push_data(&mut session, data, engine, &transport)?;
        } else if let Some(checked) = media.next() {
            push_media(&mut session, checked, engine, &transport)?;
        }
    }
    let answer = session.to_string();
    if answer.len() >= ANSWER_BYTES_MAX {
        return Err(AnswerError::TooLong { bytes: answer.len() });
    }
    Ok(answer)
}

fn push_media(
    session: &mut Session,
    checked: &CheckedMedia,
    engine: &Media,
    transport: &Transport<'_>,
) -> Result<(), AnswerError> {
    if engine.mid() != Some(checked.mid.as_str()) || engine.kind != checked.kind.as_str() {
        return Err(AnswerError::Sections);
    }
    let taken = taken(checked, engine);
    if engine.port == 0 || taken.is_empty() {
        return Err(AnswerError::Refused { mid: checked.mid.clone() });
    }
    let attributes = media_attributes(checked, engine, &taken);
    let mid = checked.mid.as_str();
    answer::push_accepted(session, &checked.offered, mid, formats(&taken), transport, attributes);
    Ok(())
}

/// SCTP's port and the longest message are the engine's.
fn push_data(
    session: &mut Session,
    data: &CheckedData,
    engine: &Media,
    transport: &Transport<'_>,
) -> Result<(), AnswerError> {
    if engine.mid() != Some(data.mid.as_str()) || engine.kind != data.offered.kind {
        return Err(AnswerError::Sections);
    }
    if engine.port == 0 {
        return Err(AnswerError::Refused { mid: data.mid.clone() });
    }
    let is_of_sctp = |attribute: &&Attribute| ["sctp-port", "max-message-size"].contains(&&*attribute.name);
    let attributes = engine.attributes.iter().filter(is_of_sctp).cloned().collect();
    answer::push_data(session, &data.offered, data.mid.as_str(), transport, attributes);
    Ok(())
}

/// A payload type of the offer that the engine takes, and its RTX if it takes that too.
type Taken<'a> = (&'a Payload, Option<u8>);

/// In the engine's order of preference. Payload types that the publisher did not offer are left out: RFC 3264
/// allows them in an answer, but encoders go on with their own.
fn taken<'a>(checked: &'a CheckedMedia, engine: &Media) -> Vec<Taken<'a>> {
    let is_taken = |payload: &Payload| {
        let map = engine.rtpmap(payload.payload_type);
        map.is_some_and(|map| Codec::from_encoding_name(map.encoding) == Some(payload.codec))
    };
    engine
        .payload_types()
        .filter_map(|payload_type| {
            checked.payloads.iter().find(|payload| payload.payload_type == payload_type)
        })
        .filter(|payload| is_taken(payload))
        .map(|payload| {
            let rtx =
                payload.rtx_payload_type.filter(|rtx| engine.payload_types().any(|known| known == *rtx));
            (payload, rtx)
        })
        .collect()
}

fn formats(taken: &[Taken<'_>]) -> Vec<String> {
    let both = taken.iter().flat_map(|(payload, rtx)| [Some(payload.payload_type), *rtx]);
    both.flatten().map(|payload_type| payload_type.to_string()).collect()
}

fn media_attributes(checked: &CheckedMedia, engine: &Media, taken: &[Taken<'_>]) -> Vec<Attribute> {
    let mut attributes = vec![Attribute::flag("recvonly")];
    attributes.extend(engine.attributes.iter().filter(|attribute| attribute.name == "extmap").cloned());
    for (payload, rtx) in taken {
        let Payload { codec, payload_type, .. } = payload;
        attributes
            .push(Attribute::with("rtpmap", format_args!("{payload_type} {}", payload::rtpmap(*codec))));
        for feedback in
            engine.rtcp_feedback(*payload_type).filter(|name| is_offered(checked, *payload_type, name))
        {
            attributes.push(Attribute::with("rtcp-fb", format_args!("{payload_type} {feedback}")));
        }
        if let Some(fmtp) = answer_fmtp(payload) {
            attributes.push(Attribute::with("fmtp", format_args!("{payload_type} {fmtp}")));
        }
        if let Some(rtx) = rtx {
            attributes.push(Attribute::with("rtpmap", format_args!("{rtx} rtx/{}", codec.clock_rate())));
            attributes.push(Attribute::with("fmtp", format_args!("{rtx} apt={payload_type}")));
        }
    }
    for rid in &checked.rids {
        attributes.push(Attribute::with("rid", format_args!("{rid} recv")));
    }
    if !checked.rids.is_empty() {
        let receive = checked.rids.iter().map(Rid::to_string).collect();
        attributes.push(Attribute::with("simulcast", Simulcast { send: Vec::new(), receive }));
    }
    attributes
}

/// The engine answers its own list of feedback; an answer must not have more than the offer (RFC 4585,
/// section 4.2).
fn is_offered(checked: &CheckedMedia, payload_type: u8, feedback: &str) -> bool {
    checked.offered.rtcp_feedback(payload_type).any(|offered| offered == feedback)
}
