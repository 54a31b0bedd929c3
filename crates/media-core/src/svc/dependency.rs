//! Layers of any codec, from the dependency descriptor (RTP Payload Format For AV1, appendix A): a header extension whose
//! templates come with keyframes, and are named by their numbers afterwards.
//!
//! Which frames refer to which, and chains, are read over.

use super::{Frame, Layer, Structure};
use crate::codec::bits::BitReader;

/// As an offer names the extension.
pub const URI: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

const TEMPLATES_MAX: usize = 64;
/// Bytes of a descriptor without the extended fields.
const MANDATORY_BYTES: usize = 3;
/// Layers of either kind end before these.
const TEMPORAL_END: u8 = 8;
const SPATIAL_END: u8 = 4;

/// What a frame is to a decode target (appendix A.8.1).
const NOT_PRESENT: u8 = 0;
const SWITCH: u8 = 2;

/// Reads the layers of one stream.
#[derive(Debug, Default)]
pub struct Reader {
    templates: Option<Templates>,
}

#[derive(Debug)]
struct Templates {
    /// Number of the first one.
    offset: usize,
    /// Of each its layer, and what its frames are to each decode target.
    list: Vec<(Layer, Vec<u8>)>,
    /// What each decode target ends with.
    targets: Vec<Layer>,
}

impl Reader {
    /// What this descriptor says. `None` if it ends too early, or names a template that did not come.
    pub fn read(&mut self, descriptor: &[u8]) -> Option<Frame> {
        let mut bits = BitReader::plain(descriptor);
        let (begins, ends) = (bits.flag()?, bits.flag()?);
        let number = bits.bits(6)? as usize;
        bits.bits(16)?; // frame_number
        let (mut structure, mut own) = (None, None);
        if descriptor.len() > MANDATORY_BYTES {
            let (has_templates, has_active_targets) = (bits.flag()?, bits.flag()?);
            let has_indications = bits.flag()?;
            bits.bits(2)?; // custom_fdiffs_flag, custom_chains_flag
            if has_templates {
                let templates = Templates::read(&mut bits)?;
                structure = Some(templates.structure());
                self.templates = Some(templates);
            }
            let targets = self.templates.as_ref()?.targets.len();
            if has_active_targets {
                bits.bits(targets as u32)?;
            }
            if has_indications {
                own = Some(indications(&mut bits, targets)?);
            }
        }
        let templates = self.templates.as_ref()?;
        let index = (number + TEMPLATES_MAX - templates.offset) % TEMPLATES_MAX;
        let (layer, of_template) = templates.list.get(index)?;
        let is_switch = templates.is_switch(*layer, own.as_ref().unwrap_or(of_template));
        Some(Frame { layer: *layer, begins, ends, is_switch, is_entry: false, structure })
    }
}

impl Templates {
    /// `template_dependency_structure` (appendix A.8.2).
    fn read(bits: &mut BitReader<'_>) -> Option<Self> {
        let offset = bits.bits(6)? as usize;
        let targets = bits.bits(5)? as usize + 1;
        let mut list: Vec<(Layer, Vec<u8>)> =
            layers(bits)?.into_iter().map(|layer| (layer, Vec::new())).collect();
        for (_, of_template) in &mut list {
            *of_template = indications(bits, targets)?;
        }
        for _ in &list {
            while bits.flag()? {
                bits.bits(4)?; // fdiff_minus_one
            }
        }
        skip_chains(bits, targets, list.len())?;
        if bits.flag()? {
            let spatial = list.iter().map(|(layer, _)| layer.spatial).max()?;
            for _ in 0..=spatial {
                bits.bits(32)?; // max_render_width_minus_1, max_render_height_minus_1
            }
        }
        let target = |index: usize| {
            let needed = || list.iter().filter(move |(_, of_template)| of_template[index] != NOT_PRESENT);
            Layer {
                spatial: needed().map(|(layer, _)| layer.spatial).max().unwrap_or(0),
                temporal: needed().map(|(layer, _)| layer.temporal).max().unwrap_or(0),
            }
        };
        let targets = (0..targets).map(target).collect();
        Some(Self { offset, list, targets })
    }

    fn structure(&self) -> Structure {
        let most =
            |number: fn(&Layer) -> u8| self.list.iter().map(|(layer, _)| number(layer)).max().unwrap_or(0);
        Structure::new(most(|layer| layer.spatial) + 1, most(|layer| layer.temporal) + 1)
    }

    /// Whether every higher frame rate of the smallest picture can begin after such a frame.
    fn is_switch(&self, layer: Layer, indications: &[u8]) -> bool {
        let higher = self.targets.iter().zip(indications).filter(|(target, _)| {
            target.spatial == 0 && layer.spatial == 0 && target.temporal > layer.temporal
        });
        let mut switches = higher.map(|(_, indication)| *indication == SWITCH).peekable();
        switches.peek().is_some() && switches.all(|is_switch| is_switch)
    }
}

/// `template_layers`.
fn layers(bits: &mut BitReader<'_>) -> Option<Vec<Layer>> {
    let mut last = Layer { spatial: 0, temporal: 0 };
    let mut layers = vec![last];
    loop {
        match bits.bits(2)? {
            0 => {}
            1 => last.temporal += 1,
            2 => last = Layer { spatial: last.spatial + 1, temporal: 0 },
            _ => return Some(layers),
        }
        if layers.len() == TEMPLATES_MAX || last.temporal == TEMPORAL_END || last.spatial == SPATIAL_END {
            return None;
        }
        layers.push(last);
    }
}

fn indications(bits: &mut BitReader<'_>, targets: usize) -> Option<Vec<u8>> {
    (0..targets).map(|_| bits.bits(2).map(|indication| indication as u8)).collect()
}

/// `template_chains`.
fn skip_chains(bits: &mut BitReader<'_>, targets: usize, templates: usize) -> Option<()> {
    let chains = non_symmetric(bits, targets as u32 + 1)?;
    if chains == 0 {
        return Some(());
    }
    for _ in 0..targets {
        non_symmetric(bits, chains)?; // decode_target_protected_by
    }
    for _ in 0..templates * chains as usize {
        bits.bits(4)?; // template_chain_fdiff
    }
    Some(())
}

/// A number below `count`, which is at least 1: ns(n) of the AV1 bitstream specification, section 4.10.7.
fn non_symmetric(bits: &mut BitReader<'_>, count: u32) -> Option<u32> {
    let width = count.ilog2() + 1;
    let short = (1 << width) - count;
    let value = bits.bits(width - 1)?;
    if value < short {
        return Some(value);
    }
    Some((value << 1) - short + bits.bits(1)?)
}
