//! The body of a push, as it arrives from the network.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    // Only a serde_json that is built with `raw_value` treats an object with this key specially.
    let special = b"$serde_json::private::";
    let is_special = body.windows(special.len()).any(|window| window == special);
    if receiver::validate::submission(body).is_ok() && !is_special {
        // Every accepted body is valid JSON.
        let _: serde_json::Value = serde_json::from_slice(body).expect("it was accepted as JSON");
    }
});
