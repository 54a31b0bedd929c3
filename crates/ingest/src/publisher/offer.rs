//! What the engine must be told of an offer before it reads it: payload types, feedback, layers.
//!
//! The offer has been judged and put into plain form before (crate `signaling`), so this reads lines and forgives.
//! Configuring the engine from the offer itself keeps every payload type and format that the publisher claims.

use std::num::NonZeroU32;

use media_core::svc::dependency;
use model::{Codec, Kind, Rid};
use str0m::format::{Codec as EngineCodec, CodecConfig, CodecSpec, FormatParams, PayloadParams};
use str0m::media::{Frequency, Mid, Pt};

use super::AcceptError;

/// Most layers of one track.
pub(super) const LAYERS_MAX: usize = 8;
/// Longest layer id that the engine tells apart.
const RID_LENGTH_MAX: usize = 8;

/// One media section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) kind: Kind,
    pub(super) mid: Mid,
    /// Simulcast layers in the offered order; empty without simulcast.
    pub(super) rids: Vec<Rid>,
    /// In the offered order.
    pub(super) payloads: Vec<Payload>,
    /// Id of the header extension that names the section.
    pub(super) mid_extension: Option<u8>,
    /// Id of the header extension of RFC 6464.
    pub(super) audio_level_extension: Option<u8>,
    /// Id of `urn:3gpp:video-orientation`.
    pub(super) orientation_extension: Option<u8>,
    /// Id of `abs-capture-time`.
    pub(super) capture_time_extension: Option<u8>,
    /// Id of the dependency descriptor.
    pub(super) dependency_extension: Option<u8>,
}

/// One payload type that carries media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) payload_type: u8,
    /// Of its retransmissions (RFC 4588).
    pub(super) rtx: Option<u8>,
    pub(super) codec: Codec,
    pub(super) fmtp: String,
    channels: Option<u8>,
    clock_rate: u32,
    pub(super) feedback: Feedback,
}

/// Feedback that the publisher takes (RFC 4585).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Feedback {
    pub(super) nack: bool,
    pub(super) pli: bool,
    pub(super) fir: bool,
    transport_cc: bool,
    remb: bool,
}

/// Whether a packet is media or a retransmission of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Media,
    Retransmission,
}

/// The media sections of an offer that have a codec the tree carries.
pub(super) fn sections(offer: &str) -> Result<Vec<Section>, AcceptError> {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    for line in offer.lines() {
        if line.starts_with("m=") {
            blocks.push(Vec::new());
        }
        if let Some(block) = blocks.last_mut() {
            block.push(line);
        }
    }
    let mut sections: Vec<Section> = Vec::new();
    for block in &blocks {
        let Some(section) = section(block)? else { continue };
        if sections.iter().any(|other| other.kind == section.kind || other.mid == section.mid) {
            return Err(AcceptError::Sections);
        }
        sections.push(section);
    }
    if sections.is_empty() {
        return Err(AcceptError::NothingToReceive);
    }
    Ok(sections)
}

fn section(lines: &[&str]) -> Result<Option<Section>, AcceptError> {
    let kind = match lines[0].split(' ').next() {
        Some("m=audio") => Kind::Audio,
        Some("m=video") => Kind::Video,
        _ => return Ok(None),
    };
    let payloads: Vec<Payload> = values(lines, "rtpmap")
        .filter_map(|map| payload(lines, map))
        .filter(|p| p.codec.kind() == kind)
        .collect();
    let Some(mid) = values(lines, "mid").next() else { return Err(AcceptError::Sections) };
    if payloads.is_empty() {
        return Ok(None);
    }
    let extension = |wanted| {
        values(lines, "extmap")
            .filter_map(|value| value.split_once(' '))
            .find(|(_, uri)| uri.trim_end() == wanted)
            .and_then(|(id, _)| id.split('/').next()?.parse().ok())
    };
    Ok(Some(Section {
        kind,
        mid: mid.into(),
        rids: rids(lines)?,
        payloads,
        mid_extension: extension("urn:ietf:params:rtp-hdrext:sdes:mid"),
        audio_level_extension: extension("urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
        orientation_extension: extension("urn:3gpp:video-orientation"),
        capture_time_extension: extension("http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"),
        dependency_extension: extension(dependency::URI),
    }))
}

/// `a=simulcast:send a;b;c`, best first (RFC 8853, section 5.2). Of alternatives the first counts.
fn rids(lines: &[&str]) -> Result<Vec<Rid>, AcceptError> {
    let Some(value) = values(lines, "simulcast").next() else { return Ok(Vec::new()) };
    let mut words = value.split(' ').skip_while(|word| *word != "send").skip(1);
    let Some(list) = words.next() else { return Ok(Vec::new()) };
    let mut rids = Vec::new();
    for layer in list.split(';') {
        let name = layer.split(',').next().unwrap_or_default().trim_start_matches('~');
        match Rid::new(name) {
            Ok(rid) if name.len() <= RID_LENGTH_MAX && !rids.contains(&rid) => rids.push(rid),
            Ok(_) | Err(_) => return Err(AcceptError::Rid),
        }
    }
    if rids.len() > LAYERS_MAX {
        return Err(AcceptError::TooManyLayers { offered: rids.len() });
    }
    Ok(rids)
}

fn payload(lines: &[&str], map: &str) -> Option<Payload> {
    let (payload_type, format) = map.split_once(' ')?;
    let payload_type: u8 = payload_type.parse().ok().filter(|number| *number < 128)?;
    let mut parts = format.trim().split('/');
    let codec = Codec::from_encoding_name(parts.next()?)?;
    let clock_rate = parts.next()?.parse().ok()?;
    let channels = parts.next().and_then(|text| text.parse().ok());
    let fmtp = of_payload_type(lines, "fmtp", payload_type).next().unwrap_or_default().trim().to_owned();
    let rtx = values(lines, "rtpmap").find_map(|map| {
        let (number, format) = map.split_once(' ')?;
        let number: u8 = number.parse().ok().filter(|number| *number < 128)?;
        let is_rtx = format.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("rtx/"));
        let apt = of_payload_type(lines, "fmtp", number).find_map(|fmtp| {
            fmtp.split(';').find_map(|pair| pair.trim().strip_prefix("apt=")?.parse::<u8>().ok())
        });
        (is_rtx && apt == Some(payload_type)).then_some(number)
    });
    let mut feedback = Feedback::default();
    for value in of_payload_type(lines, "rtcp-fb", payload_type) {
        match value.trim() {
            "nack" => feedback.nack = true,
            "nack pli" => feedback.pli = true,
            "ccm fir" => feedback.fir = true,
            "transport-cc" => feedback.transport_cc = true,
            "goog-remb" => feedback.remb = true,
            _ => {}
        }
    }
    Some(Payload { payload_type, rtx, codec, fmtp, channels, clock_rate, feedback })
}

/// Values of `a=<name>:`.
fn values<'a>(lines: &'a [&'a str], name: &'a str) -> impl Iterator<Item = &'a str> {
    lines.iter().filter_map(move |line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
}

/// Values of `a=<name>:<payload type or *> `.
fn of_payload_type<'a>(
    lines: &'a [&'a str],
    name: &'a str,
    payload_type: u8,
) -> impl Iterator<Item = &'a str> {
    values(lines, name).filter_map(move |value| {
        let (number, rest) = value.split_once(' ')?;
        (number == "*" || number.parse() == Ok(payload_type)).then_some(rest)
    })
}

/// The codec configuration with which the engine takes every payload type of the offer as it stands.
pub(super) fn codec_config(sections: &[Section]) -> CodecConfig {
    let mut params: Vec<PayloadParams> = Vec::new();
    for payload in sections.iter().flat_map(|section| &section.payloads) {
        let Some(clock_rate) = NonZeroU32::new(payload.clock_rate) else { continue };
        let spec = CodecSpec {
            codec: engine_codec(payload.codec),
            clock_rate: Frequency::from_nonzero(clock_rate),
            channels: payload.channels,
            format: FormatParams::parse_line(&payload.fmtp),
        };
        // The engine binds two equal formats to the same payload type and would have to invent another.
        if params.iter().any(|other| other.spec() == spec) {
            continue;
        }
        let resend = payload.rtx.map(Pt::new_with_value);
        let mut one = PayloadParams::new(Pt::new_with_value(payload.payload_type), resend, spec);
        one.set_fb_nack(payload.feedback.nack);
        one.set_fb_pli(payload.feedback.pli);
        one.set_fb_fir(payload.feedback.fir);
        one.set_fb_transport_cc(payload.feedback.transport_cc);
        one.set_fb_remb(payload.feedback.remb);
        params.push(one);
    }
    CodecConfig::new_from_payload_params(params)
}

const fn engine_codec(codec: Codec) -> EngineCodec {
    match codec {
        Codec::Opus => EngineCodec::Opus,
        Codec::H264 => EngineCodec::H264,
        Codec::H265 => EngineCodec::H265,
        Codec::Vp8 => EngineCodec::Vp8,
        Codec::Vp9 => EngineCodec::Vp9,
        Codec::Av1 => EngineCodec::Av1,
    }
}

/// Where a payload type belongs: its section and payload.
pub(super) fn find(sections: &[Section], payload_type: u8) -> Option<(usize, &Payload, Purpose)> {
    sections.iter().enumerate().find_map(|(index, section)| {
        section.payloads.iter().find_map(|payload| {
            if payload.payload_type == payload_type {
                Some((index, payload, Purpose::Media))
            } else if payload.rtx == Some(payload_type) {
                Some((index, payload, Purpose::Retransmission))
            } else {
                None
            }
        })
    })
}

/// Whether the publisher waits for our ClientHello.
pub(super) fn is_remote_dtls_server(offer: &str) -> bool {
    offer
        .lines()
        .find_map(|line| line.strip_prefix("a=setup:"))
        .is_some_and(|setup| setup.trim() == "passive")
}

/// The publisher's ICE user fragment.
pub(super) fn ice_ufrag(offer: &str) -> Option<&str> {
    offer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).map(str::trim)
}

/// The offer with other ICE credentials of the publisher.
pub(super) fn with_ice(offer: &str, ufrag: &str, password: &str) -> String {
    let changed = |line: &str| match line.split_once(':') {
        Some(("a=ice-ufrag", _)) => format!("a=ice-ufrag:{ufrag}\r\n"),
        Some(("a=ice-pwd", _)) => format!("a=ice-pwd:{password}\r\n"),
        _ => format!("{line}\r\n"),
    };
    offer.lines().map(changed).collect()
}
