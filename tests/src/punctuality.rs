//! How late the media of many viewers comes, judged by RTP headers alone: no keys, hardly any CPU.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use crate::source::percentile;

/// Sequence numbers go round after so many.
const ROUND: u16 = 0x8000;

/// What came since [`Punctuality::begin`], for all viewers together.
#[derive(Debug, Clone, Default)]
pub struct Punctuality(Arc<Mutex<Marks>>);

#[derive(Debug, Default)]
struct Marks {
    /// Time on the way beyond the shortest of the stream.
    delays: Vec<Duration>,
    missing: u64,
}

/// The figures of a while.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// RTP packets.
    pub packets: usize,
    /// Sequence numbers that were passed over.
    pub missing: u64,
    /// Beyond the shortest time on the way: median, 99th percentile, longest.
    pub late: [Duration; 3],
}

struct Stream {
    first: (Instant, u32),
    newest: u16,
    /// Relative to the first packet, in microseconds.
    shortest: i64,
}

impl Punctuality {
    /// Forgets what came before.
    pub fn begin(&self) {
        *self.lock() = Marks::default();
    }

    /// What came since then.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let mut marks = self.lock();
        let late = [50, 99, 100].map(|percent| percentile(&mut marks.delays, percent));
        Figures { packets: marks.delays.len(), missing: marks.missing, late }
    }

    /// Reads a viewer's socket until it is broken.
    pub async fn watch(self, socket: UdpSocket) {
        let mut streams = BTreeMap::new();
        let mut buffer = [0; 2048];
        while let Ok(length) = socket.recv(&mut buffer).await {
            let Some(header) = Header::of(&buffer[..length]) else { continue };
            self.note(&mut streams, Instant::now(), &header);
        }
    }

    fn note(&self, streams: &mut BTreeMap<u32, Stream>, now: Instant, header: &Header) {
        let stream = streams.entry(header.ssrc).or_insert(Stream {
            first: (now, header.timestamp),
            newest: header.sequence.wrapping_sub(1),
            shortest: i64::MAX,
        });
        let ticks = i64::from(header.timestamp.wrapping_sub(stream.first.1).cast_signed());
        let sent = ticks * 1_000_000 / i64::from(header.clock_rate);
        let on_the_way = now.duration_since(stream.first.0).as_micros() as i64 - sent;
        stream.shortest = stream.shortest.min(on_the_way);
        let step = header.sequence.wrapping_sub(stream.newest);
        let mut marks = self.lock();
        marks.delays.push(Duration::from_micros((on_the_way - stream.shortest) as u64));
        if (1..ROUND).contains(&step) {
            marks.missing += u64::from(step - 1);
            stream.newest = header.sequence;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Marks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packets, missing, late: [median, p99, longest] } = self;
        write!(f, "{packets} packets, {missing} missing, late p50 {median:?} p99 {p99:?} max {longest:?}")
    }
}

/// What the header of an RTP packet tells (RFC 3550, section 5.1).
struct Header {
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    clock_rate: u32,
}

impl Header {
    /// `None` for RTCP (RFC 5761, section 4), STUN and DTLS.
    fn of(datagram: &[u8]) -> Option<Self> {
        let &[version, kind, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = datagram.first_chunk()?;
        let is_rtp = (0x80..0xc0).contains(&version) && !(192..224).contains(&kind);
        is_rtp.then_some(Self {
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
            clock_rate: if kind & 0x7f == OPUS { 48_000 } else { 90_000 },
        })
    }
}

/// Of [`crate::offers::CHROMIUM_VIEWER`].
const OPUS: u8 = 111;
