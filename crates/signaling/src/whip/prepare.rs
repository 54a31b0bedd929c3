//! Rewriting an offer into the plain form that the ingest engine reads.
//!
//! The engine insists on things that RFC 8829 leaves open (one `a=group` line, naming every section in
//! order; exactly one direction per section; `t=0 0`; at most one `b=` line; known profiles and levels), and
//! takes things that WHIP has no use for (RED, comfort noise, candidates).

use model::Mid;

use super::format_parameters::engine_fmtp;
use super::{CheckedData, CheckedMedia, CheckedOffer, DATA_CHANNEL, DATA_PROTOCOLS, MIXING};
use crate::payload::rtpmap;
use crate::sdp::{Attribute, Direction, Media, Session, Simulcast};

/// The offer for the engine: the sections, payload types and layers that were checked, `sendonly`, without
/// candidates. An ICE-lite agent answers the checks of the peer and makes none, so it needs no candidates,
/// and names that cannot be resolved do no harm.
#[must_use]
pub fn prepare_offer(offer: &Session, checked: &CheckedOffer) -> String {
    let mids: Vec<&str> = checked.mids().into_iter().map(Mid::as_str).collect();
    let mut media: Vec<Media> = checked.media.iter().map(|media| section(checked, media)).collect();
    if let Some(data) = &checked.data {
        media.insert(data.index, data_section(checked, data));
    }
    let mut attributes = vec![Attribute::with("group", format_args!("BUNDLE {}", mids.join(" ")))];
    if offer.attributes.iter().any(|attribute| attribute.name == MIXING) {
        attributes.push(Attribute::flag(MIXING));
    }
    Session {
        origin: "- 1 1 IN IP4 127.0.0.1".to_owned(),
        name: "-".to_owned(),
        connection: None,
        attributes,
        media,
    }
    .to_string()
}

fn transport(offer: &CheckedOffer, mid: &Mid) -> Vec<Attribute> {
    // The engine knows three roles; an unclear one was read as the publisher's choice.
    let setup = match offer.peer.dtls_role {
        crate::DtlsRole::Client => "passive",
        crate::DtlsRole::Server => "active",
    };
    vec![
        Attribute::with("ice-ufrag", &offer.peer.ice.ufrag),
        Attribute::with("ice-pwd", &offer.peer.ice.pwd),
        Attribute::with("fingerprint", &offer.peer.fingerprint),
        Attribute::with("setup", setup),
        Attribute::with("mid", mid),
    ]
}

/// Data channels. What the publisher says of SCTP does not matter: its port is always 5000 in WebRTC, and nothing is sent to
/// it.
fn data_section(offer: &CheckedOffer, data: &CheckedData) -> Media {
    let mut attributes = transport(offer, &data.mid);
    attributes.push(Attribute::with("sctp-port", 5000));
    let (kind, protocol) = (data.offered.kind.clone(), DATA_PROTOCOLS[0].to_owned());
    let formats = vec![DATA_CHANNEL.to_owned()];
    Media { kind, port: 9, protocol, formats, connection: None, attributes }
}

fn section(offer: &CheckedOffer, media: &CheckedMedia) -> Media {
    let mut attributes = transport(offer, &media.mid);
    attributes.extend([Attribute::flag("sendonly"), Attribute::flag("rtcp-mux")]);
    if media.offered.has("rtcp-rsize") {
        attributes.push(Attribute::flag("rtcp-rsize"));
    }
    push_extensions(&mut attributes, &media.offered);
    let formats = push_payloads(&mut attributes, media);
    if media.rids.is_empty() {
        push_streams(&mut attributes, &media.offered);
    } else {
        for rid in &media.rids {
            attributes.push(Attribute::with("rid", format_args!("{rid} send")));
        }
        let send = media.rids.iter().map(ToString::to_string).collect();
        attributes.push(Attribute::with("simulcast", Simulcast { send, receive: Vec::new() }));
    }
    let protocol = "UDP/TLS/RTP/SAVPF".to_owned();
    Media { kind: media.offered.kind.clone(), port: 9, protocol, formats, connection: None, attributes }
}

fn push_extensions(attributes: &mut Vec<Attribute>, offered: &Media) {
    let usable = offered
        .extension_maps()
        .filter(|map| (1..=14).contains(&map.id))
        .filter(|map| matches!(map.direction, Direction::SendRecv | Direction::SendOnly));
    attributes.extend(usable.map(|map| Attribute::with("extmap", format_args!("{} {}", map.id, map.uri))));
}

/// Adds the payload types, with the format parameters that the engine matches; of several that look alike to
/// it, the first. Returns the formats of the media line.
fn push_payloads(attributes: &mut Vec<Attribute>, media: &CheckedMedia) -> Vec<String> {
    let mut formats = Vec::new();
    let mut known = Vec::new();
    for payload in &media.payloads {
        let fmtp = engine_fmtp(payload);
        let key = (payload.codec, fmtp.clone());
        if known.contains(&key) {
            continue;
        }
        known.push(key);
        let payload_type = payload.payload_type;
        formats.push(payload_type.to_string());
        attributes.push(Attribute::with("rtpmap", format_args!("{payload_type} {}", rtpmap(payload.codec))));
        if let Some(fmtp) = fmtp {
            attributes.push(Attribute::with("fmtp", format_args!("{payload_type} {fmtp}")));
        }
        for feedback in media.offered.rtcp_feedback(payload_type) {
            attributes.push(Attribute::with("rtcp-fb", format_args!("{payload_type} {feedback}")));
        }
        if let Some(rtx) = payload.rtx_payload_type {
            formats.push(rtx.to_string());
            attributes
                .push(Attribute::with("rtpmap", format_args!("{rtx} rtx/{}", payload.codec.clock_rate())));
            attributes.push(Attribute::with("fmtp", format_args!("{rtx} apt={payload_type}")));
        }
    }
    formats
}

/// Announced streams, so that RTX is known to belong to its video from the first packet on. With simulcast
/// they are left out: their order need not be that of the layers, which RTP names itself.
fn push_streams(attributes: &mut Vec<Attribute>, offered: &Media) {
    for group in offered.ssrc_groups("FID") {
        if let [primary, rtx] = group[..] {
            attributes.push(Attribute::with("ssrc-group", format_args!("FID {primary} {rtx}")));
        }
    }
    for line in offered.ssrcs().filter(|line| line.name == "cname" && !line.value.is_empty()) {
        attributes.push(Attribute::with("ssrc", format_args!("{} cname:{}", line.ssrc, line.value)));
    }
}
