//! Media datagrams of a link, before they are verified.
#![no_main]

use libfuzzer_sys::fuzz_target;
use link::wire::media::Header;

fuzz_target!(|bytes: &[u8]| {
    let _ = Header::parse(bytes);
});
