//! Authorization: read tokens, and push tokens that are made from a key and a scope and never stored.
//!
//! A push token is a lower-case hexadecimal HMAC-SHA256 (RFC 2104), keyed with the secret key. The message is:
//!
//! - `"runner-resource-collector/push/v1" 0x00`;
//! - for organization, repository, workflow and job, in this order: `0x01`, the length in bytes as 4 bytes big-endian,
//!   and the UTF-8 bytes; or `0x00` if the part is left out;
//! - `0x01` and the expiry in Unix seconds as 8 bytes big-endian; or `0x00` if the token does not expire.
//!
//! A token that expires is followed by `.` and its expiry in decimal. The length prefixes ensure that no two scopes
//! share an encoding.

mod secrets;
mod session;
mod throttle;

use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use wire::Scope;

pub use self::secrets::{Access, Secrets};
pub use self::throttle::Guesses;

/// Separates these tokens from anything else that the same key might sign.
const DOMAIN: &[u8] = b"runner-resource-collector/push/v1\0";
const MAC_BYTES: usize = 32;

/// The secret for reading and for making tokens. Only its digest is kept.
#[derive(Clone)]
pub struct ReadToken([u8; 32]);

impl ReadToken {
    /// Makes a read token from the secret.
    pub fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Whether `token` is the secret. Compares in constant time, so that the time taken reveals nothing.
    pub fn verify(&self, token: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        self.0.ct_eq(&digest).into()
    }
}

/// The key that push tokens are made from.
#[derive(Clone)]
pub struct TokenKey(Hmac<Sha256>);

impl std::fmt::Debug for ReadToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// The longest validity of a token, in seconds: 1000 years.
pub(crate) const MAX_TOKEN_SECONDS: u64 = 1000 * 365 * 24 * 60 * 60;

/// The expiry of a token that is made `now` and valid for this many seconds; in whole seconds, as tokens carry it.
pub fn expiry(now: Timestamp, seconds: u64) -> Result<Timestamp, String> {
    let expires_at = i64::try_from(seconds)
        .ok()
        .filter(|_| (1..=MAX_TOKEN_SECONDS).contains(&seconds))
        .and_then(|seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok())
        .and_then(|time| Timestamp::from_second(time.as_second()).ok());
    expires_at.ok_or_else(|| {
        format!("is {seconds}; 1 to {MAX_TOKEN_SECONDS} seconds from now, 1000 years, are accepted")
    })
}

/// A push token as it was sent: well formed, not yet verified.
#[derive(Clone)]
pub struct PushToken {
    mac: [u8; MAC_BYTES],
    expires_at: Option<i64>,
}

/// Why a token does not permit a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It was made for another scope, or not by this receiver.
    OtherScope,
    /// It was made for this scope, but expired at this time.
    Expired(Timestamp),
}

impl TokenKey {
    /// Makes a key from the secret.
    pub fn new(secret: &str) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        Self(Hmac::new_from_slice(secret.as_bytes()).expect("a key of any length"))
    }

    /// Makes a token for this scope and everything below it.
    pub fn mint(&self, scope: &Scope, expires_at: Option<Timestamp>) -> String {
        let expires_at = expires_at.map(Timestamp::as_second);
        let mac = hex::encode(self.mac(scope, expires_at).finalize().into_bytes());
        expires_at.map_or(mac.clone(), |expires_at| format!("{mac}.{expires_at}"))
    }

    /// Whether this key made `token` for `scope` or for a scope that contains it.
    ///
    /// Checks all of these scopes, so that the time taken does not reveal which one matched.
    fn made(&self, token: &PushToken, scope: &Scope) -> bool {
        let scopes = std::iter::successors(Some(scope.clone()), Scope::parent);
        let verified = |scope: Scope| self.mac(&scope, token.expires_at).verify_slice(&token.mac).is_ok();
        scopes.map(verified).fold(false, |any, one| any | one)
    }

    fn mac(&self, scope: &Scope, expires_at: Option<i64>) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(DOMAIN);
        for (_, part) in scope.parts() {
            match part {
                None => mac.update(&[0]),
                Some(part) => {
                    mac.update(&[1]);
                    // The cast is lossless: a part of a scope has at most 512 characters.
                    mac.update(&(part.len() as u32).to_be_bytes());
                    mac.update(part.as_bytes());
                }
            }
        }
        match expires_at {
            None => mac.update(&[0]),
            Some(expires_at) => {
                mac.update(&[1]);
                mac.update(&expires_at.to_be_bytes());
            }
        }
        mac
    }
}

/// Checks that one of `keys` made `token` for `scope` or for a scope that contains it, and that it is valid at `now`.
fn verify<'a>(
    keys: impl Iterator<Item = &'a TokenKey>,
    token: &PushToken,
    scope: &Scope,
    now: Timestamp,
) -> Result<(), Denied> {
    // Try all keys, for the same reason as all scopes.
    if !keys.fold(false, |any, key| any | key.made(token, scope)) {
        return Err(Denied::OtherScope);
    }
    match token.expires_at {
        // An expiry before `now` is always a valid timestamp.
        Some(seconds) if seconds <= now.as_second() => {
            Err(Denied::Expired(Timestamp::from_second(seconds).unwrap_or_default()))
        }
        _ => Ok(()),
    }
}

impl PushToken {
    /// Returns `None` if the text does not have the form of a push token.
    pub fn parse(text: &str) -> Option<Self> {
        let (mac, expires_at) = match text.split_once('.') {
            None => (text, None),
            Some((mac, seconds)) => {
                let canonical =
                    seconds.bytes().all(|byte| byte.is_ascii_digit()) && !seconds.starts_with('0');
                (mac, Some(seconds.parse().ok().filter(|_| canonical)?))
            }
        };
        if mac.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        let mut bytes = [0; MAC_BYTES];
        hex::decode_to_slice(mac, &mut bytes).ok()?;
        Some(Self { mac: bytes, expires_at })
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod timing;
