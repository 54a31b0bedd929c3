//! The queue against a kernel that takes a part, refuses segments, has no room or is broken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// What the played kernel does with one call.
#[derive(Debug, Clone)]
enum Reply {
    Take(usize),
    Fail(i32),
}

struct Played {
    replies: RefCell<VecDeque<Reply>>,
    segmenting: Cell<bool>,
    refusals: Cell<u32>,
    calls: Cell<usize>,
    got: RefCell<Vec<Vec<u8>>>,
    segments_per_message: RefCell<Vec<u16>>,
}

impl Played {
    fn new(replies: Vec<Reply>) -> Self {
        Self {
            replies: RefCell::new(replies.into()),
            segmenting: Cell::new(true),
            refusals: Cell::new(0),
            calls: Cell::new(0),
            got: RefCell::default(),
            segments_per_message: RefCell::default(),
        }
    }
}

impl Kernel for Played {
    fn send(&self, arena: &[u8], messages: &[Message]) -> io::Result<usize> {
        self.calls.set(self.calls.get() + 1);
        assert!((1..=BATCH).contains(&messages.len()));
        let count = match self.replies.borrow_mut().pop_front() {
            Some(Reply::Fail(code)) => return Err(io::Error::from_raw_os_error(code)),
            Some(Reply::Take(count)) => count.clamp(1, messages.len()),
            None => messages.len(),
        };
        for message in &messages[..count] {
            let payload = &arena[message.payload.clone()];
            assert!(payload.len() <= MESSAGE_BYTES_MAX && message.segments <= SEGMENTS_MAX);
            let segment = payload.len().div_ceil(usize::from(message.segments));
            let segment =
                if message.segments == 1 { payload.len() } else { longest(message).unwrap_or(segment) };
            self.got.borrow_mut().extend(payload.chunks(segment).map(<[u8]>::to_vec));
            self.segments_per_message.borrow_mut().push(message.segments);
        }
        Ok(count)
    }
    fn is_ipv6(&self) -> bool {
        false
    }
    fn gso_active(&self) -> bool {
        self.segmenting.get()
    }
    fn segmentation_worked(&self) {}
    fn segmentation_refused(&self) {
        self.refusals.set(self.refusals.get() + 1);
    }
}

/// The `UDP_SEGMENT` that a message asks for: the last two payload bytes of its control messages.
fn longest(message: &Message) -> Option<usize> {
    let word = size_of::<usize>();
    let at = message.control.length.checked_sub(word)?;
    Some(usize::from(u16::from_ne_bytes([message.control.bytes[at], message.control.bytes[at + 1]])))
}

fn path(number: u8) -> (IpAddr, SocketAddr) {
    ([198, 18, 0, 1].into(), ([198, 18, 1, number], 9).into())
}

fn push(queue: &mut SendQueue, to: u8, bytes: &[u8]) {
    let (local, remote) = path(to);
    queue.push(local, remote, bytes.len() + 100, |room| {
        room[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    });
}

#[test]
fn equal_neighbours_of_a_path_become_one_message_and_a_shorter_one_ends_it() {
    let mut queue = SendQueue::new();
    for length in [100, 100, 100, 40, 100, 120] {
        push(&mut queue, 1, &vec![1; length]);
    }
    push(&mut queue, 2, &[2; 120]);
    let kernel = Played::new(vec![]);
    let flushed = queue.flush_to(&kernel).expect("flush");
    assert_eq!(flushed, Flushed { sent: 7, bytes: 680, ..Flushed::default() });
    assert_eq!(*kernel.segments_per_message.borrow(), [4, 1, 1, 1]);
    assert!(queue.is_empty());
}

#[test]
fn a_message_stays_within_the_kernels_limits() {
    let mut queue = SendQueue::new();
    for _ in 0..65 {
        push(&mut queue, 1, &[1; 10]);
    }
    for _ in 0..60 {
        push(&mut queue, 2, &[2; 1200]);
    }
    let kernel = Played::new(vec![]);
    assert_eq!(queue.flush_to(&kernel).expect("flush").sent, 125);
    assert_eq!(*kernel.segments_per_message.borrow(), [64, 1, 54, 6]);
}

#[test]
fn a_refused_train_is_sent_again_without_segmentation_and_the_next_one_with_it() {
    let mut queue = SendQueue::new();
    for to in [1, 2] {
        for number in 0..3 {
            push(&mut queue, to, &[number; 50]);
        }
    }
    let kernel = Played::new(vec![Reply::Fail(libc::EINVAL)]);
    assert_eq!(queue.flush_to(&kernel).expect("flush").sent, 6);
    assert_eq!(*kernel.segments_per_message.borrow(), [1, 1, 1, 3]);
    assert_eq!(kernel.refusals.get(), 1);
}

#[test]
fn without_room_the_oldest_are_dropped_and_counted() {
    let mut queue = SendQueue::new();
    for to in 0..4 {
        push(&mut queue, to, &[to; 50]);
        push(&mut queue, to, &[to; 50]);
    }
    let kernel = Played::new(vec![Reply::Fail(libc::EAGAIN), Reply::Fail(libc::ENOBUFS)]);
    let flushed = queue.flush_to(&kernel).expect("flush");
    assert_eq!(flushed, Flushed { sent: 4, bytes: 200, dropped: 4, refused: 0, would_block: true });
    assert_eq!(kernel.got.borrow()[0], [2; 50]);
}

#[test]
fn a_kernel_that_never_has_room_is_not_asked_for_ever() {
    let mut queue = SendQueue::new();
    for number in 0..1000u32 {
        push(&mut queue, number as u8, &[0; 10]);
    }
    let kernel = Played::new(vec![Reply::Fail(libc::EAGAIN); 2000]);
    assert_eq!(queue.flush_to(&kernel).expect("flush").dropped, 1000);
    assert_eq!(kernel.calls.get(), WOULD_BLOCK_MAX as usize);
}

#[test]
fn a_broken_socket_is_an_error_and_leaves_an_empty_queue() {
    let mut queue = SendQueue::new();
    push(&mut queue, 1, &[0; 10]);
    assert!(queue.flush_to(&Played::new(vec![Reply::Fail(libc::EBADF)])).is_err());
    assert!(queue.is_empty());
    assert_eq!(queue.flush_to(&Played::new(vec![])).expect("flush").refused, 1);
}

#[test]
fn the_queue_never_outgrows_its_bound() {
    let mut queue = SendQueue::new();
    let datagrams = (QUEUE_BYTES_MAX / 60_000 + 10) as u64;
    for number in 0..datagrams {
        let (local, remote) = path(number as u8);
        queue.push(local, remote, 60_000, |room| room.len());
    }
    assert!(queue.arena.len() <= QUEUE_BYTES_MAX);
    let flushed = queue.flush_to(&Played::new(vec![])).expect("flush");
    assert_eq!(flushed.sent + flushed.dropped, datagrams);
    assert!(flushed.dropped >= 10);
}

#[test]
fn what_goes_to_all_goes_in_trains_to_each_and_stands_in_the_queue_once() {
    let mut queue = SendQueue::with_trains_of(3);
    push(&mut queue, 9, &[9; 20]);
    let datagrams: Vec<Vec<u8>> = [20, 20, 20, 20, 7, 20].into_iter().map(|length| vec![1; length]).collect();
    queue.push_to_all(&datagrams, &[path(1).1, path(2).1]);
    push(&mut queue, 2, &[9; 7]);
    assert_eq!(queue.used, 20 + 107 + 7);
    let kernel = Played::new(vec![]);
    assert_eq!(queue.flush_to(&kernel).expect("flush").sent, 14);
    assert_eq!(*kernel.segments_per_message.borrow(), [1, 3, 2, 1, 3, 2, 1, 1]);
    assert_eq!(kernel.got.borrow()[1..7], datagrams);
    assert_eq!(kernel.got.borrow()[7..13], datagrams);
}

#[test]
fn what_goes_to_all_is_bounded_in_bytes_and_in_trains() {
    let mut queue = SendQueue::new();
    let long = vec![0; 60_000];
    let datagrams: Vec<&[u8]> = vec![&long; QUEUE_BYTES_MAX / 60_000 + 2];
    queue.push_to_all(&datagrams, &[path(1).1; 2]);
    assert!(queue.arena.len() <= QUEUE_BYTES_MAX);
    let flushed = queue.flush_to(&Played::new(vec![])).expect("flush");
    assert_eq!((flushed.sent + flushed.dropped, flushed.dropped), (2 * datagrams.len() as u64, 4));

    let growing: Vec<Vec<u8>> = (1..=100).map(|length| vec![0; length]).collect();
    queue.push_to_all(&growing, &vec![path(1).1; TRAINS_MAX / 100 + 2]);
    assert!(queue.trains.len() <= TRAINS_MAX);
    let flushed = queue.flush_to(&Played::new(vec![])).expect("flush");
    assert_eq!((flushed.sent, flushed.dropped), (100 * (TRAINS_MAX as u64 / 100), 200));
}

fn replies() -> impl Strategy<Value = Vec<Reply>> {
    let code = prop::sample::select(vec![
        libc::EINTR,
        libc::EAGAIN,
        libc::EINVAL,
        libc::EIO,
        libc::EMSGSIZE,
        libc::EPERM,
        libc::ENETUNREACH,
    ]);
    prop::collection::vec(prop_oneof![(0usize..70).prop_map(Reply::Take), code.prop_map(Reply::Fail)], 0..60)
}

proptest! {
    #[test]
    fn every_datagram_is_sent_once_whole_and_in_order_or_counted(
        datagrams in prop::collection::vec((0u8..3, prop::sample::select(vec![1usize, 20, 20, 20, 30])), 0..300),
        shared in prop::collection::vec(prop::sample::select(vec![1usize, 20, 20, 20, 30]), 0..60),
        segments_max in 1u16..70,
        replies in replies(),
        is_segmenting: bool,
    ) {
        // The first bytes tell the datagrams apart as far as they fit.
        let datagram = |(number, length): (usize, &usize)| -> Vec<u8> {
            (number as u16).to_be_bytes().into_iter().cycle().take(*length).collect()
        };
        let mut queue = SendQueue::with_trains_of(segments_max);
        let mut pushed = Vec::new();
        for (number, (to, length)) in datagrams.iter().enumerate() {
            let bytes = datagram((number, length));
            push(&mut queue, *to, &bytes);
            pushed.push(bytes);
        }
        let shared: Vec<Vec<u8>> = shared.iter().enumerate().map(datagram).collect();
        queue.push_to_all(&shared, &[path(0).1, path(1).1, path(0).1]);
        (0..3).for_each(|_| pushed.extend(shared.iter().cloned()));
        push(&mut queue, 0, &[7; 20]);
        pushed.push(vec![7; 20]);
        let kernel = Played::new(replies);
        kernel.segmenting.set(is_segmenting);
        let flushed = queue.flush_to(&kernel).expect("no fatal error is played");
        let got = kernel.got.borrow();
        prop_assert_eq!(flushed.sent + flushed.dropped + flushed.refused, pushed.len() as u64);
        prop_assert_eq!(flushed.sent, got.len() as u64);
        prop_assert_eq!(flushed.bytes, got.iter().map(|bytes| bytes.len() as u64).sum::<u64>());
        let mut rest = pushed.iter();
        prop_assert!(got.iter().all(|bytes| rest.any(|other| other == bytes)), "not a subsequence of what was pushed");
        if !is_segmenting {
            prop_assert!(kernel.segments_per_message.borrow().iter().all(|segments| *segments == 1));
        }
        prop_assert!(kernel.segments_per_message.borrow().iter().all(|segments| *segments <= segments_max));
    }
}
