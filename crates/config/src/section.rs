//! What a setting is, and the macro that declares a section of them.
//!
//! From one declaration come the struct that the rest of the program reads, its defaults, the keys of the file, the
//! flags, the variables of the environment and the documented example, so that none can drift from the others.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches};
use model::{BroadcastId, NodeId, Right, TreeId};
use serde::de::value::StrDeserializer;
use serde::de::{Error as _, IntoDeserializer as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::secret::{Secret, Token};
use crate::values::{
    HttpUrl, HumanDuration, IceServer, KeySource, LogFormat, Network, OptionalListen, Parent, Part,
    Provisioner, PublisherConflict, ScalingMode, Size,
};

/// One value as it stands in a flag, in the environment and in the file.
pub trait Value: Clone + Send + Sync + Sized + 'static {
    /// From the text of a flag or a variable.
    fn from_text(text: &str) -> Result<Self, String>;
    /// From the file.
    fn from_file<'de, D: Deserializer<'de>>(source: D) -> Result<Self, D::Error>;
    /// As it is written in the file.
    fn to_file(&self) -> String;
    /// A flag that may stand without a value means this.
    const WITHOUT_VALUE: Option<&'static str> = None;
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Values that are strings in the file.
macro_rules! textual {
    ($($type:ty),+ $(,)?) => { $(
        impl Value for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                parse(text)
            }
            fn from_file<'de, D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                Self::from_text(&String::deserialize(source)?).map_err(D::Error::custom)
            }
            fn to_file(&self) -> String {
                toml::Value::String(self.to_string()).to_string()
            }
        }
    )+ };
}

textual!(
    String,
    SocketAddr,
    IpAddr,
    HumanDuration,
    Size,
    Parent,
    PublisherConflict,
    ScalingMode,
    Provisioner,
    LogFormat,
    NodeId,
    TreeId,
    BroadcastId,
    Right,
    HttpUrl,
    IceServer,
    Network,
    OptionalListen,
    KeySource,
);

/// Values that nothing but a private file may show.
macro_rules! secret {
    ($($type:ty: $expose:expr),+ $(,)?) => { $(
        impl Value for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                parse(text)
            }
            fn from_file<'de, D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                Self::from_text(&String::deserialize(source)?).map_err(D::Error::custom)
            }
            fn to_file(&self) -> String {
                let expose: fn(&Self) -> String = $expose;
                toml::Value::String(expose(self)).to_string()
            }
        }
    )+ };
}

secret!(
    Secret: |secret| secret.expose().to_owned(),
    Token: |token| match &token.broadcast {
        Some(broadcast) => format!("{broadcast}={}", token.secret.expose()),
        None => token.secret.expose().to_owned(),
    },
);

/// Values that TOML knows.
macro_rules! native {
    ($($type:ty, $without_value:expr);+ $(;)?) => { $(
        impl Value for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                parse(text)
            }
            fn from_file<'de, D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                Self::deserialize(source)
            }
            fn to_file(&self) -> String {
                self.to_string()
            }
            const WITHOUT_VALUE: Option<&'static str> = $without_value;
        }
    )+ };
}

native!(u16, None; u32, None; bool, Some("true"));

impl Value for Part {
    fn from_text(text: &str) -> Result<Self, String> {
        parse(text)
    }
    fn from_file<'de, D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        Self::try_from(f64::deserialize(source)?).map_err(D::Error::custom)
    }
    fn to_file(&self) -> String {
        self.to_string()
    }
}

impl Value for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path has at least one character".into()) } else { Ok(text.into()) }
    }
    fn from_file<'de, D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        Self::from_text(&String::deserialize(source)?).map_err(D::Error::custom)
    }
    fn to_file(&self) -> String {
        toml::Value::String(self.display().to_string()).to_string()
    }
}

/// What stands behind a key: a value, perhaps a value, or several.
pub trait Setting: Clone + Send + Sync + Sized + 'static {
    /// From the text of a variable; several values are separated by commas.
    fn parse(text: &str) -> Result<Self, String>;
    /// From the file.
    fn read<'de, D: Deserializer<'de>>(source: D) -> Result<Self, D::Error>;
    /// As it is written in the file; `None` if the key is left out.
    fn show(&self) -> Option<String>;
    /// The flag.
    fn arg(arg: Arg) -> Arg;
    /// What the flags say of it, if anything.
    fn take(matches: &mut ArgMatches, id: &str) -> Option<Self>;
}

fn one<T: Value>(arg: Arg) -> Arg {
    let arg = arg.action(ArgAction::Set).value_parser(ValueParser::new(|text: &str| T::from_text(text)));
    match T::WITHOUT_VALUE {
        Some(value) => arg.num_args(0..=1).require_equals(true).default_missing_value(value),
        None => arg,
    }
}

impl<T: Value> Setting for T {
    fn parse(text: &str) -> Result<Self, String> {
        T::from_text(text)
    }
    fn read<'de, D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        T::from_file(source)
    }
    fn show(&self) -> Option<String> {
        Some(self.to_file())
    }
    fn arg(arg: Arg) -> Arg {
        one::<T>(arg)
    }
    fn take(matches: &mut ArgMatches, id: &str) -> Option<Self> {
        matches.remove_one(id)
    }
}

impl<T: Value> Setting for Option<T> {
    fn parse(text: &str) -> Result<Self, String> {
        T::from_text(text).map(Some)
    }
    fn read<'de, D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        T::from_file(source).map(Some)
    }
    fn show(&self) -> Option<String> {
        self.as_ref().map(Value::to_file)
    }
    fn arg(arg: Arg) -> Arg {
        one::<T>(arg)
    }
    fn take(matches: &mut ArgMatches, id: &str) -> Option<Self> {
        matches.remove_one::<T>(id).map(Some)
    }
}

/// Lets serde read a [`Value`] inside a list.
struct Element<T>(T);

impl<'de, T: Value> Deserialize<'de> for Element<T> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        T::from_file(source).map(Self)
    }
}

/// A list, or one text that need not stand in brackets.
struct OneOrMore<T>(PhantomData<T>);

impl<'de, T: Value> Visitor<'de> for OneOrMore<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(Element(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(values)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        let text: StrDeserializer<'_, E> = text.into_deserializer();
        Ok(vec![T::from_file(text)?])
    }
}

impl<T: Value> Setting for Vec<T> {
    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(T::from_text).collect()
    }
    fn read<'de, D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(OneOrMore(PhantomData))
    }
    fn show(&self) -> Option<String> {
        Some(format!("[{}]", self.iter().map(Value::to_file).collect::<Vec<_>>().join(", ")))
    }
    fn arg(arg: Arg) -> Arg {
        let parser = ValueParser::new(|text: &str| T::from_text(text));
        arg.action(ArgAction::Append).value_delimiter(',').value_parser(parser)
    }
    fn take(matches: &mut ArgMatches, id: &str) -> Option<Self> {
        matches.remove_many(id).map(Iterator::collect)
    }
}

/// The entry point of `#[serde(deserialize_with)]`.
pub fn read<'de, T: Setting, D: Deserializer<'de>>(source: D) -> Result<T, D::Error> {
    T::read(source)
}

/// What the documentation of a setting is made of.
#[derive(Debug, Clone)]
pub struct Documented {
    /// The key within its section.
    pub key: &'static str,
    /// The lines of its documentation.
    pub lines: &'static [&'static str],
    /// Its default as it is written in the file, if it has one.
    pub default: Option<String>,
    /// What might stand there.
    pub example: &'static str,
    /// The flag, without dashes.
    pub flag: &'static str,
}

/// The sentence a flag is listed with: the documentation's first lines, up to the end of the sentence.
pub fn summary(lines: &[&str]) -> String {
    let text = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    text.split_once(". ").map_or(text.trim_end_matches('.'), |(sentence, _)| sentence).to_owned()
}

/// Declares a section: `key: type = default, "flag", "example as it would stand in the file";`.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        $name:ident, $flags:ident, $table:literal {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $type:ty = $default:expr, $flag:literal, $example:literal;
            )+
        }
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Debug, Clone, PartialEq, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[serde(deserialize_with = "crate::section::read")]
                pub $key: $type,
            )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default),+ }
            }
        }

        impl $name {
            pub(crate) const TABLE: &'static str = $table;
            pub(crate) const LINES: &'static [&'static str] = &[$($section_doc),+];

            pub(crate) fn documented() -> Vec<$crate::section::Documented> {
                use $crate::section::Setting as _;
                let default = Self::default();
                vec![$($crate::section::Documented {
                    key: stringify!($key),
                    lines: &[$($doc),+],
                    default: default.$key.show(),
                    example: $example,
                    flag: $flag,
                }),+]
            }

            /// The keys that are set, and their values as they stand in a file, secrets too.
            pub(crate) fn written(&self) -> Vec<(&'static str, String)> {
                use $crate::section::Setting as _;
                let all = [$((stringify!($key), self.$key.show())),+];
                all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
            }

            pub(crate) fn apply(&mut self, flags: $flags) {
                $(if let Some(value) = flags.$key { self.$key = value; })+
            }
        }

        #[derive(Debug, Clone, Default)]
        pub(crate) struct $flags {
            $($key: Option<$type>),+
        }

        impl $flags {
            pub(crate) fn args(command: clap::Command) -> clap::Command {
                use $crate::section::Setting;
                let command = command.next_help_heading(concat!("[", $table, "]"));
                $(
                    let help = $crate::section::summary(&[$($doc),+]);
                    let arg = clap::Arg::new($flag).long($flag).value_name(stringify!($key)).help(help);
                    let command = command.arg(<$type as Setting>::arg(arg));
                )+
                command
            }

            pub(crate) fn from_matches(matches: &mut clap::ArgMatches) -> Self {
                use $crate::section::Setting;
                Self { $($key: <$type as Setting>::take(matches, $flag)),+ }
            }

            /// Sets one setting from text; `None` if it is not one of this section.
            pub(crate) fn set(&mut self, flag: &str, text: &str) -> Option<Result<(), String>> {
                use $crate::section::Setting;
                match flag {
                    $($flag => Some(<$type as Setting>::parse(text).map(|value| self.$key = Some(value))),)+
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use section;
