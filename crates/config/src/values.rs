//! Values that people write: durations, sizes, addresses of parents, choices.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

/// Why a text is not the value that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Not a duration.
    #[error("a duration is a whole number and one of ms, s, m, h, for instance 500ms")]
    Duration,
    /// Not a size.
    #[error("a size is a whole number and one of B, KiB, MiB, GiB, for instance 16MiB")]
    Size,
    /// Too large to be represented.
    #[error("the number is too large")]
    TooLarge,
    /// Not the address of a parent.
    #[error("a parent is host:port, for instance relay-1.example.net:51000 or [2001:db8::1]:51000")]
    Parent,
    /// Not a URL that can be asked.
    #[error("a URL here begins with http:// or https:// and a host, and has neither user name nor #")]
    HttpUrl,
    /// Nothing that leads to keys.
    #[error("keys are at a URL, for instance https://id.example.net/jwks.json, or in a file")]
    KeySource,
    /// Neither an address to listen on nor off.
    #[error("an address and a port may stand here, for instance 0.0.0.0:1935, or off")]
    OptionalListen,
    /// Not plain RTP and its name.
    #[error(
        "plain RTP is NAME=FILE: a broadcast, and a file with its session description, for instance live=studio.sdp"
    )]
    RtpIn,
    /// Nothing that a Docker engine is asked at.
    #[error(
        "an engine is like unix:///var/run/docker.sock, tcp://10.0.0.8:2376 or http://127.0.0.1:2375, and may have the \
         name of its machine before it: rack8=tcp://10.0.0.8:2376"
    )]
    Engine,
    /// Neither an address nor a network.
    #[error("an address or a network may stand here, for instance 127.0.0.1 or 10.0.0.0/8")]
    Network,
    /// Not the URI of a STUN or TURN server.
    #[error("an ICE server is like stun:stun.example.net or turns:turn.example.net:443?transport=tcp")]
    IceServer,
    /// No part of one.
    #[error("a part is a number from 0 to 1, for instance 0.01")]
    Part,
    /// None of the words that may stand here.
    #[error("one of {words} may stand here")]
    Word {
        /// The words, for people.
        words: &'static str,
    },
}

/// Splits `500ms` into 500 and the factor of `ms`.
fn number_and_unit(text: &str, units: &[(&str, u64)], error: ValueError) -> Result<u64, ValueError> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit.trim_start()) else {
        return Err(error);
    };
    if number.is_empty() {
        return Err(error);
    }
    let number: u64 = number.parse().map_err(|_| ValueError::TooLarge)?;
    number.checked_mul(*factor).ok_or(ValueError::TooLarge)
}

/// The largest unit that divides `value`.
fn with_unit(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let (name, factor) = units
        .iter()
        .filter(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
        .max_by_key(|(_, factor)| *factor)
        .unwrap_or(&units[0]);
    write!(f, "{}{name}", value / factor)
}

const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A part of something: 0 is nothing of it, 1 is all of it.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Part(f64);

impl Part {
    /// All of it.
    pub const ALL: Self = Self(1.0);

    /// As a number from 0 to 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Part {
    type Error = ValueError;
    fn try_from(number: f64) -> Result<Self, ValueError> {
        if (0.0..=1.0).contains(&number) { Ok(Self(number)) } else { Err(ValueError::Part) }
    }
}

impl FromStr for Part {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.trim().parse::<f64>().map_err(|_| ValueError::Part)?.try_into()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With a point, as TOML wants numbers that may have one.
        write!(f, "{:?}", self.0)
    }
}

/// A duration as people write it: `500ms`, `15s`, `2m`, `1h`. Exact to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(Duration);

impl HumanDuration {
    /// From milliseconds.
    #[must_use]
    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// From seconds.
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for HumanDuration {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        number_and_unit(text, &DURATIONS, ValueError::Duration).map(Self::millis)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_unit(f, self.0.as_millis() as u64, &DURATIONS)
    }
}

/// A size as people write it: `512KiB`, `16MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// From mebibytes.
    #[must_use]
    pub const fn mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        number_and_unit(text, &SIZES, ValueError::Size).map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_unit(f, self.0, &SIZES)
    }
}

/// Where a parent's link listener is: a host name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parent {
    host: Box<str>,
    port: u16,
}

impl Parent {
    /// The host name, or the address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The UDP port of its link listener.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether it can only be on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        address.map_or(&*self.host == "localhost", |ip| ip.to_canonical().is_loopback())
    }
}

impl FromStr for Parent {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if let Ok(address) = text.parse::<SocketAddr>() {
            if address.port() == 0 {
                return Err(ValueError::Parent);
            }
            return Ok(Self { host: address.ip().to_string().into(), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':').ok_or(ValueError::Parent)?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(ValueError::Parent)?;
        if host.is_empty() || host.len() > 253 || !host.chars().all(is_name) {
            return Err(ValueError::Parent);
        }
        Ok(Self { host: host.into(), port })
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An `http` or `https` URL that this program asks. `Debug` shows its scheme and host only: paths carry secrets too.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(Box<str>);

impl HttpUrl {
    /// The whole URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Scheme, host and port: what may be logged.
    #[must_use]
    pub fn origin(&self) -> &str {
        let start = self.0.find("://").map_or(0, |at| at + 3);
        let length = self.0[start..].find(['/', '?']).unwrap_or(self.0.len() - start);
        &self.0[..start + length]
    }

    /// Whether what is sent there stays secret: it is encrypted, or never leaves this machine.
    #[must_use]
    pub fn is_private(&self) -> bool {
        let Some(authority) = self.origin().strip_prefix("http://") else { return true };
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next(),
            None => authority.split(':').next(),
        };
        let host = host.unwrap_or_default();
        host.parse::<IpAddr>().map_or(host == "localhost", |ip| ip.to_canonical().is_loopback())
    }
}

impl FromStr for HttpUrl {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let authority = rest.and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        let is_plain = text.chars().all(|c| c.is_ascii_graphic() && c != '#' && c != '\\');
        if authority.is_empty() || authority.starts_with(':') || !authority.chars().all(is_host) || !is_plain
        {
            return Err(ValueError::HttpUrl);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/***", self.origin())
    }
}

/// Where to listen, or that nobody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionalListen {
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

impl OptionalListen {
    /// The address, if there is one.
    #[must_use]
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for OptionalListen {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.trim() {
            "off" => Ok(Self::Off),
            address => address.parse().map(Self::At).map_err(|_| ValueError::OptionalListen),
        }
    }
}

impl fmt::Display for OptionalListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// The URI of a STUN or TURN server (RFC 7064, RFC 7065).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer(Box<str>);

impl IceServer {
    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it relays, and wants credentials for it.
    #[must_use]
    pub fn is_turn(&self) -> bool {
        self.0.starts_with("turn")
    }
}

impl FromStr for IceServer {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once(':').ok_or(ValueError::IceServer)?;
        let (authority, query) =
            rest.split_once('?').map_or((rest, None), |(host, query)| (host, Some(query)));
        let is_scheme = matches!(scheme, "stun" | "stuns" | "turn" | "turns");
        let is_query = match query {
            None => true,
            Some("transport=udp" | "transport=tcp") => scheme.starts_with("turn"),
            Some(_) => false,
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        let is_authority =
            !authority.is_empty() && !authority.starts_with(':') && authority.chars().all(is_host);
        if is_scheme && is_query && is_authority { Ok(Self(text.into())) } else { Err(ValueError::IceServer) }
    }
}

impl fmt::Display for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One address, or all that begin alike (CIDR, RFC 4632).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// The addresses.
    #[must_use]
    pub const fn get(&self) -> IpNet {
        self.0
    }

    /// Whether the address is one of them; an IPv4 address in an IPv6 one is that.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| ValueError::Network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

/// Where a set of public keys is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// At a server.
    Url(HttpUrl),
    /// In a file.
    File(PathBuf),
}

impl FromStr for KeySource {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if text.contains("://") {
            return text.parse().map(Self::Url);
        }
        if text.is_empty() { Err(ValueError::KeySource) } else { Ok(Self::File(text.into())) }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// A closed choice of words.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $words:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
                pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl FromStr for $name {
            type Err = ValueError;
            fn from_str(text: &str) -> Result<Self, ValueError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(ValueError::Word { words: $words }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

    };
}

choice! {
    /// What happens when somebody publishes a broadcast that has a publisher.
    PublisherConflict, "take_over, refuse, backup" {
        /// The newcomer becomes the publisher: encoders that restart are back at once.
        TakeOver = "take_over",
        /// The newcomer is refused with 409.
        Refuse = "refuse",
        /// The newcomer stays connected and goes on when the first one goes or falls silent.
        Backup = "backup",
    }
}

choice! {
    /// Whether trees grow and shrink by themselves.
    ScalingMode, "off, dry_run, approve, on" {
        /// They do not.
        Off = "off",
        /// What would be done is told and not done.
        DryRun = "dry_run",
        /// An operator allows each sub-tree that comes or goes.
        Approve = "approve",
        /// They do.
        On = "on",
    }
}

choice! {
    /// How nodes are started.
    Provisioner, "process, docker" {
        /// As processes of the controller's machine.
        Process = "process",
        /// As containers of Docker engines.
        Docker = "docker",
    }
}

choice! {
    /// How log lines look.
    LogFormat, "auto, human, json" {
        /// Human on a terminal, JSON otherwise.
        Auto = "auto",
        /// For people.
        Human = "human",
        /// One JSON object a line.
        Json = "json",
    }
}

#[cfg(test)]
mod tests;
