//! Ids, units, node roles, tracks: plain data shared by every plane. Knows no protocol, no I/O.
//!
//! Everything here is a checked value: a constructor refuses what the grammar or the standard
//! forbids, so that the rest of the program never asks again.
#![forbid(unsafe_code)]

mod broadcast;
mod encoder;
mod epoch;
mod id;
mod media;
mod right;
mod role;
mod rtp;
mod trace;
mod units;

pub use broadcast::{Broadcast, BroadcastState, Layer, Track};
pub use encoder::ObsVersion;
pub use epoch::{Epoch, KeyGeneration};
pub use id::{BroadcastId, IdError, NodeId, RecordId, TreeId};
pub use media::{Codec, Kind, Mid, Rid, TokenError};
pub use right::{Right, RightError};
pub use role::{Role, RoleError};
pub use rtp::{NtpTime, SeqNo, Ssrc};
pub use trace::{JoinName, TraceParent, TraceParentError};
pub use units::{Bitrate, MediaTime};
