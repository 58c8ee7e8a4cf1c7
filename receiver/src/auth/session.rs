//! Sessions of the page: stateless and signed. A session ends when it expires, or when the read token that began it is
//! withdrawn.
//!
//! A session is `<expiry>.<mac>`. The expiry is in decimal Unix seconds. The MAC is the lower-case hexadecimal
//! HMAC-SHA256 of the expiry as 8 bytes big-endian. Its key is itself an HMAC-SHA256: of
//! `"runner-resource-collector/session/v1" 0x00` and the SHA-256 of the read token, with a key that push tokens are
//! made from. Knowing only one of the two secrets is not enough to compute it, and withdrawing either of them ends the
//! session.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use super::{MAC_BYTES, ReadToken, TokenKey};

/// Separates this use of a key from its use for push tokens.
const DOMAIN: &[u8] = b"runner-resource-collector/session/v1\0";

/// The key that signs the sessions of one read token.
#[derive(Clone)]
pub(super) struct SessionKey(Hmac<Sha256>);

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl SessionKey {
    pub(super) fn new(key: &TokenKey, token: &ReadToken) -> Self {
        let mut mac = key.0.clone();
        mac.update(DOMAIN);
        mac.update(&token.0);
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        Self(Hmac::new_from_slice(&mac.finalize().into_bytes()).expect("a key of any length"))
    }

    pub(super) fn sign(&self, expires_at: Timestamp) -> String {
        let expires_at = expires_at.as_second();
        format!("{expires_at}.{}", hex::encode(self.mac(expires_at).finalize().into_bytes()))
    }

    fn mac(&self, expires_at: i64) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&expires_at.to_be_bytes());
        mac
    }
}

/// Whether one of `keys` signed `session`, and the session has not ended at `now`. Tries all keys.
pub(super) fn verify(keys: &[SessionKey], session: &str, now: Timestamp) -> bool {
    let parsed = session.split_once('.').and_then(|(expires_at, mac)| {
        let mut bytes = [0; MAC_BYTES];
        hex::decode_to_slice(mac, &mut bytes).ok()?;
        Some((expires_at.parse::<i64>().ok()?, bytes))
    });
    let Some((expires_at, mac)) = parsed else { return false };
    let signed = keys.iter().fold(false, |any, key| any | key.mac(expires_at).verify_slice(&mac).is_ok());
    signed && expires_at > now.as_second()
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use crate::auth::Secrets;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    #[test]
    fn a_session_lasts_as_long_as_its_secrets() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let secrets = |tokens: &[&'static str], keys: &[&'static str]| {
            Secrets::new(tokens.to_vec(), keys.to_vec()).unwrap()
        };
        let before = secrets(&["token one", "token two"], &["key one"]);
        assert_eq!(before.begin_session("token three", now + HOUR), None);
        let session = before.begin_session("token one", now + HOUR).unwrap();
        assert!(before.in_session(&session, now));
        assert!(!before.in_session(&session, now + HOUR), "expired");
        assert!(
            secrets(&["token one"], &["key two", "key one"]).in_session(&session, now),
            "a new key is added"
        );
        assert!(!secrets(&["token one"], &["key two"]).in_session(&session, now), "its key is withdrawn");
        assert!(!secrets(&["token two"], &["key one"]).in_session(&session, now), "its token is withdrawn");
    }

    #[test]
    fn what_was_not_signed_is_no_session() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let secrets = Secrets::new(["token one"], ["key one"]).unwrap();
        let session = secrets.begin_session("token one", now + HOUR).unwrap();
        let (expires_at, mac) = session.split_once('.').unwrap();
        let later: i64 = expires_at.parse::<i64>().unwrap() + 1;
        let push =
            secrets.minting().mint(&wire::Scope::new("a", None, None, None).unwrap(), Some(now + HOUR));
        let forged = [
            "",
            ".",
            &format!("{later}.{mac}"),
            &format!("{expires_at}."),
            &format!("{expires_at}.{}", "0".repeat(64)),
        ];
        for forged in forged.into_iter().chain([push.as_str(), mac]) {
            assert!(!secrets.in_session(forged, now), "{forged:?}");
        }
    }
}
