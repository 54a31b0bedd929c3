//! Virtual clock and seeded network that drive the real cores in one thread.
#![forbid(unsafe_code)]
