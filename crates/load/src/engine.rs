//! A thread with its share of the viewers: their sockets, their timers, one poller.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use model::NtpTime;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::oneshot;
use udp_batch::{BATCH, ReceiveBatch, SendQueue, Socket};

use crate::timers::Timers;
use crate::turn::{Tally, Turn};
use crate::viewer::{Plan, Viewer};

const WAKER: Token = Token(usize::MAX);
/// Events taken at once.
const EVENTS_MAX: usize = 1024;
/// Batches read from one socket before others get their turn.
const BATCHES_A_TURN: usize = 4;
/// Commands that wait at most; whoever sends more waits too.
const COMMANDS_MAX: usize = 1024;
/// Commands taken before sockets get their turn: a join computes a key exchange.
const COMMANDS_A_TURN: usize = 16;

/// What a thread is told. Viewers are named by their number in the run.
pub(crate) enum Command {
    Join(u64, Box<Plan>, Socket),
    /// The viewer stops watching; accounts are closed, the session lives on until it is deleted.
    Leave(u64),
    /// Its session is deleted: the last word, and the socket is closed.
    Remove(u64),
    BeginWindow,
    EndWindow,
    /// Hands over what was counted. Open gaps are lost by now.
    Collect(oneshot::Sender<Collected>),
    Stop,
}

/// What a thread has counted in the whole run.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) tally: Tally,
    /// Viewers with video that never saw a whole keyframe.
    pub(crate) without_picture: u64,
}

/// What others may look at while it runs.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// RTP packets received so far.
    pub(crate) packets: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// A running thread. Ends with its value.
pub(crate) struct Engine {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    pub(crate) gauges: Arc<Gauges>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// # Errors
    /// If there is no poller or no thread to be had.
    pub(crate) fn start(index: usize, seed: u64) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (commands, receiver) = crossbeam_channel::bounded(COMMANDS_MAX);
        let gauges = Arc::new(Gauges::default());
        let mut worker = Worker {
            poll,
            commands: receiver,
            gauges: gauges.clone(),
            seats: Vec::new(),
            free: Vec::new(),
            slots: BTreeMap::new(),
            timers: Timers::default(),
            again: Vec::new(),
            window: None,
            tools: Tools {
                random: StdRng::seed_from_u64(seed ^ (index as u64).rotate_left(32)),
                out: SendQueue::new(),
                batch: ReceiveBatch::new(),
                buffer: Vec::new(),
                tally: Tally::default(),
            },
            without_picture: 0,
        };
        let thread =
            std::thread::Builder::new().name(format!("viewers-{index}")).spawn(move || worker.run())?;
        Ok(Self { commands, waker, gauges, thread: Some(thread) })
    }

    /// Tells it something; waits where very much is waiting.
    pub(crate) fn send(&self, command: Command) {
        // A thread that has ended has nothing to be told.
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Seat {
    number: u64,
    viewer: Viewer,
    socket: Socket,
    scheduled: Option<Instant>,
}

/// What is shared by all viewers of a thread, turn by turn.
struct Tools {
    random: StdRng,
    out: SendQueue,
    batch: ReceiveBatch,
    buffer: Vec<u8>,
    tally: Tally,
}

struct Worker {
    poll: Poll,
    commands: Receiver<Command>,
    gauges: Arc<Gauges>,
    seats: Vec<Option<Box<Seat>>>,
    free: Vec<usize>,
    slots: BTreeMap<u64, usize>,
    timers: Timers,
    /// Slots whose socket had more than one turn's worth.
    again: Vec<usize>,
    /// Begin and end.
    window: Option<(Instant, Option<Instant>)>,
    tools: Tools,
    without_picture: u64,
}

impl Worker {
    fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let wait = if self.again.is_empty() && self.commands.is_empty() {
                self.timers.next_at().map(|at| at.saturating_duration_since(Instant::now()))
            } else {
                Some(Duration::ZERO)
            };
            // A signal that interrupts the wait ends nothing.
            if self.poll.poll(&mut events, wait).is_err() {
                events.clear();
            }
            let again = std::mem::take(&mut self.again);
            for slot in again.into_iter().chain(events.iter().map(|event| event.token().0)) {
                if slot != WAKER.0 {
                    self.receive(slot);
                }
            }
            self.expire();
            for _ in 0..COMMANDS_A_TURN {
                match self.commands.try_recv() {
                    Ok(Command::Stop) => return,
                    Ok(command) => self.obey(command),
                    Err(_) => break,
                }
            }
            self.gauges.packets.store(self.tools.tally.packets_ever, Ordering::Relaxed);
            self.gauges.bytes.store(self.tools.tally.bytes_ever, Ordering::Relaxed);
        }
    }

    fn receive(&mut self, slot: usize) {
        let Some(seat) = self.seats.get_mut(slot).and_then(Option::as_mut) else { return };
        let Tools { random, out, batch, tally, .. } = &mut self.tools;
        let mut is_empty = false;
        for _ in 0..BATCHES_A_TURN {
            // What the kernel says of the socket are answers to what was sent; ICE notices what matters.
            let count = seat.socket.receive(batch).unwrap_or(0);
            let mut turn = Turn { now: Instant::now(), wallclock: wallclock(), random, out, tally };
            for received in batch.iter_mut() {
                seat.viewer.handle_datagram(&mut turn, received.remote, received.bytes);
            }
            if count < BATCH {
                is_empty = true;
                break;
            }
        }
        if !is_empty {
            self.again.push(slot);
        }
        if !out.is_empty() {
            let _ = out.flush(&seat.socket);
        }
        self.timers.schedule(slot, &mut seat.scheduled, seat.viewer.poll_timeout());
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((at, slot)) = self.timers.pop_due(now) {
            let Some(seat) = self.seats.get_mut(slot).and_then(Option::as_mut) else { continue };
            if seat.scheduled != Some(at) {
                continue;
            }
            seat.scheduled = None;
            let Tools { random, out, buffer, tally, .. } = &mut self.tools;
            let mut turn = Turn { now, wallclock: wallclock(), random, out, tally };
            if seat.viewer.poll_timeout().is_some_and(|due| due <= now) {
                seat.viewer.handle_timeout(&mut turn, buffer);
            }
            if !out.is_empty() {
                let _ = out.flush(&seat.socket);
            }
            self.timers.schedule(slot, &mut seat.scheduled, seat.viewer.poll_timeout());
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Join(number, plan, socket) => self.join(number, *plan, socket),
            Command::Leave(number) => {
                let Some(seat) = self.slots.get(&number).and_then(|slot| self.seats[*slot].as_mut()) else {
                    return;
                };
                let stalls = seat.viewer.leave(now, matches!(self.window, Some((_, None))));
                if let Some((begin, None)) = self.window {
                    self.tools.tally.accounts.stalls.add(stalls);
                    let tracks = &mut self.tools.tally.accounts.tracks;
                    seat.viewer.close_accounts((begin, now), tracks);
                }
            }
            Command::Remove(number) => self.remove(number),
            Command::BeginWindow => {
                self.window = Some((now, None));
                self.tools.tally.window = Some(now);
                self.seats.iter_mut().flatten().for_each(|seat| seat.viewer.begin_window(now));
            }
            Command::EndWindow => {
                let Some((begin, None)) = self.window else { return };
                self.window = Some((begin, Some(now)));
                self.tools.tally.window = None;
                for seat in self.seats.iter_mut().flatten() {
                    self.tools.tally.accounts.stalls.add(seat.viewer.end_window(now));
                }
            }
            Command::Collect(to) => drop(to.send(self.collect())),
            Command::Stop => {}
        }
    }

    fn collect(&mut self) -> Collected {
        let mut without_picture = self.without_picture;
        let window = self.window.and_then(|(begin, end)| Some((begin, end?)));
        for seat in self.seats.iter_mut().flatten() {
            without_picture += u64::from(seat.viewer.waits_for_picture());
            if let Some(window) = window {
                seat.viewer.close_accounts(window, &mut self.tools.tally.accounts.tracks);
            }
        }
        Collected { tally: std::mem::take(&mut self.tools.tally), without_picture }
    }

    fn join(&mut self, number: u64, plan: Plan, socket: Socket) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.seats.push(None);
            self.seats.len() - 1
        });
        let registry = self.poll.registry();
        if registry.register(&mut SourceFd(&socket.as_raw_fd()), Token(slot), Interest::READABLE).is_err() {
            // Dropped plans are told as failures by their senders.
            self.free.push(slot);
            return;
        }
        let Tools { random, out, buffer, tally, .. } = &mut self.tools;
        let mut turn = Turn { now: Instant::now(), wallclock: wallclock(), random, out, tally };
        let mut viewer = Viewer::new(plan, &mut turn);
        viewer.handle_timeout(&mut turn, buffer);
        let _ = out.flush(&socket);
        let mut scheduled = None;
        self.timers.schedule(slot, &mut scheduled, viewer.poll_timeout());
        self.slots.insert(number, slot);
        self.seats[slot] = Some(Box::new(Seat { number, viewer, socket, scheduled }));
    }

    fn remove(&mut self, number: u64) {
        let Some(slot) = self.slots.remove(&number) else { return };
        let Some(mut seat) = self.seats[slot].take() else { return };
        debug_assert_eq!(seat.number, number);
        self.without_picture += u64::from(seat.viewer.waits_for_picture());
        let Tools { random, out, tally, .. } = &mut self.tools;
        let mut turn = Turn { now: Instant::now(), wallclock: wallclock(), random, out, tally };
        seat.viewer.close(&mut turn);
        let _ = out.flush(&seat.socket);
        // The poller forgets a socket when it is closed; saying so first keeps its books straight.
        let _ = self.poll.registry().deregister(&mut SourceFd(&seat.socket.as_raw_fd()));
        self.free.push(slot);
    }
}

fn wallclock() -> NtpTime {
    NtpTime::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
