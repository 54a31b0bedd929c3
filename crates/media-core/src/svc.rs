//! Layers within one RTP stream (scalable video coding): which packets who gets less of them needs, and how many of those
//! came before.
//!
//! What a viewer may get of such a stream are its *points*, best first: point 0 is the whole stream, and each one after
//! it has less. Points are nested: what one needs, every better one needs, too. So a viewer can go to a worse
//! point at any picture. Injection counts the packets of each point ([`Stamper`]); whoever leaves out the others gives those
//! that remain their numbers by these counts alone, however it got the packet.
//!
//! Read from the payload descriptor of VP9 ([`vp9`]), of AV1 from the dependency descriptor ([`dependency`]). Which point a viewer gets, and the numbers it sees, are left to others.

pub mod dependency;
mod stamper;
pub mod vp9;

pub use stamper::Stamper;

/// Points of a stream that counts are kept of: all but point 0, whose packets are counted by their sequence numbers.
pub const COUNTS: usize = 3;
/// Most points of a stream.
pub const POINTS_MAX: usize = COUNTS + 1;
/// Most layers of either kind that are told apart.
pub const LAYERS_MAX: u8 = 4;
/// Bytes of [`Svc::to_bytes`].
pub const BYTES: usize = 8;
/// The bits of a generation that [`Svc::to_bytes`] has no room for. They travel beside it.
pub const GENERATION_BESIDE: u8 = 0xf8;

/// A layer of a picture; everything up to it makes a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Layer {
    /// Size or quality, 0 being the worst.
    pub spatial: u8,
    /// Frame rate, 0 being the worst.
    pub temporal: u8,
}

/// How many layers a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Structure {
    spatial: u8,
    temporal: u8,
}

impl Structure {
    /// A stream that is one layer.
    pub const SINGLE: Self = Self { spatial: 1, temporal: 1 };

    /// With so many spatial and temporal layers: at least one of each, and at most [`LAYERS_MAX`], beyond which they
    /// count as the best one.
    #[must_use]
    pub fn new(spatial: u8, temporal: u8) -> Self {
        Self { spatial: spatial.clamp(1, LAYERS_MAX), temporal: temporal.clamp(1, LAYERS_MAX) }
    }

    /// Spatial layers.
    #[must_use]
    pub const fn spatial(self) -> u8 {
        self.spatial
    }

    /// Temporal layers.
    #[must_use]
    pub const fn temporal(self) -> u8 {
        self.temporal
    }

    /// How many points there are: 1 where there is nothing to leave out.
    #[must_use]
    pub fn points(self) -> u8 {
        self.steps().min(POINTS_MAX as u8)
    }

    /// The layer that a point ends with; a point that there is not is the worst one.
    ///
    /// The picture gets smaller first, then rarer: a lower frame rate saves little. Where there are more steps than
    /// points, those before the worst one are left out.
    #[must_use]
    pub fn point(self, index: u8) -> Layer {
        let last = self.points() - 1;
        let step = if index >= last { self.steps() - 1 } else { index };
        let lower = step.min(self.spatial - 1);
        Layer { spatial: self.spatial - 1 - lower, temporal: self.temporal - 1 - (step - lower) }
    }

    /// The worst point that needs frames of this layer.
    #[must_use]
    pub fn worst(self, layer: Layer) -> u8 {
        let has = |index: &u8| {
            let point = self.point(*index);
            layer.spatial <= point.spatial && layer.temporal <= point.temporal
        };
        // Points are a chain: those that have the layer come first. Beyond the last one all are as the last one.
        (1..POINTS_MAX as u8).take_while(has).last().unwrap_or(0)
    }

    fn steps(self) -> u8 {
        self.spatial + self.temporal - 1
    }
}

/// What a payload says of the layer of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its layer.
    pub layer: Layer,
    /// First packet of it.
    pub begins: bool,
    /// Last packet of it.
    pub ends: bool,
    /// Whoever gets this picture can go on with any frame rate.
    pub is_switch: bool,
    /// Whoever got all pictures of lower frame rates can go on with this one.
    pub is_entry: bool,
    /// The layers of the stream from here on, where the payload says so.
    pub structure: Option<Structure>,
}

/// What injection says of the layers of a packet. Travels with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Svc {
    /// The layers of the stream.
    pub structure: Structure,
    /// Spatial layer of the packet's frame.
    pub spatial: u8,
    /// Points up to this one need the packet, 0 to [`COUNTS`].
    pub worst: u8,
    /// The packet is the first of its picture.
    pub begins_picture: bool,
    /// The packet is the last of its frame.
    pub ends_frame: bool,
    /// See [`Frame::is_switch`].
    pub is_switch: bool,
    /// See [`Frame::is_entry`].
    pub is_entry: bool,
    /// It came after its successors, when it was no longer known to be needed: it has a number in every point.
    pub is_late: bool,
    /// Which counts these are; those of another generation have nothing to do with them.
    pub generation: u8,
    /// For points 1 to [`COUNTS`]: how many numbers of the point were given before this packet, modulo 2^16.
    pub counts: [u16; COUNTS],
}

impl Svc {
    /// Whether who gets this point needs the packet.
    #[must_use]
    pub const fn needs(&self, point: u8) -> bool {
        point <= self.worst
    }

    /// Whether the packet has a number of its own in this point. One that has, and is not needed, is sent empty.
    #[must_use]
    pub const fn has_number(&self, point: u8) -> bool {
        self.is_late || self.needs(point)
    }

    /// How many numbers of the point were given before; 0 for point 0, which has no count.
    #[must_use]
    pub fn count(&self, point: u8) -> u16 {
        let index = usize::from(point).checked_sub(1);
        index.and_then(|index| self.counts.get(index)).copied().unwrap_or(0)
    }

    /// How many were with it.
    #[must_use]
    pub fn count_after(&self, point: u8) -> u16 {
        self.count(point).wrapping_add(u16::from(self.has_number(point)))
    }

    /// Whether it is the last packet of its picture for who gets this point, though others may follow.
    #[must_use]
    pub fn ends_picture(&self, point: u8) -> bool {
        self.ends_frame && self.needs(point) && self.structure.point(point).spatial == self.spatial
    }

    /// Whether who gets the point `from` can go to the point `to` with this packet. `starts_keyframe` says whether a
    /// keyframe begins here.
    #[must_use]
    pub fn can_change(&self, from: u8, to: u8, starts_keyframe: bool) -> bool {
        if !self.begins_picture {
            return false;
        }
        let is_as_large = self.structure.point(from).spatial == self.structure.point(to).spatial;
        let can_go_up = (self.is_switch && self.needs(from)) || (self.is_entry && self.needs(to));
        starts_keyframe || to > from || (is_as_large && can_go_up)
    }

    /// Its [`BYTES`], big-endian: three counts, then from the highest bit on twice the number of layers less 1, spatial and
    /// temporal (2 bits each), `spatial` (2), `worst` (2), `generation` (3, without [`GENERATION_BESIDE`]), and a bit for each
    /// of the five facts, in their order.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let facts = [self.begins_picture, self.ends_frame, self.is_switch, self.is_entry, self.is_late];
        let facts = facts.into_iter().fold(0, |bits, fact| bits << 1 | u16::from(fact));
        let bits = u16::from(self.structure.spatial - 1) << 14
            | u16::from(self.structure.temporal - 1) << 12
            | u16::from(self.spatial & 3) << 10
            | u16::from(self.worst & 3) << 8
            | u16::from(self.generation & !GENERATION_BESIDE) << 5
            | facts;
        let mut bytes = [0; BYTES];
        let words = self.counts.into_iter().chain([bits]);
        for (place, word) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        bytes
    }

    /// Reads what [`Svc::to_bytes`] wrote, with none of [`GENERATION_BESIDE`]; any bytes are something.
    #[must_use]
    pub fn from_bytes(bytes: [u8; BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        let bits = u16::from_be_bytes([g, h]);
        let field = |shift: u16, mask: u16| (bits >> shift & mask) as u8;
        let fact = |bit: u16| bits >> bit & 1 == 1;
        Self {
            structure: Structure { spatial: field(14, 3) + 1, temporal: field(12, 3) + 1 },
            spatial: field(10, 3),
            worst: field(8, 3),
            generation: field(5, 7),
            begins_picture: fact(4),
            ends_frame: fact(3),
            is_switch: fact(2),
            is_entry: fact(1),
            is_late: fact(0),
            counts: [[a, b], [c, d], [e, f]].map(u16::from_be_bytes),
        }
    }
}

#[cfg(test)]
mod tests;
