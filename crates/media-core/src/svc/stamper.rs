//! Counts the packets of each point of a stream, in the order of their sequence numbers.
//!
//! A packet that is missing may turn out to be needed by any point when it is repaired, and its successors have
//! left by then. So it gets a number in all of them. Who gets a point that does not need it gets an empty packet in
//! its place, once it has come.

use std::collections::VecDeque;

use model::SeqNo;

use super::{COUNTS, Frame, Structure, Svc};

/// How far back a packet that comes late still has numbers: far more than a keyframe, and than repairs take.
const WINDOW: usize = 2048;

/// Counts of one RTP stream.
#[derive(Debug)]
pub struct Stamper {
    generation: u8,
    /// The layers, once there has been more than one.
    structure: Option<Structure>,
    highest: Option<SeqNo>,
    /// Before the packet that comes next.
    counts: [u16; COUNTS],
    /// Before each packet up to the highest, as far back as is known.
    past: VecDeque<[u16; COUNTS]>,
}

impl Stamper {
    /// For a stream that begins, or goes on in another process: then with the [next](Stamper::next_generation)
    /// generation of the one before, since nobody knows what that one counted last.
    #[must_use]
    pub const fn new(generation: u8) -> Self {
        Self { generation, structure: None, highest: None, counts: [0; COUNTS], past: VecDeque::new() }
    }

    /// Which counts these are.
    #[must_use]
    pub const fn generation(&self) -> u8 {
        self.generation
    }

    /// The generation after another one.
    #[must_use]
    pub const fn next_generation(generation: u8) -> u8 {
        generation.wrapping_add(1)
    }

    /// What is to be said of the packet with this number, which has not been here before: nothing until the stream
    /// shows that it has layers, and nothing of packets that come very late. `frame` is what its payload says, if anything,
    /// `is_new_picture` whether no packet with its timestamp came before.
    pub fn stamp(&mut self, seq_no: SeqNo, frame: Option<&Frame>, is_new_picture: bool) -> Option<Svc> {
        if let Some(highest) = self.highest.filter(|highest| seq_no <= *highest) {
            let back = usize::try_from(highest.get() - seq_no.get()).ok()?;
            let counts = *self.past.get(self.past.len().checked_sub(back + 1)?)?;
            return Some(self.svc(frame, is_new_picture, counts, true));
        }
        if let Some(frame) = frame {
            self.learn(frame);
        }
        self.structure?;
        let missing = self.highest.map_or(0, |highest| seq_no.get() - highest.get() - 1);
        self.skip(missing);
        let svc = self.svc(frame, is_new_picture, self.counts, false);
        self.remember();
        for (count, point) in self.counts.iter_mut().zip(1..) {
            *count = count.wrapping_add(u16::from(svc.needs(point)));
        }
        self.highest = Some(seq_no);
        Some(svc)
    }

    /// The layers of the stream, by what a frame says.
    ///
    /// What a payload does not say is seen from the frames: then layers come to light one after another, within the first
    /// pictures.
    fn learn(&mut self, frame: &Frame) {
        let known = self.structure.unwrap_or(Structure::SINGLE);
        let told = frame.structure.unwrap_or(known);
        let seen = Structure::new(
            told.spatial().max(frame.layer.spatial.saturating_add(1)),
            told.temporal().max(frame.layer.temporal.saturating_add(1)),
        );
        if self.structure.is_some() || seen != Structure::SINGLE {
            self.structure = Some(seen);
        }
    }

    /// Numbers in every point for packets that are missing.
    fn skip(&mut self, missing: u64) {
        let known = missing.min(WINDOW as u64);
        // Of more than can be remembered the last ones are.
        self.advance((missing - known) as u16);
        for _ in 0..known {
            self.remember();
            self.advance(1);
        }
    }

    fn advance(&mut self, numbers: u16) {
        self.counts.iter_mut().for_each(|count| *count = count.wrapping_add(numbers));
    }

    fn remember(&mut self) {
        if self.past.len() == WINDOW {
            self.past.pop_front();
        }
        self.past.push_back(self.counts);
    }

    fn svc(&self, frame: Option<&Frame>, is_new_picture: bool, counts: [u16; COUNTS], is_late: bool) -> Svc {
        let structure = self.structure.unwrap_or(Structure::SINGLE);
        let (generation, top) = (self.generation, structure.spatial() - 1);
        // Padding between pictures is needed by nobody who leaves anything out.
        let Some(frame) = frame else {
            return Svc {
                structure,
                spatial: top,
                worst: 0,
                begins_picture: false,
                ends_frame: false,
                is_switch: false,
                is_entry: false,
                is_late,
                generation,
                counts,
            };
        };
        let is_lowest = frame.layer.spatial == 0;
        let begins_picture = frame.begins && (is_lowest || is_new_picture);
        Svc {
            structure,
            spatial: frame.layer.spatial.min(top),
            worst: structure.worst(frame.layer),
            begins_picture,
            ends_frame: frame.ends,
            is_switch: begins_picture && is_lowest && frame.is_switch,
            is_entry: begins_picture && is_lowest && frame.is_entry,
            is_late,
            generation,
            counts,
        }
    }
}
