//! WHIP publisher and WHEP viewer peers over real sockets (str0m): the demo publisher and the tests. Knows nothing of a server's insides.
//!
//! [`Whip::connect`] publishes, [`Whep::connect`] watches; both behave on the wire as a browser does (full ICE,
//! NACK, RTX, receiver reports, PLI) and can be told to behave worse. [`demo::publish`] keeps the built-in clip on air.
#![forbid(unsafe_code)]

mod codecs;
pub mod demo;
mod error;
pub mod h264;
mod http;
mod ice;
mod impairment;
mod keyframe;
mod offer;
pub mod ogg;
mod peer;
mod picture_loss;
pub mod whep;
pub mod whip;

pub use error::{CloseError, ConnectError, Ending, RestartError};
pub use ice::IceDescription;
pub use impairment::Impairment;
pub use peer::Joining;
pub use whep::{ReceivedPacket, Whep, WhepAnswer, WhepOffer, WhepPeer, WhepSession};
pub use whip::{Outgoing, Whip, WhipOffer, WhipPeer, WhipSession};
