//! The broadcaster doctor at work: it looks at each publisher of this node once a second, outside the tree thread, and
//! tells HTTP, webhooks, metrics and the installation what could be better.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use doctor::{Code, Doctor, Figure, Finding};
use ingest::PublisherId;
use model::{BroadcastId, ObsVersion};
use serde::Serialize;
use telemetry::advice::Advised;
use tokio::sync::watch;

use crate::http::App;

/// Why a publisher never connected is remembered for so long: its session is gone by then.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Publishers that never connected or were sent away, and are remembered; the oldest make room.
const REMEMBERED_MAX: usize = 64;
/// Who is on the air for so long stays: one that is sent away sends what is to blame within its first pictures.
const STAYS_AFTER: Duration = Duration::from_secs(5);

/// One publisher, as the tree thread sees it.
#[derive(Debug, Clone)]
pub struct Patient {
    /// Who.
    pub publisher: PublisherId,
    /// What it publishes.
    pub broadcast: BroadcastId,
    /// Whether it is the one whose media counts.
    pub is_current: bool,
    /// What has come of it.
    pub stats: ingest::Stats,
}

/// One piece of advice, as everybody is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdviceView {
    /// Stable name of what was found.
    pub code: &'static str,
    /// `advice`, `warning` or `problem`.
    pub severity: &'static str,
    /// What is not as it could be.
    pub what: String,
    /// The figures in it by name ([`doctor::FIGURES`]), for whoever says it in another language.
    pub figures: BTreeMap<&'static str, FigureView>,
    /// What helps.
    pub remedy: &'static str,
}

/// One figure, as everybody is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FigureView {
    /// Rounded to tenths.
    Number(f64),
    /// The same in every language.
    Name(String),
}

impl From<&Figure> for FigureView {
    fn from(figure: &Figure) -> Self {
        match figure {
            Figure::Number(number) => Self::Number(*number),
            Figure::Name(name) => Self::Name(name.clone()),
        }
    }
}

impl AdviceView {
    /// As it is said when nothing is known but that it is so.
    fn plain(code: Code) -> Self {
        let entry = code.entry();
        Self {
            code: entry.name,
            severity: entry.severity.as_str(),
            what: entry.meaning.to_owned(),
            figures: BTreeMap::new(),
            remedy: entry.remedy,
        }
    }
}

impl From<&Finding> for AdviceView {
    fn from(finding: &Finding) -> Self {
        let entry = finding.code.entry();
        Self {
            code: entry.name,
            severity: entry.severity.as_str(),
            what: finding.what.clone(),
            figures: finding.figures.iter().map(|(name, figure)| (*name, figure.into())).collect(),
            remedy: entry.remedy,
        }
    }
}

/// What is told at present.
#[derive(Debug, Default)]
pub struct Advice {
    tables: Mutex<Tables>,
    /// Publishers that were sent away since the latest look.
    sent_away: Mutex<Vec<(BroadcastId, Code)>>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Tables {
    publishers: BTreeMap<PublisherId, Vec<AdviceView>>,
    /// Those with advice only.
    broadcasts: BTreeMap<BroadcastId, Vec<AdviceView>>,
    /// Those that somebody publishes, with advice or without.
    published: BTreeSet<BroadcastId>,
}

impl Advice {
    /// For this publisher.
    #[must_use]
    pub fn of_publisher(&self, publisher: PublisherId) -> Vec<AdviceView> {
        self.lock().publishers.get(&publisher).cloned().unwrap_or_default()
    }

    /// For whoever publishes this broadcast, or could not connect to do so; `None` if nobody does.
    #[must_use]
    pub fn of_broadcast(&self, broadcast: &BroadcastId) -> Option<Vec<AdviceView>> {
        let tables = self.lock();
        let advice = tables.broadcasts.get(broadcast).cloned();
        advice.or_else(|| tables.published.contains(broadcast).then(Vec::new))
    }

    /// Broadcasts whose publishers could do better, and how.
    #[must_use]
    pub fn of_broadcasts(&self) -> BTreeMap<BroadcastId, Vec<AdviceView>> {
        self.lock().broadcasts.clone()
    }

    /// A publisher of this broadcast was sent away for this. Encoders come again without telling their owner why they had
    /// to go; the advice does.
    pub fn sent_away(&self, broadcast: &BroadcastId, code: Code) {
        let mut sent_away = self.sent_away.lock().unwrap_or_else(PoisonError::into_inner);
        if sent_away.len() < REMEMBERED_MAX {
            sent_away.push((broadcast.clone(), code));
        }
    }

    /// Tells whenever something else is found than before.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn set(&self, tables: Tables) {
        let codes = |tables: &Tables| -> Vec<(BroadcastId, Vec<&'static str>)> {
            let codes = |advice: &Vec<AdviceView>| advice.iter().map(|one| one.code).collect();
            tables.broadcasts.iter().map(|(id, advice)| (id.clone(), codes(advice))).collect()
        };
        let mut known = self.lock();
        let is_news = codes(&known) != codes(&tables);
        *known = tables;
        drop(known);
        if is_news {
            self.changes.send_replace(());
        }
    }

    fn take_sent_away(&self) -> Vec<(BroadcastId, Code)> {
        std::mem::take(&mut *self.sent_away.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Examines what the tree thread shows, for as long as it does.
pub async fn examine(app: Arc<App>, mut patients: watch::Receiver<Vec<Patient>>) {
    let mut practice = Practice::default();
    while patients.changed().await.is_ok() {
        let seen = patients.borrow_and_update().clone();
        let now = Instant::now();
        for (broadcast, code) in app.advice.take_sent_away() {
            practice.remember(now, &broadcast, vec![AdviceView::plain(code)], true);
        }
        practice.learn(|publisher| app.sessions.publisher_came(publisher).obs);
        let tables = practice.examine(now, &seen);
        app.metrics.advised(practice.advised(&tables));
        app.advice.set(tables);
    }
}

/// All publishers of this node and their doctors.
#[derive(Debug, Default)]
struct Practice {
    doctors: BTreeMap<PublisherId, Care>,
    /// Those who never connected or were sent away, one for each broadcast.
    remembered: Vec<Remembered>,
    /// What each broadcast was ever told.
    ever: BTreeMap<BroadcastId, BTreeSet<&'static str>>,
}

/// A publisher and its doctor.
#[derive(Debug)]
struct Care {
    since: Instant,
    broadcast: BroadcastId,
    doctor: Doctor,
}

/// Why a publisher did not get on the air.
#[derive(Debug)]
struct Remembered {
    until: Instant,
    broadcast: BroadcastId,
    advice: Vec<AdviceView>,
    /// It connects, and will again and again.
    was_sent_away: bool,
}

impl Practice {
    fn examine(&mut self, now: Instant, patients: &[Patient]) -> Tables {
        self.discharge(now, patients);
        let mut tables = Tables::default();
        for Remembered { broadcast, advice, .. } in &self.remembered {
            tables.broadcasts.insert(broadcast.clone(), advice.clone());
        }
        let mut others = Vec::new();
        for patient in patients {
            let none =
                || Care { since: now, broadcast: patient.broadcast.clone(), doctor: Doctor::default() };
            let Care { doctor, .. } = self.doctors.entry(patient.publisher).or_insert_with(none);
            let before: Vec<Code> = doctor.findings().iter().map(|finding| finding.code).collect();
            doctor.observe(now, &patient.stats);
            let findings = doctor.findings();
            for finding in findings.iter().filter(|finding| !before.contains(&finding.code)) {
                let (broadcast, code, what) = (&patient.broadcast, finding.code.as_str(), &finding.what);
                tracing::info!(%broadcast, publisher = patient.publisher.0, code, what, "advice for a publisher");
            }
            let advice: Vec<AdviceView> = findings.iter().map(AdviceView::from).collect();
            tables.publishers.insert(patient.publisher, advice.clone());
            if patient.is_current {
                tables.published.insert(patient.broadcast.clone());
                // What is remembered still is of one that was sent away and comes again.
                let told = tables.broadcasts.entry(patient.broadcast.clone()).or_default();
                told.retain(|old| advice.iter().all(|new| new.code != old.code));
                told.extend(advice);
            } else {
                others.push((patient.broadcast.clone(), advice));
            }
        }
        // One that tries to connect speaks for a broadcast that nobody else publishes.
        for (broadcast, advice) in others {
            let is_current = |patient: &Patient| patient.is_current && patient.broadcast == broadcast;
            if !advice.is_empty() && !patients.iter().any(is_current) {
                tables.broadcasts.insert(broadcast, advice);
            }
        }
        tables.broadcasts.retain(|_, advice| !advice.is_empty());
        tables
    }

    /// Asks what each publisher that is known says that it is.
    fn learn(&mut self, obs: impl Fn(PublisherId) -> Option<ObsVersion>) {
        for (publisher, care) in &mut self.doctors {
            care.doctor.publishes_with(obs(*publisher));
        }
    }

    /// Forgets who is gone, but for those who never came in: why is of use to whoever tries again.
    fn discharge(&mut self, now: Instant, patients: &[Patient]) {
        let mut never_came = Vec::new();
        self.doctors.retain(|publisher, care| {
            let is_here = patients.iter().any(|patient| patient.publisher == *publisher);
            let findings = care.doctor.findings();
            if !is_here
                && findings.iter().any(|it| matches!(it.code, Code::UdpBlocked | Code::HandshakeStuck))
            {
                let advice: Vec<AdviceView> = findings.iter().map(AdviceView::from).collect();
                never_came.push((care.broadcast.clone(), advice));
            }
            is_here
        });
        for (broadcast, advice) in never_came {
            self.remember(now, &broadcast, advice, false);
        }
        let Self { doctors, remembered, ever } = self;
        let stays = |patient: &Patient| {
            doctors.get(&patient.publisher).is_some_and(|care| now.duration_since(care.since) >= STAYS_AFTER)
        };
        remembered.retain(|it| {
            let is_over = |patient: &Patient| {
                patient.is_current
                    && patient.broadcast == it.broadcast
                    && (!it.was_sent_away || stays(patient))
            };
            now < it.until && !patients.iter().any(is_over)
        });
        ever.retain(|broadcast, _| {
            patients.iter().any(|patient| patient.broadcast == *broadcast)
                || remembered.iter().any(|it| it.broadcast == *broadcast)
        });
    }

    /// Keeps in mind why a publisher did not get on the air.
    fn remember(
        &mut self,
        now: Instant,
        broadcast: &BroadcastId,
        advice: Vec<AdviceView>,
        was_sent_away: bool,
    ) {
        self.remembered.retain(|it| it.broadcast != *broadcast);
        if self.remembered.len() == REMEMBERED_MAX {
            self.remembered.remove(0);
        }
        let (until, broadcast) = (now + REMEMBERED, broadcast.clone());
        self.remembered.push(Remembered { until, broadcast, advice, was_sent_away });
    }

    /// For metrics.
    fn advised(&mut self, tables: &Tables) -> Vec<Advised> {
        for (broadcast, advice) in &tables.broadcasts {
            self.ever.entry(broadcast.clone()).or_default().extend(advice.iter().map(|one| one.code));
        }
        let is_told = |broadcast: &BroadcastId, code: &str| {
            tables.broadcasts.get(broadcast).is_some_and(|advice| advice.iter().any(|one| one.code == code))
        };
        let advised = |(broadcast, codes): (&BroadcastId, &BTreeSet<&'static str>)| Advised {
            broadcast: broadcast.clone(),
            codes: codes.iter().map(|code| (*code, is_told(broadcast, code))).collect(),
        };
        self.ever.iter().map(advised).collect()
    }
}

#[cfg(test)]
mod tests {
    use ingest::{Connection, Stats};

    use super::*;

    fn patient(publisher: u64, connection: Connection) -> Patient {
        Patient {
            publisher: PublisherId(publisher),
            broadcast: BroadcastId::new("show").expect("an id"),
            is_current: connection == Connection::Connected,
            stats: Stats { connection, ..Stats::default() },
        }
    }

    fn codes(tables: &Tables) -> Vec<&'static str> {
        tables.broadcasts.values().flatten().map(|one| one.code).collect()
    }

    #[test]
    fn why_a_publisher_never_came_is_told_for_a_while_after_it_has_given_up() {
        let (start, mut practice) = (Instant::now(), Practice::default());
        let mut look = |second: u64, patients: &[Patient]| {
            let tables = practice.examine(start + Duration::from_secs(second), patients);
            let advised = practice.advised(&tables);
            (tables, advised)
        };
        let blocked = patient(7, Connection::Awaited);
        let (tables, _) =
            (0..15).map(|second| look(second, std::slice::from_ref(&blocked))).last().expect("15");
        assert_eq!(codes(&tables), ["udp-blocked"]);
        assert_eq!(tables.publishers[&PublisherId(7)][0].severity, "problem");
        let (tables, advised) = look(16, &[]);
        assert_eq!((codes(&tables), tables.publishers.len()), (vec!["udp-blocked"], 0));
        assert_eq!(advised[0].codes, [("udp-blocked", true)]);
        // Another one is on the air.
        let (tables, advised) = look(17, &[patient(8, Connection::Connected)]);
        assert_eq!((codes(&tables).len(), &advised[0].codes[..]), (0, &[("udp-blocked", false)][..]));
        assert_eq!(look(18, &[]).1, []);
    }

    #[test]
    fn why_a_publisher_is_sent_away_again_and_again_is_told_until_it_stays() {
        let (start, mut practice) = (Instant::now(), Practice::default());
        let show = BroadcastId::new("show").expect("an id");
        let mut is_told = |second: u64, is_sent_away: bool, patients: &[Patient]| {
            let now = start + Duration::from_secs(second);
            if is_sent_away {
                practice.remember(now, &show, vec![AdviceView::plain(Code::BFrames)], true);
            }
            codes(&practice.examine(now, patients)).contains(&"b-frames")
        };
        assert!(is_told(0, true, &[]));
        // An encoder is on the air for a moment at each of its attempts.
        assert!(is_told(2, false, &[patient(1, Connection::Connected)]));
        assert!(is_told(3, true, &[]));
        let well = [patient(2, Connection::Connected)];
        assert!(is_told(6, false, &well));
        assert!(is_told(10, false, &well), "it may still be sent away");
        assert!(!is_told(11, false, &well));
        assert!(is_told(20, true, &[]));
        assert!(is_told(79, false, &[]));
        assert!(!is_told(80, false, &[]), "it does not come again");
    }

    #[test]
    fn a_publisher_that_tries_does_not_speak_for_one_that_is_on_the_air() {
        let (start, mut practice) = (Instant::now(), Practice::default());
        let both = [patient(1, Connection::Connected), patient(2, Connection::Awaited)];
        let look = |second| practice.examine(start + Duration::from_secs(second), &both);
        let tables = (0..15).map(look).last().expect("15");
        assert_eq!(codes(&tables), ["no-media"]);
        assert_eq!(tables.publishers[&PublisherId(2)][0].code, "udp-blocked");
    }

    #[test]
    fn who_publishes_with_an_old_obs_is_told_and_nobody_else() {
        let (start, mut practice) = (Instant::now(), Practice::default());
        let both = [patient(1, Connection::Connected), patient(2, Connection::Connected)];
        let old = ObsVersion { major: 30, minor: 1, patch: 2 };
        let mut look = |second| {
            practice.learn(|publisher| (publisher == PublisherId(1)).then_some(old));
            practice.examine(start + Duration::from_secs(second), &both)
        };
        let tables = (0..4).map(&mut look).last().expect("4");
        let codes = |id| -> Vec<_> { tables.publishers[&id].iter().map(|it| it.code).collect() };
        assert_eq!((codes(PublisherId(1)), codes(PublisherId(2))), (vec!["encoder-old"], vec![]));
    }

    #[test]
    fn a_broadcast_without_advice_is_told_from_one_that_nobody_publishes() {
        let (start, mut practice, told) = (Instant::now(), Practice::default(), Advice::default());
        let show = BroadcastId::new("show").expect("an id");
        let mut look = |second, patients: &[Patient]| {
            told.set(practice.examine(start + Duration::from_secs(second), patients));
            told.of_broadcast(&show)
        };
        assert_eq!(look(0, &[]), None);
        assert_eq!(look(1, &[patient(1, Connection::Awaited)]), None, "nothing came of it yet");
        assert_eq!(look(2, &[patient(2, Connection::Connected)]), Some(Vec::new()));
        assert_eq!(look(3, &[]), None);
    }

    #[test]
    fn only_another_finding_is_news() {
        let advice = Advice::default();
        let mut changes = advice.changes();
        changes.mark_unchanged();
        let told = |what: &str| {
            let view = AdviceView {
                code: "b-frames",
                severity: "problem",
                what: what.into(),
                figures: BTreeMap::new(),
                remedy: "None.",
            };
            let broadcasts = [(BroadcastId::new("show").expect("an id"), vec![view])].into();
            Tables { broadcasts, ..Tables::default() }
        };
        advice.set(told("Some."));
        assert!(changes.has_changed().expect("it lives"));
        changes.mark_unchanged();
        advice.set(told("More."));
        assert!(!changes.has_changed().expect("it lives"));
    }
}
