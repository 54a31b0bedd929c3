//! What was measured, one line of JSON each: the raw data that the report is computed from.

use serde::{Deserialize, Serialize};

use crate::load::{Audience, Media, Seen};
use crate::machine::Machine;
use crate::plan::Part;
use crate::servers::Kind;

/// A server that delivers less than this share of the packets is saturated.
const SATURATED: f64 = 0.99;

/// One line of the raw data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Record {
    /// Where and when.
    Session(Session),
    /// One server under one load.
    Run(Box<Run>),
    /// Many viewers at once.
    Storm(Box<Storm>),
    /// A relay and its children.
    Relay(Relay),
    /// A bench beside a hot path.
    Micro(Micro),
    /// Where a server's CPU time goes.
    Profile(Profile),
    /// What could not be measured, and why.
    Missing(Missing),
}

impl Record {
    /// The part of the plan that it comes from; `None` for what stands for all.
    #[must_use]
    pub fn part(&self) -> Option<Part> {
        Some(match self {
            Self::Session(_) => return None,
            Self::Run(_) => Part::Servers,
            Self::Storm(_) => Part::Storm,
            Self::Relay(_) => Part::Relay,
            Self::Micro(_) => Part::Micro,
            Self::Profile(profile) => profile.part,
            Self::Missing(missing) => missing.part,
        })
    }
}

macro_rules! pick {
    ($($(#[$doc:meta])* $name:ident: $variant:ident($kind:ty);)*) => {
        impl Record {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> Option<&$kind> {
                if let Self::$variant(it) = self { Some(it) } else { None }
            })*
        }
    };
}

pick! {
    /// Where and when, if it is that.
    session: Session(Session);
    /// One server under one load, if it is that.
    run: Run(Run);
    /// A join storm, if it is that.
    storm: Storm(Storm);
    /// A relay and its children, if it is that.
    relay: Relay(Relay);
    /// A bench beside a hot path, if it is that.
    micro: Micro(Micro);
    /// A profile, if it is that.
    profile: Profile(Profile);
    /// What is missing, if it is that.
    missing: Missing(Missing);
}

/// Where and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// When it began.
    pub date: String,
    /// On what.
    pub machine: Machine,
    /// With shortened windows.
    pub is_quick: bool,
    /// What was measured anew; empty if it was everything.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Packets each second of the usual mix, as recorded.
    pub mix_packets_per_second: f64,
}

/// What the machine did besides, in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Surroundings {
    /// Load average of the minute at the end.
    pub load_average: f64,
    /// CPU seconds of the viewers.
    pub viewers_cpu_seconds: f64,
    /// CPU seconds of the publisher and what stands between it and the server.
    pub feeding_cpu_seconds: f64,
    /// CPU seconds of everything on the machine, the server and its load too.
    pub machine_cpu_seconds: f64,
}

/// The floor, measured just before a server with as many viewers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// CPU nanoseconds for each packet received, sealed and sent as cheaply as is known.
    pub gso_ns: f64,
    /// The same for one bare `sendto`.
    pub sendto_ns: f64,
    /// Share of the packets that arrived, of both.
    pub delivered: f64,
    /// Load average of the minute at the end.
    pub load_average: f64,
}

/// One server under one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Which.
    pub server: Kind,
    /// What was published.
    pub media: Media,
    /// Who watched.
    pub audience: Audience,
    /// CPU seconds of the server's process in the window.
    pub cpu_seconds: f64,
    /// Resident bytes with a publisher and no viewers.
    pub resident_before: u64,
    /// Resident bytes at the end of the window.
    pub resident_after: u64,
    /// What the floor cost in the same minute.
    pub floor: Floor,
    /// What else went on.
    pub surroundings: Surroundings,
    /// What the viewers saw.
    pub seen: Seen,
}

impl Run {
    /// Seconds of the window.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        (self.seen.window.end_unix_ms - self.seen.window.start_unix_ms) / 1000.0
    }

    /// CPU nanoseconds of the server for each packet that reached a viewer.
    #[must_use]
    pub fn packet_ns(&self) -> f64 {
        self.cpu_seconds * 1e9 / self.seen.packets.delivered.max(1) as f64
    }

    /// Cores that the server kept busy.
    #[must_use]
    pub fn cores(&self) -> f64 {
        self.cpu_seconds / self.seconds()
    }

    /// Viewers that one core carries, at the price of this run.
    #[must_use]
    pub fn viewers_per_core(&self) -> f64 {
        self.watching() / self.cores()
    }

    /// Viewers who joined and stayed.
    fn watching(&self) -> f64 {
        self.seen.viewers.joined.saturating_sub(self.seen.viewers.left_early) as f64
    }

    /// Everybody watched, and got nearly all packets.
    #[must_use]
    pub fn is_carried(&self) -> bool {
        self.delivered() >= SATURATED && self.watching() >= f64::from(self.audience.viewers)
    }

    /// Share of the packets that arrived, repairs included.
    #[must_use]
    pub fn delivered(&self) -> f64 {
        self.seen.packets.delivered as f64 / self.seen.packets.expected.max(1) as f64
    }

    /// Resident bytes for each viewer.
    #[must_use]
    pub fn resident_per_viewer(&self) -> f64 {
        self.resident_after.saturating_sub(self.resident_before) as f64 / self.watching().max(1.0)
    }

    /// Cores that publisher, viewers and what stands between kept busy.
    #[must_use]
    pub fn load_cores(&self) -> f64 {
        (self.surroundings.viewers_cpu_seconds + self.surroundings.feeding_cpu_seconds) / self.seconds()
    }

    /// Cores that neither the server nor its load used, and others did.
    #[must_use]
    pub fn foreign_cores(&self) -> f64 {
        let all = self.surroundings.machine_cpu_seconds / self.seconds();
        (all - self.cores() - self.load_cores()).max(0.0)
    }
}

/// Many viewers at once, on a broadcast of a few packets each second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Storm {
    /// Who came.
    pub audience: Audience,
    /// CPU seconds of the server while they came.
    pub cpu_seconds: f64,
    /// Seconds from the first POST to the last one connected.
    pub seconds: f64,
    /// What they saw.
    pub seen: Seen,
    /// What those saw who were there before.
    pub inside: Seen,
    /// Load average of the minute at the end.
    pub load_average: f64,
}

impl Storm {
    /// Joins that one core can do each second.
    #[must_use]
    pub fn joins_per_core(&self) -> f64 {
        self.seen.viewers.joined as f64 / self.cpu_seconds.max(f64::MIN_POSITIVE)
    }
}

/// A relay and its children.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Relay {
    /// Children that took the broadcast.
    pub children: u32,
    /// Packets forwarded to all of them in the window.
    pub packets: u64,
    /// CPU seconds of the relay's process in the window.
    pub cpu_seconds: f64,
    /// Seconds of the window.
    pub seconds: f64,
    /// From the publisher through injection, relay and egress to the viewer, in milliseconds.
    pub latency_ms: crate::load::Percentiles,
    /// Load average of the minute at the end.
    pub load_average: f64,
}

impl Relay {
    /// CPU nanoseconds for each packet forwarded.
    #[must_use]
    pub fn packet_ns(&self) -> f64 {
        self.cpu_seconds * 1e9 / self.packets.max(1) as f64
    }
}

impl Relay {
    /// CPU nanoseconds for each packet more than `fewer` forwards, at the same rate of the broadcast.
    #[must_use]
    pub fn more_than(&self, fewer: &Self) -> f64 {
        let cores = self.cpu_seconds / self.seconds - fewer.cpu_seconds / fewer.seconds;
        let packets = self.packets as f64 / self.seconds - fewer.packets as f64 / fewer.seconds;
        cores * 1e9 / packets
    }
}

/// A bench beside a hot path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Micro {
    /// Its name.
    pub name: String,
    /// Median nanoseconds of one iteration.
    pub iteration_ns: f64,
    /// What one iteration handles; 1 if the bench does not say.
    pub elements: u64,
}

/// Where a server's CPU time goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// What it was taken with.
    #[serde(default = "profiles")]
    pub part: Part,
    /// Of what, under which load.
    pub of: String,
    /// CPU nanoseconds for each packet while it was taken.
    pub packet_ns: f64,
    /// Share of the samples and name of each function, most expensive first; `[k]` is the kernel.
    pub functions: Vec<(f64, String)>,
}

const fn profiles() -> Part {
    Part::Profiles
}

const fn servers() -> Part {
    Part::Servers
}

/// What could not be measured, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What it would have been taken with.
    #[serde(default = "servers")]
    pub part: Part,
    /// What.
    pub measurement: String,
    /// Why.
    pub reason: String,
}
