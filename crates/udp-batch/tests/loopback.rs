//! The socket and the queue against the real kernel, over loopback, in both families.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use udp_batch::{BATCH, DATAGRAM_MAX, Flushed, Options, ReceiveBatch, SendQueue, Socket};

const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

fn bound(ip: IpAddr, is_segmenting: bool) -> Socket {
    let options = Options { is_segmenting, ..Options::default() };
    Socket::bind(SocketAddr::new(ip, 0), &options).expect("bind on loopback")
}

/// A socket that takes trains whole.
fn coalescing(ip: IpAddr) -> Socket {
    let options = Options { is_coalescing: true, ..Options::default() };
    Socket::bind(SocketAddr::new(ip, 0), &options).expect("bind on loopback")
}

fn push(queue: &mut SendQueue, local: IpAddr, remote: SocketAddr, bytes: &[u8]) {
    queue.push(local, remote, bytes.len(), |room| {
        room.copy_from_slice(bytes);
        bytes.len()
    });
}

/// Receives until `count` datagrams are there; each as (local, remote, bytes).
fn receive(socket: &Socket, count: usize) -> Vec<(IpAddr, SocketAddr, Vec<u8>)> {
    let mut batch = ReceiveBatch::new();
    let mut all = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    while all.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} datagrams came", all.len());
        if socket.receive(&mut batch).expect("receive") == 0 {
            std::thread::yield_now();
        }
        all.extend(
            batch.iter_mut().map(|datagram| (datagram.local, datagram.remote, datagram.bytes.to_vec())),
        );
    }
    all
}

#[test]
fn datagrams_carry_both_addresses_in_both_families() {
    for ip in LOOPBACKS {
        let (a, b) = (bound(ip, true), bound(ip, true));
        let mut queue = SendQueue::new();
        push(&mut queue, ip, b.local_addr(), b"hello");
        let flushed = queue.flush(&a).expect("flush");
        assert_eq!(flushed, Flushed { sent: 1, bytes: 5, ..Flushed::default() });
        assert_eq!(receive(&b, 1), [(ip, a.local_addr(), b"hello".to_vec())]);
    }
}

#[test]
fn a_socket_bound_to_all_addresses_answers_from_the_one_it_was_asked_on() {
    for (any, asked) in [
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::from([127, 0, 0, 9])),
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::from([127, 0, 0, 9])),
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ] {
        let server = bound(any, true);
        let client = bound(if asked.is_ipv4() { LOOPBACKS[0] } else { LOOPBACKS[1] }, true);
        let mut queue = SendQueue::new();
        let server_address = SocketAddr::new(asked, server.local_addr().port());
        push(&mut queue, any, server_address, b"who is there");
        queue.flush(&client).expect("flush");
        let question = receive(&server, 1).remove(0);
        assert_eq!((question.0, question.1), (asked, client.local_addr()), "bound to {any}");
        for answer in [b"I", b"I"] {
            push(&mut queue, question.0, question.1, answer);
        }
        assert_eq!(queue.flush(&server).expect("flush").sent, 2);
        for answer in receive(&client, 2) {
            assert_eq!(answer, (client.local_addr().ip(), server_address, b"I".to_vec()));
        }
    }
}

#[test]
fn without_a_chosen_source_the_kernel_chooses() {
    let (server, client) = (bound(IpAddr::V6(Ipv6Addr::UNSPECIFIED), true), bound(LOOPBACKS[0], true));
    let mut queue = SendQueue::new();
    push(&mut queue, IpAddr::V4(Ipv4Addr::UNSPECIFIED), client.local_addr(), b"x");
    assert_eq!(queue.flush(&server).expect("flush").sent, 1);
    assert_eq!(receive(&client, 1)[0].1, SocketAddr::new(LOOPBACKS[0], server.local_addr().port()));
}

#[test]
fn more_than_one_batch_comes_in_order_and_then_nothing() {
    let (a, b) = (bound(LOOPBACKS[0], false), bound(LOOPBACKS[0], true));
    let count = BATCH * 3 + 5;
    let mut queue = SendQueue::new();
    for number in 0..count {
        push(&mut queue, LOOPBACKS[0], b.local_addr(), &(number as u32).to_be_bytes());
    }
    assert_eq!(queue.flush(&a).expect("flush").sent, count as u64);
    let numbers: Vec<_> = receive(&b, count).into_iter().map(|(_, _, bytes)| bytes).collect();
    assert!(numbers.iter().zip(0u32..).all(|(bytes, number)| **bytes == number.to_be_bytes()));
    assert_eq!(b.receive(&mut ReceiveBatch::new()).expect("receive"), 0);
}

#[test]
fn a_datagram_too_long_for_its_room_is_left_out() {
    let (a, b) = (bound(LOOPBACKS[0], true), bound(LOOPBACKS[0], true));
    let mut queue = SendQueue::new();
    for length in [DATAGRAM_MAX, DATAGRAM_MAX + 1, 1] {
        push(&mut queue, LOOPBACKS[0], b.local_addr(), &vec![7; length]);
    }
    assert_eq!(queue.flush(&a).expect("flush").sent, 3);
    let lengths: Vec<_> = receive(&b, 2).iter().map(|(_, _, bytes)| bytes.len()).collect();
    assert_eq!(lengths, [DATAGRAM_MAX, 1]);
}

#[test]
fn a_train_comes_as_one_message_and_is_cut_apart() {
    for (ip, any) in [
        (LOOPBACKS[0], IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        (LOOPBACKS[0], IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        (LOOPBACKS[1], IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    ] {
        let (a, b) = (bound(ip, true), coalescing(any));
        let to = SocketAddr::new(ip, b.local_addr().port());
        let datagrams: Vec<Vec<u8>> = [1260, 1260, 1260, 900, 70]
            .into_iter()
            .zip(0..)
            .map(|(length, number)| vec![number; length])
            .collect();
        let mut queue = SendQueue::new();
        datagrams.iter().for_each(|bytes| push(&mut queue, ip, to, bytes));
        assert_eq!(queue.flush(&a).expect("flush").sent, 5);
        let mut batch = ReceiveBatch::new();
        assert_eq!(b.receive(&mut batch).expect("receive"), 2, "a train and a single datagram");
        let came: Vec<_> =
            batch.iter_mut().map(|came| (came.local, came.remote, came.bytes.to_vec())).collect();
        let expected: Vec<_> = datagrams.into_iter().map(|bytes| (ip, a.local_addr(), bytes)).collect();
        assert_eq!(came, expected, "bound to {any}");
    }
}

#[test]
fn one_batch_serves_sockets_of_both_kinds_in_turn() {
    let (a, single, whole) = (bound(LOOPBACKS[0], true), bound(LOOPBACKS[0], true), coalescing(LOOPBACKS[0]));
    let (mut queue, mut batch) = (SendQueue::new(), ReceiveBatch::new());
    for (socket, messages) in [(&single, 40), (&whole, 1), (&single, 40)] {
        (0..40).for_each(|number| push(&mut queue, LOOPBACKS[0], socket.local_addr(), &[number; 1000]));
        assert_eq!(queue.flush(&a).expect("flush").sent, 40);
        assert_eq!(socket.receive(&mut batch).expect("receive"), messages);
        assert!(batch.iter_mut().zip(0..40).all(|(came, number)| came.bytes == [number; 1000]));
        assert_eq!(batch.iter_mut().count(), 40);
    }
}

#[test]
fn one_unreachable_destination_costs_the_others_nothing() {
    let (a, b) = (bound(LOOPBACKS[0], true), bound(LOOPBACKS[0], true));
    let mut queue = SendQueue::new();
    push(&mut queue, LOOPBACKS[0], b.local_addr(), b"before");
    // Not an address of this machine, and an IPv6 destination on an IPv4 socket.
    push(&mut queue, [198, 19, 255, 254].into(), b.local_addr(), b"lost");
    push(&mut queue, LOOPBACKS[1], SocketAddr::new(LOOPBACKS[1], 9), b"lost");
    push(&mut queue, LOOPBACKS[0], b.local_addr(), b"after");
    let flushed = queue.flush(&a).expect("flush");
    assert_eq!((flushed.sent, flushed.refused), (2, 2));
    let texts: Vec<_> = receive(&b, 2).into_iter().map(|(_, _, bytes)| bytes).collect();
    assert_eq!(texts, [b"before".to_vec(), b"after".to_vec()]);
}

#[test]
fn a_large_queue_may_be_flushed_on_the_way_and_is_told_as_one() {
    let (a, sink) = (bound(LOOPBACKS[0], true), UdpSocket::bind("127.0.0.1:0").expect("bind"));
    let mut queue = SendQueue::new();
    for _ in 0..1000 {
        queue.flush_when_full(&a).expect("flush");
        push(&mut queue, LOOPBACKS[0], sink.local_addr().expect("address"), &[1; 1200]);
    }
    assert_eq!(
        queue.flush(&a).expect("flush"),
        Flushed { sent: 1000, bytes: 1_200_000, ..Flushed::default() }
    );
}

#[test]
fn segmentation_is_used_where_the_kernel_has_it_and_can_be_turned_off() {
    assert!(!bound(LOOPBACKS[0], false).gso_active());
    assert!(bound(LOOPBACKS[0], true).gso_active(), "every kernel since 4.18 has UDP_SEGMENT");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn with_and_without_segmentation_and_coalescing_the_same_datagrams_arrive(
        datagrams in prop::collection::vec((0usize..3, prop::sample::select(vec![1usize, 700, 1200, 1200, 1200, 1350])), 1..120),
        shared in prop::collection::vec(prop::sample::select(vec![1usize, 1260, 1260, 1260, 1350]), 0..40),
        is_ipv6: bool,
    ) {
        let ip = LOOPBACKS[usize::from(is_ipv6)];
        let mut arrived = Vec::new();
        for (is_segmenting, is_coalescing) in [(false, false), (true, false), (false, true), (true, true)] {
            let sender = bound(ip, is_segmenting);
            let receivers: Vec<Socket> =
                (0..3).map(|_| if is_coalescing { coalescing(ip) } else { bound(ip, true) }).collect();
            let mut queue = SendQueue::new();
            let mut counts: BTreeMap<_, _> = (0..3).map(|to| (to, shared.len())).collect();
            for (number, (to, length)) in datagrams.iter().enumerate() {
                push(&mut queue, ip, receivers[*to].local_addr(), &vec![number as u8; *length]);
                *counts.entry(*to).or_insert(0) += 1;
            }
            let to_all: Vec<Vec<u8>> = shared.iter().zip(0u8..).map(|(length, number)| vec![number; *length]).collect();
            let addresses: Vec<_> = receivers.iter().map(Socket::local_addr).collect();
            queue.push_to_all(&to_all, &addresses);
            let pushed = datagrams.len() + 3 * shared.len();
            prop_assert_eq!(queue.flush(&sender).expect("flush").sent, pushed as u64);
            prop_assert_eq!(sender.gso_active(), is_segmenting);
            let got: Vec<Vec<_>> = counts
                .iter()
                .map(|(to, count)| receive(&receivers[*to], *count).into_iter().map(|(_, _, bytes)| bytes).collect())
                .collect();
            arrived.push(got);
        }
        prop_assert!(arrived.iter().all(|got| got == &arrived[0]));
    }
}
