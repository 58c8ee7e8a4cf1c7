//! The secrets in force. There may be several of each kind, so that a secret can be replaced while the old one is still
//! in use.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use wire::Scope;

use super::session::{self, SessionKey};
use super::{Denied, PushToken, ReadToken, TokenKey, verify};

/// The secrets that requests are checked against.
#[derive(Debug, Clone)]
pub struct Secrets {
    read_tokens: Vec<ReadToken>,
    first_key: TokenKey,
    other_keys: Vec<TokenKey>,
    /// One for each pair of read token and key: ordered by read token, then by key.
    session_keys: Vec<SessionKey>,
}

impl Secrets {
    /// Accepts all of these read tokens. The first key makes tokens, and all keys verify them. Returns `None` if there
    /// is no key or no read token.
    pub fn new<'a>(
        read_tokens: impl IntoIterator<Item = &'a str>,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Option<Self> {
        let read_tokens: Vec<_> = read_tokens.into_iter().map(ReadToken::new).collect();
        let mut keys = keys.into_iter().map(TokenKey::new);
        let first_key = keys.next().filter(|_| !read_tokens.is_empty())?;
        let other_keys: Vec<_> = keys.collect();
        let of_token = |token| {
            let keys = std::iter::once(&first_key).chain(&other_keys);
            keys.map(move |key| SessionKey::new(key, token))
        };
        let session_keys = read_tokens.iter().flat_map(of_token).collect();
        Some(Self { read_tokens, first_key, other_keys, session_keys })
    }

    /// Whether this is one of the read tokens. Compares all of them, so that the time taken does not reveal which one
    /// matched.
    pub fn may_read(&self, token: &str) -> bool {
        self.read_tokens.iter().fold(false, |any, one| any | one.verify(token))
    }

    /// Signs a session for this read token. Returns `None` if it is not a read token.
    pub fn begin_session(&self, token: &str, expires_at: Timestamp) -> Option<String> {
        let matches = |at: usize, one: &ReadToken| one.verify(token).then_some(at);
        // As in `may_read`, compare all of them.
        let tokens = self.read_tokens.iter().enumerate();
        let found = tokens.fold(None, |found, (at, one)| matches(at, one).or(found))?;
        Some(self.session_keys[found * self.key_count()].sign(expires_at))
    }

    /// Whether one of the read tokens began this session, and the session has not ended at `now`.
    pub fn in_session(&self, session: &str, now: Timestamp) -> bool {
        session::verify(&self.session_keys, session, now)
    }

    /// The key that makes tokens.
    pub fn minting(&self) -> &TokenKey {
        &self.first_key
    }

    /// How many keys verify tokens.
    pub fn key_count(&self) -> usize {
        1 + self.other_keys.len()
    }

    /// Checks that `token` was made for `scope` or for a scope that contains it, and is valid at `now`.
    pub fn verify(&self, token: &PushToken, scope: &Scope, now: Timestamp) -> Result<(), Denied> {
        verify(std::iter::once(&self.first_key).chain(&self.other_keys), token, scope, now)
    }
}

/// The secrets in force, replaced as a whole: a request sees the old ones or the new ones.
#[derive(Debug)]
pub struct Access(RwLock<Arc<Secrets>>);

impl Access {
    /// Puts these secrets in force.
    pub fn new(secrets: Secrets) -> Self {
        Self(RwLock::new(Arc::new(secrets)))
    }

    /// The secrets in force now.
    pub fn current(&self) -> Arc<Secrets> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the secrets in force.
    pub fn replace(&self, secrets: Secrets) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(secrets);
    }
}
