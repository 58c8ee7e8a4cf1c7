//! Push tokens: a text that was not minted is never accepted.
#![no_main]

use jiff::Timestamp;
use receiver::auth::{PushToken, Secrets};
use wire::Scope;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Some(token) = PushToken::parse(text) else { return };
    let scope = Scope::new("my-org", Some("my-repo"), Some("ci.yml"), Some("build")).expect("a scope");
    let keys = ["a key that nothing in the corpus was made with", "and another one"];
    let secrets = Secrets::new(["a read token"], keys).expect("secrets");
    assert!(secrets.verify(&token, &scope, Timestamp::UNIX_EPOCH).is_err());
});
