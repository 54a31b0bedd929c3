//! ICE candidates in text form (RFC 8839, section 5.1).

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// How an address was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateKind {
    /// An address of the host itself.
    Host,
    /// What a STUN server saw.
    ServerReflexive,
    /// What the peer saw.
    PeerReflexive,
    /// On a TURN server.
    Relayed,
}

impl CandidateKind {
    const ALL: [Self; 4] = [Self::Host, Self::ServerReflexive, Self::PeerReflexive, Self::Relayed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::ServerReflexive => "srflx",
            Self::PeerReflexive => "prflx",
            Self::Relayed => "relay",
        }
    }
}

/// One candidate. The address stays text: it may be a name that only the peer can resolve (mDNS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Equal for candidates of the same kind and base.
    pub foundation: String,
    /// 1 is RTP, 2 is RTCP without multiplexing.
    pub component: u16,
    /// `udp` or `tcp`, in the case in which it was written.
    pub transport: String,
    /// Larger is better.
    pub priority: u32,
    /// IP address or name.
    pub address: String,
    /// UDP or TCP port.
    pub port: u16,
    /// How it was found.
    pub kind: CandidateKind,
    /// Whether it is TCP and waits for the other side to connect (RFC 6544, section 4.5).
    pub is_passive: bool,
}

/// A text is no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an ICE candidate: expected foundation, component, transport, priority, address, port, 'typ', kind"
)]
pub struct CandidateError;

/// Type preference of host candidates (RFC 8445, section 5.1.2.2).
const HOST_PREFERENCE: u32 = 126;
/// The same over TCP: below whatever gets there over UDP (RFC 6544, section 4.2).
const TCP_PREFERENCE: u32 = 90;

impl Candidate {
    /// The UDP host candidate of component 1 that stands at `index` in a list ordered best first.
    #[must_use]
    pub fn host(index: u16, address: SocketAddr) -> Self {
        // RFC 8445, section 5.1.2.1: type, then local preference, then 256 - component.
        let priority = (HOST_PREFERENCE << 24) | (u32::from(u16::MAX - index) << 8) | 255;
        Self {
            foundation: (u32::from(index) + 1).to_string(),
            component: 1,
            transport: "udp".to_owned(),
            priority,
            address: address.ip().to_string(),
            port: address.port(),
            kind: CandidateKind::Host,
            is_passive: false,
        }
    }

    /// The same for a listener on TCP.
    #[must_use]
    pub fn passive(index: u16, address: SocketAddr) -> Self {
        // The passive direction, 4 of 7, is the first three bits of the local preference (RFC 6544, section 4.2).
        let local_preference = (4 << 13) | u32::from(0x1fff - index.min(0x1fff));
        Self {
            transport: "tcp".to_owned(),
            priority: (TCP_PREFERENCE << 24) | (local_preference << 8) | 255,
            is_passive: true,
            ..Self::host(index, address)
        }
    }
}

impl FromStr for Candidate {
    type Err = CandidateError;

    fn from_str(value: &str) -> Result<Self, CandidateError> {
        let mut words = value.split_ascii_whitespace();
        let mut word = || words.next().ok_or(CandidateError);
        let foundation = word()?.to_owned();
        let component = word()?.parse().map_err(|_| CandidateError)?;
        let transport = word()?.to_owned();
        let priority = word()?.parse().map_err(|_| CandidateError)?;
        let address = word()?.to_owned();
        let port = word()?.parse().map_err(|_| CandidateError)?;
        if word()? != "typ" {
            return Err(CandidateError);
        }
        let name = word()?;
        let kind = CandidateKind::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or(CandidateError)?;
        let mut is_passive = false;
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            is_passive |= name == "tcptype" && value == "passive";
        }
        Ok(Self { foundation, component, transport, priority, address, port, kind, is_passive })
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { foundation, component, transport, priority, address, port, kind, is_passive } = self;
        write!(f, "{foundation} {component} {transport} {priority} {address} {port} typ {}", kind.as_str())?;
        if *is_passive { f.write_str(" tcptype passive") } else { Ok(()) }
    }
}
