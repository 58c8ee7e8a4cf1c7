//! The body of a push, as it comes off the network.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    if receiver::validate::submission(body).is_ok() {
        // What is accepted can be read by who writes such things.
        let _: serde_json::Value = serde_json::from_slice(body).expect("it was accepted as JSON");
    }
});
