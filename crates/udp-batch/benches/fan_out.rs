//! A thousand destinations, eight datagrams of 1200 bytes for each: one call per datagram, batched calls, and batched
//! calls of segmented messages. Prints time per datagram; what is measured is the sending half of the kernel, as the
//! receivers never read.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use udp_batch::{Options, SendQueue, Socket};

const DESTINATIONS: usize = 1000;
const DATAGRAMS: usize = 8;
const BYTES: usize = 1200;

fn fan_out(criterion: &mut Criterion) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let receivers: Vec<UdpSocket> = (0..DESTINATIONS)
        .map(|_| {
            let socket =
                UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("one file descriptor for each destination");
            socket2::SockRef::from(&socket).set_recv_buffer_size(1).expect("smallest buffer");
            socket
        })
        .collect();
    let to: Vec<SocketAddr> = receivers.iter().map(|r| r.local_addr().expect("bound")).collect();
    let payload = [0x5a; BYTES];

    let mut group = criterion.benchmark_group("1000 destinations x 8 x 1200 bytes");
    group.throughput(Throughput::Elements((DESTINATIONS * DATAGRAMS) as u64));
    let plain = UdpSocket::bind(any).expect("bind");
    group.bench_function("sendto", |bencher| {
        bencher.iter(|| {
            for remote in &to {
                for _ in 0..DATAGRAMS {
                    black_box(plain.send_to(&payload, remote)).expect("send");
                }
            }
        });
    });
    for (name, is_segmenting, flushes_on_the_way) in [
        ("sendmmsg", false, true),
        ("sendmmsg + GSO", true, true),
        ("sendmmsg + GSO, one flush of 9.6 MB in two", true, false),
    ] {
        let socket = Socket::bind(any, &Options { is_segmenting, ..Options::default() }).expect("bind");
        let mut queue = SendQueue::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for (number, remote) in to.iter().enumerate() {
                    for _ in 0..DATAGRAMS {
                        queue.push(source, *remote, BYTES, |room| {
                            room.copy_from_slice(&payload);
                            BYTES
                        });
                    }
                    if flushes_on_the_way {
                        queue.flush_when_full(&socket).expect("send");
                    } else if number == DESTINATIONS / 2 {
                        assert_eq!(queue.flush(&socket).expect("send").dropped, 0);
                    }
                }
                black_box(queue.flush(&socket).expect("send"));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
