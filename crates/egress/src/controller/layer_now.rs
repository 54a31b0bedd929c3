//! The layers that there are to choose from.

use model::Bitrate;

/// A layer as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerNow {
    /// Of late.
    pub rate: Bitrate,
    /// Whether anything came of late.
    pub is_active: bool,
    /// Whether it has been so for long enough to be worth a switch up.
    pub is_steady: bool,
}

/// The layer nearest to `wanted` that can be given to a viewer that gets `current`: itself or the next worse one, else the
/// next better one. What is better than the current one must have been there for a while. `current` if nothing comes at all: a
/// publisher that stumbles goes on with what it sent.
#[must_use]
pub fn nearest(layers: &[LayerNow], wanted: u8, current: u8) -> u8 {
    let is_there = |index: &u8| {
        let layer = layers.get(usize::from(*index)).copied().unwrap_or_default();
        layer.is_steady || (layer.is_active && *index >= current)
    };
    let worse = (wanted..layers.len() as u8).find(is_there);
    let is_active = |index: &u8| layers.get(usize::from(*index)).is_some_and(|layer| layer.is_active);
    worse.or_else(|| (0..wanted).rev().find(is_active)).unwrap_or(current)
}
