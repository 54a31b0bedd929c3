//! Payloads of every codec: keyframes, sequence parameters, slice types.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media_core::codec;
use model::Codec;

fuzz_target!(|bytes: &[u8]| {
    for codec in Codec::ALL {
        let _ = codec::starts_keyframe(codec, bytes);
    }
    let _ = codec::h264::slice_type(bytes);
    let _ = codec::h264::sequence_parameters(bytes);
});
