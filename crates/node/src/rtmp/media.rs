//! From coded media to tree packets: pictures are cut into payloads, sound becomes Opus.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ingest::{Encoded, Identity, Output, Payload, Stats};
use model::{Bitrate, Codec, Kind, MediaTime, NtpTime, Track};
use packetize::{Picture, Video};
use rtmp::flv::{AudioBody, AudioCodec, VideoBody};
use transcode::{Audio, Source};

/// What fits every path with the headers of a viewer's packet: as much as browsers send.
const PAYLOAD_BYTES_MAX: usize = 1200;
/// Of sound; transparent for stereo.
const AUDIO_BITRATE: Bitrate = Bitrate::kbps(128);
/// A publisher that has sent one of sound and picture for so long sends no other.
const OTHER_WITHIN: Duration = Duration::from_secs(1);
/// Payloads that wait until it is known what is published: a second of 50 Mbit/s.
const WAITING_MAX: usize = 8192;

/// The media of one publisher.
pub(super) struct Media {
    video: Video,
    audio: Audio,
    audio_source: Option<Source>,
    encoded: Encoded,
    /// What came before it is known what is published.
    waiting: Vec<(Instant, NtpTime, Payload)>,
    first_at: Option<Instant>,
    announced: Vec<Track>,
    outputs: Vec<Output>,
}

impl Media {
    pub fn new(identity: Identity) -> Self {
        Self {
            video: Video::new(PAYLOAD_BYTES_MAX),
            audio: Audio::new(AUDIO_BITRATE),
            audio_source: None,
            encoded: Encoded::new(identity),
            waiting: Vec::new(),
            first_at: None,
            announced: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Takes something of the picture.
    ///
    /// # Errors
    /// In words for the encoder's owner, if it cannot be taken.
    pub fn video(
        &mut self,
        now: Instant,
        wallclock: NtpTime,
        (time, codec): (MediaTime, Codec),
        body: VideoBody,
    ) -> anyhow::Result<()> {
        match body {
            VideoBody::Config(record) => {
                self.video.configure(codec, record).context("the picture's configuration")?
            }
            VideoBody::Frame { composition_millis, is_keyframe, data } => {
                let picture = Picture { decode_time: time, composition_millis, is_keyframe, data };
                for packet in self.video.picture(picture)? {
                    let payload = Payload {
                        kind: Kind::Video,
                        timestamp: packet.timestamp,
                        time: time.plus_micros(i64::from(composition_millis) * 1000),
                        marker: packet.marker,
                        starts_keyframe: packet.starts_keyframe,
                        bytes: packet.payload,
                    };
                    self.push(now, wallclock, payload)?;
                }
            }
            VideoBody::End => {}
        }
        Ok(())
    }

    /// Takes something of the sound.
    ///
    /// # Errors
    /// As [`Media::video`].
    pub fn audio(
        &mut self,
        now: Instant,
        wallclock: NtpTime,
        (time, codec): (MediaTime, AudioCodec),
        body: AudioBody,
    ) -> anyhow::Result<()> {
        let source = match codec {
            AudioCodec::Aac => Source::Aac,
            AudioCodec::Mp3 => Source::Mp3,
            AudioCodec::Opus => Source::Opus,
        };
        match body {
            AudioBody::Config(config) => {
                self.audio.configure(source, &config).context("the sound's configuration")?;
                self.audio_source = Some(source);
            }
            AudioBody::Frame(data) => {
                self.audio_source = Some(source);
                self.audio.push(source, time, data)?;
                while let Some(packet) = self.audio.poll() {
                    let payload = Payload {
                        kind: Kind::Audio,
                        timestamp: packet.timestamp,
                        time: packet.time,
                        marker: packet.marker,
                        starts_keyframe: false,
                        bytes: packet.payload,
                    };
                    self.push(now, wallclock, payload)?;
                }
            }
            AudioBody::End => {}
        }
        Ok(())
    }

    /// Takes a caption.
    pub fn caption(&mut self, captured: NtpTime, text: &str, language: Option<&str>) {
        let document = signaling::cue::caption(text, language).into_bytes();
        self.outputs.push(Output::Cue { captured, document });
    }

    fn push(&mut self, now: Instant, wallclock: NtpTime, payload: Payload) -> anyhow::Result<()> {
        let first_at = *self.first_at.get_or_insert(now);
        self.waiting.push((now, wallclock, payload));
        anyhow::ensure!(self.waiting.len() <= WAITING_MAX, "too much media before both tracks are known");
        let has_both = self.video.codec().is_some() && self.audio_source.is_some();
        if !self.announced.is_empty() || has_both || now >= first_at + OTHER_WITHIN {
            self.release();
        }
        Ok(())
    }

    /// Announces what is published, as far as that is new, and makes packets of what waited.
    fn release(&mut self) {
        let is_sent = |kind| self.waiting.iter().any(|(_, _, payload)| payload.kind == kind);
        let video = self.video.codec().filter(|_| self.has(Kind::Video) || is_sent(Kind::Video));
        let audio = self.audio_source.map(|_| Codec::Opus);
        let codecs: Vec<Codec> = audio.into_iter().chain(video).collect();
        let keyframe = self.waiting.iter().find(|(_, _, payload)| payload.starts_keyframe);
        let is_new = !self.announced.iter().map(|track| track.codec).eq(codecs.iter().copied());
        if is_new || keyframe.is_some() {
            let tracks = self.encoded.tracks(&codecs, keyframe.map(|(_, _, payload)| &*payload.bytes));
            if tracks != self.announced {
                self.announced.clone_from(&tracks);
                self.outputs.push(Output::Tracks(tracks));
            }
        }
        let waiting = std::mem::take(&mut self.waiting);
        for (now, wallclock, payload) in waiting {
            self.outputs.push(Output::Packet(self.encoded.packet(now, wallclock, payload)));
        }
    }

    fn has(&self, kind: Kind) -> bool {
        self.announced.iter().any(|track| track.kind() == kind)
    }

    /// When [`Media::take`] may have something though nothing came.
    pub fn due_at(&self) -> Option<Instant> {
        self.first_at.filter(|_| self.announced.is_empty()).map(|at| at + OTHER_WITHIN)
    }

    /// What the tree thread is to be handed.
    pub fn take(&mut self, now: Instant) -> Vec<Output> {
        if self.due_at().is_some_and(|due| due <= now) && !self.waiting.is_empty() {
            self.release();
        }
        std::mem::take(&mut self.outputs)
    }

    /// What became of its sound.
    pub const fn sound(&self) -> transcode::Stats {
        self.audio.stats()
    }

    /// What it has sent.
    pub fn stats(&mut self, now: Instant) -> Stats {
        self.encoded.stats(now)
    }
}
