//! What WHEP adds for viewers (draft-ietf-wish-whep, sections on set-up and on single MediaStreams).

use reqwest::Method;

use super::{Pair, Trouble, Verdict, applies_if, ensure};
use crate::description::{attribute, is_rejected, sections};
use crate::http::Reply;
use crate::offer::Offer;
use crate::peer;
use crate::publish::Publisher;
use crate::side::{Protocol, SDP, Side};

pub(crate) async fn bad_offers_are_refused(side: &Side) -> Verdict {
    for (content_type, body) in
        [("application/json", "{}"), (SDP, "v=0\r\nx"), (SDP, "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n")]
    {
        let reply = side.post_as(Some(content_type), body).await?;
        ensure!(reply.is_refusal(), "{body:?} as {content_type} is answered {}", reply.said());
    }
    Ok("refused".into())
}

/// Nobody publishes when this is asked.
pub(crate) async fn who_may_not_wait_is_told_when_to_come_back(pair: &Pair) -> Verdict {
    let side = pair.whep()?;
    // A 409 is an answer here, not a wish for patience.
    let early = side.post(&side.offer()).await?;
    applies_if!(early.status != 201, "viewers may wait for the publisher here");
    ensure!(early.status == 409, "with nobody on air an offer is answered {}", early.said());
    let retry_after = early.header("retry-after");
    ensure!(
        retry_after.parse::<u32>().is_ok_and(|seconds| seconds > 0),
        "the 409 has Retry-After {retry_after:?}"
    );
    let publisher = Publisher::start(pair.whip()?, &[]).await?;
    let deadline = tokio::time::Instant::now() + crate::http::TIMEOUT;
    let mut late = side.post(&side.offer()).await?;
    while late.status == 409 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        late = side.post(&side.offer()).await?;
    }
    publisher.stop().await;
    ensure!(late.status == 201, "with a publisher on air the offer is answered {}", late.said());
    Ok(format!("409 with Retry-After: {retry_after}, then 201"))
}

pub(crate) async fn head_says_what_the_endpoint_is_for(side: &Side) -> Verdict {
    let head = side.send(side.request(Method::HEAD, &side.url)).await?;
    ensure!(head.status == 200, "HEAD is answered {}", head.status);
    ensure!(head.media_type() == SDP, "HEAD has Content-Type {:?}", head.header("content-type"));
    let get = side.get(&side.url).await?;
    let names = |reply: &Reply| {
        let ignored = ["date", "content-length", "connection", "transfer-encoding"];
        let mut names: Vec<String> = reply.headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.retain(|name| !ignored.contains(&name.as_str()));
        names.sort();
        names
    };
    ensure!(names(&head) == names(&get), "HEAD has {:?}, GET has {:?}", names(&head), names(&get));
    Ok("200 with application/sdp and the headers of GET".into())
}

pub(crate) async fn all_sections_are_one_stream(side: &Side) -> Verdict {
    let session = side.session().await?;
    let mut streams = Vec::new();
    for section in sections(session.answer()).iter().filter(|section| !is_rejected(section)) {
        let msid = attribute(section, "msid").and_then(|msid| msid.split(' ').next());
        ensure!(msid.is_some(), "section {} has no a=msid", attribute(section, "mid").unwrap_or_default());
        streams.extend(msid.map(str::to_owned));
    }
    ensure!(streams.windows(2).all(|pair| pair[0] == pair[1]), "the sections belong to streams {streams:?}");
    Ok("one".into())
}

/// A viewer with nothing but a codec that does not exist.
fn hopeless() -> String {
    let offer = Offer { videos: 0, ..Offer::plain(Protocol::Whep) }.text();
    offer.replace("opus/48000/2", "X-NOBODY/48000/2").replace("a=fmtp:111 minptime=10;useinbandfec=1\r\n", "")
}

/// A viewer that leaves it to the server what there is.
fn empty() -> String {
    let offer = Offer::plain(Protocol::Whep).text();
    let session_level = offer.split("m=").next().unwrap_or_default();
    session_level
        .lines()
        .filter(|line| !line.starts_with("a=group"))
        .map(|line| format!("{line}\r\n"))
        .collect()
}

pub(crate) async fn a_counter_offer_can_be_answered(side: &Side) -> Verdict {
    let hopeless = side.post(&hopeless()).await?;
    ensure!(hopeless.status != 201, "an offer without any codec in common is answered 201");
    ensure!(hopeless.is_refusal(), "an offer without any codec in common is answered {}", hopeless.said());
    let empty = side.post(&empty()).await?;
    ensure!(empty.status < 500, "an offer without media is answered {}", empty.said());
    // Where it is made is the server's to choose.
    let is_counter_offer = |reply: &Reply| reply.status == 406 && reply.media_type() == SDP;
    let Some(reply) = [&empty, &hopeless].into_iter().find(|reply| is_counter_offer(reply)) else {
        return Err(Trouble::Skipped(format!(
            "offers without media or a known codec are refused with {} and {}, and no counter-offer",
            empty.status, hopeless.status
        )));
    };
    let location = reply.header("location");
    ensure!(!location.is_empty(), "the counter-offer has no Location");
    let url = reply.url.join(location).map_err(|_| Trouble::Failed(format!("{location} is no URL")))?;
    let malformed = side.patch(&url, None, (SDP, "rubbish".into())).await?;
    ensure!(
        malformed.is_refusal(),
        "a malformed answer to the counter-offer is answered {}",
        malformed.said()
    );
    let answer = peer::answer(side, &reply.body).await?;
    let answered = side.patch(&url, None, (SDP, answer.description().to_owned())).await?;
    ensure!(answered.status == 204, "the answer to the counter-offer is answered {}", answered.said());
    let connected = answer.connect().await;
    let _peer = connected
        .map_err(|error| Trouble::Failed(format!("no connection comes of the counter-offer: {error}")))?;
    let session = side.get(&url).await?;
    ensure!(!session.is_gone(), "the session of a counter-offer answers GET with {}", session.status);
    let deleted = side.delete(&url).await?;
    ensure!(deleted.is_success(), "DELETE of a session of a counter-offer is answered {}", deleted.said());
    Ok("406 with a counter-offer, whose answer is taken with 204 and leads to a connection".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::attributes;

    #[test]
    fn offers_without_hope_have_nothing_that_a_server_could_take() {
        assert!(empty().starts_with("v=0\r\n") && !empty().contains("m=") && !empty().contains("BUNDLE"));
        assert!(attributes(&hopeless(), "rtpmap").iter().all(|map| map.contains("NOBODY")));
    }
}
