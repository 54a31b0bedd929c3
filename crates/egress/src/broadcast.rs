//! A broadcast as the shard serves it: its streams, and who watches.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use media_core::ring::Limits;
use media_core::svc;
use model::{Broadcast, BroadcastId, Kind, Rid, Ssrc};

use crate::controller::LayerNow;
use crate::format;
use crate::record::{OutTrack, Selection};
use crate::stream::Stream;
use crate::track::Source;
use crate::trains::Held;

/// The viewer negotiated no format that could carry the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotNegotiated;

/// A layer that has come again is up with the others once it is no further behind: as old as a keyframe that is as good as one
/// that comes may be. All layers of a picture are captured at one time.
const BEHIND_PICTURE: Duration = Duration::from_millis(100);
/// The same where only sound comes: encoders take longer for a picture.
const BEHIND_SOUND: Duration = Duration::from_millis(300);

/// One broadcast.
pub struct Fan {
    /// What injection announced last; without tracks while it is not known.
    pub broadcast: Broadcast,
    /// Whether it was announced, and not taken back since.
    pub is_known: bool,
    pub streams: Vec<Stream>,
    /// Whether the picture has more than one layer.
    pub is_layered: bool,
    /// Which of its layers are active, which steady, and which up with the others, when that was last looked at.
    pub active: Vec<(bool, bool, bool)>,
    /// When to say again which of its layers are needed.
    pub needs_at: Option<Instant>,
    /// Packets that wait for their train.
    pub held: Held,
    /// Slots of its viewers.
    pub viewers: Vec<usize>,
}

impl Fan {
    pub fn new(id: &BroadcastId) -> Self {
        Self {
            broadcast: Broadcast::waiting(id.clone()),
            is_known: false,
            streams: Vec::new(),
            is_layered: false,
            active: Vec::new(),
            needs_at: None,
            held: Held::default(),
            viewers: Vec::new(),
        }
    }

    /// Takes over what was announced. Streams that go on keep their ring.
    pub fn change(&mut self, now: Instant, broadcast: &Broadcast, limits: Limits) {
        let mut before: BTreeMap<Ssrc, Stream> =
            std::mem::take(&mut self.streams).into_iter().map(|stream| (stream.ssrc, stream)).collect();
        for track in &broadcast.tracks {
            self.streams.extend(track.layers.iter().zip(0..).map(|(layer, place)| {
                let known = before.remove(&layer.ssrc);
                let mut stream = known.unwrap_or_else(|| Stream::new(now, layer.ssrc, track.codec, limits));
                stream.layer = place;
                stream.is_alone = track.layers.len() == 1;
                stream
            }));
        }
        self.is_layered = broadcast.track(Kind::Video).is_some_and(|track| track.layers.len() > 1);
        self.active.clear();
        self.broadcast = broadcast.clone();
        self.is_known = true;
    }

    pub fn stream(&self, ssrc: Ssrc) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.ssrc == ssrc)
    }

    pub fn stream_mut(&mut self, ssrc: Ssrc) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.ssrc == ssrc)
    }

    /// Whether a stream that has come again is still behind the others of its broadcast: what comes is what a parent has
    /// kept, not live.
    pub fn is_behind(&self, now: Instant, stream: &Stream) -> bool {
        if !stream.may_catch_up(now) {
            return false;
        }
        let newest_of = |kind: Kind| {
            let others = self.streams.iter().filter(|other| other.ssrc != stream.ssrc && other.kind == kind);
            others.filter(|other| other.comes(now)).filter_map(|other| Some(other.newest?.capture_time)).max()
        };
        let picture = newest_of(Kind::Video).map(|newest| (newest, BEHIND_PICTURE));
        let live = picture.or_else(|| newest_of(Kind::Audio).map(|newest| (newest, BEHIND_SOUND)));
        let own = stream.newest.map(|newest| newest.capture_time);
        own.zip(live).is_some_and(|(own, (live, most))| live.saturating_since(own) > most)
    }

    /// As [`Stream::fresh_keyframe`], of a stream that is not behind.
    pub fn fresh_keyframe(&self, now: Instant, ssrc: Ssrc) -> Option<Duration> {
        let stream = self.stream(ssrc)?;
        stream.fresh_keyframe(now).filter(|_| !self.is_behind(now, stream))
    }

    /// The stream of the picture, where that has several points: it is the only one.
    pub fn divided(&self) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.kind == Kind::Video && stream.points() > 1)
    }

    /// Whether there is a layer to choose: one of several streams, or a part of a single one.
    pub fn has_choice(&self) -> bool {
        self.is_layered || self.divided().is_some()
    }

    /// The layer that a track follows: where its stream stands now if it is still there, else the place that it had, as far
    /// as there are so many. Unchanged while there are none, and where it `is_part` of a stream that goes on.
    pub fn layer(&self, kind: Kind, followed: Option<Ssrc>, (layer, is_part): (u8, bool)) -> u8 {
        let Some(track) = self.broadcast.track(kind) else { return layer };
        match track.layers.iter().position(|layer| Some(layer.ssrc) == followed) {
            Some(_) if is_part && track.layers.len() == 1 => layer,
            Some(place) => place as u8,
            None => layer.min(track.layers.len().saturating_sub(1) as u8),
        }
    }

    /// The layer that a selection means, unless it leaves the choice or names one that there is not.
    pub fn pinned(&self, selection: &Selection) -> Option<u8> {
        let layers = &self.broadcast.track(Kind::Video)?.layers;
        let count = self.divided().map_or(layers.len() as u8, Stream::points);
        match selection {
            Selection::Auto | Selection::UpTo(_) => None,
            Selection::Layer(layer) => Some((*layer).min(count.saturating_sub(1))),
            Selection::Rid(rid) => self.named(rid),
        }
    }

    /// The best layer that a selection allows: all of them, unless it says otherwise and names one that there is.
    pub fn best(&self, selection: &Selection) -> u8 {
        match selection {
            Selection::UpTo(rid) => self.named(rid).unwrap_or(0),
            Selection::Auto | Selection::Layer(_) | Selection::Rid(_) => 0,
        }
    }

    fn named(&self, rid: &Rid) -> Option<u8> {
        if let Some(stream) = self.divided() {
            return (0..stream.points()).find(|index| point_name(stream.point(*index)).as_ref() == Some(rid));
        }
        let layers = &self.broadcast.track(Kind::Video)?.layers;
        layers.iter().position(|layer| layer.rid.as_ref() == Some(rid)).map(|place| place as u8)
    }

    /// The layers of the picture as they are now, as many as there is room for.
    pub fn layers_now<'a>(&mut self, now: Instant, room: &'a mut [LayerNow]) -> &'a mut [LayerNow] {
        if let Some(stream) =
            self.streams.iter_mut().find(|stream| stream.kind == Kind::Video && stream.points() > 1)
        {
            let (is_active, is_steady) = (stream.is_active(now), stream.is_steady(now));
            let points = stream.points();
            for (index, layer) in (0..points).zip(&mut *room) {
                *layer = LayerNow { rate: stream.point_rate(now, index), is_active, is_steady };
            }
            let count = usize::from(points).min(room.len());
            return &mut room[..count];
        }
        let mut count = 0;
        let videos = self.streams.iter_mut().filter(|stream| stream.kind == Kind::Video);
        for (stream, layer) in videos.zip(&mut *room) {
            let (is_active, is_steady) = (stream.is_active(now), stream.is_steady(now));
            *layer = LayerNow { rate: stream.rate(now), is_active, is_steady };
            count += 1;
        }
        &mut room[..count]
    }

    /// What a track that follows `layer` gets its packets from; the worst layer where there are not so many. The one
    /// place where a source is chosen.
    pub fn source(&self, kind: Kind, layer: u8, out: &OutTrack) -> Result<Option<Source>, NotNegotiated> {
        let Some(track) = self.broadcast.track(kind) else { return Ok(None) };
        let Some(layer) = track.layers.get(usize::from(layer)).or(track.layers.last()) else {
            return Ok(None);
        };
        let format = format::choose(&out.formats, track.codec, &track.fmtp).ok_or(NotNegotiated)?;
        Ok(Some(Source::new(layer.ssrc, track.codec, format.payload_type)))
    }
}

/// What a point of a stream is called: publishers have no names for them.
pub fn point_name(point: svc::Layer) -> Option<Rid> {
    Rid::new(&format!("s{}t{}", point.spatial, point.temporal)).ok()
}
