//! Bodies of PATCH.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signaling::sdpfrag::Fragment;

fuzz_target!(|text: &str| {
    let _ = Fragment::parse(text);
});
