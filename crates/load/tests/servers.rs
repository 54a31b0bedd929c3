//! Whole runs against a server that is not the product's.

mod foreign;

use std::future::pending;
use std::time::Duration;

use foreign::{Server, TOKEN};
use load::{Options, Phase, Summary};

fn options(url: String) -> Options {
    Options {
        watch: vec![url],
        viewers: 3,
        join_rate: 50.0,
        duration: Duration::from_secs(1),
        token: Some(TOKEN.to_owned()),
        verify_share: 1.0,
        loss: 0.0,
        seed: 1,
        churn: None,
        threads: Some(2),
        is_coalescing: false,
        publish: None,
    }
}

async fn run(options: Options) -> Summary {
    load::run(options, |_| {}, pending()).await.expect("a run")
}

fn assert_all_is_well(summary: &Summary) {
    assert_eq!((summary.viewers.joined, summary.viewers.without_keyframe), (3, 0), "{summary:?}");
    let packets = summary.packets;
    assert!(packets.expected > 60, "{packets:?}");
    assert_eq!((packets.delivered, packets.lost_after_repair), (packets.expected, 0), "{packets:?}");
    assert_eq!((packets.unverified, packets.failed_verification), (0, 0));
    assert!(summary.viewers.failed.is_empty() && summary.viewers.left_early == 0);
}

#[tokio::test]
async fn a_server_that_answers_is_watched_and_every_session_deleted() {
    let server = Server::open(None).await;
    let summary = run(options(server.url("/elsewhere"))).await;
    assert_all_is_well(&summary);
    let seen = server.seen();
    assert_eq!(seen.deletes, 3);
    let bearer = Some(format!("Bearer {TOKEN}"));
    assert_eq!(seen.authorizations, vec![bearer; 3], "the token follows a redirect on its own origin");
}

#[tokio::test]
async fn a_counter_offer_is_answered_and_its_full_agent_controls() {
    let server = Server::open(None).await;
    let summary = run(options(server.url("/offers"))).await;
    assert_all_is_well(&summary);
    let seen = server.seen();
    assert_eq!((seen.patches, seen.deletes), (3, 3));
}

#[tokio::test]
async fn the_token_does_not_follow_to_another_origin() {
    let other = Server::open(None).await;
    let server = Server::open(Some(other.url("/answers"))).await;
    assert_all_is_well(&run(options(server.url("/abroad"))).await);
    assert_eq!(other.seen().authorizations, vec![None; 3]);
    assert!(server.seen().authorizations.iter().all(Option::is_some));
}

#[tokio::test]
async fn a_share_of_viewers_counts_by_header() {
    let server = Server::open(None).await;
    let summary = run(Options { verify_share: 0.4, ..options(server.url("/answers")) }).await;
    assert_eq!(summary.packets.lost_after_repair, 0);
    assert_eq!(summary.viewers.without_keyframe, 0);
    let (verified, unverified) = (summary.packets.verified, summary.packets.unverified);
    assert!(verified > 0 && unverified > verified, "{verified} {unverified}");
}

#[tokio::test]
async fn failures_are_told_by_their_reasons_and_end_the_run() {
    let server = Server::open(None).await;
    let reasons = async |path: &str| {
        let summary = run(Options { viewers: 1, ..options(server.url(path)) }).await;
        summary.viewers.failed.into_keys().collect::<Vec<_>>().join(", ")
    };
    assert_eq!(reasons("/refuses").await, "HTTP 403");
    assert_eq!(reasons("/circle").await, "more than 5 redirects");
    assert!(reasons("/nonsense").await.starts_with("unusable SDP"));
    assert_eq!(server.seen().deletes, 1, "the session with the nonsense");
    drop(server);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_reported_and_the_run_ends() {
    let server = Server::open(None).await;
    let silencer = server.clone();
    let mut is_silenced = false;
    let report = move |progress: &load::Progress| {
        if progress.phase == Phase::Measuring && !is_silenced {
            is_silenced = true;
            silencer.fall_silent();
        }
    };
    let options = Options { duration: Duration::from_secs(4), ..options(server.url("/answers")) };
    let summary = load::run(options, report, pending()).await.expect("a run");
    assert_eq!((summary.viewers.joined, summary.stalls.viewers), (3, 3));
    assert!(summary.stalls.longest_ms > 1000, "{:?}", summary.stalls);
}

#[tokio::test]
async fn a_stop_cuts_a_run_short_and_still_deletes_the_sessions() {
    let server = Server::open(None).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    let report = |progress: &load::Progress| {
        if progress.phase == Phase::Measuring {
            drop(stop.take());
        }
    };
    let options = Options { duration: Duration::from_secs(3600), ..options(server.url("/answers")) };
    let summary = load::run(options, report, async move { drop(stopped.await) }).await.expect("a run");
    assert_eq!((summary.viewers.joined, server.seen().deletes), (3, 3));
}
