//! Publishers with synthetic media: H264 that is packetised as an encoder's is, and sound of the right size.

mod synthetic;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use client::{Ending, Outgoing, Whip, WhipSession, whip};
use model::{Bitrate, Codec, Kind, NtpTime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Error;
use synthetic::{Encoder, SOUND_INTERVAL};

/// A publisher this late (a suspended machine) goes on from now instead of catching up in a burst.
const LATENESS_MAX: Duration = Duration::from_millis(500);
/// The share of a frame interval over which its packets are spread.
const PACED_SHARE: f64 = 0.8;
/// A requested keyframe comes no sooner than this after another.
const KEYFRAME_PAUSE: Duration = Duration::from_millis(500);
/// How long goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// How the packets of a frame leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// All at once, as most encoders hand them over.
    Burst,
    /// Spread over most of the frame interval.
    Paced,
}

/// What is published.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// WHIP endpoints, a broadcast for each.
    pub urls: Vec<String>,
    /// Bearer token.
    pub token: Option<String>,
    /// Of the video.
    pub bitrate: Bitrate,
    /// Frames a second.
    pub frame_rate: f64,
    /// How the packets of a frame leave.
    pub pacing: Pacing,
    /// Opus, 50 packets a second.
    pub has_audio: bool,
    /// From keyframe to keyframe.
    pub keyframe_interval: Duration,
    /// Keyframe requests are not answered, as by OBS.
    pub ignores_keyframe_requests: bool,
}

/// Running publishers.
pub(crate) struct Publishers {
    tasks: JoinSet<Option<Ending>>,
    stop: watch::Sender<bool>,
}

impl Publishers {
    /// Connects one after the other.
    ///
    /// # Errors
    /// [`Error::Publish`] if one cannot.
    pub(crate) async fn start(options: &Options) -> Result<Self, Error> {
        let (stop, _) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (index, url) in options.urls.iter().enumerate() {
            let codecs: &[Codec] =
                if options.has_audio { &[Codec::Opus, Codec::H264] } else { &[Codec::H264] };
            let connected =
                Whip::connect(url, options.token.as_deref(), codecs, whip::Options::default()).await;
            let session = connected.map_err(|reason| Error::Publish { url: url.clone(), reason })?;
            // Several publishers take turns, as unrelated ones would.
            let interval = Duration::from_secs_f64(1.0 / options.frame_rate);
            let start = Instant::now() + interval.mul_f64(index as f64 / options.urls.len() as f64);
            tasks.spawn(publish(session, options.clone(), start, index as u64, stop.subscribe()));
        }
        Ok(Self { tasks, stop })
    }

    /// Ends all; those that had ended by themselves are told by reason.
    pub(crate) async fn stop(mut self) -> BTreeMap<String, u64> {
        // A publisher that has ended does not listen.
        let _ = self.stop.send(true);
        let mut ended = BTreeMap::new();
        while let Some(ending) = self.tasks.join_next().await {
            let reason = match ending {
                Ok(None) => continue,
                Ok(Some(ending)) => ending.to_string(),
                Err(_) => "the publisher panicked".to_owned(),
            };
            *ended.entry(reason).or_insert(0) += 1;
        }
        ended
    }
}

async fn publish(
    session: WhipSession,
    options: Options,
    start: Instant,
    seed: u64,
    mut stop: watch::Receiver<bool>,
) -> Option<Ending> {
    let ending = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => None,
        ending = pictures(&session, &options, start, seed) => Some(ending),
        ending = sounds(&session, start), if options.has_audio => Some(ending),
    };
    // Whether the server hears it or not, the publisher is gone.
    let _ = tokio::time::timeout(GOODBYE_MAX, session.close()).await;
    ending
}

/// Sends frames until the session ends.
async fn pictures(session: &WhipSession, options: &Options, start: Instant, seed: u64) -> Ending {
    let mut encoder = Encoder::new(options.bitrate, options.frame_rate, options.keyframe_interval, seed);
    let interval = Duration::from_secs_f64(1.0 / options.frame_rate);
    let mut clock = Clock { start, frames: 0, interval };
    let mut answered = 0;
    let mut keyframe_at = start;
    loop {
        let due = clock.next().await;
        let requested = session.keyframe_requests();
        let is_asked = requested > answered && !options.ignores_keyframe_requests;
        if is_asked && due.saturating_duration_since(keyframe_at) >= KEYFRAME_PAUSE {
            encoder.force_keyframe();
            answered = requested;
        }
        let (is_keyframe, packets) = encoder.frame();
        if is_keyframe {
            keyframe_at = due;
        }
        let timestamp = (clock.media_time().as_secs_f64() * 90_000.0).round() as u64 as u32;
        let count = packets.len();
        for (index, mut payload) in packets.into_iter().enumerate() {
            if options.pacing == Pacing::Paced && index > 0 {
                let at = due + interval.mul_f64(PACED_SHARE * index as f64 / count as f64);
                tokio::time::sleep_until(at.into()).await;
            }
            synthetic::stamp(&mut payload, wallclock());
            let packet = outgoing(Kind::Video, timestamp, index + 1 == count, due, payload);
            if let Err(ending) = session.send(packet).await {
                return ending;
            }
        }
    }
}

/// Sends sound until the session ends.
async fn sounds(session: &WhipSession, start: Instant) -> Ending {
    let mut clock = Clock { start, frames: 0, interval: SOUND_INTERVAL };
    loop {
        let due = clock.next().await;
        let timestamp = (clock.media_time().as_millis() * 48) as u32;
        let payload = synthetic::sound(wallclock());
        if let Err(ending) = session.send(outgoing(Kind::Audio, timestamp, false, due, payload)).await {
            return ending;
        }
    }
}

fn outgoing(kind: Kind, timestamp: u32, marker: bool, due: Instant, payload: Vec<u8>) -> Outgoing {
    // Captured when it was due, but never in the future: a timer may be early by less than its resolution.
    let captured = due.min(Instant::now());
    Outgoing { kind, rid: None, timestamp, marker, captured, payload: Bytes::from(payload) }
}

fn wallclock() -> NtpTime {
    NtpTime::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Ticks at equal intervals, counted in frames so that nothing drifts.
struct Clock {
    start: Instant,
    frames: u32,
    interval: Duration,
}

impl Clock {
    /// Waits for the next tick.
    async fn next(&mut self) -> Instant {
        let due = self.start + self.media_time();
        self.frames += 1;
        tokio::time::sleep_until(due.into()).await;
        let late = due.elapsed();
        if late > LATENESS_MAX {
            self.start += late;
        }
        due
    }

    /// Of the tick to come, or of the last one plus an interval.
    fn media_time(&self) -> Duration {
        self.interval.mul_f64(f64::from(self.frames))
    }
}
