//! Making, looking at and ending sessions (RFC 9725, sections 4.1 and 4.2).

use reqwest::Method;
use reqwest::header::IF_MATCH;

use super::{Verdict, applies_if, ensure};
use crate::checks::Trouble;
use crate::description::sections;
use crate::fragment;
use crate::peer::Peer;
use crate::side::{SDP, Side};
use crate::stun::{self, Manner};

pub(crate) async fn a_post_makes_a_session(side: &Side) -> Verdict {
    let session = side.session().await?;
    let kind = session.reply.media_type();
    ensure!(kind == SDP, "the 201 has Content-Type {kind:?}");
    ensure!(session.answer().starts_with("v=0"), "the body of the 201 is no session description");
    ensure!(!sections(session.answer()).is_empty(), "the answer has no media section");
    ensure!(session.url != side.url, "the Location is that of the endpoint itself");
    Ok("201 with an SDP answer and a Location".into())
}

pub(crate) async fn other_content_types_are_refused(side: &Side) -> Verdict {
    for content_type in [Some("text/plain"), Some("application/json"), None] {
        let reply = side.post_as(content_type, &side.offer()).await?;
        let name = content_type.unwrap_or("no Content-Type");
        ensure!(reply.is_refusal(), "a good offer as {name} is answered {}", reply.said());
    }
    let with_parameter = side.post_as(Some("application/sdp; charset=utf-8"), &side.offer()).await?;
    ensure!(
        with_parameter.status == 201,
        "application/sdp with a parameter is answered {}",
        with_parameter.said()
    );
    Ok("other types and none are refused, a parameter does no harm".into())
}

pub(crate) async fn malformed_offers_are_refused(side: &Side) -> Verdict {
    let whole = side.offer();
    let no_password: String =
        whole.split_inclusive("\r\n").filter(|line| !line.starts_with("a=ice-pwd:")).collect();
    let rubbish = ["", "rubbish", "v=0\r\n", "{\"sdp\":\"v=0\"}", &no_password];
    for text in rubbish {
        let reply = side.post(text).await?;
        let beginning: String = text.chars().take(20).collect();
        ensure!(reply.is_refusal(), "an offer that begins {beginning:?} is answered {}", reply.said());
    }
    for end in (1..whole.len()).step_by(whole.len() / 12) {
        let reply = side.post(&whole[..end]).await?;
        // A cut between two sections may leave a smaller offer that is whole.
        let is_good = reply.is_refusal() || reply.status == 201;
        ensure!(is_good, "an offer cut after {end} bytes is answered {}", reply.said());
        side.end_sessions().await;
    }
    // A server may hang up instead of reading it all.
    if let Ok(reply) = side.post(&"a=x\r\n".repeat(240_000)).await {
        ensure!(reply.is_refusal(), "an offer of 1.2 MB is answered {}", reply.said());
    }
    side.session().await?;
    Ok("all are refused, and a good offer is taken afterwards".into())
}

/// No session of any server has this name.
pub(crate) const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

pub(crate) async fn get_answers_without_content(side: &Side) -> Verdict {
    let session = side.session().await?;
    for (name, url) in [("the endpoint", &side.url), ("a session", &session.url)] {
        let reply = side.get(url).await?;
        ensure!(reply.is_success(), "GET on {name} is answered {}", reply.said());
        ensure!(reply.body.is_empty(), "GET on {name} is answered with a body of {} bytes", reply.body.len());
    }
    Ok("endpoint and session answer GET with success and nothing else".into())
}

pub(crate) async fn delete_ends_a_session(side: &Side) -> Verdict {
    let (peer, session) = Peer::connect(side).await?;
    let (server, own) = (session.server_ice()?, session.own_ice()?);
    let is_answering = stun::answering(&server, &own.ufrag, Manner::Whole).await.is_some();
    ensure!(is_answering, "ICE checks of the connected session are not answered");
    let deleted = side.delete(&session.url).await?;
    ensure!(deleted.status == 200, "DELETE is answered {}", deleted.said());
    let after = side.get(&session.url).await?;
    ensure!(!after.is_success(), "after DELETE the session still answers GET with {}", after.status);
    drop(peer);
    ensure!(
        stun::answering(&server, &own.ufrag, Manner::Whole).await.is_none(),
        "ICE checks are still answered after DELETE"
    );
    let mut nobody = session.url.clone();
    if let Ok(mut segments) = nobody.path_segments_mut() {
        segments.pop().push(NOBODY);
    }
    let unknown = side.delete(&nobody).await?;
    ensure!(unknown.is_refusal(), "DELETE of a session that never was is answered {}", unknown.said());
    Ok("200, the URL is gone, ICE checks fall silent".into())
}

pub(crate) async fn if_match_does_not_matter_for_delete(side: &Side) -> Verdict {
    let session = side.session().await?;
    let request = side.request(Method::DELETE, &session.url).header(IF_MATCH, "\"of-no-ice-session\"");
    let reply = side.send(request).await?;
    ensure!(reply.is_success(), "DELETE with another entity-tag is answered {}", reply.said());
    let after = side.get(&session.url).await?;
    ensure!(!after.is_success(), "the session still answers GET with {}", after.status);
    Ok("deleted whatever If-Match says".into())
}

/// Bits that a session's name must not fall short of: those of a UUIDv4 without its fixed ones, less what a small
/// sample leaves open.
const NAME_BITS_MIN: f64 = 112.0;
const NAMES: usize = 10;

pub(crate) async fn session_urls_cannot_be_guessed(side: &Side) -> Verdict {
    let mut names = Vec::new();
    for _ in 0..NAMES {
        let session = side.session().await?;
        names.push(format!("{}?{}", session.url.path(), session.url.query().unwrap_or_default()));
        side.end_sessions().await;
    }
    let bits = bits_of(&names);
    let example = names.first().map(String::as_str).unwrap_or_default();
    ensure!(bits >= NAME_BITS_MIN, "names like {example} differ in about {bits:.0} bits");
    Ok(format!("{NAMES} names differ in about {bits:.0} bits"))
}

/// What can differ between names of one length: how many places do, times what one place can hold. Where two names
/// share half of the places that differ at all, they are counted, not drawn.
fn bits_of(names: &[String]) -> f64 {
    let Some(first) = names.first() else { return 0.0 };
    if names.iter().any(|name| name.len() != first.len()) {
        return 0.0;
    }
    let differs = |at: &usize| names.iter().any(|name| name.as_bytes()[*at] != first.as_bytes()[*at]);
    let places: Vec<usize> = (0..first.len()).filter(differs).collect();
    for (index, name) in names.iter().enumerate() {
        for other in &names[index + 1..] {
            let different =
                places.iter().filter(|at| name.as_bytes()[**at] != other.as_bytes()[**at]).count();
            if different * 2 < places.len() {
                return different as f64;
            }
        }
    }
    let used = || names.iter().flat_map(|name| places.iter().map(|at| name.as_bytes()[*at]));
    let bits = if used().all(|byte| byte.is_ascii_digit()) {
        10f64.log2()
    } else if used().all(|byte| byte.is_ascii_hexdigit()) {
        4.0
    } else {
        5.9
    };
    places.len() as f64 * bits
}

/// What is asked when it matters whether a session is still there.
pub(crate) async fn is_gone(side: &Side, session: &crate::side::Session) -> Result<bool, Trouble> {
    let reply = side.get(&session.url).await?;
    Ok(reply.is_gone())
}

pub(crate) async fn errors_are_told_in_words(side: &Side) -> Verdict {
    let reply = side.post("rubbish").await?;
    let kind = reply.media_type();
    applies_if!(kind == "application/problem+json", "errors are told as {kind:?}");
    let problem: serde_json::Value = serde_json::from_str(&reply.body)
        .map_err(|_| Trouble::Failed(format!("a problem document is not JSON: {}", reply.said())))?;
    let said = ["detail", "title"].into_iter().find_map(|name| problem[name].as_str());
    let said = said.unwrap_or_default();
    ensure!(said.split(' ').count() > 2, "a problem document says too little: {problem}");
    let status = &problem["status"];
    ensure!(
        status.is_null() || status == reply.status,
        "a problem document has status {status}, not {}",
        reply.status
    );
    Ok(format!("{said:?}"))
}

pub(crate) async fn no_answer_is_301_or_302(side: &Side) -> Verdict {
    let mut slash = side.url.clone();
    slash.set_path(&format!("{}/", side.url.path().trim_end_matches('/')));
    for url in [&side.url, &slash] {
        let request = side.request(Method::POST, url).header("content-type", SDP).body(side.offer());
        let reply = side.send(request).await?;
        side.remember(&reply);
    }
    let wrong = side.http.wrong_redirects();
    ensure!(wrong.is_empty(), "{}", wrong.join(", "));
    Ok("none in the whole run".into())
}

/// What a client trickles that has nothing special to say.
pub(crate) fn plain_fragment(session: &crate::side::Session) -> Result<String, Trouble> {
    Ok(fragment::of(&session.offer, &crate::side::trickled(session.own_ice()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: impl Fn(usize) -> String) -> Vec<String> {
        (0..NAMES).map(name).collect()
    }

    #[test]
    fn drawn_names_are_told_from_counted_ones() {
        let hex =
            |_| crate::offer::random::<16>().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(bits_of(&names(hex)) > NAME_BITS_MIN);
        assert!(bits_of(&names(|count| format!("/whip/show/{count:032x}"))) < NAME_BITS_MIN);
        let short = |_| format!("/s/{:08x}", u32::from_be_bytes(crate::offer::random()));
        assert!(bits_of(&names(short)) < NAME_BITS_MIN);
        let clock = |count: usize| format!("/s/{:08x}-0000-1000-8000-0123456789ab", 0x1234_5678 + count * 7);
        assert!(bits_of(&names(clock)) < NAME_BITS_MIN);
    }
}
