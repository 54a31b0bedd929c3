//! The built-in clip and its publisher: ten seconds of moving picture and sound, looped without a seam.
//!
//! Made by `cargo xtask demo-clip`. A recorded clip cannot answer a keyframe request; it has a keyframe every two
//! seconds.

use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::{Codec, Kind};

use crate::error::Ending;
use crate::h264::{self, AccessUnit};
use crate::ogg;
use crate::whip::{Options, Outgoing, Whip, WhipPeer};

/// How long one turn of the clip takes.
pub const LENGTH: Duration = Duration::from_secs(10);
/// Pictures in a second.
pub const FRAME_RATE: u32 = 30;

/// Length of one Opus packet.
const SOUND_PACKET: Duration = Duration::from_millis(20);
/// Later than this (a suspended machine), the clock is set anew instead of catching up in a burst.
const LATENESS_MAX: Duration = Duration::from_millis(500);
/// Pause before the first attempt to reconnect; doubled with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a goodbye may take at shutdown.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// The clip, cut into what RTP carries.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Pictures, [`FRAME_RATE`] a second.
    pub pictures: Vec<AccessUnit>,
    /// Opus packets of 20 ms.
    pub sounds: Vec<Bytes>,
}

impl Clip {
    /// The clip that is part of the program.
    #[must_use]
    pub fn built_in() -> Self {
        let video = Bytes::from_static(include_bytes!("../assets/demo.h264"));
        let sound = Bytes::from_static(include_bytes!("../assets/demo.ogg"));
        let mut sounds = ogg::opus_packets(&sound).expect("a test parses the built-in sound");
        sounds.truncate((LENGTH.as_millis() / SOUND_PACKET.as_millis()) as usize);
        Self { pictures: h264::access_units(&video), sounds }
    }

    /// Everything of one turn in order of time.
    fn schedule(&self) -> Vec<Cue> {
        let picture =
            |index| Cue { at: Duration::from_secs(1) * index as u32 / FRAME_RATE, kind: Kind::Video, index };
        let sound = |index| Cue { at: SOUND_PACKET * index as u32, kind: Kind::Audio, index };
        let pictures = (0..self.pictures.len()).map(picture);
        let mut cues: Vec<Cue> = pictures.chain((0..self.sounds.len()).map(sound)).collect();
        cues.sort_by_key(|cue| cue.at);
        cues
    }
}

/// One picture or sound packet and when it is due, from the start of the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cue {
    at: Duration,
    kind: Kind,
    index: usize,
}

/// Keeps the clip on air at the WHIP endpoint `url` until `shutdown` is ready; reconnects by itself.
pub async fn publish(url: &str, token: Option<&str>, shutdown: impl Future<Output = ()>) {
    let clip = Clip::built_in();
    let mut shutdown = pin!(shutdown);
    let mut pause = PAUSE_FIRST;
    loop {
        let connecting = Whip::connect(url, token, &[Codec::Opus, Codec::H264], Options::default());
        let connected = tokio::select! {
            () = &mut shutdown => return,
            connected = connecting => connected,
        };
        match connected {
            Ok(session) => {
                tracing::info!("demo clip on air");
                pause = PAUSE_FIRST;
                let ending = tokio::select! {
                    () = &mut shutdown => None,
                    ending = play(&clip, &session) => Some(ending),
                };
                let Some(ending) = ending else {
                    // Whether the server hears it or not, the program ends.
                    let _ = tokio::time::timeout(GOODBYE_MAX, session.close()).await;
                    return;
                };
                tracing::info!(%ending, "demo clip off air");
            }
            Err(error) => tracing::warn!(%error, "demo clip cannot be published"),
        }
        tokio::select! {
            () = &mut shutdown => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Plays the clip over and over; timestamps run on from turn to turn.
///
/// Returns how the session ended, which is the only way this ends.
pub async fn play(clip: &Clip, session: &WhipPeer) -> Ending {
    let cues = clip.schedule();
    let mut started = Instant::now();
    let mut turn = 0u32;
    loop {
        for cue in &cues {
            let due = started + LENGTH * turn + cue.at;
            tokio::time::sleep_until(due.into()).await;
            let late = due.elapsed();
            if late > LATENESS_MAX {
                started += late;
            }
            if let Err(ending) = send(clip, session, turn, *cue, due).await {
                return ending;
            }
        }
        turn += 1;
    }
}

async fn send(clip: &Clip, session: &WhipPeer, turn: u32, cue: Cue, captured: Instant) -> Result<(), Ending> {
    let (payloads, timestamp) = match cue.kind {
        Kind::Video => (
            clip.pictures[cue.index].payloads(),
            timestamp(turn, clip.pictures.len(), cue.index, Codec::H264.clock_rate() / FRAME_RATE),
        ),
        Kind::Audio => (
            vec![clip.sounds[cue.index].clone()],
            timestamp(turn, clip.sounds.len(), cue.index, Codec::Opus.clock_rate() / 50),
        ),
    };
    let last = payloads.len() - 1;
    for (position, payload) in payloads.into_iter().enumerate() {
        let marker = cue.kind == Kind::Video && position == last;
        session.send(Outgoing { kind: cue.kind, rid: None, timestamp, marker, captured, payload }).await?;
    }
    Ok(())
}

/// RTP timestamp of a sample; wraps as RTP timestamps do.
fn timestamp(turn: u32, samples_per_turn: usize, index: usize, ticks: u32) -> u32 {
    turn.wrapping_mul(samples_per_turn as u32).wrapping_add(index as u32).wrapping_mul(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clip_is_ten_seconds_of_picture_and_sound_with_a_keyframe_every_two() {
        let clip = Clip::built_in();
        assert_eq!(clip.pictures.len(), 300);
        assert_eq!(clip.sounds.len(), 500);
        let keyframes: Vec<usize> = clip
            .pictures
            .iter()
            .enumerate()
            .filter(|(_, unit)| unit.is_keyframe())
            .map(|(at, _)| at)
            .collect();
        assert_eq!(keyframes, [0, 60, 120, 180, 240]);
    }

    #[test]
    fn the_clip_fits_its_budget() {
        let clip = Clip::built_in();
        let picture: usize =
            clip.pictures.iter().flat_map(AccessUnit::payloads).map(|payload| payload.len()).sum();
        let sound: usize = clip.sounds.iter().map(Bytes::len).sum();
        let kilobits = |bytes: usize| bytes * 8 / 10_000;
        assert!((200..500).contains(&kilobits(picture)), "{} kbit/s of picture", kilobits(picture));
        assert!((32..80).contains(&kilobits(sound)), "{} kbit/s of sound", kilobits(sound));
    }

    #[test]
    fn timestamps_run_on_over_the_seam() {
        assert_eq!(timestamp(0, 300, 299, 3000) + 3000, timestamp(1, 300, 0, 3000));
        assert_eq!(timestamp(1, 300, 0, 3000), 90_000 * LENGTH.as_secs() as u32);
        assert_eq!(timestamp(1, 500, 0, 960), 48_000 * LENGTH.as_secs() as u32);
        assert_eq!(timestamp(9000, 500, 0, 960), 25_032_704);
    }

    #[test]
    fn a_turn_is_scheduled_in_order_of_time() {
        let cues = Clip::built_in().schedule();
        assert_eq!(cues.len(), 800);
        assert!(cues.is_sorted_by_key(|cue| cue.at));
        assert_eq!(cues[0].at, Duration::ZERO);
        assert_eq!(cues[799].at, Duration::from_millis(9980));
    }
}
