//! The suite against a server that keeps its lines, and against servers that break one: exactly the lines that are
//! about what is wrong fail.

mod server;

use std::collections::BTreeSet;

use conformance::{LINES, Options, Outcome, Report, RunError};
use futures_util::StreamExt as _;
use server::{Fault, Server, TOKEN};

/// Lines that take a minute, or a thousand requests: tried by themselves.
const LONG: [&str; 3] = ["W08", "W27", "W43"];
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
    // Several of them at once are more than the stack of a test holds.
    Box::pin(conformance::run(options(&server, only), |_| {})).await.expect("a report")
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
    let lines = usual();
    let (report, redirecting) = tokio::join!(report(Fault::None, &lines), report(Fault::Redirects, &lines));
    assert_eq!(failed(&report), BTreeSet::new(), "{report}");
    assert_eq!(failed(&redirecting), BTreeSet::new(), "{redirecting}");
    let seen = redirecting.line("T02").expect("T02").outcome.seen();
    assert!(seen.contains("after 1 redirects"), "{seen}");
    let skipped: BTreeSet<&str> = report
        .lines
        .iter()
        .filter(|line| matches!(line.outcome, Outcome::Skipped(_)))
        .map(|line| line.id)
        .collect();
    // The address is local, viewers may wait; no extensions but events of layers, and nothing that only an operator can
    // cause.
    let wanted = ["E03", "E09", "E10", "E11", "E13", "W36", "W42"];
    assert_eq!(skipped, BTreeSet::from(wanted), "{report}");
}

/// Servers that are tried at once: most of the time is spent waiting.
const AT_ONCE: usize = 12;

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
        (Fault::RedirectIsRelative, &["T02"]),
        (Fault::DeleteIsRedirected, &["E05", "T02", "W09", "W10", "W29", "W38"]),
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
        (Fault::TrickleIs200, &["W20", "W21"]),
        (Fault::TrickleHasEntityTag, &["W20"]),
        (Fault::NoIfMatchIs400, &["W18"]),
        (Fault::StaleIs409, &["W19", "W28"]),
        (Fault::RestartIs422, &["W14"]),
        (Fault::AnyIfMatch, &["W19", "W28"]),
        (Fault::RestartKeepsCredentials, &["W23", "W25", "W26", "W28"]),
        (Fault::RestartIsTrickled, &["W14", "W16", "W24"]),
        (Fault::SecondRestartIsIgnored, &["W28"]),
        (Fault::OldCandidatesAreKept, &["W25"]),
        (Fault::OnlyOldAddresses, &["W25", "W28"]),
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
        (Fault::TwoAudios, &["W31"]),
        (Fault::ManyIs409, &["W31"]),
        (Fault::SimulcastWithoutRids, &["W40"]),
        (Fault::SimulcastIsSent, &["W40"]),
        (Fault::SimulcastOfStrangers, &["W40"]),
        (Fault::SimulcastWithoutExtension, &["W40"]),
        (Fault::FirstCandidateIsNowhere, &["T03"]),
        (Fault::TwoStreams, &["E06"]),
        (Fault::NoAcceptPost, &["W12"]),
        (Fault::NoCors, &["W11"]),
        (Fault::AnyHeaderAllowed, &["W11"]),
        (Fault::NothingExposed, &["W11"]),
        (Fault::OpenToAll, &["W38"]),
        (Fault::SessionsAreOpen, &["W38"]),
        (Fault::PreflightWantsToken, &["W11", "W12", "W39"]),
        (Fault::IceServersInPreflight, &["W13"]),
        (Fault::TurnWithoutCredential, &["W37"]),
        (Fault::TurnIsNotQuoted, &["W37"]),
        (Fault::ServersInOneLink, &["W37"]),
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
async fn what_is_wrong_for_viewers_breaks_their_lines() {
    each_breaks(&[
        (Fault::CounterOfferWithoutLocation, &["E05"]),
        (Fault::CounterOfferTakesRubbish, &["E05"]),
        (Fault::CounterAnswerIs200, &["E05"]),
        (Fault::CounterOfferLeadsNowhere, &["E05"]),
        (Fault::UnknownEventsAreTaken, &["E08"]),
        (Fault::LayersWithoutNames, &["E12"]),
        (Fault::StoppedLayersHaveBitrates, &["E12"]),
    ])
    .await;
}

/// What takes long is tried on all of these servers at once.
#[tokio::test]
async fn floods_and_silences_are_seen() {
    let runs: [(Fault, &[&str], &[&str]); 8] = [
        (Fault::None, &LONG, &[]),
        (Fault::NoLimit, &["W43"], &["W43"]),
        (Fault::OnlyPostsAreLimited, &["W43"], &["W43"]),
        (Fault::OneLimitForAll, &["W43"], &["W43"]),
        (Fault::RestartIsTrickled, &["W27"], &["W27"]),
        (Fault::RestartFailureEnds, &["W27"], &["W27"]),
        (Fault::RestartFailureDeafens, &["W27"], &["W27"]),
        (Fault::RestartFailureKeeps, &["W27"], &["W27"]),
    ];
    let runs = runs.map(|(fault, lines, wanted)| async move {
        let report = report(fault, lines).await;
        let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
        assert_eq!(failed(&report), wanted, "{fault:?}\n{report}");
        report
    });
    let reports = futures_util::future::join_all(runs).await;
    for line in LONG {
        let outcome = &reports[0].line(line).expect("a line").outcome;
        assert!(matches!(outcome, Outcome::Passed(_)), "{}", reports[0]);
    }
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
