//! What is true of a publisher at one look: a sentence, and the figures in it by name, for whoever says it otherwise.

use std::collections::BTreeMap;

/// Every name that a figure can have, and what it says. The names are stable.
pub const FIGURES: [(&str, &str); 21] = [
    ("age", "seconds since the latest keyframe"),
    ("bitrate", "bit/s"),
    ("claimed", "pictures per second that the stream says it has"),
    ("coding", "codec and profile, as `\"VP9, profile 2\"`"),
    ("interval", "seconds between keyframes"),
    ("jitter", "milliseconds by which packets come unevenly"),
    ("keyframes", "keyframes in a row"),
    ("late", "milliseconds that packets wait on the way"),
    ("level", "the H.264 level, as `\"5.1\"`"),
    ("lost", "per cent of the packets"),
    ("media", "seconds of media that come in ten seconds"),
    ("picture_late", "milliseconds by which the picture is later than the sound"),
    ("profile", "the H.264 profile, by name"),
    ("profile_number", "the H.264 profile, if it has no name"),
    ("rate", "pictures per second"),
    ("round_trip", "milliseconds to the publisher and back"),
    ("size", "of the picture, as `\"1920x1080\"`"),
    ("sound_late", "milliseconds by which the sound is later than the picture"),
    ("speed", "how many times as fast as it plays media comes"),
    ("version", "of the encoder, as `\"30.1.2\"`"),
    ("waited", "seconds that the publisher has not been connected"),
];

/// A figure in a sentence.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// Rounded to tenths.
    Number(f64),
    /// The same in every language.
    Name(String),
}

/// Figures by the names of [`FIGURES`].
pub type Figures = BTreeMap<&'static str, Figure>;

/// What is true, in a sentence.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sign {
    pub(crate) what: String,
    pub(crate) figures: Figures,
}

impl Sign {
    /// The same with a number that stands in the sentence.
    pub(crate) fn number(self, name: &'static str, number: f64) -> Self {
        self.figure(name, Figure::Number((number * 10.0).round() / 10.0))
    }

    /// The same with a name that stands in the sentence.
    pub(crate) fn name(self, name: &'static str, text: impl Into<String>) -> Self {
        self.figure(name, Figure::Name(text.into()))
    }

    fn figure(mut self, name: &'static str, figure: Figure) -> Self {
        debug_assert!(FIGURES.iter().any(|(known, _)| *known == name), "{name} is not in the list");
        self.figures.insert(name, figure);
        self
    }
}

impl From<String> for Sign {
    fn from(what: String) -> Self {
        Self { what, figures: Figures::new() }
    }
}

impl From<&str> for Sign {
    fn from(what: &str) -> Self {
        what.to_owned().into()
    }
}
