//! Messages of a link channel.
#![no_main]

use libfuzzer_sys::fuzz_target;
use link::wire::message::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(message)) = Message::decode(bytes) {
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        assert_eq!(Message::decode(&encoded).expect("what we write, we read"), Some(message));
    }
});
