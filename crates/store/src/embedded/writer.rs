//! The thread that writes the file: writes that wait together are synchronised together.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::log::{Change, Log};
use crate::{ANSWER_WITHIN, Unavailable};

/// Writes that wait for the disk at the same time.
const WAITING_MAX: usize = 1024;
/// Writes that are synchronised together.
const BATCH_MAX: usize = 256;
/// How often it is tried to write what could not be written.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

type Outcome = Result<(), String>;

/// A change, and who waits for it.
#[derive(Debug)]
struct Job {
    change: Change,
    done: oneshot::Sender<Outcome>,
}

/// Hands changes to the thread. Dropping it waits until all are written.
#[derive(Debug)]
pub struct Writer {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(log: Log) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let thread =
            std::thread::Builder::new().name("store-file".into()).spawn(move || run(log, &waiting))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a change behind those before it.
    ///
    /// # Errors
    /// If too many wait already; then nothing happened.
    pub fn write(&self, change: Change) -> Result<Receipt, Unavailable> {
        let (done, receipt) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(|| Unavailable::File("closed".into()))?;
        let queued = jobs.try_send(Job { change, done });
        queued.map_err(|_| Unavailable::File(format!("{WAITING_MAX} writes wait for the disk")))?;
        Ok(Receipt(receipt))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the store file ended by a panic");
        }
    }
}

/// Tells when a change is on the disk.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Outcome>);

impl Receipt {
    /// Waits until the change is on the disk.
    ///
    /// # Errors
    /// If it could not be written in time.
    pub async fn written(self) -> Result<(), Unavailable> {
        match tokio::time::timeout(ANSWER_WITHIN, self.0).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(reason))) => Err(Unavailable::File(reason)),
            Ok(Err(_)) => Err(Unavailable::File("closed".into())),
            Err(_) => Err(Unavailable::TimedOut { within: ANSWER_WITHIN }),
        }
    }
}

fn run(mut log: Log, jobs: &Receiver<Job>) {
    let mut was_written = true;
    loop {
        // What could not be written is tried again though nothing else is to be written.
        let first = if was_written {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            jobs.recv_timeout(RETRY_INTERVAL)
        };
        let is_over = matches!(first, Err(RecvTimeoutError::Disconnected));
        if is_over && was_written {
            return;
        }
        let batch = first.into_iter().chain(jobs.try_iter()).take(BATCH_MAX);
        let (changes, waiting): (Vec<_>, Vec<_>) = batch.map(|job| (job.change, job.done)).unzip();
        let outcome = log.append(&changes).map_err(|error| error.to_string());
        match (&outcome, was_written) {
            (Err(error), true) => {
                tracing::error!(%error, "the store file cannot be written; what changes is in memory only until it can be");
            }
            (Ok(()), false) => tracing::info!("the store file is written again, with all that has changed"),
            (Ok(()), true) | (Err(_), false) => {}
        }
        was_written = outcome.is_ok();
        for done in waiting {
            // Who gave up waiting needs no answer.
            let _ = done.send(outcome.clone());
        }
        if is_over {
            return;
        }
    }
}
