//! The media-tree program.
fn main() {}
