//! Push tokens: no text that was not minted may be good for anything.
#![no_main]

use jiff::Timestamp;
use receiver::auth::{PushToken, TokenKey};
use wire::Scope;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Some(token) = PushToken::parse(text) else { return };
    let scope = Scope::new("my-org", Some("my-repo"), Some("ci.yml"), Some("build")).expect("a scope");
    let key = TokenKey::new("a key that nothing in the corpus was made with");
    assert!(key.verify(&token, &scope, Timestamp::UNIX_EPOCH).is_err());
});
