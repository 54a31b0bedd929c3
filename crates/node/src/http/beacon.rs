//! `POST {session}/beacon`: a player tells how the picture arrives where it is seen.
//!
//! Whoever knows the URL of a session may report for it, and nobody else. What it says is bounded in size, in rate (of
//! the session, of the address, of all together) and in what can be true, and feeds histograms only: a liar changes the
//! figures by one viewer's share.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use signaling::SessionId;
use telemetry::player::{Report, ReportResult};

use super::{Addresses, App, BODY_TIMEOUT};
use crate::rate_limit::RateLimit;

/// A report has some 150 bytes.
const BODY_BYTES_MAX: usize = 1024;
/// Reports of one address, in the long run and at once: players report twice a minute, and a company may sit behind one
/// address.
const ADDRESS_RATE: (u32, u32) = (20, 100);
/// Reports of all addresses together.
const TOTAL_RATE: (u32, u32) = (1000, 2000);
/// A report covers at most so much: a player in the background sleeps.
const WATCHED_MAX: Duration = Duration::from_secs(3600);
/// A player waits no longer for its first picture, and no live picture is older.
const WAIT_MAX: Duration = Duration::from_secs(120);
const FREEZES_MAX: u64 = 100_000;
const PACKETS_MAX: u64 = 100_000_000;

/// How often reports are taken.
pub struct Beacons {
    by_address: RateLimit,
    total: RateLimit,
}

impl Default for Beacons {
    fn default() -> Self {
        Self {
            by_address: RateLimit::new(ADDRESS_RATE.0, ADDRESS_RATE.1),
            total: RateLimit::new(TOTAL_RATE.0, TOTAL_RATE.1),
        }
    }
}

impl Beacons {
    fn takes(&self, now: Instant, client: IpAddr) -> bool {
        self.by_address.take(now, client).is_ok()
            && self.total.take(now, Ipv4Addr::UNSPECIFIED.into()).is_ok()
    }
}

/// What a player writes: milliseconds and counts since its report before.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Written {
    first_frame_ms: Option<f64>,
    latency_ms: Option<f64>,
    watched_ms: f64,
    freezes: u64,
    freeze_ms: f64,
    packets_received: u64,
    packets_lost: u64,
}

impl Written {
    /// `None` if it cannot be true.
    fn report(&self) -> Option<Report> {
        let watched = time(self.watched_ms, WATCHED_MAX)?;
        let is_possible = self.freezes <= FREEZES_MAX
            && self.packets_received <= PACKETS_MAX
            && self.packets_lost <= PACKETS_MAX;
        is_possible.then_some(())?;
        Some(Report {
            first_frame: wait(self.first_frame_ms)?,
            latency: wait(self.latency_ms)?,
            watched,
            freezes: self.freezes,
            // A freeze may have begun before the time that the report covers.
            frozen: time(self.freeze_ms, WATCHED_MAX)?.min(watched),
            packets_received: self.packets_received,
            packets_lost: self.packets_lost,
        })
    }
}

/// A time that may be missing.
fn wait(millis: Option<f64>) -> Option<Option<Duration>> {
    millis.map_or(Some(None), |millis| time(millis, WAIT_MAX).map(Some))
}

fn time(millis: f64, max: Duration) -> Option<Duration> {
    let time = Duration::try_from_secs_f64(millis / 1000.0).ok()?;
    (time <= max).then_some(time)
}

/// Takes a report.
pub async fn report(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path((broadcast, session)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    match take(&app, addresses.peer.ip(), (&broadcast, &session), request.into_body()).await {
        Ok(report) => {
            app.metrics.player().taken(&report);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refusal) => {
            app.metrics.player().report(refusal);
            status(refusal).into_response()
        }
    }
}

async fn take(
    app: &App,
    client: IpAddr,
    (broadcast, session): (&str, &str),
    body: Body,
) -> Result<Report, ReportResult> {
    let now = Instant::now();
    if !app.beacons.takes(now, client) {
        return Err(ReportResult::TooOften);
    }
    let id: SessionId = session.parse().map_err(|_| ReportResult::UnknownSession)?;
    if app.sessions.has_ended(id) {
        if !app.sessions.take_last_words(id) {
            return Err(ReportResult::Late);
        }
    } else {
        let session = app.sessions.get(id).filter(|session| session.broadcast.as_str() == broadcast);
        let session = session.ok_or(ReportResult::UnknownSession)?;
        if !session.reports.take(now) {
            return Err(ReportResult::TooOften);
        }
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_BYTES_MAX)).await;
    let body = read.ok().and_then(Result::ok).ok_or(ReportResult::Malformed)?;
    let written: Written = serde_json::from_slice(&body).map_err(|_| ReportResult::Malformed)?;
    written.report().ok_or(ReportResult::Malformed)
}

const fn status(refusal: ReportResult) -> StatusCode {
    match refusal {
        // A player deletes its session in the same moment; it need not know what came first.
        ReportResult::Taken | ReportResult::Late => StatusCode::NO_CONTENT,
        ReportResult::Malformed => StatusCode::BAD_REQUEST,
        ReportResult::TooOften => StatusCode::TOO_MANY_REQUESTS,
        ReportResult::UnknownSession => StatusCode::NOT_FOUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Option<Report> {
        serde_json::from_str::<Written>(text).ok()?.report()
    }

    #[test]
    fn a_players_words_become_a_report() {
        let text = r#"{"firstFrameMs":312.5,"latencyMs":180,"watchedMs":30000,"freezes":1,"freezeMs":420,
                       "packetsReceived":12000,"packetsLost":3}"#;
        let expected = Report {
            first_frame: Some(Duration::from_micros(312_500)),
            latency: Some(Duration::from_millis(180)),
            watched: Duration::from_secs(30),
            freezes: 1,
            frozen: Duration::from_millis(420),
            packets_received: 12_000,
            packets_lost: 3,
        };
        assert_eq!(report(text), Some(expected));
        assert_eq!(report(r#"{"latencyMs":null}"#), Some(Report::default()), "everything may be missing");
        let frozen = report(r#"{"watchedMs":1000,"freezeMs":5000}"#).expect("a report").frozen;
        assert_eq!(frozen, Duration::from_secs(1), "nobody is frozen for longer than he watches");
    }

    #[test]
    fn what_cannot_be_true_is_no_report() {
        for text in [
            "",
            "3",
            r#"{"viewer":"me"}"#,
            r#"{"latencyMs":-1}"#,
            r#"{"latencyMs":1e300}"#,
            r#"{"latencyMs":120001}"#,
            r#"{"firstFrameMs":"soon"}"#,
            r#"{"watchedMs":3600001}"#,
            r#"{"freezes":100001}"#,
            r#"{"packetsLost":-3}"#,
            r#"{"packetsReceived":100000001}"#,
        ] {
            assert_eq!(report(text), None, "{text}");
        }
    }

    #[test]
    fn reports_of_one_address_are_bounded_and_those_of_all_too() {
        let beacons = Beacons::default();
        let now = Instant::now();
        let taken = |address: IpAddr| (0..500).filter(|_| beacons.takes(now, address)).count();
        assert_eq!(taken([198, 18, 0, 1].into()), ADDRESS_RATE.1 as usize);
        let others: usize = (0..100).map(|host| taken([198, 18, 1, host].into())).sum();
        assert_eq!(others, (TOTAL_RATE.1 - ADDRESS_RATE.1) as usize);
    }
}
