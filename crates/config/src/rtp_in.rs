//! Plain RTP that a node listens to.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use model::BroadcastId;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::section::Value;
use crate::values::{Network, ValueError};

/// One session description and the broadcast that it is published as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpIn {
    /// Which broadcast.
    pub broadcast: BroadcastId,
    /// Where the description stands.
    pub sdp: Sdp,
    /// Whoever else sends is not listened to, beside those of `rtp_in_sources`; empty: no more than that says.
    pub sources: Vec<Network>,
}

/// A session description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sdp {
    /// In a file.
    File(PathBuf),
    /// Here.
    Text(String),
}

impl FromStr for RtpIn {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (broadcast, file) = text.trim().split_once('=').ok_or(ValueError::RtpIn)?;
        let broadcast = BroadcastId::new(broadcast.trim()).map_err(|_| ValueError::RtpIn)?;
        let file = file.trim();
        if file.is_empty() {
            return Err(ValueError::RtpIn);
        }
        Ok(Self { broadcast, sdp: Sdp::File(file.into()), sources: Vec::new() })
    }
}

impl fmt::Display for RtpIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sdp {
            Sdp::File(file) => write!(f, "{}={}", self.broadcast, file.display()),
            Sdp::Text(_) => write!(f, "{}", self.broadcast),
        }
    }
}

/// The form of the file that has more than a name and a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    broadcast: String,
    file: Option<PathBuf>,
    sdp: Option<String>,
    #[serde(default)]
    sources: Vec<String>,
}

impl TryFrom<Table> for RtpIn {
    type Error = String;
    fn try_from(table: Table) -> Result<Self, String> {
        let sdp = match (table.file, table.sdp) {
            (Some(file), None) => Sdp::File(file),
            (None, Some(text)) => Sdp::Text(text),
            (Some(_), Some(_)) | (None, None) => {
                return Err("plain RTP has a session description: either `file` or `sdp`".into());
            }
        };
        let broadcast = BroadcastId::new(&table.broadcast).map_err(|error| error.to_string())?;
        let sources: Result<_, ValueError> = table.sources.iter().map(|source| source.parse()).collect();
        Ok(Self { broadcast, sdp, sources: sources.map_err(|error| error.to_string())? })
    }
}

struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = RtpIn;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NAME=FILE, or a table with broadcast, file or sdp, and sources")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RtpIn, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RtpIn, A::Error> {
        Table::deserialize(MapAccessDeserializer::new(map))?.try_into().map_err(A::Error::custom)
    }
}

impl Value for RtpIn {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: ValueError| error.to_string())
    }

    fn from_file<'de, D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(EitherForm)
    }

    fn to_file(&self) -> String {
        let text = |text: String| toml::Value::String(text).to_string();
        let (key, value) = match &self.sdp {
            Sdp::File(_) if self.sources.is_empty() => return text(self.to_string()),
            Sdp::File(file) => ("file", file.display().to_string()),
            Sdp::Text(sdp) => ("sdp", sdp.clone()),
        };
        let sources: Vec<String> = self.sources.iter().map(|source| text(source.to_string())).collect();
        let (broadcast, value) = (text(self.broadcast.to_string()), text(value));
        format!("{{ broadcast = {broadcast}, {key} = {value}, sources = [{}] }}", sources.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        #[serde(deserialize_with = "crate::section::read")]
        rtp_in: Vec<RtpIn>,
    }

    fn read(text: &str) -> Result<Vec<RtpIn>, String> {
        toml::from_str::<File>(text).map(|file| file.rtp_in).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_name_and_a_file_are_enough_and_a_table_says_more() {
        let short = read("rtp_in = [\"live=/etc/studio.sdp\"]").expect("read");
        assert_eq!(short, ["live=/etc/studio.sdp".parse().expect("parsed")]);
        let text = "[[rtp_in]]\nbroadcast = \"live\"\nsdp = \"\"\"\nv=0\n\"quoted\"\n\"\"\"\nsources = [\"10.0.0.0/8\"]\n\
                    [[rtp_in]]\nbroadcast = \"b\"\nfile = \"b.sdp\"\n";
        let long = read(text).expect("read");
        assert_eq!(long[0].sdp, Sdp::Text("v=0\n\"quoted\"\n".into()));
        assert!(long[0].sources[0].contains([10, 1, 1, 1].into()));
        for list in [short, long] {
            let written = list.iter().map(Value::to_file).collect::<Vec<_>>().join(", ");
            assert_eq!(read(&format!("rtp_in = [{written}]")), Ok(list));
        }
    }

    #[test]
    fn what_is_neither_is_refused_with_words() {
        for (text, words) in [
            ("rtp_in = [\"studio.sdp\"]", "NAME=FILE"),
            ("rtp_in = [\"Not A Name=studio.sdp\"]", "NAME=FILE"),
            ("rtp_in = [\"live=\"]", "NAME=FILE"),
            ("rtp_in = [{ broadcast = \"live\" }]", "either `file` or `sdp`"),
            ("rtp_in = [{ broadcast = \"live\", file = \"a\", port = 1 }]", "port"),
            ("rtp_in = [{ broadcast = \"live\", file = \"a\", sources = [\"gear\"] }]", "network"),
            ("rtp_in = [5]", "NAME=FILE"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
