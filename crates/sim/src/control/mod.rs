//! The control plane of a whole tree in one thread: the real membership, election, topology and placement (`tree`), with
//! model nodes, links, viewers and a model store, under virtual time.
//!
//! What always holds is looked at after every step ([`World::step`]): no loop of links, nobody beyond its places, one
//! leader at most, and every viewer has a live path within [`DARK_MAX`], or there is a reason that is counted. When
//! everything has healed ([`World::check_healed`]): everybody has a path, nothing is written any more, totals are right.

mod controller;
mod crowd;
pub mod flash;
mod health;
pub mod life;
mod node;
mod observer;
mod store;
mod world;

pub use crowd::Tally;
pub use health::{DARK_MAX, DarkReasons};
pub use world::World;
