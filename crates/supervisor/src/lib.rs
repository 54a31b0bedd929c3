//! Keeps a node's sockets and the key of its session records while its process is replaced. Knows nothing of media.
//!
//! [`supervise`] is the parent process: it holds the sockets, starts the program again as a child that gets them over a
//! channel ([`Channel`]), and starts the next one when that dies, so that datagrams and connections wait in the kernel
//! meanwhile. [`Child`] is the other end of that channel. [`ask`] lets another process have the child replaced by one of
//! another program file.
//!
//! Descriptors travel over a socket that the child finds as its standard input (`SCM_RIGHTS`), so no code here has to
//! believe that a number is a descriptor.
#![forbid(unsafe_code)]

mod channel;
mod child;
mod control;
mod place;
mod restarts;
mod supervise;

pub use channel::{Channel, ToChild, ToParent};
pub use child::{Child, Inheritance, Word};
pub use control::ask;
pub use place::Place;
pub use supervise::{Ended, Estate, supervise};
