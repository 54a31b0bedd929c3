//! Offer and answer (RFC 9429; RFC 9725, sections 4.2, 4.4 and 4.8).

use super::{Trouble, Verdict, applies_if, ensure};
use crate::description::{attribute, attributes, is_rejected, kind, sections};
use crate::offer::Offer;
use crate::peer::{Manner, Peer};
use crate::side::{Protocol, Session, Side};

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
        let transport = |section: &str| section.split(' ').nth(2).map(str::to_owned);
        let (wanted, found) = (transport(asked), transport(answered));
        ensure!(wanted == found, "transport {wanted:?} is answered with {found:?}");
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

pub(crate) async fn one_audio_and_one_video_are_the_most(side: &Side) -> Verdict {
    let plain = Offer::plain(side.protocol);
    let mut seen = Vec::new();
    for (what, offer) in [
        ("two videos", Offer { videos: 2, ..plain }),
        ("two audios", Offer { audios: 2, ..plain }),
        ("two audios and no video", Offer { audios: 2, videos: 0, ..plain }),
    ] {
        let reply = side.post(&offer.text()).await?;
        ensure!(matches!(reply.status, 400 | 422), "an offer with {what} is answered {}", reply.said());
        ensure!(reply.header("location").is_empty(), "an offer with {what} is refused with a Location");
        seen.push(reply.status.to_string());
    }
    // Less than the most is no fault.
    side.session_with(Offer { videos: 0, ..plain }.text()).await?;
    Ok(format!("two videos or two audios are refused with {}", seen.join(", ")))
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

/// Layers in the manner of OBS, which sends two to four.
const ALL_LAYERS: [&str; 4] = ["0", "1", "2", "3"];
/// As many as most publishers send.
pub(crate) const LAYERS: [&str; 3] = ["0", "1", "2"];

async fn simulcast_answer(side: &Side, layers: &[&str]) -> Result<Session, Trouble> {
    let offer = Offer { layers, ..Offer::plain(side.protocol) }.text();
    let reply = side.post(&offer).await?;
    ensure!(reply.status == 201 || reply.is_refusal(), "a simulcast offer is answered {}", reply.said());
    let count = layers.len();
    applies_if!(reply.status == 201, "simulcast with {count} layers is refused with {}", reply.status);
    let has_it = attribute(&reply.body, "simulcast").is_some();
    applies_if!(has_it, "the offer is taken without its {count} layers");
    side.session_of(reply, offer)
}

/// For two, three and four layers: the answer, and a publisher that connects with it.
pub(crate) async fn simulcast_is_answered_with_its_layers(side: &Side) -> Verdict {
    let mut told = Vec::new();
    for count in 2..=ALL_LAYERS.len() {
        let offered = &ALL_LAYERS[..count];
        let session = match simulcast_answer(side, offered).await {
            // More than so many it need not take.
            Err(Trouble::Skipped(why)) if !told.is_empty() => {
                told.push(why);
                break;
            }
            session => session?,
        };
        told.push(check_simulcast(&session.offer, session.answer(), offered)?);
        side.end_sessions().await;
        let layers = offered.iter().filter_map(|rid| model::Rid::new(rid).ok()).collect();
        let (_peer, session) = Peer::connect_in(side, &Manner { layers, ..Manner::default() }).await?;
        check_simulcast(&session.offer, session.answer(), offered)?;
        side.end_sessions().await;
    }
    Ok(told.join("; "))
}

/// RFC 8853, section 5.3.2: one list of what is received, made of layers that were offered; each of them, and no other, has
/// its own line (RFC 8851); packets can say which layer they are of (RFC 8852). Gives the layers.
fn check_simulcast(offer: &str, answer: &str, offered: &[&str]) -> Verdict {
    let count = attributes(answer, "simulcast").len();
    ensure!(count == 1, "the answer to {} layers has {count} a=simulcast lines", offered.len());
    let sections = sections(answer);
    let section = sections.iter().find(|section| attribute(section, "simulcast").is_some());
    let section = section.ok_or_else(|| Trouble::Failed("a=simulcast stands in no section".into()))?;
    let simulcast = attribute(section, "simulcast").unwrap_or_default();
    let list = simulcast.strip_prefix("recv ");
    let list =
        list.ok_or_else(|| Trouble::Failed(format!("a=simulcast:{simulcast} is not of a receiver")))?;
    let layers: Vec<&str> = list.split(';').map(|rid| rid.trim_start_matches('~')).collect();
    let rids: Vec<(&str, &str)> =
        attributes(section, "rid").into_iter().filter_map(|rid| rid.split_once(' ')).collect();
    for (index, layer) in layers.iter().enumerate() {
        ensure!(offered.contains(layer), "layer {layer:?} was not offered");
        ensure!(!layers[..index].contains(layer), "layer {layer:?} stands twice in {simulcast:?}");
        let is_told = rids.iter().any(|(rid, rest)| rid == layer && rest.split(' ').next() == Some("recv"));
        ensure!(is_told, "layer {layer:?} has no a=rid line with recv");
    }
    let foreign = rids.iter().find(|(rid, _)| !layers.contains(rid));
    ensure!(foreign.is_none(), "a=rid tells of {foreign:?}, which {simulcast:?} does not have");
    let extension = |text: &str| {
        let mut maps = attributes(text, "extmap").into_iter().map(str::to_owned);
        maps.rfind(|map| map.ends_with(" urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"))
    };
    let (wanted, found) = (extension(offer), extension(section));
    ensure!(found.is_some() && found == wanted, "the header extension for rids is {found:?}, not {wanted:?}");
    Ok(format!("layers {}", layers.join(", ")))
}

pub(crate) async fn lines_are_whole_and_layers_stand_on_one(side: &Side) -> Verdict {
    let session = side.session().await?;
    let answer = session.answer();
    let is_crlf = answer.matches('\n').count() == answer.matches("\r\n").count() && answer.ends_with("\r\n");
    ensure!(is_crlf, "not every line of the answer ends with CRLF");
    side.end_sessions().await;
    if side.protocol == Protocol::Whip
        && let Ok(session) = simulcast_answer(side, &LAYERS).await
    {
        let lines = attributes(session.answer(), "simulcast");
        let found = lines.first().copied().unwrap_or_default();
        let count = found.trim_start_matches("recv ").split(';').count();
        ensure!(count == LAYERS.len(), "the first a=simulcast line counts {count} layers: {found:?}");
    }
    Ok("every line ends with CRLF".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_answer_to_simulcast_is_found() {
        let offer = Offer { layers: &LAYERS, ..Offer::plain(Protocol::Whip) }.text();
        let extension = "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n";
        let rids = "a=rid:0 recv\r\na=rid:1 recv\r\na=rid:2 recv\r\n";
        let answer = |lines: &str| format!("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n{lines}");
        let good = answer(&format!("{extension}{rids}a=simulcast:recv 0;1;2\r\n"));
        assert_eq!(check_simulcast(&offer, &good, &LAYERS), Ok("layers 0, 1, 2".into()));
        for (from, to) in [
            ("recv 0;1;2", "send 0;1;2"),
            ("recv 0;1;2", "recv 0;1;9"),
            ("recv 0;1;2", "recv 0;1"),
            ("recv 0;1;2", "recv 0;1;1;2"),
            ("a=rid:1 recv\r\n", ""),
            ("a=rid:1 recv", "a=rid:1 send"),
            ("a=extmap:10", "a=extmap:9"),
            (extension, ""),
            ("a=simulcast:recv 0;1;2\r\n", "a=simulcast:recv 0\r\na=simulcast:recv 1;2\r\n"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert!(matches!(check_simulcast(&offer, &bad, &LAYERS), Err(Trouble::Failed(_))), "{bad}");
        }
    }
}
