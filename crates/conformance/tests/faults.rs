//! The suite against a server that keeps its lines, and against servers that break one: exactly the lines that are
//! about what is wrong fail.

mod server;

use std::collections::BTreeSet;

use conformance::{LINES, Options, Outcome, Report, RunError};
use futures_util::StreamExt as _;
use server::{Fault, Server, TOKEN};

/// Lines that take a minute, or a thousand requests: tried once, on the good server.
const LONG: [&str; 2] = ["W08", "W43"];
/// The one line that str0m does not keep: it wants PRIORITY.
const OF_STR0M: &str = "T05";

fn options(server: &Server, only: &[&str]) -> Options {
    Options {
        url: Some(server.url("/whip/show")),
        token: Some(TOKEN.into()),
        view_token: Some(TOKEN.into()),
        only: only.iter().map(ToString::to_string).collect(),
        ..Options::default()
    }
}

async fn report(fault: Fault, only: &[&str]) -> Report {
    let server = Server::start(fault).await;
    conformance::run(options(&server, only), |_| {}).await.expect("a report")
}

fn failed(report: &Report) -> BTreeSet<&'static str> {
    let failed = report.lines.iter().filter(|line| matches!(line.outcome, Outcome::Failed(_)));
    failed.map(|line| line.id).collect()
}

fn usual() -> Vec<&'static str> {
    LINES.iter().map(|line| line.id).filter(|id| !LONG.contains(id) && *id != OF_STR0M).collect()
}

#[tokio::test]
async fn a_good_server_fails_no_line() {
    let report = report(Fault::None, &usual()).await;
    assert_eq!(failed(&report), BTreeSet::new(), "{report}");
    let skipped: BTreeSet<&str> = report
        .lines
        .iter()
        .filter(|line| matches!(line.outcome, Outcome::Skipped(_)))
        .map(|line| line.id)
        .collect();
    // Both kinds of PATCH work, ICE is lite, the address is local, viewers may wait; no extensions, and nothing that
    // only an operator can cause. str0m does not answer the bare checks whose silence W09 would have to see.
    let wanted = [
        "E03", "E05", "E07", "E08", "E09", "E10", "E11", "E12", "E13", "W09", "W16", "W25", "W36", "W41",
        "W42",
    ];
    assert_eq!(skipped, BTreeSet::from(wanted), "{report}");
}

/// Servers that are tried at once.
const AT_ONCE: usize = 4;

/// Runs the suite against servers with one fault each; what they are to break stands beside it.
async fn each_breaks(faults: &[(Fault, &[&str])]) {
    let lines = usual();
    let runs = faults.iter().map(|(fault, wanted)| {
        let lines = &lines;
        async move {
            let report = report(*fault, lines).await;
            let found = failed(&report);
            let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
            (found != wanted).then(|| format!("{fault:?} breaks {found:?}, not {wanted:?}\n{report}"))
        }
    });
    let outcomes = futures_util::stream::iter(runs).buffer_unordered(AT_ONCE);
    let wrong: Vec<String> = outcomes.filter_map(|wrong| async { wrong }).collect().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn what_is_wrong_with_sessions_breaks_its_lines() {
    each_breaks(&[
        (Fault::RelativeLocation, &["T02"]),
        (Fault::AnyContentType, &["W02"]),
        (Fault::CrashOnRubbish, &["W03", "W06", "W31", "W32", "E02", "E05"]),
        (Fault::GetIs405, &["W07"]),
        (Fault::DeleteIs204, &["W09"]),
        (Fault::DeleteLooksAtIfMatch, &["W29"]),
        (Fault::DeleteEndsNothing, &["W09", "W10", "W29"]),
        (Fault::NoGoodbye, &["W10"]),
        (Fault::CountedNames, &["W44"]),
        (Fault::PlainErrors, &["W45"]),
        (Fault::NeverExpires, &["W46"]),
        (Fault::NoHead, &["E04"]),
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_patch_breaks_its_lines() {
    each_breaks(&[
        (Fault::NoEntityTag, &["W14", "W16", "W17", "W24"]),
        (Fault::WeakEntityTag, &["W17"]),
        (Fault::SameEntityTag, &["W17"]),
        (Fault::TrickleIs200, &["W20", "W21", "W27"]),
        (Fault::TrickleHasEntityTag, &["W20"]),
        (Fault::NoIfMatchIs400, &["W18"]),
        (Fault::StaleIs409, &["W19", "W28"]),
        (Fault::RestartIs422, &["W14"]),
        (Fault::RestartKeepsCredentials, &["W23", "W26", "W28"]),
        (Fault::RestartIsTrickled, &["W14", "W16", "W24", "W27"]),
        (Fault::RestartFailureEnds, &["W27"]),
        (Fault::RestartForgetsLite, &["W26"]),
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_answers_and_headers_breaks_its_lines() {
    each_breaks(&[
        (Fault::WrongDirection, &["W05", "E01"]),
        (Fault::AnyDirection, &["W06"]),
        (Fault::NoMuxOnly, &["W30"]),
        (Fault::TwoVideos, &["W31"]),
        (Fault::TwoStreams, &["E06"]),
        (Fault::NoAcceptPost, &["W12"]),
        (Fault::NoCors, &["W11"]),
        (Fault::AnyHeaderAllowed, &["W11"]),
        (Fault::NothingExposed, &["W11"]),
        (Fault::OpenToAll, &["W38"]),
        (Fault::PreflightWantsToken, &["W11", "W12", "W39"]),
        (Fault::IceServersInPreflight, &["W13"]),
        (Fault::TurnWithoutCredential, &["W37"]),
        (Fault::ForeignExtension, &["W41"]),
    ])
    .await;
}

/// What makes everything else fail too is tried alone.
#[tokio::test]
async fn what_is_wrong_with_everything_breaks_the_line_that_says_so() {
    for (fault, line) in [
        (Fault::StatusOfPost, "W01"),
        (Fault::NoLocation, "W01"),
        (Fault::RedirectIs302, "W35"),
        (Fault::NoCandidates, "W22"),
        (Fault::NoCandidates, "T03"),
        (Fault::NoCandidates, "T05"),
        (Fault::None, OF_STR0M),
        (Fault::LinesEndWithLf, "T07"),
    ] {
        let report = report(fault, &[line]).await;
        assert_eq!(failed(&report), BTreeSet::from([line]), "{fault:?}\n{report}");
    }
}

#[tokio::test]
async fn a_flood_without_end_and_a_silent_peer_are_seen() {
    let report = report(Fault::None, &LONG).await;
    // This server has no limit, and forgets a peer that falls silent.
    assert_eq!(failed(&report), BTreeSet::from(["W43"]), "{report}");
    assert!(matches!(report.line("W08").expect("W08").outcome, Outcome::Passed(_)), "{report}");
}

#[tokio::test]
async fn nothing_to_try_is_told_in_words() {
    let server = Server::start(Fault::None).await;
    let run = |options| conformance::run(options, |_| {});
    let url = |url: &str| Options { url: Some(url.into()), ..Options::default() };
    // Nobody listens on this port: the listener that had it is gone.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    let silent = run(url(&format!("http://{closed}/whip/show"))).await.expect_err("nobody");
    assert!(silent.to_string().ends_with("/whip/show does not answer"), "{silent}");
    let page = run(url(&server.url("/whip/show/nowhere/at/all"))).await.expect_err("no endpoint");
    assert!(matches!(page, RunError::NoEndpoint { status: 404, .. }), "{page}");
    assert!(matches!(run(url("whip")).await, Err(RunError::Url { .. })));
    assert!(matches!(run(url("http://a.example/show")).await, Err(RunError::Protocol { .. })));
    assert!(matches!(run(Options::default()).await, Err(RunError::NoUrl)));
    assert!(matches!(run(options(&server, &["W47"])).await, Err(RunError::Line { .. })));
}

#[tokio::test]
async fn a_report_is_words_json_and_a_table() {
    let report = report(Fault::NoAcceptPost, &["W12", "W36"]).await;
    let text = report.to_string();
    assert!(text.contains("W12 FAILED  should"), "{text}");
    assert!(text.ends_with("0 of 2 lines passed, 1 failed (0 of them musts), 1 skipped\n"), "{text}");
    let json = serde_json::to_value(&report).expect("json");
    assert_eq!((&json["lines"][0]["id"], &json["lines"][0]["outcome"]), (&"W12".into(), &"failed".into()));
    assert_eq!(json["lines"][0]["sides"]["whip"]["outcome"], "failed");
    assert!(report.markdown().contains("| W36 | may |"), "{}", report.markdown());
}
