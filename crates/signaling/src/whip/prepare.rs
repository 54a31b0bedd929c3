//! Rewriting an offer into the plain form that the ingest engine reads.
//!
//! The engine insists on things that RFC 8829 leaves open (one `a=group` line, naming every section in
//! order; exactly one direction per section; `t=0 0`; at most one `b=` line), and takes things that WHIP
//! has no use for (data channels, RED, comfort noise, candidates).

use super::{CheckedMedia, CheckedOffer};
use crate::sdp::{Attribute, Direction, Media, Session, Simulcast};

/// The offer for the engine: the sections, payload types and layers that were checked, `sendonly`, without
/// candidates. An ICE-lite agent answers the checks of the peer and makes none, so it needs no candidates,
/// and names that cannot be resolved do no harm.
#[must_use]
pub fn prepare_offer(offer: &Session, checked: &CheckedOffer) -> String {
    let mids: Vec<&str> = checked.media.iter().map(|media| media.mid.as_str()).collect();
    let mut attributes = vec![Attribute::with("group", format_args!("BUNDLE {}", mids.join(" ")))];
    if offer.attributes.iter().any(|attribute| attribute.name == "extmap-allow-mixed") {
        attributes.push(Attribute::flag("extmap-allow-mixed"));
    }
    Session {
        origin: "- 1 1 IN IP4 127.0.0.1".to_owned(),
        name: "-".to_owned(),
        attributes,
        media: checked.media.iter().map(|media| section(checked, media)).collect(),
    }
    .to_string()
}

fn section(offer: &CheckedOffer, media: &CheckedMedia) -> Media {
    // The engine knows three roles; an unclear one was read as the publisher's choice.
    let setup = match offer.peer.dtls_role {
        crate::DtlsRole::Client => "passive",
        crate::DtlsRole::Server => "active",
    };
    let mut attributes = vec![
        Attribute::with("ice-ufrag", &offer.peer.ice.ufrag),
        Attribute::with("ice-pwd", &offer.peer.ice.pwd),
        Attribute::with("fingerprint", &offer.peer.fingerprint),
        Attribute::with("setup", setup),
        Attribute::with("mid", &media.mid),
        Attribute::flag("sendonly"),
        Attribute::flag("rtcp-mux"),
    ];
    if media.offered.has("rtcp-rsize") {
        attributes.push(Attribute::flag("rtcp-rsize"));
    }
    push_extensions(&mut attributes, &media.offered);
    let mut formats = Vec::new();
    for payload in &media.payloads {
        for payload_type in [Some(payload.payload_type), payload.rtx_payload_type].into_iter().flatten() {
            formats.push(payload_type.to_string());
            push_payload_type(&mut attributes, &media.offered, payload_type);
        }
    }
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
    Media { kind: media.offered.kind.clone(), port: 9, protocol, formats, attributes }
}

fn push_extensions(attributes: &mut Vec<Attribute>, offered: &Media) {
    let usable = offered
        .extension_maps()
        .filter(|map| (1..=14).contains(&map.id))
        .filter(|map| matches!(map.direction, Direction::SendRecv | Direction::SendOnly));
    attributes.extend(usable.map(|map| Attribute::with("extmap", format_args!("{} {}", map.id, map.uri))));
}

fn push_payload_type(attributes: &mut Vec<Attribute>, offered: &Media, payload_type: u8) {
    let Some(map) = offered.rtpmap(payload_type) else { return };
    let (encoding, clock_rate) = (map.encoding, map.clock_rate);
    let channels = if map.channels == 1 { String::new() } else { format!("/{}", map.channels) };
    let value = format_args!("{payload_type} {encoding}/{clock_rate}{channels}");
    attributes.push(Attribute::with("rtpmap", value));
    if let Some(fmtp) = offered.fmtp(payload_type).filter(|fmtp| !fmtp.is_empty()) {
        attributes.push(Attribute::with("fmtp", format_args!("{payload_type} {fmtp}")));
    }
    for feedback in offered.rtcp_feedback(payload_type) {
        attributes.push(Attribute::with("rtcp-fb", format_args!("{payload_type} {feedback}")));
    }
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
