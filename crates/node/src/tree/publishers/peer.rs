//! The two kinds of publishers: WebRTC, which this thread drives, and media that a task beside it makes packets of.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use ingest::{CloseReason, IceCredentials, Output, Publisher, PublisherRecord, Stats};
use model::{NtpTime, Ssrc};
use tokio::sync::oneshot;

use crate::sessions::IceRestart;

/// One publisher.
pub(super) enum Peer {
    /// Over WHIP.
    WebRtc(Box<Publisher>),
    /// Over RTMP, or by plain RTP.
    Encoded(Encoded),
}

/// What a task has sent of its publisher and this thread has not carried out.
pub(super) struct Encoded {
    outputs: VecDeque<Output>,
    stats: Stats,
    /// Tells the task to end.
    close: Option<oneshot::Sender<()>>,
}

impl Peer {
    pub fn encoded(close: oneshot::Sender<()>) -> Self {
        let outputs = VecDeque::from([Output::Connected]);
        Self::Encoded(Encoded { outputs, stats: Stats::default(), close: Some(close) })
    }

    /// Takes what the task has sent.
    pub fn take(&mut self, outputs: Vec<Output>, stats: Stats) {
        if let Self::Encoded(encoded) = self {
            encoded.outputs.extend(outputs);
            encoded.stats = stats;
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        match self {
            Self::WebRtc(publisher) => publisher.poll_output(),
            Self::Encoded(encoded) => encoded.outputs.pop_front(),
        }
    }

    pub fn close(&mut self, now: Instant) {
        match self {
            Self::WebRtc(publisher) => publisher.close(now),
            Self::Encoded(encoded) => {
                if let Some(close) = encoded.close.take() {
                    // A task that has ended needs no word.
                    let _ = close.send(());
                    encoded.outputs.clear();
                    encoded.outputs.push_back(Output::Closed(CloseReason::Requested));
                }
            }
        }
    }

    /// Encoders of RTMP take no requests, nor do senders of plain RTP.
    pub fn request_keyframe(&mut self, ssrc: Ssrc) {
        if let Self::WebRtc(publisher) = self {
            publisher.request_keyframe(ssrc);
        }
    }

    /// False without WebRTC: there is no ICE.
    pub fn restart_ice(&mut self, restart: &IceRestart) -> bool {
        let Self::WebRtc(publisher) = self else { return false };
        let credentials = |ufrag: &str, pwd: &str| IceCredentials {
            ufrag: ufrag.to_owned(),
            password: pwd.to_owned().into(),
        };
        publisher.restart_ice(
            credentials(restart.local.ufrag(), restart.local.pwd()),
            credentials(&restart.remote.ufrag, &restart.remote.pwd),
        );
        true
    }

    pub fn accepts(&self, source: SocketAddr, datagram: &[u8]) -> bool {
        matches!(self, Self::WebRtc(publisher) if publisher.accepts(source, datagram))
    }

    pub fn handle_datagram(
        &mut self,
        now: Instant,
        wallclock: NtpTime,
        path: (SocketAddr, SocketAddr),
        datagram: &[u8],
    ) {
        if let Self::WebRtc(publisher) = self {
            publisher.handle_datagram(now, wallclock, path, datagram);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::WebRtc(publisher) => publisher.poll_timeout(),
            Self::Encoded(_) => None,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if let Self::WebRtc(publisher) = self {
            publisher.handle_timeout(now);
        }
    }

    /// What the next process needs to go on; a TCP connection cannot be left to it, and plain RTP begins anew there.
    pub fn record(&self) -> Option<PublisherRecord> {
        match self {
            Self::WebRtc(publisher) => publisher.record(),
            Self::Encoded(_) => None,
        }
    }

    pub fn stats(&self) -> Stats {
        match self {
            Self::WebRtc(publisher) => publisher.stats(),
            Self::Encoded(encoded) => encoded.stats.clone(),
        }
    }
}
