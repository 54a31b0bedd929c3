//! Runtime shell: threads, sockets, timers, HTTP, drain. The only crate that drives the cores for real.
#![forbid(unsafe_code)]
