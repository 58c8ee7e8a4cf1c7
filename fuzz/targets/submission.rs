//! The body of a push, as it comes off the network.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    // To a reader that is built with `raw_value`, and to no other, an object with this key is something else.
    let special = b"$serde_json::private::";
    let is_special = body.windows(special.len()).any(|window| window == special);
    if receiver::validate::submission(body).is_ok() && !is_special {
        // What is accepted can be read by who writes such things.
        let _: serde_json::Value = serde_json::from_slice(body).expect("it was accepted as JSON");
    }
});
