//! What arrives on a media port.
#![no_main]

use ice_dtls::{classify, stun};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = classify(bytes);
    if let Some(request) = stun::BindingRequest::parse(bytes) {
        assert!(!request.local_ufrag().is_empty());
        let _ = stun::verify(bytes, "0123456789012345678901");
    }
});
