//! What no server can do without: seal each packet for each viewer and hand it to the kernel, nothing else.
//!
//! Plays a recorded mix in real time to many sockets, either as cheaply as the kernel allows (AES-128-GCM, segmented
//! messages, batched calls) or with one bare `sendto` for each packet and no sealing at all.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use udp_batch::{Options, SendQueue, Socket};

use super::mix::{Frame, Mix};
use super::sink::FIRST_PORT;
use crate::machine;

/// RTP header without extensions (RFC 3550, section 5.1): authenticated, not encrypted.
const HEADER_BYTES: usize = 12;
/// AEAD_AES_128_GCM (RFC 7714, section 13).
const TAG_BYTES: usize = 16;
/// Above every packet of a mix, tag included.
const PACKET_BYTES_MAX: usize = 2048;

/// How the floor sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// AES-128-GCM, UDP segmentation offload, `sendmmsg`.
    Gso,
    /// One `sendto` for each packet, in clear.
    Sendto,
}

/// What the floor is to do.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Recorded mix.
    #[arg(long)]
    mix: PathBuf,
    /// Host of the sink.
    #[arg(long)]
    to: IpAddr,
    /// Sockets of the sink that are sent to.
    #[arg(long)]
    viewers: u16,
    /// For how long.
    #[arg(long)]
    seconds: f64,
    /// How.
    #[arg(long)]
    way: Way,
}

/// What the floor did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Played {
    /// Packets that the kernel took.
    pub sent: u64,
    /// Packets that it had no room for.
    pub dropped: u64,
    /// When sending began and ended, in milliseconds of the wall clock.
    pub window: (f64, f64),
    /// How far it was behind the mix at the end, in milliseconds.
    pub late_ms: f64,
}

/// Plays the mix, prints [`Played`], and waits for the end of standard input: whoever measures looks once more.
///
/// # Errors
/// If there is no such mix, or no socket.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mix = Mix::read(&arguments.mix)?;
    let viewers = (0..arguments.viewers).map(|number| SocketAddr::new(arguments.to, FIRST_PORT + number));
    let viewers: Vec<SocketAddr> = viewers.collect();
    let length = Duration::from_secs_f64(arguments.seconds);
    let played = match arguments.way {
        Way::Gso => play(&mix, length, &mut Sealing::new(&viewers)?)?,
        Way::Sendto => play(&mix, length, &mut Bare::new(viewers)?)?,
    };
    println!("{}", serde_json::to_string(&played)?);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

trait Sender {
    /// Sends a frame to everybody; tells how many packets went out and how many were dropped.
    fn send(&mut self, frame: &Frame) -> anyhow::Result<(u64, u64)>;
}

fn play(mix: &Mix, length: Duration, sender: &mut impl Sender) -> anyhow::Result<Played> {
    super::ready()?;
    let (started, began) = (Instant::now(), machine::unix_ms());
    let (mut sent, mut dropped, mut late) = (0, 0, Duration::ZERO);
    'all: for period in 0.. {
        for frame in &mix.frames {
            let due = Duration::from_micros(period * mix.period_micros + frame.at_micros);
            if due >= length {
                break 'all;
            }
            std::thread::sleep(due.saturating_sub(started.elapsed()));
            let (out, lost) = sender.send(frame)?;
            sent += out;
            dropped += lost;
            late = started.elapsed().saturating_sub(due);
            // One that cannot keep up sends what it can in the time it has.
            if started.elapsed() >= length {
                break 'all;
            }
        }
    }
    let late_ms = late.as_secs_f64() * 1000.0;
    Ok(Played { sent, dropped, window: (began, machine::unix_ms()), late_ms })
}

/// The cheapest that is known.
struct Sealing {
    socket: Socket,
    queue: SendQueue,
    viewers: Vec<(SocketAddr, LessSafeKey)>,
    local: IpAddr,
    sequence: u64,
    plain: [u8; PACKET_BYTES_MAX],
}

impl Sealing {
    fn new(viewers: &[SocketAddr]) -> anyhow::Result<Self> {
        let first = viewers.first().context("nobody to send to")?;
        let probe = UdpSocket::bind("0.0.0.0:0")?;
        probe.connect(first)?;
        let local = probe.local_addr()?.ip();
        let key = |number: usize| {
            let mut bytes = [0x42; 16];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            UnboundKey::new(&AES_128_GCM, &bytes).map(LessSafeKey::new)
        };
        let keyed: Result<Vec<_>, _> =
            viewers.iter().enumerate().map(|(number, viewer)| Ok((*viewer, key(number)?))).collect();
        let viewers = keyed.map_err(|aws_lc_rs::error::Unspecified| anyhow::anyhow!("no AES-128-GCM"))?;
        let options = Options { send_buffer_bytes: 4 << 20, ..Options::default() };
        let socket = Socket::bind(SocketAddr::new(local, 0), &options)?;
        ensure!(socket.gso_active(), "this kernel has no UDP segmentation offload");
        Ok(Self {
            socket,
            queue: SendQueue::new(),
            viewers,
            local,
            sequence: 0,
            plain: [0x5a; PACKET_BYTES_MAX],
        })
    }
}

impl Sender for Sealing {
    fn send(&mut self, frame: &Frame) -> anyhow::Result<(u64, u64)> {
        for (viewer, key) in &self.viewers {
            for (number, bytes) in frame.packet_bytes.iter().enumerate() {
                let bytes = usize::from(*bytes).min(PACKET_BYTES_MAX - TAG_BYTES);
                let mut nonce = [0; 12];
                nonce[4..].copy_from_slice(&(self.sequence + number as u64).to_be_bytes());
                let plain = &self.plain[..bytes];
                self.queue.push(self.local, *viewer, bytes + TAG_BYTES, |room| {
                    let (packet, tag) = room.split_at_mut(bytes);
                    packet.copy_from_slice(plain);
                    let (header, payload) = packet.split_at_mut(HEADER_BYTES);
                    let nonce = Nonce::assume_unique_for_key(nonce);
                    match key.seal_in_place_separate_tag(nonce, Aad::from(header), payload) {
                        Ok(sealed) => {
                            tag.copy_from_slice(sealed.as_ref());
                            bytes + TAG_BYTES
                        }
                        Err(aws_lc_rs::error::Unspecified) => 0,
                    }
                });
            }
            self.queue.flush_when_full(&self.socket)?;
        }
        self.sequence += frame.packet_bytes.len() as u64;
        let flushed = self.queue.flush(&self.socket)?;
        Ok((flushed.sent, flushed.dropped + flushed.refused))
    }
}

/// What everybody can do.
struct Bare {
    socket: UdpSocket,
    viewers: Vec<SocketAddr>,
}

impl Bare {
    fn new(viewers: Vec<SocketAddr>) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket2::SockRef::from(&socket).set_send_buffer_size(4 << 20)?;
        Ok(Self { socket, viewers })
    }
}

impl Sender for Bare {
    fn send(&mut self, frame: &Frame) -> anyhow::Result<(u64, u64)> {
        let packet = [0x5a; PACKET_BYTES_MAX];
        let (mut sent, mut dropped) = (0, 0);
        for viewer in &self.viewers {
            for bytes in &frame.packet_bytes {
                let bytes = (usize::from(*bytes) + TAG_BYTES).min(PACKET_BYTES_MAX);
                match self.socket.send_to(&packet[..bytes], viewer) {
                    Ok(_) => sent += 1,
                    Err(_) => dropped += 1,
                }
            }
        }
        Ok((sent, dropped))
    }
}
