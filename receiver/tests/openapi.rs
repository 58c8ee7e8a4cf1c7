//! The description of the API is kept beside the code, so that a change of it is seen.

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

#[test]
fn the_api_is_as_it_was_described() {
    let described = receiver::api::description().unwrap();
    if std::env::var_os("RENEW").is_some() {
        std::fs::write(GOLDEN, &described).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    assert!(
        golden == described,
        "receiver/openapi.json is not what the code says; if the change is meant, renew it with \
         RENEW=1 cargo test -p receiver --test openapi, and look at the difference"
    );
}
