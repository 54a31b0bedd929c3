//! The bits of VP9's payload descriptor (RFC 9628, section 4.2), for those who read where keyframes start and for those who
//! read layers.

// Of the first byte.

/// A picture id follows.
pub const PICTURE_ID: u8 = 0x80;
/// The frame refers to other pictures.
pub const INTER_PREDICTED: u8 = 0x40;
/// Layer indices follow.
pub const LAYER_INDICES: u8 = 0x20;
/// References are listed.
pub const FLEXIBLE: u8 = 0x10;
/// The payload begins a frame of a spatial layer.
pub const BEGINS_FRAME: u8 = 0x08;
/// The payload ends one.
pub const ENDS_FRAME: u8 = 0x04;
/// The scalability structure follows.
pub const STRUCTURE: u8 = 0x02;

/// Of the picture id: it has 15 bits, in two bytes.
pub const LONG_ID: u8 = 0x80;

/// Of the layer indices: who gets this picture can go on with any frame rate.
pub const SWITCHING_UP: u8 = 0x10;

/// Of the scalability structure: the sizes of its layers stand in it,
pub const STRUCTURE_SIZES: u8 = 0x10;
/// and groups of pictures.
pub const STRUCTURE_GROUPS: u8 = 0x08;
