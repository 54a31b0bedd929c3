//! Offers: parsed, written again, parsed again; judged as publisher's and as viewer's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use signaling::sdp::Session;
use signaling::{whep, whip};

fuzz_target!(|text: &str| {
    if let Ok(session) = Session::parse(text) {
        let again = Session::parse(&session.to_string()).expect("what we write, we read");
        assert_eq!(session, again);
        let _ = whip::check(&session, &whip::Policy::default()).map(|checked| whip::prepare_offer(&checked));
        let _ = whep::accept(&session, &whep::Policy::default());
    }
});
