//! Offer and answer (RFC 9429; RFC 9725, sections 4.2, 4.4 and 4.8).

use super::{Trouble, Verdict, applies_if, ensure};
use crate::description::{attribute, attributes, is_rejected, kind, sections};
use crate::offer::Offer;
use crate::peer::{Manner, Peer};
use crate::side::{Protocol, Side};

pub(crate) async fn the_answer_follows_the_offer(side: &Side) -> Verdict {
    let session = side.session().await?;
    let (asked, answered) = (sections(&session.offer), sections(session.answer()));
    ensure!(asked.len() == answered.len(), "{} sections are answered with {}", asked.len(), answered.len());
    for (asked, answered) in asked.iter().zip(&answered) {
        ensure!(kind(asked) == kind(answered), "{} is answered with {}", kind(asked), kind(answered));
        let (wanted, mid) = (attribute(asked, "mid"), attribute(answered, "mid"));
        ensure!(wanted == mid, "mid {wanted:?} is answered with {mid:?}");
        let formats = |section: &str| -> Vec<String> {
            let line = section.lines().next().unwrap_or_default();
            line.split(' ').skip(3).map(str::to_owned).collect()
        };
        let offered = formats(asked);
        let foreign = formats(answered).into_iter().find(|format| !offered.contains(format));
        ensure!(foreign.is_none() || is_rejected(answered), "payload type {foreign:?} was not offered");
    }
    let groups = attributes(session.answer(), "group");
    let bundles: Vec<&&str> = groups.iter().filter(|group| group.starts_with("BUNDLE")).collect();
    ensure!(bundles.len() == 1, "the answer has {} BUNDLE groups", bundles.len());
    Ok("same sections, kinds, mids and payload types, one BUNDLE".into())
}

/// The direction that an answer has to have.
const fn answered(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Whip => "recvonly",
        Protocol::Whep => "sendonly",
    }
}

pub(crate) async fn both_directions_may_be_offered(side: &Side) -> Verdict {
    let wanted = answered(side.protocol);
    let one_way = Offer::plain(side.protocol).direction;
    for direction in [one_way, "sendrecv"] {
        let session = side.session_with(Offer { direction, ..Offer::plain(side.protocol) }.text()).await?;
        for section in sections(session.answer()) {
            ensure!(
                attribute(&section, wanted).is_some(),
                "{direction} of {} is not answered with {wanted}",
                kind(&section)
            );
        }
        side.end_sessions().await;
    }
    Ok(format!("{one_way} and sendrecv are answered with {wanted}"))
}

pub(crate) async fn wrong_directions_are_refused(side: &Side) -> Verdict {
    let wrong = answered(side.protocol);
    for direction in [wrong, "inactive"] {
        let reply = side.post(&Offer { direction, ..Offer::plain(side.protocol) }.text()).await?;
        ensure!(reply.is_refusal(), "an offer with {direction} is answered {}", reply.said());
    }
    Ok(format!("{wrong} and inactive are refused"))
}

pub(crate) async fn everything_shares_one_transport(side: &Side) -> Verdict {
    let session = side.session().await?;
    let answer = session.answer();
    let bundle = attributes(answer, "group").into_iter().find_map(|group| group.strip_prefix("BUNDLE "));
    let bundle: Vec<&str> = bundle.unwrap_or_default().split(' ').collect();
    let mut transports = Vec::new();
    for section in sections(answer).iter().filter(|section| !is_rejected(section)) {
        let mid = attribute(section, "mid").unwrap_or_default();
        ensure!(bundle.contains(&mid), "section {mid} is not in the BUNDLE group");
        for flag in ["rtcp-mux", "rtcp-mux-only"] {
            ensure!(attribute(section, flag).is_some(), "section {mid} has no a={flag}");
        }
        transports.extend(attribute(section, "ice-ufrag").map(str::to_owned));
    }
    ensure!(
        transports.windows(2).all(|pair| pair[0] == pair[1]),
        "the sections have different ICE credentials"
    );
    Ok("one BUNDLE, rtcp-mux and rtcp-mux-only in each section".into())
}

pub(crate) async fn a_second_video_is_refused(side: &Side) -> Verdict {
    let reply = side.post(&Offer { videos: 2, ..Offer::plain(side.protocol) }.text()).await?;
    ensure!(reply.is_refusal(), "an offer with two videos is answered {}", reply.said());
    Ok(format!("refused with {}", reply.status))
}

pub(crate) async fn there_is_no_partial_success(side: &Side) -> Verdict {
    let foreign = |line: &str| {
        if line.starts_with("m=video") {
            "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".to_owned()
        } else if ["a=rtpmap:96 ", "a=rtpmap:97 ", "a=rtpmap:98 ", "a=rtpmap:99 "]
            .iter()
            .any(|map| line.starts_with(map))
        {
            if line.starts_with("a=rtpmap:96 ") {
                "a=rtpmap:96 X-NOBODY/90000\r\n".to_owned()
            } else {
                String::new()
            }
        } else if line.starts_with("a=fmtp:9") || line.starts_with("a=rtcp-fb:9") {
            String::new()
        } else {
            line.to_owned()
        }
    };
    let offer: String = side.offer().split_inclusive("\r\n").map(foreign).collect();
    let reply = side.post(&offer).await?;
    if reply.status == 201 {
        let is_partial = sections(&reply.body).iter().any(|section| is_rejected(section));
        ensure!(!is_partial, "a video that cannot be used is rejected alone, and the POST succeeds");
    }
    ensure!(reply.is_refusal(), "an offer with a codec that does not exist is answered {}", reply.said());
    Ok(format!("the whole offer is refused with {}", reply.status))
}

pub(crate) async fn the_dtls_role_is_one_that_the_offer_leaves(side: &Side) -> Verdict {
    let session = side.session().await?;
    let roles = attributes(session.answer(), "setup");
    let is_one = !roles.is_empty() && roles.iter().all(|role| matches!(*role, "active" | "passive"));
    ensure!(is_one, "actpass is answered with {roles:?}");
    side.end_sessions().await;
    let reply = side.post(&side.offer().replace("a=setup:actpass", "a=setup:active")).await?;
    if reply.status == 201 {
        let roles = attributes(&reply.body, "setup");
        ensure!(roles.iter().all(|role| *role == "passive"), "active is answered with {roles:?}");
        return Ok("actpass is answered with one role, active with passive".into());
    }
    ensure!(reply.is_refusal(), "an offer with setup:active is answered {}", reply.said());
    Ok(format!("actpass is answered with one role, active is refused with {}", reply.status))
}

/// Layers in the manner of OBS.
pub(crate) const LAYERS: [&str; 3] = ["0", "1", "2"];

async fn simulcast_answer(side: &Side) -> Result<String, Trouble> {
    let offer = Offer { layers: &LAYERS, ..Offer::plain(side.protocol) }.text();
    let reply = side.post(&offer).await?;
    ensure!(reply.status == 201 || reply.is_refusal(), "a simulcast offer is answered {}", reply.said());
    applies_if!(reply.status == 201, "simulcast is refused with {}", reply.status);
    let has_it = attribute(&reply.body, "simulcast").is_some();
    applies_if!(has_it, "the offer is taken without its layers");
    Ok(reply.body)
}

pub(crate) async fn simulcast_is_answered_with_its_layers(side: &Side) -> Verdict {
    let answer = simulcast_answer(side).await?;
    let simulcast = attributes(&answer, "simulcast");
    ensure!(simulcast.len() == 1, "the answer has {} a=simulcast lines", simulcast.len());
    let list = simulcast[0].strip_prefix("recv ");
    let list =
        list.ok_or_else(|| Trouble::Failed(format!("a=simulcast:{} is not of a receiver", simulcast[0])))?;
    let layers: Vec<&str> = list.split([';', ',']).map(|rid| rid.trim_start_matches('~')).collect();
    let rids = attributes(&answer, "rid");
    for layer in &layers {
        ensure!(LAYERS.contains(layer), "layer {layer:?} was not offered");
        let is_told =
            rids.iter().any(|rid| rid.strip_prefix(layer).is_some_and(|rest| rest.starts_with(" recv")));
        ensure!(is_told, "layer {layer:?} has no a=rid line with recv");
    }
    side.end_sessions().await;
    let rids = LAYERS.iter().filter_map(|rid| model::Rid::new(rid).ok()).collect();
    Peer::connect_in(side, &Manner { layers: rids, ..Manner::default() }).await?;
    Ok(format!("layers {} are received, and a publisher with layers connects", layers.join(", ")))
}

pub(crate) async fn lines_are_whole_and_layers_stand_on_one(side: &Side) -> Verdict {
    let session = side.session().await?;
    let answer = session.answer();
    let is_crlf = answer.matches('\n').count() == answer.matches("\r\n").count() && answer.ends_with("\r\n");
    ensure!(is_crlf, "not every line of the answer ends with CRLF");
    side.end_sessions().await;
    if side.protocol == Protocol::Whip
        && let Ok(answer) = simulcast_answer(side).await
    {
        let lines = attributes(&answer, "simulcast");
        let found = lines.first().copied().unwrap_or_default();
        let count = found.trim_start_matches("recv ").split(';').count();
        ensure!(count == LAYERS.len(), "the first a=simulcast line counts {count} layers: {found:?}");
    }
    Ok("every line ends with CRLF".into())
}
