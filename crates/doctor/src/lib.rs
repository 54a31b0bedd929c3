//! The broadcaster doctor: what a publisher could do better, in plain words, from the statistics of crate `ingest`.
//!
//! [`Doctor`] is fed with one publisher's [`ingest::Stats`] about once a second and says what it found. A finding
//! begins after it has been true for some seconds and ends after it has not been for some, so nothing flaps; where one
//! thing follows from another, only the cause is told. Who is told, and how, is left to the shell.
#![forbid(unsafe_code)]

mod code;
mod encoder;
mod finding;
mod history;
mod keyframes;
mod presence;
mod reference;
mod sign;
mod uplink;

pub use code::{Code, Entry, Severity};
pub use finding::{Doctor, Finding};
pub use reference::reference;
pub use sign::{FIGURES, Figure, Figures};
