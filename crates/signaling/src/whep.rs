//! WHEP: judging a viewer's offer and writing the answer (draft-ietf-wish-whep).
//!
//! A viewer offers every codec it can play; the answer takes all of them that the broadcast may use, so that
//! a new publishing run with another codec needs no new session. Which one is used for a packet is left to the
//! egress node.

pub mod counter_offer;
pub mod events;
pub mod layers;

use model::{Codec, Kind, Mid, Ssrc, Track};

use crate::answer::{self, Transport};
use crate::coding::Coding;
use crate::payload::{self, Party};
use crate::sdp::{Attribute, Candidate, Direction, Fingerprint, IceCredentials, Media, Session, Setup};
use crate::{OfferError, Payload, Peer, peer};

/// What viewers may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The codecs of the broadcast, or all that the tree can carry while they are not known.
    pub codecs: Vec<Codec>,
    /// What is on air now, as far as that is known: who offers to receive its kind must be able to play it.
    pub on_air: Vec<Track>,
    /// Whether there is a layer of the picture to choose: then viewers are asked when each packet of it arrives.
    pub has_choice: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { codecs: Codec::ALL.to_vec(), on_air: Vec::new(), has_choice: false }
    }
}

/// A header extension that an egress node can send: a function of the packet. So none for the time of sending is among
/// them; receivers estimate by RTP timestamps without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extension {
    /// Media id (RFC 9143).
    Mid,
    /// NTP time of capture.
    AbsCaptureTime,
    /// Loudness (RFC 6464).
    AudioLevel,
    /// Rotation (3GPP TS 26.114).
    VideoOrientation,
    /// Limits for the receiver's playout delay.
    PlayoutDelay,
    /// Transport-wide number (draft-holmer-rmcat-transport-wide-cc-extensions-01), by which the receiver tells when a packet
    /// arrived. Pictures only, and only where there is a layer to choose.
    TransportSequence,
}

impl Extension {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Mid,
        Self::AbsCaptureTime,
        Self::AudioLevel,
        Self::VideoOrientation,
        Self::PlayoutDelay,
        Self::TransportSequence,
    ];

    /// What it is called in `a=extmap`.
    #[must_use]
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::AbsCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::VideoOrientation => "urn:3gpp:video-orientation",
            Self::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            Self::TransportSequence => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
        }
    }
}

/// An offer that can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted<'offer> {
    /// The viewer's end of the transport.
    pub peer: Peer,
    /// The sections of the offer, in order.
    pub sections: Vec<Section<'offer>>,
    is_bundle_offered: bool,
}

/// One media section of an accepted offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Section<'offer> {
    /// It gets media.
    Accepted(AcceptedMedia<'offer>),
    /// It gets port 0: a data channel, or a kind that the broadcast does not have.
    Rejected(RejectedMedia<'offer>),
}

/// A section that gets media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedMedia<'offer> {
    /// Audio or video.
    pub kind: Kind,
    /// Its media id.
    pub mid: Mid,
    /// What it can carry, in the viewer's order of preference; at least one.
    pub payloads: Vec<Payload>,
    /// Header extensions that may be sent, with their ids: 1 to 14, for one-byte headers (RFC 8285).
    pub extensions: Vec<(Extension, u8)>,
    offered: &'offer Media,
}

/// A section that gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedMedia<'offer> {
    offered: &'offer Media,
}

impl<'offer> Accepted<'offer> {
    /// The section of this kind that gets media.
    #[must_use]
    pub fn media(&self, kind: Kind) -> Option<&AcceptedMedia<'offer>> {
        self.accepted().find(|media| media.kind == kind)
    }

    /// The number of the m-line of this kind that gets media, counted from 0.
    #[must_use]
    pub fn line(&self, kind: Kind) -> Option<u8> {
        let is_of_it =
            |section: &Section<'_>| matches!(section, Section::Accepted(media) if media.kind == kind);
        self.sections.iter().position(is_of_it).and_then(|line| u8::try_from(line).ok())
    }

    /// The mids of the bundle, in order.
    pub fn bundle_mids(&self) -> impl Iterator<Item = &Mid> {
        self.accepted().map(|media| &media.mid)
    }

    fn accepted(&self) -> impl Iterator<Item = &AcceptedMedia<'offer>> {
        self.sections.iter().filter_map(|section| match section {
            Section::Accepted(media) => Some(media),
            Section::Rejected(_) => None,
        })
    }
}

impl AcceptedMedia<'_> {
    /// The payload type for a track: for H264 the one whose profile comes nearest to what `fmtp` says.
    #[must_use]
    pub fn payload_for(&self, codec: Codec, fmtp: &str) -> Option<&Payload> {
        payload::best_for(&self.payloads, codec, fmtp)
    }

    /// The id of an extension, if the viewer wants it.
    #[must_use]
    pub fn extension_id(&self, wanted: Extension) -> Option<u8> {
        self.extensions.iter().find(|(extension, _)| *extension == wanted).map(|(_, id)| *id)
    }
}

/// Judges a viewer's offer.
///
/// # Errors
/// [`OfferError`] if the viewer cannot be served; a section that is of no use but does no harm is rejected
/// alone.
pub fn accept<'offer>(offer: &'offer Session, policy: &Policy) -> Result<Accepted<'offer>, OfferError> {
    peer::check_count(offer)?;
    let sections = (0..offer.media.len())
        .zip(&offer.media)
        .map(|(index, media)| section(offer, index, media, policy))
        .collect::<Result<Vec<_>, _>>()?;
    let tagged = sections.iter().find_map(|section| match section {
        Section::Accepted(media) => Some(media.offered),
        Section::Rejected(_) => None,
    });
    let peer = Peer::of(offer, tagged.ok_or(OfferError::Empty)?)?;
    Ok(Accepted { peer, sections, is_bundle_offered: offer.group("BUNDLE").is_some() })
}

fn section<'offer>(
    offer: &'offer Session,
    index: usize,
    media: &'offer Media,
    policy: &Policy,
) -> Result<Section<'offer>, OfferError> {
    let rejected = || Section::Rejected(RejectedMedia { offered: media });
    let Some(kind) = peer::kind(media) else { return Ok(rejected()) };
    if !peer::is_offered(media) {
        return Ok(rejected());
    }
    let mid = peer::mid(offer, index)?;
    match offer.direction(media) {
        Direction::RecvOnly | Direction::SendRecv => {}
        direction @ (Direction::SendOnly | Direction::Inactive) => {
            return Err(OfferError::NotReceiving { mid: mid.to_string(), direction });
        }
    }
    let on_air = policy.on_air.iter().find(|track| track.kind() == kind);
    let mut wanted: Vec<Codec> = policy.codecs.iter().copied().filter(|codec| codec.kind() == kind).collect();
    wanted.sort_by_key(|codec| on_air.is_none_or(|track| track.codec != *codec));
    if wanted.is_empty() {
        return Ok(rejected());
    }
    peer::check_transport(offer, media, &mid)?;
    let mut payloads = payload::usable(media, kind, &wanted, Party::Viewer);
    if let Some(track) = on_air {
        check_playable(track, media, &payloads)?;
    }
    if payloads.is_empty() {
        return Err(OfferError::NoCommonCodec { kind, wanted, offered: payload::codec_names(media) });
    }
    let mut extensions = extensions(media);
    let tells_arrivals =
        kind == Kind::Video && policy.has_choice && can_tell_arrivals(&payloads, &extensions);
    extensions.retain(|(extension, _)| tells_arrivals || *extension != Extension::TransportSequence);
    payloads.iter_mut().for_each(|payload| payload.feedback.settle(tells_arrivals));
    Ok(Section::Accepted(AcceptedMedia { kind, mid, payloads, extensions, offered: media }))
}

/// Whether what is on air is among what a section takes: the codec, and a profile that contains its profile.
fn check_playable(track: &Track, media: &Media, payloads: &[Payload]) -> Result<(), OfferError> {
    let on_air = Coding::of(track.codec, &track.fmtp);
    let offered: Vec<Coding> = payloads
        .iter()
        .filter(|payload| payload.codec == track.codec)
        .map(|payload| Coding::of(payload.codec, payload.fmtp.as_deref().unwrap_or("")))
        .collect();
    if offered.is_empty() {
        return Err(OfferError::CodecNotPlayed { on_air, offered: payload::codec_names(media) });
    }
    if offered.iter().any(|offered| on_air.is_played_by(offered)) {
        return Ok(());
    }
    let mut profiles: Vec<String> = offered.iter().filter_map(Coding::profile_name).collect();
    profiles.dedup();
    Err(OfferError::ProfileNotPlayed { on_air, offered: profiles })
}

/// Whether a viewer can tell when packets arrive, whatever they are coded with. Without an RTX stream a repeat is the same
/// packet once more, and arrives late.
fn can_tell_arrivals(payloads: &[Payload], extensions: &[(Extension, u8)]) -> bool {
    let can = |payload: &Payload| payload.feedback.transport_cc && payload.rtx_payload_type.is_some();
    extensions.iter().any(|(extension, _)| *extension == Extension::TransportSequence)
        && payloads.iter().all(can)
}

fn extensions(media: &Media) -> Vec<(Extension, u8)> {
    let mut accepted: Vec<(Extension, u8)> = Vec::new();
    for map in media.extension_maps() {
        let Some(extension) = Extension::ALL.into_iter().find(|extension| extension.uri() == map.uri) else {
            continue;
        };
        let is_wanted = matches!(map.direction, Direction::SendRecv | Direction::RecvOnly);
        let is_new = accepted.iter().all(|(known, id)| *known != extension && u16::from(*id) != map.id);
        if let Some(id) = u8::try_from(map.id).ok().filter(|id| (1..=14).contains(id) && is_wanted && is_new)
        {
            accepted.push((extension, id));
        }
    }
    accepted
}

/// What an answer says about this server.
#[derive(Debug, Clone)]
pub struct AnswerParameters<'a> {
    /// Our ICE user fragment and password.
    pub ice: IceCredentials,
    /// Hash of our certificate.
    pub fingerprint: Fingerprint,
    /// Ours, best first: see [`crate::candidates::order`].
    pub candidates: &'a [Candidate],
    /// The viewer's audio stream.
    pub audio_ssrc: Ssrc,
    /// The viewer's video stream.
    pub video_ssrc: Ssrc,
    /// The RTX stream beside it; announced where the viewer offered RTX.
    pub video_rtx_ssrc: Ssrc,
    /// The name that joins audio and video for lip sync (RFC 7022): one token.
    pub cname: &'a str,
    /// The MediaStream id, the same for both (RFC 8830): one token.
    pub stream_id: &'a str,
    /// For the origin line; the upper two bits are not used.
    pub session_id: u64,
}

/// Writes the answer: the sections of the offer in its order, `sendonly`, ICE-lite, every candidate, and
/// always below [`crate::ANSWER_BYTES_MAX`].
#[must_use]
pub fn answer(accepted: &Accepted<'_>, parameters: &AnswerParameters<'_>) -> String {
    describe(accepted, parameters, accepted.peer.dtls_role.setup())
}

/// What we have to say to these sections, with this `a=setup`.
fn describe(accepted: &Accepted<'_>, parameters: &AnswerParameters<'_>, setup: Setup) -> String {
    let mids: Vec<&str> = accepted.bundle_mids().map(Mid::as_str).collect();
    let mut session = answer::session(parameters.session_id, &mids, accepted.is_bundle_offered);
    let transport = Transport {
        ice: &parameters.ice,
        fingerprint: parameters.fingerprint.to_string(),
        setup,
        candidates: parameters.candidates,
    };
    for section in &accepted.sections {
        match section {
            Section::Accepted(media) => {
                let formats = formats(media);
                let attributes = media_attributes(media, parameters);
                let mid = media.mid.as_str();
                answer::push_accepted(&mut session, media.offered, mid, formats, &transport, attributes);
            }
            Section::Rejected(media) => answer::push_rejected(&mut session, media.offered),
        }
    }
    session.to_string()
}

fn formats(media: &AcceptedMedia<'_>) -> Vec<String> {
    let both = |payload: &Payload| [Some(payload.payload_type), payload.rtx_payload_type];
    media.payloads.iter().flat_map(both).flatten().map(|payload_type| payload_type.to_string()).collect()
}

fn media_attributes(media: &AcceptedMedia<'_>, parameters: &AnswerParameters<'_>) -> Vec<Attribute> {
    let mut attributes = vec![Attribute::flag("sendonly")];
    let track = format!("{} {}", parameters.stream_id, media.kind);
    attributes.push(Attribute::with("msid", &track));
    for (extension, id) in &media.extensions {
        attributes.push(Attribute::with("extmap", format_args!("{id} {}", extension.uri())));
    }
    for payload in &media.payloads {
        push_payload(&mut attributes, payload);
    }
    let has_rtx = media.payloads.iter().any(|payload| payload.rtx_payload_type.is_some());
    let streams = match media.kind {
        Kind::Audio => vec![parameters.audio_ssrc],
        Kind::Video if has_rtx => vec![parameters.video_ssrc, parameters.video_rtx_ssrc],
        Kind::Video => vec![parameters.video_ssrc],
    };
    if let [primary, rtx] = streams[..] {
        attributes.push(Attribute::with("ssrc-group", format_args!("FID {} {}", primary.get(), rtx.get())));
    }
    for ssrc in streams {
        attributes.push(Attribute::with("ssrc", format_args!("{} cname:{}", ssrc.get(), parameters.cname)));
        attributes.push(Attribute::with("ssrc", format_args!("{} msid:{track}", ssrc.get())));
    }
    attributes
}

fn push_payload(attributes: &mut Vec<Attribute>, payload: &Payload) {
    let Payload { codec, payload_type, fmtp, rtx_payload_type, feedback } = payload;
    attributes.push(Attribute::with("rtpmap", format_args!("{payload_type} {}", payload::rtpmap(*codec))));
    for name in feedback.names() {
        attributes.push(Attribute::with("rtcp-fb", format_args!("{payload_type} {name}")));
    }
    if let Some(fmtp) = fmtp {
        attributes.push(Attribute::with("fmtp", format_args!("{payload_type} {fmtp}")));
    }
    if let Some(rtx) = rtx_payload_type {
        attributes.push(Attribute::with("rtpmap", format_args!("{rtx} rtx/{}", codec.clock_rate())));
        attributes.push(Attribute::with("fmtp", format_args!("{rtx} apt={payload_type}")));
    }
}
