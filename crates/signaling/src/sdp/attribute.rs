//! Attributes with a grammar of their own, and how they are found in a list.

use std::fmt;
use std::net::IpAddr;

/// One `a=` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// What stands before the first colon.
    pub name: String,
    /// What stands after it, if there is one.
    pub value: Option<String>,
}

impl Attribute {
    /// An attribute without value, as `a=rtcp-mux`.
    #[must_use]
    pub fn flag(name: &str) -> Self {
        Self { name: name.to_owned(), value: None }
    }

    /// An attribute with a value, as `a=mid:0`.
    #[must_use]
    pub fn with(name: &str, value: impl fmt::Display) -> Self {
        Self { name: name.to_owned(), value: Some(value.to_string()) }
    }
}

pub(super) fn is_present(attributes: &[Attribute], name: &str) -> bool {
    attributes.iter().any(|attribute| attribute.name == name)
}

pub(super) fn values<'a>(attributes: &'a [Attribute], name: &str) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |attribute| attribute.name == name)
        .filter_map(|attribute| attribute.value.as_deref())
}

pub(super) fn value<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    values(attributes, name).next()
}

/// What follows the payload type (or `*`) in the lines with this name.
pub(super) fn for_payload_type<'a>(
    attributes: &'a [Attribute],
    name: &str,
    payload_type: u8,
) -> impl Iterator<Item = &'a str> {
    values(attributes, name).filter_map(move |value| {
        let (format, rest) = value.split_once(' ')?;
        let applies = format == "*" || self::payload_type(format) == Some(payload_type);
        applies.then(|| rest.trim())
    })
}

/// A payload type: 0 to 127 (RFC 3550, section 5.1).
pub(super) fn payload_type(text: &str) -> Option<u8> {
    text.parse().ok().filter(|payload_type| *payload_type < 128)
}

pub(super) fn ice_credentials(attributes: &[Attribute]) -> Option<IceCredentials> {
    let ufrag = value(attributes, "ice-ufrag")?.to_owned();
    let pwd = value(attributes, "ice-pwd")?.to_owned();
    Some(IceCredentials { ufrag, pwd })
}

pub(super) fn fingerprints(attributes: &[Attribute]) -> Vec<Fingerprint> {
    values(attributes, "fingerprint").filter_map(Fingerprint::parse).collect()
}

pub(super) fn setup(attributes: &[Attribute]) -> Option<Setup> {
    match value(attributes, "setup")? {
        "actpass" => Some(Setup::ActPass),
        "active" => Some(Setup::Active),
        "passive" => Some(Setup::Passive),
        _ => None,
    }
}

pub(super) fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| Direction::parse(&attribute.name))
}

/// Where media goes (`c=`, RFC 8866, section 5.7). Time to live and number of groups are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The address of a receiver or of a group of them.
    pub address: IpAddr,
}

impl Connection {
    /// The value of a `c=` line. `None` if it names no address, or the unspecified one, which WebRTC writes there.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let ("IN", "IP4" | "IP6", address) = (words.next()?, words.next()?, words.next()?) else {
            return None;
        };
        let address: IpAddr = address.split('/').next()?.parse().ok()?;
        (!address.is_unspecified()).then_some(Self { address })
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (family, groups) = match self.address {
            IpAddr::V4(_) => ("IP4", "/127"),
            IpAddr::V6(_) => ("IP6", ""),
        };
        // A group of IPv4 has a time to live.
        let groups = if self.address.is_multicast() { groups } else { "" };
        write!(f, "IN {family} {}{groups}", self.address)
    }
}

/// Which way media flows, seen from the one who wrote the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// `a=sendrecv`
    SendRecv,
    /// `a=sendonly`
    SendOnly,
    /// `a=recvonly`
    RecvOnly,
    /// `a=inactive`
    Inactive,
}

impl Direction {
    fn parse(name: &str) -> Option<Self> {
        [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive]
            .into_iter()
            .find(|direction| direction.as_str() == name)
    }

    /// The name of the attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// Who opens the DTLS connection (RFC 4145, RFC 8842).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Either way; the answerer chooses.
    ActPass,
    /// The writer of the line is the DTLS client.
    Active,
    /// The writer of the line is the DTLS server.
    Passive,
}

impl Setup {
    /// The value of the attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ActPass => "actpass",
            Self::Active => "active",
            Self::Passive => "passive",
        }
    }
}

/// ICE user name fragment and password (RFC 8839, section 5.4).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// 4 to 256 characters where it follows the grammar.
    pub ufrag: String,
    /// 22 to 256 characters where it follows the grammar.
    pub pwd: String,
}

impl IceCredentials {
    /// Whether both have the lengths of RFC 8839, section 5.4, and are single words.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        // Some encoders use more than the `ice-char` of the grammar; what matters is that they stay one word.
        let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let lengths_fit = (4..=256).contains(&self.ufrag.len()) && (22..=256).contains(&self.pwd.len());
        lengths_fit && is_word(&self.ufrag) && is_word(&self.pwd)
    }
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).field("pwd", &"(secret)").finish()
    }
}

/// A hash that a certificate fingerprint is made with (RFC 8122). SHA-1 and MD5 are not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HashAlgorithm {
    /// 32 bytes; what everyone uses.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

impl HashAlgorithm {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name in the attribute.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// Length of the hash in bytes.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// Hash of a certificate (RFC 8122, section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// What it was made with.
    pub algorithm: HashAlgorithm,
    /// As many bytes as the algorithm yields.
    pub bytes: Vec<u8>,
}

impl Fingerprint {
    /// The SHA-256 fingerprint with these bytes.
    #[must_use]
    pub fn sha256(bytes: [u8; 32]) -> Self {
        Self { algorithm: HashAlgorithm::Sha256, bytes: bytes.to_vec() }
    }

    pub(super) fn parse(value: &str) -> Option<Self> {
        let (name, hex) = value.trim().split_once(' ')?;
        let algorithm =
            HashAlgorithm::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name))?;
        // `from_str_radix` alone would take a sign for a digit.
        let is_hex = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte = |pair: &str| u8::from_str_radix(pair, 16).ok().filter(|_| is_hex(pair));
        let bytes: Vec<u8> = hex.trim().split(':').map(byte).collect::<Option<_>>()?;
        (bytes.len() == algorithm.length()).then_some(Self { algorithm, bytes })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.as_str())?;
        for (index, byte) in self.bytes.iter().enumerate() {
            let separator = if index == 0 { ' ' } else { ':' };
            write!(f, "{separator}{byte:02X}")?;
        }
        Ok(())
    }
}

/// `a=rtpmap` (RFC 8866, section 6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpMap<'a> {
    /// 0 to 127.
    pub payload_type: u8,
    /// Compared without regard to case.
    pub encoding: &'a str,
    /// Ticks in a second.
    pub clock_rate: u32,
    /// Audio only; one where the line says none.
    pub channels: u8,
}

impl<'a> RtpMap<'a> {
    pub(super) fn parse(value: &'a str) -> Option<Self> {
        let (format, map) = value.split_once(' ')?;
        let mut parts = map.trim().split('/');
        let encoding = parts.next().filter(|encoding| !encoding.is_empty())?;
        let clock_rate = parts.next()?.parse().ok()?;
        let channels = parts.next().map_or(Some(1), |channels| channels.parse().ok())?;
        Some(Self { payload_type: payload_type(format)?, encoding, clock_rate, channels })
    }
}

/// `a=extmap` (RFC 8285, section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtensionMap<'a> {
    /// 1 to 14 in one-byte headers, up to 255 in two-byte headers; larger ones are placeholders.
    pub id: u16,
    /// The way in which the writer wants to use it; both ways where the line says none.
    pub direction: Direction,
    /// What the extension is.
    pub uri: &'a str,
}

impl<'a> ExtensionMap<'a> {
    pub(super) fn parse(value: &'a str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let (id, uri) = (words.next()?, words.next()?);
        let (id, direction) = match id.split_once('/') {
            Some((id, direction)) => (id, Direction::parse(direction)?),
            None => (id, Direction::SendRecv),
        };
        Some(Self { id: id.parse().ok()?, direction, uri })
    }
}

/// Whether a rid names a stream that is sent or received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RidDirection {
    /// The writer of the line sends it.
    Send,
    /// The writer of the line receives it.
    Receive,
}

/// `a=rid` (RFC 8851).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RidLine<'a> {
    /// The id, as it stands.
    pub id: &'a str,
    /// Who sends.
    pub direction: RidDirection,
    /// What follows: payload types and limits; empty if there are none.
    pub restrictions: &'a str,
}

impl<'a> RidLine<'a> {
    pub(super) fn parse(value: &'a str) -> Option<Self> {
        let mut words = value.splitn(3, ' ');
        let id = words.next().filter(|id| !id.is_empty())?;
        let direction = match words.next()? {
            "send" => RidDirection::Send,
            "recv" => RidDirection::Receive,
            _ => return None,
        };
        Some(Self { id, direction, restrictions: words.next().unwrap_or("").trim() })
    }
}

/// `a=simulcast` (RFC 8853): the rids of each direction, best first. Of alternatives (`a,b`) the first counts,
/// the mark of initially paused streams (`~`) is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Simulcast {
    /// What the writer sends.
    pub send: Vec<String>,
    /// What the writer receives.
    pub receive: Vec<String>,
}

impl Simulcast {
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut simulcast = Self::default();
        let mut words = value.split_ascii_whitespace();
        while let Some(direction) = words.next() {
            let list = words.next()?;
            let first =
                |group: &str| group.split(',').next().unwrap_or("").trim_start_matches('~').to_owned();
            let rids: Vec<String> = list.split(';').map(first).collect();
            match direction {
                "send" => simulcast.send = rids,
                "recv" => simulcast.receive = rids,
                _ => return None,
            }
        }
        Some(simulcast)
    }
}

impl fmt::Display for Simulcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (direction, rids) in [("send", &self.send), ("recv", &self.receive)] {
            if !rids.is_empty() {
                write!(f, "{separator}{direction} {}", rids.join(";"))?;
                separator = " ";
            }
        }
        Ok(())
    }
}

/// `a=ssrc` (RFC 5576).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SsrcLine<'a> {
    /// The stream.
    pub ssrc: u32,
    /// For instance `cname`.
    pub name: &'a str,
    /// What follows the colon; empty if there is none.
    pub value: &'a str,
}

impl<'a> SsrcLine<'a> {
    pub(super) fn parse(value: &'a str) -> Option<Self> {
        let (ssrc, attribute) = value.split_once(' ')?;
        let (name, value) = attribute.trim().split_once(':').unwrap_or((attribute.trim(), ""));
        Some(Self { ssrc: ssrc.parse().ok()?, name, value })
    }
}
