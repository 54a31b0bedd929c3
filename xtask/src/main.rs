//! `cargo xtask`: the one door to every task of this repository.
fn main() {}
