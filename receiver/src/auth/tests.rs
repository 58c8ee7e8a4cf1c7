use super::*;

fn scope(parts: &[&str]) -> Scope {
    Scope::new(parts[0], parts.get(1).copied(), parts.get(2).copied(), parts.get(3).copied()).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Computed with Python's `hmac` and `struct` from the description in `mod.rs`:
///
/// ```python
/// m = b"runner-resource-collector/push/v1\0"
/// for p in parts: m += b"\0" if p is None else b"\1" + struct.pack(">I", len(p.encode())) + p.encode()
/// m += b"\0" if expiry is None else b"\1" + struct.pack(">q", expiry)
/// hmac.new(key.encode(), m, hashlib.sha256).hexdigest()
/// ```
#[test]
fn tokens_are_those_that_another_implementation_makes() {
    let key = TokenKey::new("my-hmac-key");
    let full = scope(&["my-org", "my-repo", "ci.yml", "build"]);
    let minted = [
        key.mint(&full, None),
        key.mint(&scope(&["my-org"]), None),
        key.mint(&scope(&["my-org", "my-org/my-repo"]), None),
        key.mint(&full, Some(at(1_800_000_000))),
        TokenKey::new("schlüssel-🔑").mint(&scope(&["örg", "r/ä", "w w", "j"]), None),
    ];
    let expected = [
        "7c5cf2c35ab218f75ab627032682edf7f44248bbd481e7dc927123fd93b913ee",
        "6ffefc157876bb3b8659026948d20a8d44dbd71fb0d980a59e86d0e0100290f8",
        "8a4f9915cdbbab1288b8b4779ba28e75bc17d97bbbc539cdd5e5c2e5b661b9ca",
        "3df548d1b90fa5071bbc0312c27c700738371af189eb0ca6ccff9d5e2ecfbb91.1800000000",
        "da43d48ed7994aa77c83c662727548319a292ab8d5cfc70d8f8bc2fa9025f996",
    ];
    assert_eq!(minted, expected);
}

fn verify(key: &TokenKey, token: &str, parts: &[&str], now: i64) -> Result<(), Denied> {
    super::verify(std::iter::once(key), &PushToken::parse(token).unwrap(), &scope(parts), at(now))
}

#[test]
fn a_prefix_is_valid_for_everything_below_it() {
    let key = TokenKey::new("my-hmac-key");
    let run = ["o", "r", "w", "j"];
    for length in 1..=4 {
        let token = key.mint(&scope(&run[..length]), None);
        assert_eq!(verify(&key, &token, &run, 0), Ok(()), "{length}");
        assert_eq!(verify(&key, &token, &["o", "o/r", "w", "j"], 0), Ok(()), "{length}");
        let elsewhere = ["x", "x", "x", "x"];
        for other in 0..length {
            let mut parts = run;
            parts[other] = elsewhere[other];
            assert_eq!(verify(&key, &token, &parts, 0), Err(Denied::OtherScope), "{length} {parts:?}");
        }
    }
}

#[test]
fn scopes_that_look_alike_have_different_tokens() {
    let key = TokenKey::new("my-hmac-key");
    let alike: [&[&str]; 8] = [
        &["a", "b/c", "w", "j"],
        &["a/b", "c", "w", "j"],
        &["a", "b", "c/w", "j"],
        &["ab", "c", "w", "j"],
        &["a", "bc", "w", "j"],
        &["a", "b", "w"],
        &["a", "b", "w", "j"],
        &["A", "b", "w", "j"],
    ];
    let tokens: std::collections::HashSet<_> =
        alike.iter().map(|parts| key.mint(&scope(parts), None)).collect();
    assert_eq!(tokens.len(), alike.len());
}

#[test]
fn an_expiry_is_part_of_what_is_signed() {
    let key = TokenKey::new("my-hmac-key");
    let run = ["o", "r", "w", "j"];
    let token = key.mint(&scope(&run), Some(at(1000)));
    assert_eq!(verify(&key, &token, &run, 999), Ok(()));
    assert_eq!(verify(&key, &token, &run, 1000), Err(Denied::Expired(at(1000))));
    let (mac, _) = token.split_once('.').unwrap();
    for forged in [mac.to_owned(), format!("{mac}.2000")] {
        assert_eq!(verify(&key, &forged, &run, 999), Err(Denied::OtherScope));
    }
    assert_eq!(verify(&TokenKey::new("another-key"), &token, &run, 999), Err(Denied::OtherScope));
}

#[test]
fn only_what_has_the_form_of_a_token_is_one() {
    let mac = "ab".repeat(32);
    assert!(PushToken::parse(&mac).is_some() && PushToken::parse(&format!("{mac}.1")).is_some());
    let upper = mac.to_uppercase();
    for text in [
        "",
        "my-secret-token",
        &mac[1..],
        &upper,
        &format!("{mac}."),
        &format!("{mac}.x"),
        &format!("{mac}.-1"),
        &format!("{mac}.01"),
        &format!("{mac}.+1"),
        &format!("{mac}.1.2"),
        &format!(" {mac}"),
        &format!("{mac}ab"),
    ] {
        assert!(PushToken::parse(text).is_none(), "{text}");
    }
}

#[test]
fn secrets_do_not_show() {
    assert_eq!(
        format!("{:?} {:?}", TokenKey::new("hmac-secret"), ReadToken::new("read-secret")),
        "(secret) (secret)"
    );
    assert!(
        ReadToken::new("read-secret").verify("read-secret")
            && !ReadToken::new("read-secret").verify("read-secre")
    );
}

#[test]
fn the_first_key_makes_tokens_and_all_verify_them() {
    let run = scope(&["o", "r", "w", "j"]);
    let secrets =
        |keys: &[&'static str]| Secrets::new(["read-one", "read-two"], keys.iter().copied()).unwrap();
    let (old, both, new) = (secrets(&["old-key"]), secrets(&["new-key", "old-key"]), secrets(&["new-key"]));
    let verify =
        |secrets: &Secrets, token: &str| secrets.verify(&PushToken::parse(token).unwrap(), &run, at(0));
    let [by_old, by_both] = [&old, &both].map(|secrets| secrets.minting().mint(&run, None));
    assert_eq!([verify(&old, &by_old), verify(&both, &by_old), verify(&both, &by_both)], [Ok(()); 3]);
    assert_eq!(verify(&new, &by_both), Ok(()));
    assert_eq!(verify(&new, &by_old), Err(Denied::OtherScope));
    assert!(both.may_read("read-one") && both.may_read("read-two") && !both.may_read("read-three"));
    assert!(Secrets::new([], ["key"]).is_none() && Secrets::new(["read"], []).is_none());
}
