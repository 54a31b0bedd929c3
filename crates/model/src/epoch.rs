//! Publishing runs and key generations: counters that a random part makes unique.

/// One publishing run of a broadcast: its SSRCs and its sequence space.
///
/// Ordered: the higher counter wins, ties go to the higher random part, so that two injection nodes
/// that both believe to be the origin agree without talking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Grows by one with each publishing run of the broadcast.
    pub counter: u64,
    /// Drawn at random for the run.
    pub random: u64,
}

/// One generation of the group key that media of an injection process is sealed with.
///
/// A new one at every start, resume or take-over of the process that seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGeneration {
    /// Grows by one with each generation.
    pub counter: u32,
    /// Drawn at random; its low bits stand in the wire extension beside the counter's.
    pub random: u32,
}
