//! A load generator for WHEP servers of any make, and for WHIP: viewers that behave as browsers do, by the thousand.
//!
//! A viewer is a lean record ([`viewer`](self)) with a UDP socket of its own, because some servers tell sessions apart
//! by address: a full ICE agent, DTLS, SRTP, the sequences and frames of what it receives. A few threads hold all of
//! them ([`engine`](self)); HTTP is done elsewhere. Pictures are not decoded.
//!
//! What is measured lies in one window of time that opens when every viewer has joined or failed. [`run`] does it all.
#![forbid(unsafe_code)]

mod chance;
mod description;
mod engine;
mod frames;
mod gaps;
mod histogram;
mod http;
mod ice;
mod ledger;
mod media;
mod process;
pub mod publish;
mod run;
mod stamp;
mod stream;
mod summary;
mod timers;
mod turn;
mod viewer;

pub use histogram::Percentiles;
pub use ledger::Delivery;
pub use run::{Error, Options, Phase, Progress, run};
pub use summary::{CpuSeconds, Packets, Publishers, Stalls, Summary, Viewers, Window};
