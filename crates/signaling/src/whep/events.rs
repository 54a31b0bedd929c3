//! What a viewer's session tells its player over server-sent events (WHEP, "Server Sent Events extension").
//!
//! A [`Stream`] is one event stream: it is kept at what is true now and says what its reader has yet to be told. So it
//! holds a few words however slow the reader is, and whoever reads late hears the truth once instead of a history. HTTP,
//! waiting and waking are the shell's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Epoch;

use super::layers::{self, Layer};
use crate::http::{Problem, check_content_type};

/// The extension, as [`crate::http::Link::whep_extension`] takes it.
pub const EXTENSION: &str = "core:server-sent-events";
/// The attribute of the `Link` header that names events of this server which WHEP does not know: clients judge `events` by
/// what they know.
pub const MORE_EVENTS: &str = "more-events";
/// Media type of the list that is posted.
pub const JSON: &str = "application/json";
/// Media type of a stream.
pub const EVENT_STREAM: &str = "text/event-stream";
/// A comment, which readers skip: keeps proxies and connections from taking a silent stream for a dead one.
pub const KEEP_ALIVE: &str = ":\n\n";
/// Least time between two viewer counts of one stream: a crowd that comes in is not told to itself head by head.
pub const VIEWER_COUNT_INTERVAL: Duration = Duration::from_secs(5);
/// Least time between two events `layers` of one stream that differ in bitrates alone.
pub const BITRATES_INTERVAL: Duration = Duration::from_secs(5);
/// A reader that has taken nothing for so long, though there was something, reads no more.
pub const READER_PATIENCE: Duration = Duration::from_secs(30);
/// So many of the cues that came before a stream does it tell, at most.
const CUES_AT_FIRST: usize = 8;

/// A type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A publisher has begun, or begun anew.
    Active,
    /// The publisher is gone.
    Inactive,
    /// The layers of the picture.
    Layers,
    /// How many viewers there are.
    ViewerCount,
    /// The player is to make its session elsewhere.
    Reconnect,
    /// A caption, or other timed data.
    Cue,
}

impl Kind {
    /// All that this server sends.
    pub const ALL: [Self; 6] =
        [Self::Active, Self::Inactive, Self::Layers, Self::ViewerCount, Self::Reconnect, Self::Cue];

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Layers => "layers",
            Self::ViewerCount => "viewercount",
            Self::Reconnect => "reconnect",
            Self::Cue => "cue",
        }
    }

    /// Those that WHEP knows.
    const OF_WHEP: [Self; 5] =
        [Self::Active, Self::Inactive, Self::Layers, Self::ViewerCount, Self::Reconnect];
    /// Those that it does not.
    const OWN: [Self; 1] = [Self::Cue];

    /// The names of those that WHEP knows, as the attribute `events` of the `Link` header has them.
    #[must_use]
    pub fn list() -> String {
        Self::OF_WHEP.map(Self::as_str).join(",")
    }

    /// The names of all others, as the attribute [`MORE_EVENTS`] has them.
    #[must_use]
    pub fn own_list() -> String {
        Self::OWN.map(Self::as_str).join(",")
    }
}

/// The types of event that a player wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// All that this server sends.
    pub const ALL: Self = Self(0b11_1111);

    /// From the POST that asks for a stream: a JSON array of names, or no body at all for every type.
    ///
    /// # Errors
    /// 415 for another content type, 400 for what is no such array or names a type that this server does not send.
    pub fn parse(content_type: Option<&str>, body: &str) -> Result<Self, Problem> {
        if body.is_empty() {
            return Ok(Self::ALL);
        }
        check_content_type(content_type, JSON)?;
        let names: Vec<String> = serde_json::from_str(body).map_err(|_| {
            let detail = "The body is no JSON array of names of event types.";
            Problem::new(400, "events-unreadable", detail)
        })?;
        let mut kinds = Self(0);
        for name in &names {
            let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
            let kind = known.ok_or_else(|| {
                let detail = format!(
                    "There is an event type that this server does not send; it sends {},{}.",
                    Kind::list(),
                    Kind::own_list()
                );
                Problem::new(400, "event-unknown", detail)
            })?;
            kinds.0 |= 1 << kind as u8;
        }
        Ok(kinds)
    }

    /// Whether this type is wanted.
    #[must_use]
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

/// The picture of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The number of its m-line, as text.
    pub media_id: String,
    /// Its layers, best first.
    pub layers: Arc<[Layer]>,
    /// The session gets none of them for now: its connection carries sound alone.
    pub is_held: bool,
}

impl Picture {
    /// Whether the same layers come: bitrates alone go up and down all the time.
    fn resembles(&self, other: &Self) -> bool {
        let essence = |layer: &Layer| (layer.rid.clone(), layer.size, layer.bitrate.is_some());
        self.media_id == other.media_id
            && self.is_held == other.is_held
            && self.layers.iter().map(essence).eq(other.layers.iter().map(essence))
    }
}

/// A cue as the streams of a node tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cue {
    /// Grows with each cue of the node, from 1.
    pub number: u64,
    /// As [`crate::cue::event_data`] gives it.
    pub data: Arc<str>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A publisher has begun, or begun anew.
    Active,
    /// The publisher is gone.
    Inactive,
    /// These layers the picture has, and this is its m-line.
    Layers(Picture),
    /// So many viewers there are.
    ViewerCount(u64),
    /// The player is to make a new session at this WHEP endpoint and to end this one.
    Reconnect(String),
    /// A caption, or other timed data.
    Cue(Cue),
}

impl Event {
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Active => Kind::Active,
            Self::Inactive => Kind::Inactive,
            Self::Layers(_) => Kind::Layers,
            Self::ViewerCount(_) => Kind::ViewerCount,
            Self::Reconnect(_) => Kind::Reconnect,
            Self::Cue(_) => Kind::Cue,
        }
    }

    /// As it stands in a stream: a type, one line of JSON, an empty line.
    #[must_use]
    pub fn text(&self) -> String {
        let data = match self {
            Self::Active | Self::Inactive => serde_json::json!({}).to_string(),
            Self::Layers(picture) => {
                layers::event_data(&picture.media_id, &picture.layers, picture.is_held).to_string()
            }
            Self::ViewerCount(count) => serde_json::json!({ "viewercount": count }).to_string(),
            Self::Reconnect(url) => serde_json::json!({ "url": url }).to_string(),
            Self::Cue(cue) => cue.data.to_string(),
        };
        format!("event: {}\ndata: {data}\n\n", self.kind().as_str())
    }
}

/// What is to be done about the reader of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Nothing: there is nothing to tell.
    Rests,
    /// There is something to tell.
    IsDue,
    /// It takes nothing any more: the stream is to end.
    IsStuck,
}

/// What can be told, as it was told last or as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// The publishing run, while there is one.
    run: Option<Epoch>,
    picture: Option<Picture>,
    viewers: Option<u64>,
    /// Where to go.
    target: Option<String>,
}

/// One event stream of a session.
#[derive(Debug)]
pub struct Stream {
    kinds: Kinds,
    told: State,
    now: State,
    viewers_told_at: Option<Instant>,
    picture_told_at: Option<Instant>,
    /// The latest cues, oldest first. All streams of a broadcast share them, so that one that is read slowly misses some and
    /// holds none.
    cues: Arc<[Cue]>,
    /// The number of the newest one that was told, or is passed over; `None` before there was a look at them.
    cue_told: Option<u64>,
    /// Since when there has been something to tell without anything being taken.
    due_since: Option<Instant>,
}

impl Stream {
    /// A stream of these events, made while this run was being published. Begins with `active` if one is, and never
    /// with an `inactive`.
    #[must_use]
    pub fn new(kinds: Kinds, run: Option<Epoch>) -> Self {
        let mut stream = Self {
            kinds,
            told: State::default(),
            now: State::default(),
            viewers_told_at: None,
            picture_told_at: None,
            cues: Arc::default(),
            cue_told: None,
            due_since: None,
        };
        stream.set_run(run);
        stream
    }

    /// The run that is being published now, if any.
    pub fn set_run(&mut self, run: Option<Epoch>) {
        self.now.run = run;
        // What is not to be told counts as told, so that a lone `inactive` finds something to end.
        if run.is_some() && !self.kinds.contains(Kind::Active) {
            self.told.run = run;
        }
    }

    /// The layers that the picture has now.
    pub fn set_picture(&mut self, picture: Picture) {
        self.now.picture = Some(picture);
    }

    /// The viewers that there are now.
    pub fn set_viewers(&mut self, viewers: u64) {
        self.now.viewers = Some(viewers);
    }

    /// The latest cues that there are now, oldest first. Of those that were there before the stream it tells few.
    pub fn set_cues(&mut self, cues: &Arc<[Cue]>) {
        self.cues = cues.clone();
        let passed_over = || cues.iter().rev().nth(CUES_AT_FIRST).map_or(0, |cue| cue.number);
        self.cue_told.get_or_insert_with(passed_over);
    }

    /// Where the player is to go; whether it will be told.
    pub fn set_target(&mut self, url: &str) -> bool {
        self.now.target = Some(url.to_owned());
        self.kinds.contains(Kind::Reconnect)
    }

    /// The next event for the reader, which takes it by this. Call until there is none.
    pub fn take(&mut self, now: Instant) -> Option<Event> {
        self.due_since = None;
        let event = self.peek(now)?;
        match &event {
            Event::Active | Event::Inactive => self.told.run = self.now.run,
            Event::Reconnect(url) => self.told.target = Some(url.clone()),
            Event::Layers(picture) => {
                self.told.picture = Some(picture.clone());
                self.picture_told_at = Some(now);
            }
            Event::ViewerCount(count) => {
                self.told.viewers = Some(*count);
                self.viewers_told_at = Some(now);
            }
            Event::Cue(cue) => self.cue_told = Some(cue.number),
        }
        Some(event)
    }

    /// What is to be done about a reader that waits.
    pub fn look(&mut self, now: Instant) -> Reader {
        if self.peek(now).is_none() {
            return Reader::Rests;
        }
        let since = *self.due_since.get_or_insert(now);
        if now >= since + READER_PATIENCE { Reader::IsStuck } else { Reader::IsDue }
    }

    /// A new reader has come: its patience begins.
    pub fn attach(&mut self) {
        self.due_since = None;
    }

    fn peek(&self, now: Instant) -> Option<Event> {
        let run = match (self.told.run, self.now.run) {
            (told, Some(run)) if told != Some(run) => Some(Event::Active),
            (Some(_), None) => Some(Event::Inactive),
            _ => None,
        };
        let target = self.now.target.as_ref().filter(|_| self.told.target != self.now.target);
        let viewers = self.now.viewers.filter(|_| self.told.viewers != self.now.viewers);
        let may_count = self.viewers_told_at.is_none_or(|at| now >= at + VIEWER_COUNT_INTERVAL);
        let picture = self.now.picture.as_ref().filter(|_| self.told.picture != self.now.picture);
        let is_news = |picture: &&Picture| {
            let is_other = self.told.picture.as_ref().is_none_or(|told| !told.resembles(picture));
            // Where there is nothing to choose, nobody chooses by bitrate.
            let may_repeat = picture.layers.len() > 1;
            let is_due = || self.picture_told_at.is_none_or(|at| now >= at + BITRATES_INTERVAL);
            is_other || (may_repeat && is_due())
        };
        let cue = self.cues.iter().find(|cue| Some(cue.number) > self.cue_told);
        run.into_iter()
            .chain(cue.map(|cue| Event::Cue(cue.clone())))
            .chain(picture.filter(is_news).map(|picture| Event::Layers(picture.clone())))
            .chain(target.map(|url| Event::Reconnect(url.clone())))
            .chain(viewers.filter(|_| may_count).map(Event::ViewerCount))
            .find(|event| self.kinds.contains(event.kind()))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(counter: u64) -> Epoch {
        Epoch { counter, random: 7 }
    }

    fn drain(stream: &mut Stream, now: Instant) -> Vec<Event> {
        std::iter::from_fn(|| stream.take(now)).collect()
    }

    #[test]
    fn e08_a_list_of_event_types_is_taken_whole_or_not_at_all() {
        let kinds = Kinds::parse(Some("application/json; charset=utf-8"), r#"["active","reconnect"]"#)
            .expect("kinds");
        assert!(kinds.contains(Kind::Active) && kinds.contains(Kind::Reconnect));
        assert!(!kinds.contains(Kind::Inactive) && !kinds.contains(Kind::ViewerCount));
        assert_eq!(Kinds::parse(None, ""), Ok(Kinds::ALL));
        let status = |content_type, body| Kinds::parse(content_type, body).expect_err("refused").status;
        let deep = "[".repeat(10_000);
        for bad in [r#"["active","scte35"]"#, r#"["Active"]"#, "{}", "[1]", "[", "\"active\"", &deep] {
            assert_eq!(status(Some(JSON), bad), 400, "{bad}");
        }
        assert_eq!(status(Some("text/plain"), "[]"), 415);
        assert_eq!(status(None, "[]"), 415);
    }

    #[test]
    fn e09_an_event_is_its_type_and_one_line_of_json() {
        assert_eq!(Event::Active.text(), "event: active\ndata: {}\n\n");
        assert_eq!(Event::ViewerCount(3).text(), "event: viewercount\ndata: {\"viewercount\":3}\n\n");
        let text = Event::Reconnect("https://b.example/whep/a\"\r\n\u{2028}data: x".into()).text();
        assert_eq!(text.lines().filter(|line| line.starts_with("data: ")).count(), 1, "{text}");
        assert_eq!(text.matches('\n').count(), 3, "{text}");
    }

    #[test]
    fn e12_layers_are_told_when_they_change_and_bitrates_now_and_then() {
        let picture = |bitrates: [Option<u64>; 2]| {
            let rid = |name: &str| Some(model::Rid::new(name).expect("a rid"));
            let [high, low] = bitrates;
            let layers = [(rid("h"), high), (rid("l"), low)].map(|(rid, bitrate)| Layer {
                rid,
                inner: None,
                bitrate,
                size: None,
            });
            Picture { media_id: "1".into(), layers: Arc::new(layers), is_held: false }
        };
        let mut now = Instant::now();
        let mut stream = Stream::new(Kinds::ALL, None);
        stream.set_picture(picture([Some(9), Some(3)]));
        assert_eq!(drain(&mut stream, now), [Event::Layers(picture([Some(9), Some(3)]))]);
        stream.set_picture(picture([Some(8), Some(3)]));
        assert_eq!(drain(&mut stream, now), [], "a bitrate alone can wait");
        stream.set_picture(picture([None, Some(3)]));
        assert_eq!(drain(&mut stream, now), [Event::Layers(picture([None, Some(3)]))], "a layer is gone");
        stream.set_picture(picture([None, Some(2)]));
        now += BITRATES_INTERVAL;
        assert_eq!(drain(&mut stream, now), [Event::Layers(picture([None, Some(2)]))]);
        assert_eq!(drain(&mut stream, now + BITRATES_INTERVAL), [], "nothing new");
        let mut deaf = Stream::new(Kinds::parse(Some(JSON), r#"["active"]"#).expect("kinds"), None);
        deaf.set_picture(picture([Some(9), Some(3)]));
        assert_eq!(drain(&mut deaf, now), []);
    }

    #[test]
    fn e10_a_stream_begins_with_active_or_with_nothing() {
        let now = Instant::now();
        let mut waiting = Stream::new(Kinds::ALL, None);
        assert_eq!(drain(&mut waiting, now), []);
        waiting.set_run(Some(run(1)));
        waiting.set_run(None);
        assert_eq!(drain(&mut waiting, now), [], "what came and went unseen is not told by halves");
        waiting.set_run(Some(run(2)));
        assert_eq!(drain(&mut waiting, now), [Event::Active]);
        waiting.set_run(Some(run(3)));
        assert_eq!(drain(&mut waiting, now), [Event::Active], "a publisher that took over has begun anew");
        waiting.set_run(None);
        assert_eq!(drain(&mut waiting, now), [Event::Inactive]);
        assert_eq!(drain(&mut Stream::new(Kinds::ALL, Some(run(1))), now), [Event::Active]);
    }

    #[test]
    fn who_asks_for_inactive_alone_hears_of_the_publishers_end() {
        let now = Instant::now();
        let kinds = Kinds::parse(Some(JSON), r#"["inactive"]"#).expect("kinds");
        let mut stream = Stream::new(kinds, Some(run(1)));
        stream.set_run(None);
        assert_eq!(drain(&mut stream, now), [Event::Inactive]);
        stream.set_run(Some(run(2)));
        assert_eq!(drain(&mut stream, now), []);
        stream.set_run(None);
        assert_eq!(drain(&mut stream, now), [Event::Inactive]);
    }

    #[test]
    fn a_player_is_told_once_where_to_go_and_again_when_that_changes() {
        let now = Instant::now();
        let mut stream = Stream::new(Kinds::ALL, None);
        assert!(stream.set_target("https://b/whep/a"));
        assert_eq!(drain(&mut stream, now), [Event::Reconnect("https://b/whep/a".into())]);
        assert!(stream.set_target("https://b/whep/a"));
        assert_eq!(drain(&mut stream, now), []);
        assert!(stream.set_target("https://c/whep/a"));
        assert_eq!(drain(&mut stream, now), [Event::Reconnect("https://c/whep/a".into())]);
        let mut other = Stream::new(Kinds::parse(Some(JSON), r#"["active"]"#).expect("kinds"), None);
        assert!(!other.set_target("https://b/whep/a"), "who did not ask is not told");
        assert_eq!(drain(&mut other, now), []);
    }

    #[test]
    fn a_reader_that_takes_nothing_is_given_up() {
        let now = Instant::now();
        let mut stream = Stream::new(Kinds::ALL, None);
        assert_eq!(stream.look(now), Reader::Rests);
        stream.set_viewers(1);
        assert_eq!(stream.look(now), Reader::IsDue);
        assert_eq!(stream.look(now + READER_PATIENCE), Reader::IsStuck);
        stream.attach();
        assert_eq!(stream.look(now + READER_PATIENCE), Reader::IsDue, "the next one begins anew");
        let _ = stream.take(now + READER_PATIENCE);
        assert_eq!(stream.look(now + 2 * READER_PATIENCE), Reader::Rests);
    }

    fn cues(numbers: std::ops::Range<u64>) -> Arc<[Cue]> {
        numbers.map(|number| Cue { number, data: format!("{{\"time\":{number}}}").into() }).collect()
    }

    #[test]
    fn a_cue_is_told_once_and_in_order() {
        let (now, mut stream) = (Instant::now(), Stream::new(Kinds::ALL, None));
        let told = |stream: &mut Stream| drain(stream, now).iter().map(Event::text).collect::<Vec<_>>();
        let text = |number: u64| format!("event: cue\ndata: {{\"time\":{number}}}\n\n");
        stream.set_cues(&cues(7..9));
        assert_eq!(told(&mut stream), [text(7), text(8)], "what came just before is told, too");
        stream.set_cues(&cues(8..10));
        assert_eq!(told(&mut stream), [text(9)]);
        stream.set_cues(&cues(10..11));
        assert_eq!(stream.look(now), Reader::IsDue);
        stream.set_cues(&Arc::default());
        assert_eq!(drain(&mut stream, now), [], "what is old is told to nobody");
        stream.set_cues(&cues(11..43));
        assert_eq!(drain(&mut stream, now).len(), 32, "all of a burst");
        stream = Stream::new(Kinds::ALL, None);
        stream.set_cues(&cues(11..43));
        assert_eq!(told(&mut stream), Vec::from_iter((35..43).map(text)), "the latest, to who comes later");
        let mut deaf = Stream::new(Kinds::parse(Some(JSON), r#"["active"]"#).expect("kinds"), None);
        deaf.set_cues(&cues(7..9));
        assert_eq!(drain(&mut deaf, now), []);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Run(Option<u64>),
        Viewers(u64),
        Target(bool),
        Cues(u64),
        Pass(u64),
        Read,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            proptest::option::of(0..3u64).prop_map(Step::Run),
            (0..4u64).prop_map(Step::Viewers),
            any::<bool>().prop_map(Step::Target),
            (1..5u64).prop_map(Step::Cues),
            (0..9_000u64).prop_map(Step::Pass),
            Just(Step::Read),
        ]
    }

    proptest! {
        #[test]
        fn a_reader_hears_only_what_it_asked_for_and_ends_up_with_the_truth(
            kinds in 0..64u8,
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let kinds = Kinds(kinds);
            let mut stream = Stream::new(kinds, None);
            let (mut now, mut truth, mut next_cue) = (Instant::now(), State::default(), 1);
            let mut heard: Vec<(Instant, Event)> = Vec::new();
            for step in steps {
                match step {
                    Step::Run(counter) => { truth.run = counter.map(run); stream.set_run(truth.run); }
                    Step::Viewers(count) => { truth.viewers = Some(count); stream.set_viewers(count); }
                    Step::Target(first) => {
                        let url = if first { "https://a/" } else { "https://b/" };
                        truth.target = Some(url.into());
                        stream.set_target(url);
                    }
                    Step::Cues(count) => {
                        stream.set_cues(&cues(next_cue..next_cue + count));
                        next_cue += count;
                    }
                    Step::Pass(millis) => now += Duration::from_millis(millis),
                    Step::Read => heard.extend(drain(&mut stream, now).into_iter().map(|event| (now, event))),
                }
            }
            now += VIEWER_COUNT_INTERVAL;
            heard.extend(drain(&mut stream, now).into_iter().map(|event| (now, event)));
            prop_assert!(heard.iter().all(|(_, event)| kinds.contains(event.kind())));
            let numbers = heard.iter().filter_map(|(_, event)| match event {
                Event::Cue(cue) => Some(cue.number),
                _ => None,
            });
            let numbers: Vec<u64> = numbers.collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
            if kinds.contains(Kind::Cue) {
                prop_assert_eq!(numbers.last().copied().unwrap_or(0), next_cue - 1);
            }
            let words: Vec<&Event> =
                heard.iter().map(|(_, event)| event).filter(|event| event.kind() <= Kind::Inactive).collect();
            if kinds.contains(Kind::Active) && kinds.contains(Kind::Inactive) {
                prop_assert_ne!(words.first(), Some(&&Event::Inactive));
                let is_live = truth.run.is_some();
                prop_assert_eq!(words.last().is_some_and(|word| **word == Event::Active), is_live);
            }
            prop_assert!(!words.windows(2).any(|pair| kinds.contains(Kind::Active) && pair == [&Event::Inactive; 2]));
            let counts: Vec<Instant> = heard.iter().filter(|(_, e)| e.kind() == Kind::ViewerCount).map(|(at, _)| *at).collect();
            prop_assert!(counts.windows(2).all(|pair| pair[1] - pair[0] >= VIEWER_COUNT_INTERVAL));
            let last = |kind| heard.iter().rev().map(|(_, event)| event).find(|event| event.kind() == kind).cloned();
            if kinds.contains(Kind::ViewerCount) {
                prop_assert_eq!(last(Kind::ViewerCount), truth.viewers.map(Event::ViewerCount));
            }
            if kinds.contains(Kind::Reconnect) {
                prop_assert_eq!(last(Kind::Reconnect), truth.target.map(Event::Reconnect));
            }
        }

        #[test]
        fn no_list_panics(content_type in proptest::option::of(".{0,20}"), body in ".{0,80}|[\\[\\]\",a-z]{0,40}") {
            let _ = Kinds::parse(content_type.as_deref(), &body);
        }
    }
}
