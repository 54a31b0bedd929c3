//! The shard at its boundary, in virtual time: tree packets and SRTCP in, sealed datagrams and records out, which
//! viewers with real keys open.

mod crash;
mod epoch;
mod feedback;
mod harness;
mod joins;
mod layers;
mod left_out;
mod link;
mod live;
mod pace;
mod parts;
mod publisher;
mod sound_first;
mod trains;
mod transport;
