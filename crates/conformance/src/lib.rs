//! What WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) demand of a server, line by line, tried from outside.
//!
//! [`run`] asks a server of any make over HTTP, connects real peers where a line is about media, and says of each line
//! whether it was kept, broken, or could not be seen. It makes few sessions at a time and deletes every one. It knows
//! nothing of a server's insides. [`reachability::check`] asks less and tells operators what keeps clients out.
#![forbid(unsafe_code)]

mod checks;
mod description;
mod event_stream;
mod fragment;
mod http;
mod line;
mod lines;
mod link;
mod offer;
mod peer;
mod publish;
pub mod reachability;
mod report;
mod run;
mod side;
mod stun;

pub use line::{Group, Level, Line};
pub use lines::LINES;
pub use report::{LineReport, Outcome, Report, Totals};
pub use run::{Options, Progress, RunError, run};
pub use side::Protocol;
