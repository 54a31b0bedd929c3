//! Sequence parameter sets (ITU-T H.264, sections 7.3.2.1 and E.1).

use super::TYPE_SPS;
use crate::codec::bits::BitReader;

/// Widest and highest picture taken for real, in luma samples; level 6.2 stays below it.
const PICTURE_SIDE_MAX: u64 = 16_384;
/// `aspect_ratio_idc` that is followed by the ratio itself.
const EXTENDED_SAR: u32 = 255;

/// Why bytes are not a sequence parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A NAL unit of another type.
    #[error("NAL unit of type {unit_type}, not a sequence parameter set")]
    UnitType {
        /// What it is.
        unit_type: u8,
    },
    /// The bits end too early, or a code is longer than the standard allows.
    #[error("the sequence parameter set ends too early")]
    Truncated,
    /// A value that no encoder sends.
    #[error("{field} of {value} in a sequence parameter set")]
    Value {
        /// Name in the standard, or the side of the picture.
        field: &'static str,
        /// What stands there.
        value: u64,
    },
}

/// What a sequence parameter set tells about the stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequenceParameters {
    /// 66 baseline, 77 main, 100 high, ...
    pub profile_idc: u8,
    /// `constraint_set0_flag` in the highest bit, and so on.
    pub constraint_flags: u8,
    /// Ten times the level: 31 is level 3.1.
    pub level_idc: u8,
    /// After cropping, in luma samples.
    pub width: u32,
    /// After cropping, in luma samples.
    pub height: u32,
    /// Frames per second, if the stream carries timing.
    pub frame_rate: Option<f64>,
    /// How many frames may come before one in decoding order and after it in output order, if the stream says so.
    pub max_num_reorder_frames: Option<u32>,
    /// `pic_order_cnt_type`: with 2, output order is decoding order.
    pub pic_order_cnt_type: u8,
    /// Whether pictures may consist of two fields.
    pub is_interlaced: bool,
}

impl SequenceParameters {
    /// Reads a whole NAL unit, its header byte first, with its emulation prevention bytes.
    ///
    /// # Errors
    /// [`ParseError`] if it is something else, cut, or absurd. Broken usability information (VUI) counts as absent.
    pub fn parse(unit: &[u8]) -> Result<Self, ParseError> {
        let (header, body) = unit.split_first().ok_or(ParseError::Truncated)?;
        let unit_type = header & 0x1f;
        if unit_type != TYPE_SPS {
            return Err(ParseError::UnitType { unit_type });
        }
        Self::parse_body(body)
    }

    /// As in SDP (RFC 6184, section 8.1): `42e01f`.
    #[must_use]
    pub fn profile_level_id(&self) -> String {
        format!("{:02x}{:02x}{:02x}", self.profile_idc, self.constraint_flags, self.level_idc)
    }

    /// Whether frames may come in another order than they are shown, that is, whether there may be B-frames. Baseline
    /// has none; other profiles may, unless the stream denies it.
    #[must_use]
    pub fn may_reorder(&self) -> bool {
        match self.max_num_reorder_frames {
            Some(frames) => frames > 0,
            None => self.profile_idc != 66 && self.pic_order_cnt_type != 2,
        }
    }

    pub(super) fn parse_body(body: &[u8]) -> Result<Self, ParseError> {
        let mut bits = BitReader::new(body);
        read(&mut bits).ok_or(ParseError::Truncated)?
    }
}

/// `None` if the bits end too early.
fn read(bits: &mut BitReader<'_>) -> Option<Result<SequenceParameters, ParseError>> {
    let profile_idc = bits.bits(8)? as u8;
    let constraint_flags = bits.bits(8)? as u8;
    let level_idc = bits.bits(8)? as u8;
    bits.exp_golomb()?; // seq_parameter_set_id
    let chroma_format = match profile_idc {
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135 => chroma_and_scaling(bits)?,
        _ => 1,
    };
    bits.exp_golomb()?; // log2_max_frame_num_minus4
    let pic_order_cnt_type = match pic_order(bits)? {
        Ok(found) => found,
        Err(error) => return Some(Err(error)),
    };
    bits.exp_golomb()?; // max_num_ref_frames
    bits.flag()?; // gaps_in_frame_num_value_allowed_flag
    let width_in_macroblocks = u64::from(bits.exp_golomb()?) + 1;
    let height_in_units = u64::from(bits.exp_golomb()?) + 1;
    let frames_only = bits.flag()?;
    if !frames_only {
        bits.flag()?; // mb_adaptive_frame_field_flag
    }
    bits.flag()?; // direct_8x8_inference_flag
    let fields = if frames_only { 1 } else { 2 };
    let (crop_width, crop_height) =
        if bits.flag()? { cropping(bits, chroma_format, fields)? } else { (0, 0) };
    let side = |field, coded: u64, crop: u64| match coded.checked_sub(crop) {
        Some(size @ 1..=PICTURE_SIDE_MAX) => Ok(size as u32),
        size => Err(ParseError::Value { field, value: size.unwrap_or(0) }),
    };
    let sides = side("width", width_in_macroblocks * 16, crop_width)
        .and_then(|width| Ok((width, side("height", height_in_units * 16 * fields, crop_height)?)));
    let usability = if bits.flag()? { usability(bits).unwrap_or_default() } else { Usability::default() };
    Some(sides.map(|(width, height)| SequenceParameters {
        profile_idc,
        constraint_flags,
        level_idc,
        width,
        height,
        frame_rate: usability.frame_rate,
        max_num_reorder_frames: usability.max_num_reorder_frames,
        pic_order_cnt_type,
        is_interlaced: !frames_only,
    }))
}

/// What the higher profiles add; `chroma_format_idc` is returned.
fn chroma_and_scaling(bits: &mut BitReader<'_>) -> Option<u32> {
    let chroma_format = bits.exp_golomb()?;
    if chroma_format == 3 {
        bits.flag()?; // separate_colour_plane_flag
    }
    bits.exp_golomb()?; // bit_depth_luma_minus8
    bits.exp_golomb()?; // bit_depth_chroma_minus8
    bits.flag()?; // qpprime_y_zero_transform_bypass_flag
    if bits.flag()? {
        let lists = if chroma_format == 3 { 12 } else { 8 };
        for list in 0..lists {
            if bits.flag()? {
                scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(chroma_format)
}

/// Section 7.3.2.1.1.1: the list is coded as differences and ends early where the next scale is zero.
fn scaling_list(bits: &mut BitReader<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + i64::from(bits.signed_exp_golomb()?)).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

fn pic_order(bits: &mut BitReader<'_>) -> Option<Result<u8, ParseError>> {
    let pic_order_cnt_type = bits.exp_golomb()?;
    match pic_order_cnt_type {
        0 => {
            bits.exp_golomb()?; // log2_max_pic_order_cnt_lsb_minus4
        }
        1 => {
            bits.flag()?; // delta_pic_order_always_zero_flag
            bits.signed_exp_golomb()?; // offset_for_non_ref_pic
            bits.signed_exp_golomb()?; // offset_for_top_to_bottom_field
            let frames = bits.exp_golomb()?;
            if frames > 255 {
                let field = "num_ref_frames_in_pic_order_cnt_cycle";
                return Some(Err(ParseError::Value { field, value: u64::from(frames) }));
            }
            for _ in 0..frames {
                bits.signed_exp_golomb()?; // offset_for_ref_frame
            }
        }
        2 => {}
        value => {
            return Some(Err(ParseError::Value { field: "pic_order_cnt_type", value: u64::from(value) }));
        }
    }
    Some(Ok(pic_order_cnt_type as u8))
}

/// Luma samples cut off horizontally and vertically (section 7.4.2.1.1).
fn cropping(bits: &mut BitReader<'_>, chroma_format: u32, fields: u64) -> Option<(u64, u64)> {
    let left_right = u64::from(bits.exp_golomb()?) + u64::from(bits.exp_golomb()?);
    let top_bottom = u64::from(bits.exp_golomb()?) + u64::from(bits.exp_golomb()?);
    let (unit_width, unit_height) = match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    Some((left_right * unit_width, top_bottom * unit_height * fields))
}

#[derive(Default)]
struct Usability {
    frame_rate: Option<f64>,
    max_num_reorder_frames: Option<u32>,
}

/// Video usability information (section E.1.1). What was read before the bits ended is lost: it cannot be trusted.
fn usability(bits: &mut BitReader<'_>) -> Option<Usability> {
    let mut found = Usability::default();
    if bits.flag()? && bits.bits(8)? == EXTENDED_SAR {
        bits.bits(32)?; // sar_width, sar_height
    }
    if bits.flag()? {
        bits.flag()?; // overscan_appropriate_flag
    }
    if bits.flag()? {
        bits.bits(4)?; // video_format, video_full_range_flag
        if bits.flag()? {
            bits.bits(24)?; // colour_primaries, transfer_characteristics, matrix_coefficients
        }
    }
    if bits.flag()? {
        bits.exp_golomb()?; // chroma_sample_loc_type_top_field
        bits.exp_golomb()?; // chroma_sample_loc_type_bottom_field
    }
    if bits.flag()? {
        let units_in_tick = bits.bits(32)?;
        let time_scale = bits.bits(32)?;
        bits.flag()?; // fixed_frame_rate_flag
        if units_in_tick > 0 && time_scale > 0 {
            // A tick is a field, two of them make a frame.
            found.frame_rate = Some(f64::from(time_scale) / (2.0 * f64::from(units_in_tick)));
        }
    }
    let nal_parameters = bits.flag()?;
    if nal_parameters {
        reference_decoder(bits)?;
    }
    let vcl_parameters = bits.flag()?;
    if vcl_parameters {
        reference_decoder(bits)?;
    }
    if nal_parameters || vcl_parameters {
        bits.flag()?; // low_delay_hrd_flag
    }
    bits.flag()?; // pic_struct_present_flag
    if bits.flag()? {
        bits.flag()?; // motion_vectors_over_pic_boundaries_flag
        for _ in 0..4 {
            bits.exp_golomb()?; // max_bytes_per_pic_denom to log2_max_mv_length_vertical
        }
        found.max_num_reorder_frames = Some(bits.exp_golomb()?);
    }
    Some(found)
}

/// Hypothetical reference decoder parameters (section E.1.2).
fn reference_decoder(bits: &mut BitReader<'_>) -> Option<()> {
    let count = bits.exp_golomb()?;
    // 32 at most; anything else is noise, and the bits would run out anyway.
    if count > 31 {
        return None;
    }
    bits.bits(8)?; // bit_rate_scale, cpb_size_scale
    for _ in 0..=count {
        bits.exp_golomb()?; // bit_rate_value_minus1
        bits.exp_golomb()?; // cpb_size_value_minus1
        bits.flag()?; // cbr_flag
    }
    bits.bits(20)?; // lengths of delays and of the time offset
    Some(())
}
