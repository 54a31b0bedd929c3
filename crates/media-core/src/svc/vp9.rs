//! Layers of VP9, from the payload descriptor (RFC 9628, section 4.2).

use super::{Frame, Layer, Structure};
use crate::vp9_descriptor::{
    BEGINS_FRAME, ENDS_FRAME, FLEXIBLE, INTER_PREDICTED, LAYER_INDICES, LONG_ID, PICTURE_ID, STRUCTURE,
    STRUCTURE_GROUPS, STRUCTURE_SIZES, SWITCHING_UP,
};

/// References of a picture are named by how many pictures they are back, below this.
const REACH: usize = 128;
const REFERENCES_MAX: usize = 3;

/// Reads the layers of one stream.
#[derive(Debug)]
pub struct Reader {
    /// Temporal layers of the last pictures, by the low bits of their ids.
    temporal: [u8; REACH],
    /// Temporal layers that were told of or seen.
    temporal_layers: u8,
}

impl Default for Reader {
    fn default() -> Self {
        Self { temporal: [0; REACH], temporal_layers: 1 }
    }
}

impl Reader {
    /// What this payload says. `None` if it ends before its descriptor does.
    pub fn read(&mut self, payload: &[u8]) -> Option<Frame> {
        let mut rest = payload;
        let descriptor = byte(&mut rest)?;
        let has = |bit: u8| descriptor & bit != 0;
        let picture = if has(PICTURE_ID) { Some(picture_id(&mut rest)?) } else { None };
        let indices = if has(LAYER_INDICES) { byte(&mut rest)? } else { 0 };
        let layer = Layer { temporal: indices >> 5, spatial: indices >> 1 & 0x07 };
        if has(LAYER_INDICES) && !has(FLEXIBLE) {
            byte(&mut rest)?; // TL0PICIDX
        }
        let mut is_entry = has(FLEXIBLE) && indices & SWITCHING_UP != 0 && layer.temporal > 0;
        if has(FLEXIBLE) && has(INTER_PREDICTED) {
            is_entry &= self.refers_below(&mut rest, picture, layer.temporal)?;
        }
        if let Some(picture) = picture {
            self.temporal[picture] = layer.temporal;
        }
        let begins = has(BEGINS_FRAME);
        // A keyframe that names no layers belongs to a stream that has none.
        let is_single = begins && !has(INTER_PREDICTED) && !has(LAYER_INDICES);
        if is_single {
            self.temporal_layers = 1;
        }
        self.temporal_layers = self.temporal_layers.max(layer.temporal + 1);
        let structure = if has(STRUCTURE) {
            Some(self.structure(&mut rest)?)
        } else {
            is_single.then_some(Structure::SINGLE)
        };
        Some(Frame {
            layer,
            begins,
            ends: has(ENDS_FRAME),
            is_switch: has(LAYER_INDICES) && indices & SWITCHING_UP != 0,
            is_entry,
            structure,
        })
    }

    /// Whether all that the picture refers to is of lower frame rates.
    fn refers_below(&self, rest: &mut &[u8], picture: Option<usize>, temporal: u8) -> Option<bool> {
        let mut is_below = picture.is_some();
        for _ in 0..REFERENCES_MAX {
            let reference = byte(rest)?;
            let back = usize::from(reference >> 1);
            let referred = picture.map(|picture| self.temporal[(picture + REACH - back) % REACH]);
            is_below &= referred.is_some_and(|referred| referred < temporal);
            if reference & 1 == 0 {
                break;
            }
        }
        Some(is_below)
    }

    /// The scalability structure, its sizes left out.
    fn structure(&mut self, rest: &mut &[u8]) -> Option<Structure> {
        let head = byte(rest)?;
        let spatial = (head >> 5) + 1;
        if head & STRUCTURE_SIZES != 0 {
            *rest = rest.get(4 * usize::from(spatial)..)?;
        }
        if head & STRUCTURE_GROUPS != 0 {
            let mut temporal = 1;
            for _ in 0..byte(rest)? {
                let picture = byte(rest)?;
                temporal = temporal.max((picture >> 5) + 1);
                *rest = rest.get(usize::from(picture >> 2 & 0x03)..)?;
            }
            self.temporal_layers = temporal;
        }
        Some(Structure::new(spatial, self.temporal_layers))
    }
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

/// The low bits of the picture's id, which has 7 or 15.
fn picture_id(rest: &mut &[u8]) -> Option<usize> {
    let first = byte(rest)?;
    let low = if first & LONG_ID == 0 { first } else { byte(rest)? };
    Some(usize::from(low) % REACH)
}
