//! A screen for GStreamer: sees when pictures are due, and what time their code says.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::clip::{self, CODE_BLOCKS, FRAME_RATE};
use crate::probe::Samples;

/// Of the pictures that GStreamer hands over: the middle one of three pixels has nothing of another block in it. GStreamer
/// fills rows up to a multiple of four.
const WIDTH: usize = CODE_BLOCKS * 3;
const _: () = assert!(WIDTH.is_multiple_of(4));
const HEIGHT: usize = 36;
/// In the middle of the code, which is a twelfth of the height.
const ROW: usize = HEIGHT / 24;
/// As many codes a second tell as much as those of every picture, in ms.
const CODE_INTERVAL: f64 = 200.0;
/// As WebRTC's statistics define a freeze, in ms.
const PICTURE: f64 = 1000.0 / FRAME_RATE as f64;
const FREEZE: f64 = PICTURE + 150.0;

/// Looks as long as it lives.
pub struct Screen {
    fifo: PathBuf,
    shown: Arc<Mutex<Shown>>,
    looking: JoinHandle<()>,
    _folder: TempDir,
}

/// What was on it; times in ms since 1970.
#[derive(Debug, Default)]
struct Shown {
    pictures: u64,
    last: Option<f64>,
    /// Since it was taken.
    samples: Samples,
    /// Pictures since it was armed, and when the first of them came.
    since: u32,
    resumed: Option<f64>,
}

impl Screen {
    /// A dark one.
    ///
    /// # Errors
    /// If there is no way to hand pictures over.
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the screen")?;
        let fifo = folder.path().join("pictures");
        let made = Command::new("mkfifo").arg(&fifo).status().context("mkfifo")?;
        ensure!(made.success(), "mkfifo failed");
        // Opened for both, it does not end where nobody writes yet.
        let pictures = pipe::OpenOptions::new().read_write(true).open_receiver(&fifo).context("open it")?;
        let shown = Arc::default();
        let looking = tokio::spawn(look(pictures, Arc::clone(&shown)));
        Ok(Self { fifo, shown, looking, _folder: folder })
    }

    /// The end of a pipeline that shows its pictures here when they are due.
    #[must_use]
    pub fn sink(&self) -> String {
        format!(
            "videoscale method=nearest-neighbour ! video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT} ! \
             filesink location={} buffer-mode=unbuffered sync=true",
            self.fifo.display()
        )
    }

    /// Pictures that it has shown.
    #[must_use]
    pub fn pictures(&self) -> u64 {
        lock(&self.shown).pictures
    }

    /// What was seen since the last time; a freeze that still lasts is one.
    #[must_use]
    pub fn take(&self) -> Samples {
        let mut shown = lock(&self.shown);
        shown.note_gap(now());
        std::mem::take(&mut shown.samples)
    }

    /// From now on a picture is waited for.
    pub fn arm(&self) {
        let mut shown = lock(&self.shown);
        (shown.since, shown.resumed) = (0, None);
    }

    /// When the first picture since [`Screen::arm`] came, as soon as there were so many.
    #[must_use]
    pub fn resumed(&self, pictures: u32) -> Option<SystemTime> {
        let shown = lock(&self.shown);
        let at = shown.resumed.filter(|_| shown.since >= pictures)?;
        Some(UNIX_EPOCH + Duration::from_secs_f64(at / 1000.0))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(mut pictures: pipe::Receiver, shown: Arc<Mutex<Shown>>) {
    let mut picture = vec![0; WIDTH * HEIGHT];
    while pictures.read_exact(&mut picture).await.is_ok() {
        let row = std::array::from_fn(|block| picture[ROW * WIDTH + block * 3 + 1]);
        lock(&shown).show(now(), clip::time_of_row(&row));
    }
}

/// In ms since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().expect("no panic while it is held")
}

impl Shown {
    fn show(&mut self, now: f64, code: Option<u64>) {
        self.pictures += 1;
        self.since += 1;
        self.resumed.get_or_insert(now);
        self.note_gap(now);
        self.last = Some(now);
        let is_due = self.samples.codes.last().is_none_or(|(last, _)| now - last >= CODE_INTERVAL);
        if let Some(code) = code.filter(|_| is_due) {
            self.samples.codes.push((now, code as f64));
        }
    }

    /// Notes the gap since the last picture, if it is a freeze.
    fn note_gap(&mut self, now: f64) {
        let Some(last) = self.last.filter(|last| now - last > FREEZE) else { return };
        self.samples.freezes += 1;
        self.samples.frozen_ms += now - last - PICTURE;
        // What is left of it is another one.
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::until;

    #[tokio::test]
    async fn pictures_are_counted_read_and_missed() -> anyhow::Result<()> {
        let screen = Screen::new()?;
        let picture: Vec<u8> = {
            let row: Vec<u8> = clip::code_row(5033).iter().flat_map(|pixel| [*pixel; 3]).collect();
            row.iter().copied().cycle().take(WIDTH * HEIGHT).collect()
        };
        let mut source = pipe::OpenOptions::new().open_sender(&screen.fifo)?;
        tokio::io::AsyncWriteExt::write_all(&mut source, &picture.repeat(2)).await?;
        until("both were shown", async || Ok(screen.pictures() == 2)).await?;
        assert_eq!(screen.resumed(3), None, "there were two");
        assert!(screen.resumed(2).is_some());
        assert_eq!(screen.take().codes.first().map(|(_, code)| *code), Some(5033.0));
        screen.arm();
        assert_eq!((screen.resumed(1), screen.pictures()), (None, 2));
        Ok(())
    }

    #[test]
    fn a_pause_is_a_freeze() {
        let mut shown = Shown::default();
        for now in [1000.0, 1033.0, 1180.0, 1400.0, 1433.0] {
            shown.show(now, Some(5033));
        }
        assert_eq!(shown.samples.freezes, 1, "of 220 ms");
        assert!((shown.samples.frozen_ms - 186.7).abs() < 0.1, "{}", shown.samples.frozen_ms);
        assert_eq!(shown.samples.codes, [(1000.0, 5033.0), (1400.0, 5033.0)], "one in 200 ms");
        shown.note_gap(1600.0);
        assert_eq!(shown.samples.freezes, 1, "not yet");
        shown.note_gap(1700.0);
        assert_eq!(shown.samples.freezes, 2, "it lasts");
    }
}
