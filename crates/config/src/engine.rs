//! Docker engines that nodes are started on.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::section::Value;
use crate::sections::Scaling;
use crate::values::{Parent, ValueError};

/// Most nodes of an engine, if nobody says how many: two sub-trees of the usual size are hardly more.
const NODES_MAX: u16 = 32;
/// Where Docker listens on this machine.
const SOCKET: &str = "/var/run/docker.sock";

/// One engine, and its machine as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Where it is asked.
    pub url: EngineUrl,
    /// The host that its nodes say they run on; `None`: the host in its URL, or this one.
    pub name: Option<String>,
    /// Most nodes that it runs.
    pub nodes_max: u16,
    /// As `media.public_ip` there; empty: as here on this machine, and what the nodes find on another one.
    pub public_ip: Vec<IpAddr>,
    /// The name that browsers and encoders reach its machine by; `None`: by address.
    pub public_name: Option<String>,
    /// What takes the place of addresses of this machine that the configuration has listeners on.
    pub private_ip: Option<IpAddr>,
    /// As `control.zone` there; `None`: as here.
    pub zone: Option<String>,
}

/// Where an engine is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineUrl {
    /// At a socket of this machine.
    Unix(PathBuf),
    /// Over TCP, with TLS if there are certificates.
    Tcp(Parent),
    /// Over TCP without TLS.
    Http(Parent),
}

impl EngineUrl {
    /// Whether it can only be on this machine.
    #[must_use]
    pub fn is_here(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(host) | Self::Http(host) => host.is_loopback(),
        }
    }
}

impl FromStr for EngineUrl {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (scheme, rest) = text.split_once("://").ok_or(ValueError::Engine)?;
        let host = || rest.trim_end_matches('/').parse().map_err(|_| ValueError::Engine);
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "tcp" => host().map(Self::Tcp),
            "http" => host().map(Self::Http),
            _ => Err(ValueError::Engine),
        }
    }
}

impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::Http(host) => write!(f, "http://{host}"),
        }
    }
}

impl Engine {
    /// What it is called, on a machine that is called `here`.
    #[must_use]
    pub fn name<'a>(&'a self, here: &'a str) -> &'a str {
        match (&self.name, &self.url) {
            (Some(name), _) => name,
            (None, EngineUrl::Unix(_)) => here,
            (None, EngineUrl::Tcp(host) | EngineUrl::Http(host)) => host.host(),
        }
    }

    fn of(url: EngineUrl) -> Self {
        Self {
            url,
            name: None,
            nodes_max: NODES_MAX,
            public_ip: Vec::new(),
            public_name: None,
            private_ip: None,
            zone: None,
        }
    }

    /// Nothing but an URL, and perhaps a name.
    fn is_short(&self) -> bool {
        *self == Self { name: self.name.clone(), ..Self::of(self.url.clone()) }
    }
}

impl Scaling {
    /// The engines, or the one that this machine usually has.
    #[must_use]
    pub fn docker_engines(&self) -> Vec<Engine> {
        let usual = || vec![Engine::of(EngineUrl::Unix(SOCKET.into()))];
        if self.engines.is_empty() { usual() } else { self.engines.clone() }
    }
}

/// A name of a machine, as DNS has them.
fn host_name(text: &str) -> Result<String, ValueError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_good = (1..=253).contains(&text.len()) && text.chars().all(is_name);
    if is_good { Ok(text.to_owned()) } else { Err(ValueError::Engine) }
}

impl FromStr for Engine {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        // A path may have the sign, too.
        let named = text.split_once('=').filter(|(name, _)| !name.contains("://"));
        let (name, url) = named.map_or((None, text), |(name, url)| (Some(name), url));
        Ok(Self { name: name.map(host_name).transpose()?, ..Self::of(url.parse()?) })
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}=")?;
        }
        self.url.fmt(f)
    }
}

/// The form of the file that has more than a name and an URL.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    url: String,
    name: Option<String>,
    nodes_max: Option<u16>,
    #[serde(default)]
    public_ip: Vec<IpAddr>,
    public_name: Option<String>,
    private_ip: Option<IpAddr>,
    zone: Option<String>,
}

impl TryFrom<Table> for Engine {
    type Error = ValueError;
    fn try_from(table: Table) -> Result<Self, ValueError> {
        Ok(Self {
            url: table.url.parse()?,
            name: table.name.as_deref().map(host_name).transpose()?,
            nodes_max: table.nodes_max.unwrap_or(NODES_MAX),
            public_ip: table.public_ip,
            public_name: table.public_name.as_deref().map(host_name).transpose()?,
            private_ip: table.private_ip,
            zone: table.zone,
        })
    }
}

struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = Engine;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an URL of an engine, or a table with url, name, nodes_max and addresses")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Engine, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Engine, A::Error> {
        Table::deserialize(MapAccessDeserializer::new(map))?.try_into().map_err(A::Error::custom)
    }
}

impl Value for Engine {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: ValueError| error.to_string())
    }

    fn from_file<'de, D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(EitherForm)
    }

    fn to_file(&self) -> String {
        let text = |text: &dyn fmt::Display| toml::Value::String(text.to_string()).to_string();
        if self.is_short() {
            return text(self);
        }
        let public_ip: Vec<String> = self.public_ip.iter().map(|ip| text(ip)).collect();
        let mut keys = vec![
            format!("url = {}", text(&self.url)),
            format!("nodes_max = {}", self.nodes_max),
            format!("public_ip = [{}]", public_ip.join(", ")),
        ];
        let private_ip = self.private_ip.map(|ip| ip.to_string());
        let others = [
            ("name", &self.name),
            ("public_name", &self.public_name),
            ("private_ip", &private_ip),
            ("zone", &self.zone),
        ];
        let others = others.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        keys.extend(others.map(|(key, value)| format!("{key} = {}", text(value))));
        format!("{{ {} }}", keys.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        #[serde(deserialize_with = "crate::section::read")]
        engines: Vec<Engine>,
    }

    fn read(text: &str) -> Result<Vec<Engine>, String> {
        toml::from_str::<File>(text).map(|file| file.engines).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn an_url_is_enough_a_name_may_stand_before_it_and_a_table_says_more() {
        let short = read("engines = [\"unix:///run/docker=1.sock\", \"rack8=tcp://[2001:db8::8]:2376\"]");
        let short = short.expect("read");
        assert_eq!(short[0].url, EngineUrl::Unix("/run/docker=1.sock".into()));
        assert_eq!((short[0].name("here"), short[1].name("here")), ("here", "rack8"));
        assert_eq!((short[1].url.to_string(), short[1].nodes_max), ("tcp://[2001:db8::8]:2376".into(), 32));
        let long = "[[engines]]\nurl = \"http://10.0.0.8:2375\"\nnodes_max = 4\npublic_ip = [\"203.0.113.8\"]\n\
                    public_name = \"rack8.example.net\"\nprivate_ip = \"10.0.0.8\"\nzone = \"fra \\\"1\\\"\"\n";
        let long = read(long).expect("read");
        assert_eq!((long[0].name("here"), long[0].nodes_max), ("10.0.0.8", 4));
        assert_eq!(long[0].zone.as_deref(), Some("fra \"1\""));
        for list in [short, long] {
            let written = list.iter().map(Value::to_file).collect::<Vec<_>>().join(", ");
            assert_eq!(read(&format!("engines = [{written}]")), Ok(list));
        }
    }

    #[test]
    fn what_is_on_this_machine_is_told_from_what_is_not() {
        for (text, is_here) in [
            ("unix:///var/run/docker.sock", true),
            ("tcp://127.0.0.1:2375", true),
            ("http://localhost:2375/", true),
            ("tcp://10.0.0.8:2376", false),
        ] {
            assert_eq!(text.parse::<EngineUrl>().map(|url| url.is_here()), Ok(is_here), "{text}");
        }
    }

    #[test]
    fn what_is_no_engine_is_refused_with_words() {
        for (text, words) in [
            ("engines = [\"docker.sock\"]", "unix://"),
            ("engines = [\"unix://docker.sock\"]", "unix://"),
            ("engines = [\"ssh://10.0.0.8\"]", "unix://"),
            ("engines = [\"tcp://10.0.0.8\"]", "unix://"),
            ("engines = [\"a rack=tcp://10.0.0.8:2376\"]", "unix://"),
            ("engines = [{ url = \"tcp://10.0.0.8:2376\", image = \"x\" }]", "image"),
            ("engines = [{ url = \"tcp://10.0.0.8:2376\", public_ip = [\"here\"] }]", "IP"),
            ("engines = [5]", "an URL of an engine"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn without_any_it_is_the_one_of_this_machine() {
        let usual = Scaling::default().docker_engines();
        assert_eq!(usual.iter().map(Engine::to_string).collect::<Vec<_>>(), ["unix:///var/run/docker.sock"]);
    }
}
