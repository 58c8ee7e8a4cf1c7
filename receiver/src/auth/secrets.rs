//! The secrets in force: several of each kind, so that one can be replaced while the other is still in use.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use wire::Scope;

use super::{Denied, PushToken, ReadToken, TokenKey, verify};

/// What requests are checked against.
#[derive(Debug, Clone)]
pub struct Secrets {
    read_tokens: Vec<ReadToken>,
    first_key: TokenKey,
    other_keys: Vec<TokenKey>,
}

impl Secrets {
    /// From read tokens, all of which are accepted, and keys, of which the first makes tokens and all verify them.
    /// `None` if there is no key or no read token.
    pub fn new<'a>(
        read_tokens: impl IntoIterator<Item = &'a str>,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Option<Self> {
        let read_tokens: Vec<_> = read_tokens.into_iter().map(ReadToken::new).collect();
        let mut keys = keys.into_iter().map(TokenKey::new);
        let first_key = keys.next().filter(|_| !read_tokens.is_empty())?;
        Some(Self { read_tokens, first_key, other_keys: keys.collect() })
    }

    /// Whether this is one of the read tokens; all are compared.
    pub fn may_read(&self, token: &str) -> bool {
        self.read_tokens.iter().fold(false, |any, one| any | one.verify(token))
    }

    /// The key that makes tokens.
    pub fn minting(&self) -> &TokenKey {
        &self.first_key
    }

    /// How many keys verify tokens.
    pub fn key_count(&self) -> usize {
        1 + self.other_keys.len()
    }

    /// Whether `token` was made for `scope` or one that holds it, and is still valid at `now`.
    pub fn verify(&self, token: &PushToken, scope: &Scope, now: Timestamp) -> Result<(), Denied> {
        verify(std::iter::once(&self.first_key).chain(&self.other_keys), token, scope, now)
    }
}

/// The secrets in force, replaced as a whole: a request sees the old ones or the new ones.
#[derive(Debug)]
pub struct Access(RwLock<Arc<Secrets>>);

impl Access {
    /// Begins with these.
    pub fn new(secrets: Secrets) -> Self {
        Self(RwLock::new(Arc::new(secrets)))
    }

    /// Those in force now.
    pub fn current(&self) -> Arc<Secrets> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in force.
    pub fn replace(&self, secrets: Secrets) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(secrets);
    }
}
